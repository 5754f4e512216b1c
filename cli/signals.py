"""Ctrl-C and SIGTERM: one of them ends a command, whatever it is doing; the second one ends it at once.

Where a build asks between its tasks whether to stop, the first one is a wish, and what is under way is finished.
Everywhere else it is a KeyboardInterrupt in the main thread. Both can fail to arrive: a library waits in its own
code, or catches everything. So a thread that does nothing else hears of the signal from the system itself, and ends
the process after GRACE_S; that is safe at any moment, as files appear whole and builds are resumed. C code that holds
Python's lock stops that thread, too: ``watchdog.py`` stands behind it.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from octree.cli.watchdog import Watchdog, start

GRACE_S = 8.0  # for what is under way; containers are killed after 10
UNHEARD_S = 1.0  # how long a wish may go without being asked for
CODE = 130
ENDING = (signal.SIGINT, signal.SIGTERM)


class StopWish:
    """Called by a build between its tasks: is it to stop? Set by the signal, read by the building thread."""

    def __init__(self) -> None:
        self.asked = self.polled = self.heard = False

    def __call__(self) -> bool:
        self.polled = True
        self.heard = self.heard or self.asked
        return self.asked


class _Ending:
    """What is known of the end of this process. Owner: the main thread; the watcher reads, and interrupts."""

    def __init__(self) -> None:
        self.wish: StopWish | None = None
        self.watchdog: Watchdog | None = None
        self.came = self.interrupting = self.reported = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.interrupting:
            self.interrupting = False
            raise KeyboardInterrupt
        if self.came:
            self.at_once()
        self.came = True
        wish = self.wish
        if wish is None or not wish.polled:
            raise KeyboardInterrupt
        wish.asked = True
        # a signal may arrive in the middle of a buffered write: straight to the descriptor
        os.write(2, b"\nstopping: finishing what is under way; press Ctrl-C again to end at once\n")

    def watch(self, signals: int) -> None:
        """The watcher's thread: ``signals`` is where the system writes their numbers."""
        while not _came(signals):
            pass
        if self.watchdog is not None:
            self.watchdog.ending(GRACE_S)
        end_s = time.monotonic() + GRACE_S
        if self._again(signals, UNHEARD_S):
            time.sleep(0.2)  # the main thread ends it, if it can
            self.at_once()
        if self.wish is not None and not self.wish.heard and self.came:
            self.interrupting = True
            _thread.interrupt_main()
            self._again(signals, 0.2)  # its own echo
        if self._again(signals, end_s - time.monotonic()):
            time.sleep(0.2)
        self.at_once()

    def _again(self, signals: int, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if _came(signals, left):
                return True
        return False

    def at_once(self) -> None:
        os.write(2, b"\nended at once; octree build goes on with --resume\n")
        if self.reported:
            time.sleep(0.5)  # it is being said
        elif "--json" in sys.argv:
            text = (
                '{"error": {"kind": "interrupted", "message": "ended at once", "hint": "--resume goes on"}}\n'
            )
            os.write(1, text.encode())
        os._exit(CODE)


def _came(signals: int, seconds: float | None = None) -> bool:
    """Wait; has one of ours come? It is waited for and then taken, in two steps: what nobody takes, the watchdog sees."""
    if not select.select([signals], [], [], seconds)[0]:
        return False
    try:
        return bool(set(os.read(signals, 64)) & set(ENDING))
    except BlockingIOError:  # the watchdog was faster
        return False


_ending = _Ending()


@contextmanager
def watch() -> Iterator[None]:
    """Inside, both signals end the process as above. Signals that whoever started us wants ignored stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mine = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _ending.on_signal) for number in mine}
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _ending.watchdog = start(reading, GRACE_S)
    threading.Thread(target=_ending.watch, args=[reading], name="octree-signals", daemon=True).start()
    try:
        yield
    finally:
        # the watcher stays: the interpreter may yet wait for a thread that does not end
        if not _ending.came:
            if _ending.watchdog is not None:
                _ending.watchdog.close()
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def politely() -> Iterator[StopWish]:
    """Inside, the first signal is a wish, once it has been asked for."""
    wish = _ending.wish = StopWish()
    try:
        yield wish
    finally:
        _ending.wish = None


def watchdog() -> Watchdog | None:
    """The process beside this one, if there is one."""
    return _ending.watchdog


def reported() -> None:
    """The one document of a command is on its way to stdout: nothing more is said there."""
    _ending.reported = True
