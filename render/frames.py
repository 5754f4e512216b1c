"""The frame loop: cameras in, frames and a report out. Main thread; the one shell around the pure rooms.

*Settle* waits until every wanted tile is drawn or has failed, then draws one frame; in parts where its tiles do not
fit the atlas. *Stream* draws at the film's rate whatever has arrived, and never waits for a load; but a plane that is
late may be kept waiting for, or the last complete one be shown in its place, as ``--late`` says. Both run on the real
or the virtual clock: time passes only in ``TileLoader.wait``.
"""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import OctreeWarning, UsageError
from octree.render.config import Settings
from octree.render.loading.load_log import TextLog
from octree.render.loading.loader import LoaderStats
from octree.render.output.annotate import Title, annotated
from octree.render.output.files import FrameName
from octree.render.report.empty import Unreached
from octree.render.report.trace import NULL_TRACE, NullTrace
from octree.render.report.values import (
    ByteCounts,
    FrameReport,
    Gauges,
    Positions,
    PrefetchUse,
    Projected,
    RunReport,
    SliceReport,
    TileCounts,
    Timings,
    VolumeReport,
)
from octree.render.request import RenderRequest
from octree.render.run import Run
from octree.render.scene.frame import Frame, Kept
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.scene import coverage_of
from octree.render.scene.shown import Shown, together
from octree.render.scene.slices import slice_reports
from octree.render.scene.sources import asked
from octree.render.scene.stage import Stage
from octree.render.view.coverage import Coverage, merge_coverage
from octree.render.view.montage import Line
from octree.render.view.parts import Part, strips_of
from octree.render.view.shots import Shot
from octree.render.view.state import Section, ViewState

Rows = Callable[[NDArray[np.uint8]], None]
RowsOf = Callable[[int, tuple[int, int], bool], AbstractContextManager[Rows]]
"""Index, size (width, height) and whether there is alpha → what takes the frame's rows, (count, width, 4), from the top."""

_BAND_BYTES = 32 << 20
"""Of rows that are drawn and handed over at once."""
_HOLE = 1e-9
"""Coverage is a sum of floating-point areas: a fraction below this is none."""


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

    def so_far_ms(self) -> float:
        return 1000 * (time.perf_counter() - self.begin_s)

    def timings(self, total_ms: float) -> Timings:
        return Timings(**self.ms, total=total_ms)


@dataclass(frozen=True, slots=True)
class _Counters:
    """What had been counted when the last frame was done."""

    loader: LoaderStats = field(default_factory=LoaderStats)
    evicted: int = 0
    uploads: int = 0
    uploaded_bytes: int = 0


class Renderer(Run):
    """Draws the frames of one request. Owns sources and scene; use it in a ``with`` block.

    ``shots`` is known at once; OpenGL starts with the first frame. ``on_progress(shot, coverage fraction)``
    is called while a frame settles. ``slice_log``: a line for each slice request is appended to that file.
    """

    def __init__(
        self,
        request: RenderRequest,
        *,
        command: str = "",
        trace: NullTrace = NULL_TRACE,
        on_progress: Callable[[Shot, float], None] | None = None,
        slice_log: str | None = None,
    ) -> None:
        log = TextLog(slice_log, hint="give another --slice-log")
        try:
            super().__init__(request, command=command)
        except BaseException:
            log.close()
            raise
        self._slice_log = log
        self._stack.callback(log.close)
        self._trace = trace
        self._on_progress = on_progress
        self._zero_ms = self._path_zero_ms = 0.0
        self._kept: Kept | None = None
        self._strays = 0
        self._rows_of: RowsOf | None = None
        self._milestones: dict[str, float] = {}
        self._seen = _Counters()

    @cached_property
    def scene(self) -> Stage:
        """What is drawn, on which canvas, from which pipeline; OpenGL starts when it is first asked for."""
        scene: Stage = self._stack.enter_context(self._opened.start(self._trace, self._cells))
        scene.pipeline.slices.keep(self._slice_log)
        return scene

    def wanted_atlas_bytes(self) -> int:
        """The atlas that frames of a volume would have had room in which are degraded; 0 where none is, or no atlas would do."""
        return self._pipeline.wanted_bytes

    @property
    def _pipeline(self) -> Pipeline:
        return self.scene.pipeline

    def _now_ms(self) -> float:
        return self._pipeline.clock.now_ms()

    def frames(self, rows_of: RowsOf | None = None, *, of: range | None = None) -> Iterator[Frame]:
        """Draw every shot in order. Raises OutsideError when a source turns out to lead out of its folder.

        ``rows_of``: where the rows of settled frames go that are too large to be held as a whole; these have no pixels.
        ``of``: only these shots, as they are after those before them; times count from here."""
        shots = self.shots if of is None else self.shots[of.start : of.stop]
        self._rows_of, self._milestones = rows_of, {}
        self._zero_ms = self._path_zero_ms = self._now_ms()
        if shots:
            self.scene.stand(self.shots[of.start - 1].state if of is not None and of.start else None)
            self.scene.look_ahead(shots, waits=self.request.late == "wait")
            planes = {each.slicing for shot in shots for each in shot.state.cells or (shot.state,)}
            several = len(planes) > 1 or any(len(layer.parts) > 1 for layer in self.scene.images)
            self._pipeline.loader.expect_steps(several)
            first = shots[0]
            if first.settle:
                self.scene.plan(first.state, fresh=True, part=self._parts(first)[0])
            else:
                self._plan_moving(first)
            with _Meter().part("rehearse", self._trace):
                self.scene.rehearse()
        for shot in shots:
            frame = self._settle(shot) if shot.settle else self._stream(shot)
            self._opened.check_refused()
            yield frame

    # one frame

    def _settle(self, shot: Shot) -> Frame:
        meter = _Meter()
        deadline_ms = self._now_ms() + self.request.timeout_ms
        with meter.part("plan", self._trace):
            parts = self._parts(shot)
        shown: list[list[Shown]] = []
        if self._by_rows:
            self._settle_rows(shot, parts, deadline_ms, meter, shown)
        else:
            for part in parts:
                self._settle_part(shot, part, deadline_ms, meter, shown)
                if part is not None:
                    self._draw(shot, meter, part)
                shown.append(self.scene.shown())
        for layer in self.scene.layers:
            layer.rest()
        if parts == [None] and not self._by_rows:
            self._draw(shot, meter)
        return self._finish(shot, meter, [together(each) for each in zip(*shown, strict=True)])

    @property
    def _by_rows(self) -> bool:
        """Settled frames are handed over as they are drawn. Cells of a montage lie beside each other: it is drawn as a whole."""
        return self._rows_of is not None and self._cells is None and self.scene.canvas.is_large

    def _parts(self, shot: Shot) -> Sequence[Any]:
        return self.scene.parts(shot.state, by_rows=shot.settle and self._by_rows)

    def _settle_rows(
        self, shot: Shot, parts: Sequence[Any], deadline_ms: float, meter: _Meter, shown: list[list[Shown]]
    ) -> None:
        """Settle and draw from the top, a strip of the frame after the other; ``shown`` is added to. Handing rows over takes none of
        the time that tiles have to arrive."""
        canvas, (width, height) = self.scene.canvas, self.request.size_px
        assert self._rows_of is not None
        step = max(1, _BAND_BYTES // (4 * width))
        whole = Part(0, 0, width, height)
        with self._rows_of(shot.index, (width, height), canvas.background[3] < 1) as put:
            for strip in [[None]] if list(parts) == [None] else strips_of(parts):
                places = [part or whole for part in strip]
                first, stop = min(p.y for p in places), max(p.y + p.height for p in places)
                bands = [range(first, stop)[y : y + step] for y in range(0, stop - first, step)]
                if len(strip) > 1:
                    bands = [range(first, stop)]
                    canvas.choose_rows(first, stop)
                for part in strip:
                    self._settle_part(shot, part, deadline_ms, meter, shown)
                    shown.append(self.scene.shown())
                    if len(strip) > 1:
                        self._draw(shot, meter, part)
                began_ms = self._now_ms()
                for band in bands:
                    if len(strip) == 1:
                        canvas.choose_rows(band.start, band.stop)
                        self._draw(shot, meter, strip[0])
                    with meter.part("readback", self._trace):
                        put(canvas.take())
                deadline_ms += self._now_ms() - began_ms

    def _settle_part(
        self,
        shot: Shot,
        part: Any,
        deadline_ms: float,
        meter: _Meter,
        before: Sequence[list[Shown]],
    ) -> None:
        """Wait until everything that a part of the frame wants is drawn or has failed, or until the deadline; its
        cover is made then. ``before``: what the parts before it show."""
        with meter.part("plan", self._trace):
            # the frame waits for what it wants: motion and neighbours would only add reads
            self.scene.plan(shot.state, fresh=True, sparing=not shot.starts_path, part=part)
        self._load(shot, deadline_ms, meter, None if part is None else before)

    def _load(
        self, shot: Shot, deadline_ms: float, meter: _Meter, before: Sequence[list[Shown]] | None = None
    ) -> None:
        """Take in and upload until all that is planned is there or has failed, or until the deadline; then make its
        cover. ``before``: see ``_cover``."""
        covered, patient = False, True
        while True:
            late = self._now_ms() >= deadline_ms
            patient = patient and not late
            with meter.part("upload", self._trace):
                self._pipeline.take_in(wait=False)
                uploaded = self._pipeline.upload(budgeted=False, patient=patient)
            done = self.scene.is_complete
            # what waits has no room when nothing is under way that could change this view
            stuck = not uploaded and not self._pipeline.is_loading
            last = done or stuck or late
            if last and patient and not done:  # then with what stands in
                patient = False
                continue
            # a cover is the dearest part of a turn: those that nobody draws are for milestones and watchers
            news = uploaded or (not covered and (self._on_progress is not None or self.scene.holds_some))
            if last or (news and self._is_watched):
                with meter.part("cover", self._trace):
                    self._cover(shot, before)
                covered = True
            if last:
                break
            with meter.part("load_wait", self._trace):
                self._pipeline.loader.wait_until(deadline_ms)

    @property
    def _is_watched(self) -> bool:
        """What a frame shows before it is done is news to somebody."""
        return self._on_progress is not None or "ideal_ms" not in self._milestones or self.scene.is_news

    def _stream(self, shot: Shot) -> Frame:
        if shot.starts_path:
            if self.scene.steps:
                self._begin(shot)
            self._path_zero_ms, self._kept = self._now_ms(), None
        due_ms = self._path_zero_ms + shot.t_ms
        while (early_ms := due_ms - self._now_ms()) > 1e-6:
            self._pipeline.loader.wait(early_ms / 1000)
            self._pipeline.take_in(wait=False)
        meter = _Meter()
        with meter.part("plan", self._trace):
            self._plan_moving(shot)
        with meter.part("load_wait", self._trace):
            self._pipeline.take_in()
        with meter.part("upload", self._trace):
            self._pipeline.upload(budgeted=True)
        late, kept = not self.scene.is_complete, self._kept
        if late and self.request.late == "hold" and kept and kept.shot.position != shot.position:
            now = self._report_frame(shot, meter.timings(meter.so_far_ms()), kept.shown)
            return self._told(kept.instead_of(shot, now, mark=self.request.mark_pending))
        if late and self.request.late == "wait":
            self._wait_for(shot, meter)
        else:
            with meter.part("cover", self._trace):
                self._cover(shot)
        self._draw(shot, meter)
        shown = self.scene.shown()
        frame = self._finish(shot, meter, shown, late=late)
        if self.scene.is_complete:
            self._kept = Kept(shot, frame, shown)
        return frame

    def _wait_for(self, shot: Shot, meter: _Meter) -> None:
        """The rest of the film comes so much later."""
        begin_ms = self._now_ms()
        self._load(shot, begin_ms + self.request.timeout_ms, meter)
        self._path_zero_ms += self._now_ms() - begin_ms

    def _begin(self, shot: Shot) -> None:
        """A film over planes begins when its first one can be shown without a hole."""
        deadline_ms = self._now_ms() + self.request.timeout_ms
        self._plan_moving(shot)
        while True:
            self._pipeline.take_in(wait=False)
            self._pipeline.upload(budgeted=True)
            if self.scene.make_cover().missing <= _HOLE or not self._pipeline.is_loading:
                return
            if not self._pipeline.loader.wait_until(deadline_ms):
                return

    def _plan_moving(self, shot: Shot) -> None:
        self.scene.plan(shot.state, motion=shot.motion, fresh=shot.starts_path, prefetch=True)

    def _cover(self, shot: Shot, before: Sequence[list[Shown]] | None = None) -> None:
        """``before``: what other parts of the frame show; what is left of it shows nothing yet. None: it is whole."""
        coverage = self.scene.make_cover()
        if before is not None:
            shown = [*itertools.chain.from_iterable(before), *self.scene.shown()]
            left = self.scene.covered_px() - sum(each.visible_px for each in shown)
            parts = [(each.coverage, each.visible_px) for each in shown]
            coverage = merge_coverage([*parts, (Coverage(ideal=0.0, missing=1.0), left)])
        self.scene.see(coverage)
        now_ms = self._now_ms() - self._zero_ms
        if coverage.missing < 1 - _HOLE:
            self._milestones.setdefault("first_pixel_ms", now_ms)
        if coverage.missing <= _HOLE:
            self._milestones.setdefault("full_coverage_ms", now_ms)
        if coverage.ideal + coverage.failed >= 1 - _HOLE:
            self._milestones.setdefault("ideal_ms", now_ms)
        if self._on_progress is not None:
            self._on_progress(shot, coverage.ideal)

    def _draw(self, shot: Shot, meter: _Meter, part: Any = None) -> None:
        with meter.part("draw", self._trace):
            self.scene.draw(part)
        self._strays += self.scene.strays(shot.state)

    def _finish(self, shot: Shot, meter: _Meter, shown: Sequence[Shown], *, late: bool = False) -> Frame:
        total_ms = meter.so_far_ms() - meter.ms.get("readback", 0.0)
        rgba = np.empty((0, self.request.size_px[0], 4), np.uint8)
        if not (shot.settle and self._by_rows):
            with meter.part("readback", self._trace):
                rgba = annotated(self.scene.canvas.take(), *self._annotations(shot.state))
        report = self._report_frame(shot, meter.timings(total_ms), shown, late=late)
        tiles = tuple(
            tuple(sorted(tile._replace(index=layer.position) for tile in each.drawn))
            for layer, each in zip(self.scene.images, shown, strict=True)
        )
        return self._told(Frame(shot.index, shot.camera, rgba, report, tiles))

    def _told(self, frame: Frame) -> Frame:
        self._reports.append(frame.report)
        return frame

    def _annotations(self, state: ViewState) -> tuple[list[Title], list[Line]]:
        cells = self._cells
        if cells is None:
            return [], []
        titles = [] if self.request.no_titles else [Title(cell.place, cell.title) for cell in cells.cells]
        return titles, cells.lines(state)

    # the report

    def _report_frame(
        self, shot: Shot, timings: Timings, shown: Sequence[Shown], *, late: bool = False
    ) -> FrameReport:
        pipeline, memory, coverage = self._pipeline, self._pipeline.memory, coverage_of(shown)
        strays, self._strays = self._strays, 0
        before = self._seen
        now = self._seen = _Counters(
            pipeline.loader.stats(), memory.evicted, memory.uploads, pipeline.uploaded_bytes
        )
        stats, was = now.loader, before.loader
        gauges = Gauges(stats.queued, stats.loading, stats.delayed, stats.cache_bytes, memory.bytes)
        self._trace.counter("loads", queued=gauges.queued, loading=gauges.loading, delayed=gauges.delayed)
        self._trace.counter("bytes held", cache=gauges.cache_bytes, atlas=gauges.atlas_bytes)
        if coverage.missing + coverage.failed <= _HOLE and all(each.unreached for each in shown):
            self._unreached[shot.index] = Unreached(*max(each.unreached for each in shown if each.unreached))
        if (remote := self._opened.requests).requests:
            self._trace.counter("requests", **remote.to_json())
        # a settled frame is done with what is left: nothing is put off
        deferred = 0 if shot.settle else sum(tile.data.nbytes for _, tile in pipeline.waiting())
        return FrameReport(
            index=shot.index,
            camera=shot.camera,
            size_px=self.request.size_px,
            t_ms=self._now_ms() - self._zero_ms,
            level=shown[0].level,
            degraded=any(each.degraded for each in shown),
            visible_px=self.scene.visible_px(),
            displayed="".join(shot.state.slicing.displayed),
            projected=_projected(self.scene.images[0].section),
            position=Positions(shot.position, shot.position),
            late=late,
            cells=() if self._cells is None else self._cells.reports(shot.state),
            volume=_volume(self.request, shown),
            coverage=coverage,
            tiles=TileCounts(
                wanted=sum(each.wanted_count for each in shown),
                ideal=sum(each.ideal_count for each in shown),
                drawn=sum(each.drawn_count for each in shown),
                wrong_plane=strays,
                requested=stats.requested - was.requested,
                loaded=stats.loaded - was.loaded,
                cache_hits=stats.cache_hits - was.cache_hits,
                cancelled=stats.cancelled - was.cancelled,
                failed=stats.failed - was.failed,
                evicted=now.evicted - before.evicted,
                uploaded=now.uploads - before.uploads,
            ),
            bytes=ByteCounts(
                stats.bytes_read - was.bytes_read, now.uploaded_bytes - before.uploaded_bytes, deferred
            ),
            timings_ms=timings,
            gauges=gauges,
        )

    def counts(self) -> dict[str, Any]:
        """What has been counted so far, as ``totals_of`` takes it."""
        stats = self._pipeline.loader.stats()
        return {
            **self._milestones,
            "tiles_read": stats.tiles_read,
            "tiles_read_twice": stats.tiles_read_twice,
            "reads_wasted": stats.reads_wasted,
            "tiles_read_along": stats.tiles_read_along,
            "prefetch": PrefetchUse(stats.prefetch_used, stats.prefetch_wasted),
            "bytes_read": stats.bytes_read,
            "peak_cache_bytes": stats.peak_cache_bytes,
            "peak_atlas_bytes": self._pipeline.memory.peak_bytes,
            "main_thread_reads": stats.main_thread_reads,
            "remote": self._opened.requests,
        }

    def slices(self) -> tuple[SliceReport, ...]:
        """The planes that were asked for so far."""
        self._pipeline.slices.note_unread()
        return slice_reports(self._pipeline.slices.all or (), self._zero_ms)

    @property
    def unreached(self) -> dict[int, Unreached]:
        """Frames of a surface that is nowhere, by index."""
        return self._unreached

    def failures(self) -> list[dict[str, Any]]:
        """What could not be read so far."""
        return self._pipeline.failures(self.scene)

    def report(self) -> RunReport:
        """The report of the frames drawn so far."""
        return self._report(self.scene.canvas.info.to_json(), self.slices(), self.counts(), self.failures())


def _projected(section: Section) -> Projected | None:
    for axis, first, stop in section.spans:
        if axis == section.projected and section.method is not None:
            return Projected(axis, section.method, first, stop)
    return None


def _volume(request: RenderRequest, shown: Sequence[Shown]) -> VolumeReport | None:
    samples = [each.samples for each in shown if each.samples is not None]
    if request.volume is None or not samples:
        return None
    return VolumeReport(
        request.volume.mode,
        sum(each.count for each in samples),
        min(each.step_world for each in samples),
        sum(each.drawn_count for each in shown),
    )


def names_of(shots: Sequence[Shot]) -> list[FrameName]:
    """What the files of these frames may be named by."""
    return [FrameName(shot.camera.name, shot.position, shot.fps) for shot in shots]


def render(
    sources: Any,
    cameras: str | Sequence[str] = ("fit",),
    *,
    size: str | tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
) -> RunResult:
    """Draw frames of ``sources`` (bottom layer first) and return them.

    ``sources`` are paths or array objects, or one of them; ``cameras`` as in ``--camera``, or one; ``size`` is (width, height) pixels or
    a text, 1024x768 by default; ``options`` are those of ``octree render`` by their long names with ``_`` for ``-``. Frames are uint8
    arrays (height, width, 4), RGBA. Raises OctreeError; a frame below its coverage is no error here: see
    ``report.frames[i].coverage``. Frames that show nothing of the image are an OctreeWarning, unless ``allow_empty``.
    """
    request = _asked(sources, cameras, size, options, settings)
    with Renderer(request, command="octree.render.render") as renderer:
        frames = list(renderer.frames())
        if (found := renderer.emptiness()) is not None:
            warnings.warn(found.message, OctreeWarning, stacklevel=2)
        return RunResult(
            [frame.rgba for frame in frames], renderer.report(), [frame.tile_set() for frame in frames]
        )


def iter_frames(
    sources: Any,
    cameras: str | Sequence[str] = ("fit",),
    *,
    size: str | tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
) -> Iterator[Frame]:
    """As ``render``, frame after frame: each is drawn when it is asked for, and none is kept. What is open is closed with
    the iterator, at its end or before."""
    with Renderer(
        _asked(sources, cameras, size, options, settings), command="octree.render.iter_frames"
    ) as renderer:
        yield from renderer.frames()
        if (found := renderer.emptiness()) is not None:
            warnings.warn(found.message, OctreeWarning, stacklevel=2)


def _asked(
    sources: Any,
    cameras: str | Sequence[str],
    size: str | tuple[int, int] | None,
    options: Mapping[str, Any] | None,
    settings: Settings | None,
) -> RenderRequest:
    words = dict(options or {})
    if size is not None:
        if words.get("size") is not None:
            raise UsageError("size is given twice", hint="give size=, or options with a size")
        words["size"] = size if isinstance(size, str) else f"{size[0]}x{size[1]}"
    one = (
        isinstance(sources, str | os.PathLike)
        or hasattr(sources, "shape")
        or not isinstance(sources, Iterable)
    )
    return asked(
        [sources] if one else sources,
        [cameras] if isinstance(cameras, str) else cameras,
        words,
        settings=settings,
    )
