"""Volumes: stacks whose z is halved too. Chunks and shards, levels against the slow model, kills, memory, verify."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import tifffile
from build_tools import image, kill_after_lines, leftovers, levels_of, octree, octree_json, tree
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_downsample import reduce_slowly
from test_plan import request

from octree.pyramid import build, open_pyramid, plan_build
from octree.pyramid.building.plan import make_plan
from octree.pyramid.building.planning.budget import RUNTIME_BYTES
from octree.pyramid.errors import SourceError, UsageError
from octree.pyramid.sources.tiff.pages import TiffArray
from octree.pyramid.store.arrays import unit_keys
from octree.pyramid.verify import verify
from octree.pyramid.verify.run import VerifyResult

CUBE = {"z": 1.0, "y": 1.0, "x": 1.0}


def volume(shape: tuple[int, ...], dtype: str = "u2") -> np.ndarray:
    """Noise on a slope along every axis: no plane like another."""
    slope = sum(np.indices(shape)[-3:] * np.array([31, 7, 3]).reshape(3, *(1,) * len(shape)))
    return ((slope + np.random.default_rng(0).integers(0, 50, shape)) % 251 + 1).astype(dtype)


def planned(shape: tuple[int, ...], names: str | None = None, **changes: Any) -> list[tuple[Any, Any]]:
    """Chunk and shard of each level of an image whose voxel sizes are known."""
    plan = make_plan(request(shape, names, **{"voxel_size_known": True, **changes}))
    return [(level.chunks, level.shards) for level in plan.spec.levels]


# chunks and shards


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1024, 1024, 1024), [((64,) * 3, (256,) * 3), ((64,) * 3, (128,) * 3), ((64,) * 3, (64,) * 3)]),
        ((100, 90, 80), [((64, 64, 64), (128, 128, 128))]),
        # no chunk is longer than the image, nor a shard than what it holds
        ((2, 20, 300), [((2, 20, 64), (2, 20, 256)), ((2, 20, 64), (2, 20, 192))]),
        # one slice has nothing to halve: it is a plane
        (
            (1, 700, 700),
            [((1, 256, 256), (1, 768, 768)), ((1, 256, 256), (1, 512, 512)), ((1, 256, 256),) * 2],
        ),
    ],
)
def test_volumes_are_stored_in_cubes_however_small_they_are(
    shape: tuple[int, ...], expected: list[tuple[Any, Any]]
) -> None:
    assert planned(shape) == expected


@pytest.mark.parametrize(("dtype", "shard"), [("u1", 256), ("f4", 256), ("f8", 128), ("c16", 128)])
def test_shards_of_volumes_are_never_longer_than_256_voxels(dtype: str, shard: int) -> None:
    (chunk, unit), *_ = planned((2000,) * 3, dtype=np.dtype(dtype))
    assert chunk == (64,) * 3
    assert unit is not None
    assert (min(unit), max(unit)) == (shard, 128 if dtype == "c16" else 256)


def test_t_and_c_have_chunks_of_one_and_samples_stay_together() -> None:
    assert planned((2, 3, 100, 90, 300))[0] == ((1, 1, 64, 64, 64), (1, 1, 128, 128, 256))
    assert planned((3, 100, 90, 300), "czyx", rgb=True)[0] == ((3, 64, 64, 64), (3, 128, 128, 256))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"chunks": (32, 32, 32)}, ((32, 32, 32), (256, 256, 256))),
        ({"chunks": (16, 128, 100)}, ((16, 128, 100), (128, 256, 200))),
        ({"chunks": (80, 80, 80)}, ((80, 80, 80), (160, 160, 160))),
        ({"chunks": (512, 512, 512), "memory_bytes": 2**33}, ((512,) * 3, (512,) * 3)),
        ({"chunks": (64, 64, 64), "shard": 2}, ((64,) * 3, (128,) * 3)),
        ({"chunks": (64, 64, 64), "shard": 0}, ((64,) * 3, None)),
        ({"chunks": (1, 256, 256)}, ((1, 256, 256), (4, 1024, 1024))),
        # without a known voxel size, too
        ({"chunks": (64, 64, 64), "voxel_size_known": False}, ((64,) * 3, (256,) * 3)),
        ({"voxel_size_known": False}, ((1, 256, 256), (8, 1024, 1024))),
    ],
)
def test_chunks_are_as_asked_for(asked: dict[str, Any], expected: tuple[Any, Any]) -> None:
    if asked.get("chunks") == (1, 256, 256):
        expected = (expected[0], (8, 1024, 1024))
    assert planned((1000, 1000, 1000), **asked)[0] == expected


def test_halving_ends_where_one_tile_holds_y_x_and_z() -> None:
    shapes = [level.shape for level in make_plan(request((600, 300, 100), voxel_size_known=True)).spec.levels]
    assert shapes == [(600, 300, 100), (300, 150, 50), (150, 75, 25)]
    plan = make_plan(request((600, 300, 100), voxel_size_known=True, tile=64, chunks=(50, 50, 50)))
    assert plan.spec.levels[-1].shape == (38, 19, 7)


def test_z_is_halved_only_where_its_size_can_be_compared_with_that_of_y_and_x(tmp_path: Path) -> None:
    array = volume((40, 70, 300))
    path = tmp_path / "a.zarr"
    build(array, path, voxel_size={"z": 1000, "y": 1, "x": 1}, unit="nanometer", axes="zyx")

    def axis_of(change: dict[str, Any]) -> Any:
        document = json.loads((path / "zarr.json").read_text())
        document["attributes"]["ome"]["multiscales"][0]["axes"][0] = {"name": "z", "type": "space", **change}
        (path / "zarr.json").write_text(json.dumps(document))
        return plan_build(str(path))

    assert axis_of({"unit": "nanometer"}).spec.levels[0].chunks == (40, 64, 64)
    # 1000 mm against 1 nm: comparable, though z will never be halved
    assert axis_of({"unit": "millimeter"}).spec.levels[0].chunks == (40, 64, 64)
    plan = axis_of({})
    assert plan.spec.levels[0].chunks == (1, 70, 256)
    (note,) = plan.notes
    assert "not in one unit (z none, y nanometer, x nanometer)" in note
    assert plan_build(str(path), unit="um").spec.levels[0].chunks == (40, 64, 64)


def test_a_stack_says_in_one_line_what_a_voxel_size_would_change(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", volume((10, 40, 40)))
    args = ["build", tmp_path / "a.npy", tmp_path / "p"]
    done = octree(*args, "--dry-run")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("note:")]
    assert "--voxel-size z=...,y=...,x=..." in line
    assert "64 x 64 x 64" in line
    done = octree(*args, "--voxel-size", "y=1,x=1")
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("note:")]
    assert "no voxel size is known of z; with --voxel-size z=..." in line
    result = octree_json(*args, "--overwrite", "--voxel-size", "z=2,y=1,x=1")
    assert result["notes"] == []
    assert open_pyramid(tmp_path / "p").spec.levels[0].chunks == (10, 40, 40)


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ("64,64", "3 spatial axes: z, y, x"),
        ("0,64,64", "at least 1 voxel"),
        ("64", "no shape of a chunk"),
        ("1,64,64,64", "no shape of a chunk"),
        ("64x64x64", "no shape of a chunk"),
        ("64,64,-64", "no shape of a chunk"),
        ("64,,64", "no shape of a chunk"),
        ("1.5,64,64", "no shape of a chunk"),
    ],
)
def test_chunks_that_cannot_be_are_usage_errors(tmp_path: Path, chunks: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_build(volume((4, 5, 6)), tmp_path / "p", chunks=chunks)
    assert "--chunks" in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint


def test_chunks_on_the_command_line(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", volume((30, 60, 50)))
    args = ["build", tmp_path / "a.npy", tmp_path / "p", "--dry-run"]
    error = octree_json(*args, "--chunks", "64,64", code=2)["error"]
    assert "2 edges" in error["message"]
    plan = octree_json(*args, "--chunks", "8, 32,64", "--tile", "16")
    assert plan["levels"][0]["chunks"] == [8, 32, 50]
    assert plan["levels"][-1]["shape"] == [30, 15, 13]


def test_chunks_and_shards_that_nobody_could_read_are_refused() -> None:
    huge = request((5000,) * 3, voxel_size_known=True, memory_bytes=2**40)
    with pytest.raises(UsageError, match=r"one chunk of 2000 x 2000 x 2000 voxels takes 14\.9 GiB") as caught:
        make_plan(request((5000,) * 3, chunks=(2000, 2000, 2000), memory_bytes=2**40))
    assert "--chunks" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="131072 chunks of 1 x 1 x 1") as caught:
        make_plan(request((5000,) * 3, chunks=(1, 1, 1), shard=128, memory_bytes=2**40))
    assert "--shard" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="too small") as caught:
        make_plan(request((5000,) * 3, chunks=(600, 600, 600)))
    assert "smaller --chunks" in (caught.value.hint or "")
    assert make_plan(huge).spec.levels[0].chunks == (64, 64, 64)


# what is built


def slow_levels(array: np.ndarray, steps: list[list[int]], method: str) -> list[np.ndarray]:
    levels = [array]
    for step in steps[1:]:
        levels.append(reduce_slowly(levels[-1], tuple(step), method))
    return levels


def check(dest: Path, array: np.ndarray, method: str = "mean") -> None:
    """Every level equals the slow model, voxel for voxel."""
    steps = open_pyramid(dest).spec.metadata["factors"]
    for got, wanted in zip(levels_of(dest), slow_levels(array, steps, method), strict=True):
        np.testing.assert_array_equal(got, wanted)


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.tuples(*[st.integers(1, 23)] * 3),
    sizes=st.tuples(*[st.sampled_from([0.3, 1.0, 2.5])] * 2),
    chunks=st.tuples(*[st.integers(1, 7)] * 3),
    tile=st.integers(2, 9),
    shard=st.sampled_from([None, 0, 1, 2, 3]),
    method=st.sampled_from(["mean", "mode", "max", "nearest"]),
    memory=st.sampled_from([2**30, RUNTIME_BYTES + 20_000, RUNTIME_BYTES + 4_000]),
    first=st.tuples(*[st.integers(-9, 9)] * 3),
)
def test_any_volume_equals_the_slow_model_and_is_whole(
    tmp_path_factory: pytest.TempPathFactory, lengths: tuple[int, int, int], sizes: tuple[float, float],
    chunks: tuple[int, int, int], tile: int, shard: int | None, method: str, memory: int, first: tuple[int, int, int],
) -> None:  # fmt: skip
    """Odd, tiny, anisotropic, shifted, of many rounds, with little memory."""
    dest, array = tmp_path_factory.mktemp("any") / "p", volume(lengths)
    voxel = {"z": sizes[0], "y": 1.0, "x": sizes[1]}
    try:
        build(array, dest, axes="zyx", voxel_size=voxel, chunks=chunks, tile=tile, shard=shard,
              method=method, memory=memory, workers=2)  # fmt: skip
    except UsageError as error:
        if "needed_bytes" not in error.details:
            raise
        return
    check(dest, array, method)
    assert verify(dest, deep=True).findings == ()
    levels = open_pyramid(dest).spec.levels
    assert max(levels[-1].shape) <= tile
    for level in levels:
        grown = [own / base for own, base in zip(level.scale, levels[0].scale, strict=True)]
        moved = 0 if method == "nearest" else 0.5
        assert level.translation == tuple(
            pytest.approx(size * (factor - 1) * moved)
            for size, factor in zip(levels[0].scale, grown, strict=True)
        )


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_volume_of_the_usual_chunks_equals_the_slow_model(tmp_path: Path, version: str) -> None:
    array = volume((67, 130, 65))
    build(array, tmp_path / "p", voxel_size=CUBE, axes="zyx", tile=32, ome_version=version)
    pyramid = open_pyramid(tmp_path / "p")
    assert {level.chunks for level in pyramid.spec.levels} == {(64, 64, 64)}
    np.testing.assert_array_equal(levels_of(tmp_path / "p")[1], reduce_slowly(array, (2, 2, 2), "mean"))
    assert verify(tmp_path / "p", deep=True).findings == ()


ODD: dict[str, tuple[Any, dict[str, Any]]] = {
    "time and channels": (volume((2, 3, 9, 11, 10)), {"axes": "tczyx"}),
    "colour": (volume((9, 11, 10, 3), "u1"), {"axes": "zyxs"}),
    "labels": (volume((9, 11, 10), "u4") // 60, {"axes": "zyx", "labels": True}),
    "NaN": (np.where(volume((9, 11, 10)) > 99, np.nan, volume((9, 11, 10), "f4")), {"axes": "zyx"}),
    "max": (volume((9, 11, 10), "i2"), {"axes": "zyx", "method": "max"}),
    "one slice": (volume((1, 11, 10)), {"axes": "zyx"}),
    "a needle": (volume((29, 1, 1)), {"axes": "zyx"}),
    "bool": (volume((9, 11, 10)) > 99, {"axes": "zyx"}),
    "complex": (volume((9, 11, 10), "c8"), {"axes": "zyx"}),
}


@pytest.mark.parametrize("name", ODD)
def test_volumes_of_all_kinds(tmp_path: Path, name: str) -> None:
    array, options = ODD[name]
    result = build(array, tmp_path / "p", voxel_size=CUBE, tile=4, chunks=(3, 4, 2), **options)
    if name == "colour":
        array = array.transpose(3, 0, 1, 2)
        assert result.spec.levels[0].chunks[0] == 3
    check(tmp_path / "p", array, result.method)
    assert verify(tmp_path / "p", deep=True).findings == ()
    assert max(result.spec.levels[-1].shape[-3:]) <= 4


def test_a_volume_of_dask_blocks_in_any_order_of_axes(tmp_path: Path) -> None:
    import dask.array as da

    array = volume((13, 2, 17, 11))
    lazy = da.from_array(array, chunks=(5, 1, 7, 4))
    build(lazy, tmp_path / "p", axes="xczy", voxel_size=CUBE, tile=4, chunks=(4, 4, 4))
    check(tmp_path / "p", array.transpose(1, 2, 3, 0))


def test_voxel_sizes_of_a_shifted_volume_are_kept_on_every_level(tmp_path: Path) -> None:
    """A ramp in the world is the same ramp on each level, whatever was halved first."""
    z, y, x = np.indices((32, 64, 64)).astype(np.float64)
    build(4 * z + y / 2 + x / 4, tmp_path / "a", axes="zyx", voxel_size={"z": 4, "y": 0.5, "x": 0.25}, tile=8)
    document = json.loads((tmp_path / "a" / "zarr.json").read_text())
    for part in document["attributes"]["ome"]["multiscales"][0]["datasets"]:
        shift = part["coordinateTransformations"][1]["translation"]
        part["coordinateTransformations"][1]["translation"] = [
            v + d for v, d in zip(shift, (7, -3, 100), strict=True)
        ]
    (tmp_path / "a" / "zarr.json").write_text(json.dumps(document))
    build(str(tmp_path / "a"), tmp_path / "p", tile=8)
    assert verify(tmp_path / "p", deep=True).findings == ()
    steps = open_pyramid(tmp_path / "p").spec.metadata["factors"]
    assert steps[1:4] == [[1, 2, 2]] * 3
    for level, data in zip(open_pyramid(tmp_path / "p").spec.levels, levels_of(tmp_path / "p"), strict=True):
        world = np.indices(level.shape) * np.reshape(level.scale, (3, 1, 1, 1))
        world += np.reshape(level.translation, (3, 1, 1, 1)) - np.reshape((7, -3, 100), (3, 1, 1, 1))
        np.testing.assert_allclose(data, world.sum(axis=0))


def test_cubes_of_nothing_are_not_stored(tmp_path: Path) -> None:
    array = np.zeros((150, 140, 300), "u2")
    array[70:80, 70:80, 70:80] = 7
    result = build(array, tmp_path / "p", axes="zyx", voxel_size=CUBE, tile=64)
    level = result.spec.levels[0]
    assert level.shards == (192, 192, 256)
    files = [path for path in (tmp_path / "p" / "0" / "c").rglob("*") if path.is_file()]
    assert len(files) == 1
    assert files[0].stat().st_size < 36 * 16 + 4 + 4000, "an index of 36 chunks, and one chunk of few values"
    check_sum = levels_of(tmp_path / "p")[0].sum()
    assert check_sum == array.sum()


def test_the_bytes_do_not_depend_on_source_workers_or_scheduler(tmp_path: Path) -> None:
    array = volume((40, 70, 50))
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{tmp_path / 'cubes'}/"}}
    stored = ts.open(spec, create=True, dtype="uint16", shape=array.shape, chunk_layout=ts.ChunkLayout(chunk_shape=(17, 23, 9))).result()  # fmt: skip
    stored.write(array).result()
    options: dict[str, Any] = {
        "axes": "zyx",
        "voxel_size": CUBE,
        "tile": 8,
        "chunks": (8, 8, 8),
        "shard": 1,
        "name": "n",
    }
    ways: list[tuple[Any, dict[str, Any]]] = [
        (array, {"scheduler": "serial"}),
        (array, {"workers": 3}),
        (str(tmp_path / "cubes"), {"workers": 2}),
        (str(tmp_path / "cubes"), {"workers": 2, "scheduler": "local"}),
    ]
    trees = []
    for number, (source, how) in enumerate(ways):
        build(source, tmp_path / str(number), **options, **how)
        trees.append(tree(tmp_path / str(number)))
    assert all(found == trees[0] for found in trees)


def test_killed_again_and_again_and_resumed_is_byte_for_byte_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", volume((100, 90, 110)))
    options = [
        "--voxel-size",
        "z=2,y=1,x=1",
        "--chunks",
        "8,8,8",
        "--tile",
        "8",
        "--memory",
        "48MiB",
        "--workers",
        "2",
    ]
    args: list[object] = ["build", tmp_path / "a.npy", tmp_path / "p", "--name", "n", *options]
    octree_json("build", tmp_path / "a.npy", tmp_path / "q", "--name", "n", *options)
    for lines in (3, 9):
        kill_after_lines([*args, "--resume"], lines)
    result = octree_json(*args, "--resume")
    assert result["resumed"]
    assert tree(tmp_path / "p") == tree(tmp_path / "q")
    assert leftovers(tmp_path / "p") == []


def test_memory_is_kept_by_volumes(tmp_path: Path) -> None:
    np.save(tmp_path / "pixel.npy", np.zeros((1, 1), "u2"))
    bare = octree_json("build", tmp_path / "pixel.npy", tmp_path / "bare")["peak_rss_bytes"]
    np.save(tmp_path / "a.npy", image((256, 256, 260), "f4"))
    args = [
        "build",
        tmp_path / "a.npy",
        tmp_path / "p",
        "--voxel-size",
        "z=1,y=1,x=1",
        "--overwrite",
        "--memory",
    ]
    for limit in (80 * 2**20, 350 * 2**20):
        assert octree_json(*args, limit)["peak_rss_bytes"] - bare <= limit
    plan = octree_json(*args, 80 * 2**20, "--dry-run")
    assert any(
        "blocks of 128 x 128 x 128 voxels instead of 256 x 256 x 256" in note for note in plan["notes"]
    )
    assert plan["peak_bytes"] <= 80 * 2**20


@settings(deadline=None, max_examples=50)
@given(
    shape=st.tuples(*[st.integers(1, 300)] * 3),
    dtype=st.sampled_from(["u1", "u2", "f8"]),
    chunks=st.none() | st.tuples(*[st.integers(1, 90)] * 3),
    shard=st.sampled_from([None, 0, 1, 3, 8]),
    tile=st.integers(5, 200),
    memory=st.sampled_from([2**30, RUNTIME_BYTES + 3_000_000]),
)
def test_no_two_tasks_of_a_volume_share_a_write_unit(
    shape: tuple[int, ...], dtype: str, chunks: Any, shard: int | None, tile: int, memory: int
) -> None:
    wanted = request(shape, dtype=np.dtype(dtype), chunks=chunks, shard=shard, tile=tile, memory_bytes=memory, voxel_size_known=True)  # fmt: skip
    try:
        plan = make_plan(wanted)
    except UsageError:
        return
    assert plan.peak_bytes <= memory
    for index, steps in enumerate(plan.rounds):
        if steps.tasks > 500:
            continue
        for level in range(steps.first, steps.last + 1):
            info = plan.spec.levels[level]
            boxes = [plan.block(index, task, level) for task in range(steps.tasks)]
            keys = [key for box in boxes for key in unit_keys(info, box, v3=True)]
            assert len(keys) == len(set(keys))
            assert sum(math.prod(box.shape) for box in boxes) == math.prod(info.shape)


# what verify finds


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Levels of 41 x 30 x 50, 21 x 15 x 25, 11 x 8 x 13 and 6 x 4 x 7, in files of one chunk of 8 each."""
    dest = tmp_path / "p"
    build(volume((41, 30, 50)), dest, axes="zyx", voxel_size=CUBE, chunks=(8, 8, 8), tile=8, shard=0)
    assert verify(dest, deep=True).findings == ()
    return dest


def kinds(result: VerifyResult) -> set[tuple[str, int | None]]:
    return {(finding.kind, finding.level) for finding in result.findings}


def change_level(path: Path, level: int, place: int, values: list[float]) -> None:
    """Scale (place 0) or translation (1) of a level."""
    document = json.loads((path / "zarr.json").read_text())
    datasets = document["attributes"]["ome"]["multiscales"][0]["datasets"]
    datasets[level]["coordinateTransformations"][place][("scale", "translation")[place]] = values
    (path / "zarr.json").write_text(json.dumps(document))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_one_wrong_voxel_at_a_border_of_any_axis_is_found(good: Path, level: int) -> None:
    import zarr

    for axis in range(3):
        array = zarr.open_array(good / str(level), mode="r+")
        place = [n // 2 for n in array.shape]
        place[axis] = array.shape[axis] - 1
        kept = int(array[tuple(place)])
        array[tuple(place)] = kept + 8 * 64
        found = verify(good, deep=True)
        wanted = {("reduction", k) for k in (level, level + 1) if 0 < k < 4}
        assert kinds(found) == wanted, (axis, found.findings)
        array[tuple(place)] = kept
    assert verify(good, deep=True).findings == ()


def test_damage_in_the_last_chunk_along_z_is_found(good: Path) -> None:
    file = good / "1" / "c" / "2" / "1" / "3"
    file.write_bytes(file.read_bytes()[:-3])
    assert ("torn-chunk", 1) in kinds(verify(good)) or ("unreadable", 1) in kinds(verify(good))
    file.unlink()
    found = verify(good, deep=True)
    assert kinds(found) == {("missing-chunk", 1)}
    assert all("2/1/3" in finding.where for finding in found.findings)


@pytest.mark.parametrize("z", [0.0, 0.5 + 1e-3, -0.5, 1.5])
def test_a_wrong_translation_along_z_is_found(good: Path, z: float) -> None:
    change_level(good, 1, 1, [z, 0.5, 0.5])
    (found,) = verify(good).findings
    assert (found.kind, found.level) == ("translation", 1)
    assert "axis z" in found.what


@pytest.mark.parametrize("scale", [1.0, 3.0, 4.0, 2.02])
def test_a_wrong_factor_along_z_is_found(good: Path, scale: float) -> None:
    change_level(good, 1, 0, [scale, 2.0, 2.0])
    change_level(good, 1, 1, [(scale - 1) / 2, 0.5, 0.5])
    found = [f for f in verify(good).findings if f.level == 1]
    assert {f.kind for f in found} >= {"scale"}
    assert "axis z" in found[0].what


def test_a_wrong_factor_is_found_where_any_fits_the_lengths(tmp_path: Path) -> None:
    """Two planes make one by any factor from 2 on, with the same values."""
    build(volume((2, 30, 30)), tmp_path / "p", axes="zyx", voxel_size=CUBE, tile=16)
    change_level(tmp_path / "p", 1, 0, [4.0, 2.0, 2.0])
    change_level(tmp_path / "p", 1, 1, [1.5, 0.5, 0.5])
    (found,) = verify(tmp_path / "p").findings
    assert (found.kind, found.level) == ("scale", 1)
    assert "was halved by 2" in found.what


@pytest.mark.parametrize("factor", [10**400, 1e300, "2", None, [2], True, {}])
def test_odd_factors_in_the_metadata_are_found(tmp_path: Path, factor: Any) -> None:
    build(volume((4, 30, 30)), tmp_path / "p", axes="zyx", voxel_size=CUBE, tile=16)
    document = json.loads((tmp_path / "p" / "zarr.json").read_text())
    document["attributes"]["ome"]["multiscales"][0]["metadata"]["factors"][1][0] = factor
    (tmp_path / "p" / "zarr.json").write_text(json.dumps(document))
    (found,) = verify(tmp_path / "p").findings
    assert (found.kind, found.level) == ("scale", 1)


def test_info_shows_chunks_and_shards_as_they_are(tmp_path: Path) -> None:
    build(volume((70, 80, 130)), tmp_path / "p", axes="zyx", voxel_size=CUBE)
    done = octree("info", tmp_path / "p")
    assert "64x64x64" in done.stdout
    assert "128x128x192" in done.stdout
    (level,) = octree_json("info", tmp_path / "p")["levels"]
    assert (level["chunks"], level["shards"]) == ([64, 64, 64], [128, 128, 192])


# sources whose blocks are planes


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    """64 planes of 512 x 512, each one compressed strip."""
    array = np.zeros((64, 512, 512), "u2") + np.arange(64, dtype="u2")[:, None, None] * 9
    array[:, 100:300, 250:270] += np.arange(20, dtype="u2")
    how: dict[str, Any] = {"compression": "zlib", "rowsperstrip": 512, "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "planes.tif", array, photometric="minisblack", **how)
    return tmp_path / "planes.tif"


LITTLE: dict[str, Any] = {"voxel_size": CUBE, "tile": 64, "workers": 2, "memory": 140 * 2**20, "name": "n"}


def test_whole_planes_are_decoded_once_and_by_all_threads(
    planes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_build(planes, **LITTLE)
    assert (plan.workers, plan.readers) == (1, 2)
    assert tuple(g * b for g, b in zip(plan.group, plan.rounds[0].blocks[0], strict=True)) == (64, 512, 512)
    assert math.prod(plan.group) > 1
    decoded: list[int] = []
    threads: set[str] = set()
    decode = TiffArray._decode

    def counting(self: Any, number: int, *rest: Any) -> Any:
        decoded.append(number)
        threads.add(threading.current_thread().name)
        return decode(self, number, *rest)

    monkeypatch.setattr(TiffArray, "_decode", counting)
    build(planes, tmp_path / "p", **LITTLE)
    assert sorted(decoded) == list(range(64))
    assert all(name.startswith("octree-build-read") for name in threads)
    np.testing.assert_array_equal(levels_of(tmp_path / "p")[0], tifffile.imread(planes))
    build(planes, tmp_path / "q", **LITTLE | {"memory": 2**30})
    assert [name for name in tree(tmp_path / "p") if name.startswith("0/")]
    for one, other in zip(levels_of(tmp_path / "p"), levels_of(tmp_path / "q"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_plane_among_those_read_together_is_an_error_or_a_hole(
    planes: Path, tmp_path: Path
) -> None:
    with tifffile.TiffFile(planes) as tiff:
        offset = tiff.pages[40].dataoffsets[0]
    content = bytearray(planes.read_bytes())
    content[offset : offset + 30] = b"\0" * 30
    planes.write_bytes(content)
    with pytest.raises(SourceError, match="40"):
        build(planes, tmp_path / "p", **LITTLE)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("octree-build")]
    result = build(planes, tmp_path / "q", on_error="fill", **LITTLE)
    assert {(hole.start[0], hole.stop[0]) for hole in result.holes} == {(40, 41)}
    assert not levels_of(tmp_path / "q")[0][40].any()


def test_a_source_that_must_be_decoded_again_and_again_is_said() -> None:
    def decoded(box: Any) -> int:
        return 2 * 4096 * 4096 * int(box.stop[0] - box.start[0])

    deep = request((300, 4096, 4096), voxel_size_known=True, read_shape=(1, 4096, 4096))
    notes = make_plan(deep, lambda box: 0, decoded).notes
    (note,) = [note for note in notes if "SOURCE is decoded" in note]
    assert "about 16 times" in note
    needed = int(note.rpartition("--memory ")[2].partition("MiB")[0])
    assert not [
        note
        for note in make_plan(replace(deep, memory_bytes=needed * 2**20), lambda box: 0, decoded).notes
        if "SOURCE is decoded" in note
    ]
