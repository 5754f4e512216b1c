"""Time as a value: the real clock, and a virtual one that only moves when told."""

from __future__ import annotations

import math
import time
from typing import Protocol


class Clock(Protocol):
    """Milliseconds since some start. ``is_virtual``: time passes only by ``VirtualClock.advance_to``."""

    @property
    def is_virtual(self) -> bool: ...

    def now_ms(self) -> float: ...


def later_ms(now_ms: float, by_ms: float) -> float:
    """``now_ms`` plus ``by_ms``, and later than ``now_ms`` whenever ``by_ms`` is above 0, however little that is: who
    waits again and again for what is left of a time must come to its end."""
    return max(now_ms + by_ms, math.nextafter(now_ms, math.inf)) if by_ms > 0 else now_ms


class RealClock:
    """The monotonic clock of the machine, from 0 at construction. Thread-safe."""

    is_virtual = False

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    def now_ms(self) -> float:
        return (time.monotonic() - self._start_s) * 1e3


class VirtualClock:
    """A clock that stands still until someone advances it. One owner: the thread of the frame loop."""

    is_virtual = True

    def __init__(self, start_ms: float = 0.0) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> float:
        return self._now_ms

    def advance_to(self, time_ms: float) -> None:
        """Move forward to ``time_ms``; a time in the past changes nothing."""
        self._now_ms = max(self._now_ms, time_ms)

    def advance_by(self, by_ms: float) -> None:
        self.advance_to(self._now_ms + by_ms)
