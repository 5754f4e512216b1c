"""Settled frames of one run, drawn by several processes: groups of neighbouring frames, one renderer in each process.

A settled frame stands alone, so whoever draws it draws the same bytes, on the same OpenGL; that is compared. What moves, and
the virtual clock, is one process's: there a frame is what had arrived by then.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from octree.pyramid.building.executors import Calls, in_window, never
from octree.pyramid.building.options import usable_cores
from octree.pyramid.building.schedulers import make_calls
from octree.pyramid.errors import GLError, OctreeError, UsageError
from octree.render.farm_worker import Drawn, GroupDrawn, Order, draw_group, forget, renderer_here
from octree.render.report.values import RunReport, SliceReport
from octree.render.request import RenderRequest
from octree.render.run import Run
from octree.render.view.camera_text import is_path
from octree.render.view.shots import Shot

LEAST_GROUP = 16
"""Frames of a group at least: a first frame costs more than those after it, which share its tiles."""
MOST_GROUP = 64
"""Frames of a group, so that they come now and then, and a worker that is lost costs little."""
GROUPS_EACH = 4
"""For each worker at least, so that all end at about the same time."""
GROUP_BYTES = 1 << 30
"""Of uncompressed frames that one answer may hold."""
HINT = "each worker holds --cache and --atlas"


class Farm(Run):
    """Draws the frames of one request in ``calls``' processes, or those that ``scheduler`` means. As ``Renderer`` to whoever uses
    it, but that frames come as PNGs. ``on_progress(shot, coverage fraction)`` is called for each frame when it has come.

    Raises UsageError for what one process must draw, SourceError, GLError where workers draw with other OpenGLs."""

    def __init__(
        self,
        request: RenderRequest,
        scheduler: Any,
        *,
        command: str = "",
        on_progress: Callable[[Shot, float], None] | None = None,
    ) -> None:
        _check(request)
        super().__init__(request, command=command)
        with ExitStack() as stack:
            stack.callback(self.close)
            if moving := [shot for shot in self.shots if not shot.settle]:
                raise UsageError(
                    f"--scheduler: {moving[0].camera.name} is streamed, and what a moving frame shows is what has arrived in one "
                    "process by then",
                    hint="--settle draws its frames in several processes; or leave --scheduler out",
                )
            self._calls: Calls = make_calls(scheduler, usable_cores(), hint=HINT)
            stack.pop_all()
        self._stack.enter_context(self._calls)
        self._on_progress = on_progress
        self._groups: list[GroupDrawn] = []
        self._slices: list[SliceReport] = []
        self._renderer: dict[str, Any] = {}
        self._wanted_bytes = 0

    def frames(self, *, by_rows: bool = False) -> Iterator[Drawn]:
        """Every frame in order. ``by_rows``: large ones need not be held whole, as they become PNGs."""
        began_s = time.time()
        order = Order(uuid.uuid4().hex, _absolute(self.request), by_rows)
        check_alike(self._calls.everywhere(renderer_here, self.request.gl))
        waiting: dict[int, GroupDrawn] = {}
        index = 0
        try:
            for group in in_window(
                lambda span: self._calls.submit(draw_group, order, span.start, span.stop),
                groups_of(
                    len(self.shots),
                    self._calls.workers,
                    4 * self.request.size_px[0] * self.request.size_px[1],
                ),
                self._calls.workers + 1,
                never,
            ):
                waiting[group.frames[0].index] = group
                while index in waiting:
                    yield from self._arrived(waiting[index], began_s)
                    index = waiting.pop(index).frames[-1].index + 1
        except BaseException:
            self._calls.abandon()
            raise
        self._calls.everywhere(forget, order.run)

    def _arrived(self, group: GroupDrawn, began_s: float) -> Iterator[Drawn]:
        check_alike([self._renderer or group.renderer, group.renderer])
        self._renderer = group.renderer
        later_ms = max(0.0, 1000 * (group.began_s - began_s))
        milestones = {name: value + later_ms for name, value in group.counts.items() if name.endswith("_ms")}
        self._groups.append(replace(group, frames=(), counts={**group.counts, **milestones}))
        self._slices += [_later(each, later_ms) for each in group.slices]
        self._unreached |= group.unreached
        self._wanted_bytes = max(self._wanted_bytes, group.wanted_atlas_bytes)
        for drawn in group.frames:
            report = replace(drawn.report, t_ms=drawn.report.t_ms + later_ms)
            self._reports.append(report)
            if self._on_progress is not None:
                self._on_progress(self.shots[drawn.index], report.coverage.ideal)
            yield replace(drawn, report=report)

    def wanted_atlas_bytes(self) -> int:
        """See ``Renderer``."""
        return self._wanted_bytes

    def report(self) -> RunReport:
        """The report of the frames that have come: counts are sums over all processes, peaks those of the one that held most."""
        given = dict(zip(_absolute(self.request).sources, self.request.sources, strict=True))
        failures = {
            (given.get(each["source"], each["source"]), *map(str, each["key"].values())): each
            for group in self._groups
            for each in group.failures
        }
        lost = [
            {**each, "source": key[0]} for key, each in sorted(failures.items(), key=lambda pair: pair[0])
        ]
        return self._report(
            self._renderer, tuple(self._slices), _sum([group.counts for group in self._groups]), lost
        )


def check_alike(found: Sequence[dict[str, Any] | OctreeError]) -> None:
    """Raises GLError unless all workers draw with one OpenGL, and one octree: else frames depend on who draws them."""
    for one in found:
        if isinstance(one, OctreeError):
            raise one
        for name in ("fingerprint", "octree_version"):
            first = found[0]
            if not isinstance(first, OctreeError) and first.get(name) != one.get(name):
                raise GLError(
                    f"the workers draw with different renderers: {first.get(name)} and {one.get(name)}",
                    hint="frames are the same on one renderer only: use workers with the same OpenGL and the same octree",
                )


def _check(request: RenderRequest) -> None:
    if request.clock == "virtual":
        raise UsageError(
            "--scheduler with --clock virtual: on the virtual clock every frame depends on what was loaded before it",
            hint="leave --scheduler out: one process draws such films",
        )
    if request.mode == "stream":
        raise UsageError(
            "--scheduler with --stream: what a moving frame shows is what has arrived in one process by then",
            hint="--settle draws its frames in several processes; or leave --scheduler out",
        )
    if not all(isinstance(source, str | os.PathLike) for source in request.sources):
        raise UsageError(
            "an array in memory cannot be sent to other processes",
            hint="save it to a file first, or leave the scheduler out",
        )


def _absolute(request: RenderRequest) -> RenderRequest:
    """The same for workers in other folders."""
    here = os.getcwd()

    def named(path: Any) -> str:
        text = os.fspath(path)
        return text if "://" in text else os.path.join(here, text)

    return replace(
        request,
        sources=tuple(map(named, request.sources)),
        cameras=tuple(
            named(text) if is_path(text) and os.path.exists(text) else text for text in request.cameras
        ),
    )


def groups_of(frames: int, workers: int, frame_bytes: int) -> Iterator[range]:
    """Contiguous groups of about the same size: as many for each worker, of at least ``LEAST_GROUP`` frames, but of large frames no
    more than an answer may hold."""
    least = max(1, min(LEAST_GROUP, GROUP_BYTES // frame_bytes))
    count = max(1, min(frames // least, max(GROUPS_EACH * workers, -(-frames // MOST_GROUP))))
    count -= count % workers if count > workers else 0
    count = max(count, -(-frames * frame_bytes // GROUP_BYTES))
    edges = [frames * number // count for number in range(count + 1)]
    return (range(first, stop) for first, stop in itertools.pairwise(edges) if first < stop)


def _later(each: SliceReport, by_ms: float) -> SliceReport:
    times = ("requested_ms", "first_ms", "full_ms", "complete_ms")
    known = {name: getattr(each, name) for name in times}
    return replace(each, **{name: value + by_ms for name, value in known.items() if value is not None})


def _sum(groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of counters the sum, of peaks the highest, of milestones the first."""
    total: dict[str, Any] = {}
    for counts in groups:
        for name, value in counts.items():
            if name not in total:
                total[name] = value
            elif name.startswith("peak_"):
                total[name] = max(total[name], value)
            elif name.endswith("_ms"):
                total[name] = min(total[name], value)
            elif name == "prefetch":
                was = total[name]
                total[name] = replace(was, used=was.used + value.used, wasted=was.wasted + value.wasted)
            elif name == "remote":
                total[name] = total[name].plus(value)
            else:
                total[name] += value
    return total
