"""The box around a volume, its ticks and axes mark, and outlines of failed bricks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gl_volume import VolumeStage, look_at, pyramid

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.render.gl import canvas as canvas_module
from octree.render.gl.canvas import Canvas
from octree.render.gl.volume.box import (
    AXIS_COLORS,
    EDGE_COLOR,
    FAINT,
    TICK_PX,
    BoxVisual,
    box_lines,
    nice_step,
    project,
)

SIZE = (200, 160)
LATTICE = Lattice((LatticeLevel((40, 60, 100), (64, 64, 64), (1.0,) * 3, (0.0,) * 3),))


def segments(lines: Any, color: tuple[float, ...]) -> Any:
    """Lines of a colour that are no ticks or strokes of letters."""
    own = (lines.colors[:, :3] == color).all(axis=1)
    long = np.hypot(*(lines.ends[:, 1] - lines.ends[:, 0]).T) > 3 * TICK_PX
    return lines.ends[own & long]


def test_the_outline_is_where_the_plane_view_has_the_image() -> None:
    sight = look_at(LATTICE, SIZE, zoom=1.5)
    x, y, z = (segments(box_lines(sight), color) for color in AXIS_COLORS)
    np.testing.assert_allclose(x, [[[25, 35], [175, 35]]])
    np.testing.assert_allclose(y, [[[25, 35], [25, 125]]])
    assert not len(z)  # it is looked along
    turned = look_at(LATTICE, SIZE, 90, zoom=1.5)  # the camera goes to the right: its left is near, z = 0
    (z,) = segments(box_lines(turned), AXIS_COLORS[2])
    np.testing.assert_allclose(z, [[70, 35], [130, 35]], atol=1e-9)


@pytest.mark.parametrize("fov", [0.0, 45.0])
def test_edges_that_the_box_hides_are_faint(fov: float) -> None:
    lines = box_lines(look_at(LATTICE, SIZE, 30, 20, zoom=1.0, fov=fov))
    faint = lines.ends[lines.colors[:, 3] == FAINT]
    long = np.hypot(*(faint[:, 1] - faint[:, 0]).T) > 3 * TICK_PX
    assert long.sum() == 3
    corners = np.unique(faint[long].round(6).reshape(-1, 2), axis=0, return_counts=True)
    assert sorted(corners[1].tolist()) == [1, 1, 1, 3]  # they meet in the corner that is farthest away


def test_from_within_every_edge_in_front_of_the_eye_shows() -> None:
    sight = look_at(LATTICE, SIZE, 30, 20, zoom=8.0, fov=60)
    lines = box_lines(sight)
    assert len(lines.ends) > 3
    assert np.isfinite(lines.ends).all()
    assert (lines.colors[:, 3] == 1).all()


@pytest.mark.parametrize(
    ("least", "step"), [(1.0, 1.0), (1.1, 2.0), (2.0, 2.0), (3.0, 5.0), (7.0, 10.0), (0.03, 0.05), (200, 200)]
)
def test_ticks_are_at_round_numbers(least: float, step: float) -> None:
    assert nice_step(least) == pytest.approx(step)


def test_ticks_lie_outside_and_apart() -> None:
    sight = look_at(LATTICE, SIZE, zoom=1.5)
    lines = box_lines(sight)
    red = lines.ends[(lines.colors[:, :3] == AXIS_COLORS[0]).all(axis=1)]
    ticks = red[(red[:, 0, 0] == red[:, 1, 0]) & (red[:, 0, 1] == 35)]
    # 40 pixels are 27 voxels: every 50th; none on the way into the box
    np.testing.assert_allclose(ticks[:, 0, 0], [25, 100, 175])
    np.testing.assert_allclose(ticks[:, 1, 1], 35 - TICK_PX)


@pytest.mark.parametrize("azimuth", [0, 180])
def test_letters_of_corners_in_the_frame_are_in_it(azimuth: int) -> None:
    lines = box_lines(look_at(LATTICE, SIZE, azimuth, zoom=1.95))  # 195 of 200 pixels
    strokes = lines.ends[lines.widths == 1.5]
    assert len(strokes) == 5  # X and Y; z is looked along
    assert (strokes >= 0).all()
    assert (strokes <= SIZE).all()


def test_only_what_is_shown_is_framed() -> None:
    clip = Region((0.0, 10.0, 20.0), (40.0, 50.0, 60.0))
    sight = look_at(LATTICE, SIZE, zoom=1.0, clip=clip)
    ends = segments(box_lines(sight), EDGE_COLOR).reshape(-1, 2)
    low = project(sight, sight.world(np.array([[20.0, 10.0, 0.0], [60.0, 50.0, 40.0]])))
    np.testing.assert_allclose([ends.min(axis=0), ends.max(axis=0)], low)
    nowhere = look_at(LATTICE, SIZE, clip=Region((50.0,) * 3, (60.0,) * 3))
    assert not len(box_lines(nowhere, [clip]).ends)


def test_failed_bricks_have_outlines(canvas: Canvas) -> None:
    lattice, arrays = pyramid(np.full((16, 16, 16), 200, np.uint8), (8, 8, 8))
    stage = VolumeStage(lattice, arrays, canvas, options={"clim": (0, 255)}).put_all()
    sight = look_at(lattice, (64, 64), zoom=3)
    stage.frame(sight)
    box = BoxVisual(show_box=False)
    box.set_box(sight, [Region((0.0, 0.0, 0.0), (8.0, 8.0, 8.0))])
    canvas.draw([stage.visual, box])
    red = (canvas.read()[..., 0] > 210) & (canvas.read()[..., 1] < 150)
    rows, columns = np.nonzero(red)
    # 16 voxels are 48 pixels, from 8 on: half of them, and lines half on each side
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 32, 7, 32)
    assert not red[10:30, 10:30].any()


def test_a_box_in_parts_is_the_box_in_one(canvas: Canvas, monkeypatch: pytest.MonkeyPatch) -> None:
    box = BoxVisual()
    box.set_box(look_at(LATTICE, SIZE, 30, 20, fov=30))
    canvas.resize(SIZE)
    canvas.draw([box])
    whole = canvas.read().copy()
    assert len(np.unique(whole.reshape(-1, 4), axis=0)) > 20
    monkeypatch.setattr(canvas_module, "_MAX_PART_PX", 90)
    canvas.resize((1, 1))
    canvas.resize(SIZE)
    canvas.draw([box])
    assert np.abs(canvas.read().astype(int) - whole).max() <= 1
