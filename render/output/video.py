"""GIF and MP4 of a camera path; imported only when one is asked for."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError, WriteError
from octree.render.output.files import atomic_file, write_error

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
    """An endless GIF, written frame by frame. Each frame has a palette of its own and holds only the rectangle that
    changed. Pillow makes palettes and blocks; its writer of whole films would keep every frame until the last."""

    ordered = True

    def __init__(self, path: Path, fps: float, count: int) -> None:
        self._path = path
        self._delays = gif_delays(count, fps)
        self._until_finished = ExitStack()
        self._file: BinaryIO | None = None
        self._before: NDArray[np.uint8] | None = None

    def job(self, index: int, frame: NDArray[np.uint8]) -> None:
        from PIL import GifImagePlugin

        if index not in self._delays:
            return
        rgb = np.ascontiguousarray(frame[..., :3])
        x0, y0, x1, y1 = _changed(self._before, rgb)
        self._before = rgb
        picture = _with_palette(np.ascontiguousarray(rgb[y0:y1, x0:x1]))
        delay_cs = min(self._delays[index], 65535)
        block = GifImagePlugin.getdata(
            picture, (x0, y0), duration=10 * delay_cs, disposal=1, include_color_table=True
        )
        try:
            if self._file is None:
                partial = self._until_finished.enter_context(atomic_file(self._path))
                self._file = self._until_finished.enter_context(partial.open("wb"))
                self._file.writelines(GifImagePlugin.getheader(picture, info={"loop": 0})[0])
            self._file.writelines(block)
        except OSError as error:
            raise write_error(self._path, error) from error

    def finish(self) -> list[Path]:
        if self._file is None:
            return []
        with self._until_finished:
            self._file.write(b"\x3b")
        return [self._path]

    def abort(self) -> None:
        _abandon(self._until_finished)


def _abandon(files: ExitStack) -> None:
    """Leave them as by an error: what is not complete is removed."""
    files.__exit__(RuntimeError, RuntimeError("abandoned"), None)


def _changed(before: NDArray[np.uint8] | None, now: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """The rectangle (x0, y0, x1, y1) that differs; one pixel when nothing does: a frame cannot be empty."""
    if before is None or before.shape != now.shape:
        return 0, 0, now.shape[1], now.shape[0]
    differs = (before != now).any(-1)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not len(rows):
        return 0, 0, 1, 1
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _with_palette(rgb: NDArray[np.uint8]) -> Image:
    """The picture in 256 colours: its own when it has no more, else the best found for a sample of its pixels
    (choosing them for all pixels takes ten times as long and comes out the same)."""
    from PIL import Image

    if (rgb[..., :1] == rgb).all():  # greys fit exactly
        picture = Image.fromarray(np.ascontiguousarray(rgb[..., 0]))
        picture.putpalette(bytes(level for level in range(256) for _ in range(3)))
        return picture
    picture = Image.fromarray(rgb)
    if picture.getcolors(256) is not None:
        return picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    step = math.ceil(math.sqrt(rgb.shape[0] * rgb.shape[1] / _PALETTE_SAMPLE_PX))
    sample = Image.fromarray(np.ascontiguousarray(rgb[::step, ::step]))
    palette = sample.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


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
        self._until_finished = ExitStack()
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
        partial = self._until_finished.enter_context(atomic_file(self._path))
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
        self._until_finished.close()
        self._stream = None
        return [self._path]

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        _abandon(self._until_finished)
