"""The driver of loads in virtual time: a discrete-event simulation of what ``schedule.py`` decides.

Tiles are really read, by threads, as soon as their simulated try starts; what they bring is seen only at the
virtual time that the network gives. Events of one instant happen in the order of their keys, so a run is the same
on every machine, however fast its disks are.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from typing import Any

from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.clock import VirtualClock
from octree.render.loading.load import Arrival, Load, Pixels, error_text, is_final
from octree.render.loading.network import Network
from octree.render.loading.reading import LOST, Reader, read_checked
from octree.render.loading.schedule import (
    Answered,
    Closed,
    Dropped,
    Ended,
    Event,
    Leave,
    Planned,
    Report,
    Schedule,
    Send,
    Sent,
    Start,
    Stop,
    Stopped,
    Tick,
    TimedOut,
)
from octree.render.loading.values import LoadKey

REAL_THREADS = 4
"""Threads that read for the simulation; how many there are changes nothing but the real time a run takes."""


class _Phase(IntEnum):
    """What happens at an event; of one instant and key in this order."""

    ANSWERED = 0
    SENT = 1
    TIMED_OUT = 2


_Happening = tuple[float, tuple[int, int], tuple[int, int, TileKey], _Phase, int, int, Load]
"""(time, rank, tie, phase, run, serial number, load)."""


class SimulatedPoolGroup:
    """The virtual-time side of ``Engine``. One owner: the thread of the loader, for everything."""

    def __init__(
        self,
        settings: LoaderSettings,
        clock: VirtualClock,
        network: Network | None,
        reader_of: Callable[[PoolSettings], Reader],
        trace: Any = None,
        block_bytes: float = math.inf,
    ) -> None:
        self._clock, self._trace = clock, trace
        self._schedule = Schedule(settings, network, block_bytes)
        self._readers = {key: reader_of(pool) for key, pool in settings.pools}
        self._time_ms = clock.now_ms()
        self._happenings: list[_Happening] = []
        # of two that are alike but for their load the earlier one comes first
        self._serial = itertools.count()
        self._data: dict[LoadKey, Future[Pixels]] = {}
        self._arrived: list[Arrival] = []
        self._threads = ThreadPoolExecutor(REAL_THREADS, thread_name_prefix="octree-sim")

    def plan(self, planned: Planned) -> list[Load]:
        """Others may have advanced the clock: what happened before now comes before what is asked now. What happens
        now waits for ``take`` or ``wait_until``, so that all owners that plan at this instant are heard."""
        self._run(self._clock.now_ms(), including=False)
        return self._tell(planned)

    def take(self) -> list[Arrival]:
        """What has arrived by now on the clock."""
        self._run(self._clock.now_ms())
        taken, self._arrived = self._arrived, []
        return taken

    def wait_until(self, end_ms: float) -> bool:
        """Advance the clock to the next arrival; False: there is none by ``end_ms``, and so late it is now."""
        self._run(self._clock.now_ms())
        while not self._arrived:
            next_ms = self._next_ms()
            if next_ms is None or next_ms > end_ms:
                self._clock.advance_to(end_ms)
                self._run(end_ms)
                return bool(self._arrived)
            self._clock.advance_to(next_ms)
            self._run(next_ms)
        return True

    def staff(self, needed: Mapping[int, int]) -> None:
        """So many workers are needed, by pool, from now on."""
        self._run(self._clock.now_ms(), including=False)
        for key, count in needed.items():
            self._schedule.staff(key, count)

    def counts(self) -> tuple[int, int, int]:
        """(queued and due, being read, delayed)."""
        return self._schedule.counts(self._time_ms)

    def close(self, timeout_s: float) -> int:
        """Stop everything and wait for the reads that have begun."""
        self._tell(Closed())
        for reader in self._readers.values():
            reader.close()
        self._happenings.clear()
        self._data.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)
        return 0

    # the simulation

    def _next_ms(self) -> float | None:
        """When something happens next."""
        times = [self._schedule.next_start_ms(), self._happenings[0][0] if self._happenings else None]
        known = [time for time in times if time is not None]
        return max(self._time_ms, min(known)) if known else None

    def _run(self, end_ms: float, *, including: bool = True) -> None:
        """Everything that happens before ``end_ms``, and at that instant, in order."""
        while (next_ms := self._next_ms()) is not None:
            if next_ms > end_ms or (next_ms == end_ms and not including):
                break
            self._time_ms = next_ms
            while self._happenings and self._happenings[0][0] <= next_ms:
                *_, phase, run, _, load = heapq.heappop(self._happenings)
                if self._schedule.is_running(load, run):
                    self._happen(phase, load, run)
            self._tell(Tick())
        self._time_ms = max(self._time_ms, end_ms)

    def _happen(self, phase: _Phase, load: Load, run: int) -> None:
        if phase is _Phase.TIMED_OUT:
            self._tell(TimedOut(load, run))
        elif phase is _Phase.SENT:
            self._tell(Sent(load, run))
            self._deliver(load, run)
        elif load.key in self._data:
            self._tell(Answered(load, run))
        else:
            self._tell(Ended(load, run, error_text(OSError(LOST))))

    def _tell(self, event: Event, data: Pixels | None = None) -> list[Load]:
        """Have the schedule decide, and do it; the loads that were dropped. ``data`` is what a try has brought."""
        dropped: list[Load] = []
        stopped: list[Load] = []
        for action in self._schedule.decide(self._time_ms, event):
            match action:
                case Start():
                    self._begin(action)
                case Send(load, busy_ms) if busy_ms > 0:
                    self._at(self._time_ms + busy_ms, _Phase.SENT, load)
                case Send(load):
                    self._deliver(load, load.run)
                case Stop(load):
                    stopped.append(load)
                case Leave(load):
                    self._forget(load)
                case Report(load, state, error):
                    arrival = Arrival(
                        load,
                        state,
                        data,
                        error,
                        self._time_ms - load.started_ms,
                        load.started_ms,
                        self._time_ms,
                    )
                    self._arrived.append(arrival)
                case Dropped(load):
                    dropped.append(load)
        for load in stopped:  # here a try that is given up is gone at once
            self._forget(load)
            self._tell(Stopped(load, load.run))
        if stopped and isinstance(event, Tick):
            self._tell(event)
        return dropped

    def _begin(self, start: Start) -> None:
        load, now_ms = start.load, self._time_ms
        if not start.weather.fails:
            reader = self._readers[load.pool_key]
            self._data[load.key] = self._threads.submit(read_checked, reader, load, load.token, self._trace)
        if start.expires_ms < math.inf:
            self._at(start.expires_ms, _Phase.TIMED_OUT, load)
        self._at(now_ms + start.weather.latency_ms, _Phase.ANSWERED, load)

    def _at(self, time_ms: float, phase: _Phase, load: Load) -> None:
        # of answers that come at once the most urgent one gets the link
        happening = (time_ms, load.rank, load.tie, phase, load.run, next(self._serial), load)
        heapq.heappush(self._happenings, happening)

    def _deliver(self, load: Load, run: int) -> None:
        try:
            data = self._data.pop(load.key).result()
        except BaseException as error:  # whatever a reader raises is one failed tile
            self._tell(Ended(load, run, error_text(error), is_final(error)))
        else:
            self._tell(Ended(load, run), data)

    def _forget(self, load: Load) -> None:
        """Give up the read behind a try."""
        reading = self._data.pop(load.key, None)
        if reading is not None and not reading.cancel():
            load.token.cancel()
