"""Reads that go on by themselves: one thread has several in hand, and none of them waits for another."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from loading_fakes import FakeSource, drain, pause, requests, settings, tile
from numpy.typing import NDArray
from test_cancelling import slowed, wish

from octree.pyramid import build
from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading import hands
from octree.render.loading.loader import TileLoader
from octree.render.loading.values import FailedTile, LoadedTile
from octree.render.report.trace import Trace
from octree.render.tiles.tile_source import open_tile_source


class Begun:
    """A tile that is there when ``over`` is set, or the read has been cancelled."""

    def __init__(self, result: Callable[[], NDArray[np.uint16]]) -> None:
        self.over, self.cancelled, self._result = threading.Event(), False, result

    def wait(self, timeout_s: float) -> bool:
        return self.over.wait(timeout_s)

    def result(self) -> NDArray[np.uint16]:
        self.over.wait()
        if self.cancelled:
            raise RuntimeError("cancelled")
        return self._result()

    def cancel(self) -> None:
        self.cancelled = True
        self.over.set()


class Beginning(FakeSource):
    """Reads go on by themselves: each ends when ``when(tiles begun so far)`` says it may. ``alone``: tiles that only
    ``read_tile`` can read."""

    begin_levels = frozenset({0})

    def __init__(
        self,
        when: Callable[[dict[TileKey, Begun]], list[TileKey]],
        alone: Callable[[TileKey], bool] = lambda key: False,
        **more: object,
    ) -> None:
        super().__init__(**more)
        self.when, self.alone = when, alone
        self.begun: dict[TileKey, Begun] = {}
        self.beginners: list[int] = []

    def begin_tile(self, key: TileKey) -> Begun | None:
        if self.alone(key):
            return None
        with self._lock:
            self.beginners.append(threading.get_ident())
            self.begun[key] = Begun(lambda: self.pixels(key))
            ended = [self.begun[each] for each in self.when(self.begun)]
        for begun in ended:
            begun.over.set()
        return self.begun[key]


def all_at_once(count: int) -> Callable[[dict[TileKey, Begun]], list[TileKey]]:
    """Nothing ends before so many have begun."""
    return lambda begun: list(begun) if len(begun) >= count else []


def test_reads_are_begun_together_by_one_thread() -> None:
    """Eight reads of which none ends before all have begun: with one after the other, none ever would."""
    source = Beginning(all_at_once(8))
    with TileLoader(settings(workers=8)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(8)]), moved=False)
        got = drain(loader, limit_s=60)
    assert {each.key.tile for each in got} == {tile(i) for i in range(8)}
    assert all((each.data == source.pixels(each.key.tile)).all() for each in got)
    assert len(set(source.beginners)) == 1
    assert not source.reads


def test_no_more_than_the_workers_are_read_at_a_time() -> None:
    most, lock = 0, threading.Lock()

    def ends(begun: dict[TileKey, Begun]) -> list[TileKey]:
        nonlocal most
        pending = [key for key, each in begun.items() if not each.over.is_set()]
        with lock:
            most = max(most, len(pending))
        return pending if len(pending) == 4 else []

    source = Beginning(ends)
    with TileLoader(settings(workers=4)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(40)]), moved=False)
        assert len(drain(loader, limit_s=60)) == 40
    assert most == 4


class Far(Beginning):
    in_flight = 40


def test_of_a_source_that_is_far_away_more_are_read_than_there_are_workers() -> None:
    """Forty reads of which none ends before all have begun, by four workers."""
    source = Far(all_at_once(40))
    with TileLoader(settings(workers=4)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(60)]), moved=False)
        assert len(drain(loader, limit_s=60)) == 60
    assert len(set(source.beginners)) <= 4


def test_beside_one_that_is_far_away_others_have_no_more_than_the_workers() -> None:
    most = 0

    def ends(begun: dict[TileKey, Begun]) -> list[TileKey]:
        nonlocal most
        pending = [key for key, each in begun.items() if not each.over.is_set()]
        most = max(most, len(pending))
        return pending if len(pending) == 4 or len(begun) == 20 else []

    near, far = Beginning(ends, token="near"), Far(list, token="far")
    with TileLoader(settings(workers=4)) as loader:
        loader.add_source(far)
        loader.add_source(near)
        loader.plan("one", requests(far, [tile(i) for i in range(40)]), moved=False)
        loader.plan("other", requests(near, [tile(i) for i in range(20)]), moved=False)
        assert len(drain(loader, limit_s=60)) == 60
    assert most == 4


def test_large_tiles_are_divided_among_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "MOST_BYTES", 2 * 128)
    source = Beginning(all_at_once(8))
    with TileLoader(settings(workers=8)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(8)]), moved=False)
        assert len(drain(loader, limit_s=60)) == 8
    assert len(set(source.beginners)) == 4


def test_a_read_that_never_ends_holds_up_no_other_and_times_out_alone() -> None:
    source = Beginning(lambda begun: [key for key in begun if key != tile(0)])
    with TileLoader(settings(workers=4, retries=2, retry_delay_ms=1, read_timeout_ms=300)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(12)]), moved=False)
        got = drain(loader, limit_s=60)
        assert not [each for each in got[:-1] if isinstance(each, FailedTile)]
        assert all(each.attempts == 1 for each in got[:-1])
        last = got[-1]
        assert isinstance(last, FailedTile)
        assert (last.key.tile, last.attempts) == (tile(0), 2)
        assert "timed out" in last.error


def test_a_thread_that_hangs_is_replaced_and_what_it_had_in_hand_read_by_another() -> None:
    """Its ``result`` never returns, though its read has ended: nothing could be done about that but to go on without it."""
    stuck = threading.Event()

    class Hanging(Beginning):
        hung = False

        def pixels(self, key: TileKey) -> NDArray[np.uint16]:
            if key == tile(0) and not self.hung:
                self.hung = True
                pause(60, stuck)
            return super().pixels(key)

    source = Hanging(all_at_once(4))
    with TileLoader(settings(workers=4, retry_delay_ms=1, read_timeout_ms=100)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(4)]), moved=False)
        got = drain(loader, limit_s=60)
        assert {each.key.tile for each in got if isinstance(each, LoadedTile)} == {tile(i) for i in range(4)}
        loader.plan("view", requests(source, [tile(i) for i in range(4, 12)]), moved=False)
        assert len(drain(loader, limit_s=60)) == 8
        stuck.set()


def test_what_nobody_wants_is_cancelled_in_mid_read_and_its_place_taken() -> None:
    source = Beginning(lambda begun: [key for key in begun if key.grid[0] >= 4])
    with TileLoader(settings(workers=4)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(4)]), moved=False)
        while len(source.begun) < 4:
            loader.wait(0.001)
        loader.plan("view", requests(source, [tile(3), *[tile(i) for i in range(4, 7)]]), moved=True)
        got = drain_until(loader, 3)
        assert {each.key.tile for each in got} == {tile(i) for i in range(4, 7)}
        assert [source.begun[tile(i)].cancelled for i in range(4)] == [True, True, True, False]
        source.begun[tile(3)].over.set()
        assert [each.key.tile for each in drain(loader, limit_s=60)] == [tile(3)]
        assert loader.stats().failed == 0


def drain_until(loader: TileLoader, count: int) -> list[LoadedTile | FailedTile]:
    got = loader.poll()
    while len(got) < count:
        assert loader.wait(60), loader.stats()
        got += loader.poll()
    return got


def test_what_cannot_be_begun_is_read_alone_by_several_threads() -> None:
    together = threading.Barrier(3, timeout=60)

    def read(key: TileKey) -> None:
        together.wait()

    source = Beginning(all_at_once(1), alone=lambda key: True, on_read=read)
    with TileLoader(settings(workers=3)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(6)]), moved=False)
        assert len(drain(loader, limit_s=60)) == 6
    assert source.most_live == 3


def test_one_that_cannot_be_begun_waits_for_no_others() -> None:
    """Of the same kind: nobody knows before it is tried."""
    source = Beginning(lambda begun: [], alone=lambda key: key == tile(2))
    with TileLoader(settings(workers=4)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(3)]), moved=False)
        assert [each.key.tile for each in drain_until(loader, 1)] == [tile(2)]
        for begun in source.begun.values():
            begun.over.set()
        assert len(drain(loader, limit_s=60)) == 2


@pytest.mark.parametrize("when", ["begin", "end"])
def test_what_goes_wrong_with_one_is_a_failure_of_that_one(when: str) -> None:
    class Bad(Beginning):
        def begin_tile(self, key: TileKey) -> Begun | None:
            if key == tile(1) and when == "begin":
                raise OSError("no such shard")
            return super().begin_tile(key)

        def pixels(self, key: TileKey) -> NDArray[np.uint16]:
            if key == tile(1) and when == "end":
                raise OSError("no such shard")
            return super().pixels(key)

    source = Bad(all_at_once(1))
    with TileLoader(settings(workers=4, retries=3, retry_delay_ms=1)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(4)]), moved=False)
        got = {each.key.tile: each for each in drain(loader, limit_s=60)}
    failed = got.pop(tile(1))
    assert isinstance(failed, FailedTile)
    assert (failed.error, failed.attempts) == ("OSError: no such shard", 3)
    assert all(isinstance(each, LoadedTile) and each.attempts == 1 for each in got.values())


def test_wrong_pixels_are_told_as_ever() -> None:
    class Wrong(Beginning):
        def pixels(self, key: TileKey) -> NDArray[np.uint16]:
            return np.zeros((3, 3), np.uint16)

    source = Wrong(all_at_once(1))
    with TileLoader(settings(workers=2)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(0)]), moved=False)
        (got,) = drain(loader, limit_s=60)
    assert isinstance(got, FailedTile)
    assert (got.error, got.attempts) == ("the source returned shape (3, 3), not (8, 8)", 1)


def test_closing_cancels_all_that_a_thread_has_in_hand() -> None:
    source = Beginning(lambda begun: [])
    loader = TileLoader(settings(workers=4))
    loader.add_source(source)
    loader.plan("view", requests(source, [tile(i) for i in range(9)]), moved=False)
    while len(source.begun) < 4:
        loader.wait(0.001)
    loader.close()
    assert len(source.begun) == 4
    assert all(each.cancelled for each in source.begun.values())


def test_a_trace_has_a_span_for_each_tile_one_after_the_other() -> None:
    source, trace = Beginning(all_at_once(6)), Trace()
    with TileLoader(settings(workers=6), trace=trace) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(i) for i in range(6)]), moved=False)
        drain(loader, limit_s=60)
    spans = [event for event in trace.to_json()["traceEvents"] if event.get("name") == "load"]
    assert {span["args"]["grid"] for span in spans} == {str((i, 0)) for i in range(6)}
    for before, after in itertools.pairwise(spans):
        assert after["ts"] >= before["ts"] + before["dur"] - 0.01


def test_a_plane_of_a_pyramid_is_read_in_one_go(tmp_path: Path) -> None:
    """The reads of 16 tiles are begun before any of them has ended, by one thread; the pixels are those of single reads."""
    path = tmp_path / "p.ome.zarr"
    build(np.arange(256 * 256, dtype=np.uint16).reshape(256, 256), path, tile=64)
    with open_tile_source(path, tile=64) as source, TileLoader(settings(workers=16)) as loader:
        slow = slowed(source)
        loader.add_source(source)
        # of the first row none ever ends: all four are begun all the same, and the twelve others arrive
        keys = [wish(source, row)[0].key for row in range(4)]
        tiles = [TileKey(0, (), (row, col)) for row in range(4) for col in range(4)]
        wishes = [wish(source, 0)[0]._replace(key=keys[0]._replace(tile=each)) for each in tiles]
        loader.plan("view", wishes, moved=False)
        got = drain_until(loader, 12)
        assert len(slow.endless) == 4
        threads = [each for each in threading.enumerate() if each.name.startswith("octree-load")]
        assert len(threads) == 1
        for each in got:
            assert isinstance(each, LoadedTile)
            assert each.key.tile.grid[0] > 0
            assert np.array_equal(each.data, source.read_tile(each.key.tile))
        assert source.reads_on(threading.get_ident()) == 12


def test_processes_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.ome.zarr"
    build(np.arange(256 * 64, dtype=np.uint16).reshape(256, 64), path, tile=64)
    pool = PoolSettings(num_workers=2, delay_queue_ms=0.0, use_processes=True)
    with (
        open_tile_source(path, tile=64) as source,
        TileLoader(LoaderSettings(pools=((0, pool),))) as loader,
    ):
        loader.add_source(source)
        loader.plan("view", wish(source, 0, 1, 2, 3), moved=False)
        got = drain(loader, limit_s=60)
        assert sorted(each.key.tile.grid[0] for each in got if isinstance(each, LoadedTile)) == [0, 1, 2, 3]
