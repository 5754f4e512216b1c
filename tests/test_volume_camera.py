"""Cameras around a volume as people write them: texts, path files, and the built-in turntable."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_cases import SAME, on_screen

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.render.films import PlaneRange
from octree.render.view.camera import Camera, CameraPath
from octree.render.view.camera_text import is_volume_camera, parse_camera
from octree.render.view.shots import Film
from octree.render.view.state import Slicing
from octree.render.view.volume.framing import Framed, any_zoom
from octree.render.view.volume.orbit import Orbit
from octree.render.view.volume.sight import sight_of

SIZE = (400, 300)
BOX = Framed(Region((0, 0, 0), (50, 100, 200)), (2.0, 1.5, 1.0))
"""In the world 200 wide, 150 high and 100 deep."""


def camera(text: str, volume: Framed = BOX, size: tuple[int, int] = SIZE) -> Camera:
    view = parse_camera(text, extent=(1, 1), size_px=size, volume=volume)
    assert isinstance(view, Camera)
    return view


def path(text: str, volume: Framed = BOX, size: tuple[int, int] = SIZE) -> CameraPath:
    view = parse_camera(text, extent=(1, 1), size_px=size, volume=volume)
    assert isinstance(view, CameraPath)
    return view


def written(tmp_path: Path, *keyframes: dict[str, Any], **top: Any) -> str:
    (tmp_path / "p.json").write_text(json.dumps({"fps": 10, "keyframes": keyframes, **top}))
    return str(tmp_path / "p.json")


def corners(volume: Framed, view: Camera, size: tuple[int, int] = SIZE) -> list[tuple[float, float, float]]:
    """Where the corners of a volume come to lie, as shares of half the frame, and their depths in front of the eye."""
    sight = sight_of(view, size, to_base=SAME, world=volume.world, extent=volume.region)
    found = []
    for ends in itertools.product(*zip(*volume.region, strict=True)):
        column, row, depth = on_screen(sight, ends[::-1])
        found.append((2 * column / size[0], 2 * row / size[1], depth + sight.distance))
    return found


def reach(volume: Framed, view: Camera, size: tuple[int, int] = SIZE) -> float:
    """1: the volume just fits the frame."""
    assert all(ahead > 0 for _, _, ahead in corners(volume, view, size))
    return max(max(abs(column), abs(row)) for column, row, _ in corners(volume, view, size))


# single views


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fit", Camera(100, 50, 2, "fit", 1.5, Orbit(25))),
        ("azimuth=0", Camera(100, 50, 2, "", 1.5, Orbit(25))),
        ("azimuth=30,elevation=20,zoom=3", Camera(100, 50, 3, "", 1.5, Orbit(25, 30, 20))),
        ("x=1,z=2.5,zoom=4,roll=-90,fov=40,name=front", Camera(1, 50, 4, "front", 1.5, Orbit(2.5, 0, 0, -90, 40))),
        (" elevation = 90 , y=7,zoom=1", Camera(100, 7, 1, "", 1.5, Orbit(25, 0, 90))),
        ("x=8,y=9,zoom=1", Camera(8, 9, 1, "", 1.5, Orbit(25))),  # with a --mode
        ("zoom=1", Camera(100, 50, 1, "", 1.5, Orbit(25))),
    ],
)  # fmt: skip
def test_a_view_is_read(text: str, expected: Camera) -> None:
    assert camera(text) == expected


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("azimuth=a", "azimuth must be a finite number", ""),
        ("azimuth=inf", "azimuth must be a finite number", ""),
        ("azimuth=1e9", "azimuth is beyond", ""),
        ("azimuth=1,azimuth=2", "twice", ""),
        ("azimuth=1,zoom=0", "zoom must be above 0", "screen pixels"),
        ("azimuth=1,zoom=-2", "zoom must be above 0", ""),
        ("fov=180", "fov must be at least 0 and below 180 degrees, not 180", "0 is orthographic"),
        ("fov=-1", "fov must be at least 0", ""),
        ("azimuth=1,w=2", "'w=2'", "azimuth=30"),
        ("azimuth=1,", "''", ""),
        ("azimuth=1,x=1e300", "x is beyond", ""),
        ("rect=0,0,1,1", "of a plane", "--mode slice"),
        ("pan", "moves over a plane", "turntable"),
        ("tour", "moves over a plane", "turntable"),
        ("around", "unknown camera", "turntable"),
        ("nowhere.json", "no camera path file", ""),
    ],
)
def test_what_is_no_camera_around_a_volume_is_said(text: str, says: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        camera(text)
    assert says in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["azimuth=30", "turntable", "x=1,y=2,zoom=1,fov=0"])
def test_a_camera_around_a_volume_is_none_of_a_plane(text: str) -> None:
    with pytest.raises(UsageError, match="looks at a volume; this is a view of a plane"):
        parse_camera(text, extent=(10, 10), size_px=SIZE)


def test_z_alone_is_told_how_to_choose_a_plane() -> None:
    with pytest.raises(UsageError, match="'z=3'") as caught:
        parse_camera("x=1,y=2,zoom=1,z=3", extent=(10, 10), size_px=SIZE)
    assert "--index" in (caught.value.hint or "")
    assert "--mode" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fit", False), ("x=1,y=2,zoom=1", False), ("x=1,y=2,z=3,zoom=1", False), ("zoom-in", False),
        ("rect=0,0,1,1", False), ("x=1,y=2,zoom=1,name=azimuth", False), ("", False), ("azimuth", False),
        ("turntable", True), ("elevation=3", True), (" x=1, roll = 2", True), ("fov=0", True), ("azimuth=nan", True),
    ],
)  # fmt: skip
def test_a_text_tells_by_itself_whether_it_looks_at_a_volume(text: str, expected: bool) -> None:
    assert is_volume_camera(text) is expected


def test_so_does_a_path_file(tmp_path: Path) -> None:
    plane = {"t_s": 0, "x": 1, "y": 1, "zoom": 1, "z": 3}
    assert not is_volume_camera(written(tmp_path, plane))
    assert is_volume_camera(written(tmp_path, plane, {"t_s": 1, "elevation": 2}))
    for text in ("nonsense", "[1]", '{"keyframes": 3}', '{"keyframes": [3, {"t_s": 1}]}'):
        (tmp_path / "p.json").write_text(text)
        assert not is_volume_camera(str(tmp_path / "p.json"))
    assert not is_volume_camera(str(tmp_path / "nowhere.json"))


# how large


boxes = st.builds(
    lambda shape, world, corner: Framed(
        Region(corner, tuple(a + b for a, b in zip(corner, shape, strict=True))), (*world, 1.0)
    ),
    st.tuples(*[st.floats(1, 1000)] * 3),
    st.tuples(*[st.floats(0.1, 10)] * 2),
    st.tuples(*[st.floats(-100, 100)] * 3),
)
sizes = st.tuples(st.integers(1, 2000), st.integers(1, 2000))


@given(
    boxes,
    sizes,
    st.floats(-360, 360),
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.sampled_from([0, 5, 50, 120]),
)
@settings(deadline=None, max_examples=30)
def test_all_of_a_volume_is_in_the_frame_and_touches_a_side_of_it(
    volume: Framed, size: tuple[int, int], azimuth: float, elevation: float, roll: float, fov: float
) -> None:
    text = f"azimuth={azimuth!r},elevation={elevation!r},roll={roll!r},fov={fov}"
    assert reach(volume, camera(text, volume, size), size) == pytest.approx(1)


@given(boxes, sizes)
@settings(deadline=None, max_examples=30)
def test_from_in_front_it_is_as_large_as_its_plane(volume: Framed, size: tuple[int, int]) -> None:
    region = volume.region
    plane = parse_camera(
        "fit", extent=Region(region.low[1:], region.high[1:]), size_px=size, aspect=volume.world[1]
    )
    own = camera("fit", volume, size)
    assert isinstance(plane, Camera)
    assert (own.x, own.y, own.aspect) == pytest.approx((plane.x, plane.y, plane.aspect))
    assert own.zoom == pytest.approx(plane.zoom, rel=1e-12)


@given(boxes, sizes, st.floats(-360, 360), st.floats(-90, 90), st.sampled_from([0, 5, 50, 120]))
@settings(deadline=None, max_examples=30)
def test_a_zoom_for_every_orientation(
    volume: Framed, size: tuple[int, int], azimuth: float, elevation: float, fov: float
) -> None:
    zoom = any_zoom(volume, size, fov)
    text = f"azimuth={azimuth!r},elevation={elevation!r},fov={fov},zoom={zoom!r}"
    assert reach(volume, camera(text, volume, size), size) <= 1 + 1e-9


# paths


@given(boxes, sizes)
@settings(deadline=None, max_examples=20)
def test_the_turntable_turns_once_evenly_and_cuts_nothing_off(volume: Framed, size: tuple[int, int]) -> None:
    turning = path("turntable", volume, size)
    frames = turning.frames()
    orbits = [view.orbit for _, view in frames]
    assert len(orbits) == 120
    for number, orbit in enumerate(orbits):
        assert orbit is not None
        assert orbit.azimuth == pytest.approx(3 * number, abs=1e-6)
        assert (orbit.elevation, orbit.roll, orbit.fov) == pytest.approx((20, 0, 0), abs=1e-6)
    assert max(reach(volume, view, size) for _, view in frames) <= 1 + 1e-9
    assert [t_ms for t_ms, _ in frames] == pytest.approx([50 * n for n in range(120)])


def test_a_turntable_at_another_rate_and_beside_planes_is_no_frame_twice() -> None:
    film = Film([path("turntable")], Slicing(), {}, {"t": 8}, fps=8)
    azimuths = [shot.camera.orbit.azimuth for shot in film.shots() if shot.camera.orbit]
    assert azimuths == pytest.approx([7.5 * n for n in range(48)], abs=1e-6)
    film = Film([path("turntable")], Slicing(), {"t": PlaneRange(0, None, 1)}, {"t": 8})
    azimuths = [shot.camera.orbit.azimuth for shot in film.shots() if shot.camera.orbit]
    assert azimuths == pytest.approx([45 * n for n in range(8)], abs=1e-6)


def test_zoom_in_goes_into_a_volume() -> None:
    frames = path("zoom-in").frames()
    assert frames[0][1] == Camera(100, 50, 2, "zoom-in", 1.5, Orbit(25))
    assert frames[-1][1].zoom == 8
    assert len(frames) == 241


def test_keyframes_of_all_of_a_camera(tmp_path: Path) -> None:
    first = {
        "t_s": 0,
        "azimuth": 350,
        "elevation": 0,
        "roll": 0,
        "x": 0,
        "y": 10,
        "z": 20,
        "zoom": 1,
        "fov": 20,
    }
    last = {
        "t_s": 2,
        "azimuth": 10,
        "elevation": 0,
        "roll": 0,
        "x": 2,
        "y": 20,
        "z": 40,
        "zoom": 4,
        "fov": 40,
    }
    middle = path(written(tmp_path, first, last)).frames()[10][1]
    assert (middle.x, middle.y, middle.zoom, middle.aspect) == pytest.approx((1, 15, 2, 1.5))
    assert middle.orbit == Orbit(
        pytest.approx(30), pytest.approx(360), pytest.approx(0), pytest.approx(0), 30
    )


def test_what_a_keyframe_leaves_out_is_as_in_the_one_before(tmp_path: Path) -> None:
    views = path(
        written(tmp_path, {"t_s": 0, "azimuth": 0, "t": 1}, {"t_s": 1, "elevation": 30, "zoom": 3}, {"t_s": 2, "azimuth": 90})
    )  # fmt: skip
    keys = [key.camera for key in views.keyframes]
    zoom = any_zoom(BOX, SIZE)
    assert keys == [
        Camera(100, 50, zoom, "", 1.5, Orbit(25)),
        Camera(100, 50, 3, "", 1.5, Orbit(25, 0, 30)),
        Camera(100, 50, 3, "", 1.5, Orbit(25, 90, 30)),
    ]
    assert views.keyframes[0].position == (("t", 1.0),)


def test_a_path_without_zoom_cuts_nothing_off_on_its_way(tmp_path: Path) -> None:
    keys = (
        {"t_s": 0, "azimuth": 0},
        {"t_s": 1, "azimuth": 90, "elevation": 80},
        {"t_s": 2, "roll": 50, "fov": 60},
    )
    assert max(reach(BOX, view) for _, view in path(written(tmp_path, *keys)).frames()) <= 1 + 1e-9


def test_a_path_of_planes_alone_looks_at_all_of_the_volume(tmp_path: Path) -> None:
    seen = path(written(tmp_path, {"t_s": 0, "t": 0}, {"t_s": 1, "t": 4})).seen([0.5])[0]
    assert (seen.camera.orbit, seen.camera.zoom, seen.position) == (Orbit(25), 2, (("t", 2),))


def test_a_loop_of_ones_own(tmp_path: Path) -> None:
    turning = path(written(tmp_path, {"t_s": 0, "azimuth": 0}, {"t_s": 1, "azimuth": 360}, loop=True))
    azimuths = [view.orbit.azimuth for _, view in turning.frames() if view.orbit]
    assert azimuths == pytest.approx([36 * n for n in range(10)])


@pytest.mark.parametrize(
    ("keyframe", "top", "says"),
    [
        ({"t_s": 0, "azimut": 3}, {}, "keyframe 0: unknown key 'azimut'"),
        ({"azimuth": 3}, {}, "keyframe 0: no 't_s'"),
        ({"t_s": 0, "azimuth": "3"}, {}, "keyframe 0: azimuth must be a number"),
        ({"t_s": 0, "azimuth": 3, "zoom": 0}, {}, "keyframe 0: zoom must be above 0"),
        ({"t_s": 0, "fov": 180}, {}, "keyframe 0: fov must be"),
        ({"t_s": 0, "azimuth": 3}, {"loop": 1}, "loop must be true or false"),
    ],
)
def test_a_path_that_says_nothing_is_refused(
    tmp_path: Path, keyframe: dict[str, Any], top: dict[str, Any], says: str
) -> None:
    text = written(tmp_path, keyframe, **top)
    with pytest.raises(UsageError) as caught:
        path(text)
    assert f"camera path {text}: {says}" in caught.value.message


def test_a_path_around_a_volume_is_none_over_a_plane(tmp_path: Path) -> None:
    text = written(tmp_path, {"t_s": 0, "azimuth": 3})
    with pytest.raises(UsageError, match="looks at a volume"):
        parse_camera(text, extent=(10, 10), size_px=SIZE)


@given(st.floats(1, 179), st.integers(1, 3000), st.integers(1, 3000))
def test_narrow_and_wide_angles_agree_about_the_middle(fov: float, width: int, height: int) -> None:
    """zoom is that of the middle, whatever the angle."""
    view = camera(f"fov={fov!r},zoom=2", size=(width, height))
    sight = sight_of(view, (width, height), to_base=SAME, world=BOX.world, extent=BOX.region)
    assert on_screen(sight, (101, 50, 25))[0] == pytest.approx(2)
    assert math.degrees(2 * math.atan(height / 2 / (2 * sight.distance))) == pytest.approx(fov)
