"""``octree check``: keep rendered frames from changing unnoticed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octree.cli.options import Debug, Json, Quiet, given_of, warn_of_tcp, with_options
from octree.pyramid.options import PATH
from octree.pyramid.store.remote.options import REMOTE
from octree.render.check.option_table import CHECK

if TYPE_CHECKING:
    from octree.render.check.judge import CaseResult
    from octree.render.check.suite import SuiteResult


@with_options(CHECK)
def check(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="TOML file of cases.", show_default=False)],
    case: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CASE]...", help="Only these cases.  [default: all]", show_default=False),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    **given: Any,
) -> None:
    """Render every case of SUITE and compare it with its baseline.

    Writes report.html, report.json and junit.xml. Exit code 1 when a case fails, is unstable or cannot be
    rendered; a missing baseline fails where the variable CI is set.
    """
    from octree.cli.console import print_json
    from octree.render.check.baseline import scope_of
    from octree.render.check.reports import to_json
    from octree.render.check.suite import run

    wanted = CHECK.read(given_of(CHECK, given))
    place = Path(PATH.read("SUITE", suite))
    if wanted["require_renderer"]:
        _require_renderer(wanted["require_renderer"])
    warn_of_tcp(wanted["scheduler"])
    result = run(
        place,
        baselines=wanted["baselines"],
        output=wanted["output"],
        only=() if wanted["accept"] else (case or ()),
        accept=(case or []) if wanted["accept"] else None,
        reason=wanted["reason"],
        scope=scope_of(wanted["scope"]),
        allow_outside=wanted["allow_outside"],
        remote=given_of(REMOTE, given),
        whole_pictures=wanted["whole_pictures"],
        jobs=wanted["jobs"],
        scheduler=wanted["scheduler"],
        on_case=_say_failing if quiet else _say_case,
    )
    if json_:
        print_json(to_json(result))
    if not quiet:
        _say_end(result)
    raise typer.Exit(result.exit_code)


def _require_renderer(wanted: str) -> None:
    from octree.pyramid.errors import GLError
    from octree.render.gl.platform import start

    info = start()
    if wanted.lower() not in f"{info.renderer} {info.fingerprint}".lower():
        raise GLError(
            f"the renderer is {info.renderer} ({info.fingerprint}), not {wanted}",
            hint="octree doctor says which OpenGL each platform gives",
            renderer=info.renderer,
        )


_COLOURS = {"pass": "green", "new": "yellow", "fail": "red", "unstable": "yellow", "error": "red"}


def _say_case(case: CaseResult) -> None:
    """One line per case as soon as it is known, and why it did not pass."""
    from octree.cli.console import say

    verdict = case.verdict.value
    say(f"{case.name} ({case.seconds:.1f} s)", style=_COLOURS[verdict], lead=f"{verdict:>8} ")
    for reason in case.reasons:
        say(f"         {reason}")
    if case.error and case.error.get("hint"):
        say(f"         hint: {case.error['hint']}")
    for warning in case.warnings:
        say(f"         warning: {warning}")


def _say_failing(case: CaseResult) -> None:
    """One line per case that fails."""
    from octree.cli.console import say

    if case.failed:
        verdict = case.verdict.value
        say(f"{case.name}: {'; '.join(case.reasons)}", style=_COLOURS[verdict], lead=f"{verdict:>8} ")


def _say_end(result: SuiteResult) -> None:
    from octree.cli.console import say
    from octree.render.check.reports import headline

    say(headline(result))
    for name in result.unused:
        say(f"warning: baseline without a case: {result.baselines / name}")
    if any(case.stageable and case.verdict.value in ("fail", "new") for case in result.cases):
        say(f"look at {result.output / 'report.html'}; to accept: {result.accept_command()}")
