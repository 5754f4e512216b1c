"""What common readers take for something else than it is: read right, refused, or said. Each was wrong without a word."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pytest
import zarr
from build_tools import levels_of, octree
from numpy.typing import NDArray
from test_source_fixtures import load_program
from test_source_odd import whole
from tifffile import TiffWriter, imwrite

from octree.pyramid import build, open_pyramid
from octree.pyramid.errors import SourceError, SourceWarning, UsageError
from octree.pyramid.sources.source import open_source

MAKER = load_program("make_odd")
RANDOM = np.random.default_rng(0)


def bytes_of(*shape: int) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, shape, np.uint8)


def said_of(path: Path | str) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        open_source(path).close()
    assert all(issubclass(one.category, SourceWarning) for one in found)
    return [str(one.message) for one in found]


def tags(high: int, wide: int, **other: list[int]) -> dict[int, list[int]]:
    """Of a grey image of bytes; ``tN`` stands for tag N, an empty list for none."""
    found = {256: [wide], 257: [high], 258: [8], 259: [1], 262: [1], 277: [1], 278: [high]}
    found |= {int(name[1:]): values for name, values in other.items()}
    return {tag: values for tag, values in found.items() if values}


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        whole(path)
    assert caught.value.hint
    return caught.value.message


# TIFF


def test_whole_numbers_of_24_bits_are_refused(tmp_path: Path) -> None:
    """They came out with their bytes in another order."""
    path = tmp_path / "a.tif"
    path.write_bytes(MAKER.classic_tiff(tags(2, 4, t258=[24]), bytes(24)))
    assert "whole numbers of 24 bits" in refused(path)


def test_complex_whole_numbers_are_refused(tmp_path: Path) -> None:
    """They came out as if their bits were those of floats."""
    path = tmp_path / "a.tif"
    path.write_bytes(MAKER.classic_tiff(tags(2, 4, t258=[32], t339=[5]), bytes(32)))
    assert "complex whole numbers" in refused(path)


def test_colours_of_one_sample_are_refused(tmp_path: Path) -> None:
    """A third of the bytes came out as a grey image."""
    path = tmp_path / "a.tif"
    path.write_bytes(MAKER.classic_tiff(tags(2, 4, t258=[8] * 3, t262=[2], t277=[]), bytes(24)))
    assert "RGB, of 1 samples" in refused(path)


def test_grey_that_says_not_what_black_is_keeps_its_numbers(tmp_path: Path) -> None:
    """It came out turned round."""
    path, pixels = tmp_path / "a.tif", bytes_of(2, 4)
    path.write_bytes(MAKER.classic_tiff(tags(2, 4, t262=[]), pixels.tobytes()))
    assert "it is taken for black" in said_of(path)[0]
    with pytest.warns(SourceWarning):
        np.testing.assert_array_equal(whole(path)[0], pixels)


def test_a_palette_of_two_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    colours = [10 << 8, 20 << 8, 30 << 8, 40 << 8, 50 << 8, 60 << 8]  # red of both, green, blue
    path.write_bytes(MAKER.classic_tiff(tags(1, 8, t258=[1], t262=[3], t320=colours), b"\x0f"))
    expected = np.repeat([[10, 20], [30, 40], [50, 60]], 4, axis=1)[:, None]
    np.testing.assert_array_equal(whole(path)[0], expected)


@pytest.mark.parametrize("first", [1, 3])
def test_pages_that_stand_another_way_round_are_refused(tmp_path: Path, first: int) -> None:
    path = tmp_path / "a.tif"
    pages = [bytes_of(4, 6) for _ in range(3)]
    with TiffWriter(path) as tiff:
        for number, page in enumerate(pages):
            turn = 4 - first if number == 2 else first
            tiff.write(page, metadata=None, photometric="minisblack", contiguous=False, extratags=[(274, 3, 1, turn, True)])  # fmt: skip
    assert f"page 2 stands another way round (orientation {4 - first}) than the first ({first})" in refused(
        path
    )


def test_strips_that_are_shorter_than_their_pixels(tmp_path: Path) -> None:
    """What follows them in the file was taken for the rest, even the file's own structure."""
    pixels = bytes_of(9, 13)
    cut, lying = tmp_path / "cut.tif", tmp_path / "lying.tif"
    cut.write_bytes(MAKER.classic_tiff(tags(9, 13), pixels.tobytes()[:60]))
    assert "the strips of page 0 hold 60 bytes, and its pixels take 117" in refused(cut)
    count = [struct.pack("<HHII", 279, 4, 1, size) for size in (117, 40)]
    lying.write_bytes(MAKER.classic_tiff(tags(9, 13), pixels.tobytes()).replace(*count))
    assert "said to hold 40 bytes, and its pixels take 117" in said_of(lying)[0]
    with pytest.warns(SourceWarning):
        np.testing.assert_array_equal(whole(lying)[0], pixels)


@pytest.mark.parametrize(
    ("held", "samples"),
    [((16, 16, 3), 1), ((16, 24, 1), 1), ((24, 16, 1), 1)],
    ids=["colours", "wider", "taller"],
)
@pytest.mark.parametrize("codec", [7, 34712, 34933])
def test_pictures_that_are_more_than_their_tile(
    tmp_path: Path, held: tuple[int, int, int], samples: int, codec: int
) -> None:
    """Colours came out as grey pixels side by side; of larger ones a corner was shown."""
    encode = {7: imagecodecs.jpeg_encode, 34712: imagecodecs.jpeg2k_encode, 34933: imagecodecs.png_encode}[
        codec
    ]
    pixels = bytes_of(*held).squeeze()
    tile = {t: [16] for t in ("t322", "t323")}
    path = tmp_path / "a.tif"
    whole_tags = tags(16, 16, t259=[codec], t277=[samples], **tile)
    path.write_bytes(MAKER.classic_tiff(whole_tags, encode(pixels)))
    assert "its own header says" in refused(path)


@pytest.mark.parametrize("rest", [b"", b"\x05junk", b"\xf0\x07", bytes([127]) * 129])
@pytest.mark.parametrize("pixels", [bytes_of(9, 13), np.zeros((9, 13), np.uint8)], ids=["noise", "zeros"])
def test_packed_strips_that_hold_too_much(tmp_path: Path, rest: bytes, pixels: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.tif"
    more = imagecodecs.packbits_encode(pixels.tobytes() + bytes(30)) if not rest else b""
    packed = more or imagecodecs.packbits_encode(pixels.tobytes()) + rest
    path.write_bytes(MAKER.classic_tiff(tags(9, 13, t259=[32773]), packed))
    np.testing.assert_array_equal(whole(path)[0], pixels)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"photometric": "rgb", "extrasamples": ["assocalpha"]}, "multiplied by their alpha"),
        ({"photometric": "rgb", "extrasamples": ["unspecified"]}, "does not say what it is: it is drawn as alpha"),
        ({"photometric": "rgb", "extrasamples": ["unassalpha"]}, ""),
    ],
)  # fmt: skip
def test_what_a_fourth_sample_is(tmp_path: Path, options: dict[str, Any], word: str) -> None:
    imwrite(tmp_path / "a.tif", bytes_of(4, 5, 4), **options)
    assert [word in one for one in said_of(tmp_path / "a.tif")] == [True] * bool(word)


@pytest.mark.parametrize(
    ("pixels", "options", "word"),
    [
        (bytes_of(4, 5, 3), {"photometric": "cielab"}, "its samples are CIE L*a*b*"),
        (bytes_of(4, 5), {"photometric": "cfa"}, "a colour filter's mosaic"),
        (bytes_of(4, 5).astype("f4"), {"photometric": "miniswhite"}, "drawn the other way round"),
        (bytes_of(4, 5).astype("u2"),
         {"imagej": True, "metadata": {"axes": "YX", "cf": 0, "c0": -32768.0, "c1": 1.0}}, "its calibration"),
        (bytes_of(4, 5).astype("u2"), {"imagej": True, "metadata": {"axes": "YX", "cf": 0, "c0": 0, "c1": 1}}, ""),
        (bytes_of(4, 5), {"photometric": "minisblack", "extratags": [
            (42112, 2, 0, '<GDALMetadata><Item name="SCALE" sample="0" role="scale">0.1</Item></GDALMetadata>', True)]},
         "its scale and offset"),
    ],
)  # fmt: skip
def test_what_samples_are_not_shown_as(
    tmp_path: Path, pixels: NDArray[Any], options: dict[str, Any], word: str
) -> None:
    imwrite(tmp_path / "a.tif", pixels, **options)
    assert [word in one for one in said_of(tmp_path / "a.tif")] == [True] * bool(word)


def test_old_jpeg_whose_strip_is_a_part_of_its_stream_names_the_tool(tmp_path: Path) -> None:
    """It is not damaged: its tables are elsewhere."""
    path, data = tmp_path / "a.tif", imagecodecs.jpeg_encode(bytes_of(16, 16))
    path.write_bytes(MAKER.classic_tiff(tags(16, 16, t259=[6], t512=[1], t513=[8]), data[20:]))
    with pytest.raises(SourceError) as caught:
        whole(path)
    assert "tiff2rgba a.tif" in (caught.value.hint or "")


def test_a_url_of_no_store_is_no_missing_folder() -> None:
    with pytest.raises(UsageError, match="octree knows no ftp:// stores"):
        open_pyramid("ftp://bucket/p")


# flat images


def png(wide: int, high: int, bits: int, kind: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    head = (b"IHDR", struct.pack(">IIBBBBB", wide, high, bits, kind, 0, 0, 0))
    chunks = [head, *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("labels", [False, True])
def test_grey_of_few_bits_keeps_its_numbers(tmp_path: Path, bits: int, labels: bool) -> None:
    """They were spread over 8 bits: of labels, other ids."""
    path = tmp_path / "a.png"
    path.write_bytes(png(4, 1, bits, 0, b"\0" + {2: b"\x1b", 4: b"\x01\x2f"}[bits]))
    pixels, source = whole(path, labels=labels)
    assert pixels.tolist() == [{2: [0, 1, 2, 3], 4: [0, 1, 2, 15]}[bits]]
    assert [channel.window for channel in source.channels] == [(0.0, 2**bits - 1)]


def test_a_film_of_16_bit_grey_is_refused(tmp_path: Path) -> None:
    """All that was above 255 became 255."""
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.apng_encode(MAKER.noise((3, 8, 9), 65535, "u2")))
    assert "a film of 16-bit PNG" in refused(path)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_is_applied(tmp_path: Path, bits: int) -> None:
    path, top = tmp_path / "a.png", 2**bits - 1
    pixels = MAKER.noise((3, 4, 3), top, f">u{bits // 8}")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    path.write_bytes(png(4, 3, bits, 2, rows, (b"tRNS", struct.pack(">3H", *pixels[1, 2].tolist()))))
    found, _ = whole(path)
    expected = np.full((4, 3, 4), top)
    expected[:3] = np.moveaxis(pixels, -1, 0)
    expected[3, 1, 2] = 0
    np.testing.assert_array_equal(found, expected)


def test_a_transparent_grey_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(4, 1, 8, 0, b"\0" + bytes(range(4)), (b"tRNS", b"\0\1")))
    assert "stands for transparent" in said_of(path)[0]


def test_a_program_that_draws_is_no_damaged_image(tmp_path: Path) -> None:
    path = tmp_path / "a.eps"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    done = octree("info", path)
    assert done.returncode == 3
    assert "is EPS, a program that draws" in done.stderr


# the conventions of NetCDF, in HDF5 and Zarr


def stored(folder: Path, kind: str, pixels: NDArray[Any], **attributes: Any) -> str:
    if kind == "zarr":
        array = zarr.create_array(folder / "a", data=pixels, chunks=(4, 4))
        array.attrs.update({name: np.asarray(value).tolist() for name, value in attributes.items()})
        return str(folder / "a")
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("d", data=pixels).attrs.update(attributes)
    return f"{folder}/a.h5::d"


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
@pytest.mark.parametrize("name", ["_FillValue", "missing_value"])
def test_fill_values_take_no_part_in_means(tmp_path: Path, kind: str, name: str) -> None:
    for number, fill in enumerate((np.float32(-1e20), np.int16(-999))):
        pixels = np.array([[1, 3], [fill, fill]], fill.dtype).repeat(256, 1)[:, ::2].repeat(2, 0)
        folder = tmp_path / str(number)
        folder.mkdir()
        build(stored(folder, kind, pixels, **{name: fill}), folder / "p", tile=128)
        level0, level1 = levels_of(folder / "p")[:2]
        kept = np.where(pixels == fill, np.float32(np.nan), pixels) if fill.dtype.kind == "f" else pixels
        np.testing.assert_array_equal(level0, kept)
        np.testing.assert_array_equal(level1[0], pixels[0, ::2])
        np.testing.assert_array_equal(level1[1], kept[2, ::2])


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_scales_that_are_not_applied_are_said(tmp_path: Path, kind: str) -> None:
    path = stored(tmp_path, kind, bytes_of(4, 4), scale_factor=0.1, add_offset=0.0, _FillValue=300)
    scale, fill = said_of(path)
    assert "its scale_factor is not applied" in scale
    assert "its _FillValue 300 is none" in fill


def test_plain_attributes_say_nothing(tmp_path: Path) -> None:
    assert not said_of(stored(tmp_path, "zarr", bytes_of(4, 4), scale_factor=1, add_offset=0, _FillValue=7))


def test_a_fill_value_as_xarray_writes_it(tmp_path: Path) -> None:
    pixels = np.array([[1.0, -5.0]], "f4").repeat(2, 0)
    array = zarr.create_array(tmp_path / "a", data=pixels, chunks=(2, 2))
    array.attrs["_FillValue"] = "AAAAAAAAFMA="
    np.testing.assert_array_equal(whole(tmp_path / "a")[0], [[1, np.nan]] * 2)
