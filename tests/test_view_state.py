"""Positions on the axes that are not displayed: what is asked, and what it is on each level of an image."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octree.pyramid import build
from octree.pyramid.errors import UsageError
from octree.pyramid.model import Axis, LevelInfo, PyramidSpec
from octree.render.frames import Renderer
from octree.render.request import parse_request
from octree.render.view.state import Slicing, resolve, whole_position


def spec(axes: str, shapes: list[tuple[int, ...]], *, rgb: bool = False, shift: float = 0.5) -> PyramidSpec:
    """Scales that make the levels as long as level 0; ``shift`` 0.5: a voxel's centre is that of its block."""
    levels = []
    for number, shape in enumerate(shapes):
        scale = tuple(2.5 * whole / own for whole, own in zip(shapes[0], shape, strict=True))
        corner = tuple((s - 2.5) * shift for s in scale)
        levels.append(LevelInfo(str(number), shape, shape, None, scale, corner))
    return PyramidSpec(tuple(map(Axis, axes)), np.dtype("uint8"), tuple(levels), rgb=rgb)


@pytest.mark.parametrize(
    ("axes", "wishes", "position"),
    [
        ("yx", {}, ()),
        ("zyx", {}, (0,)),
        ("tczyx", {"z": 3, "t": 1}, (1, 0, 3)),
        ("tczyx", {"c": 2}, (0, 2, 0)),
    ],
)
def test_positions_stand_in_the_order_of_axes(
    axes: str, wishes: dict[str, int], position: tuple[int, ...]
) -> None:
    image = spec(axes, [tuple(range(4, 4 + len(axes)))])
    assert resolve(Slicing.of(wishes), image).position == position


def test_what_an_image_lacks_is_refused_unless_it_may_be_anothers() -> None:
    image = spec("czyx", [(3, 8, 9, 9)], rgb=True)
    assert resolve(Slicing.of({"z": 7}), image).position == (7,)
    for wrong in ({"t": 0}, {"c": 0}):
        with pytest.raises(UsageError, match="there is no axis"):
            resolve(Slicing.of(wrong), image)
        assert resolve(Slicing.of({**wrong, "z": 2}), image, lenient=True).position == (2,)
    for lenient in (False, True):
        with pytest.raises(UsageError, match="y is displayed") as refused:
            resolve(Slicing.of({"y": 0}), image, lenient=lenient)
        assert refused.value.hint == "axes to choose on: z"
    for outside, lenient in ((-1, True), (-1, False), (8, False)):
        with pytest.raises(UsageError, match=f"z={outside} lies outside the image") as refused:
            resolve(Slicing.of({"z": outside}), image, lenient=lenient)
        assert refused.value.hint == "z runs from 0 to 7"
    assert not resolve(Slicing.of({"z": 7}), image, lenient=True).beyond
    assert resolve(Slicing.of({"z": 8}), image, lenient=True).beyond


@given(st.integers(1, 60), st.lists(st.integers(2, 4), max_size=3), st.booleans(), st.data())
def test_a_levels_own_voxel_holds_the_middle_of_the_position(
    depth: int, factors: list[int], up: bool, data: st.DataObject
) -> None:
    depths, factor, levels = [depth], 1, []
    for step in factors:
        factor *= step
        depths.append(max(1, -(-depth // factor) if up else depth // factor))
    for number, own in enumerate(depths):
        scale = float(np.prod(factors[:number], initial=1))
        levels.append(LevelInfo("", (own, 9, 9), (1, 9, 9), None, (scale, 1, 1), ((scale - 1) / 2, 0, 0)))
    image = PyramidSpec(tuple(map(Axis, "zyx")), np.dtype("uint8"), tuple(levels))
    level, position = data.draw(st.integers(0, len(depths) - 1)), data.draw(st.integers(0, depth - 1))
    section = resolve(Slicing.of({"z": position}), image)
    (voxel,) = section.own_index(image, level)
    scale = int(levels[level].scale[0])
    # voxel k is made of level-0 planes [k * scale, (k + 1) * scale); a level that ends early stands in with its last
    assert voxel == min(position // scale, depths[level] - 1)
    assert section.first_position(image, (voxel,), level) == (voxel * scale,)


@pytest.mark.usefixtures("gl_info")
def test_reports_and_baselines_name_the_positions_that_were_asked_for(tmp_path: Path) -> None:
    """Whatever the level, and with the channel of the first part."""
    data = np.random.default_rng(1).integers(1, 255, (16, 200, 200)).astype(np.uint8)
    path = tmp_path / "p.ome.zarr"
    build(data, path, axes="zyx", voxel_size={"z": 1, "y": 1, "x": 1}, tile=64, shard=0)
    for broken in (path / "2").rglob("*"):
        if broken.is_file() and broken.name != "zarr.json":
            broken.write_bytes(b"\xff" * 40)
    request = parse_request([path], ["fit"], {"index": "z=7", "clim": "0,255", "size": "50x50"})
    with Renderer(request) as renderer:
        (frame,) = renderer.frames()
        failures = renderer.report().failures
    assert frame.report.level == 2
    assert json.dumps([failure["key"] for failure in failures]) == json.dumps(
        [{"level": 2, "index": [7], "grid": [0, 0]}]
    )
    request = parse_request(
        [path], ["x=100,y=100,zoom=0.5"], {"index": "z=7", "clim": "0,255", "size": "50x50"}
    )
    with Renderer(request) as renderer:
        (frame,) = renderer.frames()
    assert frame.tile_set()["level"] == 1
    assert {tuple(index) for _, index, _ in frame.tile_set()["layers"][0]} == {(7,)}


@pytest.mark.usefixtures("gl_info")
def test_layers_of_channels_are_named_by_their_first(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(1, 255, (2, 3, 40, 40)).astype(np.uint8)
    build(data, tmp_path / "p.ome.zarr", axes="tcyx")
    options = {"index": "t=1", "channels": "2:red,0:green", "size": "40x40"}
    with Renderer(parse_request([tmp_path / "p.ome.zarr"], ["fit"], options)) as renderer:
        (frame,) = renderer.frames()
    assert frame.tile_set()["layers"] == [[[0, [1, 2], [0, 0]]]]
    assert frame.report.tiles.wanted == 2


@pytest.mark.parametrize("wrong", ["a", "3", math.nan, math.inf, None, True, [1], 1j, np.zeros(2)])
def test_a_position_is_a_finite_number(wrong: Any) -> None:
    with pytest.raises(UsageError, match="z must be a position"):
        whole_position("z", wrong)


def test_a_position_between_planes_is_the_one_below() -> None:
    positions = [3, np.int64(3), 3.0, 3.9, np.float32(3.5)]
    assert [whole_position("z", at) for at in positions] == [3] * 5
    assert whole_position("z", -0.5) == -1
