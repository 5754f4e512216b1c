"""Planes to come are loaded while others are shown: in which order, how many, by how many workers, and what of it was of use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octree.pyramid import build
from octree.pyramid.model import TileKey
from octree.render.config import LoaderSettings, OctreeSettings, PoolSettings, RenderSettings, Settings
from octree.render.frames import Frame, Renderer, Shot
from octree.render.loading.schedule import Schedule
from octree.render.report.values import RunReport
from octree.render.request import parse_request
from octree.render.view.ahead import (
    PlaneAhead,
    Tile,
    arrives_in_time,
    in_loading_order,
    latency_of,
    planes_ahead,
    room_ahead,
    thinned,
    workers_needed,
)
from octree.render.view.camera import Camera
from octree.render.view.film import Film
from octree.render.view.state import Slicing, ViewState

# which tiles, in which order


def tiles(plane: int, count: int, level: int = 0, size: int = 10) -> list[Tile]:
    return [Tile(0, TileKey(level, (plane,), (0, number)), size) for number in range(count)]


def named(found: Sequence[Tile]) -> list[tuple[int, int, int]]:
    return [(tile.key.level, tile.key.index[0], tile.key.grid[1]) for tile in found]


def test_one_coarse_tile_of_each_plane_comes_before_all_others_which_come_in_the_order_they_are_due() -> None:
    planes = [PlaneAhead(tiles(n, 1, level=2), tiles(n, 2), due_ms=100.0 * n) for n in (1, 2, 3)]
    assert named(in_loading_order(planes, 10_000, 50.0)) == [
        (2, 1, 0), (2, 2, 0), (2, 3, 0),
        (0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 2, 1), (0, 3, 0), (0, 3, 1),
    ]  # fmt: skip


def test_what_would_come_too_late_is_not_begun_but_its_coarse_tile_is() -> None:
    planes = [PlaneAhead(tiles(n, 1, level=2), tiles(n, 1), due_ms=33.0 * n) for n in (1, 2, 3)]
    found = {named([tile])[0]: tile.begin for tile in in_loading_order(planes, 999, 50.0)}
    assert found == {
        (2, 1, 0): True, (2, 2, 0): True, (2, 3, 0): True, (0, 1, 0): False, (0, 2, 0): True, (0, 3, 0): True,
    }  # fmt: skip


def test_of_a_plane_that_is_left_before_anything_can_arrive_nothing_is_begun() -> None:
    planes = [PlaneAhead(tiles(n, 1, level=2), tiles(n, 2), due_ms=20.0 * n) for n in (1, 2)]
    found = in_loading_order(planes, 999, 50.0, 20.0)
    assert {(tile.key.index[0], tile.key.level): tile.begin for tile in found if tile.key.level} == {
        (1, 2): False,  # left after 40 ms
        (2, 2): True,
    }


def test_too_few_workers_read_some_planes_whole_and_none_in_part() -> None:
    """Planes of two tiles; what is under way for one that is not begun keeps its workers."""

    def begun(workers: float, *under_way: int, due_ms: float = 50.0) -> list[int]:
        planes = [
            PlaneAhead(tiles(n, 1, level=2), tiles(n, 2), due_ms + 10 * n, missing=2, under_way=busy)
            for n, busy in enumerate(under_way)
        ]
        found = in_loading_order(planes, 9999, 50.0, 10.0, workers)
        assert all(tile.begin for tile in found if tile.key.level), "what stands in is another's work"
        return sorted({tile.key.index[0] for tile in found if tile.begin and not tile.key.level})

    assert begun(4, 0, 0, 0, 0) == [0, 1, 3]
    assert begun(8, 0, 0, 0, 0) == [0, 1, 2, 3]
    assert begun(2, 0, 0, 0, 0) == [0]
    assert begun(2, 2, 0, 0, 0, 0, 0) == [0, 5], "when there is time for a second turn"
    assert begun(3, 2, 0, due_ms=40.0) == [], "the one that is too late by now goes on, in front of the next"
    assert begun(3, 0, 0, due_ms=40.0) == [1]


def test_a_settled_film_needs_nothing_that_stands_in() -> None:
    planes = [PlaneAhead(tiles(n, 1, level=2), tiles(n, 2)) for n in (4, 5)]
    assert named(in_loading_order(planes, 999, 50.0)) == [(0, 4, 0), (0, 4, 1), (0, 5, 0), (0, 5, 1)]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.floats(0, 200)), max_size=8),
    st.integers(0, 400),
    st.none() | st.floats(0, 300),
)
def test_no_tile_is_named_twice_and_all_of_them_have_room(
    given_planes: list[tuple[int, int, float]], room: int, latency_ms: float | None
) -> None:
    planes = [
        PlaneAhead(tiles(index, 1, level=2), tiles(index, count), due_ms)
        for index, count, due_ms in given_planes
    ]
    found = in_loading_order(planes, room, latency_ms)
    assert len(set(named(found))) == len(found)
    assert sum(tile.bytes for tile in found) <= room
    everything = in_loading_order(planes, 10**9, latency_ms)
    assert named(found) == named(everything)[: room // 10], "as many as have room, the most urgent"


@pytest.mark.parametrize(
    ("latency_ms", "plane_ms", "expected"),
    [(50, 1000 / 30, 4), (50, 100, 3), (500, 100, 7), (5_000, 100, 20), (0, 100, 2), (None, 100, 7), (5_000, 10, 32),
     (10, 5_000, 1), (1e9, 1e-3, 32)],
)  # fmt: skip
def test_the_horizon_is_what_may_be_late_and_no_more(
    latency_ms: float | None, plane_ms: float, expected: int
) -> None:
    assert planes_ahead(latency_ms, plane_ms) == expected


@pytest.mark.parametrize(("at_once", "expected"), [(1, 4), (2, 4), (8, 16), (1000, 32)])
def test_a_settled_film_looks_ahead_until_no_worker_is_idle(at_once: int, expected: int) -> None:
    assert planes_ahead(50.0, 0.0, at_once) == expected


def test_of_deep_chunks_a_plane_now_and_then_brings_the_others() -> None:
    assert thinned(range(32)) == [0, 1, 2, 3, 7, 15, 23, 31]


@pytest.mark.parametrize(
    ("cache", "wanted", "expected"), [(1000, 100, 250), (1000, 900, 100), (1000, 2000, 0), (0, 0, 0)]
)
def test_planes_ahead_take_a_quarter_of_the_cache_and_nothing_that_is_wanted_now(
    cache: int, wanted: int, expected: int
) -> None:
    assert room_ahead(cache, wanted) == expected


def test_sixteen_tiles_at_30_fps_and_50_ms_need_24_workers_and_some_to_spare() -> None:
    assert 24 < workers_needed(16, 1000 / 30, 50.0) <= 30
    assert workers_needed(16, 100.0, 5.0) == 1
    assert workers_needed(16, 100.0, None) == 0


def test_latency_is_that_of_nine_loads_of_ten() -> None:
    assert latency_of([]) is None
    assert latency_of([5.0]) == 5.0
    assert latency_of([*range(1, 10), 1000.0]) == 9
    assert arrives_in_time(None, 0.0)
    assert not arrives_in_time(50.0, 33.0)


def test_a_pool_has_the_workers_that_are_needed_as_far_as_the_settings_allow() -> None:
    pools = (
        (0, PoolSettings(num_workers=4)),
        (2, PoolSettings(num_workers=40)),
        (3, PoolSettings(4, use_processes=True)),
    )
    schedule = Schedule(LoaderSettings(pools=pools, max_workers=20))
    assert [schedule.staff(0, needed) for needed in (0, 4, 9, 99, 3)] == [4, 4, 9, 20, 4]
    assert [schedule.staff(2, needed) for needed in (1, 99)] == [40, 40], "never fewer than are asked for"
    assert schedule.staff(3, 99) == 4, "a process is no thread"


# where a film stands


def shots(*places: int, settle: bool = False, starts: Sequence[int] = (0,)) -> list[Shot]:
    return [
        Shot(number, ViewState(Camera(0, 0, 1), Slicing.of({"t": place})), settle, t_ms=100.0 * number,
             starts_path=number in starts, fps=10.0)
        for number, place in enumerate(places)
    ]  # fmt: skip


def test_a_film_knows_what_comes_and_when() -> None:
    frames = shots(5, 6, 6, 7)
    film = Film(frames)
    film.go_on(frames[0].state)
    assert [(shot.index, due_ms) for shot, due_ms in film.coming()] == [(1, 100.0), (3, 300.0)]
    assert film.left_ms == 100.0
    film.go_on(frames[1].state)
    assert (film.left_ms, film.plane_ms) == (200.0, 200.0)
    film.go_on(frames[3].state)
    assert list(film.coming()) == []
    assert film.left_ms == math.inf
    film.go_on(ViewState(Camera(0, 0, 1)))
    assert list(film.coming()) == [], "what is no part of the film has no future"


def test_a_streamed_film_does_not_look_beyond_its_end_and_a_settled_one_does() -> None:
    for settle, expected in ((False, [1]), (True, [1, 2, 3])):
        frames = shots(1, 2, 1, 2, settle=settle, starts=(0, 2))
        film = Film(frames)
        film.go_on(frames[0].state)
        assert [shot.index for shot, _ in film.coming()] == expected
        assert film.plane_ms == (0.0 if settle else 100.0)


def test_who_looks_ahead_looks_at_no_more_frames_than_it_asks_for() -> None:
    """In a film of a million frames each frame copied the rest of them."""

    class Looked(tuple):  # type: ignore[type-arg] # of shots
        seen = 0

        def __getitem__(self, at: Any) -> Any:
            assert isinstance(at, int)
            Looked.seen += 1
            return super().__getitem__(at)

    frames = shots(*range(1000))
    film = Film(frames)
    film._shots = Looked(film._shots)
    film.go_on(frames[500].state)
    Looked.seen = 0
    coming = film.coming()
    assert [next(coming)[0].index for _ in range(3)] == [501, 502, 503]
    assert Looked.seen < 20


def test_a_film_of_one_plane_has_no_planes_to_come() -> None:
    frames = shots(1, 1, 1)
    film = Film(frames)
    film.go_on(frames[0].state)
    assert not film.steps
    assert list(film.coming()) == []


# whole films, on the virtual clock

EDGE, LEVEL_TILES = 64, 16


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 planes of 4 x 4 tiles, each of one value; levels of 64, 32 and 16 pixels."""
    path = tmp_path_factory.mktemp("ahead") / "series"
    planes = np.broadcast_to(np.arange(40, dtype=np.uint16)[:, None, None] * 6 + 10, (40, EDGE, EDGE))
    build(planes, path, axes="tyx", tile=16)
    return path


def film(
    path: Any, *, workers: int = 10, max_workers: int = 32, cache_bytes: int = 2**26, **options: Any
) -> tuple[list[Frame], RunReport]:
    pools = tuple(
        (key, replace(pool, num_workers=workers, auto_sync_ms=0.0)) for key, pool in LoaderSettings().pools
    )
    settings = Settings(
        loader=LoaderSettings(pools=pools, max_workers=max_workers),
        octree=OctreeSettings(tile_size=16),
        render=RenderSettings(cache_bytes=cache_bytes),
    )
    words = {
        "size": "64x64",
        "clim": "0,255",
        "clock": "virtual",
        "latency": "50ms",
        "index": "t=0:40",
        **options,
    }
    with Renderer(parse_request([path], ["fit"], words, settings=settings)) as renderer:
        frames = list(renderer.frames())
        return frames, renderer.report()


def shown_planes(frames: Sequence[Frame]) -> list[set[int]]:
    """What planes the pixels are of; black is none."""
    return [{(int(value) - 10) // 6 for value in np.unique(frame.rgba[..., 0]) if value} for frame in frames]


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on nobody looks ahead."""

    def none(*_: object) -> int:
        return 0

    return lambda: monkeypatch.setattr("octree.render.scene.ahead.planes_ahead", none)


@pytest.mark.usefixtures("gl_info")
class TestFilms:
    def test_at_30_fps_and_50_ms_no_plane_has_a_hole_and_nearly_all_are_complete(self, series: Path) -> None:
        frames, report = film(series, stream=True, fps="30")
        assert [frame.report.coverage.missing for frame in frames] == [0.0] * 40
        assert sum(frame.report.coverage.ideal == 1.0 for frame in frames) >= 38
        assert shown_planes(frames) == [{n} for n in range(40)]
        assert report.totals.prefetch.wasted == 0
        assert report.totals.prefetch.used > 35 * LEVEL_TILES
        assert report.totals.tiles_read_twice == 0

    def test_where_nothing_stands_in_planes_are_complete_from_the_first(self) -> None:
        """The first loads say how long one takes, and so how many workers it takes: while the film waits for its first plane,
        not after that."""
        planes = np.broadcast_to(np.arange(40, dtype=np.uint16)[:, None, None] * 6 + 10, (40, EDGE, EDGE))
        frames, report = film(planes, stream=True, fps="30", single_level=True, index="z=0:40")
        assert [frame.report.coverage.ideal for frame in frames] == [1.0] * 40
        assert shown_planes(frames) == [{n} for n in range(40)]
        assert report.totals.tiles_read_twice == 0

    def test_without_workers_enough_planes_are_coarse_but_never_wrong_nor_full_of_holes(
        self, series: Path
    ) -> None:
        frames, report = film(series, stream=True, fps="30", max_workers=10)
        assert [frame.report.coverage.missing for frame in frames] == [0.0] * 40
        assert shown_planes(frames) == [{n} for n in range(40)]
        ideal = sum(frame.report.coverage.ideal for frame in frames) / 40
        assert ideal >= 0.2, "the workers that there are load what can still be shown"
        assert report.totals.prefetch.wasted < 40

    @pytest.mark.parametrize("late", ["coarse", "hold"])
    def test_far_too_few_workers_make_some_planes_complete_and_waste_little(
        self, series: Path, late: str
    ) -> None:
        """500 ms: so many tiles cannot come for each plane, but all of them for some."""
        frames, report = film(
            series, stream=True, fps="10", latency="500ms", late=late, max_workers=2 * LEVEL_TILES
        )
        complete = {frame.report.position.shown for frame in frames if frame.report.coverage.ideal == 1.0}
        assert len(complete) >= 12, "the workers have time for two of five planes"
        assert report.totals.reads_wasted <= LEVEL_TILES
        assert report.totals.wrong_plane_frames == 0

    def test_without_looking_ahead_every_plane_has_holes(
        self, series: Path, blind: Callable[[], None]
    ) -> None:
        blind()
        frames, _ = film(series, stream=True, fps="30")
        assert sum(frame.report.coverage.missing > 0 for frame in frames) >= 38

    @pytest.mark.parametrize(("workers", "at_once"), [(16, 1), (32, 2), (64, 4)])
    def test_a_settled_film_takes_as_long_as_its_workers_need_and_none_is_idle(
        self, series: Path, workers: int, at_once: int
    ) -> None:
        frames, report = film(series, settle=True, workers=workers, max_workers=workers)
        # one time more, as a third of the first plane stands in for it
        assert frames[-1].report.t_ms == 50.0 * (40 / at_once + 1)
        assert shown_planes(frames) == [{n} for n in range(40)]
        # of planes that were not whole when they came what stood in for them, too
        assert report.totals.tiles_read - 40 * LEVEL_TILES <= 40 + 6
        assert report.totals.prefetch.wasted == 0

    def test_workers_grow_with_need(self, series: Path) -> None:
        few = film(series, settle=True, max_workers=10)[0][-1].report.t_ms
        grown = film(series, settle=True, max_workers=32)[0][-1].report.t_ms
        assert grown < few / 2

    @pytest.mark.parametrize("cache_bytes", [0, 600, 5_000, 20_000, 40_000])
    def test_a_small_cache_does_not_thrash(
        self, series: Path, blind: Callable[[], None], cache_bytes: int
    ) -> None:
        ahead, with_it = film(series, settle=True, cache_bytes=cache_bytes)
        blind()
        plain, without = film(series, settle=True, cache_bytes=cache_bytes)
        assert with_it.totals.tiles_read <= without.totals.tiles_read
        assert with_it.totals.tiles_read_twice == without.totals.tiles_read_twice == 0
        assert with_it.totals.peak_cache_bytes <= cache_bytes
        assert ahead[-1].report.t_ms <= plain[-1].report.t_ms
        for one, other in zip(ahead, plain, strict=True):
            np.testing.assert_array_equal(one.rgba, other.rgba)

    def test_a_camera_that_moves_wants_other_tiles_of_the_next_planes(
        self, series: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "path.json"
        path.write_text(
            '{"keyframes": [{"t_s": 0, "x": 8, "y": 8, "zoom": 1}, {"t_s": 1, "x": 56, "y": 56, "zoom": 1}]}'
        )
        settings = Settings(octree=OctreeSettings(tile_size=16))
        words = {
            "size": "16x16",
            "clim": "0,255",
            "clock": "virtual",
            "latency": "50ms",
            "index": "t=0:40",
            "settle": True,
        }
        with Renderer(parse_request([series], [str(path)], words, settings=settings)) as renderer:
            frames = list(renderer.frames())
            totals = renderer.report().totals
        assert shown_planes(frames) == [{n} for n in range(40)]
        assert totals.prefetch.wasted == 0
        assert totals.tiles_read <= sum(len(frame.tiles[0]) for frame in frames) + 20

    def test_two_cameras_and_a_jump_back_show_what_they_should(self, series: Path) -> None:
        settings = Settings(octree=OctreeSettings(tile_size=16))
        words = {
            "size": "64x64",
            "clim": "0,255",
            "clock": "virtual",
            "latency": "50ms",
            "stream": True,
            "fps": "20",
        }
        places = [0, 1, 2, 3, 30, 31, 2, 1, 0, 39]
        with Renderer(
            parse_request([series], ["fit"], {**words, "index": "t=0:10"}, settings=settings)
        ) as renderer:
            renderer.shots = tuple(
                replace(shot, state=replace(shot.state, slicing=Slicing.of({"t": place})))
                for shot, place in zip(renderer.shots, places, strict=True)
            )
            frames = list(renderer.frames())
        assert [frame.report.coverage.missing for frame in frames] == [0.0] * 10
        assert shown_planes(frames) == [{place} for place in places]

    def test_a_plane_that_cannot_be_read_does_not_hold_up_the_others(self, series: Path) -> None:
        frames, report = film(series, settle=True, fail_rate="0.05", seed="3")
        whole = [n for n, frame in enumerate(frames) if frame.report.coverage.failed == 0]
        assert [shown_planes(frames)[n] for n in whole] == [{n} for n in whole]
        assert report.totals.prefetch.used > 100
