"""Opening a SOURCE for drawing: a pyramid with its levels, or any array as an image of one level."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from octree.pyramid.errors import LimitError, SourceError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import AXIS_ORDER, Box, LevelInfo, PyramidSpec
from octree.pyramid.sources.source import ArraySource, open_source
from octree.pyramid.store import ngff
from octree.pyramid.store.arrays import open_pyramid
from octree.render.tiles.made_levels import Levels

DIGEST_BYTES = 64 * 2**10
"""Of a file so much of its beginning and of its end is looked at."""
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Opened:
    """What ``open_levels`` found. ``identity``: equal only for the same data at the same time on this machine.
    ``digest()``: of the content as far as a quick look goes, the same wherever the data lie."""

    levels: Levels
    path: str
    identity: str
    digest: Callable[[], str]
    close: Callable[[], None]
    private: bool = False
    """Every read gives new memory, shared with nobody."""


def open_levels(source: Any, *, labels: bool = False, limits: Limits = DEFAULT_LIMITS) -> Opened:
    """Open the path of a pyramid, or anything ``open_source`` takes; ``labels`` and ``limits`` as there. Raises SourceError,
    SourceNotFound."""
    if isinstance(source, str | os.PathLike) and ngff.is_pyramid(Path(source)):
        try:
            return _open_pyramid(str(source), limits)
        except LimitError:
            raise
        except SourceError:
            # axes in an order of its own: level 0 is read like any array, and coarser levels are made
            names = [axis.name for axis in ngff.read_multiscale(Path(source)).axes]
            if names == sorted(names, key=AXIS_ORDER.index):
                raise
    return _open_array(source, labels, limits)


@dataclass(frozen=True, slots=True)
class _ArrayLevel:
    """An ArraySource as an image of one level."""

    source: ArraySource
    spec: PyramidSpec

    def read(self, level: int, box: Box) -> NDArray[Any]:
        return self.source.read(box)


def _open_array(source: Any, labels: bool, limits: Limits) -> Opened:
    array = source if isinstance(source, ArraySource) else open_source(source, labels=labels, limits=limits)
    spec = PyramidSpec(
        axes=array.axes,
        dtype=array.dtype,
        levels=(LevelInfo("0", array.shape, array.read_shape, None, array.voxel_size, array.translation),),
        name=array.name,
        rgb=array.rgb,
        labels=array.labels,
        channels=array.channels,
    )
    facts = json.dumps([array.shape, array.dtype.str, [axis.name for axis in array.axes], array.rgb])
    levels = _ArrayLevel(array, spec)
    close = _nothing if array is source else array.close
    if isinstance(source, str | os.PathLike):
        identity = json.dumps(array.fingerprint(), sort_keys=True, default=str)
        return Opened(levels, array.path, identity, lambda: _file_digest(array.path, facts), close)
    # an object in memory has no lasting identity: each opening is a source of its own
    return Opened(levels, array.path, f"array {next(_numbers)}", lambda: _array_digest(array), close)


def _open_pyramid(path: str, limits: Limits) -> Opened:
    pyramid = open_pyramid(path, limits=limits)
    spec = pyramid.spec
    facts = json.dumps(
        [spec.dtype.str, spec.axis_names, [[v.shape, v.chunks, v.scale, v.translation] for v in spec.levels]]
    )
    group = Path(str(spec.extra.get("group", path)))
    stamps = [_stamp(group / name) for name in ("zarr.json", ".zattrs")]
    coarsest = group / spec.levels[-1].path
    return Opened(
        pyramid,
        path,
        f"{group.resolve()}|{stamps}|{facts}",
        lambda: _folder_digest(coarsest, facts),
        _nothing,
    )


def _nothing() -> None:
    pass


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def _file_digest(path: str, facts: str) -> str:
    """Of ``facts``, and the size, beginning and end of the file (of the first files of a folder)."""
    file = Path(path.partition("::")[0])
    return _folder_digest(file, facts) if file.is_dir() else _digest(facts, [file])


def _folder_digest(folder: Path, facts: str) -> str:
    files = itertools.islice(sorted(p for p in folder.rglob("*") if p.is_file()), 64)
    return _digest(facts, list(files))


def _digest(facts: str, files: list[Path]) -> str:
    found = hashlib.sha256(facts.encode())
    for path in files:
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                found.update(f"|{size}|".encode())
                for start in {0, max(0, size - DIGEST_BYTES)}:
                    file.seek(start)
                    found.update(file.read(DIGEST_BYTES))
        except OSError:
            found.update(b"|unreadable|")
    return found.hexdigest()


def _array_digest(array: ArraySource) -> str:
    """Of a few blocks, read in a thread of its own: the caller's may be the one that draws."""
    with ThreadPoolExecutor(1, thread_name_prefix="octree-digest") as pool:
        try:
            facts = pool.submit(array.fingerprint).result()
        except Exception as error:  # a source that cannot be read has its failures in the report
            facts = {"unreadable": type(error).__name__}
    return _digest(json.dumps(facts, sort_keys=True, default=str), [])
