"""What a camera of vispy shows of a volume: points sent through its matrix lie where the sight says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from volume_cases import on_screen

from octree.pyramid.grid import Region
from octree.render.view.volume.seen import sight_through

BOX = Region((0.0, 0.0, 0.0), (40.0, 60.0, 80.0))
SIZE = (300, 200)
POINTS = [(x, y, z) for x in (0.0, 31.0, 80.0) for y in (0.0, 60.0) for z in (0.0, 17.0, 40.0)]


def matrix(seed: int, *, fov: float = 0.0, mirrored: bool = False, depth: float = 1.0) -> NDArray[np.float64]:
    """From base coordinates to pixels, as rows; the box in front of the camera."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if (np.linalg.det(turn) < 0) != mirrored:
        turn[0] *= -1
    voxel = np.array([1.0, 1.0, 2.5])
    scale, away = rng.uniform(0.5, 3), 400.0
    eye = np.eye(4)
    eye[:3, :3] = np.diag(voxel) @ turn * scale
    middle = np.array([40, 30, 20]) * voxel @ turn * scale
    eye[3, :3] = rng.uniform(-20, 20, 3) - middle + [0, 0, away]
    lens = np.eye(4)
    half = SIZE[1] / 2
    if fov:
        focal = half / math.tan(math.radians(fov / 2))
        lens[:, 0], lens[:, 1] = (focal, 0, SIZE[0] / 2, 0), (0, focal, SIZE[1] / 2, 0)
        lens[:, 2], lens[:, 3] = (0, 0, 1.001, -1), (0, 0, 1, 0)
    else:
        lens[3, :2] = SIZE[0] / 2, half
    lens[:, 2] *= depth
    return eye @ lens


def pixel(to_screen: NDArray[np.float64], point: Any) -> tuple[float, float]:
    x, y, _, w = np.array([*point, 1.0]) @ to_screen
    return x / w, y / w


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("fov", [0.0, 5.0, 40.0, 100.0])
def test_points_lie_where_the_matrix_sends_them(fov: float, mirrored: bool) -> None:
    for seed in range(10):
        to_screen = matrix(seed, fov=fov, mirrored=mirrored) * (1.0 if seed % 2 else 3.7)
        sight = sight_through(to_screen, SIZE, (1.0, 1.0, 2.5), BOX)
        assert sight is not None
        assert math.isinf(sight.distance) == (fov == 0)
        for point in POINTS:
            column, row, _ = on_screen(sight, point)
            expected = pixel(to_screen, point)
            assert (column + SIZE[0] / 2, row + SIZE[1] / 2) == pytest.approx(expected, abs=1e-4)


def test_what_is_near_is_in_front() -> None:
    """Of two points on one ray the one with less depth is before the other, whatever the sign of the matrix."""
    for seed in range(6):
        for fov in (0.0, 30.0):
            to_screen = matrix(seed, fov=fov, mirrored=bool(seed % 2))
            sight = sight_through(to_screen, SIZE, (1.0, 1.0, 2.5), BOX)
            assert sight is not None
            back = np.linalg.inv(to_screen)
            depths = []
            for depth in (0.2, 0.8) if fov else (300.0, 500.0):
                at = np.array([120.0, 80.0, depth, 1.0]) @ back
                depths.append(float(sight.depths(at[:3] / at[3])[()]))
            assert depths[0] < depths[1]


def test_a_matrix_that_bends_shapes_has_no_sight() -> None:
    plain = matrix(1)
    stretched = plain.copy()
    stretched[:, 0] *= 1.2
    assert sight_through(stretched, SIZE, (1.0, 1.0, 2.5), BOX) is None
    assert sight_through(plain, SIZE, (1.0, 1.0, 1.0), BOX) is None  # voxels of another shape
    assert sight_through(plain * np.nan, SIZE, (1.0, 1.0, 2.5), BOX) is None
    assert sight_through(np.zeros((4, 4)), SIZE, (1.0, 1.0, 2.5), BOX) is None
