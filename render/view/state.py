"""What is looked at: one value for each frame, and what it means for one image. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from octree.pyramid.errors import UsageError
from octree.pyramid.model import PyramidSpec
from octree.render.view.camera import Camera

Positions = Mapping[str, int]
"""Level-0 positions by the name of their axis; 0 on axes that are not named."""


@dataclass(frozen=True, slots=True)
class ViewState:
    """Where the camera stands on the displayed axes, and where the view is on the others: (axis, level-0 position)
    each. A path is a sequence of these."""

    camera: Camera
    position: tuple[tuple[str, int], ...] = ()


def resolve(wishes: Positions, spec: PyramidSpec, *, lenient: bool = False) -> tuple[int, ...]:
    """The level-0 position on each axis of an image that is not displayed, in axis order.

    ``lenient``: axes that the image lacks are another's. Raises UsageError for those otherwise, and for a position
    outside the image."""
    sizes = {spec.axes[place].name: spec.levels[0].shape[place] for place in spec.index_axes}
    for axis, position in wishes.items():
        if axis in sizes and not 0 <= position < sizes[axis]:
            raise UsageError(
                f"{axis}={position} lies outside the image", hint=f"{axis} runs from 0 to {sizes[axis] - 1}"
            )
        if axis not in sizes and not lenient:
            raise UsageError(
                f"there is no axis {axis!r} to choose a position on",
                hint=f"axes: {', '.join(sizes) or 'none'}",
            )
    return tuple([wishes.get(axis, 0) for axis in sizes])


def own_index(spec: PyramidSpec, position: tuple[int, ...], level: int) -> tuple[int, ...]:
    """``TileKey.index`` of a level for level-0 positions. Planes that share a coarse plane share its tiles."""
    return tuple([_voxel(spec, level, *at) for at in zip(spec.index_axes, position, strict=True)])


def first_position(spec: PyramidSpec, index: tuple[int, ...], level: int) -> tuple[int, ...]:
    """The first level-0 positions whose ``own_index`` this is."""
    return tuple(
        bisect_left(range(spec.levels[0].shape[place]), voxel, key=partial(_voxel, spec, level, place))
        for place, voxel in zip(spec.index_axes, index, strict=True)
    )


def _voxel(spec: PyramidSpec, level: int, place: int, position: int) -> int:
    """Along one axis: the voxel of a level that holds the middle of a level-0 position."""
    base, own = spec.levels[0], spec.levels[level]
    world = base.translation[place] + position * base.scale[place]
    voxel = round((world - own.translation[place]) / own.scale[place] - 1e-9)
    return min(max(voxel, 0), own.shape[place] - 1)
