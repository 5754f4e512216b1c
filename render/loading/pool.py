"""Worker pools in real time: threads that pull the most urgent due load whenever they are free."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.clock import Clock
from octree.render.loading.delay_queue import DelayQueue
from octree.render.loading.load import (
    Arrival,
    BadTile,
    Load,
    checked_tile,
    error_text,
    set_current_token,
)
from octree.render.loading.network import Network
from octree.render.loading.reading import Reader, SharedLink, retry_delay_ms, tile_bytes
from octree.render.loading.requests import Event, State


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
        self._watched_ms = math.inf  # until when some idle worker sleeps
        self._closed = False

    # called by the owner of the loader

    def submit(self, loads: Sequence[Load]) -> None:
        with self._changed:
            if self._closed:
                return
            for load in loads:
                self._queue.put(load)
            self._staff()
            self._relieve()

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
        waiting = len(self._queue) - self._queue.delayed(now_ms)
        for load in self._running.values():
            if waiting > 0 and not load.wanted and not load.token.cancelled:
                load.token.cancel()
                waiting -= 1

    def tend(self) -> float | None:
        """What workers cannot do while they are busy: give up tries that take too long (the worker that is
        stuck in one is replaced), and unwanted ones whose worker is needed. Returns when (ms) to look again,
        None for never."""
        with self._changed:
            now_ms = self._clock.now_ms()
            self._relieve()
            next_ms = self._expire(now_ms)
            all_wanted = all(load.wanted for load in self._running.values())
            due_ms = None if self._idle or all_wanted else self._queue.next_due_ms()
        times = [time for time in (next_ms, due_ms) if time is not None and time > now_ms]
        return min(times, default=None)

    def _expire(self, now_ms: float) -> float | None:
        """Fail tries that are over their time; when the next one will be. Caller has the lock."""
        limit_ms = self._loader.read_timeout_ms
        if not limit_ms:
            return None
        next_ms: float | None = None
        for load in list(self._running.values()):
            if load.registered.patient(load.key.tile.level):
                continue
            end_ms = load.started_ms + limit_ms
            if end_ms > now_ms:
                next_ms = end_ms if next_ms is None else min(next_ms, end_ms)
                continue
            del self._running[id(load)]
            self._lost += 1
            load.token.cancel()
            self._failed(load, f"timed out after {limit_ms / 1e3:g} s", now_ms, final=False)
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
        """Wait for work; of the idle workers one wakes up by itself, when the next load is due."""
        due_ms = self._queue.next_due_ms()
        self._idle += 1
        if due_ms is not None and due_ms < self._watched_ms:
            self._watched_ms = due_ms
            self._changed.wait(max(0.0, (due_ms - now_ms) / 1e3))
            self._watched_ms = math.inf
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
