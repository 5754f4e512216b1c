"""What OpenGL each platform gives here. Each is tried in a process of its own: a process has one OpenGL, and a
bad driver may crash or hang. ``python -m octree.render.gl.probe PLATFORM`` is that process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PLATFORMS = ("osmesa", "window", "egl")
TIMEOUT_S = 60.0


def probe_all(timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
    """One answer for each platform, see ``probe``; tried side by side."""
    with ThreadPoolExecutor(len(PLATFORMS)) as pool:
        return list(pool.map(lambda gl: probe(gl, timeout_s), PLATFORMS))


def probe(gl: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """``{platform, usable, renderer | error, hint}``: a frame was drawn and read back right, or why not."""
    from octree.render.gl.platform import HINTS

    command = [sys.executable, "-m", "octree.render.gl.probe", gl]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return _unusable(gl, f"no answer within {timeout_s:g} s: the driver or the display hangs", HINTS[gl])
    try:
        answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = run.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return _unusable(gl, f"the driver crashed (exit code {run.returncode}): {last[0]}", HINTS[gl])
    if "message" in answer:
        return _unusable(gl, answer["message"], answer["hint"])
    return {"platform": gl, "usable": True, "renderer": answer}


def _unusable(gl: str, error: str, hint: str | None) -> dict[str, Any]:
    return {"platform": gl, "usable": False, "error": error, "hint": hint}


def main(arguments: Sequence[str]) -> int:
    """Draw one frame on the platform that is named, and print what drew it, or the error, as JSON."""
    from octree.pyramid.errors import GLError, OctreeError
    from octree.render.gl.canvas import Canvas

    try:
        with Canvas((7, 5), gl=arguments[0], background=(1.0, 0.5, 0.0, 1.0)) as canvas:
            canvas.draw([])
            if not (canvas.read() == [255, 128, 0, 255]).all():
                raise GLError(f"{canvas.info.renderer} draws wrong colours", hint="try another --gl")
            print(json.dumps(canvas.info.to_json()))
    except OctreeError as error:
        print(json.dumps(error.to_json()))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
