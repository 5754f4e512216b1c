"""The bricks of a lattice as a sight shows them: which are in view, how large their voxels are there, how near they are. Pure;
whole arrays. Grids are (n, 3), (z, y, x).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice, Region
from octree.pyramid.model import TileKey
from octree.render.view.plan import finest_of_equals, texel_px
from octree.render.view.volume.frustum import Frustum
from octree.render.view.volume.sight import Places, Sight

Grids = NDArray[np.int64]
Numbers = NDArray[np.float64]


class Bricks:
    """``levels``: of those that are equally fine the first each, the coarsest first."""

    def __init__(self, lattice: Lattice, sight: Sight, margin_texels: float) -> None:
        self.lattice, self.sight = lattice, sight
        self.frustum = Frustum(sight, step_at(lattice, sight, len(lattice.levels) - 1))
        self._margin = margin_texels
        count = len(lattice.levels)
        self.levels = [n for n in reversed(range(count)) if n == finest_of_equals(lattice, n)]
        # screen pixels of a level's texel, for each pixel of a world unit
        edges = sight.voxel[::-1]
        self._texel_world = [texel_px(lattice, level, edges) for level in range(count)]
        # no sample lies nearer to the eye than half a voxel, about
        self._least_world = min(edges) / 2

    def _box(self, level: int) -> Region:
        """What is shown, and as much more as its samples look at."""
        return self.sight.box.grown([self._margin * scale for scale in self.lattice.levels[level].scale])

    def bounds(self, level: int, start: Grids, stop: Grids) -> tuple[Numbers, Numbers]:
        """Boxes (x, y, z), world, of what blocks [start, stop) show, with their margin, of what is shown at all. The outermost
        answer for what lies beyond."""
        info = self.lattice.levels[level]
        origin, scale = np.array(info.origin), np.array(info.scale)
        size, margin = scale * info.tile, scale * self._margin
        low = np.where(start <= 0, -np.inf, origin + size * start - margin)
        high = np.where(stop >= np.array(info.tile_counts), np.inf, origin + size * stop + margin)
        low, high = np.maximum(low, self.sight.box.low), np.minimum(high, self.sight.box.high)
        return self.sight.world(low[:, ::-1]), self.sight.world(high[:, ::-1])

    def shown(self, level: int, start: Grids, stop: Grids) -> NDArray[np.bool_]:
        low, high = self.bounds(level, start, stop)
        seen: NDArray[np.bool_] = self.frustum.meets(low, high) & (low < high).all(axis=1)
        return seen if self.sight.planes is None else seen & self._crossed(low, high, self.sight.planes)

    def _crossed(self, low: Numbers, high: Numbers, planes: Places) -> NDArray[np.bool_]:
        """Which boxes a plane crosses where it is in view."""
        found = np.zeros(len(low), bool)
        for axis, at in enumerate(planes):
            if at is not None:
                world = at * self.sight.voxel[axis] + self.sight.corner[axis] - self.sight.target[axis]
                flat, across = (low.copy(), high.copy()), (low[:, axis] <= world) & (world <= high[:, axis])
                for ends in flat:
                    ends[:, axis] = world
                found |= across & self.frustum.meets(*flat)
        return found

    def texels_px(self, level: int, low: Numbers, high: Numbers) -> Numbers:
        """How long a level's texels are on the screen where the boxes come nearest."""
        least = self._least_world - self.sight.distance
        nearest = np.maximum(self.frustum.nearest(low, high), least)
        px: Numbers = self._texel_world[level] * self.sight.px_per_world(nearest)
        return px

    def distance(self, low: Numbers, high: Numbers) -> Numbers:
        """Of the boxes' middles from the point that is looked at, or where the shown box comes nearest to it."""
        ends = self.sight.world([self.sight.box.low[::-1], self.sight.box.high[::-1]])
        away: Numbers = np.linalg.norm((low + high) / 2 - np.clip(0.0, *ends), axis=1)
        return away

    def near_first(self, keys: Sequence[TileKey]) -> list[TileKey]:
        away = np.zeros(len(keys))
        for level, here, grids in by_level(keys):
            away[here] = self.distance(*self.bounds(level, grids, grids + 1))
        return [keys[place] for place in np.argsort(away, kind="stable").tolist()]

    def without(self, keys: Sequence[TileKey]) -> frozenset[TileKey]:
        """Those of the bricks that are not in view."""
        gone = np.zeros(len(keys), bool)
        for level, here, grids in by_level(keys):
            gone[here] = ~self.shown(level, grids, grids + 1)
        return frozenset(itertools.compress(keys, gone))

    def listed(self, level: int, most: int) -> tuple[Grids, bool]:
        """Bricks of a level in view, in the order of the grid: at most so many, near to what is looked at, and whether these are
        all. Found by halving: too many are known as such before they are named."""
        blocks = self.lattice.blocks_meeting(level, self._box(level))
        start, stop = np.array([blocks.start], np.int64), np.array([blocks.stop], np.int64)
        is_whole = True
        while (stop - start).max() > 1:
            start, stop = _halved(start, stop)
            seen = self.shown(level, start, stop)
            start, stop = start[seen], stop[seen]
            if len(start) > most:
                is_whole = False
                near = np.argsort(self.distance(*self.bounds(level, start, stop)), kind="stable")[:most]
                start, stop = start[near], stop[near]
            if not len(start):
                break
        seen = self.shown(level, start, stop)
        order = np.lexsort(start[seen].T[::-1])
        return start[seen][order], is_whole

    def finer(self, coarse: int, level: int, grids: Grids, values: Numbers) -> tuple[Grids, Numbers]:
        """Bricks of ``level`` under bricks of ``coarse``, in view, and of each the largest of ``values`` over it."""
        start, stop = np.empty_like(grids), np.empty_like(grids)
        above, below = self.lattice.levels[coarse], self.lattice.levels[level]
        counts = above.tile_counts
        for axis, (low, high) in enumerate(zip(*self._box(level), strict=True)):
            origin, size = above.origin[axis], above.scale[axis] * above.tile[axis]
            numbers, inverse = np.unique(grids[:, axis], return_inverse=True)
            spans = []
            for number in numbers.tolist():
                first = origin + size * number if number else low
                last = origin + size * (number + 1) if number < counts[axis] - 1 else high
                first = min(max(first, low), high)
                spans.append(below.blocks_along(axis, first, max(min(last, high), first)))
            start[:, axis], stop[:, axis] = np.array(spans, np.int64).reshape(-1, 2)[inverse].T
        children, parent = _listed(start, stop)
        strides = np.array([below.tile_counts[1] * below.tile_counts[2], below.tile_counts[2], 1])
        _, first, inverse = np.unique(children @ strides, return_index=True, return_inverse=True)
        most = np.full(len(first), -np.inf)
        np.maximum.at(most, inverse, values[parent])
        children = children[first]
        seen = self.shown(level, children, children + 1)
        return children[seen], most[seen]


def step_at(lattice: Lattice, sight: Sight, level: int) -> float:
    """The shortest edge of a level's voxels, world units."""
    edges = zip(lattice.levels[level].scale, sight.voxel[::-1], strict=True)
    return min(scale * edge for scale, edge in edges)


def by_level(keys: Sequence[TileKey]) -> Iterator[tuple[int, NDArray[np.bool_], Grids]]:
    """Level by level: which of the keys are of it, and their grids."""
    levels, grids = np.array([key.level for key in keys]), np.array([key.grid for key in keys])
    for level in np.unique(levels).tolist():
        here: NDArray[np.bool_] = levels == level
        yield level, here, grids[here]


def _halved(start: Grids, stop: Grids) -> tuple[Grids, Grids]:
    """Ranges of blocks, each as its halves on every axis on which it has two."""
    middle = (start + stop + 1) // 2
    starts, stops = [], []
    for side in itertools.product((0, 1), repeat=3):
        upper = np.array(side, bool)
        first, last = np.where(upper, middle, start), np.where(upper, stop, middle)
        some = (first < last).all(axis=1)
        starts.append(first[some])
        stops.append(last[some])
    return np.concatenate(starts), np.concatenate(stops)


def _listed(start: Grids, stop: Grids) -> tuple[Grids, NDArray[np.int64]]:
    """All blocks of ranges, and the range that each is of."""
    shape = stop - start
    sizes = shape.prod(axis=1)
    parent = np.repeat(np.arange(len(start)), sizes)
    number = np.arange(len(parent)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    _, y, x = shape[parent].T
    grids = np.stack([number // (y * x), number // x % y, number % x], axis=1)
    return grids + start[parent], parent
