"""Every image at a path is seen: others of the folder, others of the group, labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr.format import FormatV05
from ome_zarr.writer import write_image, write_labels

from octree.cli.app import run
from octree.pyramid import build
from octree.pyramid.errors import OutsideError
from octree.pyramid.verify.run import verify

PIXELS = np.random.default_rng(0).integers(1, 60000, (150, 130)).astype(np.uint16)


def write_group(folder: Path, ome: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    node = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5", **ome}}}
    (folder / "zarr.json").write_text(json.dumps(node))


def with_labels(folder: Path) -> Path:
    build(PIXELS, folder, tile=64, workers=1)
    build(PIXELS % 5, folder / "labels/cells", tile=64, workers=1, labels=True)
    write_group(folder / "labels", {"labels": ["cells"]})
    return folder


def with_two_multiscales(folder: Path) -> Path:
    build(PIXELS, folder, tile=64, workers=1)
    build(PIXELS[::-1], folder / "second", tile=64, workers=1)
    node = json.loads((folder / "zarr.json").read_text())
    second = json.loads((folder / "second/zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    for dataset in second["datasets"]:
        dataset["path"] = f"second/{dataset['path']}"
    node["attributes"]["ome"]["multiscales"].append(second)
    (folder / "zarr.json").write_text(json.dumps(node))
    return folder


def of_bioformats(folder: Path) -> Path:
    write_group(folder, {"bioformats2raw.layout": 3})
    write_group(folder / "OME", {"series": ["a", "b"]})
    build(PIXELS, folder / "a", tile=64, workers=1)
    with_labels(folder / "b")
    return folder


def of_bioformats_without_list(folder: Path) -> Path:
    write_group(folder, {"bioformats2raw.layout": 3})
    for number in ("0", "1", "10"):
        build(PIXELS, folder / number, tile=64, workers=1)
    return folder


@pytest.mark.parametrize(
    ("make", "images", "damage", "name"),
    [
        (with_labels, 2, "labels/cells/2", "labels/cells"),
        (with_two_multiscales, 2, "second/2", "image 1"),
        (of_bioformats, 3, "b/2", "b"),
        (of_bioformats, 3, "b/labels/cells/2", "b/labels/cells"),
        (of_bioformats_without_list, 3, "10/2", "10"),
    ],
)
def test_damage_is_found_in_any_image(
    tmp_path: Path, make: Callable[[Path], Path], images: int, damage: str, name: str
) -> None:
    folder = make(tmp_path / "p.zarr")
    result = verify(folder)
    assert result.ok, result.findings
    assert result.images == images
    assert result.compared == result.total > 0
    array = zarr.open_array(folder / damage, mode="r+")
    array[5, 5] = int(array[5, 5]) ^ 1  # type: ignore[call-overload]  # zarr's types are wider
    (finding,) = verify(folder).findings
    assert finding.kind == "reduction"
    assert finding.where.startswith(f"{name}: ")


def test_what_is_listed_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = with_labels(tmp_path / "p.zarr")
    write_group(folder / "labels", {"labels": ["cells", "gone"]})
    assert run(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "labels/gone: attributes: listed as a label image, but there is none" in out
    assert "NOT whole: 3 images" in out
    for outside in ("../..", "/", "cells/../../.."):
        write_group(folder / "labels", {"labels": [outside]})
        with pytest.raises(OutsideError, match="the label image"):
            verify(folder)
    write_group(tmp_path / "b.zarr", {"bioformats2raw.layout": 3})
    write_group(tmp_path / "b.zarr/OME", {"series": ["0", "1"]})
    build(PIXELS, tmp_path / "b.zarr/0", tile=64, workers=1)
    assert [finding.where for finding in verify(tmp_path / "b.zarr").findings] == ["1: attributes"]


def test_pyramids_of_ome_zarr_py_are_whole(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "p.zarr", mode="w", zarr_format=3)
    write_image(PIXELS[:, :129], group, axes="yx", fmt=FormatV05())
    write_labels(PIXELS[:, :129].astype("i4") % 5, group, name="cells", axes="yx", fmt=FormatV05())
    result = verify(tmp_path / "p.zarr", deep=True)
    assert result.ok, result.findings
    assert result.images == 2
    assert any("no integer factor, but the scale says the same" in note for note in result.notes)


def test_info_says_what_else_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = of_bioformats(tmp_path / "p.zarr")
    assert run(["info", str(folder)]) == 0
    assert "also here   b, b/labels/cells" in capsys.readouterr().out
    assert run(["info", str(folder / "a"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["others"] == []
