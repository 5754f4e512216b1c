"""The files of ``fixtures/odd``, which readers get wrong: the very values, or a refusal; what is lost is said."""

from __future__ import annotations

import io
import json
import math
import struct
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from build_tools import levels_of, octree
from PIL import Image
from test_source_fixtures import load_program
from tifffile import TiffFile, TiffWriter, tiffcomment

from octree.pyramid import build, confined, open_pyramid
from octree.pyramid.building.builder import plan_build
from octree.pyramid.confined import Confined
from octree.pyramid.errors import LimitError, SourceError, SourceWarning
from octree.pyramid.limits import Limits
from octree.pyramid.model import Box
from octree.pyramid.sources.source import ArraySource, open_source
from octree.pyramid.sources.tiff import fax
from octree.pyramid.sources.tiff.facts import _stk_facts
from octree.pyramid.verify.run import verify
from octree.render.tiles.tile_source import open_tile_source

MAKER = load_program("make_odd")
ODD: Path = MAKER.HERE


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders in this process: starting one for each of so many files takes too long."""

    def call(self: Confined, function: str, *arguments: Any, room_bytes: int, deadline_s: float) -> Any:
        return confined._here(function, json.loads(json.dumps(arguments)))

    monkeypatch.setattr(Confined, "call", call)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def whole(path: Path, **options: Any) -> tuple[np.ndarray, ArraySource]:
    with open_source(path, **options) as source:
        return np.array(source.read(Box((0,) * len(source.shape), source.shape))), source


def check(path: Path, odd: Any) -> None:
    if odd.refused:
        with pytest.raises(SourceError, match=odd.refused) as caught:
            whole(path)
        assert caught.value.hint
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pixels, source = whole(path)
    expected = odd.pixels()
    assert pixels.shape == expected.shape
    assert pixels.dtype == expected.dtype
    np.testing.assert_allclose(pixels.astype(float), expected.astype(float), rtol=0, atol=odd.near)
    assert [str(warning.message) for warning in said] == [f"{path}: {text}" for text in source.warnings]
    assert all(issubclass(warning.category, SourceWarning) for warning in said)
    assert bool(source.warnings) == bool(odd.says)
    assert odd.says in " ".join(source.warnings)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", MAKER.ODD)
def test_kept_file(name: str) -> None:
    check(ODD / name, MAKER.ODD[name])


@pytest.mark.parametrize("name", ["film.avif", "film10.avif", "grey16.sgi"])
def test_in_a_process_of_its_own(name: str) -> None:
    check(ODD / name, MAKER.ODD[name])


@pytest.mark.usefixtures("here")
def test_the_program_still_makes_them(tmp_path: Path) -> None:
    MAKER.make(tmp_path)
    for name, odd in MAKER.ODD.items():
        made, kept = (tmp_path / name).read_bytes(), (ODD / name).read_bytes()
        if made != kept:  # another version of an encoder
            check(tmp_path / name, odd)


def test_nothing_else_is_there_and_all_of_it_is_small() -> None:
    files = {path.name: path.stat().st_size for path in ODD.iterdir()}
    assert set(files) == set(MAKER.ODD)
    assert sum(files.values()) < 400_000


@pytest.mark.parametrize(
    ("name", "top"), [("colour12.jp2", 4095), ("text10.ppm", 1023), ("colour10.avif", 1023)]
)
def test_colours_of_few_bits_are_shown_over_their_own_range(name: str, top: int) -> None:
    with open_source(ODD / name) as source:
        assert [channel.window for channel in source.channels] == [(0.0, top)] * 3


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["palette8.jp2", "palette4.jp2", "palette-alpha.jp2"])
def test_labels_of_a_jpeg_2000_palette_are_its_indices(name: str) -> None:
    np.testing.assert_array_equal(whole(ODD / name, labels=True)[0], MAKER._indices())


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["grey12.jp2", "film10.avif", "radiance.hdr", "halves.dds", "grey12.pgm"])
def test_limits_hold_for_each_way_of_decoding(name: str) -> None:
    with pytest.raises(LimitError, match=r"the limit (is|of) 10") as caught:
        open_source(ODD / name, limits=Limits(max_pixels=10))
    assert caught.value.details["option"] == "--max-pixels"


@pytest.mark.parametrize("orientation", [1, 2, 5, 8])
def test_sixteen_bit_colour_stands_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    """Of a 16-bit PNG, which Pillow does not decode, too."""
    import zlib

    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = bytes(MAKER.imagecodecs.png_encode(MAKER.colour(16)))
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    red = Image.fromarray(MAKER.colour(16)[..., 0])
    red.getexif()[0x0112] = orientation
    pixels, _ = whole(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels[0], np.asarray(ImageOps.exif_transpose(red)))


def test_any_file_is_not_an_image(tmp_path: Path) -> None:
    """One of imageio's plug-ins takes all files for pictures of some size."""
    for name in ("a.bin", "a.spf", "a"):
        (tmp_path / name).write_bytes(np.random.default_rng(1).bytes(20_000))
        with pytest.raises(SourceError, match="no image that octree can read"):
            open_source(tmp_path / name)


def test_a_film_is_refused_with_the_way_to_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(8000))
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / "a.mp4")
    assert "ffmpeg -i a.mp4" in str(caught.value.hint)


def test_what_is_lost_is_said_by_every_command(tmp_path: Path) -> None:
    lost = "its samples of 16 bits become 8 bits"
    source = ODD / "grey16.sgi"
    done = octree("build", source, tmp_path / "p", "--json")
    assert json.loads(done.stdout)["warnings"] == [lost]
    assert done.stderr.count(f"warning: {source}: {lost}\n") == 1
    planned = octree("build", source, tmp_path / "q", "--dry-run", "--json")
    assert json.loads(planned.stdout)["warnings"] == [lost]
    told = octree("info", source, "--json")
    assert json.loads(told.stdout)["warnings"] == [lost]
    assert f"warning: {source}: {lost}\n" in told.stderr


def test_what_is_lost_is_in_the_report(tmp_path: Path) -> None:
    with (
        pytest.warns(SourceWarning, match="16 bits become 8"),
        open_tile_source(ODD / "grey16.sgi") as source,
    ):
        assert source.describe()["warnings"] == ["its samples of 16 bits become 8 bits"]


def cmyk_profile() -> bytes:
    """An ICC profile for which cyan is black, and all other inks are nothing: from a table of two steps for each ink."""
    black, white = bytes([0, 128, 128]), bytes([255, 128, 128])  # L, a, b
    table = b"".join(black if corner & 8 else white for corner in range(16))  # the first ink varies slowest
    ramp = bytes(range(256))
    lut = (
        b"mft1"
        + bytes(4)
        + bytes([4, 3, 2, 0])
        + struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    )
    lut += ramp * 4 + table + ramp * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(12 + 67)
    white_point = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, data = [], b""
    for name, body in (
        (b"A2B0", lut),
        (b"desc", text),
        (b"wtpt", white_point),
        (b"cprt", b"text" + bytes(5)),
    ):
        tags.append(name + struct.pack(">II", 128 + 4 + 48 + len(data), len(body)))
        data += body.ljust(-(-len(body) // 4) * 4, b"\0")
    content = struct.pack(">I", 4) + b"".join(tags) + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(content), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head = head.ljust(36, b"\0") + b"acsp"
    return head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061).ljust(60, b"\0") + content


def test_inks_become_colours_by_the_profile_in_the_file(tmp_path: Path) -> None:
    for cyan, expected in ((255, (0, 0, 0)), (0, (255, 255, 255))):
        picture = Image.new("CMYK", (16, 16), (cyan, 0, 0, 0))
        picture.save(tmp_path / "a.jpg", icc_profile=cmyk_profile(), quality=100)
        pixels, source = whole(tmp_path / "a.jpg")
        assert np.abs(pixels[:, 8, 8].astype(int) - expected).max() < 12
        assert not source.warnings


def test_inks_without_a_profile_become_colours_by_a_rule_that_is_said(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 51, 102)).save(tmp_path / "a.jpg", quality=100, icc_profile=b"none")
    with pytest.warns(SourceWarning, match="by a rule"):
        pixels, _ = whole(tmp_path / "a.jpg")
    assert np.abs(pixels[:, 8, 8].astype(int) - (0, 153, 122)).max() < 3


@pytest.mark.parametrize("name", ["group4.tif", "group4-breaks-off.tif"])
def test_fax_codes_of_many_possible_rows_are_counted_elsewhere(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fax, "AT_ONCE_BYTES", 0)
    check(ODD / name, MAKER.ODD[name])


def test_fax_codes_of_endless_rows_take_no_memory(tmp_path: Path) -> None:
    """Each bit set is a row like the one before: 400 kB of them, 14 GB of rows."""
    data = bytearray(MAKER.fax(MAKER.stripes(), "group4"))
    begin, size = (TiffFile(io.BytesIO(data)).pages[0].tags[tag].valueoffset for tag in (273, 279))
    for place, value in ((begin, len(data)), (size, 400_000)):
        data[place : place + 4] = struct.pack("<I", value)
    (tmp_path / "a.tif").write_bytes(bytes(data) + b"\xff" * 400_000)
    assert whole(tmp_path / "a.tif")[0].shape == (40, 320)


def test_nodata_takes_no_part_in_means_and_the_place_on_earth_is_kept(tmp_path: Path) -> None:
    for name, stored in (("nodata-float.tif", math.nan), ("nodata-integer.tif", 255)):
        build(ODD / name, tmp_path / name, tile=16)
        level0, level1 = levels_of(tmp_path / name)[:2]
        blocks = level0[:20, :34].reshape(10, 2, 17, 2).swapaxes(1, 2).reshape(10, 17, 4)
        for place in np.ndindex(10, 17):
            values = blocks[place]
            there = values[~np.isnan(values)] if math.isnan(stored) else values[values != stored]
            expected = there.mean(dtype=float) if there.size else stored
            np.testing.assert_allclose(level1[place], expected, atol=0.51)
        metadata = open_pyramid(tmp_path / name).spec.metadata
        assert metadata["nodata"] == ("nan" if math.isnan(stored) else stored)
        assert metadata["source"]["ModelPixelScale"] == [30, 30, 0]
        assert metadata["source"]["GeoKeyDirectory"][-1] == 32632
        assert verify(tmp_path / name).ok


def test_nodata_that_is_given_is_above_that_of_the_file(tmp_path: Path) -> None:
    assert plan_build(ODD / "nodata-integer.tif", nodata=7).nodata == 7


def test_attributes_are_kept_or_named_and_go_from_pyramid_to_pyramid(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("d", data=MAKER.grey(8))
        data.attrs["stain"], data.attrs["step"] = "DAPI", np.float32(0.5)
        data.attrs["compound"] = np.zeros(2, [("a", "i4")])
    with pytest.warns(SourceWarning, match="attributes that are not kept: compound"):
        build(f"{tmp_path}/a.h5::d", tmp_path / "p")
    build(tmp_path / "p", tmp_path / "q")
    for name in "pq":
        assert open_pyramid(tmp_path / name).spec.metadata["source"] == {"stain": "DAPI", "step": 0.5}
    array = zarr.create_array(tmp_path / "z", shape=(20, 30), chunks=(10, 10), dtype="u1")
    array.attrs["note"] = {"by": [1, 2]}
    array[:] = 1
    with open_source(tmp_path / "z") as source:
        assert source.attributes == {"note": {"by": [1, 2]}}


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ('PhysicalSizeX="-1"', "PhysicalSizeX of '-1'"),
        ('PhysicalSizeX="0.5" PhysicalSizeXUnit="furlong"', "'0.5' furlong is no size"),
        ('PhysicalSizeX="0.5" PhysicalSizeXUnit="pixel"', ""),
    ],
)
def test_ome_sizes_that_are_none_are_said(tmp_path: Path, attributes: str, said: str) -> None:
    with TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(MAKER.grey(8), metadata={"axes": "YX"})
    xml = tiffcomment(tmp_path / "a.ome.tif").replace("<Pixels ", f"<Pixels {attributes} ")  # type: ignore[union-attr]  # it has one
    tiffcomment(tmp_path / "a.ome.tif", xml.encode())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        open_source(tmp_path / "a.ome.tif").close()
    assert [said in str(one.message) for one in found] == [True] * bool(said)


def test_the_calibration_of_metamorph_is_taken() -> None:
    facts = _stk_facts(
        {
            "XCalibration": 0.5,
            "YCalibration": 0.25,
            "CalibrationUnits": "um",
            "ZDistance": np.array([2.0, 2.0]),
        },
        "zyx",
    )
    assert facts.voxel_size == {"x": 0.5, "y": 0.25, "z": 2.0}
    assert set(facts.units.values()) == {"micrometer"}
    lost = _stk_facts({"XCalibration": 0.0, "CalibrationUnits": "um"}, "zyx")
    assert lost.warnings == ("its calibration 0.0 'um' is no size",)


@pytest.mark.parametrize("name", ["palette-with-alpha.tif", "group4-breaks-off.tif", "logluv.tif"])
def test_a_plan_fails_where_the_build_would(name: str) -> None:
    with pytest.raises(SourceError):
        plan_build(ODD / name)


def test_images_that_are_not_read_and_inks_are_said(tmp_path: Path) -> None:
    with TiffWriter(tmp_path / "two.tif") as tiff:
        tiff.write(np.zeros((20, 30), np.uint8), metadata={"Name": "here"})
        tiff.write(np.zeros((5, 6, 7), np.uint16), metadata={"Name": "there"})
    with (
        pytest.warns(SourceWarning, match="another image in it is not read: ") as said,
        open_source(tmp_path / "two.tif") as source,
    ):
        assert source.shape == (20, 30)
    assert len(said) == len(source.warnings) == 1
    with TiffWriter(tmp_path / "slide.tif", ome=True) as tiff:
        tiff.write(np.zeros((20, 30), np.uint8), metadata={"axes": "YX", "Name": "slide"})
        tiff.write(np.zeros((5, 6), np.uint16), metadata={"axes": "YX", "Name": "Label"})
    with open_source(tmp_path / "slide.tif") as source:
        assert not source.warnings
    with TiffWriter(tmp_path / "inks.tif") as tiff:
        tiff.write(np.zeros((20, 30, 4), np.uint8), photometric="separated")
    with (
        pytest.warns(SourceWarning, match="its inks are kept as channels"),
        open_source(tmp_path / "inks.tif"),
    ):
        pass


def test_an_ome_tiff_of_two_images_says_which_it_reads(tmp_path: Path) -> None:
    with TiffWriter(tmp_path / "two.ome.tif", ome=True) as tiff:
        tiff.write(np.zeros((20, 30), np.uint8), metadata={"axes": "YX"})
        tiff.write(np.zeros((3, 30, 40), np.uint8), metadata={"axes": "ZYX"})
    with (
        pytest.warns(SourceWarning, match="another image in it is not read"),
        open_source(tmp_path / "two.ome.tif"),
    ):
        pass
