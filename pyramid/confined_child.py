"""The child of ``confined.py``: runs one function after the other within a limit of memory.

    python -P -m octree.pyramid.confined_child FD

A question is a line of JSON on stdin, [function, arguments, bytes]; the answer is one on stdout. Pixels go into file FD.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import sys
import threading
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.confined import resolve
from octree.pyramid.errors import OctreeError


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not come between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    share = _Share(int(sys.argv[1]))
    questions: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    while True:
        function, arguments, room = json.loads(questions.get())
        answer = json.dumps(_answer(share, function, arguments, room)).encode() + b"\n"
        while answer:
            answer = answer[os.write(answers, answer) :]


def _listen(questions: SimpleQueue[bytes]) -> None:
    """Questions come while nothing is under way; the end of them is the end, even in the middle of a decode: nobody
    is there any more to take it."""
    for line in sys.stdin.buffer:
        questions.put(line)
    os._exit(0)


def _answer(share: _Share, function: str, arguments: list[Any], room_bytes: int) -> tuple[str, Any, Any]:
    try:
        wanted = resolve(function)  # and what it imports, which is not what the limit is for
        _limit(room_bytes)
        facts, pixels = wanted(share.make, *arguments)
        return "done", facts, share.place_of(pixels)
    except OctreeError as error:
        return "raised", [type(error).__name__, error.message, error.hint, error.details], None
    except MemoryError:
        return "memory", "it needs more memory than it was given", None
    except Exception as error:  # whatever a decoder raises
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return "memory", "it needs more memory than it was given", None
        return "error", f"{type(error).__name__}: {error}"[:2000], None


def _limit(room_bytes: int) -> None:
    """Let this process take so much more address space than it has now, where the system knows such limits."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as facts:
            now = int(facts.read().split()[0]) * mmap.PAGESIZE
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = now + room_bytes
        resource.setrlimit(
            resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
    except (ImportError, OSError, ValueError):
        pass


class _Share:
    """The memory that the parent sees."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._made: NDArray[Any] | None = None

    def make(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array there; one at most."""
        count = int(np.prod(shape, dtype=object))
        size = max(1, count * np.dtype(dtype).itemsize)
        os.ftruncate(self._fd, size)
        self._made = np.frombuffer(mmap.mmap(self._fd, size), dtype, count).reshape(shape)
        return self._made

    def place_of(self, pixels: NDArray[Any] | None) -> tuple[list[int], str] | None:
        """How the parent finds ``pixels``, which are copied there when they are not there already."""
        if pixels is None:
            return None
        if pixels is not self._made:
            self.make(pixels.shape, pixels.dtype.newbyteorder("="))[...] = pixels
        return list(pixels.shape), pixels.dtype.newbyteorder("=").str


if __name__ == "__main__":
    main()
