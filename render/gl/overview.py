"""A small picture of the whole image in a corner of the frame, with a frame around what the view shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from octree.pyramid.grid import Plane, Rect
from octree.pyramid.model import TileKey
from octree.render.cover import cover_view
from octree.render.gl.marks import PLAIN, Area, MarksVisual
from octree.render.gl.texture_atlas import Atlas
from octree.render.gl.tiled_image import TiledImageVisual
from octree.render.loading.requests import LoadKey

_GROUND = (0.1, 0.1, 0.1)
_OUTLINE = (0.6, 0.6, 0.6)
_VIEW = (1.0, 0.8, 0.0)


def inset_view(extent: Rect, size_px: tuple[int, int], *, fraction: float = 0.25, margin_px: int = 8) -> Rect:
    """The view of a whole frame of ``size_px`` (w, h) in which ``extent`` fills its lower right corner: at most
    ``fraction`` of the width and height, ``margin_px`` from the edges."""
    width, height = size_px
    across = max(extent.x1 - extent.x0, extent.y1 - extent.y0, 1e-300)
    px_per_base = min(
        fraction * width / max(extent.x1 - extent.x0, 1e-9 * across),
        fraction * height / max(extent.y1 - extent.y0, 1e-9 * across),
    )
    y1 = extent.y1 + margin_px / px_per_base
    x1 = extent.x1 + margin_px / px_per_base
    return Rect(y1 - height / px_per_base, x1 - width / px_per_base, y1, x1)


class Overview:
    """Draws the inset over the frame, from the coarsest level and whatever else is resident; loads nothing.

    ``drawing`` are the arguments of ``TiledImageVisual``. Draw it last: ``canvas.draw([*visuals, overview])``.
    Main thread only.
    """

    def __init__(self, atlas: Atlas, *, fraction: float = 0.25, margin_px: int = 8, **drawing: Any) -> None:
        self._image = TiledImageVisual(atlas, **drawing)
        self._ground, self._lines = MarksVisual(), MarksVisual()
        self._fraction, self._margin_px = fraction, margin_px

    def update(
        self,
        plane: Plane,
        index: tuple[int, ...],
        resident: Callable[[TileKey], bool],
        key_of: Callable[[TileKey], LoadKey],
        view: Rect,
        size_px: tuple[int, int],
    ) -> None:
        """Show where ``view`` (base coordinates) lies in the image, in a frame of ``size_px`` (w, h)."""
        extent = plane.extent
        placed = inset_view(extent, size_px, fraction=self._fraction, margin_px=self._margin_px)
        self._image.set_view(placed, size_px)
        self._image.set_cover(
            cover_view(plane, extent, len(plane.levels) - 1, index, resident),
            key_of,
            (extent.y1 / 2, extent.x1 / 2),
        )
        whole, nothing = np.array([extent], np.float64), np.zeros((0, 4))
        shown = view.intersect(extent)
        frames = [extent] if shown.is_empty else [extent, _at_least(shown, placed, size_px)]
        self._ground.set_marks([Area(whole, _GROUND, PLAIN)], nothing, (), (placed, size_px))
        lines = np.array(frames, np.float64)
        self._lines.set_marks([], lines, (_OUTLINE, _VIEW)[: len(frames)], (placed, size_px))

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """For ``Canvas.draw``."""
        self._ground.set_part(offset_px, size_px)
        self._lines.set_part(offset_px, size_px)
        self._ground.draw()
        self._image.draw_part(offset_px, size_px)
        self._lines.draw()


def _at_least(shown: Rect, placed: Rect, size_px: tuple[int, int], pixels: int = 3) -> Rect:
    """``shown``, widened to some pixels, so that a close view can still be found."""
    half_y = pixels / 2 * (placed.y1 - placed.y0) / size_px[1]
    half_x = pixels / 2 * (placed.x1 - placed.x0) / size_px[0]
    y, x = (shown.y0 + shown.y1) / 2, (shown.x0 + shown.x1) / 2
    return Rect(
        min(shown.y0, y - half_y),
        min(shown.x0, x - half_x),
        max(shown.y1, y + half_y),
        max(shown.x1, x + half_x),
    )
