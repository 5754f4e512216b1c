"""TileLoader: who wants which tiles, what is on its way, what is in memory.

Each wish of an owner is in exactly one place: being loaded, in memory, or failed. One load is in flight per key
however many owners want it. A result is kept by its key whatever plan asked for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.cache import TileCache
from octree.render.loading.clock import Clock, RealClock, VirtualClock
from octree.render.loading.guard import guarded
from octree.render.loading.load import Arrival, Load, RegisteredSource
from octree.render.loading.load_log import TextLog, load_line, plan_line
from octree.render.loading.network import Network
from octree.render.loading.pool import DirectReader, PoolGroup, Reader
from octree.render.loading.requests import (
    FailedTile,
    LoadedTile,
    LoadKey,
    LoadRequest,
    Owner,
    State,
    Tier,
    TileSource,
)
from octree.render.loading.simulated import SimulatedPoolGroup

CLOSE_TIMEOUT_S = 0.5
RECENT_LOADS = 10
"""Over so many loads of a pool their mean time is taken."""
SYNCHRONOUS_STEP_MS = 1_000.0


class Engine(Protocol):
    """What runs loads: PoolGroup in real time, SimulatedPoolGroup in virtual time. See there."""

    def submit(self, loads: Sequence[Load]) -> None: ...

    def withdraw(self, loads: Sequence[Load]) -> list[Load]: ...

    def want(self, load: Load) -> None: ...

    def rank(self, ranks: Callable[[Load], tuple[int, int]]) -> None: ...

    def take(self) -> list[Arrival]: ...

    def wait(self, timeout_ms: float) -> bool: ...

    def counts(self) -> tuple[int, int, int]: ...

    def close(self, timeout_s: float) -> int: ...


@dataclass(frozen=True, slots=True)
class LoaderStats:
    """Totals since construction, then what is the case now (``queued`` and later).

    ``requested``        loads begun for a wish that was nowhere in memory.
    ``loaded``           tiles that arrived; ``tiles_read`` the same, ``bytes_read`` their bytes.
    ``tiles_read_twice`` reads of a tile that had been read before (evicted since).
    ``reads_wasted``     reads whose tile nobody wanted when they ended, given-up ones included.
    ``cancelled``        loads given up before they brought anything.
    ``main_thread_reads`` reads of a source seen on the thread that owns the loader.
    """

    requested: int = 0
    loaded: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cancelled: int = 0
    failed: int = 0
    retried: int = 0
    bytes_read: int = 0
    tiles_read: int = 0
    tiles_read_twice: int = 0
    reads_wasted: int = 0
    evicted: int = 0
    main_thread_reads: int = 0
    queued: int = 0
    loading: int = 0
    delayed: int = 0
    cache_bytes: int = 0
    peak_cache_bytes: int = 0

    def since(self, earlier: LoaderStats) -> LoaderStats:
        """Totals since ``earlier``; what is the case now as it is."""
        now = {"queued", "loading", "delayed", "cache_bytes", "peak_cache_bytes"}
        return LoaderStats(
            **{
                f.name: getattr(self, f.name) - (0 if f.name in now else getattr(earlier, f.name))
                for f in fields(self)
            }
        )


@dataclass(slots=True)
class _Counts:
    requested: int = 0
    loaded: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cancelled: int = 0
    failed: int = 0
    retried: int = 0
    bytes_read: int = 0
    tiles_read_twice: int = 0
    reads_wasted: int = 0


class _Wish(NamedTuple):
    """One owner's wish for one key: its rank in the plan, and whether it may begin a read."""

    tier: int
    place: int
    load: bool


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
        self._engine = engine(self._settings, self._clock, network, self._reader_of, trace)
        self._thread = threading.get_ident()
        self._sources: dict[str, RegisteredSource] = {}
        self._plans: dict[Owner, Sequence[LoadRequest]] = {}
        self._wishes: dict[Owner, dict[LoadKey, _Wish]] = {}
        self._wanted: dict[LoadKey, int] = {}  # how many owners want it
        self._loads: dict[LoadKey, Load] = {}
        self._unkept: dict[LoadKey, LoadedTile] = {}  # wanted, in memory, and too much for the cache
        self._failures: dict[LoadKey, FailedTile] = {}
        self._last_motion_ms: dict[Owner, float] = {}
        self._ever_read: set[LoadKey] = set()
        self._recent_ms: dict[int, list[float]] = {key: [] for key, _ in self._settings.pools}
        self._counts = _Counts()
        self._generation = 0
        self._arrived: list[LoadedTile | FailedTile] = []  # accepted, not yet given out by poll
        self._closed = False
        self._cache.pin(self._wanted)

    def _reader_of(self, pool: PoolSettings) -> Reader:
        if pool.use_processes:
            from octree.render.loading.processes import ProcessReader

            return ProcessReader()
        return DirectReader()

    @property
    def clock(self) -> Clock:
        return self._clock

    # sources

    def add_source(self, source: TileSource) -> None:
        """Make ``source`` known; must come before requests that name its token. Adding it again is no change."""
        if source.token not in self._sources:
            self._sources[source.token] = RegisteredSource(guarded(source), len(self._sources))

    def invalidate(self, token: str) -> None:
        """The data of this source have changed: nothing read before is ever returned again. Owners must plan
        anew with the source's new version."""
        source = self._sources[token].source
        getattr(source, "invalidate", lambda: None)()
        for owner, wishes in self._wishes.items():
            gone = [key for key in wishes if key.source == token]
            if gone:
                self._plans.pop(owner, None)
                self._drop_wishes(wishes, gone)
        self._cache.discard(lambda key: key.source == token)
        for store in (self._failures, self._unkept):
            for key in [key for key in store if key.source == token]:
                del store[key]

    # wishes

    def plan(self, owner: Owner, requests: Sequence[LoadRequest], *, moved: bool) -> None:
        """What ``owner`` wants from now on, instead of what it wanted before; its most urgent request first.

        ``moved``: the camera has moved since the owner's last plan; ``delay_queue_ms`` counts from there. What no
        owner wants any more is cancelled, or given up when its worker is needed.
        """
        now_ms = self._clock.now_ms()
        if moved:
            self._last_motion_ms[owner] = now_ms
        before = self._plans.get(owner)
        if before is not None and (requests is before or requests == before):
            return
        self._generation += 1
        self._plans[owner] = requests
        old = self._wishes.get(owner, {})
        new: dict[LoadKey, _Wish] = {}
        for place, request in enumerate(requests):
            new.setdefault(request.key, _Wish(int(request.tier), place, request.load))
        self._wishes[owner] = new
        for key in new.keys() - old.keys():
            self._wanted[key] = self._wanted.get(key, 0) + 1
        added = [r for r in requests if r.load and ((was := old.get(r.key)) is None or not was.load)]
        begun = self._begin(owner, added, now_ms)
        if self._plan_log.is_on:
            self._plan_log.write(plan_line(now_ms, self._generation, requests, begun, moved))
        self._drop_wishes(old, [key for key in old if key not in new], keep_record=True)
        self._hold_back([key for key, wish in new.items() if not wish.load and key in self._loads])
        if self._loads:
            self._engine.rank(self._rank_of)

    def _hold_back(self, keys: Sequence[LoadKey]) -> None:
        """Do not begin to read these, unless some other owner wishes it; what is being read goes on."""
        asked = [key for key in keys if not any(key in w and w[key].load for w in self._wishes.values())]
        loads = [self._loads[key] for key in asked]
        for load in self._engine.withdraw(loads):
            del self._loads[load.key]
            self._counts.cancelled += 1
        for load in loads:
            if load.key in self._loads:
                self._engine.want(load)

    def _begin(self, owner: Owner, requests: Sequence[LoadRequest], now_ms: float) -> int:
        """Start what is nowhere yet; how many loads that are."""
        begun: list[Load] = []
        for request in requests:
            key = request.key
            if key in self._failures or key in self._unkept:
                continue
            running = self._loads.get(key)
            if running is not None:
                if not running.wanted:
                    self._engine.want(running)
                continue
            if key in self._cache:
                self._counts.cache_hits += 1
                continue
            self._counts.cache_misses += 1
            load = self._new_load(owner, key, request.levels_above_ideal, now_ms)
            begun.append(load)
        if begun:
            self._counts.requested += len(begun)
            self._engine.submit(begun)
        return len(begun)

    def _new_load(self, owner: Owner, key: LoadKey, levels_above_ideal: int, now_ms: float) -> Load:
        pool_key = self._settings.pool_key(levels_above_ideal)
        delay_ms = dict(self._settings.pools)[pool_key].delay_queue_ms
        # counted from the camera's last motion, but never restarted: continuous motion must not starve a tile
        # that stays in view
        due_ms = max(now_ms, self._last_motion_ms.get(owner, float("-inf")) + delay_ms)
        load = Load(key, self._sources[key.source], pool_key, self._rank_of_key(key), now_ms, due_ms)
        self._loads[key] = load
        return load

    def _drop_wishes(
        self, wishes: dict[LoadKey, _Wish], keys: Sequence[LoadKey], *, keep_record: bool = False
    ) -> None:
        unwanted: list[Load] = []
        for key in keys:
            if not keep_record:
                wishes.pop(key, None)
            left = self._wanted[key] - 1
            if left:
                self._wanted[key] = left
                continue
            del self._wanted[key]
            self._unkept.pop(key, None)
            load = self._loads.get(key)
            if load is not None:
                unwanted.append(load)
        if unwanted:
            for load in self._engine.withdraw(unwanted):
                self._loads.pop(load.key, None)
                self._counts.cancelled += 1

    def _rank_of(self, load: Load) -> tuple[int, int]:
        return self._rank_of_key(load.key)

    def _rank_of_key(self, key: LoadKey) -> tuple[int, int]:
        """The most urgent of the owners' ranks."""
        ranks = [wishes[key][:2] for wishes in self._wishes.values() if key in wishes]
        return min(ranks, default=(int(Tier.PREFETCH) + 1, 0))

    def drop_owner(self, owner: Owner) -> None:
        """The owner wants nothing any more and is forgotten."""
        self.plan(owner, (), moved=False)
        for store in (self._plans, self._wishes, self._last_motion_ms):
            store.pop(owner, None)

    def retry_failed(self) -> None:
        """Forget all failures; what is still wanted of them is loaded anew."""
        failed, self._failures = self._failures, {}
        begun: list[Load] = []
        now_ms = self._clock.now_ms()
        for key in failed:
            if key in self._wanted:
                owner = next(owner for owner, wishes in self._wishes.items() if key in wishes)
                above = next(r.levels_above_ideal for r in self._plans[owner] if r.key == key)
                begun.append(self._new_load(owner, key, above, now_ms))
        self._counts.requested += len(begun)
        self._engine.submit(begun)

    # results

    def poll(self) -> list[LoadedTile | FailedTile]:
        """What has arrived since the last call, in order of arrival; never blocks."""
        self._arrived += self._accept_all()
        results, self._arrived = self._arrived, []
        return results

    def _accept_all(self) -> list[LoadedTile | FailedTile]:
        results: list[LoadedTile | FailedTile] = []
        for arrival in self._engine.take():
            result = self._accept(arrival)
            if result is not None:
                results.append(result)
        return results

    def _accept(self, arrival: Arrival) -> LoadedTile | FailedTile | None:
        load, key = arrival.load, arrival.load.key
        if self._loads.get(key) is load:
            del self._loads[key]
        wanted = key in self._wanted
        self._counts.retried += load.attempt - 1
        if self._log.is_on:
            self._log.write(load_line(arrival, wanted))
        if arrival.state is State.CANCELLED:
            self._counts.cancelled += 1
            self._counts.reads_wasted += not wanted
            if wanted:  # given up, and wanted again before the worker noticed
                self._start_again(load)
            return None
        if arrival.state is State.FAILED:
            if not wanted:
                return None
            self._counts.failed += 1
            failure = FailedTile(key, arrival.error, load.attempt)
            self._failures[key] = failure
            return failure
        return self._keep(arrival, wanted)

    def _keep(self, arrival: Arrival, wanted: bool) -> LoadedTile | None:
        load, key, data = arrival.load, arrival.load.key, arrival.data
        assert data is not None
        counts = self._counts
        tile = LoadedTile(key, data, data.nbytes, arrival.read_ms, load.attempt)
        counts.loaded += 1
        counts.bytes_read += tile.bytes_read
        counts.tiles_read_twice += key in self._ever_read
        self._ever_read.add(key)
        counts.reads_wasted += not wanted
        recent = self._recent_ms[load.pool_key]
        recent.append(arrival.read_ms)
        del recent[:-RECENT_LOADS]
        if key.version != load.registered.source.version:
            return None
        if not self._cache.add(tile) and wanted:
            self._unkept[key] = tile
        return tile

    def _start_again(self, load: Load) -> None:
        again = Load(
            load.key, load.registered, load.pool_key, self._rank_of(load), load.first_ms, self._clock.now_ms()
        )
        self._loads[load.key] = again
        self._engine.submit([again])

    def wait(self, timeout_s: float) -> bool:
        """Wait, by the clock, until something has arrived for ``poll`` or the time is up; True when something
        has. The virtual clock advances to the next arrival, not beyond the timeout."""
        return bool(self._arrived) or self._engine.wait(max(0.0, timeout_s) * 1e3)

    def get(self, key: LoadKey) -> LoadedTile | None:
        """The tile if it is in memory, now the most recently used one."""
        return self._unkept.get(key) or self._cache.get(key)

    def peek(self, key: LoadKey) -> LoadedTile | None:
        """The tile if it is in memory; its age stays as it is."""
        return self._unkept.get(key) or self._cache.peek(key)

    def has(self, key: LoadKey) -> bool:
        """Is the tile in memory?"""
        return key in self._unkept or key in self._cache

    def failed(self, key: LoadKey) -> FailedTile | None:
        return self._failures.get(key)

    def settled(self, owner: Owner | None = None, *, prefetch: bool = False) -> bool:
        """Every wish (of ``owner``, or of all) is in memory or has failed. Prefetch counts only if asked for.

        True is a statement: nothing that was wished is queued, delayed, being read or waiting for ``poll``.
        """
        if not self._loads:
            return True
        owners = self._wishes.values() if owner is None else [self._wishes.get(owner, {})]
        for wishes in owners:
            for key in self._loads.keys() & wishes.keys():
                if prefetch or wishes[key].tier != Tier.PREFETCH:
                    return False
        return True

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

    def auto_sync(self) -> float:
        """Wait for the wishes of all owners as the settings allow; returns the milliseconds that passed. Call
        ``poll`` afterwards.

        ``force_synchronous``: until everything is settled. Else ``auto_sync_ms`` is a budget: loads of a pool
        whose recent ones were faster than that (or of which none is known yet) may be waited for so long, so that
        fast local data are there in the first frame.
        """
        start_ms = self._clock.now_ms()
        while (left_ms := self._sync_left_ms(start_ms)) > 0:
            if not self._engine.wait(left_ms):
                break
            self._arrived += self._accept_all()
        return self._clock.now_ms() - start_ms

    def _sync_left_ms(self, start_ms: float) -> float:
        """How much longer ``auto_sync`` may wait for what is being loaded."""
        if self._settings.force_synchronous:
            return 0.0 if self.settled() else SYNCHRONOUS_STEP_MS
        budget_ms = 0.0
        for key, pool in self._settings.pools:
            recent = self._recent_ms[key]
            mean_ms = sum(recent) / len(recent) if recent else 0.0
            if mean_ms < pool.auto_sync_ms and any(
                load.pool_key == key and load.wanted and load.due_ms <= self._clock.now_ms()
                for load in self._loads.values()
            ):
                budget_ms = max(budget_ms, pool.auto_sync_ms)
        return budget_ms - (self._clock.now_ms() - start_ms)

    def close(self) -> None:
        """Give up everything and stop the workers; returns within a second. The cache stays usable."""
        if self._closed:
            return
        self._closed = True
        self._engine.close(CLOSE_TIMEOUT_S)
        self._loads.clear()
        self._wishes.clear()
        self._plans.clear()
        self._unkept.clear()
        self._wanted.clear()
        self._log.close()
        self._plan_log.close()

    def __enter__(self) -> TileLoader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
