"""Nodes whose plane or whose data change: what is in memory is shown at once, and nothing old is shown as new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from test_pipeline import settings_of

from octree.pyramid import build
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading.clock import VirtualClock
from octree.render.loading.network import Network
from octree.render.scene.pipeline import Pipeline

pytestmark = pytest.mark.usefixtures("gl_info")


@pytest.fixture
def window() -> Iterator[Any]:
    from vispy.scene import SceneCanvas

    with SceneCanvas(size=(400, 300), show=False) as made:
        yield made


def node_in(window: Any, source: Any, **options: Any) -> tuple[Any, Any]:
    """(the node, its camera)"""
    from vispy.scene import PanZoomCamera

    from octree.render import TiledImage

    view = window.central_widget.add_view(camera=PanZoomCamera(aspect=1))
    view.camera.flip = (False, True, False)
    return TiledImage(source, parent=view.scene, clim="0,255", **options), view.camera


@pytest.mark.parametrize("slots", [5, 9])
def test_coarse_tiles_in_memory_are_shown_at_once_after_go_to(
    window: Any, tmp_path: Path, slots: int
) -> None:
    """In RAM but no more in the atlas: uploaded in the first turn, though the camera stands still and nothing can be
    read for ever so long."""
    stack = np.zeros((3, 2000, 2000), np.uint8)
    stack[1:] = [[[100]], [[200]]]
    build(stack, tmp_path / "stack.zarr", axes="zyx")
    network = Network(latency_ms=10_000)
    with Pipeline(settings_of(slots), clock=VirtualClock(), network=network) as pipeline:
        node, camera = node_in(window, tmp_path / "stack.zarr", pipeline=pipeline)
        camera.rect = (0, 0, 4000, 3000)
        for z in (0, 1):
            node.go_to(z=z)
            assert node.settle(timeout_s=1000)
        roots = [key for key in pipeline.loader._cache if key.tile.index == (0,)]
        assert roots
        camera.rect = (600, 500, 200, 150)
        assert node.settle(timeout_s=1000)
        for key in roots:  # as when other tiles needed the room
            pipeline.atlas._remove([key])
            assert pipeline.loader.has(key)
        node.go_to(z=0)
        node.turn()
        assert node.coverage.coarser == pytest.approx(1)
        assert set(node.coverage.by_level) == {3}
        assert not window.render()[5:-5, 5:-5, 0].any()
        # nothing is known of the last plane, once what was loaded of it ahead is gone
        pipeline.loader._cache.discard(lambda key: key.tile.index == (2,))
        pipeline.atlas._remove([key for key in pipeline.atlas.resident if key.tile.index == (2,)])
        node.go_to(z=2)
        node.turn()
        assert node.coverage.missing == pytest.approx(1)


def write_pyramid(path: Path, value: int) -> None:
    build(np.full((300, 400), value, np.uint8), path, overwrite=True)


def write_png(path: Path, value: int) -> None:
    Image.fromarray(np.full((300, 400), value, np.uint8)).save(path)


def write_tiff(path: Path, value: int) -> None:
    tifffile.imwrite(path, np.full((300, 400), value, np.uint8), tile=(128, 128), compression="zlib")


def write_hdf5(path: Path, value: int) -> None:
    with h5py.File(path.with_suffix(".new"), "w") as file:  # HDF5 truncates no file that is open
        file.create_dataset("a", data=np.full((300, 400), value, np.uint8), chunks=(64, 64))
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.zarr", write_pyramid), ("a.png", write_png), ("a.tif", write_tiff), ("a.h5", write_hdf5)],
)
def test_refresh_shows_what_a_file_holds_now(
    window: Any, tmp_path: Path, name: str, write: Callable[[Path, int], None]
) -> None:
    """Whatever loader and reader keep of it."""
    write(tmp_path / name, 50)
    with Pipeline(settings_of(64)) as pipeline:
        node, camera = node_in(window, tmp_path / name, pipeline=pipeline)
        camera.rect = (100, 100, 200, 150)
        for value in (50, 200, 90):
            write(tmp_path / name, value)
            node.refresh()
            assert node.settle(timeout_s=20)
            assert node.failures == []
            assert set(np.unique(window.render()[5:-5, 5:-5, 0])) == {value}


def test_refresh_of_an_array_reaches_all_nodes_that_show_it(window: Any) -> None:
    pixels = np.full((300, 400), 50, np.uint8)
    with Pipeline(settings_of(64)) as pipeline:
        nodes = [node_in(window, pixels, pipeline=pipeline) for _ in range(2)]
        for node, camera in nodes:
            camera.rect = (100, 100, 200, 150)
            assert node.settle(timeout_s=20)
        pixels[:] = 200
        nodes[0][0].refresh()
        assert all(node.settle(timeout_s=20) for node, _ in nodes)
        reads = [pipeline.loader.peek(key) for key in pipeline.loader._cache]
        assert {int(tile.data.max()) for tile in reads if tile is not None} == {200}
        assert set(np.unique(window.render()[5:-5, 5:-5, 0])) == {200}


def test_another_image_in_its_place_is_not_drawn_as_if_it_were_the_same(window: Any, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", 50)
    loader = LoaderSettings(pools=((0, PoolSettings()),), retries=1)
    with Pipeline(settings_of(64, loader)) as pipeline:
        node, camera = node_in(window, tmp_path / "a.png", pipeline=pipeline)
        camera.rect = (100, 100, 200, 150)
        assert node.settle(timeout_s=20)
        Image.fromarray(np.full((400, 300), 90, np.uint8)).save(tmp_path / "a.png")
        node.refresh()
        assert node.settle(timeout_s=20)
        assert node.coverage.failed == 1
        assert "another image now" in node.failures[0]["error"]
