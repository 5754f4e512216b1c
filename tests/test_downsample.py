"""Block reductions against the slow model: every dtype, method and rank, edges, NaN, nodata, seams."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference_downsample import reduce_slowly

from octree.pyramid import downsample
from octree.pyramid.downsample import METHODS, reduce_block, reduced_shape

INTEGERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
FLOATS = ("f2", "f4", "f8")
SHAPES = (((6, 8), (2, 2)), ((7, 5), (2, 2)), ((1, 9), (2, 2)), ((1, 1), (2, 2)), ((3, 5, 4), (2, 2, 2)),
          ((4, 3, 5), (1, 2, 2)), ((2, 3, 3, 2, 5), (1, 1, 2, 2, 2)), ((5, 7), (1, 2)), ((7, 8), (3, 3)), ((9, 4), (4, 1)))  # fmt: skip


def same(fast: np.ndarray, slow: np.ndarray) -> None:
    assert fast.dtype == slow.dtype
    if fast.dtype.kind in "fc" and fast.dtype.itemsize in (8, 16) and fast.dtype != np.complex64:
        # sums of 64-bit floats are rounded; the model's are not
        np.testing.assert_allclose(fast, slow, rtol=1e-13, atol=1e-13)
        return
    np.testing.assert_array_equal(fast, slow)


def samples(dtype: str, shape: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Values over the whole range, and few values so that ties and halves abound."""
    rng = np.random.default_rng(seed)
    few = rng.integers(0, 4, shape).astype(dtype)
    if np.dtype(dtype).kind == "b":
        return [few]
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        ends = rng.choice(np.array([info.min, info.min + 1, info.max - 1, info.max], dtype), shape)
        return [rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True), ends, few]
    return [(rng.standard_normal(shape) * 100).astype(dtype), few]


@pytest.mark.parametrize("dtype", ["?", *INTEGERS, *FLOATS])
@pytest.mark.parametrize("method", METHODS)
def test_every_dtype_and_method_equals_the_slow_model(dtype: str, method: Any) -> None:
    for seed, (shape, factors) in enumerate(SHAPES):
        for array in samples(dtype, shape, seed):
            same(reduce_block(array, factors, method), reduce_slowly(array, factors, method))


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_numbers_have_mean_and_nearest_and_nothing_that_orders(dtype: str) -> None:
    rng = np.random.default_rng(0)
    array = (rng.integers(-9, 9, (5, 6)) + 1j * rng.integers(-9, 9, (5, 6))).astype(dtype)
    array[0, 0] = complex("nan")
    for method in ("mean", "nearest"):
        same(reduce_block(array, (2, 2), method), reduce_slowly(array, (2, 2), method))
    for method in ("mode", "median", "min", "max"):
        with pytest.raises(ValueError, match="complex"):
            reduce_block(array, (2, 2), method)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("method", METHODS)
def test_nan_never_counts_unless_a_block_is_all_nan(dtype: str, method: Any) -> None:
    rng = np.random.default_rng(3)
    array = rng.integers(-5, 5, (9, 11)).astype(dtype)
    array[rng.random(array.shape) < 0.4] = np.nan
    array[:2, :2] = np.nan
    fast = reduce_block(array, (2, 2), method)
    same(fast, reduce_slowly(array, (2, 2), method))
    assert np.isnan(fast[0, 0])


@pytest.mark.parametrize("dtype", ["?", *INTEGERS, *FLOATS])
@pytest.mark.parametrize("method", METHODS)
def test_nodata_never_counts_unless_a_block_has_nothing_else(dtype: str, method: Any) -> None:
    rng = np.random.default_rng(4)
    array = rng.integers(0, 4, (9, 11, 4)).astype(dtype)
    array[:2, :2] = 1
    fast = reduce_block(array, (2, 2, 2), method, nodata=1)
    same(fast, reduce_slowly(array, (2, 2, 2), method, nodata=np.dtype(dtype).type(1)))
    assert (fast[0, 0] == 1).all()


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_means_of_64_bits_are_exact_at_the_ends_of_the_range(dtype: str) -> None:
    info = np.iinfo(dtype)
    for block in itertools.product((info.min, info.max, info.max - 1, info.max // 2), repeat=4):
        array = np.array(block, dtype).reshape(2, 2)
        same(reduce_block(array, (2, 2), "mean"), reduce_slowly(array, (2, 2), "mean"))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_halves_go_to_the_even_number_without_bias(dtype: str) -> None:
    low = -6 if dtype.startswith("i") else 0
    pairs = np.array([[n, n + 1] for n in range(low, 12)], dtype)
    assert reduce_block(pairs, (1, 2), "mean")[:, 0].tolist() == [
        n if n % 2 == 0 else n + 1 for n in range(low, 12)
    ]


def test_a_large_float64_mean_does_not_overflow() -> None:
    big = np.full((2, 2), 1.7e308)
    assert reduce_block(big, (2, 2), "mean")[0, 0] == 1.7e308
    assert reduce_block(np.array([[np.inf, 1.0]]), (1, 2), "mean")[0, 0] == np.inf
    assert np.isnan(reduce_block(np.array([[np.inf, -np.inf]]), (1, 2), "mean")[0, 0])
    both_ends = np.array([[1.7e308, 1.7e308], [-1.7e308, -1.7e308]])
    assert reduce_block(both_ends, (2, 2), "mean")[0, 0] == 0
    partly = np.array([[1.7e308, 1.7e308], [1.7e308, np.nan]])
    assert reduce_block(partly, (2, 2), "mean")[0, 0] == pytest.approx(1.7e308)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_stays_constant(method: Any) -> None:
    for dtype in (*INTEGERS, *FLOATS):
        array = np.full((5, 7), 77, dtype)
        assert (reduce_block(array, (2, 2), method) == 77).all()


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.uint32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9), elements=st.integers(0, 5))
)
def test_labels_never_gain_a_new_id(array: np.ndarray) -> None:
    out = reduce_block(array, (2,) * array.ndim, "mode")
    assert set(out.ravel()) <= set(array.ravel())


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_cuts_between_blocks_leave_no_seam(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["u1", "u2", "i4", "u8", "f4"]))
    method: Any = data.draw(st.sampled_from(METHODS))
    rank = data.draw(st.integers(2, 4))
    factors = tuple(data.draw(st.sampled_from([1, 2])) for _ in range(rank))
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(rank))
    array = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 50, shape).astype(dtype)
    axis = data.draw(st.integers(0, rank - 1))
    cut = factors[axis] * data.draw(st.integers(0, shape[axis] // factors[axis]))
    halves = [h for h in np.split(array, [cut], axis) if h.size]
    whole = reduce_block(array, factors, method)
    same(np.concatenate([reduce_block(h, factors, method) for h in halves], axis), whole)
    assert whole.shape == reduced_shape(shape, factors)


@pytest.mark.parametrize("band_bytes", [1, 48, 200])
@pytest.mark.parametrize("method", METHODS)
def test_bands_make_no_difference(method: Any, band_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(a, f) for dtype in ("?", "u2", "i8", "f4") for s, f in SHAPES for a in samples(dtype, s, 3)]
    whole = [reduce_block(array, factors, method, nodata=array.flat[0]) for array, factors in cases]
    monkeypatch.setattr(downsample, "_BAND_BYTES", band_bytes)
    for expected, (array, factors) in zip(whole, cases, strict=True):
        same(reduce_block(array, factors, method, nodata=array.flat[0]), expected)


@pytest.mark.parametrize("method", METHODS)
def test_memory_layout_of_the_input_does_not_matter(method: Any) -> None:
    array = np.random.default_rng(5).integers(0, 9, (6, 7)).astype("f4")
    expected = reduce_block(array, (2, 2), method)
    same(reduce_block(np.asfortranarray(array), (2, 2), method), expected)
    array.setflags(write=False)
    same(reduce_block(array, (2, 2), method), expected)


def test_minus_zero_becomes_zero_where_the_processor_would_choose() -> None:
    array = np.array([[-0.0, 0.0], [0.0, -0.0]], "f4")
    for method in ("mode", "median", "min", "max"):
        for turned in (array, array[::-1]):
            assert not np.signbit(reduce_block(turned, (2, 2), method)[0, 0])


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(ValueError, match="no method"):
        reduce_block(np.zeros((2, 2)), (2, 2), "median3")  # type: ignore[arg-type]  # that is the point
