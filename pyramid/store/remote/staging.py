"""Arrays of a remote store, encoded and decoded by TensorStore in memory: one request for each shard, by the store's own client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from octree.pyramid.store.place import End
from octree.pyramid.store.remote.client import RemoteClient, in_loop, waited


class RemoteStaging:
    """See ``place.Staging``; ``store`` is TensorStore's, in memory. Thread-safe as long as no two callers use the same keys."""

    def __init__(self, client: RemoteClient, key: str, store: Any) -> None:
        self._client, self._key, self._store = client, key, store
        self._lock = threading.Lock()
        self._ends: dict[str, End] = {}

    @property
    def kvstore(self) -> Any:
        return self._store

    def send(self, written: Any, keys: Sequence[str]) -> Future[None]:
        return in_loop(self._send(written, keys))

    async def _send(self, written: Any, keys: Sequence[str]) -> None:
        if written is not None:
            await written
        await asyncio.gather(*map(self._put, keys))

    async def _put(self, key: str) -> None:
        found = self._store.read(key).result()
        if found.state != "value":
            return  # nothing but fill values: not stored
        data = bytes(found.value)
        self.drop([key])
        await self._client.put(f"{self._key}/{key}", data)
        with self._lock:
            self._ends[key] = End(len(data), data[-4:])

    def fetch(self, keys: Sequence[str]) -> None:
        async def all_of_them() -> None:
            for key, got in zip(keys, await asyncio.gather(*map(self._get, keys)), strict=True):
                if got is not None:
                    self._store.write(key, bytes(got.data)).result()

        waited(all_of_them())

    async def _get(self, key: str) -> Any:
        return await self._client.get(f"{self._key}/{key}")

    def drop(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._store.write(key, None).result()

    def ends(self, keys: Sequence[str]) -> list[End]:
        with self._lock:
            return [self._ends.pop(key) for key in keys if key in self._ends]
