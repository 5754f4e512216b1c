"""Films over axes. Each plane of the images has a grey of its own, so that pixels tell which plane is shown."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from octree.pyramid import build
from octree.pyramid.errors import OctreeWarning, UsageError
from octree.render import Renderer, TiledImage, render
from octree.render.check import suite
from octree.render.report import report_schema
from octree.render.request import parse_request
from octree.render.scene.layer import Layer
from octree.render.view.camera import CameraPath
from octree.render.view.camera_text import parse_camera

pytestmark = pytest.mark.usefixtures("gl_info")
T, Z = 12, 4
SIZE = (48, 32)
LOOK = {"clim": "0,255"}


def grey(t: int, z: int = 0) -> int:
    return 20 + 16 * t + 3 * z


def planes(count: int = T, depth: int = Z) -> NDArray[np.uint8]:
    """(t, z, y, x)"""
    data = np.empty((count, depth, 64, 96), np.uint8)
    for t in range(count):
        for z in range(depth):
            data[t, z] = grey(t, z)
    return data


def built(path: Path, data: NDArray[np.uint8]) -> Path:
    build(data, path, axes="tzyx"[-data.ndim :] if data.ndim != 3 else "tyx", tile=32, shard=0, codec="none")
    return path


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("films") / "series.ome.zarr", planes())


def greys(frames: Sequence[NDArray[np.uint8]]) -> list[int]:
    """The one grey of each frame."""
    found = []
    for frame in frames:
        assert (frame[..., :3] == frame[0, 0, 0]).all(), "one plane in one frame"
        found.append(int(frame[0, 0, 0]))
    return found


def film(
    sources: Any, index: str | None = None, cameras: Sequence[str] = ("fit",), **options: Any
) -> list[int]:
    named = sources if isinstance(sources, list) else [sources]
    words = LOOK | options | ({} if index is None else {"index": index})
    return greys(render(named, cameras, size=SIZE, options=words).frames)


def refused(sources: Any, index: str | None = None, cameras: Sequence[str] = ("fit",), **options: Any) -> str:
    """What is said, message and hint."""
    with pytest.raises(UsageError) as caught:
        film(sources, index, cameras, **options)
    return f"{caught.value.message} | {caught.value.hint}"


def keyframes(folder: Path, *keys: dict[str, float], **top: Any) -> str:
    path = folder / f"path{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({"keyframes": keys, **top}))
    return str(path)


def octree(*words: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "octree.cli", *map(str, words)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("OCTREE_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    return done


# which planes


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("t=:", [grey(t) for t in range(T)]),
        ("t=3:7,z=2", [grey(t, 2) for t in range(3, 7)]),
        ("t=1:12:5", [grey(t) for t in (1, 6, 11)]),
        ("t=:2,z=:", [grey(t, z) for t in range(2) for z in range(Z)]),
        ("z=1:3,t=10:", [grey(t, z) for z in (1, 2) for t in (10, 11)]),
        ("t=2:3", [grey(2)]),
        ("t=2.9", [grey(2)]),
    ],
)
def test_a_film_shows_each_plane_once_the_last_axis_fastest(
    series: Path, index: str, expected: list[int]
) -> None:
    assert film(series, index) == expected


def test_each_camera_has_a_film_and_films_settle_at_ten_a_second(series: Path) -> None:
    request = parse_request([series], ["fit", "x=40,y=30,zoom=1,name=near"], {"index": "t=0:3"})
    with Renderer(request) as renderer:
        seen = [(shot.camera.name, dict(shot.position), shot.t_ms) for shot in renderer.shots]
        assert all(shot.settle for shot in renderer.shots)
    assert seen == [(name, {"t": t, "z": 0}, 100.0 * t) for name in ("fit", "near") for t in range(3)]


def test_a_path_lasts_as_long_as_the_film_beside_it(series: Path, tmp_path: Path) -> None:
    moves = keyframes(
        tmp_path, {"t_s": 0, "x": 10, "y": 32, "zoom": 4}, {"t_s": 9, "x": 30, "y": 32, "zoom": 1}, fps=2
    )
    for given, fps in (({}, 10), ({"fps": 4}, 4)):
        with Renderer(parse_request([series], [moves], {"index": "t=0:5", **given})) as renderer:
            shots = renderer.shots
        assert [dict(shot.position)["t"] for shot in shots] == [0, 1, 2, 3, 4]
        assert [shot.camera.x for shot in shots] == [10, 15, 20, 25, 30]
        assert (shots[0].camera.zoom, shots[-1].camera.zoom) == (4, 1)
        assert [shot.t_ms for shot in shots] == [1000 * number / fps for number in range(5)]
        assert all(shot.settle and shot.fps == fps for shot in shots)


def test_a_rate_replaces_that_of_a_path(series: Path) -> None:
    for given, count in (({}, 241), ({"fps": "5"}, 21)):
        with Renderer(parse_request([series], ["zoom-in"], given)) as renderer:
            assert len(renderer.shots) == count
            assert not renderer.shots[0].settle


def test_a_film_over_channels_shows_them_one_by_one(series: Path, tmp_path: Path) -> None:
    data = np.stack([np.full((64, 96), 30 * (1 + c), np.uint8) for c in range(3)])
    build(data, tmp_path / "c.ome.zarr", axes="cyx", tile=32, shard=0)
    path = tmp_path / "c.ome.zarr"
    assert film(path, "c=:") == [30, 60, 90]
    assert film(path, cameras=[keyframes(tmp_path, {"t_s": 0, "c": 2}, {"t_s": 1, "c": 0}, fps=2)], settle=True) == [
        90, 60, 30,
    ]  # fmt: skip
    assert "same channels in every frame" in refused(path, "c=:", channels="0:red,1:green")


def test_a_thick_slab_moves(series: Path) -> None:
    assert film(series, "z=0:4", project="z=max:~1") == [grey(0, z) for z in (1, 2, 3, 3)]


def test_a_settled_film_reads_what_it_shows_and_no_more_than_a_backdrop(tmp_path: Path) -> None:
    """What would stand in for a moment is seen in no frame: of it the coarsest level alone is read, should time run out."""
    path = tmp_path / "wide.ome.zarr"
    build(np.zeros((3, 1024, 1024), np.uint8), path, axes="tyx", shard=0)
    options = LOOK | {"index": "t=:", "clock": "virtual", "latency": "5ms"}
    report = render([path], ["x=512,y=512,zoom=1"], size=(1024, 1024), options=options).report
    assert [frame.tiles.wanted for frame in report.frames] == [16] * 3
    assert sum(frame.tiles.loaded for frame in report.frames) == 16 + 4 + 1 + 2 * (16 + 1)
    assert (report.totals.tiles_read_twice, report.totals.reads_wasted) == (0, 0)


# keyframes


def test_keyframes_move_along_axes_in_both_directions(series: Path, tmp_path: Path) -> None:
    """There and back, standing before the first and after the last keyframe of each axis; no camera: all of it."""
    there = keyframes(
        *(tmp_path, {"t_s": 0, "t": 9}, {"t_s": 3, "t": 0, "z": 1}, {"t_s": 5, "z": 3}, {"t_s": 6, "t": 6}),
        fps=1,
    )
    expected = [(9, 1), (6, 1), (3, 1), (0, 1), (2, 2), (4, 3), (6, 3)]
    assert film(series, cameras=[there], settle=True) == [grey(t, z) for t, z in expected]
    assert film(
        series, "z=2", [keyframes(tmp_path, {"t_s": 0, "t": 0}, {"t_s": 49, "t": 7}, fps=1)], settle=True
    ) == [grey(number * 7 // 49, 2) for number in range(50)]


def test_settled_films_are_the_same_in_any_order(series: Path, tmp_path: Path) -> None:
    single = {t: render([series], size=SIZE, options=LOOK | {"index": f"t={t}"}).frames[0] for t in range(4)}
    loop = keyframes(tmp_path, {"t_s": 0, "t": 3}, {"t_s": 3, "t": 0}, {"t_s": 6, "t": 3}, fps=1)
    run = render([series], [loop], size=SIZE, options=LOOK | {"settle": True, "cache": "0", "atlas": "1MiB"})
    for frame, t in zip(run.frames, (3, 2, 1, 0, 1, 2, 3), strict=True):
        np.testing.assert_array_equal(frame, single[t])


def test_camera_and_axes_are_interpolated_each_for_themselves(tmp_path: Path) -> None:
    places = [
        {"t_s": 0, "x": 0, "y": 0, "zoom": 1, "t": 2},
        {"t_s": 1, "t": 8},
        {"t_s": 2, "x": 20, "y": 10, "zoom": 4},
    ]
    for easing, ts in (("linear", [2, 5, 8, 8, 8]), ("smooth", [2, 5, 8, 8, 8])):
        path = parse_camera(keyframes(tmp_path, *places, fps=2, easing=easing), extent=(96, 64), size_px=SIZE)
        assert isinstance(path, CameraPath)
        seen = path.seen(path.times_s())
        assert [dict(each.position)["t"] for each in seen] == ts
        assert [each.camera.x for each in seen][::2] == [0, 10, 20]
        assert [each.camera.zoom for each in seen][::2] == [1, 2, 4]
    quarter = path.seen([0.25])[0]
    assert (dict(quarter.position)["t"], quarter.camera.x < 20 / 8) == (2, True), "it starts slowly"


@pytest.mark.parametrize(
    ("keys", "options", "says"),
    [
        ([{"t_s": 0, "t": 0}, {"t_s": 1, "t": 12}], {}, "keyframe 1: t=12 lies outside the image | t runs from 0 to 11"),
        ([{"t_s": 0, "t": -1}], {}, "keyframe 0: t=-1 lies outside the image"),
        ([{"t_s": 0, "t": 11.99999999}], {}, "keyframe 0: t=12 lies outside the image"),
        ([{"t_s": 0, "t": 0}, {"t_s": 1, "c": 1}], {}, "keyframe 1: there is no axis 'c' to choose a position on | axes to choose on: t, z"),
        ([{"t_s": 0, "z": 0}], {"display": "zx"}, "keyframe 0: z is displayed: there is no position to choose on it | axes to choose on: t, y"),
        ([{"t_s": 0, "z": 0}], {"project": "z=max"}, "keyframe 0: z is projected"),
        ([{"t_s": 0, "z": 0}], {"index": "z=2"}, "keyframe 0 moves along z, which --index z=2 chooses, too"),
        ([{"t_s": 0, "z": 0}], {"index": "z=0:2"}, "keyframe 0 moves along z, which --index z=0:2 chooses, too"),
        ([{"t_s": 0, "q": 0}], {}, "keyframe 0: unknown key 'q' | known keys: t_s, x, y, zoom, t, c, z"),
        ([{"t_s": 0, "t": 0, "x": 3}], {}, "keyframe 0: no 'y'"),
        ([{"t_s": 0}], {}, "keyframe 0: no 'x'"),
        ([{"t_s": 0, "t": "3"}], {}, "keyframe 0: t must be a number"),
    ],
)  # fmt: skip
def test_keyframes_that_cannot_be_shown_are_named(
    series: Path, tmp_path: Path, keys: list[dict[str, float]], options: dict[str, str], says: str
) -> None:
    assert says in refused(series, cameras=[keyframes(tmp_path, *keys)], **options)


# streams


SLOW = {"stream": True, "clock": "virtual", "latency": "150ms", "cache": "0B"}
"""Without a cache no plane is loaded ahead."""


def stops(folder: Path) -> str:
    """Half a second at t = 0, three planes in 0.3 s, half a second at t = 3, and back at once."""
    at = ((0, 0), (0.5, 0), (0.8, 3), (1.3, 3), (1.4, 0))
    return keyframes(folder, *({"t_s": t_s, "t": t} for t_s, t in at), fps=10)


def streamed(series: Path, tmp_path: Path, late: str | None) -> tuple[list[int | None], Any]:
    """t as the pixels have it, None for nothing; and the report."""
    run = render([series], [stops(tmp_path)], size=SIZE, options=LOOK | SLOW | {"late": late})
    planes_of = {grey(t): t for t in range(T)} | {0: None}
    return [planes_of[value] for value in greys(run.frames)], run.report


REQUESTED = [0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3, 0]


@pytest.mark.parametrize("late", [None, "coarse"])
def test_a_late_plane_is_shown_as_far_as_it_is_there(series: Path, tmp_path: Path, late: str | None) -> None:
    seen, report = streamed(series, tmp_path, late)
    assert seen == [0, 0, 0, 0, 0, 0, None, None, None, None, 3, 3, 3, 3, 0]
    for frame, t in zip(report.frames, REQUESTED, strict=True):
        assert dict(frame.position.shown) == dict(frame.position.requested) == {"t": t, "z": 0}
    assert [frame.late for frame in report.frames] == [t is None for t in seen]
    totals = report.totals
    assert (totals.late_frames, totals.skipped_planes, totals.wrong_plane_frames) == (4, 0, 0)


def test_with_a_cache_no_plane_is_late(series: Path, tmp_path: Path) -> None:
    run = render([series], [stops(tmp_path)], size=SIZE, options=LOOK | SLOW | {"cache": "64MiB"})
    assert greys(run.frames) == [grey(t) for t in REQUESTED]
    assert run.report.totals.late_frames == 0


def test_the_last_complete_plane_is_kept_while_the_next_is_late_and_named(
    series: Path, tmp_path: Path
) -> None:
    seen, report = streamed(series, tmp_path, "hold")
    assert seen == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 0]
    assert [dict(frame.position.requested)["t"] for frame in report.frames] == REQUESTED
    assert [dict(frame.position.shown)["t"] for frame in report.frames] == [t or 0 for t in seen]
    assert [frame.late for frame in report.frames] == [n in (6, 7, 8, 9) for n in range(15)]
    assert [frame.coverage.ideal for frame in report.frames] == [1] * 15
    totals = report.totals
    assert (totals.late_frames, totals.skipped_planes, totals.wrong_plane_frames) == (4, 2, 0)
    document = report.to_json()
    states = {each["index"]["t"]: (each["state"], each["first_ms"] is None) for each in document["slices"]}
    assert (states[1], states[3]) == (("superseded", True), ("complete", False)), (
        "what nobody saw was not shown"
    )
    assert document["frames"][8]["position"] == {"requested": {"t": 3, "z": 0}, "shown": {"t": 0, "z": 0}}
    assert document["frames"][8]["index"] == document["frames"][8]["position"]
    assert document["frames"][8]["number"] == 8
    jsonschema.validate(document, report_schema())


def test_planes_that_are_never_shown_are_warned_of(series: Path, tmp_path: Path) -> None:
    done = octree(
        *("render", series, "--camera", stops(tmp_path), "--late", "hold", "--clock", "virtual"),
        *("--latency", "150ms", "--size", "48x32", "--report", tmp_path / "r.json", "--cache", "0"),
    )
    assert done.returncode == 0, done.stderr
    assert "warning: 2 of the film's planes are shown by no frame" in done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["totals"]["skipped_planes"] == 2


def test_what_is_kept_is_hatched_where_pending_is_marked(series: Path, tmp_path: Path) -> None:
    options = LOOK | SLOW | {"late": "hold", "mark_pending": True}
    frames = render([series], [stops(tmp_path)], size=SIZE, options=options).frames
    assert greys([frames[5], frames[10]]) == [grey(0), grey(3)]
    for kept in frames[6:10]:
        lines = (kept[..., :3] == (255, 191, 0)).all(-1)
        assert 0.1 < lines.mean() < 0.25
        assert (kept[~lines][:, 0] == grey(0)).all()


def test_a_film_may_wait_for_its_planes(series: Path, tmp_path: Path) -> None:
    seen, report = streamed(series, tmp_path, "wait")
    assert seen == REQUESTED
    assert {frame.coverage.ideal for frame in report.frames} == {1}
    times = [frame.t_ms for frame in report.frames]
    assert times == sorted(times)
    assert times[-1] > 1400 + 3 * 100, "the film takes longer"
    assert times[-1] - times[-2] == pytest.approx(100), "what is there comes at the film's rate"
    assert (report.totals.late_frames, report.totals.skipped_planes) == (3, 0)


def test_waiting_ends_with_a_plane_that_cannot_be_read(tmp_path: Path) -> None:
    path = built(tmp_path / "broken.ome.zarr", planes(3, 1))
    for chunk in path.glob("*/c/1/**/*"):
        if chunk.is_file():
            chunk.write_bytes(b"\xff")
    options = LOOK | SLOW | {"latency": "20ms", "late": "wait", "index": "t=:"}
    report = render([path], size=SIZE, options=options).report
    assert [dict(frame.position.shown)["t"] for frame in report.frames] == [0, 1, 2]
    assert [frame.coverage.failed for frame in report.frames] == [0, 1, 0]


@pytest.mark.parametrize(
    ("index", "cameras", "options", "says"),
    [
        (None, ["fit"], {"late": "hold", "stream": True}, "--late without a film | a film is a range"),
        ("t=:", ["fit"], {"late": "hold"}, "--late without --stream | settled films wait"),
        ("t=:", ["fit"], {"late": "wait", "settle": True}, "--late without --stream"),
        (None, ["pan"], {"late": "hold"}, "--late without a film over an index"),
        (
            "t=:4",
            ["fit"],
            {"late": "hold", "stream": True, "montage": "2x2"},
            "--late without a film over an index",
        ),
        (
            "t=:",
            ["fit"],
            {"late": "later", "stream": True},
            "unknown --late 'later' | choose coarse, hold, wait",
        ),
    ],
)
def test_late_is_for_streamed_films(
    series: Path, index: str | None, cameras: list[str], options: dict[str, Any], says: str
) -> None:
    assert says in refused(series, index, cameras, **options)


def test_a_wrong_plane_would_be_counted(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what is drawn: a layer that does not follow the film is noticed."""
    go_to = Layer.go_to

    def stuck(self: Layer, slicing: Any) -> None:
        if self.cover is None:
            go_to(self, slicing)

    run = {"size": SIZE, "options": LOOK | {"index": "t=:3"}}
    assert render([series], **run).report.totals.wrong_plane_frames == 0
    monkeypatch.setattr(Layer, "go_to", stuck)
    shown = render([series], **run)
    assert greys(shown.frames) == [grey(0)] * 3
    assert shown.report.totals.wrong_plane_frames == 2
    assert [frame.tiles.wrong_plane > 0 for frame in shown.report.frames] == [False, True, True]


# layers


def test_a_layer_that_has_ended_shows_nothing_and_keeps_nobody_waiting(series: Path, tmp_path: Path) -> None:
    short = built(tmp_path / "short.ome.zarr", planes(3) + np.uint8(1))
    run = render([series, short], size=SIZE, options=LOOK | {"index": "t=1:6"})
    assert greys(run.frames) == [grey(1) + 1, grey(2) + 1, grey(3), grey(4), grey(5)]
    assert [frame.coverage.ideal for frame in run.report.frames] == [1] * 5
    assert len({frame.visible_px for frame in run.report.frames}) == 1
    assert [len(tiles["layers"][1]) > 0 for tiles in run.tile_sets] == [True, True, False, False, False]
    # below, and beyond the end of the only layer there
    assert film([short, series], "t=4") == [grey(4)]
    alone = render(
        [short, series], size=SIZE, options=LOOK | {"index": "t=5", "overview": True}
    ).report.frames[0]
    assert (alone.coverage.ideal, alone.visible_px) == (1, SIZE[0] * SIZE[1])
    assert "t=12 lies outside the image | t runs from 0 to 11" in refused([short, series], "t=12")
    assert "t=0:13 lies outside" in refused([short, series], "t=0:13")


def test_a_place_that_is_beyond_all_layers_is_said(tmp_path: Path) -> None:
    """Each axis is long enough in some layer, both are in none."""
    wide = built(tmp_path / "wide.ome.zarr", planes(5, 1))
    deep = built(tmp_path / "deep.ome.zarr", planes(1, 3))
    with pytest.warns(OctreeWarning, match="1 of 4 frames shows nothing.* no layer has t=4, z=2"):
        run = render([wide, deep], size=SIZE, options=LOOK | {"index": "t=0:5:4,z=0:3:2"})
    assert greys(run.frames) == [grey(0), grey(0, 2), grey(4), 0]
    assert [frame.visible_px > 0 for frame in run.report.frames] == [True, True, True, False]


def test_streams_go_back_and_round(series: Path, tmp_path: Path) -> None:
    """Fast enough to be complete in time, there and back and there again."""
    turns = keyframes(tmp_path, *({"t_s": n, "t": 3 * (n % 2)} for n in range(4)), fps=3)
    run = render([series], [turns], size=SIZE, options=LOOK | SLOW | {"latency": "20ms"})
    ts = [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert greys(run.frames) == [grey(t) for t in ts]
    assert (run.report.totals.late_frames, run.report.totals.wrong_plane_frames) == (0, 0)
    assert run.report.totals.tiles_read_twice == 0


def broken_series(path: Path) -> Path:
    """Of five planes the third cannot be read."""
    for level in built(path, planes(5, 1)).iterdir():
        for chunk in (level / "c" / "2").rglob("*"):
            if chunk.is_file():
                chunk.write_bytes(b"\xff")
    return path


def test_a_failing_plane_is_reported_by_its_frame_alone(tmp_path: Path) -> None:
    path = broken_series(tmp_path / "broken.ome.zarr")
    done = octree(
        *("render", path, "--index", "t=:", "--clim", "0,255", "--size", "48x32"),
        *("-o", tmp_path / "{t}.png", "--report", tmp_path / "r.json"),
    )
    assert done.returncode == 1, done.stderr
    assert "frame 2 (fit, t=2, z=0)" in done.stderr
    document = json.loads((tmp_path / "r.json").read_text())
    assert [frame["coverage"]["failed"] for frame in document["frames"]] == [0, 0, 1, 0, 0]
    assert {failure["key"]["index"][0] for failure in document["failures"]} == {2}
    for t in (0, 1, 3, 4):
        assert greys([np.asarray(Image.open(tmp_path / f"{t}.png"))]) == [grey(t)]


@pytest.mark.parametrize("late", ["coarse", "hold", "wait"])
def test_a_failing_plane_of_a_film_that_streams_is_said(tmp_path: Path, late: str) -> None:
    """Nobody asks for coverage there: the exit code is 0, but what is not in the picture has been named."""
    path = broken_series(tmp_path / "broken.ome.zarr")
    film = ("render", path, "--index", "t=:", "--clim", "0,255", "--size", "48x32", "--fps", "0.5", "--json")
    done = octree(*film, "--stream", "--late", late, "--clock", "virtual")
    assert done.returncode == 0, done.stderr
    assert "warning: 1 of 5 frames lacks what could not be read: first frame 2 (fit, t=2, z=0)" in done.stderr
    assert "tile (2, 0, 0, 0): " in done.stderr
    assert "octree verify --deep" in done.stderr
    if late == "wait":
        asked = octree(*film, "--stream", "--late", late, "--clock", "virtual", "--min-coverage", "1")
        assert asked.returncode == 1, asked.stderr
        assert "warning" not in asked.stderr


# files


def test_files_are_named_by_plane(series: Path, tmp_path: Path) -> None:
    done = octree(
        *("render", series, "--index", "t=9:11,z=1:3", "--clim", "0,255", "--size", "48x32"),
        *("-o", tmp_path / "{t:03}-{z}-{index}.png"),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    names = {f"{t:03}-{z}-{2 * (t - 9) + z - 1}.png": grey(t, z) for t in (9, 10) for z in (1, 2)}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for name, expected in names.items():
        assert greys([np.asarray(Image.open(tmp_path / name))]) == [expected]


def test_films_are_written_at_their_rate(series: Path, tmp_path: Path) -> None:
    done = octree(
        *("render", series, "--index", "z=:2,t=:3", "--clim", "0,255", "--size", "48x32"),
        *("--fps", "4", "-o", tmp_path / "z{z}.gif"),
    )
    assert done.returncode == 0, done.stderr
    for z in range(2):
        with Image.open(tmp_path / f"z{z}.gif") as shown:
            assert shown.n_frames == 3  # type: ignore[attr-defined]  # of GIF images
            for t in range(3):
                shown.seek(t)
                assert shown.info["duration"] == 250
                assert greys([np.asarray(shown.convert("RGB"))]) == [grey(t, z)]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("{c}.png", "unknown field {c} | fields: {index} (also {index:04}), {camera}, {t}, {z};"),
        ("{z}.png", "3 frames, but '{z}.png' names only 1 files"),
        ("a.png", "3 frames, but 'a.png' names only 1 files"),
        ("{t:x9q}.png", "Invalid format specifier"),
    ],
)
def test_names_that_cannot_work_are_usage_errors(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, says: str
) -> None:
    from octree.render.frames import names_of
    from octree.render.output.encode import FrameWriter

    monkeypatch.chdir(tmp_path)
    with Renderer(parse_request([series], ["fit"], {"index": "t=:3"})) as renderer:
        names = names_of(renderer.shots)
    with pytest.raises(UsageError) as caught:
        FrameWriter(pattern, names)
    assert says in f"{caught.value.message} | {caught.value.hint}"


# what is refused


@pytest.mark.parametrize(
    ("index", "options", "says"),
    [
        ("c=0:2", {}, "there is no axis 'c' to choose a position on | axes: t, z"),
        ("x=0:9", {}, "x is displayed: there is no position to choose on it | axes to choose on: t, z"),
        ("z=:", {"display": "zx"}, "z is displayed"),
        ("t=0:13", {}, "t=0:13 lies outside the image | t runs from 0 to 12"),
        ("t=12:", {}, "t=12 lies outside the image"),
        ("t=4:4", {}, "'t=4:4' holds no plane | FROM must be below TO"),
        ("t=7:3", {}, "'t=7:3' holds no plane"),
        ("t=0:9:0", {}, "the step must be above 0"),
        ("t=9:0:-1", {}, "the step must be above 0 | keyframes of a camera path run backwards, too"),
        ("z=:", {"project": "z=max"}, "z is projected: there is no position to choose on it"),
        ("t=0:9,t=3", {}, "chooses t twice"),
        ("t=0:9:0.000001", {}, "9000000 frames are more than one run draws"),
        ("t=::0.00001", {}, "1200000 frames are more than one run draws"),
        (
            None,
            {"fps": 24},
            "--fps without a film | a film is a range such as --index t=0:50, or a camera path",
        ),
        ("t=:", {"fps": 0}, "--fps must be a number"),
    ],
)
def test_what_is_no_film_is_a_usage_error(
    series: Path, index: str | None, options: dict[str, Any], says: str
) -> None:
    assert says in refused(series, index, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"index": "q=0:2"}, "there is no axis 'q'"),
        ({"index": "t=5:2"}, "holds no plane"),
        ({"index": "t=3:3"}, "holds no plane"),
        ({"index": "t=0:9:0"}, "the step must be above 0"),
        ({"index": "t=one"}, "is not like"),
        ({"late": "hold", "stream": True}, "--late without a film"),
        ({"fps": 3}, "--fps without a film"),
        ({"project": "z=max:3:1"}, "projects nothing"),
        ({"project": "z=median"}, "methods: max"),
        ({"project": "y=max"}, "y is displayed"),
        ({"index": "y=0:2"}, "y is displayed"),
    ],
)
def test_errors_about_axes_name_those_that_there_are(
    series: Path, options: dict[str, Any], says: str
) -> None:
    said = refused(series, **options)
    assert says in said
    assert said.endswith(": t, z")


def test_the_axes_of_what_cannot_be_opened_are_not_named(tmp_path: Path) -> None:
    said = refused(tmp_path / "nowhere", "t=5:2")
    assert "holds no plane" in said
    assert "axes: " not in said


def test_a_film_that_is_too_long_is_refused_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="1000002 frames are more"):
        parse_request(["nowhere"], ["fit", "fit"], {"index": "t=0:500001"})
    parse_request(["nowhere"], ["fit"], {"index": "t=0:500001"})


def test_usage_errors_have_their_exit_code(series: Path, tmp_path: Path) -> None:
    for index in ("c=0:2", "t=5:2"):
        done = octree("render", series, "--index", index, "-o", tmp_path / "{index}.png")
        assert done.returncode == 2
        assert "axes: t, z" in done.stderr


def test_a_node_stands_on_one_plane(series: Path) -> None:
    with pytest.raises(UsageError, match="stands on one plane"):
        TiledImage(series, index="t=0:3")


# suites


def test_a_suite_compares_each_plane_and_notices_two_that_changed_places(tmp_path: Path) -> None:
    path = built(tmp_path / "s.ome.zarr", planes(4, 1))
    (tmp_path / "suite.toml").write_text(
        '[[case]]\nname = "film"\nsource = "s.ome.zarr"\nsize = "48x32"\nrepeat = 1\n'
        'options = { index = { t = ":" }, clim = "0,255" }\n'
    )
    run = {"output": tmp_path / "out"}
    assert suite.run(tmp_path / "suite.toml", accept=[], **run).exit_code == 0
    again = suite.run(tmp_path / "suite.toml", **run)
    assert (again.exit_code, len(again.cases[0].frames)) == (0, 4)
    for level in path.iterdir():
        if level.is_dir():
            places = [level / "c" / name for name in ("1", "2", "aside")]
            for source, dest in ((0, 2), (1, 0), (2, 1)):
                shutil.move(places[source], places[dest])
    swapped = suite.run(tmp_path / "suite.toml", **run)
    assert swapped.exit_code == 1
    assert [frame.verdict.value for frame in swapped.cases[0].frames] == ["pass", "fail", "fail", "pass"]
