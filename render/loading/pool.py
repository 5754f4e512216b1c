"""The driver of loads in real time: threads that do what ``schedule.py`` decides."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from octree.pyramid.store.reading import together
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.clock import Clock, later_ms
from octree.render.loading.hands import Hand, Job, hands_for
from octree.render.loading.load import Arrival, CancelToken, Load, Pixels
from octree.render.loading.network import Network
from octree.render.loading.reading import LOST, Reader, read_checked
from octree.render.loading.schedule import (
    Answered,
    Closed,
    Dropped,
    Event,
    Leave,
    Planned,
    Report,
    Schedule,
    Send,
    Sent,
    Start,
    Stop,
    Tick,
)
from octree.render.loading.values import LoadKey, State

_TICK = Tick()


@dataclass(slots=True, eq=False)
class _Pool:
    """The threads of one pool; its lock is that of the group. ``ready``: begun, and waiting for a thread to take
    them. ``idle`` threads wait; one of them sleeps no longer than until ``watched_ms``. ``woken`` of these, and ``starting`` new
    ones, are about to look what is ready: no others need be woken for that. ``alone``: kinds of tries whose
    reads do not go on by themselves after all."""

    key: int
    workers: int
    reader: Reader
    changed: threading.Condition
    ready: deque[Job] = field(default_factory=deque)
    threads: list[threading.Thread] = field(default_factory=list)
    idle: int = 0
    woken: int = 0
    starting: int = 0
    lost: int = 0
    hired: int = 0
    watched_ms: float = math.inf
    alone: set[tuple[int, int]] = field(default_factory=set)

    def may_begin(self, job: Job) -> bool:
        """Its read can go on by itself, as far as is known."""
        return job.may_begin and job.kind not in self.alone

    def hands_needed(self) -> int:
        """Threads for what is ready."""
        together = [job for job in self.ready if self.may_begin(job)]
        return len(self.ready) - len(together) + hands_for(together)

    def leave(self, job: Job) -> None:
        """A try takes too long: go on without the thread that has it."""
        if job.hand is None:
            self.ready.remove(job)
        elif not job.hand.lost:
            job.hand.lost = True
            self.lost += 1


class PoolGroup:
    """The real-time side of ``Engine``: all pools of one loader, by levels above the ideal one.

    One lock owns the schedule, the states of the loads included, and the book-keeping of threads. Threads start when
    there is work for them. What is done goes to a queue that the loader empties.
    """

    def __init__(
        self,
        settings: LoaderSettings,
        clock: Clock,
        network: Network | None,
        reader_of: Callable[[PoolSettings], Reader],
        trace: Any = None,
        block_bytes: float = math.inf,
    ) -> None:
        self._clock, self._network, self._trace = clock, network, trace
        self._schedule = Schedule(settings, network, block_bytes)
        self._lock = threading.Lock()
        self._jobs: dict[LoadKey, Job] = {}
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._first: list[Arrival] = []  # taken off the queue by wait_until
        self._pools = {
            key: _Pool(key, pool.num_workers, reader_of(pool), threading.Condition(self._lock))
            for key, pool in settings.pools
        }
        self._limit_ms = settings.read_timeout_ms or math.inf
        self._look_ms = 0.0
        self._closed = False

    # called by the owner of the loader

    def plan(self, planned: Planned) -> list[Load]:
        """Wishes have changed; the loads that were dropped from the queue."""
        dropped = self._tell(planned)
        self._look_after()
        return dropped

    def take(self) -> list[Arrival]:
        """What has arrived; never blocks."""
        if self._clock.now_ms() >= self._look_ms:
            self._look_after()
        taken, self._first = self._first, []
        while True:
            try:
                taken.append(self._arrivals.get_nowait())
            except queue.Empty:
                return taken

    def wait_until(self, end_ms: float) -> bool:
        """Block until something has arrived; False: nothing has by ``end_ms``."""
        while not self._first:
            if self._clock.now_ms() >= self._look_ms:
                self._look_after()
            until_ms = min(end_ms, self._look_ms)
            try:
                self._first.append(
                    self._arrivals.get(timeout=max(0.0, until_ms - self._clock.now_ms()) / 1e3)
                )
            except queue.Empty:
                if until_ms >= end_ms:
                    return False
        return True

    def _look_after(self) -> None:
        """Do what workers cannot while they are busy: end tries that take too long, give up unwanted ones whose worker
        is needed; and note when to look again. What begins later cannot take too long before that."""
        self._tell(_TICK)
        now_ms = self._clock.now_ms()
        with self._lock:
            times = (self._schedule.next_expiry_ms(), self._schedule.next_start_ms())
        soon = [time for time in times if time is not None and time > now_ms]
        self._look_ms = min([*soon, later_ms(now_ms, self._limit_ms)])

    def staff(self, needed: Mapping[int, int]) -> None:
        """So many workers are needed, by pool."""
        with self._lock:
            for key, count in needed.items():
                self._pools[key].workers = self._schedule.staff(key, count)

    def counts(self) -> tuple[int, int, int]:
        """(queued and due, being read, delayed)."""
        with self._lock:
            return self._schedule.counts(self._clock.now_ms())

    def close(self, timeout_s: float) -> int:
        """Stop everything; how many threads are stuck in a read that cannot be given up."""
        self._closed = True
        self._tell(Closed())
        with self._lock:
            for pool in self._pools.values():
                pool.changed.notify_all()
        deadline_s = time.monotonic() + timeout_s
        threads = [thread for pool in self._pools.values() for thread in pool.threads]
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        # after the workers: they must not lose what they read with under their hands
        for pool in self._pools.values():
            pool.reader.close()
        return sum(thread.is_alive() for thread in threads)

    # what is decided, and done

    def _tell(self, *events: Event) -> list[Load]:
        """Have the schedule decide about these, one after the other, and do it; the loads that were dropped."""
        with self._lock:
            dropped, given_up = self._decide(*events)
            self._staff()
        _cancel(given_up)
        return dropped

    def _decide(self, *events: Event, data: Pixels | None = None) -> tuple[list[Load], list[CancelToken]]:
        """(dropped loads, tokens to cancel); caller has the lock. ``data`` is what a try has brought."""
        now_ms = self._clock.now_ms()
        dropped: list[Load] = []
        given_up: list[CancelToken] = []
        for event in events:
            for action in self._schedule.decide(now_ms, event):
                load = action.load
                match action:
                    case Start():
                        # making one takes as long as all the rest: only who meets weather waits for a link
                        link = None if self._network is None else threading.Event()
                        job = Job(load, action.run, load.token, action.weather, link)
                        self._jobs[load.key] = job
                        self._pools[load.pool_key].ready.append(job)
                    case Send():
                        job = self._jobs[load.key]
                        job.busy_ms = action.busy_ms
                        if job.link is not None:
                            job.link.set()
                    case Stop():
                        given_up.append(load.token)
                    case Leave():
                        job = self._jobs.pop(load.key)
                        job.left = True
                        self._pools[load.pool_key].leave(job)
                        given_up.append(job.token)
                    case Report():
                        read_ms = now_ms - load.started_ms
                        brought = data if action.state is State.LOADED else None
                        arrival = Arrival(
                            load, action.state, brought, action.error, read_ms, load.started_ms, now_ms
                        )
                        self._arrivals.put(arrival)
                    case Dropped():
                        dropped.append(load)
        return dropped, given_up

    def _staff(self, here: _Pool | None = None) -> None:
        """Threads for what is ready, and in each pool one that watches what is queued; caller has the lock. ``here``:
        the caller is a thread of that pool with nothing to do."""
        for key, pool in self._pools.items():
            due_ms = self._schedule.next_due_ms(key)
            unwatched = due_ms is not None and due_ms < pool.watched_ms
            needed = pool.hands_needed() + unwatched - (pool is here) - pool.woken - pool.starting
            if (waking := min(needed, pool.idle - pool.woken)) > 0:
                pool.changed.notify(waking)
                pool.woken += waking
                needed -= waking
            most = 0 if self._closed else pool.workers + pool.lost - len(pool.threads)
            for _ in range(min(needed, most)):
                pool.hired += 1
                pool.starting += 1
                name = f"octree-load-{pool.key}-{pool.hired}"
                thread = threading.Thread(target=self._work, args=(pool,), name=name, daemon=True)
                pool.threads.append(thread)
                thread.start()

    # the workers

    def _work(self, pool: _Pool) -> None:
        hand = Hand()
        with self._lock:
            pool.starting -= 1
        while self._next(pool, hand):
            self._begin(pool, hand)
            if hand.begun:
                hand.settle(self._trace)
            elif hand.fresh:
                self._alone(pool, hand)

    def _next(self, pool: _Pool, hand: Hand) -> bool:
        """Say what became of tries, and take the next; False when this worker shall go. The next is chosen as late as can
        be: a load starts when a worker is free for it."""
        while True:
            with self._lock:
                given_up = self._hear(hand)
                given_up += self._decide(_TICK)[1]
                self._take(pool, hand)
                busy = bool(hand.begun or hand.fresh)
                if gone := hand.lost and not busy:
                    pool.lost -= 1
                    pool.threads.remove(threading.current_thread())
                self._staff(None if busy or gone else pool)
                if not (busy or gone or given_up or self._closed):
                    self._rest(pool)
            _cancel(given_up)
            if busy or gone or self._closed:
                return busy

    def _hear(self, hand: Hand) -> list[CancelToken]:
        """What tries have brought; the tokens to cancel. Caller has the lock."""
        over, hand.over = hand.over, []
        given_up: list[CancelToken] = []
        for job in over:
            if not job.left:
                del self._jobs[job.load.key]
                given_up += self._decide(job.outcome(), data=job.data)[1]
            # an idle worker must hold no tile, nor the frames of an error
            job.data = job.error = job.hand = None
        return given_up

    def _take(self, pool: _Pool, hand: Hand) -> None:
        """Tries that are ready and may go on beside those in hand; one that may not, where there is none. All of them at
        once: threads that take one each would have one each for ever. Caller has the lock."""
        while pool.ready and not (hand.lost or self._closed):
            together = pool.may_begin(pool.ready[0])
            if (hand.begun or hand.fresh) and (hand.is_full or not together):
                return
            hand.take(pool.ready.popleft())
            if not together:
                return

    def _begin(self, pool: _Pool, hand: Hand) -> None:
        """Have the reads that were taken go on by themselves. One that cannot is left, if there is nothing else in hand; those
        who wait for others are for other threads."""
        with together():
            while hand.fresh and pool.may_begin(hand.fresh[0]):
                if not hand.begin(pool.reader, self._trace):
                    pool.alone.add(hand.fresh[0].kind)
                    break
        keep = 0 if hand.begun else 1
        if len(hand.fresh) > keep:
            with self._lock:
                while len(hand.fresh) > keep:
                    job = hand.give_back()
                    if not job.left:
                        pool.ready.appendleft(job)
                self._staff()

    def _alone(self, pool: _Pool, hand: Hand) -> None:
        """Read a tile in this thread."""
        job = hand.fresh.popleft()
        try:
            job.data = self._attempt(pool, job)
        except BaseException as failure:  # whatever a reader raises is one failed tile, never a lost worker
            job.error = failure
        hand.finish(job)

    def _rest(self, pool: _Pool) -> None:
        """Wait for work; of the idle workers one wakes up by itself, when the next load is due."""
        due_ms = self._schedule.next_due_ms(pool.key)
        pool.idle += 1
        if due_ms is not None and due_ms < pool.watched_ms:
            pool.watched_ms = due_ms
            pool.changed.wait(max(0.0, (due_ms - self._clock.now_ms()) / 1e3))
            pool.watched_ms = math.inf
        else:
            pool.changed.wait()
        pool.idle -= 1
        pool.woken = max(0, pool.woken - 1)

    def _attempt(self, pool: _Pool, job: Job) -> Pixels | None:
        """One try; None when it was given up. Raises whatever the source raises."""
        load, token = job.load, job.token
        if job.link is not None and not self._meet_weather(job, job.link):
            return None
        return None if token.cancelled else read_checked(pool.reader, load, token, self._trace)

    def _meet_weather(self, job: Job, link: threading.Event) -> bool:
        """Take as long as the simulated network does; False when the try was given up meanwhile."""
        load, token = job.load, job.token
        if token.wait(job.weather.latency_ms / 1e3):
            return False
        if job.weather.fails:
            raise OSError(LOST)
        token.on_cancel(link.set)
        self._tell(Answered(load, job.run))
        link.wait()
        if token.wait(job.busy_ms / 1e3):
            return False
        if job.busy_ms > 0:
            self._tell(Sent(load, job.run))
        return True


def _cancel(tokens: list[CancelToken]) -> None:
    """What a reader does about it is its own business: never called with a lock."""
    for token in tokens:
        token.cancel()
