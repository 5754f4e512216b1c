"""Nodes that step and play: a value in each plane proves from the pixels which one is shown. On the virtual clock, which only
moves in the loader's wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from octree.pyramid.errors import OctreeError, UsageError
from octree.render.config import default_settings
from octree.render.loading.clock import VirtualClock
from octree.render.loading.network import Network
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.playing import Play, play_from
from octree.render.scene.slice_request import SliceState

pytestmark = pytest.mark.usefixtures("gl_info")
SIDE, EDGE = 320, 64
COMPLETE, SUPERSEDED, FAILED = SliceState.COMPLETE, SliceState.SUPERSEDED, SliceState.FAILED


def value(plane: int) -> int:
    return 5 * (plane + 1)


class Planes:
    """Planes (z, y, x), each of one value; some of them broken. Counts what is read of each."""

    def __init__(self, count: int, broken: Sequence[int] = (), axes: str = "zyx") -> None:
        self.shape, self.dtype, self.ndim, self.chunks = (
            (count, SIDE, SIDE),
            np.dtype("u1"),
            3,
            (1, EDGE, EDGE),
        )
        self.broken = set(broken)
        self.reads: Counter[int] = Counter()
        self._lock = threading.Lock()

    def __getitem__(self, place: Any) -> Any:
        first, stop, _ = place[0].indices(self.shape[0])
        with self._lock:
            self.reads.update(range(first, stop))
        if self.broken & set(range(first, stop)):
            raise OSError("the disk is gone")
        planes = np.broadcast_to(np.arange(first, stop)[:, None, None], (stop - first, SIDE, SIDE))
        return value(planes[(slice(None), *place[1:])]).astype(np.uint8)  # type: ignore[arg-type, attr-defined]  # arrays, too


class Stage:
    """A window, nodes in it, and a log of their events."""

    def __init__(self, window: Any, pipeline: Pipeline) -> None:
        self.window, self.pipeline = window, pipeline
        self.told: list[tuple[str, int]] = []
        self.grid = window.central_widget.add_grid()
        self.count = 0

    def node(self, source: Any, **options: Any) -> Any:
        from vispy.scene import PanZoomCamera

        from octree.render import TiledImage

        view = self.grid.add_view(0, self.count, camera=PanZoomCamera(aspect=1))
        self.count += 1
        options = {"clim": "0,255", "single_level": True, "pipeline": self.pipeline} | options
        node = TiledImage(source, parent=view.scene, **options)
        self.window.render()  # the grid is laid out
        view.camera.rect = (30, 30, 240, 180)
        for name in ("requested", "partial", "complete", "failed", "superseded"):
            node.events[name].connect(
                lambda event, name=name: self.told.append((name, event.request.index.get("z", -1)))
            )
        return node

    @property
    def now_ms(self) -> float:
        return self.pipeline.clock.now_ms()

    def run_until(self, end_ms: float, node: Any, each: Callable[[], None] = lambda: None) -> None:
        """Turns at 60 a second until then."""
        while self.now_ms < end_ms - 1e-6:
            node.turn()
            each()
            self.wait(min(end_ms, self.now_ms + 1000 / 60))

    def wait(self, until_ms: float) -> None:
        while self.now_ms < until_ms - 1e-6:
            self.pipeline.loader.wait_until(until_ms)
            self.pipeline.take_in(wait=False)

    def pixels(self) -> set[int]:
        frame = self.window.render()[45:135, 5:-5, 0]
        between = 240 // self.count * np.arange(1, self.count)
        return set(
            np.unique(
                np.delete(frame, [col for at in between for col in range(at - 10, at)], axis=1)
            ).tolist()
        )


def pipeline_of(latency_ms: float) -> Pipeline:
    usual = default_settings()
    settings = replace(usual, octree=replace(usual.octree, tile_size=EDGE))
    return Pipeline(settings, clock=VirtualClock(), network=Network(latency_ms=latency_ms))


@pytest.fixture
def stage_of() -> Iterator[Callable[[float], Stage]]:
    from vispy.scene import SceneCanvas

    made: list[Any] = []

    def make(latency_ms: float) -> Stage:
        window, pipeline = SceneCanvas(size=(240, 180), show=False), pipeline_of(latency_ms)
        made.extend((pipeline, window))
        return Stage(window, pipeline)

    yield make
    for each in made:
        each.close()


StageOf = Callable[[float], Stage]


# one step


def test_a_step_is_a_request_with_a_state_and_events(stage_of: StageOf) -> None:
    stage = stage_of(20)
    node = stage.node(Planes(9))
    assert node.slice.wait(10)
    stage.told.clear()
    left = node.go_to(z=3)
    node.turn()
    request = node.go_to(z=4.7)
    assert (left.state, left.wait(10)) == (SUPERSEDED, False)
    assert (request.state.value, dict(request.index), node.slice) == ("loading", {"z": 4}, request)
    assert request.wait(10)
    assert request.state is COMPLETE
    assert stage.told == [("requested", 3), ("superseded", 3), ("requested", 4), ("complete", 4)]
    assert stage.pixels() == {value(4)}
    assert node.index == node.shown_index == {"z": 4}
    node.display = "zx"
    assert node.slice.displayed == "zx"
    assert node.slice.wait(10)
    node.display = "yx"
    assert node.index == {"z": 4}, "where it stood before"
    node.close()
    assert node.slice is None
    with pytest.raises(UsageError, match="node is closed"):
        node.go_to(z=1)


def test_what_is_in_memory_is_complete_at_once(stage_of: StageOf) -> None:
    """However slow reads are: nothing is delayed but reads."""
    stage = stage_of(500)
    node = stage.node(Planes(9))
    for z in (1, 0):
        node.go_to(z=z)
        assert node.settle(timeout_s=60, prefetch=True)
    before_ms = stage.now_ms
    request = node.go_to(z=1)
    assert request.state is SliceState.DELAYED
    node.turn()
    assert (request.state, stage.now_ms) == (COMPLETE, before_ms)
    assert request.record.tiles_read == 0
    assert stage.pixels() == {value(1)}


def test_of_25_steps_in_a_second_only_the_last_is_read(stage_of: StageOf) -> None:
    late: list[float] = []
    for count in (1, 25):
        stage, planes = stage_of(50), Planes(40)
        node = stage.node(planes)
        assert node.settle(timeout_s=60, prefetch=True)
        planes.reads.clear()
        start_ms, wrong = stage.now_ms, set[int]()
        for step in range(count):
            stage.run_until(start_ms + 40 * step, node)
            request = node.go_to(z=step + 10)
            wrong |= stage.pixels() - {0, value(step + 10)}
        asked_ms = stage.now_ms
        assert asked_ms - start_ms == pytest.approx(40 * (count - 1))
        assert request.wait(60)
        late.append(stage.now_ms - asked_ms)
        assert not wrong
        assert stage.pixels() == {value(count + 9)}
        needed = planes.reads[count + 9]
        assert needed >= 12
        assert planes.reads.total() - needed <= 10
    assert late[1] <= 1.1 * late[0]
    assert stage.told.count(("complete", 34)) == 1
    assert sum(name == "superseded" for name, _ in stage.told) == 24


def test_of_25_steps_through_a_pyramid_few_reads_are_wasted(stage_of: StageOf, tmp_path: Any) -> None:
    """The coarsest tile of the next planes comes ahead, so something of each is shown; what lies between that and the ideal
    tiles would come too late."""
    planes = np.broadcast_to(value(np.arange(40))[:, None, None], (40, SIDE, SIDE)).astype(np.uint8)  # type: ignore[arg-type, attr-defined]  # arrays, too
    from octree.pyramid import build

    build(planes, tmp_path / "planes.zarr", axes="zyx", tile=EDGE // 2)
    stage = stage_of(50)
    node = stage.node(str(tmp_path / "planes.zarr"), single_level=False)
    assert node.settle(timeout_s=60, prefetch=True)
    loader, start_ms = stage.pipeline.loader, stage.now_ms
    before = loader.stats()
    for step in range(25):
        stage.run_until(start_ms + 40 * step, node)
        request = node.go_to(z=step + 10)
    assert request.wait(60)
    assert stage.pixels() == {value(34)}
    after = loader.stats()
    assert after.tiles_read > before.tiles_read
    assert after.reads_wasted - before.reads_wasted <= 10


def test_where_it_stands_nothing_new_is_asked_for(stage_of: StageOf) -> None:
    """A slider may say the same again and again."""
    stage = stage_of(50)
    node = stage.node(Planes(9))
    assert node.slice.wait(10)
    assert node.go_to(z=0) is node.slice
    request = node.go_to(z=2)
    for _ in range(20):
        assert node.go_to(z=2) is request
        stage.run_until(stage.now_ms + 40, node)
    assert request.state is COMPLETE
    assert request.record.over_ms - request.requested_ms < 300
    other = stage.node(Planes(9))
    assert other.slice.state is SliceState.LOADING, "a new node does not wait for a next step"


def test_coarse_tiles_of_a_first_step_are_not_delayed(stage_of: StageOf, tmp_path: Any) -> None:
    from octree.pyramid import build

    planes = Planes(4)
    build(
        planes[(slice(0, 4), slice(None), slice(None))], tmp_path / "p.zarr", axes="zyx", tile=EDGE, shard=0
    )
    stage = stage_of(50)
    node = stage.node(tmp_path / "p.zarr", single_level=False)
    assert node.settle(timeout_s=60, prefetch=True)
    request = node.go_to(z=2)
    assert request.wait(60)
    first, full, complete = (
        time_ms - request.requested_ms
        for time_ms in (request.record.first_ms, request.record.full_ms, request.record.complete_ms)
    )
    assert 50 <= first <= full <= 70, "as soon as the coarsest tile has come"
    assert complete >= 150
    assert stage.told[-3:] == [("requested", 2), ("partial", 2), ("complete", 2)]


def test_a_plane_that_cannot_be_read_fails_once(stage_of: StageOf) -> None:
    stage = stage_of(5)
    node = stage.node(Planes(9, broken=[2]))
    assert node.settle(timeout_s=60)
    request = node.go_to(z=2)
    assert not request.wait(60)
    stage.run_until(stage.now_ms + 200, node)
    assert request.state is FAILED
    assert "the disk is gone" in request.error
    assert stage.told.count(("failed", 2)) == 1
    assert len(node.failures) >= 12
    assert node.go_to(z=3).wait(60)
    assert stage.pixels() == {value(3)}
    assert node.go_to(z=2).wait(60) is False
    assert stage.told.count(("failed", 2)) == 2


def test_a_plane_that_is_left_while_it_fails_says_why(stage_of: StageOf) -> None:
    """Its tries are not over; of the next plane nothing is said."""
    stage = stage_of(50)
    node = stage.node(Planes(9, broken=[2]))
    assert node.settle(timeout_s=60)
    left = node.go_to(z=2)
    stage.run_until(stage.now_ms + 300, node)
    assert (left.state, left.error) == (SliceState.LOADING, "")
    request = node.go_to(z=3)
    assert left.state is SUPERSEDED
    assert "the disk is gone" in left.error
    assert request.wait(60)
    assert request.error == ""


def test_nothing_of_another_plane_is_drawn_between_turns(stage_of: StageOf) -> None:
    stage = stage_of(50)
    node = stage.node(Planes(9))
    assert node.settle(timeout_s=60)
    node.go_to(z=5)
    assert stage.pixels() == {0}
    node.go_to(z=0)
    assert stage.pixels() == {value(0)}


def test_an_error_in_a_callback_breaks_nothing(stage_of: StageOf) -> None:
    stage = stage_of(5)
    node = stage.node(Planes(9))

    def broken(event: Any) -> None:
        raise RuntimeError("a bug of somebody else")

    for name in ("requested", "complete", "superseded"):
        node.events[name].connect(broken)
    node.go_to(z=1)
    assert node.go_to(z=2).wait(10)
    assert stage.pixels() == {value(2)}


def test_a_callback_may_go_on(stage_of: StageOf) -> None:
    stage = stage_of(5)
    node = stage.node(Planes(5))
    node.events.complete.connect(
        lambda event: event.request.index["z"] < 3 and node.go_to(z=event.request.index["z"] + 1)
    )
    stage.run_until(stage.now_ms + 1000, node)
    assert node.index == {"z": 3}
    assert [z for name, z in stage.told if name == "complete"] == [0, 1, 2, 3]
    assert stage.pixels() == {value(3)}


def test_screenshots_are_complete(stage_of: StageOf) -> None:
    stage = stage_of(200)
    node = stage.node(Planes(9))
    with node.force_sync():
        for z in (4, 7):
            node.go_to(z=z)
            assert stage.pixels() == {value(z)}
        node.project = "z=max:~1"
        assert stage.pixels() == {value(8)}
    node.project = None
    node.go_to(z=1)
    assert stage.pixels() <= {0}
    pair = [stage.node(Planes(9), group="pair") for _ in range(2)]
    with pair[0].force_sync():
        pair[1].go_to(z=6)
        assert all(each.is_settled for each in pair)
        assert pair[0].coverage.ideal == 1
    node.go_to(z=2)
    with pytest.raises(OctreeError, match="not complete within"), node.force_sync(timeout_s=0.05):
        pass


# groups


def test_nodes_of_a_group_step_together(stage_of: StageOf) -> None:
    """The shorter one shows nothing where it has ended, and nobody waits for it."""
    stage = stage_of(20)
    short, long = Planes(4), Planes(8)
    first, second = stage.node(short, group="z", index="z=1"), stage.node(long, group="z")
    alone = stage.node(Planes(8))
    assert second.index == {"z": 1}
    assert first.go_to(z=3).wait(10)
    assert first.index == second.index == {"z": 3}
    assert alone.index == {"z": 0}
    request = second.go_to(z=6)
    assert request.wait(10)
    assert short.reads.keys() == {3}
    assert request.record.tiles_read == long.reads[6]
    assert stage.told.count(("complete", 6)) == 2, "to each of them"
    frame = stage.window.render()[..., 0]
    assert set(np.unique(frame[75:105, 5:70])) == {0}
    assert set(np.unique(frame[75:105, 90:150])) == {value(6)}
    with pytest.raises(UsageError, match="z=8 lies outside") as refused:
        first.go_to(z=8)
    assert refused.value.hint == "z runs from 0 to 7"
    with pytest.raises(UsageError, match="z=8 lies outside"):
        alone.go_to(z=8)
    with pytest.raises(UsageError, match="stands at z=6, not at z=2"):
        stage.node(Planes(8), group="z", index="z=2")
    assert second.slice.state is COMPLETE
    first.close()
    assert second.go_to(z=0).wait(10)


def test_a_node_across_stands_on_the_axes_it_does_not_show(stage_of: StageOf) -> None:
    """Planes from two sides of one volume."""
    stage = stage_of(5)
    node, across = stage.node(Planes(8), group="a"), stage.node(Planes(8), group="a", display="zx")
    assert node.go_to(z=5).wait(10)
    assert (node.index, across.index) == ({"z": 5}, {"y": 0})
    assert across.go_to(y=7).wait(10)
    assert (node.index, across.index) == ({"z": 5}, {"y": 7})


def test_nodes_that_swap_together_keep_the_plane_before_and_mark_it(stage_of: StageOf) -> None:
    stage = stage_of(20)
    slow = Planes(8)
    nodes = [stage.node(source, group="z", swap="all") for source in (Planes(8), slow)]
    assert nodes[0].slice.wait(10)
    plain = stage.window.render()[..., :3]
    assert set(np.unique(plain[45:135, 5:110, 0])) == {value(0)}
    request = nodes[0].go_to(z=4)
    hatched = stage.window.render()[..., :3]
    assert (hatched != plain).any(-1)[45:135, 5:110].mean() > 0.1, "at once"
    shown = set[int]()

    def look() -> None:
        assert nodes[0].shown_index == nodes[1].shown_index
        shown.add(nodes[0].shown_index["z"])
        if nodes[0].shown_index != {"z": 4}:
            frame = stage.window.render()[..., :3]
            for part in (np.s_[45:135, 5:110], np.s_[45:135, 130:235]):
                assert (frame[part] != frame[part][..., :1]).any(-1).mean() > 0.1, "it is marked"

    stage.run_until(stage.now_ms + 500, nodes[0], look)
    assert shown == {0, 4}
    assert request.state is COMPLETE
    assert stage.pixels() == {value(4)}
    assert request.record.first_ms == request.record.full_ms
    with pytest.raises(UsageError, match="has swap='all'"):
        stage.node(Planes(8), group="z")
    with pytest.raises(UsageError, match="swap must be one of"):
        stage.node(Planes(8), swap="now")


# hidden


@pytest.mark.parametrize("what", ["node", "parent", "visual"])
def test_what_is_hidden_loads_nothing(stage_of: StageOf, what: str) -> None:
    stage, planes = stage_of(50), Planes(9)
    node = stage.node(planes)
    other = stage.node(Planes(9))
    assert node.settle(timeout_s=60, prefetch=True)
    hidden = {"node": node, "parent": node.parent, "visual": node.visuals[0]}[what]
    node.go_to(z=1)
    stage.run_until(stage.now_ms + 120, node)
    hidden.visible = False
    stage.run_until(stage.now_ms + 300, node)
    planes.reads.clear()
    request = node.go_to(z=5)
    stage.run_until(stage.now_ms + 500, node)
    assert not planes.reads
    assert not node.pipeline.loader._wishes.any_of(
        node.layers[0], list(node.pipeline.loader._loads), prefetch=True
    )
    assert node.is_settled
    assert request.wait(60) is False
    assert not request.is_over
    assert other.go_to(z=2).wait(60), "others go on"
    hidden.visible = True
    assert set(np.unique(stage.window.render()[45:135, 5:110, 0])) == {0}, "nothing of the plane before"
    assert request.wait(60)
    assert planes.reads.keys() - {4, 6} == {5}, "and what lies next to it"
    assert set(np.unique(stage.window.render()[45:135, 5:110, 0])) == {value(5)}


def test_what_is_played_unseen_reads_nothing_and_is_in_time_when_it_is_seen(stage_of: StageOf) -> None:
    stage, planes = stage_of(5), Planes(20)
    node = stage.node(planes)
    assert node.settle(timeout_s=60)
    node.play("z", fps=10)
    node.visible = False
    planes.reads.clear()
    start_ms = stage.now_ms
    stage.run_until(start_ms + 550, node)
    assert not planes.reads
    node.visible = True
    node.turn()
    assert node.index == {"z": 5}


# playing


@pytest.mark.parametrize(
    ("at_end", "begin", "planes", "over"),
    [
        ("stop", 0, [0, 1, 2, 3, 3, 3, 3, 3, 3], 3),
        ("stop", 3, [0, 1, 2, 3, 3], 3),
        ("loop", 2, [2, 3, 0, 1, 2, 3, 0], None),
        ("reverse", 1, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2], None),
    ],
)
def test_which_plane_is_played_when(at_end: str, begin: int, planes: list[int], over: int | None) -> None:
    play = play_from("t", 4, at_end, 4, begin, 1000.0)
    assert [play.plane(1000 + 250 * step) for step in range(len(planes))] == planes
    assert [play.plane(1000 + 250 * step - 1e-3) for step in range(1, len(planes))] == planes[:-1]
    ends = [step for step in range(len(planes)) if play.is_over(1000 + 250 * step)]
    assert (ends[0] if ends else None) == over
    assert play.next_ms(1100) == 1250
    coming = play.coming(1000, 3)
    assert coming == [(1000 + 250 * n, planes[n]) for n in (1, 2, 3)]


def test_a_jump_goes_on_in_the_same_direction() -> None:
    there = Play("t", 10, 6, "reverse", 0, 0)
    assert [there.moved_to(3, 200).plane(200 + 100 * n) for n in range(4)] == [3, 4, 5, 4]
    assert [there.moved_to(3, 700).plane(700 + 100 * n) for n in range(5)] == [3, 2, 1, 0, 1]
    assert [there.moved_to(0, 700).plane(700 + 100 * n) for n in range(3)] == [0, 1, 2]
    assert Play("t", 10, 1, "reverse", 0, 0).plane(999) == Play("t", 10, 1, "loop", 0, 0).plane(999) == 0
    assert Play("t", 10, 6, "stop", 0, 3).coming(0, 9) == [(100, 4), (200, 5)]


@pytest.mark.parametrize("latency_ms", [1, 60])
@pytest.mark.parametrize("at_end", ["stop", "loop", "reverse"])
def test_each_plane_is_shown_at_its_time(stage_of: StageOf, at_end: str, latency_ms: float) -> None:
    """Slow reads make it coarse or empty, never late, and never another plane."""
    stage, planes = stage_of(latency_ms), Planes(6)
    node = stage.node(planes)
    assert node.settle(timeout_s=60, prefetch=True)
    start_ms = stage.now_ms
    node.play("z", fps=10, at_end=at_end)
    expected, seen = play_from("z", 10, at_end, 6, 0, start_ms), set[int]()

    def look() -> None:
        plane = expected.plane(stage.now_ms)
        pixels = stage.pixels()
        assert pixels <= {0, value(plane)}
        assert node.index == {"z": plane}
        seen.update(pixels - {0})

    turns = [stage.now_ms]
    while stage.now_ms < start_ms + 1250:
        node.turn()
        took_ms = stage.now_ms - turns[-1]
        assert took_ms <= 1000 / 60 + 1e-6, "a turn does not block"
        look()
        stage.wait(stage.now_ms + 1000 / 60)
        turns.append(stage.now_ms)
    assert seen == {value(plane) for plane in range(6)}
    assert node.is_playing == (at_end != "stop")
    assert all(
        request == "requested" or request in ("complete", "superseded", "partial")
        for request, _ in stage.told
    )
    if latency_ms == 60 and at_end == "stop":
        assert ("complete", 5) in stage.told, "no delay while playing"


def test_a_broken_plane_in_mid_play_is_told_once_and_left(stage_of: StageOf) -> None:
    stage = stage_of(1)
    node = stage.node(Planes(6, broken=[2]))
    assert node.settle(timeout_s=60)
    node.play("z", fps=1)
    stage.run_until(stage.now_ms + 5200, node)
    ends = [(name, z) for name, z in stage.told if name in ("complete", "failed", "superseded")]
    assert ends == [
        ("complete", 0),
        ("complete", 1),
        ("failed", 2),
        ("complete", 3),
        ("complete", 4),
        ("complete", 5),
    ]
    assert stage.pixels() == {value(5)}


def test_a_jump_in_mid_play_and_a_stop(stage_of: StageOf) -> None:
    stage = stage_of(1)
    node = stage.node(Planes(20))
    assert node.settle(timeout_s=60)
    node.play("z", fps=10)
    stage.run_until(stage.now_ms + 250, node)
    assert node.index == {"z": 2}
    node.go_to(z=12)
    stage.run_until(stage.now_ms + 150, node)
    assert node.index == {"z": 13}
    node.stop()
    stage.run_until(stage.now_ms + 500, node)
    assert (node.index, node.is_playing) == ({"z": 13}, False)
    assert stage.pixels() == {value(13)}


def test_planes_are_skipped_and_not_shown_later(stage_of: StageOf) -> None:
    """Nobody took a turn for a while: it is where it is by then."""
    stage = stage_of(1)
    node = stage.node(Planes(20))
    assert node.settle(timeout_s=60)
    node.play("z", fps=20)
    start_ms = stage.now_ms
    stage.wait(start_ms + 510)
    node.turn()
    assert node.index == {"z": 10}
    asked = [z for name, z in stage.told if name == "requested"]
    assert asked == [10]
    assert node.slice.deadline_ms == pytest.approx(start_ms + 550)


def test_a_group_plays_together(stage_of: StageOf) -> None:
    stage = stage_of(1)
    first, second = stage.node(Planes(3), group="z"), stage.node(Planes(6), group="z")
    assert first.settle(timeout_s=60)
    first.play("z", fps=10)
    stage.run_until(stage.now_ms + 750, second)
    assert (first.index, second.index, second.is_playing) == ({"z": 5}, {"z": 5}, False)
    second.close()
    first.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"axis": "q"}, "no axis 'q'"),
        ({"axis": "y"}, "y is displayed"),
        ({"fps": 0}, "fps must be"),
        ({"fps": -5}, "fps must be"),
        ({"fps": float("nan")}, "fps must be"),
        ({"fps": 1e9}, "fps must be"),
        ({"fps": "10"}, "fps must be"),
        ({"fps": True}, "fps must be"),
        ({"at_end": "bounce"}, "at_end must say"),
        ({"at_end": None}, "at_end must say"),
    ],
)
def test_what_cannot_be_played_is_refused(stage_of: StageOf, wrong: dict[str, Any], words: str) -> None:
    node = stage_of(1).node(Planes(3))
    with pytest.raises(UsageError, match=words) as refused:
        node.play(**{"axis": "z"} | wrong)
    assert refused.value.hint
    if "axis" in wrong:
        assert refused.value.hint.endswith(": z")
    assert not node.is_playing


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_plane_that_is_asked_for_is_shown(stage_of: StageOf, seed: int) -> None:
    """Random histories of two nodes in a group: each request is told to be over once, nothing of another plane is drawn
    unmarked, and in the end both are complete."""
    random = np.random.default_rng(seed)
    stage = stage_of(float(random.choice([2, 40, 90])))
    swap = str(random.choice(["each", "all"]))
    nodes = [stage.node(Planes(length), group="z", swap=swap) for length in (6, 9)]
    ends: Counter[tuple[int, int]] = Counter()
    for number, node in enumerate(nodes):
        for name in ("complete", "failed", "superseded"):
            node.events[name].connect(
                lambda event, number=number: ends.update([(number, event.request.generation)])
            )
    for _ in range(60):
        node = nodes[random.integers(2)]
        match random.integers(8):
            case 0 | 1:
                with suppress(UsageError):  # nobody stands on z, or nobody who does has so many planes
                    node.go_to(z=int(random.integers(9)))
            case 2:
                with suppress(UsageError):
                    node.play(
                        "z",
                        fps=float(random.choice([5, 20])),
                        at_end=str(random.choice(["loop", "reverse", "stop"])),
                    )
            case 3:
                node.stop()
            case 4:
                node.visible = not node.visible
            case 5:
                node.display = "zx" if node.display == "yx" else "yx"
            case _:
                stage.wait(stage.now_ms + float(random.choice([5, 30, 150])))
        if random.integers(3):
            node.turn()
        stage.window.render()
        for each in nodes:
            (visual,) = each.visuals
            assert visual.mark_old or not each.visible or each.layers[0].strays(each.slicing) == 0
    nodes[0].stop()
    for node in nodes:
        node.visible, node.display = True, "yx"
    nodes[0].go_to(z=4)
    assert all(node.settle(60) for node in nodes)
    assert stage.pixels() == {value(4)}
    assert nodes[0].slice.state is COMPLETE
    assert set(ends.values()) == {1}
    assert not stage.pipeline.loader._wishes.wanted.keys() - {
        key for node in nodes for key in node.layers[0]._rank
    }, "no wish is left over"
