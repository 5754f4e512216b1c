"""TIFF files that are URLs: read by ranges, and never as a whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from loopback import Loopback, serving

from octree.pyramid import build, open_source
from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.model import Box
from octree.render.frames import render

PIXELS = np.random.default_rng(1).integers(0, 999, (1500, 1000)).astype(np.uint16)
RGB = np.random.default_rng(2).integers(0, 255, (300, 400, 3)).astype(np.uint8)
FILES = ("tiled.tif", "plain.tif", "strips.tif", "stack.ome.tif", "rgb.tif", "cog.tif")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("www")
    tifffile.imwrite(folder / "tiled.tif", PIXELS, tile=(128, 128), compression="zlib")
    tifffile.imwrite(folder / "plain.tif", PIXELS)
    tifffile.imwrite(folder / "strips.tif", PIXELS, rowsperstrip=16, compression="zlib", predictor=True)
    stack = np.stack([PIXELS[:256, :256] + k for k in range(6)]).reshape(2, 3, 256, 256)
    tifffile.imwrite(folder / "stack.ome.tif", stack, tile=(128, 128), metadata={"axes": "TCYX"})
    tifffile.imwrite(folder / "rgb.tif", RGB, tile=(128, 128), compression="jpeg", photometric="rgb")
    with tifffile.TiffWriter(folder / "cog.tif") as writer:
        writer.write(PIXELS, tile=(128, 128), subifds=1, compression="zstd")
        writer.write(PIXELS[::2, ::2], tile=(128, 128), subfiletype=1, compression="zstd")
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Loopback]:
    with serving(folder) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield server


def came(server: Loopback) -> int:
    """Bytes that were asked for."""
    ends = [one.range.removeprefix("bytes=").split("-") for one in server.asked if one.range]
    return sum(int(last) + 1 - int(first) for first, last in ends)


@pytest.mark.parametrize("name", FILES)
def test_pixels_and_facts_are_those_of_the_file(name: str, folder: Path, server: Loopback) -> None:
    with open_source(folder / name) as here, open_source(f"{server.url}/{name}") as there:
        whole = Box((0,) * len(here.shape), here.shape)
        np.testing.assert_array_equal(here.read(whole), there.read(whole))
        assert (here.axes, here.voxel_size, here.channels, here.codec, here.name) == (
            there.axes, there.voxel_size, there.channels, there.codec, there.name,
        )  # fmt: skip


def test_a_view_asks_for_what_it_shows(folder: Path, server: Loopback) -> None:
    views = (["x=200,y=300,zoom=1"],)
    options = {"size": "256x256", "single_level": True, "clim": "0,999"}
    here = render([str(folder / "tiled.tif")], *views, options=options)
    there = render([f"{server.url}/tiled.tif"], *views, options=options)
    np.testing.assert_array_equal(here.frames[0], there.frames[0])
    assert came(server) < len(server.values["tiled.tif"]) / 3
    assert here.report.sources[0]["digest"] == there.report.sources[0]["digest"]


def test_neighbouring_tiles_come_in_few_requests(server: Loopback) -> None:
    with open_source(f"{server.url}/tiled.tif") as source:
        assert len(server.asked) <= 3
        server.asked.clear()
        source.read(Box((0, 0), (1000, 1000)))
        assert len(server.asked) <= 3


def test_a_build_reads_it_too(folder: Path, server: Loopback, tmp_path: Path) -> None:
    build(f"{server.url}/cog.tif", tmp_path / "far.zarr")
    with open_source(tmp_path / "far.zarr") as built:
        np.testing.assert_array_equal(built.read(Box((0, 0), PIXELS.shape)), PIXELS)


def test_what_is_cut_off_or_gone_is_said(server: Loopback) -> None:
    server.values["cut.tif"] = server.values["tiled.tif"][:-5000]
    with pytest.raises(SourceError, match=r"cut\.tif"), open_source(f"{server.url}/cut.tif") as source:
        source.read(Box((0, 0), PIXELS.shape))
    with pytest.raises(SourceNotFound, match="there is nothing at"):
        open_source(f"{server.url}/none.tif")


def test_companions_are_looked_for_nowhere_on_this_machine(
    server: Loopback, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file from far that names another one does not get at a file of that name here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.ome.tif").write_bytes((folder / "stack.ome.tif").read_bytes())
    with tifffile.TiffFile(folder / "stack.ome.tif") as tiff:
        xml = tiff.ome_metadata
    assert xml is not None
    named = xml.replace(
        '<TiffData IFD="0" PlaneCount="6"/>',
        '<TiffData IFD="0" PlaneCount="6"><UUID FileName="secret.ome.tif">urn:uuid:1</UUID></TiffData>',
    )
    assert named != xml
    tifffile.imwrite(tmp_path / "lure.ome.tif", PIXELS[:256, :256], description=named, metadata=None)
    server.values["lure.ome.tif"] = (tmp_path / "lure.ome.tif").read_bytes()
    with open_source(f"{server.url}/lure.ome.tif") as source:
        np.testing.assert_array_equal(
            source.read(Box((0, 0), (256, 256))), PIXELS[:256, :256]
        )  # its own page alone
