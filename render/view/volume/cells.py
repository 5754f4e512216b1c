"""A cover as cells: planes along each axis, and which tile shows what lies between them. Pure.

A ray walks from cell to cell, as through the rooms of a house; inside of one all its samples are of one tile. The boxes of a
cover are disjoint, so that each cell lies in one of them, or in none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.model import TileKey
from octree.render.view.volume.sight import Vec

DRAWN, FAILED, MISSING = range(3)
"""What a row of ``Cells`` is."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The boxes of a cover, n *rows*, and the cells that they are cut into. Columns are (x, y, z).

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
