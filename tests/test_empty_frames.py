"""Frames that show nothing of the image: said, and a failure unless they are meant."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from build_tools import octree

from octree.pyramid import build
from octree.pyramid.errors import OctreeWarning
from octree.pyramid.grid import Region
from octree.render.frames import render
from octree.render.report.empty import Emptiness, emptiness
from octree.render.report.values import FrameReport
from octree.render.view.camera import Camera

IMAGE = Region((0, 0), (60, 80))


def frames(*cameras: Camera) -> list[FrameReport]:
    """Those with an x in the image show it."""
    return [
        FrameReport(index, camera, (40, 30), 0, 0, visible_px=100 * (0 <= camera.x <= 80))
        for index, camera in enumerate(cameras)
    ]


def inside(name: str = "a") -> Camera:
    return Camera(40, 30, 1, name)


def outside(name: str = "a") -> Camera:
    return Camera(500, 30, 1, name)


def judged(settle: bool, *cameras: Camera) -> Emptiness | None:
    return emptiness(frames(*cameras), [settle] * len(cameras), IMAGE)


@pytest.mark.parametrize(
    ("settle", "cameras", "fails"),
    [
        (True, [inside()], None),
        (True, [outside()], True),
        (True, [inside("a"), outside("b")], True),
        (True, [inside(), outside()], True),  # a path that is settled
        (False, [inside(), outside()], False),
        (False, [outside(), outside()], True),
        (False, [inside("a"), outside("b")], True),  # two paths, of which one never shows anything
    ],
)
def test_what_fails(settle: bool, cameras: list[Camera], fails: bool | None) -> None:
    found = judged(settle, *cameras)
    assert (found and found.fails) == fails


def test_how_many_and_where() -> None:
    assert judged(True, inside()) is None
    one, some = judged(True, outside()), judged(False, inside(), outside(), outside())
    assert one is not None
    assert one.message == (
        "the frame shows nothing of the image, which covers x from 0 to 80 and y from 0 to 60: its camera shows x from 480 to "
        "520 and y from 15 to 45"
    )
    assert some is not None
    assert some.message.startswith("2 of 3 frames show nothing of the image")
    assert "the first is frame 1 (a)" in some.message


def test_an_image_smaller_than_a_pixel() -> None:
    frame = FrameReport(0, Camera(0, 0, 1e-6, "a"), (40, 30), 0, 0)
    found = emptiness([frame], [True], IMAGE)
    assert found is not None
    assert "zoom 1e-06" in found.message


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("empty") / "image.ome.zarr"
    build(np.full((60, 80), 200, np.uint8), dest)
    return dest


@pytest.mark.usefixtures("gl_info")
def test_the_command_fails_unless_it_is_meant(image: Path, tmp_path: Path) -> None:
    run = ["render", image, "--camera", "x=5000,y=30,zoom=1", "--size", "40x30", "-o", tmp_path / "a.png"]
    done = octree(*run)
    assert done.returncode == 1
    assert "error: the frame shows nothing of the image, which covers x from 0 to 80" in done.stderr
    assert "--allow-empty" in done.stderr
    assert (tmp_path / "a.png").exists()
    meant = octree(*run, "--allow-empty")
    assert (meant.returncode, meant.stderr) == (0, "")


@pytest.mark.usefixtures("gl_info")
def test_a_path_that_passes_outside_only_warns(image: Path, tmp_path: Path) -> None:
    keys = [{"t_s": t, "x": 40 + 400 * t, "y": 30, "zoom": 1} for t in (0, 1)]
    path = tmp_path / "out.json"
    path.write_text(json.dumps({"fps": 4, "keyframes": keys}))
    run = ["render", image, "--camera", path, "--size", "40x30", "--clock", "virtual"]
    run += ["--report", tmp_path / "report.json"]
    done = octree(*run)
    assert done.returncode == 0
    assert "warning: 4 of 5 frames show nothing of the image" in done.stderr
    assert octree(*run, "--settle").returncode == 1


@pytest.mark.usefixtures("gl_info")
def test_python_is_warned(image: Path) -> None:
    camera = "x=5000,y=30,zoom=1"
    with pytest.warns(OctreeWarning, match="shows nothing of the image"):
        render([image], [camera], size=(40, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render([image], [camera], size=(40, 30), options={"allow_empty": True})
