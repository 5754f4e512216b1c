"""An offscreen canvas: a framebuffer of exact size, drawn, finished and read back. Main thread only.

Row 0 of the picture is row 0 of the framebuffer, so nothing is ever flipped. Frames larger than a framebuffer should be
are drawn in parts, into one array; of those some rows at a time can be drawn alone, so that there need be no such array.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import GLError, OctreeError, UsageError
from octree.render.gl import platform
from octree.render.gl.library import gl, gloo

_RGBA8 = 0x8058
_MAX_PART_PX = 4096
"""Largest part of a frame drawn at once: 64 MiB of pixels; larger framebuffers gain nothing."""
_BLOCK_PX = 1 << 17
"""Of a frame whose colours are divided by alpha at once: what that takes beside is little."""


class Drawable(Protocol):
    """What ``Canvas.draw`` draws: a visual with ``set_view`` called, such as ``TiledImageVisual``."""

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """Draw the part of the frame that starts at ``offset_px`` (x, y) and has ``size_px`` (w, h)."""
        ...


class Canvas:
    """A picture of ``size_px`` (width, height), on the process's one context.

    Owns its framebuffer; ``close`` (or the end of ``with``) frees it. ``background`` is RGBA, not
    premultiplied, each 0 to 1. Any OpenGL error or exception in a visual raises GLError.
    """

    def __init__(
        self,
        size_px: tuple[int, int],
        gl: str = "auto",  # the platform
        background: Sequence[float] = (0.0, 0.0, 0.0, 1.0),
        *,
        max_threads: int | None = None,
    ) -> None:
        self.info = platform.start(gl, max_threads=max_threads)
        self.background = tuple(float(value) for value in background)
        self._framebuffer: Any = None
        self._buffer: Any = None
        self._frame: NDArray[np.uint8] | None = None
        self._rows = range(0)
        self._lent = self._closed = False
        self.size_px = (0, 0)
        self.resize(size_px)

    def resize(self, size_px: tuple[int, int]) -> None:
        """Change the size; the picture is undefined until the next ``draw``."""
        width, height = int(size_px[0]), int(size_px[1])
        if width < 1 or height < 1:
            raise UsageError(f"a frame of {width} x {height} pixels cannot be drawn", hint="at least 1x1")
        if (width, height) == self.size_px:
            return
        self.size_px = (width, height)
        self._frame, self._rows = None, range(height)
        limit = min(self.info.max_texture_size, _MAX_PART_PX)
        self._part = (min(width, limit), min(height, limit))
        with _surfacing("make a framebuffer"):
            self._make_framebuffer()

    def _make_framebuffer(self) -> None:
        context = platform.context_canvas()
        context.set_current()
        shape = (self._part[1], self._part[0])
        if self._buffer is None:
            self._buffer = gloo.RenderBuffer(shape, _RGBA8)
            self._framebuffer = gloo.FrameBuffer(color=self._buffer)
        else:
            self._buffer.resize(shape, _RGBA8)
            # attached again: a driver need not notice that the storage changed
            self._framebuffer.color_buffer = self._buffer
        self._framebuffer.activate()
        self._framebuffer.deactivate()
        context.context.flush_commands()

    @property
    def is_large(self) -> bool:
        """It is drawn in parts, and ``choose_rows`` may be called."""
        return self.size_px != self._part

    def choose_rows(self, first: int, stop: int) -> None:
        """Of a large frame: from now on only these rows are drawn and read; the picture is undefined until the next ``draw``."""
        self._frame, self._rows = None, range(self.size_px[1])[first:stop]

    def draw(self, visuals: Sequence[Drawable], within: tuple[int, int, int, int] | None = None) -> None:
        """Clear to the background and draw, first visual at the bottom. Returns when OpenGL has finished.

        ``within`` (x, y, width, height): only these pixels change, to what they would be were all of it drawn."""
        self._check_open()
        width, height = self.size_px
        rows = self._rows
        if not self.is_large:
            self._frame = None
        elif self._frame is None or within is None:
            self._frame = np.zeros((len(rows), width, 4), np.uint8)
        elif self._lent:
            self._frame = self._frame.copy()
        self._lent = False
        left, top, wide, high = within or (0, 0, width, height)
        top, high = max(top, rows.start), min(top + high, rows.stop) - max(top, rows.start)
        cut = False
        with _surfacing("draw a frame"):
            platform.make_current()
            with self._framebuffer:
                for y in range(0, height, self._part[1]):
                    for x in range(0, width, self._part[0]):
                        size = (min(self._part[0], width - x), min(self._part[1], height - y))
                        x0, x1 = max(x, left), min(x + size[0], left + wide)
                        y0, y1 = max(y, top), min(y + size[1], top + high)
                        if x0 >= x1 or y0 >= y1:
                            continue
                        whole = (x1 - x0, y1 - y0) == size
                        window = None if whole else (x0 - x, y0 - y, x1 - x0, y1 - y0)
                        cut = cut or not whole
                        self._draw_part(visuals, (x, y), size, window)
                        if self._frame is not None:
                            drawn = _read((x1 - x0, y1 - y0), (x0 - x, y0 - y))
                            self._frame[y0 - rows.start : y1 - rows.start, x0:x1] = drawn
                if cut:
                    gloo.set_state(scissor_test=False)
                self._finish()

    def rehearse(self, visuals: Sequence[Drawable]) -> None:
        """Draw one part of a frame that nobody will see."""
        self._check_open()
        self._frame = None
        with _surfacing("prepare a frame"):
            platform.make_current()
            with self._framebuffer:
                self._draw_part(visuals, (0, 0), self._part)
                self._finish()

    def _draw_part(
        self,
        visuals: Sequence[Drawable],
        offset: tuple[int, int],
        size: tuple[int, int],
        window: tuple[int, int, int, int] | None = None,
    ) -> None:
        gloo.set_viewport(0, 0, *size)
        # the same triangles in the same place, cut off: their pixels are those of the whole, to the last bit
        gloo.set_state(blend=False, depth_test=False, cull_face=False, scissor_test=window is not None)
        if window is not None:
            gloo.set_scissor(*window)
        red, green, blue, alpha = self.background
        gloo.clear(color=(red * alpha, green * alpha, blue * alpha, alpha), depth=False)
        for visual in visuals:
            visual.draw_part(offset, size)
        platform.context_canvas().context.flush_commands()

    def _finish(self) -> None:
        platform.context_canvas().context.flush_commands()
        gl.glFinish()

    def read(self) -> NDArray[np.uint8]:
        """The last frame, (height, width, 4) RGBA, top row first, alpha not premultiplied."""
        self._check_open()
        if self._frame is None:
            if self.is_large:
                raise GLError("nothing has been drawn since this frame was taken")
            with _surfacing("read a frame"):
                platform.make_current()
                with self._framebuffer:
                    platform.context_canvas().context.flush_commands()
                    self._frame = _read(self.size_px)
        self._lent = True
        if self.background[3] >= 1.0:
            return self._frame
        return _unpremultiply(self._frame.copy())

    def take(self) -> NDArray[np.uint8]:
        """As ``read``, of a frame that will not be read again: it is the caller's, and there is no other of a large one."""
        if self._frame is None:
            return self.read()
        frame, self._frame = self._frame, None
        return frame if self.background[3] >= 1.0 else _unpremultiply(frame)

    def close(self) -> None:
        """Free the framebuffer. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        context = platform.context_canvas()
        context.set_current()
        for thing in (self._framebuffer, self._buffer):
            if thing is not None:
                thing.delete()
        context.context.flush_commands()
        self._framebuffer = self._buffer = self._frame = None

    def __enter__(self) -> Canvas:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise GLError("the canvas is closed")


def _read(size_px: tuple[int, int], corner_px: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """Pixels of the bound framebuffer, row 0 first."""
    width, height = size_px
    gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)
    data = gl.glReadPixels(*corner_px, width, height, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE)
    return np.frombuffer(data, np.uint8).reshape(height, width, 4)


def _unpremultiply(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Straight alpha, as PNG has it: colour = premultiplied / alpha, 0 where alpha is 0. In place."""
    count = max(1, _BLOCK_PX // frame.shape[1])
    for first in range(0, len(frame), count):
        rows = frame[first : first + count]
        alpha = rows[..., 3:].astype(np.float32)
        color = rows[..., :3].astype(np.float32) * (255.0 / np.maximum(alpha, 1.0))
        rows[..., :3] = np.clip(np.rint(color), 0, 255)
    return frame


class _surfacing:
    """Turns OpenGL's silent errors, and anything vispy throws, into GLError."""

    def __init__(self, task: str) -> None:
        self._task = task

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, OctreeError):
            raise GLError(f"could not {self._task}: {error}") from error
        if error is None and (codes := _error_codes()):
            raise GLError(
                f"OpenGL reported {', '.join(codes)} when asked to {self._task}",
                hint="the driver may be out of memory or too old: `octree doctor` says which one is used",
            )


_ERROR_NAMES = {
    0x500: "invalid enum",
    0x501: "invalid value",
    0x502: "invalid operation",
    0x505: "out of memory",
    0x506: "invalid framebuffer operation",
}


def _error_codes() -> list[str]:
    codes: list[str] = []
    while (code := gl.glGetError()) and len(codes) < 8:
        codes.append(_ERROR_NAMES.get(code, hex(code)))
    return codes
