"""A cover as cells: planes along each axis, and which tile shows what lies between them. Pure.

A ray walks from cell to cell, as through the rooms of a house; inside of one all its samples are of one tile. The boxes of a
cover are disjoint, so that each cell lies in one of them. What of the box that is shown lies in none is missing, whoever
forgot it: no ray comes there unless more is in view than has room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice
from octree.pyramid.model import TileKey
from octree.render.view.cover import Cover, rows_of
from octree.render.view.volume.orbit import Vec
from octree.render.view.volume.sight import Sight

DRAWN, FAILED, MISSING = range(3)
"""What a row of ``Cells`` is."""
MOST_ROWS = 2**16 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """What a cover shows, n *rows*, and the cells that its boxes are cut into. Columns are (x, y, z). All boxes of one tile
    are one row; the last two rows are all that has failed, and all that is missing.

    ``planes``  of x, y and z: ascending, at least two each, base coordinates relative to ``centre``.
    ``cells``   (nz, ny, nx): 0 nothing, else 1 + the row.
    ``keys``    of each row the tile that is drawn there, None where none is.
    ``kinds``   DRAWN, FAILED or MISSING.
    ``levels``, ``wanted``      that of the tile, and that which is wanted there.
    ``scale``   (n, 3) base voxels per texel.
    ``corner``  (n, 3) where the first texel of the tile begins, base coordinates relative to ``centre``.
    """

    planes: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    cells: NDArray[np.uint16]
    keys: tuple[TileKey | None, ...]
    kinds: NDArray[np.int8]
    levels: NDArray[np.intp]
    wanted: NDArray[np.intp]
    scale: NDArray[Any]
    corner: NDArray[Any]
    centre: Vec


def cells_of(lattice: Lattice, cover: Cover, sight: Sight) -> Cells:
    """The cells of a cover of ``sight.box``. Planes are numbers that float32 has, so that every program cuts alike."""
    quads = cover.quads
    wanted = [cover.level] * len(quads) if quads.wanted is None else quads.wanted.tolist()
    known: dict[tuple[TileKey, int], int] = {}
    owners = [known.setdefault(pair, len(known)) for pair in zip(quads.keys, wanted, strict=True)]
    drawn = list(known)[: MOST_ROWS - 2]
    failed, missing = len(drawn), len(drawn) + 1
    rows = [owner if owner < failed else missing for owner in owners]
    boxes = np.concatenate([quads.dest, rows_of(cover.failed, 3)])
    planes, cells = _cut(boxes, [*rows, *[failed] * len(cover.failed)], missing, sight)
    scale, corner = _placed(lattice, [key for key, _ in drawn], sight.centre)
    others = [cover.level] * 2
    return Cells(
        planes=planes,
        cells=cells,
        keys=(*[key for key, _ in drawn], None, None),
        kinds=np.array([*[DRAWN] * len(drawn), FAILED, MISSING], np.int8),
        levels=np.array([*[key.level for key, _ in drawn], *others], np.intp),
        wanted=np.array([*[level for _, level in drawn], *others], np.intp),
        scale=scale,
        corner=corner,
        centre=sight.centre,
    )


def _cut(
    boxes: NDArray[np.float64], rows: list[int], missing: int, sight: Sight
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.uint16]]:
    """Planes and cells of boxes (n, 6) and their rows; what they leave of what is shown is of the row ``missing``."""
    centre = np.array(sight.centre * 2)
    all_of = np.concatenate([boxes, rows_of([sight.box], 3)])[:, [2, 1, 0, 5, 4, 3]] - centre
    ends = all_of.astype(np.float32).astype(np.float64)
    x, y, z = (np.unique(ends[:, [axis, axis + 3]]) for axis in range(3))
    if min(map(len, (x, y, z))) < 2 or sight.box.is_empty:
        nowhere = np.zeros(2)
        return (nowhere, nowhere, nowhere), np.zeros((1, 1, 1), np.uint16)
    at = [np.searchsorted(planes, ends[:-1, [axis, axis + 3]]) for axis, planes in enumerate((x, y, z))]
    cells = np.full((len(z) - 1, len(y) - 1, len(x) - 1), 1 + missing, np.uint16)
    spans = zip(*[along.tolist() for along in at], rows, strict=True)
    for (x0, x1), (y0, y1), (z0, z1), row in spans:
        cells[z0:z1, y0:y1, x0:x1] = 1 + row
    return (x, y, z), cells


def _placed(
    lattice: Lattice, keys: list[TileKey], centre: Vec
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Base voxels per texel, and where the tiles begin, relative to ``centre``; of the last two rows nowhere."""
    levels = np.array([(info.scale, info.origin, info.tile) for info in lattice.levels])
    scale, origin, tile = levels[[key.level for key in keys]].reshape(-1, 3, 3).transpose(1, 0, 2)[..., ::-1]
    grid = np.array([key.grid for key in keys], np.float64).reshape(-1, 3)[:, ::-1]
    corner = origin + scale * (grid * tile) - centre
    return np.concatenate([scale, np.ones((2, 3))]), np.concatenate([corner, np.zeros((2, 3))])


def closed_faces(
    lattice: Lattice, cells: Cells, there: Callable[[TileKey], bool]
) -> NDArray[np.bool_] | None:
    """(n, 6): whether what lies beyond the low faces x, y, z of each row's tile, and the high ones, is not to be looked at: some
    tile of the same level is not ``there``, which says of each whether the view has it. None where all that is drawn is of
    one level: then what a view can look at is there.

    What is not wanted may be in memory or not. A picture that interpolates with it would depend on what was seen before."""
    if len(np.unique(cells.levels[cells.kinds == DRAWN])) < 2:
        return None
    closed, known = np.zeros((len(cells.keys), 6), bool), dict[TileKey, bool]()
    for row, key in enumerate(cells.keys):
        if key is None:
            continue
        level, index, grid = key
        counts = lattice.levels[level].tile_counts
        for step in _STEPS:
            beside = tuple(map(add, grid, step))
            if not all(0 <= at < count for at, count in zip(beside, counts, strict=True)):
                continue
            tile = TileKey(level, index, beside)
            if tile not in known:
                known[tile] = there(tile)
            if not known[tile]:
                closed[row] |= _FACES[step]
    return closed


_STEPS = tuple(step for step in product((-1, 0, 1), repeat=3) if any(step))
"""To the tiles around one, (z, y, x)."""
_FACES = {step: np.array([by == side for side in (-1, 1) for by in reversed(step)]) for step in _STEPS}
"""Beyond which faces they lie."""
