"""The directory of a ZIP archive: which values it holds, and where. Pure: whoever has the bytes hands over those that are asked
for.

An archive may come from anybody. Names that lead out, entries that lie over each other or beyond the end, the same name
twice: such archives are refused as a whole, before anything of them is read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Generator
from typing import NamedTuple

TAIL_BYTES = 128 * 2**10
"""What is asked for first: the end of the archive, which in archives of up to some thousand values holds all of the directory."""
_MOST_BYTES = 512 * 2**20
"""Of a directory: some five million values."""
_END, _END64, _LOCATOR, _ENTRY, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_END_BYTES, _END64_BYTES, _LOCATOR_BYTES, _ENTRY_BYTES = 22, 56, 20, 46
LOCAL_BYTES = 30
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_LOCAL64_BYTES = 20
"""Of two long sizes in the head of an entry."""
_SEEKLESS = 1 << 3
"""Flag of entries whose sizes come after their data."""
STORED, DEFLATED = 0, 8

Need = tuple[int, int]
"""Start and stop of bytes of the archive that are wanted."""


class BadArchive(ValueError):
    """What is wrong with an archive, in words."""


class Entry(NamedTuple):
    """One value. ``header`` is where its head begins, ``data`` where its bytes do, as far as the directory tells: else -1.
    ``stored`` bytes decode to ``size``."""

    header: int
    data: int
    stored: int
    size: int
    crc: int
    method: int
    encrypted: bool


class Directory(NamedTuple):
    """``entries`` by name, without folders; ``comment`` of the archive."""

    entries: dict[str, Entry]
    comment: bytes


def read_directory(size: int, tail: bytes) -> Generator[Need, bytes, Directory]:
    """The directory of an archive of ``size`` bytes, of which the last ``TAIL_BYTES`` are given. Yields what it needs to see
    besides, twice at most; to be sent these bytes. Raises BadArchive."""
    start = max(0, size - TAIL_BYTES)
    if len(tail) < size - start:
        raise BadArchive("its end cannot be read")
    at = _end_of(tail)
    disk, disk_of, here, count, length, offset, comment_bytes = struct.unpack_from("<HHHHIIH", tail, at + 4)
    comment, before = tail[at + _END_BYTES : at + _END_BYTES + comment_bytes], start + at
    if _MAX16 in (disk, here, count) or _MAX32 in (length, offset):
        locator = tail[at - _LOCATOR_BYTES : at] if at >= _LOCATOR_BYTES else b""
        if locator[:4] == _LOCATOR:
            (begin,) = struct.unpack_from("<Q", locator, 8)
            if begin + _END64_BYTES > before - _LOCATOR_BYTES:
                raise BadArchive("the end of its directory is said to lie beyond the end")
            record = (
                tail[begin - start :][:_END64_BYTES]
                if begin >= start
                else (yield begin, begin + _END64_BYTES)
            )
            if record[:4] != _END64 or len(record) < _END64_BYTES:
                raise BadArchive("the end of its directory is damaged")
            disk, disk_of, here, count, length, offset = struct.unpack_from("<IIQQQQ", record, 16)
            before = begin
    if disk or disk_of or here != count:
        raise BadArchive("it is one part of several")
    if offset + length > before:
        raise BadArchive(
            "its directory is said to lie beyond the end: the archive is cut short, or has something before it"
        )
    if length > _MOST_BYTES or count * _ENTRY_BYTES > length:
        raise BadArchive(f"its directory of {count} entries in {length} bytes cannot be")
    held = tail[offset - start :][:length] if offset >= start else (yield offset, offset + length)
    if len(held) < length:
        raise BadArchive("its directory cannot be read")
    return Directory(_entries(held, count, offset), comment)


def _end_of(tail: bytes) -> int:
    """Where the last record begins, behind which comes a comment and nothing else."""
    at = len(tail)
    while (at := tail.rfind(_END, 0, at)) >= 0:
        if at + _END_BYTES <= len(tail):
            (comment,) = struct.unpack_from("<H", tail, at + 20)
            if at + _END_BYTES + comment == len(tail):
                return at
    raise BadArchive("the directory at its end is missing: it is cut short, or no ZIP archive")


def _entries(held: bytes, count: int, end: int) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    extents: list[_Extent] = []
    at = 0
    for _ in range(count):
        if held[at : at + 4] != _ENTRY or at + _ENTRY_BYTES > len(held):
            raise BadArchive("its directory is damaged")
        version, flags, method = struct.unpack_from("<HHH", held, at + 6)
        crc, stored, size, name_bytes, extra_bytes, comment_bytes = struct.unpack_from(
            "<IIIHHH", held, at + 16
        )
        (header,) = struct.unpack_from("<I", held, at + 42)
        name_at, extra_at = at + _ENTRY_BYTES, at + _ENTRY_BYTES + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        if at > len(held):
            raise BadArchive("its directory is damaged")
        if _MAX32 in (stored, size, header):
            size, stored, header = _long(held[extra_at : extra_at + extra_bytes], size, stored, header)
        raw = held[name_at:extra_at]
        name = _checked_name(raw, flags)
        stop = header + LOCAL_BYTES + name_bytes + stored
        surplus = None if flags & _SEEKLESS else (0, _LOCAL64_BYTES) if version >= 45 else (0,)
        extents.append(_Extent(header, stop, name, surplus))
        if name.endswith("/"):
            continue
        if name in found:
            raise BadArchive(f"it holds {name!r} twice")
        if method == STORED and stored != size:
            raise BadArchive(f"the sizes of {name!r} contradict each other")
        found[name] = Entry(header, -1, stored, size, crc, method, bool(flags & 1))
    extents.sort()
    following = [extent.header for extent in extents[1:]] + [end]
    for extent, after in zip(extents, following, strict=True):
        gap = after - extent.stop
        if gap < 0:
            raise BadArchive(f"{extent.name!r} lies over what follows it: it is damaged, or made to deceive")
        if gap in (extent.surplus or ()) and extent.name in found:
            entry = found[extent.name]
            found[extent.name] = entry._replace(data=after - entry.stored)
    return found


class _Extent(NamedTuple):
    """From where to where an entry reaches, at least. ``surplus``: bytes between that and the next entry of which it is known
    what they are, a longer head; None when no length says so."""

    header: int
    stop: int
    name: str
    surplus: tuple[int, ...] | None


def _long(extra: bytes, size: int, stored: int, header: int) -> tuple[int, int, int]:
    """The numbers that need more than 32 bits."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            body, numbers, taken = extra[at + 4 : at + 4 + length], [size, stored, header], 0
            for place, number in enumerate(numbers):
                if number == _MAX32:
                    if taken + 8 > len(body):
                        break
                    (numbers[place],) = struct.unpack_from("<Q", body, taken)
                    taken += 8
            else:
                return numbers[0], numbers[1], numbers[2]
            break
        at += 4 + length
    raise BadArchive("its directory is damaged: a long size is missing")


def _checked_name(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & 1 << 11 else "cp437")
    except UnicodeDecodeError as error:
        raise BadArchive(f"the name {raw!r} in it is no text") from error
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\\0]|^[A-Za-z]:", name):
        raise BadArchive(f"it holds {name!r}, a name that leads out of it")
    return name


def data_start(entry: Entry, head: bytes) -> int:
    """Where the data of an entry begin, of the first 30 bytes of its head. Raises BadArchive."""
    if len(head) < LOCAL_BYTES or head[:4] != _LOCAL:
        raise BadArchive("the head of an entry is damaged")
    name_bytes, extra_bytes = struct.unpack_from("<HH", head, 26)
    return entry.header + LOCAL_BYTES + int(name_bytes) + int(extra_bytes)
