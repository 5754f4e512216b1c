"""Frames through the whole pipeline: the right pixels, whatever the weather, and honest numbers."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray

from octree.pyramid import build, open_pyramid
from octree.pyramid.errors import UsageError
from octree.pyramid.grid import LatticeLevel, Region
from octree.pyramid.store.named import place_of
from octree.render.config import OctreeSettings, default_settings
from octree.render.frames import Renderer, RunResult, render
from octree.render.report.values import RunReport
from octree.render.request import parse_request
from octree.render.scene.overview import inset_view

pytestmark = pytest.mark.usefixtures("gl_info")

RANGE = "0,65535"


def noise(shape: tuple[int, ...], dtype: Any = np.uint16, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1100 x 1500 uint16 noise, 4 levels, odd sizes: every texel differs from its neighbours."""
    dest = tmp_path_factory.mktemp("frames") / "noise.ome.zarr"
    build(noise((1100, 1501)), dest)
    return dest


def level(path: Path, number: int) -> NDArray[Any]:
    opened = open_pyramid(path)
    from octree.pyramid.model import Box

    shape = opened.spec.levels[number].shape
    return opened.read(number, Box((0,) * len(shape), shape))


def expected_gray(
    pixels: NDArray[Any],
    x: float,
    y: float,
    zoom: float,
    size: tuple[int, int],
    factor: int = 1,
    high: float = 65535,
) -> NDArray[np.uint8]:
    """Nearest: the texel that holds each pixel's centre; black outside."""
    cols = (x + (np.arange(size[0]) + 0.5 - size[0] / 2) / zoom) / factor
    rows = (y + (np.arange(size[1]) + 0.5 - size[1] / 2) / zoom) / factor
    inside = np.outer((rows >= 0) & (rows < pixels.shape[0]), (cols >= 0) & (cols < pixels.shape[1]))
    picked = pixels[
        np.clip(np.floor(rows).astype(int), 0, pixels.shape[0] - 1)[:, None],
        np.clip(np.floor(cols).astype(int), 0, pixels.shape[1] - 1)[None],
    ]
    return np.where(inside, np.rint(picked / high * 255), 0).astype(np.uint8)


def assert_gray(frame: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    assert frame.shape == (*expected.shape, 4)
    assert (frame[..., 3] == 255).all()
    assert np.abs(frame[..., :3].astype(int) - expected[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("x", "y", "zoom", "size"),
    [
        (750, 550, 1, (320, 240)),
        (256, 256, 7.3, (301, 199)),
        (1490, 1090, 3, (200, 200)),
        (0, 0, 1, (64, 64)),
        (700.25, 300.75, 40, (97, 53)),
    ],
)
def test_a_settled_frame_shows_level_0_exactly(
    pyramid: Path, x: float, y: float, zoom: float, size: tuple[int, int]
) -> None:
    result = render([pyramid], [f"x={x},y={y},zoom={zoom}"], size=size, options={"clim": RANGE})
    assert_gray(result.frames[0], expected_gray(level(pyramid, 0), x, y, zoom, size))
    assert result.report.frames[0].coverage.ideal == 1


@pytest.mark.parametrize("wrong", ["shift", "level", "swap"])
def test_the_comparison_would_notice(pyramid: Path, wrong: str) -> None:
    """Negative controls: a picture that is a texel off, a level too coarse, or has two tiles swapped fails."""
    frame = render([pyramid], ["x=512,y=512,zoom=1"], size=(256, 256), options={"clim": RANGE}).frames[0]
    pixels = level(pyramid, 0).copy()
    if wrong == "shift":
        pixels = np.roll(pixels, 1, axis=1)
    elif wrong == "level":
        pixels = np.repeat(np.repeat(level(pyramid, 1), 2, 0), 2, 1)
    else:
        pixels[256:512, 256:512], pixels[512:768, 512:768] = (
            pixels[512:768, 512:768].copy(),
            pixels[256:512, 256:512].copy(),
        )
    with pytest.raises(AssertionError):
        assert_gray(frame, expected_gray(pixels, 512, 512, 1, (256, 256)))


@pytest.mark.parametrize(("zoom", "wanted"), [(0.5, 1), (0.25, 2), (0.125, 3), (0.51, 0), (0.01, 3)])
def test_the_level_follows_the_zoom(pyramid: Path, zoom: float, wanted: int) -> None:
    result = render([pyramid], [f"x=750,y=550,zoom={zoom}"], size=(200, 160), options={"clim": RANGE})
    assert result.report.frames[0].level == wanted
    assert result.report.frames[0].coverage.by_level == {wanted: 1}
    if zoom == 1 / 2**wanted:
        expected = expected_gray(level(pyramid, wanted), 750, 550, zoom, (200, 160), 2**wanted)
        assert_gray(result.frames[0], expected)


@pytest.mark.parametrize(
    ("x", "y", "zoom", "size"),
    [(933, 701, 0.37, (131, 99)), (933, 0, 7.3, (7, 5)), (466.5, 701, 0.37, (9, 99))],
)
def test_visible_px_are_the_pixels_drawn(x: float, y: float, zoom: float, size: tuple[int, int]) -> None:
    """Also where the image's edge runs through centres, and x / zoom is not a number of float64."""
    white = np.full((701, 933), 255, np.uint8)
    result = render([white], [f"x={x},y={y},zoom={zoom}"], size=size)
    assert result.report.frames[0].visible_px == (result.frames[0][..., 0] == 255).sum()


def test_many_layers_of_many_formats_fit_a_small_atlas() -> None:
    """Each layer is promised its share of the atlas: no page may be larger than what it is for."""
    layers = [
        np.full((1030 + 250 * (i % 4), 1030 + 250 * (i // 2)), 100, ["float32", "uint16", "uint8"][i % 3])
        for i in range(8)
    ]
    settings = replace(default_settings(), octree=OctreeSettings(tile_size=1024))
    result = render(
        layers,
        ["x=700,y=700,zoom=1"],
        size=(1500, 1500),
        options={"clim": "0,200", "atlas": "32MiB"},
        settings=settings,
    )
    assert result.report.frames[0].coverage.ideal == 1
    assert (result.report.frames[0].level, result.report.frames[0].degraded) == (0, False)
    assert result.report.totals.peak_atlas_bytes <= 32 * 2**20


def test_view_after_view_a_tight_atlas_shows_all_of_each() -> None:
    """What was just uploaded is not evicted for the next, and room that lies in pages of others is found."""
    layers = [
        noise((3, 701, 933)),
        noise((720, 950), np.uint8).astype(np.float32),
        np.moveaxis(noise((4, 701, 933), np.uint8), 0, -1),
    ]
    places = [(3.6, 132.9, 1), (521.2, 21.6, 1.4), (218, 182.3, 0.5), (256.3, 379.6, 0.7), (280, 530.2, 2)]
    views = [f"x={x},y={y},zoom={zoom}" for x, y, zoom in places]
    options = {"atlas": "9364KiB", "timeout": "5s", "interpolation": "linear"}
    result = render(layers, views, size=(1166, 415), options=options)
    assert [frame.coverage.ideal for frame in result.report.frames] == [1.0] * len(views)
    assert result.report.totals.peak_atlas_bytes <= 9364 * 1024


def test_an_atlas_without_room_for_one_tile_is_refused(pyramid: Path) -> None:
    with pytest.raises(UsageError, match="one tile of everything"):
        render([pyramid], ["fit"], options={"atlas": "1KiB"})


def test_a_camera_outside_the_image_is_an_honest_empty_frame(pyramid: Path) -> None:
    options = {"background": "red", "allow_empty": True}
    result = render([pyramid], ["x=-9000,y=-9000,zoom=1"], size=(64, 48), options=options)
    frame = result.report.frames[0]
    assert (frame.visible_px, frame.tiles.wanted, frame.tiles.requested) == (0, 0, 0)
    assert frame.coverage.ideal == 1
    assert (result.frames[0] == [255, 0, 0, 255]).all()


WEATHER: dict[str, dict[str, Any]] = {
    "latency": {"latency": "5ms", "jitter": "20ms", "seed": 3},
    "virtual": {"clock": "virtual", "latency": "50ms", "bandwidth": "5MB/s"},
    "small cache": {"cache": "300KiB"},
    "failing and retried": {"clock": "virtual", "fail_rate": "0.3", "seed": "11"},
    "small atlas": {"atlas": "6MiB"},
}


@pytest.mark.parametrize("weather", WEATHER)
def test_a_settled_frame_is_the_same_in_any_weather(pyramid: Path, weather: str) -> None:
    cameras = ["x=700,y=500,zoom=1", "fit"]
    options = {"clim": RANGE, "interpolation": "linear"}
    calm = render([pyramid], cameras, size=(400, 300), options=options)
    rough = render([pyramid], cameras, size=(400, 300), options=options | WEATHER[weather])
    for a, b in zip(calm.frames, rough.frames, strict=True):
        assert (a == b).all()
    assert [f.degraded for f in rough.report.frames] == [False, False]


def test_linear_knows_no_tile_borders(pyramid: Path) -> None:
    """One layer nearest, one linear: the corner of four tiles is bilinear of the whole level."""
    cameras, size = ["x=512.3,y=511.6,zoom=7.3"], (60, 50)
    options = {"clim": RANGE, "interpolation": ["nearest", "linear"]}
    frame = render([pyramid, pyramid], cameras, size=size, options=options).frames[0]
    half = (size[0] / 7.3 / 2, size[1] / 7.3 / 2)
    view = Region((511.6 - half[1], 512.3 - half[0]), (511.6 + half[1], 512.3 + half[0]))
    pixels = level(pyramid, 0)
    whole = LatticeLevel(pixels.shape, (256, 256), (1.0, 1.0), (0.0, 0.0))
    low, high = map(float, RANGE.split(","))
    wanted = reference.render(
        pixels,
        whole,
        Region((0, 0), tuple(map(float, pixels.shape))),
        view,
        size,
        lambda value: (float(reference.window(value, (low, high))),) * 3,
        interpolation="linear",
    )
    assert np.abs(frame[..., :3].astype(int) - wanted).max() <= 1


def test_a_size_among_the_options_is_the_size() -> None:
    image = np.zeros((20, 30), np.uint8)
    assert render([image]).frames[0].shape == (768, 1024, 4)
    assert render([image], options={"size": "90x60"}).frames[0].shape == (60, 90, 4)
    assert render([image], size=(90, 60), options={"size": None}).frames[0].shape == (60, 90, 4)
    with pytest.raises(UsageError, match="size is given twice"):
        render([image], size=(90, 60), options={"size": "91x60"})


def test_orange_is_orange() -> None:
    result = render([np.full((1, 2, 1, 9, 9), 255, np.uint8)], size=(9, 9), options={"channels": "0:orange"})
    assert (result.frames[0][..., :3] == (255, 165, 0)).all()


def test_colour_images_are_drawn_as_they_are(tmp_path: Path) -> None:
    pixels = noise((90, 130, 3), np.uint8)
    build(pixels, tmp_path / "rgb.ome.zarr", axes="yxs")
    for source in (tmp_path / "rgb.ome.zarr", pixels):
        options = {} if isinstance(source, Path) else {"single_level": True}
        frame = render([source], ["x=65,y=45,zoom=1"], size=(130, 90), options=options).frames[0]
        assert np.abs(frame[..., :3].astype(int) - pixels).max() <= 1


def test_an_array_in_memory_is_a_source(pyramid: Path) -> None:
    pixels = noise((700, 900), seed=5)
    result = render([pixels], ["x=450,y=350,zoom=1"], size=(200, 150), options={"clim": RANGE})
    assert_gray(result.frames[0], expected_gray(pixels, 450, 350, 1, (200, 150)))


def test_channels_add_up_in_their_colours(tmp_path: Path) -> None:
    pixels = noise((2, 60, 80), np.uint8)
    build(pixels, tmp_path / "two.ome.zarr", axes="cyx")
    frame = render(
        [tmp_path / "two.ome.zarr"],
        ["x=40,y=30,zoom=1"],
        size=(80, 60),
        options={"channels": "0:red:0-255,1:#0000ff:0-255"},
    ).frames[0]
    assert np.abs(frame[..., 0].astype(int) - pixels[0]).max() <= 1
    assert (frame[..., 1] == 0).all()
    assert np.abs(frame[..., 2].astype(int) - pixels[1]).max() <= 1


def test_planes_are_chosen_by_index(tmp_path: Path) -> None:
    pixels = noise((3, 4, 40, 50), np.uint8)
    build(pixels, tmp_path / "tz.ome.zarr", axes="tzyx")
    options = {"index": "t=2,z=1", "clim": "0,255"}
    frame = render([tmp_path / "tz.ome.zarr"], ["x=25,y=20,zoom=1"], size=(50, 40), options=options).frames[0]
    assert np.abs(frame[..., 0].astype(int) - pixels[2, 1]).max() <= 1
    with pytest.raises(UsageError, match="z=4"):
        render([tmp_path / "tz.ome.zarr"], ["fit"], options={"index": "z=4"})


def test_layers_of_different_voxel_size_register(tmp_path: Path) -> None:
    """The same picture at half the resolution, on top with opacity: every pixel stays where it is."""
    coarse = noise((64, 64), np.uint8)
    fine = np.repeat(np.repeat(coarse, 2, 0), 2, 1)
    build(fine, tmp_path / "fine.ome.zarr", voxel_size={"y": 0.5, "x": 0.5}, unit="micrometer")
    source = tmp_path / "coarse.ome.zarr"
    build(coarse, source, voxel_size={"y": 1.0, "x": 1.0}, unit="micrometer")
    # builds put the centre of voxel 0 at 0: the coarse corner lies a quarter micrometre further out
    options = {"clim": "0,255", "opacity": ["1", "0.5"]}
    result = render(
        [tmp_path / "fine.ome.zarr", source], ["x=64,y=64,zoom=4"], size=(256, 256), options=options
    )
    base = expected_gray(fine, 64, 64, 4, (256, 256), high=255)
    over = expected_gray(coarse, 32.25, 32.25, 8, (256, 256), high=255)
    mean = (base.astype(float) + over) / 2
    assert np.abs(result.frames[0][..., 0] - mean).max() <= 1.5


def test_labels_have_one_colour_each_and_zero_is_transparent(tmp_path: Path) -> None:
    ids = np.zeros((64, 64), np.uint32)
    ids[:32, 32:], ids[32:, :32], ids[32:, 32:] = 1, 2, 4_000_000_000
    build(ids, tmp_path / "labels.ome.zarr", labels=True)
    frame = render(
        [tmp_path / "labels.ome.zarr"], ["x=32,y=32,zoom=1"], size=(64, 64), options={"labels": True}
    ).frames[0]
    corners = [frame[:32, :32], frame[:32, 32:], frame[32:, :32], frame[32:, 32:]]
    colors = [np.unique(corner.reshape(-1, 4), axis=0) for corner in corners]
    assert [len(c) for c in colors] == [1, 1, 1, 1]
    assert tuple(colors[0][0]) == (0, 0, 0, 255)
    assert len({tuple(c[0]) for c in colors}) == 4


# streaming and the report


def stream(pyramid: Path, **options: Any) -> RunResult:
    words = {"clock": "virtual", "latency": "50ms", "clim": RANGE, "stream": True, **options}
    return render([pyramid], ["pan"], size=(320, 240), options=words)


def test_a_virtual_run_is_the_same_twice(pyramid: Path) -> None:
    first, second = stream(pyramid, bandwidth="4MB/s"), stream(pyramid, bandwidth="4MB/s")
    assert first.tile_sets == second.tile_sets
    for a, b in zip(first.report.frames, second.report.frames, strict=True):
        assert (a.t_ms, a.coverage, a.tiles, a.bytes) == (b.t_ms, b.coverage, b.tiles, b.bytes)
    for x, y in zip(first.frames, second.frames, strict=True):
        assert (x == y).all()
    incomplete = [frame for frame in first.report.frames if frame.coverage.ideal < 1]
    assert incomplete, "the path must show tiles arriving, or this test shows nothing"


def test_first_pixels_come_after_one_latency(pyramid: Path) -> None:
    options = {"clim": RANGE, "clock": "virtual", "latency": "50ms"}
    totals = render([pyramid], ["x=700,y=500,zoom=1"], options=options).report.totals
    assert totals.first_pixel_ms == totals.full_coverage_ms == 50
    wanted = 20
    assert totals.ideal_ms is not None
    assert totals.ideal_ms <= 50 * (1 + math.ceil(wanted / 10))


def check_numbers(report: RunReport) -> None:
    for frame in report.frames:
        c = frame.coverage
        assert c.ideal + c.finer + c.coarser + c.failed + c.missing == pytest.approx(1)
        assert all(0 <= part <= 1 for part in (c.ideal, c.finer, c.coarser, c.failed, c.missing))
        assert sum(c.by_level.values()) == pytest.approx(1 - c.failed - c.missing)
        assert frame.tiles.ideal <= frame.tiles.wanted
    assert report.totals.main_thread_reads == 0
    assert report.totals.tiles_read == sum(frame.tiles.loaded for frame in report.frames)
    assert report.totals.bytes_read == sum(frame.bytes.read for frame in report.frames)


def test_the_numbers_of_a_stream_add_up(pyramid: Path) -> None:
    check_numbers(stream(pyramid, bandwidth="4MB/s", fail_rate="0.2", seed="5").report)


def test_the_numbers_of_settled_views_add_up(pyramid: Path) -> None:
    result = render([pyramid], ["fit", "x=700,y=500,zoom=1", "fit"], options={"clim": RANGE})
    check_numbers(result.report)
    again = result.report.frames[2].tiles
    assert (again.requested, again.loaded, again.uploaded) == (0, 0, 0), "a place seen before costs no read"


def test_visible_pixels_are_those_whose_centre_the_image_covers(pyramid: Path) -> None:
    result = render([pyramid], ["x=0,y=0,zoom=1"], size=(101, 81), options={"clim": "0,1"})
    drawn = (result.frames[0][..., 0] > 0).sum()
    assert result.report.frames[0].visible_px == 51 * 41
    assert drawn >= 51 * 41 - 2  # noise holds a zero or two


def test_lost_tiles_are_shown_counted_and_listed(pyramid: Path) -> None:
    options = {"clim": RANGE, "clock": "virtual", "fail_rate": "1"}
    result = render([pyramid], ["x=700,y=500,zoom=1"], size=(320, 240), options=options)
    frame = result.report.frames[0]
    assert frame.coverage.failed == pytest.approx(1)
    assert frame.tiles.failed == len(result.report.failures)
    assert {failure["source"] for failure in result.report.failures} == {str(pyramid)}
    assert len(np.unique(result.frames[0].reshape(-1, 4), axis=0)) > 1, "a pattern, not a blank"


def test_a_timeout_gives_what_there_is(pyramid: Path) -> None:
    options = {"clock": "virtual", "latency": "10s", "timeout": "2s"}
    frame = render([pyramid], ["x=700,y=500,zoom=1"], options=options).report.frames[0]
    assert (frame.coverage.missing, frame.t_ms) == (1, 2000)


def test_nothing_is_left_behind(pyramid: Path) -> None:
    before = threading.active_count()
    with Renderer(parse_request([pyramid], ["x=700,y=500,zoom=1"], {"latency": "1ms"})) as renderer:
        assert len(list(renderer.frames())) == 1
    assert threading.active_count() == before


def test_switched_off_tiles_draw_each_level_as_one_image(pyramid: Path, tmp_path: Path) -> None:
    settings = tmp_path / "plain.json"
    settings.write_text('{"octree": {"enabled": false}}')
    options = {"clim": RANGE, "config": str(settings)}
    plain = render([pyramid], ["x=700,y=500,zoom=1"], size=(320, 240), options=options)
    tiled = render([pyramid], ["x=700,y=500,zoom=1"], size=(320, 240), options={"clim": RANGE})
    assert plain.report.frames[0].tiles.wanted == 1
    assert (plain.frames[0] == tiled.frames[0]).all()


@pytest.mark.parametrize("size", [(400, 300), (64, 64), (7, 300), (1, 1), (1024, 768)])
@pytest.mark.parametrize(
    "extent", [Region((0, 0), (1100, 1501)), Region((0, 0), (1, 90000)), Region((0, 0), (5, 3))]
)
@pytest.mark.parametrize("aspect", [1.0, 4.0])
def test_the_overview_shows_the_whole_image_in_a_corner(
    extent: Region, size: tuple[int, int], aspect: float
) -> None:
    view, (tall, zoom) = inset_view(extent, size, aspect)
    assert tall == zoom * aspect
    left, right = ((x - view.x0) * zoom for x in (extent.x0, extent.x1))
    top, bottom = ((y - view.y0) * tall for y in (extent.y0, extent.y1))
    assert -1e-6 <= left < right <= size[0] + 0.51
    assert -1e-6 <= top < bottom <= size[1] + 0.51
    assert right - left <= max(1, size[0] / 4) + 1e-6
    assert bottom - top <= max(1, size[1] / 4) + 1e-6


def test_the_overview_leaves_the_rest_of_the_frame_alone(pyramid: Path) -> None:
    options = {"clim": RANGE}
    plain = render([pyramid], ["x=700,y=500,zoom=1"], size=(400, 300), options=options)
    inset_run = render(
        [pyramid], ["x=700,y=500,zoom=1"], size=(400, 300), options=options | {"overview": True}
    )
    frame = inset_run.frames[0]
    differs = (plain.frames[0] != frame).any(axis=2)
    rows, cols = np.nonzero(differs)
    assert rows.min() >= 300 - 8 - 75 - 1
    assert cols.min() >= 400 - 8 - 100 - 1
    assert differs[-50:-10, -60:-10].mean() > 0.9, "the inset is filled"
    inset = frame[300 - 8 - 73 : 300 - 8, 400 - 8 - 100 : 400 - 8, :3]
    outline = (inset == [255, 204, 0]).all(axis=2)
    rows, cols = np.nonzero(outline)
    # the view is x 500 to 900, y 350 to 650 of an image drawn at 100 / 1501
    assert [rows.min(), rows.max(), cols.min(), cols.max()] == pytest.approx([23, 43, 33, 60], abs=1)
    assert plain.report.frames[0].coverage == inset_run.report.frames[0].coverage


# sources without a pyramid


def test_a_huge_array_without_a_pyramid_never_stalls_a_frame() -> None:
    """napari 1300: a 16384 x 16384 array in memory cost 1.5 s a slice. Here no frame reads on the main thread, and
    none uploads more than its budget (and the one tile that is always allowed)."""
    pixels = np.broadcast_to(np.arange(16384, dtype=np.uint16), (16384, 16384))
    options = {"clim": "0,16383", "single_level": True, "stream": True, "clock": "virtual", "latency": "5ms"}
    result = render([pixels], ["pan"], size=(640, 480), options=options)
    budget, tile = 4 * 2**20, 1024 * 1024 * 2 * 1.1
    assert result.report.totals.main_thread_reads == 0
    assert all(frame.bytes.uploaded <= budget + tile for frame in result.report.frames)
    assert all(frame.coverage.ideal == pytest.approx(1) for frame in result.report.frames[-10:])
    assert len(result.report.sources[0]["levels"]) == 1


def test_an_image_longer_than_any_texture_is_drawn_at_full_resolution() -> None:
    pixels = noise((40, 70_000), seed=9)
    result = render([pixels], ["x=69950,y=20,zoom=1"], size=(100, 40), options={"clim": RANGE})
    assert_gray(result.frames[0], expected_gray(pixels, 69950, 20, 1, (100, 40)))


def test_coarser_levels_are_made_of_what_has_none() -> None:
    """Made in memory by the rule of the builder: the mean, half to even."""
    pixels = noise((1024, 1024), np.uint8, seed=2)
    sums = pixels.reshape(512, 2, 512, 2).astype(int).sum((1, 3))
    result = render([pixels], ["x=512,y=512,zoom=0.5"], size=(512, 512), options={"clim": "0,255"})
    expected = expected_gray(np.rint(sums / 4).astype(np.uint8), 512, 512, 0.5, (512, 512), 2, 255)
    assert result.report.frames[0].level == 1
    assert_gray(result.frames[0], expected)


def test_what_has_been_loaded_stands_in(pyramid: Path, tmp_path: Path) -> None:
    """Zooming in over a slow network: the first tile that arrives is drawn at once, though by then it is only known
    and no longer asked for, and levels passed on the way stand in for the finer ones."""
    path = tmp_path / "zoom.json"
    keys = [{"t_s": 0, "x": 700, "y": 500, "zoom": 0.1}, {"t_s": 1, "x": 700, "y": 500, "zoom": 2}]
    path.write_text(json.dumps({"fps": 15, "keyframes": keys}))
    options = {"clim": RANGE, "clock": "virtual", "latency": "80ms", "bandwidth": "3MB/s"}
    frames = render([pyramid], [str(path)], size=(400, 300), options=options).report.frames
    first = next(n for n, frame in enumerate(frames) if frame.tiles.loaded)
    assert all(frame.coverage.missing == 0 for frame in frames[first:])
    drawn = {level for frame in frames for level in frame.coverage.by_level}
    assert len(drawn) == 4, "no level of the way was left out"


def test_a_tile_appears_with_all_its_channels_or_not_yet(tmp_path: Path) -> None:
    """D36: a tile appeared channel by channel. Red and green hold the same values, so that any pixel which is not
    gray-yellow would be a channel too few."""
    pixels = noise((1024, 1024), np.uint8, seed=4)
    build(np.stack([pixels, pixels]), tmp_path / "pair.ome.zarr", axes="cyx")
    options = {
        "channels": "0:red:0-255,1:#00ff00:0-255",
        "clock": "virtual",
        "latency": "30ms",
        "jitter": "200ms",
    }
    result = render(
        [tmp_path / "pair.ome.zarr"], ["pan"], size=(400, 300), options={**options, "stream": True}
    )
    partial = [f for f in result.report.frames if 0 < f.coverage.ideal < 1]
    assert partial, "the path must show tiles arriving, or this test shows nothing"
    for frame in result.frames:
        assert (frame[..., 0] == frame[..., 1]).all()


@pytest.mark.parametrize("options", [{}, {"interpolation": "linear", "colormap": "viridis", "opacity": 0.5}])
def test_shaders_are_built_before_a_frame_needs_them(
    pyramid: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Building them takes longer than three frames last: it is done while the first tiles are on their way."""
    path = tmp_path / "path.json"
    keys = [{"t_s": t, "x": 400 + 300 * t, "y": 400, "zoom": 1} for t in (0, 1)]
    path.write_text(json.dumps({"fps": 20, "keyframes": keys}))
    request = parse_request(
        [pyramid], [str(path)], {"clock": "virtual", "latency": "90ms", "size": "200x150", **options}
    )
    with Renderer(request) as renderer:
        frames = renderer.frames()
        first = next(frames)
        visual = renderer.scene.images[0].parts[0].visual
        assert first.report.tiles.drawn == 0
        assert visual.shader_builds == 1
        assert sum(frame.report.tiles.drawn for frame in frames) > 0
        assert visual.shader_builds == 1


def test_formats_share_the_smallest_atlas(tmp_path: Path) -> None:
    """One tile of each fits: the first page must not take what the other needs."""
    paths = []
    for number, dtype in enumerate((np.uint8, np.uint16)):
        paths.append(tmp_path / f"{number}.ome.zarr")
        build(noise((200, 200), dtype), paths[-1])
    options = {"atlas": "256KiB", "timeout": "5s"}
    result = render([*paths], ["fit"], size=(200, 200), options=options)
    assert result.report.frames[0].coverage.ideal == 1


def test_one_source_and_one_camera_need_no_list(tmp_path: Path) -> None:
    """A path would be taken letter by letter, an array row by row."""
    pixels = np.arange(60 * 50, dtype=np.uint16).reshape(50, 60)
    np.save(tmp_path / "a.npy", pixels)
    expected = render([tmp_path / "a.npy"], ["fit"], size=(60, 50)).frames[0]
    for source in (str(tmp_path / "a.npy"), tmp_path / "a.npy", pixels, place_of(tmp_path / "a.npy")):
        (frame,) = render(source, "fit", size=(60, 50)).frames
        np.testing.assert_array_equal(frame, expected)
