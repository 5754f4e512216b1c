"""Counting reads by thread, so that "no read on the main thread" is measured and not assumed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.model import TileKey
from octree.render.loading.values import Batch, BegunTile, TileSource


class ReadCounter:
    """Reads per thread. Each thread writes only its own entry, so no lock is needed."""

    def __init__(self) -> None:
        self._reads: dict[int, int] = {}

    def note(self) -> None:
        thread = threading.get_ident()
        self._reads[thread] = self._reads.get(thread, 0) + 1

    def on(self, thread: int) -> int:
        """Reads made by the thread of this ``threading.get_ident()``."""
        return self._reads.get(thread, 0)

    @property
    def total(self) -> int:
        return sum(list(self._reads.values()))


class GuardedSource:
    """Any TileSource, with its reads counted by thread."""

    def __init__(self, source: TileSource) -> None:
        self._source = source
        self._counter = ReadCounter()

    def reads_on(self, thread: int) -> int:
        return self._counter.on(thread)

    @property
    def token(self) -> str:
        return self._source.token

    @property
    def version(self) -> int:
        return self._source.version

    @property
    def texture_dtype(self) -> np.dtype[Any]:
        return self._source.texture_dtype

    def tile_shape(self, tile: TileKey) -> tuple[int, ...]:
        return self._source.tile_shape(tile)

    def read_tile(self, tile: TileKey) -> NDArray[Any]:
        self._counter.note()
        return self._source.read_tile(tile)

    def read_batch(self, batch: Batch) -> Sequence[NDArray[Any]]:
        self._counter.note()
        tiles: Sequence[NDArray[Any]] = self._source.read_batch(batch)  # type: ignore[attr-defined] # who makes batches reads them
        return tiles

    def begin_tile(self, tile: TileKey) -> BegunTile | None:
        self._counter.note()
        begun: BegunTile | None = self._source.begin_tile(tile)  # type: ignore[attr-defined] # who has begin_levels begins
        return begun

    def worker_recipe(self) -> tuple[Any, ...] | None:
        return self._source.worker_recipe()

    def __getattr__(self, name: str) -> Any:
        # optional parts of the protocol (invalidate, cheap_levels, batch_of) are the source's own
        return getattr(self._source, name)


def guarded(source: TileSource) -> TileSource:
    """``source`` itself when it counts its reads (``reads_on``), else a guard around it."""
    return source if hasattr(source, "reads_on") else GuardedSource(source)
