"""What a camera of vispy shows of a volume: from its matrix to a ``Sight``. Pure.

A camera that keeps shapes, orthographic or in perspective, from anywhere, mirrored or not, is a rotation, a scale and
a distance; these are read off the matrix. One that does not (rows stretched, a lens off the axis) has no sight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.render.view.volume.orbit import Vec
from octree.render.view.volume.sight import Sight

_SLACK = 1e-3
"""How far edges may be from equal and angles from right: matrices of OpenGL are of float32."""


def sight_through(
    to_screen: NDArray[np.float64], size_px: tuple[int, int], voxel: Sequence[float], box: Region
) -> Sight | None:
    """What a frame of ``size_px`` (width, height) shows of ``box`` (z, y, x); None of a matrix that bends shapes.

    ``to_screen``  (4, 4): where the unit vectors of base coordinates (x, y, z, 1) go, as rows: pixels of the frame to the
                   right and down, depth away from the viewer, and what these are divided by.
    ``voxel``      world edges of a base voxel, (x, y, z).
    """
    edges = np.asarray(voxel, np.float64)
    if not np.isfinite(to_screen).all():
        return None
    wide, high, deep, weight = to_screen[:3].T / edges
    begin = to_screen[3]
    middle = np.array(size_px) / 2
    across, down = wide - middle[0] * weight, high - middle[1] * weight
    offset = begin[:2] - middle * begin[3]
    lengths = [float(np.linalg.norm(vector)) for vector in (across, down)]
    if not min(lengths) > 0 or abs(lengths[0] / lengths[1] - 1) > _SLACK:
        return None
    scale = math.sqrt(lengths[0] * lengths[1])
    right, below = across / lengths[0], down / lengths[1]
    forward = np.cross(right, below)
    if abs(right @ below) > _SLACK or not abs(np.linalg.norm(forward) - 1) <= _SLACK:
        return None
    turned = float(np.linalg.norm(weight))
    centre = (np.array(box.low) + box.high)[::-1] / 2 * edges
    per_px = scale / max(abs(begin[3]), 1e-300)
    if turned * np.linalg.norm(edges * box.size[::-1]) <= _SLACK * abs(begin[3]) or not turned:
        if begin[3] == 0:
            return None
        sign = math.copysign(1.0, begin[3])
        right, below = sign * right, sign * below
        forward = forward if forward @ deep * sign >= 0 else -forward
        # of the points that the middle of the frame shows the one beside the centre
        aside = -(offset / begin[3]) / per_px
        target = aside[0] * right + aside[1] * below
        target = target + (centre - target) @ forward * forward
        return _sight(size_px, right, below, forward, target, per_px, math.inf, voxel, box)
    if abs(abs(forward @ weight) / turned - 1) > _SLACK:
        return None
    forward = weight / turned
    eye = np.linalg.solve(np.array([across, down, weight]), -np.append(offset, begin[3]))
    distance = max(float((centre - eye) @ forward), _SLACK * scale / turned)
    target, zoom = eye + distance * forward, scale / (turned * distance)
    return _sight(size_px, right, below, forward, target, zoom, distance, voxel, box)


def _sight(
    size_px: tuple[int, int],
    right: NDArray[np.float64],
    down: NDArray[np.float64],
    forward: NDArray[np.float64],
    target: NDArray[np.float64],
    zoom: float,
    distance: float,
    voxel: Sequence[float],
    box: Region,
) -> Sight:
    return Sight(
        size_px=size_px,
        right=_vec(right),
        down=_vec(down),
        forward=_vec(forward),
        target=_vec(target),
        zoom=zoom,
        distance=distance,
        voxel=_vec(voxel),
        corner=(0.0, 0.0, 0.0),
        box=box,
    )


def _vec(numbers: Sequence[float] | NDArray[np.float64]) -> Vec:
    x, y, z = map(float, numbers)
    return x, y, z
