"""Which samples of a ray a box owns, in numpy: what the shader counts is measured by it. Pure.

A box owns sample k when on each axis ``ceil(t_near - 1/2) <= k < ceil(t_far - 1/2)``, t being the steps to its two
planes. Boxes that share a plane share it here: disjoint boxes own disjoint samples, and all boxes of a partition own each
sample of the whole once. In float32 the numbers are those of the shader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from octree.render.view.volume.cells import Cells
from octree.render.view.volume.sight import Rays, Sight

Numbers: TypeAlias = NDArray[np.floating[Any]]
_LEAST = 1e-12
"""Rays that run along a plane are taken to cross it far away."""


def rays_at(rays: Rays, dtype: type[np.floating[Any]] = np.float32) -> tuple[Numbers, Numbers]:
    """Origins and steps of all rays, each (height, width, 3), (x, y, z) relative to ``rays.centre``."""
    half = dtype(0.5)
    columns, rows = ((np.arange(edge, dtype=dtype) + half) for edge in rays.size_px)
    i, j = columns[None, :, None], rows[:, None, None]
    origin, across, down, step, step_across, step_down = (
        np.array(vector, dtype)
        for vector in (rays.origin, rays.across, rays.down, rays.step, rays.step_across, rays.step_down)
    )
    origins, steps = origin + i * across + j * down, step + i * step_across + j * step_down
    steps = np.broadcast_to(steps, origins.shape)
    return origins, np.where(np.abs(steps) < _LEAST, dtype(_LEAST), steps)


def owned(
    rays: Rays, low: Sequence[float], high: Sequence[float], dtype: type[np.floating[Any]] = np.float32
) -> tuple[Numbers, Numbers]:
    """Of each ray the samples [first, stop) in a box, each (height, width); none where first >= stop. ``low`` and ``high``
    are (x, y, z), relative to ``rays.centre``."""
    origins, steps = rays_at(rays, dtype)
    inverse = dtype(1) / steps
    near, far = (_crossed(origins, inverse, np.array(plane, dtype)) for plane in (low, high))
    first, stop = np.minimum(near, far).max(-1), np.maximum(near, far).min(-1)
    return np.maximum(first, dtype(rays.first_k)), np.minimum(stop, dtype(rays.stop_k))


def count_samples(rays: Rays, cells: Cells, dtype: type[np.floating[Any]] = np.float32) -> NDArray[np.int64]:
    """How many samples each row of ``cells`` owns, (n,)."""
    origins, steps = rays_at(rays, dtype)
    inverse = dtype(1) / steps
    spans = []
    for axis, planes in enumerate(cells.planes):
        at = (origins[..., axis], inverse[..., axis])
        crossed = np.array([_crossed(*at, plane) for plane in planes.astype(dtype)])
        spans.append((np.minimum(crossed[:-1], crossed[1:]), np.maximum(crossed[:-1], crossed[1:])))
    (near_x, far_x), (near_y, far_y), (near_z, far_z) = spans
    counts = np.zeros(len(cells.keys), np.int64)
    for (z, y, x), row in np.ndenumerate(cells.cells):
        if row:
            first = np.maximum(np.maximum(near_x[x], near_y[y]), near_z[z])
            stop = np.minimum(np.minimum(far_x[x], far_y[y]), far_z[z])
            first = np.maximum(first, dtype(rays.first_k))
            stop = np.minimum(stop, dtype(rays.stop_k))
            counts[row - 1] += int(np.maximum(stop - first, 0).sum(dtype=np.float64))
    return counts


def total_samples(rays: Rays, sight: Sight) -> int:
    """How many samples lie in what is shown of a layer."""
    if sight.box.is_empty:
        return 0
    low, high = (np.subtract(ends[::-1], rays.centre) for ends in sight.box)
    first, stop = owned(rays, low.tolist(), high.tolist())
    return int(np.maximum(stop - first, 0).sum(dtype=np.float64))


def _crossed(origins: Any, inverse: Any, plane: Any) -> Any:
    """The first sample behind a plane."""
    return np.ceil((plane - origins) * inverse - origins.dtype.type(0.5))
