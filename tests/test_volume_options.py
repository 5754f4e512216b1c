"""What is asked of volumes in words: options of the command, of Python and of suites, and what excludes what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.pyramid import build
from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.render.frames import Renderer
from octree.render.request import RenderRequest, parse_request
from octree.render.scene.volume.around import around_of
from octree.render.tiles.tile_source import open_tile_source
from octree.render.volume_options import Clip, Length, VolumeOptions, parse_clip, parse_slab


def asked(cameras: list[str] | str = "fit", **options: Any) -> RenderRequest:
    return parse_request(["a"], [cameras] if isinstance(cameras, str) else cameras, options)


# which view it is


@pytest.mark.parametrize("camera", ["azimuth=30,elevation=20", "roll=10", "fov=40", "turntable"])
def test_a_camera_around_a_volume_shows_it_by_maximum(camera: str) -> None:
    request = asked(camera)
    assert request.volume == VolumeOptions("mip")
    assert request.slicing.displayed == ("z", "y", "x")


@pytest.mark.parametrize("camera", ["fit", "x=3,y=4,zoom=2", "rect=0,0,4,4", "pan"])
def test_other_cameras_show_planes(camera: str) -> None:
    assert asked(camera).volume is None
    assert asked(camera, mode="slice").volume is None
    assert asked(camera).slicing.displayed == ("y", "x")


@pytest.mark.parametrize("mode", ["mip", "minip", "mean", "attenuated-mip", "alpha", "iso"])
def test_a_mode_shows_a_volume_whatever_the_camera(mode: str) -> None:
    request = asked(mode=mode, detail="2", slab="5um", clip="x=1:9,z=:4", box=True)
    assert request.volume is not None
    assert request.volume.mode == mode
    assert request.volume.detail_px == 2
    assert request.volume.box
    assert request.volume.slab == Length(5, "micrometer")
    assert request.volume.clip == Clip((("x", 1, 9), ("z", None, 4)))


def test_thresholds_go_to_the_layers_in_order() -> None:
    request = parse_request(["a", "b"], ["fit"], {"mode": "iso", "iso": ["100", "auto"]})
    assert [layer.iso for layer in request.layers] == [100, None]
    request = parse_request(["a", "b"], ["fit"], {"mode": "attenuated-mip", "attenuation": 0.5})
    assert [layer.attenuation for layer in request.layers] == [0.5, 0.5]


# what excludes what

WRONG: list[tuple[str, Mapping[str, Any], str]] = [
    ("turntable", {"mode": "slice"}, "--mode slice shows planes, and --camera turntable|--mode mip"),
    ("fit", {"slab": 3}, "--slab is of volumes|--mode mip"),
    ("fit", {"clip": "x=1:2"}, "--clip is of volumes|--mode mip"),
    ("fit", {"detail": 2}, "--detail is of volumes|--mode mip"),
    ("fit", {"box": True}, "--box is of volumes|azimuth"),
    ("fit", {"iso": 5}, "--iso is of volumes|--mode mip"),
    ("fit", {"attenuation": 5, "mode": "slice"}, "--attenuation is of volumes|--mode mip"),
    ("fit", {"iso": 5, "mode": "mip"}, "--iso is of --mode iso, not of --mode mip|--mode iso"),
    ("turntable", {"attenuation": 5}, "--attenuation is of --mode attenuated-mip, not of --mode mip|--mode"),
    ("fit", {"display": "zx", "mode": "mip"}, "--display with --mode mip|leave out --display"),
    ("turntable", {"display": "zx"}, "--display with --camera turntable|leave out --display"),
    ("fit", {"project": "z=max", "mode": "mip"}, "--project z=… with --mode mip|--clip z="),
    ("fit", {"index": "z=3", "mode": "alpha"}, "--index z=… with --mode alpha|--clip z="),
    ("fit", {"montage": "ortho", "mode": "mip"}, "--montage ortho with --mode mip|--montage auto"),
    ("fit", {"overview": True, "mode": "mip"}, "--overview with --mode mip|leave out --overview"),
    ("fit", {"pixel_aspect": 2, "mode": "mip"}, "--pixel-aspect with --mode mip|leave out"),
    ("fit", {"show_grid": True, "mode": "mip"}, "--show-grid with --mode mip|leave out"),
    ("fit", {"mark_pending": True, "mode": "mip"}, "--mark-pending with --mode mip|leave out"),
    ("fit", {"mode": "max"}, "unknown --mode 'max'|slice, mip"),
    ("fit", {"mode": "mip", "slab": "-1"}, "--slab must be a thickness|"),
    ("fit", {"mode": "mip", "slab": "3 parsnips"}, "'parsnips' is not a unit of length|"),
    ("fit", {"mode": "mip", "detail": "0"}, "--detail must be a number > 0|"),
    ("fit", {"mode": "mip", "clip": "x=5:5"}, "x=5:5 holds nothing|FROM"),
    ("fit", {"mode": "mip", "clip": "x=-5:5"}, "x=-5:5 holds nothing|FROM"),
    ("fit", {"mode": "mip", "clip": "t=0:5"}, "'t' is not x, y or z|x=100:900"),
    ("fit", {"mode": "mip", "clip": "x=0:5,x=1:2"}, "clips x twice|one range"),
    ("fit", {"mode": "mip", "clip": "x=5"}, "x=5 is not FROM:TO|x=100:900"),
    ("fit", {"mode": "mip", "clip": "x=a:5"}, "x=a:5 is not FROM:TO|x=100:900"),
    ("fit", {"mode": "iso", "iso": "nan"}, "--iso must be auto or a number|"),
    (
        "fit",
        {"mode": "attenuated-mip", "attenuation": "-1"},
        "--attenuation must be auto or a number of at least 0|",
    ),
]


@pytest.mark.parametrize(("camera", "options", "says"), WRONG)
def test_what_cannot_be_meant_is_a_usage_error_that_names_the_options(
    camera: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError) as refused:
        asked(camera, **options)
    message, hint = says.split("|")
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


def test_defaults_of_planes_are_no_contradiction() -> None:
    assert asked(mode="mip", display="yx", overview=False, show_grid=False).volume is not None
    assert asked(mode="mip", project="t=max", index="c=1").volume is not None


def test_volumes_have_a_larger_atlas_unless_somebody_says(tmp_path: Path) -> None:
    gib, some = 2**30, tmp_path / "some.json"
    some.write_text('{"render": {"atlas_bytes": 5000}}')
    assert asked(mode="mip").settings.render.atlas_bytes == gib
    assert asked().settings.render.atlas_bytes == gib // 4
    assert asked(mode="mip", atlas="300MiB").settings.render.atlas_bytes == 300 * 2**20
    assert asked(mode="mip", config=str(some)).settings.render.atlas_bytes == 5000
    some.write_text('{"render": {"atlas_bytes": 5000, "volume_atlas_bytes": 6000}}')
    assert asked(mode="mip", config=str(some)).settings.render.atlas_bytes == 6000


# lengths and boxes


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", Length(0)),
        (3, Length(3)),
        ("2.5", Length(2.5)),
        ("20 nm", Length(20, "nanometer")),
        ("1e3", Length(1000)),
        ("5µm", Length(5, "micrometer")),
        ("2 millimeter", Length(2, "millimeter")),
    ],
)
def test_a_thickness_is_a_number_or_one_with_a_unit(text: Any, length: Length) -> None:
    assert parse_slab(text) == length
    assert parse_slab(str(length)) == length


def test_a_box_is_written_as_it_is_read() -> None:
    clip = parse_clip("x=100:900,z=:50,y=3.5:")
    assert clip == Clip((("x", 100, 900), ("z", None, 50), ("y", 3.5, None)))
    assert parse_clip(str(clip)) == clip
    assert parse_clip({"x": "100:900", "z": [None, 50], "y": (3.5, None)}) == clip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("options") / "stack.ome.zarr"
    data = np.zeros((8, 20, 30), np.uint8)
    build(data, path, axes="zyx", voxel_size={"z": 2, "y": 0.5, "x": 0.25}, unit="micrometer")
    return path


def test_the_world_is_stretched_by_voxel_size(stack: Path) -> None:
    spec = open_tile_source(stack).spec
    around = around_of(VolumeOptions(slab=Length(1, "micrometer"), clip=parse_clip("y=5:,z=:4")), spec)
    assert around.world == (8, 2, 1)
    assert around.slab == 4
    inf = float("inf")
    assert around.clip == Region((-inf, 5, -inf), (4, inf, inf))
    assert around.longest == 64


@pytest.mark.parametrize("text", ["x=30:40", "y=20:", "z=8:9"])
def test_a_box_beside_the_image_is_a_usage_error(stack: Path, text: str) -> None:
    with pytest.raises(UsageError, match="lies outside the image") as refused:
        around_of(VolumeOptions(clip=parse_clip(text)), open_tile_source(stack).spec)
    assert "runs from 0 to" in (refused.value.hint or "")


def test_a_unit_needs_voxels_that_have_one() -> None:
    spec = open_tile_source(np.zeros((4, 8, 8), np.uint8)).spec
    with pytest.raises(UsageError, match="no unit of length"):
        around_of(VolumeOptions(slab=Length(1, "micrometer")), spec)
    assert around_of(VolumeOptions(slab=Length(3)), spec).slab == 3


def test_a_plane_is_no_volume_which_is_said() -> None:
    flat = np.zeros((30, 40), np.uint8)
    with pytest.raises(UsageError, match=r"--camera azimuth=30: .*this image has no z"):
        Renderer(parse_request([flat], ["azimuth=30"], {}))
    with pytest.raises(UsageError, match=r"--mode: .*this image has no z"):
        Renderer(parse_request([flat], ["fit"], {"mode": "mip"}))


def test_one_plane_of_z_is_a_volume() -> None:
    flat = np.zeros((1, 30, 40), np.uint8)
    with Renderer(parse_request([flat], ["azimuth=30"], {})) as renderer:
        assert renderer.shots[0].camera.orbit is not None


@pytest.mark.parametrize("camera", ["azimuth=30,zoom=0", "azimuth=30,zoom=-1", "azimuth=30,zoom=nan"])
def test_zoom_0_is_a_usage_error(camera: str) -> None:
    with pytest.raises(UsageError, match="zoom"):
        Renderer(parse_request([np.zeros((4, 8, 8), np.uint8)], [camera], {}))
