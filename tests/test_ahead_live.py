"""Nodes load planes ahead: known ones while they play, and where somebody steps by hand what is likely."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_live_slices import Planes, StageOf, stage_of, value

from octree.render.view.pace import STANDING_MS, Pace

__all__ = ["stage_of"]
live = pytest.mark.usefixtures("gl_info")


def paced(*steps: tuple[float, int, int], axis: str = "z") -> Pace:
    pace = Pace()
    for now_ms, before, at in steps:
        pace.step(now_ms, axis, before, at)
    return pace


def test_before_the_first_step_nothing_is_likely() -> None:
    assert Pace().coming(0.0, 9) == ("", [])


def test_after_one_step_nothing_is_known_until_it_was_the_last_and_then_both_neighbours_are_likely() -> None:
    pace = paced((1000.0, 4, 5))
    assert pace.steps_ms(1010.0) is None
    assert pace.coming(1010.0, 9) == ("z", [])
    assert pace.coming(1300.0, 9) == ("z", [(STANDING_MS, 6), (STANDING_MS, 4)])


@pytest.mark.parametrize("way", [1, -1])
def test_steps_at_a_rate_go_on_at_that_rate(way: int) -> None:
    pace = paced(*[(100.0 * n, 50 + way * n, 50 + way * (n + 1)) for n in range(6)])
    assert pace.steps_ms(510.0) == pytest.approx(100.0)
    axis, planes = pace.coming(510.0, 3)
    assert (axis, [at for _, at in planes]) == ("z", [50 + way * (6 + n) for n in (1, 2, 3)])
    assert [due_ms for due_ms, _ in planes] == pytest.approx([100, 200, 300])
    assert pace.steps_ms(1000.0) is None, "a pause ends it"
    assert [at for _, at in pace.coming(1000.0, 3)[1]] == [56 + way, 56 - way] if way > 0 else True


def test_a_turn_is_followed_at_once() -> None:
    steps = [(100.0 * n, n, n + 1) for n in range(6)]
    pace = paced(*steps, (600.0, 6, 5), (700.0, 5, 4))
    assert [at for _, at in pace.coming(710.0, 2)[1]] == [3, 2]


def test_wide_steps_stay_wide_and_one_leap_is_none() -> None:
    assert [at for _, at in paced((0, 0, 5), (100, 5, 10), (200, 10, 15)).coming(210, 2)[1]] == [20, 25]
    assert [at for _, at in paced((0, 0, 60)).coming(999, 2)[1]] == [61, 59]


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(-9, 9)), max_size=30), st.floats(0, 1000))
def test_whatever_the_steps_what_comes_is_in_order_and_never_in_the_past(
    moves: list[tuple[float, int]], later_ms: float
) -> None:
    pace, now_ms, at = Pace(), 0.0, 100
    for span_ms, by in moves:
        now_ms += span_ms
        pace.step(now_ms, "z", at, at + by)
        at += by
    _, planes = pace.coming(now_ms + later_ms, 5)
    dues = [due_ms for due_ms, _ in planes]
    assert dues == sorted(dues)
    assert all(due_ms > 0 for due_ms in dues)
    assert at not in [place for _, place in planes]


# nodes


@live
@pytest.mark.parametrize(("fps", "latency_ms"), [(10, 50), (30, 50), (5, 200)])
def test_what_is_played_is_complete_in_time(stage_of: StageOf, fps: int, latency_ms: int) -> None:
    stage, planes = stage_of(latency_ms), Planes(24)
    node = stage.node(planes)
    assert node.settle(timeout_s=60, prefetch=True)
    stage.told.clear()
    node.play("z", fps=fps)
    seen: list[set[int]] = []
    start_ms = stage.now_ms
    stage.run_until(start_ms + 23_000 / fps + 500, node, lambda: seen.append(stage.pixels()))
    complete = [at for event, at in stage.told if event == "complete"]
    asked = [at for event, at in stage.told if event == "requested"]
    assert asked == sorted(asked)
    # the first are asked for when nothing of them can be there yet
    behind = -(-latency_ms * fps // 1000) + 3
    assert len(complete) >= len(asked) - behind
    assert all(len(each - {0}) <= 1 for each in seen), "never two planes at a time"
    assert set(planes.reads.values()) == {20}, "no tile is read twice"
    stats = node.pipeline.loader.stats()
    assert stats.tiles_read_twice == 0
    assert stats.prefetch_used > 20 * 14
    assert stats.prefetch_wasted <= 20 * behind


@live
def test_played_backwards_and_round_nothing_is_read_twice(stage_of: StageOf) -> None:
    stage, planes = stage_of(50), Planes(8)
    node = stage.node(planes)
    assert node.settle(timeout_s=60, prefetch=True)
    node.play("z", fps=10, at_end="reverse")
    stage.run_until(stage.now_ms + 3000, node)
    node.stop()
    assert node.pipeline.loader.stats().tiles_read_twice == 0
    assert stage.pixels() == {value(node.index["z"])}


@live
def test_where_somebody_stands_the_planes_beside_are_there(stage_of: StageOf) -> None:
    stage, planes = stage_of(50), Planes(20)
    node = stage.node(planes)
    assert node.settle(timeout_s=60, prefetch=True)
    assert node.go_to(z=5).wait(60)
    assert planes.reads.keys() == {0, 5}, "a step may be followed by another"
    stage.run_until(stage.now_ms + 700, node)
    assert planes.reads.keys() == {0, 4, 5, 6}
    for beside in (6, 5, 4):
        before = planes.reads[beside]
        assert node.go_to(z=beside).wait(60)
        assert planes.reads[beside] == before
        assert stage.pixels() == {value(beside)}


@live
def test_what_is_hidden_or_closed_looks_at_nothing_to_come(stage_of: StageOf) -> None:
    stage, planes = stage_of(50), Planes(60)
    node, other = stage.node(planes), stage.node(Planes(3))
    assert node.settle(timeout_s=60, prefetch=True)
    node.play("z", fps=10)
    stage.run_until(stage.now_ms + 500, node)
    node.visible = False
    stage.run_until(stage.now_ms + 300, node)
    planes.reads.clear()
    stage.run_until(stage.now_ms + 500, node)
    assert not planes.reads
    loader = node.pipeline.loader
    node.close()
    assert other.go_to(z=1).wait(60)
    assert not [key for key in loader._wishes.wanted if key.source == node.layers[0].face.token]
