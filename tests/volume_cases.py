"""What tests of volumes share: lattices of bricks, sights, and a slow look at where a point comes to lie on the screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.render.view.camera import Camera
from octree.render.view.register import ToBase
from octree.render.view.volume.orbit import Orbit
from octree.render.view.volume.sight import Sight, sight_of

SAME = ToBase((1.0,) * 3, (0.0,) * 3)


def bricks(
    shape: Sequence[int],
    *,
    levels: int = 3,
    factor: Sequence[int] = (2, 2, 2),
    edge: int = 16,
    shift: float = 0.0,
    round_up: bool = True,
) -> Lattice:
    """``shape`` and ``factor`` are (z, y, x); ``shift``: of coarser levels, in their own voxels."""
    rounded = math.ceil if round_up else math.floor
    found, scale = [], [1.0] * 3
    for number in range(levels):
        size = tuple(max(1, rounded(n / s)) for n, s in zip(shape, scale, strict=True))
        origin = tuple(shift * s if number else 0.0 for s in scale)
        found.append(LatticeLevel(size, (edge,) * 3, tuple(scale), origin))
        scale = [s * f for s, f in zip(scale, factor, strict=True)]
    return Lattice(tuple(found))


def look_at(
    lattice: Lattice,
    size_px: tuple[int, int] = (64, 48),
    *,
    zoom: float = 1.0,
    at: Sequence[float] | None = None,
    world: Sequence[float] = (1.0, 1.0, 1.0),
    to_base: ToBase = SAME,
    clip: Region | None = None,
    slab: float | None = None,
    **angles: float,
) -> Sight:
    """``at`` and ``world`` are (z, y, x); in the middle of the lattice."""
    z, y, x = lattice.extent.centre if at is None else at
    camera = Camera(x, y, zoom, orbit=Orbit(z, **angles))
    return sight_of(
        camera, size_px, to_base=to_base, world=world, extent=lattice.extent, clip=clip, slab=slab
    )


def on_screen(sight: Sight, point: Sequence[float]) -> tuple[float, float, float]:
    """Column and row in pixels from the frame's middle, and depth, of a base point (x, y, z), plainly computed."""
    away = [p * v + c - t for p, v, c, t in zip(point, sight.voxel, sight.corner, sight.target, strict=True)]
    right, down, depth = (
        sum(a * b for a, b in zip(away, axis, strict=True))
        for axis in (sight.right, sight.down, sight.forward)
    )
    zoom = sight.zoom / (1 + depth / sight.distance)
    return right * zoom, down * zoom, depth


lattices = st.builds(
    bricks,
    st.tuples(*[st.integers(1, 70)] * 3),
    levels=st.integers(1, 3),
    factor=st.sampled_from([(2, 2, 2), (1, 2, 2), (3, 2, 2), (3, 3, 3), (2, 1, 3)]),
    edge=st.sampled_from([4, 7, 16]),
    shift=st.sampled_from([0.0, 0.0, -0.25, 0.5]),
    round_up=st.booleans(),
)
"""Odd, anisotropic, shifted, of several factors."""


@st.composite
def sights(draw: st.DrawFn, lattice: Lattice, size_px: tuple[int, int] = (24, 18)) -> Sight:
    """Views of it from anywhere: orthographic and perspective, slabs, clip boxes, other voxel sizes."""
    extent = lattice.extent
    at = [draw(st.floats(-0.2, 1.2)) * edge for edge in extent.size]
    clip = None
    if draw(st.integers(0, 3)) == 0:
        ends = [sorted((draw(st.floats(-0.1, 1.1)) * n, draw(st.floats(-0.1, 1.1)) * n)) for n in extent.size]
        clip = Region(*zip(*ends, strict=True))
    angles: dict[str, Any] = {
        name: draw(st.one_of(st.floats(-180, 180), st.sampled_from([0.0, 45.0, 90.0, 180.0])))
        for name in ("azimuth", "elevation", "roll")
    }
    return look_at(
        lattice,
        size_px,
        at=at,
        zoom=draw(st.floats(0.1, 4)),
        world=(draw(st.sampled_from([1.0, 2.5, 0.3])), draw(st.sampled_from([1.0, 1.7])), 1.0),
        clip=clip,
        slab=draw(st.sampled_from([None, None, None, 0.0, 0.5, 5.0])),
        fov=draw(st.sampled_from([0.0, 0.0, 1.0, 35.0, 90.0, 150.0])),
        **angles,
    )


def close(a: Any, b: Any, slack: float = 1e-9) -> bool:
    return bool(np.allclose(a, b, atol=slack, rtol=0))
