"""TIFF files in other stores than the file system, read by ranges of bytes: as a stream for tifffile, by position for tiles."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.sources.plain import Positioned, PositionedFile
from octree.pyramid.store.place import Place

_BLOCK_BYTES = 64 * 2**10
_MOST_BLOCK_BYTES = 2 * 2**20
_KEPT_BYTES = 16 * 2**20


class FarFile:
    """A file in a store, which answers what readers of TIFF ask of a path and of a ``PositionedFile``. Any thread may read.
    Owner of the blocks and pieces that are kept: this object, under its lock.

    Structure is read by blocks, which grow while one follows the other; pixels as they are asked for, several pieces together
    after ``prefetch``.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.path: Any = place
        stamp = place.stamp()
        if stamp is None:
            raise SourceNotFound(f"there is nothing at {place}", hint="check its spelling", path=str(place))
        self.size_bytes, self._changed = stamp.size, stamp.changed
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()  # by number
        self._pieces: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._next, self._step = -1, 1

    def __str__(self) -> str:
        return str(self._place)

    @property
    def name(self) -> str:
        return self._place.name

    def absolute(self) -> FarFile:
        return self

    def stat(self) -> Any:
        return SimpleNamespace(st_size=self.size_bytes, st_mtime_ns=self._changed)

    def close(self) -> None:
        with self._lock:
            self._blocks.clear()
            self._pieces.clear()
            self._kept_bytes = 0

    def read_at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``. Raises SourceError when the file ends before."""
        with self._lock:
            piece = self._pieces.pop((offset, count), None)
            if piece is not None:
                self._kept_bytes -= len(piece)
                return piece
        if offset + count > self.size_bytes:
            raise self._too_short(offset, count, max(0, self.size_bytes - offset))
        data = self._place.read(offset, offset + count) if count else b""
        if data is None or len(data) != count:
            raise self._too_short(offset, count, len(data or b""))
        return data

    def read_into(self, view: memoryview, offset: int) -> None:
        view[:] = self.read_at(offset, len(view))

    def identity(self) -> dict[str, Any]:
        return {"path": str(self), "size": self.size_bytes, "changed": self._changed}

    def _too_short(self, offset: int, count: int, there: int) -> SourceError:
        return SourceError(
            f"{self} ends too early: {count} bytes wanted at offset {offset}, {there} there",
            hint="the file is truncated, or changes while it is read",
            path=str(self),
            offset=offset,
        )

    def prefetch(self, spans: Sequence[tuple[int, int]]) -> None:
        """These (offset, count) are about to be read: at once, neighbours in one request, as far as there is room."""
        room = _KEPT_BYTES
        wanted = []
        for offset, count in spans:
            room -= count
            if room < 0:
                break
            if count > 0 and offset + count <= self.size_bytes:
                wanted.append((offset, count))
        if len(wanted) < 2:
            return
        parts = self._place.read_parts([(offset, offset + count) for offset, count in wanted])
        with self._lock:
            for span, data in zip(wanted, parts, strict=True):
                if len(data) == span[1] and span not in self._pieces:
                    self._pieces[span] = data
                    self._kept_bytes += len(data)
            while self._kept_bytes > _KEPT_BYTES and self._pieces:
                self._kept_bytes -= len(self._pieces.popitem(last=False)[1])

    def stream(self) -> Any:
        """For one reader at a time, who seeks about."""
        return _Stream(self)

    def read_blocks(self, start: int, stop: int) -> bytes:
        """Bytes from ``start`` to ``stop``, fewer where the file ends, by way of blocks that are kept."""
        stop = min(stop, self.size_bytes)
        if start >= stop:
            return b""
        first, last = start // _BLOCK_BYTES, (stop - 1) // _BLOCK_BYTES
        with self._lock:
            if any(number not in self._blocks for number in range(first, last + 1)):
                self._fetch(first, last)
            data = b"".join(self._blocks[number] for number in range(first, last + 1))
        return data[start - first * _BLOCK_BYTES : stop - first * _BLOCK_BYTES]

    def _fetch(self, first: int, last: int) -> None:
        self._step = min(2 * self._step, _MOST_BLOCK_BYTES // _BLOCK_BYTES) if first == self._next else 1
        stop = min(max(last, first + self._step - 1) * _BLOCK_BYTES + _BLOCK_BYTES, self.size_bytes)
        begin = first * _BLOCK_BYTES
        data = self._place.read(begin, stop)
        if data is None or len(data) != stop - begin:
            raise self._too_short(begin, stop - begin, len(data or b""))
        for at in range(0, len(data), _BLOCK_BYTES):
            self._blocks[first + at // _BLOCK_BYTES] = data[at : at + _BLOCK_BYTES]
        self._next = -(-stop // _BLOCK_BYTES)
        while len(self._blocks) * _BLOCK_BYTES > max(_KEPT_BYTES, 2 * len(data)):
            self._blocks.popitem(last=False)


FilePath = Path | FarFile
"""Where a TIFF is: in the file system, or in a store."""


def positioned(path: FilePath) -> Positioned:
    """Its bytes by position. Raises SourceError."""
    return path if isinstance(path, FarFile) else PositionedFile(path)


class _Stream(io.BufferedIOBase):
    def __init__(self, file: FarFile) -> None:
        self._file, self._at = file, 0
        self.name = file.name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._file.size_bytes if size is None or size < 0 else self._at + size
        data = self._file.read_blocks(self._at, stop)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)
