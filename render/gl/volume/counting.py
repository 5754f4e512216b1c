"""How many samples of all rays lie in which kind of row of cells: coverage, as it is drawn. Main thread only.

Samples are counted before any value is looked at, so that the numbers do not depend on what the bricks hold. They equal
those of ``render/view/volume/samples.py`` exactly.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.render.gl import colors, platform
from octree.render.gl.library import gl, gloo, native, shader_pair
from octree.render.gl.volume.tables import (
    EMPTY,
    TEXELS,
    Tables,
    blocks_of,
    cell_tables,
    cell_uniforms,
    ray_uniforms,
)
from octree.render.view.volume.cells import Cells
from octree.render.view.volume.sight import Rays

Class = tuple[int, int, int]
"""(kind, level, level that is wanted there) of a row."""

_RGBA32F = 0x8814
_I, _U = ctypes.c_int, ctypes.c_uint
_READ_PIXELS = ("glReadPixels", (_I, _I, _I, _I, _U, _U, ctypes.c_void_p))
_PART_PX = 2048
_HALF = 4096
"""A number of 24 bits holds two counts below it."""


class SampleCounter:
    """Owner of a program and a framebuffer, made when they are first needed. ``planes``: rays have samples on these alone."""

    def __init__(self, *, planes: bool = False) -> None:
        self._planes = planes
        self._program: Any = None
        self._tables = Tables()
        self._buffer: Any = None
        self._framebuffer: Any = None
        self._size_px = (0, 0)

    def count(self, cells: Cells, rays: Rays) -> dict[Class, int]:
        """Samples of each class of rows that is among the cells."""
        used = np.unique(cells.cells)
        rows = used[used > 0].astype(int) - 1
        kinds = np.column_stack([cells.kinds, cells.levels, cells.wanted]).astype(int)
        classes, numbers = np.unique(kinds[rows], axis=0, return_inverse=True)
        counts = np.zeros(len(classes), np.int64)
        if len(rows):
            platform.make_current()
            table = np.zeros((len(kinds), TEXELS, 4), np.float32)
            table[rows, 0, 3] = numbers.reshape(-1)
            self._set_up(cells, rays, blocks_of(table))
            two = len(classes) > 4 and most_samples(cells, rays) < _HALF
            per_pass = 8 if two else 4
            for first in range(0, len(classes), per_pass):
                found = self._drawn(rays, first, two=two)
                counts[first : first + per_pass] = found[: min(per_pass, len(classes) - first)]
        return {
            (kind, level, wanted): int(n)
            for (kind, level, wanted), n in zip(classes.tolist(), counts, strict=True)
        }

    def _set_up(self, cells: Cells, rays: Rays, table: NDArray[np.float32]) -> None:
        if self._program is None:
            self._make()
        for name, values in (*cell_tables(cells).items(), ("u_rows", table)):
            self._tables.send(name, values, self._program.__setitem__)
        for name, value in (cell_uniforms(cells) | ray_uniforms(rays, cells)).items():
            self._program[name] = value

    def _make(self) -> None:
        constants = [f"#define {name} {value}" for name, value in colors.shader_constants().items()]
        variant = ["#define COUNT", *(["#define PLANES"] if self._planes else []), *constants, ""]
        self._program = gloo.Program(*shader_pair("volume/march", "\n".join(variant)))
        self._program["a_position"] = np.array([[-1, -1], [3, -1], [-1, 3]], np.float32)
        for name in ("u_cells", "u_planes", "u_rows"):
            self._tables.send(name, EMPTY[name], self._program.__setitem__)

    def _drawn(self, rays: Rays, first: int, *, two: bool) -> NDArray[np.int64]:
        """Counts of the classes from the ``first`` on: eight, with ``two`` in each number, or four."""
        width, height = rays.size_px
        self._program["u_classes"] = (float(first), float(_HALF * two))
        total = np.zeros(8, np.int64)
        for y in range(0, height, _PART_PX):
            for x in range(0, width, _PART_PX):
                size = min(_PART_PX, width - x), min(_PART_PX, height - y)
                self._resize(size)
                self._program["u_frame"] = (float(x), float(y), 1.0, 1.0)
                with self._framebuffer:
                    gloo.set_viewport(0, 0, *size)
                    gloo.set_state(blend=False, depth_test=False, cull_face=False, scissor_test=False)
                    gloo.clear(color=(0, 0, 0, 0), depth=False)
                    self._program.draw("triangles")
                    gloo.get_current_canvas().context.flush_commands()
                    total += _sums(_read(size), two=two)
        return total

    def _resize(self, size_px: tuple[int, int]) -> None:
        if size_px == self._size_px:
            return
        self._size_px = size_px
        if self._buffer is not None:
            self._framebuffer.delete()
            self._buffer.delete()
        self._buffer = gloo.RenderBuffer(size_px[::-1], _RGBA32F)
        self._framebuffer = gloo.FrameBuffer(color=self._buffer)

    def close(self) -> None:
        """Free what was made. Closing twice is harmless."""
        for thing in (self._framebuffer, self._buffer, self._program):
            if thing is not None:
                thing.delete()
        if self._program is not None:
            self._tables.delete()
        self._framebuffer = self._buffer = self._program = None
        self._tables, self._size_px = Tables(), (0, 0)


def most_samples(cells: Cells, rays: Rays) -> float:
    """No ray has more in the cells."""
    along = np.array(rays.step)
    turns = np.array([rays.step_across, rays.step_down]).T
    # the shortest step of all, were the frame endless
    shortest = along - turns @ np.linalg.lstsq(turns, along, rcond=None)[0]
    size = [planes[-1] - planes[0] for planes in cells.planes]
    length = float(np.linalg.norm(shortest))
    return math.inf if length == 0 else float(np.linalg.norm(size)) / length + 2


def _read(size_px: tuple[int, int]) -> NDArray[np.float32]:
    """(h, w, 4) of the bound framebuffer."""
    width, height = size_px
    pixels = np.empty((height, width, 4), np.float32)
    gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)
    native(*_READ_PIXELS)(0, 0, width, height, gl.GL_RGBA, gl.GL_FLOAT, pixels.ctypes.data)
    return pixels


def _sums(numbers: NDArray[np.float32], *, two: bool) -> NDArray[np.int64]:
    """(8,) sums of counts (h, w, 4), with ``two`` of two in each."""
    # along columns first: numpy adds long rows many at once, and so few of them are exact in float32
    high = np.floor(numbers * np.float32(1 / _HALF)) if two else np.zeros((1, 1, 4), np.float32)
    low = numbers - high * np.float32(_HALF) if two else numbers
    parts = []
    for counts in (low, high):
        columns = counts.reshape(len(counts), -1).sum(axis=0, dtype=np.float32 if two else np.float64)
        parts.append(columns.reshape(-1, 4).sum(axis=0, dtype=np.float64))
    return np.concatenate(parts).astype(np.int64)
