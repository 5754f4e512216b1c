"""Loaded tiles in memory, within a budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

from octree.render.loading.values import LoadedTile, LoadKey


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Totals since construction, and what is held now."""

    hits: int
    misses: int
    evicted: int
    refused: int
    count: int
    bytes: int
    peak_bytes: int


class TileCache:
    """Key → LoadedTile, least recently used out first, never more than ``budget_bytes``.

    Pinned tiles stay. A tile that does not fit beside the pinned ones is refused: used by who has it, not kept.
    Every method may be called from any thread; one lock owns all state.
    """

    def __init__(self, budget_bytes: int = 512 * 2**20) -> None:
        if budget_bytes < 0:
            raise ValueError(f"a budget of {budget_bytes} bytes")
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._tiles: OrderedDict[LoadKey, LoadedTile] = OrderedDict()
        self._keys: set[LoadKey] = set()  # theirs: sets know the hashes of what they hold
        self._pins: Container[LoadKey] = frozenset()
        self._bytes = self._peak_bytes = 0
        self._hits = self._misses = self._evicted = self._refused = 0

    @property
    def budget_bytes(self) -> int:
        return self._budget_bytes

    def get(self, key: LoadKey) -> LoadedTile | None:
        """The tile, now the most recently used one; counts a hit or a miss."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is None:
                self._misses += 1
            else:
                self._hits += 1
                self._tiles.move_to_end(key)
            return tile

    def peek(self, key: LoadKey) -> LoadedTile | None:
        """The tile without counting or changing its age."""
        with self._lock:
            return self._tiles.get(key)

    def lacking(self, keys: Iterable[LoadKey]) -> set[LoadKey]:
        """Those that are not held. Of a set of thousands no key is hashed anew."""
        asked = set(keys)
        with self._lock:
            return asked.difference(self._keys)

    def touch(self, keys: Iterable[LoadKey]) -> None:
        """Make these the most recently used, the last one most; unknown keys are ignored."""
        with self._lock:
            for key in keys:
                if key in self._tiles:
                    self._tiles.move_to_end(key)

    def add(self, tile: LoadedTile) -> bool:
        """Keep ``tile``, making room; False when it cannot be kept."""
        size = tile.data.nbytes
        with self._lock:
            old = self._tiles.pop(tile.key, None)
            if old is not None:
                self._bytes -= old.data.nbytes
                self._keys.discard(tile.key)
            if size > self._budget_bytes or not self._make_room(self._budget_bytes - size):
                self._refused += 1
                return False
            self._tiles[tile.key] = tile
            self._keys.add(tile.key)
            self._bytes += size
            self._peak_bytes = max(self._peak_bytes, self._bytes)
            return True

    def _make_room(self, limit_bytes: int) -> bool:
        """Evict until at most ``limit_bytes`` are held; caller has the lock. False, and nothing is evicted,
        when pins forbid it."""
        if self._bytes <= limit_bytes:
            return True
        out: list[LoadKey] = []
        left = self._bytes
        for key, tile in self._tiles.items():
            if left <= limit_bytes:
                break
            if key not in self._pins:
                out.append(key)
                left -= tile.data.nbytes
        if left > limit_bytes:
            return False
        for key in out:
            del self._tiles[key]
        self._keys.difference_update(out)
        self._bytes = left
        self._evicted += len(out)
        return True

    def pin(self, keys: Container[LoadKey]) -> None:
        """These keys, and no others, stay whatever comes (whether held yet or not). The container is asked each
        time room is made, so its owner may change it, from the thread that adds tiles."""
        with self._lock:
            self._pins = keys

    def discard(self, matches: Callable[[LoadKey], bool]) -> int:
        """Drop every tile whose key matches, pinned or not; how many. Not counted as evictions."""
        with self._lock:
            gone = [key for key in self._tiles if matches(key)]
            for key in gone:
                self._bytes -= self._tiles.pop(key).data.nbytes
            self._keys.difference_update(gone)
            return len(gone)

    def clear(self) -> None:
        self.discard(lambda key: True)

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._tiles

    def __len__(self) -> int:
        return len(self._tiles)

    def __iter__(self) -> Iterator[LoadKey]:
        with self._lock:
            return iter(list(self._tiles))

    @property
    def bytes(self) -> int:
        return self._bytes

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(
                self._hits, self._misses, self._evicted, self._refused, len(self._tiles), self._bytes,
                self._peak_bytes,
            )  # fmt: skip
