"""octree doctor: what each platform gives, what to install; drivers that crash or hang are answers too."""

from __future__ import annotations

import json
import subprocess
from typing import Any

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
