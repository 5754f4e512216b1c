"""What of an image a camera of vispy shows, whatever its kind: pure geometry.

The image's rectangle goes forward through the transform and is cut to the screen there, in homogeneous
coordinates, so that a perspective view, in which half the screen may see no image at all, is as exact as a flat one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region

_NEAREST = 1e-6
"""Least depth, in the transform's own unit, of what counts as before the camera."""
NOTHING = (Region((0.0, 0.0), (0.0, 0.0)), (1.0, 1.0))


def seen_part(
    to_screen: NDArray[np.float64], extent: Region, screen: Region
) -> tuple[Region, tuple[float, float]]:
    """(the part of ``extent`` that the screen shows, screen pixels per base pixel (y, x) where it is nearest).

    ``to_screen`` (4, 4): where the transform sends the unit vectors of base coordinates (x, y, z, 1), as rows.
    A part that is no upright rectangle gives the one around it; nothing in view gives ``NOTHING``."""
    (y0, x0), (y1, x1) = extent
    corners = np.array([[x0, y0, 0, 1], [x1, y0, 0, 1], [x1, y1, 0, 1], [x0, y1, 0, 1]], np.float64)
    inside = np.array(
        [
            [0, 0, 0, 1],
            [1, 0, 0, -screen.x0],
            [-1, 0, 0, screen.x1],
            [0, 1, 0, -screen.y0],
            [0, -1, 0, screen.y1],
        ]
    )
    if screen.is_empty or not np.isfinite(to_screen).all():
        return NOTHING
    for side, least in zip(inside, (_NEAREST, 0, 0, 0, 0), strict=True):
        corners = _cut(corners, corners @ to_screen @ side - least)
        if not len(corners):
            return NOTHING
    (left, top), (right, bottom) = corners[:, :2].min(0).tolist(), corners[:, :2].max(0).tolist()
    if not (right > left and bottom > top):
        return NOTHING
    at = corners @ to_screen
    px = [float(_lengths(at, to_screen[axis]).max()) for axis in (1, 0)]
    return Region((top, left), (bottom, right)), (px[0], px[1])


def seen_by_points(
    from_screen: Callable[[NDArray[np.float64]], Any], extent: Region, screen: Region
) -> tuple[Region, tuple[float, float]]:
    """The same where a transform bends (polar, logarithmic): from where a grid of screen points lies."""
    if screen.is_empty:
        return NOTHING
    grid = np.meshgrid(np.linspace(screen.x0, screen.x1, 9), np.linspace(screen.y0, screen.y1, 9))
    points = np.stack([*map(np.ravel, grid), np.zeros(81), np.ones(81)], axis=1)
    with np.errstate(all="ignore"):
        at = np.asarray(from_screen(points), np.float64)
        at = at[:, :2] / at[:, 3:]
    at = at[np.isfinite(at).all(1)]
    if not len(at):
        return NOTHING
    (left, top), (right, bottom) = at.min(0).tolist(), at.max(0).tolist()
    seen = Region((top, left), (bottom, right))
    if seen.intersect(extent).is_empty:
        return NOTHING
    px = (screen.y1 - screen.y0) / (bottom - top), (screen.x1 - screen.x0) / (right - left)
    return seen.intersect(extent), px


def _cut(corners: NDArray[np.float64], inside: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of a polygon, (n, 4), where ``inside``, linear and known at its corners, is not negative."""
    kept = []
    for (a, da), (b, db) in itertools.pairwise([*zip(corners, inside, strict=True), (corners[0], inside[0])]):
        if da >= 0:
            kept.append(a)
        if (da >= 0) != (db >= 0):
            kept.append(a + (b - a) * (da / (da - db)))
    return np.array(kept)


def _lengths(at: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far on the screen one base pixel along ``step`` is, at places ``at`` (n, 4) after the transform."""
    w = at[:, 3:]
    moved: NDArray[np.float64] = (step[:2] - at[:, :2] / w * step[3]) / w
    return np.hypot(moved[:, 0], moved[:, 1])
