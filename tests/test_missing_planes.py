"""Planes that are said to be there and are not: errors, or holes that are listed; never zeros without a word."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from build_tools import levels_of, octree, octree_json

from octree.cli.app import run
from octree.pyramid import open_source
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.sources.tiff.facts import ome_image
from octree.pyramid.sources.tiff.planes import Promise, promises

PLANE = np.full((8, 28), 7, np.uint8)
OTHER = '<TiffData FirstC="1" IFD="0"><UUID FileName="other.tif">urn:uuid:b</UUID></TiffData>'


def tiff_bytes() -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, PLANE, metadata=None)
    return stream.getvalue()


TIFF_BYTES = tiff_bytes()


def ome_xml(second: str, channels: int = 2) -> str:
    listed = "".join(f'<Channel ID="Channel:0:{c}"/>' for c in range(channels))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a"><Image ID="Image:0"><Pixels ID="Pixels:0"
DimensionOrder="XYCZT" Type="uint8" SizeX="28" SizeY="8" SizeZ="1" SizeC="{channels}" SizeT="1">{listed}
<TiffData FirstC="0" IFD="0"><UUID FileName="own.ome.tif">urn:uuid:a</UUID></TiffData>{second}</Pixels></Image></OME>"""


def ome(folder: Path, second: str, channels: int = 2) -> Path:
    tifffile.imwrite(
        folder / "own.ome.tif",
        PLANE,
        description=ome_xml(second, channels),
        metadata=None,
        compression="zlib",
    )
    return folder / "own.ome.tif"


CASES = {
    "gone": (OTHER, None, "other.tif is not there"),
    "text": (OTHER, b"this is no TIFF at all", "other.tif is no TIFF"),
    "empty": (OTHER, b"", "other.tif is no TIFF"),
    "page": ('<TiffData FirstC="1" IFD="5"/>', None, "the file has no page 5"),
    "short": (OTHER.replace('IFD="0"', 'IFD="3"'), TIFF_BYTES, "other.tif has no page that could be it"),
    "unnamed": ("", None, "its metadata name no page for it"),
}


def case(folder: Path, name: str) -> tuple[Path, str]:
    second, content, reason = CASES[name]
    if content is not None:
        (folder / "other.tif").write_bytes(content)
    return ome(folder, second), reason


@pytest.mark.parametrize("name", CASES)
def test_a_missing_plane_is_an_error_or_a_listed_hole(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, reason = case(tmp_path, name)
    dest = tmp_path / "p.zarr"
    for more in (["--dry-run"], []):
        assert run(["build", str(source), str(dest), *more]) == 3
        assert f"1 plane is missing: {reason}" in capsys.readouterr().err
        assert not dest.exists()
    command = ["build", str(source), str(dest), "--on-error", "fill", "--json"]
    assert run([*command, "--dry-run"]) == 0
    assert not dest.exists()
    capsys.readouterr()
    assert run(command) == 0
    holes = json.loads(capsys.readouterr().out)["holes"]
    assert [hole["start"] for hole in holes] == [[1, 0, 0]]
    assert reason in holes[0]["error"]
    np.testing.assert_array_equal(levels_of(dest)[0], [PLANE, 0 * PLANE])


@pytest.mark.parametrize("name", CASES)
def test_info_lists_what_is_missing(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, reason = case(tmp_path, name)
    assert run(["info", str(source), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing_planes"] == {reason: 1}
    assert run(["info", str(source)]) == 0
    assert f"missing     1 plane: {reason}" in capsys.readouterr().out


def test_what_is_there_can_be_read(tmp_path: Path) -> None:
    source, _ = case(tmp_path, "text")
    with open_source(source, holes=True) as opened:
        np.testing.assert_array_equal(opened.read(Box((0, 0, 0), (1, 8, 28)))[0], PLANE)
        with pytest.raises(SourceError, match=r"plane 1 is missing: other\.tif is no TIFF"):
            opened.read(Box((0, 0, 0), (2, 8, 28)))


def test_other_processes_fill_the_same_holes(tmp_path: Path) -> None:
    source, reason = case(tmp_path, "text")
    result = octree_json(
        "build", source, tmp_path / "p.zarr", "--on-error", "fill", "--scheduler", "local", "--workers", "1"
    )
    assert reason in result["holes"][0]["error"]


def test_render_shows_a_missing_plane_as_failed(tmp_path: Path) -> None:
    source, reason = case(tmp_path, "text")
    command = ["render", source, "-o", tmp_path / "frame.png", "--size", "64x48", "--clim", "0,9"]
    assert octree(*command, "--channels", "0").returncode == 0
    done = octree(*command, "--channels", "1")
    assert (done.returncode, reason in done.stderr) == (1, True), done.stderr


def test_whole_files_of_several_miss_nothing(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "other.tif", PLANE + 1, metadata=None, compression="zlib")
    with open_source(ome(tmp_path, OTHER)) as source:
        assert source.missing == {}
        np.testing.assert_array_equal(source.read(Box((0, 0, 0), (2, 8, 28))), [PLANE, PLANE + 1])


@pytest.mark.parametrize(
    ("second", "promised"),
    [
        ("", []),
        (OTHER, [Promise(1, 1, 0, "other.tif")]),
        ('<TiffData FirstC="1" IFD="3" PlaneCount="2"/>', [Promise(1, 2, 3, "")]),
        ('<TiffData FirstC="1"><UUID FileName="x.tif">urn:uuid:c</UUID></TiffData>', [Promise(1, 0, 0, "x.tif")]),
        ('<TiffData FirstC="1" IFD="0"><UUID FileName="renamed.tif">urn:uuid:a</UUID></TiffData>', [Promise(1, 1, 0, "")]),
        ('<TiffData FirstC="9" IFD="0"/>', []),
        ('<TiffData FirstC="one"/>', []),
    ],
)  # fmt: skip
def test_promises(second: str, promised: list[Promise]) -> None:
    image = ome_image(ome_xml(second, 3), 0, 1)
    assert image is not None
    assert list(promises(image, "own.ome.tif"))[1:] == promised
