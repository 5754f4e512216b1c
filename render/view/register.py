"""How layers lie on each other: from OME metadata to one affine map per layer. Pure.

Camera coordinates are level-0 pixels of the first layer. A layer is registered to it through world
coordinates: corner of voxel 0 and voxel size, both in the layer's unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octree.pyramid.grid import Region
from octree.pyramid.model import PyramidSpec
from octree.pyramid.units import metres


@dataclass(frozen=True, slots=True)
class ToBase:
    """Camera coordinates to base coordinates of one layer: ``base = camera * scale + offset``, per displayed axis."""

    scale: tuple[float, ...] = (1.0, 1.0)
    offset: tuple[float, ...] = (0.0, 0.0)

    def region(self, view: Region) -> Region:
        low, high = (
            tuple(
                [at * scale + offset for at, scale, offset in zip(ends, self.scale, self.offset, strict=True)]
            )
            for ends in view
        )
        return Region(low, high)


@dataclass(frozen=True, slots=True)
class _World:
    """Voxel size and outer corner of voxel 0 along one axis; ``metres`` per unit, None without a unit."""

    size: float
    corner: float
    metres: float | None


def to_base(first: PyramidSpec, layer: PyramidSpec, displayed: Sequence[str] = "yx") -> ToBase:
    """The map from camera coordinates (voxels of ``first``) to voxels of ``layer``, on the
    ``displayed`` axes.

    Units that can be converted are. Where one side has a unit and the other has nothing but the default voxel
    size of 1, sizes say nothing about each other and the layers are laid pixel on pixel.
    """
    along = [_along(_world(first, name), _world(layer, name)) for name in displayed]
    return ToBase(tuple(scale for scale, _ in along), tuple(offset for _, offset in along))


def _world(spec: PyramidSpec, name: str) -> _World:
    place = spec.axis_names.index(name)
    level, unit = spec.levels[0], spec.axes[place].unit
    size = level.scale[place]
    return _World(size, level.translation[place] - size / 2, metres(unit) if unit else None)


def _along(first: _World, layer: _World) -> tuple[float, float]:
    if (first.metres is None) != (layer.metres is None):
        unknown = first if first.metres is None else layer
        if unknown.size == 1.0 and unknown.corner == -0.5:
            return 1.0, 0.0
    ratio = 1.0 if first.metres is None or layer.metres is None else first.metres / layer.metres
    return first.size * ratio / layer.size, (first.corner * ratio - layer.corner) / layer.size
