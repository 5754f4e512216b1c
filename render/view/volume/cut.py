"""The coarsest bricks that are fine enough and fit: a cut through the octree. Pure; whole arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import TOLERANCE_TILES
from octree.pyramid.model import TileKey
from octree.render.view.plan import ViewPlan
from octree.render.view.volume.bricks import Bricks, Grids, Numbers, by_level

MOST_LISTED = 2**18
"""Bricks that are looked at at once."""
MOST_CELLS = 2**22
"""Of the boxes that rays walk through: a long row of small bricks across a large volume would be cut into more."""
_EXACT = 1.0 + 1e-9
"""A zoom computed from a size is off by rounding."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which bricks are fine enough."""

    detail_px: float
    hysteresis: float
    previous: ViewPlan | None
    looseness: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Bricks, by level and grid, each as coarse as may be when voxels of ``looseness`` times the detail will do. The nearest to
    what is looked at first. ``is_whole``: nothing in view is left out. ``cells``: into so many boxes they cut the view."""

    levels: NDArray[np.int64]
    grids: Grids
    looseness: float
    is_whole: bool
    cells: int

    @property
    def size(self) -> int:
        return len(self.levels)

    def keys(self, bricks: Bricks) -> tuple[TileKey, ...]:
        pairs = zip(self.levels.tolist(), self.grids.tolist(), strict=True)
        return tuple([bricks.lattice.key(level, tuple(grid)) for level, grid in pairs])


class _Listed(NamedTuple):
    """Bricks of one level: how loose the rule has to be for each, and for its parent."""

    level: int
    grids: Grids
    need: Numbers
    above: Numbers


def cut_of(bricks: Bricks, rule: Rule, room: int) -> Cut:
    """The coarsest bricks that are fine enough, at most ``room``.

    Each brick is in the cut of every looseness from what it needs itself up to what its parent would have needed. So many bricks
    are in a cut as have parents that need more, less those that need more themselves; one that is not
    divided yet counts as one. That is counted level by level, and what turns out not to fit is not listed any further."""
    cut = _cut(bricks, rule, room)
    while cut.cells > MOST_CELLS and cut.size > 1:
        cut = _cut(bricks, rule, cut.size // 2)
    return cut


def _cut(bricks: Bricks, rule: Rule, room: int) -> Cut:
    level, loose = bricks.levels[0], rule.looseness
    grids, is_whole = bricks.listed(level, room)
    above, listed = np.full(len(grids), np.inf), list[_Listed]()
    for finer in bricks.levels[1:]:
        need = np.minimum(_needed(bricks, level, grids, rule), above)
        listed.append(_Listed(level, grids, need, above))
        if not is_whole:  # not even the coarsest fit
            loose = max(loose, float(need.max()))
        loose = max(_least_looseness(listed, room, loose), _listable(bricks, level, finer, need))
        divided = need > loose * _EXACT
        grids, above = grids[divided], need[divided]
        if not len(grids):
            break
        grids, above = bricks.finer(level, finer, grids, above)
        level = finer
    else:
        listed.append(_Listed(level, grids, np.full(len(grids), -np.inf), above))
        loose = _least_looseness(listed, room, loose)
    return _chosen(bricks, listed, loose, is_whole)


def _least_looseness(listed: Sequence[_Listed], room: int, loose: float) -> float:
    """The least, from ``loose`` on, with which the bricks fit, those of the last level undivided."""
    above = np.sort(np.concatenate([each.above for each in listed]))
    need = np.sort(np.concatenate([np.zeros(0), *[each.need for each in listed[:-1]]]))

    def count(looseness: Numbers) -> NDArray[np.int64]:
        more = len(above) - np.searchsorted(above, looseness * _EXACT, side="right")
        less: NDArray[np.int64] = len(need) - np.searchsorted(need, looseness * _EXACT, side="right")
        return more - less

    choices = np.unique(np.append(need[need > loose], loose))
    fits = np.flatnonzero(count(choices) <= room)
    return float(choices[fits[0]] if len(fits) else choices[-1])


def _listable(bricks: Bricks, coarse: int, level: int, need: Numbers) -> float:
    """The least with which no more than ``MOST_LISTED`` are looked at of the next level."""
    above, below = bricks.lattice.levels[coarse], bricks.lattice.levels[level]
    ratios = (
        a * m / (b * n) for a, m, b, n in zip(above.scale, above.tile, below.scale, below.tile, strict=True)
    )
    most = max(1, MOST_LISTED // math.prod(math.ceil(ratio - TOLERANCE_TILES) for ratio in ratios))
    return 0.0 if len(need) <= most else float(np.sort(need)[-most - 1])


def _needed(bricks: Bricks, level: int, grids: Grids, rule: Rule) -> Numbers:
    """How much looser than the detail the rule has to be for these bricks. What was wanted before needs less."""
    need = bricks.texels_px(level, *bricks.bounds(level, grids, grids + 1)) / rule.detail_px
    before, kept = rule.previous, 1.0 + rule.hysteresis
    if before is None:
        return need
    if math.isinf(bricks.sight.distance):  # all of a level alike
        return need * (kept if level > before.ideal_level else 1 / kept if level == before.ideal_level else 1)
    known = {key.grid for key in before.wanted if key.level == level}
    again = np.array([tuple(grid) in known for grid in grids.tolist()], bool)
    return np.where(again, need / kept, need)


def _chosen(bricks: Bricks, listed: Sequence[_Listed], loose: float, is_whole: bool) -> Cut:
    limit = loose * _EXACT
    own = [(each.level, each.grids[(each.need <= limit) & (each.above > limit)]) for each in listed]
    levels = np.concatenate([np.full(len(grids), level) for level, grids in own])
    grids = np.concatenate([grids for _, grids in own])
    low, high = (
        np.concatenate(ends)
        for ends in zip(*[bricks.bounds(level, grids, grids + 1) for level, grids in own], strict=True)
    )
    near_first = np.argsort(bricks.distance(low, high), kind="stable")
    cells = math.prod(len(np.unique([low[:, axis], high[:, axis]])) for axis in range(3))
    return Cut(levels[near_first], grids[near_first], loose, is_whole, cells)


def ideal_levels(bricks: Bricks, keys: Sequence[TileKey], rule: Rule) -> tuple[int, ...]:
    """The level that would be wanted where each of the bricks comes nearest, were there room."""
    found = np.zeros(len(keys), np.int64)
    for own, here, grids in by_level(keys):
        low, high = bricks.bounds(own, grids, grids + 1)
        finest = np.zeros(len(grids), np.int64)
        for level in reversed(bricks.levels):  # the coarsest that will do is the last to say so
            if level <= own:
                finest[bricks.texels_px(level, low, high) <= rule.detail_px * _EXACT] = level
        found[here] = finest
    return tuple(found.tolist())
