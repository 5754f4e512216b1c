"""YCbCr whose colours are stored at a lower resolution than its brightness, without JPEG; and YCbCr as RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_COEFFICIENTS, _REFERENCE = 529, 532
_BT601 = (0.299, 0.587, 0.114)
_FULL_RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
SIMPLE = {1, 5, 8, 32773, 32946}
"""Plain, LZW, deflate and PackBits: bytes in, bytes out."""


def is_subsampled(page: Any) -> bool:
    """In whole data units of a codec that knows nothing of them."""
    steps = tuple(page.subsampling or (1, 1))
    plain = page.samplesperpixel == 3 and page.planarconfig == 1 and page.dtype == np.uint8
    return page.photometric == 6 and steps != (1, 1) and page.compression in SIMPLE and plain


def unit_bytes(rows: int, columns: int, steps: tuple[int, int]) -> int:
    """Bytes of a segment of so many rows and columns."""
    across, down = steps
    return -(-rows // down) * -(-columns // across) * (across * down + 2)


def unpacked(data: bytes, rows: int, columns: int, steps: tuple[int, int]) -> NDArray[np.uint8]:
    """(1, rows, columns, 3): each block of brightness with the one colour that it has. Raises ValueError."""
    across, down = steps
    units = np.frombuffer(data, np.uint8, unit_bytes(rows, columns, steps))
    units = units.reshape(-(-rows // down), -(-columns // across), across * down + 2)
    high, wide, _ = units.shape
    bright = (
        units[..., :-2].reshape(high, wide, down, across).swapaxes(1, 2).reshape(high * down, wide * across)
    )
    colours = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.concatenate([bright[..., np.newaxis], colours], axis=-1)[np.newaxis, :rows, :columns]


class ToRgb:
    """uint8 (…, 3) from YCbCr to RGB, by the tags of ``page``: by default full range and ITU-R BT.601."""

    def __init__(self, page: Any) -> None:
        red, _, blue = self._weights = _numbers(page, _COEFFICIENTS, _BT601)
        self._reference = _numbers(page, _REFERENCE, _FULL_RANGE)
        self._plain = self._reference == _FULL_RANGE
        self._factors = 2 - 2 * red, 2 - 2 * blue
        green = self._weights[1]
        self._green = 2 * blue * (1 - blue) / green, 2 * red * (1 - red) / green

    def __call__(self, segment: NDArray[Any]) -> NDArray[Any]:
        luma, blue, red = (segment[..., i].astype(np.float32) for i in range(3))
        if self._plain:
            blue, red = blue - 128, red - 128
        else:
            dark, light, blue_0, blue_1, red_0, red_1 = self._reference
            luma = (luma - dark) * (255 / (light - dark))
            blue = (blue - blue_0) * (127 / (blue_1 - blue_0))
            red = (red - red_0) * (127 / (red_1 - red_0))
        r, b = luma + self._factors[0] * red, luma + self._factors[1] * blue
        g = luma - self._green[0] * blue - self._green[1] * red
        return np.asarray(np.rint(np.stack([r, g, b], -1)).clip(0, 255).astype(np.uint8))


def _numbers(page: Any, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
    found = page.tags.get(tag)
    values = tuple(np.ravel(found.value).tolist()) if found is not None else ()
    if len(values) == 2 * len(default):  # rationals
        pairs = zip(values[::2], values[1::2], strict=True)
        values = tuple(a / b if b else 0.0 for a, b in pairs)
    useful = len(values) == len(default)
    if useful and len(default) == 3:
        useful = min(values) > 0
    if useful and len(default) == 6:
        useful = all(low < high for low, high in zip(values[::2], values[1::2], strict=True))
    return tuple(float(value) for value in values) if useful else default
