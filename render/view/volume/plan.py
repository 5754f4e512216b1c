"""From a camera around a volume to what to load: bricks of which levels, and in which order. Pure.

The level rule is that of planes, brick by brick: a brick is wanted when its voxels are at most ``detail_px`` screen pixels long, in
the world, where it comes nearest to the eye in view; else the finer ones in it are. Without perspective all are of one level.
Where they are more than there is room for, the rule is loosened for all of them, just so far that they fit.

The wanted bricks are a cut through the octree: each place in view is in one of them. They are found from the coarsest level
down, all bricks of a level at once; what is not in view is left out before it is named, so that the size of the
volume does not matter, only how much of it is wanted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import TOLERANCE_TILES, Lattice
from octree.pyramid.model import TileKey
from octree.render.view.plan import (
    MAX_WANTED,
    MOST_PREFETCH,
    STAND_IN_SHARE,
    Lacking,
    ViewPlan,
    ancestors,
    choose_level,
    finest_of_equals,
    texel_px,
)
from octree.render.view.volume.frustum import Frustum
from octree.render.view.volume.sight import Sight, widened

FEW = 4
"""So many stand-ins of the coarsest level are always worth it."""
MOST_LISTED = 2**18
"""Bricks that are looked at at once."""
MOST_CELLS = 2**22
"""Of the boxes that rays walk through: a long row of small bricks across a large volume would be cut into more."""
_EXACT = 1.0 + 1e-9
"""A zoom computed from a size is off by rounding."""
Grids = NDArray[np.int64]
Numbers = NDArray[np.float64]


def _all_of(tiles: Sequence[TileKey]) -> Sequence[TileKey]:
    return tiles


def plan_volume(
    lattice: Lattice,
    sight: Sight,
    *,
    detail_px: float = 1.0,
    previous: ViewPlan | None = None,
    hysteresis: float = 0.1,
    max_tiles: int | None = None,
    margin_texels: float = 0.0,
    lacking: Lacking = _all_of,
    prefetch_margin: float = 0.0,
    later: Sight | None = None,
    cheap_levels: int | None = None,
) -> ViewPlan:
    """Plan one view of a volume; arguments as of ``view.plan.plan_view``, but for

    ``detail_px``  the wanted level's voxels are at most so many screen pixels long.
    ``later``      where the camera is expected to be within the look-ahead; None: here.
    """
    px_per_base = tuple([edge * sight.zoom / detail_px for edge in sight.voxel[::-1]])
    before = None if previous is None else previous.ideal_level
    ideal = choose_level(lattice, px_per_base, before, hysteresis)
    view = _View(lattice, sight, margin_texels)
    if view.frustum.is_empty:
        return ViewPlan(ideal, False, ())
    room = MAX_WANTED if max_tiles is None else max(1, min(max_tiles, MAX_WANTED))
    rule = _Rule(detail_px, hysteresis, previous)
    cut = view.cut(rule, room)
    while cut.cells > MOST_CELLS and cut.size > 1:
        cut = view.cut(rule, cut.size // 2)
    wanted = cut.keys(lattice, sight)
    if not wanted:
        return ViewPlan(ideal, False, ())
    degraded = cut.looseness > 1.0 or not cut.is_whole
    plan = ViewPlan(ideal, degraded, wanted)
    if degraded:
        plan = replace(plan, ideal_levels=view.ideal_levels(wanted, rule))
    cheap = len(lattice.levels) if cheap_levels is None else cheap_levels
    plan = replace(plan, stand_ins=_stand_ins(view, plan, previous, lacking, cheap))
    views = [] if later is None else [_View(lattice, later, margin_texels)]
    if views:
        plan = replace(plan, leaving=views[0].without(wanted))
    if prefetch_margin > 0:
        views.append(_View(lattice, widened(sight, prefetch_margin), margin_texels))
    rule = replace(rule, looseness=cut.looseness)
    return replace(plan, prefetch=_prefetch(views, plan, rule, room, lacking, cheap))


def step_of(lattice: Lattice, sight: Sight, plan: ViewPlan) -> float:
    """How far samples lie apart, world units: the shortest edge of a voxel of the finest level that is wanted."""
    return _step(lattice, sight, min(plan.levels, default=plan.ideal_level))


def _step(lattice: Lattice, sight: Sight, level: int) -> float:
    edges = zip(lattice.levels[level].scale, sight.voxel[::-1], strict=True)
    return min(scale * edge for scale, edge in edges)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which bricks are fine enough."""

    detail_px: float
    hysteresis: float
    previous: ViewPlan | None
    looseness: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """Bricks, by level and grid, of which each is as coarse as may be when voxels of ``looseness`` times the detail will do.
    ``is_whole``: nothing in view is left out."""

    levels: NDArray[np.int64]
    grids: Grids
    looseness: float
    is_whole: bool
    distance: Numbers
    """Of each from the point that is looked at."""
    cells: int

    @property
    def size(self) -> int:
        return len(self.levels)

    def keys(self, lattice: Lattice, sight: Sight) -> tuple[TileKey, ...]:
        """The nearest to what is looked at first."""
        order = np.argsort(self.distance, kind="stable")
        pairs = zip(self.levels[order].tolist(), self.grids[order].tolist(), strict=True)
        return tuple([lattice.key(level, tuple(grid)) for level, grid in pairs])


class _View:
    """The bricks of a lattice as a sight shows them, whole arrays at a time. Grids are (n, 3), (z, y, x)."""

    def __init__(self, lattice: Lattice, sight: Sight, margin_texels: float) -> None:
        self.lattice, self.sight = lattice, sight
        self.frustum = Frustum(sight, _step(lattice, sight, len(lattice.levels) - 1))
        self._margin = margin_texels
        count = len(lattice.levels)
        self.levels = [n for n in reversed(range(count)) if n == finest_of_equals(lattice, n)]
        # screen pixels of a level's texel, for each pixel of a world unit
        edges = sight.voxel[::-1]
        self._texel_world = [texel_px(lattice, level, edges) for level in range(count)]
        # no sample lies nearer to the eye than half a voxel, about
        self._least_world = min(edges) / 2

    # geometry

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
        return seen

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
        for level, here, grids in _by_level(keys):
            away[here] = self.distance(*self.bounds(level, grids, grids + 1))
        return [keys[place] for place in np.argsort(away, kind="stable").tolist()]

    def without(self, keys: Sequence[TileKey]) -> frozenset[TileKey]:
        """Those of the bricks that are not in view."""
        gone = np.zeros(len(keys), bool)
        for level, here, grids in _by_level(keys):
            gone[here] = ~self.shown(level, grids, grids + 1)
        return frozenset(itertools.compress(keys, gone))

    def ideal_levels(self, keys: Sequence[TileKey], rule: _Rule) -> tuple[int, ...]:
        """The level that would be wanted where each of the bricks comes nearest, were there room."""
        found = np.zeros(len(keys), np.int64)
        for own, here, grids in _by_level(keys):
            low, high = self.bounds(own, grids, grids + 1)
            finest = np.zeros(len(grids), np.int64)
            for level in reversed(self.levels):  # the coarsest that will do is the last to say so
                if level <= own:
                    finest[self.texels_px(level, low, high) <= rule.detail_px * _EXACT] = level
            found[here] = finest
        return tuple(found.tolist())

    # lists

    def listed(self, level: int, most: int) -> tuple[Grids, bool]:
        """Bricks of a level in view, in the order of the grid: at most so many, near to what is looked at, and whether these are
        all. Found by halving: too many are known as such before they are named."""
        blocks = self.lattice.blocks_meeting(
            level, self.sight.box.grown([self._margin * scale for scale in self.lattice.levels[level].scale])
        )
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
        for axis, (low, high) in enumerate(zip(*self.sight.box, strict=True)):
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

    # the cut

    def cut(self, rule: _Rule, room: int) -> _Cut:
        """The coarsest bricks that are fine enough, at most ``room``.

        Each brick has the looseness that it needs, and that which its parent would have needed: it is in the cut of every looseness
        between the two. So many bricks are in a cut as have parents that need more, less those that need more
        themselves; one that is not divided yet counts as one. That is counted level by level, and what turns out not to
        fit is not listed any further."""
        level = self.levels[0]
        grids, is_whole = self.listed(level, room)
        above = np.full(len(grids), np.inf)
        loose, listed = rule.looseness, list[tuple[int, Grids, Numbers, Numbers]]()
        for next_level in (*self.levels[1:], None):
            need = np.minimum(self._needed(level, grids, rule), above)
            if next_level is None:
                need[:] = -np.inf
            listed.append((level, grids, need, above))
            if not is_whole:  # not even the coarsest fit
                loose = max(loose, float(need.max()))
            loose = max(loose, _least_looseness(listed, room, loose))
            divided = need > loose * _EXACT
            if next_level is not None and divided.sum() > (most := self._most_divided(level, next_level)):
                loose = float(np.sort(need)[-most - 1])
                divided = need > loose * _EXACT
            if next_level is None or not divided.any():
                break
            grids, above = self.finer(level, next_level, grids[divided], need[divided])
            level = next_level
        return self._cut_of(listed, loose, is_whole)

    def _most_divided(self, coarse: int, level: int) -> int:
        above, below = self.lattice.levels[coarse], self.lattice.levels[level]
        ratios = (
            a * m / (b * n)
            for a, m, b, n in zip(above.scale, above.tile, below.scale, below.tile, strict=True)
        )
        return max(1, MOST_LISTED // math.prod(math.ceil(ratio - TOLERANCE_TILES) for ratio in ratios))

    def _needed(self, level: int, grids: Grids, rule: _Rule) -> Numbers:
        """How much looser than the detail the rule had to be for these bricks. What was wanted before needs less."""
        if not len(grids):
            return np.zeros(0)
        need = self.texels_px(level, *self.bounds(level, grids, grids + 1)) / rule.detail_px
        if rule.previous is None:
            return need
        kept, before = 1.0 + rule.hysteresis, rule.previous
        if math.isinf(self.sight.distance):  # all bricks of a level alike
            return need * (
                kept if level > before.ideal_level else 1 / kept if level == before.ideal_level else 1
            )
        known = {key.grid for key in before.wanted if key.level == level}
        again = [tuple(grid) in known for grid in grids.tolist()]
        return np.where(again, need / kept, need)

    def _cut_of(
        self, listed: Sequence[tuple[int, Grids, Numbers, Numbers]], loose: float, is_whole: bool
    ) -> _Cut:
        levels, chosen, distances, ends = [], [], [], []
        for level, grids, need, above in listed:
            own = grids[(need <= loose * _EXACT) & (above > loose * _EXACT)]
            low, high = self.bounds(level, own, own + 1)
            levels.append(np.full(len(own), level))
            chosen.append(own)
            distances.append(self.distance(low, high))
            ends += [low, high]
        planes = np.concatenate(ends)
        cells = math.prod(len(np.unique(planes[:, axis])) for axis in range(3))
        return _Cut(
            np.concatenate(levels), np.concatenate(chosen), loose, is_whole, np.concatenate(distances), cells
        )


def _by_level(keys: Sequence[TileKey]) -> Iterator[tuple[int, NDArray[np.bool_], Grids]]:
    """Level by level: which of the keys are of it, and their grids."""
    levels, grids = np.array([key.level for key in keys]), np.array([key.grid for key in keys])
    for level in np.unique(levels).tolist():
        here: NDArray[np.bool_] = levels == level
        yield level, here, grids[here]


def _least_looseness(listed: Sequence[tuple[int, Grids, Numbers, Numbers]], room: int, loose: float) -> float:
    """The least, from ``loose`` on, with which the bricks fit."""
    above = np.sort(np.concatenate([above for *_, above in listed]))
    need = np.sort(np.concatenate([need for _, _, need, _ in listed[:-1]] or [np.zeros(0)]))

    def count(loosenesses: Numbers) -> NDArray[np.int64]:
        more = len(above) - np.searchsorted(above, loosenesses * _EXACT, side="right")
        less: NDArray[np.int64] = len(need) - np.searchsorted(need, loosenesses * _EXACT, side="right")
        return more - less

    choices = np.unique(np.concatenate([[loose], need[need > loose]]))
    fits = np.flatnonzero(count(choices) <= room)
    return float(choices[fits[0]] if len(fits) else choices[-1])


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


# beside the wanted ones


def _stand_ins(
    view: _View, plan: ViewPlan, previous: ViewPlan | None, lacking: Lacking, cheap: int
) -> tuple[TileKey, ...]:
    """Coarser bricks to load before the wanted ones: those of the coarsest level, where they are few; then, of the finest level
    that the budget allows, those over missing bricks for which nothing nearer is known."""
    lattice, box = view.lattice, view.sight.box
    coarsest = finest_of_equals(lattice, min(cheap, len(lattice.levels)) - 1)
    if coarsest <= min(plan.levels):
        return ()
    missing: dict[int, list[tuple[int, ...]]] = {}
    for key in lacking(plan.wanted):
        missing.setdefault(key.level, []).append(key.grid)
    budget = max(1, sum(map(len, missing.values())) // STAND_IN_SHARE)
    grids, is_whole = view.listed(coarsest, max(budget, FEW))
    roots = tuple(
        lacking(
            view.near_first(
                [lattice.key(coarsest, tuple(grid)) for grid in grids.tolist()] if is_whole else []
            )
        )
    )
    if not missing:
        return roots
    kept = (
        [] if previous is None else [key for key in previous.stand_ins if min(missing) < key.level < coarsest]
    )
    gone = view.without(kept)
    begun = dict.fromkeys(lacking([key for key in kept if key not in gone]))
    budget -= len(roots) + len(begun)
    for step in range(1, coarsest):
        unknown: list[TileKey] = []
        for fine, own in missing.items():
            if own and fine + step < coarsest:
                over, missing[fine] = ancestors(lattice, fine, fine + step, own, box, lacking)
                unknown += [lattice.key(fine + step, grid) for grid in sorted(over)]
        new = [key for key in dict.fromkeys(unknown) if key not in begun]
        if len(new) <= budget:
            return (*roots, *begun, *view.near_first(new))
    return (*roots, *begun)


def _prefetch(
    views: Sequence[_View], plan: ViewPlan, rule: _Rule, room: int, lacking: Lacking, cheap: int
) -> tuple[TileKey, ...]:
    """Bricks where the camera is going, then around the view; never more than are wanted and eight, nor than there is room for."""
    most = min(len(plan.wanted) + 8, room - len(plan.wanted), MOST_PREFETCH)
    if most <= 0:
        return ()
    known, found = set(plan.wanted), dict[TileKey, None]()
    for view in views:
        if not view.frustum.is_empty:
            keys = view.cut(rule, room).keys(view.lattice, view.sight)
            found.update(dict.fromkeys(lacking([k for k in keys if k not in known and k.level < cheap])))
    return tuple(itertools.islice(found, most))
