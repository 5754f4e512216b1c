"""Which plane is shown when, while an axis is played. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from octree.pyramid.errors import UsageError
from octree.pyramid.options import shown

AtEnd = Literal["stop", "loop", "reverse"]
AT_END = ("stop", "loop", "reverse")
FASTEST_FPS = 1000.0
_ROUNDING = 1e-9
"""Steps: a time this close before a step has reached it."""


@dataclass(frozen=True, slots=True)
class Play:
    """Planes 0 to ``length`` - 1 of an axis, ``fps`` of them in each second from ``since_ms`` on. ``phase`` is where it was
    then: the plane, or on the way back (``at_end`` "reverse") the planes gone since plane 0."""

    axis: str
    fps: float
    length: int
    at_end: AtEnd
    since_ms: float
    phase: int

    def steps(self, now_ms: float) -> int:
        """Planes since the start."""
        return math.floor((now_ms - self.since_ms) * self.fps / 1000 + _ROUNDING)

    def plane(self, now_ms: float) -> int:
        """What is to be shown now. Planes whose time has passed are skipped: it is never late for long."""
        return self._plane(self.phase + self.steps(now_ms))

    def is_over(self, now_ms: float) -> bool:
        """It has reached its end, and stays there."""
        return self.at_end == "stop" and self.phase + self.steps(now_ms) >= self.length - 1

    def next_ms(self, now_ms: float) -> float:
        """When the next plane is due."""
        return self.since_ms + (self.steps(now_ms) + 1) * 1000 / self.fps

    def coming(self, now_ms: float, count: int) -> list[tuple[float, int]]:
        """(when it is due, the plane) of the next ones, ``count`` at most."""
        first = self.steps(now_ms) + 1
        last = self.length - 1 - self.phase if self.at_end == "stop" else first + count - 1
        steps = range(first, min(first + count - 1, last) + 1)
        return [(self.since_ms + step * 1000 / self.fps, self._plane(self.phase + step)) for step in steps]

    def moved_to(self, plane: int, now_ms: float) -> Play:
        """The same, going on from another plane in the same direction."""
        back = self._turns and (self.phase + self.steps(now_ms)) % self._round > self.length - 1
        phase = self._round - plane if back and plane else plane
        return replace(self, since_ms=now_ms, phase=phase)

    @property
    def _turns(self) -> bool:
        return self.at_end == "reverse" and self.length > 1

    @property
    def _round(self) -> int:
        """Steps there and back."""
        return max(1, 2 * (self.length - 1))

    def _plane(self, phase: int) -> int:
        if self.at_end == "stop":
            return min(phase, self.length - 1)
        if self.at_end == "loop":
            return phase % self.length
        phase %= self._round
        return phase if phase < self.length else self._round - phase


def play_from(axis: str, fps: Any, at_end: Any, length: int, plane: int, now_ms: float) -> Play:
    """Play an axis of ``length`` planes from ``plane`` on; one that is to stop at the end, and is there, begins anew.
    Raises UsageError for a rate or an end that there is not."""
    is_number = isinstance(fps, int | float) and not isinstance(fps, bool)
    if not (is_number and 0 < fps <= FASTEST_FPS):
        raise UsageError(
            f"fps must be planes in each second, a number above 0 and at most {FASTEST_FPS:g}, not {shown(fps)}",
            hint="for example fps=10",
        )
    if at_end not in AT_END:
        raise UsageError(
            f"at_end must say what comes after the last plane, not {shown(at_end)}",
            hint=f"one of {', '.join(AT_END)}",
        )
    begins_anew = at_end == "stop" and plane >= length - 1
    return Play(axis, float(fps), length, at_end, now_ms, 0 if begins_anew else plane)
