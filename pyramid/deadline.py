"""A limit of time on opening a file: a damaged one may keep its reader busy for ever.

Readers written in Python (tifffile, above all) are interrupted in the thread that they run in, whatever thread that is.
Nothing can interrupt a C function: formats whose C libraries decode while they open run in a process of their own, which
is killed (``confined.py``), and the commands end their own process when even that does not help (``end_process``), or have
it ended from outside (``guard``), when the C function lets no thread of it run.
"""

from __future__ import annotations

import contextvars
import ctypes
import math
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from octree.pyramid.errors import SourceError, UsageError
from octree.pyramid.units import parse_time_ms

OPEN_TIMEOUT_MS = 60_000.0
"""Longest that a source may take to open. Large slides take a second, a hundred thousand pages some tens of them."""
VARIABLE = "OCTREE_OPEN_TIMEOUT"
"""Another limit, in the environment: ``5min``; ``0`` for none."""
_AGAIN_S = 5.0  # a reader that catches everything is told again
_GRACE_MS = 10_000.0  # for what does not hear: then the process ends, where that is allowed

T = TypeVar("T")
_busy = threading.local()
Guard = Callable[[str, str, float], Callable[[], None]]
_end_process: Callable[[SourceError], None] | None = None
_guard: Guard | None = None


class _TooLate(BaseException):
    """Raised in the reader's thread. No ``Exception``, so that no reader swallows it with its own."""


def open_timeout_ms() -> float:
    """The limit in force; 0 for none. Raises UsageError for a variable that is no time."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return OPEN_TIMEOUT_MS
    try:
        return parse_time_ms(text)
    except UsageError as error:
        raise UsageError(
            f"{VARIABLE}: {error.message}", hint=f"for example {VARIABLE}=5min, or 0 for none"
        ) from error


def open_timeout_s() -> float:
    """The same in seconds; infinite for none."""
    return open_timeout_ms() / 1000 or math.inf


def may_end_process(end: Callable[[SourceError], None], guard: Guard | None = None) -> None:
    """Whoever owns the process (a command, not a library) lets it be ended by ``end``, which must not return, when a C
    function does not give up; and by ``guard``, of another process, when that lets no thread run: what to say, what to
    do about it, and after how many seconds → to be called when the opening has ended."""
    global _end_process, _guard
    _end_process, _guard = end, guard


def within_time(what: str, work: Callable[[], T]) -> T:
    """What ``work()`` returns, if it takes no longer than the limit, else SourceError. Of several, one inside the other, the
    outermost counts.

    A function and no context manager: what is raised in this thread from outside may arrive at any step, also between
    the end of a block and the beginning of what ends the watch.
    """
    limit_ms = open_timeout_ms()
    if getattr(_busy, "is_so", False) or limit_ms == 0:
        return work()
    watch = _Watch(threading.get_ident(), what, limit_ms)
    _busy.is_so = True
    try:
        try:
            watch.start()
            return work()
        finally:
            watch.end()
    except _TooLate:
        watch.end()  # it may have arrived in the other one; the next comes much later
        raise too_slow(what, limit_ms) from None
    finally:
        _busy.is_so = False


def too_slow(what: str, limit_ms: float) -> SourceError:
    return SourceError(
        f"{what} takes longer than {limit_ms / 1000:g} s to open",
        hint=f"the file is damaged, or its disk is slow; {VARIABLE}=10min allows more time, 0 any",
        path=what,
        limit_ms=limit_ms,
    )


class _Watch:
    """Waits in a thread of its own, and interrupts the reader's. After ``end`` nothing is raised any more."""

    def __init__(self, reader: int, what: str, limit_ms: float) -> None:
        self._reader, self._what, self._limit_ms = reader, what, limit_ms
        self._context = contextvars.copy_context()  # whether JSON is wanted is said there
        self._over = threading.Event()
        self._raised = False
        self._unguard: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._wait, name="octree-open-watch", daemon=True)

    def start(self) -> None:
        if _guard is not None:
            error = too_slow(self._what, self._limit_ms)
            within_s = (self._limit_ms + _GRACE_MS) / 1000 + _AGAIN_S
            self._unguard = _guard(error.message, error.hint or "", within_s)
        self._thread.start()

    def end(self) -> None:
        """By the reader's thread; twice is harmless."""
        self._over.set()
        unguard, self._unguard = self._unguard, None
        if unguard is not None:
            unguard()
        if self._thread.ident is not None:
            self._thread.join()
        if self._raised:
            _hear_out(self._reader)

    def _wait(self) -> None:
        if self._over.wait(self._limit_ms / 1000):
            return
        waited_ms = 0.0
        while not self._over.is_set():
            if waited_ms >= _GRACE_MS and _end_process is not None:
                self._context.run(_end_process, too_slow(self._what, self._limit_ms))
            self._raised = True
            _raise_in(self._reader)
            self._over.wait(_AGAIN_S)
            waited_ms += _AGAIN_S * 1000


def _raise_in(thread: int) -> None:
    """CPython raises it in that thread before its next step in Python, once, however often it was asked to."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_TooLate))


def _hear_out(thread: int) -> None:
    """By that thread: what was raised and has not arrived yet arrives here.

    Taking it back (raising NULL) would leave CPython looking for it at every call and jump, for good: a fifth slower,
    and for ever in one place under a profiler (3.11).
    """
    try:
        _raise_in(thread)
        while True:
            pass
    except _TooLate:
        pass
