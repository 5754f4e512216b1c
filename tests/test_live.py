"""``TiledImage`` in somebody else's scene: an ordinary SceneCanvas, an ordinary camera."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.pyramid import build
from octree.pyramid.errors import UsageError

pytestmark = pytest.mark.usefixtures("gl_info")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rows, cols = np.indices((900, 1200))
    build(((rows // 8 + cols // 8) % 2 * 60000).astype(np.uint16), tmp_path / "board.ome.zarr")
    return tmp_path / "board.ome.zarr"


def settle(canvas: Any, node: Any, limit_s: float = 20) -> None:
    until_s = time.monotonic() + limit_s
    node._tick()
    while not (node.is_settled and node._loader.settled(prefetch=True) and not any(node._layer.waiting())):
        assert time.monotonic() < until_s, "the view did not settle"
        time.sleep(0.002)
        node._tick()


def test_a_scene_shows_the_tiles_its_camera_wants(image: Path, gl_info: Any) -> None:
    from vispy import scene

    from octree.render import TiledImage

    with scene.SceneCanvas(size=(300, 200), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        view.camera.flip = (False, True, False)
        node = TiledImage(image, parent=view.scene, clim="0,60000")
        view.camera.rect = (400, 300, 300, 200)
        settle(canvas, node)
        frame = canvas.render()
        rows, cols = np.indices((200, 300))
        expected = (((rows + 300) // 8 + (cols + 400) // 8) % 2 * 255).astype(int)
        assert np.abs(frame[..., 0].astype(int) - expected).max() <= 1
        assert node.coverage is not None
        assert node.coverage.by_level == {0: 1.0}
        view.camera.rect = (0, 0, 1500, 1000)
        settle(canvas, node)
        assert set(node.coverage.by_level) == {2}
        node.close()


def test_colours_change_without_an_upload(image: Path, gl_info: Any) -> None:
    from vispy import scene

    from octree.render import TiledImage

    with scene.SceneCanvas(size=(300, 200), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        node = TiledImage(image, parent=view.scene, clim="0,60000", opacity="0.5")
        view.camera.rect = (400, 300, 300, 200)
        settle(canvas, node)
        half, uploads = canvas.render(), node._atlas.uploads
        (visual,) = node.visuals
        visual.opacity, visual.colormap, visual.clim = 1.0, "red", (0, 120000)
        settle(canvas, node)
        whole = canvas.render()
        assert node._atlas.uploads == uploads
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
        settle(canvas, node)
        node.close()
        node.close()
        assert threading.active_count() == before


@pytest.mark.parametrize("option", ["size", "latency", "background", "colour"])
def test_an_option_that_would_be_ignored_is_refused(image: Path, option: str) -> None:
    from octree.render import TiledImage

    with pytest.raises(UsageError, match=option):
        TiledImage(image, **{option: "1"})
