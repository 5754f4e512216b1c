"""Multiscale images on disk: building, reading and checking pyramids. Knows no camera, no OpenGL, no terminal.

The way of a build:  source → plan → (read → downsample → store) for each task → ngff

errors.py      the error tree
model.py       frozen value types: Axis, Box, LevelInfo, PyramidSpec, TileKey
grid.py        tiles of a displayed plane (pure)
units.py axes.py measures.py            what people write: sizes, units, names of axes; in one unit (pure)

source.py      any SOURCE as one array in canonical axis order
raw.py raw_views.py         what a reader gives, and other views of it
read_array.py read_flat.py read_hdf5.py read_raw.py read_tiff.py read_zarr.py       a small reader for each format
tiff_checks.py tiff_facts.py tiff_values.py segment_cache.py   TIFFs: cut short? what they say, samples to values, shared tiles
sample.py      sample images for the demo and the benchmarks
describe.py    what ``octree info`` says

options.py     options of a build, checked once
codecs.py      the words of ``--codec`` (pure)
plan.py layout.py budget.py shape and options → levels, write units, tasks, files, bytes, memory (pure)
downsample.py  block reductions and their contract (pure)
store.py       the only file that opens or creates arrays
zarr_meta.py json_files.py  what arrays' metadata say, from plain JSON; JSON on disk in one atomic step
ngff.py        the only file that knows OME-Zarr metadata
images.py      every image of a folder: others, labels
windows.py     display windows for it, from a coarse level
task.py        one task: read, reduce, write every level that fits
execute.py distribute.py    tasks in a bounded window: serial, threads, dask.distributed
journal.py lock.py destination.py           what is done already, who may write, what lies at DEST
memory.py      what the allocator must be told to keep the memory promise
job.py builder.py           one run from beginning to end; the shell around it, ``build`` and ``plan_build``

verify.py      is this pyramid whole and right?
verify_schema.py verify_structure.py verify_files.py verify_frames.py verify_levels.py verify_findings.py   its parts
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
