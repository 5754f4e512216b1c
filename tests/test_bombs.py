"""Small files that ask for a lot of memory: refused before that, by every command, with a word on what to do.

Each was seen to take gigabytes. Peaks are those of the real command, from outside; the slack is what the allocator and
libraries differ by from run to run.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bombs
import h5py
import imagecodecs
import numcodecs
import numpy as np
import pytest
import zarr
from bombs import MIB, Measured
from PIL import Image

from octree.cli.app import run as octree
from octree.pyramid import build, open_source
from octree.pyramid.errors import LimitError, SourceError
from octree.pyramid.limits import Limits
from octree.pyramid.model import Box
from octree.render import parse_request

SLACK = 64 * MIB
LIMIT = 128 * MIB

FLAT: dict[str, tuple[str, Callable[[], bytes]]] = {
    "png": ("a.png", lambda: bombs.png_of(10_000, 10_000)),
    "jpeg": ("a.jpg", lambda: bombs.jpeg_of(65_500, 65_500)),
    "gif": ("a.gif", lambda: bombs.gif_of(10_000, 10_000, 12)),
    "icns": ("a.icns", lambda: bombs.icns_of(bombs.png_of(10_000, 10_000))),
    "blp": ("a.blp", lambda: bombs.blp_of(bombs.jpeg_of(20_000, 20_000), 64, 64)),
    "npz": ("a.npz", lambda: bombs.npz_of((30_000, 20_000))),
    "tile": ("a.tif", lambda: bombs.page(64, 64, 7, bombs.jpeg_of(65_500, 65_500))),
}
HIDDEN = {"tile"}
"""What is too much lies in one tile: ``info`` decodes nothing and finds nothing wrong, ``render`` draws it as failed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bombs")


def run(command: str, file: Path, folder: Path, *options: object) -> Measured:
    outputs: dict[str, tuple[object, ...]] = {
        "info": (),
        "verify": (),
        "build": (folder / f"{file.name}.zarr",),
        "render": ("-o", folder / f"{file.name}.out.png", "--size", "64x48"),
    }
    return Measured(command, file, *outputs[command], *options)


def made(folder: Path, name: str, make: Callable[[], bytes]) -> Path:
    file = folder / name
    if not file.exists():
        file.write_bytes(make())
    assert file.stat().st_size < MIB
    return file


@pytest.mark.parametrize(
    ("name", "command"),
    [
        *(("png", "render"), ("png", "build"), ("jpeg", "info"), ("gif", "render"), ("icns", "render")),
        *(
            ("icns", "info"),
            ("blp", "info"),
            ("blp", "render"),
            ("blp", "build"),
            ("npz", "info"),
            ("npz", "build"),
            ("tile", "build"),
            ("tile", "render"),
        ),
    ],
)
def test_a_flat_image_that_is_too_much(folder: Path, name: str, command: str) -> None:
    file = made(folder, *FLAT[name])
    done = run(command, file, folder, "--max-decoded", LIMIT)
    if name in HIDDEN and command == "info":
        assert done.code == 0
    elif name in HIDDEN and command == "render":
        assert done.code == 1
        assert "failed: level 0" in done.stderr
    else:
        assert done.code == 3, done.stderr
        assert name == "tile" or "--max-" in done.stderr
    assert done.beyond(bombs.bare(command, folder)) < LIMIT + SLACK


def test_the_defaults_hold_too(folder: Path) -> None:
    """Below gigabytes without any option: a build within its own --memory."""
    done = run("render", made(folder, "b.gif", lambda: bombs.gif_of(30_000, 30_000, 12)), folder)
    assert done.code == 3
    assert "--max-pixels" in done.stderr
    assert done.beyond(bombs.bare("render", folder)) < SLACK


SIZES = 'SizeZ="{}" SizeC="{}" SizeT="{}"'


@pytest.mark.parametrize(
    ("command", "sizes"),
    [
        ("info", SIZES.format(400_000_000, 1, 1)),
        ("render", SIZES.format(30_000, 100, 30_000)),
        ("info", SIZES.format(1, 1, 1) + '><TiffData IFD="0" PlaneCount="300000000"/><Plane/'),
    ],
)
def test_planes_that_no_file_can_hold(tmp_path: Path, folder: Path, sizes: str, command: str) -> None:
    file = tmp_path / "planes.ome.tif"
    file.write_bytes(bombs.ome_tiff_of(sizes))
    assert file.stat().st_size < 1000
    done = run(command, file, tmp_path)
    assert done.code == 3, done.stderr
    assert "planes" in done.stderr
    assert done.beyond(bombs.bare(command, folder)) < SLACK


def test_planes_that_are_missing_are_no_bomb(tmp_path: Path) -> None:
    """An acquisition that was stopped describes more planes than it has."""
    file = tmp_path / "stopped.ome.tif"
    file.write_bytes(bombs.ome_tiff_of(SIZES.format(1, 2, 50_000)))
    assert "cannot hold" not in run("info", file, tmp_path).stderr


BLOSC: dict[str, Any] = {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 0, "blocksize": 0}
BLOSC_3 = {"cname": "zstd", "clevel": 5, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0}
GROWN = 192 * MIB
"""What a chunk of 4 KiB decodes to; it was decoded as a whole."""


def blosc_of(count: int) -> bytes:
    return bytes(numcodecs.Blosc("zstd", 5, 0).encode(np.zeros(count, "u1")))


CHUNKS: dict[str, Callable[[Path], Path]] = {
    "v2 blosc": lambda at: bombs.zarr_v2(at, BLOSC, blosc_of(GROWN)),
    "v2 lzma": lambda at: bombs.zarr_v2(at, {"id": "lzma", "format": 1}, bombs.xz(GROWN)),
    "v2 lz4": lambda at: bombs.zarr_v2(
        at, {"id": "lz4"}, bytes(numcodecs.LZ4().encode(np.zeros(GROWN, "u1")))
    ),
    "v3 blosc in a shard": lambda at: bombs.zarr_v3(
        at, [{"name": "blosc", "configuration": BLOSC_3}], blosc_of(GROWN), shard=True
    ),
    "v3 gzip in a shard": lambda at: bombs.zarr_v3(
        at, [{"name": "gzip", "configuration": {"level": 1}}], bombs.deflated(GROWN, 31), shard=True
    ),
    "hdf5 gzip": lambda at: bombs.hdf5(at.with_suffix(".h5"), bombs.deflated(GROWN), compression="gzip"),
    "hdf5 gzip, shuffled": lambda at: bombs.hdf5(
        at.with_suffix(".h5"), bombs.deflated(GROWN), "u2", compression="gzip", shuffle=True
    ),
    "hdf5 gzip with a checksum": lambda at: bombs.hdf5(
        at.with_suffix(".h5"), bombs.deflated(GROWN) + bytes(4), compression="gzip", fletcher32=True
    ),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_chunk_that_holds_more_than_a_chunk(tmp_path: Path, folder: Path, name: str) -> None:
    place = CHUNKS[name](tmp_path / "image")
    done = run("build", place, tmp_path, "--memory", "128MiB")
    assert done.code == 3, done.stderr
    assert "cannot be read" in done.stderr
    assert done.beyond(bombs.bare("build", folder)) < SLACK


@pytest.mark.parametrize("name", [name for name in CHUNKS if name.startswith("v")])
def test_verify_finds_chunks_that_hold_more_than_a_chunk(tmp_path: Path, folder: Path, name: str) -> None:
    """A finding, and no more memory than for whole ones."""
    done = run("verify", bombs.pyramid(CHUNKS[name](tmp_path / "image")), tmp_path, "--deep")
    assert done.code == 1, done.stderr
    assert done.beyond(bombs.bare("verify", folder)) < SLACK


def test_a_chunk_that_is_mostly_a_hole(tmp_path: Path, folder: Path) -> None:
    """A file of a terabyte takes no place on disk."""
    place = bombs.zarr_v2(tmp_path / "image", None, b"")
    with (place / "0.0").open("wb") as stream:
        stream.truncate(1 << 40)
    done = run("render", place, tmp_path)
    assert done.code == 1
    assert "far more than it takes" in done.stderr
    assert done.beyond(bombs.bare("render", folder)) < SLACK


@pytest.mark.parametrize("name", ["vlen-utf8", "json2", "pickle", "categorize"])
def test_codecs_that_nobody_can_bound(tmp_path: Path, name: str) -> None:
    place = bombs.zarr_v2(tmp_path / "image", {"id": name}, b"")
    with pytest.raises(SourceError, match="not among those"):
        open_source(place)


@pytest.mark.parametrize(
    "compressor", [numcodecs.LZMA(), numcodecs.LZ4(), numcodecs.BZ2(), numcodecs.Zstd(), None]
)
@pytest.mark.parametrize("filters", [None, [numcodecs.Delta("u2")]])
def test_honest_chunks_of_rare_codecs(tmp_path: Path, compressor: Any, filters: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (33, 47), "u2")
    zarr.create_array(
        tmp_path / "a.zarr", shape=pixels.shape, dtype="u2", chunks=(16, 16), zarr_format=2, compressors=compressor, filters=filters
    )[:] = pixels  # fmt: skip
    with open_source(tmp_path / "a.zarr") as source:
        np.testing.assert_array_equal(source.read(Box((0, 0), (33, 47))), pixels)


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<f4", "?", "i8"])
@pytest.mark.parametrize(
    "filters", [{}, {"shuffle": True}, {"fletcher32": True}, {"shuffle": True, "fletcher32": True}]
)
@pytest.mark.parametrize("packed", ["gzip", "lzf"])
def test_honest_chunks_of_hdf5(tmp_path: Path, dtype: str, filters: dict[str, bool], packed: str) -> None:
    """Parts of chunks, chunks that are not stored, and every order of bytes: as HDF5 itself reads them."""
    pixels = np.random.default_rng(0).integers(0, 2, (70, 91)).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset(
            "a", (70, 91), dtype, chunks=(32, 17), compression=packed, fillvalue=1, **filters
        )
        dataset[:64, :80] = pixels[:64, :80]
        wanted = dataset[:]
    with open_source(tmp_path / "a.h5") as source:
        for box in (Box((0, 0), (70, 91)), Box((13, 5), (65, 90)), Box((69, 90), (70, 91))):
            np.testing.assert_array_equal(source.read(box), wanted[box.slices])


@pytest.mark.parametrize("way", ["szip", "scale-offset", "n-bit", "virtual"])
def test_honest_chunks_that_nobody_can_bound(tmp_path: Path, way: str) -> None:
    """HDF5 decodes them in a process of its own; boxes that are asked for one after the other stay what they are."""
    pixels = np.random.default_rng(0).integers(0, 200, (70, 91)).astype("i4")
    with h5py.File(tmp_path / "inner.h5", "w") as file:
        if way == "n-bit":
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((32, 17))
            plist.set_filter(h5py.h5z.FILTER_NBIT, h5py.h5z.FLAG_MANDATORY)
            h5py.h5d.create(file.id, b"a", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((70, 91)), plist)
            file["a"][...] = pixels
        else:
            filters: dict[str, Any] = {
                "szip": {"compression": "szip"},
                "scale-offset": {"scaleoffset": 0},
            }.get(way, {})
            file.create_dataset("a", data=pixels, chunks=(32, 17), **filters)
    if way == "virtual":
        layout = h5py.VirtualLayout((70, 91), "i4")
        layout[...] = h5py.VirtualSource("inner.h5", "a", (70, 91))
        with h5py.File(tmp_path / "outer.h5", "w") as file:
            file.create_virtual_dataset("a", layout)
    with open_source(tmp_path / ("outer.h5" if way == "virtual" else "inner.h5")) as source:
        boxes = (Box((0, 0), (70, 91)), Box((13, 5), (65, 90)), Box((69, 90), (70, 91)))
        found = [source.read(box) for box in boxes]
    for box, read in zip(boxes, found, strict=True):
        np.testing.assert_array_equal(read, pixels[box.slices])


def test_a_chunk_of_a_filter_that_nobody_can_bound_takes_no_more_than_allowed(tmp_path: Path) -> None:
    """The head of a szip chunk says how much room to make for it: 3.9 GiB."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (64, 64), "u1", chunks=(64, 64), compression="szip")
        dataset.id.write_direct_chunk((0, 0), struct.pack("<I", 0xF9000000) + bytes(64))
    with (
        open_source(tmp_path / "a.h5") as source,
        pytest.raises(SourceError, match=r"cannot be read|limit of"),
    ):
        source.read(Box((0, 0), (64, 64)))


@pytest.mark.parametrize("container", [False, True])
def test_a_tile_of_many_frames_is_damage(tmp_path: Path, container: bool) -> None:
    """A JPEG XL of a kilobyte with 50 frames, each of which its decoder makes."""
    film = imagecodecs.jpegxl_encode(np.zeros((50, 64, 64, 3), "u1"), usecontainer=container)
    (tmp_path / "a.tif").write_bytes(bombs.page(64, 64, 50002, bytes(film)))
    with (
        open_source(tmp_path / "a.tif") as source,
        pytest.raises(SourceError, match="frames one after another"),
    ):
        source.read(Box((0, 0), (64, 64)))


@pytest.mark.parametrize(("predictor", "needed"), [(1, 1), (2, 2)])
def test_a_tile_is_counted_with_what_its_decoder_holds(tmp_path: Path, predictor: int, needed: int) -> None:
    tile = zlib.compress(bytes(256 * 256))
    page = bombs.page(256, 256, 8, tile, t317=(3, 1, predictor))
    (tmp_path / "a.tif").write_bytes(page)
    bytes_ = needed * 256 * 256 + len(tile)
    open_source(tmp_path / "a.tif", limits=Limits(max_decoded_bytes=bytes_)).close()
    with pytest.raises(LimitError):
        open_source(tmp_path / "a.tif", limits=Limits(max_decoded_bytes=bytes_ - 1))


class TestOptions:
    """Nothing is measured here: the command in this process."""

    @pytest.fixture
    def photo(self, tmp_path: Path) -> Path:
        Image.effect_noise((300, 200), 60).save(tmp_path / "photo.png")
        return tmp_path / "photo.png"

    @pytest.fixture
    def said(self, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
        def said(*arguments: object) -> tuple[int, str]:
            code = octree([str(argument) for argument in arguments])
            return code, capsys.readouterr().err

        return said

    @pytest.mark.parametrize(
        ("option", "below", "enough"), [("--max-pixels", "50k", "60k"), ("--max-decoded", "100k", "120k")]
    )
    def test_each_names_itself(
        self, photo: Path, tmp_path: Path, said: Any, option: str, below: str, enough: str
    ) -> None:
        for arguments in (
            ("info", photo),
            ("build", photo, tmp_path / "out.zarr"),
            ("render", photo, "-o", tmp_path / "out.png", "--size", "64x48", "--gl", "osmesa"),
        ):
            code, words = said(*arguments, option, below)
            assert code == 3
            assert option in words
            assert said(*arguments, option, enough)[0] == 0

    def test_environment(self, photo: Path, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OCTREE_INFO_MAX_PIXELS", "100")
        assert said("info", photo)[0] == 3

    def test_settings(self, photo: Path, tmp_path: Path) -> None:
        file = tmp_path / "settings.json"
        file.write_text(json.dumps({"render": {"max_pixels": 100, "max_decoded_bytes": "1MiB"}}))
        settings = str(file)
        found = parse_request([photo], ["fit"], {"config": settings}).settings.render.limits
        assert (found.max_pixels, found.max_decoded_bytes) == (100, MIB)
        found = parse_request(
            [photo], ["fit"], {"config": settings, "max_pixels": "1M"}
        ).settings.render.limits
        assert (found.max_pixels, found.max_decoded_bytes) == (10**6, MIB)

    def test_a_pyramid_with_large_chunks(self, tmp_path: Path, said: Any) -> None:
        build(np.zeros((300, 300), "u1"), tmp_path / "a.zarr", tile=256, shard=0)
        for arguments in (
            ("info", tmp_path / "a.zarr"),
            ("verify", tmp_path / "a.zarr"),
            ("render", tmp_path / "a.zarr", "-o", tmp_path / "out.png", "--gl", "osmesa"),
            ("build", tmp_path / "a.zarr", tmp_path / "b.zarr"),
        ):
            code, words = said(*arguments, "--max-decoded", "60KiB")
            assert code == 3
            assert "--max-decoded" in words

    @pytest.mark.parametrize("value", ["0", "many", "1e30"])
    def test_nonsense_is_usage(self, photo: Path, said: Any, value: str) -> None:
        for option in ("--max-pixels", "--max-decoded"):
            code, words = said("info", photo, f"{option}={value}")
            assert code == 2
            assert option in words

    def test_frames_of_a_film_count(self, tmp_path: Path, said: Any) -> None:
        file = tmp_path / "film.gif"
        file.write_bytes(bombs.gif_of(100, 100, 12))
        assert said("info", file, "--max-pixels", 12 * 100 * 100)[0] == 0
        code, words = said("info", file, "--max-pixels", 12 * 100 * 100 - 1)
        assert code == 3
        assert "12 frames" in words
