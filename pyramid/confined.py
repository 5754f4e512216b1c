"""Code that is not trusted with memory or time, in a process of its own: decoders of formats that say too little before
they decode.

``Confined.call("module:function", …)`` runs it in a child (``confined_child.py``) whose address space may grow by so many
bytes and no more, where the system knows such limits, and kills it when it takes too long. Facts come back as JSON, pixels
in memory that both processes share: no second copy. A child that dies is an error like any other.

A child starts in about a third of a second; formats whose header says all are better decoded where one is.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid import errors

_SLACK_BYTES = 48 << 20  # address space that is reserved and never touched: libraries, guard pages
_THREAD_BYTES = 9 << 20  # the stack of a thread, of which decoders start one for each core
_QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}

Make = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""Makes the array for the pixels, where they need no copy: shape, dtype → array."""


class ConfinedFailure(Exception):
    """The call came to nothing. ``reason``: "memory" (the limit), "deadline", "died", or "error", with ``text``."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason, self.text = reason, text


class Confined:
    """One child, started by the first call. For one thread at a time, by its own lock; ``close`` may come from any.

    Pixels come once: they lie in the child's shared memory, and it is done with them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def call(
        self, function: str, *arguments: Any, room_bytes: int, deadline_s: float = math.inf
    ) -> tuple[Any, NDArray[Any] | None]:
        """What ``function(make, *arguments)`` returned: (facts, pixels or None). JSON-able arguments and facts.

        ``room_bytes``: how much more memory than before the call it may take, pixels included. Raises OctreeError as the
        function did, or ConfinedFailure.
        """
        if os.name != "posix":  # no limits there, and no memory to share this way
            return _here(function, arguments)
        with self._lock:
            if self._child is None:
                self._child = _Child()
            try:
                return self._child.call(function, arguments, room_bytes, deadline_s)
            except BaseException:
                self._stop()
                raise

    def close(self) -> None:
        """End the child. Pixels that it gave stay."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def resolve(function: str) -> Callable[..., tuple[Any, NDArray[Any] | None]]:
    """The function ``module:name``."""
    module, _, name = function.partition(":")
    found: Callable[..., tuple[Any, NDArray[Any] | None]] = getattr(import_module(module), name)
    return found


def _here(function: str, arguments: tuple[Any, ...]) -> tuple[Any, NDArray[Any] | None]:
    try:
        return resolve(function)(np.empty, *arguments)
    except (errors.OctreeError, KeyboardInterrupt):
        raise
    except MemoryError as error:
        raise ConfinedFailure("memory", "out of memory") from error
    except Exception as error:
        raise ConfinedFailure("error", f"{type(error).__name__}: {error}") from error


class _Child:
    def __init__(self) -> None:
        self._fd = _shared_file()
        try:
            self._process = subprocess.Popen(
                # -P: a folder that one happens to stand in is no place to import from
                [sys.executable, "-P", "-m", "octree.pyramid.confined_child", str(self._fd)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(self._fd,),
                env={**os.environ, **_QUIET},
            )
        except BaseException:
            os.close(self._fd)
            raise

    def call(
        self, function: str, arguments: tuple[Any, ...], room_bytes: int, deadline_s: float
    ) -> tuple[Any, NDArray[Any] | None]:
        assert self._process.stdin is not None
        until_s = time.monotonic() + deadline_s
        room = room_bytes + _SLACK_BYTES + _THREAD_BYTES * min(64, os.cpu_count() or 1)
        question = json.dumps([function, arguments, room]).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(question)
            self._process.stdin.flush()
        kind, answer, pixels = json.loads(self._line(until_s, deadline_s))
        if kind == "raised":
            name, message, hint, details = answer
            raise getattr(errors, name)(message, hint=hint, **details)
        if kind != "done":
            raise ConfinedFailure(kind, answer)
        return answer, None if pixels is None else self._pixels(*pixels)

    def _line(self, until_s: float, deadline_s: float) -> bytes:
        assert self._process.stdout is not None
        parts: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not parts or not parts[-1].endswith(b"\n"):
                left_s = max(0.0, until_s - time.monotonic())
                if not selector.select(left_s if left_s < math.inf else None):
                    raise ConfinedFailure("deadline", f"it takes longer than {deadline_s:.0f} s")
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    raise self._death()
                parts.append(part)
        return b"".join(parts)

    def _death(self) -> ConfinedFailure:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ConfinedFailure("died", f"the decoder's process ended with {how}")

    def _pixels(self, shape: list[int], dtype: str) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=object))
        size = count * np.dtype(dtype).itemsize
        if os.fstat(self._fd).st_size < size:
            raise ConfinedFailure("died", "the decoder's process gave less than it promised")
        if not count:
            return np.empty(shape, dtype)
        # private pages of a file that nobody else has open any more: as good as memory of one's own
        memory = mmap.mmap(self._fd, size, access=mmap.ACCESS_READ)
        return np.frombuffer(memory, dtype, count).reshape(shape)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        os.close(self._fd)


def _shared_file() -> int:
    """A file without a name, in memory where the system has that: it vanishes with its last user."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("octree-decoded")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
