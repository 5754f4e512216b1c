"""``TiledImage`` in somebody else's scene: an ordinary SceneCanvas, an ordinary camera."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.pyramid import build
from octree.pyramid.errors import UsageError

pytestmark = pytest.mark.usefixtures("gl_info")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    build(board(), tmp_path / "board.ome.zarr")
    return tmp_path / "board.ome.zarr"


def settle(node: Any) -> None:
    """Until nothing is left to do for the view, and what lies around it is in memory too."""
    assert node.settle(timeout_s=20, prefetch=True), "the view did not settle"


def test_a_scene_shows_the_tiles_its_camera_wants(image: Path, gl_info: Any) -> None:
    from vispy import scene

    from octree.render import TiledImage

    with scene.SceneCanvas(size=(300, 200), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        view.camera.flip = (False, True, False)
        node = TiledImage(image, parent=view.scene, clim="0,60000")
        view.camera.rect = (400, 300, 300, 200)
        settle(node)
        frame = canvas.render()
        rows, cols = np.indices((200, 300))
        expected = (((rows + 300) // 8 + (cols + 400) // 8) % 2 * 255).astype(int)
        inner = np.s_[1:-1, 1:-1]  # a view box keeps one pixel for its border
        assert np.abs(frame[..., 0].astype(int) - expected)[inner].max() <= 1
        assert node.coverage is not None
        assert node.coverage.by_level == {0: 1.0}
        view.camera.rect = (0, 0, 1500, 1000)
        settle(node)
        assert set(node.coverage.by_level) == {2}
        node.close()


def test_colours_change_without_an_upload(image: Path, gl_info: Any) -> None:
    from vispy import scene

    from octree.render import TiledImage

    with scene.SceneCanvas(size=(300, 200), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        node = TiledImage(image, parent=view.scene, clim="0,60000", opacity="0.5")
        view.camera.rect = (400, 300, 300, 200)
        settle(node)
        half, uploads = canvas.render(), node.atlas.uploads
        (visual,) = node.visuals
        visual.opacity, visual.colormap, visual.clim = 1.0, "red", (0, 120000)
        settle(node)
        whole = canvas.render()
        assert node.atlas.uploads == uploads
        assert half[..., 1].max() > 100
        assert (whole[..., 1].max(), whole[..., 0].max()) == (0, pytest.approx(128, abs=1))
        node.close()


def test_closing_leaves_no_thread(image: Path, gl_info: Any) -> None:
    import threading

    from vispy import scene

    from octree.render import TiledImage

    with scene.SceneCanvas(size=(100, 80), show=False) as canvas:
        view = canvas.central_widget.add_view(camera="panzoom")
        before = threading.active_count()
        node = TiledImage(image, parent=view.scene)
        settle(node)
        node.close()
        node.close()
        assert threading.active_count() == before


def board() -> Any:
    rows, cols = np.indices((900, 1200))
    return ((rows // 8 + cols // 8) % 2 * 60000).astype(np.uint16)


@pytest.mark.parametrize("camera", ["panzoom", "turntable", "fly"])
def test_any_camera_shows_what_an_ordinary_image_shows(image: Path, gl_info: Any, camera: str) -> None:
    """Beside its neighbour too: nothing is drawn outside the view box."""
    from vispy import scene

    from octree.render import TiledImage

    frames = []
    for ours in (True, False):
        with scene.SceneCanvas(size=(420, 300), show=False, bgcolor="#204060") as canvas:
            grid = canvas.central_widget.add_grid(margin=10, spacing=20)
            view = grid.add_view(0, 0, camera=camera)
            grid.add_view(0, 1)
            depth = {} if camera == "panzoom" else {"z": (-20, 20)}
            view.camera.set_range((100, 340), (50, 250), **depth)
            canvas.render()  # the grid is laid out
            if ours:
                node = TiledImage(image, parent=view.scene, clim="0,60000")
                settle(node)
                assert set(node.coverage.by_level) == {0}
            else:
                scene.visuals.Image(board(), parent=view.scene, clim=(0, 60000), cmap="grays")
            frames.append(canvas.render()[..., :3].astype(int))
            if ours:
                node.close()
    different = np.abs(frames[0] - frames[1]).max(-1) > 8
    assert (frames[1] == 255).all(-1).mean() > 0.05
    assert different.mean() < 0.01  # edges of texels, placed in float32


def test_two_nodes_of_one_atlas_leave_each_other_their_tiles(image: Path, gl_info: Any) -> None:
    from vispy import scene

    from octree.render import TiledImage
    from octree.render.gl.texture_atlas import Atlas

    atlas = Atlas(18 * 258 * 258 * 2)
    with scene.SceneCanvas(size=(300, 200), show=False) as canvas:
        grid = canvas.central_widget.add_grid()
        views = [grid.add_view(0, column, camera="panzoom") for column in (0, 1)]
        canvas.render()
        nodes = [TiledImage(image, parent=view.scene, atlas=atlas, clim="0,60000") for view in views]
        views[0].camera.rect = (100, 100, 150, 200)
        views[1].camera.rect = (600, 500, 150, 200)
        settle(nodes[0])
        settle(nodes[1])
        before = canvas.render()
        for x, y in itertools.product((0, 300, 600, 900), (0, 350, 700)):  # the other one sees everything
            views[1].camera.rect = (x, y, 150, 200)
            settle(nodes[1])
        assert atlas.evicted > 0
        assert (canvas.render()[:, :140] == before[:, :140]).all()
        for node in nodes:
            node.close()
        atlas.close()


def test_opacity_of_the_node_and_aids_that_follow_it(image: Path, gl_info: Any) -> None:
    from vispy import scene

    from octree.render import TiledImage

    with scene.SceneCanvas(size=(320, 200), show=False) as canvas:
        view = canvas.central_widget.add_grid(margin=20).add_view(0, 0, camera="panzoom")
        canvas.render()
        node = TiledImage(image, parent=view.scene, clim="0,60000", show_grid=True)
        view.camera.flip = (False, True, False)
        view.camera.rect = (256 - 140, 256 - 80, 280, 160)
        settle(node)
        whole = canvas.render()[..., :3]
        red = (whole == (255, 0, 0)).all(-1)
        rows, cols = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
        inner = view.inner_rect
        assert rows[-1] < inner.top + view.pos[1]
        assert cols[-1] < inner.right + view.pos[0]
        assert red[:, cols].sum(0).max() > 100
        assert red[rows].sum(1).max() > 200
        node.opacity = 0.5
        half = canvas.render()[..., :3]
        assert np.abs(half.astype(int) - whole.astype(int) // 2)[~red].max() <= 1
        assert half[red][:, 0].max() < 255
        node.close()


def test_a_second_view_of_one_visual_is_refused(image: Path, gl_info: Any) -> None:
    from octree.render import TiledImage

    node = TiledImage(image)
    with pytest.raises(UsageError, match="second view"):
        node.visuals[0].view()
    node.close()


@pytest.mark.parametrize("option", ["size", "latency", "background", "colour"])
def test_an_option_that_would_be_ignored_is_refused(image: Path, option: str) -> None:
    from octree.render import TiledImage

    with pytest.raises(UsageError, match=option):
        TiledImage(image, **{option: "1"})


def test_another_plane_of_a_stack(gl_info: Any) -> None:
    from vispy import scene

    from octree.render import TiledImage

    stack = np.zeros((3, 200, 300), np.uint8)
    stack[1], stack[2] = 100, 200
    with scene.SceneCanvas(size=(64, 48), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        node = TiledImage(stack, parent=view.scene, clim="0,255")
        view.camera.rect = (100, 100, 64, 48)
        for z in (0, 2, 1):
            node.go_to(z=z)
            settle(node)
            assert (canvas.render()[1:-1, 1:-1, 0] == stack[z, 0, 0]).all()
        with pytest.raises(UsageError, match="outside the image"):
            node.go_to(z=3)
        with pytest.raises(UsageError, match="no axis 't'"):
            node.go_to(t=0)
        node.close()


def test_what_could_not_be_read_is_read_again_when_told(image: Path, gl_info: Any) -> None:
    from vispy import scene

    from octree.render import TiledImage

    shard = image / "0" / "c" / "0" / "0"
    whole = shard.read_bytes()
    shard.write_bytes(b"\xff" * len(whole))
    with scene.SceneCanvas(size=(64, 48), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        node = TiledImage(image, parent=view.scene, clim="0,60000")
        view.camera.rect = (100, 100, 64, 48)
        settle(node)
        assert node.coverage is not None
        assert node.coverage.failed == 1.0
        shard.write_bytes(whole)
        node.retry()
        settle(node)
        assert node.coverage.ideal == 1.0
        node.close()


def test_stand_ins_make_way_in_a_tight_atlas(gl_info: Any) -> None:
    """Nine tiles wanted, room for nine: coarser ones that stood in must go."""
    from vispy import scene

    from octree.render import TiledImage
    from octree.render.gl.texture_atlas import Atlas

    pixels = np.arange(1000 * 1000, dtype=np.uint32).reshape(1000, 1000).astype(np.uint8)
    with scene.SceneCanvas(size=(768, 768), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        node = TiledImage(pixels, parent=view.scene, clim="0,255", atlas=Atlas(9 * 258 * 258))
        view.camera.rect = (0, 0, 5000, 5000)
        settle(node)
        view.camera.rect = (0, 0, 766, 766)
        settle(node)
        assert node.coverage is not None
        assert node.coverage.ideal == 1.0
        node.close()
