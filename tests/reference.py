"""A slow renderer of one layer, written to be obviously right: one pixel at a time, whole levels, float64.

It knows nothing of tiles, slots, textures or vertices. ``tests/test_gl_*.py`` hold the real one against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import LatticeLevel, Region


def texel_positions(low: float, high: float, count: int, scale: float, origin: float) -> list[float]:
    """Where the centres of ``count`` pixels that divide [low, high) lie, in texels of a level."""
    return [(low + (i + 0.5) * (high - low) / count - origin) / scale for i in range(count)]


def covered(low: float, high: float, count: int, extent: float) -> list[bool]:
    """Which pixels' centres lie in [0, extent), to 1e-7 pixel."""
    slack = 1e-7 * (high - low) / count
    centres = [low + (i + 0.5) * (high - low) / count for i in range(count)]
    return [-slack <= centre < extent - slack for centre in centres]


def nearest(pixels: NDArray[Any], y: float, x: float) -> Any:
    """The texel that holds (y, x); the edge beyond the level."""
    row = min(max(math.floor(y + 1e-7), 0), pixels.shape[0] - 1)
    col = min(max(math.floor(x + 1e-7), 0), pixels.shape[1] - 1)
    return pixels[row, col].astype(np.float64)


def linear(pixels: NDArray[Any], y: float, x: float) -> Any:
    """Bilinear interpolation between texel centres; the edge repeats."""
    row, col = math.floor(y - 0.5), math.floor(x - 0.5)
    fy, fx = y - 0.5 - row, x - 0.5 - col

    def at(r: int, c: int) -> Any:
        r = min(max(r, 0), pixels.shape[0] - 1)
        c = min(max(c, 0), pixels.shape[1] - 1)
        return pixels[r, c].astype(np.float64)

    top = (1 - fx) * at(row, col) + fx * at(row, col + 1)
    bottom = (1 - fx) * at(row + 1, col) + fx * at(row + 1, col + 1)
    return (1 - fy) * top + fy * bottom


def area(pixels: NDArray[Any], y: float, x: float, height: float, width: float) -> Any:
    """Mean over a box of ``height`` x ``width`` texels around (y, x); the edge repeats."""
    total = 0.0
    for row in range(math.floor(y - height / 2), math.ceil(y + height / 2)):
        part_y = min(row + 1, y + height / 2) - max(row, y - height / 2)
        for col in range(math.floor(x - width / 2), math.ceil(x + width / 2)):
            part_x = min(col + 1, x + width / 2) - max(col, x - width / 2)
            r = min(max(row, 0), pixels.shape[0] - 1)
            c = min(max(col, 0), pixels.shape[1] - 1)
            total = total + part_y * part_x * pixels[r, c].astype(np.float64)
    return total / (height * width)


def window(value: Any, clim: tuple[float, float], gamma: float = 1.0) -> Any:
    """Value to 0 … 1."""
    return np.clip((value - clim[0]) / (clim[1] - clim[0]), 0.0, 1.0) ** gamma


def render(
    pixels: NDArray[Any],
    level: LatticeLevel,
    extent: Region,
    view: Region,
    size_px: tuple[int, int],
    color_of: Callable[[Any], Any],
    *,
    interpolation: str = "nearest",
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.uint8]:
    """(h, w, 3) frame of ``size_px`` (w, h) showing ``view`` (base coordinates) from one whole level.

    ``color_of`` turns a texel value (float64 scalar or samples) into (red, green, blue[, alpha]), 0 to 1."""
    width, height = size_px
    ys = texel_positions(view.y0, view.y1, height, level.scale[0], level.origin[0])
    xs = texel_positions(view.x0, view.x1, width, level.scale[1], level.origin[1])
    rows = covered(view.y0, view.y1, height, extent.y1)
    cols = covered(view.x0, view.x1, width, extent.x1)
    step_y = (view.y1 - view.y0) / height / level.scale[0]
    step_x = (view.x1 - view.x0) / width / level.scale[1]
    frame = np.zeros((height, width, 3), np.float64) + background
    for i in range(height):
        for j in range(width):
            if not (rows[i] and cols[j]):
                continue
            if interpolation == "nearest":
                value = nearest(pixels, ys[i], xs[j])
            elif step_y <= 1 and step_x <= 1:
                value = linear(pixels, ys[i], xs[j])
            else:
                value = area(pixels, ys[i], xs[j], max(step_y, 1), max(step_x, 1))
            color = np.asarray(color_of(value), np.float64)
            alpha = color[3] if len(color) > 3 else 1.0
            frame[i, j] = color[:3] * alpha + frame[i, j] * (1 - alpha)
    return np.rint(frame * 255).astype(np.uint8)
