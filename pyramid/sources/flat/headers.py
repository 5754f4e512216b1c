"""Flat formats that are known from their own headers, since Pillow would change their values or not read them at all:
JPEG 2000 of other than 8 bits, Radiance, and textures of halves (BC6H). Nothing is decoded here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from octree.pyramid.errors import SourceError
from octree.pyramid.limits import Limits
from octree.pyramid.sources.flat.look import Look

_JP2 = b"\0\0\0\x0cjP  "
_CODESTREAM = b"\xff\x4f\xff\x51"
_RADIANCE = (b"#?RADIANCE", b"#?RGBE")
_HALVES = (94, 95, 96)  # DXGI_FORMAT_BC6H_*
_HEAD_BYTES = 1 << 16
_BOX_BYTES = 1 << 20  # of what is kept of one box: a palette has 1024 colours at most
_OPACITY = (1, 2)
_ENUMERATED_PLAIN = {None, 0, 16, 17}  # none or a profile, bilevel or not said, sRGB, grey
_MOST_BITS = 32
JPEG_2000_BYTES = 4
"""For each sample, while it is decoded."""


def look_at_header(path: Path, as_stored: bool, limits: Limits) -> Look | None:
    """What the header says of a format of this file's; None for any other. ``as_stored``: of a palette, the indices.

    Raises SourceError for what no library decodes exactly, LimitError.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        if head.startswith((_JP2, _CODESTREAM)):
            return _jpeg_2000(path, stream, as_stored, limits)
    if head.startswith(_RADIANCE):
        return _radiance(path, head, limits)
    if head[:4] == b"DDS " and head[84:88] == b"DX10" and struct.unpack_from("<I", head, 128)[0] in _HALVES:
        height, width = struct.unpack_from("<II", head, 12)
        limits.check_pixels(str(path), height, width)
        size = path.stat().st_size
        return Look((height, width, 3), "f2", "yxs", "imagecodecs", "bc6h", size, mode="dds")
    return None


def _refused(path: Path, why: str, hint: str) -> SourceError:
    return SourceError(f"{path} cannot be read exactly: {why}", hint=hint, path=str(path))


# JPEG 2000


@dataclass(frozen=True, slots=True)
class _Component:
    bits: int
    signed: bool
    steps: tuple[int, int]


@dataclass(slots=True)
class _Jpeg2000:
    """``palette``: bits and number of the columns of its table. ``opacity``: a channel is alpha."""

    height: int = 0
    width: int = 0
    components: list[_Component] = field(default_factory=list)
    palette: tuple[int, int] | None = None
    colour: int | None = None
    opacity: bool = False


def _jpeg_2000(path: Path, stream: BinaryIO, as_stored: bool, limits: Limits) -> Look | None:
    """None where Pillow gives the values as they are: whole samples of 8 bits, and colour spaces of such."""
    try:
        found = _read_jpeg_2000(stream)
    except struct.error as error:
        raise SourceError(
            f"{path} is cut off in its header", hint="the file is damaged; copy it again", path=str(path)
        ) from error
    limits.check_pixels(str(path), found.height, found.width)
    parts = found.components
    if found.palette is not None:
        bits, samples = (parts[0].bits, 1) if as_stored else found.palette
        return _look(
            path, found, _Component(bits, False, (1, 1)), samples, "jpeg2k-indices" if as_stored else ""
        )
    first, count = parts[0], len(parts)
    bytes_only = first.steps == (1, 1) and all((part.bits, part.signed) == (8, False) for part in parts)
    if bytes_only and (count in (1, 3, 4) or (count == 2 and found.opacity)):
        return None
    hint = "convert it with opj_decompress to TIFF, or each component to an image of its own"
    if any((part.bits, part.signed) != (first.bits, first.signed) for part in parts):
        raise _refused(path, "its components have different depths", hint)
    if any(part.steps != (1, 1) for part in parts):
        raise _refused(path, f"its {first.bits}-bit colours are stored at a lower resolution", hint)
    if found.colour not in _ENUMERATED_PLAIN:
        raise _refused(path, f"{first.bits}-bit samples of colour space {found.colour}", hint)
    if first.bits > _MOST_BITS:
        raise _refused(path, f"samples of {first.bits} bits", "at most 32 bits can be read")
    return _look(path, found, first, count, "")


def _look(path: Path, found: _Jpeg2000, part: _Component, samples: int, mode: str) -> Look:
    itemsize = 1 if part.bits <= 8 else 2 if part.bits <= 16 else 4
    plane = (found.height, found.width)
    ranged = samples in (3, 4) or (
        samples == 1 and part.bits < 8
    )  # greys of more bits are drawn by their contrast
    alpha = samples == 2 and found.opacity
    return Look(
        shape=plane if samples == 1 else (*plane, 4 if alpha else samples),
        dtype=f"{'i' if part.signed else 'u'}{itemsize}",
        axes="yx" if samples == 1 else "yxs",
        engine="imagecodecs",
        codec="jpeg2000",
        decoding_bytes=path.stat().st_size
        + found.height * found.width * JPEG_2000_BYTES * max(samples, len(found.components)),
        mode=mode or "jpeg2k",
        top=(1 << part.bits) - 1 if ranged and not part.signed and part.bits != 8 * itemsize else 0,
    )


def _read_jpeg_2000(stream: BinaryIO) -> _Jpeg2000:
    found = _Jpeg2000()
    stream.seek(0)
    if stream.read(4) == _CODESTREAM:
        _read_size(stream.read(_HEAD_BYTES), found)
        return found
    for kind, start, length in _boxes(stream, 0, None):
        if kind == b"jp2h":
            for inner, place, size in _boxes(stream, start, start + length):
                stream.seek(place)
                _read_box(inner, stream.read(min(size, _BOX_BYTES)), found)
        elif kind == b"jp2c":
            stream.seek(start + 4)
            _read_size(stream.read(_HEAD_BYTES), found)
            break
    if not found.components:
        raise struct.error("no codestream")
    return found


def codestream_of(data: bytes) -> bytes:
    """The JPEG 2000 codestream of a file, which has no palette."""
    place = data.find(_CODESTREAM)
    return data[max(0, place) :]


def _boxes(stream: BinaryIO, place: int, end: int | None) -> Iterator[tuple[bytes, int, int]]:
    """(kind, where its content begins, its length) of boxes one after the other."""
    while end is None or place + 8 <= end:
        stream.seek(place)
        head = stream.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        skip = 8
        if size == 1:
            size, skip = struct.unpack_from(">Q", head, 8)[0], 16
        elif size == 0:
            size = 1 << 62  # to the end of the file
        if size < skip:
            return
        yield kind, place + skip, size - skip
        place += size


def _read_size(data: bytes, found: _Jpeg2000) -> None:
    """The marker SIZ, behind its own four bytes."""
    right, bottom, left, top = struct.unpack_from(">4I", data, 4)
    (count,) = struct.unpack_from(">H", data, 36)
    if not 0 < count <= 16384:
        raise struct.error("components")
    found.height, found.width = max(0, bottom - top), max(0, right - left)
    for number in range(count):
        depth, across, down = struct.unpack_from(">BBB", data, 38 + 3 * number)
        found.components.append(_Component((depth & 0x7F) + 1, bool(depth & 0x80), (across, down)))


def _read_box(kind: bytes, data: bytes, found: _Jpeg2000) -> None:
    if kind == b"pclr":
        _, columns = struct.unpack_from(">HB", data)
        bits = max((depth & 0x7F) + 1 for depth in data[3 : 3 + columns])
        found.palette = bits, columns
    elif kind == b"colr" and data[:1] == b"\x01" and found.colour is None:
        (found.colour,) = struct.unpack_from(">I", data, 3)
    elif kind == b"cdef":
        (count,) = struct.unpack_from(">H", data)
        kinds = (struct.unpack_from(">HHH", data, 2 + 6 * number)[1] for number in range(count))
        found.opacity = any(kind in _OPACITY for kind in kinds)


# Radiance


def _radiance(path: Path, head: bytes, limits: Limits) -> Look:
    notes, _, rest = head.partition(b"\n\n")
    size = re.match(rb"-Y (\d{1,9}) \+X (\d{1,9})\n", rest)
    hint = "convert it with Radiance's pvalue, or ImageMagick: convert in.hdr out.pfm"
    if b"xyze" in notes.lower():
        raise _refused(path, "its colours are XYZ", hint)
    if not size:
        raise _refused(path, "its rows do not run from the top, left to right", hint)
    height, width = int(size[1]), int(size[2])
    limits.check_pixels(str(path), height, width)
    return Look((height, width, 3), "f4", "yxs", "imagecodecs", "rgbe", path.stat().st_size, mode="rgbe")
