"""octree doctor: what each platform gives, what to install; drivers that crash or hang are answers too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.cli.app import run
from octree.render.gl import probe

MISSING = [
    {"platform": name, "usable": False, "error": "not there", "hint": f"apt-get install {name}"}
    for name in probe.PLATFORMS
]


def test_doctor_says_what_draws_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "--gl osmesa ok" in said
    assert "llvmpipe" in said
    assert "--gl auto takes" in said


def test_doctor_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    found = {answer["platform"]: answer for answer in facts["platforms"]}
    assert facts["auto"] == "osmesa"
    assert found["osmesa"]["renderer"]["platform"] == "osmesa"
    assert found["egl"]["usable"]
    assert not found["window"]["usable"]
    assert "xvfb" in found["window"]["hint"]


def test_nothing_usable_is_exit_6(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "probe_all", lambda: MISSING)
    assert run(["doctor", "--json"]) == 6
    facts = json.loads(capsys.readouterr().out)
    assert facts["error"]["kind"] == "gl"
    assert facts["error"]["hint"] == "apt-get install osmesa"
    assert run(["doctor"]) == 6
    said = capsys.readouterr().out
    assert "apt-get install egl" in said
    assert "cannot be rendered" in said


def test_a_driver_that_hangs() -> None:
    answer = probe.probe("osmesa", timeout_s=0.001)
    assert not answer["usable"]
    assert "no answer" in answer["error"]


@pytest.mark.parametrize("stderr", ["Segmentation fault", ""])
def test_a_driver_that_crashes(monkeypatch: pytest.MonkeyPatch, stderr: str) -> None:
    def crash(command: Any, **_: Any) -> Any:
        return subprocess.CompletedProcess(command, -11, "", stderr)

    monkeypatch.setattr(subprocess, "run", crash)
    answer = probe.probe("egl")
    assert not answer["usable"]
    assert "crashed (exit code -11)" in answer["error"]
    assert "libegl1" in answer["hint"]


def test_the_probe_draws_and_reads_back(
    gl_info: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from octree.render.gl.canvas import Canvas

    assert probe.main(["osmesa"]) == 0
    assert json.loads(capsys.readouterr().out)["renderer"] == gl_info.renderer
    read = Canvas.read
    monkeypatch.setattr(Canvas, "read", lambda self: read(self) // 2)
    assert probe.main(["osmesa"]) == 6
    assert "wrong colours" in json.loads(capsys.readouterr().out)["message"]


@pytest.mark.parametrize("command", ["doctor", "render"])
def test_a_machine_without_fontconfig_is_told_so(tmp_path: Path, command: str) -> None:
    """vispy is not imported there, in whatever it draws."""
    np.save(tmp_path / "a.npy", np.zeros((8, 8), np.uint8))
    words = ["octree", command, *(["a.npy", "-o", "o.png"] if command == "render" else [])]
    program = (
        "import ctypes.util, sys\n"
        "find = ctypes.util.find_library\n"
        "ctypes.util.find_library = lambda name: None if 'fontconfig' in name else find(name)\n"
        f"sys.argv = {words!r}\n"
        "from octree.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 6, done.stdout + done.stderr
    assert "libfontconfig1" in done.stdout + done.stderr
