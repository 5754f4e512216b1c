"""The report: its JSON is the contract's, its numbers add up, and nothing in it is not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import frame, refining_frames, run_report

from octree.render.report.values import (
    FrameReport,
    Positions,
    RunReport,
    TileCounts,
    Timings,
    frame_times,
    plain_json,
    report_schema,
    totals_of,
)
from octree.render.view.camera import Camera
from octree.render.view.coverage import Coverage, merge_coverage

CONTRACT = {
    "": "schema command octree_version started_utc renderer sources settings frames totals failures slices",
    "frames": "index number camera size_px t_ms level degraded visible_px position late coverage tiles bytes timings_ms",
    "coverage": "ideal finer coarser failed missing by_level",
    "tiles": "wanted ideal drawn wrong_plane requested loaded cache_hits cancelled failed evicted uploaded",
    "bytes": "read uploaded upload_deferred",
    "timings_ms": "plan load_wait upload cover draw readback total",
    "camera": "name x y zoom",
    "totals": "frames seconds first_pixel_ms full_coverage_ms ideal_ms frame_ms over_16_7_ms "
    "frame_classes jank_ms late_frames skipped_planes wrong_plane_frames tiles_read "
    "tiles_read_twice reads_wasted tiles_read_along bytes_read peak_cache_bytes peak_atlas_bytes peak_rss_bytes main_thread_reads slice_ms superseded prefetch",
    "frame_ms": "p50 p95 p99 max",
    "position": "requested shown",
    "slices": "index requested_ms first_ms full_ms complete_ms state tiles_read",
}


def test_the_report_has_every_field_of_the_contract() -> None:
    report = run_report().to_json()
    frame = report["frames"][0]
    parts = {
        "": report,
        "frames": frame,
        "slices": report["slices"][0],
        "totals": report["totals"],
        "frame_ms": report["totals"]["frame_ms"],
    }
    for name, words in CONTRACT.items():
        part = parts[name] if name in parts else frame[name]
        assert set(words.split()) <= set(part), name


def test_the_report_follows_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(report_schema())
    for report in (run_report(), run_report([])):
        jsonschema.validate(report.to_json(), report_schema())


def places(document: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*trail, key)
            yield from places(value, (*trail, key))


def test_the_schema_requires_what_the_contract_lists() -> None:
    report = run_report(refining_frames(1)).to_json()
    validator = jsonschema.Draft202012Validator(report_schema())
    listed = {word for words in CONTRACT.values() for word in words.split()}
    inside = [(part, 0, *trail) for part in ("frames", "slices") for trail in places(report[part][0])]
    for trail in [*places(report), *inside]:
        if trail[-1] not in listed or trail[0] in ("sources", "settings", "renderer"):
            continue
        broken = json.loads(json.dumps(report))
        part = broken
        for step in trail[:-1]:
            part = part[step]
        del part[trail[-1]]
        assert not validator.is_valid(broken), trail


def test_nothing_in_the_json_is_not_finite() -> None:
    odd = {"nan": math.nan, "inf": [np.float32("inf"), np.int64(3)], "path": Path("a"), "set": {1}}
    text = json.dumps(run_report(settings=odd).to_json(), allow_nan=False)
    assert json.loads(text)["settings"] == {"nan": None, "inf": [None, 3], "path": "a", "set": [1]}


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.uint8(7), 7),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        ((1, 2.5), [1, 2.5]),
        ({1: "a", Colour.RED: None}, {"1": "a", "red": None}),
        (-math.inf, None),
        (object, "<class 'object'>"),
    ],
)
def test_plain_json(value: Any, plain: Any) -> None:
    assert plain_json(value) == plain
    assert type(plain_json(value)) is type(plain)


def test_the_time_and_version_are_filled_in() -> None:
    report = RunReport("c", {}, [], {}).to_json()
    assert report["schema"] == "octree-report/1"
    assert report["started_utc"].endswith("Z")
    assert report["octree_version"]


# coverage of several layers

fractions = st.lists(st.floats(0, 1), min_size=5, max_size=5).filter(lambda parts: sum(parts) > 0.01)


@given(st.lists(st.tuples(fractions, st.integers(0, 10**6)), max_size=4))
@settings(deadline=None, max_examples=60)
def test_merged_fractions_sum_to_one_and_lie_between_their_parts(
    layers: list[tuple[list[float], int]],
) -> None:
    parts = []
    for values, visible_px in layers:
        whole = sum(values)
        ideal, finer, coarser, failed, missing = (value / whole for value in values)
        parts.append((Coverage(ideal, finer, coarser, failed, missing, {0: ideal, 3: coarser}), visible_px))
    merged = merge_coverage(parts)
    total = merged.ideal + merged.finer + merged.coarser + merged.failed + merged.missing
    assert total == pytest.approx(1)
    seen = [coverage for coverage, visible_px in parts if visible_px]
    if seen:
        assert min(c.ideal for c in seen) - 1e-9 <= merged.ideal <= max(c.ideal for c in seen) + 1e-9
    else:
        assert merged == Coverage()


def test_merging_weighs_by_visible_pixels() -> None:
    one, two = Coverage(by_level={0: 1.0}), Coverage(0, 0, 1, by_level={2: 1.0})
    merged = merge_coverage([(one, 300), (two, 100), (Coverage(0, missing=1), 0)])
    assert (merged.ideal, merged.coarser, merged.by_level) == (0.75, 0.25, {0: 0.75, 2: 0.25})
    assert merged.to_json()["by_level"] == {"0": 0.75, "2": 0.25}


# totals


def test_totals_find_the_first_frame_that_had_what() -> None:
    stages = [
        Coverage(0, missing=1),
        Coverage(0, coarser=0.5, missing=0.5),
        Coverage(0.3, coarser=0.7),
        Coverage(0.9, failed=0.1),
    ]
    frames = [frame(i, 10.0 * i, coverage) for i, coverage in enumerate(stages)]
    totals = totals_of(frames)
    assert (totals.first_pixel_ms, totals.full_coverage_ms, totals.ideal_ms) == (10, 20, 30)
    never = totals_of(frames[:1])
    assert (never.first_pixel_ms, never.full_coverage_ms, never.ideal_ms) == (None, None, None)


def test_totals_count_and_callers_know_better() -> None:
    slow = [frame(i, i, timings_ms=Timings(total=total)) for i, total in enumerate((5, 16.6, 16.7, 40))]
    totals = totals_of(slow, seconds=2, ideal_ms=7.0, tiles_read=9)
    assert (totals.frames, totals.over_16_7_ms, totals.ideal_ms, totals.tiles_read) == (4, 2, 7.0, 9)
    assert totals.frame_ms.max == 40
    loaded = totals_of([frame(0, tiles=TileCounts(loaded=3)), frame(1, tiles=TileCounts(loaded=4))])
    assert loaded.tiles_read == 7
    with pytest.raises(TypeError):
        totals_of(slow, tiles_raed=1)


@pytest.mark.parametrize(
    ("times_ms", "classes", "jank"),
    [
        ([1000 / 60, 5, 33, 33.4], {"60": 0.5, "30": 0.25, "20": 0.25}, (33 + 33.4 - 2000 / 60) / 4),
        ([100] * 3 + [200] + [99], {"10": 0.8, "5": 0.2}, 20),
        ([300, 300, 500], {"slower": 1}, 200 / 3),
        ([2.0], {"60": 1}, 0),
    ],
)
def test_frame_rates_have_classes_and_jank_is_what_overruns_them(
    times_ms: list[float], classes: dict[str, float], jank: float
) -> None:
    totals = totals_of([frame(i, timings_ms=Timings(total=total)) for i, total in enumerate(times_ms)])
    assert {name: share for name, share in totals.frame_classes.items() if share} == classes
    assert [*totals.frame_classes] == ["60", "30", "20", "10", "5", "slower"]
    assert totals.jank_ms == pytest.approx(jank, abs=1e-4)
    assert (totals_of([]).frame_classes, totals_of([]).jank_ms) == ({}, None)


def test_planes_are_counted_for_each_camera() -> None:
    def at(index: int, requested: int, shown: int, name: str = "a", *, late: bool = False) -> FrameReport:
        position = Positions((("t", requested),), (("t", shown),))
        return replace(frame(index, position=position, late=late), camera=Camera(0, 0, 1, name))

    frames = [at(0, 0, 0), at(1, 1, 0, late=True), at(2, 2, 0, late=True), at(3, 2, 2), at(4, 1, 1, "b")]
    totals = totals_of(frames)
    assert (totals.late_frames, totals.skipped_planes, totals.wrong_plane_frames) == (2, 1, 0)
    assert totals_of([frame(tiles=TileCounts(wrong_plane=3)), frame(1)]).wrong_plane_frames == 1


def test_percentiles_are_times_that_frames_took() -> None:
    times = [float(i) for i in range(1, 201)]
    assert frame_times(times[::-1]).p50 == 100
    assert frame_times(times).p95 == 190
    assert frame_times(times).p99 == 198
    assert frame_times([3.0]).p99 == 3.0
    assert frame_times([]).max is None
