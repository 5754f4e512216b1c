"""Pools in real time: processes, shutdown, leaks, logs, cancel tokens."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import psutil
import pytest
from loading_fakes import FakeSource, drain, number, pause, requests, settings, tile

from octree.pyramid.errors import DestinationError
from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.cache import TileCache
from octree.render.loading.load import (
    CancelToken,
    RegisteredSource,
    WorkerFailed,
    current_cancel_token,
    set_current_token,
)
from octree.render.loading.loader import TileLoader
from octree.render.loading.network import Network
from octree.render.loading.processes import ProcessReader
from octree.render.loading.values import FailedTile, LoadedTile, LoadKey, LoadRequest, Tier
from octree.render.tiles.tile_source import open_tile_source

# before the test: multiprocessing keeps a process of its own, once it was asked for any
_there: set[psutil.Process] = set()


def children() -> list[psutil.Process]:
    """Processes that the test has started."""
    return [child for child in psutil.Process().children(recursive=True) if child not in _there]


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No thread, process or open file survives a test."""
    threads, me = set(threading.enumerate()), psutil.Process()
    files = me.num_fds()
    _there.clear()
    _there.update(children())
    yield
    gc.collect()
    assert [t.name for t in set(threading.enumerate()) - threads if t.name.startswith("octree")] == []
    assert children() == []
    assert me.num_fds() <= files + 4  # libraries open a few of their own the first time


def load_one(loader: TileLoader, source, key: TileKey):
    loader.plan("view", [LoadRequest(LoadKey(source.token, source.version, key), Tier.IDEAL)], moved=False)
    (got,) = drain(loader, limit_s=60)
    return got


# shutdown and leaks


@pytest.mark.parametrize("network", [Network(latency_ms=30_000), Network(hang_rate=1.0, hang_ms=1e7)])
def test_close_returns_at_once_with_slow_loads_queued(network: Network) -> None:
    source = FakeSource()
    loader = TileLoader(settings(workers=10), network=network)
    loader.add_source(source)
    loader.plan("view", requests(source, [tile(i) for i in range(100)]), moved=False)
    while loader.stats().loading < 10:
        loader.wait(0.001)
    before_s = time.monotonic()
    loader.close()
    assert time.monotonic() - before_s < 5
    loader.close()


def test_close_does_not_wait_for_a_reader_that_never_returns() -> None:
    stuck = threading.Event()
    source = FakeSource(on_read=lambda key: pause(30, stuck))
    loader = TileLoader(settings(workers=4))
    loader.add_source(source)
    loader.plan("view", requests(source, [tile(i) for i in range(100)]), moved=False)
    while source.live < 4:
        loader.wait(0.001)
    before_s = time.monotonic()
    loader.close()
    assert time.monotonic() - before_s < 5
    assert len(source.reads) == 4
    stuck.set()
    for thread in [t for t in threading.enumerate() if t.name.startswith("octree")]:
        thread.join(10)


def test_arrays_die_with_the_cache_d4_d5() -> None:
    """D4, D5: finished requests and tree nodes kept every tile ever loaded."""
    alive: list[weakref.ref[np.ndarray]] = []

    def remember(key: TileKey) -> np.ndarray:
        data = np.full((8, 8), number(key), np.uint16)
        alive.append(weakref.ref(data))
        return data

    source, cache = FakeSource(on_read=remember), TileCache(10 * 128)
    with TileLoader(settings(workers=3), cache=cache) as loader:
        loader.add_source(source)
        for start in range(0, 500, 25):
            loader.plan("view", requests(source, [tile(start + i) for i in range(25)]), moved=True)
            drain(loader)
        loader.plan("view", (), moved=True)
        gc.collect()
        assert sum(ref() is not None for ref in alive) <= 10
        assert cache.bytes <= 10 * 128
    cache.clear()
    gc.collect()
    assert sum(ref() is not None for ref in alive) == 0


def test_roaming_stays_within_the_budget_and_leaves_nothing() -> None:
    """10,000 tiles of 64 KiB through a cache of 4 MiB."""
    source, cache = FakeSource(edge=181), TileCache(4 * 2**20)
    most = 0
    with TileLoader(settings(workers=4), cache=cache) as loader:
        loader.add_source(source)
        for view in range(200):
            loader.plan("view", requests(source, [tile(view * 50 + i) for i in range(50)]), moved=True)
            drain(loader)
            most = max(most, cache.bytes)
        stats = loader.stats()
    assert stats.loaded == 10_000
    assert most <= cache.budget_bytes
    assert stats.peak_cache_bytes <= cache.budget_bytes
    assert stats.evicted >= 9_900
    assert (stats.queued, stats.loading, stats.delayed) == (0, 0, 0)


# processes


def write_npy(path: Path, size: int = 700) -> np.ndarray:
    data = np.random.default_rng(1).integers(0, 60_000, (size, size + 50), dtype=np.uint16)
    np.save(path, data)
    return data


def with_processes(count: int = 2, **more) -> LoaderSettings:
    return LoaderSettings(pools=((0, PoolSettings(count, use_processes=True, delay_queue_ms=0)),), **more)


def test_worker_processes_read_the_same_pixels_d9(tmp_path: Path) -> None:
    """D9: requests could not be pickled, so the option never worked."""
    data = write_npy(tmp_path / "an image.npy")
    with (
        open_tile_source(tmp_path / "an image.npy", tile=256) as source,
        TileLoader(with_processes()) as loader,
    ):
        loader.add_source(source)
        keys = [TileKey(0, (), (r, c)) for r in range(3) for c in range(3)] + [TileKey(1, (), (0, 0))]
        loader.plan(
            "view", [LoadRequest(LoadKey(source.token, 0, key), Tier.IDEAL) for key in keys], moved=False
        )
        got = {t.key.tile: t for t in drain(loader, limit_s=60)}
        assert len(got) == 10
        for key in keys[:9]:
            r, c = key.grid
            expected = data[r * 256 : r * 256 + 256, c * 256 : c * 256 + 256]
            np.testing.assert_array_equal(got[key].data, expected)
            assert not got[key].data.flags.writeable
        np.testing.assert_array_equal(got[keys[9]].data, source.read_tile(keys[9]))
        assert len(children()) == 2
        assert loader.stats().main_thread_reads == 1, "the one of this test"


def test_arrays_in_memory_are_read_by_threads_where_processes_are_asked_for() -> None:
    source = FakeSource()
    with TileLoader(with_processes()) as loader:
        loader.add_source(source)
        assert isinstance(load_one(loader, source, tile(3)), LoadedTile)
        assert children() == []


class Recipe(FakeSource):
    """Reads in the child what the test says."""

    def __init__(self, what: str) -> None:
        super().__init__(what)

    def worker_recipe(self):
        return (open_child_source, self.token)


def open_child_source(what: str) -> FakeSource:
    def on_read(key: TileKey) -> object:
        print("a library talks on stdout", flush=True)
        if what == "dies" and key.grid[1] == 0:
            os._exit(9)
        if what == "raises":
            raise OSError("no such block")
        if what == "hangs" and key.grid[1] == 0:
            time.sleep(1000)
        return np.zeros((99, 99), np.uint16) if what == "lies" else None

    return FakeSource(what, on_read)


@pytest.fixture(autouse=True)
def importable_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", here + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(open_child_source, "__module__", Path(__file__).stem)
    monkeypatch.setitem(sys.modules, Path(__file__).stem, sys.modules[__name__])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("dies", "the worker process ended (exit code 9)"),
        ("raises", "OSError: no such block"),
        ("lies", "shape (99, 99)"),
    ],
)
def test_what_goes_wrong_in_a_child_is_a_failed_tile(what: str, words: str) -> None:
    source = Recipe(what)
    with TileLoader(with_processes(1, retries=1)) as loader:
        loader.add_source(source)
        failed = load_one(loader, source, tile(0, 0))
        assert isinstance(failed, FailedTile)
        assert words in failed.error
        if what == "dies":
            assert isinstance(load_one(loader, source, tile(0, 1)), LoadedTile)


def test_a_child_that_hangs_is_killed_and_replaced() -> None:
    source = Recipe("hangs")
    with TileLoader(with_processes(1, retries=1, read_timeout_ms=5000)) as loader:
        loader.add_source(source)
        failed = load_one(loader, source, tile(0, 0))
        assert isinstance(failed, FailedTile)
        assert "timed out" in failed.error
        assert isinstance(load_one(loader, source, tile(0, 1)), LoadedTile)


def test_close_kills_children_that_hang() -> None:
    source = Recipe("hangs")
    loader = TileLoader(with_processes(2))
    loader.add_source(source)
    loader.plan("view", requests(source, [tile(0, 0), tile(1, 0)]), moved=False)
    while len(children()) < 2:
        loader.wait(0.01)
    before_s = time.monotonic()
    loader.close()
    assert time.monotonic() - before_s < 5
    assert children() == []


def test_a_cancel_that_comes_late_spares_the_child() -> None:
    reader, source = ProcessReader(), RegisteredSource(Recipe("works"), 0)
    token = CancelToken()
    set_current_token(token)
    try:
        first = reader.read(source, tile(0, 1))
        (child,) = children()
        token.cancel()
        set_current_token(CancelToken())
        again = reader.read(source, tile(0, 1))
        assert (first == again).all()
        assert children() == [child]
        late = CancelToken()
        late.cancel()
        set_current_token(late)
        with pytest.raises(WorkerFailed, match="the worker process ended"):
            reader.read(source, tile(0, 1))
    finally:
        set_current_token(None)
        reader.close()


def test_processes_work_from_a_plain_script(tmp_path: Path) -> None:
    """No ``if __name__ == "__main__"`` needed: children never import the caller's script."""
    write_npy(tmp_path / "a.npy")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        from octree.pyramid.model import TileKey
        from octree.render.config import LoaderSettings, PoolSettings
        from octree.render.loading.loader import TileLoader
        from octree.render.loading.values import LoadKey, LoadRequest, Tier
        from octree.render.tiles.tile_source import open_tile_source

        print("begun")
        source = open_tile_source("a.npy", tile=256)
        loader = TileLoader(LoaderSettings(pools=((0, PoolSettings(2, use_processes=True)),)))
        loader.add_source(source)
        wishes = [LoadRequest(LoadKey(source.token, 0, TileKey(0, (), (r, 0))), Tier.IDEAL) for r in range(2)]
        loader.plan("view", wishes, moved=False)
        while not loader.settled():
            loader.wait(1)
            loader.poll()
        print(loader.stats().loaded)
        loader.close()
        """)
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["begun", "2"], "")


# cancel tokens


def test_a_cancel_reaches_a_reader_that_waits_for_a_future() -> None:
    """Asynchronous stores give up their request when the loader gives up the tile."""
    cancelled = threading.Event()
    seen: list[CancelToken | None] = []

    def wait_for_future(key: TileKey) -> None:
        token = current_cancel_token()
        seen.append(token)
        if key == tile(0):
            assert token is not None
            token.on_cancel(cancelled.set)
            assert cancelled.wait(30)
            raise OSError("cancelled")

    source = FakeSource(on_read=wait_for_future)
    with TileLoader(settings(workers=1)) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(0)]), moved=False)
        while source.live == 0:
            loader.wait(0.001)
        loader.plan("view", requests(source, [tile(1)]), moved=True)
        assert isinstance(drain(loader, limit_s=20)[0], LoadedTile)
        assert cancelled.is_set()
    assert current_cancel_token() is None


def test_a_callback_of_a_cancelled_token_is_called_once_and_at_once() -> None:
    token, calls = CancelToken(), []
    token.on_cancel(lambda: calls.append("early"))
    token.cancel()
    token.cancel()
    token.on_cancel(lambda: calls.append("late"))
    assert calls == ["early", "late"]
    assert token.wait(30)
    other = CancelToken()
    other.on_cancel(lambda: calls.append("never"))
    assert not other.forget_callbacks()
    other.cancel()
    assert calls == ["early", "late"]


# the log


def test_the_log_has_a_readable_line_per_load(tmp_path: Path) -> None:
    def broken(key: TileKey) -> None:
        if key == tile(1):
            raise OSError("no such thing")

    path = tmp_path / "log ü.txt"
    source = FakeSource(on_read=broken)
    with TileLoader(settings(retries=1, log_path=str(path))) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(0), tile(1), tile(2)]), moved=False)
        drain(loader)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert sum("loaded" in line and "bytes=128" in line for line in lines) == 2
    assert (
        sum("failed" in line and "OSError: no such thing" in line and "grid=(1, 0)" in line for line in lines)
        == 1
    )


def test_the_plan_log_has_a_line_per_plan(tmp_path: Path) -> None:
    path = tmp_path / "plans.txt"
    source = FakeSource()
    with TileLoader(settings(plan_log_path=str(path))) as loader:
        loader.add_source(source)
        loader.plan("view", requests(source, [tile(0), tile(1)]), moved=True)
        drain(loader)
        loader.plan("view", requests(source, [tile(1), tile(2), tile(3)]), moved=False)
    first, second = path.read_text(encoding="utf-8").splitlines()
    assert "level=0 stand_in=0 ideal=2 prefetch=0 begun=2 moved=True" in first
    assert "ideal=3" in second
    assert "begun=2" in second


def test_a_log_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="no/such"):
        TileLoader(settings(log_path=str(tmp_path / "no/such/log.txt")))
