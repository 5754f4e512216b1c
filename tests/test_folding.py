"""Projections brick by brick, against numpy over the whole."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from octree.render.tiles.folding import Fold, folded_dtype

WHOLE = ["u1", "i1", "u2", "i2", "u4", "i4"]


def folded(data: Any, method: str, cuts: list[int], axis: int = 0, **more: Any) -> Any:
    fold = Fold(method, axis, **more)
    for brick in np.split(data, cuts, axis):
        if brick.shape[axis]:
            fold.add(brick)
    return fold.result()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bricks_of_integers_give_what_the_whole_gives(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(WHOLE))
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 3)))
    axis = data.draw(st.integers(0, 2))
    values = data.draw(arrays.arrays(dtype, shape))
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[axis]), max_size=4)))
    for method in ("max", "min"):
        found = folded(values, method, cuts, axis)
        assert found.dtype == values.dtype == folded_dtype(values.dtype, method)
        np.testing.assert_array_equal(found, getattr(values, method)(axis, keepdims=True))
    exact = values.astype(object).sum(axis, keepdims=True)
    np.testing.assert_array_equal(folded(values, "sum", cuts, axis).astype(object), exact)
    mean = folded(values, "mean", cuts, axis)
    np.testing.assert_array_equal(mean, exact.astype(np.float64) / shape[axis])
    assert mean.dtype == folded_dtype(values.dtype, "mean") == np.float64


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_nan_does_not_count(data: st.DataObject) -> None:
    values = data.draw(
        arrays.arrays("f4", (6, 4), elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, width=32)))
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, 6), max_size=3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of columns of nothing
        nothing = np.isnan(values).all(0, keepdims=True)
        wide = values.astype(np.float64)
        for method in ("max", "min", "mean", "sum"):
            expected = getattr(np, f"nan{method}")(wide, axis=0, keepdims=True)
            np.testing.assert_allclose(
                folded(values, method, cuts), np.where(nothing, np.nan, expected), rtol=1e-12, atol=1e-6
            )


def test_what_overflows_narrow_types_does_not() -> None:
    data = np.full((70_000, 1), 65535, np.uint16)
    assert folded(data, "sum", [3, 40_000])[0, 0] == 70_000 * 65535
    assert folded(data, "mean", [9])[0, 0] == 65535
    low = np.full((5, 1), -(2**31), np.int32)
    assert folded(low, "sum", [2])[0, 0] == -5 * 2**31


def test_bool_is_counted_and_complex_has_a_magnitude() -> None:
    assert folded(np.array([[True], [False], [True]]), "sum", [1])[0, 0] == 2
    assert folded(np.array([[True], [False]]), "max", [1]).dtype == bool
    assert folded(np.array([[3 + 4j], [1j]]), "max", [1])[0, 0] == 5
    assert folded_dtype(np.dtype("c8"), "max") == np.float32


def test_infinities_of_both_signs_are_not_a_number_and_no_warning() -> None:
    data = np.array([[np.inf], [-np.inf]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(folded(data, "sum", [1])[0, 0])
        assert folded(data, "max", [1])[0, 0] == np.inf


def test_the_mean_of_colours_is_a_colour() -> None:
    data = np.array([[[10, 3]], [[11, 4]]], np.uint8)
    found = folded(data, "mean", [1], rgb=True)
    assert found.dtype == np.uint8 == folded_dtype(data.dtype, "mean", rgb=True)
    assert found.tolist() == [[[10, 4]]], "halves to the even number"


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_a_voxel_of_a_coarse_level_counts_for_what_it_holds(weight: float) -> None:
    fold = Fold("sum", 0)
    fold.add(np.array([[3], [4]], np.uint8))
    assert fold.result(weight)[0, 0] == 7 * weight
    fold = Fold("mean", 0)
    fold.add(np.array([[3], [4]], np.uint8))
    assert fold.result(weight)[0, 0] == 3.5
