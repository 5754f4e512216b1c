"""Spans and counters of one run, as Chrome trace JSON (chrome://tracing, Perfetto)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from octree.pyramid.foreign import json_text
from octree.render.output.files import atomic_file
from octree.render.report.values import plain_json

_NOTHING: AbstractContextManager[None] = nullcontext()


class NullTrace:
    """A trace that keeps nothing: what a run without ``--trace`` uses."""

    __slots__ = ()
    enabled = False

    def span(self, name: str, **args: Any) -> AbstractContextManager[None]:
        return _NOTHING

    def counter(self, name: str, value: float | None = None, **series: float) -> None:
        return

    def instant(self, name: str, **args: Any) -> None:
        return

    def complete(self, name: str, start_s: float, duration_s: float, **args: Any) -> None:
        return

    def write(self, path: str | os.PathLike[str]) -> None:
        return


NULL_TRACE = NullTrace()


class Trace(NullTrace):
    """Collects events from any thread: appending to a list is atomic, nothing else is shared.

    Times are seconds of ``time_s`` (monotonic), from when the trace was made; threads are named by their
    names. ``write`` may be called while others still add."""

    __slots__ = ("_events", "_names", "_start_s", "_time_s")
    enabled = True

    def __init__(self, time_s: Callable[[], float] = time.perf_counter) -> None:
        self._time_s = time_s
        self._start_s = time_s()
        self._events: list[tuple[str, str, int, float, float, dict[str, Any]]] = []
        self._names: dict[int, str] = {}

    def span(self, name: str, **args: Any) -> AbstractContextManager[None]:
        """Time a block: ``with trace.span("plan", level=3): …``"""
        return _Span(self, name, args)

    def counter(self, name: str, value: float | None = None, **series: float) -> None:
        """One sample of a counter; several named ``series`` are stacked in one track."""
        self._add("C", name, self._time_s(), 0.0, series if value is None else {"value": value} | series)

    def instant(self, name: str, **args: Any) -> None:
        """Something that took no time: a cancel, a failure."""
        self._add("i", name, self._time_s(), 0.0, args)

    def complete(self, name: str, start_s: float, duration_s: float, **args: Any) -> None:
        """A span that was measured elsewhere, on the same clock, in this thread."""
        self._add("X", name, start_s, duration_s, args)

    def _add(self, kind: str, name: str, start_s: float, duration_s: float, args: dict[str, Any]) -> None:
        thread = threading.get_ident()
        if thread not in self._names:
            self._names[thread] = threading.current_thread().name
        self._events.append((kind, name, thread, start_s, duration_s, args))

    def to_json(self) -> dict[str, Any]:
        """The trace document: ``traceEvents`` of kinds X, C, i and M; ``ts`` and ``dur`` in microseconds."""
        pid = os.getpid()
        events: list[dict[str, Any]] = [
            {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": "octree"}}
        ]
        # threads get small numbers in order of appearance, the first being the one that draws
        numbers = {thread: number for number, thread in enumerate(dict(self._names), start=1)}
        for thread, number in numbers.items():
            shown = {"pid": pid, "tid": number}
            name = self._names[thread]
            events.append({"ph": "M", "name": "thread_name", **shown, "args": {"name": name}})
            events.append({"ph": "M", "name": "thread_sort_index", **shown, "args": {"sort_index": number}})
        for kind, name, thread, start_s, duration_s, args in list(self._events):
            event: dict[str, Any] = {"ph": kind, "name": name, "pid": pid, "tid": numbers.get(thread, 0)}
            event["ts"] = round((start_s - self._start_s) * 1e6, 3)
            if kind == "X":
                event["dur"] = round(duration_s * 1e6, 3)
            if kind == "i":
                event["s"] = "t"
            event["args"] = plain_json(args)
            events.append(event)
        return {"traceEvents": events, "displayTimeUnit": "ms"}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the trace, atomically. Raises ``DestinationError`` or ``WriteError``."""
        with atomic_file(Path(path)) as partial:
            partial.write_text(json_text(self.to_json(), ascii_only=True))


class _Span:
    """One timed block; used by one thread."""

    __slots__ = ("_args", "_name", "_start_s", "_trace")

    def __init__(self, trace: Trace, name: str, args: dict[str, Any]) -> None:
        self._trace, self._name, self._args = trace, name, args

    def __enter__(self) -> None:
        self._start_s = self._trace._time_s()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        start_s = self._start_s
        self._trace._add("X", self._name, start_s, self._trace._time_s() - start_s, self._args)
