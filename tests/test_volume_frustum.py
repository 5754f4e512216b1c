"""Which boxes a frame shows, and how near they come, against linear programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from volume_cases import bricks, sights

from octree.render.view.volume.frustum import _MARGIN_PX, Frustum
from octree.render.view.volume.sight import Sight

CUBE = bricks((64, 40, 50))


def least_depth(sight: Sight, low: Any, high: Any) -> float | None:
    """Of a box (world, relative to the target) in view; None: it is not."""
    frame = [((edge - 1) / 2 + _MARGIN_PX) / sight.zoom for edge in sight.size_px]
    forward = np.array(sight.forward)
    rows, limits = [], []
    for axis, half in zip((sight.right, sight.down), frame, strict=True):
        for sign in (1, -1):  # sign * p <= half * (1 + depth / distance)
            rows.append(sign * np.array(axis) - half / sight.distance * forward)
            limits.append(half)
    ends = Frustum(sight)
    rows += [forward, -forward]
    limits += [ends.far, -ends.near]
    solved = linprog(
        forward, np.array(rows), limits, bounds=list(zip(low, high, strict=True)), method="highs"
    )
    return float(solved.fun) if solved.status == 0 else None


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_boxes_that_meet_it_and_their_nearest_points(data: Any) -> None:
    sight = data.draw(sights(CUBE))
    frustum = Frustum(sight)
    if frustum.is_empty:
        assert not frustum.meets(np.zeros((1, 3)), np.ones((1, 3)) * 50).any()
        return
    middle = np.array([data.draw(st.floats(-60, 60)) for _ in range(3)])
    low = np.array([middle + data.draw(st.floats(-40, 40)) for _ in range(2)])
    high = low + np.array([[data.draw(st.floats(0.1, 40)) for _ in range(3)] for _ in range(2)])
    meets, nearest = frustum.meets(low, high), frustum.nearest(low, high)
    grown, shrunk = least_depths(sight, low - 1e-3, high + 1e-3), least_depths(sight, low + 1e-3, high - 1e-3)
    for n, (larger, smaller) in enumerate(zip(grown, shrunk, strict=True)):
        assert meets[n] or smaller is None
        assert not meets[n] or larger is not None
        if larger is not None and smaller is not None:
            assert larger - 1e-6 * abs(larger) - 1e-3 <= nearest[n] <= smaller + 1e-6 * abs(smaller) + 1e-3


def least_depths(sight: Sight, low: Any, high: Any) -> list[float | None]:
    return [least_depth(sight, *ends) for ends in zip(low, high, strict=True)]
