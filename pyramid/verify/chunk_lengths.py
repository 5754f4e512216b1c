"""Is a chunk's file as long as its own headers say? Told from a few bytes, without decoding.

A file that was cut short is found among a million without reading them all. Only the three kinds of which the
length is known: zstd frames, blosc buffers, and no compression at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import BinaryIO

from octree.pyramid.store.zarr_meta import ArrayMeta

Opener = Callable[[], BinaryIO]
"""Opens a value for reading its bytes from any place."""
_ZSTD_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A50
_DICTIONARY_BYTES = (0, 1, 2, 4)
_CONTENT_BYTES = (0, 2, 4, 8)


def wrong_length(open_value: Opener, size: int, meta: ArrayMeta) -> str | None:
    """What is wrong with the length of a chunk's value; None when nothing is, or it cannot be told."""
    if meta.frame == "none":
        wanted: int | None = math.prod(meta.chunks) * meta.dtype.itemsize
    elif meta.frame in ("zstd", "blosc"):
        with open_value() as stream:
            wanted = (
                _zstd_length(stream, size - meta.checksum_bytes)
                if meta.frame == "zstd"
                else _blosc_length(stream)
            )
    else:
        return None
    if wanted is not None:
        wanted += meta.checksum_bytes
    if wanted is None:
        return f"the {size} bytes are no whole {meta.frame} frame"
    return None if wanted == size else f"{size} bytes, where its header promises {wanted}"


def _blosc_length(stream: BinaryIO) -> int | None:
    header = stream.read(16)
    return int.from_bytes(header[12:16], "little") if len(header) == 16 else None


def _zstd_length(stream: BinaryIO, size: int) -> int | None:
    """Length of the frames in ``stream``, from the headers of their blocks; None when one is cut or is none."""
    place = 0
    while place < size:
        stream.seek(place)
        head = stream.read(8)
        magic = int.from_bytes(head[:4], "little")
        if magic & ~0xF == _SKIPPABLE:
            place += 8 + int.from_bytes(head[4:8], "little")
            continue
        if magic != _ZSTD_MAGIC or len(head) < 6:
            return None
        flags = head[4]
        single = bool(flags & 0x20)
        content = _CONTENT_BYTES[flags >> 6] or int(single)
        place += 5 + (not single) + _DICTIONARY_BYTES[flags & 3] + content
        last = False
        while not last:
            stream.seek(place)
            block = stream.read(3)
            if len(block) < 3:
                return None
            word = int.from_bytes(block, "little")
            last, kind, length = bool(word & 1), (word >> 1) & 3, word >> 3
            if kind == 3:  # reserved
                return None
            place += 3 + (1 if kind == 1 else length)
        place += 4 if flags & 4 else 0
    return place
