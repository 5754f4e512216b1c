"""Where the viewer stands: pure values.

Camera coordinates are level-0 pixels of the first layer: (0, 0) is the outer corner of the first pixel, x to
the right, y down. ``zoom`` is screen pixels per level-0 pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

from octree.pyramid.grid import Rect


@dataclass(frozen=True, slots=True)
class Camera:
    """Centre of the view (camera coordinates) and zoom."""

    x: float
    y: float
    zoom: float
    name: str = ""

    def rect(self, size_px: tuple[int, int]) -> Rect:
        """What a frame of ``size_px`` (width, height) shows, in camera coordinates."""
        half_width, half_height = size_px[0] / (2 * self.zoom), size_px[1] / (2 * self.zoom)
        return Rect(self.y - half_height, self.x - half_width, self.y + half_height, self.x + half_width)
