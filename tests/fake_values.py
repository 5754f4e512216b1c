"""A store in memory, as ``RangeReader`` and archives ask it, that counts requests and can keep them waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from octree.pyramid.store.remote.client import Got


class Asked(NamedTuple):
    """``start`` is negative for the last bytes of a value."""

    key: str
    start: int
    stop: int | None


class FakeValues:
    """``values`` by key. ``hold``: requests that it says so of never end but by being cancelled; ``held`` is how many do
    that now. Requests are made in the event loop; tests look from their own thread."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self.values, self.etag = values, "one"
        self.asked: list[Asked] = []
        self.hold: Callable[[Asked], bool] = lambda asked: False
        self.changed = threading.Condition()
        self.held = 0
        self.fills = 0

    @classmethod
    def of(cls, folder: Path) -> FakeValues:
        """The files of a folder."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        return cls({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> Got | None:
        return await self._answer(Asked(key, start, stop))

    async def tail(self, key: str, count: int) -> Got | None:
        return await self._answer(Asked(key, -count, None))

    def note_fill(self, count: int) -> None:
        self.fills += count

    def wait_for(self, true: Callable[[FakeValues], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: true(self), 20)

    async def _answer(self, asked: Asked) -> Got | None:
        with self.changed:
            self.asked.append(asked)
            self.changed.notify_all()
        if self.hold(asked):
            await self._held()
        await asyncio.sleep(0)
        value = self.values.get(asked.key)
        if value is None:
            return None
        start = max(0, len(value) + asked.start) if asked.start < 0 else asked.start
        return Got(value[start : asked.stop], start, len(value), self.etag)

    async def _held(self) -> None:
        self._count(1)
        try:
            await asyncio.Event().wait()
        finally:
            self._count(-1)

    def _count(self, by: int) -> None:
        with self.changed:
            self.held += by
            self.changed.notify_all()
