"""TileLoader: who wants which tiles, what is on its way, what is in memory.

Each wish of an owner is in exactly one place: being loaded, in memory, or failed. One load is in flight per key
however many owners want it. A result is kept by its key whatever plan asked for it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Protocol

from octree.pyramid.store.remote.counts import all_counts
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.batches import BEING_READ, Batches
from octree.render.loading.cache import TileCache
from octree.render.loading.clock import Clock, RealClock, VirtualClock, later_ms
from octree.render.loading.guard import guarded
from octree.render.loading.load import Arrival, Load, RegisteredSource
from octree.render.loading.load_log import TextLog, load_line, plan_line, remote_line
from octree.render.loading.network import Network
from octree.render.loading.pool import PoolGroup
from octree.render.loading.reading import DirectReader, Reader
from octree.render.loading.schedule import Planned
from octree.render.loading.simulated import SimulatedPoolGroup
from octree.render.loading.stats import Counts, LoaderStats
from octree.render.loading.values import (
    FailedTile,
    LoadedTile,
    LoadKey,
    LoadRequest,
    Owner,
    State,
    Tier,
    TileSource,
    Wish,
)
from octree.render.loading.wishes import Wishes
from octree.render.view.ahead import latency_of, workers_needed

__all__ = ["LoaderStats", "TileLoader"]

CLOSE_TIMEOUT_S = 0.5
RECENT_LOADS = 10
"""Over so many loads of a pool their mean time is taken."""
LATENCIES = 40
"""Of so many loads the slowest tenth is looked for."""
SYNCHRONOUS_STEP_MS = 1_000.0


class Engine(Protocol):
    """What runs loads: PoolGroup in real time, SimulatedPoolGroup in virtual time. See there; what to do they both
    have from ``schedule.py``."""

    def plan(self, planned: Planned) -> list[Load]: ...

    def staff(self, needed: Mapping[int, int]) -> None: ...

    def take(self) -> list[Arrival]: ...

    def wait_until(self, end_ms: float) -> bool: ...

    def counts(self) -> tuple[int, int, int]: ...

    def close(self, timeout_s: float) -> int: ...


def _failed_so_far(load: Load) -> list[tuple[LoadKey, FailedTile]]:
    """What was asked of a load of which a try has failed, and nothing is there yet."""
    if not load.error:
        return []
    return [(key, FailedTile(key, load.error, load.failed_tries)) for key in load.asked]


class TileLoader:
    """The owner of everything about loading. All methods are for the thread that made it; none of them waits,
    but for ``wait`` and ``auto_sync``."""

    def __init__(
        self,
        settings: LoaderSettings | None = None,
        *,
        cache: TileCache | None = None,
        clock: Clock | None = None,
        network: Network | None = None,
        trace: Any = None,
    ) -> None:
        self._settings = settings or LoaderSettings()
        self._clock = clock or RealClock()
        self._cache = cache if cache is not None else TileCache()
        self._trace = trace
        engine: Callable[..., Engine] = PoolGroup
        if isinstance(self._clock, VirtualClock):
            engine = SimulatedPoolGroup
        self._log = TextLog(self._settings.log_path)
        self._plan_log = TextLog(self._settings.plan_log_path)
        self._remote_before = all_counts()
        block_bytes = BEING_READ * self._cache.budget_bytes
        self._engine = engine(self._settings, self._clock, network, self._reader_of, trace, block_bytes)
        self._thread = threading.get_ident()
        self._sources: dict[str, RegisteredSource] = {}
        self._twins: dict[str, list[TileSource]] = {}  # every source that was added, by token
        self._wishes = Wishes()
        self._loads: dict[LoadKey, Load] = {}  # by each key that somebody has wished of it
        self._batches = Batches(self._cache.budget_bytes)
        self._unkept: dict[LoadKey, LoadedTile] = {}  # wanted, in memory, and too much for the cache
        self._failures: dict[LoadKey, FailedTile] = {}
        self._left: dict[
            LoadKey, FailedTile
        ] = {}  # tried, failed, and not wanted any more before the next try
        self._last_motion_ms: dict[Owner, float] = {}
        self._ever_read: set[int] = set()  # hashes: a million keys would take more memory than some caches
        self._delays_ms = {key: pool.delay_queue_ms for key, pool in self._settings.pools}
        self._recent_ms: dict[int, list[float]] = {key: [] for key, _ in self._settings.pools}
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)
        self._expected: dict[Owner, tuple[int, float]] = {}  # (tiles, ms) of each plane to come
        self._needed = 0  # workers for that
        self._ahead: set[LoadKey] = set()  # loaded ahead, and not wanted so far
        self._counts = Counts()
        self._generation = 0
        self._arrived: list[LoadedTile | FailedTile] = []  # accepted, not yet given out by poll
        self._closed = False
        self._cache.pin(self._wishes.wanted)

    def _reader_of(self, pool: PoolSettings) -> Reader:
        if pool.use_processes:
            from octree.render.loading.processes import ProcessReader

            return ProcessReader()
        return DirectReader()

    @property
    def clock(self) -> Clock:
        return self._clock

    def expect_steps(self, expected: bool) -> None:
        """Will other planes be looked at? Then those that lie in chunks that are decoded anyway are kept. True at first."""
        self._batches.planes = expected

    def expect_tiles(self, owner: Owner, tiles: int, plane_ms: float = 0.0) -> None:
        """An owner has so many tiles of the wanted level to come for each plane, one every ``plane_ms``: have workers for
        those of all owners."""
        self._expected[owner] = tiles, plane_ms
        if not tiles:
            del self._expected[owner]
        self._staff()

    def _staff(self) -> None:
        latency_ms = self.latency_ms()
        needed = sum([workers_needed(*each, latency_ms) for each in self._expected.values()])
        if needed != self._needed and not self._closed:
            self._needed = needed
            self._engine.staff({self._settings.pool_key(0): needed})

    def latency_ms(self) -> float | None:
        """How long nine of ten of the last loads took, waiting for a worker apart; None before the first."""
        return latency_of(self._latencies_ms)

    @property
    def most_workers(self) -> int:
        """Most loads of the wanted level at a time."""
        return self._settings.most_workers(self._settings.pool_key(0))

    @property
    def cache_bytes(self) -> int:
        """The budget of the cache."""
        return self._cache.budget_bytes

    # sources

    def add_source(self, source: TileSource) -> None:
        """Make ``source`` known; must come before requests that name its token. Adding it again is no change."""
        if source.token not in self._sources:
            batches, begins = (
                frozenset(getattr(source, name, ())) for name in ("batch_levels", "begin_levels")
            )
            self._sources[source.token] = RegisteredSource(
                guarded(source), len(self._sources), batches, begins, getattr(source, "in_flight", 0)
            )
        twins = self._twins.setdefault(source.token, [])
        if not any(twin is source for twin in twins):
            twins.append(source)

    def remove_source(self, token: str) -> None:
        """Nobody shows this source any more: its tiles and what is on its way are forgotten, and it may be closed.
        A token that is not known is no change."""
        self.invalidate(token)  # what comes of reads that have begun is of an older version
        for load in [load for key, load in self._loads.items() if key.source == token]:
            self._forget(load)
        self._sources.pop(token, None)
        self._twins.pop(token, None)

    def invalidate(self, token: str) -> None:
        """The data of this source have changed: nothing read before is ever returned again. Owners must plan
        anew with the source's new version. A token that is not known is no change."""
        for source in self._twins.get(token, ()):
            getattr(source, "invalidate", lambda: None)()
        self._tell(self._without(drop=self._wishes.forget_source(token)))
        self._cache.discard(lambda key: key.source == token)
        for store in (self._failures, self._left, self._unkept):
            for key in [key for key in store if key.source == token]:
                del store[key]
        self._arrived = [result for result in self._arrived if result.key.source != token]

    # wishes

    def plan(self, owner: Owner, wishes: Sequence[Wish], *, moved: bool) -> None:
        """What ``owner`` wants from now on, instead of what it wanted before; its most urgent wish first.

        ``moved``: the camera has moved since the owner's last plan; ``delay_queue_ms`` counts from there. What no
        owner wants any more is cancelled, or given up when its worker is needed.
        """
        if self._closed:
            raise RuntimeError("the loader is closed")
        now_ms = self._clock.now_ms()
        if moved:
            self._last_motion_ms[owner] = now_ms
        change = self._wishes.replace(owner, wishes)
        if change is None:
            return
        self._generation += 1
        self._batches.plan()
        again: list[Load] = []
        begun = [load for r in change.begin if (load := self._new_load(owner, r, now_ms, again)) is not None]
        if self._plan_log.is_on:
            self._plan_log.write(plan_line(now_ms, self._generation, wishes, len(begun), moved))
        ranks = self._wishes.ranks() if len(self._loads) > len(begun) else None
        self._tell(self._without(change.drop, change.hold)._replace(begin=begun, again=again, ranks=ranks))

    def forget(self, owner: Owner) -> None:
        """The owner is gone, and with it everything it wanted."""
        if not self._closed:
            self.plan(owner, (), moved=False)
        self._wishes.forget_owner(owner)
        self._last_motion_ms.pop(owner, None)

    def _new_load(self, owner: Owner, request: LoadRequest, now_ms: float, again: list[Load]) -> Load | None:
        """A load for a wish that is nowhere yet, to be begun; None when it is somewhere. What is being read though
        nobody wanted it any more goes to ``again``."""
        key = request.key
        running = self._loads.get(key)
        if running is not None:
            if not running.wanted:
                again.append(running)
            return None
        if key in self._failures or key in self._unkept:
            return None
        if key in self._cache:
            self._counts.cache_hits += 1
            return None
        self._counts.cache_misses += 1
        self._counts.requested += 1
        registered = self._sources[key.source]
        batch = None
        if key.tile.level in registered.batch_levels:
            batch = self._batches.batch_of(key, self._sources, self._wishes.wanted)
            running = self._batches.coming(key, batch)
            if running is not None:
                running.asked.append(key)
                self._loads[key] = running
                if not running.wanted:
                    again.append(running)
                return None
        pool_key = self._settings.pool_key(request.levels_above_ideal)
        # counted from the camera's last motion, but never restarted: continuous motion must not starve a tile
        # that stays in view
        due_ms = max(now_ms, self._last_motion_ms.get(owner, -math.inf) + self._delays_ms[pool_key])
        load = Load(key, registered, pool_key, self._wishes.rank(key), now_ms, due_ms, batch=batch)
        self._loads[key] = load
        self._batches.begin(load)
        return load

    def _without(self, drop: Sequence[LoadKey], hold: Sequence[LoadKey] = ()) -> Planned:
        """What it means for loads that nobody wishes ``drop`` any more, and nobody asks to begin ``hold``."""
        for key in drop:
            self._unkept.pop(key, None)
        unwanted: dict[int, Load] = {}
        held: dict[int, Load] = {}
        for load in [self._loads[key] for key in (*drop, *hold) if key in self._loads]:
            if not any(key in self._wishes.wanted for key in load.asked):
                unwanted[id(load)] = load
            elif all(self._wishes.request_of(key) is None for key in load.asked):
                held[id(load)] = load
        return Planned(drop=list(unwanted.values()), hold=list(held.values()))

    def _tell(self, planned: Planned) -> None:
        for load in self._engine.plan(planned):
            self._forget(load)
            self._counts.cancelled += 1
            self._left.update(_failed_so_far(load))

    def _forget(self, load: Load) -> None:
        """It is not on its way any more."""
        for key in load.asked:
            if self._loads.get(key) is load:
                del self._loads[key]
        self._batches.end(load)

    def retry_failed(self) -> None:
        """Forget all failures; what is still wanted of them is loaded anew."""
        failed, self._failures, self._left = self._failures, {}, {}
        asked = [found for key in failed if (found := self._wishes.request_of(key)) is not None]
        now_ms = self._clock.now_ms()
        again: list[Load] = []
        loads = [self._new_load(owner, request, now_ms, again) for owner, request in asked]
        self._tell(Planned([load for load in loads if load is not None], again=again))

    # results

    def poll(self) -> list[LoadedTile | FailedTile]:
        """What has arrived since the last call, in order of arrival; never blocks."""
        self._arrived += self._accept_all()
        results, self._arrived = self._arrived, []
        return results

    def _accept_all(self) -> list[LoadedTile | FailedTile]:
        known = bool(self._latencies_ms)
        results = [result for arrival in self._engine.take() for result in self._accept(arrival)]
        if not known and self._latencies_ms and self._expected:
            self._staff()  # until now nobody knew how many it takes
        return results

    def _accept(self, arrival: Arrival) -> Sequence[LoadedTile | FailedTile]:
        load = arrival.load
        self._forget(load)
        # what is left of a source that was removed says nothing about one of the same data that came after
        valid = load.key.version == load.registered.source.version
        wanted = [key for key in load.asked if key in self._wishes.wanted] if valid else []
        self._counts.retried += load.attempt - 1
        if self._log.is_on:
            self._log.write(load_line(arrival, bool(wanted)))
        if arrival.state is State.CANCELLED:
            self._counts.cancelled += 1
            self._counts.reads_wasted += not wanted
            if wanted:  # given up, and wanted again before the worker noticed
                self._start_again(load, wanted)
            elif valid:
                self._left.update(_failed_so_far(load))
            return ()
        for key in load.asked if self._left else ():
            self._left.pop(key, None)
        if arrival.state is State.FAILED:
            self._counts.failed += len(wanted)
            failures = [FailedTile(key, arrival.error, load.attempt) for key in wanted]
            self._failures.update([(failure.key, failure) for failure in failures])
            return failures
        return self._keep(arrival, set(wanted))

    def _keep(self, arrival: Arrival, wanted: Set[LoadKey]) -> list[LoadedTile]:
        """What is ``wanted`` of the tiles that a load has brought comes last: the most recently used."""
        load, counts = arrival.load, self._counts
        assert arrival.data is not None
        (source, version, _), asked = load.key, set(load.asked)
        tiles = [
            LoadedTile(LoadKey(source, version, tile), data, data.nbytes, arrival.read_ms, load.attempt)
            for tile, data in zip(load.tiles(), arrival.data, strict=True)
        ]
        for tile in tiles:
            counts.bytes_read += tile.bytes_read
            if tile.key in asked:
                counts.loaded += 1
                if self._is_ahead(load, tile.key):
                    self._ahead.add(tile.key)
                    counts.prefetched += 1
                counts.tiles_read_twice += hash(tile.key) in self._ever_read
            else:
                counts.tiles_read_along += 1
            self._ever_read.add(hash(tile.key))
        counts.reads_wasted += not wanted
        recent = self._recent_ms[load.pool_key]
        recent.append(arrival.read_ms)
        del recent[:-RECENT_LOADS]
        self._latencies_ms.append(arrival.read_ms)
        if version != load.registered.source.version:
            return []
        for tile in sorted(tiles, key=lambda tile: tile.key in wanted):
            if tile.key not in asked and tile.key in self._cache:
                continue
            if not self._cache.add(tile) and tile.key in wanted:
                self._unkept[tile.key] = tile
        return [tile for tile in tiles if tile.key in asked]

    def _is_ahead(self, load: Load, key: LoadKey) -> bool:
        """Nobody needs this tile yet."""
        tier = self._wishes.rank(key)[0] if key in self._wishes.wanted else load.rank[0]
        return tier >= Tier.PREFETCH

    @property
    def is_ahead(self) -> bool:
        """Tiles have been loaded that nobody has needed so far."""
        return bool(self._ahead)

    def use(self, keys: Iterable[LoadKey], resident: Callable[[LoadKey], bool]) -> None:
        """A view needs these now: those that were loaded ahead, and are in memory still or ``resident``, have been of use."""
        used = self._ahead.intersection(keys)
        self._ahead -= used
        self._counts.prefetch_used += sum([resident(key) or self.has(key) for key in used])

    def _start_again(self, load: Load, keys: list[LoadKey]) -> None:
        again = Load(
            keys[0],
            load.registered,
            load.pool_key,
            min([self._wishes.rank(key) for key in keys]),
            load.first_ms,
            self._clock.now_ms(),
            batch=load.batch,
            asked=keys,
            error=load.error,
            failed_tries=load.failed_tries,
        )
        self._loads.update([(key, again) for key in keys])
        self._batches.begin(again)
        self._tell(Planned([again]))

    def wait(self, timeout_s: float) -> bool:
        """Wait, by the clock, until something has arrived for ``poll`` or the time is up; True when something
        has. The virtual clock advances to the next arrival, not beyond the timeout; a wait in which nothing arrives
        always moves it."""
        return self.wait_until(later_ms(self._clock.now_ms(), timeout_s * 1e3))

    def wait_until(self, end_ms: float) -> bool:
        """As ``wait``, until the clock shows ``end_ms``; False: it does. A deadline is one number: what is left of
        it, computed anew after each arrival, may be too little to change the clock."""
        return bool(self._arrived) or self._engine.wait_until(end_ms)

    def get(self, key: LoadKey) -> LoadedTile | None:
        """The tile if it is in memory, now the most recently used one."""
        return self._unkept.get(key) or self._cache.get(key)

    def peek(self, key: LoadKey) -> LoadedTile | None:
        """The tile if it is in memory; its age stays as it is."""
        return self._unkept.get(key) or self._cache.peek(key)

    def has(self, key: LoadKey) -> bool:
        """Is the tile in memory?"""
        return key in self._unkept or key in self._cache

    def lacking(self, keys: Iterable[LoadKey]) -> set[LoadKey]:
        """Those that are not in memory."""
        return self._cache.lacking(keys).difference(self._unkept)

    def under_way(self, keys: Iterable[LoadKey]) -> int:
        """How many are queued or being read."""
        return sum([key in self._loads for key in keys])

    @property
    def failures(self) -> Mapping[LoadKey, FailedTile]:
        """The tiles that could not be read, until they are retried or their source has changed."""
        return self._failures

    def failed(self, key: LoadKey) -> FailedTile | None:
        return self._failures.get(key)

    def unread(self) -> dict[LoadKey, FailedTile]:
        """The tiles that could not be read so far: those that have failed, those that are to be tried again, and those that were
        left before that, with the last error."""
        trying = {
            key: each for load in self._loads.values() if load.error for key, each in _failed_so_far(load)
        }
        return self._left | trying | self._failures

    def settled(self, owner: Owner | None = None, *, prefetch: bool = False) -> bool:
        """Every wish (of ``owner``, or of all) is in memory or has failed. Prefetch counts only if asked for.

        True is a statement: nothing that was wished is queued, delayed, being read or waiting for ``poll``.
        """
        return not self._loads or not self._wishes.any_of(owner, self._loads.keys(), prefetch=prefetch)

    def stats(self) -> LoaderStats:
        queued, loading, delayed = self._engine.counts()
        cache, counts = self._cache.stats(), self._counts
        return LoaderStats(
            requested=counts.requested,
            loaded=counts.loaded,
            cache_hits=counts.cache_hits,
            cache_misses=counts.cache_misses,
            cancelled=counts.cancelled,
            failed=counts.failed,
            retried=counts.retried,
            bytes_read=counts.bytes_read,
            tiles_read=counts.loaded,
            tiles_read_twice=counts.tiles_read_twice,
            reads_wasted=counts.reads_wasted,
            tiles_read_along=counts.tiles_read_along,
            prefetch_used=counts.prefetch_used,
            prefetch_wasted=counts.prefetched - counts.prefetch_used,
            evicted=cache.evicted,
            main_thread_reads=sum(
                getattr(s.source, "reads_on", lambda thread: 0)(self._thread) for s in self._sources.values()
            ),
            queued=queued,
            loading=loading,
            delayed=delayed,
            cache_bytes=cache.bytes,
            peak_cache_bytes=cache.peak_bytes,
        )

    def is_slow(self) -> bool:
        """Loads of ideal tiles take longer than a frame may wait for them (``auto_sync_ms``), as far as is known."""
        key = self._settings.pool_key(0)
        loads = [load for load in self._loads.values() if load.pool_key == key]
        return self._usual_ms(key, loads, self._clock.now_ms()) > self._ideal_pool.auto_sync_ms

    @property
    def delay_ms(self) -> float:
        """How long ideal tiles must have been wanted before they are read, while the view moves."""
        return self._ideal_pool.delay_queue_ms

    @property
    def _ideal_pool(self) -> PoolSettings:
        return dict(self._settings.pools)[self._settings.pool_key(0)]

    def auto_sync(self, *, at_most_ms: float = math.inf) -> float:
        """Wait for the wishes of all owners as the settings allow; returns the milliseconds that passed. Call
        ``poll`` afterwards.

        ``force_synchronous``: until everything is settled. Else ``auto_sync_ms`` is a budget: loads of a pool
        whose recent ones were faster than that (or of which none is known yet) may be waited for so long, so that
        fast local data are there in the first frame.
        """
        start_ms = self._clock.now_ms()
        while (end_ms := min(self._sync_end_ms(start_ms), start_ms + at_most_ms)) > self._clock.now_ms():
            self._engine.wait_until(end_ms)
            self._arrived += self._accept_all()
        return self._clock.now_ms() - start_ms

    def _sync_end_ms(self, start_ms: float) -> float:
        """Until when ``auto_sync`` may wait for what is being loaded."""
        now_ms, budget_ms = self._clock.now_ms(), 0.0
        if self._settings.force_synchronous:
            return now_ms if self.settled() else now_ms + SYNCHRONOUS_STEP_MS
        ranks = self._wishes.ranks()
        for key, pool in self._settings.pools:
            if self._mean_ms(key) >= pool.auto_sync_ms:
                continue  # whatever is under way, which may be thousands
            waited_for = [
                load
                for load in self._loads.values()
                if load.pool_key == key and load.due_ms <= now_ms and load.rank_by(ranks)[0] < Tier.PREFETCH
            ]
            if waited_for and self._usual_ms(key, waited_for, now_ms) < pool.auto_sync_ms:
                budget_ms = max(budget_ms, pool.auto_sync_ms)
        return start_ms + budget_ms

    def _usual_ms(self, pool_key: int, loads: Sequence[Load], now_ms: float) -> float:
        """How long loads of a pool take: the mean of the recent ones, or what one under way has taken already."""
        under_way = [now_ms - load.started_ms for load in loads if load.state is State.LOADING]
        return max(self._mean_ms(pool_key), *under_way, 0.0)

    def _mean_ms(self, pool_key: int) -> float:
        recent = self._recent_ms[pool_key]
        return sum(recent) / len(recent) if recent else 0.0

    def close(self) -> None:
        """Give up everything and stop the workers; returns within a second. The cache stays usable."""
        if self._closed:
            return
        self._closed = True
        self._engine.close(CLOSE_TIMEOUT_S)
        self._loads.clear()
        self._wishes.clear()
        self._unkept.clear()
        if self._log.is_on and (remote := all_counts().since(self._remote_before)).requests:
            self._log.write(remote_line(self._clock.now_ms(), remote))
        self._log.close()
        self._plan_log.close()

    def __enter__(self) -> TileLoader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
