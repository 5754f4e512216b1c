"""GIF and MP4 of a camera path; imported only when one is asked for."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError, WriteError
from octree.render.output.files import atomic_file

if TYPE_CHECKING:
    from PIL.Image import Image

GIF_MIN_DELAY_CS = 2
"""Browsers slow a GIF down when a frame is shorter than 2/100 s."""
_PALETTE_SAMPLE_PX = 8192


def gif_delays(count: int, fps: float) -> dict[int, int]:
    """Which frames a GIF keeps, and how long each is shown in 1/100 s.

    A GIF counts whole hundredths, two at least: frames that come faster are left out, and rounding is carried
    over, so that the film keeps its length. The last frame is always kept."""
    starts = [round(100 * index / fps) for index in range(count + 1)]
    kept = [0]
    for index in range(1, count):
        if starts[index] - starts[kept[-1]] >= GIF_MIN_DELAY_CS:
            kept.append(index)
    if kept[-1] != count - 1:  # it came too soon after the last one kept, which gives way to it
        kept = [*kept[:-1], count - 1] if len(kept) > 1 else [0, count - 1]
    ends = [starts[index] for index in kept[1:]] + [starts[count]]
    return {index: max(GIF_MIN_DELAY_CS, end - starts[index]) for index, end in zip(kept, ends, strict=True)}


class Gif:
    """An endless GIF. Each frame has a palette of its own and holds only the rectangle that changed; Pillow
    makes the palettes and compresses, the file around them is written here (its own writer of films takes most
    of a second for each frame in colour)."""

    ordered = True

    def __init__(self, path: Path, fps: float, count: int) -> None:
        self._path = path
        self._delays = gif_delays(count, fps)
        self._blocks: list[bytes] = []
        self._size = (0, 0)
        self._before: NDArray[np.uint8] | None = None

    def job(self, index: int, frame: NDArray[np.uint8]) -> None:
        if index not in self._delays:
            return
        rgb = np.ascontiguousarray(frame[..., :3])
        x0, y0, x1, y1 = _changed(self._before, rgb)
        self._before, self._size = rgb, (rgb.shape[1], rgb.shape[0])
        self._blocks.append(_gif_block(rgb[y0:y1, x0:x1], (x0, y0), self._delays[index]))

    def finish(self) -> list[Path]:
        if not self._blocks:
            return []
        screen = b"GIF89a" + struct.pack("<HHBBB", *self._size, 0x70, 0, 0)
        forever = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
        with atomic_file(self._path) as partial, partial.open("wb") as file:
            file.writelines([screen, forever, *self._blocks, b"\x3b"])
        self.abort()
        return [self._path]

    def abort(self) -> None:
        self._blocks.clear()
        self._before = None


def _changed(before: NDArray[np.uint8] | None, now: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """The rectangle (x0, y0, x1, y1) that differs; one pixel when nothing does: a frame cannot be empty."""
    if before is None or before.shape != now.shape:
        return 0, 0, now.shape[1], now.shape[0]
    differs = (before != now).any(-1)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not len(rows):
        return 0, 0, 1, 1
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _gif_block(rgb: NDArray[np.uint8], corner: tuple[int, int], delay_cs: int) -> bytes:
    """One frame of a GIF: how long it is shown, where it lies, its palette, its pixels."""
    single = io.BytesIO()
    _with_palette(np.ascontiguousarray(rgb)).save(single, "GIF", optimize=False)
    data = single.getvalue()
    # a GIF of one picture: 13 bytes of header, its palette, extensions, the picture, an end mark
    entries = data[10] & 7
    begin = 13 + 3 * (2 << entries)
    palette, place = data[13:begin], begin
    while data[place] == 0x21:
        place = _after_blocks(data, place + 2)
    width, height, packed = struct.unpack_from("<HHB", data, place + 5)
    if packed & 0x80:  # it has its own palette after all
        entries = packed & 7
        palette = data[place + 10 : place + 10 + 3 * (2 << entries)]
    pixels = place + 10 + (len(palette) if packed & 0x80 else 0)
    control = b"\x21\xf9\x04" + struct.pack("<BHBB", 0x04, min(delay_cs, 65535), 0, 0)
    where = b"\x2c" + struct.pack("<HHHHB", *corner, width, height, 0x80 | (packed & 0x40) | entries)
    return control + where + palette + data[pixels : _after_blocks(data, pixels + 1)]


def _with_palette(rgb: NDArray[np.uint8]) -> Image:
    """The picture in 256 colours: its own when it has no more, else the best found for a sample of its pixels
    (choosing them for all pixels takes ten times as long and comes out the same)."""
    from PIL import Image

    if (rgb[..., :1] == rgb).all():  # greys fit exactly
        return Image.fromarray(np.ascontiguousarray(rgb[..., 0]))
    picture = Image.fromarray(rgb)
    if picture.getcolors(256) is not None:
        return picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    step = math.ceil(math.sqrt(rgb.shape[0] * rgb.shape[1] / _PALETTE_SAMPLE_PX))
    sample = Image.fromarray(np.ascontiguousarray(rgb[::step, ::step]))
    palette = sample.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def _after_blocks(data: bytes, place: int) -> int:
    """Past a chain of sub-blocks, each a length and so many bytes, ended by a length of 0."""
    while data[place]:
        place += 1 + data[place]
    return place + 1


class Mp4:
    """H.264 through the encoder that imageio-ffmpeg brings; the subprocess is owned by the encoding thread."""

    ordered = True

    def __init__(self, path: Path, fps: float) -> None:
        try:
            import imageio_ffmpeg
        except ImportError as error:
            raise UsageError(
                f"cannot write {path}: MP4 needs the package imageio-ffmpeg",
                hint="pip install 'octree[video]', or write a .gif or numbered .png files",
            ) from error
        self._ffmpeg: Any = imageio_ffmpeg
        self._path, self._fps = path, fps
        self._partial: Any = None
        self._stream: Generator[None, bytes, None] | None = None

    def job(self, index: int, frame: NDArray[np.uint8]) -> None:
        height, width = frame.shape[:2]
        # the usual pixel format halves colour in both directions: odd sides get one more line
        padded = np.pad(frame[..., :3], ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            if self._stream is None:
                self._open(padded.shape[1], padded.shape[0])
            assert self._stream is not None
            self._stream.send(padded.tobytes())
        except OSError as error:
            raise WriteError(
                f"writing {self._path} failed: {str(error).strip().splitlines()[0]}",
                hint="is the disk full?",
                path=str(self._path),
            ) from error

    def _open(self, width: int, height: int) -> None:
        self._partial = atomic_file(self._path)
        partial = self._partial.__enter__()
        self._stream = self._ffmpeg.write_frames(
            str(partial),
            (width, height),
            fps=self._fps,
            quality=8,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=["-movflags", "+faststart", "-fflags", "+bitexact", "-flags:v", "+bitexact"],
        )
        self._stream.send(None)  # type: ignore[arg-type]  # a generator starts with None

    def finish(self) -> list[Path]:
        if self._stream is None:
            return []
        self._stream.close()
        self._partial.__exit__(None, None, None)
        self._stream = None
        return [self._path]

    def abort(self) -> None:
        if self._stream is None:
            return
        self._stream.close()
        self._stream = None
        abandoned = RuntimeError("abandoned")
        try:
            self._partial.__exit__(RuntimeError, abandoned, None)
        except RuntimeError as error:
            if error is not abandoned:
                raise
