"""Multiscale images on disk: building, reading and checking pyramids. Knows no camera, no OpenGL, no terminal.

The way of a build:  sources → building (plan → read → downsample → write, for each task) → store

Rooms, each with a map of its own, in the order in which they may import each other:

errors.py      the error tree
model.py       frozen value types: Axis, Box, LevelInfo, PyramidSpec, TileKey
boxes.py       arithmetic of boxes and of grids of blocks (pure)
grid.py        tiles of a displayed plane (pure)
reach.py       what a source names lies in its own folder, unless it is allowed to lead out
foreign.py     text out of files on its way to a screen, a log or a page (pure)
units.py axes.py            what people write: sizes, units, names of axes (pure)
options.py     options declared once: for command line, environment, Python, settings, documentation (pure)
deadline.py    no source takes longer to open than it may
downsample.py  block reductions and their contract (pure)
limits.py declared.py       how much one piece of a source may take; what encoded pixels say of their size (pure)
confined.py confined_child.py           code that is not trusted with memory or time, in a process of its own
memory.py      what the allocator must be told to keep the memory promise
store/         pyramids and arrays as they lie on disk
sources/       any SOURCE as one array in canonical axis order
building/      one build, from a source and options to a pyramid
verify/        is this pyramid whole and right?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octree.pyramid.building.builder import BuildResult, build, plan_build
    from octree.pyramid.building.plan import BuildPlan
    from octree.pyramid.sources.source import ArraySource, open_source
    from octree.pyramid.store.arrays import Pyramid, open_pyramid

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
    "ArraySource": "sources.source",
    "BuildPlan": "building.plan",
    "BuildResult": "building.builder",
    "Pyramid": "store.arrays",
    "build": "building.builder",
    "open_pyramid": "store.arrays",
    "open_source": "sources.source",
    "plan_build": "building.builder",
}


def __getattr__(name: str) -> Any:
    # numpy, TensorStore and the readers are imported with the first name that needs them
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"octree.pyramid.{_HOME[name]}"), name)
    globals()[name] = value
    return value
