"""An archive in a remote store: its end is read in one request, and what lies next to each other in one more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from octree.pyramid.errors import SourceNotFound
from octree.pyramid.store.remote.client import Bytes, Got, waited
from octree.pyramid.store.remote.ranges import joined
from octree.pyramid.store.zipped.archive import Archive, inflated
from octree.pyramid.store.zipped.directory import DEFLATED, LOCAL_BYTES, Entry

_IN_FLIGHT = 64
_MOST_KEPT_BYTES = 4 * 2**20
"""Of values that were read ahead of their being wanted."""


class RemoteArchive(Archive):
    """The value ``key`` of ``values`` as an archive, called ``where``. One that changes while it is read is refused. ``values`` of
    archives are values of their own: an object of this class is what ``RangeReader`` reads from."""

    def __init__(self, values: Bytes, key: str, where: str) -> None:
        super().__init__()
        self._values, self._key, self._where = values, key, where
        self._etag: str | None = None
        self._ahead: dict[str, bytes] = {}
        self.in_flight = _IN_FLIGHT

    def __str__(self) -> str:
        return self._where

    def __reduce__(self) -> Any:
        return RemoteArchive, (self._values, self._key, self._where)

    @property
    def identity(self) -> str:
        return self._where

    def _tail(self, count: int) -> tuple[int, bytes]:
        got = waited(self._values.tail(self._key, count))
        if got is None:
            raise SourceNotFound(
                f"there is nothing at {self}", hint="check the URL and its spelling", path=str(self)
            )
        self._etag = got.etag
        return got.size, bytes(got.data)

    def _read(self, start: int, stop: int) -> bytes:
        return bytes(waited(self._part(start, stop)))

    async def _part(self, start: int, stop: int) -> Any:
        if stop <= start:
            return b""
        got = await self._values.get(self._key, start, stop)
        if got is None or (self._etag is not None and got.etag != self._etag):
            raise self.damaged("it has been changed or removed while it is read")
        if len(memoryview(got.data)) < stop - start:
            raise self.damaged("it is cut short")
        return got.data

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        if name in self._ahead:
            return self._ahead[name][start:stop]
        return super().read(name, start, stop)

    def prefetch(self, names: Iterable[str]) -> None:
        """Read the values of these names that there are, those that lie together in one request. What is wrong is said when they
        are asked for."""
        entries = [(name, self.entry(name)) for name in names if name not in self._ahead]
        known = [
            (name, entry, start)
            for name, entry in entries
            if entry is not None
            and not entry.encrypted
            and entry.method in (0, DEFLATED)
            and 0 < entry.stored <= entry.size <= _MOST_KEPT_BYTES
            and (start := self.known_start(name, entry)) is not None
        ]
        if sum(entry.size for _, entry, _ in known) + sum(map(len, self._ahead.values())) > _MOST_KEPT_BYTES:
            return
        requests = joined([(start, start + entry.stored) for _, entry, start in known])

        async def all_of() -> list[Any]:
            return await asyncio.gather(
                *(self._part(first, last) for first, last, _ in requests), return_exceptions=True
            )

        for request, data in zip(requests, waited(all_of()), strict=True):
            if isinstance(data, BaseException):
                continue
            for number in request.members:
                name, entry, start = known[number]
                part = bytes(memoryview(data)[start - request.start :][: entry.stored])
                self._ahead[name] = inflated(self, name, entry, part) if entry.method == DEFLATED else part

    # what ``RangeReader`` asks, in the event loop

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> Got | None:
        """As of a client, of a value in the archive."""
        entry = self.entry(key)
        if entry is None:
            return None
        self.check_method(key, entry)
        begin = await self._start(key, entry)
        if entry.method == DEFLATED:
            whole = inflated(self, key, entry, bytes(await self._part(begin, begin + entry.stored)))
            return Got(whole[start:stop], start, entry.size, self._etag)
        last = entry.size if stop is None else min(stop, entry.size)
        return Got(await self._part(begin + start, begin + last), start, entry.size, self._etag)

    async def tail(self, key: str, count: int) -> Got | None:
        entry = self.entry(key)
        return None if entry is None else await self.get(key, max(0, entry.size - count))

    async def _start(self, name: str, entry: Entry) -> int:
        known = self.known_start(name, entry)
        if known is None:
            head = await self._part(entry.header, entry.header + LOCAL_BYTES)
            known = self.note_start(name, entry, bytes(head))
        return known

    def note_fill(self, count: int) -> None:
        note = getattr(self._values, "note_fill", None)
        if note is not None:
            note(count)
