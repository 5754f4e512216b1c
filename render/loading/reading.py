"""What both drivers need to read a tile: how, how large it is, and when to try again."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings
from octree.render.loading.load import CancelToken, Load, RegisteredSource, checked_tile, set_current_token
from octree.render.loading.network import dice

MAX_RETRY_DELAY_MS = 10_000.0
LOST = "the simulated network lost the answer"
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


def read_checked(reader: Reader, load: Load, token: CancelToken, trace: Any = None) -> NDArray[Any]:
    """One try of one load, in the calling worker: the tile as a texture takes it. Whoever reads can ask
    ``current_cancel_token`` for ``token``. Raises whatever the source raises, and BadTile."""
    set_current_token(token)
    try:
        if trace is None:
            data = reader.read(load.registered, load.key.tile)
        else:
            with trace.span("load", level=load.key.tile.level, grid=str(load.key.tile.grid)):
                data = reader.read(load.registered, load.key.tile)
    finally:
        set_current_token(None)
    return checked_tile(load.registered.source, load.key, data)


def retry_delay_ms(settings: LoaderSettings, seed: int, load: Load) -> float:
    """Wait before the try after ``load.attempt``: doubling, at most 10 s, less up to half of it by the dice."""
    full = min(settings.retry_delay_ms * 2.0 ** (load.attempt - 1), MAX_RETRY_DELAY_MS)
    luck = dice(seed + _RETRY_SALT, load.registered.number, load.key.tile, load.attempt)[0]
    return full * (1.0 - luck / 2)


def tile_bytes(load: Load) -> int:
    """Bytes that a load moves, known before it is read."""
    source = load.registered.source
    count = source.texture_dtype.itemsize
    for edge in source.tile_shape(load.key.tile):
        count *= edge
    return count
