"""From stored TIFF samples to the values they stand for: palettes looked up, "white is zero" turned round."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.model import Box
from octree.pyramid.raw import Facts, RawArray

_MINISWHITE, _PALETTE = 0, 3


def shown_values(raw: RawArray, tiff: Any, series: Any) -> RawArray:
    """``raw``, or a view of it in which a palette is RGB and white is the highest value.

    ImageJ writes its look-up table as a palette over measured values: those are kept as they are.
    """
    page = series.keyframe
    if page.photometric == _MINISWHITE and raw.dtype.kind in "bu":
        top = True if raw.dtype.kind == "b" else (1 << int(page.bitspersample)) - 1
        return _Converted(raw, lambda data: np.bitwise_xor(data, data.dtype.type(top)))
    if (
        page.photometric == _PALETTE
        and page.colormap is not None
        and not tiff.is_imagej
        and raw.dtype.kind in "bu"
    ):
        table = np.ascontiguousarray((page.colormap >> 8).astype(np.uint8).T)
        if int(page.colormap.max()) < 256:  # some writers fill the table with bytes
            table = np.ascontiguousarray(page.colormap.astype(np.uint8).T)
        return _Converted(
            raw, lambda data: table[np.minimum(data.astype(np.intp), len(table) - 1)], samples=3
        )
    return raw


class _Converted:
    """``raw`` with ``convert`` applied to what is read; ``samples`` adds a last axis s of uint8."""

    def __init__(
        self, raw: RawArray, convert: Callable[[NDArray[Any]], NDArray[Any]], samples: int = 0
    ) -> None:
        self._raw, self._convert, self._samples = raw, convert, samples
        tail = (samples,) if samples else ()
        self.shape, self.block = raw.shape + tail, raw.block + tail
        self.dtype = np.dtype(np.uint8) if samples else raw.dtype
        self.engine, self.held_bytes = raw.engine, raw.held_bytes
        self.facts: Facts = raw.facts
        if samples and raw.facts.axes:
            self.facts = dataclasses.replace(raw.facts, axes=raw.facts.axes + "s")

    def read(self, box: Box) -> NDArray[Any]:
        if not self._samples:
            return self._convert(self._raw.read(box))
        data = self._convert(self._raw.read(Box(box.start[:-1], box.stop[:-1])))
        return data[..., box.start[-1] : box.stop[-1]]

    def transient_bytes(self, box: Box) -> int:
        own = Box(box.start[:-1], box.stop[:-1]) if self._samples else box
        pixels = math.prod(own.shape)
        index_bytes = pixels * (8 + self._samples) if self._samples else 0
        return self._raw.transient_bytes(own) + pixels * self._raw.dtype.itemsize + index_bytes

    def identity(self) -> dict[str, Any]:
        return self._raw.identity()

    def close(self) -> None:
        self._raw.close()
