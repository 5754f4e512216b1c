"""The contract of block reductions once more: slow, one block at a time, in Python's own exact numbers."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np


def reduce_slowly(array: np.ndarray, factors: tuple[int, ...], method: str, nodata: Any = None) -> np.ndarray:
    """``array`` reduced block by block; see octree.pyramid.downsample for what is expected."""
    shape = tuple(math.ceil(n / f) for n, f in zip(array.shape, factors, strict=True))
    out = np.empty(shape, array.dtype)
    for place in itertools.product(*map(range, shape)):
        block = array[tuple(slice(i * f, (i + 1) * f) for i, f in zip(place, factors, strict=True))]
        out[place] = block_value(block, method, nodata)
    return out


def block_value(block: np.ndarray, method: str, nodata: Any) -> Any:
    dtype = block.dtype
    if method == "nearest":
        return block.flat[0]
    values = [v for v in block.ravel() if not np.isnan(v)] if dtype.kind in "fc" else list(block.ravel())
    if nodata is not None:
        values = [v for v in values if v != nodata]
    if not values:
        return nodata if nodata is not None else dtype.type(math.nan)
    if dtype.kind == "b":
        return bool_value([bool(v) for v in values], method)
    if method == "mean":
        return mean(values, dtype)
    ordered = sorted(values)
    if method == "median":
        return ordered[(len(ordered) - 1) // 2]
    if method == "mode":
        return min(ordered, key=lambda v: (-ordered.count(v), v))
    return ordered[0] if method == "min" else ordered[-1]


def bool_value(values: list[bool], method: str) -> bool:
    if method in ("mean", "mode"):
        return sum(values) * 2 > len(values)
    return bool(block_value(np.array(values, np.uint8), method, None))


def mean(values: list[Any], dtype: np.dtype) -> Any:
    if dtype.kind in "iu":
        # round() of a fraction is exact and takes halves to the even number
        return dtype.type(round(Fraction(sum(int(v) for v in values), len(values))))
    if dtype.kind == "c":
        return dtype.type(complex(sum(complex(v) for v in values)) / len(values))
    if not all(math.isfinite(v) for v in values):
        return dtype.type(sum(float(v) for v in values))  # infinities as IEEE adds them
    return dtype.type(float(sum(Fraction(float(v)) for v in values) / len(values)))
