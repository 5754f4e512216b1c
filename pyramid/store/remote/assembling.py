"""Encoded chunks to the voxels of a box, and errors that say which chunk it is. Pure."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.boxes import inside, overlap
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.store.chunk_files import ChunkPlace, chunk_places
from octree.pyramid.store.remote.decoding import ChunkDecoder, UnknownCodec
from octree.pyramid.store.zarr_meta import ArrayMeta, fill_of


class Assembler:
    """Of one array, of which errors say that it is ``what`` at ``where``. Nothing changes after it is made. Raises UnknownCodec
    for chunks, and for indices of shards, that are not decoded here."""

    def __init__(self, meta: ArrayMeta, what: str, where: str) -> None:
        self.meta, self._what, self._where = meta, what, where
        self._decoder = ChunkDecoder(meta)
        if meta.shards and not meta.index_location:
            raise UnknownCodec("an index of shards that is more than numbers and crc32c")
        self.most_encoded_bytes = self._decoder.most_encoded_bytes

    def places(self, box: Box) -> tuple[ChunkPlace, ...]:
        """Where the chunks are stored that ``box`` meets, in C order."""
        return tuple(chunk_places(self.meta, box))

    def check_length(self, length: int) -> None:
        """Raises ValueError for a chunk of so many encoded bytes that it can be none of these."""
        if not 0 < length <= self.most_encoded_bytes:
            raise ValueError(f"{length} bytes are stored for it, which no chunk of this array takes")

    def voxels(self, box: Box, places: Sequence[ChunkPlace], encoded: Sequence[Any]) -> NDArray[Any]:
        """The voxels of ``box``, native byte order, of nobody else: from the encoded bytes of each of its chunks, None for
        those that are not stored. Raises SourceError naming array and chunk."""
        if len(places) == 1:
            block = self._block(places[0])
            return _own(self._decoded(places[0], encoded[0])[inside(box, block)])
        found = np.empty(box.shape, self.meta.dtype)
        for place, data in zip(places, encoded, strict=True):
            block = self._block(place)
            part = overlap(box, block)
            if part is not None:
                found[inside(part, box)] = self._decoded(place, data)[inside(part, block)]
        return found

    def _block(self, place: ChunkPlace) -> Box:
        """What the whole chunk covers, beyond the array's end, too."""
        edges = self.meta.chunks
        start = tuple(map(operator.mul, place.chunk, edges))
        return Box(start, tuple(map(operator.add, start, edges)))

    def _decoded(self, place: ChunkPlace, data: Any) -> NDArray[Any]:
        if data is None:
            return np.broadcast_to(self._fill, self.meta.chunks)
        try:
            return self._decoder.decode(data)
        except ValueError as error:
            raise self.damaged(place, str(error)) from error

    @functools.cached_property
    def _fill(self) -> NDArray[Any]:
        return np.asarray(fill_of(self.meta), self.meta.dtype)

    def damaged(self, place: ChunkPlace, what: str) -> SourceError:
        """The error of a chunk in which something is wrong: ``what``."""
        return SourceError(
            f"{self.name_of(place)} cannot be read: {what} ({self._where}/{place.key})",
            hint="what is stored is damaged or incomplete: copy it again",
            **self.details(place),
        )

    def name_of(self, place: ChunkPlace) -> str:
        return f"{self._what} at {self._where}: chunk {'/'.join(map(str, place.chunk))}"

    def details(self, place: ChunkPlace) -> dict[str, str]:
        """What errors say to programs."""
        chunk = "/".join(map(str, place.chunk))
        return {"array": self._where, "chunk": chunk, "file": f"{self._where}/{place.key}"}


def _own(voxels: NDArray[Any]) -> NDArray[Any]:
    """The same, contiguous, and to be written to."""
    return np.require(voxels, requirements=["C", "W"]) if voxels.size else voxels.copy()
