"""What both drivers need to read a tile: how, how large it is, and when to try again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings
from octree.render.loading.load import (
    BadTile,
    CancelToken,
    Load,
    Pixels,
    RegisteredSource,
    checked_tile,
    set_current_token,
)
from octree.render.loading.network import dice
from octree.render.loading.values import Batch, BegunTile, TileSource

MAX_RETRY_DELAY_MS = 10_000.0
LOST = "the simulated network lost the answer"
_RETRY_SALT = 7919  # so that the wait before a retry does not depend on the weather's dice


class Reader(Protocol):
    """How a worker gets at tiles: in this process or in another one. Called from several threads."""

    def read(self, registered: RegisteredSource, tile: TileKey) -> NDArray[Any]: ...

    def read_batch(self, registered: RegisteredSource, batch: Batch) -> Sequence[NDArray[Any]]: ...

    def begin(self, registered: RegisteredSource, tile: TileKey) -> BegunTile | None:
        """None: only ``read`` can read it. Asked for tiles of ``begin_levels``."""

    def close(self) -> None: ...


class DirectReader:
    """Reads in the calling worker thread."""

    def read(self, registered: RegisteredSource, tile: TileKey) -> NDArray[Any]:
        return registered.source.read_tile(tile)

    def read_batch(self, registered: RegisteredSource, batch: Batch) -> Sequence[NDArray[Any]]:
        tiles: Sequence[NDArray[Any]] = registered.source.read_batch(batch)  # type: ignore[attr-defined] # who makes batches reads them
        return tiles

    def begin(self, registered: RegisteredSource, tile: TileKey) -> BegunTile | None:
        begun: BegunTile | None = registered.source.begin_tile(tile)  # type: ignore[attr-defined] # who has begin_levels begins
        return begun

    def close(self) -> None:
        pass


def read_checked(reader: Reader, load: Load, token: CancelToken, trace: Any = None) -> Pixels:
    """One try of one load, in the calling worker: its tiles as a texture takes them. Whoever reads can ask
    ``current_cancel_token`` for ``token``. Raises whatever the source raises, and BadTile."""
    set_current_token(token)
    try:
        if trace is None:
            data = _read(reader, load)
        else:
            with trace.span("load", level=load.key.tile.level, grid=str(load.key.tile.grid)):
                data = _read(reader, load)
    finally:
        set_current_token(None)
    tiles = load.tiles()
    if len(data) != len(tiles):
        raise BadTile(f"the source returned {len(data)} tiles, not {len(tiles)}")
    source = load.registered.source
    return tuple([checked_tile(source, tile, each) for tile, each in zip(tiles, data, strict=True)])


def _read(reader: Reader, load: Load) -> Sequence[NDArray[Any]]:
    if load.batch is None:
        return (reader.read(load.registered, load.key.tile),)
    return reader.read_batch(load.registered, load.batch)


def retry_delay_ms(settings: LoaderSettings, seed: int, load: Load) -> float:
    """Wait before the try after ``load.attempt``: doubling, at most 10 s, less up to half of it by the dice."""
    full = min(settings.retry_delay_ms * 2.0 ** (load.attempt - 1), MAX_RETRY_DELAY_MS)
    luck = dice(seed + _RETRY_SALT, load.registered.number, load.key.tile, load.attempt)[0]
    return full * (1.0 - luck / 2)


def load_bytes(load: Load) -> int:
    """Bytes that a load moves, known before it is read."""
    source = load.registered.source
    return tile_bytes(source, load.key.tile) if load.batch is None else batch_bytes(source, load.batch)


def batch_bytes(source: TileSource, batch: Batch) -> int:
    plane = batch._replace(planes=(1,) * len(batch.planes))
    return math.prod(batch.planes) * sum([tile_bytes(source, tile) for tile in plane.members()])


def tile_bytes(source: TileSource, tile: TileKey) -> int:
    count = source.texture_dtype.itemsize
    for edge in source.tile_shape(tile):
        count *= edge
    return count
