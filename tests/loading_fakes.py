"""A source that records, and what tests of the loader do again and again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice, LatticeLevel
from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.loader import TileLoader
from octree.render.loading.values import FailedTile, LoadedTile, LoadKey, LoadRequest, Tier, TileSource
from octree.render.loading.wishes import Keys
from octree.render.view.plan import Lacking


class FakeSource:
    """Tiles of 8 x 8 uint16 that hold their own position; records every read. ``on_read(tile)`` may block,
    raise, or return something else than the tile."""

    def __init__(
        self, token: str = "fake", on_read: Callable[[TileKey], object] | None = None, edge: int = 8
    ) -> None:
        self.token, self.version, self.edge = token, 0, edge
        self.texture_dtype = np.dtype("uint16")
        self.on_read = on_read
        self.reads: list[TileKey] = []
        self.threads: set[int] = set()
        self.live = 0
        self.most_live = 0
        self._lock = threading.Lock()

    def tile_shape(self, tile: TileKey) -> tuple[int, ...]:
        return (self.edge, self.edge)

    def read_tile(self, tile: TileKey) -> NDArray[np.uint16]:
        with self._lock:
            self.reads.append(tile)
            self.threads.add(threading.get_ident())
            self.live += 1
            self.most_live = max(self.most_live, self.live)
        try:
            made = self.on_read(tile) if self.on_read else None
            return made if made is not None else self.pixels(tile)
        finally:
            with self._lock:
                self.live -= 1

    def pixels(self, tile: TileKey) -> NDArray[np.uint16]:
        return np.full((self.edge, self.edge), number(tile), np.uint16)

    def invalidate(self) -> None:
        self.version += 1

    def worker_recipe(self) -> None:
        return None

    @property
    def counts(self) -> Counter[TileKey]:
        return Counter(self.reads)


def pause(timeout_s: float, until: threading.Event | None = None) -> None:
    """What a slow reader does."""
    (until or threading.Event()).wait(timeout_s)


def number(tile: TileKey) -> int:
    return hash(tile) % 60_000


def tile(row: int, col: int = 0, level: int = 0) -> TileKey:
    return TileKey(level, (), (row, col))


def request(
    source: FakeSource, key: TileKey, tier: Tier = Tier.IDEAL, above: int | None = None
) -> LoadRequest:
    return LoadRequest(
        LoadKey(source.token, source.version, key), tier, key.level if above is None else above
    )


def requests(source: FakeSource, keys: Iterable[TileKey], tier: Tier = Tier.IDEAL) -> list[LoadRequest]:
    return [request(source, key, tier) for key in keys]


def settings(workers: int = 2, delay_ms: float = 0.0, **more: object) -> LoaderSettings:
    """One pool."""
    pool = PoolSettings(num_workers=workers, delay_queue_ms=delay_ms)
    return LoaderSettings(pools=((0, pool),), **more)


def drain(
    loader: TileLoader, owner: object = None, limit_s: float = 600.0, *, prefetch: bool = True
) -> list[LoadedTile | FailedTile]:
    """Poll and wait until settled; fails loudly when that takes too long by the loader's clock."""
    got = loader.poll()
    end_ms = loader.clock.now_ms() + limit_s * 1e3
    while not loader.settled(owner, prefetch=prefetch):
        if loader.clock.now_ms() >= end_ms:
            raise AssertionError(f"not settled after {limit_s} s: {loader.stats()}")
        loader.wait(1.0)
        got += loader.poll()
    return got


def pyramid(size: int, levels: int, tile_px: int = 256) -> Lattice:
    return Lattice(
        tuple(
            LatticeLevel((-(-size // 2**k),) * 2, (tile_px, tile_px), (2.0**k, 2.0**k), (0.0, 0.0))
            for k in range(levels)
        )
    )


def unless(known: Callable[[TileKey], bool]) -> Lacking:
    """``Lacking`` of a question about one tile."""
    return lambda tiles: [each for each in tiles if not known(each)]


def keys_of(source: TileSource) -> Keys:
    """Of a source whose tiles have one key each."""
    return lambda key: (LoadKey(source.token, source.version, key),)
