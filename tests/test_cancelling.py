"""The cancel token of a load reaches TensorStore: what nobody wants any more is not read to its end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loading_fakes import drain, settings

from octree.pyramid import build, open_pyramid
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box, TileKey
from octree.render.loading.clock import Clock, RealClock, VirtualClock
from octree.render.loading.load import CancelToken, set_current_token
from octree.render.loading.loader import TileLoader
from octree.render.loading.network import Network
from octree.render.loading.values import FailedTile, LoadedTile, LoadKey, LoadRequest, Tier
from octree.render.tiles.cancelling import CancellableLevels, GivenUp
from octree.render.tiles.tile_source import OpenTileSource, open_tile_source


class Endless:
    """A future as TensorStore's: it ends when it is cancelled, with a BaseException."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def result(self, timeout: float | None = None) -> Any:
        if not self.over.wait(60 if timeout is None else timeout):
            raise TimeoutError
        raise asyncio.CancelledError

    def done(self) -> bool:
        return self.over.is_set()

    def cancel(self) -> bool:
        self.over.set()
        return True

    def cancelled(self) -> bool:
        return self.over.is_set()


class Slow:
    """Stands in for TensorStore's array: reads of its first rows never end."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.endless: list[Endless] = []
        self.begun = threading.Event()

    def __getitem__(self, slices: Any) -> Any:
        self.slices = slices
        return self if slices[0].start == 0 else self.array[slices]

    def read(self) -> Any:
        self.endless.append(Endless())
        self.begun.set()
        return self.endless[-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    build(np.arange(256 * 128, dtype=np.uint16).reshape(256, 128), tmp_path / "p.ome.zarr", tile=64)
    return tmp_path / "p.ome.zarr"


def slowed(source: OpenTileSource, level: int = 0) -> Slow:
    reader = source._opened.levels.array(level)._reader  # type: ignore[attr-defined]  # a Pyramid, here
    slow = Slow(reader._array)
    reader._array = slow
    return slow


def wish(source: OpenTileSource, *rows: int) -> list[LoadRequest]:
    return [
        LoadRequest(LoadKey(source.token, source.version, TileKey(0, (), (row, 0))), Tier.IDEAL)
        for row in rows
    ]


@pytest.mark.parametrize("clock", [RealClock, VirtualClock])
def test_a_read_that_is_given_up_is_cancelled_in_tensorstore(path: Path, clock: type[Clock]) -> None:
    with (
        open_tile_source(path, tile=64) as source,
        TileLoader(settings(workers=1), clock=clock(), network=Network(latency_ms=1)) as loader,
    ):
        slow = slowed(source)
        loader.add_source(source)
        loader.plan("view", wish(source, 0), moved=False)
        loader.poll()
        if isinstance(loader.clock, VirtualClock):
            loader.clock.advance_by(0.5)
            loader.poll()
        # by no clock: when the virtual one shows 1 ms, the loader waits for this read, which never ends
        assert slow.begun.wait(30)
        loader.plan("view", wish(source, 1), moved=True)
        (got,) = drain(loader, limit_s=30)
        assert isinstance(got, LoadedTile)
        assert got.key.tile.grid == (1, 0)
        assert all(future.cancelled() for future in slow.endless)
        assert loader.stats().failed == 0


def test_a_read_that_takes_too_long_is_cancelled_in_tensorstore(path: Path) -> None:
    with (
        open_tile_source(path, tile=64) as source,
        TileLoader(settings(workers=1, retries=2, retry_delay_ms=1, read_timeout_ms=30)) as loader,
    ):
        slow = slowed(source)
        loader.add_source(source)
        loader.plan("view", wish(source, 0), moved=False)
        (got,) = drain(loader, limit_s=30)
        assert isinstance(got, FailedTile)
        assert "timed out" in got.error
        assert len(slow.endless) == 2
        assert all(future.cancelled() for future in slow.endless)


def test_closing_cancels_what_is_being_read(path: Path) -> None:
    with open_tile_source(path, tile=64) as source:
        loader = TileLoader(settings(workers=1))
        slow = slowed(source)
        loader.add_source(source)
        loader.plan("view", wish(source, 0), moved=False)
        assert slow.begun.wait(30)
        loader.close()
        assert slow.endless[0].cancelled()


def test_making_a_level_ends_with_the_read_that_it_waits_for(path: Path) -> None:
    """And another load that waits for the same tile makes it itself."""
    with open_tile_source(path, tile=32) as source:
        slow = slowed(source, len(source._opened.levels.spec.levels) - 1)
        made = TileKey(len(source.spec.levels) - 1, (), (0, 0))
        assert made.level >= source.stored_levels
        token = CancelToken()
        token.on_cancel(lambda: None)
        set_current_token(token)
        try:
            slow.read, read = (lambda: (token.cancel(), read())[1]), slow.read  # type: ignore[method-assign]  # of this one object
            with pytest.raises(GivenUp):
                source.read_tile(made)
        finally:
            set_current_token(None)
        assert slow.endless[0].cancelled()


def test_who_has_no_token_reads_as_ever_and_errors_are_the_same(path: Path) -> None:
    pyramid = open_pyramid(path)
    box = Box((0, 0), (256, 128))
    levels = CancellableLevels(pyramid)
    np.testing.assert_array_equal(levels.read(0, box), pyramid.read(0, box))
    np.testing.assert_array_equal(pyramid.start(0, box).result(), pyramid.read(0, box))
    for file in (path / "0" / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    for token in (None, CancelToken()):
        set_current_token(token)
        try:
            with pytest.raises(SourceError, match="chunk"):
                CancellableLevels(open_pyramid(path)).read(0, box)
        finally:
            set_current_token(None)


def test_tensorstore_ends_a_read_that_is_cancelled(tmp_path: Path) -> None:
    """The future itself: 64 chunks, of which few can be decoded before the cancel."""
    build(np.zeros((2048, 2048), np.uint16), tmp_path / "z.ome.zarr", tile=256, shard=0)
    for _ in range(20):
        reading = open_pyramid(tmp_path / "z.ome.zarr").start(0, Box((0, 0), (2048, 2048)))
        reading.cancel()
        try:
            reading.result()
        except CancelledError:
            return
    pytest.fail("no read was cancelled")


def test_what_zarr_reads_is_started_too(path: Path) -> None:
    box = Box((0, 0), (256, 128))
    reading = open_pyramid(path, engine="zarr").start(0, box)
    np.testing.assert_array_equal(reading.result(), open_pyramid(path).read(0, box))
