"""``octree verify``: is this pyramid whole and right?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octree.cli.options import Debug, Json, Quiet, given_of, with_options
from octree.pyramid.limits import LIMITS
from octree.pyramid.reach import OUTSIDE
from octree.pyramid.store.remote.options import REMOTE, read_remote

if TYPE_CHECKING:
    from octree.pyramid.verify.run import VerifyResult


@with_options(LIMITS, OUTSIDE, REMOTE)
def verify(
    pyramid: Annotated[str, typer.Argument(metavar="PYRAMID", help="An OME-Zarr pyramid.")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every chunk, and compare every block of every level.")
    ] = False,
    sample: Annotated[
        int, typer.Option(min=0, help="Blocks of each level to read and compare without --deep.")
    ] = 16,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    **given: Any,
) -> int:
    """Check metadata against the schema, levels against each other, and that chunks can be read.

    Exit code 1 when something is wrong, 3 when there is no pyramid.
    """
    from octree.cli.console import print_json
    from octree.pyramid.limits import make_limits
    from octree.pyramid.verify.run import verify as run

    limits = make_limits(**given_of(LIMITS, given))
    with _progress(deep and not quiet) as show:
        result = run(
            pyramid,
            deep=deep,
            sample=sample,
            progress=show,
            limits=limits,
            remote=read_remote(given_of(REMOTE, given)),
            **given_of(OUTSIDE, given),
        )
    if json_:
        document = result.to_json()
        if not result.ok:
            document["error"] = _failure(result)
        print_json(document)
    else:
        _print_result(result, quiet=quiet)
    return 0 if result.ok else 1


def _failure(result: VerifyResult) -> dict[str, str]:
    count = len(result.findings)
    things = "1 thing is" if count == 1 else f"{count} things are"
    hint = "build the pyramid again; octree build --resume makes what is missing of an interrupted build"
    return {"kind": "check", "message": f"{result.path}: {things} wrong", "hint": hint}


def _print_result(result: VerifyResult, *, quiet: bool) -> None:
    from octree.cli.console import put, say

    for finding in result.findings:
        level = "" if finding.level is None else f"level {finding.level}: "
        where = finding.where.removeprefix(level.replace(": ", ", "))
        put(f"{finding.kind}: {level}{where}: {finding.what}")
    if not quiet:
        for note in result.notes:
            say(f"note: {note}")
        images = f"{result.images} images, " if result.images > 1 else ""
        looked = f"{images}{result.levels} levels, {result.files} files, {result.compared} of {result.total} blocks compared"
        put(f"{'whole' if result.ok else 'NOT whole'}: {looked}")
    if not result.ok:
        say(_failure(result)["message"], style="bold red", lead="error: ")


@contextmanager
def _progress(wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal; nothing elsewhere."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress

    from octree.cli.console import err_console

    with Progress(console=err_console(), transient=True) as bars:
        task = bars.add_task("comparing blocks", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
