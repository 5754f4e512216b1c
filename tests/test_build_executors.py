"""Executors: serial, threads, dask.distributed; stopping, failing, losing a worker."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
from build_tools import image, leftovers, octree, octree_json, start, tree
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


def sockets_of_tree(pid: int) -> set[str]:
    """TCP and UDP sockets, open or listening, of a process and all it started (Linux)."""
    known = {
        line.split()[9]: f"{table} {line.split()[1]}"
        for table in ("tcp", "tcp6", "udp", "udp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    }
    found, todo = set(), [pid]
    while todo:
        process = Path(f"/proc/{todo.pop()}")
        for task in process.glob("task/*/children"):
            todo += map(int, task.read_text().split())
        for file in process.glob("fd/*"):
            with contextlib.suppress(OSError):
                found.add(known.get(os.readlink(file).removeprefix("socket:[").rstrip("]"), ""))
    return found - {""}


def await_work(process: Any) -> None:
    """Until the first task is done: the workers are there."""
    while json.loads(process.stderr.readline())["progress"]["tasks_done"] == 0:
        pass


def test_local_processes_open_no_socket_and_write_the_same_bytes(tmp_path: Path, source: Path) -> None:
    options = ["--tile", "16", "--shard", "1", "--name", "n"]
    octree_json("build", source, tmp_path / "here", *options)
    args = ["build", source, tmp_path / "p", *options, "--scheduler", "local", "--workers", "2"]
    process = start(*args, "--progress", "json", "--json")
    await_work(process)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()) >= 2
        assert sockets_of_tree(process.pid) == set()
    finally:
        os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, json.loads(out)["scheduler"]) == (0, "local")
    assert tree(tmp_path / "p") == tree(tmp_path / "here")


def test_a_socket_would_be_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert sockets_of_tree(os.getpid())


def test_local_processes_survive_the_end_of_all_workers(tmp_path: Path, source: Path) -> None:
    options: dict[str, Any] = {"tile": 16, "shard": 1, "name": "n", "workers": 2}
    build(str(source), tmp_path / "here", scheduler="serial", **options)
    killed: list[int] = []

    def kill_all(progress: Any) -> None:
        if progress.tasks_done >= 5 and not killed:
            killed.extend(child.pid or 0 for child in multiprocessing.active_children())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    result = build(str(source), tmp_path / "there", scheduler="local", progress=kill_all, **options)
    assert killed
    assert result.scheduler == "local"
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert leftovers(tmp_path / "there") == []


def test_workers_that_always_die_are_a_failed_build_and_not_a_loop(tmp_path: Path, source: Path) -> None:
    def kill_all() -> bool:
        for child in multiprocessing.active_children():
            child.kill()
        return False

    with pytest.raises(WriteError, match="times over") as caught:
        build(str(source), tmp_path / "p", tile=16, shard=1, workers=2, scheduler="local", stop=kill_all)
    assert "--resume" in (caught.value.hint or "")


def test_local_workers_end_with_the_build_that_was_killed(tmp_path: Path, source: Path) -> None:
    args = ["build", source, tmp_path / "p", "--tile", "16", "--shard", "1", "--scheduler", "local"]
    process = start(*args, "--progress", "json")
    await_work(process)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert workers
    process.kill()
    process.communicate(timeout=60)  # ends when the last worker has closed stderr
    assert not [
        pid for pid in workers if Path(f"/proc/{pid}/fd").exists() and os.path.exists(f"/proc/{pid}/exe")
    ]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tls://127.0.0.1:9"])
def test_tcp_is_warned_of_in_one_line(tmp_path: Path, source: Path, address: str) -> None:
    done = octree("build", source, tmp_path / "p", "--scheduler", address)
    assert done.returncode == 2
    warned = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
    assert len(warned) == address.startswith("tcp")
    assert all("unauthenticated" in line and "tls://" in line for line in warned)


def test_ctrl_c_at_a_terminal_reaches_the_build_and_not_its_workers(tmp_path: Path, source: Path) -> None:
    """A terminal sends it to every process of the command."""
    options = ["--tile", "16", "--shard", "1", "--name", "n"]
    octree_json("build", source, tmp_path / "here", *options)
    args = ["build", source, tmp_path / "p", *options, "--scheduler", "local", "--progress", "json"]
    process = start(*args, start_new_session=True)
    await_work(process)
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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its own authority, for this machine."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key, made = path.with_name("key.pem"), path.with_name("cert.pem")
    subprocess.run(
        [
            *[
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ],
            *["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", made],
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(key.read_bytes() + made.read_bytes())
    return path


def test_a_cluster_with_tls_builds_through_the_command(
    tmp_path: Path, source: Path, certificate: Path
) -> None:
    tls = {"tls_ca_file": str(certificate), "require_encryption": True}
    for role in ("client", "worker", "scheduler"):
        tls |= {f"tls_{role}_key": str(certificate), f"tls_{role}_cert": str(certificate)}
    build(str(source), tmp_path / "here", tile=64, name="n")
    environment = {**os.environ, "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(certificate)}
    for word in ("KEY", "CERT"):
        environment[f"DASK_DISTRIBUTED__COMM__TLS__CLIENT__{word}"] = str(certificate)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
        protocol="tls://", security=distributed.Security(**tls),
    ) as cluster:  # fmt: skip
        options = ["--tile", "64", "--name", "n", "--scheduler", cluster.scheduler_address]
        refused = octree("build", source, tmp_path / "p", *options)
        assert refused.returncode == 2, refused.stderr
        assert "tls://" in refused.stderr
        result = octree_json("build", source, tmp_path / "p", *options, env=environment)
    assert result["scheduler"] == "distributed"
    assert tree(tmp_path / "p") == tree(tmp_path / "here")


def test_workers_elsewhere_open_a_source_of_labels_as_ids(tmp_path: Path) -> None:
    picture = Image.fromarray(image((60, 90)).astype(np.uint8) % 5, "P")
    picture.putpalette([i * 7 % 256 for i in range(768)])
    picture.save(tmp_path / "ids.png")
    plan = plan_build(tmp_path / "ids.png", labels=True)
    recipe = Recipe(plan, str(tmp_path), str(tmp_path / "ids.png"), None, False, False)
    assert recipe.make_runner()._source.read(Box((0, 0), (60, 90))).tolist() == np.asarray(picture).tolist()


def test_a_worker_keeps_what_it_has_freed(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    """Else every block comes from the system as zeroed pages: dask's workers begin like that."""
    from octree.pyramid.building import task

    asked: list[str] = []
    monkeypatch.setattr(task, "use_one_heap", lambda: asked.append("heap"))
    recipe = Recipe(plan_build(str(source)), str(source.with_name("p")), str(source), None, False, False)
    for _ in range(2):
        assert isinstance(task.run_group(recipe, (Task(0, 0),)), WriteError)  # nobody has made its levels
    assert asked == ["heap"]
