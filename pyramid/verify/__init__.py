"""Is this pyramid whole and right?

run.py         ``verify``: all checks of every image of a folder, in order
findings.py    what is said, and how bad it is
schema.py      metadata against the OME-Zarr models
structure.py   do metadata and arrays agree: axes, scales, shapes
files.py       are the files of each array there, and as long as they say
unlisted.py    levels in stores that are not listed: a few files are looked at
chunk_lengths.py            how long a chunk says it is: codecs' own headers
levels.py      is each level the reduction of the one before
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octree.pyramid.verify.run import verify

__all__ = ["verify"]


def __getattr__(name: str) -> Any:
    # the checks bring TensorStore and the OME-Zarr models
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from octree.pyramid.verify import run

    return getattr(run, name)
