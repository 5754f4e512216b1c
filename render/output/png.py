"""PNG, written row by row: a picture of any size takes a few MiB beside its pixels.

Written here rather than by Pillow: one filter for the whole frame and the fastest deflate take half the time, and a
render process starts without importing Pillow. However the rows come, in one array or in many, the bytes are the same.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_IDAT_BYTES = 1 << 20
"""Of compressed data in one chunk: the same cuts however the rows come, so that bytes are the same."""
_BLOCK_BYTES = 2 << 20
"""Of rows that are filtered at once."""


class PngRows:
    """One PNG, handed to ``write`` as its rows come, from the top. ``size_px`` (width, height); ``alpha``: with a channel of
    it; ``text`` becomes iTXt entries. Owned by whoever calls ``put``, one thread at a time."""

    def __init__(
        self,
        write: Callable[[bytes], Any],
        size_px: tuple[int, int],
        *,
        alpha: bool,
        text: Mapping[str, str] | None = None,
    ) -> None:
        self._write, self._channels = write, 4 if alpha else 3
        width, self._left = size_px
        self._deflate = zlib.compressobj(1)
        self._waiting = bytearray()
        self._above: NDArray[np.uint8] | None = None
        self._write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, self._left, 8, 6 if alpha else 2, 0, 0, 0))
        for key, value in (text or {}).items():
            keyword = key.encode("latin-1", "replace")[:79]
            self._chunk(b"iTXt", keyword + b"\0\0\0\0\0" + value.encode())

    def put(self, rows: NDArray[np.uint8]) -> None:
        """The next rows, (count, width, 3 or 4)."""
        self._left -= len(rows)
        step = max(1, _BLOCK_BYTES // max(1, rows[:1].nbytes))
        for first in range(0, len(rows), step):
            self._filter(rows[first : first + step])

    def _filter(self, rows: NDArray[np.uint8]) -> None:
        lines = np.ascontiguousarray(rows[..., : self._channels], dtype=np.uint8).reshape(len(rows), -1)
        filtered = np.empty((len(lines), lines.shape[1] + 1), np.uint8)
        filtered[:, 0] = 2  # filter "up": each byte less the one above
        if self._above is None:
            filtered[0, 1:] = lines[0]
        else:
            np.subtract(lines[0], self._above, out=filtered[0, 1:])
        np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
        self._above = lines[-1].copy()
        self._waiting += self._deflate.compress(filtered.data)
        while len(self._waiting) > _IDAT_BYTES:
            self._chunk(b"IDAT", bytes(self._waiting[:_IDAT_BYTES]))
            del self._waiting[:_IDAT_BYTES]

    def finish(self) -> None:
        """All rows have come."""
        if self._left:
            raise ValueError(f"{self._left} rows of the picture are missing")
        self._waiting += self._deflate.flush()
        for first in range(0, len(self._waiting), _IDAT_BYTES):
            self._chunk(b"IDAT", bytes(self._waiting[first : first + _IDAT_BYTES]))
        self._chunk(b"IEND", b"")

    def _chunk(self, name: bytes, body: bytes) -> None:
        self._write(struct.pack(">I", len(body)) + name)
        self._write(body)
        self._write(struct.pack(">I", zlib.crc32(body, zlib.crc32(name))))


def write_png(
    write: Callable[[bytes], Any],
    rgba: NDArray[np.uint8],
    text: Mapping[str, str] | None = None,
    *,
    alpha: bool | None = None,
) -> None:
    """Hand one PNG to ``write``, in pieces.

    ``rgba`` is (height, width, 4) or (height, width, 3). ``alpha`` says whether the file has an alpha channel;
    None keeps one only if some pixel is not opaque. ``text`` becomes iTXt entries.
    """
    height, width, channels = rgba.shape
    if alpha is None:
        alpha = channels == 4 and not _is_opaque(rgba)
    rows = PngRows(write, (width, height), alpha=alpha and channels == 4, text=text)
    rows.put(rgba)
    rows.finish()


def _is_opaque(rgba: NDArray[np.uint8]) -> bool:
    return all(bool((rgba[y : y + 256, :, 3] == 255).all()) for y in range(0, len(rgba), 256))


def encode_png(
    rgba: NDArray[np.uint8], text: Mapping[str, str] | None = None, *, alpha: bool | None = None
) -> bytes:
    """The bytes of one PNG; see ``write_png``."""
    out = io.BytesIO()
    write_png(out.write, rgba, text, alpha=alpha)
    return out.getvalue()


def read_png(
    path: str | os.PathLike[str] | IO[bytes], formats: tuple[str, ...] | None = None
) -> NDArray[np.uint8]:
    """Pixels of a picture file as (height, width, 4) RGBA, whatever its mode; of these ``formats`` alone."""
    from PIL import Image

    with Image.open(path, formats=formats) as image:
        return np.asarray(image.convert("RGBA"))
