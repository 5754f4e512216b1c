"""A name in a remote store, as a ``Place``."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from octree.pyramid.errors import OutsideError
from octree.pyramid.store.place import End, Place, Staging, Stamp
from octree.pyramid.store.remote.client import Got, RemoteClient, client_of, waited
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions
from octree.pyramid.store.remote.ranges import joined
from octree.pyramid.store.remote.url import parse_url, said

if TYPE_CHECKING:
    from octree.pyramid.store.zarr_meta import ArrayMeta

METADATA = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup"})


@dataclass(frozen=True, slots=True)
class RemotePlace(Place):
    """``key`` in the store of ``client``; ``fence`` the key that its names may not lead out of, "" for none. Methods raise
    RemoteError, which no OSError is."""

    cheap_to_list: ClassVar[bool] = False
    client: RemoteClient
    key: str
    fence: str
    _known: dict[str, bytes | None] = field(default_factory=dict, compare=False, repr=False)
    """Metadata that have been read, of this place and all that came of it: each is asked for once."""

    def __reduce__(self) -> Any:
        return RemotePlace, (self.client, self.key, self.fence)

    def __str__(self) -> str:
        return said(self.client.root, self.key)

    def child(self, name: str, what: str = "") -> RemotePlace:
        if "\0" in name or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name) or name.startswith("/"):
            raise self._outside(name, what, name)
        key = posixpath.normpath(posixpath.join(self.key, name)) if name else self.key
        key = "" if key == "." else key
        outside = key == ".." or key.startswith("../")
        if outside or (self.fence and key != self.fence and not key.startswith(f"{self.fence}/")):
            raise self._outside(name, what, key)
        return RemotePlace(self.client, key, self.fence, self._known)

    def _outside(self, name: str, what: str, to: str) -> OutsideError:
        inside = said(self.client.root, self.fence)
        return OutsideError(
            f"{what or f'{self}: {name!r}'} leads to {to}, which is outside of {inside}",
            hint="give --allow-outside if you trust whoever made the source; another store is never read",
            path=str(self),
            leads_to=to,
            folder=inside,
        )

    def read(self, start: int = 0, stop: int | None = None) -> bytes | None:
        if self.name in METADATA:
            data = self._metadata()
            return data if data is None else data[start:stop]
        got = waited(self.client.get(self.key, start, stop))
        return None if got is None else bytes(got.data)

    def _metadata(self) -> bytes | None:
        if self.key not in self._known:
            waited(self._learn([self.key]))
        return self._known[self.key]

    async def _learn(self, keys: Iterable[str]) -> None:
        async def one(key: str) -> None:
            got = await self.client.get(key)
            self._known[key] = None if got is None else bytes(got.data)

        await asyncio.gather(*(one(key) for key in keys if key not in self._known))

    def prefetch(self, names: Iterable[str]) -> None:
        waited(self._learn([self.child(name).key for name in names]))

    def stamp(self) -> Stamp | None:
        if self.name in METADATA:
            data = self._metadata()
            return None if data is None else Stamp(len(data), hashlib.sha256(data).hexdigest())
        return waited(self.client.head(self.key))

    def peek(self, keys: Iterable[str], count: int) -> list[End | None]:
        places = [self.child(key) for key in keys]

        async def tails() -> list[End | None]:
            found = await asyncio.gather(*(self.client.tail(place.key, count) for place in places))
            return [None if got is None else End(got.size, bytes(got.data)) for got in found]

        return waited(tails())

    def read_parts(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        requests = joined(spans)

        async def all_() -> list[Got | None]:
            return await asyncio.gather(*(self.client.get(self.key, one.start, one.stop) for one in requests))

        found = [b""] * len(spans)
        for request, got in zip(requests, waited(all_()), strict=True):
            data = memoryview(b"" if got is None else got.data)
            for number in request.members:
                start, stop = (end - request.start for end in spans[number])
                found[number] = bytes(data[start:stop])
        return found

    @property
    def in_flight(self) -> int:
        return self.client.options.in_flight

    def reader(self, meta: ArrayMeta, what: str) -> Any:
        from octree.pyramid.store.remote.reader import RangeReader

        return RangeReader(self.client, self.key, meta, what, str(self))

    def staging(self, make_store: Callable[[], Any]) -> Staging:
        from octree.pyramid.store.remote.staging import RemoteStaging

        return RemoteStaging(self.client, self.key, make_store())

    @property
    def zarr_store(self) -> Any:
        from octree.pyramid.store.remote.zarr_engine import ClientStore

        return ClientStore(self)

    def names(self) -> list[str] | None:
        return waited(self.client.names(self.key))

    def kind(self) -> Literal["folder", "value", "nothing"]:
        if self.key and self.stamp() is not None:
            return "value"
        return "folder" if waited(self.client.any_below(self.key)) else "nothing"

    def write(self, data: bytes) -> None:
        self._known.pop(self.key, None)
        waited(self.client.put(self.key, data))

    def ends(self, keys: Iterable[str]) -> list[End]:
        async def tails() -> list[End]:
            found = await asyncio.gather(*(self.client.tail(f"{self.key}/{key}", 4) for key in keys))
            return [End(got.size, bytes(got.data)) for got in found if got is not None]

        return waited(tails())

    def remove(self, keys: Iterable[str]) -> None:
        names = [f"{self.key}/{key}" for key in keys]
        for name in names:
            self._known.pop(name, None)
        waited(self.client.delete(names))

    @property
    def name(self) -> str:
        return posixpath.basename(self.key) or self.client.root.rpartition("/")[2]

    @property
    def kvstore(self) -> Any:
        raise ValueError("TensorStore reads no remote stores here")

    @property
    def identity(self) -> str:
        return str(self)


def remote_place(url: str, options: RemoteOptions = DEFAULT_REMOTE, *, anywhere: bool = False) -> RemotePlace:
    """The place that ``url`` names: what lies below it may be read, with ``anywhere`` all of its bucket or host. Raises
    UsageError."""
    address = parse_url(url, allow_http=options.allow_http)
    return RemotePlace(client_of(address.root, options), address.key, "" if anywhere else address.key)
