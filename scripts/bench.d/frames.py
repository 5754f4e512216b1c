"""The whole pipeline in one process: further settled views, and a pan over tiles that stream in from disk.

The yardstick is a bare draw (``_bare.py``) of the same quads at the same rhythm, in the same process: between two
frames of 60 a second a processor cools down, and a bare draw takes longer than in a tight loop. Prints a Markdown table.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _bare import Bare

from octree.pyramid import build
from octree.pyramid.sources.sample import GeneratedImage
from octree.render.frames import Renderer
from octree.render.report.values import FrameReport
from octree.render.request import parse_request

EDGE_PX = 16384
VIEWS = 40
STEP_PX = 16
FRAMES = 600
STILL = 100


def settled(pyramid: Path) -> list[FrameReport]:
    """Views far apart at full size: each reads, uploads and draws 12 to 20 new tiles."""
    places = random.Random(1)
    spots = [
        (places.randrange(600, EDGE_PX - 600), places.randrange(500, EDGE_PX - 500)) for _ in range(VIEWS)
    ]
    cameras = [f"x={x},y={y},zoom=1" for x, y in spots]
    with Renderer(parse_request([str(pyramid)], cameras, {"clim": "0,20000"})) as renderer:
        return [frame.report for frame in renderer.frames()]


def panned(pyramid: Path, folder: Path) -> tuple[list[FrameReport], list[float]]:
    """A pan of 16 pixels a frame at 60 frames a second over tiles never seen before, then a still view; and the
    milliseconds of bare draws of that view."""
    path = folder / "pan.json"
    start = {"x": 1000, "y": 3000, "zoom": 1}
    end = {"x": 1000 + STEP_PX * FRAMES, "y": 5000, "zoom": 1}
    keys = [{"t_s": 0, **start}, {"t_s": FRAMES / 60, **end}, {"t_s": FRAMES / 60 + 2, **end}]
    path.write_text(json.dumps({"fps": 60, "keyframes": keys}))
    with Renderer(parse_request([str(pyramid)], [str(path)], {"clim": "0,20000"})) as renderer:
        frames = [frame.report for frame in renderer.frames()]
        return frames, bare_draws(renderer)


def bare_draws(renderer: Renderer) -> list[float]:
    """Milliseconds of bare draws, 60 a second, of what the renderer drew last."""
    scene = renderer.scene
    layer, canvas = scene.images[0], scene.canvas
    bare = Bare(layer.parts[0].visual, layer.view, canvas.size_px)
    spent = []
    for _ in range(STILL):
        start = time.perf_counter()
        canvas.draw([bare])
        spent.append(1000 * (time.perf_counter() - start))
        canvas.read()
        time.sleep(max(0.0, 1 / 60 - (time.perf_counter() - start)))
    return spent


def times(frames: Sequence[FrameReport]) -> list[float]:
    return sorted(frame.timings_ms.total for frame in frames)


def row(name: str, values: Sequence[float], bare_ms: float) -> str:
    p50 = statistics.median(values)
    p99 = values[min(len(values) - 1, int(0.99 * len(values)))]
    return f"| {name} | {p50:.1f} | {p99:.1f} | {values[-1]:.1f} | {p50 / bare_ms:.2f} |"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pyramid = Path(folder) / "cells.ome.zarr"
        build(GeneratedImage(EDGE_PX), pyramid)
        for file in pyramid.rglob("*"):  # the page cache is warm for every row
            if file.is_file():
                file.read_bytes()
        views = settled(pyramid)[1:]
        frames, bare = panned(pyramid, Path(folder))
    moving, still = frames[10:FRAMES], frames[-STILL:]
    bare_ms = statistics.median(bare)
    new = statistics.median(frame.tiles.loaded for frame in views)
    coverage = statistics.mean(frame.coverage.ideal for frame in moving)
    loaded = sum(frame.tiles.loaded for frame in moving)
    print("Main thread, plan to the end of drawing, 1024 x 768 frames of 16384² uint16; milliseconds.\n")
    print("| what | p50 | p99 | max | p50 against a bare draw |")
    print("|---|---|---|---|---|")
    print(row("bare draw of the still view, 60 a second", sorted(bare), bare_ms))
    print(row("still view, everything resident", times(still), bare_ms))
    print(
        row(
            f"pan of {STEP_PX} px a frame, {loaded} tiles streaming in, {coverage:.0%} ideal",
            times(moving),
            bare_ms,
        )
    )
    print(row(f"each further settled view, {new:.0f} new tiles", times(views), bare_ms))
    readback = statistics.median(frame.timings_ms.readback for frame in views)
    print(f"\nReading a frame back costs {readback:.1f} ms more.")


main()
