"""How layers lie on each other: from OME metadata to one affine map per layer. Pure.

Camera coordinates are level-0 pixels of the first layer. A layer is registered to it through world
coordinates: corner of voxel 0 and voxel size, both in the layer's unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from octree.pyramid.grid import Rect
from octree.pyramid.model import PyramidSpec
from octree.pyramid.units import metres


@dataclass(frozen=True, slots=True)
class ToBase:
    """Camera coordinates to base coordinates of one layer: ``base = camera * scale + offset``, (y, x) order."""

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def rect(self, view: Rect) -> Rect:
        (sy, sx), (oy, ox) = self.scale, self.offset
        return Rect(view.y0 * sy + oy, view.x0 * sx + ox, view.y1 * sy + oy, view.x1 * sx + ox)


@dataclass(frozen=True, slots=True)
class _World:
    """Voxel size and outer corner of voxel 0 along one axis; ``metres`` per unit, None without a unit."""

    size: float
    corner: float
    metres: float | None


def to_base(first: PyramidSpec, layer: PyramidSpec) -> ToBase:
    """The map from camera coordinates (pixels of ``first``) to pixels of ``layer``.

    Units that can be converted are. Where one side has a unit and the other has nothing but the default voxel
    size of 1, sizes say nothing about each other and the layers are laid pixel on pixel.
    """
    scale, offset = zip(*(_along(_world(first, name), _world(layer, name)) for name in "yx"), strict=True)
    return ToBase((scale[0], scale[1]), (offset[0], offset[1]))


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
