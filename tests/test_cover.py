"""The cover: each part of the visible image belongs to exactly one tile, and coverage says which."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.view.cover import Cover, cover_view, rows_of


def plane_of_levels(shape: tuple[int, int], factors: list[int], tile: int = 8, shift: float = 0.0) -> Lattice:
    levels, scale = [LatticeLevel(shape, (tile, tile), (1.0, 1.0), (0.0, 0.0))], 1
    for factor in factors:
        scale *= factor
        size = (math.ceil(shape[0] / scale), math.ceil(shape[1] / scale))
        levels.append(LatticeLevel(size, (tile, tile), (float(scale),) * 2, (shift * scale,) * 2))
    return Lattice(tuple(levels))


def everything(_tile: TileKey) -> bool:
    return True


def nothing(_tile: TileKey) -> bool:
    return False


def only(*tiles: tuple[int, int, int]) -> Callable[[TileKey], bool]:
    """A residency of (level, row, col)."""
    return lambda key: (key.level, *key.grid) in tiles


PLANE = plane_of_levels((32, 32), [2, 2])
ALL = Region((0, 0), (32, 32))


def drawn(cover: Cover) -> list[tuple[int, int, int]]:
    return [(key.level, *key.grid) for key in cover.quads.keys]


def test_ideal_tiles_when_they_are_there() -> None:
    cover = cover_view(PLANE, Region((0, 0), (16, 8)), 0, everything)
    assert drawn(cover) == [(0, 0, 0), (0, 1, 0)]
    assert cover.coverage.ideal == 1.0
    assert cover.coverage.by_level == {0: 1.0}
    assert cover.missing == cover.failed == ()


def test_coverage_counts_the_pixels_that_are_drawn() -> None:
    """Edges on pixel centres, but for the last digit: 3 * 0.05 is more than 0.15."""
    fine, coarse = (LatticeLevel((n, n), (3, 3), (px, px), (0.0, 0.0)) for n, px in ((6, 0.05), (3, 0.1)))
    plane = Lattice((fine, coarse))
    left = only((0, 0, 0), (0, 1, 0), (1, 0, 0))
    cover = cover_view(plane, Region((0, 0), (0.3, 0.3)), 0, left, size_px=(3, 3))
    assert cover.coverage.by_level == {0: pytest.approx(1 / 3), 1: pytest.approx(2 / 3)}


def test_all_finer_tiles_stand_in_for_a_missing_one() -> None:
    four = only((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1))
    cover = cover_view(PLANE, Region((0, 0), (16, 16)), 1, four)
    assert sorted(drawn(cover)) == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]
    assert cover.coverage.finer == 1.0
    assert cover.coverage.by_level == {0: 1.0}


def test_three_of_four_finer_tiles_do_not_stand_in() -> None:
    there = only((0, 0, 0), (0, 0, 1), (0, 1, 0), (2, 0, 0))
    cover = cover_view(PLANE, Region((0, 0), (16, 16)), 1, there)
    assert drawn(cover) == [(2, 0, 0)]
    assert cover.coverage.coarser == 1.0


def test_finer_tiles_need_only_cover_what_is_visible() -> None:
    cover = cover_view(PLANE, Region((0, 0), (8, 8)), 1, only((0, 0, 0)))
    assert drawn(cover) == [(0, 0, 0)]


def test_finer_tiles_of_several_levels() -> None:
    there = only((1, 0, 0), (1, 0, 1), (1, 1, 0), (0, 2, 2), (0, 2, 3), (0, 3, 2), (0, 3, 3))
    cover = cover_view(PLANE, ALL, 2, there)
    assert cover.coverage.by_level == {0: 0.25, 1: 0.75}


def test_the_matching_part_of_the_nearest_coarser_tile() -> None:
    cover = cover_view(PLANE, Region((8, 16), (16, 24)), 0, only((1, 0, 1), (2, 0, 0)))
    assert drawn(cover) == [(1, 0, 1)]
    np.testing.assert_array_equal(cover.quads.dest, [[8, 16, 16, 24]])
    np.testing.assert_array_equal(cover.quads.source, [[4, 0, 8, 4]])


def test_a_failed_tile_is_shown_as_failed_not_as_blur() -> None:
    broken = TileKey(0, (), (0, 0))
    cover = cover_view(PLANE, Region((0, 0), (8, 16)), 0, only((0, 0, 1), (2, 0, 0)), lambda k: k == broken)
    assert cover.failed == (Region((0, 0), (8, 8)),)
    assert (cover.coverage.ideal, cover.coverage.failed) == (0.5, 0.5)


def test_a_failed_tile_is_shown_as_failed_whatever_finer_ones_are_in_memory() -> None:
    """Which there are is a matter of what was seen before."""
    broken = TileKey(1, (), (0, 0))
    finer = [TileKey(0, (), grid) for grid in itertools.product((0, 1), (0, 1))]
    for there in ([], finer):
        cover = cover_view(PLANE, Region((0, 0), (16, 16)), 1, there.__contains__, lambda k: k == broken)
        assert cover.failed == (Region((0, 0), (16, 16)),)
        assert (cover.coverage.finer, cover.coverage.failed) == (0, 1)


def test_missing_when_no_level_has_it() -> None:
    cover = cover_view(PLANE, Region((0, 0), (8, 16)), 0, only((0, 0, 1)))
    assert cover.missing == (Region((0, 0), (8, 8)),)
    assert cover.coverage.missing == 0.5


def test_only_the_visible_image_counts() -> None:
    cover = cover_view(PLANE, Region((-100, -100), (4, 4)), 0, everything)
    np.testing.assert_array_equal(cover.quads.dest, [[0, 0, 4, 4]])
    assert cover.coverage.ideal == 1.0


@pytest.mark.parametrize("view", [Region((40, 40), (50, 50)), Region((5, 5), (5, 9)), Region((9, 9), (3, 3))])
def test_nothing_visible_is_all_ideal(view: Region) -> None:
    cover = cover_view(PLANE, view, 0, nothing)
    assert len(cover.quads) == 0
    assert cover.coverage.ideal == 1.0


def test_index_is_part_of_every_key() -> None:
    cover = cover_view(PLANE.at([(3, 1), (1, 1), (0, 1)]), Region((0, 0), (8, 8)), 0, everything)
    assert cover.quads.keys == (TileKey(0, (3, 1), (0, 0)),)
    coarse = cover_view(PLANE.at([(3, 1), (1, 1), (0, 1)]), Region((0, 0), (8, 8)), 0, only((2, 0, 0)))
    assert coarse.quads.keys == (TileKey(2, (0, 1), (0, 0)),)


def test_a_level_that_ends_early_stands_in_to_the_edge() -> None:
    # floor(9 / 2) = 4 texels of 2 pixels do not reach pixel 8
    levels = (
        LatticeLevel((9, 9), (8, 8), (1.0, 1.0), (0.0, 0.0)),
        LatticeLevel((4, 4), (8, 8), (2.0, 2.0), (0.0, 0.0)),
    )
    cover = cover_view(Lattice(levels), Region((0, 0), (9, 9)), 1, everything)
    np.testing.assert_array_equal(cover.quads.dest, [[0, 0, 9, 9]])
    np.testing.assert_array_equal(cover.quads.source, [[0, 0, 4.5, 4.5]])


def test_rounding_names_no_extra_tile() -> None:
    # 3 * 0.1 is more than 0.3: a tile touched by rounding only must not be asked for
    scale = 0.1
    levels = (LatticeLevel((80, 80), (8, 8), (scale, scale), (0.0, 0.0)),)
    asked: list[TileKey] = []
    cover_view(Lattice(levels), Region((0, 0), (3 * 8 * scale, 8 * scale)), 0, lambda k: not asked.append(k))
    assert [key.grid for key in asked] == [(0, 0), (1, 0), (2, 0)]


random_planes = st.builds(
    plane_of_levels,
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.lists(st.integers(2, 4), max_size=3),
    st.integers(3, 16),
    st.sampled_from([0.0, 0.0, -0.25, 0.5]),
)


@settings(deadline=None, max_examples=150)
@given(
    plane=random_planes,
    corner=st.tuples(st.floats(-50, 220), st.floats(-50, 220)),
    size=st.tuples(st.floats(0.01, 200), st.floats(0.01, 200)),
    seed=st.integers(0, 2**32 - 1),
    wanted=st.integers(0, 3),
    share=st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0]),
)
def test_every_point_belongs_to_exactly_one(
    plane: Lattice,
    corner: tuple[float, float],
    size: tuple[float, float],
    seed: int,
    wanted: int,
    share: float,
) -> None:
    level = min(wanted, len(plane.levels) - 1)
    view = Region(corner, (corner[0] + size[0], corner[1] + size[1]))
    visible = view.intersect(plane.extent)

    def resident(key: TileKey) -> bool:
        return hash((seed, key)) % 1000 < share * 1000

    def failed(key: TileKey) -> bool:
        return hash((seed, key, "failed")) % 7 == 0

    cover = cover_view(plane, view, level, resident, failed)
    numbers = cover.coverage
    total = numbers.ideal + numbers.finer + numbers.coarser + numbers.failed + numbers.missing
    assert total == pytest.approx(1, abs=1e-9)
    rects = np.concatenate([cover.quads.dest, rows_of(cover.missing), rows_of(cover.failed)])
    if visible.is_empty:
        assert not len(rects)
        return
    assert sum(numbers.by_level.values()) == pytest.approx(1 - numbers.failed - numbers.missing, abs=1e-9)
    assert (rects[:, 0] >= visible.y0).all()
    assert (rects[:, 3] <= visible.x1).all()
    random = np.random.default_rng(seed)
    for _ in range(40):
        y, x = random.uniform(visible.low, visible.high)
        inside = (rects[:, 0] <= y) & (y < rects[:, 2]) & (rects[:, 1] <= x) & (x < rects[:, 3])
        assert inside.sum() == 1, (y, x)
    assert all(resident(key) for key in cover.drawn)
    for key, source in zip(cover.quads.keys, cover.quads.source, strict=True):
        rows, cols = plane.levels[key.level].tile_counts
        assert 0 <= key.grid[0] < rows
        assert 0 <= key.grid[1] < cols
        height, width = plane.tile_shape(key.level, key.grid)
        # only the outermost tiles may be asked for more than they have
        assert key.grid[0] == 0 or source[0] >= -1e-4
        assert key.grid[1] == cols - 1 or source[3] <= width + 1e-4
        assert key.grid[0] == rows - 1 or source[2] <= height + 1e-4


# tiles of several levels


def owner_at(plane: Lattice, wanted: set[TileKey], point: tuple[float, float]) -> TileKey:
    """Slow and plain: the finest of the wanted tiles that is responsible for a point; where none is, that of the coarsest
    of their levels."""
    for level in range(len(plane.levels)):
        key = tile_at(plane, level, point)
        if key in wanted:
            return key
    return tile_at(plane, max(key.level for key in wanted), point)


def tile_at(plane: Lattice, level: int, point: tuple[float, float]) -> TileKey:
    info = plane.levels[level]
    places = [info.block_at(axis, at) for axis, at in enumerate(point)]
    return plane.key(
        level, tuple(min(max(n, 0), m - 1) for n, m in zip(places, info.tile_counts, strict=True))
    )


@settings(deadline=None, max_examples=150)
@given(
    plane=random_planes,
    corner=st.tuples(st.floats(-50, 220), st.floats(-50, 220)),
    size=st.tuples(st.floats(0.01, 200), st.floats(0.01, 200)),
    seed=st.integers(0, 2**32 - 1),
    some=st.sampled_from([0.05, 0.3, 0.8]),
    share=st.sampled_from([0.0, 0.4, 0.9, 1.0]),
)
def test_wanted_tiles_of_several_levels(
    plane: Lattice,
    corner: tuple[float, float],
    size: tuple[float, float],
    seed: int,
    some: float,
    share: float,
) -> None:
    view = Region(corner, (corner[0] + size[0], corner[1] + size[1]))
    visible = view.intersect(plane.extent)
    tiles = [
        plane.key(level, grid)
        for level in range(len(plane.levels))
        for grid in plane.blocks_meeting(level, plane.extent).grids()
    ]
    wanted = {key for key in tiles if hash((seed, key, "wanted")) % 1000 < some * 1000} or {tiles[-1]}

    def resident(key: TileKey) -> bool:
        return hash((seed, key)) % 1000 < share * 1000

    def failed(key: TileKey) -> bool:
        return hash((seed, key, "failed")) % 7 == 0

    cover = cover_view(plane, view, 0, resident, failed, wanted=wanted)
    if visible.is_empty:
        assert not len(cover.quads)
        return
    quads, numbers = cover.quads, cover.coverage
    assert (
        numbers.ideal + numbers.finer + numbers.coarser + numbers.failed + numbers.missing == pytest.approx(1)
    )
    own = np.array([key.level for key in quads.keys])
    assert quads.wanted is not None
    for name, side in (("finer", own < quads.wanted), ("coarser", own > quads.wanted)):
        area = (quads.dest[side, 2:] - quads.dest[side, :2]).prod(axis=1).sum()
        assert getattr(numbers, name) == pytest.approx(area / visible.volume, abs=1e-6)
    rects = np.concatenate([quads.dest, rows_of(cover.missing), rows_of(cover.failed)])
    random = np.random.default_rng(seed)
    for _ in range(40):
        y, x = point = tuple(random.uniform(visible.low, visible.high))
        inside = (rects[:, 0] <= y) & (y < rects[:, 2]) & (rects[:, 1] <= x) & (x < rects[:, 3])
        (row,) = np.flatnonzero(inside)
        owner = owner_at(plane, wanted, point)
        above = [tile_at(plane, level, point) for level in range(owner.level + 1, len(plane.levels))]
        if row >= len(quads) + len(cover.missing):
            assert failed(owner)
            continue
        if row >= len(quads):
            assert not any(map(resident, above))
            continue
        key = quads.keys[row]
        assert key == tile_at(plane, key.level, point)
        assert resident(key)
        assert quads.wanted[row] == owner.level
        if resident(owner):
            assert key == owner
        else:
            assert not failed(owner)
        if key.level > owner.level:
            assert key == next(filter(resident, above))


@pytest.mark.parametrize("there", [everything, nothing, only((0, 1, 1), (0, 0, 0), (1, 0, 0))])
def test_all_tiles_of_one_level_are_that_level(there: Callable[[TileKey], bool]) -> None:
    view = Region((3, 5), (29, 31))
    for level in range(3):
        tiles = [PLANE.key(level, grid) for grid in PLANE.blocks_meeting(level, view).grids()]
        one, several = (
            cover_view(PLANE, view, level, there, size_px=(60, 50), wanted=wanted) for wanted in (None, tiles)
        )
        assert several.quads.keys == one.quads.keys
        np.testing.assert_array_equal(several.quads.dest, one.quads.dest)
        assert several.coverage.by_level == pytest.approx(one.coverage.by_level)
        assert replace(several.coverage, by_level={}) == replace(one.coverage, by_level={})
        assert (several.missing, several.is_whole) == (one.missing, one.is_whole)
        np.testing.assert_array_equal(several.pending, one.pending)


def test_a_coarse_tile_shows_what_finer_ones_leave_of_it() -> None:
    wanted = [TileKey(1, (), (0, 0)), TileKey(0, (), (0, 1)), TileKey(1, (), (0, 1))]
    cover = cover_view(PLANE, Region((0, 0), (16, 32)), 1, everything, wanted=wanted)
    assert sorted(drawn(cover)) == [(0, 0, 1), (1, 0, 0), (1, 0, 0), (1, 0, 0), (1, 0, 1)]
    assert cover.coverage.ideal == 1.0
    assert cover.coverage.by_level == {0: 0.125, 1: 0.875}
    assert len(cover.pending) == 0
    lacking = cover_view(PLANE, Region((0, 0), (16, 32)), 1, only((1, 0, 0), (1, 0, 1)), wanted=wanted)
    assert (lacking.coverage.ideal, lacking.coverage.coarser) == (0.875, 0.125)
    np.testing.assert_array_equal(lacking.pending, [[0, 8, 8, 16]])
