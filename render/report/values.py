"""What a frame showed and what it cost: the values behind the JSON report (docs/contract.md, docs/report.md).

Everything here is a value; counting is done where things happen, and the frame loop fills these in.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from octree.pyramid.store.remote.counts import NO_COUNTS, Counts
from octree.render.report.rates import frame_classes, jank_ms
from octree.render.view.camera import Camera
from octree.render.view.coverage import Coverage

SCHEMA = "octree-report/1"
FRAME_BUDGET_MS = 1000 / 60
_WHOLE = 1 - 1e-9
"""A fraction from here on is all of it: fractions are sums of floating-point areas."""


@dataclass(frozen=True, slots=True)
class TileCounts:
    """Tiles of one frame. ``wanted`` tiles of the wanted level in view · ``ideal`` of those, drawn from that
    level · ``drawn`` all tiles drawn · ``wrong_plane`` of those given to be drawn, of another plane than is said to be shown
    · ``requested`` … ``uploaded`` what happened since the frame before."""

    wanted: int = 0
    ideal: int = 0
    drawn: int = 0
    wrong_plane: int = 0
    requested: int = 0
    loaded: int = 0
    cache_hits: int = 0
    cancelled: int = 0
    failed: int = 0
    evicted: int = 0
    uploaded: int = 0

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ByteCounts:
    """Bytes since the frame before: ``read`` from the sources, ``uploaded`` to textures, and
    ``upload_deferred`` that wait for the next frame's upload budget."""

    read: int = 0
    uploaded: int = 0
    upload_deferred: int = 0

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Gauges:
    """What was the case when the frame was drawn: loads ``queued`` for a worker, ``loading``, and ``delayed``
    (not wanted for long enough yet); bytes held in the tile cache and in the atlas."""

    queued: int = 0
    loading: int = 0
    delayed: int = 0
    cache_bytes: int = 0
    atlas_bytes: int = 0

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds of one frame on the main thread, always real time. ``total`` runs from the plan to the end
    of drawing with GL finished; ``readback`` is apart from it."""

    plan: float = 0.0
    load_wait: float = 0.0
    upload: float = 0.0
    cover: float = 0.0
    draw: float = 0.0
    readback: float = 0.0
    total: float = 0.0

    def to_json(self) -> dict[str, float]:
        return {f.name: round(getattr(self, f.name), 4) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class Projected:
    """An axis that a frame shows reduced to one value: level-0 positions ``first`` to ``stop`` (half-open)."""

    axis: str
    method: str
    first: int
    stop: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Positions:
    """The plane that a frame was to show, and the one that it shows: (axis, level-0 position) each."""

    requested: tuple[tuple[str, int], ...] = ()
    shown: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"requested": dict(self.requested), "shown": dict(self.shown)}


@dataclass(frozen=True, slots=True)
class VolumeReport:
    """What rays met of a volume: ``samples`` of all layers in what is shown of them, ``step_world`` level-0 voxels of x apart
    (the smallest of the layers), and how many bricks were drawn, each channel counted."""

    mode: str
    samples: int
    step_world: float
    bricks_drawn: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CellReport:
    """One view of a montage: where it lies in the frame, whole pixels, and what it shows there."""

    title: str
    x: int
    y: int
    width: int
    height: int
    camera: Camera
    displayed: str
    position: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        names = ("title", "x", "y", "width", "height", "displayed")
        own = {name: getattr(self, name) for name in names}
        return {**own, "camera": self.camera.to_json(), "index": dict(self.position)}


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One frame. ``size_px`` is (width, height); ``t_ms`` since the start of the run, on the clock in force;
    ``level`` the wanted one, coarser than the screen asks for when ``degraded``; ``visible_px`` the screen
    pixels that the image covers; ``displayed`` the axes of rows and columns, ``projected`` (axis, method, first, stop)
    in level-0 positions of the first source, None for no projection; ``late``: of a stream, and not complete when it was
    due; ``cells`` of a montage; ``volume`` None: of planes. What a frame shows of an earlier plane (``position.shown``), camera, level, coverage and tiles included, is that
    of the frame that it is kept from."""

    index: int
    camera: Camera
    size_px: tuple[int, int]
    t_ms: float
    level: int
    degraded: bool = False
    visible_px: int = 0
    displayed: str = "yx"
    projected: Projected | None = None
    position: Positions = field(default_factory=Positions)
    late: bool = False
    cells: tuple[CellReport, ...] = ()
    volume: VolumeReport | None = None
    coverage: Coverage = field(default_factory=Coverage)
    tiles: TileCounts = field(default_factory=TileCounts)
    bytes: ByteCounts = field(default_factory=ByteCounts)
    timings_ms: Timings = field(default_factory=Timings)
    gauges: Gauges = field(default_factory=Gauges)

    def to_json(self) -> dict[str, Any]:
        return {
            # of an image of planes that can be stepped through the plane; number is always the frame's
            "index": self.position.to_json() if self.position.requested else self.index,
            "number": self.index,
            "camera": self.camera.to_json(),
            "size_px": list(self.size_px),
            "t_ms": round(self.t_ms, 4),
            "level": self.level,
            "degraded": self.degraded,
            "visible_px": self.visible_px,
            "displayed": self.displayed,
            "projected": self.projected and self.projected.to_json(),
            "position": self.position.to_json(),
            "late": self.late,
            **({"cells": [cell.to_json() for cell in self.cells]} if self.cells else {}),
            **({"volume": self.volume.to_json()} if self.volume else {}),
            "coverage": self.coverage.to_json(),
            "tiles": self.tiles.to_json(),
            "bytes": self.bytes.to_json(),
            "timings_ms": self.timings_ms.to_json(),
            "gauges": self.gauges.to_json(),
        }


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Percentiles of ``Timings.total`` in milliseconds; None when there was no frame."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class SliceReport:
    """One slice request: ``index`` are level-0 positions on the axes that are not displayed. Times since the start of the run,
    on the clock in force: when it was asked for, when something of it was shown, when no hole was left, and when all of it
    was there; None when that never happened. ``tiles_read``: tiles of that plane that were read for it; ``tiles_failed``: tiles of
    it that could not be read before it was over, or left, and the first ``error``."""

    index: Mapping[str, int]
    requested_ms: float
    first_ms: float | None
    full_ms: float | None
    complete_ms: float | None
    state: str
    tiles_read: int = 0
    tiles_failed: int = 0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


@dataclass(frozen=True, slots=True)
class PrefetchUse:
    """Tiles loaded ahead that a later frame needed, and those that none did."""

    used: int = 0
    wasted: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """The run as a whole. The three ``…_ms`` are ``t_ms`` of the first frame that showed a pixel of the image,
    had no hole left, and was settled; None when no frame did. ``slice_ms``: from asking for a plane until all of it was
    there, of those that came so far; ``superseded``: planes that were not complete when the next was asked for;
    ``skipped_planes``: planes that a film was to show, and that no frame of its camera shows; ``remote``: what requests to stores
    cost, from opening the sources on."""

    frames: int = 0
    seconds: float = 0.0
    first_pixel_ms: float | None = None
    full_coverage_ms: float | None = None
    ideal_ms: float | None = None
    frame_ms: FrameTimes = field(default_factory=FrameTimes)
    over_16_7_ms: int = 0
    frame_classes: Mapping[str, float] = field(default_factory=dict)
    jank_ms: float | None = None
    late_frames: int = 0
    skipped_planes: int = 0
    wrong_plane_frames: int = 0
    tiles_read: int = 0
    tiles_read_twice: int = 0
    reads_wasted: int = 0
    tiles_read_along: int = 0
    bytes_read: int = 0
    peak_cache_bytes: int = 0
    peak_atlas_bytes: int = 0
    peak_rss_bytes: int = 0
    main_thread_reads: int = 0
    slice_ms: FrameTimes = field(default_factory=FrameTimes)
    superseded: int = 0
    prefetch: PrefetchUse = field(default_factory=PrefetchUse)
    remote: Counts = NO_COUNTS

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "remote": self.remote.to_json()}


def totals_of(frames: Sequence[FrameReport], slices: Sequence[SliceReport] = (), **counters: Any) -> Totals:
    """Totals from the frames and slices, and from ``counters``: fields of ``Totals`` that only the caller knows
    (``seconds``, ``tiles_read``, peaks …), or knows better (``first_pixel_ms`` of a frame that was settled
    before it was reported). ``bytes_read`` and ``tiles_read`` default to the sums over the frames."""
    times = [frame.timings_ms.total for frame in frames]
    derived: dict[str, Any] = {
        "frames": len(frames),
        "first_pixel_ms": _first(frames, lambda c: c.missing < _WHOLE),
        "full_coverage_ms": _first(frames, lambda c: c.missing <= 1 - _WHOLE),
        "ideal_ms": _first(frames, lambda c: c.ideal + c.failed >= _WHOLE),
        "frame_ms": frame_times(times),
        "over_16_7_ms": sum(time > FRAME_BUDGET_MS for time in times),
        "frame_classes": frame_classes(times),
        "jank_ms": jank_ms(times),
        "late_frames": sum(frame.late for frame in frames),
        "skipped_planes": len(
            {(frame.camera.name, frame.position.requested) for frame in frames}
            - {(frame.camera.name, frame.position.shown) for frame in frames}
        ),
        "wrong_plane_frames": sum(frame.tiles.wrong_plane > 0 for frame in frames),
        "tiles_read": sum(frame.tiles.loaded for frame in frames),
        "bytes_read": sum(frame.bytes.read for frame in frames),
        "slice_ms": frame_times(
            [each.complete_ms - each.requested_ms for each in slices if each.complete_ms is not None]
        ),
        "superseded": sum(each.state == "superseded" for each in slices),
    }
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in counters.items()}
    return Totals(**(derived | rounded))


def _first(frames: Sequence[FrameReport], holds: Any) -> float | None:
    return next((round(frame.t_ms, 4) for frame in frames if holds(frame.coverage)), None)


def frame_times(times_ms: Sequence[float]) -> FrameTimes:
    """Percentiles by nearest rank: each is a time that some frame really took."""
    if not times_ms:
        return FrameTimes()
    ordered = sorted(times_ms)

    def rank(percent: float) -> float:
        return round(ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)], 4)

    return FrameTimes(rank(50), rank(95), rank(99), rank(100))


@dataclass(frozen=True, slots=True)
class RunReport:
    """The whole report. ``renderer``, ``sources`` and ``settings`` are JSON-able as the contract lists them;
    ``failures`` are {source, key, error}."""

    command: str
    renderer: dict[str, Any]
    sources: list[dict[str, Any]]
    settings: dict[str, Any]
    frames: Sequence[FrameReport] = ()
    slices: Sequence[SliceReport] = ()
    totals: Totals = field(default_factory=Totals)
    failures: Sequence[dict[str, Any]] = ()
    started_utc: str = ""
    octree_version: str = ""

    def to_json(self) -> dict[str, Any]:
        """One JSON document of plain values, with nothing in it that is not finite."""
        document = {
            "schema": SCHEMA,
            "command": self.command,
            "octree_version": self.octree_version or version(),
            "started_utc": self.started_utc or utc_now(),
            "renderer": self.renderer,
            "sources": self.sources,
            "settings": self.settings,
            "frames": [frame.to_json() for frame in self.frames],
            "slices": [each.to_json() for each in self.slices],
            "totals": self.totals.to_json(),
            "failures": list(self.failures),
        }
        plain: dict[str, Any] = plain_json(document)
        return plain


def plain_json(value: Any) -> Any:
    """``value`` as JSON knows it: mappings get string keys, tuples and arrays become lists, numpy scalars and
    enums their values, paths strings; numbers that are not finite become None, other objects their text."""
    if value is None or isinstance(value, str | bool):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Enum):
        return plain_json(value.value)
    if isinstance(value, np.generic | np.ndarray):
        return plain_json(value.tolist())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(plain_json(key)): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_json(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def version() -> str:
    """The installed version of octree."""
    from importlib.metadata import version as installed

    return installed("octree")


def utc_now() -> str:
    """The time, to the second, as ISO 8601 with Z."""
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def report_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the report, as shipped."""
    import json

    schema: dict[str, Any] = json.loads(Path(__file__).with_name("report_schema.json").read_bytes())
    return schema
