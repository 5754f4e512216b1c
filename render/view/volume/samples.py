"""Which samples of a ray a box owns, in numpy: what the shader counts is measured by it. Pure.

A box owns sample k when on each axis ``ceil(t_near - 1/2) <= k < ceil(t_far - 1/2)``, t being the steps to its two
planes. Boxes that share a plane share it here: disjoint boxes own disjoint samples, and all boxes of a partition own each
sample of the whole once. In float32 the numbers are those of the shader.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from octree.render.view.volume.cells import Cells
from octree.render.view.volume.orbit import Vec
from octree.render.view.volume.sight import Rays, Sight

Numbers: TypeAlias = NDArray[np.floating[Any]]
_LEAST = 1e-12
"""Rays that run along a plane are taken to cross it far away."""


def rays_at(rays: Rays, dtype: type[np.floating[Any]] = np.float32) -> tuple[Numbers, Numbers]:
    """Origins and steps of all rays, each (height, width, 3), (x, y, z) relative to ``rays.centre``."""
    along = [_along(rays, axis, dtype) for axis in range(3)]
    shape = rays.size_px[::-1]
    origins, steps = (
        np.stack([np.broadcast_to(each, shape) for each in of], axis=-1) for of in zip(*along, strict=True)
    )
    return origins, steps


def _along(rays: Rays, axis: int, dtype: type[np.floating[Any]]) -> tuple[Numbers, Numbers]:
    """Origins and steps along one axis, which spread to (height, width): added up in the order in which the shader does."""
    half = dtype(0.5)
    width, height = rays.size_px
    i, j = np.arange(width, dtype=dtype)[None] + half, np.arange(height, dtype=dtype)[:, None] + half

    def added(at: Vec, across: Vec, down: Vec) -> Numbers:
        start: Numbers = np.full((1, 1), at[axis], dtype)
        if across[axis] or down[axis]:
            start = start + i * dtype(across[axis]) + j * dtype(down[axis])
        return start

    steps = added(rays.step, rays.step_across, rays.step_down)
    return added(rays.origin, rays.across, rays.down), np.where(np.abs(steps) < _LEAST, dtype(_LEAST), steps)


def owned(
    rays: Rays, low: Sequence[float], high: Sequence[float], dtype: type[np.floating[Any]] = np.float32
) -> tuple[Numbers, Numbers]:
    """Of each ray the samples [first, stop) in a box, each (height, width); none where first >= stop. ``low`` and ``high``
    are (x, y, z), relative to ``rays.centre``."""
    shape = rays.size_px[::-1]
    first, stop = np.full(shape, rays.first_k, dtype), np.full(shape, rays.stop_k, dtype)
    for axis in range(3):
        one, other = _crossed(rays, axis, [low[axis], high[axis]], dtype)
        np.maximum(first, np.minimum(one, other), out=first)
        np.minimum(stop, np.maximum(one, other), out=stop)
    return first, stop


def seen_samples(rays: Rays, sight: Sight) -> NDArray[np.int64]:
    """How many samples of each pixel's ray lie in what is shown of a layer, (height, width)."""
    if sight.box.is_empty:
        return np.zeros(rays.size_px[::-1], np.int64)
    low, high = (np.subtract(ends[::-1], rays.centre).tolist() for ends in sight.box)
    if rays.planes is not None:
        return crossed_planes(rays, low, high)
    first, stop = owned(rays, low, high)
    return np.maximum(stop - first, 0).astype(np.int64)


def crossed_planes(
    rays: Rays, low: Sequence[float], high: Sequence[float], dtype: type[np.floating[Any]] = np.float32
) -> NDArray[np.int64]:
    """How many of ``rays.planes`` each ray crosses in a box, (height, width). ``low`` and ``high`` as of ``owned``."""
    assert rays.planes is not None
    count = np.zeros(rays.size_px[::-1], np.int64)
    along = [_along(rays, axis, dtype) for axis in range(3)]
    for across, at in enumerate(rays.planes):
        if at is None or not low[across] <= at < high[across]:
            continue
        t = (dtype(at) - along[across][0]) * (dtype(1) / along[across][1])
        inside = (t >= dtype(rays.first_k)) & (t < dtype(rays.stop_k))
        for axis in {0, 1, 2} - {across}:
            place = along[axis][0] + t * along[axis][1]
            inside = inside & (place >= dtype(low[axis])) & (place < dtype(high[axis]))
        count += np.broadcast_to(inside, count.shape)
    return count


def count_samples(rays: Rays, cells: Cells, dtype: type[np.floating[Any]] = np.float32) -> NDArray[np.int64]:
    """How many samples each row of ``cells`` owns, (n,). Slow: cell by cell."""
    spans = []
    for axis, planes in enumerate(cells.planes):
        crossed = _crossed(rays, axis, planes.tolist(), dtype)
        spans.append([(np.minimum(*ends), np.maximum(*ends)) for ends in pairwise(crossed)])
    counts = np.zeros(len(cells.keys), np.int64)
    for place, row in np.ndenumerate(cells.cells):
        if row:
            own = [along[number] for along, number in zip(spans, place[::-1], strict=True)]
            first = np.maximum(reduce(np.maximum, [near for near, _ in own]), dtype(rays.first_k))
            stop = np.minimum(reduce(np.minimum, [far for _, far in own]), dtype(rays.stop_k))
            counts[row - 1] += int(np.maximum(stop - first, 0).sum(dtype=np.float64))
    return counts


def _crossed(rays: Rays, axis: int, planes: Sequence[float], dtype: type[np.floating[Any]]) -> list[Numbers]:
    """Of each ray the first sample behind each of the planes across an axis, (height, width)."""
    origins, steps = _along(rays, axis, dtype)
    inverse, half = dtype(1) / steps, dtype(0.5)
    shape = rays.size_px[::-1]
    return [np.broadcast_to(np.ceil((dtype(plane) - origins) * inverse - half), shape) for plane in planes]
