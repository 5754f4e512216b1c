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
from collections.abc import Sequence
from dataclasses import replace

from octree.pyramid.grid import Lattice
from octree.pyramid.model import TileKey
from octree.render.view.plan import (
    MAX_WANTED,
    MOST_PREFETCH,
    STAND_IN_SHARE,
    Lacking,
    ViewPlan,
    all_of,
    ancestors,
    choose_level,
    finest_of_equals,
)
from octree.render.view.volume.bricks import Bricks, step_at
from octree.render.view.volume.cut import Rule, cut_of, ideal_levels
from octree.render.view.volume.sight import Sight, widened

FEW = 4
"""So many stand-ins of the coarsest level are always worth it."""


def plan_volume(
    lattice: Lattice,
    sight: Sight,
    *,
    detail_px: float = 1.0,
    previous: ViewPlan | None = None,
    hysteresis: float = 0.1,
    max_tiles: int | None = None,
    margin_texels: float = 0.0,
    lacking: Lacking = all_of,
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
    bricks = Bricks(lattice, sight, margin_texels)
    if bricks.frustum.is_empty:
        return ViewPlan(ideal, False, ())
    room = MAX_WANTED if max_tiles is None else max(1, min(max_tiles, MAX_WANTED))
    rule = Rule(detail_px, hysteresis, previous)
    cut = cut_of(bricks, rule, room)
    wanted = cut.keys(bricks)
    if not wanted:
        return ViewPlan(ideal, False, ())
    degraded = cut.looseness > 1.0 or not cut.is_whole
    plan = ViewPlan(ideal, degraded, wanted)
    if degraded:
        plan = replace(plan, ideal_levels=ideal_levels(bricks, wanted, rule))
    cheap = len(lattice.levels) if cheap_levels is None else cheap_levels
    plan = replace(plan, stand_ins=_stand_ins(bricks, plan, previous, lacking, cheap))
    views = [] if later is None else [Bricks(lattice, later, margin_texels)]
    if views:
        plan = replace(plan, leaving=views[0].without(wanted))
    if prefetch_margin > 0:
        views.append(Bricks(lattice, widened(sight, prefetch_margin), margin_texels))
    rule = replace(rule, looseness=cut.looseness)
    return replace(plan, prefetch=_prefetch(views, plan, rule, room, lacking, cheap))


def step_of(lattice: Lattice, sight: Sight, plan: ViewPlan) -> float:
    """How far samples lie apart, world units: the shortest edge of a voxel of the finest level that is wanted."""
    return step_at(lattice, sight, min(plan.levels, default=plan.ideal_level))


def _stand_ins(
    bricks: Bricks, plan: ViewPlan, previous: ViewPlan | None, lacking: Lacking, cheap: int
) -> tuple[TileKey, ...]:
    """Coarser bricks to load before the wanted ones: those of the coarsest level, where they are few; then, of the finest level
    that the budget allows, those over missing bricks for which nothing nearer is known."""
    lattice, box = bricks.lattice, bricks.sight.box
    coarsest = finest_of_equals(lattice, min(cheap, len(lattice.levels)) - 1)
    if coarsest <= min(plan.levels):
        return ()
    missing: dict[int, list[tuple[int, ...]]] = {}
    for key in lacking(plan.wanted):
        missing.setdefault(key.level, []).append(key.grid)
    budget = max(1, sum(map(len, missing.values())) // STAND_IN_SHARE)
    grids, is_few = bricks.listed(coarsest, max(budget, FEW))
    few = [lattice.key(coarsest, tuple(grid)) for grid in grids.tolist()] if is_few else []
    roots = tuple(lacking(bricks.near_first(few)))
    if not missing:
        return roots
    kept = [
        key
        for key in (previous.stand_ins if previous is not None else ())
        if min(missing) < key.level < coarsest and key.index == lattice.levels[key.level].index
    ]
    gone = bricks.without(kept)
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
            return (*roots, *begun, *bricks.near_first(new))
    return (*roots, *begun)


def _prefetch(
    views: Sequence[Bricks], plan: ViewPlan, rule: Rule, room: int, lacking: Lacking, cheap: int
) -> tuple[TileKey, ...]:
    """Bricks where the camera is going, then around the view; never more than are wanted and eight, nor than there is room for."""
    most = min(len(plan.wanted) + 8, room - len(plan.wanted), MOST_PREFETCH)
    if most <= 0:
        return ()
    known, found = set(plan.wanted), dict[TileKey, None]()
    for bricks in views:
        if not bricks.frustum.is_empty:
            keys = cut_of(bricks, rule, room).keys(bricks)
            found.update(dict.fromkeys(lacking([k for k in keys if k not in known and k.level < cheap])))
    return tuple(itertools.islice(found, most))
