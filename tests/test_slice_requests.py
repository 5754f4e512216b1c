"""Slice requests: their states, what the frames of ``octree render`` report of them, and the log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from build_tools import octree
from hypothesis import given
from hypothesis import strategies as st
from report_cases import refining_frames, run_report

from octree.pyramid import build
from octree.pyramid.errors import DestinationError, UsageError
from octree.render import render
from octree.render.frames import Frame, Renderer
from octree.render.report.html import make_page
from octree.render.report.values import RunReport, SliceReport, report_schema, totals_of
from octree.render.request import parse_request
from octree.render.scene.slice_request import OVER, Sight, SliceRecord, SliceState
from octree.render.view.state import Slicing

pytestmark = pytest.mark.usefixtures("gl_info")
D, L, P, C, F, S = (SliceState(name) for name in ("delayed", "loading", "partial", "complete", "failed", "superseded"))  # fmt: skip
EMPTY, HOLES, FULL, DONE = Sight(1.0, False), Sight(0.5, False), Sight(0.0, False), Sight(0.0, True)
LOST = Sight(0.0, True, 3, "the disk is gone")


# pure


@pytest.mark.parametrize(
    ("delay_ms", "seen", "states", "milestones"),
    [
        (0, [EMPTY, HOLES, FULL, DONE], [L, L, P, C], (10, 20, 30)),
        (0, [DONE], [C], (0, 0, 0)),
        (0, [HOLES, LOST], [L, F], (0, 10, None)),
        (0, [FULL, FULL], [P, P], (0, 0, None)),
        (15, [EMPTY, EMPTY, EMPTY, FULL], [D, D, L, P], (30, 30, None)),
        (15, [FULL, DONE], [P, C], (0, 0, 10)),
        # one part of a frame is settled, and the others are missing yet
        (0, [Sight(0.5, True), DONE], [L, C], (0, 10, 10)),
        (0, [DONE, HOLES, LOST], [C, C, C], (0, 0, 0)),
    ],
)
def test_states_follow_what_is_seen(
    delay_ms: float, seen: Sequence[Sight], states: Sequence[SliceState], milestones: Any
) -> None:
    record = SliceRecord(D if delay_ms else L, delay_ms)
    for turn, (sight, state) in enumerate(zip(seen, states, strict=True)):
        before = record.state
        assert record.see(10 * turn, sight) == (before is not state)
        assert record.state is state
    assert (record.first_ms, record.full_ms, record.complete_ms) == milestones


@given(
    st.lists(st.sampled_from([EMPTY, HOLES, FULL, DONE, LOST, None]), max_size=9),
    st.sampled_from([0.0, 25.0]),
)
def test_what_is_over_stays_as_it_is_and_times_are_in_order(
    seen: list[Sight | None], delay_ms: float
) -> None:
    """None: the view goes on."""
    record = SliceRecord(D if delay_ms else L, delay_ms)
    order = [D, L, P, C, F, S]
    for turn, sight in enumerate(seen):
        before = record.state
        changed = record.supersede(10 * turn) if sight is None else record.see(10 * turn, sight)
        assert changed == (record.state is not before)
        assert before not in OVER or record.state is before
        assert order.index(record.state) >= order.index(before)
    times = [record.first_ms, record.full_ms, record.complete_ms]
    known = [time for time in times if time is not None]
    assert known == sorted(known)
    assert times[len(known) :] == [None] * (3 - len(known)), "no later one without the one before"
    assert (record.state is C) == (record.complete_ms is not None)
    assert (record.state in OVER) == (record.over_ms is not None)


# frames


def stack(planes: int = 6, side: int = 600) -> Any:
    """A value for each plane: what is shown says which it is."""
    image = np.zeros((planes, side, side), np.uint8)
    image[:] = 20 * (np.arange(planes)[:, None, None] + 1)
    return image


class Failing:
    """Planes of which some cannot be read."""

    def __init__(self, planes: Any, broken: set[int]) -> None:
        self._planes, self._broken = planes, broken
        self.shape, self.dtype, self.ndim, self.chunks = planes.shape, planes.dtype, 3, (1, 256, 256)

    def __getitem__(self, place: Any) -> Any:
        if set(range(*place[0].indices(len(self._planes)))) & self._broken:
            raise OSError("the disk is gone")
        return self._planes[place]


OPTIONS = {"clim": "0,255", "clock": "virtual", "latency": "50ms", "size": "400x300"}


def steps(
    sources: Sequence[Any], planes: Sequence[int], *, settle: bool, gap_ms: float = 0.0, **options: Any
) -> tuple[list[Frame], RunReport]:
    """A frame of each plane, ``gap_ms`` after the one before."""
    with Renderer(parse_request(sources, ["x=300,y=300,zoom=1"], OPTIONS | options)) as renderer:
        (shot,) = renderer.shots
        renderer.shots = tuple(
            replace(
                shot,
                index=number,
                settle=settle,
                t_ms=number * gap_ms,
                starts_path=number == 0,
                state=replace(shot.state, slicing=Slicing.of({"z": z})),
            )
            for number, z in enumerate(planes)
        )
        frames = list(renderer.frames())
        return frames, renderer.report()


def test_each_plane_that_is_settled_is_a_request_that_is_complete() -> None:
    frames, report = steps([stack()], [3, 3, 0, 5], settle=True)
    assert [int(frame.rgba[150, 200, 0]) for frame in frames] == [80, 80, 20, 120]
    slices = report.to_json()["slices"]
    assert [each["index"] for each in slices] == [{"z": 3}, {"z": 0}, {"z": 5}]
    assert {each["state"] for each in slices} == {"complete"}
    at = [0.0, *(report.frames[n].t_ms for n in (1, 2))]
    assert [each["requested_ms"] for each in slices] == at
    for each in slices:
        # all were asked for with the first
        assert each["first_ms"] == 50
        assert each["first_ms"] <= each["full_ms"] <= each["complete_ms"]
    assert 0 < sum(each["tiles_read"] for each in slices) <= report.totals.tiles_read
    late = [each["complete_ms"] - each["requested_ms"] for each in slices]
    assert report.totals.slice_ms.max == max(late)
    assert report.totals.slice_ms.p50 == sorted(late)[1]
    assert report.totals.superseded == 0
    jsonschema.validate(report.to_json(), report_schema())


def test_a_hole_is_closed_before_all_is_there(tmp_path: Path) -> None:
    """By the coarse level; two workers read all others one after the other."""
    build(stack(2, 1500), tmp_path / "s.zarr", axes="zyx", tile=64)
    settings = {"loader_defaults": {"num_workers": 2, "delay_queue_ms": 0}, "octree": {"tile_size": 64}}
    (tmp_path / "s.json").write_text(json.dumps(settings))
    for settle in (True, False):
        gaps = 5.0 if not settle else 0.0
        planes = [1] if settle else [1] * 60
        _, report = steps(
            [tmp_path / "s.zarr"], planes, settle=settle, gap_ms=gaps, config=str(tmp_path / "s.json"),
            latency="10ms", size="300x200",
        )  # fmt: skip
        (only,) = report.slices
        assert only.first_ms is not None
        assert only.full_ms is not None
        assert only.complete_ms is not None
        assert 10 <= only.first_ms <= only.full_ms < only.complete_ms / 2


def test_a_plane_that_is_left_too_early_is_superseded() -> None:
    """Without a cache nothing can be loaded ahead."""
    places = [0, 1, 2, 3, 3, 3, 3, 3, 3]
    frames, report = steps([stack()], places, settle=False, gap_ms=40, cache="0B")
    assert [each.state for each in report.slices] == ["complete", "superseded", "superseded", "complete"]
    assert [each.requested_ms for each in report.slices] == [0, 90, 130, 170], (
        "the film begins with its first plane"
    )
    assert report.totals.superseded == 2
    assert [each.complete_ms for each in report.slices[1:3]] == [None, None]
    for place, frame in zip(places, frames, strict=True):
        assert set(np.unique(frame.rgba[..., 0])) <= {0, 20 * (place + 1)}, "nothing of another plane"
    assert int(frames[-1].rgba[150, 200, 0]) == 80


def test_a_plane_that_cannot_be_read_has_failed_and_is_told_once(tmp_path: Path) -> None:
    log = tmp_path / "slices.log"
    request = parse_request(
        [Failing(stack(), {2})], ["fit"], OPTIONS | {"index": "z=2", "single_level": True}
    )
    with Renderer(request, slice_log=str(log)) as renderer:
        (frame,) = renderer.frames()
        (only,) = renderer.report().slices
        assert len(renderer.report().failures) == 9
    assert frame.report.coverage.failed == 1
    assert (only.state, only.complete_ms, only.tiles_read) == ("failed", None, 0)
    (line,) = log.read_text().splitlines()
    assert "failed" in line
    assert "lost=9" in line
    assert line.count("the disk is gone") == 1


def test_a_plane_that_is_left_while_it_fails_says_so_once(tmp_path: Path) -> None:
    """Its tries are not over when the film goes on; a plane that comes with the second try is not told of."""
    log = tmp_path / "slices.log"
    options = OPTIONS | {"index": "z=:", "stream": True, "fps": 10, "single_level": True}
    with Renderer(parse_request([Failing(stack(4), {2})], ["fit"], options), slice_log=str(log)) as renderer:
        frames = list(renderer.frames())
        report = renderer.report()
    assert [frame.report.coverage.failed for frame in frames] == [0] * 4
    assert report.failures == []
    told = [(each.state, each.tiles_failed, "disk is gone" in each.error) for each in report.slices]
    assert told == [("complete", 0, False)] * 2 + [("superseded", 9, True), ("complete", 0, False)]
    lines = log.read_text().splitlines()
    assert ["lost=9 " in line and line.count("disk is gone") == 1 for line in lines] == [
        False,
        False,
        True,
        False,
    ]


def test_what_fails_first_and_comes_then_is_not_told_of() -> None:
    options = {"fail_rate": "0.5", "seed": 3, "single_level": True}
    _, report = steps([stack()], [1, 2], settle=True, **options)
    assert report.totals.tiles_read > 0
    assert [
        (each.state, each.tiles_failed, each.error) for each in report.slices if each.state == "complete"
    ] == [("complete", 0, "")] * sum(each.state == "complete" for each in report.slices)


def test_a_plane_that_fails_still_at_the_end_says_so(tmp_path: Path) -> None:
    """The report and the log, alike."""
    log = tmp_path / "slices.log"
    options = OPTIONS | {"index": "z=2", "timeout": "120ms", "single_level": True}
    with Renderer(parse_request([Failing(stack(), {2})], ["fit"], options), slice_log=str(log)) as renderer:
        list(renderer.frames())
        (only,) = renderer.report().slices
    assert (only.state, only.tiles_failed, only.error[-18:]) == ("loading", 9, ": the disk is gone")
    (line,) = log.read_text().splitlines()
    assert "loading" in line
    assert f"lost=9 {only.error}" in line


def test_a_plane_that_is_not_complete_in_time_stays_what_it_is() -> None:
    _, report = steps([stack()], [1], settle=True, timeout="20ms")
    (only,) = report.slices
    assert (only.state, only.first_ms, only.full_ms, only.complete_ms) == ("loading", None, None, None)


def test_layers_of_unequal_length() -> None:
    """Where one ends it shows nothing, and nobody waits for it."""
    short, long = stack(3), stack(6) + np.uint8(100)
    for order in ([short, long], [long, short]):
        frames, report = steps(order, [2, 4, 5], settle=True, blending="additive")
        assert [int(frame.rgba[150, 200, 0]) for frame in frames] == [60 + 160, 200, 220]
        assert [each.state for each in report.slices] == ["complete"] * 3
        assert [frame.report.coverage.ideal for frame in frames] == [1, 1, 1]
        assert {tile.index for tiles in frames[1].tiles for tile in tiles} == {(4,)}
    with pytest.raises(UsageError, match="z=6 lies outside"):
        render([short, long], options={"index": "z=6"})
    assert render([short, long], size=(40, 30), options={"index": "z=5"}).frames[0].max() > 0


def test_a_frame_in_parts_is_one_request(tmp_path: Path) -> None:
    options = {"atlas": "300KiB", "single_level": True, "size": "600x600"}
    frames, report = steps([stack()], [1, 2], settle=True, **options)
    assert [int(frame.rgba[300, 300, 0]) for frame in frames] == [40, 60]
    for each in report.slices:
        assert each.state == "complete"
        assert each.first_ms < each.full_ms == each.complete_ms  # type: ignore[operator]  # it is complete
        assert each.tiles_read == 9
    assert report.totals.ideal_ms == report.slices[0].complete_ms, "and not when its first part was drawn"


def test_projections_and_axes_are_part_of_the_question() -> None:
    request = parse_request([stack()], ["fit", "fit"], OPTIONS | {"project": "z=max:~1", "index": "z=2"})
    with Renderer(request) as renderer:
        list(renderer.frames())
        requests = renderer.scene.pipeline.slices.all
        assert requests is not None
        (only,) = requests
        assert (only.displayed, only.projection, dict(only.index)) == ("yx", "z=max:~1", {"z": 2})
        assert only.is_over
        with pytest.raises(AttributeError):
            only.index = {}  # type: ignore[misc]  # which is what is tested
        with pytest.raises(TypeError):
            only.index["z"] = 3  # type: ignore[index]  # which is what is tested
    report = render([stack()], options={"display": "zx", "index": "y=7", "size": "600x30"}).report
    assert [each.index for each in report.slices] == [{"y": 7}]
    assert [each.index for each in render([stack()[0]], size=(40, 30)).report.slices] == [{}]


# the log, and the page


def test_the_command_logs_and_reports_slices(tmp_path: Path) -> None:
    build(stack(), tmp_path / "s.zarr", axes="zyx")
    log = tmp_path / "slices.log"
    run = ["render", tmp_path / "s.zarr", "--index", "z=3", "--clock", "virtual", "--latency", "50ms", "--size", "400x300"]  # fmt: skip
    for number in (1, 2):
        done = octree(*run, "--slice-log", log, "--json")
        assert done.returncode == 0, done.stderr
        (each,) = json.loads(done.stdout)["slices"]
        lines = log.read_text().splitlines()
        assert len(lines) == number
        facts = ("complete", "z=3 yx", f"complete={each['complete_ms']:.3f}ms", f"reads={each['tiles_read']}")
        assert all(fact in lines[-1] for fact in facts)
    assert octree(*run, "--slice-log", tmp_path / "none" / "slices.log").returncode == 4


def test_the_command_tells_of_a_plane_that_is_lost_once(tmp_path: Path) -> None:
    """And of the next one, too."""
    build(stack(4), tmp_path / "s.zarr", axes="zyx", tile=64, shard=0)
    for z in (1, 3):
        for chunk in (tmp_path / "s.zarr" / "0" / "c" / str(z)).glob("*/*"):
            chunk.write_bytes(b"no chunk")
    (tmp_path / "s.json").write_text(json.dumps({"render": {"retry_delay_ms": 0}}))
    done = octree("render", tmp_path / "s.zarr", "--index", "z=:", "--camera", "x=200,y=200,zoom=1", "--size", "300x300",
                  "--config", tmp_path / "s.json", "--json")  # fmt: skip
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if "failed: " in line]
    assert [line.split(":")[1] for line in told] == [" level 0, tile (1, 0, 0)", " level 0, tile (3, 0, 0)"]
    assert all("more of that plane" in line for line in told)
    states = [each["state"] for each in json.loads(done.stdout)["slices"]]
    assert states == ["complete", "failed", "complete", "failed"]


def test_the_command_tells_of_a_plane_that_it_left_before_it_had_failed(tmp_path: Path) -> None:
    build(stack(4), tmp_path / "s.zarr", axes="zyx", tile=64, shard=0)
    for chunk in (tmp_path / "s.zarr").glob("[0-9]*/c/2/*/*"):
        chunk.write_bytes(b"no chunk")
    film = (
        "render",
        tmp_path / "s.zarr",
        "--index",
        "z=:",
        "--clock",
        "virtual",
        "--size",
        "300x300",
        "--json",
    )
    done = octree(*film, "--stream", "--fps", "10")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: ") == 1, done.stderr
    assert "warning: 1 plane was left before what failed could be read again, of 4:" in done.stderr
    (told,) = [line for line in done.stderr.splitlines() if "failed: " in line]
    assert told.startswith("  failed: z=2: ")
    states = [(each["state"], each["tiles_failed"] > 0) for each in json.loads(done.stdout)["slices"]]
    assert states == [("complete", False)] * 2 + [("superseded", True), ("complete", False)]


def test_the_command_tells_of_bricks_that_are_lost(tmp_path: Path) -> None:
    build(stack(64), tmp_path / "s.zarr", axes="zyx", chunks="64,64,64", shard=0)
    for chunk in (tmp_path / "s.zarr" / "0" / "c").glob("0/*/*"):
        chunk.write_bytes(b"no chunk")
    (tmp_path / "s.json").write_text(json.dumps({"render": {"retry_delay_ms": 0}}))
    done = octree("render", tmp_path / "s.zarr", "--camera", "azimuth=30,zoom=1", "--size", "64x64", "--json",
                  "--config", tmp_path / "s.json")  # fmt: skip
    assert done.returncode == 1
    assert "failed: level 0, brick (0, " in done.stderr
    assert "more of that volume)" in done.stderr


def test_a_log_that_cannot_be_written_is_said_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="log file") as caught:
        Renderer(parse_request([stack()], ["fit"], {}), slice_log=str(tmp_path / "none" / "log"))
    assert caught.value.hint == "give another --slice-log"


def test_the_page_shows_planes_of_a_run_that_steps() -> None:
    def page(count: int) -> str:
        slices = [
            SliceReport({"t": n}, 40.0 * n, 40.0 * n + 5, 40.0 * n + 9, None if n % 3 else 40.0 * n + 25, "superseded" if n % 3 else "complete", 9)
            for n in range(count)
        ]  # fmt: skip
        frames = refining_frames(8)
        return make_page(run_report(frames, slices=slices, totals=totals_of(frames, slices)).to_json(), [])

    text = page(7)
    assert "3 of 7" in text
    assert 'id="slices"' in text
    assert "25.0 ms" in text
    assert 'id="slices"' not in page(1)
    assert 'id="slices"' in page(2000)
