"""Something is shown as soon as anything is known: no hole where a coarser tile is in memory, whatever the view."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading_fakes import unless
from test_cli_render import octree

from octree.pyramid import build
from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.config import default_settings
from octree.render.frames import render
from octree.render.view.cover import cover_view
from octree.render.view.plan import plan_view
from octree.render.view.stand_ins import FEW, stand_ins_at_hand


def pyramid(
    height: int, width: int, levels: int, *, tile: int = 64, factor: int = 2, up: bool = True
) -> Lattice:
    """``up``: lengths are rounded up, as a build does, or down, as others do."""
    whole = math.ceil if up else math.floor
    return Lattice(
        tuple(
            LatticeLevel(
                (max(1, whole(height / factor**k)), max(1, whole(width / factor**k))),
                (tile, tile),
                (float(factor**k), float(factor**k)),
                (0.0, 0.0),
            )
            for k in range(levels)
        )
    )


planes = st.builds(
    pyramid,
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 8),
    tile=st.sampled_from([16, 64, 100]),
    factor=st.sampled_from([2, 3]),
    up=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(
    plane=planes,
    place=st.tuples(st.floats(-0.1, 1.1), st.floats(-0.1, 1.1)),
    zoom=st.floats(-9, 5).map(lambda power: 2.0**power),
    size_px=st.sampled_from([(16, 16), (64, 48), (320, 240)]),
    share=st.sampled_from([0.05, 0.3, 0.8]),
    only_root=st.booleans(),
    going_on=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_no_hole_where_a_coarser_tile_is_in_memory(
    plane: Lattice,
    place: tuple[float, float],
    zoom: float,
    size_px: tuple[int, int],
    share: float,
    only_root: bool,
    going_on: bool,
    seed: int,
) -> None:
    """Random cameras, levels and residencies. The atlas holds only what the plan names, and that is drawn; were every
    coarser tile that is in memory in the atlas, there would be no fewer holes."""
    y, x = place[0] * plane.extent.y1, place[1] * plane.extent.x1
    half_h, half_w = size_px[1] / zoom / 2, size_px[0] / zoom / 2
    view = Region((y - half_h, x - half_w), (y + half_h, x + half_w))

    def known(key: TileKey) -> bool:
        if only_root:
            return key.level == len(plane.levels) - 1
        return random.Random(repr((seed, key))).random() < share

    plan = plan_view(plane, view, (zoom, zoom), lacking=unless(known), max_tiles=500)
    levels = len(plane.levels) if going_on else 0
    at_hand = stand_ins_at_hand(plane, plan, view, unless(known), on_their_way=levels)
    named = {*at_hand, *plan.stand_ins, *plan.wanted}

    def holes(resident) -> float:
        cover = cover_view(plane, view, plan.level, resident, size_px=size_px)
        return cover.coverage.missing

    assert holes(lambda key: key in named and known(key)) == pytest.approx(
        holes(lambda key: (key.level > plan.level or key in named) and known(key)), abs=1e-9
    )
    assert all(key.level > plan.level for key in at_hand)
    assert [key.level for key in at_hand] == sorted((key.level for key in at_hand), reverse=True)
    assert len(set(at_hand)) == len(at_hand)
    if not going_on:
        assert all(known(key) for key in at_hand)


def test_the_coarsest_level_stays_named_when_it_is_known_and_few_tiles_are_wanted() -> None:
    """Six levels, one wanted tile: the list of stand-ins ended with the fourth, and the plan asks for what is not
    known only."""
    plane = pyramid(64 * 2**5, 64 * 2**5, 6)
    view, root = Region((8, 8), (40, 40)), TileKey(5, (), (0, 0))

    def known(key: TileKey) -> bool:
        return key == root

    plan = plan_view(plane, view, (4, 4), lacking=unless(known))
    assert len(plan.wanted) == 1
    assert root not in plan.stand_ins
    assert stand_ins_at_hand(plane, plan, view, unless(known))[0] == root
    assert stand_ins_at_hand(plane, plan, view, unless(known), on_their_way=6)[0] == root


def test_the_backdrop_stays_while_nothing_is_missing() -> None:
    plane = pyramid(64 * 2**5, 64 * 2**5, 6)
    view = Region((8, 8), (40, 40))
    plan = plan_view(plane, view, (4, 4), lacking=unless(lambda key: True))
    assert stand_ins_at_hand(plane, plan, view, unless(lambda key: True)) == (TileKey(5, (), (0, 0)),)


def test_what_may_arrive_is_named_while_it_is_little() -> None:
    plane = pyramid(64 * 2**6, 64 * 2**6, 7)
    view = Region((0, 0), (64 * 8, 64 * 8))
    plan = plan_view(plane, view, (1, 1))
    named = stand_ins_at_hand(plane, plan, view, unless(lambda key: False), on_their_way=7)
    assert [key.level for key in named] == [6, 5, 4, 3, *[2] * 4, *[1] * 16]
    small = plan_view(plane, Region((0, 0), (32, 32)), (1, 1))
    named = stand_ins_at_hand(
        plane, small, Region((0, 0), (32, 32)), unless(lambda key: False), on_their_way=7
    )
    assert len(named) == FEW


# whole runs


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven levels of 32-pixel tiles."""
    dest = tmp_path_factory.mktemp("stand ins") / "deep.ome.zarr"
    build(np.random.default_rng(3).integers(1, 255, (2000, 2048), np.uint8), dest, tile=32)
    return dest


def write_path(path: Path, seed: int) -> Path:
    """A camera that wanders near one place at zooms of 2 and above."""
    dice = random.Random(seed)
    x, y = dice.uniform(100, 1900), dice.uniform(100, 1900)
    keys = [
        {
            "t_s": 0.2 * step,
            "x": x + dice.uniform(-90, 90),
            "y": y + dice.uniform(-90, 90),
            "zoom": dice.choice([2, 2, 4, 8]),
        }
        for step in range(4)
    ]
    path.write_text(json.dumps({"fps": 30, "keyframes": keys}))
    return path


@pytest.mark.usefixtures("gl_info")
@pytest.mark.parametrize("seed", range(6))
def test_no_frame_has_a_hole_once_the_whole_image_is_there(deep: Path, tmp_path: Path, seed: int) -> None:
    options = {"clim": "0,255", "clock": "virtual", "latency": "40ms", "jitter": "20ms", "seed": str(seed)}
    camera = write_path(tmp_path / "wander.json", seed)
    result = render([deep], [str(camera)], size=(48, 48), options=options, settings=default_settings())
    frames = result.report.frames
    first = next(n for n, frame in enumerate(frames) if frame.coverage.missing == 0)
    assert frames[first].t_ms <= 100, "one read of at most 60 ms, and the frame after it"
    assert [frame.coverage.missing for frame in frames[first:]] == [0] * (len(frames) - first)


def test_a_streamed_run_reports_no_hole_after_the_first_tile(deep: Path, tmp_path: Path) -> None:
    """The same as a user meets it. The root alone covers the view, and it is the first to be asked for."""
    report = tmp_path / "report.json"
    done = octree(
        *("render", deep, "--camera", write_path(tmp_path / "wander.json", 2), "--size", "48x48", "--stream"),
        *("--clock", "virtual", "--latency", "60ms", "--report", report, "-o", tmp_path / "f-{index:03}.png"),
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(report.read_text())
    frames = document["frames"]
    loaded = next(n for n, frame in enumerate(frames) if frame["tiles"]["loaded"])
    assert loaded > 0
    assert all(frame["coverage"]["missing"] == 0 for frame in frames[loaded:])
    assert document["totals"]["full_coverage_ms"] == frames[loaded]["t_ms"] < 100
