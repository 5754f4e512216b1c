"""Settled frames do not depend on the atlas: what does not fit it is drawn part by part."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import octree
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octree.pyramid import build
from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.render.frames import RunResult, render
from octree.render.view.parts import Part, Placed, parts_of

pytestmark = pytest.mark.usefixtures("gl_info")
RANGE = "0,65535"
ATLAS = "2MiB"


def noise(shape: tuple[int, ...], dtype: Any = np.uint16) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight channels of noise, 700 x 1000, tiles of 128: 48 of each at level 0."""
    dest = tmp_path_factory.mktemp("parts") / "eight.ome.zarr"
    build(noise((8, 700, 1000)), dest, axes="cyx", tile=128)
    return dest


def both(source: Any, camera: str, atlas: str, **options: Any) -> tuple[RunResult, RunResult]:
    """(with a large atlas, with a small one)"""
    return tuple(  # type: ignore[return-value] # two of them
        render([source], [camera], size=(500, 350), options={"clim": RANGE, "atlas": each, **options})
        for each in ("256MiB", atlas)
    )


LOOKS: dict[str, dict[str, Any]] = {
    "nearest": {},
    "linear": {"interpolation": "linear"},
    "one channel, borders, overview": {"index": "c=3", "show_grid": True, "overview": True},
    "see-through": {"background": "transparent", "opacity": 0.5, "interpolation": "linear"},
    "no room to keep what was read": {"cache": "0"},
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("camera", ["fit", "x=473.3,y=321.7,zoom=0.83"])
def test_a_small_atlas_gives_the_same_picture(channels: Path, look: str, camera: str) -> None:
    large, small = both(channels, camera, ATLAS, **LOOKS[look])
    assert (large.frames[0] == small.frames[0]).all()
    before, after = large.report.frames[0], small.report.frames[0]
    assert (after.level, after.degraded, after.visible_px) == (before.level, False, before.visible_px)
    assert after.coverage == before.coverage
    assert after.coverage.ideal == 1
    assert (after.tiles.wanted, after.tiles.ideal, after.tiles.drawn) == (
        before.tiles.wanted, before.tiles.ideal, before.tiles.drawn
    )  # fmt: skip
    assert small.tile_sets == large.tile_sets
    assert small.report.totals.peak_atlas_bytes <= 2 * 2**20
    assert large.frames[0][..., :3].any()


def test_layers_of_other_tiles_and_types_share_a_small_atlas(channels: Path) -> None:
    layers = [channels, noise((701, 933), np.uint8).astype(np.float32), noise((720, 950, 3), np.uint8)]
    options = {
        "interpolation": ["nearest", "linear"],
        "opacity": ["1", "0.5", "0.3"],
        "clim": ["0,65535", "0,255"],
    }
    frames = [
        render(layers, ["fit"], size=(450, 300), options=options | {"atlas": atlas}).frames[0]
        for atlas in ("64MiB", "12MiB")
    ]
    assert (frames[0] == frames[1]).all()


def test_the_smallest_atlas_there_is(channels: Path) -> None:
    """One tile of each channel at a time."""
    one = 8 * 130 * 130 * 2
    large, small = both(channels, "x=311.3,y=207.9,zoom=2.3", str(one))
    assert (large.frames[0] == small.frames[0]).all()
    assert small.report.totals.peak_atlas_bytes <= one
    with pytest.raises(UsageError, match="linear"):
        both(channels, "x=311.3,y=207.9,zoom=2.3", str(one), interpolation="linear")


def test_what_cannot_be_read_is_counted_once_in_parts_too(channels: Path, tmp_path: Path) -> None:
    pixels = noise((700, 1000))

    class Holed:
        shape, dtype, ndim = pixels.shape, pixels.dtype, 2

        def __getitem__(self, place: Any) -> Any:
            if place[0].start == 256 and place[1].start == 512:
                raise OSError("gone")
            return pixels[place]

    results = [
        render([Holed()], ["fit"], size=(1000, 700), options={"clim": RANGE, "atlas": atlas, "cache": cache})
        for atlas, cache in (("64MiB", "64MiB"), ("300KiB", "0"))
    ]
    assert (results[0].frames[0] == results[1].frames[0]).all()
    frames = [result.report.frames[0] for result in results]
    assert frames[0].coverage.failed == frames[1].coverage.failed == pytest.approx(256 * 256 / 700_000)
    assert frames[0].coverage == frames[1].coverage


@pytest.mark.parametrize("atlas", ["64MiB", "300KiB"])
def test_what_was_seen_before_does_not_change_where_a_tile_failed(tmp_path: Path, atlas: str) -> None:
    """The finer tiles under it are in memory, or not."""
    dest = tmp_path / "one.ome.zarr"
    build(noise((512, 768)), dest, tile=128, shard=0)
    damaged = dest / "1" / "c" / "0" / "1"
    damaged.write_bytes(damaged.read_bytes()[:50])
    options = {"clim": RANGE, "atlas": atlas}
    close, wide = "x=384,y=128,zoom=1", "x=384,y=256,zoom=0.5"
    alone = render([dest], [wide], size=(384, 256), options=options)
    after = render([dest], [close, wide], size=(384, 256), options=options)
    assert alone.report.frames[0].coverage.failed == pytest.approx(1 / 6)
    assert after.report.frames[1].coverage == alone.report.frames[0].coverage
    assert (after.frames[1] == alone.frames[0]).all()


def test_time_that_runs_out_shows_what_there_is(channels: Path) -> None:
    weather = {"clock": "virtual", "latency": "400ms", "timeout": "1s", "clim": RANGE, "atlas": ATLAS}
    result = render([channels], ["fit"], size=(500, 350), options=weather)
    frame = result.report.frames[0]
    assert 0 < frame.coverage.ideal < 1
    assert frame.coverage.ideal + frame.coverage.coarser + frame.coverage.missing == pytest.approx(1)
    assert result.frames[0][..., :3].any()


def test_a_frame_larger_than_a_framebuffer(channels: Path) -> None:
    """Parts of the atlas and parts of the canvas do not fall together."""
    frames = [
        render([channels], ["fit"], size=(8300, 60), options={"clim": RANGE, "atlas": atlas}).frames[0]
        for atlas in ("64MiB", ATLAS)
    ]
    assert (frames[0] == frames[1]).all()
    assert frames[0][..., :3].any()


def test_a_moving_frame_that_does_not_fit_is_not_ideal(channels: Path, tmp_path: Path) -> None:
    """Through the command: what is drawn a level coarser than the zoom asks for is said, counted, and can fail."""
    path, report = tmp_path / "path.json", tmp_path / "report.json"
    keys = [{"t_s": t, "x": 400 + 100 * t, "y": 300, "zoom": 1} for t in (0, 1)]
    path.write_text(json.dumps({"fps": 4, "keyframes": keys}))
    run = ["render", channels, "--camera", path, "--size", "500x350", "--clock", "virtual", "--clim", RANGE]
    run += ["--atlas", ATLAS, "--report", report]
    done = octree(*run)
    assert done.returncode == 0, done.stderr
    assert "coarser than the zoom asks for" in done.stderr
    assert "--atlas" in done.stderr
    frames = json.loads(report.read_text())["frames"]
    assert all(frame["degraded"] for frame in frames)
    assert {frame["coverage"]["ideal"] for frame in frames} == {0}
    assert frames[-1]["coverage"]["coarser"] == pytest.approx(1)
    failed = octree(*run, "--min-coverage", "0.5")
    assert failed.returncode == 1
    assert "--atlas" in failed.stderr
    settled = octree(*run, "--settle", "--min-coverage", "1")
    assert settled.returncode == 0, settled.stderr
    assert settled.stderr == ""


# the division itself


def placed(tile: int, room: int, zoom: float, linear: bool, size: tuple[int, int], shift: float) -> Placed:
    lattice = Lattice((LatticeLevel((300, 400), (tile, tile), (1.0, 1.0), (0.0, 0.0)),))
    low = (-20.0 + shift, -31.0 + shift)
    view = Region(low, (low[0] + size[1] / zoom, low[1] + size[0] / zoom))
    return Placed(lattice, 0, view, size, room, 1.0 if linear else 0.0)


@settings(max_examples=60, deadline=None)
@given(
    tile=st.sampled_from([16, 40, 100]),
    room=st.integers(4, 30),
    zoom=st.floats(0.4, 20),
    linear=st.booleans(),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    shift=st.floats(-5, 5),
)
def test_parts_divide_a_frame_and_each_fits(
    tile: int, room: int, zoom: float, linear: bool, size: tuple[int, int], shift: float
) -> None:
    layer = placed(tile, room, zoom, linear, size, shift)
    drawn = np.zeros((size[1], size[0]), int)
    for part in parts_of(size, [layer]):
        assert layer.fits(part)
        drawn[part.y : part.y + part.height, part.x : part.x + part.width] += 1
    assert (drawn == 1).all()


@example(tile=16, zoom=1, linear=False, size=(47, 30), shift=0.4)
@settings(max_examples=30, deadline=None)
@given(
    tile=st.sampled_from([8, 16, 40]),
    zoom=st.floats(0.2, 5),
    linear=st.booleans(),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    shift=st.floats(-5, 5),
)
def test_each_pixel_has_the_tile_under_its_centre(
    tile: int, zoom: float, linear: bool, size: tuple[int, int], shift: float
) -> None:
    """At the edges of the frame, too."""
    layer = placed(tile, 4 if linear else 1, zoom, linear, size, shift)
    (y0, x0), (high, wide) = layer.view.low, layer.view.size
    info = layer.lattice.levels[0]
    for part in parts_of(size, [layer]):
        tiles = layer._tiles(layer.region(part))
        for y, x in itertools.product(
            range(part.y, part.y + part.height), range(part.x, part.x + part.width)
        ):
            centre = (y0 + (y + 0.5) * high / size[1], x0 + (x + 0.5) * wide / size[0])
            if all(0 < at < length for at, length in zip(centre, info.shape, strict=True)):
                under = tuple(info.block_at(axis, at) for axis, at in enumerate(centre))
                assert under in set(tiles.grids())


def test_what_fits_is_one_part_and_cuts_fall_on_tiles() -> None:
    assert list(parts_of((90, 60), [placed(100, 4, 1, False, (90, 60), 0)])) == [Part(0, 0, 90, 60)]
    cuts = [part.x for part in parts_of((90, 60), [placed(16, 4, 1, False, (90, 60), 0)])]
    assert set(cuts) <= {0, *(31 + 16 * n for n in range(5))}
    assert len(list(itertools.islice(parts_of((90, 60), [placed(16, 4, 1, False, (90, 60), 0)]), 10))) <= 6
