"""What both engines need to read a tile: how, over which link, and when to try again."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from numpy.typing import NDArray

from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings
from octree.render.loading.load import Load, RegisteredSource
from octree.render.loading.network import Network, dice

MAX_RETRY_DELAY_MS = 10_000.0
_RETRY_SALT = 7919  # so that the wait before a retry does not depend on the weather's dice


class Reader(Protocol):
    """How a worker gets at a tile: in this process or in another one. Called from several threads."""

    def read(self, registered: RegisteredSource, tile: TileKey) -> NDArray[Any]: ...

    def close(self) -> None: ...


class DirectReader:
    """Reads in the calling worker thread."""

    def read(self, registered: RegisteredSource, tile: TileKey) -> NDArray[Any]:
        return registered.source.read_tile(tile)

    def close(self) -> None:
        pass


def retry_delay_ms(settings: LoaderSettings, seed: int, load: Load) -> float:
    """Wait before the try after ``load.attempt``: doubling, at most 10 s, less up to half of it by the dice."""
    full = min(settings.retry_delay_ms * 2.0 ** (load.attempt - 1), MAX_RETRY_DELAY_MS)
    luck = dice(seed + _RETRY_SALT, load.registered.number, load.key.tile, load.attempt)[0]
    return full * (1.0 - luck / 2)


class SharedLink:
    """The one link that all transfers share, first come first served. Thread-safe."""

    def __init__(self, network: Network | None) -> None:
        self._network = network
        self._lock = threading.Lock()
        self._free_ms = 0.0

    def reserve(self, now_ms: float, nbytes: int) -> float:
        """Time at which a transfer of ``nbytes`` that starts ``now_ms`` is done."""
        if self._network is None:
            return now_ms
        busy_ms = self._network.transfer_ms(nbytes)
        if busy_ms == 0.0:
            return now_ms
        with self._lock:
            self._free_ms = max(self._free_ms, now_ms) + busy_ms
            return self._free_ms


def tile_bytes(load: Load) -> int:
    """Bytes that a load moves, known before it is read."""
    source = load.registered.source
    count = source.texture_dtype.itemsize
    for edge in source.tile_shape(load.key.tile):
        count *= edge
    return count
