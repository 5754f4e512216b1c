"""Zarr arrays (v2 and v3) and level 0 of OME-Zarr images, through the store's array reader."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from octree.pyramid.axes import letter_of, name_axes
from octree.pyramid.boxes import covering_shape, fitted
from octree.pyramid.errors import SourceError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import AXIS_TYPES, Axis, Box
from octree.pyramid.reach import Reach
from octree.pyramid.sources.attributes import kept
from octree.pyramid.sources.nodata import by_conventions
from octree.pyramid.sources.protocol import Facts, RawArray
from octree.pyramid.store import ngff
from octree.pyramid.store.chunk_files import few_keys
from octree.pyramid.store.named import place_of
from octree.pyramid.store.place import LocalPlace, Place
from octree.pyramid.store.zarr_meta import ArrayMeta, is_array, read_array_meta


class ZarrArray:
    """One Zarr array on disk. Reading is the store's: TensorStore, or zarr where TensorStore cannot."""

    def __init__(
        self, place: Place, meta: ArrayMeta, facts: Facts, engine: str, threads: int | None, limits: Limits
    ) -> None:
        from octree.pyramid.store.arrays import open_array

        self._place, self._meta = place, meta
        self._array = open_array(place, engine=engine, threads=threads, limits=limits, meta=meta)
        self.shape, self.dtype, self.facts = meta.shape, meta.dtype, facts
        self.block = fitted(meta.shards or meta.chunks, meta.shape)
        self.engine = self._array.engine
        self.held_bytes = 0

    def read(self, box: Box) -> NDArray[Any]:
        data: NDArray[Any] = self._array.read(box)
        return data

    def transient_bytes(self, box: Box) -> int:
        """The chunks that the box meets, decoded, and what of them is still encoded, which may not compress: of many
        some are decoded before others are read, of few all are held both ways."""
        decoded = math.prod(covering_shape(box, self._meta.chunks)) * self.dtype.itemsize
        return decoded + decoded // 2 + min(decoded // 2, 2 * math.prod(self.block) * self.dtype.itemsize)

    def identity(self) -> dict[str, Any]:
        """A digest of the metadata and of the sizes and dates of all chunk files, each of which whoever reads the array
        opens anyway; and the last of these dates. Elsewhere than on this machine, of the ends of a few chunks."""
        if not isinstance(self._place, LocalPlace):
            return {"path": str(self._place), "digest": self._quick_digest()}
        digest, last_ns = hashlib.sha256(), 0
        path, reach = self._place.path, self._place.reach
        for entry in _walk(str(path), reach, set()):
            facts = entry.stat(follow_symlinks=reach.anywhere)
            last_ns = max(last_ns, facts.st_mtime_ns)
            digest.update(
                f"{entry.path[len(str(path)) :]} {facts.st_size} {facts.st_mtime_ns}\n".encode(
                    "utf-8", "surrogateescape"
                )
            )
        for file in (path / "zarr.json", path / ".zarray"):
            digest.update(file.read_bytes() if file.is_file() else b"")
        return {"path": str(path.absolute()), "digest": digest.hexdigest(), "mtime_ns": last_ns}

    def _quick_digest(self) -> str:
        digest = hashlib.sha256()
        for name in ("zarr.json", ".zarray"):
            digest.update(self._place.child(name).read() or b"")
        for end in self._place.peek(few_keys(self._meta, DIGEST_CHUNKS), DIGEST_BYTES):
            digest.update(b"|" if end is None else f"|{end.size}|".encode() + end.last)
        return digest.hexdigest()

    def close(self) -> None:
        """The store keeps no file open between reads."""


DIGEST_CHUNKS, DIGEST_BYTES = 4, 64 * 2**10


def _walk(folder: str, reach: Reach, seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """Every file below ``folder``, in one order on every run. Links to folders are followed within ``reach``, each folder
    once."""
    facts = os.stat(folder)
    if (facts.st_dev, facts.st_ino) in seen:
        return
    seen.add((facts.st_dev, facts.st_ino))
    with os.scandir(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        if entry.is_dir() and (not entry.is_symlink() or reach.allows(entry.path)):
            yield from _walk(entry.path, reach, seen)
        else:
            yield entry


def open_zarr(
    path: Path | Place,
    engine: str = "auto",
    threads: int | None = None,
    reach: Reach | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> RawArray:
    """A Zarr array, or level 0 of an OME-Zarr image with its axes, voxel sizes and channels.

    Raises SourceError for a folder that is neither, naming what it holds; OutsideError for one that leads out of
    ``reach`` (the folder itself by default).
    """
    place = place_of(path, reach=reach)
    if is_array(place):
        meta = read_array_meta(place)
        names = meta.dimension_names or meta.attributes.get("_ARRAY_DIMENSIONS")
        axes = name_axes(str(n or "") for n in names) if names and any(names) else None
        attributes, dropped = kept({k: v for k, v in meta.attributes.items() if k != "_ARRAY_DIMENSIONS"})
        own = Facts(axes=axes, codec=meta.codec, attributes=attributes, warnings=dropped)
        return by_conventions(ZarrArray(place, meta, own, engine, threads, limits))
    if not ngff.is_pyramid(place):
        raise _no_image(place)
    scale = ngff.read_multiscale(place, base_only=True)
    base, letters = scale.levels[0], [axis.name for axis in scale.axes]
    scales = dict(zip(letters, base.scale, strict=True))
    attributes, dropped = kept(_attributes(place, scale.metadata.get("source")))
    facts = Facts(
        axes="".join(letters),
        voxel_size={
            letter: scales[letter]
            for letter, name in zip(letters, scale.axis_names, strict=True)
            # an axis "angle" takes the place of z, but is no length
            if letter_of(name) and _is_known(letter, scale.axes, scales)
        },
        units={axis.name: axis.unit for axis in scale.axes if axis.unit},
        translation=dict(zip(letters, base.translation, strict=True)),
        channels=scale.channels,
        rgb=scale.rgb,
        labels=scale.labels,
        label_facts=scale.label_facts,
        name=scale.name,
        codec=base.codec,
        attributes=attributes,
        warnings=dropped,
    )
    return ZarrArray(scale.group.child(base.path), scale.arrays[0], facts, engine, threads, limits)


def _attributes(place: Place, of_its_source: Any) -> dict[str, Any]:
    """What the group says beyond OME-Zarr, and what octree kept of the source that it was built from."""
    return {**(of_its_source if isinstance(of_its_source, dict) else {}), **ngff.other_attributes(place)}


def _is_known(letter: str, axes: tuple[Axis, ...], scales: dict[str, float]) -> bool:
    """OME-Zarr writes 1 where a size is unknown: a unit makes it a size, or another number on an axis of its kind."""
    own = AXIS_TYPES[letter]
    return any(axis.type == own and (axis.unit or scales[axis.name] != 1.0) for axis in axes)


def _no_image(place: Place) -> SourceError:
    """What is wrong with a folder that is neither array nor image, and which arrays it holds."""
    if ngff.group_attributes(place) is None:
        reason, hint = f"{place} is a folder, but no Zarr", "name a file, a Zarr array or an OME-Zarr image"
    else:
        reason, hint = (
            f"{place} is a Zarr group without a multiscale image",
            "name an array or image inside it",
        )
        names = [name.rstrip("/") for name in place.names() or ()]
        inner = [name for name in names if is_array(place.child(name))]
        if inner:
            hint = f"name one of its arrays: {', '.join(str(place.child(name)) for name in inner[:8])}"
        else:
            try:
                ngff.read_multiscale(place)
            except SourceError as error:
                reason, hint = error.message, error.hint or hint
    return SourceError(reason, hint=hint, path=str(place))
