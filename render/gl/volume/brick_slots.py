"""Slots of bricks: one page for each class, as a ray cannot change textures. No OpenGL here."""

from __future__ import annotations

import math

from octree.render.gl.slots import FIRST_SHARE, Page, SlotClass, Slots

MOST_BYTES = 2**30
"""Of one 3-D texture: llvmpipe says yes to 2 GiB, and draws nothing."""
MOST_PX = 2048
"""Edge of a 3-D texture on every OpenGL of note."""


class BrickSlots(Slots):
    """Slots whose classes have one page each, which grows along its first axis: what lies in it stays where it is.

    ``shares``  how many pages share the budget: none takes more than its part.
    ``page_bytes``  bounds any page.
    """

    def __init__(self, budget_bytes: int, max_px: int, page_bytes: int) -> None:
        super().__init__(budget_bytes, max_px, max_px)
        self.page_bytes = page_bytes
        self.shares = 1

    def capacity(self, kind: SlotClass) -> int:
        """How many bricks of one class the page of an owner may hold."""
        return math.prod(self._most(kind, self._section(kind)))

    def reserve(self, kind: SlotClass, count: int = 1) -> Page | None:
        """As for tiles; the page is one that holds ``count`` of them, as far as there is room."""
        page = self._page_of(kind)
        short = count - (0 if page is None else page.slots)
        return (self._grow(kind, short) if short > 0 else None) or page

    def _page_of(self, kind: SlotClass) -> Page | None:
        return next((page for page in self.pages.values() if page.kind == kind), None)

    def _section(self, kind: SlotClass) -> tuple[int, ...]:
        """Slots along the other axes: no more than it takes to reach the largest page along the first."""
        deep = max(self.max_px // kind.slot[0], 1)
        across = max(math.ceil(self._share_bytes // kind.bytes / deep), 1)
        height = min(math.ceil(math.sqrt(across)), max(self.max_px // kind.slot[1], 1))
        return height, min(math.ceil(across / height), max(self.max_px // kind.slot[2], 1))

    @property
    def _share_bytes(self) -> int:
        return min(self.budget_bytes // self.shares, self.page_bytes)

    def _most(self, kind: SlotClass, section: tuple[int, ...]) -> tuple[int, ...]:
        """Slots along each axis of the largest page; 0 along the first when there is none."""
        if max(kind.slot) > self.max_px:
            return 0, *section
        deep = self._share_bytes // (math.prod(section) * kind.bytes)
        return min(deep, self.max_px // kind.slot[0]), *section

    def _grow(self, kind: SlotClass, count: int = 1) -> Page | None:
        """A page, or one that is larger by ``count`` slots, and by half of what it was; None when there is no room for
        one more layer of slots."""
        page = self._page_of(kind)
        section = self._section(kind) if page is None else page.counts[1:]
        layer = math.prod(section)
        now = 0 if page is None else page.counts[0]
        room = min(
            self._most(kind, section)[0] - now,
            (self.budget_bytes - self.bytes) // (layer * kind.bytes),
        )
        if room < 1:
            return None
        first = self.budget_bytes // FIRST_SHARE // (layer * kind.bytes)
        more = min(max(math.ceil(count / layer), now // 2 if page else first, 1), room)
        if page is None:
            return self._add_page(kind, (more, *section))
        page.free = [*range((now + more) * layer - 1, now * layer - 1, -1), *page.free]
        page.counts = (now + more, *section)
        self._count_bytes(more * layer * kind.bytes)
        return page

    def _would_fit(self, kind: SlotClass, left_bytes: int) -> bool:
        page = self._page_of(kind)
        section = self._section(kind) if page is None else page.counts[1:]
        now = 0 if page is None else page.counts[0]
        return self._most(kind, section)[0] > now and left_bytes >= math.prod(section) * kind.bytes
