"""What is drawn, against the slow renderer; each comparison has seen its negative control fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gl_scene import Stage, difference, halves, tiles_of, view_at
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference import render, window

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.gl.canvas import Canvas
from octree.render.gl.colored import ColoredVisual
from octree.render.gl.texture_atlas import Atlas

RNG = np.random.default_rng(7)
SHAPE = (83, 117)
IMAGE = RNG.integers(0, 65536, SHAPE).astype(np.uint16)
CLIM = (0.0, 65535.0)


def gray(value: Any) -> Any:
    return (float(window(value, CLIM)),) * 3


def full_stage(
    canvas: Canvas, levels: int = 1, tile: int = 16, *, gutters: bool = True, **options: Any
) -> Stage:
    plane, arrays = halves(IMAGE, (tile, tile), levels)
    atlas = Atlas(64 * 2**20, page_px=1024, gutters=gutters)
    stage = Stage(plane, arrays, canvas, atlas=atlas, options={"clim": CLIM, **options})
    for level in range(levels):
        stage.put(tiles_of(plane, level))
    return stage


def expected(stage: Stage, view: Region, size: tuple[int, int], level: int = 0, **options: Any) -> Any:
    return render(
        stage.arrays[level], stage.lattice.levels[level], stage.lattice.extent, view, size, gray, **options
    )


CAMERAS = [
    (41.5, 58.5, 1.0, (64, 48)),  # texel centres on pixel centres
    (41.0, 58.0, 1.0, (63, 47)),  # pixel centres on texel edges: the rule decides
    (41.0, 58.0, 2.0, (64, 48)),
    (40.0, 60.0, 7.3, (64, 48)),
    (16.0, 16.0, 40.0, (64, 48)),  # a corner of four tiles, close
    (41.0, 58.0, 0.7, (64, 48)),
    (0.0, 0.0, 1.5, (64, 48)),  # the corner of the image in the middle
    (83.0, 117.0, 3.0, (33, 31)),
    (41.5, 58.5, 1 / 3, (64, 48)),
]


@pytest.mark.parametrize("gutters", [True, False])
@pytest.mark.parametrize(("y", "x", "zoom", "size"), CAMERAS)
def test_nearest_is_the_texel_under_each_centre(
    canvas: Canvas, y: float, x: float, zoom: float, size: tuple[int, int], gutters: bool
) -> None:
    stage = full_stage(canvas, gutters=gutters)
    view = view_at(y, x, zoom, size)
    frame = stage.frame(view, size)
    assert difference(frame, expected(stage, view, size)) == 0
    assert (frame[..., 3] == 255).all()


@pytest.mark.parametrize("zoom", [5000.0, 10_000.0, 123_456.7])
@pytest.mark.parametrize("x", [100.0, 110.003, 116.9991])
def test_nearest_at_the_highest_zooms(canvas: Canvas, x: float, zoom: float) -> None:
    """A texel's edge in the frame, far from the corner of a large tile."""
    stage, size = full_stage(canvas, tile=128), (200, 3)
    for offset_px in np.linspace(-90, 90, 13):
        view = view_at(80.7, x + offset_px / zoom, zoom, size)
        assert difference(stage.frame(view, size), expected(stage, view, size)) == 0


@pytest.mark.parametrize(("y", "x", "zoom", "size"), CAMERAS)
def test_linear_is_bilinear_of_the_whole_level(
    canvas: Canvas, y: float, x: float, zoom: float, size: tuple[int, int]
) -> None:
    stage = full_stage(canvas, interpolation="linear")
    view = view_at(y, x, zoom, size)
    if zoom < 0.5:  # more than two texels per pixel: softer at tile borders, so tiles as large as the image
        stage = full_stage(canvas, tile=128, interpolation="linear")
    wanted = expected(stage, view, size, interpolation="linear")
    assert difference(stage.frame(view, size), wanted) <= 1


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    y=st.floats(-10, 95),
    x=st.floats(-10, 125),
    zoom=st.floats(0.4, 60),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
)
def test_nearest_for_random_cameras(
    canvas: Canvas, y: float, x: float, zoom: float, width: int, height: int
) -> None:
    """Unless pixel centres come within 5e-5 texels of both edges of texels: beyond float32 in any rasteriser."""
    stage = full_stage(canvas)
    view = view_at(y, x, zoom, (width, height))
    for low, high, count in ((view.y0, view.y1, height), (view.x0, view.x1, width)):
        parts = (low + (np.arange(count) + 0.5) * (high - low) / count + 1e-7) % 1
        assume(1 - np.ptp(parts) > 1e-4)
    frame = stage.frame(view, (width, height))
    assert difference(frame, expected(stage, view, (width, height))) == 0


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_drivers_without_gpu_shader4_draw_the_same(
    canvas: Canvas, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [(view_at(y, x, zoom, size), size) for y, x, zoom, size in CAMERAS]
    stage = full_stage(canvas, interpolation=interpolation)
    frames = [stage.frame(view, size) for view, size in views]
    sources, seen = ColoredVisual._sources, []

    def without(self: ColoredVisual) -> tuple[str, str]:
        vertex, fragment = (s.replace("GL_EXT_gpu_shader4", "GL_EXT_no_such") for s in sources(self))
        seen.append(fragment)
        return vertex, fragment

    monkeypatch.setattr(ColoredVisual, "_sources", without)
    stage = full_stage(canvas, interpolation=interpolation)
    for frame, (view, size) in zip(frames, views, strict=True):
        assert difference(stage.frame(view, size), frame) == 0
    assert seen
    assert all("gpu_shader4" not in source for source in seen)


def test_negative_controls(canvas: Canvas) -> None:
    """The comparison notices a shift of one texel, a swapped tile and a level too coarse."""
    size = (64, 48)
    view = view_at(41.0, 58.0, 1.0, size)
    stage = full_stage(canvas, levels=2)
    right = expected(stage, view, size)
    shifted = Region((view.y0, view.x0 + 1), (view.y1, view.x1 + 1))
    assert difference(stage.frame(shifted, size), right) > 3
    assert difference(stage.frame(view, size, level=1), right) > 3

    swapped = full_stage(canvas)
    a, b = TileKey(0, (), (2, 3)), TileKey(0, (), (3, 2))
    spots = {a: swapped.pixels(b), b: swapped.pixels(a)}
    fresh = Stage(swapped.lattice, swapped.arrays, canvas, options={"clim": CLIM})
    pixels = fresh.pixels
    fresh.pixels = lambda tile: spots.get(tile, pixels(tile))  # type: ignore[method-assign] # the fault
    fresh.put(tiles_of(fresh.lattice, 0))
    assert difference(fresh.frame(view, size), right) > 3


def test_stand_ins_show_their_own_level(canvas: Canvas) -> None:
    """Half the ideal tiles are there; the rest comes from level 1, pixel by pixel."""
    plane, arrays = halves(IMAGE, (16, 16), 2)
    stage = Stage(plane, arrays, canvas, options={"clim": CLIM})
    stage.put(tiles_of(plane, 1))
    stage.put(tile for tile in tiles_of(plane, 0) if sum(tile.grid) % 2)
    size = (64, 48)
    view = view_at(41.3, 58.7, 1.3, size)
    frame = stage.frame(view, size)
    fine, coarse = expected(stage, view, size), expected(stage, view, size, level=1)
    ys = np.floor((view.y0 + (np.arange(48) + 0.5) / 1.3) / 16)
    xs = np.floor((view.x0 + (np.arange(64) + 0.5) / 1.3) / 16)
    odd = (ys[:, None] + xs) % 2 == 1
    assert difference(frame, np.where(odd[..., None], fine, coarse)) == 0


@pytest.mark.parametrize("blending", ["translucent", "additive"])
def test_no_pixel_is_blended_twice_while_loading(canvas: Canvas, blending: str) -> None:
    flat = np.full(SHAPE, 40000, np.uint16)
    plane, arrays = halves(flat, (16, 16), 3)
    stage = Stage(plane, arrays, canvas, options={"clim": CLIM, "opacity": 0.5, "blending": blending})
    stage.put(tiles_of(plane, 2))
    stage.put(tile for tile in tiles_of(plane, 1) if sum(tile.grid) % 2)
    stage.put(tile for tile in tiles_of(plane, 0) if sum(tile.grid) % 3 == 0)
    frame = stage.frame(view_at(41.2, 58.3, 1.7, (64, 48)), (64, 48))
    seen = np.unique(frame[..., :3])
    assert len(seen) == 1
    assert abs(int(seen[0]) - 40000 / 65535 * 0.5 * 255) <= 1


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize(
    "count", [pytest.param(100, id="hundred"), pytest.param(1000, id="thousand", marks=pytest.mark.slow)]
)
def test_watertight(canvas: Canvas, interpolation: str, count: int) -> None:
    """No background along any edge, settled and while loading, for random cameras."""
    white = np.full((300, 400), 255, np.uint8)
    plane, arrays = halves(white, (16, 16), 3)
    stage = Stage(plane, arrays, canvas, options={"clim": (0, 255), "interpolation": interpolation})
    stage.put(tiles_of(plane, 2))
    stage.put(tile for tile in tiles_of(plane, 1) if sum(tile.grid) % 2)
    stage.put(tile for tile in tiles_of(plane, 0) if sum(tile.grid) % 3 == 0)
    random = np.random.default_rng(count)
    for number in range(count):
        zoom = float(np.exp(random.uniform(np.log(0.6), np.log(20))))
        y, x = random.uniform((60, 70), (240, 330))
        frame = stage.frame(view_at(y, x, zoom, (48, 32)), (48, 32), level=number % 3)
        assert (frame == 255).all(), (y, x, zoom, number % 3)


@pytest.mark.parametrize("far", [2**24, 2**31])
def test_a_checkerboard_far_from_the_origin(canvas: Canvas, far: int) -> None:
    """float32 cannot tell these pixels apart; the frame must."""
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    level = LatticeLevel((far + 32, far + 32), (32, 32), (1.0, 1.0), (0.0, 0.0))
    stage = Stage(Lattice((level,)), [board], canvas, options={"clim": (0, 255)})
    stage.pixels = lambda _tile: board  # type: ignore[method-assign] # every tile is this board
    tile = far // 32
    stage.put(TileKey(0, (), (tile + dy, tile + dx)) for dy in (-1, 0) for dx in (-1, 0))
    for zoom in (1.0, 2.0, 3.0):
        size = (40, 40)
        frame = stage.frame(view_at(far, far, zoom, size), size)
        at = np.floor((np.arange(40) + 0.5 - 20) / zoom).astype(int)
        wanted = (at[:, None] + at) % 2 * 255
        np.testing.assert_array_equal(frame[..., 0], wanted)


def test_minified_linear_does_not_sparkle(canvas: Canvas) -> None:
    """A board of single texels, 1.9 to a pixel, is an even gray to a few per cent; nearest is noise."""
    board = (np.indices(SHAPE).sum(0) % 2 * 255).astype(np.uint8)
    plane, arrays = halves(board, (16, 16), 1)
    spread = {}
    for interpolation in ("nearest", "linear"):
        stage = Stage(plane, arrays, canvas, options={"clim": (0, 255), "interpolation": interpolation})
        stage.put(tiles_of(plane, 0))
        frame = stage.frame(view_at(41.3, 58.2, 1 / 1.9, (30, 24)), (30, 24))
        spread[interpolation] = np.ptp(frame[..., 0].astype(int))
    assert spread["nearest"] == 255
    assert spread["linear"] < 8
