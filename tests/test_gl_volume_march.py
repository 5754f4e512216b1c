"""Volumes, against the slow ray-marcher; each comparison has seen its negative controls fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gl_volume import VolumeStage, bricks_of, look_at, pyramid
from numpy.typing import NDArray
from ray_march import march, over, sample

from octree.render.gl.canvas import Canvas
from octree.render.view.cover import Cover
from octree.render.view.volume.sight import Sight, rays_of

RNG = np.random.default_rng(17)
SIZE = (44, 36)
CLIM = (2000.0, 60000.0)
MODES = ("mip", "minip", "mean", "attenuated-mip", "alpha", "iso")


def noise(shape: tuple[int, ...] = (21, 26, 30)) -> NDArray[np.uint16]:
    """Darker to one side, or every highest value would be the same."""
    values = RNG.integers(0, 65536, shape) * np.linspace(0.3, 1.0, shape[2])
    return values.astype(np.uint16)


def gray(values: Any) -> Any:
    return np.stack([values, values, values, np.ones_like(values)], axis=-1)


def half_loaded(canvas: Canvas, image: Any = None, **options: Any) -> VolumeStage:
    """Three levels, of the finest and the second some bricks."""
    lattice, arrays = pyramid(noise() if image is None else image, (8, 8, 8), [(2, 2, 2), (2, 2, 2)])
    stage = VolumeStage(lattice, arrays, canvas, options={"clim": CLIM, **options})
    stage.put(bricks_of(lattice, 2))
    stage.put(tile for tile in bricks_of(lattice, 1) if sum(tile.grid) % 3)
    stage.put(tile for tile in bricks_of(lattice, 0) if sum(tile.grid) % 2)
    return stage


def wanted_frame(
    stage: VolumeStage, sight: Sight, cover: Cover, step: float = 1.0, color_of: Any = gray
) -> NDArray[np.uint8]:
    visual, linear = stage.visual, stage.visual.interpolation == "linear"
    boxes = stage.boxes(cover)
    found = sample(rays_of(sight, step), boxes, linear=linear)
    frame = march(
        found,
        visual.mode,
        color_of,
        clim=visual.clim,
        opacity=visual.opacity,
        attenuation=visual.attenuation,
        iso=sum(visual.clim) / 2 if visual.iso is None else visual.iso,
        step_world=step,
        world=sight.voxel,
        boxes=boxes,
        linear=linear,
    )
    return over(frame, stage.canvas.background)


def differing(frame: NDArray[np.uint8], wanted: NDArray[np.uint8], by: int = 1) -> float:
    """Share of pixels that differ by more than so many steps of 255."""
    apart = np.abs(frame[..., :3].astype(int) - wanted).max(axis=-1)
    return float((apart > by).mean())


VIEWS: dict[str, dict[str, Any]] = {
    "orthographic": {"azimuth": 35, "elevation": 25, "zoom": 1.1},
    "perspective": {"azimuth": -50, "elevation": 10, "zoom": 1.2, "fov": 40, "roll": 12},
    "axis-aligned": {"zoom": 0.5},
    "from behind": {"azimuth": 180, "zoom": 2.0},
    "from above": {"elevation": 90, "zoom": 1.0},
    "slab": {"azimuth": 35, "elevation": 25, "zoom": 1.1, "slab": 9.0},
    "oblique slice": {"azimuth": 35, "elevation": 25, "zoom": 1.1, "slab": 0.0},
    "close": {"azimuth": 35, "elevation": 25, "zoom": 9.0, "at": (16.0, 16.0, 8.0)},
}


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_mixed_levels_is_that_of_the_reference(
    canvas: Canvas, view: str, interpolation: str
) -> None:
    stage = half_loaded(canvas, interpolation=interpolation)
    sight = look_at(stage.lattice, SIZE, **VIEWS[view])
    cover = stage.cover(sight)
    assert len(set(cover.quads.levels.tolist())) == 3
    assert differing(stage.frame(sight, cover), wanted_frame(stage, sight, cover)) == 0
