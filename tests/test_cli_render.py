"""``octree render`` as a user meets it: the real command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octree.pyramid import build

OCTREE = [sys.executable, "-m", "octree.cli"]


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("cli") / "gradient 1.ome.zarr"
    rows, cols = np.indices((600, 800))
    build((rows + cols).astype(np.uint16), dest)
    return dest


def octree(
    *args: Any, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCTREE_", "NAPARI_", "DISPLAY"))}
    done = subprocess.run(
        [*OCTREE, *map(str, args)],
        capture_output=True,
        text=True,
        env=clean | (env or {}),
        timeout=120,
        check=False,
        cwd=cwd,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_frame_and_a_report(pyramid: Path, tmp_path: Path) -> None:
    png, report = tmp_path / "ä frame.png", tmp_path / "out" / "report.json"
    done = octree("render", pyramid, "--camera", "fit", "-o", png, "--report", report, "--size", "200x150")
    assert (done.returncode, done.stdout) == (0, "")
    with Image.open(png) as image:
        assert (image.size, image.mode) == ((200, 150), "RGB")
    document = json.loads(report.read_text())
    assert document["schema"] == "octree-report/1"
    assert document["frames"][0]["coverage"]["ideal"] == 1
    assert document["renderer"]["platform"] == "osmesa"
    assert document["sources"][0]["path"] == str(pyramid)


def test_aids_are_drawn_without_a_word(pyramid: Path, tmp_path: Path) -> None:
    """Libraries have opinions on shaders; nobody wants them on stderr."""
    aids = ("--show-grid", "--mark-pending", "--overview")
    done = octree("render", pyramid, "--size", "64x48", *aids, "-o", tmp_path / "a.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_json_is_the_report_on_stdout(pyramid: Path) -> None:
    done = octree("render", pyramid, "--camera", "x=400,y=300,zoom=1", "--size", "64x48", "--json")
    assert json.loads(done.stdout)["frames"][0]["size_px"] == [64, 48]


def test_several_views_go_to_a_pattern(pyramid: Path, tmp_path: Path) -> None:
    done = octree(
        *("render", pyramid, "--camera", "fit", "--camera", "x=10,y=10,zoom=2", "--size", "40x30"),
        *("-o", tmp_path / "{camera}-{index:03}.png"),
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit-000.png", "view-001.png"]


def test_a_frame_on_stdout_is_nothing_but_png(pyramid: Path) -> None:
    done = subprocess.run(
        [*OCTREE, "render", str(pyramid), "-o", "-", "--size", "32x32"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"\x89PNG")
    assert done.stdout.endswith(b"IEND\xaeB`\x82")
    assert done.stderr == b""


def test_every_option_can_come_from_the_environment(pyramid: Path) -> None:
    env = {"OCTREE_RENDER_SIZE": "33x22", "OCTREE_RENDER_CAMERA": "x=5,y=5,zoom=1", "OCTREE_RENDER_JSON": "1"}
    document = json.loads(octree("render", pyramid, env=env).stdout)
    assert document["frames"][0]["size_px"] == [33, 22]
    assert document["frames"][0]["camera"]["x"] == 5


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["{no}/nothing.ome.zarr", "-o", "f.png"], 3, "nothing.ome.zarr"),
        (["{dir}", "-o", "f.png"], 3, ""),
        (["{text}", "-o", "f.png"], 3, "tif"),
        (["{pyramid}", "-o", "f.png", "--size", "0x10"], 2, "--size"),
        (["{pyramid}", "-o", "f.png", "--camera", "here"], 2, "camera"),
        (["{pyramid}", "-o", "f.png", "--camera", "x=1,y=1,zoom=0"], 2, "zoom"),
        (["{pyramid}", "-o", "f.png", "--camera", "no.json"], 2, "no.json"),
        (["{pyramid}", "-o", "f.png", "--colormap", "nosuchmap"], 2, "nosuchmap"),
        (["{pyramid}", "-o", "f.png", "--background", "nosuch"], 2, "nosuch"),
        (["{pyramid}", "-o", "f.png", "--channels", "0:red"], 2, "channels"),
        (["{pyramid}", "-o", "f.png", "--config", "no.json"], 2, "no.json"),
        (["{pyramid}", "-o", "f.png", "--camera", "fit", "--camera", "fit"], 2, "pattern"),
        (["{pyramid}", "-o", "f.bmp"], 2, "f.bmp"),
        (["{pyramid}", "-o", "f.gif", "--size", "65536x1"], 2, "65535"),
        (["{pyramid}"], 2, "nothing to write"),
        (["{pyramid}", "-o", "-", "--json"], 2, "stdout"),
        (["{pyramid}", "-o", "{file}/f.png"], 4, "f.png"),
        (["{pyramid}", "-o", "f.png", "--nosuch"], 2, "--nosuch"),
        ([], 2, "SOURCE"),
    ],
)
def test_bad_input_is_said_plainly(
    pyramid: Path, tmp_path: Path, args: list[str], code: int, words: str
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "text.tif").write_text("this is no picture\n")
    (tmp_path / "file").write_text("")
    places = {"no": tmp_path, "dir": tmp_path / "dir", "text": tmp_path / "text.tif"}
    places |= {"file": tmp_path / "file", "pyramid": pyramid}
    filled = [arg.format(**places) for arg in args]
    done = octree("render", *filled, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert not (tmp_path / "f.png").exists()
    # the same again for a program
    if words == "nothing to write":
        return  # --json is something to write
    document = json.loads(octree("render", *filled, "--json", cwd=tmp_path).stdout)
    assert document["error"]["message"]
    assert document["error"]["kind"]


def test_a_frame_below_its_coverage_is_exit_1(pyramid: Path, tmp_path: Path) -> None:
    slow = ("--clock", "virtual", "--latency", "10s", "--timeout", "1s", "--size", "64x48")
    done = octree("render", pyramid, "-o", tmp_path / "f.png", *slow)
    assert done.returncode == 1
    assert "coverage" in done.stderr
    assert (tmp_path / "f.png").exists(), "what there is, is still written"
    assert octree("render", pyramid, "-o", tmp_path / "f.png", *slow, "--min-coverage", "0").returncode == 0


def test_no_opengl_is_exit_6(pyramid: Path, tmp_path: Path) -> None:
    done = octree(
        *("render", pyramid, "-o", tmp_path / "f.png", "--gl", "window"),
        env={"DISPLAY": ":7777", "WAYLAND_DISPLAY": ""},
    )
    assert done.returncode == 6
    assert "hint:" in done.stderr


def test_a_traceback_comes_only_with_debug(tmp_path: Path) -> None:
    done = subprocess.run(
        [*OCTREE, "render", str(tmp_path / "no"), "-o", "f.png", "--debug"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "Traceback" in done.stderr


def test_streamed_paths_and_their_reports(pyramid: Path, tmp_path: Path) -> None:
    path = tmp_path / "path.json"
    end = {"x": 700, "y": 500, "zoom": 4}
    keys = [{"t_s": 0, "x": 100, "y": 100, "zoom": 1}, {"t_s": 0.2, **end}, {"t_s": 0.8, **end}]
    path.write_text(json.dumps({"fps": 20, "keyframes": keys}))
    done = octree(
        *("render", pyramid, "--camera", path, "--size", "80x60", "--clock", "virtual", "--latency", "80ms"),
        *(
            "-o",
            tmp_path / "f-{index:02}.png",
            "--report",
            tmp_path / "r.json",
            "--html",
            tmp_path / "r.html",
        ),
        *("--trace", tmp_path / "t.json", "--monitor", tmp_path / "m.jsonl"),
    )
    assert done.returncode == 0, done.stderr
    frames = json.loads((tmp_path / "r.json").read_text())["frames"]
    assert len(frames) == 17 == len(list(tmp_path.glob("f-*.png")))
    assert frames[0]["coverage"]["ideal"] < 1 == frames[-1]["coverage"]["ideal"]
    assert {e["ph"] for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"]} >= {"X", "M"}
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert len(lines) >= 17
    assert "<html" in (tmp_path / "r.html").read_text()
