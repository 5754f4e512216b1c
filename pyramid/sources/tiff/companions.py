"""Files that tifffile opens by itself: OME-TIFF, Micro-Manager and NDTiff name others, which must be within reach."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from octree.pyramid.reach import Reach, check_regular

_reach: ContextVar[Reach | None] = ContextVar("reach of the TIFF that is being opened", default=None)


def _open(file: Any, *args: Any, **options: Any) -> Any:
    """``open`` for tifffile, which has no hook for it: every file that it opens while ``within`` is in force."""
    reach = _reach.get()
    if reach is None:
        return builtins.open(file, *args, **options)
    real = reach.real(file, f"the file {Path(file).name}, which a TIFF names,")
    if real.exists():
        check_regular(real, real.stat().st_mode)
    return builtins.open(real, *args, **options)


@contextmanager
def within(reach: Reach) -> Iterator[None]:
    """What tifffile opens in this context must lie within ``reach``, else OutsideError: no error that it swallows."""
    import tifffile.tifffile

    tifffile.tifffile.open = _open  # type: ignore[attr-defined]  # a module's own name comes before the built-in one
    token = _reach.set(reach)
    try:
        yield
    finally:
        _reach.reset(token)
