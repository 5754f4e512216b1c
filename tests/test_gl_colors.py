"""Colours: names, colormaps, labels, NaN, gamma, opacity; what the screen shows against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gl_scene import Stage, difference, tiles_of
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.render.gl.canvas import Canvas
from octree.render.gl.colors import colormap_values, label_colors, parse_color

RNG = np.random.default_rng(11)


def shown(canvas: Canvas, image: Any, **options: Any) -> Any:
    """One pixel per texel, (h, w, 4)."""
    height, width = image.shape[:2]
    plane = Lattice((LatticeLevel((height, width), (64, 64), (1.0, 1.0), (0.0, 0.0)),))
    stage = Stage(plane, [image], canvas, options=options)
    stage.put(tiles_of(plane, 0))
    return stage.frame(Region((0, 0), (height, width)), (width, height))


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("red", (1, 0, 0, 1)),
        (" White ", (1, 1, 1, 1)),
        ("#0f0", (0, 1, 0, 1)),
        ("#0f08", (0, 1, 0, 0x88 / 255)),
        ("#3366CC", (0.2, 0.4, 0.8, 1)),
        ("#3366cc80", (0.2, 0.4, 0.8, 0x80 / 255)),
        ("00ff00", (0, 1, 0, 1)),
        ("transparent", (0, 0, 0, 0)),
    ],
)
def test_colors_by_name_and_number(text: str, color: tuple[float, ...]) -> None:
    assert parse_color(text) == pytest.approx(color)


@pytest.mark.parametrize("text", ["", "reddish", "#12", "#12345", "#gggggg", "12"])
def test_an_unknown_color_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="no colour called"):
        parse_color(text)


def test_colormaps_that_vispy_takes() -> None:
    """matplotlib's by name, as vispy has it, and colormaps made by hand; a colour's name means the colour."""
    import matplotlib
    from vispy.color import Colormap

    at = np.linspace(0, 1, 256)
    assert np.abs(colormap_values("magma", at) - matplotlib.colormaps["magma"](at)).max() < 0.01
    assert colormap_values(Colormap(["#ff0000", "#0000ff"]), at[[0, -1]])[:, :3].tolist() == [
        [1, 0, 0],
        [0, 0, 1],
    ]
    assert colormap_values("pink", at[[0]]).tolist() == [[0, 0, 0, 1]]
    with pytest.raises(UsageError, match="no colormap"):
        colormap_values(5, at)  # type: ignore[arg-type] # what a user may do


@pytest.mark.parametrize(
    ("name", "full"), [("orange", (255, 165, 0)), ("pink", (255, 192, 203)), ("Orange", (255, 165, 0))]
)
def test_a_name_of_a_colour_and_of_a_colormap_is_the_colour(name: str, full: tuple[int, ...]) -> None:
    values = colormap_values(name, np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(values[:, :3] * 255, np.outer([0, 0.5, 1], full), atol=0.5)
    assert (values[:, 3] == 1).all()


def test_gray_is_the_grey_scale_and_no_colour() -> None:
    assert (colormap_values("gray", np.array([1.0])) == 1).all()


def test_an_unknown_colormap_names_similar_ones() -> None:
    with pytest.raises(UsageError, match="no colormap or colour") as caught:
        colormap_values("virids", np.zeros(1))
    assert "viridis" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["gray", "viridis", "hot", "hsl", "red", "#3366cc", "#ff000080"])
@pytest.mark.parametrize("gamma", [1.0, 0.4, 2.2])
def test_colormap_and_gamma(canvas: Canvas, name: str, gamma: float) -> None:
    image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    low, high = 3000.0, 60000.0
    frame = shown(canvas, image, clim=(low, high), colormap=name, gamma=gamma)
    value = np.clip((image.astype(float).ravel() - low) / (high - low), 0, 1) ** gamma
    color = colormap_values(name, value).reshape(64, 64, 4)
    # over black; vispy's maps are steep in places: a step of the table may show
    assert difference(frame, np.rint(color[..., :3] * color[..., 3:] * 255)) <= 2


def test_gray_shows_every_byte_as_it_is(canvas: Canvas) -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(shown(canvas, image, clim=(0, 255))[..., 0], image)


def test_limits_the_other_way_round_show_the_negative(canvas: Canvas) -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(shown(canvas, image, clim=(255, 0))[..., 0], 255 - image)


def test_a_narrow_window_far_from_zero(canvas: Canvas) -> None:
    image = np.arange(40000, 40256, dtype=np.uint16).reshape(16, 16)
    frame = shown(canvas, image, clim=(40000, 40255))
    assert difference(frame, np.repeat((image - 40000)[..., None], 3, 2)) == 0


def test_equal_limits_are_a_step(canvas: Canvas) -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(shown(canvas, image, clim=(7, 7))[..., 0], np.where(image > 7, 255, 0))


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_nan_has_its_own_color_and_infinities_are_ends(canvas: Canvas, interpolation: str) -> None:
    image = np.full((9, 9), 0.5, np.float32)
    image[1, 1], image[1, 7], image[7, 1] = np.nan, np.inf, -np.inf
    options = {"clim": (0, 1), "nan_color": (1, 0, 1, 1), "interpolation": interpolation}
    frame = shown(canvas, image, **options)
    assert frame[1, 1].tolist() == [255, 0, 255, 255]
    assert frame[1, 7, 0] == 255
    assert frame[7, 1, 0] == 0
    others = np.isfinite(image)  # at texels' centres, nothing of those three shows in their neighbours
    assert (frame[others] == [128, 128, 128, 255]).all()


def test_nan_is_transparent_unless_told(canvas: Canvas) -> None:
    canvas.background = (0.0, 0.0, 1.0, 1.0)
    image = np.full((8, 8), np.nan, np.float32)
    assert (shown(canvas, image)[..., :3] == [0, 0, 255]).all()


def test_floats_beyond_bytes(canvas: Canvas) -> None:
    image = np.linspace(-1e6, 1e6, 256, dtype=np.float32).reshape(16, 16)
    frame = shown(canvas, image, clim=(-1e6, 1e6))
    assert difference(frame, np.repeat(np.arange(256).reshape(16, 16, 1), 3, 2)) <= 1


def label_bytes(ids: Any) -> Any:
    """As the source of labels gives them: (h, w, 4) little-endian bytes."""
    return np.ascontiguousarray(ids.astype("<u4")).view(np.uint8).reshape(*ids.shape, 4)


LABELS = np.concatenate(
    [
        np.arange(1500),
        65521 * np.arange(50),
        65519 * np.arange(50),
        2 ** np.arange(32),
        2**32 - 1 - np.arange(50),
        RNG.integers(0, 2**32, 2414),
    ]
).reshape(64, 64)


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_labels_on_screen_are_those_of_numpy_to_the_bit(canvas: Canvas, interpolation: str) -> None:
    frame = shown(canvas, label_bytes(LABELS), labels=True, interpolation=interpolation)
    wanted = label_colors(LABELS)
    np.testing.assert_array_equal(frame[..., :3], wanted[..., :3])


def test_labels_are_never_mixed(canvas: Canvas) -> None:
    """Not even when linear interpolation is asked for: a mean of ids is another id."""
    ids = RNG.integers(1, 2**32, (8, 8))
    plane = Lattice((LatticeLevel((8, 8), (8, 8), (1.0, 1.0), (0.0, 0.0)),))
    options = {"labels": True, "interpolation": "linear"}
    stage = Stage(plane, [label_bytes(ids)], canvas, options=options)
    stage.put(tiles_of(plane, 0))
    frame = stage.frame(Region((0, 0), (8, 8)), (40, 40))
    np.testing.assert_array_equal(frame, np.kron(label_colors(ids), np.ones((5, 5, 1), np.uint8)))


def test_label_zero_shows_what_is_below(canvas: Canvas) -> None:
    canvas.background = (0.0, 1.0, 0.0, 1.0)
    for blending in ("translucent", "opaque"):
        frame = shown(canvas, label_bytes(np.zeros((4, 4), int)), labels=True, blending=blending)
        assert (frame[..., :3] == [0, 255, 0]).all()


def test_label_colors_are_stable_and_differ() -> None:
    # written down once: a change would change everybody's pictures
    assert label_colors(np.array([0, 1, 2, 3, 2**32 - 1])).tolist() == STABLE
    colors = label_colors(np.arange(1, 200)).astype(int)
    steps = np.abs(np.diff(colors[:, :3], axis=0)).max(axis=1)
    assert steps.min() > 60
    assert len({tuple(color) for color in colors.tolist()}) == 199


STABLE = [[0, 0, 0, 0], [24, 68, 171, 255], [150, 199, 80, 255], [199, 24, 178, 255], [80, 171, 137, 255]]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_label_colors_look_at_32_bits(number: int) -> None:
    color = label_colors(np.array([number, number - 2**32, number + 2**32]))
    assert (color == color[0]).all()


def test_opacity_over_a_background(canvas: Canvas) -> None:
    canvas.background = (0.0, 0.0, 1.0, 1.0)
    frame = shown(canvas, np.full((4, 4), 255, np.uint8), clim=(0, 255), colormap="red", opacity=0.25)
    assert frame[0, 0].tolist() == [64, 0, 191, 255]


def test_a_transparent_background_keeps_straight_colours(canvas: Canvas) -> None:
    canvas.background = (0.0, 0.0, 0.0, 0.0)
    image = np.full((4, 4), 255, np.uint8)
    frame = shown(canvas, image, clim=(0, 255), colormap="#ff8000", opacity=0.5)
    assert frame[0, 0].tolist() == [255, 128, 0, 128]
    whole = shown(canvas, image, clim=(0, 255))
    assert (whole == 255).all()


def test_channels_add_up(canvas: Canvas) -> None:
    image = np.full((4, 4), 200, np.uint8)
    plane = Lattice((LatticeLevel((4, 4), (4, 4), (1.0, 1.0), (0.0, 0.0)),))
    red = Stage(plane, [image], canvas, options={"clim": (0, 255), "colormap": "red", "blending": "additive"})
    green = Stage(
        plane, [image], canvas, options={"clim": (0, 400), "colormap": "#00ff00", "blending": "additive"}
    )
    for stage in (red, green):
        stage.put(tiles_of(plane, 0))
        stage.frame(Region((0, 0), (4, 4)), (4, 4))
    canvas.draw([red.visual, green.visual])
    assert canvas.read()[0, 0].tolist() == [200, 128, 0, 255]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 0),
        ("gamma", -1),
        ("gamma", float("nan")),
        ("opacity", 1.1),
        ("opacity", -0.1),
        ("clim", (0, float("nan"))),
        ("clim", (float("inf"), 1)),
        ("blending", "multiply"),
        ("interpolation", "cubic"),
        ("colormap", "no such map"),
    ],
)
def test_senseless_settings_are_refused(canvas: Canvas, name: str, value: Any) -> None:
    plane = Lattice((LatticeLevel((4, 4), (4, 4), (1.0, 1.0), (0.0, 0.0)),))
    stage = Stage(plane, [np.zeros((4, 4), np.uint8)], canvas)
    before = getattr(stage.visual, name)
    with pytest.raises(UsageError):
        setattr(stage.visual, name, value)
    assert getattr(stage.visual, name) == before
