"""Several views in one frame: each is what a frame of its own would be, to the last bit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from octree.pyramid import build
from octree.pyramid.errors import SourceError, UsageError
from octree.render import render
from octree.render.frames import Renderer
from octree.render.output.annotate import LINE_RGB
from octree.render.report.values import RunReport
from octree.render.request import parse_request
from octree.render.view.montage import GAP_PX, grid_places
from octree.render.view.parts import Part

LOOK = {"clim": "0,60000", "no_titles": True}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tczyx, each plane of its own values."""
    t, c, z, y, x = np.mgrid[0:3, 0:2, 0:5, 0:150, 0:200]
    values = (t * 9000 + c * 4000 + z * 1700 + (x * 37 + y * 91) % 1500).astype(np.uint16)
    path = tmp_path_factory.mktemp("montage") / "stack.zarr"
    build(values, path, axes="tczyx", voxel_size="z=2,y=1,x=1")
    return path


def cut(frame: NDArray[np.uint8], place: Part) -> NDArray[np.uint8]:
    return frame[place.y : place.y + place.height, place.x : place.x + place.width]


def places_of(path: Path, cameras: tuple[str, ...], **options: Any) -> list[Part]:
    with Renderer(parse_request([str(path)], cameras, options)) as renderer:
        assert renderer._cells is not None
        return [cell.place for cell in renderer._cells.cells]


def one(path: Path, place: Part, camera: str = "fit", **options: Any) -> NDArray[np.uint8]:
    return render(
        [str(path)], [camera], size=(place.width, place.height), options={"clim": "0,60000", **options}
    ).frames[0]


# the layout


@given(
    count=st.integers(1, 60),
    size=st.tuples(st.integers(200, 2000), st.integers(200, 2000)),
    content=st.floats(0.05, 20),
)
def test_places_lie_apart_within_the_frame(count: int, size: tuple[int, int], content: float) -> None:
    places = grid_places("auto", count, size, content)
    seen = np.zeros((size[1], size[0]), bool)
    for place in places:
        rows, cols = slice(place.y, place.y + place.height), slice(place.x, place.x + place.width)
        assert not seen[rows, cols].any()
        seen[rows, cols] = True
        assert place.x + place.width <= size[0]
        assert place.y + place.height <= size[1]
    assert len(places) == count
    assert len({(place.width, place.height) for place in places}) == 1


@pytest.mark.parametrize(("count", "size", "content", "columns"), [(4, (400, 400), 1.0, 2), (3, (900, 300), 1.0, 3), (3, (300, 900), 1.0, 1), (6, (800, 400), 0.3, 6)])  # fmt: skip
def test_auto_shows_the_most(count: int, size: tuple[int, int], content: float, columns: int) -> None:
    places = grid_places("auto", count, size, content)
    assert len({place.x for place in places}) == columns


def test_a_gap_shows_the_background(stack: Path) -> None:
    frame = render([str(stack)], size=(404, 100), options={**LOOK, "index": "z=0:2,c=0", "background": "#ff0000"}
                   | {"montage": "2x1"}).frames[0]  # fmt: skip
    assert (frame[:, 200 : 200 + GAP_PX] == [255, 0, 0, 255]).all()


# each view is what it would be alone


def test_planes(stack: Path) -> None:
    options = {**LOOK, "montage": "3x2", "index": "t=1,c=0,z=0:5"}
    result = render([str(stack)], size=(600, 300), options=options)
    frame, places = result.frames[0], places_of(stack, ("fit",), size="600x300", **options)
    cells = result.report.frames[0].to_json()["cells"]
    assert [(cell["title"], cell["index"], cell["x"]) for cell in cells] == [
        (f"z {z}", {"t": 1, "c": 0, "z": z}, place.x) for z, place in enumerate(places)
    ]
    alone = [one(stack, place, index=f"t=1,c=0,z={z}") for z, place in enumerate(places)]
    for place, expected in zip(places, alone, strict=True):
        np.testing.assert_array_equal(cut(frame, place), expected)
    # a swapped plane would be seen
    assert not np.array_equal(cut(frame, places[0]), alone[1])


def test_channels_share_limits_and_keep_their_colours(stack: Path) -> None:
    options = {**LOOK, "montage": "auto", "index": "t=2,z=3"}
    frame = render([str(stack)], size=(500, 200), options=options).frames[0]
    for channel, place in enumerate(places_of(stack, ("fit",), size="500x200", **options)):
        np.testing.assert_array_equal(
            cut(frame, place), one(stack, place, index="t=2,z=3", channels=str(channel))
        )


def test_cameras(stack: Path) -> None:
    cameras = ("fit", "x=50,y=60,zoom=2.5", "rect=0,0,50,50")
    options = {**LOOK, "montage": "auto", "index": "c=1"}
    frame = render([str(stack)], cameras, size=(400, 350), options=options).frames[0]
    for camera, place in zip(cameras, places_of(stack, cameras, size="400x350", **options), strict=True):
        np.testing.assert_array_equal(cut(frame, place), one(stack, place, camera, index="c=1"))


def test_sources_each_in_its_own_coordinates(stack: Path) -> None:
    small = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30) * 40
    result = render([str(stack), small], size=(500, 200), options={**LOOK, "montage": "2x1", "index": "c=0"})
    frame, width = result.frames[0], (500 - GAP_PX) // 2
    np.testing.assert_array_equal(frame[:, :width], one(stack, Part(0, 0, width, 200), index="c=0"))
    alone = render([small], size=(width, 200), options={"clim": "0,60000"}).frames[0]
    np.testing.assert_array_equal(frame[:, width + GAP_PX : 2 * width + GAP_PX], alone)
    assert result.report.frames[0].coverage.ideal == 1.0


def test_limits_that_are_measured_are_those_of_all_views(stack: Path) -> None:
    """Of the view that the request begins with: measured for each plane, they would hide what differs."""
    frame = render([str(stack)], size=(600, 200), options={"index": "t=0:3,c=0", "montage": "3x1", "no_titles": True}).frames[0]  # fmt: skip
    width = (600 - 2 * GAP_PX) // 3
    first, last = (frame[60:140, at + 20 : at + width - 20, 0].mean() for at in (0, 2 * (width + GAP_PX)))
    assert last > first + 50


def test_the_atlas_does_not_matter(stack: Path) -> None:
    """Cell by cell, in parts, where not all tiles fit."""
    noise = np.random.default_rng(0).integers(0, 60000, (4, 700, 800), np.uint16)
    options = {**LOOK, "montage": "2x2", "index": "z=0:4"}
    large = render([noise], ["fit"], size=(1600, 1400), options=options).frames[0]
    result = render([noise], ["fit"], size=(1600, 1400), options={**options, "atlas": "1MiB"})
    np.testing.assert_array_equal(result.frames[0], large)
    (report,) = result.report.frames
    assert report.coverage.ideal == 1.0
    assert not report.degraded
    assert {part.state for part in result.report.slices} == {"complete"}


# films


def test_what_an_atlas_must_hold_is_said_of_all_views_at_once(stack: Path) -> None:
    options = {**LOOK, "montage": "auto", "index": "z=0:4"}
    with pytest.raises(UsageError, match="that takes") as caught:
        render([stack], ["fit"], size=(160, 120), options={**options, "atlas": "1"})
    (least,) = re.findall(r"--atlas (\d+KiB)", str(caught.value.hint))
    render([stack], ["fit"], size=(160, 120), options={**options, "atlas": least})


def test_a_film_of_montages(stack: Path) -> None:
    """Of two ranges the faster one is in the frame, and the slower one the film."""
    result = render(
        [str(stack)], size=(620, 90), options={**LOOK, "index": "t=0:3,c=0,z=0:5", "montage": "5x1"}
    )
    assert len(result.frames) == 3
    width = (620 - 4 * GAP_PX) // 5
    means = [
        [frame[30:60, at + 20 : at + width - 20, 0].mean() for at in range(0, 5 * width, width + GAP_PX)]
        for frame in result.frames
    ]
    order = np.array(means).ravel()
    assert (np.diff(order.reshape(3, 5), axis=1) > 0).all()
    assert (np.diff(order.reshape(3, 5), axis=0) > 0).all()


def test_a_shape_with_room_takes_all_ranges(stack: Path) -> None:
    result = render(
        [str(stack)], size=(620, 190), options={**LOOK, "index": "t=0:3,c=0,z=0:5", "montage": "5x3"}
    )
    assert len(result.frames) == 1


def test_channels_of_a_film(stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "{t}.png"
    arguments = ["render", str(stack), "--montage", "auto", "--montage-by", "channel", "--index", "t=0:3,z=2"]
    command = [sys.executable, "-m", "octree.cli", *arguments, "--size", "300x120", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]
    assert np.asarray(Image.open(tmp_path / "1.png")).shape[:2] == (120, 300)


def test_a_path_moves_all_views(stack: Path) -> None:
    options = {**LOOK, "montage": "2x1", "index": "c=0,z=1", "montage_by": "camera", "fps": "2"}
    result = render([str(stack)], ["pan", "fit"], size=(300, 100), options={**options, "settle": True})
    width = (300 - GAP_PX) // 2
    moving = [frame[:, :width] for frame in result.frames]
    assert len({frame.tobytes() for frame in moving}) > 1
    assert len({frame[:, width + GAP_PX :].tobytes() for frame in result.frames}) == 1


# ortho


def test_ortho_is_three_planes_through_one_point(stack: Path) -> None:
    options = {"clim": "0,60000", "montage": "ortho", "index": "c=0,t=1,z=3"}
    cameras = ("x=80,y=60,zoom=1.5",)
    frame = render([str(stack)], cameras, size=(404, 304), options={**options, "no_titles": True}).frames[0]
    plane, across, below = places_of(stack, cameras, size="404x304", **options)
    assert (plane.height, plane.width) == (across.height, below.width)
    seen = np.all(frame[..., :3] == LINE_RGB, axis=2)
    for place in (plane, across, below):
        lines = cut(seen, place)
        assert lines.all(axis=0).sum() == 1
        assert lines.all(axis=1).sum() == 1
    alone = [
        one(stack, plane, cameras[0], index="c=0,t=1,z=3"),
        one(stack, across, "x=2.5,y=60,zoom=3", index="c=0,t=1,x=80", display="yz"),
        one(stack, below, "x=80,y=2.5,zoom=1.5", index="c=0,t=1,y=60", display="zx"),
    ]
    for place, expected in zip((plane, across, below), alone, strict=True):
        mine, unmarked = cut(frame, place), ~cut(seen, place)
        np.testing.assert_array_equal(mine[unmarked], expected[unmarked])
    # the lines cross at the voxel that all three show
    (column,), (row,) = (
        np.flatnonzero(cut(seen, plane).all(axis=0)),
        np.flatnonzero(cut(seen, plane).all(axis=1)),
    )
    assert (column - plane.width / 2) / 1.5 + 80 == pytest.approx(80.5, abs=0.7)
    assert (row - plane.height / 2) / 1.5 + 60 == pytest.approx(60.5, abs=0.7)


def test_ortho_stands_in_the_middle_of_the_stack(stack: Path) -> None:
    with Renderer(parse_request([str(stack)], ["fit"], {"montage": "ortho", "index": "c=0"})) as renderer:
        states = renderer.shots[0].state.cells
    assert [dict(state.slicing.position) for state in states] == [
        {"c": 0, "z": 2},
        {"c": 0, "x": 100},
        {"c": 0, "y": 75},
    ]
    assert [state.slicing.displayed for state in states] == [("y", "x"), ("y", "z"), ("z", "x")]


@pytest.mark.parametrize(
    ("montage", "planes"),
    [
        ({"montage": "ortho"}, [{"z": 2}, {"x": 100}, {"y": 75}]),
        ({"montage": "auto", "montage_by": "camera"}, [{"z": 0}, {"z": 0}]),
    ],
)
def test_the_report_says_where_a_montage_without_an_index_stands(
    stack: Path, montage: dict[str, str], planes: list[dict[str, int]]
) -> None:
    cameras = ["fit"] if montage["montage"] == "ortho" else ["fit", "x=80,y=60,zoom=2"]
    report = render([str(stack)], cameras, size=(120, 90), options={**LOOK, **montage, "index": "c=0"}).report
    frame = report.frames[0].to_json()
    everywhere = {"t": 0, "c": 0}
    assert [cell["index"] for cell in frame["cells"]] == [everywhere | plane for plane in planes]
    assert frame["position"]["shown"] == everywhere | planes[0]
    assert [dict(each["index"]) for each in report.to_json()["slices"]] == [
        everywhere | plane for plane in planes
    ]


def test_ortho_through_a_stack_is_a_film(stack: Path) -> None:
    result = render(
        [str(stack)], size=(300, 200), options={"clim": "0,60000", "montage": "ortho", "index": "c=0,z=0:5"}
    )
    assert len({frame.tobytes() for frame in result.frames}) == 5


# titles


def test_titles_change_nothing_but_their_corner(stack: Path) -> None:
    options = {"clim": "0,60000", "montage": "3x1", "index": "z=0:3,c=0"}
    plain = render([str(stack)], size=(600, 160), options={**options, "no_titles": True})
    titled = render([str(stack)], size=(600, 160), options=options)
    changed = (plain.frames[0] != titled.frames[0]).any(axis=2)
    assert changed[:30].any()
    assert not changed[30:].any()
    assert titled.report.frames[0].coverage == plain.report.frames[0].coverage
    width = (600 - 2 * GAP_PX) // 3
    texts = [titled.frames[0][:30, at : at + 60].tobytes() for at in range(0, 3 * width, width + GAP_PX)]
    assert len(set(texts)) == 3


# what cannot be meant


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"montage": "2x1", "index": "c=0,z=0:5"}, "2 places, for 5 views"),
        ({"montage": "2by1"}, "COLUMNSxROWS"),
        ({"montage": "0x3"}, "COLUMNSxROWS"),
        ({"montage_by": "index", "index": "z=0:2"}, "without --montage"),
        ({"no_titles": True}, "without --montage"),
        ({"montage": "auto", "montage_by": "index", "index": "c=0"}, "without a range"),
        ({"montage": "auto", "montage_by": "channel", "index": "c=0"}, "no channels"),
        ({"montage": "auto", "index": "c=0"}, "make one view"),
        ({"montage": "ortho", "montage_by": "index", "index": "z=0:2"}, "three views of its own"),
        ({"montage": "ortho", "display": "zx"}, "all three planes"),
        ({"montage": "auto", "index": "c=0,z=0:5", "fps": 3}, "all planes are in one frame"),
        ({"montage": "ortho", "project": "t=max"}, "no projections"),
        ({"montage": "auto", "index": "c=0,z=0:5", "size": "3x3"}, "no room"),
    ],
)
def test_what_cannot_be_meant(stack: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        render([str(stack)], options=options)


def test_ortho_of_a_plane_is_refused() -> None:
    with pytest.raises(UsageError, match="no z axis"):
        render([np.zeros((30, 40), np.uint8)], options={"montage": "ortho"})


# plates


def plate_of(folder: Path, wells: dict[str, int], metadata: dict[str, Any] | None = None) -> Path:
    """A plate of three rows and four columns; each well is one image of one value."""
    plate = folder / "plate.zarr"
    names = {"rows": [{"name": name} for name in "ABC"], "columns": [{"name": str(n)} for n in range(1, 5)]}
    listed = [
        {"path": path, "rowIndex": "ABC".index(path[0]), "columnIndex": int(path[2:]) - 1} for path in wells
    ]
    write_group(plate, {"plate": {**names, "wells": listed, "version": "0.5", **(metadata or {})}})
    for path, value in wells.items():
        write_group(plate / path.split("/")[0], None)
        write_group(plate / path, {"well": {"images": [{"path": "field1"}], "version": "0.5"}})
        build(np.full((60, 80), value, np.uint16) + np.arange(80, dtype=np.uint16), plate / path / "field1")
    return plate


def write_group(folder: Path, ome: dict[str, Any] | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    attributes = {} if ome is None else {"ome": ome}
    (folder / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes})
    )


def test_a_plate_as_it_lies(tmp_path: Path) -> None:
    """A1, A3 and C1: two rows and two columns have wells, and one place stays empty. All are drawn alike."""
    plate = plate_of(tmp_path, {"A/1": 10_000, "A/3": 30_000, "C/1": 20_000})
    options = {"montage": "auto", "montage_by": "wells", "no_titles": True, "background": "#0000ff"}
    result = render([str(plate)], size=(204, 124), options={**options, "clim": "0,60000"})
    frame = result.frames[0]
    assert [frame[30, 50, 0], frame[30, 154, 0], frame[94, 50, 0]] == pytest.approx([43, 128, 85], abs=1)
    assert (frame[70:, 110:] == [0, 0, 255, 255]).all()
    cells = result.report.frames[0].to_json()["cells"]
    assert [(cell["title"], cell["x"], cell["y"]) for cell in cells] == [
        ("A/1", 0, 0),
        ("A/3", 104, 0),
        ("C/1", 0, 64),
    ]
    measured = render([str(plate)], size=(204, 124), options=options).frames[0]
    assert measured[30, 50, 0] < 255 == measured[30, 154, 0], "limits are those of the first well"
    row = render(
        [str(plate)], size=(308, 60), options={**options, "montage": "3x1", "clim": "0,60000"}
    ).frames[0]
    assert [row[30, at, 0] for at in (50, 154, 258)] == pytest.approx([43, 128, 85], abs=1)


def test_what_is_no_plate(stack: Path, tmp_path: Path) -> None:
    options = {"montage": "auto", "montage_by": "wells"}
    with pytest.raises(SourceError, match="is no plate"):
        render([str(stack)], options=options)
    with pytest.raises(UsageError, match="one plate"):
        render([str(stack), str(stack)], options=options)
    plate = plate_of(tmp_path, {"A/1": 1}, {"wells": [{"path": "../../etc"}]})
    with pytest.raises(SourceError):
        render([str(plate)], options=options)
    plate = plate_of(tmp_path / "twice", {"A/1": 1}, {"wells": [{"path": "A/1"}, {"path": "A/1"}]})
    with pytest.raises(SourceError, match="several wells at A/1"):
        render([str(plate)], options=options)
    with pytest.raises(SourceError, match="without a multiscale image") as refused:
        render([str(plate)])
    assert "--montage-by wells" in str(refused.value.hint)


def test_a_cell_stands_on_the_axes_that_its_source_has(stack: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat.npy"
    np.save(flat, np.full((150, 200), 500, np.uint16))
    options = {**LOOK, "montage": "2x1", "montage_by": "source", "index": "c=0,z=3"}
    report = render([str(stack), str(flat)], size=(204, 100), options=options).report
    cells = report.frames[0].to_json()["cells"]
    assert [cell["index"] for cell in cells] == [{"t": 0, "c": 0, "z": 3}, {}]


# planes ahead


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tcyx, a chunk for each plane."""
    t, c, y, x = np.mgrid[0:15, 0:2, 0:150, 0:200]
    path = tmp_path_factory.mktemp("montage") / "series.zarr"
    build((t * 3000 + c * 1000 + (x * 37 + y * 91) % 1000).astype(np.uint16), path, axes="tcyx")
    return path


def played(path: Path, *, cache: str = "64MiB", **options: Any) -> RunReport:
    """A film of montages, both channels side by side, on the virtual clock."""
    look = {**LOOK, "montage_by": "channel", "montage": "2x1", "clock": "virtual", "latency": "50ms"}
    film = {"index": "t=:", "stream": True, "fps": "30", "cache": cache}
    return render([str(path)], size=(404, 150), options={**look, **film, **options}).report


def test_a_film_of_montages_loads_the_planes_of_all_cells_ahead(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = played(series)
    assert [frame.coverage.ideal for frame in report.frames] == [1.0] * 15
    assert report.totals.prefetch.used >= 2 * 14
    assert (report.totals.prefetch.wasted, report.totals.tiles_read_twice) == (0, 0)
    assert report.totals.wrong_plane_frames == 0
    monkeypatch.setattr("octree.render.scene.ahead.planes_ahead", lambda *_: 0)
    blind = played(series)
    assert blind.totals.prefetch.used == 0
    assert sum(frame.coverage.ideal == 1.0 for frame in blind.frames) < 8


def test_all_cells_together_take_no_more_of_the_cache_for_planes_to_come_than_one_view(series: Path) -> None:
    """A cache with room for four frames: nothing is read that would have to go before it is shown."""
    report = played(series, cache="500KB", settle=True, stream=False)
    assert [frame.coverage.ideal for frame in report.frames] == [1.0] * 15
    assert report.totals.prefetch.used >= 14
    assert (report.totals.tiles_read_twice, report.totals.prefetch.wasted) == (0, 0)
    assert report.totals.peak_cache_bytes <= 500_000
