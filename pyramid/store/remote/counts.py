"""What requests to stores have cost. Light: a run without any asks here, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple


class Counts(NamedTuple):
    """Requests made, tries again among them (``retries``), bytes that came, and chunks that are not stored."""

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    fill_tiles: int = 0

    def since(self, before: Counts) -> Counts:
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))

    def plus(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(self, other, strict=True)))

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


NO_COUNTS = Counts()
_lock = threading.Lock()
_counters: list[Callable[[], Counts]] = []


def register(counter: Callable[[], Counts]) -> None:
    """For as long as the process lives."""
    with _lock:
        _counters.append(counter)


def all_counts() -> Counts:
    """Of every client of the process so far."""
    with _lock:
        each = [counter() for counter in _counters]
    return Counts(*map(sum, zip(*each, strict=True))) if each else Counts()
