"""One step to another plane: what is asked for, frozen, and what became of it. Pure.

```
 DELAYED --> LOADING --> PARTIAL --> COMPLETE | FAILED
    any of the first three, when the view asks for something else: SUPERSEDED
```

A state may be left out: what is in memory is complete at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from octree.pyramid.foreign import printable


class SliceState(Enum):
    """Where a request is.

    DELAYED     its loads wait until nobody has stepped on for a moment.
    LOADING     on its way; of the plane something may be shown, with holes.
    PARTIAL     no hole is left; some of it is coarser than it will be.
    COMPLETE    all that the view wants of the plane is drawn, or the plane lies outside of every image.
    FAILED      the same, but for tiles that could not be read.
    SUPERSEDED  the view went on to another plane before that.
    """

    DELAYED = "delayed"
    LOADING = "loading"
    PARTIAL = "partial"
    COMPLETE = "complete"
    FAILED = "failed"
    SUPERSEDED = "superseded"


OVER = frozenset({SliceState.COMPLETE, SliceState.FAILED, SliceState.SUPERSEDED})
"""What is not left any more."""
WHOLE = 1e-9
"""Coverage is a sum of floating-point areas: a fraction below this is none."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a view shows of its plane: the fraction that is still ``missing``; whether it is ``settled``, that is, nothing
    that arrives can make it better; how many of its tiles were ``lost``, and the first ``error``."""

    missing: float
    settled: bool
    lost: int = 0
    error: str = ""


@dataclass(slots=True, eq=False)
class SliceRecord:
    """What became of a request so far; times by the clock in force, None: not yet, or never. Owned by ``Slices``.

    ``starts_ms``   when its loads may begin.
    ``first_ms``    something of the plane was shown; ``full_ms``: no hole was left; ``complete_ms``: all of it was drawn.
    ``over_ms``     it came to its end, whichever.
    ``tiles_read``  tiles of the plane that were read for it.
    """

    state: SliceState
    starts_ms: float
    first_ms: float | None = None
    full_ms: float | None = None
    complete_ms: float | None = None
    over_ms: float | None = None
    tiles_read: int = 0
    lost: int = 0
    error: str = ""
    wait: Callable[[float], None] = field(default=lambda timeout_s: None, repr=False)

    def see(self, now_ms: float, sight: Sight) -> bool:
        """What its view shows now; True when that is another state."""
        if self.state in OVER:
            return False
        if self.first_ms is None and sight.missing < 1 - WHOLE:
            self.first_ms = now_ms
        full = sight.missing <= WHOLE
        if self.full_ms is None and full:
            self.full_ms = now_ms
        before = self.state
        if sight.settled and full:  # of a frame that is drawn in parts the rest is missing yet
            self.lost, self.error = sight.lost, sight.error
            self._end(SliceState.FAILED if sight.lost else SliceState.COMPLETE, now_ms)
        elif full:
            self.state = SliceState.PARTIAL
        elif before is SliceState.DELAYED and now_ms >= self.starts_ms:
            self.state = SliceState.LOADING
        return self.state is not before

    def supersede(self, now_ms: float) -> bool:
        """Its view wants something else; False when it was over already."""
        if self.state in OVER:
            return False
        self._end(SliceState.SUPERSEDED, now_ms)
        return True

    def _end(self, state: SliceState, now_ms: float) -> None:
        self.state, self.over_ms = state, now_ms
        if state is SliceState.COMPLETE:
            self.complete_ms = now_ms


@dataclass(frozen=True, slots=True, eq=False)
class SliceRequest:
    """One step of one view.

    ``generation``    counts the requests of a pipeline, from 1.
    ``index``         level-0 positions on the axes that are not displayed.
    ``displayed``     axes of rows and columns, as ``"yx"``; ``projection`` as ``"z=max"``, or None.
    ``view``          whose it is, in words.
    ``requested_ms``  by the clock in force; ``deadline_ms``: when another plane will be wanted, if that is known.
    """

    generation: int
    index: Mapping[str, int]
    displayed: str
    projection: str | None
    view: str
    requested_ms: float
    deadline_ms: float | None
    record: SliceRecord = field(repr=False)

    @property
    def state(self) -> SliceState:
        return self.record.state

    @property
    def is_over(self) -> bool:
        """Complete, failed or superseded: it changes no more."""
        return self.record.state in OVER

    @property
    def error(self) -> str:
        """Why it failed: the first of its tiles that could not be read, or not before it was left for another; "" when all
        could."""
        return self.record.error

    def wait(self, timeout_s: float = 60.0) -> bool:
        """Take turns of its view until it is over, or the time is up; True when it is complete. For programs without an
        event loop: from inside of one it would keep others waiting."""
        if not self.is_over:
            self.record.wait(timeout_s)
        return self.state is SliceState.COMPLETE

    def what(self) -> str:
        """The plane, in a few words: ``t=3,z=10 yx``."""
        place = ",".join(f"{axis}={at}" for axis, at in self.index.items())
        return " ".join(filter(None, [place, self.displayed, self.projection]))


def slice_line(request: SliceRequest) -> str:
    """What became of one request, for people: latencies since it was asked for."""
    record = request.record
    now_ms = request.requested_ms if record.over_ms is None else record.over_ms

    def after(name: str, time_ms: float | None) -> str:
        return f"{name}={'-' if time_ms is None else f'{time_ms - request.requested_ms:.3f}ms'}"

    facts = (
        f"{now_ms:12.3f} ms  {record.state.value:10}  slice {request.generation} {request.view}: {request.what()} ",
        after("first", record.first_ms),
        after("full", record.full_ms),
        after("complete", record.complete_ms),
        f"reads={record.tiles_read}",
        f"lost={record.lost} {record.error}" if record.lost else "",
    )
    return printable(" ".join(facts).rstrip())
