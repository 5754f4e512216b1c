"""What a chunk decodes to, told from its codecs and its encoded bytes before a decoder is asked. Pure.

TensorStore takes from zstd, gzip, zlib and bz2 no more than a chunk holds. It makes room for whatever a blosc buffer
says, and the zarr library decodes all there is: a chunk of 100 KB may then take gigabytes.
"""

from __future__ import annotations

import bz2
import lzma
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from octree.pyramid.boxes import counts
from octree.pyramid.store.zarr_meta import ArrayMeta

_LZMA_BYTES = 256 << 20  # of its dictionary
_MORE = 8  # times a chunk's own bytes that filters may make of it, from bits to numbers of 8 bytes
_SLACK_BYTES = 1 << 16
_ENTRY_BYTES = 256  # of a shard's index, and heads of a chunk
_HEAD_BYTES = 16
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


class ChunkCodecs:
    """How much the chunks of one array may decode to, and do. Nothing here changes after it is made.

    ``all_codecs``: for a reader that bounds nothing itself; else only blosc is looked at. Raises ValueError for an array
    whose codecs nobody here knows: what they decode to cannot be bounded.

    ``packed``  is there a codec that must be asked?   ``most_stored_bytes``  of one file (shard, or chunk).
    """

    def __init__(self, meta: ArrayMeta, *, all_codecs: bool) -> None:
        self._chunk_bytes = math.prod(meta.chunks) * meta.dtype.itemsize
        steps = [(str(step["name"]).removeprefix("numcodecs."), step) for step in meta.codecs]
        self._steps = tuple(steps) if all_codecs else tuple(s for s in steps if s[0] == "blosc")
        if not all_codecs:
            # what lies around it is known to TensorStore, which has opened the array: checksums come after
            self._steps = tuple(s for s in steps if s[0] in {"blosc", *_CHECKSUMS}) if self._steps else ()
        names = [name for name, _ in self._steps]
        packers = [name for name in names if name in _MEASURES]
        unknown = [name for name in names if name not in {*_MEASURES, *_FILTERS, *_CHECKSUMS}]
        if unknown or len(packers) > 1:
            raise ValueError(
                f"its codecs {' + '.join(names)} are not among those that octree can bound: one of "
                f"{', '.join(sorted(_MEASURES))}, and filters of numbers"
            )
        self.packed = bool(packers)
        # a checksum behind the data leaves their head where it is
        before = [name for name, step in self._steps if name in _CHECKSUMS and _comes_first(name, step)]
        self._head = _HEADS.get(packers[0]) if packers and not before else None
        filtered = any(name in _FILTERS - {"bytes", "endian", "transpose"} for name in names)
        self._most = self._chunk_bytes * (_MORE if filtered else 1) + (_SLACK_BYTES if filtered else 0)
        unit = math.prod(meta.shards) * meta.dtype.itemsize if meta.shards else self._chunk_bytes
        chunks = math.prod(counts(meta.shards or meta.chunks, meta.chunks))
        # what cannot be packed grows a little, by heads and tables
        self.most_stored_bytes = 2 * unit * (_MORE if filtered else 1) + chunks * _ENTRY_BYTES + _SLACK_BYTES

    def check(self, length: int, read: Callable[[int], bytes]) -> None:
        """Raises ValueError for a chunk of ``length`` encoded bytes that decodes to more than it should. ``read`` gives so
        many of them from the first."""
        if length > 2 * self._most + _SLACK_BYTES:
            raise ValueError(f"{length} encoded bytes, for a chunk of {self._chunk_bytes}")
        size = self._head(read(_HEAD_BYTES)) if self._head else self._measured(read(length))
        if size > self._most:
            name = next(name for name, _ in self._steps if name in _MEASURES)
            raise ValueError(f"its {name} data decode to more than the {self._chunk_bytes} bytes of a chunk")

    def _measured(self, data: bytes) -> int:
        for name, step in reversed(self._steps):
            if name in _MEASURES:
                return _MEASURES[name](data, self._most, step.get("configuration") or {})
            data = _without_checksum(name, step, data)
        return 0


def _comes_first(name: str, step: Mapping[str, Any]) -> bool:
    default = "start" if name in ("crc32", "adler32") else "end"
    return bool((step.get("configuration") or {}).get("location", default) == "start")


def _without_checksum(name: str, step: Mapping[str, Any], data: bytes) -> bytes:
    """What is under a checksum; filters outside of what packs are not known to anybody."""
    if name not in _CHECKSUMS:
        raise ValueError(f"the filter {name} comes after what packs the data")
    return data[4:] if _comes_first(name, step) else data[:-4]


def _blosc_head(head: bytes) -> int:
    return int.from_bytes(head[4:8], "little")


def _lz4_head(head: bytes) -> int:
    return int.from_bytes(head[:4], "little")


def _by_head(head: Callable[[bytes], int]) -> Callable[[bytes, int, Mapping[str, Any]], int]:
    return lambda data, most, options: head(data[:_HEAD_BYTES])


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
