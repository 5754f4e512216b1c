"""From a cover to vertices: pure arithmetic, float64 until the last step. No OpenGL here.

Each corner of a quad has (x, y) order:

    position  pixel of the frame; for vispy's cameras a base coordinate
    local     texels from the tile's corner, at this corner
    tile      the tile's first texel in its page (x, y) and its size (w, h); or the same of the tile's lower right part
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.render.view.cover import TOLERANCE, Cover, pixel_edges

VERTEX = np.dtype([("a_position", np.float32, 2), ("a_local", np.float32, 2), ("a_tile", np.float32, 4)])

CORNERS = ((0, 1), (0, 3), (2, 1), (2, 3))
"""Columns of (y0, x0, y1, x1) for the corners: top left, top right, bottom left, bottom right."""

_X_Y = np.array([column for y, x in CORNERS for column in (x, y)])


@dataclass(frozen=True, slots=True, eq=False)
class Quads:
    """Tiles to draw, sorted by page; n rows. ``page`` numbers; ``tile`` (n, 4): first texel in the page (y, x),
    size (h, w); ``source`` and ``dest`` (n, 4) as in ``QuadBatch``; ``level``."""

    page: NDArray[np.int64]
    tile: NDArray[np.float64]
    source: NDArray[np.float64]
    dest: NDArray[np.float64]
    level: NDArray[np.intp]


def place_quads(cover: Cover, spot: NDArray[np.int64]) -> Quads:
    """Join a cover with where its tiles are: ``spot`` (n, 5) is page, y, x, height, width for each quad."""
    quads = cover.quads
    page, tile = spot[:, 0], spot[:, 1:].astype(np.float64)
    source, dest, level = quads.source, quads.dest, quads.levels
    if len(page) and (page[0] != page).any():
        order = np.argsort(page, kind="stable")
        page, tile, source, dest, level = (
            page[order],
            tile[order],
            source[order],
            dest[order],
            level[order],
        )
    return Quads(page, tile, source, dest, level)


def exact_vertices(
    quads: Quads, view: Region, size_px: tuple[int, int], *, nearest: bool
) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Vertices for a frame of ``size_px`` (w, h) that shows ``view``: (4 n,) of ``VERTEX``, and the page of each
    of the n quads. A pixel belongs to the quad that holds its centre; quads without a pixel are left out.
    """
    edges = pixel_edges(quads.dest, view, size_px)
    count = edges[:, 2:] - edges[:, :2]
    if not (count > 0).all():
        kept = np.flatnonzero((count > 0).all(axis=1))
        edges, count = edges[kept], count[kept]
        quads = Quads(
            quads.page[kept], quads.tile[kept], quads.source[kept], quads.dest[kept], quads.level[kept]
        )
    if not len(edges):
        return np.zeros(0, VERTEX), quads.page
    source, dest = quads.source, quads.dest
    corner = np.array(view.low)
    base_per_px = np.array(view.size) / (size_px[1], size_px[0])
    texels_per_base = (source[:, 2:] - source[:, :2]) / (dest[:, 2:] - dest[:, :2])
    step = texels_per_base * base_per_px
    first = source[:, :2] + ((corner - dest[:, :2]) + edges[:, :2] * base_per_px) * texels_per_base
    if nearest:
        first += _bias(first, step, count, edges[:, :2], quads.level)
        # texels from the first that shows, not from the tile's corner: float32 has digits for a zoom of 10,000
        tile, whole = quads.tile.copy(), np.minimum(np.maximum(np.floor(first), 0.0), quads.tile[:, 2:] - 1.0)
        tile[:, :2] += whole
        tile[:, 2:] -= whole
        first -= whole
    else:
        tile = quads.tile
    local = np.concatenate([first, first + count * step], axis=1)
    return _vertices(edges, local, tile), quads.page


def _bias(
    first: NDArray[np.float64],
    step: NDArray[np.float64],
    count: NDArray[np.float64],
    edge: NDArray[np.float64],
    level: NDArray[np.intp],
) -> NDArray[np.float64]:
    """What to add to the texels so that no pixel's centre is near a texel's edge; all (n, 2), (y, x).

    The rasteriser interpolates in float32, so a centre on an edge, the rule at whole zooms, would fall to
    either side. Every centre stays in its texel and gets the largest distance from edges that all can have.
    Quads of one level with the same first pixel along an axis share their answer.
    """
    same = (level[:, None] * 2 + (0, 1)) * 2.0**20 + edge
    _, one, back = np.unique(same, return_index=True, return_inverse=True)
    longest = count.take(one)[:, None]
    number = np.minimum(np.arange(longest.max()), longest - 1.0)  # where there are fewer, the last again
    at = (first.take(one) + TOLERANCE)[:, None] + (number + 0.5) * step.take(one)[:, None]
    part = at - np.floor(at)
    bias: NDArray[np.float64] = (1.0 + 2 * TOLERANCE - part.max(axis=1) - part.min(axis=1)) / 2
    return bias[back].reshape(first.shape)


def plain_vertices(quads: Quads, origin: tuple[float, ...]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Vertices for a camera of vispy, positions relative to ``origin`` (y, x) in base coordinates."""
    return _vertices(quads.dest - np.tile(origin, 2), quads.source, quads.tile), quads.page


def _vertices(
    position: NDArray[np.float64], local: NDArray[np.float64], tile: NDArray[np.float64]
) -> NDArray[np.void]:
    rows = np.empty((len(position), 4, 8), np.float32)
    rows[:, :, 0:2] = position[:, _X_Y].reshape(-1, 4, 2)
    rows[:, :, 2:4] = local[:, _X_Y].reshape(-1, 4, 2)
    rows[:, :, 4:] = tile[:, None, [1, 0, 3, 2]]
    vertices: NDArray[np.void] = rows.view(VERTEX).ravel()
    return vertices


def corner_indices(count: int) -> NDArray[np.uint32]:
    """Two triangles for each of ``count`` quads of four corners."""
    return (np.array([0, 1, 2, 2, 1, 3], np.uint32) + 4 * np.arange(count, dtype=np.uint32)[:, None]).ravel()
