"""Remote arrays for the zarr library, which knows more codecs than we do: its store over our client, so that requests are
tried again, counted and refused as all others are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from octree.pyramid.store.chunk_codecs import ChunkCodecs
from octree.pyramid.store.remote.client import in_loop
from octree.pyramid.store.zarr_meta import read_array_meta

if TYPE_CHECKING:
    from octree.pyramid.store.remote.place import RemotePlace

_METADATA = (".zarray", ".zattrs", ".zgroup", "zarr.json")


class ClientStore(Store):
    """What lies below ``place``, to be read. Raises RemoteError; ValueError for a chunk that decodes to more than it may."""

    def __init__(self, place: RemotePlace) -> None:
        super().__init__(read_only=True)
        self._place = place
        self._codecs: ChunkCodecs | None = None
        self._sharded = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientStore) and other._place == self._place

    def __hash__(self) -> int:
        return hash(self._place)

    def __str__(self) -> str:
        return str(self._place)

    def _bounds(self) -> ChunkCodecs:
        if self._codecs is None:
            meta = read_array_meta(self._place)
            self._sharded = meta.shards is not None
            self._codecs = ChunkCodecs(meta, all_codecs=True)
        return self._codecs

    async def get(self, key: str, prototype: BufferPrototype, byte_range: Any = None) -> Buffer | None:
        if key.rpartition("/")[2] in _METADATA:
            data = await asyncio.to_thread(self._place.child(key).read)
            return None if data is None else prototype.buffer.from_bytes(data)
        client, name = self._place.client, self._place.child(key).key
        if byte_range is None:
            asked = client.get(name)
        elif isinstance(byte_range, RangeByteRequest):
            asked = client.get(name, byte_range.start, byte_range.end)
        elif isinstance(byte_range, OffsetByteRequest):
            asked = client.get(name, byte_range.offset)
        elif isinstance(byte_range, SuffixByteRequest):
            asked = client.tail(name, byte_range.suffix)
        else:
            raise TypeError(f"no range of bytes: {byte_range!r}")
        got = await asyncio.wrap_future(in_loop(asked))
        if got is None:
            client.note_fill()
            return None
        data = bytes(got.data)
        self._check(data, byte_range)
        return prototype.buffer.from_bytes(data)

    def _check(self, data: bytes, byte_range: Any) -> None:
        codecs = self._bounds()
        # of a shard: not its index, at either end
        index = isinstance(byte_range, SuffixByteRequest) or (byte_range is not None and not byte_range.start)
        if codecs.packed and (not self._sharded if byte_range is None else not index):
            codecs.check(len(data), lambda count: data[:count])

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, Any]]
    ) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._place.child(key).stamp) is not None

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    async def set(self, key: str, value: Buffer) -> None:
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError
