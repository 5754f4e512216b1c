"""The atlas of bricks: gutters in any order, bounds, budgets, pages that grow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gl_volume import VolumeStage, bricks_of, load_key, pyramid
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octree.pyramid.errors import GLError, UsageError
from octree.pyramid.grid import Lattice
from octree.pyramid.model import TileKey
from octree.render.gl.canvas import Canvas
from octree.render.gl.residents import FORMATS
from octree.render.gl.slots import SlotClass
from octree.render.gl.volume.brick_atlas import BrickAtlas, BrickPart
from octree.render.gl.volume.brick_slots import BrickSlots
from octree.render.loading.values import LoadedTile, LoadKey

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 65536, (14, 11, 17)).astype(np.uint16)


def loaded(data: Any, *grid: int, source: str = "source") -> LoadedTile:
    return LoadedTile(LoadKey(source, 0, TileKey(0, (), grid or (0, 0, 0))), data, data.nbytes, 0.0)


def slot_of(atlas: BrickAtlas, key: LoadKey) -> NDArray[Any]:
    """The texels of a brick with its gutter, as OpenGL holds them."""
    atlas.refresh()
    place = atlas.place(key)
    texture = atlas.texture(place.page)
    assert texture.is_current()
    box = (slice(at - 1, at + n + 1) for at, n in zip(place[1:4], place[4:], strict=True))
    cut: NDArray[Any] = texture.read()[tuple(box)]
    return cut


def padded(image: NDArray[Any], lattice: Lattice, tile: TileKey) -> NDArray[Any]:
    around = np.pad(image, [(1, 1)] * 3 + [(0, 0)] * (image.ndim - 3), "edge")
    sizes = lattice.levels[0].tile
    shape = lattice.tile_shape(0, tile.grid)
    box = (slice(n * size, n * size + m + 2) for n, size, m in zip(tile.grid, sizes, shape, strict=True))
    cut: NDArray[Any] = around[tuple(box)]
    return cut


class Alone(VolumeStage):
    """Nothing is in memory but the brick that comes."""

    def texels_beside(self, tile: TileKey, by: Any) -> None:
        return None


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_gutters_are_the_neighbours_in_any_order(canvas: Canvas, data: st.DataObject) -> None:
    """Bricks come, go and come again: at the end, with all of them there, every gutter is right."""
    lattice, arrays = pyramid(IMAGE, (4, 4, 6))
    tiles = bricks_of(lattice, 0)
    order = data.draw(st.permutations(tiles))
    again = data.draw(st.sets(st.sampled_from(tiles)))
    stage = Alone(lattice, arrays, canvas, atlas=BrickAtlas(2**20))
    stage.put(order)
    stage.atlas._remove([load_key(tile) for tile in again])
    stage.put(tile for tile in order if tile in again)
    for tile in tiles:
        key = load_key(tile)
        wanted = padded(IMAGE, lattice, tile)
        np.testing.assert_array_equal(slot_of(stage.atlas, key), wanted)
        bounds = stage.atlas.bounds([key])[0]
        for half in np.ndindex(2, 2, 2):
            parts = []
            for side, n in zip(half, wanted.shape, strict=True):
                middle = (n - 2) // 2
                parts.append(slice(middle, None) if side else slice(0, middle + 2))
            low, high, has_nan = bounds[half]
            assert low <= np.float32(wanted[tuple(parts)].min() / 65535)
            assert high >= np.float32(wanted[tuple(parts)].max() / 65535)
            assert not has_nan
    stage.atlas.close()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_known_of_a_gutter_does_not_depend_on_the_order(canvas: Canvas, data: st.DataObject) -> None:
    lattice, arrays = pyramid(IMAGE, (4, 4, 6))
    some = data.draw(st.lists(st.sampled_from(bricks_of(lattice, 0)), unique=True, min_size=2, max_size=20))
    other = data.draw(st.permutations(some))
    stages = []
    for order in (some, other):
        stage = Alone(lattice, arrays, canvas, atlas=BrickAtlas(2**20))
        stage.put(order)
        stages.append(stage)
    for tile in some:
        first, second = (slot_of(stage.atlas, load_key(tile)) for stage in stages)
        np.testing.assert_array_equal(first, second)
    for stage in stages:
        stage.atlas.close()


@pytest.mark.parametrize(("dtype", "samples"), FORMATS)
def test_every_format_holds_its_texels(canvas: Canvas, dtype: str, samples: int) -> None:
    high = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    shape = (5, 6, 7, samples) if samples > 1 else (5, 6, 7)
    data = (RNG.random(shape) * high).astype(dtype)
    atlas = BrickAtlas(2**20)
    tile = loaded(data)
    assert atlas.upload(tile, part=BrickPart("part", (8, 8, 8))) == 7 * 8 * 9 * samples * data.itemsize
    np.testing.assert_array_equal(slot_of(atlas, tile.key)[1:-1, 1:-1, 1:-1], data)
    assert atlas.upload(tile) == 0  # it is there
    atlas.close()


def test_neighbours_in_memory_fill_the_gutter(canvas: Canvas) -> None:
    lattice, arrays = pyramid(IMAGE, (4, 4, 6))
    stage = VolumeStage(lattice, arrays, canvas)
    tile = TileKey(0, (), (1, 1, 1))
    stage.put([tile])
    np.testing.assert_array_equal(slot_of(stage.atlas, load_key(tile)), padded(IMAGE, lattice, tile))


def test_an_alpha_is_no_value_of_its_own(canvas: Canvas) -> None:
    """Opaque black is black; the bytes of labels have no alpha."""
    dark = np.zeros((4, 4, 4, 4), np.uint8)
    dark[..., 3], dark[3, 3, 3, :3] = 255, 51
    atlas = BrickAtlas(2**20)
    colours, ids = loaded(dark, source="colours"), loaded(dark, source="ids")
    atlas.upload(colours, part=BrickPart("colours", (4, 4, 4), alpha=True))
    atlas.upload(ids, part=BrickPart("ids", (4, 4, 4)))
    ((seen,), (kept,)) = (atlas.bounds([tile.key]) for tile in (colours, ids))
    assert seen[0, 0, 0].tolist() == [0, 0, 0]
    assert seen[1, 1, 1].tolist() == pytest.approx([0, 0.2, 0])
    assert kept[0, 0, 0].tolist() == [0, 1, 0]
    beside = loaded(np.full((4, 4, 4, 4), 102, np.uint8), 0, 0, 1, source="colours")
    atlas.upload(beside, part=BrickPart("colours", (4, 4, 4), alpha=True))
    atlas.refresh()
    seen = atlas.bounds([colours.key])[0]
    assert seen[0, 0, 1].tolist() == pytest.approx([0, 0.4, 0])  # what lies beside it in its gutter
    assert seen[0, 0, 0].tolist() == [0, 0, 0]
    atlas.close()


def test_bounds_leave_nan_out(canvas: Canvas) -> None:
    some, none = np.full((4, 4, 4), 0.25, np.float32), np.full((4, 4, 4), np.nan, np.float32)
    some[1, 2, 3], some[0, 0, 0] = np.nan, np.inf
    atlas = BrickAtlas(2**20)
    tiles = [loaded(some, source="some"), loaded(none, source="none")]
    for tile in tiles:
        atlas.upload(tile, part=BrickPart("part", (4, 4, 4)))
    half, nothing = atlas.bounds([tile.key for tile in tiles])
    assert half[0, 0, 0].tolist() == [0.25, np.inf, 0]  # the first texel is infinite
    assert half[1, 1, 1].tolist() == [0.25, 0.25, 1]
    assert half[0, 0, 1].tolist() == [0.25, 0.25, 1]  # the NaN is of its neighbour, a texel away
    assert half[1, 0, 0].tolist() == [0.25, 0.25, 0]
    assert (nothing == [np.inf, -np.inf, 1]).all()


def test_a_page_grows_and_keeps_what_is_in_it(canvas: Canvas) -> None:
    lattice, arrays = pyramid(RNG.integers(0, 65536, (20, 20, 20)).astype(np.uint16), (4, 4, 4))
    part_bytes = 6**3 * 2
    stage = Alone(lattice, arrays, canvas, atlas=BrickAtlas(125 * part_bytes))
    tiles, sizes = bricks_of(lattice, 0), set()
    for number, tile in enumerate(tiles):
        stage.put([tile])
        sizes.add(stage.atlas.bytes)
        assert len(stage.atlas) == number + 1
    assert len(sizes) > 3
    assert stage.atlas.bytes == stage.atlas.peak_bytes <= stage.atlas.budget_bytes
    assert stage.atlas.evicted == 0
    assert {place.page for place in stage.atlas.where(map(load_key, tiles))} == {0}
    for tile in tiles:
        np.testing.assert_array_equal(slot_of(stage.atlas, load_key(tile)), padded(arrays[0], lattice, tile))


def test_a_reserved_page_need_not_grow(canvas: Canvas) -> None:
    lattice, arrays = pyramid(RNG.integers(0, 65536, (16, 16, 16)).astype(np.uint16), (4, 4, 4))
    stage = VolumeStage(lattice, arrays, canvas)
    texture = stage.atlas.reserve((4, 4, 4), np.uint16, stage.part, 64)
    stage.put_all()
    assert stage.atlas.texture(0) is texture


def test_each_part_has_a_page_and_a_share(canvas: Canvas) -> None:
    data, brick = np.zeros((4, 4, 4), np.uint8), 6**3
    atlas = BrickAtlas(8 * brick)
    atlas.shares = 2
    assert atlas.capacity_tiles((4, 4, 4), np.uint8) == 4
    for number in range(10):
        for part in ("red", "green"):
            assert atlas.upload(loaded(data, number, 0, 0, source=part), part=BrickPart(part, (4, 4, 4)))
    assert len(atlas) == 8
    assert atlas.evicted == 12
    pages = {key.source: atlas.place(key).page for key in atlas.resident}
    assert len(set(pages.values())) == 2
    assert atlas.bytes <= atlas.budget_bytes


def test_full_of_pinned_bricks_says_so(canvas: Canvas) -> None:
    data = np.zeros((4, 4, 4), np.uint8)
    atlas = BrickAtlas(2 * 6**3)
    part = BrickPart("part", (4, 4, 4))
    first, second, third = (loaded(data, number, 0, 0) for number in range(3))
    atlas.upload(first, part=part)
    atlas.upload(second, part=part)
    atlas.pin([first.key, second.key])
    assert atlas.upload(third, part=part) == 0
    atlas.begin_frame()
    assert atlas.upload(third, part=part) > 0
    assert first.key not in atlas


def test_release_and_close_give_textures_back(canvas: Canvas) -> None:
    atlas = BrickAtlas(2**20)
    keep, drop = (loaded(np.zeros((4, 4, 4), np.uint8), source=name) for name in ("keep", "drop"))
    atlas.upload(keep)
    atlas.upload(drop)
    atlas.release("drop")
    assert list(atlas.resident) == [keep.key]
    atlas.close()
    atlas.close()
    assert atlas.bytes == len(atlas) == 0


def test_what_no_texture_can_hold_is_said(canvas: Canvas) -> None:
    with pytest.raises(UsageError, match="larger than this OpenGL's 3-D textures"):
        BrickAtlas().slot_bytes((64, 64, 2047), np.uint8)
    with pytest.raises(GLError, match="float64"):
        BrickAtlas().upload(loaded(np.zeros((4, 4, 4))))
    with pytest.raises(UsageError, match="budget"):
        BrickAtlas(0)


@pytest.mark.parametrize("budget", [10_000, 2**28, 2**32, 2**36])
@pytest.mark.parametrize("edge", [3, 34, 66, 514])
@pytest.mark.parametrize("shares", [1, 3])
def test_pages_stay_within_what_textures_can_be(budget: int, edge: int, shares: int) -> None:
    kind = SlotClass(("uint16", 1), 2, (edge,) * 3, "part")
    book = BrickSlots(budget, 2048, 2**30)
    book.shares = shares
    capacity = book.capacity(kind)
    page = book.reserve(kind, 10**9)
    if capacity == 0:
        assert page is None
        return
    assert page is not None
    assert page.slots == capacity
    assert max(page.shape) <= 2048
    assert page.bytes <= min(2**30, budget // shares)
    # not much of the share is lost to whole layers of slots
    assert (capacity + 1) * kind.bytes > 0.85 * min(2**30, budget // shares, 2048**3 * 2 * 0.5)
