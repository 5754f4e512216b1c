"""What all layers of a volume's frame share: the world, and what of it is shown. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.pyramid.model import PyramidSpec
from octree.pyramid.units import metres
from octree.render.view.state import VOLUME, aspect_of
from octree.render.view.volume.framing import Framed
from octree.render.volume_options import Clip, Length, VolumeOptions


@dataclass(frozen=True, slots=True)
class Around:
    """How a volume is looked at, in the voxels of the first image.

    ``world``  world units for each of its level-0 voxels, (z, y, x); the last is 1.
    ``extent`` of the first image, camera coordinates (z, y, x).
    ``clip``   only this box is shown, camera coordinates (z, y, x), with infinite ends where there are none.
    ``slab``   thickness in world units.
    """

    options: VolumeOptions
    world: tuple[float, float, float]
    extent: Region
    clip: Region | None = None
    slab: float | None = None

    @property
    def longest(self) -> float:
        """Its longest edge, world units."""
        return max(length * edge for length, edge in zip(self.extent.size, self.world, strict=True))

    @property
    def framed(self) -> Framed:
        """What cameras look around."""
        return Framed(self.extent, self.world)


def around_of(options: VolumeOptions, first: PyramidSpec) -> Around:
    """What the options mean for an image. Raises UsageError for a clipping box beside it, and for a slab in a unit where voxels
    have none."""
    world = (aspect_of(first, ("z", "x")), aspect_of(first, ("y", "x")), 1.0)
    clip = None if options.clip is None else _clip(options.clip, first)
    slab = None if options.slab is None else _slab(options.slab, first)
    lengths = [first.levels[0].shape[first.axis_names.index(axis)] for axis in VOLUME]
    extent = Region((0.0,) * 3, tuple(map(float, lengths)))
    return Around(options, world, extent, clip, slab)


def _clip(clip: Clip, first: PyramidSpec) -> Region:
    ends = {axis: (low, high) for axis, low, high in clip.spans}
    lows, highs = [], []
    for axis in VOLUME:
        length = first.levels[0].shape[first.axis_names.index(axis)]
        low, high = ends.get(axis, (None, None))
        if low is not None and low >= length:
            raise UsageError(
                f"--clip: {axis}={low:g}:{'' if high is None else f'{high:g}'} lies outside the image",
                hint=f"{axis} runs from 0 to {length}, the last not included",
            )
        lows.append(-math.inf if low is None else low)
        highs.append(math.inf if high is None else high)
    return Region(tuple(lows), tuple(highs))


def _slab(slab: Length, first: PyramidSpec) -> float:
    """World units: level-0 voxels of x."""
    if slab.unit is None:
        return slab.amount
    place = first.axis_names.index("x")
    unit, own = first.axes[place].unit, metres(slab.unit)
    size = metres(unit) if unit else None
    if size is None or own is None:
        raise UsageError(
            f"--slab {slab.amount:g} {slab.unit}: the voxels of the first SOURCE have no unit of length",
            hint="give the thickness in level-0 voxels of x, as in --slab 20",
        )
    return slab.amount * own / (size * first.levels[0].scale[place])
