"""The small parts of loading: states, clocks, network, delay queue, cache."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading_fakes import FakeSource, drain, requests, tile
from loading_fakes import settings as loader_settings

from octree.pyramid.errors import UsageError
from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings
from octree.render.loading.cache import TileCache
from octree.render.loading.clock import RealClock, VirtualClock
from octree.render.loading.delay_queue import DelayQueue
from octree.render.loading.load import Load, RegisteredSource
from octree.render.loading.loader import TileLoader
from octree.render.loading.network import Network, dice
from octree.render.loading.reading import retry_delay_ms
from octree.render.loading.values import Event, LoadedTile, LoadKey, State, Tier, transition

# states


def test_every_transition_is_allowed_or_raises() -> None:
    allowed = {
        (State.QUEUED, Event.START): State.LOADING,
        (State.QUEUED, Event.CANCEL): State.CANCELLED,
        (State.LOADING, Event.SUCCEED): State.LOADED,
        (State.LOADING, Event.RETRY): State.QUEUED,
        (State.LOADING, Event.FAIL): State.FAILED,
        (State.LOADING, Event.CANCEL): State.CANCELLED,
    }
    for pair in itertools.product(State, Event):
        if pair in allowed:
            assert transition(*pair) is allowed[pair]
        else:
            with pytest.raises(ValueError, match="cannot"):
                transition(*pair)


# clocks


def test_the_virtual_clock_never_goes_back() -> None:
    clock = VirtualClock(5)
    clock.advance_to(3)
    assert clock.now_ms() == 5
    clock.advance_by(2.5)
    assert clock.now_ms() == 7.5
    assert clock.is_virtual
    assert not RealClock().is_virtual


def test_the_real_clock_is_monotonic() -> None:
    clock = RealClock()
    times = [clock.now_ms() for _ in range(100)]
    assert times == sorted(times)
    assert times[0] >= 0


# network


def test_the_weather_depends_on_seed_source_tile_and_try_alone() -> None:
    network = Network(10, jitter_ms=5, fail_rate=0.3, hang_rate=0.1, hang_ms=100, seed=4)
    cases = [
        (source, tile(r, c), attempt)
        for source in (0, 1)
        for r in range(9)
        for c in range(9)
        for attempt in (1, 2)
    ]
    first = [network.weather(*case) for case in cases]
    assert [network.weather(*case) for case in reversed(cases)] == first[::-1]
    assert [
        Network(10, jitter_ms=5, fail_rate=0.3, hang_rate=0.1, hang_ms=100, seed=5).weather(*c) for c in cases
    ] != first
    assert len({w.latency_ms for w in first}) > 300
    assert all(10 <= w.latency_ms < 15 + 100 * w.hangs for w in first)


def test_the_dice_are_the_same_on_every_machine() -> None:
    expected = (0.9928432246304187, 0.7799656392318938, 0.8777138988849276)
    assert dice(1, 0, TileKey(2, (3,), (4, 5)), 1) == expected


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.2, 500, 700), (1.0, 3000, 3000)])
def test_failures_come_at_their_rate(rate: float, low: int, high: int) -> None:
    network = Network(fail_rate=rate, seed=9)
    assert low <= sum(network.weather(0, tile(i), 1).fails for i in range(3000)) <= high


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_ms": -1},
        {"jitter_ms": float("nan")},
        {"fail_rate": 1.1},
        {"hang_rate": -0.1},
        {"bandwidth_bytes_per_s": 0},
        {"hang_ms": float("inf")},
    ],
)
def test_impossible_networks_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Network(**wrong)


def test_waits_before_retries_double_up_to_ten_seconds() -> None:
    load = make_load(tile(0))
    loads = LoaderSettings(retry_delay_ms=100)
    for attempt in range(1, 12):
        load.attempt = attempt
        full = min(100 * 2.0 ** (attempt - 1), 10_000)
        assert full / 2 <= retry_delay_ms(loads, 0, load) <= full


# delay queue


def make_load(key: TileKey, due_ms: float = 0.0, rank: tuple[int, int] = (0, 0)) -> Load:
    source = FakeSource()
    return Load(LoadKey("fake", 0, key), RegisteredSource(source, 0), 0, rank, 0.0, due_ms)


def test_the_most_urgent_due_load_is_taken_first() -> None:
    queue = DelayQueue()
    early, late, best = (
        make_load(tile(0), 0, (1, 5)),
        make_load(tile(1), 50, (0, 0)),
        make_load(tile(2), 10, (1, 1)),
    )
    for load in (early, late, best):
        queue.put(load)
    assert queue.next_due_ms() == 0
    assert queue.delayed(0) == 2
    assert queue.pop(20) is best
    assert queue.pop(20) is early
    assert queue.pop(20) is None
    assert queue.next_due_ms() == 50
    assert queue.pop(50) is late
    assert queue.next_due_ms() is None
    assert len(queue) == 0


operations = st.lists(
    st.tuples(
        st.sampled_from(["put", "discard", "pop", "rank", "due"]),
        st.integers(0, 6),
        st.integers(0, 40),
        st.integers(0, 9),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=200)
@given(operations)
def test_the_queue_agrees_with_a_sorted_list(steps: list[tuple[str, int, int, int]]) -> None:
    queue, model, now = DelayQueue(), {}, 0
    for kind, number, time, rank in steps:
        key = tile(number)
        if kind == "put" and key not in model:
            model[key] = make_load(key, float(time), (0, rank))
            queue.put(model[key])
        elif kind == "discard":
            assert queue.discard(model.get(key, make_load(key))) == (key in model)
            model.pop(key, None)
        elif kind == "rank" and key in model:
            model[key].rank = (0, rank)
            queue.reorder(now)
        elif kind in ("pop", "due"):
            now = max(now, time)
            due = sorted((x.rank, x.key) for x in model.values() if x.due_ms <= now)
            assert queue.has_due(now) == bool(due)
            if kind == "pop":
                taken = queue.pop(now)
                assert (taken.key if taken else None) == (due[0][1] if due else None)
                if taken:
                    del model[taken.key.tile]
        assert len(queue) == len(model)
        assert queue.delayed(now) == sum(x.due_ms > now for x in model.values())


# cache


def make_tile(number: int, nbytes: int = 100) -> LoadedTile:
    return LoadedTile(LoadKey("s", 0, tile(number)), np.zeros(nbytes, np.uint8), nbytes, 0.0)


def test_the_least_recently_used_goes_first() -> None:
    cache = TileCache(300)
    for number in range(3):
        assert cache.add(make_tile(number))
    assert cache.get(make_tile(0).key) is not None
    assert cache.peek(make_tile(1).key) is not None, "a look does not make it younger"
    cache.add(make_tile(3))
    assert [key.tile.grid[0] for key in cache] == [2, 0, 3]
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.evicted, stats.count, stats.bytes, stats.peak_bytes) == (
        1,
        0,
        1,
        3,
        300,
        300,
    )
    assert cache.get(make_tile(1).key) is None
    assert cache.stats().misses == 1


def test_an_entry_larger_than_the_budget_is_used_but_not_kept_d7() -> None:
    """D7: it raised."""
    cache = TileCache(100)
    cache.add(make_tile(0))
    assert not cache.add(make_tile(1, 101))
    assert make_tile(0).key in cache, "and nothing was evicted for it"
    assert cache.stats().refused == 1
    assert not TileCache(0).add(make_tile(0))


def test_pinned_tiles_stay_and_what_does_not_fit_beside_them_is_refused() -> None:
    cache = TileCache(300)
    pins = {make_tile(0).key, make_tile(1).key}
    cache.pin(pins)
    for number in range(3):
        cache.add(make_tile(number))
    assert cache.add(make_tile(3))
    assert make_tile(2).key not in cache
    assert not cache.add(make_tile(4, 200))
    assert len(cache) == 3
    pins.clear()
    assert cache.add(make_tile(4, 300))
    assert len(cache) == 1


def test_adding_again_replaces() -> None:
    cache = TileCache(300)
    cache.add(make_tile(0, 200))
    cache.add(make_tile(0, 50))
    assert (len(cache), cache.bytes) == (1, 50)


def test_touching_makes_younger() -> None:
    cache = TileCache(300)
    for number in range(3):
        cache.add(make_tile(number))
    cache.touch([make_tile(0).key, make_tile(99).key])
    cache.add(make_tile(3))
    assert make_tile(0).key in cache
    assert make_tile(1).key not in cache


def test_discard_drops_what_matches_and_clear_all() -> None:
    cache = TileCache(1000)
    for number in range(5):
        cache.add(make_tile(number))
    assert cache.discard(lambda key: key.tile.grid[0] < 2) == 2
    assert cache.bytes == 300
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 500),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300), st.booleans()), max_size=60),
)
def test_the_budget_holds_whatever_happens(budget: int, steps: list[tuple[int, int, bool]]) -> None:
    cache = TileCache(budget)
    held: dict[LoadKey, int] = {}
    for number, nbytes, look in steps:
        if look:
            cache.get(make_tile(number).key)
        else:
            cache.add(make_tile(number, nbytes))
        held = {key: cache.peek(key).data.nbytes for key in cache}
        assert cache.bytes == sum(held.values()) <= budget


def test_the_cache_may_be_used_by_many_threads_d7() -> None:
    """D7: eight writers at once raised KeyError and RuntimeError."""
    cache, errors = TileCache(5_000), []

    def work(seed: int) -> None:
        try:
            for i in range(2_000):
                number = (i * seed) % 97
                cache.add(make_tile(number))
                cache.get(make_tile((number * 7) % 97).key)
                if i % 500 == 0:
                    cache.discard(lambda key: key.tile.grid[0] == number)  # noqa: B023 used at once
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert cache.bytes == 100 * len(cache) <= 5_000


# random lives of a loader against what it promises


plans = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.lists(st.integers(0, 11), max_size=8, unique=True),
        st.booleans(),
        st.floats(0, 120),
        st.sampled_from(list(Tier)),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=120)
@given(plans, st.integers(1, 4), st.sampled_from([0.0, 60.0]), st.integers(0, 12), st.integers(0, 1000))
def test_every_wish_ends_in_memory_or_failed_and_no_read_is_repeated(
    steps: list[tuple[str, list[int], bool, float, Tier]], workers: int, delay_ms: float, room: int, seed: int
) -> None:
    source, clock = FakeSource(), VirtualClock()
    network = Network(30, 10_000, jitter_ms=20, fail_rate=0.2, hang_rate=0.05, hang_ms=500, seed=seed)
    own = loader_settings(workers, delay_ms, retries=2, read_timeout_ms=300, retry_delay_ms=20)
    with TileLoader(own, cache=TileCache(room * 128), clock=clock, network=network) as loader:
        loader.add_source(source)
        wishes: dict[str, list[int]] = {}
        for owner, numbers, moved, pause_ms, tier in steps:
            loader.plan(owner, requests(source, [tile(n) for n in numbers], tier), moved=moved)
            wishes[owner] = numbers
            loader.wait(pause_ms / 1e3)
            loader.poll()
            stats = loader.stats()
            assert stats.loading <= workers
            assert stats.cache_bytes <= room * 128
        drain(loader)
        for numbers in wishes.values():
            for number in numbers:
                key = LoadKey("fake", 0, tile(number))
                assert loader.has(key) != (loader.failed(key) is not None)
        stats = loader.stats()
        assert stats.tiles_read_twice <= stats.evicted + loader._cache.stats().refused
        if room == 12:
            assert stats.tiles_read_twice == 0
        assert stats.requested >= stats.loaded - stats.retried
        assert stats.main_thread_reads == 0


@pytest.mark.parametrize("seed", range(3))
def test_random_plans_in_real_time_lose_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    source = FakeSource()
    network = Network(latency_ms=0.3, jitter_ms=0.5, fail_rate=0.05, seed=seed)
    with TileLoader(loader_settings(6, 0.5, retries=5, retry_delay_ms=0.2), network=network) as loader:
        loader.add_source(source)
        last = {}
        for step in range(150):
            start = int(random.integers(0, 50))
            last[step % 3] = requests(source, [tile(start + i) for i in range(20)])
            loader.plan(f"view {step % 3}", last[step % 3], moved=bool(step % 2))
            if step % 5 == 0:
                loader.wait(0.001)
            loader.poll()
        drain(loader, limit_s=60)
        for owner in range(3):
            for request in last[owner]:
                assert loader.has(request.key) != (loader.failed(request.key) is not None)
        assert loader.stats().tiles_read_twice == 0
        assert (loader.stats().queued, loader.stats().delayed) == (0, 0)
