"""How large a volume is drawn so that all of it is in the frame. Pure."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from octree.pyramid.grid import Region
from octree.render.view.volume.orbit import Orbit, Vec, basis_of


@dataclass(frozen=True, slots=True)
class Framed:
    """What a camera looks around: ``region`` in camera coordinates (z, y, x), and world units per level-0 voxel, (z, y, x),
    the last of which is 1."""

    region: Region
    world: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def half(self) -> Vec:
        """Half its edges, (x, y, z), world units."""
        z, y, x = (
            max(length, 1e-9) * edge / 2 for length, edge in zip(self.region.size, self.world, strict=True)
        )
        return x, y, z


def fit_zoom(volume: Framed, size_px: tuple[int, int], orbit: Orbit) -> float:
    """The largest zoom with which all corners are in a frame of ``size_px`` (width, height) with the volume's centre in its
    middle."""
    width, height = size_px
    basis, slope = basis_of(orbit), _slope(orbit)
    zooms = []
    for signs in itertools.product((1, -1), repeat=3):
        corner = [sign * half for sign, half in zip(signs, volume.half, strict=True)]
        right, down, depth = (sum(a * b for a, b in zip(corner, axis, strict=True)) for axis in basis)
        # in perspective a corner is drawn larger by how near it is: zoom * right <= width / 2 * (1 + depth / distance)
        across = abs(right) - depth * slope * width / height
        along = abs(down) - depth * slope
        zooms += [edge / (2 * reach) for edge, reach in ((width, across), (height, along)) if reach > 0]
    return min(zooms)


def turning_zoom(volume: Framed, size_px: tuple[int, int], elevation: float) -> float:
    """The same for every azimuth, orthographic."""
    x, y, z = volume.half
    around, turn = math.hypot(x, z), math.radians(elevation)
    upright = y * abs(math.cos(turn)) + around * abs(math.sin(turn))
    return min(size_px[0] / (2 * around), size_px[1] / (2 * upright))


def any_zoom(volume: Framed, size_px: tuple[int, int], fov: float = 0.0) -> float:
    """The same for every orientation: that of the sphere around the volume."""
    radius, (width, height) = math.hypot(*volume.half), size_px
    least = min(1.0, width / height)
    if not fov:
        return least * height / (2 * radius)
    slope = _slope(Orbit(0.0, fov=fov))
    return height * math.sin(math.atan(slope * least)) / (2 * slope * radius)


def _slope(orbit: Orbit) -> float:
    return math.tan(math.radians(orbit.fov / 2))
