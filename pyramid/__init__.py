"""Multiscale images on disk: building, reading and checking pyramids. Knows no camera, no OpenGL, no terminal.

The way of a build:  source → plan → (read → downsample → store) for each task → ngff

errors.py      the error tree
model.py       frozen value types: Axis, Box, LevelInfo, PyramidSpec, TileKey
grid.py        tiles of a displayed plane (pure)
units.py axes.py            what people write: sizes, units, names of axes (pure)
source.py read_*.py         any SOURCE as one array in canonical axis order, a small reader per format
codecs.py      the words of ``--codec`` (pure)
plan.py        shape and options → levels, write units, tasks, files, bytes, memory (pure)
layout.py      write units, task blocks, rounds (pure)
downsample.py  block reductions and their contract (pure)
store.py       the only file that opens or creates arrays
ngff.py        the only file that knows OME-Zarr metadata
task.py        one task: read, reduce, write every level that fits
journal.py lock.py          what is done already, and who may write
execute.py     tasks in a bounded window: serial, threads, dask.distributed
job.py         one run of a build: begin or go on, do the tasks, publish
builder.py     the shell around them
verify.py      is this pyramid whole and right?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octree.pyramid.builder import BuildResult, build, plan_build
    from octree.pyramid.plan import BuildPlan
    from octree.pyramid.source import ArraySource, open_source
    from octree.pyramid.store import Pyramid, open_pyramid

__all__ = [
    "ArraySource",
    "BuildPlan",
    "BuildResult",
    "Pyramid",
    "build",
    "open_pyramid",
    "open_source",
    "plan_build",
]

_HOME = {
    "ArraySource": "source",
    "BuildPlan": "plan",
    "BuildResult": "builder",
    "Pyramid": "store",
    "build": "builder",
    "open_pyramid": "store",
    "open_source": "source",
    "plan_build": "builder",
}


def __getattr__(name: str) -> Any:
    # numpy, TensorStore and the readers are imported with the first name that needs them
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"octree.pyramid.{_HOME[name]}"), name)
    globals()[name] = value
    return value
