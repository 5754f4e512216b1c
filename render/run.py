"""One run before anything is drawn: its sources opened, its frames listed. What is said of it when all are drawn."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from octree.pyramid.errors import UsageError
from octree.pyramid.memory import peak_rss_bytes
from octree.render.report.empty import Emptiness, Unreached, emptiness
from octree.render.report.values import FrameReport, RunReport, SliceReport, totals_of, utc_now
from octree.render.request import RenderRequest, check_length
from octree.render.scene.cells import Cells, cells_of
from octree.render.scene.sources import OpenedSources, open_sources
from octree.render.view.shots import Film


class Run:
    """The sources and ``shots`` of one request; whoever draws them adds to the reports. Owns the sources; use it in a ``with`` block."""

    def __init__(self, request: RenderRequest, *, command: str = "") -> None:
        self.request = request
        self._command = command
        self._started_utc = utc_now()
        self._begin_s = time.perf_counter()
        self._reports: list[FrameReport] = []
        self._unreached: dict[int, Unreached] = {}
        with ExitStack() as stack:
            opened = stack.enter_context(open_sources(request))
            film = _film_of(opened) if request.montage is None else cells_of(opened)
            check_length(film.check())
            if request.late is not None and not film.steps:
                raise UsageError(
                    "--late without a film over an index: no frame is of another plane",
                    hint="a range such as --index t=0:50, or keyframes that move along an axis; "
                    f"axes: {', '.join(opened.lengths) or 'none'}",
                )
            self._cells = film if isinstance(film, Cells) else None
            self._opened = replace(opened, request=replace(opened.request, moved=film.moved))
            self.shots = tuple(film.shots())
            if request.fps is not None and not any(shot.fps for shot in self.shots):
                raise UsageError(
                    "--fps without a film: all planes are in one frame",
                    hint="a film is a camera path, or a range that --montage leaves: of several the first",
                )
            self._stack = stack.pop_all()

    def emptiness(self) -> Emptiness | None:
        """What is to be said of frames that show nothing of the image, once all are drawn; None where they may, or none does."""
        if self.request.allow_empty:
            return None
        settled = [shot.settle for shot in self.shots]
        return emptiness(self._reports, settled, self._opened.extent, self._unreached)

    def hints(self) -> list[str]:
        """What would make frames of these sources faster."""
        return self._opened.hints()

    def _report(
        self,
        renderer: dict[str, Any],
        slices: tuple[SliceReport, ...],
        counts: dict[str, Any],
        failures: list[dict[str, Any]],
    ) -> RunReport:
        """The report of the frames drawn so far. ``counts``: what ``totals_of`` takes."""
        before = self._opened.requests
        described = self._opened.describe()  # its requests count, too
        counts["remote"] = counts["remote"].plus(self._opened.requests.since(before))
        counts["peak_rss_bytes"] = max(peak_rss_bytes(), counts.get("peak_rss_bytes", 0))
        return RunReport(
            command=self._command,
            renderer=renderer,
            sources=described,
            settings=self._opened.settings(),
            frames=tuple(self._reports),
            slices=slices,
            totals=totals_of(self._reports, slices, seconds=time.perf_counter() - self._begin_s, **counts),
            failures=failures,
            started_utc=self._started_utc,
        )

    def close(self) -> None:
        """Free everything. Closing twice is harmless."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _film_of(opened: OpenedSources) -> Film:
    """What the request shows of its sources."""
    request = opened.request
    film = Film(
        [opened.camera(text, request.size_px) for text in request.cameras],
        request.slicing,
        request.ranges,
        opened.lengths,
        mode=request.mode,
        fps=request.fps,
    )
    return replace(film, channels=opened.channels(film.moved))
