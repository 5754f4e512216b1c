"""Platforms: each in a process of its own, since a process has one OpenGL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.pyramid import build
from octree.pyramid.errors import GLError, UsageError
from octree.render.gl import platform

DRAW = """
import json, sys
from octree.pyramid.errors import OctreeError
try:
    from octree.render.gl.canvas import Canvas
    with Canvas((5, 3), gl=sys.argv[1], background=(1, 0.5, 0, 1)) as canvas:
        canvas.draw([])
        print(json.dumps({"info": canvas.info.to_json(), "pixel": canvas.read()[2, 4].tolist()}))
except OctreeError as error:
    print(json.dumps(error.to_json()))
    sys.exit(error.exit_code)
"""


def draw_in_a_process(gl: str, **environment: str | None) -> tuple[int, dict[str, Any]]:
    """(exit code, JSON) of a process that draws one frame on a platform."""
    variables = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    variables.update({k: v for k, v in environment.items() if v is not None})
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRAW, gl],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout, run.stderr
    return run.returncode, json.loads(run.stdout)


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A virtual X server; it finds a free number itself."""
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-noreset", "-displayfd", str(write), "-screen", "0", "320x240x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield f":{pipe.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize(("asked", "got"), [("osmesa", "osmesa"), ("egl", "egl"), ("auto", "osmesa")])
def test_without_a_display(asked: str, got: str) -> None:
    code, answer = draw_in_a_process(asked)
    assert code == 0, answer
    assert answer["info"]["platform"] == got
    assert answer["pixel"] == [255, 128, 0, 255]


@pytest.mark.parametrize(
    ("asked", "got"), [("window", "window"), ("auto", "window"), ("egl", "egl"), ("osmesa", "osmesa")]
)
def test_with_a_display(display: str, asked: str, got: str) -> None:
    code, answer = draw_in_a_process(asked, DISPLAY=display)
    assert code == 0, answer
    assert answer["info"]["platform"] == got
    assert answer["pixel"] == [255, 128, 0, 255]


def test_one_renderer_has_one_fingerprint_on_every_platform(display: str) -> None:
    prints = {
        draw_in_a_process("osmesa")[1]["info"]["fingerprint"],
        draw_in_a_process("egl")[1]["info"]["fingerprint"],
        draw_in_a_process("window", DISPLAY=display)[1]["info"]["fingerprint"],
    }
    assert len(prints) == 1


def test_no_display_is_an_error_with_a_way_out() -> None:
    code, answer = draw_in_a_process("window")
    assert code == 6
    assert answer["kind"] == "gl"
    assert "xvfb" in answer["hint"]


def test_a_dead_display_is_not_fatal_for_auto() -> None:
    code, answer = draw_in_a_process("auto", DISPLAY=":9876")
    assert code == 0, answer
    assert answer["info"]["platform"] == "osmesa"


def test_a_dead_display_is_an_error_for_window() -> None:
    code, answer = draw_in_a_process("window", DISPLAY=":9876")
    assert code == 6
    assert "DISPLAY" in answer["hint"]


def test_osmesa_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "_process", platform._Process())
    monkeypatch.setattr(platform.library, "osmesa_library", lambda: None)
    with pytest.raises(GLError, match="OSMesa library is not installed") as caught:
        platform.start("osmesa")
    assert "libosmesa6" in str(caught.value.hint)


def test_nothing_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "_process", platform._Process())
    monkeypatch.setattr(platform, "_display_answers", lambda: False)
    monkeypatch.setattr(platform.library, "osmesa_library", lambda: None)
    monkeypatch.setattr(platform.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(GLError, match="no OpenGL here") as caught:
        platform.start("auto")
    assert caught.value.exit_code == 6
    assert "apt-get install" in str(caught.value.hint)


def test_osmesa_starts_no_python_to_look_for_libraries() -> None:
    """glfw, left to itself, asks a second Python for versions: a tenth of a whole render."""
    watch = (
        "import sys; started = []\n"
        "sys.addaudithook(lambda event, data: started.append(data) if event == 'subprocess.Popen' else None)\n"
        "from octree.render.gl.canvas import Canvas\n"
        "Canvas((4, 4), gl='osmesa').close()\n"
        "sys.exit(any(sys.executable in map(str, data[1]) for data in started))"
    )
    assert subprocess.run([sys.executable, "-c", watch], timeout=60, check=False).returncode == 0


def test_an_unknown_platform() -> None:
    with pytest.raises(UsageError, match="no OpenGL platform called 'vulkan'"):
        platform.start("vulkan")


def test_a_second_platform_in_one_process(gl_info: platform.RendererInfo) -> None:
    assert platform.start("auto") == gl_info
    assert platform.start("osmesa") == gl_info
    with pytest.raises(GLError, match="already draws with osmesa"):
        platform.start("egl")


def test_what_the_renderer_says_of_itself(gl_info: platform.RendererInfo) -> None:
    facts = gl_info.to_json()
    assert facts["platform"] == "osmesa"
    assert facts["max_texture_size"] >= 2048
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize(
    ("vendor", "renderer", "version", "fingerprint", "family"),
    [
        (
            "Mesa/X.org",
            "llvmpipe (LLVM 15.0.6, 256 bits)",
            "4.5 (Compatibility Profile) Mesa 22.3.6",
            "llvmpipe-mesa22.3-llvm15-256bit-somevendor-arch",
            "llvmpipe-arch",
        ),
        (
            "NVIDIA Corporation",
            "NVIDIA H200/PCIe/SSE2",
            "4.6.0 NVIDIA 550.54.15",
            "nvidia-nvidia-h200-pcie-sse2-nvidia-550.54.15",
            "nvidia-nvidia-h200-pcie-sse2",
        ),
        ("", "", "", "gl", "gl"),
    ],
)
def test_fingerprints(
    monkeypatch: pytest.MonkeyPatch, vendor: str, renderer: str, version: str, fingerprint: str, family: str
) -> None:
    import platform as machine

    monkeypatch.setattr(machine, "machine", lambda: "arch")
    monkeypatch.setattr(platform, "_cpu_vendor", lambda: "SomeVendor")
    assert platform.fingerprint_of(vendor, renderer, version) == (fingerprint, family)


EXAMPLE = """
import runpy, sys, time
name, path, node = sys.argv[1:]
sys.argv = [name, path]
place = runpy.run_path("docs/examples/" + name, run_name="example")
canvas, image = place["canvas"], place[node]
until = time.monotonic() + 30
while not image.is_settled and time.monotonic() < until:
    canvas.app.process_events()
    time.sleep(0.005)
frame = canvas.render()
print(image.coverage.ideal, frame[..., 0].min(), frame[..., 0].max())
image.close()
canvas.close()
"""


def shown_by_example(name: str, node: str, path: Path, display: str) -> list[str]:
    """Its coverage, and the least and the greatest value of its picture."""
    run = subprocess.run(
        [sys.executable, "-c", EXAMPLE, name, str(path), node],
        cwd=Path(__file__).resolve().parent.parent,
        env=os.environ | {"DISPLAY": display},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_the_example_shows_a_pyramid_in_an_ordinary_window(display: str, tmp_path: Path) -> None:
    rows, cols = np.indices((300, 400))
    build(((rows // 50 + cols // 50) % 2 * 255).astype(np.uint8), tmp_path / "board.ome.zarr")
    shown = shown_by_example("live.py", "image", tmp_path / "board.ome.zarr", display)
    assert shown == ["1.0", "0", "255"]


def test_the_example_shows_a_volume_in_an_ordinary_window(display: str, tmp_path: Path) -> None:
    board = (np.indices((40, 60, 80)) // 10).sum(0) % 2 * 255
    build(board.astype(np.uint8), tmp_path / "board.ome.zarr", axes="zyx")
    shown = shown_by_example("volume.py", "volume", tmp_path / "board.ome.zarr", display)
    assert shown[0] == "1.0"
    assert int(shown[2]) > 200
