"""The files of a Zarr array's chunks, looked at before a library opens them: where they really are, and how much is in them.

A folder from somebody else may hold links to anything, and chunks that decode to gigabytes.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from octree.pyramid.boxes import blocks_met, counts
from octree.pyramid.model import Box
from octree.pyramid.reach import Reach, check_regular
from octree.pyramid.store.chunk_codecs import ChunkCodecs
from octree.pyramid.store.shards import ABSENT, index_bytes
from octree.pyramid.store.zarr_meta import ArrayMeta

_FOLDERS_KNOWN = 4096


class ChunkFiles:
    """Looks at the files that a read will open: one ``lstat`` for each, about 2 µs, and 10 µs a chunk for codecs that do not
    bound themselves.

    Owner of the set of folders that were looked at: this object. Any thread may ask: the worst that two at once
    can do is to look twice. ``all_codecs`` as in ``ChunkCodecs``, which raises ValueError.
    """

    def __init__(self, folder: Path, meta: ArrayMeta, reach: Reach, what: str, *, all_codecs: bool) -> None:
        self._folder, self._meta, self._reach, self._what = str(folder), meta, reach, what
        self._codecs = ChunkCodecs(meta, all_codecs=all_codecs)
        self._known: set[str] = set()

    def check(self, box: Box) -> None:
        """Raises OutsideError for a chunk that a link leads out, SourceError for one that is no file; ValueError, naming the
        file, for one of more bytes than its chunks could take, and for a chunk that decodes to more than it should."""
        for key in chunk_keys(self._meta, box):
            self._check_file(f"{self._folder}/{key}")
        if self._codecs.packed:
            self._check_chunks(box)

    def _check_file(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        if not self._reach.anywhere and folder not in self._known:
            self._reach.real(folder, f"{self._what}: the folder {folder}")
            if len(self._known) >= _FOLDERS_KNOWN:
                self._known.clear()
            self._known.add(folder)
        try:
            facts = os.lstat(path)
            if not stat.S_ISREG(facts.st_mode):
                facts = self._behind(path)
        except OSError:
            return  # not stored, or whoever reads it says what is wrong
        if facts.st_size > self._codecs.most_stored_bytes:
            raise ValueError(
                f'{facts.st_size} bytes are stored, far more than it takes (local file "{path}")'
            )

    def _behind(self, path: str) -> os.stat_result:
        """Of what a link leads to. Raises FileNotFoundError when that is nothing."""
        real = self._reach.real(path, f"{self._what}: the chunk {path}")
        facts = real.stat()
        check_regular(path, facts.st_mode)
        return facts

    def _check_chunks(self, box: Box) -> None:
        for each in chunk_places(self._meta, box):
            path, place = f"{self._folder}/{each.key}", each.number
            try:
                fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except OSError:
                continue
            try:
                found = self._extent(fd, place)
                if found is not None:
                    self._codecs.check(found[1], functools.partial(_pread, fd, found[0]))
            except ValueError as error:
                raise ValueError(f'{error} (local file "{path}")') from None
            finally:
                os.close(fd)

    def _extent(self, fd: int, number: int) -> tuple[int, int] | None:
        """Where the encoded chunk lies in its file; None when it is not stored, or nobody here knows."""
        size, meta = os.fstat(fd).st_size, self._meta
        if not meta.shards:
            return 0, size
        if not meta.index_location:
            return None
        begin = 0 if meta.index_location == "start" else size - index_bytes(meta.shards, meta.chunks)
        entry = os.pread(fd, 16, begin + 16 * number) if begin >= 0 else b""
        offset, length = int.from_bytes(entry[:8], "little"), int.from_bytes(entry[8:], "little")
        if len(entry) < 16 or offset == ABSENT or offset + length > size:
            return None  # not stored, or damaged, which the reader says
        return offset, length


class ChunkPlace(NamedTuple):
    """Where one chunk is stored: ``key`` of the file (shard, or chunk) below the array's folder, ``number`` in that shard,
    ``chunk`` in the array's grid of chunks."""

    key: str
    number: int
    chunk: tuple[int, ...]


def chunk_places(meta: ArrayMeta, box: Box) -> Iterator[ChunkPlace]:
    """Of every chunk that ``box`` meets, in C order. Pure."""
    inner = counts(meta.shards or meta.chunks, meta.chunks)
    for index in itertools.product(*blocks_met(box, meta.chunks)):
        unit, number = [], 0
        for i, n in zip(index, inner, strict=True):
            unit.append(i // n)
            number = number * n + i % n
        yield ChunkPlace(_key(meta, unit), number, index)


def _pread(fd: int, offset: int, count: int) -> bytes:
    return os.pread(fd, count, offset)


def chunk_keys(meta: ArrayMeta, box: Box) -> Iterator[str]:
    """Names of the files (shards, or chunks) that ``box`` meets, below the array's folder. Pure."""
    for numbers in itertools.product(*blocks_met(box, meta.shards or meta.chunks)):
        yield _key(meta, numbers)


def few_keys(meta: ArrayMeta, most: int) -> list[str]:
    """At most so many names of an array's files, spread evenly from the first to the last. Pure."""
    grid = counts(meta.shape, meta.shards or meta.chunks)
    total = math.prod(grid)
    numbers = sorted({i * (total - 1) // max(1, most - 1) for i in range(most)}) if total else []
    return [_key(meta, _place_in(grid, number)) for number in numbers]


def _place_in(grid: Sequence[int], number: int) -> list[int]:
    """Which block the ``number``th of a grid is, in C order; Python's numbers: there may be more than 2^63."""
    place: list[int] = []
    for length in reversed(grid):
        number, own = divmod(number, length)
        place.insert(0, own)
    return place


def _key(meta: ArrayMeta, numbers: Sequence[int]) -> str:
    head = meta.key_prefix + meta.separator if meta.key_prefix else ""
    return head + meta.separator.join(map(str, numbers))
