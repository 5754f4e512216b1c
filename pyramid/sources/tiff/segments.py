"""Decoded tiles and strips that neighbouring reads share, within a budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray


class SegmentCache:
    """Least recently used segments. Owned by one reader; ``get`` is called from any thread.

    One segment is always kept, even above ``budget_bytes``: an image that is one huge strip would otherwise be
    decoded again for every block of it. Two threads that want the same segment decode it once.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The segment ``key``, from the cache or by ``make()``, whose errors pass through."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            try:
                segment = make()
                self._keep(key, segment)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return segment

    def _keep(self, key: Hashable, segment: NDArray[Any]) -> None:
        with self._lock:
            self._kept[key] = segment
            self._bytes += segment.nbytes
            while self._bytes > self.budget_bytes and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._bytes -= old.nbytes

    def peek(self, key: Hashable) -> NDArray[Any] | None:
        """The segment if it is kept, without waiting for one that is being made."""
        with self._lock:
            return self._kept.get(key)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0
