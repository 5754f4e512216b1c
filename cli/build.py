"""``octree build``: the pyramid of an image."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octree.cli.options import Debug, Json, Quiet, given_of, warn_of_tcp, with_options
from octree.pyramid.building.option_table import BUILD, RUNNING
from octree.pyramid.options import RUN

if TYPE_CHECKING:
    from octree.pyramid.building.builder import BuildResult
    from octree.pyramid.building.plan import BuildPlan


@with_options(BUILD, RUNNING)
def build(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="An image: TIFF, PNG, JPEG, .npy, Zarr, OME-Zarr, file.h5::/dataset."
        ),
    ],
    dest: Annotated[
        str, typer.Argument(metavar="DEST", help="The folder to write, an OME-Zarr; or a new .ozx.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, write nothing.", rich_help_panel=RUN)
    ] = False,
    progress: Annotated[
        str, typer.Option(help="auto, bar, plain, json, none.", rich_help_panel=RUN)
    ] = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    **given: Any,
) -> None:
    """Build the tile pyramid of SOURCE as the OME-Zarr folder DEST."""
    from octree.cli.console import print_json
    from octree.cli.progress import make_reporter
    from octree.cli.signals import politely
    from octree.pyramid.building.builder import build as run_build
    from octree.pyramid.building.builder import plan_build
    from octree.pyramid.errors import Interrupted
    from octree.pyramid.memory import use_one_heap

    use_one_heap()
    report = make_reporter(progress, quiet=quiet)
    if dry_run:
        plan = plan_build(source, dest, **given_of(BUILD, given), **given_of(RUNNING, given))
        if json:
            print_json({"source": source, "dest": dest, "dry_run": True, **plan.to_json()})
        else:
            _print_plan(plan)
        return
    warn_of_tcp(given["scheduler"])
    with politely() as stop, report:
        try:
            result = run_build(
                source,
                dest,
                **given_of(BUILD, given),
                **given_of(RUNNING, given),
                progress=report.update,
                stop=stop,
            )
        except Interrupted as error:
            error.hint = _go_on(dest)
            raise
        except KeyboardInterrupt:
            raise Interrupted("interrupted", hint=_go_on(dest)) from None
    if json:
        print_json(result.to_json())
    elif not quiet:
        _print_result(result)


def _go_on(dest: str) -> str:
    from octree.pyramid.building.archive import NOT_RESUMED, names_archive

    if names_archive(dest):
        return f"{NOT_RESUMED}: give the same command again"
    words = [word for word in sys.argv[1:] if word != "--resume"]
    return f"go on with: {shlex.join(['octree', *words, '--resume'])}"


def _print_plan(plan: BuildPlan) -> None:
    from octree.cli.console import put
    from octree.pyramid.units import bytes_text

    rows = [
        ("level", "shape", "chunks", "shards", "scale", "bytes"),
        *(
            (
                level.path,
                _by(level.shape),
                _by(level.chunks),
                _by(level.shards) if level.shards else "none",
                _by(level.scale),
                bytes_text(size),
            )
            for level, size in zip(plan.spec.levels, plan.level_bytes, strict=True)
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        put("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    facts = {
        "axes": "".join(plan.spec.axis_names) + (" (c holds colour samples)" if plan.spec.rgb else ""),
        "dtype": plan.spec.dtype.name,
        "method": plan.method,
        "codec": str(plan.codec),
        "bytes": f"{bytes_text(sum(plan.level_bytes))} uncompressed",
        "files": f"at most {plan.files}",
        "memory": f"{bytes_text(plan.peak_bytes)} of {bytes_text(plan.memory_bytes)}",
        "workers": f"{plan.workers}, {plan.tasks} blocks",
    }
    for key, value in facts.items():
        put(f"{key:8} {value}")
    for note in plan.notes:
        put(f"note: {note}")


def _print_result(result: BuildResult) -> None:
    from octree.cli.console import put
    from octree.pyramid.units import bytes_text

    rate = result.bytes_read / result.seconds if result.seconds > 0 else 0
    what = f"part {result.part}" if result.part else f"{len(result.spec.levels)} levels"
    put(
        f"{result.dest}: {what}, {bytes_text(result.bytes_written)} in "
        f"{result.files} files, {result.seconds:.1f} s ({bytes_text(rate)}/s), "
        f"peak memory {bytes_text(result.peak_rss_bytes)}{', resumed' if result.resumed else ''}"
    )
    for note in result.notes:
        put(f"note: {note}")
    for hole in result.holes[:20]:
        put(f"hole: {_by(hole.start)} to {_by(hole.stop)}: {hole.error}")
    if len(result.holes) > 20:
        put(f"and {len(result.holes) - 20} more holes; --json lists them all")


def _by(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{n:g}" if isinstance(n, float) else str(n) for n in numbers)
