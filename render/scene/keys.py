"""Where the parts of a layer stand, and the keys that the loader knows their tiles by. Pure book-keeping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from octree.pyramid.model import TileKey
from octree.render.loading.values import LoadKey
from octree.render.tiles.face import Face
from octree.render.view.plan import Lacking
from octree.render.view.state import Section

LONG, TABLES = 64, 6
"""Tuples of so many tiles are remembered, so many of them: what is wanted, what is around it, and what was looked at for that."""
MOST_KEYS = 2**16
"""Of one place, so that a long journey over a large image takes no memory."""


@dataclass(frozen=True, slots=True)
class Part:
    """One channel of a layer, and how it is drawn: a ``TiledImageVisual``, or a ``MarchVisual`` of volumes. ``channel``
    None: wherever the view is."""

    channel: int | None
    visual: Any


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one part stands: its section of the image, and the index on each level."""

    part: Part
    section: Section
    indices: tuple[tuple[int, ...], ...]


class Keys(dict[TileKey, tuple[LoadKey, ...]]):
    """The keys of each tile of a face where some parts stand, made when they are first asked for: a view of thousands
    asks several times a turn."""

    def __init__(self, face: Face, parts: Sequence[Standing]) -> None:
        self.version = face.version
        self._source, self._indices = face.token, [part.indices for part in parts]
        self._tables: dict[int, tuple[Sequence[TileKey], dict[LoadKey, int]]] = {}

    def __missing__(self, tile: TileKey) -> tuple[LoadKey, ...]:
        if len(self) >= MOST_KEYS:
            self.clear()
        # named tuples' own constructors take four times as long
        new, (level, _, grid) = tuple.__new__, tile
        source, version = self._source, self.version
        keys = self[tile] = tuple(
            [
                new(LoadKey, (source, version, new(TileKey, (level, index[level], grid))))
                for index in self._indices
            ]
        )
        return keys

    def of(self, tiles: Iterable[TileKey]) -> list[LoadKey]:
        """The keys of tiles of another place of the face, in order; not remembered."""
        new, source, version = tuple.__new__, self._source, self.version
        return [
            new(LoadKey, (source, version, new(TileKey, (level, index[level], grid))))
            for level, _, grid in tiles
            for index in self._indices
        ]

    def table(self, tiles: Sequence[TileKey]) -> dict[LoadKey, int]:
        """Of each of their keys the tile's place among them, in order; the last long ones are remembered, as dicts and sets can
        be made of them without hashing a key. Not to be changed."""
        found = self._tables.pop(id(tiles), None)
        if found is not None:
            self._tables[id(tiles)] = found
            return found[1]
        if len(self._indices) == 1:
            keys = map(itemgetter(0), map(self.__getitem__, tiles))
            table = dict(zip(keys, range(len(tiles)), strict=True))
        else:
            table = {key: place for place, tile in enumerate(tiles) for key in self[tile]}
        if len(tiles) >= LONG:
            if len(self._tables) >= TABLES:
                del self._tables[next(iter(self._tables))]
            self._tables[id(tiles)] = tiles, table  # kept, or its id might be another's
        return table


class Once:
    """``Lacking`` of one plan: all that is wanted is asked for twice."""

    def __init__(self, lacking: Lacking) -> None:
        self._lacking = lacking
        self._answers: dict[int, tuple[Sequence[TileKey], Sequence[TileKey]]] = {}

    def __call__(self, tiles: Sequence[TileKey]) -> Sequence[TileKey]:
        if id(tiles) not in self._answers:
            self._answers[id(tiles)] = tiles, self._lacking(tiles)  # kept, or its id might be another's
        return self._answers[id(tiles)][1]
