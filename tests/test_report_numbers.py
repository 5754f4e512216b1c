"""The report's numbers against what can be counted from outside: pixels of each level, bytes of each read."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import zarr

from octree.pyramid import build
from octree.render.frames import render
from octree.render.report.values import report_schema

SIZE = (320, 240)
LEVEL_GREYS = (250, 210, 170, 130, 90, 50)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid in which every pixel of a level has one grey: a frame shows where each level was drawn."""
    path: Path = tmp_path_factory.mktemp("levels") / "levels.ome.zarr"
    build(np.zeros((1500, 2100), np.uint8), path, tile=128)
    count = 0
    while (path / str(count)).exists():
        zarr.open_array(path / str(count), mode="r+")[:] = LEVEL_GREYS[count]
        count += 1
    assert count == len(LEVEL_GREYS)
    return path


SLOW: dict[str, Any] = {"clim": "0,255", "clock": "virtual", "latency": "60ms", "bandwidth": "2MB/s"}


def test_coverage_equals_the_pixels_of_each_level(coloured: Path) -> None:
    run = render([str(coloured)], ["tour"], size=SIZE, options=SLOW)
    report = run.report.to_json()
    jsonschema.validate(report, report_schema())
    assert len(report["frames"]) == 481
    levels_seen, partial = set(), 0
    for frame, pixels in zip(report["frames"], run.frames, strict=True):
        coverage = frame["coverage"]
        parts = [coverage[name] for name in ("ideal", "finer", "coarser", "failed", "missing")]
        assert sum(parts) == pytest.approx(1, abs=1e-9)
        assert all(0 <= part <= 1 + 1e-9 for part in parts)
        drawn = sum(coverage["by_level"].values())
        assert drawn + coverage["missing"] + coverage["failed"] == pytest.approx(1, abs=1e-9)
        assert coverage["by_level"].get(str(frame["level"]), 0.0) == pytest.approx(
            coverage["ideal"], abs=1e-9
        )
        if not frame["visible_px"]:
            continue
        partial += 0 < coverage["ideal"] < 1
        for level, grey in enumerate(LEVEL_GREYS):
            counted = int((pixels[..., 0] == grey).sum())
            reported = coverage["by_level"].get(str(level), 0.0)
            assert counted / frame["visible_px"] == pytest.approx(reported, abs=0.001), (
                frame["index"],
                level,
            )
            levels_seen |= {level} if counted else set()
    assert len(levels_seen) >= 3
    assert partial > 10, "no frame was half-way: nothing was tested"


class Counting:
    """An array that counts the bytes read from it, from whichever thread."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.bytes_read = 0
        self.threads: set[str] = set()
        self._lock = threading.Lock()

    def __getitem__(self, index: Any) -> Any:
        part = self.array[index]
        is_tile = not threading.current_thread().name.startswith("octree-digest")
        with self._lock:
            self.bytes_read += part.nbytes if is_tile else 0  # the digest's samples are no tiles
            self.threads.add(threading.current_thread().name)
        return part


def test_bytes_equal_what_the_source_saw() -> None:
    source = Counting(np.random.default_rng(0).integers(0, 4000, (1100, 1300), np.uint16))
    options = {"single_level": True, "clim": "0,4000"}
    run = render([source], ["x=300,y=300,zoom=1", "x=900,y=800,zoom=1"], size=SIZE, options=options)
    report = run.report.to_json()
    assert report["totals"]["bytes_read"] == source.bytes_read > 0
    assert sum(frame["bytes"]["read"] for frame in report["frames"]) == source.bytes_read
    assert sum(frame["tiles"]["loaded"] for frame in report["frames"]) == report["totals"]["tiles_read"]
    assert report["totals"]["main_thread_reads"] == 0
    assert threading.main_thread().name not in source.threads


def test_the_same_virtual_run_gives_the_same_report(coloured: Path) -> None:
    def run() -> list[dict[str, Any]]:
        report = render([str(coloured)], ["zoom-in"], size=(160, 120), options=SLOW).report.to_json()
        return [{key: frame[key] for key in frame if key != "timings_ms"} for frame in report["frames"]]

    assert json.dumps(run()) == json.dumps(run())


def test_monitor_lines_are_the_frames_of_the_report(coloured: Path) -> None:
    from octree.render.report.monitor import Monitor

    report = render([str(coloured)], ["fit"], size=(160, 120), options={"clim": "0,255"}).report
    out = io.StringIO()
    with Monitor("-", stdout=out) as monitor:
        for frame in report.frames:
            monitor.frame(frame)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [{key: line[key] for key in line if key != "event"} for line in lines] == report.to_json()[
        "frames"
    ]
