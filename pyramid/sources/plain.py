"""Files whose pixels lie as one plain block of bytes: ``.npy``, and uncompressed contiguous TIFF.

Read by position (``pread``), not memory-mapped: mapped pages would count as memory of the process, and a file
that shrinks under a map kills it. Nothing but the asked box is read either way.
"""

from __future__ import annotations

import io
import math
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.model import Box
from octree.pyramid.sources.protocol import Facts

_BAND_BYTES = 4 << 20
_HEADER_BYTES = 1 << 16  # of .npy: numpy's own are of some hundred bytes
_NEAR_BYTES = 4 << 10  # a page, which the system reads as a whole anyway


class Positioned(Protocol):
    """Bytes by position, from any thread. ``path`` is what users call the file."""

    path: Any
    size_bytes: int

    def read_at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``. Raises SourceError when the file ends before."""
        ...

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` (bytes) from ``offset``. Raises SourceError when the file ends before."""

    def identity(self) -> dict[str, Any]:
        """JSON-able facts that change when the file does."""
        ...

    def close(self) -> None: ...


class PositionedFile:
    """A file read at given offsets from any thread. The descriptor is opened once and closed by ``close``."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError as error:
            raise SourceNotFound(f"there is no file {self.path}", path=str(self.path)) from error
        except OSError as error:
            raise SourceError(
                f"{self.path} cannot be opened: {error.strerror}", path=str(self.path)
            ) from error
        self._lock = threading.Lock()
        self.size_bytes = os.fstat(self._fd).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``. Raises SourceError when the file ends before."""
        if offset + count > self.size_bytes:  # a damaged header may ask for more than memory holds
            raise self._too_short(offset, count, max(0, self.size_bytes - offset))
        data = self._pread(count, offset)
        if len(data) < count:  # a signal or a network file system may give less than asked
            parts = [data]
            while parts[-1] and (missing := count - sum(map(len, parts))) > 0:
                parts.append(self._pread(missing, offset + count - missing))
            data = b"".join(parts)
        if len(data) != count:
            raise self._too_short(offset, count, len(data))
        return data

    def _too_short(self, offset: int, count: int, there: int) -> SourceError:
        return SourceError(
            f"{self.path} ends too early: {count} bytes wanted at offset {offset}, {there} there",
            hint="the file is truncated; copy it again",
            path=str(self.path),
            offset=offset,
        )

    def _pread(self, count: int, offset: int) -> bytes:
        try:
            if hasattr(os, "pread"):
                return os.pread(self._fd, count, offset)
            with self._lock:  # Windows has no pread
                os.lseek(self._fd, offset, os.SEEK_SET)
                return os.read(self._fd, count)
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error.strerror}", path=str(self.path)) from error

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` (bytes) from ``offset``. Raises SourceError when the file ends before."""
        if hasattr(os, "preadv"):
            try:
                if os.preadv(self._fd, [view], offset) == len(view):
                    return
            except OSError as error:
                raise SourceError(
                    f"{self.path} cannot be read: {error.strerror}", path=str(self.path)
                ) from error
        view[:] = self.read_at(offset, len(view))

    def identity(self) -> dict[str, Any]:
        facts = os.fstat(self._fd)
        return {"path": str(self.path.absolute()), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class RawFileArray:
    """An array in C order from byte ``offset`` of a file; ``dtype`` is as stored, in either byte order."""

    def __init__(
        self,
        file: Positioned,
        offset: int,
        shape: tuple[int, ...],
        stored: np.dtype[Any],
        *,
        engine: str,
        facts: Facts | None = None,
        reversed_axes: bool = False,
    ) -> None:
        self._file, self._offset, self._stored = file, offset, stored
        self._c_shape = shape[::-1] if reversed_axes else shape
        self._reversed = reversed_axes
        self.shape, self.engine, self.facts = shape, engine, facts or Facts(codec="none")
        self.dtype = stored.newbyteorder("=")
        self.held_bytes = 0
        if any(n < 0 for n in shape):
            raise SourceError(
                f"{file.path} says that its shape is {shape}, which no array has",
                hint="the file is damaged; copy it again, or write it anew",
                path=str(file.path),
            )
        needed = offset + math.prod(shape) * stored.itemsize
        if needed > file.size_bytes:
            raise SourceError(
                f"{file.path} is truncated: {needed} bytes promised by its header, {file.size_bytes} there",
                hint="copy the file again, or write it anew",
                path=str(file.path),
            )

    @property
    def block(self) -> tuple[int, ...]:
        """What lies together, up to about 4 MiB: whole rows, then whole planes."""
        left, edges = max(1, _BAND_BYTES // self._stored.itemsize), []
        for length in reversed(self._c_shape):
            edges.append(max(1, min(length, left)))
            left //= length
        edges[0] = self._c_shape[-1]
        return tuple(edges) if self._reversed else tuple(reversed(edges))

    def read(self, box: Box) -> NDArray[Any]:
        start, stop = (box.start[::-1], box.stop[::-1]) if self._reversed else (box.start, box.stop)
        out = np.empty([b - a for a, b in zip(start, stop, strict=True)], self._stored)
        self._fill(out, start)
        out = out.astype(self.dtype, copy=False)
        return out.T if self._reversed else out

    def _fill(self, out: NDArray[Any], start: tuple[int, ...]) -> None:
        lead, count, length, stride = self._pieces(out.shape)
        strides = [math.prod(self._c_shape[i + 1 :]) * self._stored.itemsize for i in range(len(out.shape))]
        offsets = np.full((), self._offset, np.int64)
        for first, number, step in zip(start, out.shape[:lead], strides, strict=False):
            offsets = offsets[..., np.newaxis] + (first + np.arange(number)) * step
        offsets = offsets + sum(a * s for a, s in zip(start[lead:], strides[lead:], strict=True))
        pieces = out.reshape(-1).view(np.uint8).reshape(-1, count, length)
        for piece, offset in zip(pieces, offsets.ravel().tolist(), strict=True):
            self._fill_rows(piece, offset, stride)

    def _pieces(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """How a box of ``shape`` (C order) lies in the file: for each place on the first so many axes there is a piece
        of so many rows, each of so many bytes, which begin every so many bytes."""
        # the longest tail of axes that is taken whole is one run of bytes in the file
        run = len(shape) - 1
        while run > 0 and shape[run] == self._c_shape[run]:
            run -= 1
        length = math.prod(shape[run:]) * self._stored.itemsize
        stride = math.prod(self._c_shape[run:]) * self._stored.itemsize
        # rows that lie near each other are read together, with what lies between
        if run > 0 and stride - length < _NEAR_BYTES:
            return run - 1, shape[run - 1], length, stride
        return run, 1, length, length

    def _fill_rows(self, rows: NDArray[np.uint8], offset: int, stride: int) -> None:
        """Bytes of rows that begin every ``stride`` bytes of the file, through a buffer where there is a gap."""
        count, length = rows.shape
        if stride == length:
            self._file.read_into(rows.reshape(-1).data, offset)
            return
        at_once = max(1, (_BAND_BYTES - length) // stride + 1)
        for first in range(0, count, at_once):
            part = rows[first : first + at_once]
            data = self._file.read_at(offset + first * stride, (len(part) - 1) * stride + length)
            part[...] = np.ndarray(part.shape, np.uint8, data, strides=(stride, 1))

    def transient_bytes(self, box: Box) -> int:
        """Another byte order is a copy; rows with gaps between come through a buffer."""
        swapped = 0 if self._stored.isnative else math.prod(box.shape) * self.dtype.itemsize
        _, count, length, stride = self._pieces(box.shape[::-1] if self._reversed else box.shape)
        gaps = stride > length
        return swapped + (min(_BAND_BYTES, (count - 1) * stride + length) if gaps else 0)

    def identity(self) -> dict[str, Any]:
        return self._file.identity()

    def close(self) -> None:
        self._file.close()


def open_npy(path: Path) -> RawFileArray:
    """A ``.npy`` file, C or Fortran order, either byte order. Raises SourceError for anything else."""
    try:
        with path.open("rb") as stream:
            shape, fortran, dtype = npy_header(stream)
            offset = stream.tell()
    except Exception as error:  # a damaged header is parsed as Python and may fail in any way
        raise SourceError(
            f"{path} is not a .npy file: {error}", hint="write it with numpy.save", path=str(path)
        ) from error
    if dtype.hasobject:
        raise SourceError(
            f"{path} holds Python objects, not numbers", hint="save it with a numeric dtype", path=str(path)
        )
    file = PositionedFile(path)
    try:
        return RawFileArray(file, offset, shape, dtype, engine="npy", reversed_axes=fortran)
    except BaseException:
        file.close()
        raise


def npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, "in Fortran order" and dtype, as ``stream`` says from its beginning; it is then at the first value.

    Raises whatever a damaged header leads to: it is a Python expression.
    """
    from numpy.lib import format as npy

    head = stream.read(12)
    version = npy.read_magic(io.BytesIO(head))
    # version 3 is version 2 with a UTF-8 header, which matters to names of fields only
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    readers[3, 0] = readers[2, 0]
    if version not in readers:
        raise ValueError(f"version {version[0]}.{version[1]} of the format is not known")
    long = version != (1, 0)
    length = int.from_bytes(head[8:12] if long else head[8:10], "little")
    if length > _HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    begun = head[8:] if long else head[8:12]
    rest = stream.read(length - (0 if long else 2)) if length > 2 else b""
    shape, fortran, dtype = readers[version](io.BytesIO(begun + rest))
    if any(n < 0 for n in shape):
        raise ValueError(f"a negative length in shape {shape}")
    return shape, fortran, dtype
