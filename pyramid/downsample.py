"""Block reductions: how one level becomes the next. Pure; the slow model beside it is tests/reference_downsample.py.

A block is ``factors`` samples wide; the last one along an axis holds only the samples that exist. What does
not count is left out of its block: NaN in floats and complex numbers, and ``nodata``; a block in which nothing
counts becomes NaN, or ``nodata``.

    mean     integers: the exact sum, divided, halves to the even number; no overflow up to 64 bits.
             float16 and float32 are summed in float64, float64 in float64, then rounded once.  bool: as mode.
    mode     the commonest value; of several, the lowest.
    median   the middle value, the lower of two.   min, max   as they say.
    nearest  the block's first sample, whatever it is.

The reductions are written over the samples of all blocks at once (sample 0 of every block, sample 1 …), so that
numpy's inner loops, which release Python's lock, do the work, in bands that fit a cache. Blocks with samples that
do not count are few, and are done again one by one. A result never depends on how the array was cut, as long as
cuts lie between blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.boxes import counts

Method = Literal["mean", "mode", "median", "min", "max", "nearest"]
METHODS: tuple[Method, ...] = ("mean", "mode", "median", "min", "max", "nearest")
Array = NDArray[Any]
Scalar = int | float | complex | bool
_BAND_BYTES = 512 * 2**10  # with what is made of it, a band fits a second-level cache


def reduced_shape(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    """ceil(n / factor), per axis."""
    return counts(shape, factors)


def reduce_block(
    array: Array, factors: tuple[int, ...], method: Method, nodata: Scalar | None = None
) -> Array:
    """``array`` reduced by ``factors`` (one per axis), same dtype, shape ``reduced_shape``.

    ``nodata`` is a value of the array's dtype that does not count; None: every value counts (but NaN never).
    Raises ValueError for a method that the dtype cannot have (order of complex numbers).
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}")
    if array.dtype.kind == "c" and method not in ("mean", "nearest"):
        raise ValueError(f"complex numbers have no {method}")
    if method == "nearest":
        return np.ascontiguousarray(array[tuple(slice(None, None, f) for f in factors)])
    if array.dtype == bool:
        bits = reduce_block(array.view(np.uint8), factors, "mode" if method == "mean" else method, nodata)
        return bits.view(bool)
    out = np.empty(reduced_shape(array.shape, factors), array.dtype)
    for inside, outside, own in _parts(array.shape, factors):
        _reduce_in_bands(array[inside], out[outside], own, method, nodata)
    return out


def _reduce_in_bands(
    array: Array, out: Array, factors: tuple[int, ...], method: Method, nodata: Scalar | None, axis: int = 0
) -> None:
    """Reduce whole blocks band by band: sums and sorted samples then stay in the processor's cache, which makes
    the mean of 2048² uint16 a quarter faster and the mode twice as fast, and hold next to no memory."""
    if array.nbytes <= _BAND_BYTES or axis == array.ndim:
        out[...] = _reduce_whole(array, factors, method, nodata)
        return
    lead, factor = (slice(None),) * axis, factors[axis]
    step = max(1, out.shape[axis] * _BAND_BYTES // array.nbytes)
    for start in range(0, out.shape[axis], step):
        band = array[(*lead, slice(start * factor, (start + step) * factor))]
        _reduce_in_bands(band, out[(*lead, slice(start, start + step))], factors, method, nodata, axis + 1)


def _parts(
    shape: tuple[int, ...], factors: tuple[int, ...]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], tuple[int, ...]]]:
    """Cut so that every block is whole: (slices of the array, slices of the result, factors there)."""
    per_axis = []
    for n, f in zip(shape, factors, strict=True):
        whole, rest = divmod(n, f)
        cuts = [(slice(0, whole * f), slice(0, whole), f)] if whole else []
        if rest:
            cuts.append((slice(whole * f, n), slice(whole, whole + 1), rest))
        per_axis.append(cuts)
    for combination in itertools.product(*per_axis):
        inside, outside, own = zip(*combination, strict=True)
        yield inside, outside, own


def _samples(array: Array, factors: tuple[int, ...]) -> list[Array]:
    """Sample k of every block, for each k in C order: views of the block grid's shape."""
    starts = itertools.product(*(range(f) for f in factors))
    return [array[tuple(slice(k, None, f) for k, f in zip(s, factors, strict=True))] for s in starts]


def _reduce_whole(array: Array, factors: tuple[int, ...], method: Method, nodata: Scalar | None) -> Array:
    if math.prod(factors) == 1:
        return array
    with np.errstate(all="ignore"):  # infinities, overflow and NaN have their rules; numpy need not warn
        out = _FAST[method](array, factors)
        if (odd := _odd_blocks(array, factors, nodata)) is not None:
            picked = np.stack([sample[odd] for sample in _samples(array, factors)])
            out[odd] = _careful(picked, _counts(picked, nodata), method, nodata)
    return out


def _counts(samples: Array, nodata: Scalar | None) -> NDArray[np.bool_]:
    """Which samples count."""
    valid = ~np.isnan(samples) if samples.dtype.kind in "fc" else np.ones(samples.shape, bool)
    if nodata is not None and nodata == nodata:
        valid &= samples != samples.dtype.type(nodata)
    return valid


def _odd_blocks(array: Array, factors: tuple[int, ...], nodata: Scalar | None) -> NDArray[np.bool_] | None:
    """Blocks with samples that do not count; None when there are none."""
    check_nan, check_value = array.dtype.kind in "fc", nodata is not None and nodata == nodata
    if not (check_nan or check_value):
        return None
    bad = np.isnan(array) if check_nan else np.zeros(array.shape, bool)
    if check_value:
        bad |= array == array.dtype.type(cast("Any", nodata))
    if not bad.any():
        return None
    odd: NDArray[np.bool_] = np.logical_or.reduce(_samples(bad, factors))
    return odd


def _careful(samples: Array, valid: NDArray[np.bool_], method: Method, nodata: Scalar | None) -> Array:
    """Reduce ``samples`` (samples first, blocks second), of which only the ``valid`` ones count."""
    dtype, count = samples.dtype, valid.sum(axis=0)
    if method == "mean":
        out = _careful_mean(samples, valid, count)
    else:
        # what does not count sorts behind everything: (not valid, value)
        order = np.lexsort((samples, ~valid), axis=0)
        ordered = np.take_along_axis(samples, order, axis=0)
        out = _pick(ordered, np.maximum(count, 1), method)
    empty = nodata if nodata is not None else (math.nan if dtype.kind in "fc" else 0)
    out[count == 0] = dtype.type(cast("Any", empty))
    result: Array = out
    return result


def _pick(ordered: Array, count: NDArray[np.intp], method: Method) -> Array:
    """Mode, median, min or max of each column's first ``count`` values, which are sorted."""
    if method == "mode":
        best: Array = ordered[0].copy()
        run = np.ones(ordered.shape[1], int)
        longest = run.copy()
        for k in range(1, len(ordered)):
            run = np.where(ordered[k] == ordered[k - 1], run + 1, 1)
            better = (run > longest) & (k < count)
            best[better], longest[better] = ordered[k][better], run[better]
        return best
    place = {"median": (count - 1) // 2, "min": np.zeros_like(count), "max": count - 1}[method]
    picked: Array = np.take_along_axis(ordered, place[np.newaxis], axis=0)[0]
    return picked


def _careful_mean(samples: Array, valid: NDArray[np.bool_], count: NDArray[np.intp]) -> Array:
    dtype = samples.dtype
    used = np.where(valid, samples, dtype.type(0))
    divisor = np.maximum(count, 1)
    if dtype.kind in "iu":
        return _integer_mean(list(used), divisor, dtype)
    wide = _wide_of(dtype)
    total = used[0].astype(wide)
    for sample in used[1:]:
        total = total + sample
    mean = total / divisor
    if wide == dtype and not np.isfinite(mean).all():
        # only the sum overflows: halve before adding
        scaled = sum(sample / divisor for sample in used)
        mean = np.where(np.isfinite(mean), mean, scaled)
    result: Array = mean.astype(dtype)
    return result


def _wide_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def _integer_mean(samples: list[Array], divisor: Any, dtype: np.dtype[Any]) -> Array:
    """Exact mean with halves to even; ``divisor`` is a number, or one for each block."""
    if dtype.itemsize < 8:
        wide = np.dtype(np.uint64 if dtype.kind == "u" else np.int64)
        total = samples[0].astype(wide)
        for sample in samples[1:]:
            total += sample
        whole, rest = np.divmod(total, np.asarray(divisor).astype(wide))
    else:
        # 64 bits: sum upper and lower halves apart, floor division keeps the rest at 0 or above
        wide, n = dtype, np.asarray(divisor).astype(dtype)
        high, low = samples[0] >> 32, samples[0] & 0xFFFFFFFF
        for sample in samples[1:]:
            high, low = high + (sample >> 32), low + (sample & 0xFFFFFFFF)
        upper, carry = np.divmod(high, n)
        middle, rest = np.divmod((carry << 32) + low, n)
        whole = (upper << 32) + middle
    twice, n = rest * 2, np.asarray(divisor).astype(wide)
    up = (twice > n) | ((twice == n) & ((whole & 1) == 1))
    result: Array = (whole + up).astype(dtype)
    return result


def _mean(array: Array, factors: tuple[int, ...]) -> Array:
    n, dtype = math.prod(factors), array.dtype
    if dtype.kind in "iu":
        if n in (2, 4, 8) and dtype.itemsize <= 4:
            return _shifted_mean(array, factors, n)
        return _integer_mean(_samples(array, factors), n, dtype)
    wide = _wide_of(dtype)
    total = _sum(array, factors, wide)
    mean = total / n
    if wide == dtype and not np.isfinite(mean).all():
        scaled = _sum(array / n, factors, wide)
        mean = np.where(np.isfinite(mean), mean, scaled)
    result: Array = mean.astype(dtype, copy=False)
    return result


def _sum(array: Array, factors: tuple[int, ...], wide: np.dtype[Any]) -> Array:
    """Sums of blocks, along the first axis first: neighbours in memory stay neighbours longest."""
    total = array
    for axis, factor in enumerate(factors):
        if factor == 1:
            continue
        lead = (slice(None),) * axis
        parts = [total[(*lead, slice(k, None, factor))] for k in range(factor)]
        total = np.add(parts[0], parts[1], dtype=wide)
        for part in parts[2:]:
            total += part
    return total


def _shifted_mean(array: Array, factors: tuple[int, ...], n: int) -> Array:
    """Integers of up to 32 bits, blocks of 2, 4 or 8: divide by shifting. Halves go to the even number because
    the quotient's own last bit decides whether a half is lifted over the edge."""
    dtype = array.dtype
    names = {1: "u2", 2: "u4", 4: "u8"} if dtype.kind == "u" else {1: "i2", 2: "i4", 4: "i8"}
    total = _sum(array, factors, np.dtype(names[dtype.itemsize]))
    shift = n.bit_length() - 1
    odd = total >> shift
    odd &= 1
    total += odd
    total += n // 2 - 1
    total >>= shift
    return total.astype(dtype)


def _sorted_samples(array: Array, factors: tuple[int, ...]) -> list[Array]:
    samples = _samples(array, factors)
    network = _NETWORKS.get(len(samples))
    if network is None:
        return list(np.sort(np.stack(samples), axis=0))
    for a, b in network:
        samples[a], samples[b] = np.minimum(samples[a], samples[b]), np.maximum(samples[a], samples[b])
    return samples


# sorting networks: pairs to put in order, one after the other
_NETWORKS: dict[int, tuple[tuple[int, int], ...]] = {
    2: ((0, 1),),
    4: ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2)),
    8: (
        *((0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3)),
        *((4, 5), (6, 7), (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6)),
    ),
}


def _mode(array: Array, factors: tuple[int, ...]) -> Array:
    ordered = _sorted_samples(array, factors)
    if len(ordered) == 2:
        return _plain(ordered[0])
    if len(ordered) == 4:
        a, b, c, d = ordered
        return _plain(np.where(a == b, a, np.where(b == c, b, np.where(c == d, c, a))))
    best = ordered[0].copy()
    run = np.ones(best.shape, np.uint8 if len(ordered) < 256 else np.int64)
    longest = run.copy()
    for before, value in itertools.pairwise(ordered):
        run = np.where(value == before, run + run.dtype.type(1), run.dtype.type(1))
        np.copyto(best, value, where=run > longest)
        np.maximum(longest, run, out=longest)
    return _plain(best)


def _median(array: Array, factors: tuple[int, ...]) -> Array:
    ordered = _sorted_samples(array, factors)
    return _plain(ordered[(len(ordered) - 1) // 2])


def _extreme(pick: Callable[[Array, Array], Array]) -> Callable[[Array, tuple[int, ...]], Array]:
    def reduce(array: Array, factors: tuple[int, ...]) -> Array:
        samples = _samples(array, factors)
        out = pick(samples[0], samples[1])
        for sample in samples[2:]:
            out = pick(out, sample)
        return _plain(out)

    return reduce


def _plain(values: Array) -> Array:
    """Minus zero becomes zero: which of the two a minimum returns is the processor's choice."""
    return values + values.dtype.type(0) if values.dtype.kind == "f" else values


_FAST: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "mean": _mean,
    "mode": _mode,
    "median": _median,
    "min": _extreme(np.minimum),
    "max": _extreme(np.maximum),
}
