"""Bytes of a chunk to its voxels, for whoever reads the bytes himself. Pure.

No decoder makes more than a chunk holds: what says that it is more, or turns out to be, is refused.
"""

from __future__ import annotations

import bz2
import lzma
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from octree.pyramid.store.zarr_meta import ArrayMeta

Step = Callable[[Any], Any]
_MORE, _SLACK_BYTES = 8, 1 << 16
"""What filters may make of a chunk, times its own bytes and more."""
_LZMA_BYTES = 256 << 20  # of its dictionary


class UnknownCodec(ValueError):
    """A codec that is not decoded here; nothing is wrong with the data."""


class ChunkDecoder:
    """Decodes the chunks of one array. Nothing changes after it is made; any thread may ask.

    ``most_encoded_bytes``: a chunk of more encoded bytes is damaged. Raises UnknownCodec.
    """

    def __init__(self, meta: ArrayMeta) -> None:
        self._meta, self._bytes = meta, math.prod(meta.chunks) * meta.dtype.itemsize
        self._stored = meta.dtype.newbyteorder(">" if meta.big_endian else "<")
        names = [(_name(codec), codec.get("configuration") or {}) for codec in meta.codecs]
        if meta.big_endian and meta.zarr_format == 3 and any(name in _FILTERS for name, _ in names):
            raise UnknownCodec("filters of numbers whose highest byte comes first")
        arrays = [options for name, options in names if name == "transpose"]
        if any(name == "transpose" for name, _ in names[len(arrays) :]):
            raise UnknownCodec("transpose, after other codecs")
        order: Sequence[int] = range(len(meta.chunks))
        for options in arrays:
            order = [order[axis] for axis in _axes(options.get("order"), len(order))]
        if meta.order == "F":
            order = order[::-1]
        self._order = tuple(order)
        self._back = tuple(self._order.index(axis) for axis in range(len(self._order)))
        self._steps = _steps([each for each in names if each[0] not in ("transpose", "bytes")], self._bytes)
        self.most_encoded_bytes = 2 * _most(names, self._bytes) + _SLACK_BYTES

    def decode(self, data: Any) -> NDArray[Any]:
        """The voxels of a chunk of these encoded bytes (a buffer): native byte order, the shape of a whole chunk. May be
        read-only. Raises ValueError, saying what is wrong."""
        for step in self._steps:
            data = step(data)
        raw = np.frombuffer(data, np.uint8)
        if raw.size != self._bytes:
            raise ValueError(f"it decodes to {raw.size} bytes, not to the {self._bytes} of a chunk")
        chunks = self._meta.chunks
        if self._meta.dtype.kind == "b":
            voxels: NDArray[Any] = raw != 0
        else:
            voxels = raw.view(self._stored).astype(self._meta.dtype, copy=False)
        stored = voxels.reshape([chunks[axis] for axis in self._order])
        return stored.transpose(self._back)


def _name(codec: Mapping[str, Any]) -> str:
    return str(codec["name"]).removeprefix("numcodecs.")


def _axes(order: Any, count: int) -> list[int]:
    if order in ("C", "F"):
        return list(range(count))[:: 1 if order == "C" else -1]
    if not isinstance(order, list | tuple) or sorted(order) != list(range(count)):
        raise UnknownCodec(f"transpose with the order {order!r}")
    return list(order)


def _most(names: list[tuple[str, Mapping[str, Any]]], count: int) -> int:
    """Bytes that a chunk of ``count`` may have between its codecs."""
    filtered = any(name in _FILTERS for name, _ in names)
    checksums = sum(4 for name, _ in names if name in _CHECKSUMS or name == "fletcher32")
    return count * (_MORE if filtered else 1) + (_SLACK_BYTES if filtered else 0) + checksums


def _steps(names: list[tuple[str, Mapping[str, Any]]], count: int) -> tuple[Step, ...]:
    """What undoes the codecs, the last one first. Raises UnknownCodec."""
    found: list[Step] = []
    for number, (name, options) in enumerate(names):
        if name in _UNPACKERS:
            found.append(_bounded(name, options, _most(names[:number], count)))
        elif name in _CHECKSUMS:
            found.append(_checked(name, options))
        elif name in _FILTERS or name == "fletcher32":
            found.append(_filter(name, options))
        else:
            raise UnknownCodec(name)
    return tuple(reversed(found))


def _bounded(name: str, options: Mapping[str, Any], most: int) -> Step:
    unpack = _UNPACKERS[name]
    return lambda data: unpack(data, most, options)


def _too_much(name: str, most: int) -> ValueError:
    return ValueError(f"its {name} data decode to more than the {most} bytes of a chunk")


def _zstd(data: Any, most: int, options: Mapping[str, Any]) -> Any:
    import imagecodecs

    room: Any = np.empty(most, np.uint8)
    try:
        return imagecodecs.zstd_decode(data, out=room)
    except imagecodecs.ZstdError as error:
        if "too small" in str(error):
            raise _too_much("zstd", most) from None
        raise ValueError(f"its zstd data are damaged: {_said(error)}") from None


def _blosc(data: Any, most: int, options: Mapping[str, Any]) -> Any:
    import imagecodecs

    head = bytes(memoryview(data)[:16])
    size, stored = (int.from_bytes(head[at : at + 4], "little") for at in (4, 12))
    if size > most:
        raise _too_much("blosc", most)
    if len(head) < 16 or stored != len(memoryview(data)):
        raise ValueError(f"its blosc data are cut short: {len(memoryview(data))} bytes of {stored}")
    try:
        return imagecodecs.blosc_decode(data, out=size)
    except imagecodecs.BloscError as error:
        raise ValueError(f"its blosc data are damaged: {_said(error)}") from None


def _lz4(data: Any, most: int, options: Mapping[str, Any]) -> Any:
    import imagecodecs

    size = int.from_bytes(bytes(memoryview(data)[:4]), "little")
    if size > most:
        raise _too_much("lz4", most)
    try:
        return imagecodecs.lz4_decode(data, header=True, out=size)
    except imagecodecs.Lz4Error as error:
        raise ValueError(f"its lz4 data are damaged: {_said(error)}") from None


def _gzip(data: Any, most: int, options: Mapping[str, Any]) -> Any:
    """gzip or zlib."""
    import imagecodecs

    quick = imagecodecs.zlib_decode if bytes(memoryview(data)[:2]) != b"\x1f\x8b" else imagecodecs.gzip_decode
    try:
        out = quick(data, out=most)
        if len(out) == most:
            return out
    except (imagecodecs.ZlibError, imagecodecs.GzipError, imagecodecs.DeflateError):
        pass  # several streams one after another, too much, or damage: looked at more closely
    return _streamed("gzip", lambda: zlib.decompressobj(47), data, most)


def _bz2(data: Any, most: int, options: Mapping[str, Any]) -> Any:
    return _streamed("bz2", bz2.BZ2Decompressor, data, most)


def _lzma(data: Any, most: int, options: Mapping[str, Any]) -> Any:
    def make() -> Any:
        if int(options.get("format", lzma.FORMAT_XZ)) == lzma.FORMAT_RAW:
            return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=options.get("filters"))
        return lzma.LZMADecompressor(memlimit=_LZMA_BYTES)

    return _streamed("lzma", make, data, most)


def _streamed(name: str, make: Callable[[], Any], data: Any, most: int) -> bytes:
    """What one stream after another decodes to."""
    parts, count, data = [], 0, bytes(data)
    try:
        while data:
            decoder = make()
            parts.append(decoder.decompress(data, most + 1 - count))
            count += len(parts[-1])
            if count > most:
                raise _too_much(name, most)
            if not decoder.eof:
                raise ValueError(f"its {name} data are cut short")
            data = decoder.unused_data
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"its {name} data are damaged: {_said(error)}") from None
    return b"".join(parts)


def _said(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


_UNPACKERS: Mapping[str, Callable[[Any, int, Mapping[str, Any]], Any]] = {
    "zstd": _zstd,
    "blosc": _blosc,
    "lz4": _lz4,
    "gzip": _gzip,
    "zlib": _gzip,
    "bz2": _bz2,
    "lzma": _lzma,
}


def _crc32c(data: bytes) -> int:
    return int(google_crc32c.value(data))


_CHECKSUMS: Mapping[str, Callable[[bytes], int]] = {
    "crc32c": _crc32c,
    "crc32": zlib.crc32,
    "adler32": zlib.adler32,
}


def _checked(name: str, options: Mapping[str, Any]) -> Step:
    sum_of = _CHECKSUMS[name]
    first = options.get("location", "start" if name in ("crc32", "adler32") else "end") == "start"

    def check(data: Any) -> Any:
        view = memoryview(data)
        inner, stored = (view[4:], view[:4]) if first else (view[:-4], view[-4:])
        if len(view) < 4 or sum_of(bytes(inner)) != int.from_bytes(stored, "little"):
            raise ValueError(f"its {name} checksum does not agree with its bytes")
        return inner

    return check


_FILTERS = {"delta", "fixedscaleoffset", "quantize", "bitround", "astype", "shuffle", "packbits"}


def _filter(name: str, options: Mapping[str, Any]) -> Step:
    import numcodecs

    try:
        codec = numcodecs.get_codec({**options, "id": name})
    except Exception as error:  # whatever it makes of settings that are wrong
        raise UnknownCodec(f"{name} ({_said(error)})") from error

    def undo(data: Any) -> Any:
        try:
            return np.ascontiguousarray(codec.decode(data)).reshape(-1).view(np.uint8)
        except Exception as error:
            raise ValueError(f"its {name} data are damaged: {_said(error)}") from None

    return undo
