"""Pixels of a TIFF that are there and count for nothing: GDAL's nodata value, and the mask that belongs to an image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.model import Box
from octree.pyramid.sources.nodata import as_nodata
from octree.pyramid.sources.protocol import RawArray

_NODATA, _MASK = 42113, 4
_REDUCED = 1


def nodata_of(page: Any, dtype: np.dtype[Any]) -> tuple[float | int | None, tuple[str, ...]]:
    """(the value of GDAL's tag as ``dtype`` has it, what is to be said of it); None when no pixel can have it."""
    tag = page.tags.get(_NODATA)
    if tag is None:
        return None, ()
    text = str(tag.value).strip(" \0\n")
    value = as_nodata(text, dtype)
    return value, () if value is not None else (
        f"its nodata value {text!r} is none that its pixels could have",
    )


def is_mask(page: Any) -> bool:
    """Is it no image, but says which pixels of one are there?"""
    return bool(int(page.subfiletype or 0) & _MASK)


def mask_series(tiff: Any, series: Any) -> Any:
    """The series that says which pixels of ``series`` are there; None when there is none."""
    page = series.keyframe
    for other in tiff.series:
        own = other.keyframe
        kind = int(own.subfiletype or 0)
        same = (own.imagelength, own.imagewidth) == (page.imagelength, page.imagewidth)
        if own is not page and is_mask(own) and not kind & _REDUCED and same and len(other) == 1:
            return other
    return None


class Masked:
    """``raw`` with ``value`` where ``mask`` (y, x) is 0. Owns both. ``row``, ``column``: the axes of ``raw``."""

    def __init__(self, raw: RawArray, mask: RawArray, row: int, column: int, value: Any) -> None:
        self._raw, self._mask, self._places = raw, mask, (row, column)
        self.shape, self.dtype, self.block = raw.shape, raw.dtype, raw.block
        self.engine, self.facts = raw.engine, raw.facts
        self.held_bytes = raw.held_bytes + mask.held_bytes
        self._value = raw.dtype.type(value)

    def _own_box(self, box: Box) -> Box:
        start, stop = (tuple(ends[place] for place in self._places) for ends in (box.start, box.stop))
        return Box(start, stop)

    def read(self, box: Box) -> NDArray[Any]:
        there = self._mask.read(self._own_box(box)) != 0
        shape = [1] * len(self.shape)
        for place, length in zip(self._places, there.shape, strict=True):
            shape[place] = length
        return np.where(there.reshape(shape), self._raw.read(box), self._value)

    def transient_bytes(self, box: Box) -> int:
        own = self._own_box(box)
        both = max(self._raw.transient_bytes(box), self._mask.transient_bytes(own))
        return both + math.prod(box.shape) * self.dtype.itemsize + 2 * math.prod(own.shape)

    def identity(self) -> dict[str, Any]:
        return self._raw.identity()

    def close(self) -> None:
        self._mask.close()
        self._raw.close()
