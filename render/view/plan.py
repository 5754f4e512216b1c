"""From a view to what to load: the level, the wanted tiles, and in which order. Pure; no pixel is touched.

The level rule: the wanted level is the coarsest one whose texels are at most one screen (device) pixel on all
displayed axes, so a frame never shows fewer texels than it has pixels until level 0 is reached: at a zoom of
0.5 ** k that is level k of a pyramid of factor 2, at a zoom of 1 or more level 0. Texels are then between 1/2
(excluded) and 1 pixel. An axis on which no finer level has smaller texels (z, where it does not halve) holds nothing
back. With a ``previous_level`` the switch points move away from it by ``hysteresis``.

All regions are in base coordinates (``pyramid.grid``), tuples are per displayed axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import repeat
from operator import getitem
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import BlockRange, Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey

MAX_WANTED = 16_384
"""Most tiles one plan names when the caller knows no smaller bound: far more than any atlas holds."""
_SAME_SCALE = 1e-6
MOST_PREFETCH = 256
"""A view of thousands of tiles would plan a thousand more, sixty times a second, of which few are read before it has moved on."""
MANY, MIDDLE_STEP = 512, 4
"""Of more tiles than that the middle, where loading begins, moves in steps of so many."""
STAND_IN_SHARE = 3
"""Stand-ins may add one read for so many missing tiles."""


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What one view wants.

    ``ideal_level`` is what the zoom asks for; ``degraded`` when another is wanted for want of room, or when not
                  even that level's tiles fit and ``wanted`` is only the middle of the view.
    ``wanted``    the ideal tiles, each with its level, the one at the view's centre first, then the nearest to that.
    ``stand_ins`` coarser stand-ins that are not known yet: the coarsest level first of all.
    ``prefetch``  tiles not yet in view and not known, soonest needed first.
    ``leaving``   wanted tiles that the motion will have carried out of view: not worth a new load.
    ``ideal_levels``  of a degraded plan of several levels: what the zoom asks for where each of ``wanted`` is.
    """

    ideal_level: int
    degraded: bool
    wanted: tuple[TileKey, ...]
    stand_ins: tuple[TileKey, ...] = ()
    prefetch: tuple[TileKey, ...] = ()
    leaving: frozenset[TileKey] = frozenset()
    ideal_levels: tuple[int, ...] = ()

    @property
    def levels(self) -> frozenset[int]:
        """Of the wanted tiles; one, unless parts of the view are wanted at different ones."""
        return frozenset([key.level for key in self.wanted])

    @property
    def level(self) -> int:
        """What is wanted in the middle of the view; what the zoom asks for when nothing is in view."""
        return self.wanted[0].level if self.wanted else self.ideal_level


Lacking: TypeAlias = Callable[[Sequence[TileKey]], Sequence[TileKey]]
"""Those of some tiles that are not in memory, in their order. Asked for many at once: a view may want thousands."""


def all_of(tiles: Sequence[TileKey]) -> Sequence[TileKey]:
    return tiles


def choose_level(
    lattice: Lattice, px_per_base: tuple[float, ...], previous: int | None = None, hysteresis: float = 0.1
) -> int:
    """The wanted level (see the level rule above). ``px_per_base`` is screen pixels per base pixel.

    Of levels of equal scale it is the first. A level coarser than ``previous`` is taken only when its texels are below 1 / (1 + hysteresis) pixels, and
    ``previous`` is left for a finer one only when its own texels exceed 1 + hysteresis pixels.
    """
    for level in range(len(lattice.levels) - 1, 0, -1):
        limit = 1.0
        if previous is not None and level > previous:
            limit = 1.0 / (1.0 + hysteresis)
        elif level == previous:
            limit = 1.0 + hysteresis
        # a zoom computed from a size is off by rounding: 1e-9 is far below what can be seen
        if texel_px(lattice, level, px_per_base) <= limit * (1.0 + 1e-9):
            return finest_of_equals(lattice, level)
    return 0


def texel_px(lattice: Lattice, level: int, px_per_base: tuple[float, ...]) -> float:
    """How many screen pixels long a texel of a level is on the axes that a finer level could make sharper; on all where there is
    none."""
    pairs = zip(lattice.levels[level].scale, lattice.levels[0].scale, px_per_base, strict=True)
    return max([(own > least, own * px) for own, least, px in pairs])[1]


def finest_of_equals(lattice: Lattice, level: int) -> int:
    """Of levels that are as fine as this one on the displayed axes the first: what comes after it is coarser on others
    (where only z was halved), or a copy."""
    scale = lattice.levels[level].scale
    while level and all(
        abs(before - own) <= _SAME_SCALE * own
        for before, own in zip(lattice.levels[level - 1].scale, scale, strict=True)
    ):
        level -= 1
    return level


def plan_view(
    lattice: Lattice,
    view: Region,
    px_per_base: tuple[float, ...],
    *,
    previous: ViewPlan | None = None,
    previous_level: int | None = None,
    hysteresis: float = 0.1,
    max_tiles: int | None = None,
    margin_texels: float = 0.0,
    lacking: Lacking = all_of,
    prefetch_margin: float = 0.0,
    motion: tuple[float, ...] = (),
    fixed_level: int | None = None,
    cheap_levels: int | None = None,
) -> ViewPlan:
    """Plan one view.

    ``view``             what the frame shows, base coordinates of the layer.
    ``px_per_base``      device pixels of the screen per base voxel.
    ``previous``         the view's last plan: its stand-ins are kept while they help, since they may be on their
                         way, and its level is held on to; ``previous_level`` is for the latter alone.
    ``max_tiles``        how many tiles can be resident at once; more wanted ones than that, and the plan takes
                         the next coarser level.
    ``margin_texels``    half a texel with linear filtering, so that neighbours whose edge shows are wanted too.
    ``lacking``          which tiles are not in memory? Asked for stand-ins and prefetch, never required.
    ``prefetch_margin``  fraction of the view's size to load around it.
    ``motion``           how far the view is expected to move within the look-ahead, base voxels.
    ``fixed_level``      this level instead of the zoom's (clamped; still degraded for want of room).
    ``cheap_levels``     stand-ins and prefetch only from the first so many levels (those that are stored).
    """
    if previous is not None and previous_level is None:
        previous_level = previous.ideal_level
    ideal = _ideal_level(lattice, px_per_base, previous_level, hysteresis, fixed_level)
    seen = view.intersect(lattice.extent)
    if seen.is_empty or not all(map(math.isfinite, (*view.low, *view.high, *px_per_base))):
        return ViewPlan(ideal, False, ())
    room = MAX_WANTED if max_tiles is None else max(1, min(max_tiles, MAX_WANTED))
    level = ideal
    tiles = tiles_with_margin(lattice, level, seen, margin_texels)
    while tiles.size > room and level + 1 < len(lattice.levels):
        level += 1
        tiles = tiles_with_margin(lattice, level, seen, margin_texels)
    degraded = level != ideal or tiles.size > room
    centre = view.centre
    tiles = _middle(lattice.levels[level], tiles, centre, room)
    wanted = _nearest_first(lattice, level, tiles, centre)
    cheap = len(lattice.levels) if cheap_levels is None else cheap_levels
    moving = any(motion)
    later = view.shifted(motion) if moving else view
    plan = ViewPlan(ideal, degraded, wanted)
    stay = tiles_with_margin(lattice, level, later, margin_texels) if moving else tiles
    return replace(
        plan,
        stand_ins=_stand_ins(lattice, plan, previous, seen, later if moving else None, lacking, cheap),
        prefetch=_prefetch(lattice, plan, tiles, view, later, lacking, prefetch_margin, room)
        if level < cheap
        else (),
        leaving=_leaving(wanted, tiles, stay),
    )


def untiled_lattice(lattice: Lattice, max_texture: int) -> Lattice:
    """The same lattice with each level as one tile, or as the fewest equal tiles that fit ``max_texture`` texels
    on a side: the plain-image mode of ``enabled: false``."""

    def edge(length: int) -> int:
        return math.ceil(length / math.ceil(length / max_texture))

    return Lattice(tuple(replace(info, tile=tuple(map(edge, info.shape))) for info in lattice.levels))


def _ideal_level(
    lattice: Lattice,
    px_per_base: tuple[float, ...],
    previous: int | None,
    hysteresis: float,
    fixed: int | None,
) -> int:
    if fixed is not None:
        return min(max(fixed, 0), len(lattice.levels) - 1)
    return choose_level(lattice, px_per_base, previous, hysteresis)


def tiles_with_margin(lattice: Lattice, level: int, seen: Region, margin_texels: float) -> BlockRange:
    """Tiles of ``level`` that show what of the image lies in ``seen``, or within so many texels of it."""
    margin = [margin_texels * scale for scale in lattice.levels[level].scale]
    return lattice.blocks_meeting(level, seen.grown(margin))


def _middle(info: LatticeLevel, tiles: BlockRange, centre: tuple[float, ...], room: int) -> BlockRange:
    """At most ``room`` of the tiles, those around the view's centre: what is left when even the coarsest level
    has more tiles in view than can be resident. As long on each axis as its share of the view."""
    if tiles.size <= room:
        return tiles
    shape = tiles.shape
    keep: list[int] = []
    for axis, length in enumerate(shape):
        rest = len(shape) - axis
        share = room * length**rest / (math.prod(keep) * math.prod(shape[axis:]))
        keep.append(max(1, min(length, round(share ** (1 / rest)) if rest > 1 else int(share))))
    for axis, length in enumerate(shape):
        others = math.prod(keep[:axis]) * math.prod(keep[axis + 1 :])
        keep[axis] = max(1, min(length, room // others))
    start = tuple(
        min(max(info.block_at(axis, at) - kept // 2, first), stop - kept)
        for axis, (at, kept, first, stop) in enumerate(zip(centre, keep, *tiles, strict=True))
    )
    return BlockRange(start, tuple(first + kept for first, kept in zip(start, keep, strict=True)))


def _nearest_first(
    lattice: Lattice,
    level: int,
    tiles: BlockRange,
    centre: tuple[float, ...],
    without: BlockRange | None = None,
) -> tuple[TileKey, ...]:
    """Keys of ``tiles`` but for those in ``without``, those first that are nearest to the tile at ``centre`` (base voxels),
    ties in the order of the grid. A view that moves within a tile has one order."""
    info = lattice.levels[level]
    return _keys_in_order(level, info, tiles, _middle_tile(info, tiles.size, centre), without)


def _middle_tile(info: LatticeLevel, count: int, centre: tuple[float, ...]) -> tuple[int, ...]:
    """The tile at the centre of a view; of one of many hundreds a tile near it, so that the view has one order while it moves by
    a few."""
    step = MIDDLE_STEP if count > MANY else 1
    blocks = [info.block_at(axis, at) for axis, at in enumerate(centre)]
    return tuple([block // step * step + step // 2 for block in blocks])


@lru_cache(maxsize=16)  # a view of thousands moves by pixels: the same order, sixty times a second
def _keys_in_order(
    level: int, info: LatticeLevel, tiles: BlockRange, middle: tuple[int, ...], without: BlockRange | None
) -> tuple[TileKey, ...]:
    return _keys(level, info, _grids_in_order(info, tiles, middle, without))


def _keys(level: int, info: LatticeLevel, grids: NDArray[np.intp]) -> tuple[TileKey, ...]:
    """Of ``grids`` (axis, tile)."""
    # a named tuple's own constructor takes four times as long
    parts = zip(repeat(level), repeat(info.index), zip(*grids.tolist(), strict=True), strict=False)
    return tuple(map(partial(tuple.__new__, TileKey), parts))


@lru_cache(maxsize=16)
def _grids_in_order(
    info: LatticeLevel, tiles: BlockRange, middle: tuple[int, ...], without: BlockRange | None
) -> NDArray[np.intp]:
    """(axis, tile): the tiles of ``_nearest_first``."""
    far = np.zeros(tiles.shape)
    for axis, (first, stop) in enumerate(zip(*tiles, strict=True)):
        along = (np.arange(first, stop) - middle[axis]) * (info.scale[axis] * info.tile[axis])
        far += (along**2).reshape(-1, *[1] * (len(middle) - 1 - axis))
    asked = np.arange(far.size)
    if without is not None and (inner := without.intersect(tiles)).size:
        cut = [slice(low - first, high - first) for low, high, first in zip(*inner, tiles.start, strict=True)]
        outside = np.ones(far.shape, bool)
        outside[tuple(cut)] = False
        asked = np.flatnonzero(outside)
    order = asked[np.argsort(far.ravel()[asked], kind="stable")]
    grids = np.stack(np.unravel_index(order, far.shape))
    grids += np.array(tiles.start)[:, np.newaxis]
    return grids


def _stand_ins(
    lattice: Lattice,
    plan: ViewPlan,
    previous: ViewPlan | None,
    seen: Region,
    later: Region | None,
    lacking: Lacking,
    cheap_levels: int,
) -> tuple[TileKey, ...]:
    """Coarser tiles to load before the ideal ones: the coarsest level, then of the finest level that the
    budget allows those under which ideal tiles are missing and nothing nearer is known.

    While the view moves, a stand-in must still be in view when it arrives (``later``), or it is no help.
    """
    coarsest = min(cheap_levels, len(lattice.levels)) - 1
    if coarsest <= plan.level or not plan.wanted:
        return ()
    missing = [key.grid for key in lacking(plan.wanted)]
    budget = max(1, len(missing) // STAND_IN_SHARE)
    centre = seen.centre
    root_range = lattice.blocks_meeting(coarsest, seen)
    if root_range.size > max(budget, 4):
        roots: tuple[TileKey, ...] = ()  # a coarsest level of many tiles is no cheap backdrop
    else:
        all_roots = _nearest_first(lattice, coarsest, root_range, centre)
        roots = tuple(lacking(all_roots))
    if not missing:
        return roots
    begun = dict.fromkeys(
        lacking(
            [
                key
                for key in (previous.stand_ins if previous is not None else ())
                if plan.level < key.level < coarsest
                and key.index == lattice.levels[key.level].index
                and not lattice.tile_region(key.level, key.grid).intersect(seen).is_empty
            ]
        )
    )
    budget -= len(roots) + len(begun)
    if later is not None:
        seen = seen.intersect(later)
    for level in range(plan.level + 1, coarsest if not seen.is_empty else 0):
        grids, missing = ancestors(lattice, plan.level, level, missing, seen, lacking)
        if not missing:
            break
        keys = _nearest_first(lattice, level, _hull(grids), centre) if grids else ()
        new = [key for key in keys if key.grid in grids and key not in begun]
        if len(new) <= budget:
            return (*roots, *begun, *new)
    return (*roots, *begun)


def _hull(grids: set[tuple[int, ...]]) -> BlockRange:
    numbers = list(zip(*grids, strict=True))
    return BlockRange(tuple(map(min, numbers)), tuple(max(along) + 1 for along in numbers))


def ancestors(
    lattice: Lattice,
    fine: int,
    coarse: int,
    missing: list[tuple[int, ...]],
    seen: Region,
    lacking: Lacking,
) -> tuple[set[tuple[int, ...]], list[tuple[int, ...]]]:
    """Unknown tiles of level ``coarse`` over the missing tiles of level ``fine`` as far as these are seen, and
    the missing tiles that no known tile of ``coarse`` covers."""
    over = tiles_over(lattice, fine, coarse, missing, seen)
    spans_of = set(over.values())
    unknown = {key.grid for key in lacking([lattice.key(coarse, grid) for grid in grids_over(spans_of)])}
    covered = {spans for spans in spans_of if unknown.isdisjoint(_grids(spans))}
    return unknown, [grid for grid in missing if over[grid] not in covered] if covered else missing


Spans = tuple[tuple[int, int], ...]
"""Tiles ``[first, stop)`` along each axis."""


def tiles_over(
    lattice: Lattice, fine: int, coarse: int, grids: Collection[tuple[int, ...]], seen: Region
) -> dict[tuple[int, ...], Spans]:
    """For each of ``grids``, tiles of level ``fine``: the tiles of level ``coarse`` over the part of it that is
    seen."""
    below, above = lattice.levels[fine], lattice.levels[coarse]
    along: list[dict[int, tuple[int, int]]] = []
    for axis, numbers in enumerate(map(set, zip(*grids, strict=True))):
        low, high = seen.low[axis], seen.high[axis]
        size, origin = below.scale[axis] * below.tile[axis], below.origin[axis]
        spans = {}
        for number in numbers:
            start = max(origin + number * size, low)
            stop = min(origin + (number + 1) * size, high)
            # a tile wanted only for its edge texels, or one that stands in beyond its level's end, shares
            # nothing with the view: it has the ancestors of the view's edge
            spans[number] = above.blocks_along(axis, min(start, high), max(stop, start))
        along.append(spans)
    return {grid: tuple(map(getitem, along, grid)) for grid in grids}


def grids_over(over: Iterable[Spans]) -> set[tuple[int, ...]]:
    """All tiles of the answers of ``tiles_over``."""
    return {grid for spans in set(over) for grid in _grids(spans)}


def _grids(spans: Spans) -> Iterator[tuple[int, ...]]:
    return itertools.product(*itertools.starmap(range, spans))


def _prefetch(
    lattice: Lattice,
    plan: ViewPlan,
    wanted: BlockRange,
    view: Region,
    later: Region,
    lacking: Lacking,
    margin: float,
    room: int,
) -> tuple[TileKey, ...]:
    """Tiles where the view is going, then around it, nearest to the view's next centre first; never more than
    are wanted and eight, nor than there is room for, nor than ``MOST_PREFETCH``."""
    most = min(wanted.size + 8, room - wanted.size, MOST_PREFETCH)
    if most <= 0 or not plan.wanted:
        return ()
    regions = [later] if later != view else []
    if margin > 0:
        regions.append(view.grown([margin * length for length in view.size]))
    centre, level = later.centre, plan.level
    info = lattice.levels[level]
    middle = _middle_tile(info, wanted.size, centre)
    around = tuple(
        [_middle(info, lattice.blocks_meeting(level, region), centre, MAX_WANTED) for region in regions]
    )
    nearest = _nearest_around(level, info, around, middle, wanted, most)
    if len(lacking(nearest)) == len(nearest):
        return nearest
    found: dict[TileKey, None] = {}
    for near in around:
        grids = _grids_in_order(info, near, middle, wanted)
        for first in range(0, grids.shape[1], MOST_PREFETCH):
            if len(found) >= most:
                break
            found.update(dict.fromkeys(lacking(_keys(level, info, grids[:, first : first + MOST_PREFETCH]))))
    return tuple(itertools.islice(found, most))


@lru_cache(maxsize=16)  # as long as none of them has come, the same tuple
def _nearest_around(
    level: int,
    info: LatticeLevel,
    around: tuple[BlockRange, ...],
    middle: tuple[int, ...],
    wanted: BlockRange,
    most: int,
) -> tuple[TileKey, ...]:
    """The first of the tiles around those that are wanted, range after range."""
    found: dict[TileKey, None] = {}
    for near in around:
        found.update(dict.fromkeys(_keys(level, info, _grids_in_order(info, near, middle, wanted)[:, :most])))
    return tuple(itertools.islice(found, most))


def _leaving(wanted: tuple[TileKey, ...], all_of: BlockRange, stay: BlockRange) -> frozenset[TileKey]:
    """The wanted tiles outside ``stay``."""
    kept = all_of.intersect(stay)
    if kept == all_of:
        return frozenset()
    if not kept.size:
        return frozenset(wanted)
    level, index, _ = wanted[0]
    return frozenset([TileKey(level, index, grid) for grid in _outside(all_of, kept)])


def _outside(all_of: BlockRange, inner: BlockRange) -> Iterator[tuple[int, ...]]:
    """The grids of a range that are not in a part of it: slabs before and after that along each axis, as wide as the part
    along the axes before."""
    for axis, (first, low, high, stop) in enumerate(
        zip(all_of.start, inner.start, inner.stop, all_of.stop, strict=True)
    ):
        for start, end in ((first, low), (high, stop)):
            yield from BlockRange(
                (*inner.start[:axis], start, *all_of.start[axis + 1 :]),
                (*inner.stop[:axis], end, *all_of.stop[axis + 1 :]),
            ).grids()
