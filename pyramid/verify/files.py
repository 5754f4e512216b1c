"""Files of a level: which write units are stored, which are torn, and what lies there that should not."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from octree.pyramid.boxes import block_at, counts
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.store.place import LocalPlace, Place, reach_at
from octree.pyramid.store.shards import index_bytes, index_fault
from octree.pyramid.store.zarr_meta import ArrayMeta
from octree.pyramid.store.zipped.place import ZipPlace
from octree.pyramid.verify.chunk_lengths import Opener, wrong_length
from octree.pyramid.verify.findings import Findings, Kind

_LEFTOVER = re.compile(r"\.partial$|\.tmp$|\.temp$|\.lock$|__lock$|^\.tmp|\.octree-")
_METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}


@dataclass(frozen=True, slots=True)
class Stored:
    """The write units (shards, or chunks) of one level. ``unit`` is their shape, ``grid`` how many per axis,
    ``present`` the flat numbers (C order of the grid) of those that are stored, sorted."""

    unit: tuple[int, ...]
    grid: tuple[int, ...]
    present: np.ndarray[tuple[int], np.dtype[np.int64]]
    listed: bool = True
    """Are those in ``present`` all that are stored? Else some of them."""

    @property
    def total(self) -> int:
        return math.prod(self.grid)

    def missing(self, most: int | None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Flat numbers of units that are not stored; with ``most``, that many spread over all of them."""
        count = self.total - len(self.present)
        if count == 0 or not self.listed:
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


@dataclass(frozen=True, slots=True)
class _Value:
    """One value below a level's place: its key there, its size, and a way to open it. ``fault``: what is wrong with it at first
    sight."""

    key: str
    size: int
    open: Opener
    fault: str | None = None


def survey(place: Place, meta: ArrayMeta, level: int, findings: Findings, *, deep: bool = False) -> Stored:
    """List a level's values; add those that are empty, torn, left over, or outside the array. ``deep``: of an archive all bytes
    are read and compared with its checksums. Raises OutsideError."""
    unit = meta.shards or meta.chunks
    grid = counts(meta.shape, unit)
    present = []
    kind: Kind = "torn-shard" if meta.shards else "torn-chunk"
    for value in _archived(place, deep) if isinstance(place, ZipPlace) else _files(place):
        key = value.key
        name = key.rpartition("/")[2]
        if name in _METADATA:
            continue
        index = _index_of(key, meta)
        if index is None:
            if _LEFTOVER.search(name):
                findings.add("leftover", key, "a file left over from writing", level)
            continue
        if any(i >= n for i, n in zip(index, grid, strict=True)):
            findings.add("leftover", key, f"a chunk outside the array of shape {meta.shape}", level)
            continue
        present.append(int(np.ravel_multi_index(index, grid)))
        if value.size == 0:
            findings.add(kind, key, "the file is empty", level)
        elif what := value.fault or (torn if meta.shards else wrong_length)(value.open, value.size, meta):
            findings.add(kind, key, what, level)
    return Stored(unit, grid, np.array(sorted(present), np.int64))


def leftovers(place: Place, level_paths: list[str], findings: Findings) -> None:
    """Add what writing left in the group's folder itself, levels apart, and beside it."""
    for name in place.names() or ():
        if name.rstrip("/") not in level_paths and _LEFTOVER.search(name.rstrip("/")):
            findings.add("leftover", name.rstrip("/"), "a file left over from writing")
    if isinstance(place, LocalPlace):
        real = place.path.resolve()
        for path in real.parent.iterdir():
            if path.name.startswith(f".{real.name}.octree-"):
                findings.add(
                    "leftover", f"../{path.name}", "an interrupted build left this beside the pyramid"
                )


def _files(place: Place) -> Iterator[_Value]:
    """Every file below a folder. Links to folders are not followed. Raises OutsideError for links to files that lead out,
    SourceError for what is no folder."""
    folder, reach = place.local(), reach_at(place)
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                    continue
                if entry.is_symlink():
                    reach.real(entry.path, f"the file {entry.path}")
                path = Path(entry.path)
                key = path.relative_to(folder).as_posix()
                yield _Value(key, entry.stat().st_size, functools.partial(_opened, path))


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


def _archived(place: ZipPlace, deep: bool) -> Iterator[_Value]:
    """Every value below a name in an archive."""
    head = f"{place.key}/" if place.key else ""
    for name, entry in place.archive.directory.entries.items():
        if name.startswith(head):
            try:
                fault = place.archive.fault_of(name) if deep else None
            except SourceError as error:
                fault = error.message
            yield _Value(name[len(head) :], entry.size, functools.partial(place.archive.open, name), fault)


def _index_of(key: str, meta: ArrayMeta) -> tuple[int, ...] | None:
    """Which chunk or shard the file ``key`` is; None when its name is none of theirs."""
    parts = key.replace(meta.separator, "/").split("/")
    if meta.key_prefix and (not parts or parts.pop(0) != meta.key_prefix):
        return None
    if len(parts) != len(meta.shape) or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(int(part) for part in parts)


def torn(open_value: Opener, size: int, meta: ArrayMeta) -> str | None:
    """What is wrong with a shard, from its index alone; None when nothing is, or the index is of another kind."""
    if not meta.index_location or meta.shards is None:
        return None
    length = index_bytes(meta.shards, meta.chunks)
    with open_value() as stream:
        stream.seek(max(0, size - length) if meta.index_location == "end" else 0)
        return index_fault(stream.read(length), length, size)
