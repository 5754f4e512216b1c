"""Which tiles meet a view, on one, two and three displayed axes, against a slow reference in exact arithmetic."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading_fakes import unless

from octree.pyramid.grid import BlockRange, Lattice, LatticeLevel, Region, lattice_of
from octree.pyramid.model import Axis, LevelInfo, PyramidSpec, TileKey
from octree.render.view.cover import cover_view, pixel_edges, rows_of
from octree.render.view.plan import plan_view


@st.composite
def lattices(draw: st.DrawFn, most: int = 40) -> Lattice:
    """One to three axes, each with its own factors, tiles, shifts; lengths rounded up or down."""
    axes, count = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    columns = []
    for _ in range(axes):
        length, tile = draw(st.integers(1, most)), draw(st.integers(2, 9))
        scale = draw(st.sampled_from([1.0, 0.1, 1 / 3]))  # of level 0, too: decimal scales do not add up
        up, shift = draw(st.sampled_from([math.ceil, math.floor])), draw(st.sampled_from([0.0, 0.25, -0.5]))
        column = [(length, tile, 1.0, 0.0)]
        for _ in range(count - 1):
            last = column[-1]
            factor = draw(st.sampled_from([1, 2, 3])) + (0.1 if scale != 1.0 else 0.0)
            now = last[2] * factor
            column.append((max(1, up(length / now)), tile, now, shift * now))
        columns.append(column)
    return Lattice(tuple(LatticeLevel(*zip(*level, strict=True)) for level in zip(*columns, strict=True)))


ROUNDING = 1e-6
"""Tiles. A thousandth of a tile of 256 would be 256 pixels of the screen at a zoom of 1000."""
OFFSETS = [0.0, *(sign * 10.0**power for sign in (1, -1) for power in (-12, -8, -5, -4, -3))]
"""Tiles: within the tolerance, and beyond it by what a hundred or a thousand times the tolerance would swallow."""


@st.composite
def views(draw: st.DrawFn, most: int = 40) -> tuple[Lattice, int, Region]:
    """A level, and a region whose ends often lie at its tiles' edges, or so near that only rounding or a close camera
    tells them apart."""
    lattice = draw(lattices(most))
    level = draw(st.integers(0, len(lattice.levels) - 1))
    info = lattice.levels[level]
    ends = []
    for axis in range(len(info.shape)):
        size = info.scale[axis] * info.tile[axis]
        at_edge = st.builds(
            lambda number, off, axis=axis, size=size: info.origin[axis] + size * (number + off),
            st.integers(-1, info.tile_counts[axis] + 1),
            st.sampled_from(OFFSETS),
        )
        pair = draw(st.tuples(*[st.one_of(at_edge, st.floats(-5, most + 5))] * 2))
        ends.append(sorted(pair))
    low, high = zip(*ends, strict=True)
    return lattice, level, Region(low, high)


def overlaps(lattice: Lattice, level: int, region: Region, grid: tuple[int, ...]) -> list[Fraction]:
    """Along each axis: how much of the visible region lies in what a tile answers for, in tiles. Exact: no rounding."""
    info, found = lattice.levels[level], []
    for axis, number in enumerate(grid):
        size = Fraction(info.scale[axis]) * info.tile[axis]
        low = max(Fraction(region.low[axis]), Fraction(0))
        high = min(Fraction(region.high[axis]), Fraction(lattice.levels[0].shape[axis]))
        start = Fraction(info.origin[axis]) + size * number
        # the outermost tiles answer for what lies beyond the level's own edges
        first = low if number == 0 else max(low, start)
        last = high if number == info.tile_counts[axis] - 1 else min(high, start + size)
        found.append((last - first) / size)
    return found


@settings(max_examples=400, deadline=None)
@given(views())
def test_tiles_meet_a_region_where_they_share_more_than_rounding(case: tuple[Lattice, int, Region]) -> None:
    lattice, level, region = case
    named = set(lattice.blocks_meeting(level, region).grids())
    if region.intersect(lattice.extent).is_empty:
        assert not named
        return
    assert named
    for grid in itertools.product(*map(range, lattice.levels[level].tile_counts)):
        shares = overlaps(lattice, level, region, grid)
        if all(share > 2 * ROUNDING for share in shares):
            assert grid in named, "a tile in view is not named"
        if any(share < -ROUNDING for share in shares):
            assert grid not in named, "a tile out of view is named"
    exist = set(itertools.product(*map(range, lattice.levels[level].tile_counts)))
    assert named <= exist


@settings(max_examples=200, deadline=None)
@given(views())
def test_plan_and_cover_name_the_same_tiles(case: tuple[Lattice, int, Region]) -> None:
    """There were three ways to find them, with two roundings: a tile was loaded that nothing drew."""
    lattice, level, view = case
    plan = plan_view(lattice, view, (1.0,) * len(view.low), fixed_level=level)
    cover = cover_view(lattice, view, level, lambda _: True)
    assert set(plan.wanted) == cover.drawn
    assert set(plan.wanted) == {TileKey(level, (), g) for g in lattice.blocks_meeting(level, view).grids()}


def test_the_tolerance_is_for_rounding_only() -> None:
    info = LatticeLevel((1024,), (256,), (1.0,), (0.0,))
    assert info.blocks_along(0, 256 - 1e-3, 300) == (0, 2)
    assert info.blocks_along(0, 256 - 1e-9, 300) == (1, 2)
    assert info.blocks_along(0, 0, 256 + 1e-3) == (0, 2)
    assert info.blocks_along(0, 0, 256 + 1e-9) == (0, 1)


@pytest.mark.parametrize(
    ("edge_px", "first"),
    [(2.5, 2), (2.5 + 1e-8, 2), (2.5 + 1e-5, 3), (2.5 - 1e-5, 2), (2.4, 2), (2.6, 3)],
)
@pytest.mark.parametrize("zoom", [0.01, 1.0, 1000.0])
def test_a_pixel_belongs_to_what_holds_its_centre(edge_px: float, first: int, zoom: float) -> None:
    """But for rounding: a hundred-thousandth of a pixel is none."""
    view = Region((0.0, 0.0), (10 / zoom, 10 / zoom))
    edges = pixel_edges(rows_of([Region((edge_px / zoom, 0.0), view.high)]), view, (10, 10))
    assert edges.tolist() == [[first, 0, 10, 10]]


@settings(max_examples=150, deadline=None)
@given(views(24), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_every_point_belongs_to_exactly_one_on_any_number_of_axes(
    case: tuple[Lattice, int, Region], seed: int, share: float
) -> None:
    lattice, level, view = case

    def resident(key: TileKey) -> bool:
        return hash((seed, key)) % 1000 < share * 1000

    def failed(key: TileKey) -> bool:
        return hash((seed, key, "failed")) % 5 == 0

    cover = cover_view(lattice, view, level, resident, failed)
    visible, axes = view.intersect(lattice.extent), len(view.low)
    parts = np.concatenate([cover.quads.dest, rows_of(cover.missing, axes), rows_of(cover.failed, axes)])
    if visible.is_empty:
        assert not len(parts)
        return
    low, high = parts[:, :axes], parts[:, axes:]
    assert (high - low).prod(axis=1).sum() == pytest.approx(visible.volume)
    for point in np.random.default_rng(seed).uniform(visible.low, visible.high, (20, axes)):
        if (point < visible.high).all():  # of the least number there is numpy draws the end, too
            assert ((low <= point) & (point < high)).all(axis=1).sum() == 1
    assert all(resident(key) for key in cover.drawn)
    # what a quad takes of its tile lies where the tile lies
    for key, source, dest in zip(cover.quads.keys, cover.quads.source, cover.quads.dest, strict=True):
        info, place = lattice.levels[key.level], lattice.tile_region(key.level, key.grid)
        back = np.array(place.low) + source[:axes] * info.scale
        np.testing.assert_allclose(back, dest[:axes], atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(views(), st.integers(1, 30), st.floats(0, 1), st.integers(0, 1000))
def test_a_plan_on_any_number_of_axes_names_tiles_there_are(
    case: tuple[Lattice, int, Region], room: int, margin: float, seed: int
) -> None:
    lattice, level, view = case
    axes = len(view.low)

    def known(key: TileKey) -> bool:
        return hash((key, seed)) % 3 == 0

    plan = plan_view(
        *(lattice, view, (1.0,) * axes),
        fixed_level=level,
        max_tiles=room,
        lacking=unless(known),
        prefetch_margin=margin,
        motion=(1.5,) * axes,
    )
    assert len(set(plan.wanted)) == len(plan.wanted) <= room
    assert bool(plan.wanted) != view.intersect(lattice.extent).is_empty
    assert {key.level for key in plan.wanted} <= {plan.level}
    assert not {*plan.stand_ins, *plan.prefetch} & set(plan.wanted)
    assert all(key.level > plan.level for key in plan.stand_ins)
    for key in (*plan.wanted, *plan.stand_ins, *plan.prefetch):
        counts = lattice.levels[key.level].tile_counts
        assert all(0 <= number < count for number, count in zip(key.grid, counts, strict=True))
        assert min(lattice.tile_shape(key.level, key.grid)) > 0


def test_the_middle_of_a_volume_comes_first_and_is_what_is_left_without_room() -> None:
    lattice = Lattice((LatticeLevel((50, 70, 90), (10, 10, 10), (1.0,) * 3, (0.0,) * 3),))
    plan = plan_view(lattice, lattice.extent, (1, 1, 1))
    assert plan.wanted[0].grid == (2, 3, 4)
    assert len(plan.wanted) == 5 * 7 * 9
    few = plan_view(lattice, lattice.extent, (1, 1, 1), max_tiles=40)
    assert few.degraded
    assert 20 <= len(few.wanted) <= 40
    assert few.wanted[0].grid == (2, 3, 4)
    spread = [max(g) - min(g) + 1 for g in zip(*(key.grid for key in few.wanted), strict=True)]
    assert math.prod(spread) == len(few.wanted)
    assert spread == sorted(spread), "as long on each axis as its share of the view"


def test_regions() -> None:
    a, b = Region((0.0, 0.0, 0.0), (4.0, 5.0, 6.0)), Region((1.0, -2.0, 3.0), (9.0, 2.0, 5.0))
    assert a.intersect(b) == Region((1.0, 0.0, 3.0), (4.0, 2.0, 5.0))
    assert a.intersect(b).volume == 12.0
    assert Region((1.0, 2.0), (1.0, 5.0)).is_empty
    assert Region((1.0, math.nan), (2.0, 5.0)).is_empty
    assert Region((5.0, 5.0), (3.0, 3.0)).volume == 0.0
    assert a.centre == (2.0, 2.5, 3.0)
    assert a.grown((1, 2, 3)) == Region((-1, -2, -3), (5, 7, 9))
    assert a.shifted((1, 2, 3)) == Region((1, 2, 3), (5, 7, 9))
    assert (b.y0, b.x0, b.y1, b.x1) == (-2, 3, 2, 5)


def test_block_ranges() -> None:
    blocks = BlockRange((1, 2, 0), (3, 4, 1))
    assert list(blocks.grids()) == [(1, 2, 0), (1, 3, 0), (2, 2, 0), (2, 3, 0)]
    assert (blocks.size, blocks.shape) == (4, (2, 2, 1))
    assert BlockRange((3, 0), (1, 5)).size == 0
    assert list(BlockRange((3, 0), (1, 5)).grids()) == []


def test_a_lattice_over_other_axes_of_the_same_image() -> None:
    levels = tuple(
        LevelInfo(
            str(k), (8 // 2**k, 100, 200 // 2**k), (4, 50, 64), None, scale, tuple(s / 2 for s in scale)
        )
        for k, scale in enumerate([(2.0, 0.5, 0.5), (4.0, 0.5, 1.0)])
    )
    spec = PyramidSpec((Axis("z"), Axis("y"), Axis("x")), np.dtype("uint8"), levels)
    across = lattice_of(spec, displayed="zx")
    assert across.levels[1] == LatticeLevel((4, 100), (4, 64), (2.0, 2.0), (0.0, 0.0))
    assert lattice_of(spec, displayed="zyx").extent == Region((0, 0, 0), (8, 100, 200))
    assert lattice_of(spec, 32).levels[0].tile == (32, 32)
    with pytest.raises(ValueError, match="axes among"):
        lattice_of(spec, displayed="tyx")
