"""``TiledVolume`` in somebody else's scene: an ordinary SceneCanvas, ordinary cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from octree.pyramid import build
from octree.pyramid.errors import UsageError
from octree.render.view.volume.rate import MOST, Pacer

live = pytest.mark.usefixtures("gl_info")
SHAPE = (50, 90, 130)
MARKS = ((8, 15, 20), (40, 70, 110), (25, 80, 30))
"""(z, y, x) of the middles of bright cubes, each brighter than the one before."""


def marked() -> NDArray[np.uint16]:
    data = np.full(SHAPE, 2000, np.uint16)
    for number, (z, y, x) in enumerate(MARKS):
        data[z - 3 : z + 4, y - 6 : y + 7, x - 6 : x + 7] = 30000 + 10000 * number
    return data


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "marked.ome.zarr"
    build(marked(), path, axes="zyx", voxel_size={"z": 2.0, "y": 1.0, "x": 1.0}, unit="micrometer")
    return path


def middles(frame: NDArray[np.uint8]) -> list[tuple[float, float]]:
    """(column, row) of the middle of each mark's pixels: of all that is as bright as it is."""
    gray, found = frame[..., 0].astype(int), []
    for number in range(len(MARKS)):
        level = round(255 * (30000 + 10000 * number) / 60000)
        rows, cols = np.nonzero(np.abs(gray - level) <= 2)
        found.append((float(cols.mean()) + 0.5, float(rows.mean()) + 0.5))
    return found


def cameras() -> dict[str, Any]:
    from vispy import scene

    return {
        "in front": scene.TurntableCamera(up="-y", fov=0, azimuth=0, elevation=0),
        "from above": scene.TurntableCamera(up="-y", fov=0, azimuth=25, elevation=35),
        "in perspective": scene.TurntableCamera(up="-y", fov=50, azimuth=-40, elevation=20),
        "any way": scene.ArcballCamera(fov=30),
    }


@live
@pytest.mark.parametrize("name", ["in front", "from above", "in perspective", "any way"])
@pytest.mark.parametrize("bordered", [False, True])
def test_marks_lie_where_the_scene_has_them(volume: Path, name: str, bordered: bool) -> None:
    """Cubes seen from anywhere: the middle of their pixels is near the pixel of their middle; beside others on the canvas,
    too."""
    from vispy import scene

    from octree.render import TiledVolume

    with scene.SceneCanvas(size=(320, 240), show=False) as canvas:
        if bordered:
            grid = canvas.central_widget.add_grid()
            grid.add_view(row=0, col=0)
            view = grid.add_view(row=0, col=1, row_span=2)
            grid.add_view(row=1, col=0)
        else:
            view = canvas.central_widget.add_view()
        view.camera = cameras()[name]
        node = TiledVolume(volume, parent=view.scene, clim="0,60000", interpolation="nearest")
        canvas.render()  # vispy lays out its widgets when it draws
        view.camera.set_range(*node.extent)
        assert node.settle(timeout_s=20)
        frame = canvas.render()
        to_canvas = node.visuals[0].get_transform("visual", "canvas")
        for (z, y, x), (column, row) in zip(MARKS, middles(frame), strict=True):
            at = to_canvas.map([x + 0.5, y + 0.5, 2 * (z + 0.5), 1])
            assert np.hypot(at[0] / at[3] - column, at[1] / at[3] - row) < 3.0
        if bordered:  # nothing beside its own view
            assert frame[:, :158, :3].max() == 0
        assert node.coverage is not None
        assert node.coverage.ideal == 1.0
        node.close()


@live
def test_the_same_picture_as_the_command_draws(volume: Path) -> None:
    """Looked at from the front without perspective, a scene shows what ``octree render`` does."""
    from vispy import scene
    from vispy.visuals.transforms import MatrixTransform

    from octree.render import TiledVolume, render

    camera = "azimuth=20,elevation=30,zoom=1.5"
    options = {"mode": "mip", "clim": "0,60000", "interpolation": "nearest"}
    result = render([volume], [camera], size="200x160", options=options)
    with scene.SceneCanvas(size=(200, 160), show=False) as canvas:
        node = TiledVolume(volume, parent=canvas.scene, clim="0,60000", interpolation="nearest")
        a, e = np.radians(20), np.radians(30)
        forward = np.array([-np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
        right = np.array([np.cos(a), 0, np.sin(a)])
        matrix = np.eye(4)
        matrix[:3, :3] = 1.5 * np.array([right, np.cross(forward, right), forward]).T
        matrix[3, :3] = np.array([100, 80, 0]) - np.array([65, 45, 50]) @ matrix[:3, :3]
        matrix[:, 2] *= 1e-3
        node.transform = MatrixTransform(matrix)
        assert node.settle(timeout_s=20)
        apart = np.abs(canvas.render()[..., :3].astype(int) - result.frames[0][..., :3])
        assert (apart > 2).mean() < 0.01  # rays begin elsewhere: some pixels of an edge
        node.close()


@live
def test_looks_and_steps_change_at_any_time(tmp_path: Path) -> None:
    from vispy import scene

    from octree.render import TiledVolume

    both = np.stack([marked(), np.full(SHAPE, 50000, np.uint16)])
    build(both, tmp_path / "t.ome.zarr", axes="tzyx")
    with scene.SceneCanvas(size=(100, 80), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.TurntableCamera(up="-y", fov=0))
        node = TiledVolume(tmp_path / "t.ome.zarr", parent=view.scene, clim="0,60000")
        view.camera.set_range(*node.extent)
        assert node.settle(timeout_s=20)
        assert canvas.render()[..., 0].max() == pytest.approx(255 * 5 / 6, abs=2)
        uploads = node.atlas.uploads
        (visual,) = node.visuals
        visual.mode = "minip"
        assert node.settle(timeout_s=20)
        assert canvas.render()[30:50, 40:60, 0].max() == pytest.approx(255 / 30, abs=2)
        assert node.atlas.uploads == uploads
        request = node.go_to(t=1)
        assert request.wait(20)
        assert canvas.render()[30:50, 40:60, 0].min() == pytest.approx(255 * 5 / 6, abs=2)
        node.visible = False
        node.turn()
        assert canvas.render()[..., 0].max() == 0
        node.close()


@live
def test_a_moving_camera_gets_what_the_renderer_can_draw_in_time(volume: Path) -> None:
    from vispy import scene

    from octree.render import Pipeline, TiledVolume
    from octree.render.loading.clock import VirtualClock

    pipeline = Pipeline(clock=VirtualClock())
    with scene.SceneCanvas(size=(200, 160), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.TurntableCamera(up="-y", fov=0))
        node = TiledVolume(volume, parent=view.scene, clim="0,60000", pipeline=pipeline, single_level=True)
        view.camera.set_range(*node.extent)
        assert node.settle(timeout_s=20)
        canvas.render()
        fine = node.coarser
        node._pacer.note(100.0, 0)  # as if a frame took so long
        view.camera.azimuth += 5
        node.turn()
        moving = node.coarser
        pipeline.loader.wait_until(pipeline.clock.now_ms() + 200)
        node.turn()
        assert (fine, moving, node.coarser) == (0, 2, 0)
        node.close()
    pipeline.close()


@live
def test_what_a_volume_cannot_be_is_said(volume: Path, tmp_path: Path) -> None:
    from octree.render import TiledVolume

    with pytest.raises(UsageError, match="a volume is no slice"):
        TiledVolume(volume, mode="slice")
    with pytest.raises(UsageError, match="fps"):
        TiledVolume(volume, fps=0)
    with pytest.raises(UsageError, match="project"):
        TiledVolume(volume, project="z=max")
    build(np.zeros((64, 64), np.uint8), tmp_path / "plane.ome.zarr")
    with pytest.raises(UsageError, match="z"):
        TiledVolume(tmp_path / "plane.ome.zarr")


def test_the_level_is_lowered_while_moving_as_far_as_the_rate_needs() -> None:
    pacer = Pacer(fps=20)
    assert pacer.coarser(moving=True) == 0  # nothing is known
    pacer.note(190.0, 0)
    assert pacer.coarser(moving=False) == 0
    assert pacer.coarser(moving=True) == 2  # 47.5 ms
    pacer.note(60.0, 2)  # it took longer than half of the half
    assert pacer.coarser(moving=True) == 3
    pacer.note(45.0, 3)
    assert pacer.coarser(moving=True) == 3
    pacer.note(20.0, 3)  # 40 ms if finer: not sure enough
    assert pacer.coarser(moving=True) == 3
    pacer.note(16.0, 3)
    assert pacer.coarser(moving=True) == 2
    pacer.note(1e6, 0)
    assert pacer.coarser(moving=True) == MOST
    assert pacer.coarser(moving=False) == 0
