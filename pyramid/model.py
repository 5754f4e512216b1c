"""Frozen value types of a multiscale image.

Axis order is always that of ``AXIS_ORDER``; an image has some of these axes, each at most once. Tuples that
run "per axis" have one entry for each axis that the image has, in that order. Positions are in voxels of the
level they speak of unless a name ends in ``_world`` (world units: voxel size times voxel).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

AXIS_ORDER = ("t", "c", "z", "y", "x")
AxisType = Literal["time", "channel", "space"]
AXIS_TYPES: dict[str, AxisType] = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its name (a letter of ``AXIS_ORDER``) and its UDUNITS-2 unit, if one is known."""

    name: str
    unit: str | None = None

    @property
    def type(self) -> AxisType:
        return AXIS_TYPES[self.name]


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open block ``[start, stop)`` of voxels, per axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))


class TileKey(NamedTuple):
    """Which tile: a value, never an ``id()``. A named tuple because it is hashed in every hot loop.

    ``level``  0 is the finest.
    ``index``  place on each axis that is not displayed, in axis order (a samples axis has no entry), in voxels of the
               level: positions that share a coarse plane share its tiles. An axis that is projected has two entries, the
               first voxel and the one after the last.
    ``grid``   (row, col) of the tile in its level; (slab, row, col) once slabs are drawn.
    """

    level: int
    index: tuple[int, ...]  # type: ignore[assignment] # hides tuple.index, which nobody calls on a key
    grid: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LevelInfo:
    """One level as stored. ``scale`` is world units per voxel, ``translation`` the world position of the
    centre of voxel 0, both per axis. ``shards`` is None when every chunk is a file."""

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    codec: str = ""


@dataclass(frozen=True, slots=True)
class Channel:
    """Display facts of one channel (OMERO block): ``color`` is RRGGBB, ``window`` is (low, high), ``active`` whether
    viewers show it at first."""

    label: str = ""
    color: str | None = None
    window: tuple[float, float] | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """What is said of single labels, each a JSON object with ``label-value``: kept as it is."""

    colors: tuple[Mapping[str, Any], ...] = ()
    properties: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class PyramidSpec:
    """A multiscale image: what ``ngff`` reads from metadata and ``ngff_write`` writes to them.

    ``rgb``     the axis c holds samples (red, green, blue[, alpha]) of one colour image.
    ``labels``  the values are ids, not intensities.
    ``method``  how levels were reduced ("mean", "mode", …), "" if not recorded.
    ``metadata``     whatever else the file says of how it was made (JSON).
    ``label_facts``  colours and properties of ``labels``.
    """

    axes: tuple[Axis, ...]
    dtype: np.dtype[Any]
    levels: tuple[LevelInfo, ...]
    name: str = ""
    ome_version: str = "0.5"
    method: str = ""
    rgb: bool = False
    labels: bool = False
    channels: tuple[Channel, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    label_facts: LabelFacts = field(default_factory=LabelFacts, hash=False)

    @property
    def axis_names(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.axes)

    def axis_index(self, name: str) -> int | None:
        """Place of the axis called ``name``, None when the image has no such axis."""
        names = self.axis_names
        return names.index(name) if name in names else None

    @property
    def free_axes(self) -> tuple[str, ...]:
        """Names of the axes that can be displayed, or stood on: all, but c when ``rgb``."""
        return tuple(name for name in self.axis_names if not (self.rgb and name == "c"))
