"""A process beside the command that ends it when nothing in it can: C code that holds Python's lock stops every thread,
those that wait for a signal or for the end of an opening, too.

It is forked before anything is imported and only waits: for the end of the command, for a signal that nobody in it hears,
for an opening that does not end. What it ends it ends by SIGKILL, after a line that says why. Where processes cannot be
forked (Windows) there is none.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

UNREAD_S = 2.0  # so long a signal waits for the command's own watcher
LATE_S = 2.0  # more than the command allows itself
_MESSAGE_BYTES = 2000  # what a pipe takes as one piece, and some room
_BELLS = (signal.SIGINT, signal.SIGTERM)


class Watchdog:
    """The command's end of it. Any thread may tell it something: each message is one write."""

    def __init__(self, pipe: int, process: int) -> None:
        self._pipe, self._process, self._numbers = pipe, process, itertools.count(1)

    def close(self) -> None:
        """The command ends: so does the other process, first."""
        pipe, self._pipe = self._pipe, -1
        with suppress(OSError):
            os.close(pipe)
            os.waitpid(self._process, 0)

    def ending(self, within_s: float) -> None:
        """The command has heard a signal, and ends by itself ``within_s``."""
        self._tell(
            0,
            within_s + LATE_S,
            "ended: it did not end by itself",
            "octree build goes on with --resume",
            "interrupted",
        )

    def opening(self, what: str, hint: str, within_s: float) -> Callable[[], None]:
        """Something begins that ends ``within_s``, or else ``what`` is said; to be called when it has ended."""
        number = next(self._numbers)
        self._tell(number, within_s + LATE_S, what, hint, "source")
        return lambda: self._tell(number)

    def _tell(self, number: int, *more: object) -> None:
        words = [w[: _MESSAGE_BYTES // 12] if isinstance(w, str) else w for w in more]
        with suppress(OSError):  # somebody has ended it: the command goes on without
            os.write(self._pipe, json.dumps([number, *words]).encode() + b"\n")


def start(signals: int, grace_s: float) -> Watchdog | None:
    """Fork the process. ``signals``: where the system writes the numbers of signals, for the command's watcher to read;
    ``grace_s``: how long the command has to end after one. None where that cannot be."""
    if not hasattr(os, "fork"):
        return None
    ours, theirs = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(ours)
        os.close(theirs)
        return None
    if child:
        os.close(ours)
        os.set_blocking(theirs, False)  # a full pipe must not stop the command
        return Watchdog(theirs, child)
    try:
        os.close(theirs)
        for number in _BELLS:
            signal.signal(number, signal.SIG_IGN)
        _Waiting(os.getppid(), ours, signals, grace_s).run()
    finally:
        os._exit(0)


class _Waiting:
    """The other process."""

    def __init__(self, command: int, pipe: int, signals: int, grace_s: float) -> None:
        self._command, self._pipe, self._signals, self._grace_s = command, pipe, signals, grace_s
        self._due: dict[int, tuple[float, list[str]]] = {}
        self._rest = b""

    def run(self) -> None:
        unread_since_s: float | None = None
        while True:
            now_s = time.monotonic()
            late = [words for due_s, words in self._due.values() if due_s <= now_s]
            if late:
                self._end(*late[0])
                return
            until = [due_s - now_s for due_s, _ in self._due.values()]
            watched = [self._pipe]
            if unread_since_s is None:
                watched.append(self._signals)
            else:
                until.append(0.1)
            ready = select.select(watched, [], [], min(until, default=None))[0]
            if self._pipe in ready and not self._listen():
                return
            unread = select.select([self._signals], [], [], 0)[0]
            unread_since_s = (unread_since_s or time.monotonic()) if unread else None
            if unread_since_s is not None and time.monotonic() - unread_since_s > UNREAD_S:
                # nobody there reads any more
                if self._take_signals() & set(_BELLS):
                    hint = "C code held on to Python; octree build goes on with --resume"
                    due_s = unread_since_s + self._grace_s + LATE_S
                    self._due[0] = due_s, ["ended: the signal was not heard", hint, "interrupted"]
                unread_since_s = None

    def _take_signals(self) -> set[int]:
        try:
            return set(os.read(self._signals, 64))
        except BlockingIOError:  # somebody does read, after all
            return set()

    def _listen(self) -> bool:
        """Take what the command says; False when it has ended."""
        data = os.read(self._pipe, 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            number, *more = json.loads(line)
            if more:
                self._due[number] = time.monotonic() + more[0], more[1:]
            else:
                self._due.pop(number, None)
        return bool(data)

    def _end(self, what: str, hint: str, kind: str) -> None:
        if os.getppid() != self._command:  # it has ended, and its number may be somebody else's
            return
        os.kill(self._command, signal.SIGKILL)
        from octree.pyramid.foreign import printable

        with suppress(OSError):
            os.write(2, f"error: {printable(what)}\nhint:  {printable(hint)}\n".encode())
            if "--json" in sys.argv:
                os.write(
                    1, json.dumps({"error": {"kind": kind, "message": what, "hint": hint}}).encode() + b"\n"
                )
