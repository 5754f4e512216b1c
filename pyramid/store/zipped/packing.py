"""A folder as a new archive (RFC-9): stored, not compressed, ``zarr.json`` first and breadth first, sizes of 64 bits."""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from octree.pyramid.store.removal import MARKER

_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata")
PACKED = ".octree-packed"
"""The archive itself, while it is written into the folder that it is made of."""
_OURS = (PACKED, MARKER)
_VERSION, _UTF8 = 45, 1 << 11
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_DAY = 1 << 5 | 1
"""1980-01-01, of every value: the same folder is the same archive."""
_COPY_BYTES = 1 << 20


class _Packed(NamedTuple):
    name: bytes
    header: int
    size: int
    crc: int


def pack(folder: Path, stream: IO[bytes], comment: bytes = b"") -> int:
    """Write every file below ``folder``, but those of a build at work, into an archive, from the beginning of ``stream``, which is new and can seek; how many
    they are. Raises OSError; ValueError for what is neither file nor folder, and for a name that is no UTF-8 text."""
    entries = [_value(folder, name, stream) for name in sorted(_names(folder), key=_order)]
    _directory(entries, stream, comment)
    return len(entries)


def _names(folder: Path, at: str = "") -> Iterator[str]:
    """Of every file, with ``/``."""
    with os.scandir(folder) as inside:
        for each in inside:
            if each.is_dir(follow_symlinks=False):
                yield from _names(folder / each.name, f"{at}{each.name}/")
            elif each.is_file(follow_symlinks=False):
                if at or each.name not in _OURS:
                    yield at + each.name
            else:
                raise ValueError(f"{folder / each.name} is neither a file nor a folder")


def _order(name: str) -> tuple[bool, int, list[tuple[int, int | str]]]:
    """Metadata first, that of the root before that of what is in it; numbers by their size."""
    is_metadata = name.rpartition("/")[2] in _METADATA
    parts = [
        (0, int(word)) if word.isdecimal() else (1, word) for word in re.split(r"([0-9]+)", name) if word
    ]
    return not is_metadata, name.count("/") if is_metadata else 0, parts


def _value(folder: Path, name: str, stream: IO[bytes]) -> _Packed:
    """Append one value: its head is written when its checksum is known."""
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the name {name!r} is no text") from error
    header = stream.tell()
    stream.write(_head(raw, 0, 0))
    crc = size = 0
    with open(folder / name, "rb") as value:
        while data := value.read(_COPY_BYTES):
            crc = zlib.crc32(data, crc)
            size += len(data)
            stream.write(data)
    end = stream.tell()
    stream.seek(header)
    stream.write(_head(raw, size, crc))
    stream.seek(end)
    return _Packed(raw, header, size, crc)


def _head(name: bytes, size: int, crc: int) -> bytes:
    fixed = struct.pack(
        "<4sHHHHHIIIHH", b"PK\3\4", _VERSION, _UTF8, 0, 0, _DAY, crc, _MAX32, _MAX32, len(name), 20
    )
    return fixed + name + struct.pack("<HHQQ", 1, 16, size, size)


def _directory(entries: list[_Packed], stream: IO[bytes], comment: bytes) -> None:
    start = stream.tell()
    mode = (stat.S_IFREG | 0o644) << 16
    for name, header, size, crc in entries:
        fixed = struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 3 << 8 | _VERSION, _VERSION, _UTF8, 0, 0, _DAY, crc,
            _MAX32, _MAX32, len(name), 28, 0, 0, 0, mode, _MAX32,
        )  # fmt: skip
        stream.write(fixed + name + struct.pack("<HHQQQ", 1, 24, size, size, header))
    end, count = stream.tell(), len(entries)
    stream.write(
        struct.pack(
            "<4sQHHIIQQQQ", b"PK\6\6", 44, 3 << 8 | _VERSION, _VERSION, 0, 0, count, count, end - start, start
        )
    )
    stream.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
    stream.write(
        struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, _MAX16, _MAX16, _MAX32, _MAX32, len(comment)) + comment
    )
