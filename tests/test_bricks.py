"""A source as bricks: three displayed axes, against numpy; chunks are decoded once; levels that nobody stored."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from loading_fakes import drain
from loading_fakes import settings as loader_settings
from numpy.typing import NDArray

from octree.pyramid import build
from octree.pyramid.boxes import blocks_met
from octree.pyramid.errors import UsageError
from octree.pyramid.model import Box, TileKey
from octree.pyramid.store.arrays import Pyramid
from octree.render.config import LoaderSettings
from octree.render.loading.cache import TileCache
from octree.render.loading.clock import VirtualClock
from octree.render.loading.loader import TileLoader
from octree.render.loading.values import LoadKey, LoadRequest, Tier
from octree.render.scene.contrast import measured_range
from octree.render.tiles.face import Face, fitting_brick
from octree.render.tiles.texels import Base
from octree.render.tiles.tile_source import OpenTileSource, open_tile_source
from octree.render.view.state import VOLUME, Slicing, resolve

RNG = np.random.default_rng(5)
SIZE = {"z": 1, "y": 1, "x": 1}


def noise(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return RNG.integers(0, 250, shape).astype(dtype)


def bricks(source: OpenTileSource, **position: int) -> Face:
    return source.face(resolve(Slicing.of(position, VOLUME), source.spec))


def whole(source: OpenTileSource, face: Face, level: int, **position: int) -> NDArray[Any]:
    """All texels of a level, put together from its bricks."""
    section = resolve(Slicing.of(position, VOLUME), source.spec)
    info = face.at(section).levels[level]
    out = np.zeros((*info.shape, *face.samples_shape), face.texture_dtype)
    for grid in itertools.product(*map(range, info.tile_counts)):
        key = TileKey(level, info.index, grid)
        data = face.read_tile(key)
        assert data.shape == face.tile_shape(key)
        assert data.dtype == face.texture_dtype
        at = [
            slice(n * edge, n * edge + size)
            for n, edge, size in zip(grid, info.tile, data.shape, strict=False)
        ]
        out[tuple(at)] = data
    return out


# what a brick holds


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "bool"])
@pytest.mark.parametrize("shape", [(70, 65, 130), (1, 64, 64), (3, 200, 5), (64, 64, 64)])
def test_bricks_put_together_are_the_volume(dtype: str, shape: tuple[int, ...]) -> None:
    data = noise(*shape, dtype=dtype)
    source = open_tile_source(data)
    face = bricks(source)
    assert face.displayed == VOLUME
    assert face.lattice.extent.high == tuple(map(float, shape))
    assert max(max(level.tile) for level in face.lattice.levels) <= 64
    np.testing.assert_array_equal(whole(source, face, 0), data.astype(face.texture_dtype))


def test_other_axes_are_stood_on() -> None:
    data = noise(2, 3, 20, 70, 66)
    source = open_tile_source(data)
    for t, c in itertools.product(range(2), range(3)):
        np.testing.assert_array_equal(whole(source, bricks(source, t=t, c=c), 0, t=t, c=c), data[t, c])


def test_colours_have_their_samples_last(tmp_path: Path) -> None:
    data = noise(3, 40, 70, 3, dtype="uint8")
    build(data, tmp_path / "p", axes="zyxs")
    source = open_tile_source(tmp_path / "p")
    assert source.rgb
    face = bricks(source)
    assert face.samples_shape == (3,)
    np.testing.assert_array_equal(whole(source, face, 0), data)


def test_labels_are_four_bytes_of_an_id() -> None:
    ids = RNG.choice([0, 7, 70_000, 2**31], (10, 70, 65)).astype(np.uint32)
    source = open_tile_source(ids, labels=True)
    face = bricks(source)
    assert face.samples_shape == (4,)
    np.testing.assert_array_equal(whole(source, face, 0).view("<u4")[..., 0], ids)


def test_values_are_relative_to_a_base() -> None:
    data = noise(9, 40, 70, dtype="float64") + 1e9
    source = open_tile_source(data)
    source.rebase({None: Base(1e9)})
    np.testing.assert_array_equal(whole(source, bricks(source), 0), (data - 1e9).astype(np.float32))


def test_an_image_without_z_is_no_volume() -> None:
    with pytest.raises(UsageError, match="no z") as error:
        bricks(open_tile_source(noise(20, 30)))
    assert "axes: y, x" in str(error.value.hint)
    with pytest.raises(UsageError, match="no z"):
        bricks(open_tile_source(noise(20, 30, 3, dtype="uint8")))


def test_bricks_and_tiles_are_never_taken_for_one_another() -> None:
    source = open_tile_source(noise(20, 64, 64))
    assert bricks(source).token != source.token


@pytest.mark.parametrize(
    ("chunk", "length", "edge"),
    [
        (64, 500, 64),
        (128, 500, 64),
        (32, 500, 64),
        (96, 500, 48),
        (100, 500, 50),
        (1, 500, 64),
        (48, 500, 48),
        (500, 500, 64),
        (20, 500, 60),
        (65, 500, 64),
        (256, 500, 64),
    ],
)
def test_bricks_suit_the_chunks(chunk: int, length: int, edge: int, tmp_path: Path) -> None:
    build(noise(4, 8, 8), tmp_path / "p", axes="zyx")
    spec = open_tile_source(tmp_path / "p").spec
    level = replace(spec.levels[0], shape=(length,) * 3, chunks=(chunk,) * 3)
    assert fitting_brick(replace(spec, levels=(level,))) == (edge,) * 3


# chunks


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, ...]]:
    """How often each chunk was decoded: (level, place of the chunk)."""
    found: Counter[tuple[int, ...]] = Counter()
    start = Pyramid.start

    def counting(self: Pyramid, level: int, box: Box) -> Any:
        met = blocks_met(box, self.spec.levels[level].chunks)
        found.update((level, *place) for place in itertools.product(*met))
        return start(self, level, box)

    monkeypatch.setattr(Pyramid, "start", counting)
    return found


def in_chunks(path: Path, chunks: tuple[int, ...]) -> Path:
    for level in sorted(path.glob("[0-9]")):
        data = zarr.open_array(level)[...]
        fitting = tuple(min(edge, n) for edge, n in zip(chunks, data.shape, strict=True))
        zarr.create_array(level, data=data, chunks=fitting, overwrite=True)
    return path


def load_level(source: OpenTileSource, level: int, cache_bytes: int = 2**26) -> dict[TileKey, NDArray[Any]]:
    """All bricks of a level through the loader."""
    face = bricks(source)
    lattice = face.at(resolve(Slicing.of({}, VOLUME), source.spec))
    counts = lattice.levels[level].tile_counts
    keys = [
        LoadKey(face.token, face.version, lattice.key(level, grid))
        for grid in itertools.product(*map(range, counts))
    ]
    loader = TileLoader(loader_settings(), cache=TileCache(cache_bytes), clock=VirtualClock())
    loader.add_source(face)
    loader.plan("me", [LoadRequest(key, Tier.IDEAL) for key in keys], moved=False)
    found = {result.key.tile: result.data for result in drain(loader)}
    loader.close()
    assert len(found) == len(keys)
    return found


@pytest.mark.parametrize("chunks", [(1, 130, 130), (1, 64, 64), (100, 128, 128), (128, 32, 32), (50, 70, 90)])
def test_each_chunk_is_decoded_once_for_all_bricks_in_it(
    tmp_path: Path, chunks: tuple[int, ...], decoded: Counter[tuple[int, ...]]
) -> None:
    data = noise(100, 130, 130)
    build(data, tmp_path / "p", axes="zyx", tile=130)
    source = open_tile_source(in_chunks(tmp_path / "p", chunks))
    decoded.clear()
    found = load_level(source, 0)
    tile = bricks(source).lattice.levels[0].tile
    for key, texels in found.items():
        at = tuple(slice(n * edge, n * edge + edge) for n, edge in zip(key.grid, tile, strict=True))
        np.testing.assert_array_equal(texels, data[at])
    assert set(decoded.values()) == {1}


# levels that nobody stored


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((70, 101, 67), SIZE),
        ((40, 130, 130), {"z": 2, "y": 0.5, "x": 0.5}),
        ((1, 90, 90), SIZE),
        ((90, 1, 40), SIZE),
    ],
)
def test_made_levels_are_those_of_a_build(
    tmp_path: Path, shape: tuple[int, ...], size: dict[str, float]
) -> None:
    data = noise(*shape)
    build(data, tmp_path / "many", axes="zyx", voxel_size=size, tile=16, shard=0)
    build(data, tmp_path / "few", axes="zyx", voxel_size=size, tile=256, shard=0)
    few, many = (open_tile_source(tmp_path / name, tile=16) for name in ("few", "many"))
    assert few.stored_levels < many.stored_levels
    made, built = bricks(few), bricks(many)
    assert made.lattice == built.lattice
    for level in range(len(made.spec.levels)):
        np.testing.assert_array_equal(whole(few, made, level), whole(many, built, level))


def test_where_voxel_sizes_are_not_known_voxels_are_cubes() -> None:
    face = bricks(open_tile_source(noise(200, 100, 100)))
    assert [level.shape for level in face.spec.levels] == [(200, 100, 100), (100, 50, 50), (50, 25, 25)]


def test_labels_keep_their_ids_in_levels_made_in_memory() -> None:
    ids = np.kron(RNG.choice([3, 70_000, 2**31], (20, 20, 20)), np.ones((5, 7, 9))).astype(np.uint32)
    source = open_tile_source(ids, labels=True)
    face = bricks(source)
    assert len(face.spec.levels) > 2
    for level in range(len(face.spec.levels)):
        assert set(np.unique(whole(source, face, level).view("<u4")[..., 0])) <= {3, 70_000, 2**31}


def test_a_level_is_made_of_each_plane_once(tmp_path: Path, decoded: Counter[tuple[int, ...]]) -> None:
    data = noise(130, 300, 300)
    build(data, tmp_path / "p", axes="zyx", tile=300)
    source = open_tile_source(in_chunks(tmp_path / "p", (1, 300, 300)))
    assert source.stored_levels == 1
    decoded.clear()
    found = load_level(source, 1)
    assert len(found) == 2 * 3 * 3
    assert set(decoded.values()) == {1}
    built = open_tile_source(data)
    face = bricks(built)
    for key, texels in found.items():
        np.testing.assert_array_equal(texels, face.read_tile(key))


def test_single_level_makes_none() -> None:
    assert len(bricks(open_tile_source(noise(100, 200, 200), single_level=True)).spec.levels) == 1


def test_plain_image_mode_has_few_bricks() -> None:
    face = bricks(open_tile_source(noise(10, 300, 300), untiled=True))
    assert face.lattice.levels[0].tile == (10, 150, 150)


def test_limits_of_a_stack_of_planes_are_found_by_a_few_of_them(
    tmp_path: Path, decoded: Counter[tuple[int, ...]]
) -> None:
    data = noise(200, 130, 130)
    data[:, 64, 64] = 3000
    build(data, tmp_path / "p", axes="zyx", tile=256)
    source = open_tile_source(in_chunks(tmp_path / "p", (1, 130, 130)))
    decoded.clear()
    face = bricks(source)
    section = resolve(Slicing.of({}, VOLUME), source.spec)
    found = measured_range(face, face.at(section), LoaderSettings())
    assert found == (data.min(), 3000)
    assert len(decoded) <= 4


def test_limits_of_cubes_are_those_of_whole_ones(tmp_path: Path) -> None:
    data = noise(70, 70, 70)
    data[3, 5, 7] = 3000
    build(data, tmp_path / "p", axes="zyx", voxel_size=SIZE, tile=256)
    source = open_tile_source(tmp_path / "p")
    face = bricks(source)
    section = resolve(Slicing.of({}, VOLUME), source.spec)
    assert measured_range(face, face.at(section), LoaderSettings()) == (data.min(), 3000)
