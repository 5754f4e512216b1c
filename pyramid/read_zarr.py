"""Zarr arrays (v2 and v3) and level 0 of OME-Zarr images, through the store's array reader."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from octree.pyramid import ngff
from octree.pyramid.axes import name_axes
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.raw import Facts
from octree.pyramid.zarr_meta import ArrayMeta, is_array, read_array_meta


class ZarrArray:
    """One Zarr array on disk. Reading is the store's: TensorStore, or zarr where TensorStore cannot."""

    def __init__(self, path: Path, meta: ArrayMeta, facts: Facts, engine: str) -> None:
        from octree.pyramid.store import open_array

        self._path, self._meta = path, meta
        self._array = open_array(path, engine=engine)
        self.shape, self.dtype, self.facts = meta.shape, meta.dtype, facts
        self.block = tuple(
            max(1, min(c, n)) for c, n in zip(meta.shards or meta.chunks, meta.shape, strict=True)
        )
        self.engine = self._array.engine
        self.held_bytes = 0

    def read(self, box: Box) -> NDArray[Any]:
        data: NDArray[Any] = self._array.read(box)
        return data

    def transient_bytes(self, box: Box) -> int:
        """The chunks that the box meets, decoded."""
        chunks = (
            (-(-b // edge) - a // edge) * edge
            for a, b, edge in zip(box.start, box.stop, self._meta.chunks, strict=True)
        )
        return math.prod(chunks) * self.dtype.itemsize

    def identity(self) -> dict[str, Any]:
        """The metadata's digest and the dates of the folder: chunks are too many to look at each."""
        files = [f for f in (self._path / "zarr.json", self._path / ".zarray") if f.is_file()]
        text = b"".join(file.read_bytes() for file in files)
        return {
            "path": str(self._path.absolute()),
            "metadata": hashlib.sha256(text).hexdigest(),
            "mtime_ns": [entry.stat().st_mtime_ns for entry in (*files, self._path)],
        }

    def close(self) -> None:
        """The store keeps no file open between reads."""


def open_zarr(path: Path, engine: str = "auto") -> ZarrArray:
    """A Zarr array, or level 0 of an OME-Zarr image with its axes, voxel sizes and channels.

    Raises SourceError for a folder that is neither, naming what it holds.
    """
    if is_array(path):
        meta = read_array_meta(path, str(path))
        names = meta.dimension_names or meta.attributes.get("_ARRAY_DIMENSIONS")
        axes = name_axes(str(n or "") for n in names) if names and any(names) else None
        return ZarrArray(path, meta, Facts(axes=axes, codec=meta.codec), engine)
    if not ngff.is_pyramid(path):
        ngff_error = _no_image(path)
        raise ngff_error
    scale = ngff.read_multiscale(path)
    base, letters = scale.levels[0], [axis.name for axis in scale.axes]
    known = dict(zip(letters, base.scale, strict=True))
    facts = Facts(
        axes="".join(letters),
        # OME-Zarr writes 1 where a size is unknown; a unit is what makes a 1 a size
        voxel_size={a.name: known[a.name] for a in scale.axes if a.unit or known[a.name] != 1.0},
        units={axis.name: axis.unit for axis in scale.axes if axis.unit},
        translation=dict(zip(letters, base.translation, strict=True)),
        channels=scale.channels,
        rgb=scale.rgb,
        labels=scale.labels,
        name=scale.name,
        codec=base.codec,
    )
    return ZarrArray(scale.group / base.path, scale.arrays[0], facts, engine)


def _no_image(path: Path) -> SourceError:
    """What is wrong with a folder that is neither array nor image, and which arrays it holds."""
    try:
        ngff.read_multiscale(path)
    except SourceError as error:
        reason = error
    inner = sorted(child.name for child in path.iterdir() if child.is_dir() and is_array(child))
    hint = f"name one of its arrays: {', '.join(inner[:8])}" if inner else reason.hint
    return SourceError(reason.message, hint=hint, path=str(path))
