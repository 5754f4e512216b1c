"""What to load of planes that are not shown yet: how many of them, and in which order. Pure.

While planes are stepped through, tiles are wanted in this order: 1 what stands in for the plane that is shown, 2 its own
tiles, if they can arrive before it is left, 3 one coarsest tile for each plane to come, 4 the tiles of these planes, the one that
is due first in front. The plan of a view says 1 and 2, this file the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from octree.pyramid.model import TileKey

MOST_PLANES = 32
FEWEST_PLANES = 4
"""Of a film that is settled."""
EACH = 8
MOST_MS = 2_000.0
"""No plane that is due later is loaded ahead."""
CACHE_SHARE = 0.25
"""Of the cache: so much planes ahead may take."""
UNKNOWN_LATENCY_MS = 500.0
"""Until the first tile has arrived."""
SETTLED_FPS = 30.0
"""Planes of a settled film are made at no set rate: workers are found for this one."""
SPARE = 1.25
"""Workers for each one that is needed when all goes evenly."""


Plane = TypeVar("Plane")
Tiles = tuple[Sequence[TileKey], Sequence[TileKey]]
"""Of one layer: its coarsest tiles in view, and those that it wants."""


class Tile(NamedTuple):
    """A tile of one of the layers (by number) of a view, and what it takes in memory. ``begin`` False: it would come too late;
    a read of it that has begun goes on."""

    layer: int
    key: TileKey
    bytes: int
    begin: bool = True


@dataclass(frozen=True, slots=True)
class PlaneAhead:
    """One plane to come: its coarsest tiles, and those it wants, the nearest to the middle first. ``due_ms``: from now;
    0 for as soon as can be. ``missing``: how many of the wanted ones are not in memory, ``under_way``: how many of these are
    being read."""

    coarse: Sequence[Tile]
    wanted: Sequence[Tile]
    due_ms: float = 0.0
    missing: int = 0
    under_way: int = 0


def latency_of(recent_ms: Sequence[float]) -> float | None:
    """The time that nine of ten loads take; None when nothing has been loaded."""
    if not recent_ms:
        return None
    return sorted(recent_ms)[math.ceil(0.9 * len(recent_ms)) - 1]


def planes_ahead(latency_ms: float | None, plane_ms: float, at_once: int = 1) -> int:
    """How many planes to look ahead, when one is shown for ``plane_ms``. 0: each until it is drawn; then so many that no
    worker is idle, where the tiles of ``at_once`` planes are loaded at a time."""
    if plane_ms <= 0:
        return max(FEWEST_PLANES, min(MOST_PLANES, 2 * at_once))
    needed_ms = (UNKNOWN_LATENCY_MS if latency_ms is None else latency_ms) + plane_ms
    return max(1, min(MOST_PLANES, math.ceil(needed_ms / plane_ms) + 1, math.floor(MOST_MS / plane_ms)))


def thinned(planes: Sequence[Plane]) -> list[Plane]:
    """Of planes that come in chunks of several: the next ones, and of those later one now and then, which brings the
    others with it."""
    return [
        plane for number, plane in enumerate(planes) if number < FEWEST_PLANES or number % EACH == EACH - 1
    ]


def arrives_in_time(latency_ms: float | None, left_ms: float) -> bool:
    """Is it worth beginning to load tiles of a plane that is shown for so long?"""
    return latency_ms is None or latency_ms <= left_ms


def room_ahead(cache_bytes: int, wanted_bytes: int) -> int:
    """Bytes that planes ahead may take beside what the present one wants, so that nothing of either has to go."""
    return max(0, min(int(CACHE_SHARE * cache_bytes), cache_bytes - wanted_bytes))


def in_loading_order(
    planes: Iterable[PlaneAhead],
    room_bytes: int,
    latency_ms: float | None = None,
    plane_ms: float = math.inf,
    workers: float = math.inf,
) -> list[Tile]:
    """The tiles to load ahead, most urgent first, of ``planes`` in the order in which they are due; as many as have room.
    No tile is named twice: planes of a film may come again, or share coarse ones. Planes that are shown as soon as can be,
    and not before they are complete, need none that stand in; of one that is due before anything can arrive nothing else
    is begun, and of one that is left before that, ``plane_ms`` later, nothing at all. Where ``workers`` cannot read all of them in
    time they read some planes whole, and of the others what stands in: parts of each would make none complete."""
    planes = list(planes)
    found: dict[tuple[int, TileKey], Tile] = {}
    left = room_bytes
    coarse = [
        (arrives_in_time(latency_ms, plane.due_ms + plane_ms), plane.coarse)
        for plane in planes
        if plane.due_ms > 0
    ]
    wanted, busy = [], 0
    for plane in planes:
        turns = max(1.0, (busy + plane.missing) / workers)
        begin = plane.due_ms <= 0 or arrives_in_time(latency_ms and turns * latency_ms, plane.due_ms)
        busy += plane.missing if begin else plane.under_way
        wanted.append((begin, plane.wanted))
    for begin, tiles in (*coarse, *wanted):
        for tile in tiles:
            before = found.get(tile[:2])
            if before is not None:
                if begin and not before.begin:
                    found[tile[:2]] = before._replace(begin=True)
                continue
            left -= tile.bytes
            if left < 0:
                return list(found.values())
            found[tile[:2]] = tile if tile.begin == begin else tile._replace(begin=begin)
    return list(found.values())


def too_few(workers: float, tiles: int, plane_ms: float, latency_ms: float | None) -> bool:
    """So many workers cannot read so many tiles for each plane."""
    return plane_ms > 0 and tiles * (latency_ms or 0.0) > workers * plane_ms


def workers_needed(tiles: int, plane_ms: float, latency_ms: float | None) -> int:
    """How many loads must run at a time, so that so many tiles arrive for each plane."""
    rate = 1 / plane_ms if plane_ms > 0 else SETTLED_FPS / 1e3
    return math.ceil(SPARE * tiles * rate * (latency_ms or 0.0))
