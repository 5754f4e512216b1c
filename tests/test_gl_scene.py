"""The visual in an ordinary vispy scene, with vispy's own cameras: a genuine vispy visual."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gl_scene import Stage, show
from vispy.visuals.transforms import PolarTransform, STTransform

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.gl.canvas import Canvas
from octree.render.gl.tiled_image import TiledImageVisual

BOARD = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)


@pytest.fixture
def scene(gl_info: Any) -> Iterator[Any]:
    """A SceneCanvas of 96 x 64 pixels with a PanZoom camera, y down, sharing the process's OpenGL."""
    from vispy.scene import SceneCanvas

    from octree.render.gl import platform

    canvas = SceneCanvas(size=(96, 64), show=False, dpi=96, shared=platform.context_canvas().context)
    view = canvas.central_widget.add_view(camera="panzoom", border_width=0)
    view.camera.flip = (False, True, False)
    yield canvas, view
    canvas.close()
    platform.context_canvas().set_current()


def node_of(scene: Any, stage: Stage) -> Any:
    from vispy.scene.visuals import create_visual_node

    return create_visual_node(TiledImageVisual)(stage.atlas, clim=(0, 255), parent=scene[1].scene)


def board_at(canvas: Canvas, far: int) -> Stage:
    """Checkers everywhere; the four tiles around (far, far) are in the atlas."""
    level = LatticeLevel((far + 64, far + 64), (32, 32), (1.0, 1.0), (0.0, 0.0))
    stage = Stage(Lattice((level,)), [BOARD], canvas)
    stage.pixels = lambda _tile: BOARD  # type: ignore[method-assign] # every tile is this board
    tile = far // 32
    stage.put(TileKey(0, (), (tile + dy, tile + dx)) for dy in (-1, 0) for dx in (-1, 0))
    return stage


@pytest.mark.parametrize("far", [64, 3 * 2**20])
def test_a_camera_of_vispy_sees_the_texels(canvas: Canvas, scene: Any, far: int) -> None:
    stage = board_at(canvas, far)
    node = node_of(scene, stage)
    zoom = 4
    node.transform = STTransform(translate=(-far, -far))
    scene[1].camera.rect = (-96 / zoom / 2, -64 / zoom / 2, 96 / zoom, 64 / zoom)
    cover = stage.cover(Region((far - 32, far - 32), (far + 32, far + 32)), 0)
    show(node, cover, (far, far))
    frame = scene[0].render(alpha=True)
    wanted = np.kron(BOARD[:16, :24] == BOARD[0, 0], np.ones((4, 4), bool))
    shown = frame[..., 0] > 127
    assert (shown == wanted).mean() in (0.0, 1.0)


def test_a_camera_that_is_not_affine(canvas: Canvas, scene: Any) -> None:
    stage = board_at(canvas, 64)
    node = node_of(scene, stage)
    show(node, stage.cover(Region((32, 32), (96, 96)), 0), (64, 64))
    node.transform = PolarTransform() * STTransform(scale=(np.pi / 64, 1, 1))
    scene[1].camera.rect = (-96, -96, 192, 192)
    frame = scene[0].render(alpha=True)
    assert 0.05 < (frame[..., 0] > 127).mean() < 0.6


def test_bounds_are_those_of_what_is_drawn(canvas: Canvas) -> None:
    stage = board_at(canvas, 64)
    assert stage.visual.bounds(0) is None
    show(stage.visual, stage.cover(Region((32, 40), (96, 90)), 0))
    assert stage.visual.bounds(0) == (40, 90)
    assert stage.visual.bounds(1) == (32, 96)


def test_invisible_is_not_drawn(canvas: Canvas) -> None:
    stage = board_at(canvas, 64)
    stage.visual.visible = False
    assert not stage.frame(Region((32, 32), (96, 96)), (64, 64))[..., :3].any()


def test_opacity_of_a_node_of_vispy(canvas: Canvas, scene: Any) -> None:
    """vispy applies it with a filter, to straight colours; it stays when the shader is built again."""
    stage = board_at(canvas, 64)
    node = node_of(scene, stage)
    node.transform = STTransform(translate=(-64, -64))
    scene[1].camera.rect = (-12, -8, 24, 16)
    show(node, stage.cover(Region((32, 32), (96, 96)), 0), (64, 64))
    node.opacity = 0.5
    # linear, four times: pixel centres lie an eighth of a texel beside texel centres
    for interpolation, brightest in (("nearest", 128), ("linear", 128 * (0.875**2 + 0.125**2))):
        node.interpolation = interpolation
        assert abs(int(scene[0].render(alpha=True)[..., 0].max()) - brightest) <= 1


def test_tiles_keep_their_size_far_from_the_origin(canvas: Canvas, scene: Any) -> None:
    """Where float32 has steps of 8 units, 22 texels, all texels are still 12 pixels wide."""
    far = 3 * 2**26 + 32
    stage = board_at(canvas, far)
    node = node_of(scene, stage)
    shift = float(np.float32(far * 0.37))  # what vispy can keep of it
    node.transform = STTransform(scale=(0.37, 0.37), translate=(-shift, -shift))
    scale = float(np.float32(0.37))
    middle, width, height = far * scale - shift, 8 * scale, 8 * scale * 64 / 96
    scene[1].camera.rect = (middle - width / 2, middle - height / 2, width, height)
    show(node, stage.cover(Region((far - 32, far - 32), (far + 32, far + 32)), 0), (far, far))
    row = scene[0].render(alpha=True)[30, :, 0] > 127
    edges = np.flatnonzero(np.diff(row.astype(int)))
    assert np.abs(edges - (np.arange(1, 8) * 12 - 1)).max() <= 1
