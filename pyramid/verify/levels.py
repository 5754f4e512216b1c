"""Pixels of each level against the reduction of the level before, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.boxes import block_at, blocks_met, coarser, counts, finer, inside, moved, parts, whole
from octree.pyramid.downsample import METHODS, Method, reduce_block
from octree.pyramid.errors import OutsideError, SourceError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import Box
from octree.pyramid.store.arrays import StoredArray, chunk_text, open_array
from octree.pyramid.store.ngff import Multiscale
from octree.pyramid.store.zarr_meta import fill_of
from octree.pyramid.verify.files import Stored
from octree.pyramid.verify.findings import Finding
from octree.pyramid.verify.structure import factors_of

_READ_BYTES = 16 << 20
_FOREIGN_RTOL = 1e-4
_BLUR_VOX = 4
_CHOICES = (
    "mode",
    "median",
    "nearest",
)  # programs differ in ties, in the middle of two, in which sample is nearest
_ONE = ": one of the two is wrong"


@dataclass(slots=True)
class LevelChecker:
    """Compares blocks of one pyramid, from any thread: nothing here changes after it is made.

    ``exact``  octree's own levels are the reduction to the last bit; others may round in their own way.
    """

    image: Multiscale
    limits: Limits = DEFAULT_LIMITS
    arrays: list[StoredArray] = field(init=False)
    exact: bool = field(init=False)
    method: Method | None = field(init=False)
    nodata: Any = field(init=False)

    def __post_init__(self) -> None:
        image = self.image
        self.arrays = [
            open_array(image.group.child(level.path), what=f"level {i}", limits=self.limits)
            for i, level in enumerate(image.levels)
        ]
        self.exact = image.by_octree
        known = image.method in METHODS and not (
            image.arrays[0].dtype.kind == "c" and image.method not in ("mean", "nearest")
        )
        self.method = cast("Method", image.method) if known else None
        self.nodata = _nodata(image.metadata.get("nodata"), image.arrays[0].dtype)

    def blocks(self, level: int, within: Box | None = None) -> Iterator[Box]:
        """Blocks of ``level`` (or of a unit of it), of whole chunks, whose input on the level before is about 16 MiB."""
        meta = self.image.arrays[level]
        grow = factors_of(self.image, level) if level else None
        chunk_bytes = math.prod(meta.chunks) * meta.dtype.itemsize * math.prod(grow or (1,))
        edges, left = list(meta.chunks), max(1, _READ_BYTES // max(1, chunk_bytes))
        for axis in reversed(range(len(edges))):
            times = max(1, min(left, -(-meta.shape[axis] // edges[axis])))
            edges[axis], left = edges[axis] * times, left // times
        around = within or whole(meta.shape)
        return (moved(box, around.start) for box in parts(whole(around.shape), tuple(edges)))

    def comparable(self, level: int) -> bool:
        """Is it known how ``level`` was made of the level before?"""
        return level > 0 and self.method is not None and factors_of(self.image, level) is not None

    def compare(self, level: int, box: Box) -> list[Finding]:
        """What is wrong in ``box`` of ``level``, one finding for each chunk; [] when it is not comparable."""
        try:
            stored = self.arrays[level].read(box)
            factors = factors_of(self.image, level) if level else None
            if factors is None or self.method is None:
                return []
            source_box = finer(box, factors, self.image.arrays[level - 1].shape)
            source = self.arrays[level - 1].read(source_box)
        except OutsideError:
            raise
        except SourceError as error:
            where = str(error.details.get("chunk", box))
            return [Finding("unreadable", where, error.message, _level_of(error, level))]
        expected = reduce_block(source, factors, self.method, self.nodata)
        different = self._different(stored, expected)
        if not self.exact and self.method in _CHOICES and source.dtype.kind != "c":
            different = self._outside(stored, source, factors)
        if not different.any():
            return []
        lost = self._lost_below(level, box, source_box, source, different, factors)
        wrong = [
            self._describe(level, box, inner, stored, expected, different)
            for inner in parts(whole(box.shape), self.image.arrays[level].chunks)
            if different[inner.slices].any()
        ]
        return lost + wrong

    def _lost_below(
        self,
        level: int,
        box: Box,
        source_box: Box,
        source: NDArray[Any],
        different: NDArray[np.bool_],
        factors: tuple[int, ...],
    ) -> list[Finding]:
        """Chunks of the level before that are all fill value where this level disagrees: lost, not wrong here.
        What they explain is taken out of ``different``."""
        found = []
        for chunk in parts(source_box, self.image.arrays[level - 1].chunks):
            coarse = inside(coarser(chunk, factors), box)
            before = source[inside(chunk, source_box)]
            if different[coarse].any() and _is_fill(before, self.image.arrays[level - 1]):
                different[coarse] = False
                what = f"nothing but the fill value, yet level {level} has something there{_ONE}"
                where = self._chunk_name(level - 1, chunk)
                found.append(Finding("missing-chunk", where, what, level - 1))
        return found

    def _different(self, stored: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.bool_]:
        if stored.dtype.kind in "fc":
            same = (stored == expected) | (np.isnan(stored) & np.isnan(expected))
            if not self.exact:
                same |= _about(stored, expected)
            return cast("NDArray[np.bool_]", ~same)
        if self.exact or self.method != "mean" or stored.dtype.kind == "b":
            return cast("NDArray[np.bool_]", stored != expected)
        apart = np.maximum(stored, expected) - np.minimum(stored, expected)
        return cast("NDArray[np.bool_]", apart > 1)

    def _outside(
        self, stored: NDArray[Any], source: NDArray[Any], factors: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        """Where ``stored`` is below or above every sample of its block."""
        low, high = (reduce_block(source, factors, end, self.nodata) for end in ("min", "max"))
        different: NDArray[np.bool_] = (stored < low) | (stored > high)
        return different

    def _describe(
        self,
        level: int,
        box: Box,
        inner: Box,
        stored: NDArray[Any],
        expected: NDArray[Any],
        different: NDArray[np.bool_],
    ) -> Finding:
        """The chunk ``inner`` (relative to ``box``) of ``level``: lost, or wrong."""
        have, want = stored[inner.slices], expected[inner.slices]
        chunk = moved(inner, box.start)
        where = self._chunk_name(level, chunk)
        if _is_fill(have, self.image.arrays[level]):
            return Finding(
                "missing-chunk",
                where,
                f"nothing but the fill value, yet level {level - 1} has something there{_ONE}",
                level,
            )
        count, at = int(different[inner.slices].sum()), np.argwhere(different[inner.slices])[0]
        place = tuple(int(a + b) for a, b in zip(chunk.start, at, strict=True))
        values = f"{have[tuple(at)]} instead of {want[tuple(at)]} at {place}"
        return Finding(
            "reduction",
            where,
            f"{count} pixels are not the {self.method} of level {level - 1}: {values}",
            level,
        )

    def _chunk_name(self, level: int, chunk: Box) -> str:
        return f"level {level}, chunk {chunk_text(chunk, self.image.arrays[level].chunks)}"

    def hidden(self, level: int, box: Box) -> bool:
        """Does the coarser level show something where all of ``box`` of ``level`` is not stored?

        Every method keeps a constant, so blocks that lie wholly inside must be the fill value there too. Methods
        that are not known may blur over their blocks' edges: there a margin is left out.
        """
        factors = factors_of(self.image, level + 1)
        if factors is None:
            return False
        shape, coarse = self.image.arrays[level].shape, self.image.arrays[level + 1].shape
        start = tuple(-(-a // f) for a, f in zip(box.start, factors, strict=True))
        stop = tuple(
            m if b == n else b // f for b, f, n, m in zip(box.stop, factors, shape, coarse, strict=True)
        )
        if self.method is None:
            start = tuple(
                a if a == 0 or f == 1 else a + _BLUR_VOX for a, f in zip(start, factors, strict=True)
            )
            stop = tuple(
                b if b == m or f == 1 else b - _BLUR_VOX
                for b, m, f in zip(stop, coarse, factors, strict=True)
            )
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            return False
        return not _is_fill(self.arrays[level + 1].read(Box(start, stop)), self.image.arrays[level + 1])


def _about(stored: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.bool_]:
    """Equal as far as sums in another order, or in the values' own type, are."""
    rtol = max(_FOREIGN_RTOL, 4 * float(np.finfo(expected.dtype).eps))
    with np.errstate(all="ignore"):
        sizes = np.abs(expected[np.isfinite(expected)])
        # where large numbers cancel, the rest is as wrong as they are
        atol = rtol * float(sizes.max(initial=0))
        close: NDArray[np.bool_] = np.isclose(stored, expected, rtol=rtol, atol=atol)
    return close


def _level_of(error: SourceError, level: int) -> int:
    """The level that could not be read: it may be the one before."""
    words = error.message.split()
    return int(words[1]) if words[:1] == ["level"] and words[1].isdigit() else level


def _is_fill(data: NDArray[Any], meta: Any) -> bool:
    fill = fill_of(meta)
    return bool(np.isnan(data).all()) if fill != fill else bool((data == fill).all())


def _nodata(value: Any, dtype: np.dtype[Any]) -> Any:
    """What ``nodata`` in the metadata says, as a value of ``dtype``; None for what is none. JSON has NaN and complex
    numbers as text."""
    parse = complex if dtype.kind == "c" else float
    try:
        number = parse(value) if isinstance(value, str) else value
        return None if number is None else dtype.type(number).item()
    except (ValueError, TypeError, OverflowError):
        return None


def chunk_count(shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """How many chunks an array of ``shape`` has."""
    return math.prod(counts(shape, chunks))


def sample_boxes(shape: tuple[int, ...], edges: tuple[int, ...], most: int, stored: Stored) -> list[Box]:
    """At most ``most`` chunks: the first, the last, and others by a fixed seed, first of all in stored units."""
    grid = counts(shape, edges)
    total = math.prod(grid)
    rng = np.random.default_rng(0)
    numbers = {0, total - 1}
    for unit in stored.present[rng.permutation(len(stored.present))[:most]]:
        met = blocks_met(stored.box(int(unit), shape), edges)
        chosen = [int(rng.integers(places.start, places.stop)) for places in met]
        numbers.add(int(np.ravel_multi_index(chosen, grid)))
    if total > most:
        numbers |= {int(n) for n in rng.integers(0, total, most)}
        ordered = sorted(numbers, key=lambda n: (n not in (0, total - 1), rng.random()))[:most]
    else:
        ordered = list(range(total))
    return [block_at(np.unravel_index(number, grid), edges, shape) for number in sorted(ordered)]
