"""Values of 32 and 64 bits far from 0: what is shown between two limits is what a slow numpy says."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import octree
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.pyramid import build
from octree.pyramid.errors import OctreeWarning
from octree.render.frames import render
from octree.render.tiles.texels import EXACT_STEPS, NO_BASE, base_for, lost_steps, serves, to_texels

pytestmark = pytest.mark.usefixtures("gl_info")
INTEGERS = ["i4", "u4", "i8", "u8"]
SMALL = ["?", "u1", "u2", "i1", "i2", "f2"]


def expected(values: Any, low: float, high: float) -> Any:
    """Grey levels, as exact fractions: no float rounds anything but the last step. NaN of one that is a tie."""
    grey = np.empty(values.shape)
    for place, value in np.ndenumerate(values):
        part = (Fraction(value.item()) - Fraction(low)) / (Fraction(high) - Fraction(low))
        level = min(max(part, Fraction(0)), Fraction(1)) * 255
        grey[place] = math.nan if abs(level % 1 - Fraction(1, 2)) < Fraction(1, 2000) else round(level)
    return grey


def assert_shown(values: Any, low: float, high: float, **options: Any) -> None:
    frame = render(
        [values], ["fit"], size=values.shape[::-1], options={"clim": f"{low!r},{high!r}", **options}
    ).frames[0]
    grey = expected(values, low, high)
    told = ~np.isnan(grey)
    assert told.mean() > 0.5
    assert (frame[..., 0][told] == grey[told]).all()


@pytest.mark.parametrize(
    ("dtype", "low", "width"),
    [
        ("i4", 2_000_000_000, 255),
        ("i4", -2_147_483_648, 1000),
        ("u4", 4_000_000_000, 2**24),
        ("i8", 1_700_000_000_000_000_000, 600),
        ("i8", -(2**62), 2**20),
        ("u8", 2**63, 2**24),
        ("f4", 1e6, 16.0),
        ("f8", 1e9, 0.5),
        ("f8", -1e15, 40.0),
        ("f8", 3e-60, 1e-60),
        ("f8", 1e200, 1e199),
        ("c16", 1e9, 0.5),
    ],
)
@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_a_window_far_from_zero_is_shown_as_it_is(
    dtype: str, low: float, width: float, interpolation: str
) -> None:
    ramp = np.linspace(-0.1, 1.1, 900).reshape(30, 30)
    if dtype[0] in "iu":
        info = np.iinfo(dtype)
        steps = [min(max(int(low) + int(part * width), info.min), info.max) for part in ramp.ravel()]
        values = np.array(steps, dtype).reshape(ramp.shape)
    else:
        values = (low + ramp * width).astype(dtype)
    magnitudes = np.abs(values) if dtype[0] == "c" else values
    frame = render(
        [values],
        ["fit"],
        size=(30, 30),
        options={"clim": f"{float(low)!r},{float(low) + width!r}", "interpolation": interpolation},
    ).frames[0]
    grey = expected(magnitudes, float(low), float(low) + width)
    told = ~np.isnan(grey)
    assert (frame[..., 0][told] == grey[told]).all()
    assert len(np.unique(frame[..., 0])) > 200


def test_channels_have_windows_of_their_own() -> None:
    """Each far from the other: an offset for each."""
    ramp = np.arange(900).reshape(30, 30)
    stack = np.stack([ramp + 10**9, ramp - 2 * 10**9]).astype(np.int32)[None, :, None]
    frame = render(
        [stack], ["fit"], size=(30, 30),
        options={"channels": "0:red:1000000000-1000000899,1:#00ff00:-2000000000--1999999101"},
    ).frames[0]  # fmt: skip
    grey = expected(ramp, 0, 899)
    told = ~np.isnan(grey)
    for sample in (0, 1):
        assert np.abs(frame[..., sample][told] - grey[told]).max() <= 1  # colours come from a table


def test_auto_contrast_far_from_zero() -> None:
    assert (
        len(np.unique(render([np.arange(10**9, 10**9 + 900).reshape(30, 30)], size=(30, 30)).frames[0])) > 200
    )


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(INTEGERS), st.data())
def test_texels_of_a_window_of_24_bits_are_exact(dtype: str, data: st.DataObject) -> None:
    """Wherever the window lies, between limits that a float64 can say."""
    info = np.iinfo(dtype)
    low = float(data.draw(st.integers(info.min, info.max)))
    width = data.draw(st.integers(1, EXACT_STEPS))
    high = float(int(low) + width)
    inside = st.integers(max(int(low), info.min), max(min(int(high), info.max), info.min))
    if not info.min <= int(low) <= min(int(high), info.max):
        return
    values = np.array([data.draw(inside) for _ in range(5)], dtype)
    base = base_for(values.dtype, (low, high))
    texels = to_texels(values[None], labels=False, rgb=False, base=base)[0]
    assert texels.dtype == np.float32
    offset = int(base.offset)
    if int(high) - int(low) <= EXACT_STEPS:
        assert [int(texel) for texel in texels] == [int(value) - offset for value in values]
    outside = np.array([info.min, info.max], dtype)
    ends = to_texels(outside[None], labels=False, rgb=False, base=base)[0]
    if info.min < int(low):
        assert ends[0] < low - base.offset
    if info.max > int(high):
        assert ends[1] > high - base.offset


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["f4", "f8"]),
    st.floats(-1e12, 1e12),
    st.floats(1e-6, 1e9),
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
)
def test_floats_are_off_by_no_more_than_their_type_and_24_bits(
    dtype: str, low: float, width: float, parts: list[float]
) -> None:
    high = low + width
    if not low < high:
        return
    values = np.array([low + part * width for part in parts], dtype)
    offset, scale = base = base_for(values.dtype, (low, high))
    texels = to_texels(values[None], labels=False, rgb=False, base=base)[0]
    for texel, value in zip(texels, values, strict=True):
        meant = (Fraction(float(value)) - Fraction(offset)) * Fraction(scale)
        reach = max(abs(meant), Fraction(width) * Fraction(scale))
        assert abs(Fraction(float(texel)) - meant) <= reach * Fraction(1, 2**23)


def test_small_types_are_uploaded_as_they_are() -> None:
    for dtype in SMALL:
        assert base_for(np.dtype(dtype), (1e5, 2e5)) == NO_BASE
    assert base_for(np.dtype("i8"), (0, 1000)) == NO_BASE
    assert base_for(np.dtype("u4"), (4e9, 4.1e9), labels=True) == NO_BASE


def test_what_is_lost_beyond_24_bits_is_said(tmp_path: Path) -> None:
    assert lost_steps(np.dtype("u4"), (0, 2**24)) == 1
    assert lost_steps(np.dtype("u4"), (0, 2**24 + 1)) == 2
    assert lost_steps(np.dtype("i8"), (-1e300, 1e300)) == 2**40
    assert lost_steps(np.dtype("u2"), (0, 1e9)) == lost_steps(np.dtype("f8"), (0, 1e9)) == 1
    pixels = np.linspace(0, 2**32 - 1, 900).astype(np.uint32).reshape(30, 30)
    with pytest.warns(OctreeWarning, match="less than 256"):
        assert_shown(pixels, 0.0, 2.0**32 - 1)
    build(pixels, tmp_path / "a.zarr")
    run = ["render", tmp_path / "a.zarr", "--camera", "fit", "--size", "30x30", "-o", tmp_path / "a.png"]
    wide = octree(*run, "--clim", "0,4294967295")
    assert wide.returncode == 0
    assert "warning: " in wide.stderr
    assert "24 bits" in wide.stderr
    assert octree(*run, "--clim", "4000000000,4000001000").stderr == ""


def test_worker_processes_make_the_same_texels(tmp_path: Path) -> None:
    from dataclasses import replace

    from octree.render.config import PoolSettings, default_settings

    pixels = np.arange(10**9, 10**9 + 900).reshape(30, 30)
    build(pixels, tmp_path / "a.zarr")
    usual = default_settings()
    pools = ((0, PoolSettings(num_workers=1, use_processes=True)),)
    options = {"clim": "1000000000,1000000899"}
    frames = [
        render([tmp_path / "a.zarr"], size=(30, 30), options=options, settings=each).frames[0]
        for each in (usual, replace(usual, loader=replace(usual.loader, pools=pools)))
    ]
    assert (frames[0] == frames[1]).all()
    assert len(np.unique(frames[0])) > 200


# limits that are set later


WINDOWS: dict[str, list[tuple[float, float]]] = {
    "i4": [(0, 899), (2e9, 2e9 + 899), (-2e9, -2e9 + 899), (2e9 + 100, 2e9 + 300)],
    "i8": [(2.0**62, 2.0**62 + 8192), (1.7e18, 1.7e18 + 900)],
    "f8": [(1e9, 1e9 + 0.5), (-3e5, -3e5 + 2), (0, 1)],
    "f4": [(0, 1), (1e6, 1e6 + 16)],
}


@pytest.mark.parametrize("dtype", WINDOWS)
def test_limits_set_far_away_on_a_node_show_what_lies_between_them(dtype: str) -> None:
    """Not in 24 bits from where they were at first; and another node of the same image stays as it is."""
    from test_pipeline import settings_of
    from vispy import scene

    from octree.render import Pipeline, TiledImage

    windows = WINDOWS[dtype]
    pixels = np.zeros((len(windows) * 30, 30), dtype)
    for number, (low, high) in enumerate(windows):
        steps = np.linspace(0, high - low, 900).reshape(30, 30)
        part = int(low) + steps.astype("i8") if dtype[0] == "i" else low + steps
        pixels[30 * number : 30 * number + 30] = part
    with scene.SceneCanvas(size=(34, 34), show=False) as canvas, Pipeline(settings_of(64)) as pipeline:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        view.camera.flip = (False, True, False)
        first = f"{windows[0][0]!r},{windows[0][1]!r}"
        node, other = (TiledImage(pixels, parent=view.scene, clim=first, pipeline=pipeline) for _ in range(2))
        tokens = {node.layers[0].face.token}
        for number in [*range(len(windows)), 0]:
            view.camera.rect = (-2, 30 * number - 2, 34, 34)
            node.visuals[0].clim = windows[number]
            for shown, hidden in ((node, other), (other, node)) if number == 0 else ((node, other),):
                shown.visible, hidden.visible = True, False
                assert node.settle(timeout_s=20)
                assert other.settle(timeout_s=20)
                frame = canvas.render()[2:-2, 2:-2, 0]
                grey = expected(pixels[30 * number : 30 * number + 30], *windows[number])
                told = ~np.isnan(grey)
                assert told.mean() > 0.5
                assert (frame[told] == grey[told]).all()
                assert len(np.unique(frame)) > 150
            tokens.add(node.layers[0].face.token)
        assert len(tokens) > 1
        assert len(node.layers[0].source.faces) <= 2, "what nobody shows is forgotten"


def test_what_is_shown_stays_until_texels_for_new_limits_are_there() -> None:
    """And is no reload when the limits move a little."""
    from test_live_slices import pipeline_of
    from vispy import scene

    from octree.render import TiledImage

    pixels = np.full((300, 300), 10**9 + 50, np.int32)
    with scene.SceneCanvas(size=(60, 40), show=False) as canvas, pipeline_of(100) as pipeline:
        view = canvas.central_widget.add_view(camera=scene.PanZoomCamera(aspect=1))
        node = TiledImage(pixels, parent=view.scene, clim="0,1000", pipeline=pipeline)
        view.camera.rect = (100, 100, 60, 40)
        assert node.settle(timeout_s=20)
        node.visuals[0].clim = (1e9, 1e9 + 100)
        before = pipeline.loader.stats().tiles_read
        seen = set()
        for _ in range(20):
            node.turn()
            seen.add(int(canvas.render()[20, 30, 0]))
            pipeline.loader.wait_until(pipeline.clock.now_ms() + 16)
        assert seen <= {127, 128, 163}, "in the old texels it is 10^9 + 64"
        assert pipeline.loader.stats().tiles_read > before
        assert int(canvas.render()[20, 30, 0]) in (127, 128)
        for low in range(0, 50_000, 1000):
            node.visuals[0].clim = (1e9 - low, 1e9 - low + 100)
            node.turn()
        assert pipeline.loader.settled(prefetch=True)
        node.visuals[0].clim = (0, 2.0**31)
        with pytest.warns(OctreeWarning, match="less than 128"):
            node.turn()


@pytest.mark.parametrize("dtype", ["u4", "i8", "f4", "f8"])
def test_a_base_serves_windows_near_it(dtype: str) -> None:
    kind = np.dtype(dtype)
    here = (1e9, 1e9 + 1000)
    base = base_for(kind, here)
    assert serves(base, kind, here)
    assert serves(base, kind, (1e9 + 10, 1e9 + 900))
    assert not serves(base, kind, (3e9, 3e9 + 1000))
    assert not serves(NO_BASE, kind, here)
    assert serves(NO_BASE, kind, (0, 1e9))
    assert serves(NO_BASE, np.dtype("u2"), here)
    assert serves(NO_BASE, kind, here, labels=True)
