"""Book-keeping of the atlas: no two tiles in one place, the budget kept, pins obeyed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from octree.render.gl.slots import SlotClass, Slots, slot_class

SMALL = SlotClass(("uint8", 1), 1, (10, 10))
WIDE = SlotClass(("uint16", 1), 2, (10, 20))


def slots(pages: float = 1.0, page_px: int = 20, max_px: int = 1000) -> Slots:
    """Room for ``pages`` pages of four small slots."""
    return Slots(int(400 * pages), page_px, max_px)


def fill(book: Slots, kind: SlotClass, *keys: str) -> list[Any]:
    return [book.place(key, kind) for key in keys]


@pytest.mark.parametrize(
    ("shape", "slot"),
    [
        ((256, 256), (258, 258)),
        ((1, 1), (258, 258)),
        ((100, 256), (258, 258)),
        ((257, 10), (514, 258)),
        ((4096, 4096), (4098, 4098)),
    ],
)
def test_slot_classes_are_whole_slots_and_gutters(shape: tuple[int, int], slot: tuple[int, int]) -> None:
    assert slot_class(shape, ("uint8", 1), 1, 256).slot == slot


def test_a_page_is_made_for_the_first_tile_and_shared_by_the_next() -> None:
    book = slots()
    first, second = fill(book, SMALL, "a", "b")
    assert first.page is not None
    assert second.page is None
    assert {c.slot.corner for c in (first, second)} == {(0, 0), (0, 10)}
    assert book.bytes == 400


def test_pages_begin_small_and_double() -> None:
    """A frame waits while the driver makes a page."""
    budget = 256 * 2**20
    book, kind = Slots(budget, 4096, 16384), slot_class((256, 256), ("uint16", 1), 2, 256)
    sizes: list[int] = []
    for number in range(3000):
        change = book.place(number, kind)
        if change.page is not None:
            held = sum(sizes)
            sizes.append(change.page.bytes)
            assert sizes[-1] <= max(budget // 32, min(held, budget // 16))
    assert len(sizes) <= 40
    assert 0.9 * budget < sum(sizes) == book.bytes <= budget
    assert sum(page.slots for page in book.pages.values()) == book.capacity(kind)


def test_the_least_recently_used_gives_way() -> None:
    book = slots()
    fill(book, SMALL, *"abcd")
    book.touch("a")
    (change,) = fill(book, SMALL, "e")
    assert change.gone == ("b",)
    assert book.evicted == 1
    assert set(book.keys()) == set("acde")


def test_pinned_tiles_stay_and_no_room_is_said() -> None:
    book = slots()
    fill(book, SMALL, *"abcd")
    book.pin("abcd")
    (change,) = fill(book, SMALL, "e")
    assert change.slot is None
    assert change.gone == ()
    book.unpin()
    assert fill(book, SMALL, "e")[0].slot is not None


def test_growing_goes_before_evicting() -> None:
    book = slots(pages=2)
    changes = fill(book, SMALL, *"abcdefgh")
    assert [c.page is not None for c in changes] == [True, False, False, False] * 2
    assert book.evicted == 0
    assert book.bytes == 800


def test_no_class_of_tiles_takes_the_room_of_the_next() -> None:
    """Twelve formats, a few tiles each: pages of full size for the first four would leave the rest none."""
    book = Slots(256 * 2**20, page_px=4096, max_px=16384)
    for number in range(12):
        kind = slot_class((256, 256), (f"float32 {number}", 4), 16, 256)
        for tile in range(12):
            assert book.place((number, tile), kind).slot is not None
    assert book.evicted == 0


def test_pins_belong_to_who_made_them() -> None:
    book = slots()
    fill(book, SMALL, *"abcd")
    book.pin("ab", "one view")
    book.pin("cd", "another")
    book.unpin("another")
    book.pin("c", "another")
    assert fill(book, SMALL, "e")[0].gone == ("d",)


def test_a_small_budget_makes_a_small_page() -> None:
    book = slots(pages=0.5)
    changes = fill(book, SMALL, *"abc")
    assert book.bytes == 200
    assert changes[2].gone == ("a",)


def test_a_budget_below_one_slot_has_no_room() -> None:
    book = Slots(99, 20, 1000)
    assert book.capacity(SMALL) == 0
    assert fill(book, SMALL, "a")[0].slot is None


def test_a_tile_larger_than_a_page_gets_its_own() -> None:
    book = Slots(10_000, 20, 1000)
    big = SlotClass(("uint8", 1), 1, (98, 98))
    (change,) = fill(book, big, "root")
    assert change.page is not None
    assert change.page.shape == (98, 98)


def test_a_tile_larger_than_any_texture_has_no_room() -> None:
    book = Slots(10**9, 20, 50)
    assert book.capacity(SlotClass(("uint8", 1), 1, (51, 10))) == 0


def test_another_class_takes_over_a_page_that_is_not_needed() -> None:
    book = slots(pages=2)
    fill(book, SMALL, *"abcdefgh")
    book.pin("efgh")
    (change,) = fill(book, WIDE, "wide")
    assert change.slot is not None
    assert len(change.dropped) == 1
    assert set(change.gone) == set("abcd")
    assert set(book.keys()) == {*"efgh", "wide"}


def test_another_class_cannot_take_pinned_pages() -> None:
    book = slots()
    fill(book, SMALL, *"abcd")
    book.pin("c")
    (change,) = fill(book, WIDE, "wide")
    assert change.slot is None
    assert set(book.keys()) == set("abcd")


def test_nothing_is_thrown_away_for_a_tile_that_cannot_fit_anyway() -> None:
    book = slots(pages=2)
    fill(book, SMALL, *"abcdefgh")
    book.pin("a")
    (change,) = fill(book, SlotClass(("uint8", 1), 1, (25, 25)), "big")
    assert change.slot is None
    assert set(book.keys()) == set("abcdefgh")


@pytest.mark.parametrize("kind", [SMALL, WIDE])
@pytest.mark.parametrize("budget", [0, 99, 100, 1000, 1234, 4321])
def test_capacity_is_what_really_fits(kind: SlotClass, budget: int) -> None:
    book = Slots(budget, 35, 1000)
    count = book.capacity(kind)
    changes = fill(book, kind, *map(str, range(count + 1)))
    assert [c.slot is not None for c in changes[:-1]] == [True] * count
    assert book.evicted == (1 if count else 0)


def test_remove_gives_back_empty_pages() -> None:
    book = slots(pages=2)
    fill(book, SMALL, *"abcdef")
    change = book.remove(["a", "e", "f", "not there"])
    assert set(change.gone) == set("aef")
    assert len(change.dropped) == 1
    assert book.bytes == 400
    assert book.peak_bytes == 800


def test_shrink_gives_back_the_oldest_pages() -> None:
    book = slots(pages=3)
    fill(book, SMALL, *"abcdefghijkl")
    book.touch("a")
    change = book.shrink(800)
    assert set(change.gone) == set("efgh")
    assert book.bytes == 800


def test_shrink_spares_pinned_pages() -> None:
    book = slots(pages=2)
    fill(book, SMALL, *"abcdefgh")
    book.pin("ae")
    assert book.shrink(400).gone == ()


KINDS = [SMALL, WIDE, SlotClass(("uint8", 1), 1, (25, 25))]


class SlotsMachine(RuleBasedStateMachine):
    """Random use; the model is only what must always hold."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Slots(1500, 20, 100)
        self.kinds: dict[int, SlotClass] = {}
        self.pinned: set[int] = set()
        self.next = 0

    @rule(kind=st.sampled_from(KINDS))
    def place(self, kind: SlotClass) -> None:
        self.next += 1
        change = self.book.place(self.next, kind)
        self.lost(change.gone)
        if change.slot is not None:
            self.kinds[self.next] = kind
            assert change.slot.page in self.book.pages

    @rule(number=st.integers(0, 10))
    def pin(self, number: int) -> None:
        key = self.next - number
        if key in self.kinds:
            self.book.pin([key])
            self.pinned.add(key)

    @rule()
    def unpin(self) -> None:
        self.book.unpin()
        self.pinned.clear()
        self.lost(self.book.shrink(self.book.budget_bytes).gone)  # as the atlas does

    @rule(number=st.integers(0, 5))
    def remove(self, number: int) -> None:
        self.pinned.discard(self.next - number)
        self.lost(self.book.remove([self.next - number]).gone)

    @rule(budget=st.integers(300, 2000))
    def shrink(self, budget: int) -> None:
        self.lost(self.book.shrink(budget).gone)

    def lost(self, gone: tuple[Any, ...]) -> None:
        for key in gone:
            assert key not in self.pinned
            del self.kinds[key]

    @invariant()
    def whole(self) -> None:
        book = self.book
        assert set(book.keys()) == set(self.kinds)
        assert book.bytes == sum(page.bytes for page in book.pages.values())
        taken = set()
        for key, kind in self.kinds.items():
            slot = book.get(key)
            assert slot is not None
            page = book.pages[slot.page]
            assert page.kind == kind
            for place, size, shape in zip(slot.corner, kind.slot, page.shape, strict=True):
                assert place % size == 0
                assert place + size <= shape
            taken.add((slot.page, slot.corner))
        assert len(taken) == len(self.kinds)
        assert sum(page.used for page in book.pages.values()) == len(self.kinds)
        if not self.pinned:
            assert book.bytes <= max(book.budget_bytes, 0)


TestSlotsMachine = SlotsMachine.TestCase
TestSlotsMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
