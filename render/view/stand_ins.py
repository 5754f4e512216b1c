"""Stand-ins that cost no read: coarser tiles that are in memory already, or on their way. Pure.

Something is shown as soon as anything is known: where a wanted tile is not in memory, the nearest coarser tile that
is shall be drawn, so it must be named here, or it is neither uploaded nor kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from octree.pyramid.grid import Lattice, Region
from octree.pyramid.model import TileKey
from octree.render.view.plan import Lacking, ViewPlan, grids_over, tiles_over

FEW = 4
"""So many stand-ins are always worth it, however few tiles are wanted."""


def stand_ins_at_hand(
    lattice: Lattice,
    plan: ViewPlan,
    view: Region,
    lacking: Lacking,
    *,
    on_their_way: int = 0,
) -> tuple[TileKey, ...]:
    """Coarser tiles for what ``view`` (base coordinates) shows, the coarsest first.

    ``lacking``       which tiles are not in memory?
    ``on_their_way``  of the first so many levels also tiles that are not known: asked for by the view before,
                      they may arrive. As many as are wanted, at most; the finest levels count.
    """
    seen = view.intersect(lattice.extent)
    if not plan.wanted or seen.is_empty:
        return ()
    if plan.level + 1 >= len(lattice.levels) and len(plan.levels) == 1:
        return ()
    missing = lacking(plan.wanted)
    found = dict.fromkeys(_known_of(_backdrop(lattice, plan, seen), lacking))
    if missing:
        for level in sorted(plan.levels):
            own = [key for key in missing if key.level == level]
            found.update(dict.fromkeys(_nearest_known(lattice, level, own, seen, lacking)))
        found.update(dict.fromkeys(_passed(lattice, plan, seen, on_their_way)))
    return tuple(sorted(found, key=lambda key: -key.level))


def _backdrop(lattice: Lattice, plan: ViewPlan, seen: Region) -> list[TileKey]:
    """The coarsest level, where it has few tiles: kept even while nothing is missing, as the next view may be
    elsewhere."""
    level = len(lattice.levels) - 1
    span = lattice.blocks_meeting(level, seen)
    few = level > min(plan.levels) and span.size <= _most(plan)
    return [lattice.key(level, grid) for grid in span.grids()] if few else []


def _known_of(tiles: Sequence[TileKey], lacking: Lacking) -> list[TileKey]:
    absent = set(lacking(tiles))
    return [tile for tile in tiles if tile not in absent]


def _nearest_known(
    lattice: Lattice,
    fine: int,
    missing: Iterable[TileKey],
    seen: Region,
    lacking: Lacking,
) -> list[TileKey]:
    """Over each missing tile of level ``fine``, as far as it is seen, the known tile of the finest coarser level."""
    grids: Collection[tuple[int, ...]] = {key.grid for key in missing}
    found: list[TileKey] = []
    for level in range(fine + 1, len(lattice.levels)) if grids else ():
        above = grids_over(tiles_over(lattice, level - 1, level, grids, seen).values())
        keys = [lattice.key(level, grid) for grid in sorted(above)]
        found += _known_of(keys, lacking)
        grids = {key.grid for key in lacking(keys)}
        if not grids:
            break
    return found


def _passed(lattice: Lattice, plan: ViewPlan, seen: Region, levels: int) -> list[TileKey]:
    """Whole levels in view, the finest first, as long as they are few."""
    found: list[TileKey] = []
    for level in range(plan.level + 1, levels):
        span = lattice.blocks_meeting(level, seen)
        if len(found) + span.size > _most(plan):
            break
        found += [lattice.key(level, grid) for grid in span.grids()]
    return found


def _most(plan: ViewPlan) -> int:
    return max(FEW, len(plan.wanted))
