"""Files of a level: which write units are stored, which are torn, and what lies there that should not."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octree.pyramid.boxes import block_at, counts
from octree.pyramid.model import Box
from octree.pyramid.reach import Reach
from octree.pyramid.store.shards import index_bytes, index_fault
from octree.pyramid.store.zarr_meta import ArrayMeta
from octree.pyramid.verify.chunk_lengths import wrong_length
from octree.pyramid.verify.findings import Findings

_LEFTOVER = re.compile(r"\.partial$|\.tmp$|\.temp$|\.lock$|__lock$|^\.tmp|\.octree-")
_METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}


@dataclass(frozen=True, slots=True)
class Stored:
    """The write units (shards, or chunks) of one level. ``unit`` is their shape, ``grid`` how many per axis,
    ``present`` the flat numbers (C order of the grid) of those that are stored, sorted."""

    unit: tuple[int, ...]
    grid: tuple[int, ...]
    present: np.ndarray[tuple[int], np.dtype[np.int64]]

    @property
    def total(self) -> int:
        return math.prod(self.grid)

    def missing(self, most: int | None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Flat numbers of units that are not stored; with ``most``, that many spread over all of them."""
        count = self.total - len(self.present)
        if count == 0:
            return np.empty(0, np.int64)
        wanted = count if most is None else min(most, count)
        ranks = np.unique(np.linspace(0, count - 1, wanted).astype(np.int64))
        # the r-th missing number is r plus the stored numbers before it
        gaps = self.present - np.arange(len(self.present))
        return ranks + np.searchsorted(gaps, ranks, side="right")

    def box(self, number: int, shape: tuple[int, ...]) -> Box:
        """The voxels of unit ``number``, clipped to the level."""
        return block_at(np.unravel_index(number, self.grid), self.unit, shape)

    def key(self, number: int, meta: ArrayMeta) -> str:
        """The file's name below the level's folder."""
        index = [str(int(i)) for i in np.unravel_index(number, self.grid)]
        return meta.separator.join(([meta.key_prefix] if meta.key_prefix else []) + index)


def survey(folder: Path, meta: ArrayMeta, level: int, findings: Findings, reach: Reach) -> Stored:
    """List a level's files; add those that are empty, torn, left over, or outside the array. Raises OutsideError."""
    unit = meta.shards or meta.chunks
    grid = counts(meta.shape, unit)
    present = []
    for path, size in _files(folder, reach):
        key = path.relative_to(folder).as_posix()
        if path.name in _METADATA:
            continue
        index = _index_of(key, meta)
        if index is None:
            if _LEFTOVER.search(path.name):
                findings.add("leftover", key, "a file left over from writing", level)
            continue
        if any(i >= n for i, n in zip(index, grid, strict=True)):
            findings.add("leftover", key, f"a chunk outside the array of shape {meta.shape}", level)
            continue
        present.append(int(np.ravel_multi_index(index, grid)))
        if size == 0:
            findings.add("torn-shard" if meta.shards else "torn-chunk", key, "the file is empty", level)
        elif meta.shards and (what := torn(path, size, meta)):
            findings.add("torn-shard", key, what, level)
        elif not meta.shards and (what := wrong_length(path, size, meta)):
            findings.add("torn-chunk", key, what, level)
    return Stored(unit, grid, np.array(sorted(present), np.int64))


def leftovers(group: Path, level_paths: list[str], findings: Findings) -> None:
    """Add what writing left in the group's folder itself, levels apart, and beside it."""
    for path in group.iterdir():
        if path.name not in level_paths and _LEFTOVER.search(path.name):
            findings.add("leftover", path.name, "a file left over from writing")
    real = group.resolve()
    for path in real.parent.iterdir():
        if path.name.startswith(f".{real.name}.octree-"):
            findings.add("leftover", f"../{path.name}", "an interrupted build left this beside the pyramid")


def _files(folder: Path, reach: Reach) -> Iterator[tuple[Path, int]]:
    """Every file below ``folder`` with its size. Links to folders are not followed. Raises OutsideError for links to
    files out of ``reach``."""
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                else:
                    if entry.is_symlink():
                        reach.real(entry.path, f"the file {entry.path}")
                    yield Path(entry.path), entry.stat().st_size


def _index_of(key: str, meta: ArrayMeta) -> tuple[int, ...] | None:
    """Which chunk or shard the file ``key`` is; None when its name is none of theirs."""
    parts = key.replace(meta.separator, "/").split("/")
    if meta.key_prefix and (not parts or parts.pop(0) != meta.key_prefix):
        return None
    if len(parts) != len(meta.shape) or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(int(part) for part in parts)


def torn(path: Path, size: int, meta: ArrayMeta) -> str | None:
    """What is wrong with a shard, from its index alone; None when nothing is, or the index is of another kind."""
    if not meta.index_location or meta.shards is None:
        return None
    length = index_bytes(meta.shards, meta.chunks)
    with path.open("rb") as stream:
        stream.seek(max(0, size - length) if meta.index_location == "end" else 0)
        return index_fault(stream.read(length), length, size)
