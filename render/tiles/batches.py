"""Which tiles lie in the same chunks: read together they cost one decoding, one by one as many as there are tiles. Pure.

A chunk of 64 x 64 x 64 voxels holds parts of 64 planes. Along each number of a tile's index (planes) and grid (tiles)
chunks repeat with a period; a batch is a run of tiles within one period of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from octree.pyramid.grid import LatticeLevel
from octree.pyramid.model import Box, LevelInfo, TileKey
from octree.render.loading.values import Batch

Period = tuple[int, int]
"""(how many tiles share a chunk, how many there are)."""
ALONE: Period = (1, 1)


@dataclass(frozen=True, slots=True)
class Periods:
    """Of one level, along each number of the index and of the grid."""

    planes: tuple[Period, ...]
    tiles: tuple[Period, ...]

    @property
    def size(self) -> int:
        """Most tiles of a batch."""
        return math.prod(_lengths(self.planes)) * math.prod(_lengths(self.tiles))


def periods_of(
    level: LevelInfo, lattice: LatticeLevel, shown: tuple[int, ...], entries: tuple[int, ...], folded: int
) -> Periods:
    """``shown``: the places of the displayed axes. ``entries``: the place of each number of the index; those at ``folded``
    are the ends of a projection, and share nothing."""
    planes = [ALONE if place == folded else (level.chunks[place], level.shape[place]) for place in entries]
    tiles = [
        (_tiles_in(level.chunks[place], edge, level.shape[place]), -(-level.shape[place] // edge))
        for place, edge in zip(shown, lattice.tile, strict=True)
    ]
    return Periods(tuple(planes), tuple(tiles))


def _tiles_in(chunk: int, edge: int, length: int) -> int:
    """How many tiles lie in a chunk; 1 where some lie in two."""
    if chunk >= length:
        return -(-length // edge)
    return chunk // edge if chunk % edge == 0 else 1


def batch_at(tile: TileKey, periods: Periods, most: int, *, planes: bool = True) -> Batch | None:
    """At most so many tiles, ``tile`` among them; None when they would be that one alone. Of two tiles of one batch both
    have this batch. Other planes are left out before tiles beside: these are in view, or close to it."""
    across = _lengths(periods.planes) if planes else [1] * len(periods.planes)
    beside = _lengths(periods.tiles)
    while math.prod(across) * math.prod(beside) > most:
        lengths = across if max(across, default=1) > 1 else beside
        longest = max(range(len(lengths)), key=lengths.__getitem__, default=-1)
        if longest < 0 or lengths[longest] == 1:
            return None
        lengths[longest] = -(-lengths[longest] // 2)
    first_plane, depth = _runs(tile.index, periods.planes, across)
    first_tile, count = _runs(tile.grid, periods.tiles, beside)
    if math.prod(depth) * math.prod(count) == 1:
        return None
    return Batch(TileKey(tile.level, first_plane, first_tile), depth, count)


def _lengths(periods: tuple[Period, ...]) -> list[int]:
    return [min(period, count) for period, count in periods]


def _runs(
    numbers: tuple[int, ...], periods: tuple[Period, ...], lengths: list[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(first, how many) along each number: the run of this length that holds it; runs begin anew with each period."""
    firsts, counts = [], []
    for number, (period, count), length in zip(numbers, periods, lengths, strict=True):
        start = number - number % period
        first = start + (number - start) // length * length
        firsts.append(first if length > 1 else number)
        counts.append(min(first + length, start + period, count) - first if length > 1 else 1)
    return tuple(firsts), tuple(counts)


def batch_box(
    batch: Batch,
    first: Box,
    level: LevelInfo,
    edges: tuple[int, ...],
    shown: tuple[int, ...],
    entries: tuple[int, ...],
) -> Box:
    """The voxels of a batch; ``first``: those of its first tile."""
    stop = list(first.stop)
    for place, count in zip(entries, batch.planes, strict=True):
        stop[place] += count - 1  # 0 more where an axis is projected
    for place, edge, number, count in zip(shown, edges, batch.first.grid, batch.tiles, strict=True):
        stop[place] = min((number + count) * edge, level.shape[place])
    return Box(first.start, tuple(stop))


def cuts(
    batch: Batch,
    dims: int,
    edges: tuple[int, ...],
    shown: tuple[int, ...],
    entries: tuple[int, ...],
    folded: int,
) -> Iterator[tuple[slice, ...]]:
    """Where each of ``Batch.members`` lies in what was read, of so many axes; a projected axis is 1 long there."""
    whole = [slice(None)] * dims
    for plane in product(*map(range, batch.planes)):
        for tile in product(*map(range, batch.tiles)):
            cut = list(whole)
            for place, number in zip(entries, plane, strict=True):
                if place != folded:
                    cut[place] = slice(number, number + 1)
            for place, edge, number in zip(shown, edges, tile, strict=True):
                cut[place] = slice(number * edge, (number + 1) * edge)
            yield tuple(cut)
