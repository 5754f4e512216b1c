"""Sources with holes: a corrupt chunk stops a build by name, or is filled and listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from build_tools import image, levels_of, octree, octree_json, tree

from octree.pyramid import build, open_pyramid
from octree.pyramid.errors import Interrupted, SourceError


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """An array in chunks of 50, of which chunk 3/2 is damaged and chunk 1/1 cut short."""
    array = image((400, 400))
    folder = tmp_path / "source"
    z = zarr.create_array(folder, shape=array.shape, chunks=(50, 50), dtype="u2")
    z[:] = array
    damaged = folder / "c/3/2"
    damaged.write_bytes(b"\xff" * 40 + damaged.read_bytes()[40:])
    short = folder / "c/1/1"
    short.write_bytes(short.read_bytes()[:100])
    return folder, array


def test_a_corrupt_chunk_is_exit_3_and_named(tmp_path: Path, source: tuple[Path, np.ndarray]) -> None:
    folder, _ = source
    error = octree_json("build", folder, tmp_path / "p", "--workers", 1, code=3)["error"]
    assert error["kind"] == "source"
    assert error["chunk"] in ("c/3/2", "c/1/1")
    assert error["file"] == str(folder / error["chunk"])
    assert str(folder) in error["message"]
    assert error["array"] == str(folder)


def test_fill_goes_on_and_lists_every_hole(tmp_path: Path, source: tuple[Path, np.ndarray]) -> None:
    folder, array = source
    result = octree_json("build", folder, tmp_path / "p", "--on-error", "fill", "--nodata", 9, "--tile", 32)
    holes = [(hole["start"], hole["stop"]) for hole in result["holes"]]
    assert holes == [([50, 50], [100, 100]), ([150, 100], [200, 150])]
    expected = array.copy()
    expected[50:100, 50:100] = expected[150:200, 100:150] = 9
    np.testing.assert_array_equal(levels_of(tmp_path / "p")[0], expected)
    recorded = open_pyramid(tmp_path / "p").spec.metadata["holes"]
    assert [(hole["start"], hole["stop"]) for hole in recorded] == holes
    assert all("cannot be read" in hole["error"] for hole in recorded)


def test_people_see_holes_too(tmp_path: Path, source: tuple[Path, np.ndarray]) -> None:
    done = octree("build", source[0], tmp_path / "p", "--on-error", "fill")
    assert done.returncode == 0
    assert "hole: 50 x 50 to 100 x 100" in done.stdout


def test_holes_are_the_same_when_resumed(tmp_path: Path, source: tuple[Path, np.ndarray]) -> None:
    options: dict[str, Any] = {"on_error": "fill", "tile": 16, "shard": 2, "workers": 1}
    build(str(source[0]), tmp_path / "whole", **options)
    calls = iter(range(99))
    with pytest.raises(Interrupted):
        build(str(source[0]), tmp_path / "p", stop=lambda: next(calls) > 6, **options)
    resumed = build(str(source[0]), tmp_path / "p", resume=True, **options)
    assert resumed.resumed
    assert len(resumed.holes) >= 2
    assert tree(tmp_path / "p") == tree(tmp_path / "whole")


def test_a_failed_build_is_gone_on_with_once_the_source_is_repaired_or_by_filling(
    tmp_path: Path, source: tuple[Path, np.ndarray]
) -> None:
    options: dict[str, Any] = {"tile": 16, "shard": 1, "workers": 1}
    with pytest.raises(SourceError) as caught:
        build(str(source[0]), tmp_path / "p", **options)
    assert "--resume" in (caught.value.hint or "")
    result = build(str(source[0]), tmp_path / "p", resume=True, on_error="fill", **options)
    assert len(result.holes) >= 2


def test_nothing_is_left_when_the_first_read_fails(tmp_path: Path, source: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(SourceError):
        build(str(source[0]), tmp_path / "p")  # one task reads it all
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_a_missing_source_is_exit_3_in_words(tmp_path: Path) -> None:
    done = octree("build", tmp_path / "nowhere.tif", tmp_path / "p")
    assert done.returncode == 3
    assert "nowhere.tif" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(octree("build", tmp_path / "nowhere.tif", tmp_path / "p", "--json").stdout)["error"]
