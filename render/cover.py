"""What to draw with what is there: wanted tiles and residency → disjoint quads and ``Coverage``, in one pass.

Every part of the visible image is given to exactly one tile, so opacity and additive blending are right while
tiles are still arriving, and the coverage numbers are the areas of what is drawn, not an estimate. A cell of
the wanted level shows, in this order:

1. its own tile;
2. the finer tiles under it, when all of them are resident;
3. nothing but a failure pattern, when its own tile could not be read;
4. the matching part of the nearest resident coarser tile;
5. nothing (missing).

Pure: geometry comes from ``Plane`` alone, so any factor, odd size and shifted level works. Neighbours share
their edges to the last bit. All rectangles are (y0, x0, y1, x1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Plane, Rect
from octree.pyramid.model import TileKey
from octree.render.report import Coverage

_TOLERANCE_TILES = 1e-6
"""Overlaps smaller than this fraction of a tile are rounding: 0.1 * 256 * 2 is not 0.2 * 256 everywhere."""


@dataclass(frozen=True, slots=True, eq=False)
class QuadBatch:
    """n disjoint quads; row i shows ``source[i]`` of tile ``keys[i]`` at ``dest[i]``.

    ``source``  (n, 4) float64: rectangle in texels of the tile, (0, 0) the outer corner of its first texel.
                It reaches beyond the tile where an outermost tile stands in for a level that ends early.
    ``dest``    (n, 4) float64: rectangle in base coordinates.
    ``step``    (n, 2) float64: base pixels per texel, (y, x).
    """

    keys: tuple[TileKey, ...]
    source: NDArray[np.float64]
    dest: NDArray[np.float64]
    step: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def levels(self) -> NDArray[np.intp]:
        return np.fromiter((key.level for key in self.keys), np.intp, len(self.keys))


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """The answer: ``drawn`` has each tile of ``quads`` once; ``missing`` and ``failed`` are base rectangles.

    ``level`` is the wanted level."""

    quads: QuadBatch
    coverage: Coverage
    missing: tuple[Rect, ...]
    failed: tuple[Rect, ...]
    drawn: frozenset[TileKey]
    level: int


def _never(_key: TileKey) -> bool:
    return False


def cover_view(
    plane: Plane,
    view: Rect,
    level: int,
    index: tuple[int, ...],
    resident: Callable[[TileKey], bool],
    failed: Callable[[TileKey], bool] = _never,
) -> Cover:
    """Cover the part of ``view`` (base coordinates) that the image fills, wanting ``level``.

    ``index`` is the position on the axes that are not displayed. ``resident`` and ``failed`` are asked about
    tiles of any level; to make several channels appear together, ``resident`` asks for all of them.
    """
    visible = view.intersect(plane.extent)
    painter = _Painter(plane, index, resident)
    missing: list[Rect] = []
    broken: list[Rect] = []
    if not visible.is_empty:
        for key, cell in painter.cells(level, visible):
            if resident(key):
                painter.paint(key, cell)
            elif (pieces := painter.finer(level - 1, cell)) is not None:
                for piece in pieces:
                    painter.paint(*piece)
            elif failed(key):
                broken.append(cell)
            else:
                painter.coarser(level + 1, cell, missing)
    quads = painter.batch()
    return Cover(
        quads=quads,
        coverage=_coverage(quads, missing, broken, visible.area, level),
        missing=tuple(missing),
        failed=tuple(broken),
        drawn=frozenset(quads.keys),
        level=level,
    )


class _Painter:
    """Collects quads of one ``cover_view``."""

    def __init__(self, plane: Plane, index: tuple[int, ...], resident: Callable[[TileKey], bool]) -> None:
        self._plane = plane
        self._index = index
        self._resident = resident
        self._keys: list[TileKey] = []
        self._dest: list[Rect] = []

    def paint(self, key: TileKey, dest: Rect) -> None:
        self._keys.append(key)
        self._dest.append(dest)

    def cells(self, level: int, rect: Rect) -> list[tuple[TileKey, Rect]]:
        """Tiles of ``level`` that meet ``rect``, with the parts of it they are responsible for: a partition."""
        info = self._plane.levels[level]
        spans = [
            _spans(low, high, info.origin[axis], info.scale[axis] * info.tile[axis], info.tile_counts[axis])
            for axis, (low, high) in enumerate(((rect.y0, rect.y1), (rect.x0, rect.x1)))
        ]
        index = self._index
        return [
            (TileKey(level, index, (row, col)), Rect(y0, x0, y1, x1))
            for row, y0, y1 in spans[0]
            for col, x0, x1 in spans[1]
        ]

    def finer(self, level: int, rect: Rect) -> list[tuple[TileKey, Rect]] | None:
        """Tiles finer than the wanted level that cover ``rect`` completely, or None."""
        if level < 0:
            return None
        pieces: list[tuple[TileKey, Rect]] = []
        for key, cell in self.cells(level, rect):
            if self._resident(key):
                pieces.append((key, cell))
            elif (more := self.finer(level - 1, cell)) is not None:
                pieces += more
            else:
                return None
        return pieces

    def coarser(self, level: int, rect: Rect, missing: list[Rect]) -> None:
        """Paint ``rect`` from ``level`` and coarser ones; what no level has goes to ``missing``."""
        if level >= len(self._plane.levels):
            missing.append(rect)
            return
        for key, cell in self.cells(level, rect):
            if self._resident(key):
                self.paint(key, cell)
            else:
                self.coarser(level + 1, cell, missing)

    def batch(self) -> QuadBatch:
        keys = tuple(self._keys)
        dest = np.array(self._dest, np.float64).reshape(-1, 4)
        levels = np.fromiter((key.level for key in keys), np.intp, len(keys))
        grid = np.array([key.grid[-2:] for key in keys], np.float64).reshape(-1, 2)
        infos = self._plane.levels
        scale = np.array([info.scale for info in infos])[levels]
        corner = np.array([info.origin for info in infos])[levels]
        corner = corner + scale * (grid * np.array([info.tile for info in infos], np.float64)[levels])
        source = (dest - np.tile(corner, 2)) / np.tile(scale, 2)
        return QuadBatch(keys, source, dest, scale)


def _spans(low: float, high: float, origin: float, size: float, count: int) -> list[tuple[int, float, float]]:
    """(number, low, high) of each tile along one axis that meets ``[low, high)``, cut to it.

    The outermost tiles answer for everything beyond the level's own edges."""
    first = math.floor((low - origin) / size + _TOLERANCE_TILES)
    last = math.ceil((high - origin) / size - _TOLERANCE_TILES)
    first = min(max(first, 0), count - 1)
    last = max(min(last, count), first + 1)
    edges = [low, *(origin + size * number for number in range(first + 1, last)), high]
    return [(first + i, edges[i], edges[i + 1]) for i in range(last - first)]


def _coverage(
    quads: QuadBatch, missing: list[Rect], failed: list[Rect], visible_area: float, wanted: int
) -> Coverage:
    if visible_area <= 0:
        return Coverage()
    dest = quads.dest
    area = (dest[:, 2] - dest[:, 0]) * (dest[:, 3] - dest[:, 1])
    sums = np.bincount(quads.levels, area)
    by_level = {int(level): float(sums[level]) / visible_area for level in np.flatnonzero(sums)}
    finer = sum(part for level, part in by_level.items() if level < wanted)
    coarser = sum(part for level, part in by_level.items() if level > wanted)
    lost = sum(rect.area for rect in failed) / visible_area
    holes = sum(rect.area for rect in missing) / visible_area
    # the rest, so that a frame which is all ideal says exactly 1
    ideal = max(0.0, 1.0 - (finer + coarser + lost + holes)) if wanted in by_level else 0.0
    if wanted in by_level:
        by_level[wanted] = ideal
    return Coverage(ideal, finer, coarser, lost, holes, by_level)
