"""Whole processes that draw a volume from disk: one settled frame against a bare program that reads the same level and marches
through it once, and a turntable against its own marching. Prints Markdown."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _measure import measure
from _volume_build import WORK, source_of
from _volume_views import AZIMUTH, ELEVATION

SIZE = (512, 512)
HERE = Path(__file__).parent


def bare(level: Path, edge: int, step: int, out: Path) -> None:
    """The bare program, called by ``whole`` in a process of its own. ``step``: level-0 voxels per voxel of the level."""
    import numpy as np
    import tensorstore
    from _volume_march import Bare, sight
    from PIL import Image

    from octree.render.gl.canvas import Canvas
    from octree.render.view.volume.sight import rays_of

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{level}/"}}
    volume = np.asarray(tensorstore.open(spec).result().read().result())
    canvas = Canvas(SIZE)
    zoom = step * min(SIZE) / (edge * math.sqrt(3))
    view = sight(len(volume), SIZE, AZIMUTH, ELEVATION, zoom)
    canvas.draw([Bare("mip", volume, rays_of(view, 1.0))])
    Image.fromarray(canvas.read()[..., :3]).save(out, compress_level=1)


def whole(size: int, repeats: int) -> None:
    pyramid, out = WORK / f"volume-{size}.ome.zarr", WORK / "frame.png"
    octree = [sys.executable, "-m", "octree.cli"]
    if not pyramid.exists():
        command = [*octree, "build", source_of(size), pyramid, "--voxel-size", "z=1,y=1,x=1", "--axes", "zyx"]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    zoom = min(SIZE) / (size * math.sqrt(3))
    levels = int(math.log2(1 / zoom))
    camera = f"azimuth={AZIMUTH},elevation={ELEVATION},zoom={zoom}"
    look = ["--size", "x".join(map(str, SIZE)), "--interpolation", "linear", "--clim", "0,8000"]
    report = WORK / "report.json"
    ours: list[object] = [
        *octree,
        "render",
        pyramid,
        "--camera",
        camera,
        *look,
        "--report",
        report,
        "-o",
        out,
    ]
    call = f"import sys; sys.path.insert(0, {str(HERE)!r}); from _volume_whole import *; "
    call += f"bare(Path({str(pyramid / str(levels))!r}), {size}, {2**levels}, Path(sys.argv[1]))"
    theirs: list[object] = [sys.executable, "-c", call, out]
    pairs = []
    for _ in range(repeats):
        a, b = measure(theirs, out), measure(ours, out)
        if a and b:
            pairs.append((a, b))
    print(f"\n### Drawing {size}³ uint16 from disk\n\nMIP, {SIZE[0]}x{SIZE[1]}, linear, all of level {levels} in view; whole processes, in turns.\n")  # fmt: skip
    if not pairs:
        print("failed here")
        return
    print("| | seconds | seconds of cpu | MiB |\n|---|---|---|---|")
    for name, runs in zip(("bare program", "octree render"), zip(*pairs, strict=True), strict=True):
        seconds, mib, cpu = [statistics.median(values) for values in zip(*runs, strict=True)]
        print(f"| {name} | {seconds:.2f} | {cpu:.2f} | {mib:.0f} |")
    ratios = [statistics.median(own[k] / base[k] for base, own in pairs) for k in (0, 2)]
    print(f"\nRatio of time {ratios[0]:.2f}, of cpu {ratios[1]:.2f}.\n", flush=True)
    _turntable([*octree, "render", pyramid, "--camera", "turntable", "--settle", *look, "--report", report])


def _turntable(command: list[object]) -> None:
    """120 settled frames: the time of all of it against that of the draws alone, and what was read twice."""
    folder = WORK / "turn"
    run = measure([*command, "-o", folder / "{index}.png"], folder)
    if run is None:
        print("the turntable failed here")
        return
    document: dict[str, Any] = json.loads((WORK / "report.json").read_text())
    draws = sum(frame["timings_ms"]["draw"] for frame in document["frames"]) / 1000
    read = document["totals"]["tiles_read"]
    seen = {(k["level"], *k["grid"]) for frame in document["frames"] for k in frame.get("drawn", [])}
    print(f"Turntable of {len(document['frames'])} settled frames: {run.seconds:.1f} s, of which draws {draws:.1f} s: "
          f"{run.seconds / draws:.2f} x; {read} bricks read{f', {len(seen)} shown' if seen else ''}; peak {run.peak_mib:.0f} MiB.\n", flush=True)  # fmt: skip
