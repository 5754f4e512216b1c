"""From what a source holds to what a texture takes. Pure; called in workers only.

| source                               | texture                                                        |
|--------------------------------------|----------------------------------------------------------------|
| bool, uint8                          | uint8 (bool as 0 and 1)                                        |
| uint16                               | uint16                                                         |
| int8, int16, float16, float32        | float32, exact                                                 |
| (u)int32, (u)int64, float64          | float32, rounded to nearest: exact up to 2**24, then 24 bits   |
| complex64, complex128                | float32, the magnitude                                         |
| colour (h, w, 3 or 4)                | uint8 and uint16 as they are, bool as 0 and 255, others float32|
| labels, any integer or bool          | uint8 (h, w, 4): the little-endian bytes of a uint32 id        |

A label id from -2**31 to 2**32 - 1 is kept modulo 2**32; others are folded by ``fold_ids``. 0 stays 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError

UINT8, UINT16, FLOAT32 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("float32")


def texture_dtype(dtype: np.dtype[Any], *, labels: bool) -> np.dtype[Any]:
    """dtype of the texels of a source of ``dtype``. Raises UsageError for labels that are no integers."""
    if labels:
        if dtype.kind not in "biu":
            raise UsageError(
                f"labels must be integers, and these values are {dtype}", hint="leave out --labels"
            )
        return UINT8
    if dtype.kind == "b" or dtype.newbyteorder("=") == UINT8:
        return UINT8
    return UINT16 if dtype.newbyteorder("=") == UINT16 else FLOAT32


def to_texels(data: NDArray[Any], *, labels: bool, rgb: bool) -> NDArray[Any]:
    """``data`` (h, w) or (h, w, samples) in the texture's dtype; labels gain an axis of 4 bytes. May be a view."""
    if labels:
        return label_bytes(data)
    target = texture_dtype(data.dtype, labels=False)
    if data.dtype.kind == "b":
        return data.astype(UINT8) * np.uint8(255) if rgb else data.astype(UINT8)
    # a float64 beyond float32's range becomes infinite, which is what a float32 can say about it
    with np.errstate(over="ignore", invalid="ignore"):
        if data.dtype.kind == "c":
            data = np.abs(data)
        return data.astype(target, copy=False)


def label_bytes(ids: NDArray[Any]) -> NDArray[np.uint8]:
    """Ids (h, w) as the four little-endian bytes of a uint32, shape (h, w, 4)."""
    small = fold_ids(ids).astype("<u4", copy=False)
    return np.ascontiguousarray(small).view(UINT8).reshape(*ids.shape, 4)


def fold_ids(ids: NDArray[Any]) -> NDArray[np.uint32]:
    """Label ids of any integer type as uint32: from -2**31 to 2**32 - 1 modulo 2**32. Any other id is
    multiplied (modulo 2**64) by the odd number next to 2**64 / golden ratio, and its upper half taken; 1 in
    place of 0, which stays what it is: nothing."""
    if ids.dtype.itemsize < 8:
        return ids.astype(np.uint32)
    with np.errstate(over="ignore"):
        outside = ids >= 2**32
        if ids.dtype.kind == "i":
            outside |= ids < -(2**31)
        folded = ids.astype(np.uint32)
        if outside.any():
            mixed = (ids[outside].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
            folded[outside] = np.maximum(mixed, 1).astype(np.uint32)
    return folded
