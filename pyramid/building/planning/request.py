"""What a plan depends on, and the chunks that follow from it. Pure; words as in plan.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from octree.pyramid.downsample import Method, Scalar
from octree.pyramid.model import Axis
from octree.pyramid.store.codecs import Codec

VOLUME_CHUNK = 64  # edge of a chunk where z is halved: a plane of any direction meets few voxels beside it


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan depends on. ``read_shape`` is the block in which SOURCE reads cheaply, ``held_bytes`` what it
    keeps between reads. ``sizes_known`` the spatial axes of which the voxel size is known. ``chunks`` on the spatial axes
    and ``shard`` in chunks, or None for what suits."""

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    voxel_size: tuple[float, ...]
    translation: tuple[float, ...]
    sizes_known: str
    rgb: bool
    labels: bool
    name: str
    method: Method
    nodata: Scalar | None
    codec: Codec
    tile: int
    shard: int | None
    ome_version: str
    workers: int
    memory_bytes: int
    read_shape: tuple[int, ...]
    held_bytes: int = 0
    chunks: tuple[int, ...] | None = None
    remote: bool = False

    @property
    def names(self) -> str:
        return "".join(axis.name for axis in self.axes)

    @property
    def halves_z(self) -> bool:
        """Does z take part in the halving? Voxel sizes must be known, in one unit."""
        space = [axis for axis in self.axes if axis.type == "space"]
        return len({axis.unit for axis in space}) == 1 and all(
            axis.name in self.sizes_known for axis in space
        )

    @property
    def deep(self) -> bool:
        """Are chunks several planes deep?"""
        return "z" in self.names and self.chunk[self.names.index("z")] > 1

    @property
    def chunk(self) -> tuple[int, ...]:
        """The chunk of every level, no longer than level 0."""
        lengths = dict(zip(self.names, self.shape, strict=True))
        z = lengths.get("z", 1)
        volume = (VOLUME_CHUNK,) * 3 if self.halves_z and z > 1 else (1, self.tile, self.tile)
        spatial = [name for name in self.names if name in "zyx"]
        edges = dict(zip(spatial, self.chunks or volume[-len(spatial) :], strict=True))
        if self.rgb:
            edges["c"] = lengths["c"]
        return tuple(min(edges.get(name, 1), n) for name, n in lengths.items())
