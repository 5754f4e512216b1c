"""What a build writes, read back: every level, dtype, rank, format and option; the same bytes however it is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import zarr
from build_tools import image, levels_of, tree, whole_level
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_downsample import reduce_slowly

from octree.pyramid import build, open_pyramid
from octree.pyramid.downsample import reduce_block
from octree.pyramid.errors import SourceError, UsageError
from octree.pyramid.model import Box

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16")


def expected_levels(
    array: np.ndarray, steps: list[list[int]], method: Any, nodata: Any = None
) -> list[np.ndarray]:
    levels = [array]
    for step in steps[1:]:
        levels.append(reduce_block(levels[-1], tuple(step), method, nodata))
    return levels


def recorded_steps(dest: Path) -> list[list[int]]:
    steps: list[list[int]] = open_pyramid(dest).spec.metadata["factors"]
    return steps


def check(dest: Path, array: np.ndarray, method: Any = "mean", nodata: Any = None) -> None:
    """Every level is the reduction of the one before, level 0 the image."""
    found = levels_of(dest)
    for got, wanted in zip(found, expected_levels(array, recorded_steps(dest), method, nodata), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_builds_in_both_formats(tmp_path: Path, dtype: str, version: str) -> None:
    array = image((90, 70), dtype)
    result = build(array, tmp_path / "p", tile=16, shard=2, ome_version=version)
    assert result.method == ("mode" if dtype == "?" else "mean")
    check(tmp_path / "p", array, result.method)


@pytest.mark.parametrize("method", ["mode", "median", "min", "max", "nearest"])
def test_every_method_builds(tmp_path: Path, method: str) -> None:
    array = image((130, 95), "i2")
    build(array, tmp_path / "p", tile=16, shard=2, method=method)
    check(tmp_path / "p", array, method)


def test_the_slow_model_agrees_from_end_to_end(tmp_path: Path) -> None:
    array = image((75, 93), "u8") + np.uint64(2**64 - 200)
    build(array, tmp_path / "p", tile=16, shard=2)
    levels = [array]
    for got in levels_of(tmp_path / "p")[1:]:
        levels.append(reduce_slowly(levels[-1], (2, 2), "mean"))
        np.testing.assert_array_equal(got, levels[-1])


@settings(deadline=None, max_examples=25)
@given(
    names=st.sampled_from(["yx", "zyx", "cyx", "tyx", "czyx", "tzyx", "tczyx"]),
    lengths=st.lists(st.integers(1, 37), min_size=5, max_size=5),
    tile=st.integers(5, 20),
    shard=st.integers(0, 5),
    z=st.sampled_from([None, 0.5, 1.0, 4.0]),
    version=st.sampled_from(["0.5", "0.4"]),
    workers=st.integers(1, 3),
)
def test_any_rank_and_size_builds(
    tmp_path_factory: pytest.TempPathFactory, names: str, lengths: list[int], tile: int, shard: int, z: Any, version: str, workers: int
) -> None:  # fmt: skip
    dest = tmp_path_factory.mktemp("any") / "p"
    shape = tuple(min(n, 4) if name in "tc" else n for name, n in zip(names, lengths, strict=False))
    array = image(shape, "i2", seed=sum(shape))
    sizes = {"y": 1.0, "x": 1.0} | ({"z": z} if "z" in names else {}) if z else None
    build(
        array,
        dest,
        axes=names,
        tile=tile,
        shard=shard,
        voxel_size=sizes,
        ome_version=version,
        workers=workers,
    )
    check(dest, array)
    last = open_pyramid(dest).spec.levels[-1].shape
    assert max(last[-2:]) <= tile


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_colour_samples_become_channels_kept_together(tmp_path: Path, dtype: str) -> None:
    array = image((3, 90, 70), dtype).transpose(1, 2, 0)
    build(array, tmp_path / "p", axes="yxs", tile=16)
    pyramid = open_pyramid(tmp_path / "p")
    assert pyramid.spec.rgb
    assert pyramid.spec.axis_names == ("c", "y", "x")
    assert pyramid.spec.levels[0].chunks == (3, 16, 16)
    check(tmp_path / "p", array.transpose(2, 0, 1))


def test_nan_and_nodata_do_not_leak_into_coarse_levels(tmp_path: Path) -> None:
    array = image((64, 64), "f4")
    array[10:40, 10:40] = np.nan
    build(array, tmp_path / "p", tile=8)
    check(tmp_path / "p", array)
    assert not np.isnan(levels_of(tmp_path / "p")[-1]).all()
    whole = image((64, 64), "i2")
    whole[5:30] = -1
    build(whole, tmp_path / "q", tile=8, nodata=-1)
    check(tmp_path / "q", whole, nodata=-1)


def test_labels_take_the_mode_and_never_gain_an_id(tmp_path: Path) -> None:
    array = (image((100, 100), "u4") // 9) * 1000
    result = build(array, tmp_path / "p", labels=True, tile=16)
    assert result.method == "mode"
    assert result.spec.labels
    for level in levels_of(tmp_path / "p"):
        assert set(level.ravel()) <= set(array.ravel())


@pytest.mark.parametrize("method", ["mean", "nearest"])
def test_a_ramp_keeps_its_place_in_the_world_on_every_level(tmp_path: Path, method: str) -> None:
    array = np.add.outer(np.arange(128) * 4.0, np.arange(128) * 100.0)
    build(array, tmp_path / "p", method=method, voxel_size={"y": 0.5, "x": 2.0}, tile=16)
    pyramid = open_pyramid(tmp_path / "p")
    for k, level in enumerate(pyramid.spec.levels):
        y = level.translation[0] + level.scale[0] * np.arange(level.shape[0])
        x = level.translation[1] + level.scale[1] * np.arange(level.shape[1])
        np.testing.assert_allclose(whole_level(pyramid, k), np.add.outer(y / 0.5 * 4, x / 2 * 100))


def sources(tmp_path: Path, array: np.ndarray) -> dict[str, Any]:
    """One image, stored and cut in different ways."""
    np.save(tmp_path / "image.npy", array)
    np.save(tmp_path / "image-f.npy", np.asfortranarray(array.astype(">u2")))
    for name, chunks in (("small", (17, 23)), ("large", (300, 200)), ("rows", (1, 250))):
        z = zarr.create_array(tmp_path / name / "image", shape=array.shape, chunks=chunks, dtype=array.dtype)
        z[:] = array
    return {name: str(tmp_path / name / "image") for name in ("small", "large", "rows")} | {
        "npy": str(tmp_path / "image.npy"),
        "fortran": str(tmp_path / "image-f.npy"),
        "memory": array,
    }


def test_the_bytes_are_the_same_for_any_source_chunking_workers_and_scheduler(tmp_path: Path) -> None:
    array = image((300, 250))
    trees = {}
    for name, source in sources(tmp_path, array).items():
        for workers, scheduler in ((1, "serial"), (3, "threads")):
            dest = tmp_path / f"{name}-{workers}"
            build(source, dest, name="n", tile=16, shard=2, workers=workers, scheduler=scheduler)
            trees[name, workers] = tree(dest)
    assert len(trees) == 12
    first = trees["memory", 1]
    for how, found in trees.items():
        assert found == first, how


def test_a_brick_source_is_read_once_in_groups(tmp_path: Path) -> None:
    array = image((40, 64, 64))
    z = zarr.create_array(tmp_path / "bricks", shape=array.shape, chunks=(40, 64, 64), dtype="u2")
    z[:] = array
    result = build(str(tmp_path / "bricks"), tmp_path / "p", tile=16)
    assert result.bytes_read == array.nbytes
    check(tmp_path / "p", array)


def test_read_back_by_zarr_and_tensorstore(tmp_path: Path) -> None:
    array = image((200, 150))
    for version, driver in (("0.5", "zarr3"), ("0.4", "zarr")):
        dest = tmp_path / version
        build(array, dest, ome_version=version, tile=32, shard=2)
        group = zarr.open_group(dest, mode="r")
        names = [d["path"] for d in (group.attrs.get("ome") or group.attrs)["multiscales"][0]["datasets"]]
        for name in names:
            kvstore = {"driver": "file", "path": f"{dest / name}/"}
            with_ts = ts.open({"driver": driver, "kvstore": kvstore}, open=True).result().read().result()
            np.testing.assert_array_equal(np.asarray(group[name]), with_ts)
        np.testing.assert_array_equal(np.asarray(group["0"]), array)


def test_levels_carry_dimension_names(tmp_path: Path) -> None:
    build(image((2, 40, 40)), tmp_path / "p", axes="zyx")
    node = json.loads((tmp_path / "p/0/zarr.json").read_text())
    assert node["dimension_names"] == ["z", "y", "x"]


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_chunks_of_nothing_but_fill_value_are_not_stored(tmp_path: Path, version: str) -> None:
    array = np.zeros((256, 256), "u2")
    array[:16, :16] = 7
    result = build(array, tmp_path / "p", tile=16, shard=1, ome_version=version)
    files = [
        p
        for p in (tmp_path / "p").rglob("*")
        if p.is_file() and "zarr.json" not in p.name and p.name[0] != "."
    ]
    assert len(files) == len(result.spec.levels)
    assert result.files == len(files)
    check(tmp_path / "p", array)


@pytest.mark.parametrize("codec", ["none", "zstd", "zstd:9", "gzip:1", "blosc-lz4", "blosc-zstd:3", "blosc"])
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_every_codec_is_written_as_asked(tmp_path: Path, codec: str, version: str) -> None:
    array = image((64, 64))
    build(array, tmp_path / "p", codec=codec, ome_version=version, tile=16)
    check(tmp_path / "p", array)
    wanted = {"zstd": "zstd:1", "blosc": "blosc-lz4:5", "blosc-lz4": "blosc-lz4:5"}.get(codec, codec)
    assert open_pyramid(tmp_path / "p").spec.levels[0].codec == wanted
    assert np.array_equal(np.asarray(zarr.open_array(tmp_path / "p/0", mode="r")), array)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codec": "lzma"}, "codec"),
        ({"codec": "zstd:99"}, "level"),
        ({"tile": 0}, "tile"),
        ({"shard": -1}, "shard"),
        ({"workers": 0}, "workers"),
        ({"method": "average"}, "method"),
        ({"memory": "lots"}, "lots"),
        ({"memory": 0}, "memory"),
        ({"ome_version": "0.3"}, "0.3"),
        ({"nodata": 70000}, "nodata"),
        ({"nodata": 0.5}, "nodata"),
        ({"nodata": "x"}, "nodata"),
        ({"labels": True, "method": "mean"}, "label"),
        ({"axes": "zy"}, "axes"),
        ({"voxel_size": {"z": 1.0}}, "z"),
        ({"unit": "furlong"}, "furlong"),
        ({"on_error": "ignore"}, "on-error"),
        ({"scheduler": "slurm"}, "slurm"),
        ({"scheduler": "local"}, "memory"),
    ],
)
def test_options_that_no_build_can_have(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(image((20, 20)), tmp_path / "p", **options)
    assert list(tmp_path.iterdir()) == []


def test_labels_of_floats_and_order_of_complex_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="float32"):
        build(image((20, 20), "f4"), tmp_path / "p", labels=True)
    with pytest.raises(UsageError, match="complex"):
        build(image((20, 20), "c8"), tmp_path / "p", method="max")


@pytest.mark.parametrize("shape", [(), (5,), (0, 5), (2, 2, 2, 2, 2, 2)])
def test_what_is_no_image_is_an_error(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(SourceError):
        build(np.zeros(shape, "u1"), tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_and_thin_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = image(shape)
    build(array, tmp_path / "p", tile=16)
    check(tmp_path / "p", array)


def test_paths_with_spaces_and_letters_of_other_alphabets(tmp_path: Path) -> None:
    source, dest = tmp_path / "фото 1 %20.npy", tmp_path / "новая папка" / "ü #1.zarr"
    array = image((40, 40))
    np.save(source, array)
    build(source, dest)
    check(dest, array)


def test_windows_of_display_come_from_a_coarse_level(tmp_path: Path) -> None:
    array = image((2, 300, 300))
    array[1] += 1000
    build(array, tmp_path / "p", axes="cyx", tile=32)
    windows = [channel.window for channel in open_pyramid(tmp_path / "p").spec.channels]
    assert windows[0] is not None
    assert windows[1] is not None
    assert 0 <= windows[0][0] < windows[0][1] < 120 < 1000 <= windows[1][0] < windows[1][1] < 1120
    build(np.full((40, 40), np.nan, "f4"), tmp_path / "nan")
    json.loads((tmp_path / "nan/zarr.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("value", "dtype"), [(2**64 - 1, "u8"), (-(2**63), "i8"), (1.7e308, "f8"), (-1e300, "f8"), (0, "u2")]
)
def test_the_window_of_a_constant_is_not_empty(tmp_path: Path, value: float, dtype: str) -> None:
    build(np.full((20, 20), value, dtype), tmp_path / "p")
    (channel,) = open_pyramid(tmp_path / "p").spec.channels
    assert channel.window is not None
    low, high = channel.window
    assert np.isfinite([low, high]).all()
    assert low < high


def test_nodata_takes_no_part_in_the_window(tmp_path: Path) -> None:
    array = image((300, 300)).astype("f4")
    array[:150] = -9999
    build(array, tmp_path / "p", tile=32, nodata=-9999)
    (channel,) = open_pyramid(tmp_path / "p").spec.channels
    assert channel.window is not None
    assert 0 <= channel.window[0] < channel.window[1] < 120


def test_nodata_of_complex_numbers_is_written_as_text(tmp_path: Path) -> None:
    array = image((40, 40)).astype("c8")
    array[:2, :2] = 1 + 2j
    build(array, tmp_path / "p", tile=32, nodata="1+2j")
    assert open_pyramid(tmp_path / "p").spec.metadata["nodata"] == "(1+2j)"
    assert build(array, tmp_path / "p", tile=32, nodata="1+2j", resume=True).resumed
    np.testing.assert_array_equal(
        levels_of(tmp_path / "p")[1][:2, :2], reduce_slowly(array, (2, 2), "mean", 1 + 2j)[:2, :2]
    )


@pytest.mark.parametrize("codec", ["none", "zstd", "gzip:1", "blosc-lz4"])
@pytest.mark.parametrize("shard", [0, 2])
def test_a_flipped_bit_is_an_error_and_no_pixels(tmp_path: Path, codec: str, shard: int) -> None:
    """Wherever in a chunk it lies: every chunk has a checksum."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (64, 64), np.uint16)
    build(pixels, tmp_path / "p", tile=32, shard=shard, codec=codec)
    whole = Box((0, 0), (64, 64))
    np.testing.assert_array_equal(open_pyramid(tmp_path / "p").read(0, whole), pixels)
    file = next(path for path in sorted((tmp_path / "p/0/c").rglob("*")) if path.is_file())
    data = file.read_bytes()
    for place in range(17, 1800, 97):
        file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        for engine in ("tensorstore", "zarr"):
            with pytest.raises(SourceError):
                open_pyramid(tmp_path / "p", engine=engine).read(0, whole)
