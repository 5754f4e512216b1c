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
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import LimitError, OutsideError, WriteError
from octree.pyramid.model import TileKey
from octree.render.loading.load import error_text
from octree.render.loading.values import Batch, TileSource


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
            token, version, recipe, what, size = pickle.load(requests)
        except EOFError:
            return
        if memory is None or len(memory) != size:
            memory = mmap.mmap(fd, size)
        answer: tuple[str, Any]
        try:
            if token not in sources or sources[token][0] != version:
                open_source, *arguments = recipe
                sources[token] = (version, open_source(*arguments))
            answer = ("data", _put(_read(sources[token][1], what), memory, size))
        except (OutsideError, LimitError, WriteError) as error:
            answer = ("refused", (type(error).__name__, error.message, error.hint, error.details))
        except Exception as error:
            answer = ("error", error_text(error))
        pickle.dump(answer, answers)
        answers.flush()


def _read(source: TileSource, what: TileKey | Batch) -> Sequence[NDArray[Any]]:
    if isinstance(what, Batch):
        tiles: Sequence[NDArray[Any]] = source.read_batch(what)  # type: ignore[attr-defined] # who makes batches reads them
        return tiles
    return (source.read_tile(what),)


def _put(tiles: Sequence[NDArray[Any]], memory: mmap.mmap, size: int) -> list[tuple[tuple[int, ...], str]]:
    """One after the other, as far as there is room; the shape and dtype of each."""
    at = 0
    for data in map(np.ascontiguousarray, tiles):
        if at + data.nbytes <= size:
            memory[at : at + data.nbytes] = data.data.cast("B")
        at += data.nbytes
    return [(data.shape, data.dtype.str) for data in tiles]


if __name__ == "__main__":
    main()
