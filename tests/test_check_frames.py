"""octree check on real frames: what changes in the data, the drawing or the loading is noticed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.render.check.baseline import BaselineStore
from octree.render.check.judge import CaseResult
from octree.render.check.record import RunResult
from octree.render.check.spec import Case, make_case
from octree.render.check.suite import CaseRunner, render_with_pipeline

SIZE = (200, 150)


def cells() -> Any:
    """Three channels of smooth ground with small objects, (c, y, x)."""
    y, x = np.mgrid[:600, :800].astype(float)
    rng = np.random.default_rng(1)
    image = np.stack([90 + 50 * np.sin(x / (20 + 5 * c)) * np.cos(y / (17 + 9 * c)) for c in range(3)])
    for _ in range(400):
        cy, cx, size, channel = rng.uniform(0, 600), rng.uniform(0, 800), rng.uniform(1.5, 5), rng.integers(3)
        top, left = max(0, int(cy) - 20), max(0, int(cx) - 20)
        part = np.s_[channel, top : top + 40, left : left + 40]
        image[part] += 110 * np.exp(-((y[part[1:]] - cy) ** 2 + (x[part[1:]] - cx) ** 2) / (2 * size**2))
    return image.clip(0, 255).round().astype(np.uint8)


def label_image() -> Any:
    ids = (np.arange(600)[:, None] // 30) * 40 + np.arange(800) // 30 + 1
    ids[290:312, 390:412] = 5000
    return ids.astype(np.uint32)


CELLS, LABELS = cells(), label_image()
CLOSE = "x=400,y=300,zoom=1"
GREY: dict[str, Any] = {"clim": "0,255"}
COLOUR: dict[str, Any] = {"channels": "0:red:0-255,1:green:0-255,2:blue:0-255"}


def verdict(
    tmp_path: Path,
    before: Any,
    after: Any,
    *,
    camera: str = CLOSE,
    options: Mapping[str, Any] = GREY,
    now: Mapping[str, Any] | None = None,
    compare: list[str] | None = None,
    frames: list[int] | None = None,
) -> CaseResult:
    """Accept ``before`` drawn with ``options``, then check ``after`` drawn with ``now``."""
    case = make_case(
        "a", before, camera, size=SIZE, options=options, compare=compare, frames=frames, repeat=1
    )
    runner = CaseRunner(BaselineStore(tmp_path / "baselines"), tmp_path / "out")
    assert runner.accept(case).accepted
    changed = make_case(
        "a", after, camera, size=SIZE, options=options if now is None else now, compare=compare, frames=frames
    )
    return runner.check(changed)


def kinds(result: CaseResult) -> set[str]:
    return {kind for frame in result.frames for kind in frame.kinds}


def noisy(image: Any) -> Any:
    noise = np.random.default_rng(2).integers(-1, 2, image.shape)
    return (image.astype(int) + noise).clip(0, 255).astype(np.uint8)


def swapped(image: Any) -> Any:
    out = image.copy()
    out[256:384, 256:384], out[256:384, 384:512] = image[256:384, 384:512], image[256:384, 256:384]
    return out


@pytest.mark.parametrize("zoom", [1, 0.5, 3])
def test_the_same_passes_and_so_does_noise_of_one_grey_level(tmp_path: Path, zoom: float) -> None:
    camera = f"x=400,y=300,zoom={zoom}"
    same = verdict(tmp_path / "same", CELLS[0], CELLS[0].copy(), camera=camera)
    assert same.verdict.value == "pass"
    assert same.frames[0].diff is not None
    assert same.frames[0].diff.worst_delta == 0
    noise = verdict(tmp_path / "noise", CELLS[0], noisy(CELLS[0]), camera=camera)
    assert noise.verdict.value == "pass", noise.reasons


@pytest.mark.parametrize("zoom", [1, 0.5, 3])
def test_a_shift_of_one_texel_fails(tmp_path: Path, zoom: float) -> None:
    shifted = np.roll(CELLS[0], 1, axis=1)
    result = verdict(tmp_path, CELLS[0], shifted, camera=f"x=400,y=300,zoom={zoom}")
    assert (result.verdict.value, kinds(result)) == ("fail", {"pixels"})


def test_a_swapped_tile_fails(tmp_path: Path) -> None:
    assert kinds(verdict(tmp_path, CELLS[0], swapped(CELLS[0]))) == {"pixels"}


def test_a_missing_channel_fails(tmp_path: Path) -> None:
    image = CELLS[None, :, None]  # t, c, z, y, x
    without = {"channels": "0:red:0-255,1:green:0-255"}
    assert kinds(verdict(tmp_path, image, image, options=COLOUR, now=without)) >= {"pixels"}


def test_a_gamma_of_1_02_fails(tmp_path: Path) -> None:
    result = verdict(tmp_path, CELLS[0], CELLS[0], now=GREY | {"gamma": "1.02"})
    assert kinds(result) == {"pixels"}
    assert "on average" in result.reasons[0]


def test_the_colour_of_one_label_fails(tmp_path: Path) -> None:
    other = np.where(LABELS == 5000, 5001, LABELS).astype(LABELS.dtype)
    result = verdict(tmp_path, LABELS, other, options={"labels": True}, now={"labels": True})
    assert kinds(result) == {"pixels"}


def test_a_level_too_coarse_fails_by_its_tiles_and_by_its_pixels(tmp_path: Path) -> None:
    small = CELLS[0].reshape(300, 2, 400, 2).mean((1, 3)).round().astype(np.uint8)
    coarse = small.repeat(2, 0).repeat(2, 1)
    assert kinds(verdict(tmp_path / "pixels", CELLS[0], coarse)) == {"pixels"}
    case = make_case("a", CELLS[0], CLOSE, size=SIZE, options=GREY)
    store, out = BaselineStore(tmp_path / "b"), tmp_path / "out"
    assert CaseRunner(store, out).accept(case).accepted

    def one_level_up(case: Case) -> RunResult:
        result: Any = render_with_pipeline(case)
        tiles = {**result.tile_sets[0], "level": 1, "layers": [[[1, [], [0, 0]]]]}
        return replace(result, tile_sets=[tiles])

    told = CaseRunner(store, out, one_level_up).check(case)
    assert kinds(told) == {"tiles"}
    assert "wanted" in told.reasons[0] or "no longer drawn" in told.reasons[0]


# progressive frames on the virtual clock

SLOW: dict[str, Any] = GREY | {"clock": "virtual", "latency": "40ms", "seed": 3}


def test_progressive_frames_are_stable_and_notice_a_change_in_loading(tmp_path: Path) -> None:
    frames = [0, 3, 6, 12, 60]
    path: dict[str, Any] = {"camera": "zoom-in", "options": SLOW, "frames": frames}
    same = verdict(tmp_path / "same", CELLS[0], CELLS[0], **path)
    assert same.verdict.value == "pass", same.reasons
    slower = verdict(tmp_path / "slower", CELLS[0], CELLS[0], now=SLOW | {"latency": "300ms"}, **path)
    assert slower.verdict.value == "fail"
    assert kinds(slower) & {"tiles", "coverage"}


# the command


SUITE = """
[defaults]
source = "cells ü.npy"
size = "200x150"
options = { clim = "0,255" }
[[case]]
name = "close"
camera = "x=400,y=300,zoom=1"
[[case]]
name = "all of it"
tolerance = { max_delta = 2 }
"""


def octree(folder: Path, *words: str, **env: str) -> tuple[int, str, str]:
    command = [str(Path(sys.executable).with_name("octree")), "check", *words]
    environment = {**os.environ, "CI": "", **env}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_command_fails_stages_accepts_and_passes(tmp_path: Path) -> None:
    np.save(tmp_path / "cells ü.npy", CELLS[0])
    (tmp_path / "suite.toml").write_text(SUITE, encoding="utf-8")
    code, out, err = octree(tmp_path, "suite.toml", "--accept", "--reason", "first")
    assert (code, out) == (0, ""), err
    assert "accepted as the baseline for default" in err
    code, out, err = octree(tmp_path, "suite.toml", "--json", "-q", CI="true")
    assert (code, err) == (0, "")
    assert json.loads(out)["counts"]["pass"] == 2
    np.save(tmp_path / "cells ü.npy", swapped(CELLS[0]))
    summary = tmp_path / "summary.md"
    code, out, err = octree(tmp_path, "suite.toml", "close", GITHUB_STEP_SUMMARY=str(summary))
    assert code == 1
    for words in (
        "fail close",
        "pixels differ",
        "octree-check/report.html",
        "octree check suite.toml --accept",
    ):
        assert words in err
    assert "all of it" not in err
    assert "| close | fail |" in summary.read_text(encoding="utf-8")
    for name in ("report.html", "report.json", "junit.xml", "summary.md", "actual/close/frame-0000.png"):
        assert (tmp_path / "octree-check" / name).exists()
    code, out, err = octree(tmp_path, "suite.toml", "-q")
    assert (code, out, len(err.splitlines())) == (1, "", 2)
    assert all(re.match(r" +fail (close|all of it): .* pixels differ", line) for line in err.splitlines()), (
        err
    )
    code, out, err = octree(tmp_path, "suite.toml", "--accept", "close", "--json")
    assert code == 0
    assert [case["name"] for case in json.loads(out)["cases"]] == ["close"]
    assert octree(tmp_path, "suite.toml", "close", CI="1")[0] == 0


def test_frames_of_a_ci_run_are_accepted_in_another_checkout(tmp_path: Path) -> None:
    runner, here = tmp_path / "runner" / "work", tmp_path / "here"
    for folder in (runner, here):
        folder.mkdir(parents=True)
        (folder / "suite.toml").write_text(SUITE, encoding="utf-8")
        np.save(folder / "cells ü.npy", CELLS[0])
    assert octree(runner, "suite.toml", CI="true")[0] == 1
    shutil.copytree(runner / "octree-check", here / "octree-check")
    (here / "cells ü.npy").unlink()  # nothing can be rendered here
    frame = Path("actual", "close", "frame-0000.png")
    (here / "octree-check" / "actual" / "all of it" / "frame-0000.png").write_bytes(b"another picture")
    code, out, err = octree(here, "suite.toml", "--accept", "--output", "octree-check", "--reason", "CI")
    assert (code, out) == (1, "")
    assert "accepted as the baseline for default" in err
    assert "is not the one that was rendered" in err
    taken = here / "baselines" / "default" / "close" / "frame-0000.png"
    assert taken.read_bytes() == (runner / "octree-check" / frame).read_bytes()
    assert not (here / "baselines" / "default" / "all of it").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere.toml"], 2, "no suite file nowhere.toml"),
        (["bad.toml"], 2, "unknown key 'sorce'"),
        (["good.toml", "x"], 2, "no case 'x'"),
        (["good.toml", "--scope", "all"], 2, "unknown --scope 'all'"),
        (["good.toml", "--require-renderer", "geforce"], 6, "not geforce"),
        (["good.toml", "--output", "file/out"], 4, "file/out"),
        (["good.toml"], 1, "error a"),
    ],
)
def test_exit_codes(tmp_path: Path, words: list[str], code: int, says: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.toml").write_text('[[case]]\nname = "a"\nsorce = "b"\n')
    (tmp_path / "good.toml").write_text('[[case]]\nname = "a"\nsource = "nowhere.zarr"\n')
    found, out, err = octree(tmp_path, *words)
    assert (found, out) == (code, ""), err
    assert says in err
    assert "Traceback" not in err
    if code != 1:
        found, out, err = octree(tmp_path, *words, "--json")
        assert json.loads(out)["error"]["message"]
