"""Executors: serial, threads, dask.distributed; stopping, failing, losing a worker."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
from build_tools import image, leftovers, octree_json, start, tree
from PIL import Image

from octree.pyramid import build
from octree.pyramid.building.builder import plan_build
from octree.pyramid.building.executors import in_window, never
from octree.pyramid.building.task import Recipe, Task
from octree.pyramid.errors import Interrupted, SourceError, UsageError, WriteError
from octree.pyramid.model import Box


def groups(count: int) -> Any:
    return ((Task(0, place),) for place in range(count))


class Recorder:
    """Stands in for a pool: says what was submitted, and how many were under way at most."""

    def __init__(self, pool: ThreadPoolExecutor, fail: set[int] | None = None) -> None:
        self.pool, self.fail = pool, fail or set()
        self.begun: list[int] = []
        self.under_way = self.most = 0
        self.lock = threading.Lock()

    def submit(self, group: Any) -> Future[Any]:
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        return self.pool.submit(self.run, group[0].place)

    def run(self, place: int) -> list[Any]:
        with self.lock:
            self.begun.append(place)
            self.under_way -= 1
        if place in self.fail:
            raise SourceError(f"no {place}")
        return [place]


def test_a_window_is_never_exceeded_and_everything_is_done_once() -> None:
    with ThreadPoolExecutor(3) as pool:
        recorder = Recorder(pool)
        results = [r for batch in in_window(recorder.submit, groups(200), 4, never) for r in batch]
    assert sorted(results) == list(range(200))
    assert recorder.most <= 4


def test_groups_are_taken_lazily() -> None:
    taken: list[int] = []

    def endless() -> Any:
        for place in range(10**9):
            taken.append(place)
            yield (Task(0, place),)

    with ThreadPoolExecutor(1) as pool:
        results = in_window(Recorder(pool).submit, endless(), 3, lambda: len(taken) >= 10)
        assert len(list(results)) == len(taken) <= 11


def test_after_a_failure_nothing_new_begins_and_results_before_it_arrive() -> None:
    with ThreadPoolExecutor(1) as pool:
        recorder = Recorder(pool, fail={5})
        arrived: list[Any] = []
        with pytest.raises(SourceError, match="no 5"):
            arrived.extend(r for batch in in_window(recorder.submit, groups(100), 2, never) for r in batch)
    assert set(range(5)) <= set(arrived)
    assert len(recorder.begun) <= 8


@pytest.mark.parametrize("scheduler", ["serial", "threads"])
def test_stop_keeps_what_is_done(tmp_path: Path, scheduler: str) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted) as caught:
        build(
            image((500, 500)), tmp_path / "p", tile=16, shard=1, workers=2, scheduler=scheduler,
            progress=lambda p: done.append(p.tasks_done), stop=lambda: bool(done) and done[-1] >= 3,
        )  # fmt: skip
    assert caught.value.details["tasks_done"] == done[-1] >= 3


def test_a_failure_in_a_thread_is_the_caller_s_error_and_leaves_no_thread(tmp_path: Path) -> None:
    class Broken:
        shape, dtype, works = (600, 600), np.dtype("u2"), 0

        def __getitem__(self, key: Any) -> np.ndarray:
            if key[0].start >= self.works:
                raise OSError("the disk is on fire")
            return np.ones([part.stop - part.start for part in key], "u2")

    for Broken.works in (0, 256):
        with pytest.raises(SourceError, match="on fire"):
            build(Broken(), tmp_path / "p", tile=16, workers=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("octree-build")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "image.npy", image((900, 900)))
    return tmp_path / "image.npy"


def test_a_local_cluster_writes_the_same_bytes_and_survives_the_end_of_all_workers(
    tmp_path: Path, source: Path
) -> None:
    """One cluster for the whole story: starting processes is what takes the time."""
    options: dict[str, Any] = {"tile": 16, "shard": 1, "name": "n"}
    build(str(source), tmp_path / "here", scheduler="serial", **options)
    killed: list[int] = []
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):

        def kill_all(progress: Any) -> None:
            if progress.tasks_done >= 5 and not killed:
                killed.extend(client.run(os.getpid).values())
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)

        result = build(str(source), tmp_path / "there", scheduler=client, progress=kill_all, **options)
    assert killed
    assert result.scheduler == "distributed"
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert leftovers(tmp_path / "there") == []


def test_the_command_builds_on_a_local_cluster(tmp_path: Path, source: Path) -> None:
    result = octree_json("build", source, tmp_path / "p", "--scheduler", "local", "--tile", 64)
    assert result["scheduler"] == "distributed"


def test_ctrl_c_at_a_terminal_reaches_the_build_and_not_its_workers(tmp_path: Path, source: Path) -> None:
    """A terminal sends it to every process of the command."""
    options = ["--tile", "16", "--shard", "1", "--name", "n"]
    octree_json("build", source, tmp_path / "here", *options)
    args = ["build", source, tmp_path / "p", *options, "--scheduler", "local", "--progress", "json"]
    process = start(*args, start_new_session=True)
    assert process.stderr is not None
    assert "progress" in json.loads(process.stderr.readline())  # the workers are there
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    octree_json("build", source, tmp_path / "p", *options, "--resume")
    assert tree(tmp_path / "p") == tree(tmp_path / "here")


def test_a_cluster_that_loses_its_work_is_no_internal_error(tmp_path: Path, source: Path) -> None:
    class Lost:
        def add_done_callback(self, call: Any) -> None:
            call(self)

        def result(self) -> Any:
            raise CancelledError("connection lost")

    class Client:
        def nthreads(self) -> dict[str, int]:
            return {"worker": 1}

        def submit(self, *args: Any, **options: Any) -> Lost:
            return Lost()

    with pytest.raises(WriteError, match=r"cluster lost .* connection lost") as caught:
        build(str(source), tmp_path / "p", scheduler=Client())
    assert "--resume" in (caught.value.hint or "")


def test_an_address_where_nobody_answers_is_a_usage_error(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match="no dask scheduler"):
        build(str(source), tmp_path / "p", scheduler="tcp://127.0.0.1:9")


def test_workers_elsewhere_open_a_source_of_labels_as_ids(tmp_path: Path) -> None:
    picture = Image.fromarray(image((60, 90)).astype(np.uint8) % 5, "P")
    picture.putpalette([i * 7 % 256 for i in range(768)])
    picture.save(tmp_path / "ids.png")
    plan = plan_build(tmp_path / "ids.png", labels=True)
    recipe = Recipe(plan, str(tmp_path), str(tmp_path / "ids.png"), None, False, False)
    assert recipe.make_runner()._source.read(Box((0, 0), (60, 90))).tolist() == np.asarray(picture).tolist()
