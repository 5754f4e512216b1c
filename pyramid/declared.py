"""What encoded pixels say that they decode to, read from their own headers before a decoder is asked. Pure.

A tile of 400 bytes can hold a JPEG whose header says 65500 x 65500 pixels, and its decoder would ask for 12 GiB.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

_SOI, _SOS = 0xD8, 0xDA
_NO_LENGTH = {0x01, *range(0xD0, 0xD8), _SOI}
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}  # tables among the markers SOF0 to SOF15
_JXL_SIZES = ((9, 1), (13, 1), (18, 1), (30, 1))
_JXL_PREVIEW = ((6, 1), (8, 65), (10, 321), (12, 1345))
_JXL_PREVIEW_8 = ((0, 16), (0, 32), (5, 1), (9, 33))
_JXL_HEAD_BYTES = 64
_JXL_BOXES = b"\0\0\0\x0cJXL "
_JXL_RATIOS = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def declared_pixels(data: bytes) -> int | None:
    """Height times width of the image that ``data`` begins with: JPEG, JPEG 2000, PNG, WebP, JPEG XL, JPEG XR or LERC
    (all its bands). None when it is none of these, or its header is cut."""
    for magic, read in _READERS:
        if data.startswith(magic):
            try:
                return read(data)
            except (struct.error, IndexError, ValueError):
                return None
    return None


def declared_frame(data: bytes) -> tuple[int, int, int] | None:
    """Height, width and samples of each pixel, of a JPEG, JPEG 2000 or PNG; None of any other, or when it is cut."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg_frame(data)
        if data.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")):
            return _jpeg_2000_frame(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height, _, kind = struct.unpack_from(">IIBB", data, 16)
            return height, width, {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(kind, 0)
    except (struct.error, IndexError, ValueError):
        pass
    return None


def _jpeg(data: bytes) -> int | None:
    frame = _jpeg_frame(data)
    return None if frame is None else frame[0] * frame[1]


def _jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            place += 1
            continue
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _NO_LENGTH or marker == 0:
            place += 2
        elif marker == _SOS:
            return None
        elif 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            height, width, samples = struct.unpack_from(">HHB", data, place + 5)
            return height, width, samples
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def _jpeg_2000(data: bytes) -> int | None:
    frame = _jpeg_2000_frame(data)
    return None if frame is None else frame[0] * frame[1]


def _jpeg_2000_frame(data: bytes) -> tuple[int, int, int] | None:
    place = data.find(b"\xff\x4f\xff\x51", 0, 1 << 16)
    if place < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, place + 8)
    (samples,) = struct.unpack_from(">H", data, place + 40)
    return max(0, bottom - top), max(0, right - left), samples


def _png(data: bytes) -> int:
    width, height = struct.unpack_from(">II", data, 16)
    return int(width * height)


def _webp(data: bytes) -> int | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[i : i + 3], "little") for i in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (n & 0x3FFF for n in struct.unpack_from("<HH", data, 26))
    else:
        return None
    return width * height


def is_animated(data: bytes) -> bool:
    """Is it a JPEG XL of frames one after another, each of which is decoded? Of the other formats one picture is."""
    stream = _jpeg_xl_stream(data)
    return stream is not None and _Bits(stream).skip_size().animated()


class _Bits:
    """The header of a JPEG XL codestream, read bit by bit; what is cut off is zeros."""

    def __init__(self, stream: bytes) -> None:
        self._bits = int.from_bytes(stream[2:_JXL_HEAD_BYTES], "little")

    def take(self, count: int) -> int:
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        return value

    def size(self) -> tuple[int, int]:
        """Height and width."""
        small = self.take(1)
        return self._sides(lambda: 8 * (1 + self.take(5)) if small else self._one_of(_JXL_SIZES))

    def skip_size(self) -> _Bits:
        self.size()
        return self

    def animated(self) -> bool:
        """What the image metadata say, which follow the size."""
        if self.take(1) or not self.take(1):  # all as usual, or no fields beyond the usual
            return False
        self.take(3)  # orientation
        if self.take(1):
            self.size()  # as it is meant to be shown
        if self.take(1):
            eighths = self.take(1)
            choices = _JXL_PREVIEW_8 if eighths else _JXL_PREVIEW
            self._sides(lambda: self._one_of(choices))
        return bool(self.take(1))

    def _sides(self, side: Callable[[], int]) -> tuple[int, int]:
        height = side()
        ratio = _JXL_RATIOS[self.take(3)]
        return height, height * ratio[0] // ratio[1] if ratio[1] else side()

    def _one_of(self, choices: tuple[tuple[int, int], ...]) -> int:
        """So many bits, and what is added to their number."""
        count, least = choices[self.take(2)]
        return least + self.take(count)


def _jpeg_xl_stream(data: bytes) -> bytes | None:
    """The beginning of the codestream, which boxes may hold in parts."""
    if data.startswith(b"\xff\x0a"):
        return data[:_JXL_HEAD_BYTES]
    if not data.startswith(_JXL_BOXES):
        return None
    place, parts = 0, b""
    while place + 8 <= len(data) and len(parts) < _JXL_HEAD_BYTES:
        size, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if size == 1 and place + 16 <= len(data):
            size, head = struct.unpack_from(">Q", data, place + 8)[0], 16
        size = size or len(data) - place  # of the last one
        if size < head:
            break
        if kind in (b"jxlc", b"jxlp"):
            parts += data[place + head + (4 if kind == b"jxlp" else 0) : place + size][:_JXL_HEAD_BYTES]
        place += size
    return parts[:_JXL_HEAD_BYTES] if parts.startswith(b"\xff\x0a") else None


def _jpeg_xl(data: bytes) -> int | None:
    stream = _jpeg_xl_stream(data)
    return None if stream is None else math.prod(_Bits(stream).size())


def _jpeg_xr(data: bytes) -> int | None:
    place = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, place)[0]
    sides = {}
    for number in range(count):
        tag, kind, _ = struct.unpack_from("<HHI", data, place + 2 + 12 * number)
        if tag in (0xBC80, 0xBC81):
            word = {1: "<B", 3: "<H"}.get(kind, "<I")
            sides[tag] = struct.unpack_from(word, data, place + 10 + 12 * number)[0]
    return int(sides[0xBC80] * sides[0xBC81]) if len(sides) == 2 else None


def _lerc_1(data: bytes) -> int:
    height, width = struct.unpack_from("<ii", data, 18)
    return int(max(0, height) * max(0, width))


def _lerc_2(data: bytes) -> int | None:
    place = count = 0
    while data[place : place + 6] == b"Lerc2 ":
        version = struct.unpack_from("<i", data, place + 6)[0]
        head = place + (14 if version >= 3 else 10)
        rows, columns = struct.unpack_from("<ii", data, head)
        deep = struct.unpack_from("<i", data, head + 8)[0] if version >= 4 else 1
        size = struct.unpack_from("<i", data, head + (20 if version >= 4 else 16))[0]
        if min(rows, columns, deep) < 0 or size <= 0:
            return None
        count += rows * columns * deep
        place += size
    return count


_READERS: tuple[tuple[bytes, Callable[[bytes], int | None]], ...] = (
    (b"\xff\xd8", _jpeg),
    (b"\xff\x4f\xff\x51", _jpeg_2000),
    (b"\0\0\0\x0cjP  ", _jpeg_2000),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"\xff\x0a", _jpeg_xl),
    (_JXL_BOXES, _jpeg_xl),
    (b"II\xbc", _jpeg_xr),
    (b"CntZImage ", _lerc_1),
    (b"Lerc2 ", _lerc_2),
)
