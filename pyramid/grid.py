"""Pure geometry of what is displayed: levels, their tiles, and which tiles meet a region.

The *displayed axes* are those of a lattice, however many: (y, x) of a plane, (z, x) of a plane across it, (z, y, x)
of a volume. Tuples have one entry for each, in axis order; where pixels of a screen are meant, the last two are its
rows and columns. A plane may have its axes in any order: (x, z) shows x downwards and z to the right.

*Base coordinates*: level-0 voxels of the layer, 0 is the outer corner of the first one.
Everything derives from the real shapes, scales and translations of the levels, never from ``2 ** level``: any
factor, odd sizes and anisotropic levels come out right, and a tile that does not exist cannot be named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from operator import add, lt, mul, sub
from typing import NamedTuple

from octree.pyramid.model import PyramidSpec, TileKey

TOLERANCE_TILES = 1e-6
"""Overlaps smaller than this fraction of a tile are rounding: 0.1 * 256 * 2 is not 0.2 * 256 everywhere."""


class Region(NamedTuple):
    """A half-open box ``[low, high)``, one number for each displayed axis."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def is_empty(self) -> bool:
        return not all(map(lt, self.low, self.high))

    @property
    def size(self) -> tuple[float, ...]:
        return tuple(map(sub, self.high, self.low))

    @property
    def centre(self) -> tuple[float, ...]:
        return tuple([sum / 2 for sum in map(add, self.low, self.high)])

    @property
    def volume(self) -> float:
        """The area of a plane's region; 0 when it is empty."""
        return 0.0 if self.is_empty else math.prod(self.size)

    def intersect(self, other: Region) -> Region:
        return Region(tuple(map(max, self.low, other.low)), tuple(map(min, self.high, other.high)))

    def grown(self, by: Sequence[float]) -> Region:
        """Larger by so much at both ends of each axis."""
        return Region(tuple(map(sub, self.low, by)), tuple(map(add, self.high, by)))

    def shifted(self, by: Sequence[float]) -> Region:
        return Region(tuple(map(add, self.low, by)), tuple(map(add, self.high, by)))

    # the last two axes, as a screen has them

    @property
    def y0(self) -> float:
        return self.low[-2]

    @property
    def x0(self) -> float:
        return self.low[-1]

    @property
    def y1(self) -> float:
        return self.high[-2]

    @property
    def x1(self) -> float:
        return self.high[-1]


class BlockRange(NamedTuple):
    """Tiles ``[start, stop)`` of one level, per displayed axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple([max(0, length) for length in map(sub, self.stop, self.start)])

    @property
    def size(self) -> int:
        """How many tiles."""
        return math.prod(self.shape)

    def intersect(self, other: BlockRange) -> BlockRange:
        return BlockRange(tuple(map(max, self.start, other.start)), tuple(map(min, self.stop, other.stop)))

    def grids(self) -> Iterator[tuple[int, ...]]:
        """``TileKey.grid`` of each tile, the last axis fastest."""
        return product(*map(range, self.start, self.stop))


@dataclass(frozen=True, slots=True)
class LatticeLevel:
    """One level, every tuple per displayed axis.

    ``shape``   texels.  ``tile``  texels of a full tile (edge tiles are smaller).
    ``scale``   base voxels per texel.  ``origin``  base coordinate of the outer corner of the first texel.
    ``index``   place on the axes that are not displayed, in this level's own voxels: that of every ``TileKey``.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    scale: tuple[float, ...]
    origin: tuple[float, ...]
    index: tuple[int, ...] = ()

    @property
    def tile_counts(self) -> tuple[int, ...]:
        return tuple([-(-length // tile) for length, tile in zip(self.shape, self.tile, strict=True)])

    def block_at(self, axis: int, position: float) -> int:
        """The tile that would hold a base coordinate, whether there is one or not."""
        return math.floor((position - self.origin[axis]) / (self.scale[axis] * self.tile[axis]))

    def blocks_along(self, axis: int, low: float, high: float) -> tuple[int, int]:
        """Tiles ``[first, stop)`` along one axis that show ``[low, high)`` of the image (base coordinates inside
        ``Lattice.extent``); never none. The one place that decides this, for plans and covers alike: an overlap
        below ``TOLERANCE_TILES`` is none, and the outermost tiles answer for what lies beyond the level's own
        edges, which are not the image's where a level was floored or shifted."""
        count = -(-self.shape[axis] // self.tile[axis])
        origin, size = self.origin[axis], self.scale[axis] * self.tile[axis]
        first = math.floor((low - origin) / size + TOLERANCE_TILES)
        stop = math.ceil((high - origin) / size - TOLERANCE_TILES)
        first = min(max(first, 0), count - 1)
        return first, max(min(stop, count), first + 1)


@dataclass(frozen=True, slots=True)
class Lattice:
    """All levels over the displayed axes; level 0 is the finest."""

    levels: tuple[LatticeLevel, ...]

    @property
    def extent(self) -> Region:
        """What the image covers: the region of level 0, in base coordinates."""
        shape = self.levels[0].shape
        return Region((0.0,) * len(shape), tuple(map(float, shape)))

    def at(self, indices: Sequence[tuple[int, ...]]) -> Lattice:
        """The same elsewhere on the axes that are not displayed: an index for each level."""
        levels = zip(self.levels, indices, strict=True)
        return Lattice(tuple(replace(level, index=index) for level, index in levels))

    def key(self, level: int, grid: tuple[int, ...]) -> TileKey:
        return TileKey(level, self.levels[level].index, grid)

    def tile_shape(self, level: int, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Texels of one tile; edge tiles are smaller than ``LatticeLevel.tile``."""
        info = self.levels[level]
        return tuple([min(t, n - g * t) for t, n, g in zip(info.tile, info.shape, grid, strict=True)])

    def tile_region(self, level: int, grid: tuple[int, ...]) -> Region:
        """Base region of one tile's texels. Neighbours share their edge to the last bit. Not clipped to
        ``extent``: the last texel of a coarse level may reach beyond the image."""
        info = self.levels[level]
        first = tuple(map(mul, grid, info.tile))
        last = tuple(map(min, map(add, first, info.tile), info.shape))
        low, high = (tuple(map(add, info.origin, map(mul, info.scale, texels))) for texels in (first, last))
        return Region(low, high)

    def blocks_meeting(self, level: int, region: Region) -> BlockRange:
        """Tiles of ``level`` that show what of the image lies in ``region`` (base coordinates); none when nothing
        does."""
        seen = region.intersect(self.extent)
        if seen.is_empty:
            return BlockRange((0,) * len(seen.low), (0,) * len(seen.low))
        along = self.levels[level].blocks_along
        start, stop = zip(
            *[along(axis, *ends) for axis, ends in enumerate(zip(*seen, strict=True))], strict=True
        )
        return BlockRange(start, stop)


def lattice_of(spec: PyramidSpec, tile: int | None = None, displayed: Sequence[str] = "yx") -> Lattice:
    """The levels of a pyramid over its ``displayed`` axes: names, in the order in which regions have them (rows, then
    columns of a plane).

    ``tile`` is the tile edge in voxels; None takes each level's chunk edges.

    Level k's texel i covers ``[translation - scale/2, translation + scale/2)`` in world units around its
    centre; subtracting level 0's corner and dividing by level 0's scale gives base coordinates.
    """
    places = [place for name in displayed if (place := spec.axis_index(name)) is not None]
    if len(places) != len(displayed):
        raise ValueError(f"no {' and '.join(displayed)} axes among {spec.axis_names}")
    base = spec.levels[0]
    return Lattice(
        tuple(
            LatticeLevel(
                shape=tuple(level.shape[i] for i in places),
                tile=tuple(tile or level.chunks[i] for i in places),
                scale=tuple(level.scale[i] / base.scale[i] for i in places),
                origin=tuple(
                    ((level.translation[i] - level.scale[i] / 2) - (base.translation[i] - base.scale[i] / 2))
                    / base.scale[i]
                    for i in places
                ),
            )
            for level in spec.levels
        )
    )
