"""How far a build is, on stderr: a bar on a terminal, a line now and then elsewhere, or JSON lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from octree.cli.console import err_console, say, say_json
from octree.pyramid.units import bytes_text

if TYPE_CHECKING:
    from octree.pyramid.building.work import Progress

MODES = ("auto", "bar", "plain", "json", "none")
FIRST_LINE_S, LINE_EVERY_S, JSON_EVERY_S = 2.0, 5.0, 0.5


class Reporter:
    """Says nothing. Used by the thread that builds."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to tidy."""

    def update(self, progress: Progress) -> None:
        """The build is this far."""

    def _rate_and_left(self, progress: Progress) -> tuple[float, float | None]:
        """Bytes a second in this run, and seconds left; None while nothing is known."""
        passed = time.monotonic() - self._began
        rate = (progress.bytes_done - progress.resumed_bytes) / passed if passed > 0 else 0.0
        left = (progress.bytes_total - progress.bytes_done) / rate if rate > 0 else None
        return rate, left


class Lines(Reporter):
    """One line now and then; none for what is over at once."""

    def __init__(self, every_s: float, first_s: float) -> None:
        super().__init__()
        self._every_s, self._next = every_s, self._began + first_s

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if now >= self._next or (self._every_s == JSON_EVERY_S and progress.tasks_done == progress.tasks):
            self._next = now + self._every_s
            self._say(progress)

    def _say(self, progress: Progress) -> None:
        rate, left = self._rate_and_left(progress)
        share = 100 * progress.bytes_done / max(1, progress.bytes_total)
        ending = f", about {left:.0f} s left" if left is not None else ""
        say(
            f"{share:.0f} %: {bytes_text(progress.bytes_done)} of {bytes_text(progress.bytes_total)}, "
            f"{bytes_text(rate)}/s{ending}"
        )


class JsonLines(Lines):
    """JSON objects, one a line."""

    def _say(self, progress: Progress) -> None:
        rate, left = self._rate_and_left(progress)
        facts: dict[str, Any] = {
            "tasks_done": progress.tasks_done,
            "tasks": progress.tasks,
            "bytes_done": progress.bytes_done,
            "bytes_total": progress.bytes_total,
            "bytes_per_second": rate,
            "seconds_left": left,
        }
        say_json({"progress": facts})


class Bar(Reporter):
    """A bar with rate and time left."""

    def __init__(self) -> None:
        super().__init__()
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            "building",
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=err_console(),
            transient=True,
        )
        self._row = self._bar.add_task("", total=None, rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, progress: Progress) -> None:
        rate, _ = self._rate_and_left(progress)  # rich's own column counts in MB
        self._bar.update(
            self._row, completed=progress.bytes_done, total=progress.bytes_total, rate=f"{bytes_text(rate)}/s"
        )


def make_reporter(mode: str, *, quiet: bool = False) -> Reporter:
    """The reporter of ``--progress``. Raises UsageError."""
    from octree.pyramid.errors import UsageError

    if mode not in MODES:
        raise UsageError(f"--progress: there is no {mode!r}", hint=f"use {', '.join(MODES)}")
    if mode == "none" or quiet:
        return Reporter()
    if mode == "json":
        return JsonLines(JSON_EVERY_S, 0.0)
    if mode == "bar" or (mode == "auto" and sys.stderr.isatty()):
        return Bar()
    return Lines(LINE_EVERY_S, FIRST_LINE_S)
