"""From what a source holds to what a texture takes. Pure; called in workers only.

| source                               | texture                                                        |
|--------------------------------------|----------------------------------------------------------------|
| bool, uint8                          | uint8 (bool as 0 and 1)                                        |
| uint16                               | uint16                                                         |
| int8, int16, float16                 | float32, exact                                                 |
| (u)int32, (u)int64, float64          | float32, relative to a ``Base``: 24 bits from there            |
| float32                              | float32, relative to a ``Base`` where limits are far from 0    |
| complex64, complex128                | float32, the magnitude, relative to a ``Base``                 |
| colour (h, w, 3 or 4)                | uint8 and uint16 as they are, bool as 0 and 255, others float32|
| labels, any integer or bool          | uint8 (h, w, 4): the little-endian bytes of a uint32 id        |

A label id from -2**31 to 2**32 - 1 is kept modulo 2**32; others are folded by ``fold_ids``. 0 stays 0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

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


class Base(NamedTuple):
    """What texels of float32 are relative to: (value - offset) * scale, worked out exactly before it is rounded. Then
    24 bits begin at the lower contrast limit, and not at 0."""

    offset: float = 0.0
    scale: float = 1.0


NO_BASE = Base()
EXACT_STEPS = 2**24
_FEW_EXPONENTS = 60


def base_for(dtype: np.dtype[Any], clim: tuple[float, float], *, labels: bool = False) -> Base:
    """The base for values of ``dtype`` that are shown between limits: whole numbers of a window of up to ``EXACT_STEPS``
    are exact, and what is shown of others is off by no more than 2**-24 of the window."""
    low, high = min(clim), max(clim)
    if labels or dtype.kind not in "iufc" or dtype.itemsize < 4:
        return NO_BASE  # every value is exact as it is
    if dtype.kind in "iu":
        small = low >= -EXACT_STEPS and high <= EXACT_STEPS
        return NO_BASE if small else Base(float(math.floor(low)))
    width = high - low
    exponent = math.frexp(width)[1] if 0 < width < math.inf else 0
    scale = 2.0**-exponent if abs(exponent) > _FEW_EXPONENTS else 1.0
    return Base(low if abs(low) > width else 0.0, scale)


_FAR = 16
"""Windows: limits that lie so far from the offset of a base still have 20 bits of their own."""


def serves(base: Base, dtype: np.dtype[Any], clim: tuple[float, float], *, labels: bool = False) -> bool:
    """Are texels relative to ``base`` good for these limits, too? Whole numbers as exact as with a base of their own, of
    windows of up to ``EXACT_STEPS``; of others and of floats what is shown is off by no more than 2**-20 of the window."""
    best = base_for(dtype, clim, labels=labels)
    if base == best or (labels or dtype.kind not in "iufc" or dtype.itemsize < 4):
        return base == best
    low, high = min(clim), max(clim)
    reach = max(abs(low - base.offset), abs(high - base.offset))
    if dtype.kind in "iu" and reach <= EXACT_STEPS:
        return base.scale == 1
    return base.scale == best.scale and reach <= _FAR * (high - low)


def lost_steps(dtype: np.dtype[Any], clim: tuple[float, float]) -> int:
    """So many neighbouring whole numbers may be one texel value, between these limits; 1: all differ."""
    if dtype.kind not in "iu" or dtype.itemsize < 4:
        return 1
    info = np.iinfo(dtype)
    width = min(max(clim), float(info.max)) - max(min(clim), float(info.min))
    return 1 if width <= EXACT_STEPS else 2 ** math.ceil(math.log2(width / EXACT_STEPS))


def to_texels(data: NDArray[Any], *, labels: bool, rgb: bool, base: Base = NO_BASE) -> NDArray[Any]:
    """``data`` (h, w) or (h, w, samples) in the texture's dtype; labels gain an axis of 4 bytes. May be a view.
    ``base`` as ``base_for`` gave it."""
    if labels:
        return label_bytes(data)
    target = texture_dtype(data.dtype, labels=False)
    if data.dtype.kind == "b":
        return data.astype(UINT8) * np.uint8(255) if rgb else data.astype(UINT8)
    # a float64 beyond float32's range becomes infinite, which is what a float32 can say about it
    with np.errstate(over="ignore", invalid="ignore"):
        if data.dtype.kind == "c":
            data = np.abs(data)
        if base == NO_BASE:
            return data.astype(target, copy=False)
        texels = (_distance(data, base.offset) * base.scale).astype(target)
        if rgb and data.shape[-1] in (2, 4):  # alpha knows no limits
            texels[..., -1] = data[..., -1]
        return texels


def _distance(data: NDArray[Any], offset: float) -> NDArray[np.float64]:
    """``data - offset``, rounded once."""
    if data.dtype.kind not in "iu" or data.dtype.itemsize < 8 or not offset.is_integer():
        return data.astype(np.float64) - offset
    info, start = np.iinfo(data.dtype), int(offset)
    if not info.min <= start <= info.max:
        return data.astype(np.float64) - offset
    # modulo 2**64 the distance is right whatever the signs, and whichever is larger
    origin = data.dtype.type(start)
    apart = data.view(np.uint64) - np.asarray(origin).view(np.uint64)
    above = data >= origin
    return np.where(above, apart, np.uint64(0) - apart).astype(np.float64) * np.where(above, 1.0, -1.0)


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
