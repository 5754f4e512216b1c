"""Where the files of a Zarr array's chunks really are. A folder from somebody else may hold links to anything."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from octree.pyramid.boxes import blocks_met
from octree.pyramid.model import Box
from octree.pyramid.reach import Reach, check_regular
from octree.pyramid.store.zarr_meta import ArrayMeta

_FOLDERS_KNOWN = 4096


class ChunkFiles:
    """Looks at the files that a read will open, before the library opens them: one ``lstat`` for each, about 2 µs.

    Owner of the set of folders that were looked at: this object. Any thread may ask: the worst that two at once
    can do is to look twice.
    """

    def __init__(self, folder: Path, meta: ArrayMeta, reach: Reach, what: str) -> None:
        self._folder, self._meta, self._reach, self._what = str(folder), meta, reach, what
        self._known: set[str] = set()

    def check(self, box: Box) -> None:
        """Raises OutsideError for a chunk that a link leads out, SourceError for one that is no file."""
        for key in chunk_keys(self._meta, box):
            path = f"{self._folder}/{key}"
            folder = path.rpartition("/")[0]
            if not self._reach.anywhere and folder not in self._known:
                self._reach.real(folder, f"{self._what}: the folder {folder}")
                if len(self._known) >= _FOLDERS_KNOWN:
                    self._known.clear()
                self._known.add(folder)
            try:
                mode = os.lstat(path).st_mode
            except OSError:
                continue  # not stored, or whoever reads it says what is wrong
            if not stat.S_ISREG(mode):
                self._check_other(path)

    def _check_other(self, path: str) -> None:
        real = self._reach.real(path, f"{self._what}: the chunk {path}")
        if real.exists():
            check_regular(path, real.stat().st_mode)


def chunk_keys(meta: ArrayMeta, box: Box) -> Iterator[str]:
    """Names of the files (shards, or chunks) that ``box`` meets, below the array's folder. Pure."""
    ranges = blocks_met(box, meta.shards or meta.chunks)
    head = meta.key_prefix + meta.separator if meta.key_prefix else ""
    for numbers in itertools.product(*ranges):
        yield head + meta.separator.join(map(str, numbers))
