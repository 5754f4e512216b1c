"""Stand-ins that cost no read: coarser tiles that are in memory already, or on their way. Pure.

Something is shown as soon as anything is known: where a wanted tile is not in memory, the nearest coarser tile that
is shall be drawn, so it must be named here, or it is neither uploaded nor kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from octree.pyramid.grid import Plane, Rect, TileRange
from octree.pyramid.model import TileKey
from octree.render.view.plan import ViewPlan, tiles_over

FEW = 4
"""So many stand-ins are always worth it, however few tiles are wanted."""


def stand_ins_at_hand(
    plane: Plane,
    plan: ViewPlan,
    view: Rect,
    known: Callable[[TileKey], bool],
    *,
    on_their_way: int = 0,
) -> tuple[TileKey, ...]:
    """Coarser tiles for what ``view`` (base coordinates) shows, the coarsest first.

    ``known``         is this tile in memory?
    ``on_their_way``  of the first so many levels also tiles that are not known: asked for by the view before,
                      they may arrive. As many as are wanted, at most; the finest levels count.
    """
    seen = view.intersect(plane.extent)
    if not plan.wanted or seen.is_empty:
        return ()
    missing = [key for key in plan.wanted if not known(key)]
    found = dict.fromkeys(key for key in _backdrop(plane, plan, seen) if known(key))
    if missing:
        found.update(dict.fromkeys(_nearest_known(plane, plan, missing, seen, known)))
        found.update(dict.fromkeys(_passed(plane, plan, seen, on_their_way)))
    return tuple(sorted(found, key=lambda key: -key.level))


def _backdrop(plane: Plane, plan: ViewPlan, seen: Rect) -> list[TileKey]:
    """The coarsest level, where it has few tiles: kept even while nothing is missing, as the next view may be
    elsewhere."""
    level = len(plane.levels) - 1
    span = plane.tiles_meeting(level, seen)
    return _tiles(level, span, plan) if level > plan.level and span.count <= _most(plan) else []


def _nearest_known(
    plane: Plane, plan: ViewPlan, missing: Iterable[TileKey], seen: Rect, known: Callable[[TileKey], bool]
) -> list[TileKey]:
    """Over each missing tile, as far as it is seen, the known tile of the finest coarser level."""
    index, grids = plan.wanted[0].index, {key.grid for key in missing}
    found: list[TileKey] = []
    for level in range(plan.level + 1, len(plane.levels)):
        rows, cols = (tiles_over(plane, level - 1, level, grids, axis, seen) for axis in (0, 1))
        above = {
            (row, col) for grid in grids for row in range(*rows[grid[0]]) for col in range(*cols[grid[1]])
        }
        keys = [TileKey(level, index, grid) for grid in sorted(above)]
        found += [key for key in keys if known(key)]
        grids = {key.grid for key in keys if not known(key)}
        if not grids:
            break
    return found


def _passed(plane: Plane, plan: ViewPlan, seen: Rect, levels: int) -> list[TileKey]:
    """Whole levels in view, the finest first, as long as they are few."""
    found: list[TileKey] = []
    for level in range(plan.level + 1, levels):
        span = plane.tiles_meeting(level, seen)
        if len(found) + span.count > _most(plan):
            break
        found += _tiles(level, span, plan)
    return found


def _most(plan: ViewPlan) -> int:
    return max(FEW, len(plan.wanted))


def _tiles(level: int, span: TileRange, plan: ViewPlan) -> list[TileKey]:
    index = plan.wanted[0].index
    rows, cols = range(span.row0, span.row1), range(span.col0, span.col1)
    return [TileKey(level, index, (row, col)) for row in rows for col in cols]
