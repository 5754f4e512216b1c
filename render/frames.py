"""The frame loop: cameras in, frames and a report out. Main thread; the one shell around the pure rooms.

*Settle* waits until every wanted tile is drawn or has failed, then draws one frame. *Stream* draws at the
path's rate whatever has arrived, and never waits for a load. Both run on the real or the virtual clock: time
passes only in ``TileLoader.wait``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.memory import peak_rss_bytes
from octree.pyramid.model import TileKey
from octree.render.config import Settings
from octree.render.loading.loader import LoaderStats
from octree.render.loading.requests import FailedTile
from octree.render.report.trace import NULL_TRACE, NullTrace
from octree.render.report.values import (
    ByteCounts,
    FrameReport,
    Gauges,
    RunReport,
    TileCounts,
    Timings,
    totals_of,
    utc_now,
)
from octree.render.request import RenderRequest, parse_request
from octree.render.scene.scene import Scene, open_scene
from octree.render.view.camera import Camera, CameraPath, unique_names
from octree.render.view.camera_text import parse_camera
from octree.render.view.state import ViewState

_HOLE = 1e-9
"""Coverage is a sum of floating-point areas: a fraction below this is none."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame to come: what it looks at, and for a path its time (ms since the path's start) and the motion of
    the camera (camera pixels per ms, (y, x)). ``fps`` is that of its path, None for a single view."""

    index: int
    state: ViewState
    settle: bool
    t_ms: float = 0.0
    starts_path: bool = True
    motion: tuple[float, float] = (0.0, 0.0)
    fps: float | None = None

    @property
    def camera(self) -> Camera:
        return self.state.camera


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One drawn frame: ``rgba`` is uint8 (height, width, 4); ``tiles`` are the tiles drawn, layer by layer, with level-0
    positions for an index."""

    index: int
    camera: Camera
    rgba: NDArray[np.uint8]
    report: FrameReport
    tiles: tuple[tuple[TileKey, ...], ...]

    def tile_set(self) -> dict[str, Any]:
        """What was drawn, as plain values, for ``octree check``: the same on every renderer."""
        return {
            "level": self.report.level,
            "layers": [
                sorted([tile.level, list(tile.index), list(tile.grid)] for tile in layer)
                for layer in self.tiles
            ],
        }


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """What ``render`` returns."""

    frames: list[NDArray[np.uint8]]
    report: RunReport
    tile_sets: list[dict[str, Any]]


@dataclass(slots=True)
class _Meter:
    """Milliseconds of one frame by part. Owned by the frame that is being made."""

    ms: dict[str, float] = field(default_factory=dict)
    begin_s: float = field(default_factory=time.perf_counter)

    @contextmanager
    def part(self, name: str, trace: NullTrace) -> Iterator[None]:
        start_s = time.perf_counter()
        try:
            yield
        finally:
            spent_s = time.perf_counter() - start_s
            self.ms[name] = self.ms.get(name, 0.0) + 1000 * spent_s
            trace.complete(name, start_s, spent_s)

    def timings(self, total_ms: float) -> Timings:
        return Timings(**self.ms, total=total_ms)


class Renderer:
    """Draws the frames of one request. Owns scene, loader, atlas and canvas; use it in a ``with`` block.

    ``shots`` is known at once; OpenGL starts with the first frame. ``on_progress(shot, coverage fraction)``
    is called while a frame settles.
    """

    def __init__(
        self,
        request: RenderRequest,
        *,
        command: str = "",
        trace: NullTrace = NULL_TRACE,
        on_progress: Callable[[Shot, float], None] | None = None,
    ) -> None:
        self.request = request
        self._command = command
        self._trace = trace
        self._on_progress = on_progress
        self._stack = ExitStack()
        self._started_utc = utc_now()
        self._begin_s = time.perf_counter()
        self._reports: list[FrameReport] = []
        self._milestones: dict[str, float] = {}
        self._uploaded_tiles = 0
        self._uploaded_bytes = 0
        with ExitStack() as stack:
            self._scene: Scene = stack.enter_context(open_scene(request, trace=trace))
            self.shots = tuple(_shots(request, self._scene))
            self._stack = stack.pop_all()
        self._loader = self._scene.loader
        self._clock = self._loader.clock

    def frames(self) -> Iterator[Frame]:
        """Draw every shot in order."""
        self._scene.start()
        self._zero_ms = self._path_zero_ms = self._clock.now_ms()
        self._seen = self._counters()
        if self.shots:
            self._plan(self.shots[0])
            with _Meter().part("rehearse", self._trace):
                self._scene.rehearse()
        for shot in self.shots:
            yield self._settle(shot) if shot.settle else self._stream(shot)

    # one frame

    def _settle(self, shot: Shot) -> Frame:
        meter = _Meter()
        deadline_ms = self._clock.now_ms() + self.request.timeout_ms
        with meter.part("plan", self._trace):
            self._plan(shot)
        while True:
            with meter.part("upload", self._trace):
                self._take_arrivals()
                uploaded = self._upload(budgeted=False)
            done = all(layer.is_complete for layer in self._scene.all_layers)
            if done or uploaded or self._scene.layers[0].cover is None:
                with meter.part("cover", self._trace):
                    self._cover(shot)
            if done or self._clock.now_ms() >= deadline_ms or self._is_stuck(uploaded):
                break
            with meter.part("load_wait", self._trace):
                self._loader.wait_until(deadline_ms)
        for layer in self._scene.all_layers:
            layer.rest()
        return self._finish(shot, meter, deferred_bytes=0)

    def _stream(self, shot: Shot) -> Frame:
        if shot.starts_path:
            self._path_zero_ms = self._clock.now_ms()
        due_ms = self._path_zero_ms + shot.t_ms
        while (early_ms := due_ms - self._clock.now_ms()) > 1e-6:
            self._loader.wait(early_ms / 1000)
            self._take_arrivals()
        meter = _Meter()
        with meter.part("plan", self._trace):
            self._plan(shot)
        with meter.part("load_wait", self._trace):
            self._loader.auto_sync()
        with meter.part("upload", self._trace):
            self._take_arrivals()
            self._upload(budgeted=True)
        with meter.part("cover", self._trace):
            self._cover(shot)
        deferred = sum(tile.data.nbytes for _, tile in self._scene.waiting())
        return self._finish(shot, meter, deferred_bytes=deferred)

    def _plan(self, shot: Shot) -> None:
        lookahead_ms = self.request.settings.render.lookahead_ms
        motion = (shot.motion[0] * lookahead_ms, shot.motion[1] * lookahead_ms)
        for layer in self._scene.layers:
            if shot.settle:
                # the frame waits for what it wants: motion and neighbours would only add reads
                layer.plan(shot.state, self.request.size_px, fresh=True)
            else:
                layer.plan(
                    shot.state, self.request.size_px, motion=motion, fresh=shot.starts_path, prefetch=True
                )
        if self._scene.overview is not None:
            self._scene.overview.plan(dict(shot.state.position))

    def _take_arrivals(self) -> None:
        for arrival in self._loader.poll():
            if isinstance(arrival, FailedTile):
                self._scene.note_failure(arrival)

    def _upload(self, *, budgeted: bool) -> int:
        """Upload what has arrived, coarse first, at least one tile; returns how many. The virtual clock budgets
        by bytes only, so that a run is the same on every machine."""
        limits = self.request.settings.render
        until_s = time.perf_counter() + limits.upload_ms / 1000
        left_bytes = limits.upload_bytes
        timed = budgeted and self.request.clock == "real"
        self._scene.pin()
        count = 0
        for layer, tile in self._scene.waiting():
            if budgeted and count and (left_bytes <= 0 or (timed and time.perf_counter() >= until_s)):
                break
            size = self._scene.upload(layer, tile)
            if size:
                count += 1
                left_bytes -= size
                self._uploaded_tiles += 1
                self._uploaded_bytes += size
        return count

    def _is_stuck(self, uploaded: int) -> bool:
        """Nothing is under way that could change this view: what is waiting has no room."""
        return not uploaded and self._loader.settled()

    def _cover(self, shot: Shot) -> None:
        for layer in self._scene.all_layers:
            layer.make_cover(self.request.size_px)
        now_ms = self._clock.now_ms() - self._zero_ms
        coverage = self._scene.coverage(self.request.size_px)
        if coverage.missing < 1 - _HOLE:
            self._milestones.setdefault("first_pixel_ms", now_ms)
        if coverage.missing <= _HOLE:
            self._milestones.setdefault("full_coverage_ms", now_ms)
        if coverage.ideal + coverage.failed >= 1 - _HOLE:
            self._milestones.setdefault("ideal_ms", now_ms)
        if self._on_progress is not None:
            self._on_progress(shot, coverage.ideal)

    def _finish(self, shot: Shot, meter: _Meter, *, deferred_bytes: int) -> Frame:
        with meter.part("draw", self._trace):
            self._scene.draw()
        total_ms = 1000 * (time.perf_counter() - meter.begin_s)
        with meter.part("readback", self._trace):
            rgba = self._scene.read()
        report = self._report_frame(shot, meter.timings(total_ms), deferred_bytes)
        self._reports.append(report)
        tiles = tuple(
            tuple(sorted(tile._replace(index=layer.position) for tile in layer.drawn))
            for layer in self._scene.layers
        )
        return Frame(shot.index, shot.camera, rgba, report, tiles)

    # the report

    def _counters(self) -> tuple[LoaderStats, int, int, int]:
        return self._loader.stats(), self._scene.atlas_evicted, self._uploaded_tiles, self._uploaded_bytes

    def _report_frame(self, shot: Shot, timings: Timings, deferred_bytes: int) -> FrameReport:
        before, evicted_before, tiles_before, bytes_before = self._seen
        self._seen = stats, evicted, uploaded_tiles, uploaded_bytes = self._counters()
        gauges = Gauges(
            stats.queued, stats.loading, stats.delayed, stats.cache_bytes, self._scene.atlas_bytes
        )
        self._trace.counter("loads", queued=gauges.queued, loading=gauges.loading, delayed=gauges.delayed)
        self._trace.counter("bytes held", cache=gauges.cache_bytes, atlas=gauges.atlas_bytes)
        layers = self._scene.layers
        plans = [layer.plan_in_force for layer in layers]
        return FrameReport(
            index=shot.index,
            camera=shot.camera,
            size_px=self.request.size_px,
            t_ms=self._clock.now_ms() - self._zero_ms,
            level=plans[0].level,
            degraded=any(plan.degraded for plan in plans),
            visible_px=self._scene.visible_px(self.request.size_px),
            coverage=self._scene.coverage(self.request.size_px),
            tiles=TileCounts(
                wanted=sum(layer.wanted_count for layer in layers),
                ideal=sum(layer.ideal_count for layer in layers),
                drawn=sum(len(layer.drawn) * len(layer.parts) for layer in layers),
                requested=stats.requested - before.requested,
                loaded=stats.loaded - before.loaded,
                cache_hits=stats.cache_hits - before.cache_hits,
                cancelled=stats.cancelled - before.cancelled,
                failed=stats.failed - before.failed,
                evicted=evicted - evicted_before,
                uploaded=uploaded_tiles - tiles_before,
            ),
            bytes=ByteCounts(
                stats.bytes_read - before.bytes_read, uploaded_bytes - bytes_before, deferred_bytes
            ),
            timings_ms=timings,
            gauges=gauges,
        )

    def report(self) -> RunReport:
        """The report of the frames drawn so far."""
        stats = self._loader.stats()
        totals = totals_of(
            self._reports,
            seconds=time.perf_counter() - self._begin_s,
            **self._milestones,
            tiles_read=stats.tiles_read,
            tiles_read_twice=stats.tiles_read_twice,
            reads_wasted=stats.reads_wasted,
            bytes_read=stats.bytes_read,
            peak_cache_bytes=stats.peak_cache_bytes,
            peak_atlas_bytes=self._scene.atlas_peak_bytes,
            peak_rss_bytes=peak_rss_bytes(),
            main_thread_reads=stats.main_thread_reads,
        )
        return RunReport(
            command=self._command,
            renderer=self._scene.renderer(),
            sources=self._scene.describe_sources(),
            settings=self._scene.describe_settings(),
            frames=tuple(self._reports),
            totals=totals,
            failures=self._scene.failures(),
            started_utc=self._started_utc,
        )

    def close(self) -> None:
        """Stop loading and free everything. Closing twice is harmless."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shots(request: RenderRequest, scene: Scene) -> Iterator[Shot]:
    """Every frame of the request, in order. Views settle and paths stream unless the request says which."""
    views = [parse_camera(text, extent=scene.extent, size_px=request.size_px) for text in request.cameras]
    index, position = 0, tuple(request.index.items())
    for view, name in zip(views, unique_names(views), strict=True):
        is_path = isinstance(view, CameraPath)
        settle = request.mode == "settle" or (request.mode is None and not is_path)
        timed = view.frames() if isinstance(view, CameraPath) else [(0.0, view)]
        for number, (t_ms, camera) in enumerate(timed):
            before_ms, before = timed[max(number - 1, 0)]
            step_ms = max(t_ms - before_ms, 1e-9)
            yield Shot(
                index=index,
                state=ViewState(replace(camera, name=name), position),
                settle=settle,
                t_ms=t_ms,
                starts_path=number == 0,
                motion=((camera.y - before.y) / step_ms, (camera.x - before.x) / step_ms),
                fps=view.fps if isinstance(view, CameraPath) else None,
            )
            index += 1


def render(
    sources: Sequence[Any],
    cameras: Sequence[str] = ("fit",),
    *,
    size: str | tuple[int, int] = (1024, 768),
    options: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
) -> RunResult:
    """Draw frames of ``sources`` (bottom layer first) and return them.

    ``sources`` are paths or array objects; ``cameras`` as in ``--camera``; ``size`` is (width, height) pixels or
    a text; ``options`` are those of ``octree render`` by their long names with ``_`` for ``-``. Frames are uint8
    arrays (height, width, 4), RGBA. Raises OctreeError; a frame below its coverage is no error here: see
    ``report.frames[i].coverage``.
    """
    words = dict(options or {})
    words["size"] = size if isinstance(size, str) else f"{size[0]}x{size[1]}"
    request = parse_request(sources, cameras, words, settings=settings)
    with Renderer(request, command="octree.render.render") as renderer:
        frames = list(renderer.frames())
        return RunResult(
            [frame.rgba for frame in frames], renderer.report(), [frame.tile_set() for frame in frames]
        )
