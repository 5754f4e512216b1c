"""Automatic contrast limits: what is known about the data, else a look at a little of it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice
from octree.pyramid.model import TileKey

SAMPLE_TILES = 16
"""Tiles looked at when the coarsest level has more: an even grid."""


def type_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """What a colour sample of this type runs over: (0, the largest integer), or (0, 1) for floats."""
    if dtype.kind in "ui":
        return 0.0, float(np.iinfo(dtype).max)
    return 0.0, 1.0


def range_of(values: list[NDArray[Any]]) -> tuple[float, float]:
    """(lowest, highest) finite value; (0, 1) when there is none. Equal ends are set one apart, so that a
    constant image is drawn at the low end."""
    low, high = math.inf, -math.inf
    for array in values:
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        return 0.0, 1.0
    return (low, high) if low < high else (low, low + 1.0)


def sample_keys(lattice: Lattice, stored_levels: int) -> list[TileKey]:
    """The tiles to look at: all of the coarsest stored level, or an even grid of ``SAMPLE_TILES`` of them."""
    level = stored_levels - 1
    counts = lattice.levels[level].tile_counts
    along = [list(range(count)) for count in counts]
    if math.prod(counts) > SAMPLE_TILES:
        edge = int(SAMPLE_TILES ** (1 / len(counts)))
        along = [sorted({int((i + 0.5) * count / edge) for i in range(edge)}) for count in counts]
    return [lattice.key(level, grid) for grid in itertools.product(*along)]
