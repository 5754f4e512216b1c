"""Sources in files other than TIFF: .npy, flat images, Zarr, OME-Zarr, HDF5."""

from __future__ import annotations

import json
import math
import shutil
import tracemalloc
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pytest
import zarr
from PIL import Image

from octree.pyramid import build
from octree.pyramid.errors import SourceError, SourceNotFound, SourceWarning, UsageError
from octree.pyramid.model import Axis, Box, Channel, LabelFacts, LevelInfo, PyramidSpec
from octree.pyramid.sources import plain
from octree.pyramid.sources.source import ArraySource, open_source
from octree.pyramid.store import ngff, ngff_write
from octree.pyramid.verify.run import verify

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]


def boxes(shape: tuple[int, ...], count: int = 12) -> Iterator[Box]:
    rng = np.random.default_rng(1)
    yield Box((0,) * len(shape), shape)
    yield Box(tuple(n - 1 for n in shape), shape)
    for _ in range(count):
        start = [int(rng.integers(0, n)) for n in shape]
        yield Box(
            tuple(start), tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape, strict=True))
        )


def same_everywhere(source: ArraySource, expected: np.ndarray) -> None:
    assert source.shape == expected.shape
    assert source.dtype == expected.dtype.newbyteorder("=")
    assert source.dtype.isnative
    for box in boxes(source.shape):
        part = source.read(box)
        assert part.dtype == source.dtype
        np.testing.assert_array_equal(part, expected[box.slices])


def image(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(kind)
    if kind.kind == "f":
        return rng.normal(size=shape).astype(kind)
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, dtype=kind, endpoint=True)


def letters(source: ArraySource) -> str:
    return "".join(axis.name for axis in source.axes)


class TestNpy:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("byteorder", "<>")
    @pytest.mark.parametrize("order", "CF")
    def test_every_dtype_and_order(self, tmp_path: Path, dtype: str, byteorder: str, order: str) -> None:
        pixels = image((5, 33, 17), dtype)
        file = tmp_path / "array é.npy"
        np.save(file, np.array(pixels.astype(pixels.dtype.newbyteorder(byteorder)), order=order))
        with open_source(file) as source:
            assert letters(source) == "zyx"
            assert source.name == "array é"
            same_everywhere(source, pixels)

    @pytest.mark.parametrize("shape", [(1, 1), (300, 1), (1, 300), (2, 3, 4, 5, 6), (40, 3, 2)])
    @pytest.mark.parametrize("order", "CF")
    def test_shapes(self, tmp_path: Path, shape: tuple[int, ...], order: str) -> None:
        file = tmp_path / "a.npy"
        pixels = image(shape, "int32")
        np.save(file, np.array(pixels, order=order))
        with open_source(file) as source:
            same_everywhere(source, pixels)
            assert all(1 <= b <= n for b, n in zip(source.read_shape, shape, strict=True))

    def test_only_the_box_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "big.npy"
        np.save(file, image((400, 5000), "uint16"))
        read: list[int] = []
        original = plain.PositionedFile.read_into

        def record(self: Any, view: memoryview, offset: int) -> None:
            read.append(len(view))
            original(self, view, offset)

        monkeypatch.setattr(plain.PositionedFile, "read_into", record)
        with open_source(file) as source:
            source.read(Box((10, 20), (14, 70)))
            assert read == [100] * 4
            read.clear()
            source.read(Box((10, 0), (14, 5000)))
            assert read == [40000], "whole rows are one run of bytes"

    def test_truncated(self, tmp_path: Path) -> None:
        file = tmp_path / "cut.npy"
        np.save(file, image((100, 100)))
        file.write_bytes(file.read_bytes()[:5000])
        with pytest.raises(SourceError, match=r"cut\.npy is truncated"):
            open_source(file)

    def test_shrunk_after_opening(self, tmp_path: Path) -> None:
        file = tmp_path / "cut.npy"
        np.save(file, image((100, 100)))
        with open_source(file) as source:
            file.write_bytes(file.read_bytes()[:5000])
            with pytest.raises(SourceError, match="ends too early"):
                source.read(Box((90, 0), (100, 100)))

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.zeros((3, 0)), "length 0"),
            (np.float64(3), "single value"),
            (np.zeros(7), r"shape \(7,\)"),
            (np.zeros((1,) * 6), "an image has 2 to 5 axes"),
            (np.zeros((4, 4), [("a", "u1"), ("b", "f4")]), "structured"),
            (np.zeros((4, 4), "U3"), "dtype"),
            (np.zeros((4, 4), "datetime64[s]"), "datetime"),
            (np.zeros((4, 4), np.longdouble), "float128"),
            (np.array([[1, "a"], [None, 2]], object), "objects"),
        ],
    )
    def test_what_is_no_image_is_refused(self, tmp_path: Path, array: np.ndarray, words: str) -> None:
        file = tmp_path / "odd.npy"
        np.save(file, array, allow_pickle=True)
        with pytest.raises(SourceError, match=words) as caught:
            open_source(file)
        assert str(file) in caught.value.message
        assert caught.value.hint

    def test_broken_header(self, tmp_path: Path) -> None:
        file = tmp_path / "odd.npy"
        file.write_bytes(b"\x93NUMPY\x01\x00\x10\x00not a dictionary")
        with pytest.raises(SourceError, match=r"not a \.npy file"):
            open_source(file)

    def test_versions_of_the_format(self, tmp_path: Path) -> None:
        file = tmp_path / "a.npy"
        with file.open("wb") as stream:
            np.lib.format.write_array(stream, image((20, 30)), version=(3, 0))
        with open_source(file) as source:
            same_everywhere(source, image((20, 30)))
        file.write_bytes(b"\x93NUMPY\x09\x00" + bytes(200))
        with pytest.raises(SourceError, match=r"version 9\.0 of the format is not known"):
            open_source(file)


def saved(tmp_path: Path, name: str, picture: Image.Image, **options: Any) -> Path:
    file = tmp_path / name
    picture.save(file, **options)
    return file


class TestFlat:
    @pytest.mark.parametrize("ending", ["png", "bmp", "tga", "webp", "ppm"])
    def test_rgb(self, tmp_path: Path, ending: str) -> None:
        pixels = image((31, 47, 3))
        file = saved(
            tmp_path,
            f"a b.{ending}",
            Image.fromarray(pixels),
            **({"lossless": True} if ending == "webp" else {}),
        )
        with open_source(file) as source:
            assert source.rgb
            same_everywhere(source, np.moveaxis(pixels, -1, 0))

    def test_jpeg(self, tmp_path: Path) -> None:
        file = saved(tmp_path, "a.jpg", Image.fromarray(image((31, 47, 3))))
        with Image.open(file) as picture:
            expected = np.moveaxis(np.asarray(picture), -1, 0)
        with open_source(file) as source:
            same_everywhere(source, expected)

    @pytest.mark.parametrize("ending", ["png", "bmp", "pbm"])
    def test_one_bit_makes_a_pyramid_that_others_read(self, tmp_path: Path, ending: str) -> None:
        pixels = image((31, 47), "bool")
        file = saved(tmp_path, f"a.{ending}", Image.fromarray(pixels))
        build(file, tmp_path / "a.zarr", tile=16)
        assert verify(tmp_path / "a.zarr", deep=True).ok
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr/0", mode="r")[:], pixels)

    def test_rgba(self, tmp_path: Path) -> None:
        pixels = image((31, 47, 4))
        with open_source(saved(tmp_path, "a.png", Image.fromarray(pixels))) as source:
            assert source.rgb
            same_everywhere(source, np.moveaxis(pixels, -1, 0))

    @pytest.mark.parametrize(
        ("dtype", "ending"),
        [("uint8", "png"), ("uint16", "png"), ("bool", "png"), ("bool", "bmp"), ("uint8", "pgm")],
    )
    def test_grey(self, tmp_path: Path, dtype: str, ending: str) -> None:
        pixels = image((31, 47), dtype)
        with open_source(saved(tmp_path, f"a.{ending}", Image.fromarray(pixels))) as source:
            assert letters(source) == "yx"
            same_everywhere(source, pixels)

    @pytest.mark.parametrize("samples", [2, 3, 4])
    def test_png_of_16_bits_keeps_them(self, tmp_path: Path, samples: int) -> None:
        pixels = image((20, 30, samples), "uint16")
        file = tmp_path / "deep.png"
        file.write_bytes(imagecodecs.png_encode(pixels))
        expected = pixels if samples > 2 else pixels[..., [0, 0, 0, 1]]
        with open_source(file) as source:
            assert source.rgb
            same_everywhere(source, np.moveaxis(expected, -1, 0))

    @pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_jpeg_2000(self, tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
        pixels = image(shape, dtype)
        file = tmp_path / "a.jp2"
        file.write_bytes(imagecodecs.jpeg2k_encode(pixels, reversible=True, level=0))
        with open_source(file) as source:
            same_everywhere(source, np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels)

    def test_palette_becomes_rgb(self, tmp_path: Path) -> None:
        picture = Image.fromarray(image((31, 47, 3))).quantize(17)
        with open_source(saved(tmp_path, "a.png", picture)) as source:
            same_everywhere(source, np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0))

    @pytest.mark.parametrize(("ending", "bits"), [("png", 8), ("png", 4), ("png", 1), ("bmp", 8), ("gif", 8)])
    def test_palette_of_labels_keeps_its_indices(self, tmp_path: Path, ending: str, bits: int) -> None:
        ids = image((31, 47)) & ((1 << bits) - 1)
        picture = Image.fromarray(ids, "P")
        picture.putpalette([i * 7 % 256 for i in range(768)])
        options = {"bits": bits} if ending == "png" else {"optimize": False} if ending == "gif" else {}
        file = saved(tmp_path, f"a.{ending}", picture, **options)
        with open_source(file, labels=True) as source:
            assert (letters(source), source.dtype, source.rgb) == ("yx", "u1", False)
            same_everywhere(source, ids)

    def test_palette_with_transparency_becomes_rgba(self, tmp_path: Path) -> None:
        picture = Image.fromarray(image((31, 47, 3))).quantize(17)
        file = saved(tmp_path, "a.png", picture, transparency=3)
        with Image.open(file) as again:
            expected = np.moveaxis(np.asarray(again.convert("RGBA")), -1, 0)
        assert expected[3].min() == 0
        with open_source(file) as source:
            same_everywhere(source, expected)

    def test_grey_with_alpha_becomes_rgba(self, tmp_path: Path) -> None:
        pixels = image((31, 47, 2))
        with open_source(
            saved(
                tmp_path,
                "a.png",
                Image.merge("LA", [Image.fromarray(np.ascontiguousarray(pixels[..., i])) for i in (0, 1)]),
            )
        ) as source:
            same_everywhere(source, np.moveaxis(pixels[..., [0, 0, 0, 1]], -1, 0))

    def test_cmyk_becomes_rgb(self, tmp_path: Path) -> None:
        file = saved(tmp_path, "a.jpg", Image.new("CMYK", (16, 16), (200, 10, 30, 4)))
        with Image.open(file) as again:
            expected = np.moveaxis(np.asarray(again.convert("RGB")), -1, 0)
        with pytest.warns(SourceWarning, match="by a rule"), open_source(file) as source:
            same_everywhere(source, expected)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_applied(self, tmp_path: Path, orientation: int) -> None:
        from PIL import ImageOps

        exif = Image.Exif()
        exif[0x0112] = orientation
        file = saved(tmp_path, "photo.png", Image.fromarray(image((31, 47, 3))), exif=exif)
        with Image.open(file) as again:
            expected = np.moveaxis(np.asarray(ImageOps.exif_transpose(again)), -1, 0)
        with open_source(file) as source:
            same_everywhere(source, expected)

    def test_moving_image_has_an_axis_t(self, tmp_path: Path) -> None:
        frames = [Image.fromarray(frame) for frame in image((4, 20, 30, 3))]
        file = saved(tmp_path, "a.webp", frames[0], save_all=True, append_images=frames[1:], lossless=True)
        with open_source(file) as source:
            assert letters(source) == "tcyx"
            assert source.rgb
            same_everywhere(source, image((4, 20, 30, 3)).transpose(0, 3, 1, 2))

    def test_more_pixels_than_pillow_allows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        pixels = image((31, 47))
        with open_source(saved(tmp_path, "a.png", Image.fromarray(pixels))) as source:
            same_everywhere(source, pixels)
        assert Image.MAX_IMAGE_PIXELS == 100

    @pytest.mark.parametrize("ending", ["png", "jpg"])
    @pytest.mark.parametrize("turned", [False, True])
    def test_decoding_makes_no_copies_that_are_not_counted(
        self, tmp_path: Path, ending: str, turned: bool
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6 if turned else 1
        file = saved(tmp_path, f"a.{ending}", Image.new("RGB", (1000, 2000)), exif=exif)
        with open_source(file) as source:
            tracemalloc.start()  # Python's part of it: Pillow's own image is not seen
            try:
                source.read(Box((0, 0, 0), (3, 1, 1)))
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak_bytes < 1.5 * source.nbytes

    def test_is_decoded_once_and_counted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = saved(tmp_path, "a.png", Image.fromarray(image((31, 47, 3))))
        with open_source(file) as source:
            box = Box((0, 0, 0), (3, 5, 5))
            assert source.held_bytes == 31 * 47 * (3 + 4)  # ours, and Pillow's while it decodes
            assert source.transient_bytes(box) == 0
            source.read(box)
            assert source.transient_bytes(box) == 0
            file.unlink()
            source.read(Box((0, 5, 5), (3, 31, 47)))

    def test_truncated(self, tmp_path: Path) -> None:
        file = saved(tmp_path, "cut.png", Image.fromarray(image((310, 470))))
        file.write_bytes(file.read_bytes()[:5000])
        with open_source(file) as source, pytest.raises(SourceError, match=r"cut\.png cannot be decoded"):
            source.read(Box((0, 0), (5, 5)))

    @pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n", b"\0" * 1000, "текст".encode()])
    @pytest.mark.parametrize("name", ["a.png", "a", "a.jpg", "a.dat"])
    def test_no_image(self, tmp_path: Path, content: bytes, name: str) -> None:
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(SourceError, match=r"no image that octree can read|cannot be decoded"):
            open_source(file)

    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        with pytest.raises(SourceError, match="is empty"):
            open_source(tmp_path / "a.png")


class TestZarr:
    @pytest.mark.parametrize("zarr_format", [2, 3])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, tmp_path: Path, zarr_format: int, dtype: str) -> None:
        pixels = image((5, 33, 17), dtype)
        array = zarr.create_array(
            tmp_path / "a.zarr", shape=pixels.shape, dtype=dtype, chunks=(2, 16, 16), zarr_format=zarr_format
        )
        array[:] = pixels
        with open_source(tmp_path / "a.zarr") as source:
            assert source.read_shape == (2, 16, 16)
            assert source.name == "a"
            same_everywhere(source, pixels)

    def test_big_endian_v2(self, tmp_path: Path) -> None:
        pixels = image((33, 17), "uint16")
        zarr.create_array(
            tmp_path / "a.zarr", shape=pixels.shape, dtype=">u2", chunks=(16, 16), zarr_format=2
        )[:] = pixels
        with open_source(tmp_path / "a.zarr") as source:
            same_everywhere(source, pixels)

    def test_shards_and_dimension_names(self, tmp_path: Path) -> None:
        pixels = image((4, 64, 64), "uint16")
        zarr.create_array(
            tmp_path / "a.zarr",
            shape=pixels.shape,
            dtype="u2",
            chunks=(1, 16, 16),
            shards=(1, 32, 32),
            dimension_names=("time", "y", "x"),
        )[:] = pixels
        with open_source(tmp_path / "a.zarr") as source:
            assert letters(source) == "tyx"
            assert source.read_shape == (1, 32, 32)
            assert source.engine == "tensorstore"
            same_everywhere(source, pixels)

    def test_a_codec_that_only_zarr_reads(self, tmp_path: Path) -> None:
        import numcodecs

        pixels = image((33, 17), "uint16")
        zarr.create_array(
            tmp_path / "a.zarr",
            shape=pixels.shape,
            dtype="u2",
            chunks=(16, 16),
            zarr_format=2,
            compressors=[numcodecs.LZMA()],
        )[:] = pixels
        with open_source(tmp_path / "a.zarr") as source:
            assert source.engine == "zarr"
            same_everywhere(source, pixels)
        with pytest.raises(SourceError, match="TensorStore"):
            open_source(tmp_path / "a.zarr", engine="tensorstore")

    def test_array_inside_a_group(self, tmp_path: Path) -> None:
        group = zarr.create_group(tmp_path / "g.zarr")
        group.create_array("raw", shape=(20, 30), dtype="u1")[:] = image((20, 30))
        with pytest.raises(SourceError, match="without a multiscale image") as caught:
            open_source(tmp_path / "g.zarr")
        assert "raw" in str(caught.value.hint)
        for path in (str(tmp_path / "g.zarr/raw"), f"{tmp_path}/g.zarr::/raw"):
            with open_source(path) as source:
                same_everywhere(source, image((20, 30)))

    def test_strings_are_refused(self, tmp_path: Path) -> None:
        zarr.create_array(tmp_path / "a.zarr", shape=(4, 4), dtype="U4", zarr_format=2)
        with pytest.raises(SourceError, match="dtype"):
            open_source(tmp_path / "a.zarr")

    @pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int2", "r16", "float128"])
    def test_a_dtype_that_is_no_image_is_named(self, tmp_path: Path, dtype: str) -> None:
        zarr.create_array(tmp_path / "a.zarr", shape=(4, 4), dtype="u2")
        file = tmp_path / "a.zarr/zarr.json"
        file.write_text(file.read_text().replace('"uint16"', f'"{dtype}"'))
        with pytest.raises(SourceError, match=f"has dtype {dtype}; an image holds"):
            open_source(tmp_path / "a.zarr")

    def test_a_dtype_written_as_an_object(self, tmp_path: Path) -> None:
        zarr.create_array(tmp_path / "a.zarr", shape=(20, 30), dtype="u1")[:] = image((20, 30))
        file = tmp_path / "a.zarr/zarr.json"
        file.write_text(file.read_text().replace('"uint8"', '{"name": "uint8", "configuration": {}}'))
        with open_source(tmp_path / "a.zarr") as source:
            same_everywhere(source, image((20, 30)))

    def test_structured_arrays_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.zarr").mkdir()
        node = {"zarr_format": 2, "shape": [4, 4], "chunks": [4, 4], "dtype": [["a", "|u1"]], "fill_value": 0}
        (tmp_path / "a.zarr/.zarray").write_text(json.dumps(node))
        with pytest.raises(SourceError, match="structured fields"):
            open_source(tmp_path / "a.zarr")

    def test_folder_without_zarr(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="is a folder, but no Zarr"):
            open_source(tmp_path)

    def test_identity_sees_a_chunk_change(self, tmp_path: Path) -> None:
        array = zarr.create_array(tmp_path / "a.zarr", shape=(64, 64), dtype="u1", chunks=(16, 16))
        array[:] = image((64, 64))
        with open_source(tmp_path / "a.zarr") as source:
            before = source.fingerprint()
            assert source.fingerprint() == before
            array[20, 20] = 255 - array[20, 20]
            assert source.fingerprint() != before


def write_image(folder: Path, pixels: np.ndarray, spec: PyramidSpec) -> None:
    folder.mkdir()
    names = [axis.name for axis in spec.axes] if spec.ome_version == "0.5" else None
    zarr.create_array(
        folder / "0", shape=pixels.shape, dtype=pixels.dtype, chunks=spec.levels[0].chunks,
        zarr_format=3 if spec.ome_version == "0.5" else 2, dimension_names=names,
    )[:] = pixels  # fmt: skip
    ngff_write.write_image_metadata(folder, spec)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_keeps_its_metadata(tmp_path: Path, version: str) -> None:
    pixels = image((2, 33, 17), "uint16")
    level = LevelInfo("0", pixels.shape, (1, 16, 16), None, (1.0, 0.5, 0.25), (0.0, 3.0, 4.0))
    channels = (Channel("DAPI", "0000FF", (5.0, 900.0)), Channel("GFP", "00FF00", (0.0, 100.0), active=False))
    axes = (Axis("c"), Axis("y", "micrometer"), Axis("x", "micrometer"))
    spec = PyramidSpec(axes, pixels.dtype, (level,), name="é", ome_version=version, channels=channels)
    write_image(tmp_path / "i.ome.zarr", pixels, spec)
    with open_source(tmp_path / "i.ome.zarr") as source:
        assert source.axes == axes
        assert source.voxel_size == (1.0, 0.5, 0.25)
        assert source.voxel_size_known
        assert source.translation == (0.0, 3.0, 4.0)
        assert source.channels == channels
        assert source.name == "é"
        assert not source.rgb
        same_everywhere(source, pixels)


@pytest.mark.parametrize(
    ("scale", "unit", "known"),
    [((1.0, 1.0, 1.0), None, False), ((2.0, 1.0, 1.0), None, True), ((1.0, 1.0, 1.0), "meter", True)],
)
def test_voxel_sizes_of_ome_zarr(
    tmp_path: Path, scale: tuple[float, ...], unit: str | None, known: bool
) -> None:
    pixels = image((4, 33, 17))
    level = LevelInfo("0", pixels.shape, (1, 16, 16), None, scale, (0.0,) * 3)
    axes = (Axis("z"), Axis("y", unit), Axis("x", unit))
    write_image(tmp_path / "i.zarr", pixels, PyramidSpec(axes, pixels.dtype, (level,)))
    with open_source(tmp_path / "i.zarr") as source:
        assert source.voxel_size == scale
        assert source.voxel_size_known == known


def test_coarse_levels_that_are_gone_do_not_matter(tmp_path: Path) -> None:
    build(image((200, 150)), tmp_path / "p.zarr", tile=32, workers=1)
    shutil.rmtree(tmp_path / "p.zarr/2")
    with open_source(tmp_path / "p.zarr") as source:
        same_everywhere(source, image((200, 150)))
    shutil.rmtree(tmp_path / "p.zarr/0")
    with pytest.raises(SourceError, match="level 0"):
        open_source(tmp_path / "p.zarr")


def test_an_axis_without_a_known_name_is_no_length(tmp_path: Path) -> None:
    pixels = image((4, 33, 17))
    level = LevelInfo("0", pixels.shape, (1, 16, 16), None, (1.0, 0.5, 0.5), (0.0,) * 3)
    axes = (Axis("z"), Axis("y", "micrometer"), Axis("x", "micrometer"))
    write_image(tmp_path / "i.zarr", pixels, PyramidSpec(axes, pixels.dtype, (level,)))
    file = tmp_path / "i.zarr/zarr.json"
    file.write_text(
        file.read_text().replace('"name": "z"', '"name": "angle"').replace('"name":"z"', '"name":"angle"')
    )
    with open_source(tmp_path / "i.zarr") as source:
        assert letters(source) == "zyx"
        assert not source.voxel_size_known  # so z never halves: angles are not averaged


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">c16"])
@pytest.mark.parametrize("near_bytes", [0, 20, 4096])
@pytest.mark.parametrize("band_bytes", [1, 100, 4 << 20])
def test_npy_with_gaps_between_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, dtype: str, near_bytes: int, band_bytes: int
) -> None:
    monkeypatch.setattr(plain, "_NEAR_BYTES", near_bytes)
    monkeypatch.setattr(plain, "_BAND_BYTES", band_bytes)
    pixels = np.arange(5 * 7 * 9 * 11, dtype=np.dtype(dtype)).reshape(5, 7, 9, 11)
    np.save(tmp_path / "a.npy", np.asarray(pixels, order=order))
    with open_source(tmp_path / "a.npy") as source:
        same_everywhere(source, pixels)


def test_a_plane_of_fortran_order_is_not_read_value_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = image((16, 64, 48), "u2")
    np.save(tmp_path / "a.npy", np.asfortranarray(pixels))
    reads = []
    for name in ("read_into", "read_at"):
        whole = getattr(plain.PositionedFile, name)
        monkeypatch.setattr(
            plain.PositionedFile, name, lambda *args, whole=whole: reads.append(1) or whole(*args)
        )
    with open_source(tmp_path / "a.npy") as source:
        plane = Box((3, 0, 0), (4, 64, 48))
        np.testing.assert_array_equal(source.read(plane), pixels[3:4])
        assert len(reads) <= 48
        assert 64 * 2 < source.transient_bytes(plane) <= pixels.nbytes // 48  # what lies between is held too


def test_hdf5_counts_every_chunk_that_a_box_meets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("chunks", (16, 32, 32), "u2", chunks=(8, 8, 8))
        file.create_dataset("plain", data=image((16, 32, 32), "u2"))
    with open_source(f"{tmp_path / 'a.h5'}::chunks") as source:
        plane = Box((3, 0, 0), (4, 32, 32))
        assert source.transient_bytes(plane) == 2 * (8 * 32 * 32 + 2 * 8**3)  # one while it is decoded
        # deeper boxes decode no more, so tasks read together
        assert source.transient_bytes(Box((0, 0, 0), (8, 32, 32))) == source.transient_bytes(plane)
        with_cache = source.held_bytes
    with open_source(f"{tmp_path / 'a.h5'}::plain") as source:
        assert source.transient_bytes(plane) == 0
        assert 0 < source.held_bytes < with_cache  # the library itself, and its cache of chunks


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_ome_zarr_says_of_single_labels_is_read_and_written(tmp_path: Path, version: str) -> None:
    pixels = image((33, 17))
    level = LevelInfo("0", pixels.shape, (16, 16), None, (1.0, 1.0), (0.0, 0.0))
    facts = LabelFacts(({"label-value": 1, "rgba": [255, 0, 0, 255]},), ({"label-value": 1, "area": 5},))
    axes = (Axis("y"), Axis("x"))
    spec = PyramidSpec(axes, pixels.dtype, (level,), labels=True, ome_version=version, label_facts=facts)
    write_image(tmp_path / "i.zarr", pixels, spec)
    with open_source(tmp_path / "i.zarr") as source:
        assert source.label_facts == facts
    assert verify(tmp_path / "i.zarr").ok


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_of_ome_zarr_are_labels_again(tmp_path: Path, version: str) -> None:
    from octree.pyramid import build

    build(image((100, 90)), tmp_path / "labels.zarr", tile=32, labels=True, ome_version=version, workers=1)
    with open_source(tmp_path / "labels.zarr") as source:
        assert source.labels
    build(tmp_path / "labels.zarr", tmp_path / "again.zarr", tile=32, workers=1)
    spec = ngff.read_spec(tmp_path / "again.zarr")
    assert spec.labels
    assert spec.method == "mode"


def test_numbers_of_single_labels_that_json_has_no_word_for_are_built_as_text(tmp_path: Path) -> None:
    """Tables of measured properties are full of NaN, and Python writes them as such."""
    from octree.pyramid import build

    build(image((100, 90)), tmp_path / "labels.zarr", tile=32, labels=True, workers=1)
    metadata = tmp_path / "labels.zarr/zarr.json"
    node = json.loads(metadata.read_text())
    properties = [{"label-value": 1, "area": math.nan, "axes": [1.5, math.inf]}]
    node["attributes"]["ome"]["image-label"]["properties"] = properties
    metadata.write_text(json.dumps(node))
    build(tmp_path / "labels.zarr", tmp_path / "again.zarr", tile=32, workers=1)
    found = ngff.read_spec(tmp_path / "again.zarr").label_facts.properties
    assert found == ({"label-value": 1, "area": "nan", "axes": [1.5, "inf"]},)
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    node["attributes"]["ome"]["image-label"]["properties"] = deep
    metadata.write_text(json.dumps(node))
    with pytest.raises(SourceError, match="broken: RecursionError"):
        ngff.read_spec(tmp_path / "labels.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_build_keeps_what_ome_zarr_says_of_single_labels(tmp_path: Path, version: str) -> None:
    from octree.pyramid import build

    pixels = image((70, 90))
    level = LevelInfo("0", pixels.shape, (32, 32), None, (1.0, 1.0), (0.0, 0.0))
    facts = LabelFacts(({"label-value": 1, "rgba": [255, 0, 0, 255]},), ({"label-value": 1},))
    spec = PyramidSpec((Axis("y"), Axis("x")), pixels.dtype, (level,), labels=True, label_facts=facts)
    write_image(tmp_path / "i.zarr", pixels, spec)
    build(tmp_path / "i.zarr", tmp_path / "o.zarr", tile=32, workers=1, ome_version=version)
    assert ngff.read_spec(tmp_path / "o.zarr").label_facts == facts
    assert verify(tmp_path / "o.zarr").ok


@pytest.mark.parametrize("samples", [3, 4])
def test_ome_zarr_of_colour_is_colour_again(tmp_path: Path, samples: int) -> None:
    pixels = image((samples, 33, 17))
    level = LevelInfo("0", pixels.shape, (3, 16, 16), None, (1.0,) * 3, (0.0,) * 3)
    spec = PyramidSpec((Axis("c"), Axis("y"), Axis("x")), pixels.dtype, (level,), rgb=True)
    write_image(tmp_path / "i.ome.zarr", pixels, spec)
    with open_source(tmp_path / "i.ome.zarr") as source:
        assert source.rgb
        assert not source.voxel_size_known
        same_everywhere(source, pixels)


class TestHdf5:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("chunks", [None, (2, 16, 16)])
    def test_every_dtype(self, tmp_path: Path, dtype: str, chunks: tuple[int, ...] | None) -> None:
        pixels = image((5, 33, 17), dtype)
        with h5py.File(tmp_path / "a b.h5", "w") as file:
            file.create_dataset(
                "group/data", data=pixels, chunks=chunks, compression="gzip" if chunks else None
            )
        with open_source(f"{tmp_path}/a b.h5::/group/data") as source:
            assert source.name == "data"
            assert source.engine == "hdf5"
            assert not chunks or source.read_shape == chunks
            same_everywhere(source, pixels)

    def test_big_endian_and_labelled_dimensions(self, tmp_path: Path) -> None:
        pixels = image((5, 33, 17), "uint16")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["data"] = pixels.astype(">u2")
            for dim, label in zip(file["data"].dims, ("time", "y", "x"), strict=True):
                dim.label = label
        with open_source(f"{tmp_path}/a.h5::data") as source:
            assert letters(source) == "tyx"
            same_everywhere(source, pixels)

    def test_the_only_dataset_needs_no_name(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["deep/inside"] = image((20, 30))
            file["note"] = 5
        with open_source(tmp_path / "a.h5") as source:
            same_everywhere(source, image((20, 30)))

    def test_behind_a_block_of_the_users_own(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
            file["data"] = image((20, 30))
        with open_source(tmp_path / "a.mat") as source:
            same_everywhere(source, image((20, 30)))

    def test_missing_dataset_lists_what_is_there(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["volumes/raw"] = image((20, 30))
            file["volumes/mask"] = image((20, 30))
        for inner in ("/volumes/rwa", "/volumes", ""):
            with pytest.raises(SourceNotFound) as caught:
                open_source(f"{tmp_path}/a.h5::{inner}")
            assert "/volumes/raw (20, 30)" in str(caught.value.hint)
            assert "/volumes/mask" in str(caught.value.hint)

    def test_a_dataset_without_values(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["d"] = h5py.Empty("f4")
        with pytest.raises(SourceError, match="/d has no values"):
            open_source(f"{tmp_path}/a.h5::/d")

    def test_damaged_chunk_names_the_block(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            data = file.create_dataset("d", data=image((64, 64)), chunks=(32, 32), compression="gzip")
            offset = data.id.get_chunk_info(3).byte_offset
        content = bytearray((tmp_path / "a.h5").read_bytes())
        content[offset : offset + 30] = b"\xff" * 30
        (tmp_path / "a.h5").write_bytes(content)
        with open_source(f"{tmp_path}/a.h5::/d") as source:
            source.read(Box((0, 0), (32, 32)))
            with pytest.raises(SourceError, match=r"/d: the block"):
                source.read(Box((32, 32), (64, 64)))

    def test_no_hdf5(self, tmp_path: Path) -> None:
        (tmp_path / "a.h5").write_text("nothing")
        with pytest.raises(SourceError, match="cannot be read as HDF5"):
            open_source(f"{tmp_path}/a.h5::/d")
        with pytest.raises(SourceNotFound):
            open_source(f"{tmp_path}/gone.h5::/d")


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="is empty"):
        open_source("")
    with pytest.raises(SourceNotFound, match="there is no file"):
        open_source(tmp_path / "gone.tif")
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / "gone.tif")


def test_archives_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        archive.writestr("zarr.json", "{}")
    with pytest.raises(SourceError, match="nor the metadata of a Zarr array"):
        open_source(tmp_path / "a.zarr.zip")
    np.savez(tmp_path / "a.npz", image((20, 30)))
    with open_source(tmp_path / "a.npz") as source:
        same_everywhere(source, image((20, 30)))
    np.savez(tmp_path / "b.npz", first=image((20, 30)), second=image((5, 5)))
    with pytest.raises(SourceError, match="holds 2 arrays: first, second"):
        open_source(tmp_path / "b.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:200])
    with pytest.raises(SourceError, match="is damaged"):
        open_source(tmp_path / "cut.npz")


def test_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, image((20, 30)))
    with open_source(file) as source:
        first = source.fingerprint()
    with open_source(file) as source:
        assert source.fingerprint() == first
    np.save(file, image((20, 31)))
    with open_source(file) as source:
        assert source.fingerprint() != first


def test_reading_outside_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", image((20, 30)))
    with open_source(tmp_path / "a.npy") as source:
        for start, stop in (((0, 0), (21, 30)), ((-1, 0), (5, 5)), ((5, 5), (4, 6)), ((0,), (5,))):
            with pytest.raises(ValueError, match="does not lie"):
                source.read(Box(start, stop))
        assert source.read(Box((3, 3), (3, 9))).shape == (0, 6)


def test_bad_measures_are_usage_errors(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", image((20, 30)))
    for options in (
        {"voxel_size": {"z": 1.0}},
        {"voxel_size": {"y": 0.0}},
        {"voxel_size": {"y": float("nan")}},
        {"voxel_size": {"y": -1}},
        {"unit": "micrometre5"},
        {"unit": "second"},
        {"axes": "yy"},
        {"axes": "zyx"},
        {"axes": "qx"},
        {"axes": "tz"},
    ):
        with pytest.raises(UsageError):
            open_source(tmp_path / "a.npy", **options)  # type: ignore[arg-type]  # a table of options


def dicom(
    value: int, number: int, *, more: Sequence[tuple[int, bytes, bytes]] = (), samples: int = 1
) -> bytes:
    """A 4 x 4 DICOM image of one value, the ``number``-th of a series; ``more`` of group 28."""

    def element(group: int, word: int, kind: bytes, data: bytes) -> bytes:
        head = group.to_bytes(2, "little") + word.to_bytes(2, "little") + kind
        length = (
            bytes(2) + len(data).to_bytes(4, "little") if kind == b"OW" else len(data).to_bytes(2, "little")
        )
        return head + length + data

    whole = {0x0002: samples, 0x0010: 4, 0x0011: 4, 0x0100: 16, 0x0101: 16, 0x0102: 15, 0x0103: 0}
    meta = element(2, 0x0010, b"UI", b"1.2.840.10008.1.2.1\0")
    body = element(0x20, 0x000E, b"UI", b"1.2.3\0") + element(0x20, 0x0013, b"IS", f"{number} ".encode())
    body += b"".join(element(0x28, word, b"US", given.to_bytes(2, "little")) for word, given in whole.items())
    body += b"".join(element(0x28, *one) for one in more)
    pixels = np.full(16 * samples, value, "<u2").tobytes()
    start = bytes(128) + b"DICM" + element(2, 0, b"UL", len(meta).to_bytes(4, "little")) + meta
    return start + body + element(0x7FE0, 0x0010, b"OW", pixels)


def test_only_the_dicom_file_that_is_named_is_looked_at(tmp_path: Path) -> None:
    """imageio's plug-in goes through all folders beside it; through these it would for days."""
    (tmp_path / "before.dcm").write_bytes(dicom(1, 1))
    (tmp_path / "named.dcm").write_bytes(dicom(2, 2))
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    with pytest.warns(SourceWarning, match="of its header"), open_source(tmp_path / "named.dcm") as source:
        assert np.unique(source.read(Box((0, 0), (4, 4)))).tolist() == [2]


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (b"1 ", b"0 ", np.uint16(200)),
        (b"1 ", b"10", np.int16(210)),
        (b"300 ", b"-1024 ", np.int32(58976)),
        (b"0.5 ", b"0 ", np.float64(100)),
    ],
)
def test_dicom_is_rescaled_as_its_header_says(
    tmp_path: Path, slope: bytes, intercept: bytes, expected: Any
) -> None:
    """imageio takes too few bits for that: 210 became -46."""
    more = [(0x1052, b"DS", intercept), (0x1053, b"DS", slope)]
    (tmp_path / "a.dcm").write_bytes(dicom(200, 1, more=more))
    with pytest.warns(SourceWarning, match="of its header"):
        source = open_source(tmp_path / "a.dcm")
    with source:
        pixels = source.read(Box((0, 0), (4, 4)))
    assert pixels.dtype == expected.dtype
    assert np.unique(pixels).tolist() == [expected]


def test_dicom_in_colour_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom(200, 1, samples=3))
    with pytest.raises(SourceError, match="DICOM"):
        open_source(tmp_path / "a.dcm")
