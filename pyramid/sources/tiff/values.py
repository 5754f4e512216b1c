"""From stored TIFF samples to the values they stand for: palettes looked up, "white is zero" turned round."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.sources.protocol import RawArray
from octree.pyramid.sources.views import ConvertedArray

_MINISWHITE, _PALETTE, _YCBCR = 0, 3, 6
_APERIO_YCBCR = {33003}
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000}


def stores_ycbcr(page: Any) -> bool:
    """Do the page's segments decode to YCbCr in three interleaved bytes? JPEG is decoded to RGB by its codec."""
    plain = page.samplesperpixel == 3 and page.planarconfig == 1 and page.dtype == np.uint8
    by_codec = page.compression in _APERIO_YCBCR or (
        page.photometric == _YCBCR and page.compression in _LOSSLESS
    )
    return bool(plain and by_codec)


def rgb_of_ycbcr(segment: NDArray[Any]) -> NDArray[Any]:
    """uint8 (…, 3) from full-range YCbCr, ITU-R BT.601, to RGB."""
    luma, blue, red = (segment[..., i].astype(np.float32) for i in range(3))
    blue, red = blue - 128, red - 128
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], -1)
    return np.asarray(np.rint(rgb).clip(0, 255).astype(np.uint8))


def shown_values(raw: RawArray, tiff: Any, series: Any) -> RawArray:
    """``raw``, or a view of it in which a palette is RGB, and white is the highest value.

    ImageJ and OME files hold measured values, over which these are only ways to show them: they are kept.
    """
    page = series.keyframe
    if tiff.is_imagej or tiff.is_ome or raw.dtype.kind not in "bu":
        return raw
    if page.photometric == _MINISWHITE:
        top = 1 if raw.dtype.kind == "b" else (1 << int(page.bitspersample)) - 1
        return ConvertedArray(raw, lambda data: np.bitwise_xor(data, data.dtype.type(top)))
    if page.photometric == _PALETTE and page.colormap is not None:
        # some writers fill the table with bytes instead of 16-bit numbers
        shift = 8 if int(page.colormap.max()) > 255 else 0
        table = np.ascontiguousarray((page.colormap >> shift).astype(np.uint8).T)
        last = len(table) - 1
        return ConvertedArray(raw, lambda data: table[np.minimum(data.astype(np.intp), last)], samples=3)
    return raw
