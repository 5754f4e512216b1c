"""Other axes than y and x, and projections: what is displayed comes from the view state of each frame."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octree.pyramid import build, open_pyramid
from octree.pyramid.errors import UsageError
from octree.pyramid.grid import lattice_of
from octree.pyramid.model import Axis, Box, LevelInfo, PyramidSpec, TileKey
from octree.render import render
from octree.render.frames import Renderer
from octree.render.option_table import Projection, parse_projection
from octree.render.request import parse_request
from octree.render.tiles.tile_source import open_tile_source
from octree.render.view.camera import Camera
from octree.render.view.plan import choose_level
from octree.render.view.state import Slicing, ViewState, aspect_of, resolve

pytestmark = pytest.mark.usefixtures("gl_info")
FULL = {"clim": "0,255"}


def volume() -> NDArray[np.uint8]:
    """(t, z, y, x), no two planes alike, in any direction."""
    t, z, y, x = np.indices((2, 24, 90, 150))
    return ((t * 101 + z * 7 + y * 13 + x * 5 + (z * y) // 9 + (x * z) // 7) % 251).astype(np.uint8)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Voxels four times as deep as wide: z does not halve."""
    path = tmp_path_factory.mktemp("slices") / "stack.ome.zarr"
    size = {"z": 2.0, "y": 0.5, "x": 0.5}
    build(volume(), path, axes="tzyx", voxel_size=size, unit="micrometer", tile=32, shard=0)
    return path


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """z halves with y and x."""
    path = tmp_path_factory.mktemp("slices") / "cube.ome.zarr"
    build(volume()[0], path, axes="zyx", voxel_size={"z": 1, "y": 1, "x": 1}, tile=32, shard=0)
    return path


def level_of(path: Path, level: int) -> NDArray[Any]:
    pyramid = open_pyramid(path)
    shape = pyramid.spec.levels[level].shape
    return pyramid.read(level, Box((0,) * len(shape), shape))


def gray(path: Any, size: tuple[int, int], camera: str = "fit", **options: str) -> NDArray[Any]:
    return render([path], [camera], size=size, options=FULL | options).frames[0][..., 0]


# frames against numpy


@pytest.mark.parametrize(
    ("display", "index"), [("zx", "y=40,t=1"), ("zy", "x=17"), ("xz", "y=3"), ("yz", "x=149,t=1"), ("tx", "z=5,y=9")]
)  # fmt: skip
def test_any_two_axes_are_rows_and_columns(stack: Path, display: str, index: str) -> None:
    at = {axis: 0 for axis in "tzyx" if axis not in display} | {
        axis: int(place) for axis, _, place in (part.partition("=") for part in index.split(","))
    }
    plane = volume()[tuple(at.get(axis, slice(None)) for axis in "tzyx")]
    if "tzyx".index(display[0]) > "tzyx".index(display[1]):
        plane = plane.T
    # voxels are four times as deep as wide: so many screen pixels show one
    high, wide = (4 if axis == "z" else 1 for axis in display)
    expected = plane.repeat(high, 0).repeat(wide, 1)
    frame = gray(stack, expected.shape[::-1], display=display, index=index)
    np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize(
    ("axes", "projection"), [("zx", None), ("zy", None), ("yx", "z=max"), ("zx", "y=mean"), ("yx", "z=sum:3:20")]
)  # fmt: skip
def test_a_file_without_a_pyramid_has_the_same_tiles(
    tmp_path: Path, axes: str, projection: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its coarser levels are made across y and x, too, little by little."""
    monkeypatch.setattr("octree.render.tiles.made_levels.BAND_BYTES", 4096)
    build(volume()[1], tmp_path / "p", axes="zyx", tile=32, shard=0)
    wishes = Slicing.of({}, axes, projection and parse_projection(projection))
    with open_tile_source(tmp_path / "p", tile=32) as built, open_tile_source(volume()[1], tile=32) as made:
        assert made.stored_levels == 1
        assert len(made.spec.levels) == len(built.spec.levels) == 4
        sections = [resolve(wishes, source.spec) for source in (built, made)]
        faces = [source.face(section) for source, section in zip((built, made), sections, strict=True)]
        for level, info in enumerate(faces[0].at(sections[0]).levels):
            for grid in {(0, 0), tuple(count - 1 for count in info.tile_counts)}:
                tiles = [face.read_tile(TileKey(level, info.index, grid)) for face in faces]
                np.testing.assert_array_equal(*tiles)


@pytest.mark.parametrize("method", ["max", "min", "mean", "sum"])
@pytest.mark.parametrize(("ends", "index", "planes"), [
    ("", "t=1", slice(None)), (":4:11", "", slice(4, 11)), ("::5", "", slice(0, 5)), (":20:", "", slice(20, 24)),
    (":~3", "z=12", slice(9, 16)), (":~3", "z=1,t=1", slice(0, 5)), (":~3", "", slice(0, 4)),
])  # fmt: skip
def test_projections_are_numpys(stack: Path, method: str, ends: str, index: str, planes: slice) -> None:
    data = volume()[int("t=1" in index), planes].astype(np.float64)
    expected = getattr(data, method)(0)
    top = 255 * len(data) if method == "sum" else 255
    options = {"project": f"z={method}{ends}", "clim": f"0,{top}"} | ({"index": index} if index else {})
    frame = gray(stack, (150, 90), **options)
    assert np.abs(frame - expected / top * 255).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("method", ["max", "sum"])
def test_a_coarse_level_is_projected_from_its_own_voxels(cube: Path, method: str) -> None:
    """The maximum of means is not the mean of maxima; and a sum is as bright at any zoom."""
    top = 255 * 24 if method == "sum" else 255
    options = FULL | {"project": f"z={method}", "clim": f"0,{top}"}
    result = render([cube], ["x=75,y=45,zoom=0.5"], size=(75, 45), options=options)
    assert result.report.frames[0].level == 1
    coarse = level_of(cube, 1).astype(np.float64)
    assert len(coarse) == 12
    expected = coarse.max(0) if method == "max" else 2 * coarse.sum(0)
    assert np.abs(result.frames[0][..., 0] - expected / top * 255).max() <= 0.5 + 1e-4


def test_another_axis_is_projected_as_well(stack: Path) -> None:
    options = {"display": "zx", "project": "y=max", "index": "t=1"}
    frame = gray(stack, (150, 24 * 4), **options)
    np.testing.assert_array_equal(frame, volume()[1].max(1).repeat(4, 0))
    np.testing.assert_array_equal(gray(stack, (150, 90), project="t=min", index="z=3"), volume()[:, 3].min(0))


def test_channels_and_labels_lie_in_any_plane(tmp_path: Path) -> None:
    two = np.stack([volume()[0], volume()[1]])
    build(two, tmp_path / "c.ome.zarr", axes="czyx", tile=32)
    size, options = (150, 24), {"display": "zx", "index": "y=7", "channels": "0:red:0-255,1:#00ff00:0-255"}
    frame = render([tmp_path / "c.ome.zarr"], ["fit"], size=size, options=options).frames[0]
    np.testing.assert_array_equal(frame[..., 0], two[0, :, 7])
    np.testing.assert_array_equal(frame[..., 1], two[1, :, 7])
    ids = (np.indices((24, 90, 150))[0] // 8 + 1).astype(np.uint16)
    build(ids, tmp_path / "ids", axes="zyx", labels=True, tile=32)
    frame = render(
        [tmp_path / "ids"], ["fit"], size=size, options={"labels": True, "display": "zx", "index": "y=7"}
    ).frames[0]
    assert [len(np.unique(frame[rows].reshape(-1, 4), axis=0)) for rows in (slice(0, 8), slice(4, 20))] == [
        1,
        3,
    ]
    with pytest.raises(UsageError, match="labels have no mean"):
        render([tmp_path / "ids"], options={"labels": True, "project": "z=mean"})
    with pytest.raises(UsageError, match="no channels to choose from"):
        render([tmp_path / "c.ome.zarr"], options={"project": "c=max", "channels": "0"})
    np.testing.assert_array_equal(
        gray(tmp_path / "c.ome.zarr", (150, 90), project="c=max", index="z=2"), two[:, 2].max(0)
    )


def test_the_inset_shows_the_plane_that_the_frame_shows(stack: Path) -> None:
    options = FULL | {"display": "zx", "index": "y=40", "overview": True}
    result = render([stack], ["x=20,y=3,zoom=8"], size=(400, 300), options=options)
    inset = result.frames[0][300 - 8 - 62 : 300 - 8, 400 - 8 - 96 : 400 - 8]
    assert (inset[..., :3] == [255, 204, 0]).all(-1).any(), "where the frame is"
    assert len(np.unique(inset[..., 0])) > 20


def test_a_path_streams_in_any_plane(stack: Path) -> None:
    options = FULL | {"display": "zx", "index": "y=9", "clock": "virtual", "latency": "5ms"}
    result = render([stack], ["pan"], size=(60, 40), options=options)
    frames = result.report.frames
    assert frames[-1].coverage.ideal == 1
    assert {frame.displayed for frame in frames} == {"zx"}
    assert frames[-1].camera.x > frames[0].camera.x


def test_coarse_stand_ins_of_a_projection_until_it_is_there(cube: Path) -> None:
    options = FULL | {
        "project": "z=sum",
        "clim": "0,6120",
        "stream": True,
        "clock": "virtual",
        "bandwidth": "100KB/s",
    }
    options["size"] = "100x60"
    shown: dict[int, float] = {}
    with Renderer(parse_request([cube], ["pan"], options)) as renderer:
        for frame in renderer.frames():
            for level in frame.report.coverage.by_level:
                shown.setdefault(level, frame.rgba[..., 0].mean())
            if frame.report.coverage.ideal == 1:
                break
    assert len(shown) > 1, "some frame shows a coarser level"
    assert max(shown.values()) - min(shown.values()) < 3, "and is as bright"


def test_the_report_says_what_is_displayed(stack: Path) -> None:
    result = render([stack], ["fit"], size=(60, 40), options=FULL | {"project": "z=max:~2", "index": "z=10"})
    document = result.report.to_json()
    (frame,) = document["frames"]
    assert (frame["displayed"], frame["projected"]) == (
        "yx",
        {"axis": "z", "method": "max", "first": 8, "stop": 13},
    )
    assert document["settings"]["options"]["project"] == "z=max:~2"
    assert document["settings"]["options"]["display"] == "yx"
    assert result.tile_sets[0]["layers"][0][0][1] == [0, 8, 13]


# pure


def spec(axes: str, *shapes: tuple[int, ...], scale: dict[str, float] | None = None) -> PyramidSpec:
    sizes = scale or {}
    base = [sizes.get(axis, 1.0) for axis in axes]
    levels = [
        LevelInfo(str(n), shape, shape, None, tuple(s * whole / own for s, whole, own in zip(base, shapes[0], shape, strict=True)), tuple(base))
        for n, shape in enumerate(shapes)
    ]  # fmt: skip
    return PyramidSpec(tuple(map(Axis, axes)), np.dtype("u1"), tuple(levels))


def test_the_level_rule_is_each_axis_own() -> None:
    """z does not halve: that its voxels are large on the screen asks for no finer x."""
    image = spec("zyx", (40, 400, 400), (40, 200, 200), (40, 100, 100), scale={"z": 4.0})
    lattice = lattice_of(image, displayed="zx")
    assert [choose_level(lattice, (4 * zoom, zoom)) for zoom in (1, 0.5, 0.25, 0.1)] == [0, 1, 2, 2]
    halved = spec("zyx", (40, 400, 400), (40, 200, 200), (20, 100, 100))
    assert choose_level(lattice_of(halved, displayed="zx"), (1, 0.25)) == 1, "where z halves, it has a say"


def test_aspect_is_by_voxel_size() -> None:
    image = spec("tzyx", (2, 4, 8, 8), scale={"t": 9.0, "z": 2.0, "y": 0.5, "x": 0.25})
    got = {axes: aspect_of(image, tuple(axes)) for axes in ("zx", "xz", "zy", "tx")}
    assert got == {"zx": 8.0, "xz": 0.125, "zy": 4.0, "tx": 1.0}


def test_view_states_are_values() -> None:
    one = ViewState(Camera(1, 2, 3), Slicing.of({"z": 3}, "zx", Projection("t", "max")))
    assert one == ViewState(Camera(1, 2, 3), Slicing.of({"z": 3}, ("z", "x"), parse_projection("t=max")))
    assert hash(one) == hash(ViewState(Camera(1, 2, 3), one.slicing))
    with pytest.raises(AttributeError):
        one.slicing = Slicing()  # type: ignore[misc]  # which is what is tested


@pytest.mark.parametrize("text", ["z=max", "z=mean:4:12", "z=max:~3", "t=sum::9", "c=min:3:"])
def test_a_projection_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_projection(text)) == text


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(0, 3), st.data())
def test_a_projection_of_a_level_has_the_voxels_that_hold_its_positions(
    depth: int, level: int, data: st.DataObject
) -> None:
    shapes = [(max(1, -(-depth // 2**k)), 9, 9) for k in range(4)]
    levels = [
        LevelInfo("", shape, shape, None, (2.0**k, 1, 1), ((2.0**k - 1) / 2, 0, 0))
        for k, shape in enumerate(shapes)
    ]
    image = PyramidSpec(tuple(map(Axis, "zyx")), np.dtype("u1"), tuple(levels))
    first = data.draw(st.integers(0, depth - 1))
    stop = data.draw(st.integers(first + 1, depth))
    section = resolve(Slicing.of({}, None, Projection("z", "max", first, stop)), image)
    start, end = section.own_index(image, level)
    assert set(range(start, end)) == {min(p // 2**level, shapes[level][0] - 1) for p in range(first, stop)}
    back = section.first_position(image, (start, end), level)
    assert resolve(Slicing.of({}, None, Projection("z", "max", *back)), image).own_index(image, level) == (
        start,
        end,
    )


# what is read


def test_each_chunk_is_read_once_for_a_tile(tmp_path: Path) -> None:
    """And never more than a few at a time: deep chunks one after the other."""
    import zarr

    from octree.render.tiles.face import BRICK_BYTES

    data = np.random.default_rng(1).integers(0, 999, (70, 64, 64), np.uint16)
    array = zarr.create_array(tmp_path / "deep.zarr", shape=data.shape, chunks=(16, 64, 64), dtype="u2")
    array[...] = data
    with open_tile_source(str(tmp_path / "deep.zarr"), tile=64) as source:
        boxes: list[Box] = []
        levels, read = source._levels, source._levels.read
        levels.read = lambda level, box: (boxes.append(box), read(level, box))[1]  # type: ignore[method-assign]  # of this one object
        section = resolve(Slicing.of({}, None, parse_projection("z=max:5:69")), source.spec)
        face = source.face(section)
        tile = face.read_tile(TileKey(0, section.position, (0, 0)))
    np.testing.assert_array_equal(tile, data[5:69].max(0))
    touched = [set(range(box.start[0] // 16, -(-box.stop[0] // 16))) for box in boxes]
    assert sum(map(len, touched)) == len(set().union(*touched)) == 5
    assert max(np.prod(box.shape) * 2 for box in boxes) <= max(BRICK_BYTES, 16 * 64 * 64 * 2)


def test_a_read_that_is_given_up_ends_between_bricks(tmp_path: Path) -> None:
    from octree.render.loading.load import CancelToken, set_current_token
    from octree.render.tiles.cancelling import GivenUp

    reads: list[Any] = []

    class Deep:
        shape, dtype, ndim, chunks = (400, 64, 64), np.dtype("u2"), 3, (1, 64, 64)

        def __getitem__(self, place: Any) -> Any:
            reads.append(place)
            token.cancel()
            return np.zeros(self.shape, self.dtype)[place]

    token = CancelToken()
    with open_tile_source(Deep(), tile=64) as source:
        section = resolve(Slicing.of({}, None, parse_projection("z=max")), source.spec)
        set_current_token(token)
        try:
            with pytest.raises(GivenUp):
                source.face(section).read_tile(TileKey(0, section.position, (0, 0)))
        finally:
            set_current_token(None)
    assert len(reads) == 1


# the command


def octree(*arguments: Any, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "octree.cli", "render", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"display": "qx"}, "there is no axis 'q' to display|axes: t, z, y, x"),
        ({"display": "z"}, "two axes, rows and columns|axes: t, z, y, x"),
        ({"display": "zz"}, "two axes, rows and columns|axes: t, z, y, x"),
        ({"display": "zyx"}, "two axes, rows and columns|choose yx, zx or zy"),
        ({"display": "zyt"}, "two axes, rows and columns|axes: t, z, y, x"),
        ({"display": "zx", "index": "z=3"}, "z is displayed|axes to choose on: t, y"),
        ({"index": "c=3"}, "there is no axis 'c'|axes: t, z"),
        ({"project": "x=max"}, "x is displayed|axes to project: t, z"),
        ({"project": "c=max"}, "there is no axis 'c' to project|axes: t, z"),
        ({"project": "z=max", "index": "z=3"}, "z is projected|z=max:~N"),
        ({"project": "z=max:5:30"}, "z=5:30 lies outside|from 0 to 24"),
        ({"project": "z=max:5:5"}, "projects nothing|below"),
        ({"project": "z=max:7:5"}, "projects nothing|below"),
        ({"project": "z=median"}, "AXIS=METHOD|max, min, mean, sum"),
        ({"project": "z"}, "AXIS=METHOD|z=max"),
    ],
)
def test_what_cannot_be_shown_is_a_usage_error_that_names_the_axes(
    stack: Path, options: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError) as refused:
        render([stack], options=options)
    message, hint = says.split("|")
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


def test_an_axis_must_be_some_layers(stack: Path, tmp_path: Path) -> None:
    build(volume()[0, 0], tmp_path / "flat.ome.zarr", tile=32)
    sources = [stack, tmp_path / "flat.ome.zarr"]
    render(sources, size=(20, 20), options=FULL | {"index": "z=3"})
    with pytest.raises(UsageError, match="there is no axis 'c'"):
        render(sources, options={"index": "c=3"})
    with pytest.raises(UsageError, match=r"flat\.ome\.zarr: there is no axis 'z' to display"):
        render(sources, options={"display": "zx"})


def test_the_command_shows_other_axes_and_hints_once_where_chunks_make_it_slow(
    stack: Path, tmp_path: Path
) -> None:
    thin = tmp_path / "thin.ome.zarr"
    build(volume()[0], thin, axes="zyx", tile=128, shard=0)
    done = octree(thin, "--display", "zx", "--index", "y=40", "--camera", "fit", "--camera", "x=9,y=9,zoom=2",
                  "--size", "150x24", "--clim", "0,255", "-o", tmp_path / "{index}.png", "--report", tmp_path / "r.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    from PIL import Image

    frame = np.asarray(Image.open(tmp_path / "0.png"))[..., 0]
    np.testing.assert_array_equal(frame, volume()[0, :, 40])
    assert [frame["displayed"] for frame in json.loads((tmp_path / "r.json").read_text())["frames"]] == [
        "zx"
    ] * 2
    (hint,) = [line for line in done.stderr.splitlines() if line.startswith("hint:")]
    assert "zx tiles decode" in hint
    assert "octree build --chunks 64,64,64 makes that 64 times" in hint
    done = octree(stack, "--display", "q", "--camera", "fit", "-o", tmp_path / "no.png")
    assert done.returncode == 2
    assert "axes: t, z, y, x" in done.stderr


def test_chunks_that_suit_the_view_need_no_hint(stack: Path) -> None:
    for options in ({}, {"display": "zx"}, {"project": "z=max"}):
        with Renderer(parse_request([stack], [], options)) as renderer:
            assert renderer.hints() == [], options


def test_a_suite_of_check_knows_both(stack: Path, tmp_path: Path) -> None:
    from octree.render.check.suite import run

    (tmp_path / "suite.toml").write_text(
        f"""
[[case]]
name = "across"
source = "{stack}"
camera = "fit"
size = "75x48"
options = {{display = "zx", index = "y=3", clim = "0,255"}}

[[case]]
name = "projected"
source = "{stack}"
camera = "fit"
size = "75x48"
options = {{project = "z=max:~2", index = "z=9", clim = "0,255"}}
"""
    )
    suite = tmp_path / "suite.toml"
    options: dict[str, Any] = {"ci": False, "output": tmp_path / "out"}
    run(suite, accept=[], **options)
    assert run(suite, **options).exit_code == 0
    suite.write_text(suite.read_text().replace("z=max:~2", "z=max:~3"))
    result = run(suite, **options)
    assert [case.verdict.value for case in result.cases] == ["pass", "fail"]


# a node in somebody's canvas


def test_a_node_shows_any_plane_at_any_time(stack: Path) -> None:
    from vispy import scene

    from octree.render import TiledImage

    with scene.SceneCanvas(size=(60, 40), show=False) as canvas:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        view.camera.flip = (False, True, False)
        view.camera.rect = (5, 2, 60, 20)
        node = TiledImage(stack, parent=view.scene, clim="0,255", display="zx", index="y=7,t=1")
        assert (node.display, node.project, node.aspect) == ("zx", None, 4.0)
        assert node.extent.size == (24, 150)

        def shown(plane: NDArray[Any]) -> None:
            view.camera.rect = (0, 0, 60, 40)
            assert node.settle(timeout_s=20)
            rows, cols = min(40, plane.shape[0]) - 1, 59
            frame = canvas.render()[..., 0]
            np.testing.assert_array_equal(frame[1:rows, 1:cols], plane[1:rows, 1:cols])

        shown(volume()[1, :, 7])
        node.go_to(y=30)
        shown(volume()[1, :, 30])
        with pytest.raises(UsageError, match="z is displayed"):
            node.go_to(z=3)
        with pytest.raises(UsageError, match="no axis 'q'"):
            node.display = "qx"
        assert node.display == "zx"
        node.display = "yx"
        assert node.index == {"t": 1, "z": 0}
        shown(volume()[1, 0])
        node.display = "zx"
        assert node.index == {"t": 1, "y": 30}, "where it stood before"
        node.close()
        node = TiledImage(stack, parent=view.scene, clim="0,255", project="z=max:~1", index="z=5")
        shown(volume()[0, 4:7].max(0))
        node.go_to(z=9)
        shown(volume()[0, 8:11].max(0))
        node.project = "z=min:~2"
        assert node.project == "z=min:~2"
        shown(volume()[0, 7:12].min(0))
        node.project = None
        shown(volume()[0, 9])
        node.close()
