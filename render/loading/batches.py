"""Tiles of the same chunks are read together: which loads on their way bring several, and how many tiles a read may bring.

One owner: the loader's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from octree.render.loading.load import Load, RegisteredSource
from octree.render.loading.reading import batch_bytes
from octree.render.loading.values import Batch, LoadKey

SHARE = 0.75
"""Of the cache: so much all batches of what is wanted may take together. The rest is for stand-ins, and what was seen before."""

BEING_READ = 0.25
"""Of the cache: those that are being read at a time take no more, or are one. They are held beside it, once as they come and
once as tiles."""


class Batches:
    """The batches that are on their way, one load each. A tile that is wished while its batch comes waits for that: no
    chunk is decoded for two tiles at a time.

    ``planes``  somebody may step to other planes: those in the same chunks are worth keeping."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._loads: dict[_Place, Load] = {}
        self._part: float | None = None  # of the whole batches, as much as has room; None: not known yet
        self.planes = True

    def plan(self) -> None:
        """Wishes have changed."""
        self._part = None

    def batch_of(
        self, key: LoadKey, sources: Mapping[str, RegisteredSource], wanted: Iterable[LoadKey]
    ) -> Batch | None:
        """What to read for ``key``; None: its tile alone. ``wanted``: all that is wished now, whose batches must have room
        beside each other, or tiles would go before they are seen."""
        whole = self._whole(key, sources)
        if whole is None:
            return None
        if self._part is None:
            found = [(other, self._whole(other, sources)) for other in wanted]
            wholes = {_place(other, each) for other, each in found if each is not None}
            total = sum([batch_bytes(sources[token].source, each) for token, _, each in wholes])
            self._part = min(1.0, self._budget_bytes * SHARE / max(1, total))
        if self._part == 1.0:
            return whole
        source: Any = sources[key.source].source
        most_bytes = int(self._part * batch_bytes(source, whole))
        batch: Batch | None = source.batch_of(key.tile, most_bytes, planes=self.planes)
        return batch

    def _whole(self, key: LoadKey, sources: Mapping[str, RegisteredSource]) -> Batch | None:
        """All tiles in the chunks of this one, if there are others."""
        registered = sources.get(key.source)
        if registered is None or key.tile.level not in registered.batch_levels:
            return None
        source: Any = registered.source
        batch: Batch | None = source.batch_of(key.tile, None, planes=self.planes)
        return batch

    def coming(self, key: LoadKey, batch: Batch | None) -> Load | None:
        """The load that brings this batch of the source of ``key``."""
        return None if batch is None else self._loads.get(_place(key, batch))

    def begin(self, load: Load) -> None:
        if load.batch is not None:
            self._loads[_place(load.key, load.batch)] = load

    def end(self, load: Load) -> None:
        if load.batch is not None and self._loads.get(place := _place(load.key, load.batch)) is load:
            del self._loads[place]


_Place = tuple[str, int, Batch]


def _place(key: LoadKey, batch: Batch) -> _Place:
    return key.source, key.version, batch
