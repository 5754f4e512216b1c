"""What of an image a camera of vispy shows: pure geometry, against points sent through the transform."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.render.view.seen import NOTHING, seen_by_points, seen_part

EXTENT = Region((0, 0), (600, 800))
SCREEN = Region((0, 0), (300, 400))


def rows(
    scale: float = 1.0, degrees: float = 0.0, shift: tuple[float, float] = (0, 0)
) -> NDArray[np.float64]:
    """Zoom, turn, move (x, y)."""
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, s, 0, 0], [-s, c, 0, 0], [0, 0, 1, 0], [*shift, 0, 1]])


def test_an_upright_view() -> None:
    seen, px = seen_part(rows(2.0, shift=(-100, -50)), EXTENT, SCREEN)
    assert (*seen.low, *seen.high) == pytest.approx((25, 50, 175, 250))
    assert px == (2, 2)


def test_a_turned_view_keeps_its_zoom() -> None:
    seen, px = seen_part(rows(0.5, degrees=90, shift=(300, 0)), EXTENT, SCREEN)
    assert (*seen.low, *seen.high) == pytest.approx((0, 0, 600, 600))
    assert px == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("shift", [(5000, 0), (0, -5000)])
def test_nothing_in_view(shift: tuple[float, float]) -> None:
    assert seen_part(rows(shift=shift), EXTENT, SCREEN) == NOTHING
    assert seen_part(rows() * np.nan, EXTENT, SCREEN) == NOTHING


def test_a_horizon_in_view() -> None:
    """Looking along the image: what is behind the camera, and beyond the horizon, is nowhere on the screen."""
    tilted = np.array(
        [[1.0, 0, 0, 0], [200, 150, 0, 1], [0, 0, 1, 0], [-200 * 300 - 400, 300 - 150 * 300, 0, -300]]
    )
    seen, px = seen_part(tilted, EXTENT, SCREEN)
    y, x = (a.ravel() for a in np.mgrid[0.5:600, 0.5:800])
    at = np.stack([x, y, 0 * x, 0 * x + 1], axis=1) @ tilted
    with np.errstate(divide="ignore"):
        on = (
            (at[:, 3] > 0) & (at[:, :2] / at[:, 3:] >= 0).all(1) & (at[:, :2] / at[:, 3:] < (400, 300)).all(1)
        )
    assert seen.y0 >= 300
    assert np.abs(np.subtract(seen, ((y[on].min(), x[on].min()), (y[on].max(), x[on].max())))).max() < 3
    assert px[1] == pytest.approx(0.5)


def test_where_a_transform_bends_a_grid_of_points_answers() -> None:
    def from_screen(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return points * (0.5, 0.5, 1, 1) + (10, 20, 0, 0)

    assert seen_by_points(from_screen, EXTENT, SCREEN) == (Region((20, 10), (170, 210)), (2, 2))
    assert seen_by_points(lambda p: p * np.nan, EXTENT, SCREEN) == NOTHING
    assert seen_by_points(lambda p: p - (5000, 0, 0, 0), EXTENT, SCREEN) == NOTHING
