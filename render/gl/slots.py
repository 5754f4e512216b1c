"""Which tile sits in which slot of which page. No OpenGL here: this is book-keeping, and it is tested as such.

Tiles are grouped by *slot class*: texel format and slot size. A page is one texture, divided into equal slots
of one class. Pages are added until the byte budget is reached; then the least recently used tile that is not
pinned gives way, and pages that other classes no longer need are given back. Slots and pages have two axes (y, x), or
three (z, y, x).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from operator import mul
from typing import Any

GUTTER = 1
"""Texels around each tile that repeat its neighbours, so that filters need no second texture read."""
FIRST_SHARE, PAGE_SHARE, LEFT_SHARE, LEAST_SHARE = 32, 16, 8, 64
"""Parts of the budget. A new texture is filled with zeros by the driver, 0.4 ms for a MiB, in the frame that needs
it: so the first page takes one part in 32, later ones no more than all before, and none more than one in 16. None
takes more than one in 8 of what is left, so that no class of tiles takes the room of another that comes later; but
never less than one in 64 of the budget, or ``LEAST_PAGE_BYTES``: a page is a draw call."""
LEAST_PAGE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class SlotClass:
    """Texel format (dtype name, samples), bytes per texel, and slot (height, width) or (depth, height, width) in texels,
    gutters counted. ``owner``: whoever has pages of their own."""

    format: tuple[str, int]
    texel_bytes: int
    slot: tuple[int, ...]
    owner: Hashable = None

    @property
    def bytes(self) -> int:
        """Of one slot."""
        return math.prod(self.slot) * self.texel_bytes


@dataclass(frozen=True, slots=True)
class Slot:
    """Place of a tile: page number and texel (y, x) or (z, y, x) of the slot's corner, where the gutter begins."""

    page: int
    corner: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of the slots means for textures: ``gone`` tiles, ``dropped`` pages (to be destroyed), the
    new tile's ``slot`` if it got one, and the ``page`` it lies in, if that was added or has grown."""

    gone: tuple[Any, ...] = ()
    dropped: tuple[int, ...] = ()
    slot: Slot | None = None
    page: Page | None = None


@dataclass(slots=True, eq=False)
class Page:
    """One texture: ``counts`` slots along each axis, and which are free (a stack, lowest last)."""

    number: int
    kind: SlotClass
    counts: tuple[int, ...]
    free: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(mul, self.counts, self.kind.slot))

    @property
    def slots(self) -> int:
        return math.prod(self.counts)

    @property
    def bytes(self) -> int:
        return self.slots * self.kind.bytes

    @property
    def used(self) -> int:
        return self.slots - len(self.free)

    def corner(self, number: int) -> tuple[int, ...]:
        """Where a slot begins: they are counted along the last axis first."""
        places = []
        for count, size in zip(reversed(self.counts), reversed(self.kind.slot), strict=True):
            number, place = divmod(number, count)
            places.append(place * size)
        return tuple(reversed(places))

    def number_at(self, corner: tuple[int, ...]) -> int:
        number = 0
        for count, size, place in zip(self.counts, self.kind.slot, corner, strict=True):
            number = number * count + place // size
        return number


def slot_class(
    shape: tuple[int, ...], format: tuple[str, int], texel_bytes: int, slot_px: int, owner: Hashable = None
) -> SlotClass:
    """The class for tiles of ``shape`` (h, w) or (d, h, w): whole multiples of ``slot_px``, so that edge tiles share it."""
    slot = tuple([math.ceil(max(n, 1) / slot_px) * slot_px + 2 * GUTTER for n in shape])
    return SlotClass(format, texel_bytes, slot, owner)


class Slots:
    """Owner of the places; one for each atlas, main thread only.

    ``budget_bytes`` bounds the pages together, ``page_px`` the edge of an ordinary page (a slot that is
    larger gets a page of its own), ``max_px`` the edge of any page.
    """

    def __init__(self, budget_bytes: int, page_px: int, max_px: int) -> None:
        self.budget_bytes = budget_bytes
        self.page_px = page_px
        self.max_px = max_px
        self.evicted = 0
        self.bytes = 0
        self.peak_bytes = 0
        self.pages: dict[int, Page] = {}
        self._tiles: OrderedDict[Hashable, Slot] = OrderedDict()  # least recently used first
        self._pins: dict[Hashable, set[Hashable]] = {}
        self._next_page = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._tiles

    def __len__(self) -> int:
        return len(self._tiles)

    def get(self, key: Hashable) -> Slot | None:
        return self._tiles.get(key)

    def keys(self) -> tuple[Hashable, ...]:
        """All tiles, least recently used first."""
        return tuple(self._tiles)

    def touch(self, key: Hashable) -> None:
        self._tiles.move_to_end(key)

    def unpin(self, owner: Hashable = None) -> None:
        """Forget what this owner has pinned."""
        self._pins.pop(owner, None)

    def pin(self, keys: Iterable[Hashable], owner: Hashable = None) -> None:
        """Keep these until ``unpin`` of the same owner; those that are resident also count as just used."""
        pins = self._pins.setdefault(owner, set())
        for key in keys:
            pins.add(key)
            if key in self._tiles:
                self._tiles.move_to_end(key)

    def _is_pinned(self, key: Hashable) -> bool:
        return any(key in pins for pins in self._pins.values())

    def capacity(self, kind: SlotClass) -> int:
        """How many tiles of one class could be resident at once if they had the budget for themselves."""
        total, left = 0, self.budget_bytes
        while (grid := self._grid(kind, left)) is not None:
            count = math.prod(grid)
            total += count
            left -= count * kind.bytes
        return total

    def _grid(self, kind: SlotClass, left_bytes: int) -> tuple[int, ...] | None:
        """Slots along each axis of a new page of at most ``left_bytes``; None when not one slot fits."""
        if max(kind.slot) > self.max_px:
            return None
        if left_bytes < kind.bytes:
            return None
        budget = self.budget_bytes
        most = max(min(budget // PAGE_SHARE, budget - left_bytes), budget // FIRST_SHARE)
        share = max(min(left_bytes // LEFT_SHARE, most), budget // LEAST_SHARE, LEAST_PAGE_BYTES)
        fit = max(min(left_bytes, share) // kind.bytes, 1)
        counts = []
        for size in reversed(kind.slot):
            counts.append(min(max(min(self.page_px, self.max_px) // size, 1), fit))
            fit //= counts[-1]
        return tuple(reversed(counts))

    def place(self, key: Hashable, kind: SlotClass) -> Change:
        """Find a place for a tile that has none. No slot when everything that could give way is pinned."""
        gone: list[Hashable] = []
        dropped: list[int] = []
        fresh: Page | None = None
        page = self._page_with_room(kind)
        if page is None:
            page = fresh = self._grow(kind)
        if page is None and self._evict(kind, gone):
            page = self._page_with_room(kind)
        if page is None:
            page = fresh = self._steal(kind, gone, dropped)
        if page is None:
            return Change(tuple(gone), tuple(dropped))
        slot = Slot(page.number, page.corner(page.free.pop()))
        self._tiles[key] = slot
        return Change(tuple(gone), tuple(dropped), slot, fresh)

    def reserve(self, kind: SlotClass) -> Page | None:
        """The page that the next tile of this class will go to, added if it must be; None when a tile must go first."""
        return self._page_with_room(kind) or self._grow(kind)

    def remove(self, keys: Iterable[Hashable]) -> Change:
        """Forget tiles, and give back pages that are empty then."""
        gone = tuple(key for key in keys if key in self._tiles)
        numbers = {self._free(key) for key in gone}
        return Change(gone, self._drop_empty(numbers))

    def shrink(self, budget_bytes: int) -> Change:
        """Set the budget; gives back pages, the least recently used first, until it is kept (pins permitting)."""
        self.budget_bytes = budget_bytes
        gone: list[Hashable] = []
        dropped: list[int] = []
        for number in self._pages_by_age():
            if self.bytes <= self.budget_bytes:
                break
            self._drop_page(number, gone, dropped)
        return Change(tuple(gone), tuple(dropped))

    def _page_with_room(self, kind: SlotClass) -> Page | None:
        for page in self.pages.values():
            if page.kind == kind and page.free:
                return page
        return None

    def _grow(self, kind: SlotClass) -> Page | None:
        """A new page, if the budget has room for at least one slot."""
        grid = self._grid(kind, self.budget_bytes - self.bytes)
        if grid is None:
            return None
        return self._add_page(kind, grid)

    def _add_page(self, kind: SlotClass, counts: tuple[int, ...]) -> Page:
        page = Page(self._next_page, kind, counts, list(range(math.prod(counts) - 1, -1, -1)))
        self._next_page += 1
        self.pages[page.number] = page
        self._count_bytes(page.bytes)
        return page

    def _count_bytes(self, more: int) -> None:
        self.bytes += more
        self.peak_bytes = max(self.peak_bytes, self.bytes)

    def _evict(self, kind: SlotClass, gone: list[Hashable]) -> bool:
        """Free the slot of the least recently used tile of this class that is not pinned."""
        for key, slot in self._tiles.items():
            if not self._is_pinned(key) and self.pages[slot.page].kind == kind:
                self._free(key)
                self.evicted += 1
                gone.append(key)
                return True
        return False

    def _steal(self, kind: SlotClass, gone: list[Hashable], dropped: list[int]) -> Page | None:
        """Give back other pages, least recently used first, until a page of this class fits; none if none would."""
        pinned = {
            slot.page
            for pins in self._pins.values()
            for key in pins
            if (slot := self._tiles.get(key)) is not None
        }
        spare = sum(page.bytes for page in self.pages.values() if page.number not in pinned)
        if not self._would_fit(kind, self.budget_bytes - self.bytes + spare):
            return None
        for number in self._pages_by_age():
            if self._drop_page(number, gone, dropped) and (page := self._grow(kind)) is not None:
                return page
        return None

    def _would_fit(self, kind: SlotClass, left_bytes: int) -> bool:
        """Were so many bytes left, there would be room for one more."""
        return self._grid(kind, left_bytes) is not None

    def _pages_by_age(self) -> list[int]:
        """Page numbers, those whose newest tile is oldest first; empty ones before all."""
        newest = dict.fromkeys(self.pages, -1)
        for age, slot in enumerate(self._tiles.values()):
            newest[slot.page] = age
        return sorted(newest, key=lambda number: newest[number])

    def _drop_page(self, number: int, gone: list[Hashable], dropped: list[int]) -> bool:
        tiles = [key for key, slot in self._tiles.items() if slot.page == number]
        if any(map(self._is_pinned, tiles)):
            return False
        for key in tiles:
            self._free(key)
        self.evicted += len(tiles)
        gone += tiles
        dropped += self._drop_empty({number})
        return True

    def _free(self, key: Hashable) -> int:
        slot = self._tiles.pop(key)
        page = self.pages[slot.page]
        page.free.append(page.number_at(slot.corner))
        return page.number

    def _drop_empty(self, numbers: Iterable[int]) -> tuple[int, ...]:
        empty = tuple(number for number in numbers if self.pages[number].used == 0)
        for number in empty:
            self.bytes -= self.pages.pop(number).bytes
        return empty
