"""Automatic contrast limits: what is known about the data, else a look at a little of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice
from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.clock import RealClock, later_ms
from octree.render.loading.loader import TileLoader
from octree.render.loading.values import LoadKey, LoadRequest, Tier
from octree.render.tiles.face import Face

SAMPLE_TILES = 16
"""Tiles looked at when the coarsest level has more: an even grid."""
SAMPLE_BRICKS = 27
"""Of a volume; of each no more than a chunk's depth, so that of a stack of planes some are decoded, and not all."""
_LOOK_MS = 1000.0
_POOLS = ((0, PoolSettings(num_workers=4, auto_sync_ms=0.0, delay_queue_ms=0.0)),)


def type_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """What a colour sample of this type runs over: (0, the largest integer), or (0, 1) for floats."""
    if dtype.kind in "ui":
        return 0.0, float(np.iinfo(dtype).max)
    return 0.0, 1.0


def whole_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Every value of an integer type; (0, 1) for others."""
    low, high = type_range(dtype)
    return (float(np.iinfo(dtype).min), high) if dtype.kind == "i" else (low, high)


def range_of(values: list[NDArray[Any]]) -> tuple[float, float]:
    """(lowest, highest) finite value, or magnitude of complex ones; (0, 1) when there is none. Equal ends are set one
    apart, so that a constant image is drawn at the low end."""
    low, high = math.inf, -math.inf
    for array in values:
        if array.dtype.kind == "c":
            array = np.abs(array)
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        return 0.0, 1.0
    return (low, high) if low < high else (low, max(low + 1.0, math.nextafter(low, math.inf)))


def sample_keys(lattice: Lattice, level: int) -> list[TileKey]:
    """The tiles of a level to look at: all, or an even grid of ``SAMPLE_TILES`` of them (bricks: ``SAMPLE_BRICKS``)."""
    counts = lattice.levels[level].tile_counts
    along = [list(range(count)) for count in counts]
    most = SAMPLE_TILES if len(counts) < 3 else SAMPLE_BRICKS
    if math.prod(counts) > most:
        edge = int(most ** (1 / len(counts)) + 1e-9)
        along = [sorted({int((i + 0.5) * count / edge) for i in range(edge)}) for count in counts]
    return [lattice.key(level, grid) for grid in itertools.product(*along)]


def measured_range(face: Face, lattice: Lattice, settings: LoaderSettings) -> tuple[float, float] | None:
    """The range of a little of the data: of the coarsest stored level, and where some of that cannot be read, of
    finer ones, too. None when nothing can be read, in as long as one try of a read may take.

    Reads as tiles are read: in workers, tried again, given up in time or by Ctrl-C. Raises OutsideError."""
    own = replace(settings, pools=_POOLS, force_synchronous=False, log_path=None, plan_log_path=None)
    clock, values = RealClock(), _Values(face)
    loader = TileLoader(own, clock=clock)
    try:
        loader.add_source(values)
        until_ms = later_ms(clock.now_ms(), settings.read_timeout_ms or math.inf)
        found: list[NDArray[Any]] = []
        for level in range(face.stored_levels - 1, -1, -1):
            keys = [LoadKey(values.token, values.version, key) for key in sample_keys(lattice, level)]
            loader.plan(values, [LoadRequest(key, Tier.IDEAL) for key in keys], moved=False)
            while not loader.settled() and clock.now_ms() < until_ms:
                loader.wait_until(min(until_ms, clock.now_ms() + _LOOK_MS))
                loader.poll()
            read = [tile.data for key in keys if (tile := loader.get(key)) is not None]
            found += read
            if face.refused is not None:
                raise face.refused
            if len(read) == len(keys) or clock.now_ms() >= until_ms:
                break
        return range_of(found) if found else None
    finally:
        loader.close()


class _Values:
    """A face as a tile source whose texels are its values, of bricks some; sums come as whole numbers or not."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self.token, self.version = face.token, face.version
        self.texture_dtype = face.value_dtype
        self.reads_on = face.reads_on

    def tile_shape(self, tile: TileKey) -> tuple[int, ...]:
        depth = [b - a for a, b in [self._face.middle_slabs(tile)]] if len(tile.grid) == 3 else []
        return (*depth, *self._face.tile_shape(tile)[len(depth) :])

    def read_tile(self, tile: TileKey) -> NDArray[Any]:
        slabs = self._face.middle_slabs(tile) if len(tile.grid) == 3 else None
        return self._face.read_values(tile, slabs).astype(self.texture_dtype, copy=False)

    def worker_recipe(self) -> None:
        return None
