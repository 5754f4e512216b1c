"""Coarser levels of a volume that nobody stored: made in memory, by workers, brick by brick.

y, x and z halve as in a build, by voxel size; where voxel sizes cannot be compared voxels are cubes, as volumes are
drawn then. Each box is made from the stored level, in bands across z: chunks are often planes, so that each is decoded once for
a box, and what is held of finer levels is a band of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.boxes import finer, inside, parts
from octree.pyramid.building.plan import level_factors
from octree.pyramid.downsample import Method, reduce_block, reduced_shape
from octree.pyramid.model import Box, LevelInfo, PyramidSpec
from octree.pyramid.store.reading import Later, Reading
from octree.render.loading.load import current_cancel_token
from octree.render.tiles.cancelling import GivenUp, Levels
from octree.render.tiles.made_levels import BAND_BYTES, nodata_of
from octree.render.view.state import VOLUME, aspect_of


def with_made_bricks(spec: PyramidSpec, edge: int, method: Method = "mean") -> PyramidSpec:
    """``spec`` with levels added until z, y and x fit one brick of ``edge``. Chunks of a made level are what its bricks should
    be made in together: those that need the same stored chunks."""
    names = spec.axis_names
    shift = 0.0 if method == "nearest" else 0.5
    levels, stored = list(spec.levels), spec.levels[-1]
    sizes = tuple([_size(spec, stored, name) for name in names])
    total = (1,) * len(names)
    for factors in level_factors("".join(names), stored.shape, sizes, tile=edge, z_joins=True):
        last = levels[-1]
        total = tuple([a * b for a, b in zip(total, factors, strict=True)])
        shape = reduced_shape(last.shape, factors)
        levels.append(
            LevelInfo(
                path="",
                shape=shape,
                chunks=tuple(
                    [
                        _together(stored, place, total[place], shape[place], edge) if name in VOLUME else own
                        for place, (name, own) in enumerate(zip(names, stored.chunks, strict=True))
                    ]
                ),
                shards=None,
                scale=tuple([s * f for s, f in zip(last.scale, factors, strict=True)]),
                translation=tuple(
                    [
                        t + s * (f - 1) * shift
                        for t, s, f in zip(last.translation, last.scale, factors, strict=True)
                    ]
                ),
                codec="",
            )
        )
    return replace(spec, levels=tuple(levels))


def _size(spec: PyramidSpec, level: LevelInfo, name: str) -> float:
    """Voxel size on an axis, in level-0 voxels of x; of axes that never halve it says nothing."""
    if name not in VOLUME:
        return 1.0
    place = spec.axis_names.index(name)
    return aspect_of(spec, (name, "x")) * level.scale[place] / spec.levels[0].scale[place]


def _together(stored: LevelInfo, place: int, factor: int, length: int, edge: int) -> int:
    """How long on an axis what is made of one stored chunk is, at least a brick."""
    chunk = stored.chunks[place]
    return length if chunk >= stored.shape[place] else max(edge, chunk // factor)


class MadeBricks:
    """Stored levels and the ones made from them for volumes. Thread-safe as far as those are; keeps nothing."""

    def __init__(self, stored: Levels, edge: int, method: Method) -> None:
        self._stored, self._count, self._method = stored, len(stored.spec.levels), method
        self._nodata = nodata_of(stored.spec)
        self.spec = with_made_bricks(stored.spec, edge, method)
        shapes = [level.scale for level in self.spec.levels]
        self._factors = [
            tuple([round(own / before) for own, before in zip(scale, below, strict=True)])
            for below, scale in zip(shapes[:1] + shapes, shapes, strict=False)
        ]
        self._z = self.spec.axis_names.index("z")

    def start(self, level: int, box: Box) -> Reading:
        """As ``read``; what must be made is made by who asks for the result."""
        if level < self._count:
            return self._stored.start(level, box)
        return Later(lambda: self.read(level, box))

    def read(self, level: int, box: Box) -> NDArray[Any]:
        """The voxels of ``box``. Raises what reading the stored level raises, and GivenUp when the load that asks has been
        cancelled."""
        if level < self._count:
            return self._stored.read(level, box)
        token = current_cancel_token()
        shape, factors = self.spec.levels[level - 1].shape, self._factors[level]
        out = np.empty(box.shape, self.spec.dtype)
        for band in self._bands(level, box):
            if token is not None and token.cancelled:
                raise GivenUp
            below = self.read(level - 1, finer(band, factors, shape))
            out[inside(band, box)] = reduce_block(below, factors, self._method, self._nodata)
        return out

    def _bands(self, level: int, box: Box) -> Iterator[Box]:
        """``box`` cut across z, so that what is read for a part is not much."""
        read_bytes = math.prod([n * f for n, f in zip(box.shape, self._factors[level], strict=True)])
        deepest = max(1, BAND_BYTES * box.shape[self._z] // max(1, read_bytes * self.spec.dtype.itemsize))
        stop = tuple([deepest if axis == self._z else end for axis, end in enumerate(box.stop)])
        return parts(box, stop)
