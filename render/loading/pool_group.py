"""All worker pools of one loader, in real time."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from typing import Any

from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.clock import Clock
from octree.render.loading.load import Arrival, Load
from octree.render.loading.network import Network
from octree.render.loading.pool import LoaderPool
from octree.render.loading.reading import Reader, SharedLink


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
            pool.tend()
        taken, self._first = self._first, []
        while True:
            try:
                arrival = self._arrivals.get_nowait()
            except queue.Empty:
                return taken
            if arrival is not None:
                taken.append(arrival)

    def wait_until(self, end_ms: float) -> bool:
        """Block until something has arrived; False: nothing has by ``end_ms``."""
        while not self._first:
            times = [t for t in (pool.tend() for pool in self._pools.values()) if t is not None]
            now_ms = self._clock.now_ms()
            until_ms = min([end_ms, *times])
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
        deadline_s = time.monotonic() + timeout_s
        stuck = sum(pool.join(deadline_s) for pool in self._pools.values())
        # after the workers: they must not lose what they read with under their hands
        for reader in self._readers.values():
            reader.close()
        return stuck
