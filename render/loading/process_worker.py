"""The child of ``processes.py``: opens sources from their recipes, reads tiles into shared memory.

    python -m octree.render.loading.process_worker FD

Requests come on stdin and answers go to stdout, pickled by and for the parent only; the memory is the file FD.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
from typing import Any, BinaryIO

import numpy as np

from octree.pyramid.errors import LimitError, OutsideError, WriteError
from octree.render.loading.load import error_text
from octree.render.loading.values import TileSource


def main() -> None:
    fd = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it closes our input
    with answers:
        serve(sys.stdin.buffer, answers, fd)


def serve(requests: BinaryIO, answers: BinaryIO, fd: int) -> None:
    """Answer until the requests end."""
    sources: dict[str, tuple[int, TileSource]] = {}
    memory: mmap.mmap | None = None
    while True:
        try:
            token, version, recipe, tile, size = pickle.load(requests)
        except EOFError:
            return
        if memory is None or len(memory) != size:
            memory = mmap.mmap(fd, size)
        answer: tuple[str, Any]
        try:
            if token not in sources or sources[token][0] != version:
                open_source, *arguments = recipe
                sources[token] = (version, open_source(*arguments))
            data = np.ascontiguousarray(sources[token][1].read_tile(tile))
            if data.nbytes <= size:
                memory[: data.nbytes] = data.data.cast("B")
            answer = ("data", (data.shape, data.dtype.str))
        except (OutsideError, LimitError, WriteError) as error:
            answer = ("refused", (type(error).__name__, error.message, error.hint, error.details))
        except Exception as error:
            answer = ("error", error_text(error))
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
