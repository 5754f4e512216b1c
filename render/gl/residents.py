"""What every atlas is: tiles that are resident, where they are, pins and the byte budget, textures. Main thread only."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import GLError, UsageError
from octree.render.gl.slots import Change, Page, Slots
from octree.render.loading.values import LoadKey

MIB = 1024 * 1024

_R8, _R16, _R32F = 0x8229, 0x822A, 0x822E
_RG8, _RG16, _RG32F = 0x822B, 0x822C, 0x8230
_RGB8, _RGB16, _RGB32F = 0x8051, 0x8054, 0x8815
_RGBA8, _RGBA16, _RGBA32F = 0x8058, 0x805B, 0x8814
_RED, _RG, _RGB, _RGBA = 0x1903, 0x8227, 0x1907, 0x1908

FORMATS: dict[tuple[str, int], tuple[int, int]] = {
    ("uint8", 1): (_R8, _RED),
    ("uint16", 1): (_R16, _RED),
    ("float32", 1): (_R32F, _RED),
    ("uint8", 2): (_RG8, _RG),
    ("uint16", 2): (_RG16, _RG),
    ("float32", 2): (_RG32F, _RG),
    ("uint8", 3): (_RGB8, _RGB),
    ("uint16", 3): (_RGB16, _RGB),
    ("float32", 3): (_RGB32F, _RGB),
    ("uint8", 4): (_RGBA8, _RGBA),
    ("uint16", 4): (_RGBA16, _RGBA),
    ("float32", 4): (_RGBA32F, _RGBA),
}
"""(dtype, samples) → (internal format, format) of OpenGL."""


def texture_format(shape: tuple[int, ...], axes: int, dtype: Any) -> tuple[tuple[str, int], int]:
    """((dtype name, samples), bytes per texel) of tiles of ``shape``, whose first ``axes`` are those of the texture."""
    dtype, samples = np.dtype(dtype), shape[axes] if len(shape) > axes else 1
    if (dtype.name, samples) not in FORMATS:
        raise GLError(f"no texture format for {samples} samples of {dtype.name}")
    return (dtype.name, samples), dtype.itemsize * samples


class _Placed(Protocol):
    """A tile in an atlas; ``place`` begins with the page number."""

    @property
    def place(self) -> tuple[int, ...]: ...


P = TypeVar("P", bound=_Placed)


class Residents(Generic[P]):
    """The tiles of an atlas, and its textures: the owner of both, whose kinds know how many axes there are.

    Counters: ``evicted`` tiles, ``uploads`` and ``patches`` (texture calls), ``uploaded_bytes``.
    """

    def __init__(self, slots: Slots, columns: int) -> None:
        self.uploads = 0
        self.patches = 0
        self.uploaded_bytes = 0
        self._slots = slots
        self._textures: dict[int, Any] = {}
        self._tiles: dict[LoadKey, P] = {}
        self._rows: dict[LoadKey, int] = {}
        self._free_rows = list(range(64))
        self._table = np.zeros((64, columns), np.int64)

    @property
    def budget_bytes(self) -> int:
        return self._slots.budget_bytes

    @property
    def bytes(self) -> int:
        """Bytes of all pages now."""
        return self._slots.bytes

    @property
    def peak_bytes(self) -> int:
        return self._slots.peak_bytes

    @property
    def evicted(self) -> int:
        return self._slots.evicted

    def __contains__(self, key: LoadKey) -> bool:
        return key in self._tiles

    def __len__(self) -> int:
        return len(self._tiles)

    @property
    def resident(self) -> Collection[LoadKey]:
        """The keys of all tiles, as they are now and will be: for who asks about thousands, or has a set of them, to take
        these from."""
        return self._tiles

    def begin_frame(self, owner: Hashable = None) -> None:
        """Forget the pins of this owner, and keep the budget again where pins stood against it. Whoever draws
        frames of its own from a shared atlas is an owner."""
        self._slots.unpin(owner)
        if self.bytes > self.budget_bytes:
            self._follow(self._slots.shrink(self.budget_bytes))

    def pin(self, keys: Iterable[LoadKey], owner: Hashable = None) -> None:
        """Keep these tiles until the owner's next ``begin_frame``, and count them as just used."""
        self._slots.pin(keys, owner)

    def where(self, keys: Iterable[LoadKey]) -> list[Any]:
        """Where each of these is now, as ``place`` says it, None for what is not resident."""
        tiles = self._tiles
        return [found.place if (found := tiles.get(key)) is not None else None for key in keys]

    def places(self, keys: Sequence[LoadKey]) -> NDArray[np.int64]:
        """(n, columns) placements, columns as in those of ``where``; KeyError when one is not resident."""
        rows = self._rows
        return self._table[[rows[key] for key in keys]]

    def texture(self, page: int) -> Any:
        """The gloo texture of a page."""
        return self._textures[page]

    def _remember(self, key: LoadKey, tile: P) -> None:
        """A row of the table that ``places`` reads, too: hundreds of placements a frame as one array."""
        if not self._free_rows:
            self._free_rows = list(range(len(self._table), 2 * len(self._table)))
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        self._tiles[key] = tile
        self._rows[key] = row = self._free_rows.pop()
        self._table[row] = tile.place

    def release(self, source: str) -> None:
        """Forget all tiles of one source (its token)."""
        self._remove([key for key in self._tiles if key.source == source])

    def clear(self) -> None:
        """Forget all tiles and give all textures back."""
        self._remove(list(self._tiles))

    def resize(self, budget_bytes: int) -> None:
        """Change the budget; pages are given back at once if they exceed it, unless pinned."""
        if budget_bytes < 1:
            raise UsageError("the atlas needs a budget above 0")
        self._follow(self._slots.shrink(budget_bytes))

    def close(self) -> None:
        """Give all textures back. Closing twice is harmless."""
        self.clear()

    def _remove(self, keys: list[LoadKey]) -> None:
        self._follow(self._slots.remove(keys))

    def _follow(self, change: Change) -> None:
        """Do with tiles and textures what happened to their slots."""
        for key in change.gone:
            del self._tiles[key]
            self._free_rows.append(self._rows.pop(key))
        for number in change.dropped:
            self._textures.pop(number).delete()
        if change.page is not None:
            self._textures[change.page.number] = self._new_texture(change.page)

    def _new_texture(self, page: Page) -> Any:
        raise NotImplementedError  # each atlas has its own kind of texture
