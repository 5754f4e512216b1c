"""Volumes through the whole pipeline, as the command draws them: against projections, numpy, and themselves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray_march
from jsonschema import Draft202012Validator
from numpy.typing import NDArray

from octree.pyramid import build, open_pyramid
from octree.pyramid.model import Box
from octree.render import render
from octree.render.frames import RunResult
from octree.render.gl.volume.brick_atlas import BrickAtlas
from octree.render.gl.volume.march import MarchVisual
from octree.render.output.png import encode_png
from octree.render.report.html import write_html
from octree.render.report.values import report_schema
from octree.render.request import parse_request
from octree.render.scene.sources import open_sources
from octree.render.scene.volume.around import around_of
from octree.render.view.camera import Camera
from octree.render.view.register import ToBase
from octree.render.view.state import resolve
from octree.render.view.volume.sight import rays_of, sight_of
from octree.render.volume_options import VolumeOptions

pytestmark = pytest.mark.usefixtures("gl_info")
CUBES = {"z": 1, "y": 1, "x": 1}
FULL = {"clim": "0,255"}


def volume(*shape: int) -> NDArray[np.uint8]:
    """No two planes alike, in any direction."""
    z, y, x = np.indices(shape)
    return ((z * 7 + y * 13 + x * 5 + (z * y) // 9 + (x * z) // 7) % 251).astype(np.uint8)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three levels, the finest of 5 x 6 x 7 bricks."""
    path = tmp_path_factory.mktemp("volumes") / "cube.ome.zarr"
    build(volume(75, 90, 100), path, axes="zyx", voxel_size=CUBES, tile=16, shard=0, chunks="16,16,16")
    return path


@pytest.fixture(scope="module")
def small_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings with bricks of 16 voxels."""
    path = tmp_path_factory.mktemp("settings") / "small.json"
    path.write_text(json.dumps({"octree": {"tile_size": 16}}))
    return path


def drawn(
    source: Any, camera: str | list[str] = "fit", size: tuple[int, int] = (100, 90), **options: Any
) -> RunResult:
    cameras = [camera] if isinstance(camera, str) else camera
    words = {key: str(value) if isinstance(value, Path) else value for key, value in (FULL | options).items()}
    return render(source if isinstance(source, list) else [source], cameras, size=size, options=words)


def gray(*args: Any, **options: Any) -> NDArray[np.uint8]:
    return drawn(*args, **options).frames[0][..., 0]


# an axis-aligned view is the projection


@pytest.mark.parametrize(("mode", "project"), [("mip", "max"), ("minip", "min"), ("mean", "mean")])
def test_a_view_along_z_is_the_projection_along_z(
    cube: Path, small_tiles: Path, mode: str, project: str
) -> None:
    ours = gray(cube, "x=50,y=45,zoom=1", mode=mode, config=small_tiles)
    theirs = gray(cube, "x=50,y=45,zoom=1", project=f"z={project}")
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(ours)) > 5


def test_the_maximum_is_numpys(cube: Path, small_tiles: Path) -> None:
    data = volume(75, 90, 100)
    np.testing.assert_array_equal(gray(cube, "x=50,y=45,zoom=1", mode="mip", config=small_tiles), data.max(0))
    side = gray(cube, "azimuth=90,zoom=1", size=(75, 90), mode="mip", config=small_tiles)
    np.testing.assert_array_equal(side, data.max(2).T[:, ::1])
    top = gray(cube, "elevation=90,zoom=1", size=(100, 75), mode="mip", config=small_tiles)
    np.testing.assert_array_equal(top, data.max(1)[::-1])


def test_a_clipping_box_shows_what_is_in_it_alone(cube: Path, small_tiles: Path) -> None:
    data = np.zeros((75, 90, 100), np.uint8)
    data[10:41, 5:77, 30:100] = volume(75, 90, 100)[10:41, 5:77, 30:100]
    result = drawn(cube, "x=50,y=45,zoom=1", mode="mip", clip="z=10:41,y=5:77,x=30:", config=small_tiles)
    np.testing.assert_array_equal(result.frames[0][..., 0], data.max(0))
    frame = result.report.frames[0]
    assert frame.visible_px == 72 * 70
    assert frame.volume is not None
    assert frame.volume.samples == 31 * 72 * 70


@pytest.mark.parametrize(
    ("slab", "planes"), [("0", slice(30, 31)), ("1", slice(30, 31)), ("8", slice(27, 35))]
)
def test_a_slab_lies_about_the_cameras_middle(
    cube: Path, small_tiles: Path, slab: str, planes: slice
) -> None:
    z = 31 if slab == "8" else 30.5
    ours = gray(cube, f"x=50,y=45,z={z},zoom=1", mode="mip", slab=slab, config=small_tiles)
    np.testing.assert_array_equal(ours, volume(75, 90, 100)[planes].max(0))


def test_the_report_says_what_rays_met(cube: Path, small_tiles: Path) -> None:
    result = drawn(cube, "x=50,y=45,zoom=1", mode="mip", config=small_tiles)
    frame = result.report.frames[0]
    assert frame.volume is not None
    assert frame.volume.to_json() == {
        "mode": "mip",
        "samples": 75 * 90 * 100,
        "step_world": 1.0,
        "bricks_drawn": 5 * 6 * 7,
    }
    assert frame.displayed == "zyx"
    assert frame.visible_px == 90 * 100
    assert frame.coverage.ideal == 1
    assert frame.tiles.wanted == frame.tiles.drawn == frame.tiles.ideal == 5 * 6 * 7
    assert all(len(grid) == 3 for layer in result.tile_sets[0]["layers"] for _, _, grid in layer)
    document = result.report.to_json()
    Draft202012Validator(report_schema()).validate(document)
    camera = document["frames"][0]["camera"]
    assert {name: camera[name] for name in ("x", "y", "z", "azimuth", "elevation", "roll", "fov")} == {
        "x": 50, "y": 45, "z": 37.5, "azimuth": 0, "elevation": 0, "roll": 0, "fov": 0,
    }  # fmt: skip
    assert document["sources"][0]["tile"] == 16
    assert document["settings"]["options"]["volume"]["mode"] == "mip"


def test_the_page_says_that_it_is_a_volume(cube: Path, small_tiles: Path, tmp_path: Path) -> None:
    result = drawn(cube, "azimuth=30,zoom=1", mode="alpha", config=small_tiles)
    png = encode_png(result.frames[0])
    write_html(tmp_path / "page.html", result.report.to_json(), [png])
    page = (tmp_path / "page.html").read_text()
    volume_report = result.report.frames[0].volume
    assert volume_report is not None
    for words in (f"volume, alpha, {volume_report.bricks_drawn} bricks", "z 37.5, azimuth 30", "bricks read"):
        said = words in page  # a page is long: what it is must not be printed
        assert said, words


def test_further_out_a_coarser_level_is_wanted(cube: Path, small_tiles: Path) -> None:
    result = drawn(cube, "azimuth=20,zoom=0.5", mode="mip", config=small_tiles)
    frame = result.report.frames[0]
    assert frame.level == 1
    assert frame.volume is not None
    assert frame.volume.step_world == 2
    finer = drawn(cube, "azimuth=20,zoom=0.5", mode="mip", detail="0.5", config=small_tiles).report.frames[0]
    assert finer.level == 0
    assert finer.volume is not None
    assert finer.volume.step_world == 1


# against a slow renderer


def slowly(
    path: Path, camera: str, size: tuple[int, int], level: int, mode: str, *, late: float = 0.0
) -> NDArray[Any]:
    """The same frame of a built pyramid by the slow renderer, from whole levels, gray values. ``late``: so many steps too far."""
    request = parse_request([path], [camera], {"mode": mode, "size": "{}x{}".format(*size)})
    with open_sources(request) as opened:
        view, face = (
            opened.camera(camera, size),
            opened.sources[0].face(resolve(request.slicing, opened.sources[0].spec)),
        )
        extent, own = face.lattice.extent, face.lattice.levels[level]
        around = around_of(VolumeOptions(), opened.sources[0].spec)
        assert isinstance(view, Camera)
        to_base = ToBase((1.0,) * 3, (0.0,) * 3)
        sight = sight_of(view, size, to_base=to_base, world=around.world, extent=extent)
        step = min(edge * scale for edge, scale in zip(sight.voxel, own.scale[::-1], strict=True))
        rays = rays_of(sight, step)
        moved = [a + late * b for a, b in zip(rays.origin, rays.step, strict=True)]
        rays = replace(rays, origin=(moved[0], moved[1], moved[2]))
        shape = opened.sources[0].spec.levels[level].shape
    texels = open_pyramid(path).read(level, Box((0, 0, 0), shape))
    whole = ray_march.Volume(texels, _vec(own.scale[::-1]), _vec(own.origin[::-1]))
    boxes = [ray_march.Box((0.0, 0.0, 0.0), _vec(extent.high[::-1]), whole)]
    found = ray_march.sample(rays, boxes, linear=True)
    frame = ray_march.march(found, mode, _grays, clim=(0, 255), step_world=step, boxes=boxes)
    return ray_march.over(frame, (0, 0, 0))[..., 0].astype(int)


def _vec(numbers: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = map(float, numbers)
    return x, y, z


def _grays(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([values, values, values, np.ones(len(values))], axis=-1)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Voxels three times as deep as wide, odd sizes; smooth, so that a shift is seen and a rounding is not."""
    path = tmp_path_factory.mktemp("deep") / "deep.ome.zarr"
    z, y, x = np.indices((21, 61, 67))
    data = 127 * (1 + np.sin(z / 2.1) * np.cos(y / 4.3) * np.sin(x / 5.7 + z / 3))
    build(data.astype(np.uint8), path, axes="zyx", voxel_size={"z": 3, "y": 1, "x": 1}, tile=16, shard=0)
    return path


VIEWS = [
    "azimuth=33,elevation=21,roll=10,zoom=0.9",
    "azimuth=-70,elevation=-40,fov=45,zoom=0.7",
    "azimuth=20,zoom=0.4",
]


@pytest.mark.parametrize(("camera", "level"), [(VIEWS[0], 0), (VIEWS[2], 1)])
@pytest.mark.parametrize("mode", ["mip", "mean", "alpha"])
def test_frames_are_those_of_a_slow_renderer(
    deep: Path, small_tiles: Path, camera: str, level: int, mode: str
) -> None:
    size = (40, 36)
    result = drawn(deep, camera, size, mode=mode, interpolation="linear", opacity=1, config=small_tiles)
    assert result.report.frames[0].level == level
    ours, theirs = result.frames[0][..., 0].astype(int), slowly(deep, camera, size, level, mode)
    assert np.abs(ours - theirs).max() <= 2
    assert theirs.max() > 60


def test_how_opaque_a_volume_is_goes_by_its_size(deep: Path) -> None:
    """The brightest let a tenth through after a twentieth of its longest edge."""
    size, words = (40, 36), {"mode": "alpha", "colormap": "magma"}
    ours = drawn(deep, VIEWS[0], size, **words).frames[0]
    np.testing.assert_array_equal(
        ours, drawn(deep, VIEWS[0], size, opacity=1 - 0.1 ** (20 / 67), **words).frames[0]
    )
    assert (ours != drawn(deep, VIEWS[0], size, opacity=1, **words).frames[0]).any()


@pytest.mark.parametrize("wrong", ["a texel", "a level", "half a sample"])
def test_a_frame_that_is_off_is_seen(deep: Path, small_tiles: Path, wrong: str) -> None:
    """Negative controls: what the slow renderer must not agree with."""
    size, camera = (40, 36), VIEWS[0]
    ours = gray(deep, camera, size, mode="mip", interpolation="linear", config=small_tiles).astype(int)
    shifted = camera.replace("roll=10", "roll=10,x=34.5")  # one voxel to the right of the middle
    other = {
        "a texel": lambda: slowly(deep, shifted, size, 0, "mip"),
        "a level": lambda: slowly(deep, camera, size, 1, "mip"),
        "half a sample": lambda: slowly(deep, camera, size, 0, "mip", late=0.5),
    }[wrong]()
    assert np.abs(ours - other).max() > 4


# channels, labels, layers, time


def test_channels_are_added_in_their_colours(tmp_path: Path) -> None:
    data = np.stack([volume(20, 40, 50), 250 - volume(20, 40, 50)])
    build(data, tmp_path / "two", axes="czyx", voxel_size=CUBES)
    words = {"channels": "0:red:0-255,1:lime:0-255", "mode": "mip"}
    frame = drawn(tmp_path / "two", "x=25,y=20,zoom=1", size=(50, 40), **words).frames[0]
    np.testing.assert_array_equal(frame[..., 0], data[0].max(0))
    np.testing.assert_array_equal(frame[..., 1], data[1].max(0))
    assert not frame[..., 2].any()


def test_layers_of_other_voxel_sizes_lie_where_they_belong(tmp_path: Path) -> None:
    fine, coarse = np.zeros((20, 40, 50), np.uint8), np.zeros((10, 20, 25), np.uint8)
    fine[2:6, 4:8, 6:10] = 200
    coarse[1:3, 2:4, 3:5] = 200
    build(fine, tmp_path / "fine", axes="zyx", voxel_size=CUBES, unit="micrometer")
    build(coarse, tmp_path / "coarse", axes="zyx", voxel_size=dict.fromkeys("zyx", 2), unit="micrometer")
    frame = drawn(
        [tmp_path / "fine", tmp_path / "coarse"], "x=25,y=20,zoom=1", size=(50, 40), mode="mip",
        colormap=["red", "lime"], blending="additive",
    ).frames[0]  # fmt: skip
    np.testing.assert_array_equal(frame[..., 0] > 0, fine.max(0) > 0)
    half = np.zeros(
        (40, 50), bool
    )  # voxels lie about their positions: twice as large ones begin half a voxel before
    half[3:7, 5:9] = True
    np.testing.assert_array_equal(frame[..., 1] > 0, half)


def test_labels_lie_over_a_volume(tmp_path: Path) -> None:
    ids = np.zeros((20, 40, 50), np.uint32)
    ids[5:9, 10:20, 10:30] = 70_000
    build(volume(20, 40, 50), tmp_path / "grey", axes="zyx", voxel_size=CUBES)
    build(ids, tmp_path / "ids", axes="zyx", voxel_size=CUBES, labels=True)
    frame = drawn(
        [tmp_path / "grey", tmp_path / "ids"], "x=25,y=20,zoom=1", size=(50, 40), mode="mip", labels=True
    ).frames[0]
    coloured = (frame[..., 0] != frame[..., 1]) | (frame[..., 1] != frame[..., 2])
    np.testing.assert_array_equal(coloured, ids.max(0) > 0)


def test_a_film_over_time_shows_each_volume(tmp_path: Path) -> None:
    data = np.stack([volume(20, 40, 50), 250 - volume(20, 40, 50), volume(20, 40, 50) // 2])
    build(data, tmp_path / "film", axes="tzyx", voxel_size=CUBES)
    result = drawn(tmp_path / "film", "x=25,y=20,zoom=1", size=(50, 40), mode="mip", index="t=:")
    for frame, own in zip(result.frames, data, strict=True):
        np.testing.assert_array_equal(frame[..., 0], own.max(0))
    assert result.report.totals.wrong_plane_frames == 0
    assert [each.position.shown for each in result.report.frames] == [(("t", t),) for t in range(3)]


def test_a_source_without_a_pyramid_is_made_one_of() -> None:
    data = volume(70, 80, 90)
    near = drawn(data, "x=45,y=40,zoom=1", size=(90, 80), mode="mip")
    np.testing.assert_array_equal(near.frames[0][..., 0], data.max(0))
    far = drawn(data, "x=45,y=40,zoom=0.5", size=(45, 40), mode="mip")
    assert far.report.frames[0].level == 1
    half = data.reshape(35, 2, 40, 2, 45, 2).astype(float).mean((1, 3, 5))
    np.testing.assert_allclose(far.frames[0][..., 0].astype(float), half.max(0), atol=0.5)
    assert far.report.totals.main_thread_reads == 0


@pytest.mark.parametrize("shape", ["auto", "2x1"])
def test_a_montage_shows_a_volume_from_several_sides(cube: Path, small_tiles: Path, shape: str) -> None:
    cameras = ["x=50,y=45,z=37.5,zoom=1", "azimuth=90,zoom=1"]
    result = drawn(
        cube, cameras, size=(206, 90), mode="mip", montage=shape, no_titles=True, config=small_tiles
    )
    frame, data = result.frames[0][..., 0], volume(75, 90, 100)
    cells = result.report.frames[0].cells
    for cell, own in zip(cells, (data.max(0), data.max(2).T), strict=True):
        pane = frame[cell.y : cell.y + cell.height, cell.x : cell.x + cell.width]
        top, left = (pane.shape[0] - own.shape[0]) // 2, (pane.shape[1] - own.shape[1]) // 2
        found = pane[max(top, 0) :, max(left, 0) :]
        np.testing.assert_array_equal(
            found[: own.shape[0], : own.shape[1]], own[: found.shape[0], : found.shape[1]]
        )
    assert result.report.totals.tiles_read_twice == 0


# what is read, kept, missing


def test_over_a_turntable_no_brick_is_read_twice(cube: Path, small_tiles: Path) -> None:
    result = drawn(cube, "turntable", size=(64, 48), settle=True, fps="2", config=small_tiles)
    assert len(result.frames) == 12
    assert result.report.totals.tiles_read_twice == 0
    assert all(frame.coverage.ideal == 1 for frame in result.report.frames)
    assert len({frame.tobytes() for frame in result.frames}) == 12


@pytest.mark.parametrize("mode", ["mip", "mean"])
@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_settled_frames_do_not_depend_on_how_bricks_arrive(
    cube: Path, small_tiles: Path, interpolation: str, mode: str
) -> None:
    """Between texels the last bit of float32 may be another in another place of the atlas."""
    words = {"mode": mode, "config": small_tiles, "interpolation": interpolation}
    camera = "azimuth=33,elevation=21,zoom=0.8"
    plain = drawn(cube, camera, **words).frames[0].astype(int)
    slow = {"clock": "virtual", "latency": "40ms", "jitter": "30ms", "bandwidth": "1MB/s", "seed": 3}
    others = [
        drawn(cube, camera, **words, **slow),
        drawn(cube, camera, **words, **slow, cache="0.2MiB"),  # bricks do not wait for those beside them
        drawn(cube, ["azimuth=-50,zoom=2", camera], **words),
    ]
    for other in others:
        off = np.abs(other.frames[-1].astype(int) - plain)
        assert off.max() <= (interpolation == "linear")
        assert (off > 0).mean() < 1e-3


@pytest.mark.parametrize(("latency", "cache"), [("0ms", "64MiB"), ("40ms", "64MiB"), ("40ms", "0.2MiB")])
def test_a_settled_frame_writes_each_wanted_brick_once(
    cube: Path, small_tiles: Path, latency: str, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else, and no part of a gutter later, while what waits for its neighbours has room in half of the cache."""
    pieces: list[int] = []
    monkeypatch.setattr(BrickAtlas, "_write", lambda atlas, place, some: pieces.append(len(some)))
    network = {"clock": "virtual", "latency": latency, "jitter": latency}
    words = {"interpolation": "linear", "config": small_tiles, "cache": cache, **network}
    result = drawn(cube, "azimuth=33,elevation=21,zoom=1", size=(160, 160), **words)
    assert result.report.frames[0].coverage.ideal == 1
    assert (pieces == [1] * (5 * 6 * 7)) == (cache == "64MiB")
    assert sum(pieces) >= 5 * 6 * 7


def test_when_time_runs_out_coarser_bricks_stand_in(cube: Path, small_tiles: Path) -> None:
    """They were in memory, and not uploaded, as nobody was to see them."""
    words = {"clock": "virtual", "bandwidth": "400kB/s", "timeout": "800ms", "config": small_tiles, "seed": 1}
    coverage = drawn(cube, "zoom=1", mode="mip", **words).report.frames[0].coverage
    assert coverage.ideal > 0.1
    assert coverage.coarser > 0.1
    assert coverage.missing == 0


@pytest.mark.parametrize("mode", ["mip", "iso"])
def test_where_levels_meet_nothing_shows_what_was_seen_before(small_tiles: Path, mode: str) -> None:
    """In perspective, fine bricks lie beside coarse ones. What lies beyond their border is no part of the view: whether it is
    in memory, from another view, may not be seen."""
    noise = np.random.default_rng(3).integers(0, 60000, (100, 110, 120)).astype(np.uint16)
    words = {"mode": mode, "config": small_tiles, "interpolation": "linear", "clim": "0,60000"}
    camera = "azimuth=20,elevation=15,fov=100,zoom=1,z=0"
    alone = drawn(noise, camera, **words)
    assert len(alone.report.frames[0].coverage.by_level) > 1
    for before in ("fit", "azimuth=20,elevation=15,fov=100,zoom=3,z=0"):
        other = drawn(noise, [before, camera], **words)
        assert np.abs(other.frames[1].astype(int) - alone.frames[0]).max() <= 1


def test_on_the_virtual_clock_frames_that_load_are_the_same_each_time(cube: Path, small_tiles: Path) -> None:
    def stream() -> RunResult:
        return drawn(
            cube, "turntable", size=(64, 48), stream=True, fps="5", clock="virtual", latency="150ms", jitter="80ms",
            bandwidth="200kB/s", seed=4, config=small_tiles,
        )  # fmt: skip

    one, other = stream(), stream()
    assert [frame.tobytes() for frame in one.frames] == [frame.tobytes() for frame in other.frames]
    ours, theirs = ([frame.coverage for frame in run.report.frames] for run in (one, other))
    assert ours == theirs
    assert one.tile_sets == other.tile_sets
    shares = [coverage.ideal for coverage in ours]
    assert shares[0] < 1
    assert shares[-1] == 1
    assert any(0 < coverage.coarser < 1 or 0 < coverage.missing < 1 for coverage in ours)
    for coverage in ours:
        total = sum([coverage.ideal, coverage.finer, coverage.coarser, coverage.failed, coverage.missing])
        assert total == pytest.approx(1)
        assert sum(coverage.by_level.values()) == pytest.approx(total - coverage.failed - coverage.missing)


def test_only_while_bricks_are_on_their_way_do_stand_ins_take_fewer_samples(
    cube: Path, small_tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    plain = MarchVisual.set_cells

    def noting(visual: MarchVisual, *cells: Any, strides: bool = False) -> None:
        told.append(strides)
        plain(visual, *cells, strides=strides)

    monkeypatch.setattr(MarchVisual, "set_cells", noting)
    network = {"clock": "virtual", "latency": "150ms", "jitter": "80ms", "bandwidth": "200kB/s", "seed": 4}
    words = {"mode": "mean", "config": small_tiles, "size": (64, 48), **network}
    early = drawn(cube, "azimuth=33,elevation=21,zoom=0.8", timeout="300ms", **words)
    assert early.report.frames[0].coverage.ideal < 1
    settled = drawn(cube, "turntable", settle=True, fps="4", **words)
    assert not any(told), "nobody waits for more"
    told.clear()
    stream = drawn(cube, "turntable", stream=True, fps="4", **words)
    coverage = [frame.coverage for frame in stream.report.frames]
    assert told == [each.ideal < 1 for each in coverage]
    assert any(each.coarser > 0 for each in coverage)
    assert coverage[-1].ideal == 1
    np.testing.assert_array_equal(stream.frames[-1], settled.frames[-1])


def test_what_cannot_be_read_is_a_share_of_coverage(cube: Path, small_tiles: Path) -> None:
    result = drawn(
        cube, "x=50,y=45,zoom=1", mode="mip", fail_rate=0.3, seed=2, clock="virtual", config=small_tiles
    )
    frame = result.report.frames[0]
    assert 0 < frame.coverage.failed < 1
    lost = {
        tuple(failure["key"]["grid"]) for failure in result.report.failures if failure["key"]["level"] == 0
    }
    data = volume(75, 90, 100)
    gone = np.zeros(data.shape, bool)
    for z, y, x in lost:
        gone[16 * z : 16 * z + 16, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = True
    assert frame.coverage.failed == pytest.approx(gone.mean())
    red, green, blue = (result.frames[0][..., n].astype(int) for n in range(3))
    assert (red > green + 40).any(), "they are outlined"
    there = np.where(gone, 0, data).max(0)
    plain = (red == green) & (green == blue)
    assert plain.mean() > 0.3
    np.testing.assert_array_equal(red[plain], there[plain])


def test_the_box_is_an_outline_over_the_volume(cube: Path) -> None:
    camera = "azimuth=33,elevation=21,zoom=0.6"
    plain, boxed = (drawn(cube, camera, mode="mip", **more) for more in ({}, {"box": True}))
    changed = (plain.frames[0] != boxed.frames[0]).any(-1)
    assert 100 < changed.sum() < changed.size / 3
    coloured = boxed.frames[0][..., :3].astype(int)
    for axis in range(3):  # x red, y green, z blue
        others = [coloured[..., other] for other in range(3) if other != axis]
        assert (coloured[..., axis] > np.maximum(*others) + 40).any()
    assert plain.report.frames[0].coverage == boxed.report.frames[0].coverage
    assert plain.tile_sets == boxed.tile_sets


def octree(*arguments: Any, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "octree.cli", "render", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def test_stand_ins_of_a_level_that_is_wanted_elsewhere_give_way(tmp_path: Path) -> None:
    build(
        volume(150, 160, 190), tmp_path / "v", voxel_size={"z": 2, "y": 1, "x": 1}, unit="micrometer", tile=64
    )
    options = {"mode": "mip", "size": "50x40", "atlas": 7 * 66**3 + 1000, "min_coverage": 0, "timeout": "5s"}
    run = render([tmp_path / "v"], ["azimuth=20,elevation=10,fov=60,zoom=0.5"], options=options)
    frame = run.report.to_json()["frames"][0]
    assert len(frame["coverage"]["by_level"]) > 1
    assert frame["coverage"]["missing"] == 0


def test_a_volume_larger_than_the_atlas_is_coarser_which_is_said(
    cube: Path, small_tiles: Path, tmp_path: Path
) -> None:
    common = (
        cube,
        "--camera",
        "x=50,y=45,zoom=1",
        "--mode",
        "mip",
        "--size",
        "100x90",
        "--config",
        small_tiles,
    )
    run = octree(*common, "--atlas", "500KiB", "-o", tmp_path / "a.png", "--report", tmp_path / "a.json")
    assert run.returncode == 1
    assert "only 0 % of frame 0" in run.stderr
    assert "give more --atlas" in run.stderr
    assert "no room for all bricks" in run.stderr
    frame = json.loads((tmp_path / "a.json").read_text())["frames"][0]
    assert frame["degraded"]
    assert frame["level"] == 1
    assert frame["coverage"]["coarser"] == 1
    assert frame["gauges"]["atlas_bytes"] <= 500 * 1024
    run = octree(*common, "--atlas", "500KiB", "-o", tmp_path / "b.png", "--min-coverage", "0")
    assert run.returncode == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    enough = re.findall(r"give --atlas (\d+MiB), or ask for less", run.stderr)[0]
    assert int(enough.removesuffix("MiB")) <= 4  # 210 bricks of 18 x 18 x 18 are 1.2 MiB
    run = octree(*common, "--atlas", enough, "-o", tmp_path / "b.png")
    assert run.returncode == 0
    assert "coarser" not in run.stderr
    tiny = octree(*common, "--atlas", "1KiB", "-o", tmp_path / "c.png")
    assert tiny.returncode == 2
    assert "cannot hold one tile" in tiny.stderr


def test_a_surface_that_is_nowhere_is_said(cube: Path, tmp_path: Path) -> None:
    """The highest value is 250."""
    common = (
        cube,
        "--mode",
        "iso",
        "--camera",
        "zoom=1,azimuth=0",
        "--size",
        "40x30",
        "-o",
        tmp_path / "a.png",
    )
    run = octree(*common, "--iso", "300")
    assert run.returncode == 1
    assert "shows nothing of the image" in run.stderr
    assert "no value in view reaches --iso 300; the highest, at level 0, is 250" in run.stderr
    assert octree(*common, "--iso", "300", "--allow-empty").returncode == 0
    assert octree(*common, "--iso", "250").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--mode", "slice", "--camera", "turntable"), "--mode slice"),
        (("--slab", "3"), "--slab is of volumes"),
        (("--mode", "mip", "--clip", "x=100:200"), "lies outside the image"),
        (("--camera", "azimuth=10,zoom=0"), "zoom"),
    ],
)
def test_usage_errors_are_exit_code_2(
    cube: Path, arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    run = octree(cube, *arguments, "-o", tmp_path / "a.png")
    assert run.returncode == 2
    assert says in run.stderr
    assert "Traceback" not in run.stderr


def test_a_camera_that_looks_past_the_volume_is_said(cube: Path, tmp_path: Path) -> None:
    run = octree(cube, "--camera", "azimuth=10,x=9000,zoom=1", "--size", "60x40", "-o", tmp_path / "a.png")
    assert run.returncode == 1
    assert "covers x from 0 to 100, y from 0 to 90 and z from 0 to 75" in run.stderr
    assert "looks at x 9000" in run.stderr
