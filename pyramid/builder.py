"""The shell of a build: plan → tasks → metadata last. Called ``builder`` because ``build`` is its function's name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octree.pyramid import ngff
from octree.pyramid.codecs import parse_codec
from octree.pyramid.downsample import METHODS, Method, Scalar
from octree.pyramid.errors import DestinationError, UsageError
from octree.pyramid.execute import run_serial, run_threads
from octree.pyramid.model import PyramidSpec
from octree.pyramid.plan import BuildPlan, PlanRequest, make_plan
from octree.pyramid.source import ArraySource, open_source
from octree.pyramid.store import create_level
from octree.pyramid.task import Hole, Task, TaskRunner
from octree.pyramid.units import parse_bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is. Bytes are decoded bytes of SOURCE and of levels read back, that is, of work."""

    tasks_done: int
    tasks: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did; ``to_json`` is the document of ``octree build --json``."""

    dest: str
    spec: PyramidSpec
    bytes_read: int
    bytes_written: int
    files: int
    seconds: float
    peak_rss_bytes: int
    method: str
    engine: str
    resumed: bool
    workers: int
    holes: tuple[Hole, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "dest": self.dest,
            "levels": [
                {
                    "path": level.path,
                    "shape": list(level.shape),
                    "scale": list(level.scale),
                    "translation": list(level.translation),
                }
                for level in self.spec.levels
            ],
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "files": self.files,
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "method": self.method,
            "engine": self.engine,
            "resumed": self.resumed,
            "workers": self.workers,
            "holes": [hole.to_json() for hole in self.holes],
        }


def plan_build(
    source: Any,
    *,
    axes: str | None = None,
    voxel_size: Mapping[str, float] | None = None,
    unit: str | None = None,
    tile: int = 256,
    shard: int = 8,
    method: str = "auto",
    labels: bool = False,
    nodata: Scalar | None = None,
    codec: str = "zstd:1",
    workers: int | None = None,
    memory: str | int = "1GiB",
    ome_version: str = "0.5",
    name: str | None = None,
) -> BuildPlan:
    """What ``build`` would do with these options; writes nothing. Raises as ``build`` does."""
    with open_source(source, axes=axes, voxel_size=voxel_size, unit=unit) as opened:
        return _plan(
            opened,
            tile=tile,
            shard=shard,
            method=method,
            labels=labels,
            nodata=nodata,
            codec=codec,
            workers=workers,
            memory=memory,
            ome_version=ome_version,
            name=name,
        )


def _plan(
    source: ArraySource,
    *,
    tile: int,
    shard: int,
    method: str,
    labels: bool,
    nodata: Scalar | None,
    codec: str,
    workers: int | None,
    memory: str | int,
    ome_version: str,
    name: str | None,
) -> BuildPlan:
    request = PlanRequest(
        axes=source.axes,
        shape=source.shape,
        dtype=source.dtype,
        voxel_size=source.voxel_size,
        translation=source.translation,
        voxel_size_known=source.voxel_size_known,
        rgb=source.rgb,
        labels=labels,
        name=source.name if name is None else name,
        method=_method(method, source.dtype, labels),
        nodata=nodata,
        codec=parse_codec(codec),
        tile=tile,
        shard=shard,
        ome_version=ome_version,
        workers=workers or len(os.sched_getaffinity(0)),
        memory_bytes=parse_bytes(memory) if isinstance(memory, str) else memory,
        held_bytes=source.held_bytes,
    )
    return make_plan(request, source.transient_bytes)


def _method(text: str, dtype: np.dtype[Any], labels: bool) -> Method:
    if text == "auto":
        return "mode" if labels or dtype.kind == "b" else "mean"
    for method in METHODS:
        if method == text:
            return method
    raise UsageError(f"there is no method {text!r}", hint=f"use auto, {', '.join(METHODS)}")


def build(
    source: Any,
    dest: str | os.PathLike[str],
    *,
    axes: str | None = None,
    voxel_size: Mapping[str, float] | None = None,
    unit: str | None = None,
    tile: int = 256,
    shard: int = 8,
    method: str = "auto",
    labels: bool = False,
    nodata: Scalar | None = None,
    codec: str = "zstd:1",
    workers: int | None = None,
    memory: str | int = "1GiB",
    overwrite: bool = False,
    resume: bool = False,
    ome_version: str = "0.5",
    name: str | None = None,
    on_error: str = "fail",
    scheduler: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> BuildResult:
    """Build the pyramid of ``source`` at ``dest``."""
    began = time.perf_counter()
    folder = Path(dest)
    with open_source(source, axes=axes, voxel_size=voxel_size, unit=unit) as opened:
        plan = _plan(
            opened,
            tile=tile,
            shard=shard,
            method=method,
            labels=labels,
            nodata=nodata,
            codec=codec,
            workers=workers,
            memory=memory,
            ome_version=ome_version,
            name=name,
        )
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DestinationError(
                f"{folder} exists and is not empty", hint="give --overwrite", path=str(folder)
            )
        folder.mkdir(parents=True, exist_ok=True)
        for level in plan.spec.levels:
            create_level(folder, level, plan.spec.dtype, plan.spec.axis_names, plan.codec, plan.zarr_format)
        runner = TaskRunner(plan, opened, folder, fill_holes=on_error == "fill")
        read = written = files = 0
        holes: list[Hole] = []
        for index in range(len(plan.rounds)):
            tasks: Iterator[Task] = (Task(index, place) for place in range(plan.rounds[index].tasks))
            results = (
                run_threads(runner.run, tasks, plan.workers)
                if plan.workers > 1
                else run_serial(runner.run, tasks)
            )
            for result in results:
                read, written, files = (
                    read + result.bytes_read,
                    written + result.bytes_written,
                    files + result.files,
                )
                holes.extend(result.holes)
        ngff.write_image_metadata(folder, plan.spec)
        return BuildResult(
            dest=str(folder),
            spec=plan.spec,
            bytes_read=read,
            bytes_written=written,
            files=files,
            seconds=time.perf_counter() - began,
            peak_rss_bytes=peak_rss_bytes(),
            method=plan.method,
            engine=opened.engine,
            resumed=False,
            workers=plan.workers,
            holes=tuple(holes),
        )


def peak_rss_bytes() -> int:
    """Most memory this process ever held."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
