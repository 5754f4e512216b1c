"""The atlas with OpenGL: formats, gutters, budgets, one texture call per tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gl_scene import Stage, difference, halves, load_key, tiles_of, view_at
from reference import render, window

from octree.pyramid.errors import GLError, UsageError
from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.gl.canvas import Canvas
from octree.render.gl.colors import TABLE_SIZE
from octree.render.gl.library import gl
from octree.render.gl.texture_atlas import FORMATS, Atlas
from octree.render.loading.values import LoadedTile, LoadKey

RNG = np.random.default_rng(3)
SIZE = (64, 48)


def loaded(data: Any, row: int = 0, col: int = 0, source: str = "source") -> LoadedTile:
    return LoadedTile(LoadKey(source, 0, TileKey(0, (), (row, col))), data, data.nbytes, 0.0)


def texels(atlas: Atlas, page: int) -> Any:
    """The whole page as OpenGL holds it, (h, w), one uint16 each."""
    import ctypes

    from octree.render.gl import library

    texture = atlas.texture(page)
    out = np.zeros(texture.shape[:2], np.uint16)
    gl.glBindTexture(gl.GL_TEXTURE_2D, texture._handle)
    gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)
    read = library._gl2._lib.glGetTexImage
    read(gl.GL_TEXTURE_2D, 0, 0x1903, gl.GL_UNSIGNED_SHORT, ctypes.c_void_p(out.ctypes.data))
    return out


@pytest.fixture
def texture_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Shapes given to glTexSubImage2D."""
    from octree.render.gl import page

    seen: list[tuple[int, int]] = []
    real = page.gl.glTexSubImage2D

    def spy(*args: Any) -> None:
        seen.append(args[-1].shape[:2])
        real(*args)

    monkeypatch.setattr(page.gl, "glTexSubImage2D", spy)
    return seen


@pytest.mark.parametrize(("dtype", "samples"), FORMATS)
def test_every_format_shows_its_values(canvas: Canvas, dtype: str, samples: int) -> None:
    shape = (20, 30, samples) if samples > 1 else (20, 30)
    high = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    data = (RNG.random(shape) * high).astype(dtype)
    plane = Lattice((LatticeLevel((20, 30), (16, 16), (1.0, 1.0), (0.0, 0.0)),))
    stage = Stage(plane, [data], canvas, options={"clim": (0.0, high), "rgb": samples > 1})
    stage.put(tiles_of(plane, 0))
    view = Region((-2, -3), (22, 33))

    def color(value: Any) -> Any:
        value = np.atleast_1d(value) / high
        if samples == 1:
            return (value[0],) * 3
        return (*(value[0],) * 3, value[1]) if samples == 2 else value

    frame = stage.frame(view, (72, 48))
    assert difference(frame, render(data, plane.levels[0], plane.extent, view, (72, 48), color)) <= 1


def test_an_unknown_format_is_said(canvas: Canvas) -> None:
    with pytest.raises(GLError, match="float64"):
        Atlas().upload(loaded(np.zeros((4, 4), np.float64)))


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
def test_gutters_are_the_neighbours_in_any_order(canvas: Canvas, order: str) -> None:
    image = RNG.integers(0, 65536, (40, 55)).astype(np.uint16)
    plane, arrays = halves(image, (16, 16), 1)
    stage = Stage(plane, arrays, canvas)
    tiles = tiles_of(plane, 0)
    if order == "backward":
        tiles.reverse()
    elif order == "shuffled":
        tiles = [tiles[i] for i in RNG.permutation(len(tiles))]
    stage.put(tiles)
    around = np.pad(image, 1, "edge")
    for tile in tiles:
        place = stage.atlas.place(load_key(tile))
        page = texels(stage.atlas, place.page)
        row, col = (16 * number for number in tile.grid)
        np.testing.assert_array_equal(
            page[place.y - 1 : place.y + place.height + 1, place.x - 1 : place.x + place.width + 1],
            around[row : row + place.height + 2, col : col + place.width + 2],
        )


def test_gutters_come_from_memory_too(canvas: Canvas) -> None:
    """A neighbour that is loaded but not resident fills the gutter, before it is uploaded itself."""
    image = RNG.integers(0, 65536, (48, 48)).astype(np.uint16)
    atlas = Atlas(page_px=512)
    tile = loaded(np.ascontiguousarray(image[16:32, 16:32]), 1, 1)

    def neighbour(drow: int, dcol: int) -> Any:
        return image[16 * (1 + drow) : 16 * (2 + drow), 16 * (1 + dcol) : 16 * (2 + dcol)]

    atlas.upload(tile, neighbour)
    place = atlas.place(tile.key)
    page = texels(atlas, place.page)
    np.testing.assert_array_equal(
        page[place.y - 1 : place.y + 17, place.x - 1 : place.x + 17], image[15:33, 15:33]
    )


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_garbage_in_the_atlas_never_shows(canvas: Canvas, interpolation: str) -> None:
    """Slots keep what was in them: full bright tiles first, then smaller dark ones in the same places."""
    dark = RNG.integers(0, 1000, (43, 59)).astype(np.uint16)
    plane, arrays = halves(dark, (16, 16), 1)
    stage = Stage(
        plane,
        arrays,
        canvas,
        atlas=Atlas(64 * 2**20, slot_px=16, page_px=256),
        options={"clim": (0, 1000), "interpolation": interpolation},
    )
    bright = np.full((16, 16), 65535, np.uint16)
    for number in range(400):
        stage.atlas.upload(loaded(bright, number, 0, "garbage"))
    stage.atlas._remove([key for key in stage.atlas._tiles if key.tile.grid[0] % 2])
    stage.put(tiles_of(plane, 0))
    view = view_at(21.7, 30.1, 1.4, (80, 60))
    frame = stage.frame(view, (80, 60))
    wanted = render(
        dark,
        plane.levels[0],
        plane.extent,
        view,
        (80, 60),
        lambda value: (float(window(value, (0, 1000))),) * 3,
        interpolation=interpolation,
    )
    assert difference(frame, wanted) <= 1


def test_one_texture_call_per_tile(canvas: Canvas, texture_calls: list[tuple[int, int]]) -> None:
    image = RNG.integers(0, 65536, (64, 64)).astype(np.uint16)
    plane, arrays = halves(image, (16, 16), 1)
    stage = Stage(plane, arrays, canvas)
    stage.put(tiles_of(plane, 0))
    assert texture_calls.count((18, 18)) == 16 == stage.atlas.uploads
    assert len(texture_calls) - 16 == stage.atlas.patches
    assert all(min(shape) == 1 for shape in texture_calls if shape != (18, 18))


def test_bytes_of_an_upload(canvas: Canvas) -> None:
    atlas = Atlas(page_px=512)
    tile = loaded(np.zeros((16, 20), np.uint16))
    assert atlas.upload(tile) == 18 * 22 * 2
    assert atlas.upload(tile) == 0  # it is there
    assert tile.key in atlas
    assert atlas.uploads == 1


def test_colours_upload_nothing_and_build_nothing(
    canvas: Canvas, texture_calls: list[tuple[int, int]]
) -> None:
    image = RNG.integers(0, 65536, (64, 64)).astype(np.uint16)
    plane, arrays = halves(image, (16, 16), 1)
    stage = Stage(plane, arrays, canvas, options={"clim": (0, 65535), "colormap": "viridis"})
    stage.put(tiles_of(plane, 0))
    view = Region((0, 0), (48, 64))
    frames = [stage.frame(view, SIZE)]
    builds = stage.visual.shader_builds
    texture_calls.clear()
    for change in (
        {"clim": (1000, 20000)},
        {"gamma": 0.5},
        {"colormap": "red"},
        {"opacity": 0.3},
        {"colormap": "gray"},
    ):
        for name, value in change.items():
            setattr(stage.visual, name, value)
        frames.append(stage.frame(view, SIZE))
        assert difference(frames[-1], frames[-2]) > 3, change
    assert set(texture_calls) <= {(1, TABLE_SIZE)}  # the colour table: no texels
    assert stage.visual.shader_builds == builds == 1


def test_tiles_come_and_go_without_new_shaders(canvas: Canvas) -> None:
    image = RNG.integers(0, 65536, (128, 128)).astype(np.uint16)
    plane, arrays = halves(image, (16, 16), 3)
    stage = Stage(plane, arrays, canvas, options={"clim": (0, 65535)})
    for number, tile in enumerate([t for level in (2, 1, 0) for t in tiles_of(plane, level)]):
        stage.put([tile])
        stage.frame(view_at(number % 128, 60, 1.0, SIZE), SIZE)
    assert stage.visual.shader_builds == 1


def test_a_new_shader_after_all_textures_went(canvas: Canvas) -> None:
    """The program still knows a texture that is gone when it is built again."""
    image = RNG.integers(0, 256, (64, 64)).astype(np.uint8)
    plane, arrays = halves(image, (16, 16), 1)
    stage = Stage(plane, arrays, canvas, options={"clim": (0, 255)})
    for interpolation in ("nearest", "linear", "nearest"):
        stage.put(tiles_of(plane, 0))
        stage.visual.interpolation = interpolation
        frame = stage.frame(Region((0, 0), (48, 64)), SIZE)
        np.testing.assert_array_equal(frame[..., 0], image[:48])
        stage.atlas.clear()
        canvas.draw([])


def test_full_of_pinned_tiles_says_so(canvas: Canvas) -> None:
    data = np.zeros((16, 16), np.uint8)
    atlas = Atlas(2 * 18 * 18, slot_px=16)
    assert atlas.capacity_tiles((16, 16), np.uint8) == 2
    first, second, third = (loaded(data, row) for row in range(3))
    atlas.upload(first)
    atlas.upload(second)
    atlas.pin([first.key, second.key])
    assert atlas.upload(third) == 0
    assert third.key not in atlas
    atlas.begin_frame()
    assert atlas.upload(third) > 0
    assert first.key not in atlas
    assert atlas.evicted == 1
    assert atlas.bytes <= atlas.budget_bytes


def test_mixed_tile_sizes_and_formats_in_one_atlas(canvas: Canvas) -> None:
    """Sizes changed on the fly, one large root tile, several pages: all are drawn right."""
    atlas = Atlas(64 * 2**20, page_px=300)
    view = Region((0, 0), (96, 128))
    for tile, dtype in ((16, np.uint8), (100, np.uint16), (256, np.float32), (33, np.uint8)):
        high = 1.0 if dtype is np.float32 else float(np.iinfo(dtype).max)
        image = (RNG.random((210, 260)) * high).astype(dtype)
        plane, arrays = halves(image, (tile, tile), 1)
        stage = Stage(plane, arrays, canvas, atlas=atlas, options={"clim": (0.0, high)})
        atlas.release("source")
        atlas.slot_px = min(tile, 64)
        atlas.page_px = 100 + 3 * tile
        stage.put(tiles_of(plane, 0))
        wanted = np.rint(np.repeat(image[:96, :128, None].astype(float) / high, 3, 2) * 255)
        assert difference(stage.frame(view, (128, 96)), wanted) <= 1


def test_a_root_of_4096_pixels_is_one_tile(canvas: Canvas) -> None:
    image = RNG.integers(0, 256, (4096, 4096)).astype(np.uint8)
    plane = Lattice((LatticeLevel((4096, 4096), (4096, 4096), (1.0, 1.0), (0.0, 0.0)),))
    stage = Stage(plane, [image], canvas, atlas=Atlas(), options={"clim": (0, 255)})
    assert stage.atlas.capacity_tiles((4096, 4096), np.uint8) > 1
    assert stage.put(tiles_of(plane, 0)) == 4098**2
    frame = stage.frame(Region((4048, 4032), (4096, 4096)), SIZE)
    np.testing.assert_array_equal(frame[..., 0], image[4048:, 4032:])


def test_release_and_close_give_textures_back(canvas: Canvas) -> None:
    data = np.zeros((16, 16), np.uint8)
    atlas = Atlas(page_px=512)
    keep, drop = loaded(data, source="keep"), loaded(data, source="drop")
    atlas.upload(keep)
    atlas.upload(drop)
    atlas.release("drop")
    assert keep.key in atlas
    assert drop.key not in atlas
    assert atlas.bytes > 0
    atlas.close()
    atlas.close()
    assert atlas.bytes == len(atlas) == 0


def test_resize_shrinks_at_once(canvas: Canvas) -> None:
    data = np.zeros((16, 16), np.uint8)
    atlas = Atlas(10 * 18 * 18, slot_px=16, page_px=40)
    tiles = [loaded(data, row) for row in range(10)]
    for tile in tiles:
        atlas.upload(tile)
    atlas.resize(4 * 18 * 18)
    assert atlas.bytes <= 4 * 18 * 18
    assert tiles[-1].key in atlas
    assert tiles[0].key not in atlas


def test_a_budget_that_pins_stood_against_is_kept_from_the_next_frame(canvas: Canvas) -> None:
    tile = loaded(np.zeros((16, 16), np.uint8))
    atlas = Atlas(10 * 18 * 18, slot_px=16, page_px=40)
    atlas.upload(tile)
    atlas.pin([tile.key])
    atlas.resize(18 * 18)
    assert tile.key in atlas
    atlas.begin_frame()
    assert atlas.bytes <= 18 * 18


@pytest.mark.parametrize("arguments", [(1, 0, 4096), (1, 256, 0)])
def test_senseless_sizes_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError):
        Atlas(*arguments)
