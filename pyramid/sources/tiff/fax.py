"""Fax codes (CCITT) that break off: the decoder stops at the first code that is none, and leaves the rest blank."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from octree.pyramid.confined import Confined, Make
from octree.pyramid.deadline import open_timeout_s
from octree.pyramid.sources.plain import Positioned, PositionedFile

FAX = {2, 3, 4}
AT_ONCE_BYTES = 64 << 20
"""What counting may take in this process."""
_END = bytes(16)
_MOST_PAGES = 9
"""Counting holds so many times the pixels of a segment at most."""


class FaxRows:
    """Counts the rows that segments of one page's kind hold. Any thread."""

    def __init__(self, page: Any) -> None:
        self._compression, self._reversed = int(page.compression), int(page.fillorder) == 2
        options = page.tags.get(292)
        self._options = int(options.value) if options is not None else 0

    def fewer_than(self, rows: NDArray[Any], file: Positioned, offset: int, data: bytes) -> int | None:
        """How many rows the codes ``data`` (of ``file`` at ``offset``) hold, when that is less than ``rows``, (height,
        width), decoded from them; None when they are all there. Raises ConfinedFailure."""
        height, width = rows.shape
        if height == 0 or rows[-1].any():
            return None  # the decoder came to the last one
        how = (width, height, self._compression, self._options, self._reversed)
        if _MOST_PAGES * height * width <= AT_ONCE_BYTES:
            found = _count(data, *how)
        else:
            found = _confined(file, offset, len(data), *how)
        return found if found < height else None


def _confined(file: Positioned, offset: int, count: int, *how: Any) -> int:
    process = Confined()
    try:
        facts, _ = process.call(
            "octree.pyramid.sources.tiff.fax:count_rows",
            str(file.path),
            offset,
            count,
            *how,
            room_bytes=AT_ONCE_BYTES + _MOST_PAGES * how[0] * how[1],
            deadline_s=open_timeout_s(),
        )
        return int(facts)
    finally:
        process.close()


def count_rows(make: Make, path: str, offset: int, count: int, *how: Any) -> tuple[int, None]:
    """In a confined process: of ``count`` bytes of the file at ``path``."""
    file = PositionedFile(path)
    try:
        return _count(file.read_at(offset, count), *how), None
    finally:
        file.close()


def _count(data: bytes, width: int, height: int, compression: int, options: int, turned: bool) -> int:
    """Rows in ``data``, counted to ``height`` or a little more.

    A row may be of a single bit, and the decoder makes room for all that it finds: it is given so much more at a time. It
    finds no end in codes that end with ones: zeros, which are no code, are one.
    """
    import imagecodecs

    if turned:
        data = bytes(imagecodecs.bitorder_decode(data))
    decode, more = imagecodecs.ccittfax4_decode, dict[str, Any]()
    if compression == 2:
        decode = imagecodecs.ccittrle_decode
    elif compression == 3:
        decode, more = imagecodecs.ccittfax3_decode, {"t4options": options}
    rows, step = 0, max(256, height)
    for end in range(step, len(data) + step, step):
        rows = len(decode(data[:end] + _END, 0, width, **more))
        if rows >= height:
            break
    return rows
