"""The canvas: exact sizes, large frames in parts, alpha, errors that surface, nothing leaked."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from gl_scene import Stage, halves, tiles_of

from octree.pyramid.errors import GLError, UsageError
from octree.pyramid.grid import Region
from octree.render.gl import canvas as canvas_module
from octree.render.gl import platform
from octree.render.gl.canvas import Canvas
from octree.render.gl.library import gl
from octree.render.gl.texture_atlas import Atlas

RNG = np.random.default_rng(5)


class Broken:
    def __init__(self, fault: Any) -> None:
        self.fault = fault

    def draw_part(self, offset_px: Any, size_px: Any) -> None:
        self.fault()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 5), (101, 75), (1023, 3), (8193, 2)])
def test_exact_sizes(canvas: Canvas, size: tuple[int, int]) -> None:
    canvas.background = (1.0, 0.5, 0.0, 1.0)
    canvas.resize(size)
    canvas.draw([])
    frame = canvas.read()
    assert frame.shape == (size[1], size[0], 4)
    assert (frame == [255, 128, 0, 255]).all()


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_no_size_is_refused(canvas: Canvas, size: tuple[int, int]) -> None:
    with pytest.raises(UsageError):
        canvas.resize(size)


def test_the_largest_framebuffer(canvas: Canvas) -> None:
    size = (canvas.info.max_texture_size, 2)
    canvas.resize(size)
    canvas.draw([])
    assert canvas.read().shape == (2, size[0], 4)


def test_a_frame_in_parts_is_the_frame_in_one(canvas: Canvas, monkeypatch: pytest.MonkeyPatch) -> None:
    image = RNG.integers(0, 256, (60, 90)).astype(np.uint8)
    plane, arrays = halves(image, (16, 16), 2)
    options = {"clim": (0, 255), "show_grid": True, "mark_pending": True}
    stage = Stage(plane, arrays, canvas, options=options)
    stage.put(tiles_of(plane, 1))
    stage.put(tile for tile in tiles_of(plane, 0) if sum(tile.grid) % 2)
    view, size = Region((-3.3, 4.1), (58.2, 88.8)), (200, 140)

    def broken(key: Any) -> bool:
        return bool(key.grid == (2, 2))

    whole = stage.frame(view, size, failed=broken).copy()
    assert len(np.unique(whole[..., :3].reshape(-1, 3), axis=0)) > 20
    monkeypatch.setattr(canvas_module, "_MAX_PART_PX", 48)
    canvas.resize((1, 1))
    np.testing.assert_array_equal(stage.frame(view, size, failed=broken), whole)


def test_reading_twice_is_the_same_and_later_draws_do_not_change_it(canvas: Canvas) -> None:
    canvas.draw([])
    first = canvas.read()
    again = canvas.read()
    canvas.background = (1.0, 1.0, 1.0, 1.0)
    canvas.draw([])
    np.testing.assert_array_equal(first, again)
    assert (first[..., 0] == 0).all()
    assert (canvas.read() == 255).all()


def test_transparent_background(canvas: Canvas) -> None:
    canvas.background = (0.6, 0.2, 0.0, 0.5)
    canvas.draw([])
    # frames are premultiplied, so colours lose a bit where alpha is low
    assert np.abs(canvas.read()[0, 0].astype(int) - [153, 51, 0, 128]).max() <= 2


def test_an_exception_in_a_visual_surfaces(canvas: Canvas) -> None:
    def fault() -> None:
        raise RuntimeError("shader is broken")

    with pytest.raises(GLError, match="shader is broken"):
        canvas.draw([Broken(fault)])
    canvas.draw([])  # and the canvas is usable again
    assert (canvas.read()[..., 3] == 255).all()


def test_a_gl_error_in_any_call_surfaces(canvas: Canvas) -> None:
    with pytest.raises(GLError, match="invalid enum"):
        canvas.draw([Broken(lambda: gl.glEnable(0xDEAD))])
    canvas.draw([])


def test_a_closed_canvas_says_so(gl_info: Any) -> None:
    canvas = Canvas((4, 4), gl="osmesa")
    canvas.close()
    canvas.close()
    with pytest.raises(GLError, match="closed"):
        canvas.draw([])
    with pytest.raises(GLError, match="closed"):
        canvas.read()


def live_objects() -> int:
    """OpenGL objects that vispy keeps for the context."""
    context = platform.context_canvas().context
    context.flush_commands()
    return sum(ob != "JUST_DELETED" for ob in context.shared.parser._objects.values())


def test_hundreds_of_canvases_leave_nothing_behind(gl_info: Any) -> None:
    image = RNG.integers(0, 256, (40, 40)).astype(np.uint8)
    plane, arrays = halves(image, (16, 16), 1)

    def once() -> None:
        with Canvas((20, 20), gl="osmesa") as canvas:
            atlas = Atlas(page_px=64, slot_px=16)
            stage = Stage(plane, arrays, canvas, atlas=atlas, options={"colormap": "viridis"})
            stage.put(tiles_of(plane, 0))
            stage.visual.show_grid = True
            stage.frame(Region((0, 0), (20, 20)), (20, 20))
            atlas.close()

    once()
    gc.collect()
    before = live_objects()
    for _ in range(5):
        once()
    gc.collect()
    assert live_objects() == before
    for _ in range(300):
        Canvas((8, 8), gl="osmesa").close()
    gc.collect()
    assert live_objects() == before


def test_shaders_are_ascii() -> None:
    """vispy tells OpenGL their length in characters, not bytes: anything else is cut off."""
    from importlib.resources import files

    rooms = [files("octree.render.gl"), files("octree.render.gl.volume")]
    shaders = [file for room in rooms for file in room.iterdir() if file.name.endswith((".vert", ".frag"))]
    assert len(shaders) >= 7
    assert all(file.read_text("utf-8").isascii() for file in shaders)
