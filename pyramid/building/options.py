"""Options of a build as values, and what they mean for one source. Pure but for asking how many cores there are."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from octree.pyramid.building.option_table import BUILD
from octree.pyramid.building.planning.request import PlanRequest
from octree.pyramid.downsample import METHODS, Method, Scalar
from octree.pyramid.errors import UsageError
from octree.pyramid.limits import Limits, make_limits
from octree.pyramid.sources.source import ArraySource
from octree.pyramid.store.codecs import Codec
from octree.pyramid.store.remote.options import REMOTE, RemoteOptions, read_remote


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the caller of ``build`` asked for, as values; ``option_table.BUILD`` says what each is."""

    axes: str | None
    voxel_size: Mapping[str, float] | None
    unit: str | None
    name: str | None
    labels: bool
    nodata: Scalar | str | None
    method: str
    tile: int
    chunks: tuple[int, ...] | None
    shard: int | None
    codec: Codec
    ome_version: str
    workers: int | None
    memory: int
    on_error: str
    max_pixels: int | None
    max_decoded: int | None
    allow_outside: bool
    remote: RemoteOptions

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> BuildOptions:
        """From options by name, texts or values. Raises UsageError for what no build can have."""
        read = {name: value for name, value in BUILD.read(given).items() if name not in REMOTE.names}
        return cls(**read, remote=read_remote(given))

    @property
    def limits(self) -> Limits:
        """What one piece of SOURCE may take."""
        return make_limits(self.max_pixels, self.max_decoded, memory_bytes=self.memory)

    @property
    def threads(self) -> int:
        """As many as asked for, else one for each core."""
        return self.workers or usable_cores()

    def request(self, source: ArraySource, *, remote: bool = False) -> PlanRequest:
        """What the plan depends on. ``remote``: DEST is in object storage. Raises UsageError for what this source's dtype cannot have."""
        # a source that says its values are ids stays so without being told
        labels = self.labels or (source.labels and source.dtype.kind in "iub")
        method = _method(self.method, source.dtype, labels)
        return PlanRequest(
            axes=source.axes,
            shape=source.shape,
            dtype=source.dtype,
            voxel_size=source.voxel_size,
            translation=source.translation,
            sizes_known=source.sizes_known,
            rgb=source.rgb and not labels,
            labels=labels,
            name=source.name if self.name is None else self.name,
            method=method,
            nodata=source.nodata if self.nodata is None else _nodata(self.nodata, source.dtype),
            codec=self.codec,
            tile=self.tile,
            shard=self.shard,
            ome_version=self.ome_version,
            workers=self.threads,
            memory_bytes=self.memory,
            read_shape=source.read_shape,
            held_bytes=source.held_bytes,
            chunks=_chunks(self.chunks, source),
            remote=remote,
        )


def _chunks(given: tuple[int, ...] | None, source: ArraySource) -> tuple[int, ...] | None:
    """``given`` if it has an edge for each spatial axis. Raises UsageError."""
    space = [axis.name for axis in source.axes if axis.type == "space"]
    if given is None or len(given) == len(space):
        return given
    edges = ",".join(map(str, given))
    wanted = (
        given[-len(space) :] if len(given) > len(space) else (*given[:1] * (len(space) - len(given)), *given)
    )
    raise UsageError(
        f"--chunks {edges}: {len(given)} edges, and {source.path} has {len(space)} spatial axes: {', '.join(space)}",
        hint=f"give one for each of them, in this order, as --chunks {','.join(map(str, wanted))}; t and c have 1 always",
    )


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _method(wanted: str, dtype: np.dtype[Any], labels: bool) -> Method:
    if labels and dtype.kind not in "iub":
        raise UsageError(
            f"labels are whole numbers; the source holds {dtype.name}",
            hint="leave --labels out, or convert it",
        )
    if wanted == "auto":
        return "mode" if labels or dtype.kind == "b" else "mean"
    if labels and wanted == "mean":
        raise UsageError(
            "--labels cannot be averaged: the mean of two ids is the id of something else",
            hint="use mode, nearest, min, max or median",
        )
    (method,) = (m for m in METHODS if m == wanted)
    if dtype.kind == "c" and method not in ("mean", "nearest"):
        raise UsageError(
            f"complex numbers have no order, so no {method}", hint="use --method mean or nearest"
        )
    return method


def _nodata(given: Scalar | str | None, dtype: np.dtype[Any]) -> Scalar | None:
    """The value as the dtype holds it. Raises UsageError when it cannot."""
    if given is None:
        return None
    wrong = UsageError(
        f"nodata {given!r} is not a value of {dtype.name}", hint="give a value that the image can hold"
    )
    try:
        if dtype.kind == "c":
            return complex(given)
        if dtype.kind == "f":
            number = float(given)  # type: ignore[arg-type]  # a complex number is the TypeError below
            fits = not math.isfinite(number) or math.isfinite(dtype.type(number))
        else:
            number = _whole(given)
            low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
            fits = low <= number <= high
    except (ValueError, TypeError, OverflowError):
        raise wrong from None
    if not fits:
        raise wrong
    # float16 and float32 pixels hold the rounded value
    return dtype.type(number).item() if dtype.kind == "f" else number


def _whole(given: Scalar | str) -> int:
    if isinstance(given, str):
        words = {"true": 1, "false": 0}
        try:
            return words[given.lower()] if given.lower() in words else int(given, 0)
        except ValueError:
            given = float(given)
    if given != int(given):  # type: ignore[arg-type]  # a complex number is the caller's TypeError
        raise ValueError(given)
    return int(given)  # type: ignore[arg-type]  # as above
