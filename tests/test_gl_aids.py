"""Aids: tile borders, marks on what is not ideal, failures, the overview. All off unless asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gl_scene import Stage, halves, tiles_of

from octree.pyramid.grid import Region
from octree.render.gl.canvas import Canvas
from octree.render.gl.marks import PLAIN, Area, MarksVisual, level_color
from octree.render.view.cover import rows_of

IMAGE = np.full((96, 128), 100, np.uint8)
VIEW = Region((0, 0), (96, 128))
SIZE = (256, 192)


def stage_with(canvas: Canvas, *levels: int, **options: Any) -> Stage:
    plane, arrays = halves(IMAGE, (32, 32), 3)
    stage = Stage(plane, arrays, canvas, options={"clim": (0, 255), **options})
    for level in levels:
        stage.put(tiles_of(plane, level))
    return stage


def colors_in(frame: Any) -> set[tuple[int, int, int]]:
    return {tuple(color) for color in frame[..., :3].reshape(-1, 3).tolist()}


def test_no_aid_unless_asked_for(canvas: Canvas) -> None:
    """A screenshot has no red lines in it (and no other)."""
    assert colors_in(stage_with(canvas, 0).frame(VIEW, SIZE)) == {(100, 100, 100)}
    assert colors_in(stage_with(canvas, 2).frame(VIEW, SIZE)) == {(100, 100, 100)}


def test_the_grid_follows_the_tiles(canvas: Canvas) -> None:
    frame = stage_with(canvas, 0, show_grid=True).frame(VIEW, SIZE)
    red = (frame[..., :3] == [255, 0, 0]).all(axis=2)
    assert red[:, 62:66].any(axis=1).all()
    assert red[62:66].any(axis=0).all()
    assert not red[5:60, 5:60].any()
    assert level_color(0) == (1.0, 0.0, 0.0)


def test_the_grid_tells_levels_apart(canvas: Canvas) -> None:
    stage = stage_with(canvas, 1, show_grid=True)
    stage.put(tiles_of(stage.lattice, 0)[:1])
    seen = colors_in(stage.frame(VIEW, SIZE))
    assert (255, 0, 0) in seen
    assert len(seen) == 3


@pytest.mark.parametrize("level", [0, 1])
def test_whatever_is_not_ideal_is_hatched(canvas: Canvas, level: int) -> None:
    """Stand-ins and holes alike, so that nobody takes blur for data."""
    stage = stage_with(canvas, mark_pending=True)
    stage.put(tiles_of(stage.lattice, 0)[:1])  # the upper left tile is ideal
    if level == 1:
        stage.put(tiles_of(stage.lattice, 1))
    frame = stage.frame(VIEW, SIZE)
    hatch = (frame[..., :3] == [255, 191, 0]).all(axis=2)
    assert not hatch[:64, :64].any()
    rest = hatch[64:, 64:]
    assert 0.1 < rest.mean() < 0.25
    assert rest.any(axis=0).all()
    assert rest.any(axis=1).all()


def test_a_failed_tile_is_a_pattern_not_a_picture(canvas: Canvas) -> None:
    stage = stage_with(canvas, 1)
    stage.put(tiles_of(stage.lattice, 0)[1:])
    frame = stage.frame(VIEW, SIZE, failed=lambda tile: tile.grid == (0, 0))
    broken = frame[:64, :64, :3]
    assert colors_in(broken) == {(255, 51, 51), (51, 10, 10)}
    assert colors_in(frame[64:]) == {(100, 100, 100)}


def test_only_failures_to_show(canvas: Canvas) -> None:
    """No tile at all, nothing in the atlas: the pattern still comes."""
    frame = stage_with(canvas).frame(VIEW, SIZE, failed=lambda _tile: True)
    assert colors_in(frame) == {(255, 51, 51), (51, 10, 10)}


def test_marks_go_when_the_cause_goes(canvas: Canvas) -> None:
    stage = stage_with(canvas, 0, show_grid=True)
    assert len(colors_in(stage.frame(VIEW, SIZE))) > 1
    stage.visual.show_grid = False
    assert colors_in(stage.frame(VIEW, SIZE)) == {(100, 100, 100)}


def test_opacity_holds_for_patterns(canvas: Canvas) -> None:
    frame = stage_with(canvas, opacity=0.5).frame(VIEW, SIZE, failed=lambda _tile: True)
    assert (128, 26, 26) in colors_in(frame)


@pytest.mark.parametrize("far", [0, 2**30])
def test_aids_lie_on_the_image_under_a_camera_of_vispy(gl_info: Any, far: int) -> None:
    """The transform is that of the moment, and exact where float32 would be 64 pixels off."""
    from vispy import gloo, scene
    from vispy.visuals.transforms import MatrixTransform

    area = Region((far + 10, far + 20), (far + 30, far + 60))
    with scene.SceneCanvas(size=(100, 80), show=False) as canvas:
        canvas.set_current()
        marks = MarksVisual()
        marks.transforms.canvas = canvas
        marks.set_marks([Area(rows_of([area]), (1.0, 0.0, 0.0), PLAIN)], np.zeros((0, 4)), (), None)
        for shift in (0, 7):
            place = MatrixTransform(np.eye(4))
            place.translate((-far - shift - 50, -far - 40, 0))
            place.scale((1 / 50, 1 / 40, 1))
            marks.transforms.visual_transform = place
            target = gloo.FrameBuffer(gloo.RenderBuffer((80, 100)))
            with target:
                gloo.set_viewport(0, 0, 100, 80)
                gloo.clear("black")
                marks.draw()
                seen = gloo.read_pixels((0, 0, 100, 80))[::-1, :, 0] > 0
            rows, cols = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
            assert (rows[0], rows[-1] + 1, cols[0], cols[-1] + 1) == (10, 30, 20 - shift, 60 - shift)
