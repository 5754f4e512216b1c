"""Builds in parts, as job arrays run them: independent of each other, the same bytes, and what is not whole is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import image, leftovers, octree, octree_json, start, tree

from octree.pyramid import build
from octree.pyramid.building.builder import plan_build
from octree.pyramid.errors import DestinationError, Interrupted, UsageError
from octree.pyramid.store import ngff

OPTIONS: dict[str, Any] = {"tile": 16, "shard": 1, "name": "n", "workers": 2}
"""Of several rounds: coarse levels are made from what all parts have written."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts") / "image.npy"
    pixels = image((900, 900))
    pixels[:300, :300] = 0  # blocks without files
    np.save(path, pixels)
    return path


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    dest = tmp_path_factory.mktemp("whole") / "p"
    assert len(plan_build(str(source), dest, **OPTIONS).rounds) > 1
    build(str(source), dest, **OPTIONS)
    return tree(dest)


def part(source: Path, dest: Path, which: str, **options: Any) -> Any:
    return build(str(source), dest, part=which, **OPTIONS | options)


def test_parts_in_any_order_and_a_finish_are_the_plain_build(
    tmp_path: Path, source: Path, whole: dict[str, str]
) -> None:
    dest = tmp_path / "p"
    for number in (3, 1, 4, 2):
        result = part(source, dest, f"{number}/4")
        assert result.part == f"{number}/4"
        with pytest.raises(Exception, match=r"p"):
            ngff.read_spec(dest)
    part(source, dest, "2/4")  # a part that is run again has nothing to do
    result = part(source, dest, "finish")
    assert result.part is None
    assert tree(dest) == whole
    assert leftovers(dest) == []
    assert part(source, dest, "finish").resumed, "finished already: nothing to do"
    assert tree(dest) == whole


def test_parts_run_at_once_through_the_command(tmp_path: Path, source: Path, whole: dict[str, str]) -> None:
    dest = tmp_path / "p"
    words = ["build", source, dest, "--tile", "16", "--shard", "1", "--name", "n", "--workers", "1"]
    processes = [start(*words, "--part", f"{number}/3", "-q") for number in (1, 2, 3)]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    found = octree_json(*words, "--part", "finish")
    assert "part" not in found
    assert tree(dest) == whole
    assert leftovers(dest) == []


def test_a_finish_says_which_parts_are_missing_and_which_were_stopped(
    tmp_path: Path, source: Path, whole: dict[str, str]
) -> None:
    dest = tmp_path / "p"
    with pytest.raises(DestinationError, match="no parts"):
        part(source, dest, "finish")
    part(source, dest, "1/4")
    done: list[int] = []
    with pytest.raises(Interrupted):
        part(
            source, dest, "3/4", workers=1,
            progress=lambda p: done.append(p.tasks_done), stop=lambda: bool(done) and done[-1] >= 1,
        )  # fmt: skip
    failed = octree("build", source, dest, "--tile", "16", "--shard", "1", "--name", "n", "--part", "finish")
    assert failed.returncode == 4
    assert "of 4 parts 3 are not done: 2, 3, 4" in failed.stderr
    assert "--part finish" in failed.stderr
    for number in (2, 3, 4):
        part(source, dest, f"{number}/4")
    part(source, dest, "finish")
    assert tree(dest) == whole


def test_parts_of_something_else_are_refused(tmp_path: Path, source: Path) -> None:
    dest = tmp_path / "p"
    part(source, dest, "1/2")
    with pytest.raises(DestinationError, match="method"):
        part(source, dest, "2/2", method="max")
    with pytest.raises(DestinationError, match="parts"):
        part(source, dest, "2/3")
    other = tmp_path / "other.npy"
    np.save(other, image((900, 900), seed=5))
    with pytest.raises(DestinationError, match="source"):
        build(str(other), dest, part="2/2", **OPTIONS)
    part(source, dest, "2/2")
    with pytest.raises(DestinationError, match="method"):
        part(source, dest, "finish", method="max")
    part(source, dest, "finish")


def test_other_builds_leave_parts_alone_until_they_are_told(
    tmp_path: Path, source: Path, whole: dict[str, str]
) -> None:
    dest = tmp_path / "p"
    part(source, dest, "1/2")
    before = tree(tmp_path)
    for options in ({}, {"resume": True}):
        with pytest.raises(DestinationError, match="parts of a build"):
            build(str(source), dest, **OPTIONS | options)
    with pytest.raises(DestinationError, match="parts of a build"):
        plan_build(str(source), dest, **OPTIONS)
    assert tree(tmp_path) == before
    build(str(source), dest, overwrite=True, **OPTIONS)
    assert tree(dest) == whole
    assert leftovers(dest) == []
    with pytest.raises(DestinationError, match="not empty"):
        part(source, dest, "1/2")


@pytest.mark.parametrize("given", ["0/4", "5/4", "x", "1/", "/4", "-1/4", "1/0"])
def test_what_is_no_part(tmp_path: Path, source: Path, given: str) -> None:
    with pytest.raises(UsageError, match="part"):
        part(source, tmp_path / "p", given)
    assert list(tmp_path.iterdir()) == []


def test_parts_begin_where_nothing_is(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match="--overwrite"):
        part(source, tmp_path / "p", "1/2", overwrite=True)
    stranger = tmp_path / "q"
    stranger.mkdir()
    (stranger / "notes.txt").write_text("mine")
    with pytest.raises(DestinationError):
        part(source, stranger, "1/2")
    assert [path.name for path in stranger.iterdir()] == ["notes.txt"]
