"""``octree info``: for pyramids and for any source, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from octree.cli.app import run
from octree.pyramid import build
from octree.pyramid.sources.describe import describe


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, shape).astype(np.uint16)


def as_json(path: object, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["info", str(path), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize(("version", "shard"), [("0.5", 2), ("0.5", 0), ("0.4", 0)])
def test_pyramid(tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str, shard: int) -> None:
    build(
        pixels(300, 200),
        tmp_path / "p é.zarr",
        tile=64,
        shard=shard,
        ome_version=version,
        voxel_size={"y": 0.5, "x": 0.25},
        unit="um",
        codec="zstd:3",
    )
    facts = as_json(tmp_path / "p é.zarr", capsys)
    assert facts["kind"] == "pyramid"
    assert facts["ome_version"] == version
    assert (facts["axes"], facts["dtype"], facts["method"]) == ("yx", "uint16", "mean")
    assert facts["voxel_size"] == {"y": 0.5, "x": 0.25}
    assert facts["units"] == {"y": "micrometer", "x": "micrometer"}
    levels = facts["levels"]
    assert [level["shape"] for level in levels] == [[300, 200], [150, 100], [75, 50], [38, 25]]
    assert levels[0]["chunks"] == [64, 64]
    assert (levels[0]["shards"] is not None) == (shard > 0)
    assert levels[1]["scale"] == [1.0, 0.5]
    assert levels[1]["translation"] == [0.25, 0.125]
    assert {level["codec"] for level in levels} == {"zstd:3"}
    assert levels[0]["bytes"] == 300 * 200 * 2
    assert facts["stored_bytes"] == sum(level["stored_bytes"] for level in levels)
    for level in levels:
        files = [f for f in (tmp_path / "p é.zarr" / level["path"]).rglob("*") if f.is_file()]
        assert level["files"] == len(files)
        assert level["stored_bytes"] == sum(f.stat().st_size for f in files)


def test_people_read_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(pixels(3, 300, 200), tmp_path / "p.zarr", tile=64, shard=2, axes="cyx")
    assert run(["info", str(tmp_path / "p.zarr")]) == 0
    captured = capsys.readouterr()
    for word in (
        "OME-Zarr 0.5 pyramid",
        "cyx 3x300x200 uint16",
        "3x150x100",
        "1x64x64",
        "zstd:1",
        "KiB",
        "mean",
    ):
        assert word in captured.out
    assert captured.err == ""


def test_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels(100, 200),
        tile=(32, 48),
        compression="zlib",
        resolution=(40000, 40000),
        resolutionunit="CENTIMETER",
    )
    np.save(tmp_path / "a.npy", pixels(5, 100, 200))
    zarr.create_array(tmp_path / "a.zarr", shape=(100, 200), dtype="u2", chunks=(16, 16), shards=(64, 64))[
        :
    ] = pixels(100, 200)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d/e", data=pixels(100, 200), chunks=(10, 20), compression="gzip")
    tiff = as_json(tmp_path / "a.tif", capsys)
    assert (tiff["kind"], tiff["engine"], tiff["levels"][0]["codec"]) == ("source", "tiff", "deflate")
    assert tiff["levels"][0]["chunks"] == [32, 48]
    assert tiff["voxel_size"] == {"y": 0.25, "x": 0.25}
    assert tiff["stored_bytes"] == (tmp_path / "a.tif").stat().st_size
    npy = as_json(tmp_path / "a.npy", capsys)
    assert (npy["axes"], npy["bytes"], npy["levels"][0]["codec"]) == ("zyx", 200000, "none")
    array = as_json(tmp_path / "a.zarr", capsys)["levels"][0]
    assert (array["chunks"], array["shards"]) == ([16, 16], [64, 64])
    data = as_json(f"{tmp_path}/a.h5::/d/e", capsys)
    assert (data["levels"][0]["chunks"], data["levels"][0]["codec"], data["stored_bytes"]) == (
        [10, 20],
        "gzip",
        None,
    )
    for name in ("a.tif", "a.npy", "a.zarr", "a.h5::/d/e"):
        assert run(["info", f"{tmp_path}/{name}"]) == 0
        assert "uint16" in capsys.readouterr().out


@pytest.mark.parametrize("as_document", [False, True])
def test_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], as_document: bool) -> None:
    (tmp_path / "text.txt").write_text("hello")
    for path in (tmp_path / "gone", tmp_path / "text.txt", tmp_path):
        assert run(["info", str(path), *(["--json"] if as_document else [])]) == 3
        captured = capsys.readouterr()
        assert str(path) in captured.err
        assert bool(captured.out) == as_document
        if as_document:
            assert json.loads(captured.out)["error"]["message"]


def test_one_pixel(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones((1, 1), bool))
    facts = describe(tmp_path / "one.npy")
    assert facts["bytes"] == 1
    assert facts["dtype"] == "bool"
