"""Layers lie where their metadata say."""

from __future__ import annotations

import numpy as np
import pytest

from octree.pyramid.grid import Region
from octree.pyramid.model import Axis, LevelInfo, PyramidSpec
from octree.render.view.register import to_base


def spec(size: float = 1.0, translation: float = 0.0, unit: str | None = None) -> PyramidSpec:
    level = LevelInfo("0", (100, 100), (10, 10), None, (size, size), (translation, translation))
    return PyramidSpec((Axis("y", unit), Axis("x", unit)), np.dtype("u1"), (level,))


@pytest.mark.parametrize(
    ("first", "layer", "scale", "offset"),
    [
        (spec(), spec(), 1.0, 0.0),
        # half the pixels, twice the size, the same corner: the corner of voxel 0 is centre - size / 2
        (spec(1, 0), spec(2, 0.5), 0.5, 0.0),
        # the same centres of voxel 0: corners differ by half a voxel
        (spec(1, 0), spec(2, 0), 0.5, 0.25),
        (spec(0.5, 10), spec(0.5, 12), 1.0, -4.0),
        (spec(1, 0.5, "micrometer"), spec(1000, 500, "nanometer"), 1.0, 0.0),
        # a plain picture over a calibrated one: sizes say nothing about each other
        (spec(0.25, 0, "micrometer"), spec(), 1.0, 0.0),
        (spec(), spec(0.25, 3, "micrometer"), 1.0, 0.0),
        # units that are no lengths cannot be converted: numbers are taken as they are
        (spec(1, 0.5, "furlong"), spec(2, 1, "furlong"), 0.5, 0.0),
    ],
)
def test_camera_to_base(first: PyramidSpec, layer: PyramidSpec, scale: float, offset: float) -> None:
    found = to_base(first, layer)
    assert found.scale == pytest.approx((scale, scale))
    assert found.offset == pytest.approx((offset, offset))


def test_a_world_point_is_the_same_in_both() -> None:
    first, layer = spec(0.5, 3, "micrometer"), spec(2, -7, "micrometer")
    camera = Region((10, 20), (30, 40))
    base = to_base(first, layer).region(camera)
    for a, b in zip((*camera.low, *camera.high), (*base.low, *base.high), strict=True):
        world = 3 - 0.25 + a * 0.5
        assert -7 - 1 + b * 2 == pytest.approx(world)
