"""``octree build``: the pyramid of an image."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octree.cli.options import MAX_DECODED, MAX_PIXELS, Debug, Json, Quiet, parsed

if TYPE_CHECKING:
    from octree.pyramid.building.builder import BuildResult
    from octree.pyramid.building.plan import BuildPlan

WHAT, LEVELS, STORED, RUN = "What the source is", "How levels are made", "How they are stored", "How it runs"


def build(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="An image: TIFF, PNG, JPEG, .npy, Zarr, OME-Zarr, file.h5::/dataset."
        ),
    ],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="The folder to write, an OME-Zarr.")],
    axes: Annotated[
        str | None,
        typer.Option(
            help="Names of SOURCE's axes in its order, out of t c z y x and s (samples).  "
            "[default: from the file, or by rank]",
            rich_help_panel=WHAT,
        ),
    ] = None,
    voxel_size: Annotated[
        str | None,
        typer.Option(
            help="World units per voxel, as z=2,y=0.5,x=0.5.  [default: from the file, or 1]",
            rich_help_panel=WHAT,
        ),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of length, as micrometer.", rich_help_panel=WHAT)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the image.  [default: the source's]", rich_help_panel=WHAT)
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Values are ids of objects.", rich_help_panel=LEVELS)
    ] = False,
    nodata: Annotated[
        str | None,
        typer.Option(help="A value that does not count. NaN never does.", rich_help_panel=LEVELS),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="auto, mean, mode, median, min, max, nearest; auto is mode for labels and bool, else mean.",
            rich_help_panel=LEVELS,
        ),
    ] = "auto",
    tile: Annotated[
        int,
        typer.Option(help="Chunk edge in pixels; the coarsest level fits one tile.", rich_help_panel=STORED),
    ] = 256,
    shard: Annotated[int, typer.Option(help="Shard edge in tiles, 0 for none.", rich_help_panel=STORED)] = 8,
    codec: Annotated[
        str,
        typer.Option(
            help="zstd:LEVEL, gzip:LEVEL, blosc-lz4, blosc-zstd:LEVEL, none.", rich_help_panel=STORED
        ),
    ] = "zstd:1",
    ome_version: Annotated[
        str, typer.Option(help="0.5 (Zarr v3, sharded) or 0.4 (Zarr v2).", rich_help_panel=STORED)
    ] = "0.5",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Build beside DEST, then change places.", rich_help_panel=STORED),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with an interrupted build.", rich_help_panel=RUN),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Threads.  [default: all cores the process may use]", rich_help_panel=RUN),
    ] = None,
    memory: Annotated[str, typer.Option(help="Bytes the build may hold.", rich_help_panel=RUN)] = "1GiB",
    max_pixels: Annotated[
        str | None, typer.Option(help=MAX_PIXELS, rich_help_panel=RUN, show_default=False)
    ] = None,
    max_decoded: Annotated[
        str | None,
        typer.Option(help=f"{MAX_DECODED} At least --memory.", rich_help_panel=RUN, show_default=False),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="threads, serial, local (processes), or a dask scheduler as tcp://host:8786.  "
            "[default: threads]",
            rich_help_panel=RUN,
        ),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            help="fail, or fill: what of SOURCE cannot be read becomes nodata or 0, and is listed.",
            rich_help_panel=RUN,
        ),
    ] = "fail",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, write nothing.", rich_help_panel=RUN)
    ] = False,
    progress: Annotated[
        str, typer.Option(help="auto, bar, plain, json, none.", rich_help_panel=RUN)
    ] = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
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
    options: dict[str, Any] = {
        "axes": axes,
        "voxel_size": parsed("--voxel-size", voxel_size, parse_voxel_size) if voxel_size else None,
        "unit": unit,
        "tile": tile,
        "shard": shard,
        "method": method,
        "labels": labels,
        "nodata": nodata,
        "codec": codec,
        "workers": workers,
        "memory": memory,
        "ome_version": ome_version,
        "name": name,
        "max_pixels": max_pixels,
        "max_decoded": max_decoded,
    }
    if dry_run:
        plan = plan_build(source, dest, **options)
        if json:
            print_json({"source": source, "dest": dest, "dry_run": True, **plan.to_json()})
        else:
            _print_plan(plan)
        return
    with politely() as stop, report:
        try:
            result = run_build(
                source,
                dest,
                **options,
                overwrite=overwrite,
                resume=resume,
                on_error=on_error,
                scheduler=scheduler,
                progress=report.update,
                stop=stop,
            )
        except Interrupted as error:
            error.hint = f"go on with: {_resume_command()}"
            raise
        except KeyboardInterrupt:
            raise Interrupted("interrupted", hint=f"go on with: {_resume_command()}") from None
    if json:
        print_json(result.to_json())
    elif not quiet:
        _print_result(result)


def parse_voxel_size(text: str) -> dict[str, float]:
    """``z=2,y=0.5,x=0.5`` → sizes by axis. Raises UsageError."""
    from octree.pyramid.errors import UsageError

    sizes: dict[str, float] = {}
    for part in text.replace(";", ",").split(","):
        axis, sign, number = (word.strip() for word in part.partition("="))
        try:
            if not sign or axis in sizes:
                raise ValueError(part)
            sizes[axis] = float(number)
        except ValueError:
            raise UsageError(f"{text!r} is not a list of sizes", hint="write z=2,y=0.5,x=0.5") from None
    return sizes


def _resume_command() -> str:
    words = [word for word in sys.argv[1:] if word != "--resume"]
    return shlex.join(["octree", *words, "--resume"])


def _print_plan(plan: BuildPlan) -> None:
    from octree.cli.console import put
    from octree.cli.progress import bytes_text

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
    from octree.cli.progress import bytes_text

    rate = result.bytes_read / result.seconds if result.seconds > 0 else 0
    put(
        f"{result.dest}: {len(result.spec.levels)} levels, {bytes_text(result.bytes_written)} in "
        f"{result.files} files, {result.seconds:.1f} s ({bytes_text(rate)}/s), "
        f"peak memory {bytes_text(result.peak_rss_bytes)}{', resumed' if result.resumed else ''}"
    )
    for hole in result.holes[:20]:
        put(f"hole: {_by(hole.start)} to {_by(hole.stop)}: {hole.error}")
    if len(result.holes) > 20:
        put(f"and {len(result.holes) - 20} more holes; --json lists them all")


def _by(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{n:g}" if isinstance(n, float) else str(n) for n in numbers)
