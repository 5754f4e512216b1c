"""Cameras around a volume: which way they turn, the shortest way between two of them, and what a path says of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from volume_cases import bricks, close, look_at, on_screen

from octree.pyramid.errors import UsageError
from octree.render.view.camera import Camera, CameraPath, Easing, Keyframe
from octree.render.view.volume.orbit import Orbit, Turn, basis_of

CUBE = bricks((10, 10, 10))
LEFT, RIGHT, TOP, BOTTOM, FRONT, BACK = (
    (0, 5, 5), (10, 5, 5), (5, 0, 5), (5, 10, 5), (5, 5, 0), (5, 5, 10)
)  # fmt: skip


def test_at_azimuth_0_and_elevation_0_the_picture_is_the_projection_along_z() -> None:
    sight = look_at(CUBE)
    assert on_screen(sight, RIGHT) == (5, 0, 0)
    assert on_screen(sight, BOTTOM) == (0, 5, 0)
    assert on_screen(sight, BACK) == (0, 0, 5)


def test_a_positive_azimuth_moves_what_is_in_front_to_the_left_and_shows_the_right_side() -> None:
    sight = look_at(CUBE, azimuth=30)
    column, row, _ = on_screen(sight, FRONT)
    assert column < 0
    assert row == pytest.approx(0)
    assert on_screen(sight, RIGHT)[2] < 0 < on_screen(sight, LEFT)[2]
    assert on_screen(sight, TOP) == pytest.approx((0, -5, 0))  # about the vertical axis


def test_a_positive_elevation_tilts_the_top_towards_the_viewer() -> None:
    sight = look_at(CUBE, elevation=20)
    assert on_screen(sight, TOP)[2] < 0 < on_screen(sight, BOTTOM)[2]
    assert on_screen(sight, FRONT)[1] > 0  # seen from above, what is in front lies lower
    assert on_screen(sight, RIGHT) == pytest.approx((5, 0, 0))


def test_elevation_is_of_the_camera_after_azimuth() -> None:
    """The vertical axis stays upright on the screen."""
    column, row, _ = on_screen(look_at(CUBE, azimuth=50, elevation=30), TOP)
    assert column == pytest.approx(0)
    assert row == pytest.approx(-5 * math.cos(math.radians(30)))


def test_a_positive_roll_turns_the_picture_clockwise() -> None:
    assert on_screen(look_at(CUBE, roll=90), RIGHT) == pytest.approx((0, 5, 0))
    assert on_screen(look_at(CUBE, azimuth=20, elevation=70, roll=90), TOP)[0] > 0


def test_quarter_turns_are_exact() -> None:
    """Rays that run along an axis stay in their row of voxels."""
    for turns in range(-8, 9):
        for vector in basis_of(Orbit(0, azimuth=90 * turns, elevation=90 * (turns // 3), roll=-90 * turns)):
            assert sorted(map(abs, vector)) == [0, 0, 1]


angles = st.builds(
    Orbit, st.just(0.0), st.floats(-720, 720), st.floats(-180, 180), st.floats(-360, 360)
)  # fmt: skip


@given(angles)
def test_a_basis_is_of_right_angles(orbit: Orbit) -> None:
    right, down, forward = map(np.array, basis_of(orbit))
    assert close(np.cross(forward, right), down)
    assert close([right @ right, forward @ forward, right @ forward], [1, 1, 0])


@given(angles, angles, st.floats(0, 1))
def test_a_turn_goes_evenly_from_one_end_to_the_other(first: Orbit, last: Orbit, share: float) -> None:
    last = replace(last, azimuth=first.azimuth + math.fmod(last.azimuth - first.azimuth, 360))
    turn = Turn(first, last)
    assert turn.degrees <= 180 + 1e-6
    before = Turn(first, turn.at(share)).degrees
    after = Turn(turn.at(share), last).degrees
    near = 1e-5  # an angle computed from a cosine near 1
    if turn.degrees < 179.9:
        assert math.fmod(before, 360) == pytest.approx(share * turn.degrees, abs=near)
        assert math.fmod(after, 360) == pytest.approx((1 - share) * turn.degrees, abs=near)


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-179, 179), st.floats(0, 1))
def test_between_orientations_of_one_elevation_and_roll_only_the_azimuth_changes(
    elevation: float, roll: float, by: float, share: float
) -> None:
    first = Orbit(0, 12.0, elevation, roll)
    there = Turn(first, replace(first, azimuth=12.0 + by)).at(share)
    expected = basis_of(replace(first, azimuth=12.0 + share * by))
    assert close(basis_of(there), expected, 1e-6)
    if abs(elevation) < 89:
        assert there.azimuth == pytest.approx(12.0 + share * by, abs=1e-5)


def test_the_way_is_the_shortest_and_whole_turns_are_made() -> None:
    assert Turn(Orbit(0, 350), Orbit(0, 10)).at(0.5).azimuth == pytest.approx(360)
    assert Turn(Orbit(0, 10), Orbit(0, -10)).at(0.5).azimuth == pytest.approx(0)
    assert Turn(Orbit(0, 0), Orbit(0, 180)).at(0.25).azimuth == pytest.approx(45)
    assert Turn(Orbit(0, 0), Orbit(0, -180)).at(0.25).azimuth == pytest.approx(-45)
    assert Turn(Orbit(0, 0), Orbit(0, 270)).at(0.5).azimuth == pytest.approx(-45)
    turn = Turn(Orbit(0, 0, 20), Orbit(0, 360, 20))
    assert turn.degrees == pytest.approx(360)
    assert turn.at(0.75) == Orbit(0, pytest.approx(270), pytest.approx(20), pytest.approx(0))
    assert Turn(Orbit(0, 0), Orbit(0, -810)).at(0.5).azimuth == pytest.approx(-405)


def test_over_the_pole_the_azimuth_is_that_of_before() -> None:
    turn = Turn(Orbit(0, 30, 60), Orbit(0, 30, 120))
    assert turn.at(0.5) == Orbit(0, pytest.approx(30), pytest.approx(90), pytest.approx(0))


# paths


def a_path(*orbits: Orbit, easing: Easing = "linear") -> CameraPath:
    keys = [Keyframe(2.0 * n, Camera(n, 2 * n, 2.0**n, orbit=each)) for n, each in enumerate(orbits)]
    return CameraPath(tuple(keys), 10, easing, "p")


def test_a_path_interpolates_all_of_a_camera() -> None:
    camera = a_path(Orbit(0, 0, 20), Orbit(8, 90, 20, fov=40)).seen([1.0])[0].camera
    assert (camera.x, camera.y, camera.zoom, camera.name) == (0.5, 1, pytest.approx(2**0.5), "p")
    assert camera.orbit == Orbit(4, pytest.approx(45), pytest.approx(20), pytest.approx(0), 20)


def test_the_ends_of_a_path_are_its_keyframes() -> None:
    orbits = Orbit(1, 400, 95, 3, 10), Orbit(2, -80, 20), Orbit(3, 10, 5)
    frames = a_path(*orbits, easing="smooth").frames()
    assert frames[0][1].orbit == orbits[0]
    assert frames[-1][1].orbit == orbits[-1]
    assert close(basis_of(frames[20][1].orbit or orbits[0]), basis_of(orbits[1]))


def test_smooth_rests_at_the_ends_keeps_its_speed_within_and_never_overshoots() -> None:
    orbits = [
        seen.camera.orbit
        for seen in a_path(Orbit(0, 0), Orbit(0, 60), Orbit(0, 120), easing="smooth").seen(
            [0.02 * n for n in range(201)]
        )
    ]
    steps = np.diff([orbit.azimuth for orbit in orbits if orbit is not None])
    assert (steps >= 0).all()
    assert steps[0] < steps[100] / 10
    assert steps[99] == pytest.approx(steps[100], rel=0.05)


def test_a_path_that_stands_still_for_a_while() -> None:
    path = a_path(Orbit(0, 30, 10), Orbit(0, 30, 10), Orbit(0, 60, 10))
    assert path.seen([1.0])[0].camera.orbit == Orbit(0, 30, 10)


def test_a_path_is_of_planes_or_of_volumes() -> None:
    keys = (Keyframe(0, Camera(0, 0, 1)), Keyframe(1, Camera(0, 0, 1, orbit=Orbit(0))))
    with pytest.raises(UsageError, match="a plane or at a volume"):
        CameraPath(keys).frames()


def test_the_report_says_where_a_camera_stands() -> None:
    camera = Camera(1, 2, 3, "a", 1.5, Orbit(4, 5, 6, 7, 8))
    assert camera.to_json() == {
        "name": "a", "x": 1, "y": 2, "zoom": 3, "aspect": 1.5,
        "z": 4, "azimuth": 5, "elevation": 6, "roll": 7, "fov": 8,
    }  # fmt: skip
    assert "azimuth" not in Camera(1, 2, 3).to_json()
