"""``octree demo``: a first look, from what the dependencies bring along."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from octree.cli.options import Debug, Json, Quiet
from octree.pyramid.options import PATH

SMALL_PX, LARGE_PX = 4096, 16384


def demo(
    folder: Annotated[str, typer.Argument(metavar="[DIR]", help="Where to put it.")] = "octree-demo",
    large: Annotated[
        bool, typer.Option("--large", help=f"Generate {LARGE_PX} pixels on a side instead of {SMALL_PX}.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Build and render sample images, and write an HTML report.

    A picture that ships with the dependencies and a generated uint16 image; nothing is fetched.
    """
    from octree.cli.console import print_json, put
    from octree.cli.console import say as print_line
    from octree.render.showcase import make_demo

    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if not quiet:
            print_line(line)

    start_s = time.perf_counter()
    made = make_demo(Path(PATH.read("DIR", folder)), edge_px=LARGE_PX if large else SMALL_PX, say=say)
    seconds = time.perf_counter() - start_s
    if json_:
        print_json(
            {"folder": str(folder), "files": [str(p) for p in made], "said": lines, "seconds": seconds}
        )
        return
    say(f"done in {seconds:.1f} s; look at:")
    for path in made:
        put(str(path))
