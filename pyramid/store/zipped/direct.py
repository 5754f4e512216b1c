"""Arrays of local archives: read by ranges of bytes in the thread that asks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from octree.pyramid.model import Box
from octree.pyramid.store.chunk_files import ChunkPlace
from octree.pyramid.store.reading import Later
from octree.pyramid.store.remote.assembling import Assembler
from octree.pyramid.store.remote.indices import INDICES, ShardIndex, parsed
from octree.pyramid.store.remote.ranges import joined
from octree.pyramid.store.shards import index_bytes
from octree.pyramid.store.zarr_meta import ArrayMeta
from octree.pyramid.store.zipped.archive import Archive

_numbers = itertools.count()


class DirectReader:
    """The array of which the values begin with ``key`` in an archive. Any thread. ``what`` and ``where`` name it in errors. Raises
    UnknownCodec."""

    def __init__(self, archive: Archive, key: str, meta: ArrayMeta, what: str, where: str) -> None:
        self._assembler = Assembler(meta, what, where)
        self._archive, self._head, self._meta = archive, f"{key}/" if key else "", meta
        self._number = next(_numbers)

    def start(self, box: Box, explain: Callable[[BaseException], Exception]) -> Later:
        return Later(functools.partial(self._read, box))

    def _read(self, box: Box) -> NDArray[Any]:
        places = self._assembler.places(box)
        encoded: list[Any] = [None] * len(places)
        by_unit: dict[str, list[int]] = {}
        for number, place in enumerate(places):
            by_unit.setdefault(place.key, []).append(number)
        for key, numbers in by_unit.items():
            try:
                found = self._unit(key, [places[number] for number in numbers])
            except ValueError as error:
                raise self._assembler.damaged(places[numbers[0]], str(error)) from error
            for number, data in zip(numbers, found, strict=True):
                encoded[number] = data
        return self._assembler.voxels(box, places, encoded)

    def _unit(self, key: str, places: list[ChunkPlace]) -> list[Any]:
        """The encoded bytes of chunks of one shard, or the one chunk that the value is. Raises ValueError."""
        entry = self._archive.entry(self._head + key)
        if entry is None:
            return [None] * len(places)
        if not self._meta.shards:
            self._assembler.check_length(entry.size)
            return [self._archive.read(self._head + key)]
        index = self._index(key, entry.size)
        spans = [index.span(place.number) for place in places]
        stored = [number for number, span in enumerate(spans) if span is not None]
        asked = [span for span in spans if span is not None]
        for start, stop in asked:
            self._assembler.check_length(stop - start)
        encoded: list[Any] = [None] * len(places)
        for request in joined(asked):
            data = memoryview(self._archive.read(self._head + key, request.start, request.stop) or b"")
            for member in request.members:
                start, stop = asked[member]
                encoded[stored[member]] = data[start - request.start : stop - request.start]
        return encoded

    def _index(self, key: str, size: int) -> ShardIndex:
        assert self._meta.shards is not None
        name = ("direct", self._number, key)
        index = INDICES.get(name)
        if index is None:
            count = index_bytes(self._meta.shards, self._meta.chunks)
            start = 0 if self._meta.index_location == "start" else max(0, size - count)
            data = self._archive.read(self._head + key, start, start + count) or b""
            index = parsed(data, self._meta, size, None)
            INDICES.put(name, index)
        return index
