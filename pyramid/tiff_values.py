"""From stored TIFF samples to the values they stand for: palettes looked up, "white is zero" turned round."""

from __future__ import annotations

from typing import Any

import numpy as np

from octree.pyramid.raw import RawArray
from octree.pyramid.raw_views import ConvertedArray

_MINISWHITE, _PALETTE = 0, 3


def shown_values(raw: RawArray, tiff: Any, series: Any) -> RawArray:
    """``raw``, or a view of it in which a palette is RGB, and white is the highest value.

    ImageJ writes its look-up table as a palette over measured values: those are kept as they are.
    """
    page = series.keyframe
    if page.photometric == _MINISWHITE and raw.dtype.kind in "bu":
        top = 1 if raw.dtype.kind == "b" else (1 << int(page.bitspersample)) - 1
        return ConvertedArray(raw, lambda data: np.bitwise_xor(data, data.dtype.type(top)))
    indexed = page.photometric == _PALETTE and page.colormap is not None and raw.dtype.kind in "bu"
    if indexed and not tiff.is_imagej and not tiff.is_ome:
        # some writers fill the table with bytes instead of 16-bit numbers
        shift = 8 if int(page.colormap.max()) > 255 else 0
        table = np.ascontiguousarray((page.colormap >> shift).astype(np.uint8).T)
        last = len(table) - 1
        return ConvertedArray(raw, lambda data: table[np.minimum(data.astype(np.intp), last)], samples=3)
    return raw
