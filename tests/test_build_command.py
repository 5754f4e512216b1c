"""The command as the contract has it: plan, result, progress, memory under a hard limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from build_tools import COMMAND, image, octree, octree_json

from octree.pyramid import open_pyramid
from octree.pyramid.units import bytes_text


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "image.npy", image((700, 600)))
    return tmp_path / "image.npy"


def test_the_result_says_what_the_contract_lists(tmp_path: Path, source: Path) -> None:
    result = octree_json("build", source, tmp_path / "p", "--voxel-size", "y=0.5,x=0.25", "--unit", "um")
    assert result["dest"] == str(tmp_path / "p")
    assert [level["shape"] for level in result["levels"]] == [[700, 600], [350, 300], [175, 150]]
    assert [level["scale"] for level in result["levels"]] == [[0.5, 0.25], [1.0, 0.5], [2.0, 1.0]]
    assert [level["translation"] for level in result["levels"]] == [[0, 0], [0.25, 0.125], [0.75, 0.375]]
    assert result["bytes_read"] == 700 * 600 * 2
    on_disk = sum(p.stat().st_size for p in (tmp_path / "p").rglob("c/**/*") if p.is_file())
    assert result["bytes_written"] == on_disk
    assert result["seconds"] > 0
    assert result["peak_rss_bytes"] > 10 * 2**20
    assert (result["method"], result["engine"], result["resumed"]) == ("mean", "npy", False)
    assert {axis.unit for axis in open_pyramid(tmp_path / "p").spec.axes} == {"micrometer"}


def test_a_dry_run_refuses_the_dest_that_a_build_refuses(tmp_path: Path, source: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"x")
    for words in ([], ["--overwrite"], ["--overwrite", "--resume"]):
        said = [octree("build", source, tmp_path / "photos", *words, *dry) for dry in (["--dry-run"], [])]
        assert [done.returncode for done in said] == [4, 4]
        assert said[0].stderr == said[1].stderr
    assert octree("build", source, tmp_path / "p").returncode == 0
    for words, code in (([], 4), (["--overwrite"], 0), (["--resume"], 0)):
        assert octree("build", source, tmp_path / "p", "--dry-run", *words).returncode == code, words


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, source: Path) -> None:
    plan = octree_json("build", source, tmp_path / "p", "--dry-run", "--tile", 64)
    assert [level["shape"] for level in plan["levels"]][-1] == [44, 38]
    assert plan["bytes"] == sum(level["bytes"] for level in plan["levels"])
    assert plan["minimum_bytes"] <= plan["peak_bytes"] <= plan["memory_bytes"] == 2**30
    words = octree("build", source, tmp_path / "p", "--dry-run").stdout
    for word in ("level", "shape", "700 x 600", "memory", "files", "zstd:1"):
        assert word in words
    assert [p.name for p in tmp_path.iterdir()] == ["image.npy"]
    result = octree_json("build", source, tmp_path / "p", "--tile", 64)
    files = [p for p in (tmp_path / "p").rglob("*") if p.is_file()]
    assert len(files) == plan["files"]
    assert result["files"] <= plan["files"]


def test_a_petabyte_is_planned(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "huge", shape=(1000, 10**6, 10**6), chunks=(1, 1024, 1024), dtype="u2")
    plan = octree_json("build", tmp_path / "huge", tmp_path / "p", "--dry-run")
    assert plan["levels"][0]["bytes"] == 2 * 10**15
    assert plan["files"] > 10**6


def test_too_little_memory_is_a_usage_error_with_the_least_that_would_do(
    tmp_path: Path, source: Path
) -> None:
    error = octree_json("build", source, tmp_path / "p", "--memory", "1MiB", code=2)["error"]
    assert f"at least {bytes_text(error['needed_bytes'])}" in error["message"]
    least = f"{-(-error['needed_bytes'] // 2**20)}MiB"
    assert least in error["hint"]
    octree_json("build", source, tmp_path / "p", "--memory", least)


@pytest.mark.parametrize("options", [[], ["--shard", "0"], ["--ome-version", "0.4"]])
def test_memory_is_kept_to_the_promise(tmp_path: Path, options: list[str]) -> None:
    """Peak memory minus that of a process that builds one pixel, for an image larger than the limit."""
    limit = 96 * 2**20
    np.save(tmp_path / "pixel.npy", np.zeros((1, 1), "u2"))
    bare = octree_json("build", tmp_path / "pixel.npy", tmp_path / "bare")["peak_rss_bytes"]
    big = np.lib.format.open_memmap(tmp_path / "big.npy", mode="w+", dtype="f4", shape=(6000, 6000))
    for row in range(0, 6000, 1000):
        big[row : row + 1000] = np.random.default_rng(row).random((1000, 6000))
    del big
    assert (tmp_path / "big.npy").stat().st_size > limit
    result = octree_json("build", tmp_path / "big.npy", tmp_path / "p", "--memory", limit, *options)
    assert result["peak_rss_bytes"] - bare <= limit


def test_the_end_of_a_build_keeps_the_promise_too(tmp_path: Path) -> None:
    """The windows of display are percentiles of a coarsest level that is a volume: more than a block."""
    np.save(tmp_path / "pixel.npy", np.zeros((1, 1), "u2"))
    bare = octree_json("build", tmp_path / "pixel.npy", tmp_path / "bare")["peak_rss_bytes"]
    np.save(tmp_path / "volume.npy", image((128, 512, 512)))
    args = ["build", tmp_path / "volume.npy", tmp_path / "p", "--voxel-size", "z=1,y=1,x=1", "--memory"]
    least = octree_json(*args, 1, code=2)["error"]["needed_bytes"]
    assert octree_json(*args, least)["peak_rss_bytes"] - bare <= least


def test_progress_as_lines_of_json(tmp_path: Path, source: Path) -> None:
    done = octree("build", source, tmp_path / "p", "--progress", "json", "--json")
    lines = [json.loads(line)["progress"] for line in done.stderr.splitlines()]
    assert lines[0]["tasks_done"] == 0
    assert lines[-1]["tasks_done"] == lines[-1]["tasks"]
    assert lines[-1]["bytes_done"] == lines[-1]["bytes_total"] == 700 * 600 * 2
    json.loads(done.stdout)


def test_without_a_terminal_there_is_no_bar_and_quiet_says_nothing(tmp_path: Path, source: Path) -> None:
    done = octree("build", source, tmp_path / "p")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 levels" in done.stdout
    assert "\x1b" not in done.stdout
    done = octree("build", source, tmp_path / "q", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "bar" not in octree("build", source, tmp_path / "r", "--progress", "plain").stderr


def test_a_bar_shows_rate_and_time_left(tmp_path: Path, source: Path) -> None:
    done = octree(
        "build",
        source,
        tmp_path / "p",
        "--tile",
        16,
        "--shard",
        1,
        "--progress",
        "bar",
        env={**os.environ, "FORCE_COLOR": "1"},
    )
    assert done.returncode == 0
    assert "100%" in done.stderr
    assert "/s" in done.stderr


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--voxel-size", "y:1"], "--voxel-size"),
        (["--voxel-size", "y=1,y=2"], "--voxel-size"),
        (["--voxel-size", "y=-1"], "above 0"),
        (["--progress", "dots"], "--progress"),
        (["--tile", "x"], "--tile"),
        (["--method", "sum"], "sum"),
        (["--nodata", "lots"], "lots"),
        (["--memory", "9 parsecs"], "9 parsecs"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_options_are_exit_2_in_words(tmp_path: Path, source: Path, args: list[str], word: str) -> None:
    done = octree("build", source, tmp_path / "p", *args)
    assert done.returncode == 2
    assert word in done.stderr
    assert not (tmp_path / "p").exists()


def test_options_come_from_the_environment_too(tmp_path: Path, source: Path) -> None:
    env: dict[str, Any] = {**os.environ, "OCTREE_BUILD_TILE": "128", "OCTREE_BUILD_METHOD": "max"}
    assert octree_json("build", source, tmp_path / "p", env=env)["method"] == "max"
    assert open_pyramid(tmp_path / "p").spec.levels[0].chunks == (128, 128)


def test_a_reader_that_goes_away_ends_the_command_without_a_word(tmp_path: Path, source: Path) -> None:
    for unbuffered in ("", "1"):
        env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        reading, writing = os.pipe()
        os.close(reading)
        try:
            args = ["build", source, tmp_path / "p", "--dry-run"]
            command = [*COMMAND, *map(str, args)]
            done = subprocess.run(
                command, stdout=writing, stderr=subprocess.PIPE, env=env, timeout=60, check=False
            )
        finally:
            os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")


def test_an_error_whose_json_nobody_reads_is_said_all_the_same(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [*COMMAND, "info", str(tmp_path / "nowhere"), "--json"]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    try:
        done = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, env=env, timeout=60, check=False, text=True
        )
    finally:
        os.close(writing)
    assert done.returncode == 3
    assert "there is no file or folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_heap_is_chosen_before_any_thread_has_its_own(tmp_path: Path) -> None:
    """A build holds 40 MiB more where even one thread, such as that which watches for signals, began before."""
    code = (
        "import sys, threading, octree.pyramid.memory as memory, octree.cli as cli\n"
        "told, begin, heap = [], threading.Thread.start, memory.use_one_heap\n"
        "threading.Thread.start = lambda self: (told.append('thread'), begin(self))[1]\n"
        "memory.use_one_heap = lambda: (told.append('heap'), heap())[1]\n"
        "try: cli.main()\n"
        "except SystemExit: print(told[0], file=sys.stderr)\n"
    )
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((30, 40), np.uint8))
    arguments = ["build", str(tmp_path / "a.tif"), str(tmp_path / "a.zarr"), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr == "heap\n"
