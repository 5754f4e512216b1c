"""One frame of 16384 x 16384 pixels through the real command: what the process holds at most, against the frame's own pixels.
Prints a Markdown table."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from _measure import measure

from octree.pyramid import build
from octree.pyramid.sources.sample import GeneratedImage

SIDE = 16384


def main() -> None:
    octree = Path(sys.executable).with_name("octree")
    with tempfile.TemporaryDirectory() as folder:
        pyramid, out = Path(folder) / "cells.ome.zarr", Path(folder) / "large.png"
        build(GeneratedImage(SIDE), pyramid)
        middle = f"x={SIDE // 2},y={SIDE // 2},zoom=1"
        rgba_mib = 4 * SIDE * SIDE / 2**20
        print(
            f"| {SIDE}² uint16 at zoom 1, `octree render` | seconds | peak MiB | of its RGBA ({rgba_mib:.0f} MiB) |"
        )
        print("|---|---|---|---|")
        for name, side in (("1024 x 1024", 1024), (f"{SIDE} x {SIDE}", SIDE)):
            command = [octree, "render", pyramid, "--camera", middle, "--size", f"{side}x{side}"]
            run = measure([*command, "--clim", "0,20000", "-o", out], out)
            if run is not None:
                print(f"| {name} | {run.seconds:.1f} | {run.peak_mib:.0f} | {run.peak_mib / rgba_mib:.2f} |")


main()
