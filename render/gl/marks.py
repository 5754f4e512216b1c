"""Aids over the image: failed and pending areas, tile borders. A visual of its own, so that the image's shader
stays lean. Main thread only.

With vispy's cameras positions are sent relative to a corner among them, and the transform starts there: float32
cannot tell pixels apart beyond 2^24.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.render.gl.library import Visual, gloo, shader_pair
from octree.render.gl.placing import Placing
from octree.render.gl.quads import CORNERS, corner_indices
from octree.render.view.cover import pixel_edges

PLAIN, HATCH, CROSSES = 1.0, 2.0, 3.0
"""Styles of an area: one colour, diagonals with gaps, crosses on a dark ground."""

FAILED_COLOR = (1.0, 0.2, 0.2)
PENDING_COLOR = (1.0, 0.75, 0.0)
Color = tuple[float, float, float]

TRANSLUCENT = {
    "blend": True,
    "blend_func": ("src_alpha", "one_minus_src_alpha", "one", "one_minus_src_alpha"),
}
"""GL state for colours that leave the shader straight, as vispy's filters expect; frames are premultiplied."""


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """Rectangles (n, 4), (y0, x0, y1, x1) in base coordinates, filled with one style."""

    rects: NDArray[np.float64]
    color: Color
    style: float


_MARK = np.dtype([("a_position", np.float32, 2), ("a_color", np.float32, 4)])
_SEGMENTS = ((0, 1), (0, 3), (0, 3), (2, 3), (2, 3), (2, 1), (2, 1), (0, 1))
"""Columns of (y0, x0, y1, x1) for the ends of a rectangle's four sides."""


def level_color(level: int) -> Color:
    """A colour for the borders of one level's tiles, unlike those of the next levels."""
    phase = np.mod(np.array([0.0, 4.0, 2.0]) + level * 1.7, 6.0)
    red, green, blue = np.clip(np.abs(phase - 3.0) - 1.0, 0.0, 1.0)
    return float(red), float(green), float(blue)


class MarksVisual(Visual):  # type: ignore[misc] # vispy has no type information
    """Patterns in rectangles, and borders of rectangles, all (y0, x0, y1, x1) in base coordinates."""

    def __init__(self) -> None:
        self._exact = False
        self._origin = (0.0, 0.0)
        self._placing = Placing()
        super().__init__(*self._sources())
        self._draw_mode = "triangles"
        self._buffer = gloo.VertexBuffer(np.zeros(4, _MARK))
        self._indices = gloo.IndexBuffer(corner_indices(1))
        self.set_gl_state(None, depth_test=False, cull_face=False, **TRANSLUCENT)
        self.shared_program["u_part"] = (0.0, 0.0, 1.0, 1.0)
        self.opacity = 1.0
        self._layers: list[tuple[NDArray[np.void], str]] = []

    def set_marks(
        self,
        areas: Sequence[Area],
        borders: NDArray[np.float64],
        border_colors: Sequence[Color],
        view: tuple[Region, tuple[int, int]] | None,
    ) -> None:
        """What to draw: areas, then borders (n, 4) over them. ``view``: as in ``TiledImageVisual.set_view``."""
        if (view is not None) != self._exact:
            self._exact = view is not None
            self.shared_program.vert, self.shared_program.frag = self._sources()
            self._prepare_transforms(self)
        rects = np.concatenate([np.zeros((0, 4)), *(area.rects for area in areas)])
        fills = [(*area.color, area.style) for area in areas for _ in area.rects]
        tints = [(*color, PLAIN) for color in border_colors]
        if view is None:
            corners = np.concatenate([rects, borders])
            self._origin = tuple(corners[0, :2].tolist()) if len(corners) else (0.0, 0.0)
            by = np.tile(self._origin, 2)
            self._layers = [
                (_marks(rects - by, CORNERS, fills), "triangles"),
                (_marks(borders - by, _SEGMENTS, tints), "lines"),
            ]
            return
        # where pixels are known, borders are rectangles one pixel wide: lines end differently on every driver
        sides = _sides(pixel_edges(borders, *view))
        rects = np.concatenate([pixel_edges(rects, *view), sides])
        fills += [tint for tint in tints for _ in range(4)]
        self._layers = [(_marks(rects, CORNERS, fills), "triangles")]

    def set_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        self.shared_program["u_part"] = (*offset_px, *size_px)

    @property
    def opacity(self) -> float:
        return self._opacity

    @opacity.setter
    def opacity(self, value: float) -> None:
        self._opacity = value
        self.shared_program["u_opacity"] = value

    def draw(self) -> None:
        """Draw now, into the current framebuffer."""
        self._configure_gl_state()
        if not self._exact:
            placed = self._placing.begin(self.transforms.get_transform(), self._origin)
            self.view_program.vert["transform"] = placed
        for marks, mode in self._layers:
            if not len(marks):
                continue
            self._buffer.set_data(marks)
            self.shared_program.bind(self._buffer)
            indices = None
            if mode == "triangles":
                self._indices.set_data(corner_indices(len(marks) // 4))
                indices = self._indices
            self._program.draw(mode, indices)

    def _sources(self) -> tuple[str, str]:
        head = "#define EXACT\n" if self._exact else ""
        return shader_pair("marks", head)

    def _prepare_transforms(self, view: Any) -> None:
        """What it is, is asked when drawing, see ``draw``."""
        view.view_program.vert["transform"] = self._placing.current


def _sides(rects: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4 n, 4): the outermost row and column of pixels on each side of n rectangles of whole pixels."""
    sides = np.repeat(rects[:, None], 4, axis=1)
    sides[:, 0, 2] = rects[:, 0] + 1
    sides[:, 1, 0] = rects[:, 2] - 1
    sides[:, 2, 3] = rects[:, 1] + 1
    sides[:, 3, 1] = rects[:, 3] - 1
    seen = (rects[:, 2] > rects[:, 0]) & (rects[:, 3] > rects[:, 1])
    return (sides * seen[:, None, None]).reshape(-1, 4)


def _marks(
    rects: NDArray[np.float64],
    corners: tuple[tuple[int, int], ...],
    colors: Sequence[tuple[float, float, float, float]],
) -> NDArray[np.void]:
    marks = np.zeros((len(rects), len(corners)), _MARK)
    for number, (y, x) in enumerate(corners):
        marks["a_position"][:, number, 0] = rects[:, x]
        marks["a_position"][:, number, 1] = rects[:, y]
    if len(rects):
        marks["a_color"] = np.array(colors)[:, None]
    return marks.ravel()
