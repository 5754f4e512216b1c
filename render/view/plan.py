"""From a view to what to load: the level, the wanted tiles, and in which order. Pure; no pixel is touched.

The level rule: the wanted level is the coarsest one whose texels are at most one screen (device) pixel on both
axes, so a frame never shows fewer texels than it has pixels until level 0 is reached: at a zoom of 0.5 ** k that
is level k of a pyramid of factor 2, at a zoom of 1 or more level 0. Texels are then between 1/2 (excluded) and 1
pixel. With a ``previous_level`` the switch points move away from it by ``hysteresis``.

All rectangles are in base coordinates (``pyramid.grid``), pairs are (y, x).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from octree.pyramid.grid import Plane, PlaneLevel, Rect, TileRange
from octree.pyramid.model import TileKey

MAX_WANTED = 16_384
"""Most tiles one plan names when the caller knows no smaller bound: far more than any atlas holds."""
COVERAGE_SHARE = 3
"""Stand-ins may add one read for so many missing tiles."""
_NO_TILES = TileRange(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What one view of one plane wants.

    ``level``     to be shown. ``ideal_level`` what the zoom asks for; ``degraded`` when they differ for want of
                  room, or when not even that level's tiles fit and ``wanted`` is only the middle of the view.
    ``wanted``    the ideal tiles, the one nearest to the view's centre first.
    ``coverage``  coarser stand-ins that are not known yet: the coarsest level first of all.
    ``prefetch``  tiles of ``level`` not yet in view and not known, soonest needed first.
    ``leaving``   wanted tiles that the motion will have carried out of view: not worth a new load.
    """

    level: int
    ideal_level: int
    degraded: bool
    wanted: tuple[TileKey, ...]
    coverage: tuple[TileKey, ...] = ()
    prefetch: tuple[TileKey, ...] = ()
    leaving: frozenset[TileKey] = frozenset()


def _nothing_known(key: TileKey) -> bool:
    return False


def choose_level(
    plane: Plane, px_per_base: tuple[float, float], previous: int | None = None, hysteresis: float = 0.1
) -> int:
    """The wanted level (see the level rule above). ``px_per_base`` is screen pixels per base pixel.

    A level coarser than ``previous`` is taken only when its texels are below 1 / (1 + hysteresis) pixels, and
    ``previous`` is left for a finer one only when its own texels exceed 1 + hysteresis pixels.
    """
    for level in range(len(plane.levels) - 1, 0, -1):
        scale = plane.levels[level].scale
        texel_px = max(scale[0] * px_per_base[0], scale[1] * px_per_base[1])
        limit = 1.0
        if previous is not None and level > previous:
            limit = 1.0 / (1.0 + hysteresis)
        elif level == previous:
            limit = 1.0 + hysteresis
        # a zoom computed from a size is off by rounding: 1e-9 is far below what can be seen
        if texel_px <= limit * (1.0 + 1e-9):
            return level
    return 0


def plan_view(
    plane: Plane,
    view: Rect,
    px_per_base: tuple[float, float],
    *,
    index: tuple[int, ...] = (),
    previous: ViewPlan | None = None,
    previous_level: int | None = None,
    hysteresis: float = 0.1,
    max_tiles: int | None = None,
    margin_texels: float = 0.0,
    known: Callable[[TileKey], bool] = _nothing_known,
    prefetch_margin: float = 0.0,
    motion: tuple[float, float] = (0.0, 0.0),
    fixed_level: int | None = None,
    cheap_levels: int | None = None,
) -> ViewPlan:
    """Plan one view.

    ``view``             what the frame shows, base coordinates of the layer.
    ``px_per_base``      device pixels of the screen per base pixel.
    ``index``            position on the axes that are not displayed; goes into every key.
    ``previous``         the view's last plan: its stand-ins are kept while they help, since they may be on their
                         way, and its level is held on to; ``previous_level`` is for the latter alone.
    ``max_tiles``        how many tiles can be resident at once; more wanted ones than that, and the plan takes
                         the next coarser level.
    ``margin_texels``    half a texel with linear filtering, so that neighbours whose edge shows are wanted too.
    ``known``            is this tile in memory already? Asked for stand-ins and prefetch, never required.
    ``prefetch_margin``  fraction of the view's size to load around it.
    ``motion``           how far the view is expected to move within the look-ahead, base pixels.
    ``fixed_level``      this level instead of the zoom's (clamped; still degraded for want of room).
    ``cheap_levels``     stand-ins and prefetch only from the first so many levels (those that are stored).
    """
    if previous is not None and previous_level is None:
        previous_level = previous.ideal_level
    ideal = _ideal_level(plane, px_per_base, previous_level, hysteresis, fixed_level)
    seen = view.intersect(plane.extent)
    if seen.is_empty or not all(map(math.isfinite, (*view, *px_per_base))):
        return ViewPlan(ideal, ideal, False, ())
    room = MAX_WANTED if max_tiles is None else max(1, min(max_tiles, MAX_WANTED))
    level = ideal
    tiles = _tiles_with_margin(plane, level, seen, margin_texels)
    while tiles.count > room and level + 1 < len(plane.levels):
        level += 1
        tiles = _tiles_with_margin(plane, level, seen, margin_texels)
    degraded = level != ideal or tiles.count > room
    centre = ((view.y0 + view.y1) / 2, (view.x0 + view.x1) / 2)
    tiles = _middle(plane, level, tiles, centre, room)
    wanted = _nearest_first(plane.levels[level], level, index, tiles, centre)
    cheap = len(plane.levels) if cheap_levels is None else cheap_levels
    moving = motion[0] != 0.0 or motion[1] != 0.0
    later = _shifted(view, motion) if moving else view
    plan = ViewPlan(level, ideal, degraded, wanted)
    stay = _tiles_with_margin(plane, level, later, margin_texels) if moving else tiles
    return replace(
        plan,
        coverage=_stand_ins(plane, plan, previous, seen, later if moving else None, known, cheap),
        prefetch=_prefetch(plane, plan, tiles, view, later, known, prefetch_margin, room)
        if level < cheap
        else (),
        leaving=_leaving(wanted, tiles, stay),
    )


def plane_untiled(plane: Plane, max_texture: int) -> Plane:
    """The same plane with each level as one tile, or as the fewest equal tiles that fit ``max_texture`` texels
    on a side: the plain-image mode of ``enabled: false``."""

    def edge(length: int) -> int:
        return math.ceil(length / math.ceil(length / max_texture))

    return Plane(
        tuple(replace(info, tile=(edge(info.shape[0]), edge(info.shape[1]))) for info in plane.levels)
    )


def _ideal_level(
    plane: Plane,
    px_per_base: tuple[float, float],
    previous: int | None,
    hysteresis: float,
    fixed: int | None,
) -> int:
    if fixed is not None:
        return min(max(fixed, 0), len(plane.levels) - 1)
    return choose_level(plane, px_per_base, previous, hysteresis)


def _grown(rect: Rect, dy: float, dx: float) -> Rect:
    return Rect(rect.y0 - dy, rect.x0 - dx, rect.y1 + dy, rect.x1 + dx)


def _shifted(rect: Rect, by: tuple[float, float]) -> Rect:
    return Rect(rect.y0 + by[0], rect.x0 + by[1], rect.y1 + by[0], rect.x1 + by[1])


def _tiles_with_margin(plane: Plane, level: int, seen: Rect, margin_texels: float) -> TileRange:
    scale = plane.levels[level].scale
    return plane.tiles_meeting(level, _grown(seen, margin_texels * scale[0], margin_texels * scale[1]))


def _middle(plane: Plane, level: int, tiles: TileRange, centre: tuple[float, float], room: int) -> TileRange:
    """At most ``room`` of the tiles, those around the view's centre: what is left when even the coarsest level
    has more tiles in view than can be resident."""
    if tiles.count <= room:
        return tiles
    info = plane.levels[level]
    rows, cols = tiles.row1 - tiles.row0, tiles.col1 - tiles.col0
    keep_rows = max(1, min(rows, round(math.sqrt(room * rows / cols))))
    keep_cols = max(1, min(cols, room // keep_rows))
    keep_rows = max(1, min(rows, room // keep_cols))
    row, col = (
        math.floor((centre[axis] - info.origin[axis]) / (info.scale[axis] * info.tile[axis]))
        for axis in (0, 1)
    )
    row0 = min(max(row - keep_rows // 2, tiles.row0), tiles.row1 - keep_rows)
    col0 = min(max(col - keep_cols // 2, tiles.col0), tiles.col1 - keep_cols)
    return TileRange(row0, row0 + keep_rows, col0, col0 + keep_cols)


def _nearest_first(
    info: PlaneLevel,
    level: int,
    index: tuple[int, ...],
    tiles: TileRange,
    centre: tuple[float, float],
    without: TileRange = _NO_TILES,
) -> tuple[TileKey, ...]:
    """Keys of ``tiles`` but for those in ``without``, by the distance of the tile's middle from ``centre`` (base
    pixels), ties by row, then column."""
    height, width = info.scale[0] * info.tile[0], info.scale[1] * info.tile[1]
    y0, x0 = info.origin[0] + height / 2 - centre[0], info.origin[1] + width / 2 - centre[1]
    across = [(col, (x0 + col * width) ** 2) for col in range(tiles.col0, tiles.col1)]
    beside = [pair for pair in across if not without.col0 <= pair[0] < without.col1]
    ranked = [
        (dy + dx, row, col)
        for row in range(tiles.row0, tiles.row1)
        for dy in ((y0 + row * height) ** 2,)
        for col, dx in (beside if without.row0 <= row < without.row1 else across)
    ]
    ranked.sort()
    return tuple([TileKey(level, index, (row, col)) for _, row, col in ranked])


def _stand_ins(
    plane: Plane,
    plan: ViewPlan,
    previous: ViewPlan | None,
    seen: Rect,
    later: Rect | None,
    known: Callable[[TileKey], bool],
    cheap_levels: int,
) -> tuple[TileKey, ...]:
    """Coarser tiles to load before the ideal ones: the coarsest level, then of the finest level that the
    budget allows those under which ideal tiles are missing and nothing nearer is known.

    While the view moves, a stand-in must still be in view when it arrives (``later``), or it is no help.
    """
    coarsest = min(cheap_levels, len(plane.levels)) - 1
    if coarsest <= plan.level or not plan.wanted:
        return ()
    index = plan.wanted[0].index
    missing = [key.grid for key in plan.wanted if not known(key)]
    budget = max(1, len(missing) // COVERAGE_SHARE)
    centre = ((seen.y0 + seen.y1) / 2, (seen.x0 + seen.x1) / 2)
    root_range = plane.tiles_meeting(coarsest, seen)
    if root_range.count > max(budget, 4):
        roots: tuple[TileKey, ...] = ()  # a coarsest level of many tiles is no cheap backdrop
    else:
        all_roots = _nearest_first(plane.levels[coarsest], coarsest, index, root_range, centre)
        roots = tuple(key for key in all_roots if not known(key))
    if not missing:
        return roots
    begun = dict.fromkeys(
        key
        for key in (previous.coverage if previous is not None else ())
        if plan.level < key.level < coarsest
        and key.index == index
        and not plane.tile_rect(key.level, *key.grid).intersect(seen).is_empty
        and not known(key)
    )
    budget -= len(roots) + len(begun)
    if later is not None:
        seen = seen.intersect(later)
    for level in range(plan.level + 1, coarsest if not seen.is_empty else 0):
        grids, missing = _ancestors(plane, plan.level, level, missing, seen, index, known)
        if not missing:
            break
        keys = _nearest_first(plane.levels[level], level, index, _hull(grids), centre)
        new = [key for key in keys if key.grid in grids and key not in begun]
        if len(new) <= budget:
            return (*roots, *begun, *new)
    return (*roots, *begun)


def _hull(grids: set[tuple[int, int]]) -> TileRange:
    rows, cols = [g[0] for g in grids], [g[1] for g in grids]
    return TileRange(min(rows), max(rows) + 1, min(cols), max(cols) + 1) if grids else _NO_TILES


def _ancestors(
    plane: Plane,
    fine: int,
    coarse: int,
    missing: list[tuple[int, ...]],
    seen: Rect,
    index: tuple[int, ...],
    known: Callable[[TileKey], bool],
) -> tuple[set[tuple[int, int]], list[tuple[int, ...]]]:
    """Unknown tiles of level ``coarse`` over the missing tiles of level ``fine`` as far as these are seen, and
    the missing tiles that no known tile of ``coarse`` covers."""
    rows, cols = (tiles_over(plane, fine, coarse, missing, axis, seen) for axis in (0, 1))
    unknown: set[tuple[int, int]] = set()
    covered = set()
    for span in {(rows[grid[0]], cols[grid[1]]) for grid in missing}:
        over = {(r, c) for r in range(*span[0]) for c in range(*span[1])}
        lacking = {grid for grid in over if not known(TileKey(coarse, index, grid))}
        unknown |= lacking
        if not lacking:
            covered.add(span)
    return unknown, [grid for grid in missing if (rows[grid[0]], cols[grid[1]]) not in covered]


def tiles_over(
    plane: Plane, fine: int, coarse: int, grids: Iterable[tuple[int, ...]], axis: int, seen: Rect
) -> dict[int, tuple[int, int]]:
    """Along one axis: number of a tile of level ``fine`` → tiles ``[first, last)`` of level ``coarse`` over the part of
    it that is seen."""
    below, above = plane.levels[fine], plane.levels[coarse]
    low, high = seen[axis], seen[axis + 2]
    size, origin = below.scale[axis] * below.tile[axis], below.origin[axis]
    found = {}
    for number in {grid[axis] for grid in grids}:
        start = max(origin + number * size, low)
        stop = min(origin + (number + 1) * size, high)
        # a tile wanted only for its edge texels, or one that stands in beyond its level's end, shares
        # nothing with the view: it has the ancestors of the view's edge
        found[number] = above.tiles_along(axis, min(start, high), max(stop, start))
    return found


def _prefetch(
    plane: Plane,
    plan: ViewPlan,
    wanted: TileRange,
    view: Rect,
    later: Rect,
    known: Callable[[TileKey], bool],
    margin: float,
    room: int,
) -> tuple[TileKey, ...]:
    """Tiles where the view is going, then around it, nearest to the view's next centre first; never more than
    are wanted and eight, nor than there is room for."""
    most = min(wanted.count + 8, room - wanted.count)
    if most <= 0 or not plan.wanted:
        return ()
    height, width = view.y1 - view.y0, view.x1 - view.x0
    regions = [later] if later != view else []
    if margin > 0:
        regions.append(_grown(view, margin * height, margin * width))
    centre = ((later.y0 + later.y1) / 2, (later.x0 + later.x1) / 2)
    info, index = plane.levels[plan.level], plan.wanted[0].index
    found: dict[TileKey, None] = {}
    for region in regions:
        tiles = plane.tiles_meeting(plan.level, region)
        near = _middle(plane, plan.level, tiles, centre, MAX_WANTED)
        keys = _nearest_first(info, plan.level, index, near, centre, without=wanted)
        found.update(dict.fromkeys(key for key in keys if not known(key)))
    return tuple(itertools.islice(found, most))


def _leaving(wanted: tuple[TileKey, ...], all_of: TileRange, stay: TileRange) -> frozenset[TileKey]:
    """The wanted tiles outside ``stay``."""
    if (
        stay.row0 <= all_of.row0
        and stay.row1 >= all_of.row1
        and stay.col0 <= all_of.col0
        and stay.col1 >= all_of.col1
    ):
        return frozenset()
    return frozenset(
        [
            key
            for key in wanted
            if not (stay.row0 <= key[2][0] < stay.row1 and stay.col0 <= key[2][1] < stay.col1)
        ]
    )
