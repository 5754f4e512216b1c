"""What ``octree info`` says of a pyramid or of any SOURCE: values, ready for JSON."""

from __future__ import annotations

import math
import os
from typing import Any

from octree.pyramid.errors import SourceNotFound
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import Axis, Channel, LevelInfo
from octree.pyramid.sources.source import ArraySource, open_source
from octree.pyramid.sources.stored import is_file_name
from octree.pyramid.store import ngff
from octree.pyramid.store.images import images_of
from octree.pyramid.store.named import place_of
from octree.pyramid.store.place import LocalPlace, Place
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions
from octree.pyramid.store.zarr_meta import is_array, read_array_meta
from octree.pyramid.store.zipped.place import ZipPlace


def describe(
    path: str | os.PathLike[str],
    *,
    limits: Limits = DEFAULT_LIMITS,
    allow_outside: bool = False,
    remote: RemoteOptions = DEFAULT_REMOTE,
) -> dict[str, Any]:
    """Levels with shapes, chunks, shards, codec, scales and sizes of the pyramid or SOURCE at ``path``.

    A SOURCE without levels has one, whose ``chunks`` are the block in which reading is cheap. ``bytes`` are
    uncompressed, ``stored_bytes`` what the files take (null when it is not known).

    Raises SourceNotFound or SourceError, LimitError for what is above ``limits``; OutsideError when it leads out of its
    folder, unless ``allow_outside``.
    """
    place = place_of(path, anywhere=allow_outside, remote=remote)
    if not is_file_name(place) and ngff.is_pyramid(place):
        return _describe_pyramid(place, limits)
    given = path if isinstance(place, LocalPlace) else place
    with open_source(given, limits=limits, allow_outside=allow_outside, remote=remote, holes=True) as source:
        return _describe_source(place, source)


def _describe_pyramid(place: Place, limits: Limits) -> dict[str, Any]:
    image = ngff.read_multiscale(place)
    itemsize = image.arrays[0].dtype.itemsize
    levels = []
    for level in image.levels:
        size = math.prod(level.chunks) * itemsize
        limits.check_bytes(str(place), f"one chunk of level {level.path}", size)
        files, stored = _stored(image.group.child(level.path))
        levels.append(_level(level, itemsize, stored, files))
    base = image.levels[0]
    return {
        "path": str(place),
        "kind": "pyramid",
        "name": image.name,
        "ome_version": image.version,
        "axes": "".join(axis.name for axis in image.axes),
        "dtype": image.arrays[0].dtype.name,
        "rgb": image.rgb,
        "labels": image.labels,
        "method": image.method or None,
        "others": [other.name for other in images_of(place)[1:]],
        **_measures(image.axes, base.scale, image.channels),
        "levels": levels,
        **_totals(levels),
        "metadata": image.metadata,
    }


def _describe_source(place: Place, source: ArraySource) -> dict[str, Any]:
    chunks, shards, codec = source.read_shape, None, source.codec
    files, stored = _stored(place)
    if not is_file_name(place) and is_array(place):
        meta = read_array_meta(place)
        if meta.shards and len(meta.shards) == len(source.shape):
            chunks, shards = source.in_canonical_order(meta.chunks), source.in_canonical_order(meta.shards)
        codec = meta.codec
    only = LevelInfo("", source.shape, chunks, shards, source.voxel_size, source.translation, codec)
    levels = [_level(only, source.dtype.itemsize, stored, files)]
    return {
        "path": str(place),
        "kind": "source",
        "name": source.name,
        "engine": source.engine,
        "axes": "".join(axis.name for axis in source.axes),
        "dtype": source.dtype.name,
        "rgb": source.rgb,
        "labels": source.labels,
        **_measures(source.axes, source.voxel_size, source.channels),
        "voxel_size_known": source.voxel_size_known,
        "missing_planes": dict(source.missing),
        "warnings": list(source.warnings),
        "levels": levels,
        **_totals(levels),
    }


def _level(level: LevelInfo, itemsize: int, stored: int | None, files: int | None) -> dict[str, Any]:
    return {
        "path": level.path,
        "shape": list(level.shape),
        "chunks": list(level.chunks),
        "shards": list(level.shards) if level.shards else None,
        "codec": level.codec,
        "scale": list(level.scale),
        "translation": list(level.translation),
        "bytes": math.prod(level.shape) * itemsize,
        "stored_bytes": stored,
        "files": files,
    }


def _measures(
    axes: tuple[Axis, ...], voxel_size: tuple[float, ...], channels: tuple[Channel, ...]
) -> dict[str, Any]:
    return {
        "voxel_size": {
            axis.name: size for axis, size in zip(axes, voxel_size, strict=True) if axis.name != "c"
        },
        "units": {axis.name: axis.unit for axis in axes if axis.unit},
        "channels": [
            {"label": c.label, "color": c.color, "window": list(c.window) if c.window else None}
            for c in channels
        ],
    }


def _totals(levels: list[dict[str, Any]]) -> dict[str, Any]:
    known = all(level["stored_bytes"] is not None for level in levels)
    return {
        "bytes": sum(level["bytes"] for level in levels),
        "stored_bytes": sum(level["stored_bytes"] for level in levels) if known else None,
        "files": sum(level["files"] for level in levels) if known else None,
    }


def _stored(place: Place) -> tuple[int | None, int | None]:
    """(files, bytes) of a SOURCE on disk; None for a dataset inside a file, and in other stores: who lists a million
    chunks there waits and pays for it."""
    if isinstance(place, ZipPlace):
        return place.usage()
    if not isinstance(place, LocalPlace):
        stamp = place.stamp() if is_file_name(place) else None
        return (None, None) if stamp is None else (1, stamp.size)
    try:
        return disk_usage(place) if place.kind() == "folder" else (1, place.local().stat().st_size)
    except FileNotFoundError:
        return None, None


def disk_usage(place: LocalPlace) -> tuple[int, int]:
    """(files, bytes) below a folder. Raises SourceNotFound; OutsideError for a link that leads out."""
    folder, reach = place.path, place.reach
    files = size = 0
    pending = [str(folder)]
    try:
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        if entry.is_symlink():
                            reach.real(entry.path, f"the file {entry.path}")
                        files, size = files + 1, size + entry.stat().st_size
    except FileNotFoundError as error:
        raise SourceNotFound(f"{folder} went away while it was read", path=str(folder)) from error
    return files, size
