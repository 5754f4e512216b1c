"""Worker pools in real time: threads that pull the most urgent due load whenever they are free."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.clock import Clock
from octree.render.loading.delay_queue import DelayQueue
from octree.render.loading.load import (
    Arrival,
    BadTile,
    Load,
    RegisteredSource,
    checked_tile,
    error_text,
    set_current_token,
)
from octree.render.loading.network import Network, dice
from octree.render.loading.requests import Event, State

MAX_RETRY_DELAY_MS = 10_000.0
_RETRY_SALT = 7919  # so that the wait before a retry does not depend on the weather's dice


class Reader(Protocol):
    """How a worker gets at a tile: in this process or in another one. Called from several threads."""

    def read(self, registered: RegisteredSource, tile: TileKey) -> NDArray[Any]: ...

    def close(self) -> None: ...


class DirectReader:
    """Reads in the calling worker thread."""

    def read(self, registered: RegisteredSource, tile: TileKey) -> NDArray[Any]:
        return registered.source.read_tile(tile)

    def close(self) -> None:
        pass


def retry_delay_ms(settings: LoaderSettings, seed: int, load: Load) -> float:
    """Wait before the try after ``load.attempt``: doubling, at most 10 s, less up to half of it by the dice."""
    full = min(settings.retry_delay_ms * 2.0 ** (load.attempt - 1), MAX_RETRY_DELAY_MS)
    luck = dice(seed + _RETRY_SALT, load.registered.number, load.key.tile, load.attempt)[0]
    return full * (1.0 - luck / 2)


class SharedLink:
    """The one link that all transfers share, first come first served. Thread-safe."""

    def __init__(self, network: Network | None) -> None:
        self._network = network
        self._lock = threading.Lock()
        self._free_ms = 0.0

    def reserve(self, now_ms: float, nbytes: int) -> float:
        """Time at which a transfer of ``nbytes`` that starts ``now_ms`` is done."""
        if self._network is None:
            return now_ms
        busy_ms = self._network.transfer_ms(nbytes)
        if busy_ms == 0.0:
            return now_ms
        with self._lock:
            self._free_ms = max(self._free_ms, now_ms) + busy_ms
            return self._free_ms


def tile_bytes(load: Load) -> int:
    """Bytes that a load moves, known before it is read."""
    source = load.registered.source
    count = source.texture_dtype.itemsize
    for edge in source.tile_shape(load.key.tile):
        count *= edge
    return count


class LoaderPool:
    """``settings.num_workers`` threads over one DelayQueue. Threads start when there is work for them.

    One lock owns everything here, the states of the loads included. What is done goes to ``arrivals``.
    """

    def __init__(
        self,
        name: str,
        settings: PoolSettings,
        loader: LoaderSettings,
        clock: Clock,
        network: Network | None,
        link: SharedLink,
        reader: Reader,
        arrivals: queue.SimpleQueue[Arrival | None],
        trace: Any = None,
    ) -> None:
        self._name, self._settings, self._loader = name, settings, loader
        self._clock, self._network, self._link = clock, network, link
        self._reader, self._arrivals, self._trace = reader, arrivals, trace
        self._changed = threading.Condition(threading.Lock())
        self._queue = DelayQueue()
        self._running: dict[int, Load] = {}  # by id(load): a key may run twice when a try was abandoned
        self._threads: list[threading.Thread] = []
        self._idle = self._lost = self._started = 0
        self._someone_watches_the_time = False
        self._closed = False

    # called by the owner of the loader

    def submit(self, loads: Sequence[Load]) -> None:
        with self._changed:
            if self._closed:
                return
            for load in loads:
                self._queue.put(load)
            self._staff()

    def _staff(self) -> None:
        """Wake or hire workers for what is queued; caller has the lock."""
        work = len(self._queue)
        if self._idle:
            self._changed.notify(min(work, self._idle))
        for _ in range(min(work - self._idle, self._settings.num_workers + self._lost - len(self._threads))):
            self._started += 1
            thread = threading.Thread(
                target=self._work, name=f"octree-load-{self._name}-{self._started}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def withdraw(self, loads: Sequence[Load]) -> list[Load]:
        """These are wanted no more. Those still queued are CANCELLED and returned; those being read go on
        until someone needs the worker."""
        gone: list[Load] = []
        with self._changed:
            for load in loads:
                load.wanted = False
                if self._queue.discard(load):
                    load.change(Event.CANCEL)
                    gone.append(load)
            self._relieve()
        return gone

    def rank(self, ranks: Callable[[Load], tuple[int, int]]) -> None:
        """Give every load its new rank (those being read too: they may be queued again for another try)."""
        with self._changed:
            for load in self._running.values():
                load.rank = ranks(load)
            changed = False
            for load in self._queue:
                rank = ranks(load)
                changed = changed or rank != load.rank
                load.rank = rank
            if changed:
                self._queue.reorder()
            self._relieve()

    def want(self, load: Load) -> None:
        """A load that was withdrawn while being read is wanted again."""
        with self._changed:
            load.wanted = True

    def _relieve(self) -> None:
        """Give up unwanted reads if a wanted load waits for their worker; caller has the lock."""
        now_ms = self._clock.now_ms()
        if self._idle or not self._running or not self._queue.has_due(now_ms):
            return
        waiting = len(self._queue)
        for load in self._running.values():
            if waiting > 0 and not load.wanted and not load.token.cancelled:
                load.token.cancel()
                waiting -= 1

    def expire(self) -> float | None:
        """Give up tries that take too long; the worker that is stuck in one is replaced. Returns when (ms) the
        next running try would be too long, None for never."""
        limit_ms = self._loader.read_timeout_ms
        if not limit_ms:
            return None
        late: list[Load] = []
        next_ms: float | None = None
        with self._changed:
            now_ms = self._clock.now_ms()
            for load in list(self._running.values()):
                if load.registered.patient(load.key.tile.level):
                    continue
                end_ms = load.started_ms + limit_ms
                if end_ms <= now_ms:
                    late.append(load)
                elif next_ms is None or end_ms < next_ms:
                    next_ms = end_ms
            for load in late:
                del self._running[id(load)]
                self._lost += 1
                load.token.cancel()
                self._failed(load, f"timed out after {limit_ms / 1e3:g} s", now_ms, final=False)
            if late:
                self._staff()
        return next_ms

    def counts(self) -> tuple[int, int, int]:
        """(queued and due, being read, delayed)."""
        with self._changed:
            delayed = self._queue.delayed(self._clock.now_ms())
            return len(self._queue) - delayed, len(self._running), delayed

    def close(self) -> None:
        """Give up everything; does not wait. See ``join``."""
        with self._changed:
            self._closed = True
            for load in list(self._queue):
                self._queue.discard(load)
                load.change(Event.CANCEL)
            tokens = [load.token for load in self._running.values()]
            self._changed.notify_all()
        for token in tokens:
            token.cancel()

    def join(self, deadline_s: float) -> int:
        """Wait for the threads until ``time.monotonic()`` is ``deadline_s``; how many are still stuck."""
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    # the workers

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """One try; False when this worker shall go. Its own method, so that an idle worker holds no tile."""
        taken = self._take()
        if taken is None:
            return False
        load, run = taken
        try:
            data, error = self._attempt(load), None
        except BaseException as failure:  # whatever a reader raises is one failed tile, never a lost worker
            data, error = None, failure
        return self._done(load, run, data, error)

    def _take(self) -> tuple[Load, int] | None:
        """The next load to read and its run; None when the pool is closed."""
        with self._changed:
            while not self._closed:
                now_ms = self._clock.now_ms()
                load = self._queue.pop(now_ms)
                if load is not None:
                    load.change(Event.START)
                    load.started_ms = now_ms
                    self._running[id(load)] = load
                    if len(self._queue) and self._idle:
                        self._changed.notify()
                    return load, load.run
                self._rest(now_ms)
            return None

    def _rest(self, now_ms: float) -> None:
        """Wait for work; of all idle workers only one watches the time."""
        due_ms = self._queue.next_due_ms()
        watch = due_ms is not None and not self._someone_watches_the_time
        self._idle += 1
        if watch and due_ms is not None:
            self._someone_watches_the_time = True
            self._changed.wait(max(0.0, (due_ms - now_ms) / 1e3))
            self._someone_watches_the_time = False
        else:
            self._changed.wait()
        self._idle -= 1

    def _attempt(self, load: Load) -> NDArray[Any] | None:
        """One try; None when it was given up. Raises whatever the source raises."""
        token = load.token
        if self._network is not None:
            weather = self._network.weather(load.registered.number, load.key.tile, load.attempt)
            if token.wait(weather.latency_ms / 1e3):
                return None
            if weather.fails:
                raise OSError("the simulated network lost the answer")
            now_ms = self._clock.now_ms()
            if token.wait((self._link.reserve(now_ms, tile_bytes(load)) - now_ms) / 1e3):
                return None
        if token.cancelled:
            return None
        set_current_token(token)
        try:
            if self._trace is None:
                data = self._reader.read(load.registered, load.key.tile)
            else:
                with self._trace.span("load", level=load.key.tile.level, grid=str(load.key.tile.grid)):
                    data = self._reader.read(load.registered, load.key.tile)
        finally:
            set_current_token(None)
        return checked_tile(load.registered.source, load.key, data)

    def _done(self, load: Load, run: int, data: NDArray[Any] | None, error: BaseException | None) -> bool:
        """Pass on what became of a try. False: this worker was replaced and shall go."""
        now_ms = self._clock.now_ms()
        with self._changed:
            if load.run != run or self._running.get(id(load)) is not load:
                self._lost -= 1
                self._threads.remove(threading.current_thread())
                return False
            del self._running[id(load)]
            if data is not None:
                load.change(Event.SUCCEED)
                self._arrive(load, State.LOADED, now_ms, data)
            elif error is None or (load.token.cancelled and not load.wanted):
                load.change(Event.CANCEL)
                self._arrive(load, State.CANCELLED, now_ms)
            else:
                self._failed(load, error_text(error), now_ms, final=isinstance(error, BadTile))
        return True

    def _failed(self, load: Load, error: str, now_ms: float, *, final: bool) -> None:
        """A try has failed: queue the next one, or give up; caller has the lock."""
        if not load.wanted:
            load.change(Event.CANCEL)
            self._arrive(load, State.CANCELLED, now_ms)
        elif final or load.attempt >= self._loader.retries or self._closed:
            load.change(Event.FAIL)
            self._arrive(load, State.FAILED, now_ms, error=error)
        else:
            seed = self._network.seed if self._network is not None else 0
            load.due_ms = now_ms + retry_delay_ms(self._loader, seed, load)
            load.change(Event.RETRY)
            self._queue.put(load)
            self._changed.notify()

    def _arrive(
        self, load: Load, state: State, now_ms: float, data: NDArray[Any] | None = None, error: str = ""
    ) -> None:
        self._arrivals.put(
            Arrival(load, state, data, error, now_ms - load.started_ms, load.started_ms, now_ms)
        )


class PoolGroup:
    """All pools of one loader, by levels above the ideal one; the real-time side of ``Engine``."""

    def __init__(
        self,
        settings: LoaderSettings,
        clock: Clock,
        network: Network | None,
        reader_of: Callable[[PoolSettings], Reader],
        trace: Any = None,
    ) -> None:
        self._clock = clock
        self._arrivals: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._first: list[Arrival] = []  # taken off the queue by wait()
        link = SharedLink(network)
        self._readers = {key: reader_of(pool) for key, pool in settings.pools}
        self._pools = {
            key: LoaderPool(
                str(key), pool, settings, clock, network, link, self._readers[key], self._arrivals, trace
            )
            for key, pool in settings.pools
        }

    def submit(self, loads: Sequence[Load]) -> None:
        for key, pool in self._pools.items():
            mine = [load for load in loads if load.pool_key == key]
            if mine:
                pool.submit(mine)

    def withdraw(self, loads: Sequence[Load]) -> list[Load]:
        gone: list[Load] = []
        for key, pool in self._pools.items():
            mine = [load for load in loads if load.pool_key == key]
            if mine:
                gone += pool.withdraw(mine)
        return gone

    def want(self, load: Load) -> None:
        self._pools[load.pool_key].want(load)

    def rank(self, ranks: Callable[[Load], tuple[int, int]]) -> None:
        for pool in self._pools.values():
            pool.rank(ranks)

    def take(self) -> list[Arrival]:
        """What has arrived; never blocks."""
        for pool in self._pools.values():
            pool.expire()
        taken, self._first = self._first, []
        while True:
            try:
                arrival = self._arrivals.get_nowait()
            except queue.Empty:
                return taken
            if arrival is not None:
                taken.append(arrival)

    def wait(self, timeout_ms: float) -> bool:
        """Block until something has arrived or the time is up."""
        end_ms = self._clock.now_ms() + timeout_ms
        while not self._first:
            expiries = [e for e in (pool.expire() for pool in self._pools.values()) if e is not None]
            now_ms = self._clock.now_ms()
            until_ms = min([end_ms, *expiries])
            try:
                arrival = self._arrivals.get(timeout=max(0.0, until_ms - now_ms) / 1e3)
            except queue.Empty:
                if until_ms >= end_ms:
                    return False
                continue
            if arrival is not None:
                self._first.append(arrival)
        return True

    def counts(self) -> tuple[int, int, int]:
        """(queued and due, being read, delayed), all pools."""
        each = [pool.counts() for pool in self._pools.values()]
        return sum(c[0] for c in each), sum(c[1] for c in each), sum(c[2] for c in each)

    def close(self, timeout_s: float) -> int:
        """Stop everything; how many threads are stuck in a read that cannot be given up."""
        for pool in self._pools.values():
            pool.close()
        for reader in self._readers.values():
            reader.close()
        deadline_s = time.monotonic() + timeout_s
        return sum(pool.join(deadline_s) for pool in self._pools.values())
