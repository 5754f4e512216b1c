"""What of the world a frame shows: which boxes meet it, and how near they come. Pure; whole arrays.

Points are (x, y, z), world units relative to the sight's target. Boxes are along the world's axes: (n, 3) low and high.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from octree.render.view.volume.sight import BIAS, Sight

_MARGIN_PX = 1 / 16
"""Rays go through the middles of pixels. The outermost may be off by so much in float32."""
_ROUNDING = 2.0**-20
_LEAST = 1e-6
Numbers = NDArray[np.float64]


class Frustum:
    """All rays of a sight, between the depths that the shown box, its slab and the eye leave: a box, or a pyramid without its
    tip. ``most_step``: samples lie no further apart (world)."""

    def __init__(self, sight: Sight, most_step: float = 0.0) -> None:
        right, down, forward = (np.array(axis) for axis in (sight.right, sight.down, sight.forward))
        low, high = (sight.world(ends[::-1]) for ends in sight.box)
        depths = [np.array(c) @ forward for c in itertools.product(*zip(low, high, strict=True))]
        self.near, self.far = float(min(depths)), float(max(depths))
        if sight.slab is not None:
            # planes are cut off, not sampled: what is a step thick is seen as such
            reach = sight.slab / 2 if sight.planes is None else max(sight.slab, most_step) / 2
            self.near, self.far = max(self.near, -reach), min(self.far, reach + BIAS * most_step)
        self.near = max(self.near, -sight.distance)
        self.is_empty = sight.box.is_empty or self.near > self.far
        half = [((edge - 1) / 2 + _MARGIN_PX) / sight.zoom for edge in sight.size_px]
        self._forward = forward
        sides = [right * half[0] * a + down * half[1] * b for a in (1, -1) for b in (1, -1)]
        edges = [forward + side / sight.distance for side in sides]
        corners = np.array(
            [side + edge * depth for side, edge in zip(sides, edges, strict=True) for depth in (self.near, self.far)]
        )  # fmt: skip
        # n . p <= half, n outwards
        narrowing = [forward * (size / sight.distance) for size in half]
        self._planes = [
            (sign * axis - less, size)
            for axis, less, size in zip((right, down), narrowing, half, strict=True)
            for sign in (1, -1)
        ]
        self._axes = _separating([normal for normal, _ in self._planes], [right, down, *edges])
        shown = corners @ self._axes.T
        slack = _ROUNDING * max(1.0, float(np.abs(corners).max(initial=0.0)))
        self._low, self._high = shown.min(axis=0) - slack, shown.max(axis=0) + slack
        self._bounds = self._nearest_bounds()

    def meets(self, low: Numbers, high: Numbers) -> NDArray[np.bool_]:
        """(n,) whether boxes share a point with it: exact, since two convex bodies that do not are parted by a plane along a
        face of one of them, or along an edge of each."""
        if self.is_empty:
            return np.zeros(len(low), bool)
        middle, reach = self._spread(low, high, self._axes)
        met: NDArray[np.bool_] = ((middle - reach <= self._high) & (middle + reach >= self._low)).all(axis=1)
        return met

    def nearest(self, low: Numbers, high: Numbers) -> Numbers:
        """(n,) the least depth at which boxes that meet it are in view."""
        axes, offsets = self._bounds
        middle, reach = self._spread(low, high, axes)
        depths: Numbers = (middle - reach - offsets).max(axis=1)
        return np.maximum(depths, self.near)

    @staticmethod
    def _spread(low: Numbers, high: Numbers, axes: Numbers) -> tuple[Numbers, Numbers]:
        return (low + high) / 2 @ axes.T, (high - low) / 2 @ np.abs(axes).T

    def _nearest_bounds(self) -> tuple[Numbers, Numbers]:
        """Directions and offsets of which the largest bound is the least depth of a box in the pyramid.

        The dual of a linear program: for planes n · p <= c and any weights >= 0 no point inside has a depth below the
        least of (forward + sum of weights * n) · p over the box, less the sum of weights * c. The best weights leave that
        direction as many zeros as there are planes in it, which are therefore few and the same for all boxes."""
        forward = self._forward.tolist()
        found = [(forward, 0.0)]
        planes = [(normal.tolist(), limit) for normal, limit in self._planes]
        for (n, limit), axis in itertools.product(planes, range(3)):
            if abs(n[axis]) > _LEAST and (weight := -forward[axis] / n[axis]) >= 0:
                found.append(([f + weight * at for f, at in zip(forward, n, strict=True)], weight * limit))
        for ((n, limit), (m, other)), (i, j) in itertools.product(
            itertools.combinations(planes, 2), itertools.combinations(range(3), 2)
        ):
            if abs(det := n[i] * m[j] - n[j] * m[i]) > _LEAST:
                a = (forward[j] * m[i] - forward[i] * m[j]) / det
                b = (forward[i] * n[j] - forward[j] * n[i]) / det
                if a >= 0 and b >= 0:
                    found.append(
                        (
                            [f + a * p + b * q for f, p, q in zip(forward, n, m, strict=True)],
                            a * limit + b * other,
                        )
                    )
        return np.array([axis for axis, _ in found]), np.array([offset for _, offset in found])


def _separating(planes: list[Numbers], edges: list[Numbers]) -> Numbers:
    """Unit normals of all planes that may part a box from a body of these side planes and edges."""

    across = np.cross(np.eye(3)[:, None], np.array(edges)).reshape(-1, 3)
    found = np.concatenate([np.eye(3), np.cross(edges[0], edges[1])[None], np.array(planes), across])
    lengths = np.linalg.norm(found, axis=1)
    some = lengths > 1e-9
    return np.unique(np.round(found[some] / lengths[some, None], 12), axis=0)
