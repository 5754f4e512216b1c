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

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Plane, Rect
from octree.pyramid.model import TileKey
from octree.render.view.coverage import Coverage

TOLERANCE = 1e-7
"""Pixels and texels: a centre this close before an edge counts as on it. Cameras are decimal numbers."""

_TOLERANCE_TILES = 1e-6
"""Overlaps smaller than this fraction of a tile are rounding: 0.1 * 256 * 2 is not 0.2 * 256 everywhere."""


@dataclass(frozen=True, slots=True, eq=False)
class QuadBatch:
    """n disjoint quads; row i shows ``source[i]`` of tile ``keys[i]``, of ``levels[i]``, at ``dest[i]``.

    ``source``  (n, 4) float64: rectangle in texels of the tile, (0, 0) the outer corner of its first texel.
                It reaches beyond the tile where an outermost tile stands in for a level that ends early.
    ``dest``    (n, 4) float64: rectangle in base coordinates.
    """

    keys: tuple[TileKey, ...]
    levels: NDArray[np.intp]
    source: NDArray[np.float64]
    dest: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """The answer. ``missing`` and ``failed`` are base rectangles, ``level`` is the wanted level."""

    quads: QuadBatch
    coverage: Coverage
    missing: tuple[Rect, ...]
    failed: tuple[Rect, ...]
    level: int

    @property
    def drawn(self) -> frozenset[TileKey]:
        """Each tile that has a quad."""
        return frozenset(self.quads.keys)


def _never(_key: TileKey) -> bool:
    return False


def cover_view(
    plane: Plane,
    view: Rect,
    level: int,
    index: tuple[int, ...],
    resident: Callable[[TileKey], bool],
    failed: Callable[[TileKey], bool] = _never,
    size_px: tuple[int, int] | None = None,
) -> Cover:
    """Cover the part of ``view`` (base coordinates) that the image fills, wanting ``level``.

    With ``size_px`` (width, height) of the frame, coverage counts its pixels: each belongs to what covers its
    centre, as it is drawn. Without, coverage measures areas.

    ``index`` is the position on the axes that are not displayed. ``resident`` and ``failed`` are asked about
    tiles of any level; to make several channels appear together, ``resident`` asks for all of them.
    """
    visible = view.intersect(plane.extent)
    if visible.is_empty:
        quads = _batch(plane, (), np.zeros((0, 4)))
        return Cover(quads, Coverage(), (), (), level)
    missing: list[Rect] = []
    broken: list[Rect] = []
    tiles = _Tiles(plane, index, resident)
    # most frames are all ideal: whole arrays for what is there, one by one only for what is not
    keys, dest = tiles.cells(level, visible)
    there = [resident(key) for key in keys]
    if not all(there):
        painted: list[tuple[TileKey, Rect]] = []
        for key, rect, is_there in zip(keys, dest.tolist(), there, strict=True):
            if is_there:
                continue
            cell = Rect(*rect)
            if (pieces := tiles.finer(level - 1, cell)) is not None:
                painted += pieces
            elif failed(key):
                broken.append(cell)
            else:
                tiles.coarser(level + 1, cell, painted, missing)
        keys = [*itertools.compress(keys, there), *(key for key, _ in painted)]
        others = np.array([rect for _, rect in painted], np.float64).reshape(-1, 4)
        dest = np.concatenate([dest[np.array(there)], others])
    quads = _batch(plane, tuple(keys), dest)
    areas = _areas if size_px is None else functools.partial(_pixels, view, size_px)
    coverage = _coverage(quads, missing, broken, areas, level)
    return Cover(quads, coverage, tuple(missing), tuple(broken), level)


class _Tiles:
    """What could be drawn where, for one ``cover_view``."""

    def __init__(self, plane: Plane, index: tuple[int, ...], resident: Callable[[TileKey], bool]) -> None:
        self._plane = plane
        self._index = index
        self._resident = resident

    def cells(self, level: int, rect: Rect) -> tuple[list[TileKey], NDArray[np.float64]]:
        """Tiles of ``level`` that meet ``rect``, and the parts of it they are responsible for, (n, 4): a
        partition."""
        rows, cols, ys, xs = self._spans(level, rect)
        index = self._index
        new = tuple.__new__  # a named tuple's own constructor takes twice the time, and this is the hot spot
        keys = [new(TileKey, (level, index, (row, col))) for row in rows for col in cols]
        dest = np.empty((len(rows), len(cols), 4))
        y, x = np.array(ys), np.array(xs)
        dest[:, :, 0], dest[:, :, 2] = y[:-1, None], y[1:, None]
        dest[:, :, 1], dest[:, :, 3] = x[:-1], x[1:]
        return keys, dest.reshape(-1, 4)

    def few(self, level: int, rect: Rect) -> Iterator[tuple[TileKey, Rect]]:
        """The same, one by one: faster for a handful."""
        rows, cols, ys, xs = self._spans(level, rect)
        for i, row in enumerate(rows):
            for j, col in enumerate(cols):
                yield TileKey(level, self._index, (row, col)), Rect(ys[i], xs[j], ys[i + 1], xs[j + 1])

    def _spans(self, level: int, rect: Rect) -> tuple[range, range, list[float], list[float]]:
        info = self._plane.levels[level]
        counts = info.tile_counts
        rows, ys = _span(rect.y0, rect.y1, info.origin[0], info.scale[0] * info.tile[0], counts[0])
        cols, xs = _span(rect.x0, rect.x1, info.origin[1], info.scale[1] * info.tile[1], counts[1])
        return rows, cols, ys, xs

    def finer(self, level: int, rect: Rect) -> list[tuple[TileKey, Rect]] | None:
        """Tiles finer than the wanted level that cover ``rect`` completely, or None."""
        if level < 0:
            return None
        pieces: list[tuple[TileKey, Rect]] = []
        for key, cell in self.few(level, rect):
            if self._resident(key):
                pieces.append((key, cell))
            elif (more := self.finer(level - 1, cell)) is not None:
                pieces += more
            else:
                return None
        return pieces

    def coarser(
        self, level: int, rect: Rect, painted: list[tuple[TileKey, Rect]], missing: list[Rect]
    ) -> None:
        """Paint ``rect`` from ``level`` and coarser ones; what no level has goes to ``missing``."""
        if level >= len(self._plane.levels):
            missing.append(rect)
            return
        for key, cell in self.few(level, rect):
            if self._resident(key):
                painted.append((key, cell))
            else:
                self.coarser(level + 1, cell, painted, missing)


def _span(low: float, high: float, origin: float, size: float, count: int) -> tuple[range, list[float]]:
    """Numbers of the tiles along one axis that meet ``[low, high)``, and their edges, cut to it.

    The outermost tiles answer for everything beyond the level's own edges."""
    first = math.floor((low - origin) / size + _TOLERANCE_TILES)
    last = math.ceil((high - origin) / size - _TOLERANCE_TILES)
    first = min(max(first, 0), count - 1)
    last = max(min(last, count), first + 1)
    return range(first, last), [low, *(origin + size * number for number in range(first + 1, last)), high]


def _batch(plane: Plane, keys: tuple[TileKey, ...], dest: NDArray[np.float64]) -> QuadBatch:
    levels = np.array([key[0] for key in keys], np.intp)
    grid = np.array([key[2][-2:] for key in keys], np.float64).reshape(-1, 2)
    infos = plane.levels
    size = np.array([(*info.scale, *info.origin, *info.tile) for info in infos])[levels]
    scale, origin, tile = size[:, 0:2], size[:, 2:4], size[:, 4:6]
    corner = origin + scale * (grid * tile)
    source = (dest.reshape(-1, 2, 2) - corner[:, None]) / scale[:, None]
    return QuadBatch(keys, levels, source.reshape(-1, 4), dest)


def _areas(rects: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas of rectangles, (n, 4) → (n,)."""
    area: NDArray[np.float64] = (rects[:, 2] - rects[:, 0]) * (rects[:, 3] - rects[:, 1])
    return area


def pixel_edges(dest: NDArray[np.float64], view: Rect, size_px: tuple[int, int]) -> NDArray[np.float64]:
    """(n, 4) whole pixels (y0, x0, y1, x1) whose centres lie in ``dest``, cut to the frame of ``size_px``
    (w, h) that shows ``view``. Rectangles that share an edge share it here too: watertight."""
    size = np.array([size_px[1], size_px[0]] * 2, np.float64)
    corner = np.array([view.y0, view.x0] * 2)
    px_per_base = size / np.array([view.y1 - view.y0, view.x1 - view.x0] * 2)
    edges: NDArray[np.float64] = np.ceil((dest - corner) * px_per_base - (0.5 + TOLERANCE))
    return np.minimum(np.maximum(edges, 0.0), size)


def _pixels(view: Rect, size_px: tuple[int, int], rects: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many pixel centres each rectangle covers, (n, 4) → (n,): whole numbers."""
    return _areas(pixel_edges(rects, view, size_px))


def _coverage(
    quads: QuadBatch,
    missing: list[Rect],
    failed: list[Rect],
    areas: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    wanted: int,
) -> Coverage:
    sums = np.bincount(quads.levels, areas(quads.dest))
    lost, holes = (
        float(areas(np.array(rects, np.float64)).sum()) if rects else 0.0 for rects in (failed, missing)
    )
    whole = float(sums.sum()) + lost + holes
    if not whole:  # the image is in view, but under no pixel's centre
        return Coverage()
    lost, holes = lost / whole, holes / whole
    by_level = {int(level): float(sums[level]) / whole for level in np.flatnonzero(sums)}
    finer = sum((part for level, part in by_level.items() if level < wanted), 0.0)
    coarser = sum((part for level, part in by_level.items() if level > wanted), 0.0)
    # the rest, so that a frame which is all ideal says exactly 1
    ideal = max(0.0, 1.0 - (finer + coarser + lost + holes)) if wanted in by_level else 0.0
    if wanted in by_level:
        by_level[wanted] = ideal
    return Coverage(ideal, finer, coarser, lost, holes, by_level)
