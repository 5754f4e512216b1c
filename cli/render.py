"""``octree render``: frames without a screen."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octree.cli.options import Debug, Json, Quiet, given_of, warn_of_tcp, with_options
from octree.render.option_table import OUT, OUTPUTS, RENDER, SPREAD, VIEW

if TYPE_CHECKING:
    from octree.render.farm import Farm
    from octree.render.frames import Renderer
    from octree.render.report.trace import NullTrace
    from octree.render.report.values import FrameReport, RunReport
    from octree.render.request import RenderRequest
    from octree.render.view.shots import Shot

GIF_MAX_PX = 65535


@with_options(RENDER, SPREAD, OUTPUTS)
def render(
    source: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Pyramids, or any SOURCE of build; layers, bottom first."),
    ],
    camera: Annotated[
        list[str] | None,
        typer.Option(
            "--camera",
            help="fit, x=..,y=..,zoom=.., rect=x0,y0,x1,y1, path.json, zoom-in, pan or tour; of volumes "
            "azimuth=30,elevation=20 or turntable. Level-0 pixels; zoom is screen pixels per level-0 pixel. Several are "
            "several views.",
            rich_help_panel=VIEW,
            show_default="fit",
        ),
    ] = None,
    progress: Annotated[
        str, typer.Option(help="auto, bar, plain, json or none.", rich_help_panel=OUT)
    ] = "auto",
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    **given: Any,
) -> None:
    """Draw frames of SOURCE without a screen.

    Frames are PNG files (-o); --report says what each frame showed and what it cost.
    """
    from octree.render.scene.sources import asked

    request = asked(source, camera or (), given_of(RENDER, given))
    outputs = OUTPUTS.read(given_of(OUTPUTS, given))
    files = {name: Path(outputs[name]) if outputs[name] else None for name in ("report", "html", "trace")}
    job = _Job(
        output=outputs["output"],
        monitor=outputs["monitor"],
        slice_log=outputs["slice_log"],
        **files,
        as_json=json_,
        progress="none" if quiet else progress,
        quiet=quiet,
        scheduler=SPREAD.read(given_of(SPREAD, given))["scheduler"],
    )
    raise typer.Exit(job.run(request))


@dataclass(frozen=True, slots=True)
class _Job:
    """Where everything goes that one run produces."""

    output: str | None
    report: Path | None
    html: Path | None
    trace: Path | None
    monitor: str | None
    slice_log: str | None
    as_json: bool
    progress: str
    quiet: bool
    scheduler: str | None

    def check(self, size_px: tuple[int, int]) -> None:
        """Refuse what cannot be meant, before anything is opened."""
        from octree.pyramid.errors import UsageError
        from octree.render.output.files import check_destination

        written = (self.output, self.report, self.html, self.trace, self.monitor, self.slice_log)
        if not (any(written) or self.as_json):
            raise UsageError("nothing to write", hint="give -o frame.png, --report report.json or --json")
        to_stdout = [
            name
            for name, wanted in (
                ("-o -", self.output == "-"),
                ("--monitor -", self.monitor == "-"),
                ("--json", self.as_json),
            )
            if wanted
        ]
        if len(to_stdout) > 1:
            raise UsageError(f"{' and '.join(to_stdout)} would both write to stdout")
        if str(self.output).lower().endswith(".gif") and max(size_px) > GIF_MAX_PX:
            raise UsageError(
                f"a GIF is at most {GIF_MAX_PX} pixels on a side, not {size_px[0]}x{size_px[1]}",
                hint="write numbered .png files, or a smaller --size",
            )
        for name, given in (("trace", self.trace), ("slice-log", self.slice_log)):
            if given and self.scheduler is not None:
                raise UsageError(
                    f"--{name} with --scheduler: it follows one process, and frames are drawn by several",
                    hint=f"leave out --{name}, or --scheduler",
                )
        if self.progress not in PROGRESS:
            raise UsageError(f"unknown --progress {self.progress!r}", hint=f"choose {', '.join(PROGRESS)}")
        for path in (self.report, self.html, self.trace):
            if path is not None:
                check_destination(path)

    def run(self, request: RenderRequest) -> int:
        """Render, write everything, and return the exit code."""
        from octree.cli.console import print_json, say
        from octree.render.frames import Renderer
        from octree.render.report.trace import NULL_TRACE, Trace

        self.check(request.size_px)
        trace = Trace() if self.trace else NULL_TRACE
        with ExitStack() as stack:
            watch = stack.enter_context(_watch(self.progress))
            command = shlex.join(["octree", *sys.argv[1:]])
            renderer: Renderer | Farm
            if self.scheduler is None:
                renderer = Renderer(
                    request, command=command, trace=trace, on_progress=watch, slice_log=self.slice_log
                )
            else:
                from octree.render.farm import Farm

                warn_of_tcp(self.scheduler)
                renderer = Farm(request, self.scheduler, command=command, on_progress=watch)
            stack.enter_context(renderer)
            if not self.quiet:
                for hint in renderer.hints():
                    say(f"hint:  {hint}")
            kept = self._draw(renderer, stack)
            report, atlas_bytes = renderer.report(), renderer.wanted_atlas_bytes()
        document = report.to_json()
        self._write(document, kept, trace)
        if self.as_json:
            print_json(document)
        _say_degraded(report, atlas_bytes)
        _say_skipped(report)
        empty = _say_empty(renderer)
        judged = _judge(request, renderer.shots, report)
        if not judged:
            _say_lost(report)
            _say_left(report)
        return judged or empty

    def _draw(self, renderer: Renderer | Farm, stack: ExitStack) -> list[bytes]:
        """Draw every frame; frames are encoded while the next ones are drawn. The PNGs for the HTML report."""
        from octree.render.frames import Renderer, names_of
        from octree.render.output.encode import FrameWriter, PngKeeper
        from octree.render.report.monitor import Monitor

        writer: FrameWriter | None = None
        if self.output is not None:
            writer = stack.enter_context(FrameWriter(self.output, names_of(renderer.shots)))
        monitor = stack.enter_context(Monitor(self.monitor)) if self.monitor else None
        keeper = stack.enter_context(PngKeeper()) if self.html else None
        by_rows = writer is not None and writer.takes_rows and keeper is None
        if isinstance(renderer, Renderer):
            for frame in renderer.frames(writer.rows if writer is not None and by_rows else None):
                if writer is not None and len(frame.rgba):
                    writer.put(frame.index, frame.rgba)
                if monitor is not None:
                    monitor.frame(frame.report)
                if keeper is not None:
                    keeper.put(frame.rgba)
        else:
            for drawn in renderer.frames(by_rows=by_rows):
                if writer is not None:
                    writer.put_png(drawn.index, drawn.png)
                if monitor is not None:
                    monitor.frame(drawn.report)
                if keeper is not None:
                    keeper.put_png(drawn.png)
        if monitor is not None:
            monitor.end(renderer.report().totals.to_json())
        return keeper.pngs() if keeper is not None else []

    def _write(self, document: dict[str, Any], kept: list[bytes], trace: NullTrace) -> None:
        from octree.pyramid.foreign import json_text
        from octree.render.output.files import atomic_file

        if self.report is not None:
            text = json_text(document, indent=2)
            with atomic_file(self.report) as partial:
                partial.write_text(text + "\n", encoding="utf-8")
        if self.html is not None:
            from octree.render.report.html import write_html

            write_html(self.html, document, kept)
        if self.trace is not None:
            trace.write(self.trace)


def _say_degraded(report: RunReport, atlas_bytes: int) -> None:
    """What moves is not drawn in parts, nor are volumes: it may be coarser than it should be. ``atlas_bytes`` would do; 0: not
    known."""
    from octree.cli.console import say

    degraded = [frame for frame in report.frames if frame.degraded]
    if not degraded:
        return
    what, helps = "tiles", "give more --atlas, or --settle, which draws in parts"
    if degraded[0].volume is not None:
        mib = -(-atlas_bytes // 2**20)
        mib = mib if mib < 64 else -(-mib // 64) * 64
        more = f"give --atlas {mib}MiB, or ask for less with" if atlas_bytes else "ask for less with"
        what, helps = "bricks", f"{more} --detail 2, --clip or --slab"
    say(
        f"warning: {len(degraded)} of {len(report.frames)} frames are coarser than the zoom asks for: the atlas has no room "
        f"for all {what} of the view at once; {helps}"
    )


def _say_empty(renderer: Renderer | Farm) -> int:
    """1 when a frame shows nothing of the image that should, which is said."""
    from octree.cli.console import say

    found = renderer.emptiness()
    if found is not None:
        say(f"{'error' if found.fails else 'warning'}: {found.message}")
        say(f"hint:  {found.hint}")
    return int(found is not None and found.fails)


def _say_skipped(report: RunReport) -> None:
    """A film that keeps what is complete may never show what is not."""
    from octree.cli.console import say

    count = report.totals.skipped_planes
    if count:
        say(
            f"warning: {count} of the film's planes {'is' if count == 1 else 'are'} shown by no frame: they were not "
            "complete in time; --late wait shows all, a lower --fps gives them more time"
        )


UNREADABLE = "the tiles above could not be read; octree verify --deep finds what is damaged in a pyramid"


def _judge(request: RenderRequest, shots: Sequence[Shot], report: RunReport) -> int:
    """0, or 1 with the reason when a frame stayed below the coverage that was asked for."""
    from octree.cli.console import say

    low = [
        (frame, wanted)
        for shot, frame in zip(shots, report.frames, strict=True)
        for wanted in (request.min_coverage if request.min_coverage is not None else float(shot.settle),)
        if frame.coverage.ideal < wanted - 1e-9
    ]
    if not low:
        return 0
    frame, wanted = low[0]
    say(
        f"error: only {_percent(frame.coverage.ideal)} % of frame {frame.index} ({_what(frame, report)}) is at its ideal "
        f"level; {_percent(wanted)} % was required; {len(low)} of {len(report.frames)} frames are below",
    )
    for line in (_lost_planes(report.failures) or _left_planes(report))[:3]:
        say(line)
    if report.failures:
        hint = UNREADABLE
    elif frame.degraded:
        what = "tiles" if frame.volume is None else "bricks"
        hint = f"the view needs more {what} than the atlas holds: give more --atlas, or fewer layers"
    else:
        hint = "give more --timeout, or accept less with --min-coverage"
    say(f"hint:  {hint}")
    return 1


def _say_lost(report: RunReport) -> None:
    """Where no coverage is asked for, as in streams, that something could not be read is said all the same."""
    from octree.cli.console import say

    lost = [frame for frame in report.frames if frame.coverage.failed]
    if not lost:
        return
    say(
        f"warning: {len(lost)} of {len(report.frames)} frames {'lacks' if len(lost) == 1 else 'lack'} what could not be read: "
        f"first frame {lost[0].index} ({_what(lost[0], report)})"
    )
    for line in _lost_planes(report.failures)[:3]:
        say(line)
    say(f"hint:  {UNREADABLE}; --min-coverage makes it an error")


def _say_left(report: RunReport) -> None:
    """Planes that were left before what failed of them was read again: none of their frames says that it failed."""
    from octree.cli.console import say

    lines = _left_planes(report)
    if not lines:
        return
    what = "1 plane was" if len(lines) == 1 else f"{len(lines)} planes were"
    say(f"warning: {what} left before what failed could be read again, of {len(report.slices)}:")
    for line in lines[:3]:
        say(line)
    say("hint:  octree verify --deep finds what is damaged in a pyramid; --settle gives time to try again")


def _left_planes(report: RunReport) -> list[str]:
    """A line for each plane of which something could not be read, and that was left before it had failed for good."""
    lines = []
    for each in report.slices:
        if each.tiles_failed and each.state != "failed":
            place = ", ".join(f"{axis}={at}" for axis, at in each.index.items())
            more = f" (and {each.tiles_failed - 1} more tiles)" if each.tiles_failed > 1 else ""
            lines.append(f"  failed: {place or 'a tile'}: {each.error}{more}")
    return lines


def _what(frame: FrameReport, report: RunReport) -> str:
    """Its camera, and of a film over an index its plane."""
    planes = {each.position.shown for each in report.frames}
    shown = frame.position.shown if len(planes) > 1 else ()
    return ", ".join([frame.camera.name, *(f"{axis}={at}" for axis, at in shown)])


def _lost_planes(failures: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each plane or volume of which tiles could not be read: the first of them."""
    planes: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for failure in failures:
        planes.setdefault((failure["source"], *failure["key"]["index"]), []).append(failure)
    lines = []
    for first, *others in planes.values():
        key = first["key"]
        tile, plane = ("brick", "volume") if len(key["grid"]) > 2 else ("tile", "plane")
        more = f" (and {len(others)} more of that {plane})" if others else ""
        place = ", ".join(map(str, [*key["index"], *key["grid"]]))
        lines.append(f"  failed: level {key['level']}, {tile} ({place}): {first['error']}{more}")
    return lines


def _percent(fraction: float) -> str:
    """Rounded down: what is not all of it must not read as 100."""
    return f"{math.floor(fraction * 1e4 + 1e-6) / 100:g}"


PROGRESS = ("auto", "bar", "plain", "json", "none")


@contextmanager
def _watch(progress: str) -> Iterator[Callable[[Shot, float], None] | None]:
    """A callback that shows how much of the frame being made is ideal, on stderr."""
    if progress == "auto":
        progress = "bar" if sys.stderr.isatty() else "none"
    if progress == "none":
        yield None
    elif progress == "bar":
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        from octree.cli.console import err_console
        from octree.pyramid.foreign import printable

        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=err_console(),
            transient=True,
        ) as bars:
            task = bars.add_task("coverage", total=1.0)

            def show_bar(shot: Shot, ideal: float) -> None:
                bars.update(
                    task, completed=ideal, description=printable(f"frame {shot.index} {shot.camera.name}")
                )

            yield show_bar
    else:
        yield _Lines(progress == "json").show


class _Lines:
    """One line a second at most, and one for each frame's end."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._said_s = 0.0

    def show(self, shot: Shot, ideal: float) -> None:
        import time

        from octree.cli.console import say, say_json

        now_s = time.monotonic()
        if ideal < 1 and now_s - self._said_s < 1:
            return
        self._said_s = now_s
        if self._as_json:
            say_json({"frame": shot.index, "camera": shot.camera.name, "ideal": round(ideal, 4)})
        else:
            say(f"frame {shot.index} {shot.camera.name}: {100 * ideal:.0f} % ideal")
