"""GIF and MP4 of a camera path; imported only when one is asked for."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octree.pyramid.errors import UsageError, WriteError
from octree.render.encode import Frame
from octree.render.files import atomic_file

if TYPE_CHECKING:
    from PIL.Image import Image

GIF_MIN_DELAY_CS = 2
"""Browsers slow a GIF down when a frame is shorter than 2/100 s."""


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
    """An endless GIF; frames are reduced to palettes in the encoding thread and written at the end."""

    ordered = True

    def __init__(self, path: Path, fps: float, count: int) -> None:
        self._path = path
        self._delays = gif_delays(count, fps)
        self._frames: dict[int, Image] = {}

    def job(self, index: int, frame: Frame) -> None:
        if index not in self._delays:
            return
        from PIL import Image

        rgb = np.ascontiguousarray(frame[..., :3])
        if (rgb[..., :1] == rgb).all():  # 256 greys fit a palette exactly
            self._frames[index] = Image.fromarray(np.ascontiguousarray(rgb[..., 0]))
        else:
            picture = Image.fromarray(rgb)
            self._frames[index] = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)

    def finish(self) -> list[Path]:
        if not self._frames:
            return []
        order = sorted(self._frames)
        first, *rest = (self._frames[index] for index in order)
        with atomic_file(self._path) as partial:
            first.save(
                partial,
                format="GIF",
                save_all=True,
                append_images=rest,
                duration=[10 * self._delays[index] for index in order],
                loop=0,
                optimize=False,
            )
        self._frames.clear()
        return [self._path]

    def abort(self) -> None:
        self._frames.clear()


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

    def job(self, index: int, frame: Frame) -> None:
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
