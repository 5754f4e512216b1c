"""What is queued, in the order in which workers shall take it: not before it is due, then by rank."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from octree.pyramid.model import TileKey
from octree.render.loading.load import Load
from octree.render.loading.values import LoadKey

_Tie = tuple[int, int, TileKey]


class DelayQueue:
    """Loads with due times and ranks. Removing is free at any time before a load is taken, which is the point:
    what scrolls past never reaches a worker.

    Not thread-safe: the pool that owns it holds its lock around every call.
    """

    def __init__(self) -> None:
        self._loads: dict[LoadKey, Load] = {}
        self._later: list[tuple[float, tuple[int, int], _Tie, LoadKey]] = []
        self._ready: list[tuple[tuple[int, int], _Tie, LoadKey, float]] = []

    def __len__(self) -> int:
        return len(self._loads)

    def __iter__(self) -> Iterator[Load]:
        return iter(self._loads.values())

    def put(self, load: Load) -> None:
        """Queue ``load``; its key must not be queued already."""
        self._loads[load.key] = load
        heapq.heappush(self._later, (load.due_ms, load.rank, load.tie, load.key))

    def discard(self, load: Load) -> bool:
        """Take ``load`` out; False when it was not queued."""
        if self._loads.get(load.key) is not load:
            return False
        # its heap entries are recognised as stale when they come up
        del self._loads[load.key]
        return True

    def reorder(self, now_ms: float) -> None:
        """Ranks have changed: order everything anew. What is due by now need not be ordered by that, too."""
        loads = self._loads.values()
        self._ready = [
            (load.rank, load.tie, load.key, load.due_ms) for load in loads if load.due_ms <= now_ms
        ]
        self._later = [(load.due_ms, load.rank, load.tie, load.key) for load in loads if load.due_ms > now_ms]
        heapq.heapify(self._ready)
        heapq.heapify(self._later)

    def pop(self, now_ms: float) -> Load | None:
        """The load of lowest rank that is due, or None."""
        self._ripen(now_ms)
        while self._ready:
            rank, _, key, due_ms = heapq.heappop(self._ready)
            load = self._loads.get(key)
            if load is not None and load.rank == rank and load.due_ms == due_ms:
                del self._loads[key]
                return load
        return None

    def _ripen(self, now_ms: float) -> None:
        while self._later and self._later[0][0] <= now_ms:
            due_ms, rank, tie, key = heapq.heappop(self._later)
            heapq.heappush(self._ready, (rank, tie, key, due_ms))

    def has_due(self, now_ms: float) -> bool:
        due_ms = self.next_due_ms()
        return due_ms is not None and due_ms <= now_ms

    def next_due_ms(self) -> float | None:
        """When the next load is (or was) due; None when nothing is queued."""
        while self._ready:
            rank, _, key, due_ms = self._ready[0]
            load = self._loads.get(key)
            # one that was taken out and came back with a later time has an entry of its own for that
            if load is not None and load.rank == rank and load.due_ms == due_ms:
                return due_ms
            heapq.heappop(self._ready)
        while self._later:
            due_ms, rank, _, key = self._later[0]
            load = self._loads.get(key)
            if load is not None and load.rank == rank and load.due_ms == due_ms:
                return due_ms
            heapq.heappop(self._later)
        return None

    def delayed(self, now_ms: float) -> int:
        """How many are not due yet."""
        return sum(load.due_ms > now_ms for load in self._loads.values())
