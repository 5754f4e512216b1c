"""Pixels that are not square in space are not drawn square, unless somebody wants to see texels."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from build_tools import octree
from PIL import Image

from octree.pyramid import build
from octree.render.check.spec import parse_suite
from octree.render.frames import RunResult, render
from octree.render.live import TiledImage

pytestmark = pytest.mark.usefixtures("gl_info")
PIXELS = np.random.default_rng(0).integers(0, 255, (100, 200), np.uint8)


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 rows of 2 micrometers, 200 columns of 1."""
    dest = tmp_path_factory.mktemp("aspect") / "tall.zarr"
    build(PIXELS, dest, voxel_size={"y": 2, "x": 1}, unit="micrometer")
    return dest


def drawn(source: object, camera: str, size: tuple[int, int], **options: object) -> RunResult:
    return render([source], [camera], size=size, options={"clim": "0,255", **options})


def test_pixels_are_as_high_as_voxels(tall: Path) -> None:
    result = drawn(tall, "fit", (400, 400))
    assert (result.frames[0][..., 0] == PIXELS.repeat(4, 0).repeat(2, 1)).all()
    frame = result.report.frames[0]
    assert (frame.camera.zoom, frame.camera.aspect, frame.visible_px) == (2, 2, 400 * 400)
    near = drawn(tall, "x=100,y=50,zoom=6", (60, 60)).frames[0]
    assert (near[..., 0] == PIXELS[47:53, 95:105].repeat(12, 0).repeat(6, 1)[6:-6]).all()


def test_texels_where_they_are_wanted(tall: Path) -> None:
    frame = drawn(tall, "fit", (400, 200), pixel_aspect=1).frames[0]
    assert (frame[..., 0] == PIXELS.repeat(2, 0).repeat(2, 1)).all()
    wide = drawn(PIXELS, "fit", (400, 50), pixel_aspect="0.25").frames[0]
    assert (wide[..., 0] == PIXELS.repeat(2, 1)[1::2]).all()


def test_sizes_that_nobody_can_compare_are_equal() -> None:
    assert drawn(PIXELS, "fit", (400, 200)).report.frames[0].camera.aspect == 1


def test_through_the_command_and_in_suites(tall: Path, tmp_path: Path) -> None:
    def size(*options: str) -> int:
        run = [
            "render",
            tall,
            "--camera",
            "fit",
            "--size",
            "400x400",
            "-o",
            tmp_path / "a.png",
            "--clim",
            "0,255",
        ]
        done = octree(*run, "--background", "red", *options)
        assert done.returncode == 0, done.stderr
        pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
        return int((pixels[..., 1] == pixels[..., 0]).sum())

    assert size() == 400 * 400
    assert size("--pixel-aspect", "1") == 400 * 200
    assert (
        "--pixel-aspect must be"
        in octree("render", tall, "-o", tmp_path / "a.png", "--pixel-aspect", "0").stderr
    )
    text = f"[[case]]\nname = 'a'\nsource = '{tall}'\nsize = '400x400'\noptions = {{pixel-aspect = 1, clim = '0,255'}}"
    (case,) = parse_suite(tomllib.loads(text), tmp_path)
    shown = render(case.sources, case.cameras, size=case.size_px, options=case.options)
    assert shown.report.frames[0].visible_px == 400 * 200


def test_a_node_says_its_aspect(tall: Path) -> None:
    node = TiledImage(tall)
    assert node.aspect == 2
    node.close()
