"""Cameras: what each form of --camera means, and how paths move."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.render.view.built_in_paths import PLANE_PATHS
from octree.render.view.camera import (
    Camera,
    CameraPath,
    Keyframe,
    unique_names,
)
from octree.render.view.camera_text import parse_camera
from octree.render.view.path_file import path_from_json

EXTENT = (2000.0, 1000.0)
SIZE = (400, 300)


def camera(text: str, extent: Any = EXTENT, size: tuple[int, int] = SIZE) -> Camera:
    view = parse_camera(text, extent=extent, size_px=size)
    assert isinstance(view, Camera)
    return view


def path(text: str, extent: Any = EXTENT, size: tuple[int, int] = SIZE) -> CameraPath:
    view = parse_camera(text, extent=extent, size_px=size)
    assert isinstance(view, CameraPath)
    return view


# single views


@pytest.mark.parametrize(
    ("text", "extent", "expected"),
    [
        ("fit", (2000, 1000), Camera(1000, 500, 0.2, "fit")),
        ("fit", (100, 1000), Camera(50, 500, 0.3, "fit")),
        ("fit", (1, 1), Camera(0.5, 0.5, 300, "fit")),
        ("fit", Region((10, 20), (110, 220)), Camera(120, 60, 2, "fit")),
        ("x=8000,y=-3.5,zoom=1e-2", EXTENT, Camera(8000, -3.5, 0.01)),
        (" x = 1 , zoom=2, y=3 ", EXTENT, Camera(1, 3, 2)),
        ("x=1,y=2,zoom=3,name=top left", EXTENT, Camera(1, 2, 3, "top left")),
        ("rect=0,0,100,50", EXTENT, Camera(50, 25, 4, "rect")),
        ("rect=-10,-10,-8,90", EXTENT, Camera(-9, 40, 3, "rect")),
    ],
)
def test_a_view_is_read(text: str, extent: Any, expected: Camera) -> None:
    assert camera(text, extent) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "unknown camera"),
        ("fitt", "'fitt'"),
        ("x=1,y=2", "no zoom"),
        ("zoom=1", "no x and no y"),
        ("x=1,y=2,zoom=0", "zoom must be above 0"),
        ("x=1,y=2,zoom=-1", "zoom must be above 0"),
        ("x=1,y=2,zoom=nan", "finite"),
        ("x=inf,y=2,zoom=1", "x must be a finite number"),
        ("x=1e300,y=2,zoom=1", "beyond"),
        ("x=1,y=2,zoom=1e-300", "zoom must be above 0"),
        ("x=a,y=2,zoom=1", "'a'"),
        ("x=1,y=2,zoom=1,w=3", "'w=3'"),
        ("x=1,x=2,y=2,zoom=1", "twice"),
        ("x=1,y=2,zoom=1,", "''"),
        ("rect=1,2,3", "4 numbers"),
        ("rect=0,0,0,5", "empty"),
        ("rect=5,0,0,5", "empty"),
        ("rect=0,0,nan,5", "x1 must be a finite number"),
        ("nowhere.json", "no camera path file"),
    ],
)
def test_what_is_not_a_camera_is_said_and_the_forms_are_named(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        camera(text)
    assert says in caught.value.message
    assert caught.value.exit_code == 2


@given(
    x0=st.floats(-1e6, 1e6),
    y0=st.floats(-1e6, 1e6),
    width=st.floats(1e-2, 1e6),
    height=st.floats(1e-2, 1e6),
    size=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
)
@settings(deadline=None, max_examples=60)
def test_rect_is_all_in_the_frame_and_touches_two_of_its_sides(
    x0: float, y0: float, width: float, height: float, size: tuple[int, int]
) -> None:
    x1, y1 = x0 + width, y0 + height
    seen = camera(f"rect={x0!r},{y0!r},{x1!r},{y1!r}", size=size).rect(size)
    slack = 1e-9 * (abs(x0) + abs(y0) + width + height)
    assert seen.x0 <= x0 + slack
    assert seen.y0 <= y0 + slack
    assert seen.x1 >= x1 - slack
    assert seen.y1 >= y1 - slack
    touches = min(abs(seen.x1 - seen.x0 - width) / width, abs(seen.y1 - seen.y0 - height) / height)
    assert touches < 1e-6


def test_names_of_views_are_made_unique() -> None:
    views = [
        Camera(0, 0, 1),
        Camera(0, 0, 1),
        Camera(0, 0, 1, "a"),
        Camera(0, 0, 1, "a"),
        Camera(0, 0, 1, "a-2"),
    ]
    assert unique_names(views) == ["view", "view-2", "a", "a-2", "a-2-2"]


# paths


def two(zoom0: float = 1.0, zoom1: float = 16.0, *, easing: Any = "linear", fps: float = 10.0) -> CameraPath:
    keys = (Keyframe(0, Camera(0, 100, zoom0)), Keyframe(1, Camera(80, 20, zoom1)))
    return CameraPath(keys, fps, easing, "p")


def test_zoom_is_interpolated_in_its_logarithm_and_places_straight() -> None:
    frames = two().frames()
    assert len(frames) == 11
    t_ms, middle = frames[5]
    assert t_ms == pytest.approx(500)
    assert (middle.x, middle.y, middle.zoom) == pytest.approx((40, 60, 4))


def test_the_first_and_last_frames_are_the_keyframes_themselves() -> None:
    path = CameraPath(
        (Keyframe(2, Camera(1, 2, 0.0512)), Keyframe(2.55, Camera(3, 4, 0.0512))), 10, "smooth", "p"
    )
    frames = path.frames()
    assert frames[0] == (0.0, Camera(1, 2, 0.0512, "p"))
    assert frames[-1] == (pytest.approx(550), Camera(3, 4, 0.0512, "p"))
    assert [round(t_ms) for t_ms, _ in frames] == [0, 100, 200, 300, 400, 500, 550]


def test_one_keyframe_is_one_frame() -> None:
    assert CameraPath((Keyframe(5, Camera(1, 2, 3)),)).frames() == [(0.0, Camera(1, 2, 3))]


def test_smooth_starts_and_ends_at_rest_and_linear_does_not() -> None:
    step = {e: two(easing=e, fps=100).frames()[1][1].x for e in ("linear", "smooth")}
    assert step["linear"] == pytest.approx(0.8)
    assert 0 < step["smooth"] < 0.1
    assert two(easing="smooth").frames()[5][1].x == pytest.approx(40)


def test_smooth_keeps_going_through_an_inner_keyframe() -> None:
    keys = tuple(Keyframe(t, Camera(100 * t, 0, 1)) for t in range(3))
    xs = [camera.x for _, camera in CameraPath(keys, 100, "smooth").frames()]
    assert xs[101] - xs[99] == pytest.approx(2, rel=0.3)


@given(
    st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(1e-3, 1e3)), min_size=2, max_size=6),
    st.sampled_from(["linear", "smooth"]),
)
@settings(deadline=None, max_examples=60)
def test_between_keyframes_nothing_overshoots(stops: list[tuple[float, float]], easing: Any) -> None:
    keys = tuple(Keyframe(i, Camera(x, -x, zoom)) for i, (x, zoom) in enumerate(stops))
    for t_ms, seen in CameraPath(keys, 7, easing).frames():
        i = min(int(t_ms / 1000 + 1e-9), len(stops) - 2)
        (xa, za), (xb, zb) = stops[i], stops[i + 1]
        assert min(xa, xb) - 1e-6 <= seen.x <= max(xa, xb) + 1e-6
        assert min(za, zb) * (1 - 1e-9) <= seen.zoom <= max(za, zb) * (1 + 1e-9)


# path files


def good() -> dict[str, Any]:
    return {
        "fps": 30,
        "keyframes": [{"t_s": 0, "x": 1, "y": 2, "zoom": 1}, {"t_s": 2, "x": 3, "y": 4, "zoom": 0.5}],
        "easing": "smooth",
    }


def test_a_path_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "über den See.json"
    file.write_text(json.dumps(good()), encoding="utf-8")
    read = path(str(file))
    assert (read.fps, read.easing, read.name) == (30, "smooth", "über den See")
    assert read.keyframes[1] == Keyframe(2, Camera(3, 4, 0.5))
    assert len(read.frames()) == 61


def test_fps_and_easing_have_defaults() -> None:
    read = path_from_json({"keyframes": good()["keyframes"]})
    assert (read.fps, read.easing) == (60, "linear")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fps": 0}, "fps must be above 0"),
        ({"fps": -1}, "fps must be above 0"),
        ({"fps": "60"}, "fps must be a number"),
        ({"fps": math.nan}, "finite"),
        ({"fps": True}, "fps must be a number"),
        ({"easing": "bouncy"}, "linear or smooth"),
        ({"easing": ["linear"]}, "linear or smooth"),
        ({"speed": 3}, "unknown key 'speed'"),
        ({"keyframes": []}, "at least one keyframe"),
        ({"keyframes": {"t_s": 0}}, "list"),
        ({"keyframes": [3]}, "keyframe 0 must be an object"),
        ({"keyframes": [{"t_s": 0, "x": 1, "y": 2}]}, "keyframe 0: no 'zoom'"),
        ({"keyframes": [{"t_s": 0, "x": 1, "y": 2, "zoom": 0}]}, "keyframe 0: zoom must be above 0"),
        ({"keyframes": [{"t_s": 0, "x": 1, "y": 2, "zoom": 1, "q": 0}]}, "keyframe 0: unknown key 'q'"),
        ({"keyframes": [{"t_s": 0, "x": None, "y": 2, "zoom": 1}]}, "keyframe 0: x must be a number"),
        ({"keyframes": list(reversed(good()["keyframes"]))}, "not after keyframe 0"),
        ({"keyframes": [good()["keyframes"][0]] * 2}, "not after keyframe 0"),
        ({"keyframes": [{**good()["keyframes"][0], "t_s": t} for t in (0, 1e9)]}, "more than"),
        ({"name": 3}, "name must be a string"),
    ],
)
def test_what_is_wrong_in_a_path_file_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps(good() | change))
    with pytest.raises(UsageError) as caught:
        path(str(file))
    assert says in caught.value.message
    assert "p.json" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{", b"[" * 100_000, b"3", b"null"])
def test_a_file_that_is_no_path_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "p.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"p\.json"):
        path(str(file))


def test_a_folder_is_no_path_file(tmp_path: Path) -> None:
    (tmp_path / "p.json").mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        path(str(tmp_path / "p.json"))


# built-in paths


@pytest.mark.parametrize("name", ["zoom-in", *PLANE_PATHS])
@pytest.mark.parametrize("extent", [(1.0, 1.0), (1.0, 5000.0), (300.0, 7.0), (150000.0, 90000.0)])
def test_built_in_paths_fit_any_image(name: str, extent: tuple[float, float]) -> None:
    built = path(name, extent)
    frames = built.frames()
    assert built.name == name
    assert 200 <= len(frames) <= 1000
    assert built == path(name, extent)
    for _, seen in frames:
        rect = seen.rect(SIZE)
        assert rect.x0 < extent[0]
        assert rect.x1 > 0
        assert rect.y0 < extent[1]
        assert rect.y1 > 0


def test_built_in_paths_of_a_large_image() -> None:
    zoom_in = [seen for _, seen in path("zoom-in", (150000, 90000)).frames()]
    assert zoom_in[0].zoom == pytest.approx(400 / 150000)
    assert zoom_in[-1].zoom == 1
    assert {(seen.x, seen.y) for seen in zoom_in} == {(75000, 45000)}
    pan = [seen for _, seen in path("pan", (150000, 90000)).frames()]
    assert {seen.zoom for seen in pan} == {1}
    assert (pan[0].rect(SIZE).x0, pan[0].rect(SIZE).y0) == (0, 0)
    assert pan[-1].x - pan[0].x == 4 * SIZE[0]
    tour = [seen for _, seen in path("tour", (150000, 90000)).frames()]
    assert (tour[0].zoom, tour[-1].zoom) == (pytest.approx(400 / 150000),) * 2
    assert max(seen.zoom for seen in tour) == pytest.approx(1)
