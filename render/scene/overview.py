"""A small picture of the whole image in a corner of the frame, with the view drawn in it.

It is one more layer over the bottom one, whose view is chosen so that the whole image falls on the inset: loading,
uploading and drawing are those of every layer.
"""

from __future__ import annotations

import numpy as np

from octree.pyramid.grid import Region
from octree.render.gl.marks import PLAIN, Area, MarksVisual
from octree.render.scene.layer import Layer
from octree.render.view.cover import rows_of
from octree.render.view.parts import Part, Placed
from octree.render.view.state import ViewState

SHARE = 0.25
"""Largest part of the frame's width and height that the inset takes."""
MARGIN_PX = 8
_GROUND = (0.1, 0.1, 0.1)
_OUTLINE = (0.6, 0.6, 0.6)
_VIEW = (1.0, 0.8, 0.0)
_VIEW_AT_LEAST_PX = 3
"""A close view is outlined so large, or nobody would find it."""


def inset_view(
    extent: Region, size_px: tuple[int, int], aspect: float = 1.0
) -> tuple[Region, tuple[float, float]]:
    """(view, screen pixels per base pixel (y, x)) with which a frame of ``size_px`` (width, height) shows ``extent`` in
    its bottom right corner, on whole pixels and at least one pixel large."""
    width, height = size_px
    wide, high = extent.x1 - extent.x0, extent.y1 - extent.y0
    zoom = min(SHARE * width / wide, SHARE * height / (high * aspect))
    margin_x, margin_y = min(MARGIN_PX, width // 8), min(MARGIN_PX, height // 8)
    left = width - margin_x - max(1, round(wide * zoom))
    tall = zoom * aspect
    top = height - margin_y - max(1, round(high * tall))
    x0, y0 = extent.x0 - left / zoom, extent.y0 - top / tall
    return Region((y0, x0), (y0 + height / tall, x0 + width / zoom)), (tall, zoom)


class Overview:
    """The inset of one frame size; draw it last. Main thread only."""

    def __init__(self, layer: Layer, size_px: tuple[int, int]) -> None:
        self.layer = layer
        self._ground, self._lines = MarksVisual(), MarksVisual()
        self._size_px = size_px
        self._view, self._px_per_base = Region((0.0, 0.0), (0.0, 0.0)), (1.0, 1.0)

    def plan(self, state: ViewState, part: Part | None = None) -> None:
        """``part``: only this part of the frame is to be drawn."""
        placed = self.placed_in(state)
        wanted = None if part is None else (placed, part)
        self.layer.plan_rect(self._view, self._px_per_base, state.slicing, fresh=True, part=wanted)

    def placed_in(self, state: ViewState) -> Placed:
        """What ``parts_of`` must know of it in a frame that shows ``state``."""
        self.layer.go_to(state.slicing)
        extent, aspect = self.layer.face.lattice.extent, state.camera.aspect
        self._view, self._px_per_base = inset_view(extent, self._size_px, aspect)
        return self.layer.placed(self._view, self._px_per_base, self._size_px)

    def mark(self, shown: Region) -> None:
        """Outline the image, and in it what the frame shows (base coordinates of the layer)."""
        extent = self.layer.face.lattice.extent
        seen = shown.intersect(extent)
        outlines = [extent] if seen.is_empty else [extent, self._findable(seen)]
        placed = (self._view, self._size_px)
        self._ground.set_marks([Area(rows_of([extent]), _GROUND, PLAIN)], np.zeros((0, 4)), (), placed)
        self._lines.set_marks([], rows_of(outlines), (_OUTLINE, _VIEW)[: len(outlines)], placed)

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """For ``Canvas.draw``: ground, picture, outlines."""
        self._ground.set_part(offset_px, size_px)
        self._ground.draw()
        for part in self.layer.parts:
            part.visual.draw_part(offset_px, size_px)
        self._lines.set_part(offset_px, size_px)
        self._lines.draw()

    def _findable(self, seen: Region) -> Region:
        half = [_VIEW_AT_LEAST_PX / 2 / px for px in self._px_per_base]
        least = Region(seen.centre, seen.centre).grown(half)
        return Region(tuple(map(min, seen.low, least.low)), tuple(map(max, seen.high, least.high)))
