"""From a cover to vertices: pure arithmetic, float64 until the last step. No OpenGL here.

Five attributes for each corner, all (x, y) order:

    position  frame pixel, or base coordinate relative to an origin
    bounds    the tile's own texels in its page: first (x, y), end (x, y)
    start     page texel at the quad's first pixel's centre: whole (x, y) and fraction (x, y);
              for vispy's cameras: texels from the tile's first texel (x, y) at this corner, 0, 0
    step      texels per pixel (x, y): leading 12 bits, then the rest
    mark      level; kind (IDEAL … MISSING); the quad's first pixel (x, y)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Rect
from octree.render.cover import Cover

IDEAL, STAND_IN, FAILED, MISSING = 0.0, 1.0, 2.0, 3.0

VERTEX = np.dtype(
    [
        ("a_position", np.float32, 2),
        ("a_bounds", np.float32, 4),
        ("a_start", np.float32, 4),
        ("a_step", np.float32, 4),
        ("a_mark", np.float32, 4),
    ]
)
_FIELDS = 18

_PIXEL_TOLERANCE = 1e-9
"""A pixel's centre this close before an edge counts as on it: the rounding of float64 coordinates."""


@dataclass(frozen=True, slots=True, eq=False)
class Quads:
    """What a visual draws, sorted by page. All rectangles (y0, x0, y1, x1), float64.

    ``page`` (n,) page numbers, ``tile`` (n, 4) the tile's own texels in the page, ``source`` (n, 4) texels of
    the page that ``dest`` (n, 4, base coordinates) shows, ``level`` and ``kind`` (n,).
    """

    page: NDArray[np.int64]
    tile: NDArray[np.float64]
    source: NDArray[np.float64]
    dest: NDArray[np.float64]
    level: NDArray[np.float64]
    kind: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.page)


def place_quads(cover: Cover, places: Sequence[tuple[int, int, int, int, int]]) -> Quads:
    """Join a cover with where its tiles are. ``places``: (page, y, x, height, width) for each quad."""
    quads = cover.quads
    spot = np.array(places, np.float64).reshape(-1, 5)
    corner = spot[:, 1:3]
    tile = np.concatenate([corner, corner + spot[:, 3:5]], axis=1)
    level = quads.levels.astype(np.float64)
    kind = np.where(level == cover.level, IDEAL, STAND_IN)
    extra = [*((rect, FAILED) for rect in cover.failed), *((rect, MISSING) for rect in cover.missing)]
    page = spot[:, 0].astype(np.int64)
    source = quads.source + np.tile(corner, 2)
    dest = quads.dest
    if extra:
        count = len(extra)
        page = np.concatenate([page, np.full(count, page[0] if len(page) else -1)])
        tile = np.concatenate([tile, np.tile([0.0, 0.0, 1.0, 1.0], (count, 1))])
        source = np.concatenate([source, np.tile([0.0, 0.0, 1.0, 1.0], (count, 1))])
        dest = np.concatenate([dest, np.array([rect for rect, _ in extra], np.float64)])
        level = np.concatenate([level, np.full(count, float(cover.level))])
        kind = np.concatenate([kind, np.array([value for _, value in extra])])
    if len(page) and (page[0] != page).any():
        order = np.argsort(page, kind="stable")
        page, tile, source = page[order], tile[order], source[order]
        dest, level, kind = dest[order], level[order], kind[order]
    return Quads(page, tile, source, dest, level, kind)


def exact_vertices(
    quads: Quads, view: Rect, size_px: tuple[int, int]
) -> tuple[NDArray[np.void], NDArray[np.intp]]:
    """Vertices for a frame of ``size_px`` (w, h) that shows ``view``: (4 n,) of ``VERTEX``, and for each kept
    quad its row in ``quads``. A pixel belongs to the quad that holds its centre; quads without one are left out.
    """
    size = np.array([size_px[1], size_px[0]], np.float64)
    first = np.array([view.y0, view.x0])
    px_per_base = size / np.array([view.y1 - view.y0, view.x1 - view.x0])
    edges = np.ceil((quads.dest - np.tile(first, 2)) * np.tile(px_per_base, 2) - (0.5 + _PIXEL_TOLERANCE))
    edges = np.clip(edges, 0.0, np.tile(size, 2))
    kept = np.flatnonzero((edges[:, 2] > edges[:, 0]) & (edges[:, 3] > edges[:, 1]))
    edges, source, dest = edges[kept], quads.source[kept], quads.dest[kept]
    texels_per_base = (source[:, 2:] - source[:, :2]) / (dest[:, 2:] - dest[:, :2])
    centre = first + (edges[:, :2] + 0.5) / px_per_base
    start = source[:, :2] + (centre - dest[:, :2]) * texels_per_base
    step = texels_per_base / px_per_base
    whole = np.floor(start)
    leading = _leading_bits(step)
    rows = np.empty((len(kept), 4, _FIELDS), np.float32)
    _corners(rows, edges)
    rows[:, :, 2:6] = quads.tile[kept][:, None, [1, 0, 3, 2]]
    rows[:, :, 6:8] = whole[:, None, ::-1]
    rows[:, :, 8:10] = (start - whole)[:, None, ::-1]
    rows[:, :, 10:12] = leading[:, None, ::-1]
    rows[:, :, 12:14] = (step - leading)[:, None, ::-1]
    rows[:, :, 14] = quads.level[kept, None]
    rows[:, :, 15] = quads.kind[kept, None]
    rows[:, :, 16:18] = edges[:, None, 1::-1]
    return rows.reshape(-1, _FIELDS).view(VERTEX)[:, 0], kept


def plain_vertices(quads: Quads, origin: tuple[float, float]) -> tuple[NDArray[np.void], NDArray[np.intp]]:
    """Vertices for a camera of vispy, positions relative to ``origin`` (y, x) in base coordinates."""
    rows = np.zeros((len(quads), 4, _FIELDS), np.float32)
    _corners(rows, quads.dest - np.tile(origin, 2))
    rows[:, :, 2:6] = quads.tile[:, None, [1, 0, 3, 2]]
    local = quads.source - np.tile(quads.tile[:, :2], 2)
    _corners(rows[:, :, 6:8], local)
    rows[:, :, 14] = quads.level[:, None]
    rows[:, :, 15] = quads.kind[:, None]
    return rows.reshape(-1, _FIELDS).view(VERTEX)[:, 0], np.arange(len(quads))


def _corners(rows: NDArray[np.float32], rect: NDArray[np.float64]) -> None:
    """Write the (x, y) of the four corners: top left, top right, bottom left, bottom right."""
    for number, (y, x) in enumerate(((0, 1), (0, 3), (2, 1), (2, 3))):
        rows[:, number, 0] = rect[:, x]
        rows[:, number, 1] = rect[:, y]


def _leading_bits(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """``value`` cut to 12 significant bits: times a count below 4096 it is exact in float32."""
    mantissa, exponent = np.frexp(value)
    leading: NDArray[np.float64] = np.ldexp(np.floor(mantissa * 4096.0), exponent - 12)
    return leading


def corner_indices(count: int) -> NDArray[np.uint32]:
    """Two triangles for each of ``count`` quads of four corners."""
    return (np.array([0, 1, 2, 2, 1, 3], np.uint32) + 4 * np.arange(count, dtype=np.uint32)[:, None]).ravel()
