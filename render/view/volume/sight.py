"""What a camera around a volume shows of one layer, and the rays of its pixels. Pure.

Vectors are (x, y, z), as OpenGL has them; regions and lattices have (z, y, x) as everywhere. *Depth* is how far a point
lies behind the plane across the view axis through the point that is looked at, in world units; that plane shows ``zoom``
screen pixels for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.render.view.camera import Camera
from octree.render.view.register import ToBase
from octree.render.view.volume.orbit import Vec, basis_of

Places: TypeAlias = tuple[float | None, float | None, float | None]
"""Where planes across x, y and z lie; None: there is none across that axis."""
EVER = 1e9
"""More samples than any ray has."""
BIAS = 2.0**-9
"""Pixels, and steps: rays and samples that would lie on the border between two voxels all lie on the same side of it, in
float32, too."""

_BEFORE_EYE = 1e-3
"""Steps: planes are seen from there on."""
_LEAST_FOV = 1e-4
"""Degrees. A narrower view moves no corner by a hundredth of a pixel: it is orthographic."""


@dataclass(frozen=True, slots=True, eq=False)
class Rays:
    """The rays of all pixels of a frame, in base coordinates of one layer, relative to ``centre``.

    The pixel of column i and row j, counted from the top left, looks from ``origin + (i + 1/2) across + (j + 1/2) down`` along
    ``step + (i + 1/2) step_across + (j + 1/2) step_down``; the last two are 0 without perspective. Its sample k lies
    k + 1/2 such steps from there: on planes across the view axis, the same for all pixels.

    ``size_px``     (width, height).
    ``centre``      base coordinates: what is near it is exact in float32, too.
    ``first_k``, ``stop_k``     samples from the first, before the other, exist: those of a slab, or in front of the eye.
    ``step_world``  how far two planes of samples lie apart, in level-0 voxels of x.
    ``depth``       of the origins, see above.
    ``planes``      of the volume these are shown alone, relative to ``centre``: a ray has a sample where it crosses each, from the
                    ``first_k``-th step on, before the other. None: all of the volume is.
    """

    size_px: tuple[int, int]
    centre: Vec
    origin: Vec
    across: Vec
    down: Vec
    step: Vec
    step_across: Vec
    step_down: Vec
    first_k: float
    stop_k: float
    step_world: float
    depth: float = 0.0
    planes: Places | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What a frame shows of one layer.

    ``size_px``   (width, height).
    ``right``, ``down``, ``forward``  of the frame, unit vectors of the world.
    ``target``    the point at the middle of the frame, world.
    ``zoom``      screen pixels per world unit there.
    ``distance``  from the eye to there, world; infinite without perspective.
    ``voxel``     world edges of a base voxel.  ``corner``  the world point of base coordinate 0.
    ``box``       what is shown of the layer, base coordinates (z, y, x); empty when nothing is.
    ``slab``      only so much of it, about the target across the view axis, world; None: all.
    ``planes``    these are shown alone, base coordinates; None: all of the volume is.
    """

    size_px: tuple[int, int]
    right: Vec
    down: Vec
    forward: Vec
    target: Vec
    zoom: float
    distance: float
    voxel: Vec
    corner: Vec
    box: Region
    slab: float | None = None
    planes: Places | None = None

    @property
    def centre(self) -> Vec:
        """A whole base coordinate near what is looked at, in the box: what is drawn is relative to it."""
        inside = (
            min(max((at - corner) / edge, low), high)
            for at, corner, edge, low, high in zip(
                self.target, self.corner, self.voxel, self.box.low[::-1], self.box.high[::-1], strict=True
            )
        )
        x, y, z = (float(round(at)) for at in inside)
        return x, y, z

    def world(self, base: Any) -> NDArray[np.float64]:
        """(n, 3) base coordinates (x, y, z) → world points relative to the target."""
        corner = np.subtract(self.corner, self.target)
        points: NDArray[np.float64] = np.asarray(base, np.float64) * self.voxel + corner
        return points

    def depths(self, base: Any) -> NDArray[np.float64]:
        """(n,) of base coordinates (n, 3)."""
        depths: NDArray[np.float64] = self.world(base) @ np.array(self.forward)
        return depths

    def px_per_world(self, depth: Any) -> Any:
        """Screen pixels per world unit at a depth, or at many; infinite at the eye and behind it."""
        if math.isinf(self.distance):
            return np.full(np.shape(depth), self.zoom)[()]
        before_eye = np.maximum(1.0 + np.asarray(depth) / self.distance, 0.0)
        with np.errstate(divide="ignore"):
            return self.zoom / before_eye


def sight_of(
    camera: Camera,
    size_px: tuple[int, int],
    *,
    to_base: ToBase,
    world: Sequence[float],
    extent: Region,
    clip: Region | None = None,
    slab: float | None = None,
    planes: Places | None = None,
) -> Sight:
    """What ``camera``, which has an orbit, shows of a layer in a frame of ``size_px`` (width, height).

    ``to_base``  camera coordinates to the layer's, (z, y, x).
    ``world``    world units per camera voxel, (z, y, x): the last is 1.
    ``extent``   of the layer, base coordinates.
    ``clip``     shows only what lies in it, camera coordinates (z, y, x); infinite ends are none.
    ``slab``     world units.
    ``planes``   base coordinates.
    """
    orbit = camera.orbit
    if orbit is None:
        raise ValueError(f"camera {camera.name!r} looks at a plane")
    stretch, scale, offset = (tuple(numbers)[::-1] for numbers in (world, to_base.scale, to_base.offset))
    voxel = tuple([s / per for s, per in zip(stretch, scale, strict=True)])
    corner = tuple([-at * edge for at, edge in zip(offset, voxel, strict=True)])
    target = tuple([at * s for at, s in zip((camera.x, camera.y, orbit.z), stretch, strict=True)])
    distance = math.inf
    if orbit.fov >= _LEAST_FOV:
        distance = size_px[1] / (2 * camera.zoom * math.tan(math.radians(orbit.fov / 2)))
    box = extent if clip is None else extent.intersect(to_base.region(clip))
    basis, seen = basis_of(orbit), (_vec(target), camera.zoom, distance)
    return Sight(size_px, *basis, *seen, _vec(voxel), _vec(corner), box, slab, planes)


def rays_of(sight: Sight, step_world: float) -> Rays:
    """The rays of a frame with samples ``step_world`` apart.

    Planes of samples keep their places in the volume while the camera moves along the view axis: half a step from the
    corner of its first voxel, so that they are voxel middles where it looks along an axis. Those of a slab lie about the
    target instead; a slab thinner than a step has one, there.
    """
    corner = float(sight.depths([0.0, 0.0, 0.0]))
    first_k, stop_k = -EVER, EVER
    if sight.slab is None:
        middle = float(sight.depths(sight.centre))
        start = corner + round((middle - corner) / step_world) * step_world
    else:
        count = slab_samples(sight.slab, step_world)
        start = -step_world / 2 if count % 2 else 0.0
        first_k, stop_k = float(-(count // 2)), float(count - count // 2)
        if sight.planes is not None:
            first_k, stop_k = (
                (sign * max(sight.slab, step_world) / 2 - start) / step_world for sign in (-1, 1)
            )
    if math.isfinite(sight.distance):
        eye = (-sight.distance - start) / step_world
        behind = math.floor(eye - 0.5 + 1e-6)  # the sample that would lie in the eye
        first_k = max(first_k, behind + 1.0 if sight.planes is None else eye + _BEFORE_EYE)
        stop_k = max(stop_k, first_k)
    start += 0.4 * BIAS * step_world  # other shares than 1: no tie on diagonals, either
    left, top = (BIAS * share - edge / 2 for share, edge in zip((1.0, 0.7), sight.size_px, strict=True))
    right, down, forward, voxel = map(np.array, (sight.right, sight.down, sight.forward, sight.voxel))
    target = np.subtract(sight.target, sight.corner)
    px = (1.0 + start / sight.distance) / sight.zoom  # world units at the origins
    turn = step_world / (sight.zoom * sight.distance)

    def along(vector: NDArray[np.float64]) -> Vec:
        return _vec((vector / voxel).tolist())

    origin = (target + start * forward + (left * right + top * down) * px) / voxel - sight.centre
    return Rays(
        size_px=sight.size_px,
        centre=sight.centre,
        origin=_vec(origin.tolist()),
        across=along(px * right),
        down=along(px * down),
        step=along(step_world * forward + turn * (left * right + top * down)),
        step_across=along(turn * right),
        step_down=along(turn * down),
        first_k=first_k,
        stop_k=stop_k,
        step_world=step_world,
        depth=start,
        planes=_relative(sight),
    )


def _relative(sight: Sight) -> Places | None:
    if sight.planes is None:
        return None
    pairs = zip(sight.planes, sight.centre, strict=True)
    x, y, z = (None if at is None else at - middle for at, middle in pairs)
    return x, y, z


def slab_samples(slab: float, step_world: float) -> int:
    """How many planes of samples a slab has: at least one."""
    return max(1, round(min(slab / step_world, EVER)))


def widened(sight: Sight, by: float) -> Sight:
    """The same with a frame larger by this share of it at each side."""
    width, height = (edge + 2 * math.ceil(by * edge) for edge in sight.size_px)
    return replace(sight, size_px=(width, height))


def _vec(numbers: Sequence[float]) -> Vec:
    x, y, z = numbers
    return x, y, z
