"""Aids over the image: failed and pending areas, tile borders. A visual of its own, so that the image's shader
stays lean. Main thread only."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Rect
from octree.render.gl.library import Visual, gloo
from octree.render.gl.quads import corner_indices, pixel_edges

PLAIN, HATCH, FAILED = 1.0, 2.0, 3.0

_FAILED_COLOR = (1.0, 0.2, 0.2)
_PENDING_COLOR = (1.0, 0.75, 0.0)
_MARK = np.dtype([("a_position", np.float32, 2), ("a_color", np.float32, 4)])
_BORDER = ((0, 1), (0, 3), (0, 3), (2, 3), (2, 3), (2, 1), (2, 1), (0, 1))


def level_color(level: int) -> tuple[float, float, float]:
    """A colour for the borders of one level's tiles, unlike those of the next levels."""
    phase = np.mod(np.array([0.0, 4.0, 2.0]) + level * 1.7, 6.0)
    red, green, blue = np.clip(np.abs(phase - 3.0) - 1.0, 0.0, 1.0)
    return float(red), float(green), float(blue)


class MarksVisual(Visual):  # type: ignore[misc] # vispy has no type information
    """Patterns in rectangles, and borders of rectangles, all (y0, x0, y1, x1) in base coordinates."""

    def __init__(self) -> None:
        self._exact = False
        super().__init__(*self._sources())
        self._draw_mode = "triangles"
        self._buffer = gloo.VertexBuffer(np.zeros(4, _MARK))
        self._indices = gloo.IndexBuffer(corner_indices(1))
        self.set_gl_state(
            None, depth_test=False, cull_face=False, blend=True, blend_func=("one", "one_minus_src_alpha")
        )
        self.shared_program["u_part"] = (0.0, 0.0, 1.0, 1.0)
        self.opacity = 1.0
        self._patterns = self._borders = np.zeros(0, _MARK)

    def set_marks(
        self,
        *,
        failed: NDArray[np.float64],
        pending: NDArray[np.float64],
        borders: NDArray[np.float64],
        levels: NDArray[np.intp],
        view: tuple[Rect, tuple[int, int]] | None,
    ) -> None:
        """(n, 4) rectangles; ``levels`` colours ``borders``. ``view``: as in ``TiledImageVisual.set_view``."""
        if (view is not None) != self._exact:
            self._exact = view is not None
            self.shared_program.vert, self.shared_program.frag = self._sources()
            self._prepare_transforms(self)
        rects = np.concatenate([failed, pending])
        colors = np.array(
            [(*_FAILED_COLOR, FAILED)] * len(failed) + [(*_PENDING_COLOR, HATCH)] * len(pending)
        ).reshape(-1, 4)
        lines = borders
        if view is not None:
            rects = pixel_edges(rects, *view)
            # through pixel centres, inside the tile
            lines = pixel_edges(borders, *view) + np.array([0.5, 0.5, -0.5, -0.5])
        tints = np.array([(*level_color(level), PLAIN) for level in levels.tolist()]).reshape(-1, 4)
        self._patterns = _marks(rects, ((0, 1), (0, 3), (2, 1), (2, 3)), colors)
        self._borders = _marks(lines, _BORDER, tints)

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
        for marks, mode in ((self._patterns, "triangles"), (self._borders, "lines")):
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
        here = files("octree.render.gl")
        vertex, fragment = ((here / f"marks.{kind}").read_text("utf-8") for kind in ("vert", "frag"))
        return head + vertex, head + fragment

    def _prepare_transforms(self, view: Any) -> None:
        view.view_program.vert["transform"] = view.transforms.get_transform()


def _marks(
    rects: NDArray[np.float64], corners: tuple[tuple[int, int], ...], colors: NDArray[np.float64]
) -> NDArray[np.void]:
    marks = np.zeros((len(rects), len(corners)), _MARK)
    for number, (y, x) in enumerate(corners):
        marks["a_position"][:, number, 0] = rects[:, x]
        marks["a_position"][:, number, 1] = rects[:, y]
    if len(rects):
        marks["a_color"] = colors[:, None]
    return marks.ravel()
