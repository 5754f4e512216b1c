"""Indices of shards: where each chunk lies. Kept in memory, those that were asked for last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.store.shards import ABSENT, index_bytes, index_fault
from octree.pyramid.store.zarr_meta import ArrayMeta

MOST_BYTES = 16 * 2**20
"""Of all indices of the process; one is kept whatever its size."""


class ShardIndex(NamedTuple):
    """``entries``: offset and length of each chunk, uint64 (n, 2). ``size`` and ``etag`` of the shard that it was read from."""

    entries: NDArray[Any]
    size: int
    etag: str | None

    def span(self, number: int) -> tuple[int, int] | None:
        """Where a chunk lies in its shard; None when it is not stored."""
        offset, length = self.entries[number].tolist()
        return None if offset == ABSENT else (offset, offset + length)


def parsed(data: bytes, meta: ArrayMeta, size: int, etag: str | None) -> ShardIndex:
    """The index in these bytes of a shard of ``size`` bytes. Raises ValueError, saying what is wrong."""
    assert meta.shards is not None
    fault = index_fault(data, index_bytes(meta.shards, meta.chunks), size)
    if fault is not None:
        raise ValueError(fault)
    return ShardIndex(np.frombuffer(data[:-4], "<u8").reshape(-1, 2), size, etag)


class IndexCache:
    """Owner of the indices: this object, under its lock. Any thread."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, ShardIndex] = OrderedDict()

    def get(self, key: Hashable) -> ShardIndex | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Hashable, index: ShardIndex) -> None:
        with self._lock:
            self._drop(key)
            self._kept[key] = index
            self._bytes += index.entries.nbytes
            while self._bytes > self._most_bytes and len(self._kept) > 1:
                self._drop(next(iter(self._kept)))

    def drop(self, key: Hashable) -> None:
        with self._lock:
            self._drop(key)

    def _drop(self, key: Hashable) -> None:
        gone = self._kept.pop(key, None)
        self._bytes -= gone.entries.nbytes if gone is not None else 0


INDICES = IndexCache()
"""Of the process."""
