"""Whole processes: `octree render` of one settled frame against a bare program that imports the same libraries,
makes the same context, draws one textured quad and writes a PNG. Prints a Markdown table."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from octree.pyramid import build
from octree.pyramid.sources.sample import GeneratedImage

ROUNDS = 11

BARE = """
import os, sys
os.environ["VISPY_GL_LIB"] = "libOSMesa.so.8"
import glfw, numpy as np, tensorstore
glfw.init_hint(glfw.PLATFORM, glfw.PLATFORM_NULL)
glfw.init()
glfw.window_hint(glfw.CONTEXT_CREATION_API, glfw.OSMESA_CONTEXT_API)
import vispy
vispy.use(app="glfw", gl="gl2")
from vispy import app, gloo
import vispy.visuals
import typer, rich
from PIL import Image
canvas = app.Canvas(size=(64, 64), show=False)
canvas.set_current()
shader = "attribute vec2 p; varying vec2 t; void main() { t = p / 2. + .5; gl_Position = vec4(p, 0., 1.); }"
paint = "uniform sampler2D s; varying vec2 t; void main() { gl_FragColor = vec4(texture2D(s, t).rrr, 1.); }"
program = gloo.Program(shader, paint)
program["p"] = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)], np.float32)
program["s"] = gloo.Texture2D(np.random.default_rng(0).integers(0, 255, (1024, 1024), np.uint8))
target = gloo.FrameBuffer(gloo.RenderBuffer((768, 1024)))
with target:
    gloo.set_viewport(0, 0, 1024, 768)
    program.draw("triangle_strip")
    frame = gloo.read_pixels((0, 0, 1024, 768))
Image.fromarray(frame[..., :3]).save(sys.argv[1], compress_level=1)
"""


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def peak_mib(command: list[str]) -> float:
    """Peak resident memory of one run, from the child's own accounting."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build(GeneratedImage(16384), work / "cells.ome.zarr")
        (work / "bare.py").write_text(BARE)
        python = sys.executable
        bare = [python, str(work / "bare.py"), str(work / "bare.png")]
        view = ["--camera", "x=8000,y=8000,zoom=1", "--clim", "0,20000", "-o", str(work / "frame.png")]
        ours = [str(Path(python).with_name("octree")), "render", str(work / "cells.ome.zarr"), *view]
        for command in (bare, ours):
            seconds(command)
        pairs = [(seconds(bare), seconds(ours)) for _ in range(ROUNDS)]
        ratio = statistics.median(b / a for a, b in pairs)
        print(
            "| whole process, one settled 1024 x 768 frame of 16384² uint16 | median s | ratio | peak MiB |"
        )
        print("|---|---|---|---|")
        print(f"| bare program | {statistics.median(a for a, _ in pairs):.2f} | 1 | {peak_mib(bare):.0f} |")
        print(
            f"| octree render | {statistics.median(b for _, b in pairs):.2f} | {ratio:.2f} | {peak_mib(ours):.0f} |"
        )


main()
