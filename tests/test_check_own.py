"""octree's own frames, checked with its own plugin. After a change that is meant:

pytest tests/test_check_own.py --octree-accept --octree-reason "why"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def cells() -> Any:
    """Smooth ground and small bright spots in two channels, uint16, axes (t, c, z, y, x)."""
    y, x = np.mgrid[:700, :900].astype(float)
    rng = np.random.default_rng(7)
    image = np.stack([900 + 500 * np.sin(x / (60 + 20 * c)) * np.cos(y / (50 - 9 * c)) for c in range(2)])
    for _ in range(300):
        cy, cx, size = rng.uniform(0, 700), rng.uniform(0, 900), rng.uniform(2, 9)
        top, left = max(0, int(cy) - 30), max(0, int(cx) - 30)
        part = np.s_[rng.integers(2), top : top + 60, left : left + 60]
        image[part] += 2500 * np.exp(-((y[part[1:]] - cy) ** 2 + (x[part[1:]] - cx) ** 2) / (2 * size**2))
    return image[None, :, None].round().clip(0, 65535).astype(np.uint16)


def labels() -> Any:
    y, x = np.mgrid[:700, :900]
    return ((y // 45) * 20 + (x + 20 * ((y // 45) % 2)) // 45 + 1).astype(np.uint16)


def balls() -> Any:
    """Round things of many sizes, uint16, axes (z, y, x)."""
    z, y, x = np.mgrid[:80, :90, :100].astype(float)
    rng = np.random.default_rng(11)
    image = 300 + 2 * (x + y)
    for _ in range(25):
        cz, cy, cx, size = *rng.uniform(10, 75, 3), rng.uniform(3, 11)
        away = np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
        image += 2600 / (1 + np.exp(np.minimum((away - size) / 0.8, 50)))
    return image.round().clip(0, 65535).astype(np.uint16)


CELLS, LABELS, BALLS = cells(), labels(), balls()
ONE = CELLS[0, 0, 0]
GREY = {"clim": "0,4000"}
CHANNELS = {"channels": "0:lime:0-4000,1:magenta:0-4000"}
SLOW = {"clim": "0,4000", "clock": "virtual", "latency": "40ms", "bandwidth": "8MB/s"}


@pytest.mark.parametrize(
    ("name", "source", "camera", "options"),
    [
        ("overview", ONE, "fit", GREY),
        ("full size", ONE, "x=450,y=350,zoom=1", GREY),
        ("close, linear", ONE, "x=300.25,y=280.5,zoom=6.5", {**GREY, "interpolation": "linear"}),
        ("colormap and gamma", ONE, "x=450,y=350,zoom=0.7", {**GREY, "colormap": "viridis", "gamma": 0.6}),
        ("channels", CELLS, "fit", CHANNELS),
        (
            "labels over grey",
            [ONE, LABELS],
            "x=450,y=350,zoom=2",
            {"clim": ["0,4000"], "opacity": [1, 0.5], "labels": True},
        ),
        ("edge of the image", ONE, "x=0,y=0,zoom=1.5", {**GREY, "background": "#203040"}),
    ],
)
def test_a_settled_frame(
    octree_check: Callable[..., Any],
    gl_info: Any,
    name: str,
    source: Any,
    camera: str,
    options: dict[str, Any],
) -> None:
    octree_check(name, source, camera, size="160x120", **options)


def test_frames_while_tiles_arrive(octree_check: Callable[..., Any], gl_info: Any) -> None:
    octree_check("tiles arriving", ONE, "zoom-in", size="160x120", frames=[0, 6, 12, 60, 120, 240], **SLOW)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("volume, maximum", {}),
        ("volume, alpha in perspective", {"mode": "alpha", "colormap": "magma", "clip": "z=20:"}),
        ("volume, surface", {"mode": "iso", "iso": 1800}),
    ],
)
def test_a_volume(octree_check: Callable[..., Any], gl_info: Any, name: str, options: dict[str, Any]) -> None:
    camera = "azimuth=35,elevation=25" + (",fov=40" if "perspective" in name else "")
    octree_check(name, BALLS, camera, size="160x120", interpolation="linear", **GREY, **options)


def test_a_volume_while_bricks_arrive(octree_check: Callable[..., Any], gl_info: Any) -> None:
    slow = {**SLOW, "bandwidth": "1MB/s", "fps": 5}
    octree_check("bricks arriving", BALLS, "turntable", size="160x120", frames=[2, 4, 6, 8, 20], **slow)
