"""From stored TIFF samples to the values they stand for: palettes looked up, "white is zero" turned round."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.sources.protocol import RawArray
from octree.pyramid.sources.tiff.far import FilePath, positioned
from octree.pyramid.sources.tiff.fax import FAX
from octree.pyramid.sources.tiff.ifd import Directories
from octree.pyramid.sources.views import ConvertedArray

WHITE_IS_ZERO, _MINISBLACK, PALETTE, _YCBCR = 0, 1, 3, 6
_APERIO_YCBCR = {33003}
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000}
_MEANING, _COLORS = 262, 320
_NAMES = {0: "grey, white is zero", 1: "grey", 2: "RGB", 3: "palette", 5: "inks", 6: "YCbCr"}
_TABLES_KEPT = 64


def stores_ycbcr(page: Any) -> bool:
    """Do the page's segments decode to YCbCr in three interleaved bytes? JPEG is decoded to RGB by its codec."""
    plain = page.samplesperpixel == 3 and page.planarconfig == 1 and page.dtype == np.uint8
    by_codec = page.compression in _APERIO_YCBCR or (
        page.photometric == _YCBCR and page.compression in _LOSSLESS
    )
    return bool(plain and by_codec)


def is_unsaid(page: Any) -> bool:
    """Does the page not say whether 0 is black or white? Fax is white on 0 by itself."""
    return (
        _MEANING not in page.tags and int(page.photometric) == WHITE_IS_ZERO and page.compression not in FAX
    )


def is_measured(tiff: Any) -> bool:
    """Files of ImageJ and OME hold measured values, over which palettes and white as 0 are only ways to show them."""
    return bool(tiff.is_imagej or tiff.is_ome)


def is_turned(tiff: Any, page: Any) -> bool:
    """Are its values given the other way round, since white is 0?"""
    white = int(page.photometric) == WHITE_IS_ZERO and not is_unsaid(page)
    return white and not is_measured(tiff) and np.dtype(page.dtype).kind in "bu"


def check_palette(path: FilePath, page: Any) -> None:
    """Raises SourceError for a palette of which no reader can say what it means."""
    if page.photometric != PALETTE:
        return
    if page.samplesperpixel != 1:
        raise SourceError(
            f"{path}: a palette image with {page.samplesperpixel} samples for each pixel",
            hint="--labels reads its samples as they are stored; or write the indices alone",
            path=str(path),
        )
    if page.colormap is None or np.dtype(page.dtype).kind not in "bu":
        raise SourceError(
            f"{path}: a palette image without a palette",
            hint="--labels reads its samples as they are stored",
            path=str(path),
        )


def shown_values(raw: RawArray, path: FilePath, tiff: Any, series: Any) -> RawArray:
    """``raw``, or a view of it in which a palette is RGB, and white is the highest value, each page by its own tags.

    ImageJ and OME files hold measured values, over which these are only ways to show them: they are kept.
    Raises SourceError for palettes that mean nothing.
    """
    page = series.keyframe
    if is_measured(tiff) or raw.dtype.kind not in "bu":
        return raw
    check_palette(path, page)
    if page.photometric not in (WHITE_IS_ZERO, _MINISBLACK, PALETTE) or is_unsaid(page):
        return raw
    # of planes that lie together behind one page there is nothing else to ask
    if len(series) > 1 and len(series) == math.prod(raw.shape[: len(raw.shape) - len(page.shape)]):
        return PagesOfTheirOwn(raw, path, tiff, series)
    if is_turned(tiff, page):
        top = _top_of(raw, page)
        return ConvertedArray(raw, lambda data: np.bitwise_xor(data, top))
    if page.photometric == PALETTE:
        table = _table_of(page.colormap)
        return ConvertedArray(raw, lambda data: _looked_up(table, data), samples=3)
    return raw


def _top_of(raw: RawArray, page: Any) -> Any:
    return raw.dtype.type(1 if raw.dtype.kind == "b" else (1 << int(page.bitspersample)) - 1)


def _table_of(colormap: NDArray[Any]) -> NDArray[np.uint8]:
    """(colours, 3), of TIFF's (3, colours)."""
    # some writers fill the table with bytes instead of 16-bit numbers
    shift = 8 if int(colormap.max()) > 255 else 0
    return np.ascontiguousarray((colormap >> shift).astype(np.uint8).T)


def _looked_up(table: NDArray[np.uint8], data: NDArray[Any]) -> NDArray[np.uint8]:
    looked: NDArray[np.uint8] = table[np.minimum(data.astype(np.intp), len(table) - 1)]
    return looked


class PagesOfTheirOwn:
    """Pages of one series, of which each has its own palette, and says itself whether white is zero: tifffile takes all
    for what the first one says. Owns ``raw`` and the open file. ``read`` is called from any thread."""

    def __init__(self, raw: RawArray, path: FilePath, tiff: Any, series: Any) -> None:
        page = series.keyframe
        self._raw, self._path, self._tiff = raw, path, tiff
        self._offsets = [page.offset for page in series]
        self._own = int(page.photometric)
        self._top = _top_of(raw, page)
        self._lead = raw.shape[: len(raw.shape) - len(page.shape)]
        tail = (3,) if self._own == PALETTE else ()
        self.shape, self.block = raw.shape + tail, raw.block + tail
        self.dtype = np.dtype(np.uint8) if tail else raw.dtype
        self.engine = raw.engine
        self.facts = raw.facts
        if tail and raw.facts.axes:
            self.facts = dataclasses.replace(raw.facts, axes=raw.facts.axes + "s")
        table_bytes = 3 << int(page.bitspersample) if tail else 0
        self.held_bytes = raw.held_bytes + _TABLES_KEPT * table_bytes
        self._file = positioned(path)
        self._directories = Directories(self._file, tiff.tiff)
        self._tables: dict[int, NDArray[np.uint8]] = {}

    def read(self, box: Box) -> NDArray[Any]:
        own = self._own_box(box)
        data = self._raw.read(own)
        out = np.empty(own.shape + self.shape[len(self._raw.shape) :], self.dtype)
        lead = len(self._lead)
        for index in np.ndindex(own.shape[:lead]):
            place = tuple(a + i for a, i in zip(own.start[:lead], index, strict=True))
            number = int(np.ravel_multi_index(place, self._lead)) if lead else 0
            out[index] = self._convert(number, data[index])
        return out[..., box.start[-1] : box.stop[-1]] if self._own == PALETTE else out

    def _own_box(self, box: Box) -> Box:
        return Box(box.start[:-1], box.stop[:-1]) if self._own == PALETTE else box

    def _convert(self, number: int, data: NDArray[Any]) -> NDArray[Any]:
        if (table := self._tables.get(number)) is not None:
            return _looked_up(table, data)
        tags = self._directories.tags(self._offsets[number], (_MEANING, _COLORS))
        (meaning,) = tags.get(_MEANING, (self._own,))
        grey = {WHITE_IS_ZERO, _MINISBLACK}
        if meaning != self._own and not grey >= {meaning, self._own}:
            names = [_NAMES.get(one, str(one)) for one in (meaning, self._own)]
            raise SourceError(
                f"{self._path}: page {number} is an image of another kind ({names[0]}) than the first ({names[1]})",
                hint="write the pages of each kind to a file of their own, as tiffsplit does",
                path=str(self._path),
                page=number,
            )
        if meaning != PALETTE:
            return np.bitwise_xor(data, self._top) if meaning == WHITE_IS_ZERO else data
        colors = np.array(tags.get(_COLORS, ()), np.uint16)
        if not colors.size or colors.size % 3:
            raise SourceError(
                f"{self._path}: page {number} is a palette image without a palette",
                hint="--labels reads its samples as they are stored",
                path=str(self._path),
                page=number,
            )
        table = _table_of(colors.reshape(3, -1))
        if len(self._tables) < _TABLES_KEPT:
            self._tables[number] = table
        return _looked_up(table, data)

    def transient_bytes(self, box: Box) -> int:
        own = self._own_box(box)
        pixels = math.prod(own.shape)
        looked_up = pixels * 8 if self._own == PALETTE else 0
        return self._raw.transient_bytes(own) + pixels * self._raw.dtype.itemsize + looked_up

    def identity(self) -> dict[str, Any]:
        return self._raw.identity()

    def close(self) -> None:
        self._raw.close()
        self._file.close()
        self._tiff.close()
