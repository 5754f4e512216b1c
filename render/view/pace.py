"""How fast somebody steps through planes, where nobody says it: measured from the steps. Pure."""

from __future__ import annotations

FAST_HALF_MS, SLOW_HALF_MS = 50.0, 1000.0
"""Two means of the speed: one that follows a hand at once, one that a pause between two turns of a wheel does not stop."""
PAUSE = 3.0
"""After so many of its usual steps without one somebody stands."""
SHORTEST_PAUSE_MS = 250.0
LEAST_MS = 1.0
"""Between two steps: faster nobody sees them."""
STANDING_MS = 1_000.0
"""Where somebody stands, the next step is taken to be so far off."""


class Pace:
    """The steps of one view along its axes; its owner tells each of them. Positions of level 0."""

    def __init__(self) -> None:
        self._axis = ""
        self._at = self._by = 0
        self._stride = 1
        self._last_ms = 0.0
        self._fast = self._slow = 0.0  # positions per ms

    def step(self, now_ms: float, axis: str, before: int, at: int) -> None:
        """Somebody went from one position of an axis to another."""
        by, span_ms = at - before, max(LEAST_MS, now_ms - self._last_ms)
        if not by:
            return
        goes_on = axis == self._axis and before == self._at and self._by and not self._pauses(now_ms)
        if goes_on:
            speed = by / span_ms
            self._fast += (1 - 0.5 ** (span_ms / FAST_HALF_MS)) * (speed - self._fast)
            first = not self._slow
            self._slow += (1.0 if first else 1 - 0.5 ** (span_ms / SLOW_HALF_MS)) * (speed - self._slow)
        else:
            self._fast = self._slow = 0.0
        # one leap says nothing of the next; two alike do
        self._stride = abs(by) if goes_on and abs(by) == abs(self._by) else 1
        self._axis, self._at, self._by, self._last_ms = axis, at, by, now_ms

    @property
    def _speed(self) -> float:
        """The slow mean, unless the direction has just changed."""
        return self._slow if self._slow * self._by > 0 else self._fast if self._fast * self._by > 0 else 0.0

    def _pauses(self, now_ms: float) -> bool:
        usual_ms = self._stride / abs(self._speed) if self._speed else 0.0
        return now_ms - self._last_ms > max(SHORTEST_PAUSE_MS, PAUSE * usual_ms)

    def steps_ms(self, now_ms: float) -> float | None:
        """How long one plane is shown; None: somebody stands, or it is not known."""
        return None if not self._speed or self._pauses(now_ms) else self._stride / abs(self._speed)

    def coming(self, now_ms: float, count: int) -> tuple[str, list[tuple[float, int]]]:
        """(axis, [(when it is due, ms from now; position) of the next planes]): in the direction of the steps while there are any, else
        one each way of where somebody has come to stand; none before the first step."""
        if not self._by:
            return "", []
        forwards = self._stride if self._by > 0 else -self._stride
        if self._pauses(now_ms):
            return self._axis, [(STANDING_MS, self._at + forwards), (STANDING_MS, self._at - forwards)][
                :count
            ]
        step_ms = self.steps_ms(now_ms)
        if step_ms is None:
            return self._axis, []
        return self._axis, [(n * step_ms, self._at + n * forwards) for n in range(1, count + 1)]
