"""Projections: one axis of many bricks reduced to one value, brick by brick. Pure; called in workers only.

    max, min   the dtype of the data. NaN counts only where there is nothing else.
    mean       float64, exact for integers of up to 32 bits. NaN does not count.
    sum        integers of up to 32 bits exactly, in 64 bits; others in float64. NaN does not count.

Complex numbers are projected by their magnitude, bool is 0 and 1 in sums. Where levels halve the axis, a voxel of a
coarse level counts in a sum as often as it holds voxels of level 0: so coarse stand-ins are as bright as what comes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_EXTREMES = {"max": np.fmax, "min": np.fmin}


def folded_dtype(dtype: np.dtype[Any], method: str | None, *, rgb: bool = False) -> np.dtype[Any]:
    """What a projection of ``dtype`` is made of; ``rgb``: the mean of colours is a colour again, rounded."""
    if method is None or (rgb and method == "mean" and dtype.kind in "iu"):
        return dtype
    if dtype.kind == "c":
        dtype = np.dtype(f"f{dtype.itemsize // 2}")
    return dtype if method in _EXTREMES else np.dtype(np.float64)


class Fold:
    """A projection in the making: ``add`` bricks of one shape but for their length on ``axis``, in any order."""

    def __init__(self, method: str, axis: int, *, rgb: bool = False) -> None:
        self._method, self._axis, self._rgb = method, axis, rgb
        self._total: Array | None = None
        self._count: Any = 0
        self._dtype = np.dtype(np.float64)

    def add(self, brick: Array) -> None:
        self._dtype = brick.dtype
        if brick.dtype.kind == "c":
            brick = np.abs(brick)
        with np.errstate(over="ignore", invalid="ignore"):  # infinities have their own sums
            if (pick := _EXTREMES.get(self._method)) is not None:
                found = pick.reduce(brick, axis=self._axis, keepdims=True)
                self._total = found if self._total is None else pick(self._total, found)
                return
            counted = brick.shape[self._axis]
            if brick.dtype.kind == "f":
                there = ~np.isnan(brick)
                counted = there.sum(axis=self._axis, keepdims=True)
                brick = np.where(there, brick, brick.dtype.type(0))
            found = brick.sum(axis=self._axis, dtype=_wide(brick.dtype), keepdims=True)
            self._total = found if self._total is None else self._total + found
            self._count = self._count + counted

    def result(self, weight: float = 1.0) -> Array:
        """The projection, 1 long on its axis. ``weight``: of each voxel in a sum."""
        total = self._total
        assert total is not None, "no brick"
        if self._method in _EXTREMES:
            return total
        if self._method == "mean":
            with np.errstate(invalid="ignore"):
                mean: Array = total / np.asarray(self._count, np.float64)
            if self._rgb and self._dtype.kind in "iu":
                return np.rint(mean).astype(self._dtype)
            return mean
        nothing = np.asarray(self._count) == 0
        if weight == 1 and not nothing.any():
            return total
        return np.where(nothing, np.nan, total * float(weight))


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind in "biu" and dtype.itemsize < 8:
        return np.dtype(np.uint64 if dtype.kind in "bu" else np.int64)
    return np.dtype(np.float64)
