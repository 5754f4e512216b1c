"""Reading tiles in other processes: for sources whose reading holds Python's lock.

Each worker thread of the pool has one child process of its own, ``process_worker.py``, which opens the source anew
from its recipe and puts each tile into memory that both share. Nothing but small pickled messages goes through
pipes. A child that hangs is killed when its read is given up; one that dies costs one try.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from octree.pyramid import errors
from octree.pyramid.errors import UsageError
from octree.pyramid.model import TileKey
from octree.render.loading.load import (
    BadTile,
    CancelToken,
    RegisteredSource,
    WorkerFailed,
    current_cancel_token,
)
from octree.render.loading.reading import DirectReader
from octree.render.loading.values import Batch, BegunTile, TileSource

CLOSE_TIMEOUT_S = 0.3


class ProcessReader:
    """One child process per calling thread, started when it is first needed. Thread-safe.

    Sources without a recipe (arrays in memory) are read in the calling thread.
    """

    def __init__(self) -> None:
        if os.name != "posix":
            raise UsageError(
                "use_processes is true, and this system cannot share memory with worker processes that way",
                hint="set use_processes to false: worker threads do the same",
            )
        self._lock = threading.Lock()
        self._children: dict[int, _Child] = {}
        self._closed = False

    def read(self, registered: RegisteredSource, tile: TileKey) -> NDArray[Any]:
        source = registered.source
        recipe = source.worker_recipe()
        if recipe is None:
            return source.read_tile(tile)
        return self._by_child(source, recipe, tile, [tile])[0]

    def read_batch(self, registered: RegisteredSource, batch: Batch) -> Sequence[NDArray[Any]]:
        source = registered.source
        recipe = source.worker_recipe()
        if recipe is None:
            return DirectReader().read_batch(registered, batch)
        return self._by_child(source, recipe, batch, batch.members())

    def begin(self, registered: RegisteredSource, tile: TileKey) -> BegunTile | None:
        return None  # a child reads one tile after the other

    def _by_child(
        self, source: TileSource, recipe: tuple[Any, ...], what: TileKey | Batch, tiles: Sequence[TileKey]
    ) -> list[NDArray[Any]]:
        """``tiles``: all that there are in ``what``."""
        child = self._own_child()
        token = current_cancel_token()
        try:
            data = child.read(source, recipe, what, tiles, token)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            self._discard(child)
            raise WorkerFailed(f"the worker process ended ({child.describe_end()})") from error
        finally:
            # a cancel that comes later must not hit the child's next tile
            if token is not None and token.forget_callbacks():
                self._discard(child)
        return data

    def _own_child(self) -> _Child:
        thread = threading.get_ident()
        with self._lock:
            child = self._children.get(thread)
            if self._closed:
                raise WorkerFailed("the loader is closed")
            if child is None:
                child = self._children[thread] = _Child()
        return child

    def _discard(self, child: _Child) -> None:
        with self._lock:
            for thread, own in list(self._children.items()):
                if own is child:
                    del self._children[thread]
        child.close(time.monotonic())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            children, self._children = list(self._children.values()), {}
        deadline_s = time.monotonic() + CLOSE_TIMEOUT_S
        for child in children:
            child.say_goodbye()
        for child in children:
            child.close(deadline_s)


class _Child:
    """One process and the memory shared with it. Used by one thread; ``kill`` may come from any."""

    def __init__(self) -> None:
        self._fd = _shared_file()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "octree.render.loading.process_worker", str(self._fd)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(self._fd,),
            )
        except BaseException:
            os.close(self._fd)
            raise
        self._to = cast("BinaryIO", self._process.stdin)
        self._back = cast("BinaryIO", self._process.stdout)
        self._closing, self._closed = threading.Lock(), False
        self._size = 0
        self._memory: mmap.mmap | None = None

    def read(
        self,
        source: TileSource,
        recipe: tuple[Any, ...],
        what: TileKey | Batch,
        tiles: Sequence[TileKey],
        token: CancelToken | None,
    ) -> list[NDArray[Any]]:
        """``tiles``: all that there are in ``what``, which the child puts into the memory one after the other."""
        shapes, dtype = [tuple(source.tile_shape(tile)) for tile in tiles], source.texture_dtype
        counts = [math.prod(shape) for shape in shapes]
        self._grow(sum(counts) * dtype.itemsize)
        if token is not None:
            token.on_cancel(self.kill)
        pickle.dump((source.token, source.version, recipe, what, self._size), self._to)
        self._to.flush()
        verdict, facts = pickle.load(self._back)
        if verdict == "refused":
            name, message, hint, details = facts
            refused = getattr(errors, name)(message, hint=hint, **details)
            if hasattr(source, "refused"):
                source.refused = refused  # as its own ``read_tile`` would have
            raise refused
        if verdict == "error":
            raise WorkerFailed(facts)
        if len(facts) != len(tiles):
            raise BadTile(f"the source returned {len(facts)} tiles, not {len(tiles)}")
        for (got_shape, got_dtype), shape in zip(facts, shapes, strict=True):
            if (got_shape, np.dtype(got_dtype)) != (shape, dtype):
                raise BadTile(f"the source returned shape {got_shape} of {got_dtype}, not {shape} of {dtype}")
        assert self._memory is not None
        values = np.frombuffer(self._memory, dtype, sum(counts))
        stops = list(itertools.accumulate(counts))
        return [
            values[stop - count : stop].reshape(shape).copy()
            for stop, count, shape in zip(stops, counts, shapes, strict=True)
        ]

    def _grow(self, count: int) -> None:
        if count <= self._size:
            return
        if self._memory is not None:
            self._memory.close()
        self._size = -(-count // mmap.PAGESIZE) * mmap.PAGESIZE
        os.ftruncate(self._fd, self._size)
        self._memory = mmap.mmap(self._fd, self._size)

    def describe_end(self) -> str:
        code = self._process.poll()
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def kill(self) -> None:
        self._process.kill()

    def say_goodbye(self) -> None:
        """The end of its input makes the child go."""
        with contextlib.suppress(OSError):
            self._to.close()

    def close(self, deadline_s: float) -> None:
        """Wait for the child until ``time.monotonic()`` is ``deadline_s``, then kill it; free the memory."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self.say_goodbye()
        try:
            self._process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._back.close()
        if self._memory is not None:
            with contextlib.suppress(BufferError):  # a worker that was left behind is copying: it frees it
                self._memory.close()
        os.close(self._fd)


def _shared_file() -> int:
    """A file without a name, in memory where the system has that: it vanishes with its last user."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("octree-tiles")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
