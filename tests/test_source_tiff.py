"""TIFF sources: whatever the layout, a box is the same box of the whole decoded image."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octree.pyramid import build, open_pyramid
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.sources.source import ArraySource, open_source

OME_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
ANY_BOX = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def boxes(shape: tuple[int, ...], seed: int, count: int = 12) -> list[Box]:
    """Boxes of ``shape``: all of it, its last corner, and some by chance."""
    rng = np.random.default_rng(seed)
    found = [Box((0,) * len(shape), shape), Box(tuple(n - 1 for n in shape), shape)]
    for _ in range(count):
        start = [int(rng.integers(0, n)) for n in shape]
        stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape, strict=True)]
        found.append(Box(tuple(start), tuple(stop)))
    return found


def same_everywhere(source: ArraySource, expected: np.ndarray) -> None:
    assert source.shape == expected.shape
    assert source.dtype == expected.dtype.newbyteorder("=")
    for box in boxes(source.shape, seed=1):
        np.testing.assert_array_equal(source.read(box), expected[box.slices])


def read_all(file: Path) -> np.ndarray:
    with open_source(file) as source:
        return source.read(Box((0,) * len(source.shape), source.shape))


def image(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind in "fc":
        return rng.normal(size=shape).astype(kind)
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, dtype=kind, endpoint=True)


LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 48)},
}
CODECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deflate": {"compression": "zlib"},
    "deflate, predictor": {"compression": "zlib", "predictor": True},
    "lzw": {"compression": "lzw"},
    "lzw, predictor": {"compression": "lzw", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "lzma": {"compression": "lzma"},
    "jpeg 2000": {"compression": "jpeg2000", "compressionargs": {"reversible": True}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_grey(tmp_path: Path, layout: str, codec: str, dtype: str, byteorder: str) -> None:
    if codec == "jpeg 2000":
        byteorder = "<"  # tifffile writes those of 16 bits wrongly in the other order
    pixels = image((101, 77), dtype)
    file = tmp_path / "grey.tif"
    tifffile.imwrite(
        file, pixels, byteorder=byteorder, photometric="minisblack", **LAYOUTS[layout], **CODECS[codec]
    )
    with open_source(file) as source:
        assert [axis.name for axis in source.axes] == ["y", "x"]
        same_everywhere(source, pixels)


@pytest.mark.parametrize(
    "dtype",
    [
        "int8",
        "int16",
        "int32",
        "int64",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
        "bool",
    ],
)
@pytest.mark.parametrize("codec", ["plain", "zstd", "deflate, predictor"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_every_dtype(tmp_path: Path, dtype: str, codec: str, byteorder: str) -> None:
    if dtype.startswith(("complex", "bool", "int64", "uint64")) and codec == "deflate, predictor":
        codec = "deflate"  # tifffile writes no predictor for them
    pixels = image((50, 41), dtype)
    file = tmp_path / "typed.tif"
    tifffile.imwrite(
        file, pixels, byteorder=byteorder, photometric="minisblack", tile=(16, 32), **CODECS[codec]
    )
    with open_source(file) as source:
        same_everywhere(source, pixels)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("codec", ["plain", "lzw, predictor", "jpeg 2000"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
def test_colour(tmp_path: Path, layout: str, codec: str, planar: str, samples: int) -> None:
    pixels = image((70, 61, samples))
    file = tmp_path / "colour.tif"
    stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    extra = ["unassalpha"] if samples == 4 else None
    tifffile.imwrite(
        file,
        stored,
        photometric="rgb",
        planarconfig=planar,
        extrasamples=extra,
        **LAYOUTS[layout],
        **CODECS[codec],
    )
    with open_source(file) as source:
        assert source.rgb
        assert [axis.name for axis in source.axes] == ["c", "y", "x"]
        assert [channel.color for channel in source.channels[:3]] == ["FF0000", "00FF00", "0000FF"]
        same_everywhere(source, np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2), (2, 1)])
def test_jpeg_tiles_are_decoded_to_rgb(tmp_path: Path, subsampling: tuple[int, int]) -> None:
    rows, columns = np.mgrid[:150, :170]
    pixels = np.stack([rows, columns, (rows + columns) // 2], -1).astype(np.uint8)
    file = tmp_path / "jpeg.tif"
    tifffile.imwrite(
        file, pixels, tile=(64, 64), compression="jpeg", photometric="rgb", subsampling=subsampling
    )
    with open_source(file) as source:
        same_everywhere(source, np.moveaxis(tifffile.imread(file), -1, 0))
        whole = source.read(Box((0, 0, 0), source.shape))
        assert np.abs(np.moveaxis(whole, 0, -1).astype(int) - pixels).mean() < 5


def ycbcr(rgb: np.ndarray) -> np.ndarray:
    """BT.601, as JPEG has it, by its matrix."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.rint(rgb @ matrix.T + [0, 128, 128]).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "ycbcr", "subsampling": (1, 1), "compression": "zlib"},
        {"photometric": "ycbcr", "subsampling": (1, 1)},
        {"photometric": "rgb", "compression": 33003, "compressionargs": {"reversible": True, "level": 0}},
    ],
    ids=["deflate", "plain", "aperio"],
)
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_ycbcr_without_jpeg_becomes_rgb(
    tmp_path: Path, options: dict[str, Any], tile: tuple[int, int] | None
) -> None:
    pixels = image((64, 96, 3))
    file = tmp_path / "ycbcr.tif"
    tifffile.imwrite(file, ycbcr(pixels), tile=tile, metadata=None, **options)
    with open_source(file) as source:
        assert source.rgb
        whole = np.moveaxis(source.read(Box((0, 0, 0), source.shape)), 0, -1)
    assert np.abs(whole.astype(int) - pixels).max() <= 2, "rounded twice"


@pytest.mark.filterwarnings("ignore:.*its inks are kept")
@pytest.mark.parametrize(
    ("samples", "photometric"), [(3, "minisblack"), (4, "minisblack"), (4, "separated"), (5, "minisblack")]
)
@pytest.mark.parametrize("ome", [False, True])
def test_samples_that_are_no_colours_are_channels(
    tmp_path: Path, samples: int, photometric: str, ome: bool
) -> None:
    pixels = image((40, 50, samples))
    file = tmp_path / ("channels.ome.tif" if ome else "channels.tif")
    tifffile.imwrite(file, pixels, photometric=photometric, planarconfig="contig", tile=(16, 16), ome=ome)
    with open_source(file) as source:
        assert not source.rgb
        same_everywhere(source, np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("codec", ["plain", "deflate"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_stack_of_pages(tmp_path: Path, bigtiff: bool, codec: str, layout: str) -> None:
    pixels = image((5, 60, 50), "uint16")
    file = tmp_path / "stack.tif"
    with tifffile.TiffWriter(file, bigtiff=bigtiff) as writer:
        for plane in pixels:  # one by one: the pages are not contiguous
            writer.write(
                plane,
                contiguous=False,
                metadata=None,
                photometric="minisblack",
                **LAYOUTS[layout],
                **CODECS[codec],
            )
    with open_source(file) as source:
        assert [axis.name for axis in source.axes] == ["z", "y", "x"]
        same_everywhere(source, pixels)


@pytest.mark.filterwarnings("ignore:.*its inks are kept")
def test_inks_are_channels_with_names(tmp_path: Path) -> None:
    pixels = image((40, 50, 4))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="separated")
    with open_source(tmp_path / "a.tif") as source:
        assert not source.rgb
        assert [channel.label for channel in source.channels] == ["cyan", "magenta", "yellow", "black"]
        same_everywhere(source, np.moveaxis(pixels, -1, 0))


def test_volume_in_tiles(tmp_path: Path) -> None:
    pixels = image((9, 60, 50), "uint16")
    file = tmp_path / "volume.tif"
    tifffile.imwrite(file, pixels, volumetric=True, tile=(4, 16, 32), compression="zlib")
    with open_source(file) as source:
        assert source.read_shape == (4, 16, 32)
        same_everywhere(source, pixels)


OME = {
    "axes": "TCZYX",
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.5,
    "PhysicalSizeYUnit": "µm",
    "PhysicalSizeZ": 2000,
    "PhysicalSizeZUnit": "nm",
    "TimeIncrement": 1.5,
    "TimeIncrementUnit": "s",
    "Channel": {"Name": ["DAPI", "GFP"], "Color": [0x0000FFFF, -16776961]},
    "Name": "cells é",
}


@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_ome_tiff(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    pixels = image((3, 2, 4, 40, 50), "uint16")
    file = tmp_path / "a b é.ome.tif"
    tifffile.imwrite(file, pixels, ome=True, metadata=OME, tile=tile, photometric="minisblack")
    with open_source(file) as source:
        assert "".join(axis.name for axis in source.axes) == "tczyx"
        assert [axis.unit for axis in source.axes] == [
            "second",
            None,
            "micrometer",  # the file says 2000 nanometers
            "micrometer",
            "micrometer",
        ]
        assert source.voxel_size == (1.5, 1.0, 2.0, 0.5, 0.25)
        assert source.voxel_size_known
        assert [(channel.label, channel.color) for channel in source.channels] == [
            ("DAPI", "0000FF"),
            ("GFP", "FF0000"),
        ]
        assert source.name == "cells é"
        same_everywhere(source, pixels)


def test_ome_tiff_of_colour_planes_makes_channels_of_samples(tmp_path: Path) -> None:
    pixels = image((4, 40, 50, 3))
    file = tmp_path / "colours.ome.tif"
    tifffile.imwrite(file, pixels, ome=True, photometric="rgb", metadata={"axes": "CYXS"}, tile=(16, 16))
    with open_source(file) as source:
        assert not source.rgb
        same_everywhere(source, pixels.transpose(0, 3, 1, 2).reshape(12, 40, 50))


def test_ome_tiff_takes_level_0_of_its_pyramid(tmp_path: Path) -> None:
    pixels = image((128, 96))
    file = tmp_path / "levels.ome.tif"
    with tifffile.TiffWriter(file) as writer:
        writer.write(pixels, subifds=2, tile=(32, 32), metadata={"axes": "YX"})
        writer.write(pixels[::2, ::2], subfiletype=1, tile=(32, 32))
        writer.write(pixels[::4, ::4], subfiletype=1, tile=(32, 32))
    with open_source(file) as source:
        same_everywhere(source, pixels)


def test_ome_tiff_over_several_files(tmp_path: Path) -> None:
    pixels = image((2, 40, 50))
    first, second = tmp_path / "part0.ome.tif", tmp_path / "part1.ome.tif"
    xml = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}"><Image ID="Image:0"><Pixels ID="Pixels:0"
DimensionOrder="XYCZT" Type="uint8" SizeX="50" SizeY="40" SizeZ="1" SizeC="2" SizeT="1"><Channel ID="Channel:0:0"/>
<Channel ID="Channel:0:1"/><TiffData FirstC="0" IFD="0"><UUID FileName="part0.ome.tif">urn:uuid:a</UUID></TiffData>
<TiffData FirstC="1" IFD="0"><UUID FileName="part1.ome.tif">urn:uuid:b</UUID></TiffData></Pixels></Image></OME>"""
    for file, plane, own in ((first, pixels[0], "a"), (second, pixels[1], "b")):
        tifffile.imwrite(file, plane, description=xml.format(own=own), metadata=None, compression="zlib")
    with open_source(first) as source:
        same_everywhere(source, pixels)
    renamed = tmp_path / "renamed.ome.tif"
    first.rename(renamed)
    with open_source(renamed) as source:
        same_everywhere(source, pixels)
        before = source.fingerprint()
        os.utime(second, (0, 0))
        assert source.fingerprint() != before
    second.unlink()
    with pytest.raises(SourceError, match=r"missing: part1\.ome\.tif"):
        open_source(renamed)


def positions_xml(own: str = "") -> str:
    """OME-XML of two images, one in each file."""
    images = "".join(
        f"""<Image ID="Image:{n}" Name="pos{n}"><Pixels ID="Pixels:{n}" DimensionOrder="XYZCT" Type="uint16" SizeX="{30 + n}"
SizeY="20" SizeZ="3" SizeC="1" SizeT="1" PhysicalSizeX="{n + 1}"><Channel ID="Channel:{n}:0" Name="c{n}"/>"""
        + "".join(
            f"""<TiffData FirstZ="{z}" IFD="{z}" PlaneCount="1"><UUID FileName="pos{n}.ome.tif">urn:uuid:{n}</UUID></TiffData>"""
            for z in range(3)
        )
        + "</Pixels></Image>"
        for n in (0, 1)
    )
    return f'<?xml version="1.0"?><OME xmlns="{OME_NAMESPACE}"{own}>{images}</OME>'


@pytest.mark.parametrize("companion", [False, True])
@pytest.mark.parametrize("codec", [None, "zlib"])
def test_each_file_of_an_ome_tiff_is_its_own_image(
    tmp_path: Path, codec: str | None, companion: bool
) -> None:
    planes = [image((3, 20, 30 + n), "uint16") for n in (0, 1)]
    if companion:
        (tmp_path / "x.companion.ome").write_text(positions_xml())
    for n, pixels in enumerate(planes):
        xml = positions_xml(f' UUID="urn:uuid:{n}"')
        if companion:
            left = '<BinaryOnly MetadataFile="x.companion.ome" UUID="urn:uuid:z"/>'
            xml = f'<?xml version="1.0"?><OME xmlns="{OME_NAMESPACE}" UUID="urn:uuid:{n}">{left}</OME>'
        file = tmp_path / f"pos{n}.ome.tif"
        tifffile.imwrite(
            file, pixels, description=xml, metadata=None, compression=codec, photometric="minisblack"
        )
    for n, pixels in enumerate(planes):
        with open_source(tmp_path / f"pos{n}.ome.tif") as source:
            assert source.name == f"pos{n}"
            assert source.voxel_size[-1] == n + 1
            assert [channel.label for channel in source.channels] == [f"c{n}"]
            same_everywhere(source, pixels)


@pytest.mark.parametrize("axes", ["TZCYX", "ZYX", "TYX"])
def test_imagej_hyperstack(tmp_path: Path, axes: str) -> None:
    lengths = {"T": 3, "Z": 4, "C": 2, "Y": 30, "X": 20}
    pixels = image(tuple(lengths[a] for a in axes), "uint16")
    file = tmp_path / "hyper.tif"
    tifffile.imwrite(
        file,
        pixels,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": axes, "unit": "um", "spacing": 3.0, "finterval": 0.5},
    )
    with open_source(file) as source:
        order = sorted(range(len(axes)), key=lambda i: "TCZYX".index(axes[i]))
        expected = {"t": 0.5, "z": 3.0, "y": 0.5, "x": 0.25, "c": 1.0}
        assert source.voxel_size == tuple(expected[a.name] for a in source.axes)
        assert {a.name: a.unit for a in source.axes}["x"] == "micrometer"
        same_everywhere(source, pixels.transpose(order))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.999])
def test_stack_of_imagej_with_one_page_cut_short(tmp_path: Path, kept: float) -> None:
    file, pixels = tmp_path / "a.tif", image((6, 20, 30), "uint16")
    tifffile.imwrite(file, pixels, imagej=True, metadata={"axes": "ZYX"})
    content = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as tiff:
        following = tiff.pages[0].offset + 2 + 12 * len(tiff.pages[0].tags)
        end = tiff.pages[0].dataoffsets[0] + pixels.nbytes
    content[following : following + 4] = bytes(4)  # as ImageJ writes them from 4 GiB on
    file.write_bytes(content[:end])
    with open_source(file) as source:
        same_everywhere(source, pixels)
    file.write_bytes(content[: int(end * kept)])
    with pytest.raises(SourceError, match="truncated"):
        open_source(file)


def test_imagej_colours_and_ranges(tmp_path: Path) -> None:
    red, green = np.zeros((2, 3, 256), np.uint8)
    red[0], green[1] = np.arange(256), np.arange(256)
    notes = {"axes": "CYX", "mode": "composite", "LUTs": [red, green], "Ranges": (10.0, 500.0, 0.0, 90.0)}
    file = tmp_path / "composite.tif"
    tifffile.imwrite(file, image((2, 30, 20), "uint16"), imagej=True, metadata=notes)
    with open_source(file) as source:
        assert [(c.color, c.window) for c in source.channels] == [
            ("FF0000", (10.0, 500.0)),
            ("00FF00", (0.0, 90.0)),
        ]


@pytest.mark.parametrize(
    ("unit", "known"), [("um", True), ("pixel", False), ("inch", False), ("\\u00B5m", True), ("", False)]
)
def test_imagej_units(tmp_path: Path, unit: str, known: bool) -> None:
    file = tmp_path / "unit.tif"
    tifffile.imwrite(file, image((30, 20)), imagej=True, resolution=(72, 72), metadata={"unit": unit})
    with open_source(file) as source:
        assert source.voxel_size_known == known


def test_ome_sizes_in_pixels_are_no_sizes(tmp_path: Path) -> None:
    file = tmp_path / "pixels.ome.tif"
    notes = {
        "axes": "YX",
        "PhysicalSizeX": 2.0,
        "PhysicalSizeXUnit": "pixel",
        "PhysicalSizeY": 2.0,
        "PhysicalSizeYUnit": "pixel",
    }
    tifffile.imwrite(file, image((30, 20)), ome=True, metadata=notes)
    with open_source(file) as source:
        assert source.voxel_size == (1.0, 1.0)
        assert not source.voxel_size_known


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((40000, 20000), "CENTIMETER", (0.5, 0.25)),
        ((101600, 101600), "INCH", (0.25, 0.25)),
        ((300, 300), "INCH", (1.0, 1.0)),  # a print resolution says nothing of the specimen
        ((72, 72), "CENTIMETER", (1.0, 1.0)),
        ((40000, 20000), "NONE", (1.0, 1.0)),
        ((0, 0), "CENTIMETER", (1.0, 1.0)),
    ],
)
def test_resolution_tags_are_voxel_sizes_only_when_sane(
    tmp_path: Path, resolution: tuple[int, int], unit: str, expected: tuple[float, float]
) -> None:
    file = tmp_path / "resolution.tif"
    tifffile.imwrite(file, image((8, 9)), resolution=resolution, resolutionunit=unit, metadata=None)
    with open_source(file) as source:
        assert source.voxel_size == pytest.approx(expected)
        assert source.voxel_size_known == (expected != (1.0, 1.0))
        assert source.axes[0].unit == ("micrometer" if source.voxel_size_known else None)


def test_aperio_says_micrometres_per_pixel(tmp_path: Path) -> None:
    file = tmp_path / "slide.tif"
    note = "Aperio Image Library v12\r\n100x100 |AppMag = 40|MPP = 0.2520|Left = 1"
    tifffile.imwrite(
        file, image((100, 100, 3)), photometric="rgb", tile=(64, 64), description=note, metadata=None
    )
    with open_source(file) as source:
        assert source.voxel_size == (1.0, 0.252, 0.252)
        assert source.axes[2].unit == "micrometer"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool"])
@pytest.mark.parametrize("codec", ["plain", "deflate"])
def test_white_is_zero_is_turned_round(tmp_path: Path, dtype: str, codec: str) -> None:
    pixels = image((30, 43), dtype)
    file = tmp_path / "white.tif"
    tifffile.imwrite(file, pixels, photometric="miniswhite", **CODECS[codec])
    with open_source(file) as source:
        top = True if dtype == "bool" else np.iinfo(dtype).max
        same_everywhere(source, pixels ^ np.array(top, dtype))


@pytest.mark.parametrize("ome", [False, True])
def test_white_is_zero_of_measured_values_is_kept(tmp_path: Path, ome: bool) -> None:
    pixels = image((30, 43), "uint16")
    file = tmp_path / ("a.ome.tif" if ome else "a.tif")
    tifffile.imwrite(file, pixels, photometric="miniswhite", ome=ome, imagej=not ome)
    with open_source(file) as source:
        same_everywhere(source, pixels)


@pytest.mark.parametrize("photometric", ["palette", "miniswhite"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_ids_of_labels_are_as_stored(tmp_path: Path, photometric: str, dtype: str) -> None:
    ids = image((31, 47), dtype)
    table = {"colormap": image((3, 1 << 8 * ids.itemsize), "u2")} if photometric == "palette" else {}
    tifffile.imwrite(tmp_path / "a.tif", ids, photometric=photometric, metadata=None, **table)
    build(tmp_path / "a.tif", tmp_path / "a.zarr", labels=True, tile=16, workers=1)
    pyramid = open_pyramid(tmp_path / "a.zarr")
    assert pyramid.spec.labels
    np.testing.assert_array_equal(pyramid.read(0, Box((0, 0), (31, 47))), ids)


def test_palette_becomes_rgb(tmp_path: Path) -> None:
    index = image((30, 20))
    table = np.random.default_rng(3).integers(0, 65536, (3, 256)).astype(np.uint16)
    file = tmp_path / "palette.tif"
    tifffile.imwrite(file, index, photometric="palette", colormap=table, tile=(16, 16), metadata=None)
    with open_source(file) as source:
        assert source.rgb
        same_everywhere(source, (table >> 8).astype(np.uint8)[:, index])


def test_imagej_look_up_table_keeps_the_values(tmp_path: Path) -> None:
    pixels = image((30, 20))
    table = np.random.default_rng(3).integers(0, 256, (3, 256)).astype(np.uint8)
    file = tmp_path / "lut.tif"
    tifffile.imwrite(file, pixels, imagej=True, colormap=(table.astype(np.uint16) << 8))
    with open_source(file) as source:
        assert not source.rgb
        same_everywhere(source, pixels)


def test_bilevel_fax(tmp_path: Path) -> None:
    from PIL import Image

    pixels = image((33, 45), "bool")
    file = tmp_path / "fax.tif"
    Image.fromarray(pixels).save(file, compression="group4")
    with open_source(file) as source:
        same_everywhere(source, np.asarray(Image.open(file)))


def test_sparse_tiles_are_zero(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:32, 32:] = 9
    tiles = [None, pixels[:32, 32:], None, None]
    file = tmp_path / "sparse.tif"
    with tifffile.TiffWriter(file) as writer:
        encoded = (b"" if tile is None else tile.tobytes() for tile in tiles)
        writer.write(encoded, shape=(64, 64), dtype="uint8", tile=(32, 32), metadata=None)
    with open_source(file) as source:
        same_everywhere(source, pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_smallest_images(tmp_path: Path, shape: tuple[int, int], layout: str) -> None:
    pixels = image(shape, "uint16")
    file = tmp_path / "small.tif"
    tifffile.imwrite(file, pixels, compression="zlib", **LAYOUTS[layout])
    with open_source(file) as source:
        same_everywhere(source, pixels)


@ANY_BOX
@given(data=st.data())
def test_any_layout_any_box(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, n) for n in (3, 90, 90)]))
    tile = data.draw(st.none() | st.tuples(st.sampled_from([16, 48]), st.sampled_from([16, 32])))
    rows = data.draw(st.integers(1, 40)) if tile is None else None
    codec = CODECS[data.draw(st.sampled_from(["plain", "lzw, predictor", "zstd"]))]
    pixels = image(shape, data.draw(st.sampled_from(["uint8", "int16", "float32"])))
    file = tmp_path_factory.mktemp("any") / "any.tif"
    with tifffile.TiffWriter(file, byteorder=data.draw(st.sampled_from("<>"))) as writer:
        for plane in pixels:
            writer.write(
                plane,
                contiguous=False,
                metadata=None,
                photometric="minisblack",
                tile=tile,
                rowsperstrip=rows,
                **codec,
            )
    with open_source(file, axes="zyx" if shape[0] > 1 else "yx") as source:
        same_everywhere(source, pixels if shape[0] > 1 else pixels[0])


def test_threads_read_the_same(tmp_path: Path) -> None:
    pixels = image((6, 200, 180), "uint16")
    file = tmp_path / "threads.tif"
    tifffile.imwrite(file, pixels, compression="zlib", rowsperstrip=33, photometric="minisblack")
    wrong: list[Box] = []
    with open_source(file) as source:

        def work(seed: int) -> None:
            wrong.extend(
                box
                for box in boxes(source.shape, seed, 30)
                if not np.array_equal(source.read(box), pixels[box.slices])
            )

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_only_the_tiles_of_the_box_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from octree.pyramid.sources.tiff import pages as read_tiff

    file = tmp_path / "tiles.tif"
    tifffile.imwrite(file, image((256, 256)), tile=(64, 64), compression="zlib")
    decoded: list[int] = []
    original = read_tiff.TiffArray._decode

    def record(self: Any, number: int, index: int, *rest: Any) -> Any:
        decoded.append(index)
        return original(self, number, index, *rest)

    monkeypatch.setattr(read_tiff.TiffArray, "_decode", record)
    with open_source(file) as source:
        source.read(Box((60, 60), (70, 130)))
        assert sorted(decoded) == [0, 1, 2, 4, 5, 6]
        source.read(Box((60, 0), (128, 64)))
        assert decoded[6:] == [], "tiles that boxes share are kept"


@pytest.mark.parametrize("layout", ["tiles", "strips"])
@pytest.mark.parametrize("codec", ["plain", "deflate"])
def test_truncated_file_is_an_error_that_names_the_place(tmp_path: Path, layout: str, codec: str) -> None:
    whole, cut = tmp_path / "whole.tif", tmp_path / "cut.tif"
    tifffile.imwrite(whole, image((200, 200), "uint16"), **LAYOUTS[layout], **CODECS[codec])
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(SourceError) as caught:
        read_all(cut)
    assert str(cut) in caught.value.message
    if layout == "tiles" or codec == "deflate":
        assert "page 0" in caught.value.message
        assert layout[:-1] in caught.value.message
    assert caught.value.hint


def test_damaged_tile_is_named(tmp_path: Path) -> None:
    file = tmp_path / "damaged.tif"
    tifffile.imwrite(file, image((128, 128)), tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(file) as tiff:
        offset = tiff.pages[0].dataoffsets[3]
    content = bytearray(file.read_bytes())
    content[offset : offset + 20] = b"x" * 20
    file.write_bytes(content)
    with open_source(file) as source:
        source.read(Box((0, 0), (64, 128)))
        with pytest.raises(SourceError, match="tile 3 of page 0") as caught:
            source.read(Box((0, 0), (128, 128)))
    assert caught.value.details["segment"] == 3


@pytest.mark.parametrize(
    "content", [b"II*\0", b"II*\0\x08\0\0\0", b"MM\0*" + b"\0" * 40, b"II*\0" + bytes(range(200))]
)
def test_heads_without_an_image_are_errors(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "head.tif"
    file.write_bytes(content)
    with pytest.raises(SourceError, match=r"head\.tif"):
        open_source(file)


def test_text_called_tiff(tmp_path: Path) -> None:
    file = tmp_path / "notes.tif"
    file.write_text("not an image at all")
    with pytest.raises(SourceError, match="no image that octree can read"):
        open_source(file)


def test_closing_closes_every_file(tmp_path: Path) -> None:
    file = tmp_path / "open.tif"
    tifffile.imwrite(file, image((64, 64)), tile=(32, 32))
    source = open_source(file)
    source.read(Box((0, 0), (64, 64)))
    source.close()
    with pytest.raises((SourceError, OSError, ValueError)):
        source.read(Box((0, 0), (64, 64)))
