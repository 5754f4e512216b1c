"""Do a Zarr array's chunks decode to what its metadata promise? Asked before a decoder is, where that would not ask itself.

TensorStore takes from zstd, gzip, zlib and bz2 no more than a chunk holds. It makes room for whatever a blosc buffer
says, and the zarr library decodes all there is: a chunk of 100 KB may then take gigabytes.
"""

from __future__ import annotations

import bz2
import itertools
import lzma
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from octree.pyramid.model import Box
from octree.pyramid.store.zarr_meta import ArrayMeta

_LZMA_BYTES = 256 << 20  # of its dictionary
_ABSENT = (1 << 64) - 1
_MORE = 8  # times a chunk's own bytes that filters may make of it, from bits to numbers of 8 bytes
_SLACK_BYTES = 1 << 16
_ENTRY_BYTES = 256  # of a shard's index, and heads of a chunk
_CHECKSUMS = {"crc32", "crc32c", "adler32", "fletcher32"}
_FILTERS = {
    "bytes",
    "endian",
    "transpose",
    "delta",
    "fixedscaleoffset",
    "quantize",
    "bitround",
    "astype",
    "shuffle",
    "packbits",
}


class ChunkGuard:
    """Looks at the encoded chunks that a read will decode. Nothing here changes after it is made; any thread asks.

    ``all_codecs``: for a reader that bounds nothing itself; else only blosc is looked at. Raises ValueError for an array
    whose codecs nobody here knows: what they decode to cannot be bounded.
    """

    def __init__(self, folder: Path, meta: ArrayMeta, *, all_codecs: bool) -> None:
        self._meta = meta
        self._head = f"{folder}/" + (meta.key_prefix + meta.separator if meta.key_prefix else "")
        self._chunk_bytes = math.prod(meta.chunks) * meta.dtype.itemsize
        steps = [(str(step["name"]).removeprefix("numcodecs."), step) for step in meta.codecs]
        self._steps = tuple(steps) if all_codecs else tuple(s for s in steps if s[0] == "blosc")
        if not all_codecs:
            # what lies around it is known to TensorStore, which has opened the array: checksums come after
            self._steps = tuple(s for s in steps if s[0] in {"blosc", *_CHECKSUMS}) if self._steps else ()
        names = [name for name, _ in self._steps]
        self._packed = [name for name in names if name in _MEASURES]
        unknown = [name for name in names if name not in {*_MEASURES, *_FILTERS, *_CHECKSUMS}]
        if unknown or len(self._packed) > 1:
            raise ValueError(
                f"its codecs {' + '.join(names)} are not among those that octree can bound: one of "
                f"{', '.join(sorted(_MEASURES))}, and filters of numbers"
            )
        filtered = any(name in _FILTERS - {"bytes", "endian", "transpose"} for name in names)
        self._most = self._chunk_bytes * (_MORE if filtered else 1) + (_SLACK_BYTES if filtered else 0)

        unit = math.prod(meta.shards) * meta.dtype.itemsize if meta.shards else self._chunk_bytes
        pairs = zip(meta.shards or meta.chunks, meta.chunks, strict=True)
        self._chunks_in_file = math.prod(s // c for s, c in pairs)
        # what cannot be packed grows a little, by heads and tables
        self._most_stored = (
            2 * unit * (_MORE if filtered else 1) + self._chunks_in_file * _ENTRY_BYTES + _SLACK_BYTES
        )

    def check(self, box: Box) -> None:
        """Raises ValueError, naming the file, for a chunk that decodes to more than it should, or a file of more bytes than
        its chunks could take. About 2 µs a file, and 10 µs a chunk for codecs that do not bound themselves."""
        for path in self._files(box):
            try:
                size = os.stat(path).st_size
            except OSError:
                continue
            if size > self._most_stored:
                raise ValueError(f'{size} bytes are stored, far more than it takes (local file "{path}")')
        if not self._packed:
            return
        for path, place in self._places(box):
            try:
                fd = os.open(path, os.O_RDONLY)
            except OSError:
                continue  # not stored, or whoever reads it says what is wrong
            try:
                found = self._extent(fd, place)
                if found is not None:
                    self._check(fd, *found)
            except ValueError as error:
                raise ValueError(f'{error} (local file "{path}")') from None
            finally:
                os.close(fd)

    def _check(self, fd: int, offset: int, length: int) -> None:
        if length > 2 * self._most + _SLACK_BYTES:
            raise ValueError(f"{length} encoded bytes, for a chunk of {self._chunk_bytes}")
        name = self._packed[0]
        if name in _HEADS and not any(step in _CHECKSUMS for step, _ in self._steps):
            size = _HEADS[name](os.pread(fd, 16, offset))
        else:
            size = self._measured(os.pread(fd, length, offset))
        if size > self._most:
            raise ValueError(f"its {name} data decode to more than the {self._chunk_bytes} bytes of a chunk")

    def _measured(self, data: bytes) -> int:
        for name, step in reversed(self._steps):
            if name in _MEASURES:
                return _MEASURES[name](data, self._most, step.get("configuration") or {})
            data = _without_checksum(name, step, data)
        return 0

    def _files(self, box: Box) -> Iterator[str]:
        meta = self._meta
        unit = meta.shards or meta.chunks
        ranges = [range(a // u, -(-b // u)) for a, b, u in zip(box.start, box.stop, unit, strict=True)]
        for index in itertools.product(*ranges):
            yield self._head + meta.separator.join(map(str, index))

    def _places(self, box: Box) -> Iterator[tuple[str, int]]:
        """(file, number of the chunk in its shard) of every chunk that ``box`` meets."""
        meta = self._meta
        inner = [s // c for s, c in zip(meta.shards or meta.chunks, meta.chunks, strict=True)]
        ranges = [range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, meta.chunks, strict=True)]
        for index in itertools.product(*ranges):
            key = meta.separator.join(str(i // n) for i, n in zip(index, inner, strict=True))
            number = 0
            for i, n in zip(index, inner, strict=True):
                number = number * n + i % n
            yield self._head + key, number

    def _extent(self, fd: int, number: int) -> tuple[int, int] | None:
        """Where the encoded chunk lies in its file; None when it is not stored, or nobody here knows."""
        size = os.fstat(fd).st_size
        if not self._meta.shards:
            return 0, size
        if not self._meta.index_location:
            return None
        index_bytes = 16 * self._chunks_in_file + 4
        begin = 0 if self._meta.index_location == "start" else size - index_bytes
        entry = os.pread(fd, 16, begin + 16 * number) if begin >= 0 else b""
        offset, length = int.from_bytes(entry[:8], "little"), int.from_bytes(entry[8:], "little")
        if len(entry) < 16 or offset == _ABSENT or offset + length > size:
            return None  # not stored, or damaged, which the reader says
        return offset, length


def _without_checksum(name: str, step: Mapping[str, Any], data: bytes) -> bytes:
    """What is under a checksum; filters outside of what packs are not known to anybody."""
    if name not in _CHECKSUMS:
        raise ValueError(f"the filter {name} comes after what packs the data")
    options = step.get("configuration") or {}
    default = "start" if name in ("crc32", "adler32") else "end"
    return data[4:] if options.get("location", default) == "start" else data[:-4]


def _blosc_head(head: bytes) -> int:
    return int.from_bytes(head[4:8], "little")


def _lz4_head(head: bytes) -> int:
    return int.from_bytes(head[:4], "little")


def _by_head(head: Callable[[bytes], int]) -> Callable[[bytes, int, Mapping[str, Any]], int]:
    return lambda data, most, options: head(data[:16])


def _zstd(data: bytes, most: int, options: Mapping[str, Any]) -> int:
    import imagecodecs

    try:
        return len(imagecodecs.zstd_decode(data, out=most))
    except imagecodecs.ZstdError as error:
        return most + 1 if "too small" in str(error) else 0  # damaged otherwise, which the reader says


def _streams(make: Callable[[], Any], data: bytes, most: int) -> int:
    """Bytes that one stream after another decodes to; more than ``most`` is all the same."""
    count = 0
    try:
        while data and count <= most:
            decoder = make()
            count += len(decoder.decompress(data, most + 1 - count))
            if not decoder.eof:
                break
            data = decoder.unused_data
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        pass  # damaged, which the reader says
    return count


def _zlib(data: bytes, most: int, options: Mapping[str, Any]) -> int:
    return _streams(lambda: zlib.decompressobj(47), data, most)


def _bz2(data: bytes, most: int, options: Mapping[str, Any]) -> int:
    return _streams(bz2.BZ2Decompressor, data, most)


def _lzma(data: bytes, most: int, options: Mapping[str, Any]) -> int:
    form = int(options.get("format", lzma.FORMAT_XZ))
    if form == lzma.FORMAT_RAW:
        return _streams(
            lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=options.get("filters")), data, most
        )
    return _streams(lambda: lzma.LZMADecompressor(memlimit=_LZMA_BYTES), data, most)


_HEADS = {"blosc": _blosc_head, "lz4": _lz4_head}
_MEASURES: dict[str, Callable[[bytes, int, Mapping[str, Any]], int]] = {
    "blosc": _by_head(_blosc_head),
    "lz4": _by_head(_lz4_head),
    "zstd": _zstd,
    "gzip": _zlib,
    "zlib": _zlib,
    "bz2": _bz2,
    "lzma": _lzma,
}
