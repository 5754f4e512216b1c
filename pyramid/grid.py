"""Pure geometry of one displayed plane: levels, their tiles, and which tiles meet a rectangle.

*Base coordinates*: level-0 pixels of the layer, (0, 0) is the outer corner of the first pixel, (y, x) order.
Everything derives from the real shapes, scales and translations of the levels, never from ``2 ** level``: any
factor, odd sizes and anisotropic levels come out right, and a tile that does not exist cannot be named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from octree.pyramid.model import PyramidSpec


class Rect(NamedTuple):
    """A half-open rectangle ``[y0, y1) x [x0, x1)``."""

    y0: float
    x0: float
    y1: float
    x1: float

    @property
    def is_empty(self) -> bool:
        return not (self.y1 > self.y0 and self.x1 > self.x0)

    @property
    def area(self) -> float:
        return 0.0 if self.is_empty else (self.y1 - self.y0) * (self.x1 - self.x0)

    def intersect(self, other: Rect) -> Rect:
        return Rect(
            max(self.y0, other.y0), max(self.x0, other.x0), min(self.y1, other.y1), min(self.x1, other.x1)
        )


class TileRange(NamedTuple):
    """Rows ``[row0, row1)`` and columns ``[col0, col1)`` of tiles."""

    row0: int
    row1: int
    col0: int
    col1: int

    @property
    def count(self) -> int:  # type: ignore[override] # hides tuple.count, which nobody calls on a range
        return max(0, self.row1 - self.row0) * max(0, self.col1 - self.col0)


@dataclass(frozen=True, slots=True)
class PlaneLevel:
    """One level of a plane, every pair in (y, x) order.

    ``shape``   texels.  ``tile``  texels of a full tile (edge tiles are smaller).
    ``scale``   base pixels per texel.  ``origin``  base coordinate of the outer corner of texel (0, 0).
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    scale: tuple[float, float]
    origin: tuple[float, float]

    @property
    def tile_counts(self) -> tuple[int, int]:
        return math.ceil(self.shape[0] / self.tile[0]), math.ceil(self.shape[1] / self.tile[1])

    def tiles_along(self, axis: int, low: float, high: float) -> tuple[int, int]:
        """Tiles ``[first, last)`` along one axis that share length with ``[low, high)`` of the image (base
        coordinates inside ``Plane.extent``, ``low < high``); never none."""
        count = -(-self.shape[axis] // self.tile[axis])
        size = self.scale[axis] * self.tile[axis]
        first = math.floor((low - self.origin[axis]) / size)
        last = math.ceil((high - self.origin[axis]) / size)
        # a level that was floored or shifted does not reach the edge: its outermost tile stands in
        first = min(max(first, 0), count - 1)
        return first, max(min(last, count), first + 1)


@dataclass(frozen=True, slots=True)
class Plane:
    """All levels of one displayed plane; level 0 is the finest."""

    levels: tuple[PlaneLevel, ...]

    @property
    def extent(self) -> Rect:
        """What the image covers: the rectangle of level 0, in base coordinates."""
        level = self.levels[0]
        return Rect(0.0, 0.0, float(level.shape[0]), float(level.shape[1]))

    def tile_shape(self, level: int, row: int, col: int) -> tuple[int, int]:
        """Texels of one tile; edge tiles are smaller than ``PlaneLevel.tile``."""
        info = self.levels[level]
        (rows, cols), (height, width) = info.shape, info.tile
        return min(height, rows - row * height), min(width, cols - col * width)

    def tile_rect(self, level: int, row: int, col: int) -> Rect:
        """Base rectangle of one tile's texels. Neighbours share their edge to the last bit. Not clipped to
        ``extent``: the last texel of a coarse level may reach beyond the image."""
        info = self.levels[level]
        (rows, cols), (height, width) = info.shape, info.tile
        return Rect(
            info.origin[0] + info.scale[0] * (row * height),
            info.origin[1] + info.scale[1] * (col * width),
            info.origin[0] + info.scale[0] * min((row + 1) * height, rows),
            info.origin[1] + info.scale[1] * min((col + 1) * width, cols),
        )

    def tiles_meeting(self, level: int, rect: Rect) -> TileRange:
        """Tiles of ``level`` that share area with ``rect`` (base coordinates); empty when none does."""
        info = self.levels[level]
        clipped = rect.intersect(self.extent)
        if clipped.is_empty:
            return TileRange(0, 0, 0, 0)
        rows = info.tiles_along(0, clipped.y0, clipped.y1)
        return TileRange(*rows, *info.tiles_along(1, clipped.x0, clipped.x1))


def plane_of(spec: PyramidSpec, tile: int | None = None) -> Plane:
    """The displayed (y, x) plane of a pyramid.

    ``tile`` is the tile edge in pixels; None takes each level's chunk edge.

    Level k's texel i covers ``[translation - scale/2, translation + scale/2)`` in world units around its
    centre; subtracting level 0's corner and dividing by level 0's scale gives base coordinates.
    """
    iy, ix = spec.axis_index("y"), spec.axis_index("x")
    if iy is None or ix is None:
        raise ValueError(f"no y and x axes among {spec.axis_names}")
    base = spec.levels[0]
    levels = []
    for level in spec.levels:
        scale = tuple(level.scale[i] / base.scale[i] for i in (iy, ix))
        origin = tuple(
            ((level.translation[i] - level.scale[i] / 2) - (base.translation[i] - base.scale[i] / 2))
            / base.scale[i]
            for i in (iy, ix)
        )
        levels.append(
            PlaneLevel(
                shape=(level.shape[iy], level.shape[ix]),
                tile=(tile or level.chunks[iy], tile or level.chunks[ix]),
                scale=(scale[0], scale[1]),
                origin=(origin[0], origin[1]),
            )
        )
    return Plane(tuple(levels))
