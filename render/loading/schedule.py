"""What to do about loads, decided in one place for both clocks. Pure: no thread, no clock, no reading.

``Schedule.decide(now_ms, event)`` is told what has happened and answers what is to be done. Two drivers ask it and do
what it says: ``pool.py`` with threads in real time, ``simulated.py`` as a discrete-event simulation.

    a driver says   Planned   wishes have changed             it is told   Dropped  out of the queue: nobody wants it
                    Tick      time has passed                              Start    begin a try
                    Answered  a try's latency is over                      Send     the link is this try's now
                    Sent      a try's transfer is over                     Stop     give up this try: its worker is needed
                    Ended     a try has brought a tile or an error         Leave    it takes too long: go on without it
                    Stopped   a try that was given up is gone              Report   this is what became of a load
                    TimedOut  a try takes too long
                    Closed    the end

Wishes alone start and stop nothing: a ``Tick`` does, so that all wishes of an instant are heard first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from octree.render.config import LoaderSettings
from octree.render.loading.delay_queue import DelayQueue
from octree.render.loading.load import Load
from octree.render.loading.network import Network, Weather
from octree.render.loading.reading import load_bytes, retry_delay_ms
from octree.render.loading.values import Event as Change
from octree.render.loading.values import LoadKey, State

Ranks: TypeAlias = Callable[[LoadKey], tuple[int, int]]


class Planned(NamedTuple):
    """``begin`` new loads; nobody wants ``drop``, nobody asks to begin ``hold``; ``again`` were unwanted and are being
    read; ``ranks`` gives the key of every other load its new rank (None: as before): any thread may ask it, later."""

    begin: Sequence[Load] = ()
    drop: Sequence[Load] = ()
    hold: Sequence[Load] = ()
    again: Sequence[Load] = ()
    ranks: Ranks | None = None


class Tick(NamedTuple):
    """It is that late now: start what is due, give up what stands in its way, end what takes too long."""


class Answered(NamedTuple):
    """The latency of a try is over: it needs the link."""

    load: Load
    run: int


class Sent(NamedTuple):
    """A try has had the link for as long as it needs."""

    load: Load
    run: int


class Ended(NamedTuple):
    """A try has brought a tile, or the ``error``; ``final``: another try is of no use."""

    load: Load
    run: int
    error: str = ""
    final: bool = False


class Stopped(NamedTuple):
    """A try that was given up has let go of its worker."""

    load: Load
    run: int


class TimedOut(NamedTuple):
    """A try has reached ``Start.expires_ms``. A driver that ticks by then need not say it."""

    load: Load
    run: int


class Closed(NamedTuple):
    """Give up everything; nothing is begun any more."""


Event: TypeAlias = Planned | Tick | Answered | Sent | Ended | Stopped | TimedOut | Closed


class Start(NamedTuple):
    """A worker of pool ``load.pool_key`` begins try ``run``, in this weather, with a new cancel token."""

    load: Load
    run: int
    weather: Weather
    expires_ms: float


class Send(NamedTuple):
    """The link is the load's for ``busy_ms``; then say ``Sent``, if that is not 0."""

    load: Load
    busy_ms: float


class Stop(NamedTuple):
    """Cancel the try; say ``Stopped`` (or ``Ended``) when its worker is free."""

    load: Load


class Leave(NamedTuple):
    """Cancel the try and forget its worker, which counts as free from now on."""

    load: Load


class Dropped(NamedTuple):
    """Cancelled before it began."""

    load: Load


class Report(NamedTuple):
    """The load is over: LOADED, FAILED (with ``error``) or CANCELLED."""

    load: Load
    state: State
    error: str = ""


Action: TypeAlias = Start | Send | Stop | Leave | Dropped | Report


@dataclass(slots=True, eq=False)
class _Try:
    """What a worker is busy with. ``stopping``: given up, and the worker not free yet."""

    load: Load
    run: int
    expires_ms: float
    block_bytes: int = 0
    stopping: bool = False


@dataclass(slots=True, eq=False)
class _Pool:
    """One pool: its queue, and the tries of its workers. ``waits``: what is to begin next has no room before something has
    ended. ``far``: as many tries may be under way at a time of sources that are far away, whose reads go on by themselves."""

    workers: int
    waits: bool = False
    far: int = 0
    queue: DelayQueue = field(default_factory=DelayQueue)
    running: dict[LoadKey, _Try] = field(default_factory=dict)
    expires_ms: float = math.inf
    """No try takes too long before that."""

    @property
    def room(self) -> bool:
        """May anything begin? If there is room for more than workers have in hand, what is first in the queue says so."""
        return len(self.running) < max(self.workers, self.far)

    def is_full_for(self, load: Load) -> bool:
        """Are there as many tries under way as there may be beside this one?"""
        return len(self.running) >= self.workers and (
            load.batch is not None
            or load.key.tile.level not in load.registered.begin_levels
            or len(self.running) >= load.registered.in_flight
        )

    def expired(self, now_ms: float) -> list[_Try]:
        """Tries that have taken too long, the one that was to end first in front."""
        late = [t for t in self.running.values() if t.expires_ms <= now_ms]
        late.sort(key=lambda t: (t.expires_ms, t.load.rank, t.load.tie))
        self.expires_ms = min(
            (t.expires_ms for t in self.running.values() if t not in late), default=math.inf
        )
        return late

    def to_give_up(self) -> list[_Try]:
        """Tries that nobody wants any more, the one that has come least far first."""
        unwanted = [t for t in self.running.values() if not t.load.wanted and not t.stopping]
        unwanted.sort(key=lambda t: (t.load.started_ms, t.load.tie), reverse=True)
        return unwanted

    def next_start_ms(self) -> float | None:
        """When the next queued load could start; None when nothing is queued, or nobody is free to take it."""
        busy = self.waits or not self.room
        if busy and all(t.load.wanted or t.stopping for t in self.running.values()):
            return None
        return self.queue.next_due_ms()


@dataclass(slots=True, eq=False)
class _Link:
    """The one link of the simulated network: one transfer at a time, the most urgent answer next. What is given up
    leaves it at once, or tiles that nobody wants any more would hold up those that somebody does."""

    network: Network
    waiting: list[Load] = field(default_factory=list)
    sending: Load | None = None

    def ask(self, load: Load) -> list[Action]:
        if self.network.transfer_ms(load_bytes(load)) <= 0:
            return [Send(load, 0.0)]
        self.waiting.append(load)
        return self._next()

    def leave(self, load: Load) -> list[Action]:
        """The load needs the link no more, for whatever reason."""
        if load in self.waiting:
            self.waiting.remove(load)
        if load is not self.sending:
            return []
        self.sending = None
        return self._next()

    def _next(self) -> list[Action]:
        if self.sending is not None or not self.waiting:
            return []
        self.sending = min(self.waiting, key=lambda load: (not load.wanted, load.rank, load.tie))
        self.waiting.remove(self.sending)
        return [Send(self.sending, self.network.transfer_ms(load_bytes(self.sending)))]


class Schedule:
    """All loads of one loader, queued and running. Not thread-safe: its driver is its one owner, and writes nothing
    in a load itself. ``block_bytes``: blocks of several tiles that are being read take no more together, or are one."""

    def __init__(
        self, settings: LoaderSettings, network: Network | None = None, block_bytes: float = math.inf
    ) -> None:
        self._settings = settings
        self._most_block_bytes, self._block_bytes = block_bytes, 0
        self._calm = None if network is not None else Weather(0.0)
        self._network = network or Network()
        self._link = _Link(self._network)
        self._pools = {key: _Pool(pool.num_workers) for key, pool in settings.pools}
        self._ranks: Ranks | None = None  # newer than those of what is queued
        self._closed = False

    def decide(self, now_ms: float, event: Event) -> list[Action]:
        """What is to be done, in this order. What concerns a try that is over means nothing."""
        match event:
            case Tick():
                return self._tick(now_ms)
            case Planned():
                return self._plan(event, now_ms)
            case Closed():
                return self._close()
        current = self._current(event.load, event.run)
        if current is None:
            return []
        match event:
            case Ended():
                return self._end(current, now_ms, event.error, final=event.final)
            case Stopped():
                return self._over(event.load, State.CANCELLED)
            case Answered():
                return [] if current.stopping else self._link.ask(event.load)
            case Sent():
                return self._link.leave(event.load)
            case TimedOut():
                return self._expire(current, now_ms)

    def staff(self, pool_key: int, needed: int) -> int:
        """So many workers are needed in a pool: it has them from the next ``Tick`` on, as far as the settings allow. How
        many they are."""
        least, most = dict(self._settings.pools)[pool_key].num_workers, self._settings.most_workers(pool_key)
        self._pools[pool_key].workers = count = max(least, min(needed, most))
        return count

    # what there is

    def is_running(self, load: Load, run: int) -> bool:
        """Is this try still under way?"""
        return self._current(load, run) is not None

    def next_start_ms(self) -> float | None:
        """When a ``Tick`` could start something; None when nothing is queued or every worker is busy. May be past."""
        times = [time for pool in self._pools.values() if (time := pool.next_start_ms()) is not None]
        return min(times, default=None)

    def next_due_ms(self, pool_key: int) -> float | None:
        """When the next load of a pool is due; None when nothing is queued, or no worker is free."""
        pool = self._pools[pool_key]
        return pool.queue.next_due_ms() if pool.room and not pool.waits else None

    def next_expiry_ms(self) -> float | None:
        """When a ``Tick`` will end a try that takes too long; None for never."""
        times = [t.expires_ms for pool in self._pools.values() for t in pool.running.values()]
        soonest = min(times, default=math.inf)
        return soonest if soonest < math.inf else None

    def counts(self, now_ms: float) -> tuple[int, int, int]:
        """(queued and due, being read, delayed)."""
        pools = self._pools.values()
        delayed = sum(pool.queue.delayed(now_ms) for pool in pools)
        return sum(len(p.queue) for p in pools) - delayed, sum(len(p.running) for p in pools), delayed

    def _current(self, load: Load, run: int) -> _Try | None:
        current = self._pools[load.pool_key].running.get(load.key)
        return current if current is not None and current.load is load and current.run == run else None

    # what happens

    def _plan(self, event: Planned, now_ms: float) -> list[Action]:
        dropped: list[Action] = []
        self._look_again()
        for load in (*event.drop, *event.hold):
            if self._pools[load.pool_key].queue.discard(load):
                load.change(Change.CANCEL)
                dropped.append(Dropped(load))
        for load in event.drop:
            load.wanted = False
        for load in (*event.hold, *event.again):
            load.wanted = True
        if event.ranks is not None:
            self._ranks = event.ranks
            # those being read get one too: they may be queued again for another try
            for pool in self._pools.values():
                for current in pool.running.values():
                    current.load.rank = current.load.rank_by(event.ranks)
        elif event.begin:
            self._rank_queued(now_ms)  # the ranks that are known know nothing of these
        for load in () if self._closed else event.begin:
            pool = self._pools[load.pool_key]
            pool.queue.put(load)
            if load.registered.in_flight > pool.far and self._calm is not None:
                pool.far = load.registered.in_flight
        return dropped

    def _rank_queued(self, now_ms: float) -> None:
        """Before one of them is chosen: plans come faster than workers while thousands wait."""
        ranks, self._ranks = self._ranks, None
        if ranks is None:
            return
        for pool in self._pools.values():
            changed = False
            for load in pool.queue:
                rank = ranks(load.key) if len(load.asked) == 1 else load.rank_by(ranks)
                if rank != load.rank:
                    changed, load.rank = True, rank
            if changed:
                pool.queue.reorder(now_ms)

    def _tick(self, now_ms: float) -> list[Action]:
        actions: list[Action] = []
        for pool in self._pools.values():
            # once or twice for each tile, with the lock of all workers: what need not be looked at is not
            if now_ms >= pool.expires_ms:
                for current in pool.expired(now_ms):
                    actions += self._expire(current, now_ms)
            if not pool.queue:
                continue
            if self._ranks is not None and pool.room:
                self._rank_queued(now_ms)
            pool.waits = False
            while pool.room and (load := pool.queue.pop(now_ms)) is not None:
                if pool.far and pool.is_full_for(load):
                    pool.queue.put(load)
                    pool.waits = True
                    break
                block_bytes = 0 if load.batch is None else load_bytes(load)
                if block_bytes and 0 < self._block_bytes > self._most_block_bytes - block_bytes:
                    pool.queue.put(load)
                    pool.waits = True
                    break
                actions.append(self._start(pool, load, now_ms, block_bytes))
            if pool.queue and (unwanted := pool.to_give_up()):
                actions += self._make_room(pool, unwanted, now_ms)
        return actions

    def _make_room(self, pool: _Pool, unwanted: list[_Try], now_ms: float) -> list[Action]:
        """Give up one read for each load that waits for a worker, counting those that are on their way."""
        waiting = len(pool.queue) - pool.queue.delayed(now_ms)
        coming = sum(t.stopping for t in pool.running.values())
        actions: list[Action] = []
        for current in unwanted[: max(0, waiting - coming)]:
            current.stopping = True
            actions.append(Stop(current.load))
            actions += self._link.leave(current.load)
        return actions

    def _look_again(self) -> None:
        for pool in self._pools.values():
            pool.waits = False

    def _start(self, pool: _Pool, load: Load, now_ms: float, block_bytes: int) -> Start:
        load.change(Change.START)
        load.started_ms = now_ms
        limit_ms = self._settings.read_timeout_ms
        if not limit_ms or load.registered.patient(load.key.tile.level):
            limit_ms = math.inf
        pool.running[load.key] = _Try(load, load.run, now_ms + limit_ms, block_bytes)
        self._block_bytes += block_bytes
        pool.expires_ms = min(pool.expires_ms, now_ms + limit_ms)
        weather = self._calm or self._network.weather(load.registered.number, load.key.tile, load.attempt)
        return Start(load, load.run, weather, now_ms + limit_ms)

    def _end(self, current: _Try, now_ms: float, error: str, *, final: bool) -> list[Action]:
        if not error:
            return self._over(current.load, State.LOADED)
        if current.stopping:  # the error of a read that was given up is no failure
            return self._over(current.load, State.CANCELLED)
        return self._fail(current.load, now_ms, error, final=final)

    def _expire(self, current: _Try, now_ms: float) -> list[Action]:
        error = f"timed out after {self._settings.read_timeout_ms / 1e3:g} s"
        return [Leave(current.load), *self._fail(current.load, now_ms, error, final=False)]

    def _fail(self, load: Load, now_ms: float, error: str, *, final: bool) -> list[Action]:
        """A try has failed: queue the next one, or give up."""
        load.error, load.failed_tries = error, load.failed_tries + 1
        if not load.wanted:
            return self._over(load, State.CANCELLED)
        if final or self._closed or load.attempt >= self._settings.retries:
            return self._over(load, State.FAILED, error)
        actions = self._leave(load)
        load.due_ms = now_ms + retry_delay_ms(self._settings, self._network.seed, load)
        load.change(Change.RETRY)
        self._pools[load.pool_key].queue.put(load)
        return actions

    def _over(self, load: Load, state: State, error: str = "") -> list[Action]:
        actions = self._leave(load)
        load.change(_CHANGES[state])
        return [*actions, Report(load, state, error)]

    def _leave(self, load: Load) -> list[Action]:
        ended = self._pools[load.pool_key].running.pop(load.key)
        if ended.block_bytes:
            self._block_bytes -= ended.block_bytes
            self._look_again()
        return self._link.leave(load)

    def _close(self) -> list[Action]:
        self._closed = True
        actions: list[Action] = []
        for pool in self._pools.values():
            for load in list(pool.queue):
                pool.queue.discard(load)
                load.change(Change.CANCEL)
                actions.append(Dropped(load))
            for current in pool.running.values():
                current.stopping = True
                actions.append(Stop(current.load))
        return actions


_CHANGES = {State.LOADED: Change.SUCCEED, State.FAILED: Change.FAIL, State.CANCELLED: Change.CANCEL}
