"""Frames and cases spread over several processes: the same bytes, one report, lost workers, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
from build_tools import COMMAND, octree, tree
from hypothesis import given
from hypothesis import strategies as st

from octree.pyramid import build
from octree.pyramid.errors import GLError, SourceError, UsageError
from octree.render import farm as farm_module
from octree.render.farm import Farm, check_alike, groups_of
from octree.render.frames import Renderer
from octree.render.output.png import encode_png
from octree.render.request import parse_request

OPTIONS = {"size": "96x64", "clim": "0,100"}
CAMERAS = [f"x={60 + 10 * n},y={200 - 3 * n},zoom={zoom}" for n in range(20) for zoom in (1, 0.3)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty planes of noise around a ramp."""
    dest = tmp_path_factory.mktemp("farm") / "stack.ome.zarr"
    pixels = np.random.default_rng(0).integers(0, 100, (40, 300, 400), np.uint8)
    build(pixels, dest, axes="zyx", tile=64)
    return dest


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One for all tests: starting processes is what takes the time."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
        yield cluster


def alone(stack: Path, cameras: list[str], **options: Any) -> tuple[list[bytes], dict[str, Any]]:
    with Renderer(parse_request([str(stack)], cameras, OPTIONS | options)) as renderer:
        pngs = [encode_png(frame.rgba) for frame in renderer.frames()]
        return pngs, renderer.report().to_json()


def same_but_for_times(report: dict[str, Any]) -> list[dict[str, Any]]:
    names = ("index", "camera", "size_px", "level", "visible_px", "position", "coverage", "displayed")
    return [
        {**{name: frame[name] for name in names}, "wanted": frame["tiles"]["wanted"]}
        for frame in report["frames"]
    ]


@pytest.mark.usefixtures("gl_info")
def test_a_cluster_draws_the_same_bytes_and_survives_the_end_of_all_workers(
    stack: Path, cluster: Any
) -> None:
    """Two views of a film over z: eighty frames; each process has two threads, of which one draws."""
    cameras = ["fit", "x=200,y=150,zoom=1"]
    pngs, report = alone(stack, cameras, index="z=:")
    killed: list[int] = []
    with distributed.Client(cluster) as client:

        def kill_all(*_: Any) -> None:
            if not killed:
                killed.extend(client.run(os.getpid).values())
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)

        request = parse_request([str(stack)], cameras, OPTIONS | {"index": "z=:"})
        with Farm(request, client, on_progress=kill_all) as farm:
            drawn = list(farm.frames())
            merged = farm.report().to_json()
    assert len(killed) == 2
    assert [each.index for each in drawn] == list(range(80))
    assert [each.png for each in drawn] == pngs
    assert same_but_for_times(merged) == same_but_for_times(report)
    assert [each["index"] for each in merged["slices"]] == [each["index"] for each in report["slices"]]
    assert {each["state"] for each in merged["slices"]} == {"complete"}
    assert merged["renderer"] == report["renderer"]
    assert merged["totals"]["tiles_read"] >= report["totals"]["tiles_read"] > 0
    assert merged["totals"]["bytes_read"] == sum(frame["bytes"]["read"] for frame in merged["frames"]) > 0
    assert min(frame["t_ms"] for frame in merged["frames"]) >= 0


@pytest.mark.usefixtures("gl_info")
def test_the_command_on_local_processes_writes_what_one_process_writes(stack: Path, tmp_path: Path) -> None:
    """Numbered files and a page; from a folder of its own, with a name that is relative to it."""
    words = [word for camera in CAMERAS for word in ("--camera", camera)]
    words += ["--size", "96x64", "--clim", "0,100", "-o", "{index:02}.png"]
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    done = octree("render", os.path.relpath(stack, tmp_path / "here"), *words, cwd=tmp_path / "here")
    assert done.returncode == 0, done.stderr
    more = [
        "--scheduler",
        "local",
        "--progress",
        "json",
        "--report",
        tmp_path / "r.json",
        "--monitor",
        tmp_path / "m",
    ]
    done = octree("render", os.path.relpath(stack, tmp_path / "there"), *words, *more, cwd=tmp_path / "there")
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["frame"] for line in lines] == list(range(40))
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["totals"]["frames"] == 40
    assert report["sources"][0]["path"] == os.path.relpath(stack, tmp_path / "there")
    assert len((tmp_path / "m").read_text().splitlines()) >= 40


@pytest.mark.usefixtures("gl_info")
def test_ctrl_c_ends_it_as_it_ends_one_process(stack: Path, tmp_path: Path) -> None:
    words = ["render", stack, "--index", "z=:", *[word for _ in range(8) for word in ("--camera", "fit")]]
    command = [*COMMAND, *map(str, words), "--size", "640x480", "-o", str(tmp_path / "{index}.png")]
    process = subprocess.Popen(
        [*command, "--scheduler", "local", "--progress", "plain"], stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()  # a frame has come
    began_s = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began_s < 8
    assert "Traceback" not in said
    assert not list(tmp_path.glob(".*"))


def test_a_failure_of_a_worker_is_the_run_s(stack: Path, cluster: Any, tmp_path: Path) -> None:
    """Seen by this process, and gone for the workers: as on a machine without that disk."""
    moved = tmp_path / "there.ome.zarr"
    stack.rename(moved)
    try:
        with Farm(parse_request([str(moved)], CAMERAS, OPTIONS), cluster.scheduler_address) as farm:
            moved.rename(stack)
            with pytest.raises(SourceError, match=r"there\.ome\.zarr"):
                list(farm.frames())
    finally:
        if moved.exists():
            moved.rename(stack)


REFUSED: dict[str, tuple[list[str], str]] = {
    "virtual clock": (["--clock", "virtual"], "--clock virtual"),
    "stream": (["--stream"], "--stream"),
    "a path": (["--camera", "pan"], "--settle"),
    "trace": (["--trace", "trace.json"], "--trace"),
    "slice log": (["--slice-log", "log"], "--slice-log"),
    "no scheduler": (["--scheduler", "nobody"], "nobody"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_one_process_must_do_is_refused(stack: Path, tmp_path: Path, what: str) -> None:
    words, said = REFUSED[what]
    scheduler = [] if "--scheduler" in words else ["--scheduler", "local"]
    out = str(tmp_path / "{index}.png")
    done = octree("render", stack, "-o", out, *scheduler, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "hint" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_array_in_memory_stays_here() -> None:
    with pytest.raises(UsageError, match="in memory"):
        Farm(parse_request([np.zeros((4, 4), np.uint8)], ["fit"], {}), "local")


def test_workers_that_draw_otherwise_are_refused(
    monkeypatch: pytest.MonkeyPatch, stack: Path, cluster: Any
) -> None:
    same = {"fingerprint": "a", "octree_version": "1"}
    check_alike([])
    check_alike([same, dict(same)])
    for other in ({"fingerprint": "b", "octree_version": "1"}, {"fingerprint": "a", "octree_version": "2"}):
        with pytest.raises(GLError, match="different renderers"):
            check_alike([same, other])

    def own(gl: str) -> dict[str, Any]:
        """Every process is its own renderer."""
        return {"fingerprint": str(__import__("os").getpid())}

    monkeypatch.setattr(farm_module, "renderer_here", own)
    request = parse_request([str(stack)], CAMERAS, OPTIONS)
    with (
        Farm(request, cluster.scheduler_address) as farm,
        pytest.raises(GLError, match="different renderers"),
    ):
        list(farm.frames())


@given(st.integers(1, 5000), st.integers(1, 40), st.sampled_from([4, 3 << 20, 300 << 20, 2 << 30]))
def test_groups_are_contiguous_and_large_enough(frames: int, workers: int, frame_bytes: int) -> None:
    groups = list(groups_of(frames, workers, frame_bytes))
    assert [index for group in groups for index in group] == list(range(frames))
    assert all(len(group) == 1 or len(group) * frame_bytes <= 2 << 30 for group in groups)
    if frame_bytes < 1 << 22:
        assert len(groups) == 1 or min(map(len, groups)) >= 16
        assert max(map(len, groups)) <= 64 + 64 * workers // len(groups) or len(groups) == 1
        if 16 * workers <= frames < 1000:
            assert len(groups) % workers == 0


# suites


@pytest.mark.usefixtures("gl_info")
def test_cases_are_spread_and_the_report_is_that_of_one_process(
    stack: Path, cluster: Any, tmp_path: Path
) -> None:
    cases = "".join(
        f'[[case]]\nname = "case-{n}"\nsource = "{stack}"\ncamera = "x={100 + 30 * n},y=100,zoom=1"\nsize = "64x48"\n'
        for n in range(3)
    )
    suite = tmp_path / "suite.toml"
    suite.write_text(
        cases + f'[[case]]\nname = "broken"\nsource = "{tmp_path / "no.zarr"}"\nsize = "64x48"\n'
    )
    done = octree("check", suite, "--accept", "--reason", "first", cwd=tmp_path, env={**os.environ, "CI": ""})
    assert "case-2" in done.stderr
    found = {}
    for name, words in {
        "here": [],
        "jobs": ["--jobs", "2"],
        "cluster": ["--scheduler", cluster.scheduler_address],
    }.items():
        done = octree("check", suite, "--output", tmp_path / name, *words)
        assert done.returncode == 1, done.stderr
        report = json.loads((tmp_path / name / "report.json").read_text())
        found[name] = [(case["name"], case["verdict"], case["reasons"]) for case in report["cases"]]
    assert [name for name, *_ in found["here"]] == ["case-0", "case-1", "case-2", "broken"]
    assert [verdict for _, verdict, _ in found["here"]] == ["pass", "pass", "pass", "error"]
    assert found["jobs"] == found["cluster"] == found["here"]
    for words in (["--accept", "--jobs", "2"], ["--jobs", "2", "--scheduler", "tcp://127.0.0.1:1"]):
        assert octree("check", suite, *words).returncode == 2
