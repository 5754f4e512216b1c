"""What of a pyramid's metadata cannot be, and yet can be drawn: said when it is opened. Pure."""

from __future__ import annotations

from octree.pyramid.model import AXIS_TYPES, PyramidSpec

_SLACK = 1.5
"""Voxels of the coarser level: programs round lengths up or down, at each step, and some leave out the half-voxel shift."""


def doubts(spec: PyramidSpec) -> tuple[str, ...]:
    """Levels that, by scale, length and translation, lie elsewhere than level 0: a frame of them shows other places than
    it should."""
    base, said = spec.levels[0], []
    for number, level in enumerate(spec.levels[1:], start=1):
        for i, axis in enumerate(spec.axes):
            ratio = level.scale[i] / base.scale[i]
            begin = (level.translation[i] - base.translation[i]) / base.scale[i] - (ratio - 1) / 2
            end, length, slack = begin + level.shape[i] * ratio, base.shape[i], _SLACK * max(ratio, 1.0)
            if AXIS_TYPES[axis.name] == "space" and max(abs(begin), abs(end - length)) > slack:
                said.append(
                    f"level {number} does not lie over level 0: by its metadata it covers {axis.name} from {begin:g} to {end:g}, "
                    f"level 0 from 0 to {length}; octree verify says more"
                )
                break
    return tuple(said)
