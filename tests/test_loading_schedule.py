"""What is decided about loads: the state machine by itself, and that both drivers decide the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading_fakes import FakeSource, requests, tile
from loading_fakes import settings as one_pool

from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, PoolSettings
from octree.render.loading import pool
from octree.render.loading import simulated as simulation
from octree.render.loading.clock import VirtualClock
from octree.render.loading.delay_queue import DelayQueue
from octree.render.loading.load import Load, RegisteredSource, current_cancel_token
from octree.render.loading.loader import TileLoader
from octree.render.loading.network import Network
from octree.render.loading.schedule import (
    Action,
    Answered,
    Closed,
    Dropped,
    Ended,
    Event,
    Leave,
    Planned,
    Report,
    Schedule,
    Send,
    Sent,
    Start,
    Stop,
    Stopped,
    Tick,
    TimedOut,
)
from octree.render.loading.values import LoadKey, State

SOURCE = RegisteredSource(FakeSource(), 0)
PATIENT = FakeSource()
PATIENT.cheap_levels = 1  # type: ignore[attr-defined]  # what loaders ask for with getattr


def load(number: int, *, due_ms: float = 0.0, rank: int | None = None, source: Any = SOURCE) -> Load:
    key = LoadKey("fake", 0, tile(number))
    return Load(key, source, 0, (1, number if rank is None else rank), 0.0, due_ms)


def begin(schedule: Schedule, loads: list[Load], now_ms: float = 0.0) -> list[Action]:
    assert schedule.decide(now_ms, Planned(loads)) == []
    return schedule.decide(now_ms, Tick())


def started(actions: list[Action]) -> list[Load]:
    return [action.load for action in actions if isinstance(action, Start)]


# the state machine


def test_wishes_alone_start_nothing_and_a_tick_starts_the_most_urgent_that_workers_can_take() -> None:
    schedule = Schedule(one_pool(workers=2))
    loads = [load(2), load(0), load(1)]
    assert started(begin(schedule, loads)) == [loads[1], loads[2]]
    assert schedule.decide(0, Tick()) == []
    assert schedule.decide(5, Ended(loads[1], 1)) == [Report(loads[1], State.LOADED)]
    assert started(schedule.decide(5, Tick())) == [loads[0]]
    assert loads[0].started_ms == 5


def test_as_many_unwanted_reads_are_given_up_as_wanted_ones_wait_the_latest_first() -> None:
    """Two unwanted reads and one wanted tile: threads gave up both, the simulation one."""
    schedule = Schedule(one_pool(workers=2))
    first, second, wanted = load(0), load(1), load(2)
    begin(schedule, [first])
    begin(schedule, [second], 1)
    assert schedule.decide(2, Planned([wanted], drop=[first, second])) == []
    assert schedule.decide(2, Tick()) == [Stop(second)]
    for _ in range(3):
        assert schedule.decide(3, Tick()) == [], "its worker is on its way"
    assert schedule.decide(4, Stopped(second, 1)) == [Report(second, State.CANCELLED)]
    assert started(schedule.decide(4, Tick())) == [wanted]
    assert first.state is State.LOADING


def test_an_unwanted_read_goes_on_while_a_worker_is_free_or_nothing_is_due() -> None:
    schedule = Schedule(one_pool(workers=2))
    unwanted, later = load(0), load(1, due_ms=50)
    begin(schedule, [unwanted])
    schedule.decide(1, Planned([load(2), later], drop=[unwanted]))
    assert [type(action) for action in schedule.decide(1, Tick())] == [Start]
    assert schedule.decide(2, Tick()) == []
    assert schedule.next_start_ms() == 50
    assert schedule.decide(50, Tick()) == [Stop(unwanted)]


def test_what_is_held_is_not_begun_and_not_given_up() -> None:
    schedule = Schedule(one_pool(workers=1))
    running, queued, other = load(0), load(1), load(2)
    begin(schedule, [running, queued])
    assert schedule.decide(1, Planned([other], hold=[running, queued])) == [Dropped(queued)]
    assert schedule.decide(1, Tick()) == []


def test_what_is_wanted_again_before_its_worker_is_needed_is_not_given_up() -> None:
    schedule = Schedule(one_pool(workers=1))
    running = load(0)
    begin(schedule, [running])
    schedule.decide(1, Planned(drop=[running]))
    schedule.decide(2, Planned([load(1)], again=[running]))
    assert schedule.decide(2, Tick()) == []


def test_a_given_up_read_is_cancelled_whatever_it_raises_and_loaded_if_it_brings_the_tile() -> None:
    for end, state in ((Ended, State.LOADED), (Stopped, State.CANCELLED)):
        for error in ("", "CancelledError") if end is Ended else ("",):
            schedule = Schedule(one_pool(workers=1))
            running = load(0)
            begin(schedule, [running])
            schedule.decide(1, Planned([load(1)], drop=[running]))
            assert schedule.decide(1, Tick()) == [Stop(running)]
            schedule.decide(1, Planned(again=[running]))
            event = Ended(running, 1, error) if end is Ended else Stopped(running, 1)
            expected = State.CANCELLED if error else state
            assert schedule.decide(2, event) == [Report(running, expected)]


def test_a_failed_try_is_repeated_later_and_in_the_end_reported() -> None:
    schedule = Schedule(one_pool(workers=1, retries=2, retry_delay_ms=100))
    it = load(0)
    begin(schedule, [it])
    assert schedule.decide(10, Ended(it, 1, "OSError: no")) == []
    due_ms = schedule.next_start_ms()
    assert due_ms is not None
    assert 60 <= due_ms <= 110
    assert schedule.decide(due_ms - 1, Tick()) == []
    assert started(schedule.decide(due_ms, Tick())) == [it]
    assert schedule.decide(due_ms, Ended(it, 1, "OSError: late")) == [], "the first try is long over"
    assert schedule.decide(due_ms, Ended(it, 2, "OSError: no")) == [Report(it, State.FAILED, "OSError: no")]


def test_no_second_try_for_what_cannot_get_better_or_nobody_wants() -> None:
    schedule = Schedule(one_pool(workers=2))
    lies, unwanted = load(0), load(1)
    begin(schedule, [lies, unwanted])
    assert schedule.decide(1, Ended(lies, 1, "wrong shape", final=True)) == [
        Report(lies, State.FAILED, "wrong shape")
    ]
    schedule.decide(1, Planned(drop=[unwanted]))
    assert schedule.decide(1, Ended(unwanted, 1, "OSError: no")) == [Report(unwanted, State.CANCELLED)]


@pytest.mark.parametrize("told", [True, False])
def test_a_try_that_takes_too_long_is_left_and_its_worker_counts_as_free(told: bool) -> None:
    schedule = Schedule(one_pool(workers=1, retries=1, read_timeout_ms=500))
    slow, waits = load(0), load(1)
    begin(schedule, [slow, waits])
    assert schedule.next_expiry_ms() == 500
    assert schedule.decide(499, Tick()) == []
    actions = schedule.decide(500, TimedOut(slow, 1)) if told else []
    actions += schedule.decide(500, Tick())
    assert actions[:2] == [Leave(slow), Report(slow, State.FAILED, "timed out after 0.5 s")]
    assert started(actions) == [waits]
    assert schedule.decide(501, Ended(slow, 1)) == []


def test_levels_that_are_made_may_take_as_long_as_they_need() -> None:
    """They are computed from level 0, which may take minutes for the coarsest: the time-out is for reads."""
    schedule = Schedule(one_pool(workers=2, read_timeout_ms=500))
    source = RegisteredSource(PATIENT, 0)
    read, made = load(0, source=source), load(1, source=source)
    made.key = LoadKey("fake", 0, tile(1, level=1))
    starts = [action for action in begin(schedule, [read, made]) if isinstance(action, Start)]
    assert [start.expires_ms for start in starts] == [500, float("inf")]
    assert [type(action) for action in schedule.decide(1e9, Tick())] == [Leave]
    assert schedule.next_expiry_ms() is None
    assert made.state is State.LOADING


def test_closing_gives_up_everything_and_nothing_is_begun_after() -> None:
    schedule = Schedule(one_pool(workers=2, retries=5))
    loads = [load(number) for number in range(5)]
    begin(schedule, loads)
    actions = schedule.decide(1, Closed())
    assert {action.load.key for action in actions if isinstance(action, Stop)} == {x.key for x in loads[:2]}
    assert {action.load.key for action in actions if isinstance(action, Dropped)} == {
        x.key for x in loads[2:]
    }
    assert schedule.decide(2, Planned([load(9)])) == []
    assert schedule.decide(3, Stopped(loads[0], 1)) == [Report(loads[0], State.CANCELLED)]
    assert schedule.decide(3, Ended(loads[1], 1, "OSError: no")) == [Report(loads[1], State.CANCELLED)]
    assert schedule.decide(4, Tick()) == []
    assert schedule.counts(4) == (0, 0, 0)


def test_the_link_goes_to_the_most_urgent_wanted_answer_and_from_who_is_given_up_at_once() -> None:
    network = Network(latency_ms=1, bandwidth_bytes_per_s=128_000)  # 1 ms for a tile of 128 bytes
    schedule = Schedule(one_pool(workers=4), network)
    a, b, c, d = loads = [load(number) for number in (3, 2, 1, 0)]
    begin(schedule, loads)
    assert schedule.decide(1, Answered(a, 1)) == [Send(a, 1.0)]
    for other in (b, c, d):
        assert schedule.decide(1, Answered(other, 1)) == []
    schedule.decide(1, Planned([load(8), load(9)], drop=[a, d]))
    actions = schedule.decide(1, Tick())
    assert {action.load.key for action in actions if isinstance(action, Stop)} == {a.key, d.key}
    assert [action for action in actions if isinstance(action, Send)] == [Send(c, 1.0)]
    assert schedule.decide(2, Sent(c, 1)) == [Send(b, 1.0)]
    assert schedule.decide(2, Ended(c, 1)) == [Report(c, State.LOADED)]
    assert schedule.decide(2, Answered(a, 1)) == [], "it is given up"


def test_without_a_limit_of_bandwidth_nobody_waits_for_the_link() -> None:
    schedule = Schedule(one_pool(workers=2), Network(latency_ms=5))
    a, b = loads = [load(0), load(1)]
    begin(schedule, loads)
    assert schedule.decide(5, Answered(a, 1)) == [Send(a, 0.0)]
    assert schedule.decide(5, Answered(b, 1)) == [Send(b, 0.0)]


def test_a_load_that_left_the_queue_and_came_back_later_hides_nobody() -> None:
    queue = DelayQueue()
    first, gone, waits = load(0), load(1), load(2)
    for one in (first, gone, waits):
        queue.put(one)
    assert queue.pop(0) is first
    queue.discard(gone)
    queue.put(load(1, due_ms=40))
    assert queue.next_due_ms() == 0
    assert queue.pop(0) is waits
    assert queue.next_due_ms() == 40


# both drivers

Step = tuple[float, list[int], bool]
"""(pause after it in ms, tiles that are wished, did the camera move)."""
BROKEN = tile(5)
"""Can never be read."""


class ManualClock:
    """Real time as the test makes it. Workers see a time only when the owner's thread is done with it."""

    is_virtual = False

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self.now = self.done = 0.0

    def now_ms(self) -> float:
        return self.now if threading.get_ident() == self.owner else self.done


Decisions = list[tuple[float, str, TileKey, str]]


@contextmanager
def listening(heard: Callable[[Schedule, float, Event, list[Action]], None]) -> Iterator[None]:
    """Hear every decision of the loaders that are made meanwhile."""

    class Heard(Schedule):
        def decide(self, now_ms: float, event: Event) -> list[Action]:
            actions = super().decide(now_ms, event)
            heard(self, now_ms, event, actions)
            return actions

    with patch.object(pool, "Schedule", Heard), patch.object(simulation, "Schedule", Heard):
        yield


def noted(now_ms: float, actions: list[Action]) -> Decisions:
    """Decisions as plain values; who has the link is for the simulation alone here."""
    return [
        (
            now_ms,
            type(action).__name__,
            action.load.key.tile,
            f"{action.state.value} {action.error}" if isinstance(action, Report) else "",
        )
        for action in actions
        if not isinstance(action, Send)
    ]


def by_time(decisions: Decisions) -> list[tuple[float, Any]]:
    """Of one instant the order is each driver's own."""
    return sorted(decisions)


def simulated(steps: list[Step], own: LoaderSettings, network: Network) -> Decisions:
    decisions: Decisions = []
    clock = VirtualClock()

    def broken(key: TileKey) -> None:
        if key == BROKEN:
            raise OSError("no")

    source = FakeSource(on_read=broken)
    with (
        listening(lambda _, now_ms, event, actions: decisions.extend(noted(now_ms, actions))),
        TileLoader(own, clock=clock, network=network) as loader,
    ):
        loader.add_source(source)
        end_ms = 0.0
        for pause_ms, numbers, moved in steps:
            loader.plan("view", requests(source, [tile(n, level=n % 3) for n in numbers]), moved=moved)
            end_ms += pause_ms
            while loader.wait_until(end_ms):
                loader.poll()
        done = list(decisions)
    return done


class Threads:
    """The same with threads, whose reads take exactly what the network says: by a clock that this test moves."""

    def __init__(self, own: LoaderSettings, network: Network) -> None:
        self.network, self.clock = network, ManualClock()
        self.bell = threading.Condition()
        self.decisions: Decisions = []
        self.tries: dict[LoadKey, tuple[float, Load]] = {}  # begun: when it ends, which
        self.stopping: set[LoadKey] = set()
        self.reading: dict[TileKey, threading.Event] = {}
        self.source = FakeSource(on_read=self.read)
        self.schedule: Schedule | None = None
        with listening(self.hear):
            self.loader = TileLoader(own, clock=self.clock)
        self.loader.add_source(self.source)

    def hear(self, schedule: Schedule, now_ms: float, event: Event, actions: list[Action]) -> None:
        with self.bell:
            self.schedule = schedule
            self.decisions += noted(now_ms, actions)
            for action in actions:
                if isinstance(action, Start):
                    one = action.load
                    takes_ms = self.network.weather(0, one.key.tile, one.attempt).latency_ms
                    self.tries[one.key] = (now_ms + takes_ms, one)
                elif isinstance(action, Stop):
                    self.stopping.add(action.load.key)
                elif isinstance(action, Leave | Report):
                    self.tries.pop(action.load.key, None)
                    self.stopping.discard(action.load.key)
            if isinstance(event, Ended) and event.load.state is State.QUEUED:  # another try, later
                self.tries.pop(event.load.key, None)
            self.bell.notify_all()

    def read(self, key: TileKey) -> None:
        gate, token = threading.Event(), current_cancel_token()
        assert token is not None
        token.on_cancel(gate.set)
        with self.bell:
            self.reading[key] = gate
            self.bell.notify_all()
        assert gate.wait(30)
        with self.bell:
            if self.reading.get(key) is gate:
                del self.reading[key]
            self.bell.notify_all()
        if key == BROKEN or token.cancelled:
            raise OSError("no")

    def until(self, holds: Callable[[], bool]) -> None:
        with self.bell:
            assert self.bell.wait_for(holds, 30), (self.tries, self.reading)

    def settle(self) -> None:
        """Let everything of this instant happen."""
        while True:
            before = len(self.decisions)
            self.loader._engine.plan(
                Planned()
            )  # looks after everything, as the simulation does at each instant
            self.loader.poll()
            # every try that has begun is being read, and none that was given up
            self.until(lambda: not self.stopping and {key.tile for key in self.tries} == set(self.reading))
            if len(self.decisions) == before:
                self.clock.done = self.clock.now
                return

    def next_ms(self) -> float:
        assert self.schedule is not None
        times = [self.schedule.next_start_ms(), self.schedule.next_expiry_ms()]
        times += [ends_ms for ends_ms, _ in self.tries.values()]
        return min((t for t in times if t is not None), default=float("inf"))

    def advance(self, end_ms: float) -> None:
        while (next_ms := self.next_ms()) <= end_ms:
            self.clock.now = max(self.clock.now, next_ms)
            due = [one for ends_ms, one in self.tries.values() if ends_ms <= next_ms]
            self.clock.done = self.clock.now
            for one in sorted(due, key=lambda one: (one.rank, one.tie)):
                with self.bell:
                    gate = self.reading.pop(one.key.tile)
                gate.set()
                self.until(lambda one=one: one.key not in self.tries)  # type: ignore[misc]  # mypy infers no lambda with a default
            self.settle()
        self.clock.now = end_ms
        self.settle()

    def run(self, steps: list[Step]) -> Decisions:
        with self.loader:
            end_ms = 0.0
            for pause_ms, numbers, moved in steps:
                wishes = requests(self.source, [tile(n, level=n % 3) for n in numbers])
                self.loader.plan("view", wishes, moved=moved)
                self.settle()
                end_ms += pause_ms
                self.advance(end_ms)
            done = list(self.decisions)
        return done


histories = st.lists(
    st.tuples(st.floats(0.5, 90), st.lists(st.integers(0, 8), max_size=6, unique=True), st.booleans()),
    min_size=1,
    max_size=8,
)


@settings(max_examples=30, deadline=None)
@given(
    steps=histories,
    workers=st.integers(1, 3),
    delay_ms=st.sampled_from([0.0, 37.0]),
    latency_ms=st.floats(1, 60),
    limit_ms=st.sampled_from([0.0, 70.0]),
)
def test_threads_and_the_simulation_decide_the_same(
    steps: list[Step], workers: int, delay_ms: float, latency_ms: float, limit_ms: float
) -> None:
    """Any history of plans, with reads that take the same time, fail alike and run into time-outs alike: both start,
    give up, repeat, drop and report the same at the same times."""
    pools = (
        (0, PoolSettings(workers, delay_queue_ms=delay_ms)),
        (2, PoolSettings(1, delay_queue_ms=0)),
    )
    own = LoaderSettings(pools=pools, retries=2, retry_delay_ms=20, read_timeout_ms=limit_ms)
    network = Network(latency_ms=latency_ms, jitter_ms=40)
    expected = simulated(steps, own, network)
    assert by_time(Threads(own, network).run(steps)) == by_time(expected)


def test_two_unwanted_reads_and_one_wanted_tile_cost_one_read_with_either_driver() -> None:
    steps: list[Step] = [(5, [0, 3], False), (200, [6], False)]
    own, network = one_pool(workers=2), Network(latency_ms=50)
    own = LoaderSettings(pools=((0, PoolSettings(2, delay_queue_ms=0)),))
    for decisions in (simulated(steps, own, network), Threads(own, network).run(steps)):
        assert [name for _, name, *_ in decisions].count("Stop") == 1
        assert [name for _, name, *_ in decisions].count("Start") == 3
