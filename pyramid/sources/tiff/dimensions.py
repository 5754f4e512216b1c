"""Lengths of a TIFF's pages, from their own tags: tifffile takes negative ones as they are, and counts pages backwards."""

from __future__ import annotations

import struct
from typing import Any

from octree.pyramid.errors import SourceError
from octree.pyramid.sources.tiff.checks import DAMAGED
from octree.pyramid.sources.tiff.far import FilePath

_LENGTHS = {
    256: "width",
    257: "length",
    322: "tile width",
    323: "tile length",
    32997: "depth",
    32998: "tile depth",
}
_SUBPAGES = 330
_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


def check_dimensions(path: FilePath, tiff: Any) -> None:
    """Raises SourceError for a page whose width, length or tiles are below 1. Asked before ``tiff.series``.

    Of every page, and pages below pages, where tifffile would not end otherwise: in files that it wrote itself; of the
    first page of any other.
    """
    pages = _Pages(path, tiff)
    for number, offset in enumerate(pages.chain(None if tiff.is_shaped else 1)):
        below = [offset]
        while below:
            below += pages.check(below.pop(), number)


class _Pages:
    def __init__(self, path: FilePath, tiff: Any) -> None:
        self._path, self._handle, self._layout = path, tiff.filehandle, tiff.tiff
        self._seen: set[int] = set()

    def _numbers(self, offset: int, code: str, count: int = 1) -> tuple[int, ...]:
        form = f"{self._layout.byteorder}{count}{code}"
        self._handle.seek(offset)
        data = self._handle.read(struct.calcsize(form))
        return struct.unpack(form, data) if len(data) == struct.calcsize(form) else ()

    def _entries(self, offset: int) -> tuple[bytes, int]:
        """The entries of the page at ``offset``, and where they end; what is cut off is somebody else's business."""
        layout = self._layout
        self._handle.seek(offset)
        word = self._handle.read(layout.tagnosize)
        count = struct.unpack(layout.tagnoformat, word)[0] if len(word) == layout.tagnosize else 0
        begin = offset + layout.tagnosize
        size = min(count * layout.tagsize, max(0, self._handle.size - begin))
        return self._handle.read(size), begin + count * layout.tagsize

    def chain(self, most: int | None) -> list[int]:
        """Offsets of pages in their order, at most so many; a chain that bites its tail ends there."""
        layout = self._layout
        found: list[int] = []
        word = self._numbers(
            8 if layout.offsetsize == 8 and layout.version == 43 else 4, layout.offsetformat[1:]
        )
        while word and word[0] and word[0] not in self._seen and (most is None or len(found) < most):
            self._seen.add(word[0])
            found.append(word[0])
            word = self._numbers(self._entries(word[0])[1], layout.offsetformat[1:])
        return found

    def check(self, offset: int, number: int) -> list[int]:
        """Look at one page; offsets of those below it that were not looked at."""
        layout = self._layout
        data, _ = self._entries(offset)
        begin = offset + layout.tagnosize
        below: tuple[int, ...] = ()
        for place in range(0, len(data) - layout.tagsize + 1, layout.tagsize):
            tag, kind = struct.unpack_from(layout.tagformat1, data, place)
            if (tag not in _LENGTHS and tag != _SUBPAGES) or kind not in _FORMATS:
                continue
            code = _FORMATS[kind]
            count = struct.unpack_from(layout.tagformat2, data, place + 4)[0]
            value = begin + place + layout.tagsize - layout.tagoffsetthreshold
            if count * struct.calcsize(code) > layout.tagoffsetthreshold:
                value = (self._numbers(value, layout.offsetformat[1:]) or (0,))[0]
            if tag == _SUBPAGES:
                below = self._numbers(value, code, min(count, self._handle.size))
            elif (length := self._numbers(value, code)) and length[0] < 1:
                raise SourceError(
                    f"{self._path}: page {number} has a {_LENGTHS[tag]} of {length[0]}",
                    hint=DAMAGED,
                    path=str(self._path),
                    page=number,
                )
        new = set(below) - self._seen
        self._seen |= new
        return sorted(new)
