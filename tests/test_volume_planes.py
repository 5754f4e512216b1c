"""Planes of volumes, and images without z among them: against a slow look at where rays cross them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import ray_march
from gl_volume import VolumeStage, bricks_of, look_at, pyramid
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from volume_cases import lattices, sights

from octree.pyramid import build
from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Lattice, Region
from octree.pyramid.model import TileKey
from octree.render import render
from octree.render.frames import Renderer, RunResult
from octree.render.gl.canvas import Canvas
from octree.render.gl.volume.brick_atlas import BrickAtlas
from octree.render.gl.volume.counting import SampleCounter
from octree.render.gl.volume.march import MarchVisual
from octree.render.request import parse_request
from octree.render.view.camera import Camera
from octree.render.view.cover import regions_of
from octree.render.view.register import ToBase
from octree.render.view.state import Slicing
from octree.render.view.volume.cells import cells_of
from octree.render.view.volume.orbit import Orbit
from octree.render.view.volume.plan import plan_volume
from octree.render.view.volume.samples import crossed_planes, rays_at, seen_samples
from octree.render.view.volume.sight import BIAS, rays_of, sight_of

SIZE = (90, 70)
DEEP = (2.5, 1.0, 1.0)  # world edges of a voxel, (z, y, x)
SHAPE = (17, 41, 53)


def data(*shape: int) -> NDArray[np.uint8]:
    """No two voxels beside each other alike, none of them 0."""
    n = np.indices(shape)
    return (1 + sum(i * f for i, f in zip(n, (37, 59, 83), strict=False)) % 251).astype(np.uint8)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planes") / "deep.ome.zarr"
    size = dict(zip("zyx", DEEP, strict=True))
    build(data(*SHAPE), path, axes="zyx", voxel_size=size, unit="um", tile=16, shard=0, chunks="16,16,16")
    (path.parent / "small.json").write_text(json.dumps({"octree": {"tile_size": 16}}))
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As wide and high as the volume, of half the pixels."""
    path = tmp_path_factory.mktemp("image") / "image.ome.zarr"
    build(data(20, 26)[::-1], path, axes="yx", voxel_size={"y": 2, "x": 2}, unit="um", tile=16, shard=0)
    return path


def drawn(sources: list[Path], camera: str, **options: Any) -> RunResult:
    bricks = {"config": str(sources[0].parent / "small.json")} if sources[0].name == "deep.ome.zarr" else {}
    options = {"clim": "0,255", **bricks, **options}
    return render([str(path) for path in sources], [camera], size=SIZE, options=options)


class Look:
    """Rays of a camera as volumes.md tells of them; world points (x, y, z)."""

    def __init__(self, azimuth: float, elevation: float, zoom: float, fov: float = 0.0) -> None:
        a, e = np.radians([azimuth, elevation])
        self.forward = np.array([-np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
        right = np.array([np.cos(a), 0, np.sin(a)])
        self.target = np.array(SHAPE[::-1]) / 2 * DEEP[::-1]
        i, j = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
        # the bias that keeps rays off the borders of voxels
        u, v = (i + 0.5 - SIZE[0] / 2 + BIAS) / zoom, (j + 0.5 - SIZE[1] / 2 + 0.7 * BIAS) / zoom
        aside = u[..., None] * right + v[..., None] * np.cross(self.forward, right)
        if fov:
            away = SIZE[1] / (2 * zoom * np.tan(np.radians(fov / 2)))
            self.begin, self.along = self.target - away * self.forward, self.forward + aside / away
            self.begin = np.broadcast_to(self.begin, aside.shape)
        else:
            self.begin, self.along = self.target + aside, np.broadcast_to(self.forward, aside.shape)
        self.in_front = fov > 0
        self.text = f"azimuth={azimuth},elevation={elevation},zoom={zoom},fov={fov}"

    def crossing(self, axis: int, at: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """Voxels (x, y, z) where rays cross a plane at a voxel's place, (h, w, 3), and how deep that lies; infinite: nowhere."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (at * DEEP[2 - axis] - self.begin[..., axis]) / self.along[..., axis]
            world = self.begin + t[..., None] * self.along
        voxel = world / DEEP[::-1]
        voxel[..., axis] = at
        depth = (world - self.target) @ self.forward
        there = np.isfinite(t) & (t > 0 if self.in_front else True)
        return voxel, np.where(there, depth, np.inf)


def nearest_planes(
    look: Look,
    planes: dict[str, int],
    volume: NDArray[Any],
    clip: tuple[tuple[float, float], ...] = ((0, 1e9),) * 3,
) -> tuple[NDArray[Any], NDArray[Any], int]:
    """The value of the nearest plane in each pixel (0: none), how deep it lies, and how many crossings there are in all. ``clip``
    of x, y and z."""
    shown, depths, count = np.zeros(SIZE[::-1]), np.full(SIZE[::-1], np.inf), 0
    ends = np.array(volume.shape[::-1])
    for name, position in planes.items():
        voxel, depth = look.crossing("xyz".index(name), position + 0.5)
        low, high = np.array(clip).T
        inside = (
            np.isfinite(depth)
            & (voxel >= np.maximum(low, 0)).all(-1)
            & (voxel < np.minimum(high, ends)).all(-1)
        )
        x, y, z = np.where(inside[..., None], voxel, 0).astype(int).transpose(2, 0, 1)
        count += int(inside.sum())
        nearer = inside & (depth < depths)
        shown, depths = np.where(nearer, volume[z, y, x], shown), np.where(nearer, depth, depths)
    return shown, depths, count


LOOKS = [(30, 25, 1.2, 0), (-50, -35, 1.4, 45), (0, 0, 1.1, 0), (90, 0, 1.3, 0), (170, 60, 1.3, 70)]


@pytest.mark.parametrize("numbers", LOOKS)
def test_planes_lie_where_rays_cross_them(deep: Path, numbers: tuple[float, ...]) -> None:
    look, planes = Look(*numbers), {"x": 20, "y": 31, "z": 9}
    options = {"planes": "x=20,y=31,z=9", "clip": "x=5:50,y=:39", "detail": "1e-3"}
    result = drawn([deep], look.text, **options)
    clip = ((5, 50), (0, 39), (0, 1e9))
    expected, _, count = nearest_planes(look, planes, data(*SHAPE), clip)
    ours = result.frames[0][..., 0]
    assert np.count_nonzero(ours != expected) <= 4  # rounding, where the border of a voxel is met
    assert np.count_nonzero(expected) > 500
    frame = result.report.frames[0]
    assert frame.volume is not None
    assert abs(frame.volume.samples - count) <= 4
    assert frame.coverage.ideal == 1
    beside, _, _ = nearest_planes(look, {"x": 21, "y": 32, "z": 10}, data(*SHAPE), clip)
    assert np.count_nonzero(ours != beside) > 500  # control: a voxel beside


def test_rays_of_a_volume_end_at_a_plane(deep: Path, image: Path) -> None:
    look = Look(35, 20, 1.2)
    ours = drawn(
        [deep, image],
        look.text,
        mode="alpha",
        opacity=["0.02", "1"],
        planes=["none", "z=8"],
        detail="1e-3",
    ).frames[0][..., 0]
    expected, behind_all = composed(look, 8)
    assert np.count_nonzero(np.abs(ours - expected) > 2) <= 6
    assert np.abs(ours - behind_all).max() > 40  # control: a plane behind all of the volume
    assert np.abs(ours - composed(look, 9)[0]).max() > 40


def composed(look: Look, z: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The volume in front of the image at ``z``, over it, and all of the volume over it."""
    picture = data(20, 26)[::-1]
    voxel, depths = look.crossing(2, z + 0.5)
    x, y = (
        np.floor((voxel[..., :2] + 0.5) / 2).astype(int).transpose(2, 0, 1)
    )  # middles of first pixels lie together
    inside = (x >= 0) & (x < 26) & (y >= 0) & (y < 20)
    under = np.where(inside, picture[y * inside, x * inside], 0)
    depths = np.where(inside, depths, np.inf)
    azimuth, elevation, zoom = (float(part.split("=")[1]) for part in look.text.split(",")[:3])
    sight = sight_of(
        Camera(SHAPE[2] / 2, SHAPE[1] / 2, zoom, orbit=Orbit(SHAPE[0] / 2, azimuth, elevation)),
        SIZE,
        to_base=ToBase((1.0,) * 3, (0.0,) * 3),
        world=DEEP,
        extent=Region((0.0,) * 3, tuple(map(float, SHAPE))),
    )
    rays = rays_of(sight, 1.0)
    whole = ray_march.Volume(data(*SHAPE), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    boxes = [ray_march.Box((0.0, 0.0, 0.0), (53.0, 41.0, 17.0), whole)]
    found = ray_march.sample(rays, boxes, linear=False)
    deep = (found.points * DEEP[::-1] - look.target) @ look.forward
    frames = []
    for limit in (depths, np.full(SIZE[::-1], np.inf)):
        values = np.where(deep < limit, found.values, np.nan)
        front = ray_march.march(
            ray_march.Samples(values, found.points, found.boxes, found.steps),
            "alpha",
            lambda x: np.stack([x, x, x, np.ones(len(x))], axis=-1),
            clim=(0, 255),
            opacity=0.02,
        )
        frames.append(255 * front[..., 0] * front[..., 3] + under * (1 - front[..., 3]))
    return frames[0], frames[1]


def test_light_in_front_of_a_plane_is_added_to_it(deep: Path, image: Path) -> None:
    """A black maximum would hide all of it."""
    camera = "azimuth=35,elevation=20,zoom=1.2"
    added = drawn([deep, image], camera, planes=["none", "z=8"]).frames[0].astype(int)
    under = drawn([deep, image], camera, planes=["none", "z=8"], clim=["300,400", "0,255"]).frames[0]
    assert (added >= under).all()
    covered = drawn([deep, image], camera, planes=["none", "z=8"], blending="translucent").frames[0]
    assert (covered[..., :3] < added[..., :3]).any()


def test_an_image_without_z_lies_in_the_first_slab(deep: Path, image: Path) -> None:
    camera = "azimuth=20,elevation=30,zoom=1.2"
    here = drawn([deep, image], camera, mode="iso", iso="999")
    first = drawn([deep, image], camera, mode="iso", iso="999", planes=["none", "z=0"])
    np.testing.assert_array_equal(here.frames[0], first.frames[0])
    assert here.frames[0].any()
    other = drawn([deep, image], camera, mode="iso", iso="999", planes=["none", "z=16"])
    assert not np.array_equal(here.frames[0], other.frames[0])
    front = drawn([deep, image], "azimuth=0,zoom=1", mode="iso", iso="999").frames[0][..., 0]
    picture = np.repeat(np.repeat(data(20, 26)[::-1], 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(front[14:54, 18:70], picture)


def test_a_picture_of_colours_lies_among_volumes(deep: Path, tmp_path: Path) -> None:
    rgb = np.random.default_rng(1).integers(1, 256, (41, 53, 3), np.uint8)
    iio.imwrite(tmp_path / "rgb.png", rgb)
    sources = [deep, tmp_path / "rgb.png"]
    frame = drawn(
        sources, "azimuth=0,zoom=1,y=20,x=27", mode="iso", iso="999", planes=["none", "z=3"]
    ).frames[0]
    np.testing.assert_array_equal(frame[15:56, 18:71, :3], rgb)


@pytest.mark.parametrize("turned", [False, True])
def test_surfaces_hide_what_lies_behind_them_whatever_their_order(tmp_path: Path, turned: bool) -> None:
    """Two cubes, one in front of the other."""
    near, far = np.zeros((24, 20, 20), np.uint8), np.zeros((24, 20, 20), np.uint8)
    near[2:6, 5:15, 5:15], far[15:20, 2:18, 2:18] = 200, 200
    paths = []
    for name, cube in (("near", near), ("far", far)):
        paths.append(tmp_path / f"{name}.ome.zarr")
        build(cube, paths[-1], axes="zyx", voxel_size={"z": 1, "y": 1, "x": 1})
    colours = ["red", "lime"]
    if turned:
        paths, colours = paths[::-1], colours[::-1]
    options: dict[str, Any] = {"mode": "iso", "colormap": colours, "clim": "0,255"}
    result = render([str(path) for path in paths], ["azimuth=0,zoom=2"], size=(40, 40), options=options)
    frame = result.frames[0][..., :3] > 100
    assert (frame[12:28, 12:28] == (True, False, False)).all()
    assert (frame[6:34, 6:8] == (False, True, False)).all()
    behind = render([str(path) for path in paths], ["azimuth=180,zoom=2"], size=(40, 40), options=options)
    assert ((behind.frames[0][12:28, 12:28, :3] > 100) == (False, True, False)).all()


def test_a_plane_behind_a_surface_is_hidden_by_it(tmp_path: Path) -> None:
    cube = np.zeros((24, 20, 20), np.uint8)
    cube[2:6, 5:15, 5:15] = 200
    build(cube, tmp_path / "cube", axes="zyx", voxel_size={"z": 1, "y": 1, "x": 1})
    build(np.full((20, 20), 90, np.uint8), tmp_path / "plane", axes="yx", voxel_size={"y": 1, "x": 1})
    options = {"mode": "iso", "clim": "0,255", "colormap": ["red", "lime"], "planes": ["none", "z=12"]}
    sources = [str(tmp_path / name) for name in ("cube", "plane")]
    front, back = (
        render(sources, [camera], size=(40, 40), options=options).frames[0][..., :3]
        for camera in ("azimuth=0,zoom=2", "azimuth=180,zoom=2")
    )
    assert (front[10:30, 10:30, 1] == 0).all()
    assert (front[10:30, 10:30, 0] > 40).all()
    assert (front[2:8, 2:8] == (0, 90, 0)).all()
    assert (back == (0, 90, 0)).all()


@pytest.mark.parametrize("mode", ["iso", "mip"])
def test_labels_are_surfaces_among_surfaces(tmp_path: Path, mode: str) -> None:
    """Behind a surface they are hidden; over a maximum, which has no depth, they lie in the order of SOURCE."""
    near, far = np.zeros((24, 20, 20), np.uint8), np.zeros((24, 20, 20), np.uint8)
    near[2:6, 5:15, 5:15], far[15:20, 2:18, 2:18] = 255, 7
    for name, cube in (("near", near), ("far", far)):
        build(cube, tmp_path / name, axes="zyx", voxel_size={"z": 1, "y": 1, "x": 1}, labels=name == "far")
    options = {"mode": mode, "clim": "0,255", "labels": True}
    sources = [str(tmp_path / name) for name in ("near", "far")]
    frames = [
        render(sources, [camera], size=(40, 40), options=options).frames[0][..., :3]
        for camera in ("azimuth=0,zoom=2", "azimuth=180,zoom=2")
    ]
    grays = [bool((np.ptp(frame[12:28, 12:28], axis=-1) == 0).all()) for frame in frames]
    assert grays == [mode == "iso", False]
    assert all(np.ptp(frame[20, 6]) > 0 for frame in frames)  # beside the near one


def test_what_lies_in_one_place_lies_in_the_order_of_source(deep: Path, tmp_path: Path) -> None:
    ids = np.zeros((41, 53), np.uint8)
    ids[10:20, 10:30] = 5
    build(ids, tmp_path / "ids.ome.zarr", axes="yx", voxel_size={"y": 1, "x": 1}, unit="um", labels=True)
    sources = [deep, deep, tmp_path / "ids.ome.zarr"]
    planes = ["none", "z=8", "z=8"]
    under = drawn(
        sources[:2],
        "azimuth=25,elevation=15,zoom=1.2",
        planes=planes[:2],
        mode="alpha",
        opacity=["1e-6", "1"],
    )
    over = drawn(
        sources,
        "azimuth=25,elevation=15,zoom=1.2",
        planes=planes,
        mode="alpha",
        opacity=["1e-6", "1", "1"],
        labels=True,
    )
    other = (over.frames[0] != under.frames[0]).any(axis=-1)
    assert 0.5 * 200 < other.sum() < 2 * 200
    look = Look(25, 15, 1.2)
    volume = np.zeros(SHAPE, np.uint8)
    volume[8] = ids
    shown, _, _ = nearest_planes(look, {"z": 8}, volume)
    assert np.count_nonzero((shown > 0) & ~other) <= 4


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_each_place_of_a_plane_lies_in_a_wanted_brick(draw: st.DataObject) -> None:
    lattice = draw.draw(lattices)
    sight = draw.draw(sights(lattice))
    at = [draw.draw(st.one_of(st.none(), st.integers(0, int(n) - 1))) for n in lattice.extent.size[::-1]]
    places = tuple(None if p is None else p + 0.5 for p in at)
    sight = replace(sight, planes=places)  # type: ignore[arg-type] # of three
    plan = plan_volume(lattice, sight)
    rays = rays_of(sight, 1.0)
    begin, step = rays_at(rays, np.float64)
    low, high = (np.array(ends[::-1]) for ends in sight.box)
    bounds = np.array([reach_of(lattice, key) for key in plan.wanted]).reshape(-1, 6)
    for axis, place in enumerate(places):
        if place is None or not low[axis] <= place < high[axis]:
            continue
        t = (place - rays.centre[axis] - begin[..., axis]) / step[..., axis]
        points = begin + t[..., None] * step + np.array(rays.centre)
        points[..., axis] = place
        seen = (t >= rays.first_k) & (t < rays.stop_k) & ((points >= low) & (points < high)).all(-1)
        here = points[seen][:, None]
        assert (
            ((here >= bounds[None, :, :3] - 1e-5) & (here <= bounds[None, :, 3:] + 1e-5)).all(-1).any(1).all()
        )


def reach_of(lattice: Lattice, key: TileKey) -> list[float]:
    """Low and high ends (x, y, z) of what a brick answers for: the outermost for all that lies beyond them."""
    region, counts = lattice.tile_region(key.level, key.grid), lattice.levels[key.level].tile_counts
    low = [-np.inf if not n else at for n, at in zip(key.grid, region.low, strict=True)]
    high = [np.inf if n == m - 1 else at for n, m, at in zip(key.grid, counts, region.high, strict=True)]
    return [*low[::-1], *high[::-1]]


def test_samples_on_planes_are_counted_as_numpy_counts_them(gl_info: Any) -> None:
    lattice, arrays = pyramid(data(30, 40, 50), (8, 8, 8), [(2, 2, 2)])
    with Canvas((80, 60)) as canvas:
        stage = VolumeStage(lattice, arrays, canvas)
        stage.put([*bricks_of(lattice, 1), *bricks_of(lattice, 0)[::3]])
        for angles, fov in itertools.product([(30, 20), (0, 0), (-100, 50)], [0.0, 50.0]):
            sight = replace(look_at(lattice, (80, 60), *angles, zoom=1.3, fov=fov), planes=(20.5, None, 11.5))
            cover = stage.cover(sight, failed=lambda tile: tile.grid == (1, 2, 3))
            cells, rays = cells_of(lattice, cover, sight), rays_of(sight, 1.0)
            counter = SampleCounter(planes=True)
            found = counter.count(cells, rays)
            counter.close()
            expected: dict[int, int] = {}
            for region, level in zip(regions_of(cover.quads.dest), cover.quads.levels.tolist(), strict=True):
                low, high = (np.subtract(ends[::-1], rays.centre).tolist() for ends in region)
                expected[level] = expected.get(level, 0) + int(crossed_planes(rays, low, high).sum())
            for level, count in expected.items():
                ours = sum(n for (kind, own, _), n in found.items() if kind == 0 and own == level)
                assert ours == count
            assert sum(found.values()) == seen_samples(rays, sight).sum()
            assert len(expected) == 2


def test_planes_come_as_their_bricks_arrive(deep: Path, tmp_path: Path) -> None:
    """Coarse first; the frames are the same on every run."""
    path = tmp_path / "path.json"
    keyframes = [{"t_s": 0, "azimuth": 10, "elevation": 20, "zoom": 0.9}, {"t_s": 0.6, "azimuth": 30}]
    path.write_text(json.dumps({"fps": 20, "keyframes": keyframes}))
    options = {
        "clock": "virtual",
        "latency": "60ms",
        "jitter": "90ms",
        "stream": True,
        "planes": "x=20,y=31,z=9",
    }
    runs = [drawn([deep], str(path), **options) for _ in range(2)]
    for one, other in zip(*[run.frames for run in runs], strict=True):
        np.testing.assert_array_equal(one, other)
    coverage = [frame.coverage for frame in runs[0].report.frames]
    assert coverage[0].missing == 1
    assert any(0 < each.ideal < 1 for each in coverage)
    assert coverage[-1].ideal == 1


def test_the_atlas_that_would_do_is_that_of_all_layers(deep: Path) -> None:
    """Two layers of one source have their bricks in one texture."""
    options = {"planes": ["none", "x=20,z=9"], "mode": "alpha", "min_coverage": "0"}
    camera = "azimuth=30,elevation=10,zoom=1.2"

    def asked(atlas_bytes: int) -> tuple[bool, int]:
        words = {
            "clim": "0,255",
            "config": str(deep.parent / "small.json"),
            "atlas": str(atlas_bytes),
            **options,
        }
        request = parse_request([str(deep)] * 2, [camera], words)
        with Renderer(request, command="test") as renderer:
            frames = [frame.report for frame in renderer.frames()]
            return frames[0].degraded, renderer.wanted_atlas_bytes()

    degraded, enough = asked(200_000)
    assert degraded
    assert not asked(enough)[0]
    assert enough < 2**20


def test_large_frames_are_drawn_in_parts(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"planes": ["none", "x=20,y=31,z=9"], "mode": "alpha", "opacity": ["0.02", "1"]}
    whole = drawn([deep, deep], "azimuth=30,elevation=20,zoom=1.2,fov=40", **options).frames[0]
    monkeypatch.setattr("octree.render.gl.canvas._MAX_PART_PX", 32)
    parts = drawn([deep, deep], "azimuth=30,elevation=20,zoom=1.2,fov=40", **options).frames[0]
    np.testing.assert_array_equal(whole, parts)
    assert whole.any()


BAD = [
    (["deep"], {"planes": "z=17"}, "azimuth=1", "z=17 lies outside the image"),
    (["deep"], {"planes": "t=1"}, "azimuth=1", "'t' is not x, y or z"),
    (["deep"], {"planes": "z=1:4"}, "azimuth=1", "one position"),
    (["deep"], {"planes": "z=-1"}, "azimuth=1", "z"),
    (["deep"], {"planes": "z=1,z=2"}, "azimuth=1", "twice"),
    (["deep"], {"planes": "middle"}, "azimuth=1", "'middle' is not like x=100,z=12"),
    (["deep"], {"planes": "z=3"}, "fit", "--planes is of volumes"),
    (["deep", "image"], {"planes": ["none", "x=3"]}, "azimuth=1", "SOURCE 2 has no z"),
    (["deep", "image"], {"planes": ["none", "z=40"]}, "azimuth=1", "z=40 lies outside the image"),
    (["image"], {}, "azimuth=1", "this image has no z"),
    (["image", "deep"], {}, "azimuth=1", "give the volume first"),
]


@pytest.mark.parametrize(("names", "options", "camera", "words"), BAD)
def test_what_cannot_be_is_said(
    deep: Path, image: Path, names: list[str], options: dict[str, Any], camera: str, words: str
) -> None:
    known = {"deep": deep, "image": image}
    with pytest.raises(UsageError) as raised:
        drawn([known[name] for name in names], camera, **options)
    assert words in f"{raised.value.message} {raised.value.hint}"


def test_planes_are_written_as_they_are_read() -> None:
    request = parse_request(["a", "b"], ["azimuth=1"], {"planes": [{"z": 3.7, "x": 2}, "none"]})
    assert [layer.planes for layer in request.layers] == [(("z", 3), ("x", 2)), None]
    assert request.slicing == Slicing(displayed=("z", "y", "x"))
    assert json.dumps([layer.planes for layer in request.layers])


def test_visuals_say_what_hides(gl_info: Any) -> None:
    with Canvas((8, 8)):
        atlas = BrickAtlas(2**20)
        hides = [MarchVisual(atlas, mode=mode).hides for mode in ("mip", "alpha", "iso")]  # type: ignore[arg-type] # modes
        assert hides == [False, False, True]
        assert MarchVisual(atlas, mode="mip", planes=True).hides
