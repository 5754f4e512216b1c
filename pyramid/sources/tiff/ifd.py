"""Single tags of single pages, read by position: from any thread, and without what tifffile makes of a page."""

from __future__ import annotations

import struct
from collections.abc import Container
from typing import Any

from octree.pyramid.sources.plain import Positioned

_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}


class Directories:
    """The directories of a TIFF whose ``layout`` is ``tiff.tiff`` of tifffile."""

    def __init__(self, file: Positioned, layout: Any) -> None:
        self._file, self._layout = file, layout

    def tags(self, offset: int, wanted: Container[int]) -> dict[int, tuple[int, ...]]:
        """Values of the ``wanted`` tags of whole numbers, of the page at ``offset``. Raises SourceError when it is cut off."""
        layout, read = self._layout, self._file.read_at
        (count,) = struct.unpack(layout.tagnoformat, read(offset, layout.tagnosize))
        begin = offset + layout.tagnosize
        data = read(begin, count * layout.tagsize)
        found = {}
        for place in range(0, len(data), layout.tagsize):
            tag, kind = struct.unpack_from(layout.tagformat1, data, place)
            if tag not in wanted or kind not in _CODES:
                continue
            number = struct.unpack_from(layout.tagformat2, data, place + 4)[0]
            form = f"{layout.byteorder}{number}{_CODES[kind]}"
            value = place + layout.tagsize - layout.tagoffsetthreshold
            if struct.calcsize(form) <= layout.tagoffsetthreshold:
                found[tag] = struct.unpack_from(form, data, value)
            else:
                (where,) = struct.unpack_from(layout.offsetformat, data, value)
                found[tag] = struct.unpack(form, read(where, struct.calcsize(form)))
        return found
