"""Values that cross threads: what is asked of a worker, and what comes back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from dataclasses import dataclass
from enum import Enum, IntEnum
from itertools import product
from operator import add
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.model import TileKey

Owner = Hashable
"""Who wants tiles: a layer in a view. Plans and cancels only for itself."""


class LoadKey(NamedTuple):
    """A tile of a source, for ever: the source's identity, the version of its data, and the tile."""

    source: str
    version: int
    tile: TileKey

    def beside(self, *by: int) -> LoadKey:
        """The tile so many tiles away along each axis of the grid (rows, columns), whether there is one or not."""
        source, version, (level, index, grid) = self
        new = tuple.__new__  # eight calls for each upload: the constructors take four times as long
        return new(LoadKey, (source, version, new(TileKey, (level, index, tuple(map(add, grid, by))))))


class Batch(NamedTuple):
    """Tiles that lie in the same chunks, and are cut from them in one read: ``first`` and those after it, so many along
    each number of ``TileKey.index`` and ``TileKey.grid``."""

    first: TileKey
    planes: tuple[int, ...]
    tiles: tuple[int, ...]

    def members(self) -> list[TileKey]:
        """All of them, the last number of the grid fastest."""
        level, index, grid = self.first
        grids = list(product(*[range(a, a + n) for a, n in zip(grid, self.tiles, strict=True)]))
        new = tuple.__new__  # hundreds of them for each read: the constructor takes four times as long
        return [
            new(TileKey, (level, plane, place))
            for plane in product(*[range(a, a + n) for a, n in zip(index, self.planes, strict=True)])
            for place in grids
        ]


class Tier(IntEnum):
    """Lower is more urgent."""

    STAND_IN = 0
    IDEAL = 1
    PREFETCH = 2


class State(Enum):
    """Where a load is. Transitions: see ``transition``."""

    QUEUED = "queued"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(Enum):
    """What can happen to a load."""

    START = "start"
    SUCCEED = "succeed"
    RETRY = "retry"
    FAIL = "fail"
    CANCEL = "cancel"


_NEXT = {
    (State.QUEUED, Event.START): State.LOADING,
    (State.QUEUED, Event.CANCEL): State.CANCELLED,
    (State.LOADING, Event.SUCCEED): State.LOADED,
    (State.LOADING, Event.RETRY): State.QUEUED,
    (State.LOADING, Event.FAIL): State.FAILED,
    (State.LOADING, Event.CANCEL): State.CANCELLED,
}


def transition(state: State, event: Event) -> State:
    """The one place where a load changes state. LOADED, FAILED and CANCELLED are final: a tile wanted again is
    a new load. Raises ValueError for anything else: that is a bug of the caller."""
    try:
        return _NEXT[state, event]
    except KeyError:
        raise ValueError(f"a load that is {state.value} cannot {event.value}") from None


class LoadRequest(NamedTuple):
    """One wanted tile. ``levels_above_ideal`` picks the pool (0: the ideal level); requests of one plan
    are given in order of urgency, and ``tier`` comes before that order. ``load`` False: keep the tile if it is in
    memory or being read, but do not begin to read it."""

    key: LoadKey
    tier: Tier
    levels_above_ideal: int = 0
    load: bool = True


class LoadRun(NamedTuple):
    """Many wanted tiles that are alike: a request for each of ``keys``, in the order of their ``places``, which may have others.
    Of thousands no object is made for each; neither changes any more."""

    keys: Set[LoadKey]
    places: Mapping[LoadKey, int]
    tier: Tier
    levels_above_ideal: int = 0
    load: bool = True

    def request(self, key: LoadKey) -> LoadRequest:
        return LoadRequest(key, self.tier, self.levels_above_ideal, self.load)


Wish: TypeAlias = LoadRequest | LoadRun


@dataclass(frozen=True, slots=True, eq=False)
class LoadedTile:
    """A tile as a texture takes it: ``data`` is read-only, C-contiguous, shape (h, w) or (h, w, samples).

    ``bytes_read`` are the bytes of ``data`` as they came from the source; ``read_ms`` is on the clock in force."""

    key: LoadKey
    data: NDArray[Any]
    bytes_read: int
    read_ms: float
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class FailedTile:
    """A tile that could not be read in so many ``attempts``, and the last error."""

    key: LoadKey
    error: str
    attempts: int


class BegunTile(Protocol):
    """A tile whose read goes on by itself. Used by one thread, but for ``cancel``."""

    def wait(self, timeout_s: float) -> bool:
        """True: ``result`` has nothing to wait for."""
        ...

    def result(self) -> NDArray[Any]:
        """As ``TileSource.read_tile``. Raises as that, and whatever it likes once it has been cancelled."""
        ...

    def cancel(self) -> None: ...


class TileSource(Protocol):
    """Anything that can read a tile. ``read_tile`` is called in workers only, from several at once.

    A source whose reads can go on by themselves has two things more: ``begin_levels``, a frozenset of the levels where that
    is so; and ``begin_tile(tile)``, which begins to read and gives a ``BegunTile``, None where only ``read_tile`` can after all. One
    worker then has several tiles in hand: begun together they cost far less than one after the other. One that is far away may
    have a third, ``in_flight``: so many tiles may be on their way at a time, however few workers there are.

    A source whose reads end by themselves, since each of its requests is given up in time, has ``gives_up``, True: nobody else
    gives its reads up and begins them again.

    A source that decodes several tiles to get at one has three things more: ``batch_levels``, a frozenset of the levels where that is so; ``batch_of(tile, most_bytes, planes=)``, pure,
    the ``Batch`` to read instead (None: the tile alone), of other planes, too, or not, whose tiles take no more bytes than that
    (None: however many); and ``read_batch(batch)``,
    their pixels in the order of ``Batch.members``, called as ``read_tile`` is."""

    @property
    def token(self) -> str:
        """Identity: equal for two sources only if they hold the same data."""
        ...

    @property
    def version(self) -> int:
        """Raised by ``invalidate``; part of every key."""
        ...

    def tile_shape(self, tile: TileKey) -> tuple[int, ...]:
        """Shape that ``read_tile`` must return; pure, no reading."""
        ...

    @property
    def texture_dtype(self) -> np.dtype[Any]:
        """dtype that ``read_tile`` must return."""
        ...

    def read_tile(self, tile: TileKey) -> NDArray[Any]:
        """Read, decode and convert one tile to ``texture_dtype``."""
        ...

    def worker_recipe(self) -> tuple[Any, ...] | None:
        """(callable, args) that a worker process calls to reopen this source, or None: threads only."""
        ...
