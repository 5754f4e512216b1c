"""The cache of decoded segments: its budget, its order, and that nothing is decoded twice at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from octree.pyramid.sources.tiff.segments import SegmentCache
from octree.pyramid.units import known_unit

Segment = np.ndarray[tuple[int], np.dtype[np.uint8]]


def maker(made: list[int], number: int, size: int = 10) -> Callable[[], Segment]:
    def make() -> Segment:
        made.append(number)
        return np.full(size, number, np.uint8)

    return make


def test_the_least_recently_used_goes_first() -> None:
    made: list[int] = []
    cache = SegmentCache(30)
    for number in (1, 2, 3, 1, 4):  # 4 does not fit: 2 is the oldest
        cache.get(number, maker(made, number))
    assert made == [1, 2, 3, 4]
    assert cache.peek(2) is None
    assert cache.peek(1) is not None
    assert cache.peek(3) is not None


def test_one_segment_is_kept_even_above_the_budget() -> None:
    made: list[int] = []
    cache = SegmentCache(30)
    cache.get(1, maker(made, 1, size=100))
    cache.get(1, maker(made, 1, size=100))
    assert made == [1]
    cache.get(2, maker(made, 2))
    assert cache.peek(1) is None


def test_errors_pass_and_nothing_is_kept() -> None:
    cache = SegmentCache(30)

    def fail() -> Segment:
        raise ValueError("torn")

    for _ in range(2):
        with pytest.raises(ValueError, match="torn"):
            cache.get(1, fail)
    made: list[int] = []
    cache.get(1, maker(made, 1))
    assert made == [1]


def test_threads_that_want_the_same_decode_it_once() -> None:
    made: list[int] = []
    cache = SegmentCache(30)
    started, go = threading.Event(), threading.Event()

    def slow() -> Segment:
        made.append(1)
        started.set()
        assert go.wait(30)
        return np.zeros(10, np.uint8)

    threads = [threading.Thread(target=cache.get, args=(1, slow)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert started.wait(30)
    assert cache.peek(1) is None, "what is being made is not waited for"
    go.set()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_clear_empties_it() -> None:
    made: list[int] = []
    cache = SegmentCache(30)
    cache.get(1, maker(made, 1))
    cache.clear()
    assert cache.peek(1) is None


@pytest.mark.parametrize(
    ("word", "unit"),
    [
        ("um", "micrometer"),
        ("UM", None),
        ("MM", None),
        ("mm", "millimeter"),
        ("Mm", "megameter"),
        ("Micron", "micrometer"),
        ("", None),
        (None, None),
    ],
)
def test_symbols_keep_their_case(word: str | None, unit: str | None) -> None:
    assert known_unit(word) == unit
