"""Chunks that hold several planes, or several tiles of one, are decoded once, and cut into tiles that the cache owns."""

from __future__ import annotations

import itertools
import math
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from loading_fakes import drain, settings
from numpy.typing import NDArray

from octree.pyramid import build
from octree.pyramid.boxes import blocks_met
from octree.pyramid.model import Box, TileKey
from octree.pyramid.store.arrays import Pyramid
from octree.render.config import LoaderSettings, OctreeSettings, RenderSettings, Settings
from octree.render.frames import Frame, Renderer, Shot
from octree.render.loading.cache import TileCache
from octree.render.loading.clock import VirtualClock
from octree.render.loading.loader import TileLoader
from octree.render.loading.network import Network
from octree.render.loading.values import Batch, FailedTile, LoadedTile, LoadKey, LoadRequest, Tier
from octree.render.request import parse_request
from octree.render.tiles.batches import Periods, batch_at
from octree.render.tiles.tile_source import open_tile_source
from octree.render.view.state import Slicing, resolve

EDGE = 32


def volume(planes: int = 40, edge: int = 100) -> NDArray[np.uint16]:
    z, y, x = np.indices((planes, edge, edge))
    return (z * 211 + y * 17 + x * 5 + (z * y * x) % 97).astype(np.uint16)


def in_chunks(path: Path, chunks: tuple[int, ...]) -> Path:
    """The pyramid at ``path``, its levels stored anew in other chunks."""
    for level in sorted(path.glob("[0-9]")):
        data = zarr.open_array(level)[...]
        fitting = tuple(min(edge, n) for edge, n in zip(chunks, data.shape, strict=True))
        zarr.create_array(level, data=data, chunks=fitting, overwrite=True)
    return path


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("depth") / "flat"
    build(volume(), path, axes="zyx", voxel_size={"z": 1, "y": 1, "x": 1}, tile=EDGE)
    return path


@pytest.fixture(scope="module")
def cubes(flat: Path) -> Path:
    """The same in chunks of 32 x 32 x 32."""
    return in_chunks(shutil.copytree(flat, flat.parent / "cubes"), (EDGE, EDGE, EDGE))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, ...]]:
    """How often each chunk was decoded: (level, place of the chunk)."""
    found: Counter[tuple[int, ...]] = Counter()
    start = Pyramid.start

    def counting(self: Pyramid, level: int, box: Box) -> Any:
        met = blocks_met(box, self.spec.levels[level].chunks)
        found.update((level, *place) for place in itertools.product(*met))
        return start(self, level, box)

    monkeypatch.setattr(Pyramid, "start", counting)
    return found


def scroll(
    path: Any, axis: str, places: Sequence[int], *, cache_bytes: int = 2**26, **options: Any
) -> tuple[list[Frame], Any]:
    """A settled frame of each place, one after the other, in one process; and the report."""
    loader = options.pop("loader", LoaderSettings(retries=1))
    own = Settings(loader=loader, render=RenderSettings(cache_bytes=cache_bytes), **options.pop("own", {}))
    words = {"size": "128x128", "clim": "0,20000", **options}
    with Renderer(parse_request([path], ["fit"], words, settings=own)) as renderer:
        state = renderer.shots[0].state
        renderer.shots = tuple(
            Shot(
                number, replace(state, slicing=replace(state.slicing, position=((axis, place),))), settle=True
            )
            for number, place in enumerate(places)
        )
        frames = list(renderer.frames())
        return frames, renderer.report()


@pytest.mark.usefixtures("gl_info")
class TestFrames:
    @pytest.mark.parametrize(
        ("display", "axis", "length"), [("yx", "z", 40), ("zx", "y", 100), ("zy", "x", 100)]
    )
    def test_a_scroll_decodes_each_chunk_once(
        self, cubes: Path, decoded: Counter[tuple[int, ...]], display: str, axis: str, length: int
    ) -> None:
        _, report = scroll(cubes, axis, range(length), display=display)
        assert set(decoded.values()) == {1}
        assert len([key for key in decoded if key[0] == 0]) == 2 * 4 * 4, (
            "every chunk of the level that is shown"
        )
        assert report.totals.main_thread_reads == 0

    @pytest.mark.parametrize("display", ["yx", "zx"])
    def test_frames_are_those_of_flat_chunks(self, flat: Path, cubes: Path, display: str) -> None:
        axis = "z" if display == "yx" else "y"
        places = [0, 1, 31, 32, 39, 5]
        ours, theirs = (scroll(path, axis, places, display=display)[0] for path in (cubes, flat))
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(our.rgba, their.rgba)
            assert our.tiles == their.tiles or display != "yx"

    def test_several_tiles_of_one_chunk_are_one_read(
        self, cubes: Path, flat: Path, decoded: Counter[tuple[int, ...]]
    ) -> None:
        own = {"octree": OctreeSettings(tile_size=16)}
        frames, report = scroll(cubes, "z", [3, 4, 5], own=own)
        assert set(decoded.values()) == {1}
        assert len(frames[0].tiles[0]) == 49
        assert report.totals.tiles_read <= 3 * 49 + 6, "those of three planes, and coarser ones"
        theirs, _ = scroll(flat, "z", [3, 4, 5], own=own)
        for our, their in zip(frames, theirs, strict=True):
            np.testing.assert_array_equal(our.rgba, their.rgba)
            assert our.tiles == their.tiles

    def test_one_plane_alone_keeps_no_others(self, cubes: Path) -> None:
        _, report = scroll(cubes, "z", [7])
        assert report.totals.peak_cache_bytes < 2 * 100 * 100 * 2
        _, report = scroll(cubes, "z", [7, 8])
        assert report.totals.peak_cache_bytes > 30 * 100 * 100 * 2

    @pytest.mark.parametrize("cache_bytes", [0, 30_000, 300_000, 2_000_000])
    def test_a_small_cache_holds_what_it_may_and_frames_are_the_same(
        self, cubes: Path, flat: Path, decoded: Counter[tuple[int, ...]], cache_bytes: int
    ) -> None:
        frames, report = scroll(cubes, "z", range(40), cache_bytes=cache_bytes)
        assert report.totals.peak_cache_bytes <= cache_bytes
        most = {0: 32, 30_000: 32, 300_000: 4, 2_000_000: 1}[cache_bytes]
        assert max(decoded.values()) <= most
        theirs, _ = scroll(flat, "z", range(40))
        for our, their in zip(frames, theirs, strict=True):
            np.testing.assert_array_equal(our.rgba, their.rgba)

    def test_bytes_read_are_all_that_came(self, cubes: Path) -> None:
        _, report = scroll(cubes, "z", range(32), single_level=False)
        totals = report.totals
        assert totals.bytes_read >= 32 * 100 * 100 * 2
        assert totals.tiles_read_twice == 0
        assert totals.tiles_read < 16, "the next planes are asked for, the others come along"

    def test_a_damaged_chunk_fails_every_tile_that_needs_it(self, cubes: Path, tmp_path: Path) -> None:
        cubes = shutil.copytree(cubes, tmp_path / "damaged")
        chunk = next((cubes / "0").rglob("c/0/1/1"))
        chunk.write_bytes(chunk.read_bytes()[:-5])
        frames, report = scroll(cubes, "z", [0, 1, 31, 32], own={"octree": OctreeSettings(tile_size=32)})
        assert sum(frame.report.tiles.failed for frame in frames) == 3
        assert {tuple(failure["key"]["grid"]) for failure in report.failures} == {(1, 1)}
        assert [frame.report.coverage.failed > 0 for frame in frames] == [True, True, True, False]

    def test_worker_processes_bring_the_same(self, cubes: Path) -> None:
        pools = tuple(
            (key, replace(pool, use_processes=True, num_workers=1)) for key, pool in LoaderSettings().pools
        )
        places = [0, 1, 33]
        with_processes, report = scroll(cubes, "z", places, loader=replace(LoaderSettings(), pools=pools))
        for our, their in zip(with_processes, scroll(cubes, "z", places)[0], strict=True):
            np.testing.assert_array_equal(our.rgba, their.rgba)
        assert report.totals.tiles_read < 8

    def test_channels_of_one_chunk_are_one_read(
        self, tmp_path: Path, decoded: Counter[tuple[int, ...]]
    ) -> None:
        build(volume(3, 64), tmp_path / "c", axes="cyx", tile=32)
        in_chunks(tmp_path / "c", (3, 32, 32))
        decoded.clear()
        options = {"size": "64x64", "channels": "0:red:0-9000,1:green:0-9000,2:blue:0-9000", "clim": "0,9000"}
        with Renderer(parse_request([tmp_path / "c"], ["fit"], options)) as renderer:
            next(renderer.frames())
        assert set(decoded.values()) == {1}


# what the loader does, without pictures


class Slab:
    """Tiles of 8 x 8 whose value says where they are; ``depth`` planes share a chunk. ``on_read`` may block or raise."""

    def __init__(
        self, depth: int = 8, on_read: Callable[[Batch | TileKey], None] = lambda what: None
    ) -> None:
        self.token, self.version, self.texture_dtype = "slab", 0, np.dtype("uint16")
        self.batch_levels = frozenset([0])
        self._periods = Periods(((depth, 64),), ((1, 4), (1, 4)))
        self.reads: list[Batch | TileKey] = []
        self._on_read, self._lock = on_read, threading.Lock()

    def tile_shape(self, tile: TileKey) -> tuple[int, ...]:
        return 8, 8

    def batch_of(self, tile: TileKey, most_bytes: int | None = None, *, planes: bool = True) -> Batch | None:
        most = 64 if most_bytes is None else most_bytes // 128
        return batch_at(tile, self._periods, most, planes=planes)

    def read_tile(self, tile: TileKey) -> NDArray[np.uint16]:
        self._note(tile)
        return self.pixels(tile)

    def read_batch(self, batch: Batch) -> list[NDArray[np.uint16]]:
        self._note(batch)
        return [self.pixels(tile) for tile in batch.members()]

    def _note(self, what: Batch | TileKey) -> None:
        with self._lock:
            self.reads.append(what)
        self._on_read(what)

    def pixels(self, tile: TileKey) -> NDArray[np.uint16]:
        return np.full((8, 8), tile.index[0] * 100 + tile.grid[0] * 10 + tile.grid[1], np.uint16)

    def invalidate(self) -> None:
        self.version += 1

    def worker_recipe(self) -> None:
        return None


def wish(source: Slab, *planes: int, grids: Sequence[tuple[int, int]] = ((0, 0),)) -> list[LoadRequest]:
    keys = [TileKey(0, (plane,), grid) for plane in planes for grid in grids]
    return [LoadRequest(LoadKey(source.token, source.version, key), Tier.IDEAL) for key in keys]


@pytest.fixture(params=[10, 1])
def workers(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def test_ten_wishes_for_one_chunk_are_one_read(workers: int) -> None:
    source = Slab(depth=16)
    with TileLoader(settings(workers=workers)) as loader:
        loader.add_source(source)
        loader.plan("view", wish(source, *range(10)), moved=False)
        got = drain(loader)
        assert {tile.key.tile.index[0] for tile in got} == set(range(10))
        assert [type(read) for read in source.reads] == [Batch]
        for plane in range(16):
            (request,) = wish(source, plane)
            tile = loader.peek(request.key)
            assert tile is not None
            np.testing.assert_array_equal(tile.data, source.pixels(request.key.tile))
            assert tile.data.base is None, "a view would keep the chunk alive"
            assert not tile.data.flags.writeable
        stats = loader.stats()
        assert (stats.loaded, stats.tiles_read_along, stats.bytes_read) == (10, 6, 16 * 128)


def held_up() -> tuple[Slab, threading.Event, threading.Event]:
    """A source whose reads tell when they have begun, and end when they may."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(what: Batch | TileKey) -> None:
        begun.set()
        assert go_on.wait(10)

    return Slab(on_read=slow), begun, go_on


def test_who_comes_while_the_chunk_is_read_waits_for_it_and_holds_no_worker() -> None:
    source, begun, go_on = held_up()
    with TileLoader(settings(workers=1)) as loader:
        loader.add_source(source)
        loader.plan("view", wish(source, 0), moved=False)
        assert begun.wait(10)
        # a step, and another: the chunk that is being read is the one that is wanted
        for plane in (1, 2):
            loader.plan("view", wish(source, plane), moved=False)
        loader.plan("other", wish(source, 5), moved=False)
        stats = loader.stats()
        assert (stats.loading, stats.queued, stats.delayed) == (1, 0, 0)
        go_on.set()
        assert {tile.key.tile.index[0] for tile in drain(loader)} >= {2, 5}
        assert len(source.reads) == 1
        assert loader.stats().reads_wasted == 0


def test_a_chunk_that_nobody_wants_any_more_is_given_up_and_asked_for_again_it_comes() -> None:
    source = Slab()
    with TileLoader(settings(workers=1), clock=VirtualClock(), network=Network(latency_ms=50.0)) as loader:
        loader.add_source(source)
        loader.plan("view", wish(source, 0), moved=False)
        loader.wait(0.01)
        loader.plan("view", wish(source, 20), moved=False)
        loader.wait(0.01)
        loader.plan("view", wish(source, 3), moved=False)
        assert [tile.key.tile.index[0] for tile in drain(loader)][-1] == 3
        assert loader.settled()


def test_a_failing_chunk_fails_who_asked_and_is_tried_again() -> None:
    broken = True

    def fail(what: Batch | TileKey) -> None:
        if broken:
            raise OSError("damaged")

    source = Slab(on_read=fail)
    with TileLoader(settings(retries=2, retry_delay_ms=1.0), clock=VirtualClock()) as loader:
        loader.add_source(source)
        loader.plan("view", wish(source, 0, 1), moved=False)
        got = drain(loader)
        assert [type(result) for result in got] == [FailedTile, FailedTile]
        assert {failure.attempts for failure in loader.failures.values()} == {2}
        assert len(source.reads) == 2, "two tries of one chunk"
        loader.plan("view", wish(source, 1, 2), moved=False)
        drain(loader)
        assert {key.tile.index[0] for key in loader.failures} == {0, 1, 2}, "nobody had asked for plane 2"
        broken = False
        loader.retry_failed()
        assert [type(result) for result in drain(loader)] == [LoadedTile, LoadedTile]
        assert loader.failures == {}


def test_what_is_read_while_the_data_change_is_not_kept() -> None:
    source, begun, go_on = held_up()
    with TileLoader(settings(workers=1)) as loader:
        loader.add_source(source)
        loader.plan("view", wish(source, 0), moved=False)
        assert begun.wait(10)
        loader.invalidate(source.token)
        loader.plan("view", wish(source, 1), moved=False)
        go_on.set()
        got = drain(loader)
        assert [result.key.version for result in got] == [1]
        assert len(source.reads) == 2


@pytest.mark.parametrize("budget_bytes", [0, 127, 128, 1024, 4096])
def test_the_cache_is_never_above_its_budget_and_what_is_wanted_is_there(budget_bytes: int) -> None:
    source, cache = Slab(), TileCache(budget_bytes)
    with TileLoader(settings(), cache=cache, clock=VirtualClock()) as loader:
        loader.add_source(source)
        for plane in range(16):
            wishes = wish(source, plane, grids=[(0, 0), (0, 1)])
            loader.plan("view", wishes, moved=False)
            drain(loader)
            for request in wishes:
                tile = loader.get(request.key)
                assert tile is not None
                np.testing.assert_array_equal(tile.data, source.pixels(request.key.tile))
            assert cache.bytes <= budget_bytes
        assert cache.stats().peak_bytes <= budget_bytes
        depth = {0: 1, 127: 1, 128: 1, 1024: 2, 4096: 8}[budget_bytes]
        assert len(source.reads) == 2 * 16 // depth


EVERYWHERE = [(row, col) for row in range(4) for col in range(4)]


@pytest.mark.parametrize(("budget_bytes", "at_once"), [(2**15, 8), (2**16, 16), (2**20, 16)])
def test_blocks_that_are_being_read_take_a_quarter_of_the_cache(budget_bytes: int, at_once: int) -> None:
    """16 of 1 KiB, with a worker for each; what is no block waits for none of them."""
    source, cache = Slab(), TileCache(budget_bytes)
    calm = Network(latency_ms=50)
    with TileLoader(settings(workers=20), cache=cache, clock=VirtualClock(), network=calm) as loader:
        loader.add_source(source)
        loader.plan("view", wish(source, 0, grids=EVERYWHERE), moved=False)
        assert not loader.wait(0.01)
        stats = loader.stats()
        assert (stats.loading, stats.queued) == (at_once, 16 - at_once)
        assert len(drain(loader)) == 16
        assert loader.clock.now_ms() == 50 * 16 / at_once
    assert len(source.reads) == 16


def test_blocks_wait_for_room_without_a_thread_that_waits_for_it() -> None:
    source, _, go_on = held_up()
    with TileLoader(settings(workers=20), cache=TileCache(2**15)) as loader:
        loader.add_source(source)
        loader.plan("view", wish(source, 0, grids=EVERYWHERE), moved=False)
        while len(source.reads) < 8:
            loader.wait(0.001)
        # given up with what nobody wants: the next take their room
        loader.plan("view", wish(source, 0, grids=EVERYWHERE[8:]), moved=False)
        assert loader.stats().queued == 8
        go_on.set()
        assert {tile.key.tile.grid for tile in drain(loader)} >= set(EVERYWHERE[8:])
        assert len(source.reads) == 16


def test_a_block_of_more_than_a_quarter_is_read_alone() -> None:
    source = Slab(depth=64)
    with TileLoader(
        settings(workers=4),
        cache=TileCache(2**14 + 2**13),
        clock=VirtualClock(),
        network=Network(latency_ms=50),
    ) as loader:
        loader.add_source(source)
        loader.plan("view", wish(source, 0, grids=EVERYWHERE[:2]), moved=False)
        assert not loader.wait(0.01)
        assert (loader.stats().loading, loader.stats().queued) == (1, 1)
        assert len(drain(loader)) == 2


def test_without_steps_to_come_other_planes_are_not_read() -> None:
    source = Slab()
    with TileLoader(settings(), clock=VirtualClock()) as loader:
        loader.add_source(source)
        loader.expect_steps(False)
        loader.plan("view", wish(source, 3), moved=False)
        drain(loader)
        assert [type(read) for read in source.reads] == [TileKey]


# which tiles are read together

numbers = st.tuples(st.integers(1, 70), st.integers(1, 200))


@given(
    st.lists(numbers, min_size=0, max_size=2),
    st.lists(numbers, min_size=2, max_size=2),
    st.integers(0, 300),
    st.data(),
)
def test_a_batch_holds_its_tile_and_all_of_its_tiles_have_that_batch(
    planes: list[tuple[int, int]], tiles: list[tuple[int, int]], most: int, data: st.DataObject
) -> None:
    periods = Periods(tuple(planes), tuple(tiles))

    def any_of(along: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(0, count - 1)) for _, count in along)

    tile = TileKey(0, any_of(planes), any_of(tiles))
    batch = batch_at(tile, periods, most)
    if batch is None:
        return
    keys = batch.members()
    assert tile in keys
    assert 1 < len(keys) <= max(most, 1)
    assert len(set(keys)) == len(keys) == math.prod((*batch.planes, *batch.tiles))
    for key in keys:
        assert batch_at(key, periods, most) == batch
        for number, at, (period, count) in zip(
            (*key.index, *key.grid), (*tile.index, *tile.grid), (*planes, *tiles), strict=True
        ):
            assert 0 <= number < count
            assert number // period == at // period, "in the same chunks"


@pytest.mark.parametrize("display", ["yx", "zx", "xz"])
@pytest.mark.parametrize("tile", [16, 32, None])
def test_a_batch_holds_what_its_tiles_hold_one_by_one(cubes: Path, display: str, tile: int | None) -> None:
    with open_tile_source(cubes, tile=tile) as source:
        face = source.face(resolve(Slicing.of({}, display), source.spec))
        for level, info in enumerate(face.lattice.levels):
            corner = TileKey(level, (0,), tuple(n - 1 for n in info.tile_counts))
            for most_bytes in (None, 10_000):
                batch = face.batch_of(corner, most_bytes)
                if batch is None:
                    continue
                for key, data in list(zip(batch.members(), face.read_batch(batch), strict=True))[::7]:
                    np.testing.assert_array_equal(data, face.read_tile(key))
                    assert data.base is None


def test_where_memory_is_short_tiles_are_read_one_by_one(
    cubes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tile_source(cubes) as source:
        batch = source.batch_of(TileKey(0, (0,), (0, 0)))
        assert batch is not None
        expected = source.read_batch(batch)
        start = Pyramid.start

        def short(self: Pyramid, level: int, box: Box) -> Any:
            if box.shape[0] > 1:
                raise MemoryError
            return start(self, level, box)

        monkeypatch.setattr(Pyramid, "start", short)
        for one, other in zip(source.read_batch(batch), expected, strict=True):
            np.testing.assert_array_equal(one, other)
        assert source.refused is None
