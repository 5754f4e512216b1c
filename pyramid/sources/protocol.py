"""What a reader of one format gives: an array in the file's own axis order, and what the file says about it.

A reader knows its format and nothing of canonical order, voxel sizes given by the user or RGB; ``source.py``
adds those once for all formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.model import Box, Channel, LabelFacts


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says about its axes, all by axis letter; what is not said is left out.

    ``axes``         one letter of "tczyxs" per axis of the array, in its order; None when the file does not say.
    ``voxel_size``   world units per voxel.  ``translation``  world position of voxel 0's centre.
    ``units``        words of ``units.SPACE_UNITS`` or ``units.TIME_UNITS``.
    ``codec``        how pixels are compressed, in the format's own word; "none", or "" when it is not known.
    ``label_facts``  what OME-Zarr says of single labels, kept as it is.
    ``rgb``          the axis c holds the samples of one colour image.
    ``missing``      how many planes no file has, by reason: reading them is an error.
    ``nodata``       a value that does not count; NaN where such pixels are given as NaN.
    ``attributes``   what else the file says, as JSON.
    ``warnings``     what of the file is lost, or taken by a rule, each a sentence without the file's name.
    """

    axes: str | None = None
    voxel_size: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    translation: Mapping[str, float] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
    rgb: bool = False
    labels: bool = False
    label_facts: LabelFacts = field(default_factory=LabelFacts)
    name: str = ""
    codec: str = ""
    missing: Mapping[str, int] = field(default_factory=dict)
    nodata: float | int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class RawArray(Protocol):
    """A lazily readable array in its file's own axis order. ``read`` is called from several threads at once.

    ``block``       shape in which reading is cheap (tile, chunk, band of rows), never larger than ``shape``.
    ``held_bytes``  most bytes the reader itself keeps between reads (a decoded image, a cache of tiles).
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def block(self) -> tuple[int, ...]: ...
    @property
    def engine(self) -> str: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def held_bytes(self) -> int: ...

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels of ``box``; it may be a view of memory that is not the caller's to change."""
        ...

    def transient_bytes(self, box: Box) -> int:
        """Most bytes that reading ``box`` holds besides the result: decoded blocks that it meets, and encoded ones."""
        ...

    def identity(self) -> dict[str, Any]:
        """JSON-able facts that change when the data change."""
        ...

    def close(self) -> None: ...
