"""Worker pools in virtual time: a discrete-event simulation of the same queues, ranks, delays and retries.

Tiles are really read, by threads, as soon as their simulated try starts; what they bring is seen only at the
virtual time that the network gives. Events of one instant happen in the order of their keys, so a run is the same
on every machine, however fast its disks are.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from numpy.typing import NDArray

from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.clock import VirtualClock
from octree.render.loading.delay_queue import DelayQueue
from octree.render.loading.load import (
    Arrival,
    BadTile,
    CancelToken,
    Load,
    checked_tile,
    error_text,
    set_current_token,
)
from octree.render.loading.network import Network
from octree.render.loading.reading import Reader, retry_delay_ms, tile_bytes
from octree.render.loading.requests import Event, LoadKey, State

REAL_THREADS = 4
"""Threads that read for the simulation; how many there are changes nothing but the real time a run takes."""


class _Phase(IntEnum):
    """What happens at an event; of one instant and key in this order."""

    ANSWERED = 0
    DONE = 1
    TIMED_OUT = 2


_Event = tuple[float, tuple[int, int], tuple[int, int, TileKey], _Phase, int, int, Load]
"""(time, rank, tie, phase, run, serial number, load)."""


@dataclass(slots=True, eq=False)
class _Pool:
    """One simulated pool: its queue and the loads its workers are busy with."""

    settings: PoolSettings
    reader: Reader
    queue: DelayQueue = field(default_factory=DelayQueue)
    running: dict[LoadKey, Load] = field(default_factory=dict)

    def next_start_ms(self) -> float | None:
        """When the next queued load could start; None when nothing is queued, or nobody is free to take it."""
        if len(self.running) >= self.settings.num_workers and all(x.wanted for x in self.running.values()):
            return None
        return self.queue.next_due_ms()


@dataclass(slots=True, eq=False)
class _Link:
    """The one link of the simulated network: one transfer at a time, the most urgent answer next. What is given up
    leaves it at once, or tiles that nobody wants any more would hold up those that somebody does."""

    network: Network
    waiting: list[Load] = field(default_factory=list)
    sending: Load | None = None

    def busy_ms(self, load: Load) -> float:
        return self.network.transfer_ms(tile_bytes(load))

    def take(self) -> Load | None:
        """The next load to transfer, which now is; None when the link is busy or nothing waits."""
        if self.sending is not None or not self.waiting:
            return None
        self.sending = min(self.waiting, key=lambda load: (not load.wanted, load.rank, load.tie))
        self.waiting.remove(self.sending)
        return self.sending

    def leave(self, load: Load) -> bool:
        """The load is over, however; True when the link is free by that."""
        if load in self.waiting:
            self.waiting.remove(load)
        if load is not self.sending:
            return False
        self.sending = None
        return True


class SimulatedPoolGroup:
    """The virtual-time side of ``Engine``. One owner: the thread of the loader, for everything."""

    def __init__(
        self,
        settings: LoaderSettings,
        clock: VirtualClock,
        network: Network | None,
        reader_of: Callable[[PoolSettings], Reader],
        trace: Any = None,
    ) -> None:
        self._settings, self._clock, self._trace = settings, clock, trace
        self._network = network or Network()
        self._link = _Link(self._network)
        self._pools = {key: _Pool(pool, reader_of(pool)) for key, pool in settings.pools}
        self._time_ms = clock.now_ms()
        self._events: list[_Event] = []
        # of two events that are alike but for their load the earlier one comes first
        self._serial = itertools.count()
        self._data: dict[LoadKey, Future[NDArray[Any]]] = {}
        self._arrived: list[Arrival] = []
        self._threads = ThreadPoolExecutor(REAL_THREADS, thread_name_prefix="octree-sim")

    def _catch_up(self) -> None:
        """Others may have advanced the clock: what happened before now comes before what is asked now. What
        happens now waits for ``take`` or ``wait``, so that all owners that plan at this instant are heard."""
        self._run(self._clock.now_ms(), including=False)

    def submit(self, loads: Sequence[Load]) -> None:
        self._catch_up()
        for load in loads:
            self._pools[load.pool_key].queue.put(load)

    def withdraw(self, loads: Sequence[Load]) -> list[Load]:
        self._catch_up()
        gone: list[Load] = []
        for load in loads:
            load.wanted = False
            if self._pools[load.pool_key].queue.discard(load):
                load.change(Event.CANCEL)
                gone.append(load)
        return gone

    def want(self, load: Load) -> None:
        self._catch_up()
        load.wanted = True

    def rank(self, ranks: Callable[[Load], tuple[int, int]]) -> None:
        self._catch_up()
        for pool in self._pools.values():
            for load in (*pool.queue, *pool.running.values()):
                load.rank = ranks(load)
            pool.queue.reorder()

    def take(self) -> list[Arrival]:
        """What has arrived by now on the clock."""
        self._run(self._clock.now_ms())
        taken, self._arrived = self._arrived, []
        return taken

    def wait_until(self, end_ms: float) -> bool:
        """Advance the clock to the next arrival; False: there is none by ``end_ms``, and so late it is now."""
        self._run(self._clock.now_ms())
        while not self._arrived:
            next_ms = self._next_event_ms()
            if next_ms is None or next_ms > end_ms:
                self._clock.advance_to(end_ms)
                self._run(end_ms)
                return bool(self._arrived)
            self._clock.advance_to(next_ms)
            self._run(next_ms)
        return True

    def counts(self) -> tuple[int, int, int]:
        delayed = sum(pool.queue.delayed(self._time_ms) for pool in self._pools.values())
        queued = sum(len(pool.queue) for pool in self._pools.values())
        return queued - delayed, sum(len(pool.running) for pool in self._pools.values()), delayed

    def close(self, timeout_s: float) -> int:
        """Stop everything and wait for the reads that have begun."""
        for pool in self._pools.values():
            for load in [*pool.queue, *pool.running.values()]:
                pool.queue.discard(load)
                load.token.cancel()
                load.change(Event.CANCEL)
            pool.running.clear()
            pool.reader.close()
        self._events.clear()
        self._data.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)
        return 0

    # the simulation

    def _next_event_ms(self) -> float | None:
        times = [pool.next_start_ms() for pool in self._pools.values()]
        times += [self._events[0][0] if self._events else None]
        known = [time for time in times if time is not None]
        return max(self._time_ms, min(known)) if known else None

    def _run(self, end_ms: float, *, including: bool = True) -> None:
        """Everything that happens before ``end_ms``, and at that instant, in order."""
        while (next_ms := self._next_event_ms()) is not None:
            if next_ms > end_ms or (next_ms == end_ms and not including):
                break
            self._time_ms = next_ms
            while self._events and self._events[0][0] <= next_ms:
                *_, phase, run, _, load = heapq.heappop(self._events)
                if load.run == run and self._pools[load.pool_key].running.get(load.key) is load:
                    self._happen(phase, load)
            for pool in self._pools.values():
                self._start_due(pool)
        self._time_ms = max(self._time_ms, end_ms)

    def _start_due(self, pool: _Pool) -> None:
        while pool.queue.has_due(self._time_ms):
            if len(pool.running) >= pool.settings.num_workers and not self._give_up_one(pool):
                return
            load = pool.queue.pop(self._time_ms)
            if load is None:
                return
            load.change(Event.START)
            load.started_ms = self._time_ms
            pool.running[load.key] = load
            self._begin(pool, load)

    def _give_up_one(self, pool: _Pool) -> bool:
        """Free a worker that reads what nobody wants any more; False when there is none."""
        unwanted = [load for load in pool.running.values() if not load.wanted]
        if not unwanted:
            return False
        load = max(unwanted, key=lambda x: (x.started_ms, x.tie))
        self._finish(load, State.CANCELLED, Event.CANCEL)
        return True

    def _begin(self, pool: _Pool, load: Load) -> None:
        key, now_ms = load.key, self._time_ms
        weather = self._network.weather(load.registered.number, key.tile, load.attempt)
        if not weather.fails:
            self._data[key] = self._threads.submit(self._read, pool.reader, load, load.token)
        limit_ms = self._settings.read_timeout_ms
        if limit_ms and not load.registered.patient(key.tile.level):
            self._schedule(now_ms + limit_ms, _Phase.TIMED_OUT, load)
        self._schedule(now_ms + weather.latency_ms, _Phase.ANSWERED, load)

    def _read(self, reader: Reader, load: Load, token: CancelToken) -> NDArray[Any]:
        source = load.registered.source
        set_current_token(token)
        try:
            if self._trace is None:
                return checked_tile(source, load.key, reader.read(load.registered, load.key.tile))
            with self._trace.span("load", level=load.key.tile.level, grid=str(load.key.tile.grid)):
                return checked_tile(source, load.key, reader.read(load.registered, load.key.tile))
        finally:
            set_current_token(None)

    def _schedule(self, time_ms: float, phase: _Phase, load: Load) -> None:
        # of answers that come at once the most urgent one gets the link
        heapq.heappush(
            self._events, (time_ms, load.rank, load.tie, phase, load.run, next(self._serial), load)
        )

    def _happen(self, phase: _Phase, load: Load) -> None:
        if phase is _Phase.TIMED_OUT:
            self._failed(load, f"timed out after {self._settings.read_timeout_ms / 1e3:g} s", final=False)
        elif phase is _Phase.ANSWERED and load.key not in self._data:
            self._failed(load, error_text(OSError("the simulated network lost the answer")), final=False)
        elif phase is _Phase.ANSWERED and self._link.busy_ms(load) > 0:
            self._link.waiting.append(load)
            self._send()
        else:
            self._deliver(load)

    def _send(self) -> None:
        """Give the link, if it is free, to the most urgent answer."""
        load = self._link.take()
        if load is not None:
            self._schedule(self._time_ms + self._link.busy_ms(load), _Phase.DONE, load)

    def _deliver(self, load: Load) -> None:
        try:
            data = self._data.pop(load.key).result()
        except BaseException as error:  # whatever a reader raises is one failed tile
            self._failed(load, error_text(error), final=isinstance(error, BadTile))
        else:
            self._finish(load, State.LOADED, Event.SUCCEED, data)

    def _failed(self, load: Load, error: str, *, final: bool) -> None:
        if not load.wanted:
            self._finish(load, State.CANCELLED, Event.CANCEL)
        elif final or load.attempt >= self._settings.retries:
            self._finish(load, State.FAILED, Event.FAIL, error=error)
        else:
            pool = self._pools[load.pool_key]
            self._forget(pool, load)
            load.due_ms = self._time_ms + retry_delay_ms(self._settings, self._network.seed, load)
            load.change(Event.RETRY)
            pool.queue.put(load)

    def _finish(
        self, load: Load, state: State, event: Event, data: NDArray[Any] | None = None, error: str = ""
    ) -> None:
        self._forget(self._pools[load.pool_key], load)
        load.change(event)
        now_ms = self._time_ms
        self._arrived.append(
            Arrival(load, state, data, error, now_ms - load.started_ms, load.started_ms, now_ms)
        )

    def _forget(self, pool: _Pool, load: Load) -> None:
        del pool.running[load.key]
        if self._link.leave(load):
            self._send()
        reading = self._data.pop(load.key, None)
        if reading is not None and not reading.cancel():
            load.token.cancel()
