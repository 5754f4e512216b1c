"""Any SOURCE as tiles: texture types, planes of many axes, levels made in memory, identity."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loading_fakes import drain, keys_of
from PIL import Image

from octree.pyramid import build
from octree.pyramid.errors import SourceError, SourceNotFound, UsageError
from octree.pyramid.limits import Limits
from octree.pyramid.model import Box, TileKey
from octree.render.loading.clock import VirtualClock
from octree.render.loading.load import CancelToken, set_current_token
from octree.render.loading.loader import TileLoader
from octree.render.loading.network import Network
from octree.render.loading.values import LoadedTile, LoadKey, LoadRequest, Tier
from octree.render.loading.wishes import load_requests
from octree.render.tiles.made_levels import GivenUp
from octree.render.tiles.open_levels import open_levels
from octree.render.tiles.texels import fold_ids, label_bytes, texture_dtype, to_texels
from octree.render.tiles.tile_source import OpenTileSource, open_tile_source
from octree.render.view.plan import plan_view
from octree.render.view.state import Slicing, resolve

RNG = np.random.default_rng(7)


def image(height: int, width: int, dtype: str = "uint16") -> np.ndarray:
    return RNG.integers(0, 200, (height, width)).astype(dtype)


def whole_level(source: OpenTileSource, level: int, index: tuple[int, ...] = ()) -> np.ndarray:
    """All texels of a level, put together from its tiles."""
    info = source.lattice.levels[level]
    out = np.zeros((*info.shape, *source.samples_shape), source.texture_dtype)
    rows, cols = info.tile_counts
    for row in range(rows):
        for col in range(cols):
            key = TileKey(level, index, (row, col))
            data = source.read_tile(key)
            assert data.shape == source.tile_shape(key)
            assert data.dtype == source.texture_dtype
            y, x = row * info.tile[0], col * info.tile[1]
            out[y : y + data.shape[0], x : x + data.shape[1]] = data
    return out


# texture types


@pytest.mark.parametrize(
    ("dtype", "texture"),
    [
        ("bool", "uint8"),
        ("uint8", "uint8"),
        ("uint16", "uint16"),
        (">u2", "uint16"),
        *[(name, "float32") for name in ("int8", "int16", "float16", "float32", ">f4", "int32", "uint32")],
        *[(name, "float32") for name in ("int64", "uint64", "float64", "complex64", "complex128")],
    ],
)
def test_every_type_has_its_texture_type(dtype: str, texture: str) -> None:
    assert texture_dtype(np.dtype(dtype), labels=False) == np.dtype(texture)
    got = to_texels(np.ones((3, 4), dtype), labels=False, rgb=False)
    assert got.dtype == np.dtype(texture)
    assert (got == 1).all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int8", "int16", "float16", "float32"])
def test_these_types_arrive_exactly(dtype: str) -> None:
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        values = np.array([info.min, info.max, 0, 1, info.max // 3], kind)
    elif kind.kind == "b":
        values = np.array([True, False])
    else:
        values = np.array([0.1, -0.0, np.inf, -np.inf, np.nan, np.finfo(kind).max, np.finfo(kind).tiny], kind)
    got = to_texels(values[np.newaxis], labels=False, rgb=False)[0]
    np.testing.assert_array_equal(got.astype(np.float64), values.astype(np.float64))


def test_large_numbers_are_rounded_to_nearest_and_overflow_is_infinite() -> None:
    big = np.array([[2**24 + 1, 2**24 + 2, 2**32 - 1]], np.int64)
    assert to_texels(big, labels=False, rgb=False).tolist() == [[2**24, 2**24 + 2, 2**32]]
    floats = np.array([[1e300, -1e300, np.nan, 1e-300]])
    got = to_texels(floats, labels=False, rgb=False)[0]
    assert got[0] == np.inf
    assert got[1] == -np.inf
    assert np.isnan(got[2])
    assert got[3] == 0


def test_complex_numbers_are_magnitudes() -> None:
    got = to_texels(np.array([[3 + 4j, -5, np.nan + 1j]]), labels=False, rgb=False)[0]
    assert got[:2].tolist() == [5, 5]
    assert np.isnan(got[2])


def test_colour_of_bool_is_black_and_white() -> None:
    assert to_texels(np.array([[[True, False, True]]]), labels=False, rgb=True).tolist() == [[[255, 0, 255]]]


# labels


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(
        st.sampled_from([np.dtype(t) for t in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "bool")]),
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
    )
)
def test_label_bytes_hold_the_id(ids: np.ndarray) -> None:
    got = label_bytes(ids)
    assert got.shape == (*ids.shape, 4)
    assert got.dtype == np.uint8
    back = got.view("<u4")[..., 0]
    for one, texel in zip(ids.ravel().tolist(), back.ravel().tolist(), strict=True):
        if -(2**31) <= int(one) < 2**32:
            assert texel == int(one) % 2**32
        else:
            assert texel == max(1, ((int(one) % 2**64) * 0x9E3779B97F4A7C15 % 2**64) >> 32)


def test_one_id_has_one_colour_whatever_its_type() -> None:
    for value in (0, 1, 77):
        assert {int(fold_ids(np.array([[value]], t))[0, 0]) for t in ("u1", "u2", "u8", "i8", "i4")} == {
            value
        }
    assert {int(fold_ids(np.array([[-1]], t))[0, 0]) for t in ("i1", "i4", "i8")} == {2**32 - 1}
    large = fold_ids(np.array([[0, 2**32, 2**33, 2**40, 2**63]], np.uint64))[0]
    assert large[0] == 0
    assert len(set(large.tolist())) == 5


def test_colour_is_no_label() -> None:
    with pytest.raises(UsageError, match="colour image"):
        open_tile_source(np.zeros((50, 50, 3), np.uint8), labels=True)


def test_no_id_is_folded_to_nothing() -> None:
    # 2**64 / golden ratio has an inverse modulo 2**64: this id's product is 5, whose upper half is 0
    unlucky = 5 * pow(0x9E3779B97F4A7C15, -1, 2**64) % 2**64
    assert unlucky >= 2**32
    assert fold_ids(np.array([[unlucky]], np.uint64))[0, 0] == 1


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_labels_that_are_no_integers_are_refused(dtype: str) -> None:
    with pytest.raises(UsageError, match="labels must be integers"):
        open_tile_source(np.zeros((5, 5), dtype), labels=True)


def test_labels_keep_their_ids_in_levels_made_in_memory_d20() -> None:
    """D20: linear resampling made ids that nobody had drawn."""
    ids = np.kron(RNG.choice([3, 70_000, 2**31], (40, 40)), np.ones((7, 9))).astype(np.uint32)
    source = open_tile_source(ids, tile=64, labels=True)
    assert len(source.spec.levels) > 2
    for level in range(len(source.spec.levels)):
        texels = whole_level(source, level).view("<u4")[..., 0]
        assert set(np.unique(texels)) <= {3, 70_000, 2**31}


# levels made in memory


@pytest.mark.parametrize("dtype", ["uint16", "bool", "float32", "uint8"])
@pytest.mark.parametrize("shape", [(301, 517), (64, 64), (1, 700), (65, 1), (1, 1)])
def test_levels_made_in_memory_are_those_of_a_build_d20(
    tmp_path: Path, dtype: str, shape: tuple[int, int]
) -> None:
    """D20: made in the drawing thread, whole levels at a time, and shifted against built ones."""
    data = image(*shape, dtype)
    build(data, tmp_path / "p.zarr", tile=64, shard=0)
    made = open_tile_source(data, tile=64)
    built = open_tile_source(tmp_path / "p.zarr", tile=64)
    assert [lv.shape for lv in made.spec.levels] == [lv.shape for lv in built.spec.levels]
    assert made.lattice == built.lattice
    assert (made.stored_levels, built.stored_levels) == (1, len(built.spec.levels))
    for level in range(len(made.spec.levels)):
        np.testing.assert_array_equal(whole_level(made, level), whole_level(built, level))


def test_a_coarsest_level_larger_than_a_tile_gets_more_levels(tmp_path: Path) -> None:
    data = image(300, 300)
    build(data, tmp_path / "p.zarr", tile=256)
    source = open_tile_source(tmp_path / "p.zarr", tile=32)
    assert source.stored_levels == 2
    assert [lv.shape[0] for lv in source.spec.levels] == [300, 150, 75, 38, 19]
    expected = open_tile_source(data, tile=32)
    for level in range(5):
        np.testing.assert_array_equal(whole_level(source, level), whole_level(expected, level))


@pytest.mark.parametrize("method", ["max", "nearest", "median", "mean"])
def test_levels_beyond_the_stored_ones_are_made_as_those_were(tmp_path: Path, method: str) -> None:
    data = image(300, 300)
    build(data, tmp_path / "few.zarr", tile=256, method=method)
    build(data, tmp_path / "many.zarr", tile=32, method=method, shard=0)
    few, many = (open_tile_source(tmp_path / name, tile=32) for name in ("few.zarr", "many.zarr"))
    assert few.stored_levels < many.stored_levels
    assert few.lattice == many.lattice
    for level in range(5):
        np.testing.assert_array_equal(whole_level(few, level), whole_level(many, level))


def test_single_level_makes_none(tmp_path: Path) -> None:
    source = open_tile_source(image(1000, 1000), single_level=True)
    assert len(source.lattice.levels) == 1
    assert source.stored_levels == 1


def test_a_made_tile_is_made_once_however_many_ask() -> None:
    reads: list[tuple[Any, ...]] = []

    class Counting:
        shape, dtype, ndim = (512, 512), np.dtype("uint8"), 2

        def __getitem__(self, item: Any) -> np.ndarray:
            reads.append(item)
            return np.zeros((512, 512), np.uint8)[item]

    source = open_tile_source(Counting(), tile=64)
    top = len(source.spec.levels) - 1
    threads = [threading.Thread(target=source.read_tile, args=(TileKey(top, (), (0, 0)),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pixels = sum(abs(s.stop - s.start) * abs(t.stop - t.start) for s, t in reads)
    assert pixels == 512 * 512


def test_an_error_below_is_the_error_of_every_tile_above_and_is_not_kept() -> None:
    state = {"broken": True}

    class Flaky:
        shape, dtype, ndim = (256, 256), np.dtype("uint8"), 2

        def __getitem__(self, item: Any) -> np.ndarray:
            if state["broken"]:
                raise OSError("gone")
            return np.ones((256, 256), np.uint8)[item]

    source = open_tile_source(Flaky(), tile=64)
    with pytest.raises((OSError, SourceError)):
        source.read_tile(TileKey(2, (), (0, 0)))
    state["broken"] = False
    assert (source.read_tile(TileKey(2, (), (0, 0))) == 1).all()


def test_the_whole_of_an_image_without_a_pyramid_is_loaded_in_the_background() -> None:
    data = image(2000, 1500)
    source = open_tile_source(data, tile=256)
    plan = plan_view(source.lattice, source.lattice.extent, (0.1, 0.1), cheap_levels=source.cheap_levels)
    assert plan.level == 3
    assert plan.stand_ins == ()
    with TileLoader() as loader:
        loader.add_source(source)
        loader.plan("view", load_requests(plan, keys_of(source)), moved=False)
        assert all(isinstance(t, LoadedTile) for t in drain(loader, limit_s=60))
        assert loader.stats().main_thread_reads == 0


def test_making_a_level_stops_when_the_load_is_given_up_and_another_goes_on() -> None:
    gate, entered = threading.Event(), threading.Event()

    class Slow:
        shape, dtype, ndim = (512, 512), np.dtype("uint8"), 2

        def __getitem__(self, item: Any) -> np.ndarray:
            if item[0].start == item[1].start == 0 and not gate.is_set():
                entered.set()
                assert gate.wait(20)
            return np.ones((512, 512), np.uint8)[item]

    source = open_tile_source(Slow(), tile=64)
    top = TileKey(3, (), (0, 0))
    token, results = CancelToken(), {}

    def read(name: str, token: CancelToken | None) -> None:
        set_current_token(token)
        try:
            results[name] = source.read_tile(top)
        except GivenUp as error:
            results[name] = error

    first = threading.Thread(target=read, args=("first", token))
    first.start()
    assert entered.wait(20)
    second = threading.Thread(target=read, args=("second", CancelToken()))
    second.start()
    token.cancel()
    gate.set()
    first.join()
    second.join()
    assert isinstance(results["first"], GivenUp)
    assert (results["second"] == 1).all()


@pytest.mark.parametrize("virtual", [False, True])
def test_close_does_not_wait_for_a_level_in_the_making(virtual: bool) -> None:
    reads = []

    class Endless:
        shape, dtype, ndim = (2**17, 2**17), np.dtype("uint8"), 2

        def __getitem__(self, item: Any) -> np.ndarray:
            reads.append(item)
            return np.zeros([s.stop - s.start for s in item], np.uint8)

    source = open_tile_source(Endless(), tile=256)
    key = LoadKey(source.token, 0, TileKey(len(source.spec.levels) - 1, (), (0, 0)))
    loader = TileLoader(clock=VirtualClock() if virtual else None, network=Network(latency_ms=1))
    loader.add_source(source)
    loader.plan("view", [LoadRequest(key, Tier.IDEAL)], moved=False)
    loader.poll()
    while len(reads) < 5:
        threading.Event().wait(0.001)
    loader.close()
    assert len(reads) < 10_000
    assert not [t for t in threading.enumerate() if t.name.startswith("octree")]


# axes


def test_every_plane_of_five_axes_is_found(tmp_path: Path) -> None:
    data = RNG.integers(0, 999, (2, 3, 4, 70, 90)).astype(np.uint16)
    build(data, tmp_path / "p.zarr", axes="tczyx", tile=64, shard=0)
    for source in (open_tile_source(tmp_path / "p.zarr", tile=64), open_tile_source(data, tile=64)):
        for index in ((0, 0, 0), (1, 2, 3), (1, 0, 2)):
            np.testing.assert_array_equal(whole_level(source, 0, index), data[index])
            assert not np.array_equal(whole_level(source, 1, index), whole_level(source, 1, (0, 1, 1)))


def test_a_position_shows_the_coarse_plane_it_lies_in(tmp_path: Path) -> None:
    """z is halved too where voxel sizes are known: a coarse level has fewer planes than level 0, each with one key."""
    z = np.arange(16)[:, None, None]
    data = np.broadcast_to(z * 10, (16, 200, 200)).astype(np.uint16).copy()
    build(data, tmp_path / "p.zarr", axes="zyx", voxel_size={"z": 1, "y": 1, "x": 1}, tile=64, shard=0)
    source = open_tile_source(tmp_path / "p.zarr", tile=64)
    depths = [level.shape[0] for level in source.spec.levels]
    assert depths[-1] < 16
    lattices = [source.at(resolve(Slicing.of({"z": plane}), source.spec)) for plane in range(16)]
    for level, depth in enumerate(depths):
        per_plane = 16 // depth
        assert len({lattice.key(level, (0, 0)) for lattice in lattices}) == depth
        for plane, lattice in enumerate(lattices):
            value = source.read_tile(lattice.key(level, (0, 0)))[0, 0]
            first = plane // per_plane * per_plane
            assert abs(value - np.mean(range(first * 10, (first + per_plane) * 10, 10))) <= 1


def test_planes_that_share_a_coarse_plane_read_it_once(tmp_path: Path) -> None:
    """Keys named level-0 positions on every level: 16 planes, and 16 reads of each of 4 coarse ones."""
    data = RNG.integers(0, 999, (16, 200, 200)).astype(np.uint16)
    sizes = {"z": 1, "y": 1, "x": 1}
    build(data, tmp_path / "p.zarr", axes="zyx", voxel_size=sizes, tile=64, chunks=(1, 64, 64), shard=0)
    source = open_tile_source(tmp_path / "p.zarr", tile=64)
    coarse = source.spec.levels[2]
    assert coarse.shape[0] == 4
    with TileLoader(clock=VirtualClock()) as loader:
        loader.add_source(source)
        for plane in range(16):
            section = resolve(Slicing.of({"z": plane}), source.spec)
            plan = plan_view(source.at(section), source.lattice.extent, (0.25, 0.25))
            assert plan.level == 2
            loader.plan("view", load_requests(plan, keys_of(source)), moved=False)
            drain(loader, "view")
        assert loader.stats().tiles_read == 4 * len(plan.wanted)
        assert loader.stats().tiles_read_twice == 0


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_colour_tiles_have_their_samples_last(tmp_path: Path, samples: int, dtype: str) -> None:
    data = RNG.integers(0, 255, (130, 150, samples)).astype(dtype)
    build(data, tmp_path / "p.zarr", axes="yxs", tile=64, shard=0)
    for source in (open_tile_source(data, tile=64), open_tile_source(tmp_path / "p.zarr", tile=64)):
        assert source.rgb
        assert source.samples_shape == (samples,)
        np.testing.assert_array_equal(whole_level(source, 0), data)
        assert whole_level(source, 1).shape == (65, 75, samples)


# kinds of sources


def write_source(kind: str, path: Path, data: np.ndarray) -> Any:
    if kind == "numpy":
        return data
    if kind == "memmap":
        np.save(path / "a.npy", data)
        return np.load(path / "a.npy", mmap_mode="r")
    if kind == "npy":
        np.save(path / "a.npy", data)
        return path / "a.npy"
    if kind == "tiff":
        import tifffile

        tifffile.imwrite(path / "a.tif", data, tile=(64, 64))
        return str(path / "a.tif")
    if kind == "dask":
        import dask.array

        return dask.array.from_array(data, chunks=(50, 70))
    if kind in ("zarr", "zarr array"):
        import zarr

        array = zarr.create_array(store=path / "a.zarr", shape=data.shape, chunks=(64, 64), dtype=data.dtype)
        array[:] = data
        return path / "a.zarr" if kind == "zarr" else array
    if kind in ("hdf5", "h5py"):
        import h5py

        file = h5py.File(path / "a.h5", "w")
        dataset = file.create_dataset("here/it is", data=data, chunks=(32, 32))
        if kind == "h5py":
            return dataset
        file.close()
        return f"{path}/a.h5::/here/it is"
    build(data, path / "p.zarr", tile=64)
    return path / "p.zarr"


KINDS = ["numpy", "memmap", "npy", "tiff", "dask", "zarr", "zarr array", "hdf5", "h5py", "pyramid"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_source_is_read_in_workers_only_d10(kind: str, tmp_path: Path) -> None:
    """D10: what was an ndarray, or looked like one, was read where the request was made."""
    data = image(230, 310)
    given = write_source(kind, tmp_path, data)
    with open_tile_source(given, tile=64) as source, TileLoader() as loader:
        loader.add_source(source)
        plan = plan_view(source.lattice, source.lattice.extent, (1, 1))
        loader.plan("view", load_requests(plan, keys_of(source)), moved=False)
        got = {t.key.tile: t for t in drain(loader, limit_s=60)}
        for key in plan.wanted:
            y, x = key.grid[0] * 64, key.grid[1] * 64
            np.testing.assert_array_equal(got[key].data, data[y : y + 64, x : x + 64])
            assert not np.shares_memory(got[key].data, data)
        assert loader.stats().main_thread_reads == 0
        assert source.reads_on(threading.get_ident()) == 0
    if kind == "h5py":
        given.file.close()


def test_dask_is_computed_in_the_worker_without_threads_of_its_own() -> None:
    import dask.array

    seen: set[int] = set()

    def note(block: np.ndarray) -> np.ndarray:
        seen.add(threading.get_ident())
        return block

    array = dask.array.zeros((300, 300), chunks=(30, 30), dtype="u1").map_blocks(note, dtype="u1")
    source = open_tile_source(array, tile=256)
    seen.clear()
    result: list[int] = []
    worker = threading.Thread(
        target=lambda: (source.read_tile(TileKey(0, (), (0, 0))), result.append(threading.get_ident()))
    )
    worker.start()
    worker.join()
    assert seen == set(result)


def test_a_path_that_is_no_source_is_said() -> None:
    with pytest.raises(SourceNotFound):
        open_tile_source("/no/such/thing.tif")


# identity


def test_the_token_is_of_the_data_and_of_how_they_are_taken(tmp_path: Path) -> None:
    build(image(100, 100), tmp_path / "a.zarr")
    build(image(100, 100), tmp_path / "b.zarr")
    a = open_tile_source(tmp_path / "a.zarr")
    assert open_tile_source(tmp_path / "a.zarr").token == a.token
    others = [
        open_tile_source(tmp_path / "b.zarr"),
        open_tile_source(tmp_path / "a.zarr", tile=64),
        open_tile_source(tmp_path / "a.zarr", labels=True),
        open_tile_source(tmp_path / "a.zarr", untiled=True),
    ]
    assert len({a.token, *(s.token for s in others)}) == 5
    build(image(100, 100), tmp_path / "a.zarr", overwrite=True)
    assert open_tile_source(tmp_path / "a.zarr").token != a.token


def test_arrays_in_memory_are_sources_of_their_own_d8() -> None:
    """One object is one source as long as it is there; equal ones, and one that takes the place of another, are not."""
    data = image(50, 50)
    token = open_tile_source(data).token
    assert open_tile_source(data).token == token
    assert open_tile_source(data.copy()).token != token
    place, seen = id(data), {token}
    for _ in range(100):
        del data
        data = image(50, 50)
        source = open_tile_source(data)
        assert source.token not in seen
        seen.add(source.token)
        if id(data) == place:
            break
        source.close()
        del source


@pytest.mark.parametrize("width", [64, 100])
def test_no_tile_shares_memory_with_the_callers_array(width: int) -> None:
    """A tile as wide as the image would be a view of it, and change with it."""
    data = image(200, width)
    source = open_tile_source(data, tile=64)
    for row in range(3):
        assert not np.shares_memory(source.read_tile(TileKey(0, (), (row, 0))), data)
    assert data.flags.writeable


def test_a_tile_made_of_old_data_is_not_kept_for_new_ones() -> None:
    gate, entered = threading.Event(), threading.Event()
    value = [1]

    class Slow:
        shape, dtype, ndim = (128, 128), np.dtype("uint8"), 2

        def __getitem__(self, item: Any) -> np.ndarray:
            now = value[0]
            entered.set()
            assert gate.wait(20)
            return np.full((128, 128), now, np.uint8)[item]

    source = open_tile_source(Slow(), tile=64)
    top = TileKey(1, (), (0, 0))
    old: list[np.ndarray] = []
    reader = threading.Thread(target=lambda: old.append(source.read_tile(top)))
    reader.start()
    assert entered.wait(20)
    value[0] = 2
    source.invalidate()
    gate.set()
    reader.join()
    assert old[0].max() == 1
    assert source.read_tile(top).min() == 2


def test_invalidate_raises_the_version_and_forgets_made_tiles() -> None:
    data = np.zeros((256, 256), np.uint8)
    source = open_tile_source(data, tile=64)
    top = TileKey(2, (), (0, 0))
    assert source.read_tile(top).max() == 0
    data[:] = 9
    source.invalidate()
    assert source.version == 1
    assert source.read_tile(top).min() == 9


def test_the_description_is_that_of_the_report(tmp_path: Path) -> None:
    build(image(300, 500), tmp_path / "p.zarr", voxel_size={"y": 0.5, "x": 0.25}, unit="micrometer")
    facts = open_tile_source(tmp_path / "p.zarr").describe()
    assert set(facts) == {"path", "digest", "dtype", "axes", "tile", "levels", "warnings"}
    assert facts["path"] == str(tmp_path / "p.zarr")
    assert (facts["dtype"], facts["axes"], facts["tile"]) == ("uint16", "yx", 256)
    assert facts["levels"][1] == {"shape": [150, 250], "scale": [1.0, 0.5], "translation": [0.25, 0.125]}
    assert len(facts["digest"]) == 64


@pytest.mark.parametrize("kind", ["numpy", "npy", "tiff", "zarr", "pyramid"])
def test_the_digest_is_of_the_content_wherever_it_lies(kind: str, tmp_path: Path) -> None:
    data = image(150, 150)
    digests = []
    for place, change in (("here", 0), ("there", 0), ("changed", 1)):
        (tmp_path / place).mkdir()
        given = write_source(kind, tmp_path / place, data + np.uint16(change))
        if kind == "tiff":  # dated inside
            continue
        digests.append(open_tile_source(given).describe()["digest"])
    if digests:
        assert digests[0] == digests[1] != digests[2]


def test_opening_and_describing_read_nothing_on_this_thread() -> None:
    seen: set[int] = set()

    class Watched:
        shape, dtype, ndim = (300, 300), np.dtype("uint8"), 2

        def __getitem__(self, item: Any) -> np.ndarray:
            seen.add(threading.get_ident())
            return np.zeros((300, 300), np.uint8)[item]

    open_tile_source(Watched()).describe()
    assert threading.get_ident() not in seen


def test_a_pyramid_with_axes_in_another_order_is_read_from_level_0(tmp_path: Path) -> None:
    import zarr

    data = image(100, 120)
    group = zarr.create_group(tmp_path / "odd.zarr", zarr_format=2)
    group.create_array("0", data=data.T.copy(), chunks=(64, 64))
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": "x", "type": "space"}, {"name": "y", "type": "space"}],
            "datasets": [
                {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
            ],
        }
    ]
    source = open_tile_source(tmp_path / "odd.zarr", tile=64)
    np.testing.assert_array_equal(whole_level(source, 0), data)


# tiles


@pytest.mark.parametrize(
    ("chunk", "length", "edge"),
    [(256, 9999, 256), (512, 9999, 512), (1024, 9999, 1024), (2048, 9999, 1024), (3000, 9999, 1000), (1031, 9999, 512),
     (64, 9999, 256), (100, 9999, 200), (1, 9999, 256), (5000, 5000, 256), (200, 100, 256)],
)  # fmt: skip
def test_tiles_suit_the_chunks(chunk: int, length: int, edge: int) -> None:
    from octree.render.tiles.face import _fitting_edge

    assert _fitting_edge(chunk, length) == edge


@pytest.mark.parametrize("kind", ["numpy", "npy", "dask", "pyramid"])
def test_tiles_are_of_256_pixels_where_nothing_speaks_for_another_size(kind: str, tmp_path: Path) -> None:
    data = image(1100, 1300)
    build(data, tmp_path / "p.zarr")
    given = tmp_path / "p.zarr" if kind == "pyramid" else write_source(kind, tmp_path, data)
    if kind == "dask":
        given = given.rechunk((300, -1))
    assert open_tile_source(given).describe()["tile"] == 256


def test_plain_image_mode_reads_each_level_whole() -> None:
    data = image(700, 900)
    source = open_tile_source(data, tile=256, untiled=True)
    assert [level.tile_counts for level in source.lattice.levels] == [(1, 1)] * 3
    np.testing.assert_array_equal(source.read_tile(TileKey(0, (), (0, 0))), data)
    expected = open_tile_source(data, tile=256)
    for level in (1, 2):
        np.testing.assert_array_equal(whole_level(source, level), whole_level(expected, level))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([16, 33, 64]))
def test_tiles_put_together_are_the_image(height: int, width: int, tile: int) -> None:
    data = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    source = open_tile_source(data, tile=tile)
    np.testing.assert_array_equal(whole_level(source, 0), data)
    last = source.lattice.levels[-1]
    assert max(last.shape) <= tile


def test_a_palette_of_labels_shows_ids(tmp_path: Path) -> None:
    picture = Image.fromarray(RNG.integers(0, 9, (40, 50), np.uint8), "P")
    picture.putpalette([i * 7 % 256 for i in range(768)])
    picture.save(tmp_path / "ids.png")
    source = open_tile_source(tmp_path / "ids.png", labels=True)
    np.testing.assert_array_equal(whole_level(source, 0, ())[..., 0], np.asarray(picture))


def test_reads_of_large_chunks_wait_for_each_other(tmp_path: Path) -> None:
    """Together they decode no more than the limit; where that is enough for all workers nobody waits."""
    build(
        image(600, 600), tmp_path / "a.zarr", tile=256, shard=0
    )  # chunks of 128 KiB, of which a tile may meet four

    def most_at_once(limits: Limits) -> int:
        levels = open_levels(tmp_path / "a.zarr", limits=limits).levels
        reading = most = 0
        lock, enough = threading.Lock(), threading.Event()

        def read(level: int, box: Box) -> np.ndarray:
            nonlocal reading, most
            with lock:
                reading += 1
                most = max(most, reading)
                if most == 4:
                    enough.set()
            enough.wait(0.05)
            with lock:
                reading -= 1
            return np.zeros(box.shape)

        inner = getattr(levels, "_levels", levels)
        inner.read = read  # type: ignore[method-assign]  # what is under the turns
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: levels.read(0, Box((0, 0), (1, 1))), range(12)))
        return most

    assert most_at_once(Limits(max_decoded_bytes=2 * 4 * 131072)) == 2
    assert most_at_once(Limits(max_decoded_bytes=131072)) == 1
    assert most_at_once(Limits()) == 4
