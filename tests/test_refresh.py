"""Nodes whose plane or whose data change: what is in memory is shown at once, and nothing old is shown as new."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_pipeline import settings_of

from octree.pyramid import build
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
        node.go_to(z=2)
        node.turn()
        assert node.coverage.missing == pytest.approx(1)
