"""What every reader, every tile source, every engine of the loader and every executor of a build promises: test classes
to inherit.

A new one is tested by a subclass in ``test_contracts.py`` that gives its fixture.
"""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import leftovers, tree
from loading_fakes import FakeSource, tile
from numpy.typing import NDArray

from octree.pyramid import build
from octree.pyramid.errors import Interrupted, SourceError
from octree.pyramid.model import AXIS_ORDER, Box, TileKey
from octree.pyramid.sources.source import ArraySource
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.clock import Clock, RealClock
from octree.render.loading.load import Arrival, CancelToken, Load, RegisteredSource, set_current_token
from octree.render.loading.loader import Engine
from octree.render.loading.reading import DirectReader
from octree.render.loading.schedule import Planned
from octree.render.loading.values import LoadKey, State, TileSource


class ReaderContract:
    """Give ``opened``: a function that opens an image with the reader under test anew; and ``expected``: its voxels, in the
    order t, c, z, y, x."""

    @pytest.fixture
    def source(self, opened: Callable[[], ArraySource]) -> Iterator[ArraySource]:
        with opened() as source:
            yield source

    @staticmethod
    def boxes(source: ArraySource) -> list[Box]:
        """The whole, the first and the last voxel, what lies across the first block's end, and nothing."""
        shape, zero = source.shape, (0,) * len(source.shape)
        last = tuple(n - 1 for n in shape)
        over = tuple(min(edge + 1, n) for edge, n in zip(source.read_shape, shape, strict=True))
        inner = tuple(min(1, n - 1) for n in shape)
        return [
            Box(zero, shape),
            Box(zero, (1,) * len(shape)),
            Box(last, shape),
            Box(inner, tuple(map(max, over, (n + 1 for n in inner)))),
            Box(inner, inner),
        ]

    def test_it_says_what_it_holds(self, source: ArraySource, expected: NDArray[Any]) -> None:
        assert (source.shape, source.dtype) == (expected.shape, expected.dtype)
        names = [axis.name for axis in source.axes]
        assert names == sorted(names, key=AXIS_ORDER.index)
        for per_axis in (source.axes, source.read_shape, source.voxel_size, source.translation):
            assert len(per_axis) == len(source.shape)
        assert all(1 <= edge <= n for edge, n in zip(source.read_shape, source.shape, strict=True))
        assert source.held_bytes >= 0

    def test_any_box_is_that_part_of_the_image(self, source: ArraySource, expected: NDArray[Any]) -> None:
        for box in self.boxes(source):
            data = source.read(box)
            assert data.dtype == source.dtype
            np.testing.assert_array_equal(data, expected[box.slices])
            assert 0 in box.shape or source.transient_bytes(box) >= 0

    def test_a_box_that_lies_outside_is_refused(self, source: ArraySource) -> None:
        beyond = tuple(n + 1 for n in source.shape)
        for wrong in (
            Box((0,) * len(beyond), beyond),
            Box((0,), (1,)),
            Box((-1,) * len(beyond), source.shape),
        ):
            with pytest.raises(ValueError, match="does not lie in"):
                source.read(wrong)

    def test_any_thread_may_read_and_many_may_at_once(
        self, source: ArraySource, expected: NDArray[Any]
    ) -> None:
        boxes = 4 * self.boxes(source)
        with ThreadPoolExecutor(4) as threads:
            for box, data in zip(boxes, threads.map(source.read, boxes), strict=True):
                np.testing.assert_array_equal(data, expected[box.slices])

    def test_opened_again_it_is_the_same(
        self, source: ArraySource, opened: Callable[[], ArraySource]
    ) -> None:
        with opened() as again:
            assert again.fingerprint() == source.fingerprint()
        json.dumps(source.fingerprint())

    def test_it_may_be_closed_twice(self, source: ArraySource) -> None:
        source.close()
        source.close()


class TileSourceContract:
    """Give ``opened``: a function that opens the source under test anew, the same data each time; and ``tiles``: some of
    its tiles, of every level, those at the edges among them."""

    @pytest.fixture
    def source(self, opened: Callable[[], TileSource]) -> Iterator[TileSource]:
        source = opened()
        yield source
        getattr(source, "close", lambda: None)()

    def test_a_tile_has_the_promised_shape_and_type(self, source: TileSource, tiles: list[TileKey]) -> None:
        for key in tiles:
            data = source.read_tile(key)
            assert isinstance(data, np.ndarray)
            assert data.shape == tuple(source.tile_shape(key))
            assert data.dtype == source.texture_dtype

    def test_a_tile_is_the_same_each_time_and_belongs_to_who_asked(
        self, source: TileSource, tiles: list[TileKey]
    ) -> None:
        for key in tiles:
            first = source.read_tile(key)
            before = first.copy()
            if getattr(source, "private_tiles", False):
                whole = first
                while isinstance(whole.base, np.ndarray):
                    whole = whole.base
                assert whole.nbytes == first.nbytes, "a view would keep more than the tile alive"
                first[...] = 1
            np.testing.assert_array_equal(source.read_tile(key), before)

    def test_any_thread_may_read_and_many_may_at_once(self, source: TileSource, tiles: list[TileKey]) -> None:
        alone = [source.read_tile(key) for key in tiles]
        with ThreadPoolExecutor(4) as threads:
            for _ in range(3):
                for data, expected in zip(threads.map(source.read_tile, tiles), alone, strict=True):
                    np.testing.assert_array_equal(data, expected)

    def test_shapes_are_known_without_reading(self, source: TileSource, tiles: list[TileKey]) -> None:
        reads = getattr(source, "reads_on", None)
        if reads is None:
            pytest.fail("a source of the house counts its reads by thread")
        for key in tiles:
            assert len(source.tile_shape(key)) in (2, 3)
        assert reads(threading.get_ident()) == 0
        source.read_tile(tiles[0])
        assert reads(threading.get_ident()) == 1

    def test_the_token_says_what_it_is_and_the_version_how_new(self, source: TileSource) -> None:
        token, version = source.token, source.version
        assert isinstance(token, str)
        if hasattr(source, "invalidate"):  # a face is as new as its source
            source.invalidate()
            assert (source.token, source.version) == (token, version + 1)

    def test_a_recipe_opens_the_same_in_another_process(
        self, source: TileSource, tiles: list[TileKey]
    ) -> None:
        recipe = source.worker_recipe()
        if recipe is None:
            return  # an array in memory: threads read it
        open_again, *arguments = pickle.loads(pickle.dumps(recipe))
        again = open_again(*arguments)
        try:
            assert again.token == source.token
            for key in tiles:
                np.testing.assert_array_equal(again.read_tile(key), source.read_tile(key))
        finally:
            getattr(again, "close", lambda: None)()

    def test_a_read_that_is_given_up_raises_or_brings_the_tile(
        self, source: TileSource, tiles: list[TileKey]
    ) -> None:
        for key in tiles:
            expected = source.read_tile(key)
            token = CancelToken()
            token.cancel()
            set_current_token(token)
            try:
                data: NDArray[Any] | None = source.read_tile(key)
            except Exception:
                data = None
            finally:
                set_current_token(None)
            if data is not None:
                np.testing.assert_array_equal(data, expected)
            np.testing.assert_array_equal(source.read_tile(key), expected), "and the next is none the worse"

    def test_it_may_be_closed_twice(self, source: TileSource) -> None:
        for _ in range(2):
            getattr(source, "close", lambda: None)()


Make = Callable[..., Engine]


class EngineContract:
    """Give ``make``: a function ``(settings, clock, network, reader_of) -> Engine``; and ``clock``."""

    clock_of: Callable[[], Clock] = RealClock

    @pytest.fixture
    def clock(self) -> Clock:
        return type(self).clock_of()

    @pytest.fixture
    def start(self, make: Make, clock: Clock) -> Iterator[Callable[..., Engine]]:
        engines: list[Engine] = []

        def start(workers: int = 2, **more: Any) -> Engine:
            own = LoaderSettings(pools=((0, PoolSettings(workers, delay_queue_ms=0)),), **more)
            engines.append(make(own, clock, None, lambda pool: DirectReader()))
            return engines[-1]

        yield start
        for engine in engines:
            engine.close(5.0)

    def load(self, source: Any, number: int, *, rank: int | None = None, due_ms: float = 0.0) -> Load:
        key = LoadKey(source.token, 0, tile(number))
        place = number if rank is None else rank
        return Load(key, RegisteredSource(source, 0), 0, (1, place), 0.0, due_ms)

    def arrivals(self, engine: Engine, clock: Clock, count: int) -> list[Arrival]:
        """So many of them; fails when they do not come."""
        got, end_ms = engine.take(), clock.now_ms() + 30_000
        while len(got) < count:
            assert engine.wait_until(end_ms), f"{len(got)} of {count} have arrived"
            got += engine.take()
        assert len(got) == count
        return got

    def test_every_load_ends_once_with_its_tile(self, start: Make, clock: Clock) -> None:
        source, engine = FakeSource(), start()
        loads = [self.load(source, number) for number in range(20)]
        assert engine.plan(Planned(loads)) == []
        got = self.arrivals(engine, clock, 20)
        assert {arrival.load.key for arrival in got} == {load.key for load in loads}
        for arrival in got:
            assert (arrival.state, arrival.load.state) == (State.LOADED, State.LOADED)
            assert arrival.data is not None
            (data,) = arrival.data
            np.testing.assert_array_equal(data, source.pixels(arrival.load.key.tile))
            assert not data.flags.writeable
            assert 0 <= arrival.started_ms <= arrival.done_ms <= clock.now_ms()
        assert engine.counts() == (0, 0, 0)
        assert threading.get_ident() not in source.threads, "workers read"

    def test_no_more_at_once_than_workers_and_the_most_urgent_first(self, start: Make, clock: Clock) -> None:
        source, engine = FakeSource(), start(workers=1)
        engine.plan(Planned([self.load(source, number, rank=9 - number) for number in range(10)]))
        got = [arrival.load.key.tile.grid[0] for arrival in self.arrivals(engine, clock, 10)]
        assert got == list(range(9, -1, -1))
        assert source.most_live == 1

    def test_what_is_not_due_waits(self, start: Make, clock: Clock) -> None:
        source, engine = FakeSource(), start()
        due_ms = clock.now_ms() + 40
        engine.plan(Planned([self.load(source, 0, due_ms=due_ms)]))
        assert engine.counts() == (0, 0, 1)
        (got,) = self.arrivals(engine, clock, 1)
        assert got.started_ms >= due_ms

    def test_what_nobody_wants_is_dropped_from_the_queue_and_only_from_there(
        self, start: Make, clock: Clock
    ) -> None:
        source, engine = FakeSource(), start()
        loads = [self.load(source, number, due_ms=1e9) for number in range(5)]
        engine.plan(Planned(loads))
        assert set(map(id, engine.plan(Planned(drop=loads[1:], hold=loads[:1])))) == set(map(id, loads))
        assert all(load.state is State.CANCELLED for load in loads)
        assert engine.plan(Planned(drop=loads)) == []
        assert engine.counts() == (0, 0, 0)
        assert source.reads == []

    def test_whatever_a_reader_raises_is_one_failed_load_after_its_tries(
        self, start: Make, clock: Clock
    ) -> None:
        errors = [OSError("no"), MemoryError(), KeyboardInterrupt(), SystemExit(3), KeyError("k")]

        def wild(key: TileKey) -> None:
            if key.grid[0] < len(errors):
                raise errors[key.grid[0]]

        source, engine = FakeSource(on_read=wild), start(retries=2, retry_delay_ms=1)
        engine.plan(Planned([self.load(source, number) for number in range(7)]))
        got = self.arrivals(engine, clock, 7)
        failed = [arrival for arrival in got if arrival.state is State.FAILED]
        assert {arrival.load.key.tile.grid[0] for arrival in failed} == set(range(5))
        assert all(arrival.error and arrival.data is None for arrival in failed)
        assert all(arrival.load.attempt == 2 for arrival in failed)
        assert source.counts[tile(0)] == 2

    def test_what_is_no_tile_fails_at_once(self, start: Make, clock: Clock) -> None:
        source = FakeSource(on_read=lambda key: np.zeros((3, 3), np.uint16))
        engine = start(retries=5)
        engine.plan(Planned([self.load(source, 0)]))
        (got,) = self.arrivals(engine, clock, 1)
        assert (got.state, len(source.reads)) == (State.FAILED, 1)

    def test_a_wait_in_which_nothing_arrives_ends_in_time(self, start: Make, clock: Clock) -> None:
        engine = start()
        end_ms = clock.now_ms() + 3
        assert not engine.wait_until(end_ms)
        assert clock.now_ms() >= end_ms
        assert not engine.wait_until(end_ms), "nor one that has ended before"

    def test_closing_ends_everything_and_closing_twice_is_harmless(self, start: Make, clock: Clock) -> None:
        before = set(threading.enumerate())
        source, engine = FakeSource(), start(workers=3)
        engine.plan(Planned([self.load(source, number) for number in range(50)]))
        engine.take()
        for _ in range(2):
            assert engine.close(5.0) == 0
        reads = len(source.reads)
        assert [t for t in set(threading.enumerate()) - before if t.name.startswith("octree")] == []
        engine.plan(Planned([self.load(source, 99)]))
        engine.take()
        assert len(source.reads) == reads


class BuildSchedulerContract:
    """Give ``scheduler``: what ``build`` takes by that name. What an executor promises is seen in what it builds."""

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        np.save(tmp_path / "image.npy", np.random.default_rng(1).integers(0, 60_000, (400, 390), np.uint16))
        return tmp_path / "image.npy"

    def test_it_builds_the_same_bytes_as_one_task_after_the_other(
        self, scheduler: Any, image: Path, tmp_path: Path
    ) -> None:
        options: dict[str, Any] = {"tile": 32, "shard": 1, "name": "n"}
        build(str(image), tmp_path / "one", scheduler="serial", **options)
        build(str(image), tmp_path / "this", scheduler=scheduler, workers=3, **options)
        assert tree(tmp_path / "this") == tree(tmp_path / "one")
        assert leftovers(tmp_path / "this") == []

    def test_told_to_stop_it_ends_and_what_is_done_counts(
        self, scheduler: Any, image: Path, tmp_path: Path
    ) -> None:
        done: list[int] = []
        options: dict[str, Any] = {"tile": 32, "shard": 1, "name": "n", "scheduler": scheduler, "workers": 2}
        with pytest.raises(Interrupted) as caught:
            build(
                str(image), tmp_path / "p", progress=lambda p: done.append(p.tasks_done),
                stop=lambda: bool(done) and done[-1] >= 3, **options,
            )  # fmt: skip
        assert caught.value.details["tasks_done"] == done[-1] >= 3
        build(str(image), tmp_path / "p", resume=True, **options)
        build(str(image), tmp_path / "whole", **options)
        assert tree(tmp_path / "p") == tree(tmp_path / "whole")

    def test_a_read_that_fails_is_the_caller_s_error(self, scheduler: Any, tmp_path: Path) -> None:
        # not at the top: its import takes longer than most of these tests
        import zarr

        array = zarr.create_array(tmp_path / "a.zarr", shape=(400, 400), chunks=(100, 100), dtype="u2")
        array[...] = 7
        damaged = next(iter(sorted((tmp_path / "a.zarr" / "c").rglob("1"))))
        damaged = damaged if damaged.is_file() else damaged / "1"
        damaged.write_bytes(b"no chunk at all")
        with pytest.raises(SourceError, match="cannot be read"):
            build(str(tmp_path / "a.zarr"), tmp_path / "p", tile=16, scheduler=scheduler, workers=2)
        assert not [t for t in threading.enumerate() if t.name.startswith("octree-build")]
