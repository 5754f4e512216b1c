"""What a thread of a pool has in hand: one try, or several whose reads go on by themselves, begun together.

Reads that are begun one after the other, each when the one before has ended, look up the same shard again and wake the
store's threads each time; begun together they take a third of that, and their thread waits once for all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from octree.render.loading.load import CancelToken, Load, Pixels, checked_tile, error_text, is_final
from octree.render.loading.network import Weather
from octree.render.loading.reading import Reader, load_bytes
from octree.render.loading.schedule import Ended, Event, Stopped
from octree.render.loading.values import BegunTile

MOST, MOST_BYTES = 16, 4 * 2**20
"""Tries in one hand, and bytes of their tiles: work with large ones is worth being divided among threads."""
GATHER_S = 0.002
"""Reads that end within so long of each other are told together."""
LOOK_S = 0.02
"""Whoever waits for the read that was begun first looks as often whether others have ended."""


@dataclass(slots=True, eq=False)
class Job:
    """One try in a worker's hands. ``link`` rings when the link is its own for ``busy_ms``, or it is given up.
    ``left``: too late, its worker has been replaced. ``data`` or ``error`` is what it has brought, if anything. ``hand``: of the
    thread that has taken it; ``begun``: its read, while that goes on by itself, since ``begun_s``. ``may_begin``: it can, as far
    as the source says; then ``bytes`` are those of the tile."""

    load: Load
    run: int
    token: CancelToken
    weather: Weather
    link: threading.Event | None
    busy_ms: float = 0.0
    left: bool = False
    data: Pixels | None = None
    error: BaseException | None = None
    hand: Hand | None = None
    begun: BegunTile | None = None
    begun_s: float = 0.0
    may_begin: bool = field(init=False)
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        load = self.load
        begins = load.key.tile.level in load.registered.begin_levels
        self.may_begin = begins and load.batch is None and self.link is None
        self.bytes = load_bytes(load) if self.may_begin else 0

    @property
    def kind(self) -> tuple[int, int]:
        """Tries of one kind begin alike."""
        return self.load.registered.number, self.load.key.tile.level

    def begin(self, reader: Reader, trace: Any) -> bool:
        """False: it must be read alone after all."""
        load, token = self.load, self.token
        if trace is not None and trace.enabled:
            self.begun_s = time.perf_counter()
        if token.cancelled:
            return True
        try:
            self.begun = reader.begin(load.registered, load.key.tile)
        except BaseException as failure:  # whatever a source raises is one failed tile, never a lost worker
            self.error = failure
            return True
        if self.begun is not None:
            token.on_cancel(self.begun.cancel)
        return self.begun is not None

    def wait(self, timeout_s: float) -> bool:
        """True: there is nothing to wait for any more."""
        return self.begun is None or self.begun.wait(timeout_s)

    def end(self) -> None:
        """Wait for the read that was begun."""
        begun, self.begun, load = self.begun, None, self.load
        try:
            if begun is not None:
                self.data = (checked_tile(load.registered.source, load.key.tile, begun.result()),)
        except BaseException as failure:
            self.error = failure
        finally:
            self.token.forget_callbacks()

    def outcome(self) -> Event:
        if self.error is not None:
            return Ended(self.load, self.run, error_text(self.error), is_final(self.error))
        ended = self.data is not None
        return Ended(self.load, self.run) if ended else Stopped(self.load, self.run)


def hands_for(jobs: Sequence[Job]) -> int:
    """How many it takes, of jobs that may begin."""
    return max(-(-len(jobs) // MOST), -(-sum([job.bytes for job in jobs]) // MOST_BYTES))


@dataclass(slots=True, eq=False)
class Hand:
    """The tries of one thread. Owner: that thread; ``lost`` (it has been replaced) is under the lock of the pool.

    ``fresh``: taken, and not begun. ``begun``: on their way by themselves. ``over``: to be told. ``bytes``: of the tiles of
    the first two. ``noted_s``: when the last span of a trace ended."""

    fresh: deque[Job] = field(default_factory=deque)
    begun: list[Job] = field(default_factory=list)
    over: list[Job] = field(default_factory=list)
    bytes: int = 0
    lost: bool = False
    noted_s: float = 0.0

    @property
    def is_full(self) -> bool:
        return len(self.begun) + len(self.fresh) >= MOST or self.bytes >= MOST_BYTES

    def take(self, job: Job) -> None:
        self.fresh.append(job)
        job.hand = self
        self.bytes += job.bytes

    def give_back(self) -> Job:
        """The last one that was taken and not begun."""
        job = self.fresh.pop()
        job.hand = None
        self.bytes -= job.bytes
        return job

    def begin(self, reader: Reader, trace: Any) -> bool:
        """Have the next one go on by itself; False, and it stays as it is, when it cannot."""
        if not self.fresh[0].begin(reader, trace):
            return False
        self.begun.append(self.fresh.popleft())
        return True

    def finish(self, job: Job) -> None:
        """It is over, and in hand no more."""
        self.over.append(job)
        self.bytes -= job.bytes

    def settle(self, trace: Any) -> None:
        """Wait until reads that were begun have ended, the first of them or a later one."""
        until_s = time.monotonic() + GATHER_S
        if all(job.wait(max(0.0, until_s - time.monotonic())) for job in self.begun):
            waited = list(self.begun)
        else:
            while not (waited := [job for job in self.begun if job.wait(0.0)]):
                self.begun[0].wait(LOOK_S)
        for job in waited:
            job.end()
            if trace is not None and trace.enabled:
                self._note(job, trace)
            self.begun.remove(job)
            self.finish(job)

    def _note(self, job: Job, trace: Any) -> None:
        """Spans of one thread follow one another, so that they add up to what it was busy."""
        now_s = time.perf_counter()
        start_s, self.noted_s = max(job.begun_s, self.noted_s), now_s
        tile = job.load.key.tile
        trace.complete("load", start_s, now_s - start_s, level=tile.level, grid=str(tile.grid))
