"""The plan of one view: level, wanted tiles, stand-ins, prefetch. Pure geometry; D-numbers name defects of the
system this replaces that the test would have caught."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from loading_fakes import keys_of, unless

from octree.pyramid.grid import TOLERANCE_TILES, Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.loading.values import Tier
from octree.render.loading.wishes import load_requests
from octree.render.view.plan import MAX_WANTED, choose_level, plan_view, untiled_lattice


def pyramid(
    height: int,
    width: int,
    levels: int,
    *,
    tile: int = 256,
    factor: tuple[int, int] = (2, 2),
    ceil: bool = True,
) -> Lattice:
    made = []
    for level in range(levels):
        scale = (float(factor[0] ** level), float(factor[1] ** level))
        round_up = math.ceil if ceil else math.floor
        shape = (max(1, round_up(height / scale[0])), max(1, round_up(width / scale[1])))
        made.append(LatticeLevel(shape, (tile, tile), scale, (0.0, 0.0)))
    return Lattice(tuple(made))


SEVEN = pyramid(16384, 16384, 7)


def nothing(key: TileKey) -> bool:
    return False


def everything(key: TileKey) -> bool:
    return True


# the level


@pytest.mark.parametrize(
    ("zoom", "level"),
    [
        (1000, 0),
        (2, 0),
        (1, 0),
        (0.99, 0),
        (0.501, 0),
        (0.5, 1),
        (0.49, 1),
        (0.251, 1),
        (0.25, 2),
        (2**-6, 6),
        (1e-9, 6),
    ],
)
def test_level_is_the_coarsest_whose_texels_fit_a_screen_pixel(zoom: float, level: int) -> None:
    assert choose_level(SEVEN, (zoom, zoom)) == level


def test_level_of_a_zoom_computed_from_sizes_is_exact() -> None:
    for k in range(7):
        zoom = (1024 / 3) / ((1024 / 3) * 2**k)
        assert choose_level(SEVEN, (zoom, zoom)) == k
        assert choose_level(SEVEN, (zoom * (1 + 1e-13),) * 2) == k


@pytest.mark.parametrize(
    ("plane", "px_per_base", "level"),
    [
        (pyramid(9000, 9000, 4, factor=(3, 3)), (1 / 3, 1 / 3), 1),
        (pyramid(9000, 9000, 4, factor=(3, 3)), (0.34, 0.34), 0),
        (pyramid(9000, 9000, 4, factor=(4, 1)), (0.25, 0.25), 1),
        (pyramid(9000, 9000, 4, factor=(4, 1)), (0.3, 0.1), 0),
        (pyramid(9000, 9000, 4), (0.5, 0.1), 1),
        (pyramid(9000, 9000, 4), (0.1, 0.5), 1),
    ],
)
def test_level_is_chosen_per_axis_from_real_scales_d19_d25(
    plane: Lattice, px_per_base: tuple[float, float], level: int
) -> None:
    """D19, D25: by width alone, and for factors of 2 alone."""
    assert choose_level(plane, px_per_base) == level


def test_level_counts_device_pixels_d25() -> None:
    """D25: a screen of two device pixels per logical one needs one level more."""
    logical, device = 0.25, 0.5
    assert choose_level(SEVEN, (logical, logical)) == choose_level(SEVEN, (device, device)) + 1


def test_level_does_not_flicker_around_a_switch_point_d25() -> None:
    seen, level = [], 0
    for zoom in [0.52, 0.5, 0.48, 0.5, 0.52, 0.48, 0.46, 0.44, 0.46, 0.5, 0.52, 0.54, 0.56]:
        level = choose_level(SEVEN, (zoom, zoom), previous=level, hysteresis=0.1)
        seen.append(level)
    # 0.5 / 1.1 = 0.4545: coarser only below; 0.5 * 1.1 = 0.55: finer only above
    assert seen == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0]


def test_hysteresis_never_holds_a_level_beyond_its_neighbourhood() -> None:
    for previous in range(7):
        assert choose_level(SEVEN, (1, 1), previous=previous) == 0 or previous == 0
        assert choose_level(SEVEN, (2**-6 / 1.2,) * 2, previous=previous) == 6


def test_of_levels_of_equal_scale_the_first_is_taken() -> None:
    """Where only z was halved, the next level is coarser and no smaller; or it is a copy."""
    one, two, three = pyramid(1024, 1024, 3).levels
    lattice = Lattice((one, one, two, two, two, three))
    levels = [choose_level(lattice, (zoom, zoom)) for zoom in (3, 1, 0.6, 0.5, 0.3, 0.25, 0.1)]
    assert levels == [0, 0, 0, 2, 2, 5, 5]
    assert choose_level(lattice, (0.47, 0.47), previous=0) == 0
    assert choose_level(lattice, (0.52, 0.52), previous=2) == 2


def test_fixed_level_is_taken_and_clamped() -> None:
    view = Region((0, 0), (512, 512))
    assert plan_view(SEVEN, view, (1, 1), fixed_level=3).level == 3
    assert plan_view(SEVEN, view, (1, 1), fixed_level=99).level == 6
    assert plan_view(SEVEN, view, (1, 1), fixed_level=-1).level == 0


# the wanted tiles


def test_a_view_of_exactly_one_tile_wants_one_tile_d22() -> None:
    plan = plan_view(SEVEN, Region((256, 512), (512, 768)), (1, 1))
    assert plan.wanted == (TileKey(0, (), (1, 2)),)


@pytest.mark.parametrize(
    "view",
    [
        Region((-500, 0), (-1, 100)),
        Region((16384, 0), (17000, 100)),
        Region((0, 16384), (10, 16390)),
        Region((5, 5), (5, 5)),
        Region((9, 9), (3, 3)),
        Region((math.nan, 0), (1, 1)),
        Region((-math.inf, 0), (math.inf, 1)),
    ],
)
def test_a_view_of_nothing_wants_nothing_d22_d23(view: Region) -> None:
    plan = plan_view(SEVEN, view, (1, 1), prefetch_margin=0.5, motion=(5, 5), margin_texels=0.5)
    assert (plan.wanted, plan.stand_ins, plan.prefetch, plan.degraded) == ((), (), (), False)


def test_a_view_partly_outside_wants_what_is_inside() -> None:
    plan = plan_view(SEVEN, Region((-1000, -1000), (10, 10)), (1, 1))
    assert plan.wanted == (TileKey(0, (), (0, 0)),)
    whole = plan_view(SEVEN, Region((-1e6, -1e6), (1e6, 1e6)), (1, 1), fixed_level=6)
    assert whole.wanted == (TileKey(6, (), (0, 0)),)


@pytest.mark.parametrize(
    ("size_px", "ratio"), [((1920, 1080), 1.95), ((3840, 2160), 1.95), ((3840, 2160), 1.0)]
)
def test_every_tile_in_view_is_wanted_however_many_d21(size_px: tuple[int, int], ratio: float) -> None:
    """D21: 83 tiles and no more, so that the outer part of a large view never sharpened."""
    width, height = size_px[0] * ratio, size_px[1] * ratio
    plan = plan_view(SEVEN, Region((100, 100), (100 + height, 100 + width)), (1 / ratio, 1 / ratio))
    rows = math.ceil((100 + height) / 256)
    cols = math.ceil((100 + width) / 256)
    assert len(plan.wanted) == rows * cols
    assert not plan.degraded


def test_a_view_that_does_not_fit_takes_the_next_coarser_level_and_says_so_d21_d30() -> None:
    view = Region((0, 0), (2560, 2560))
    assert len(plan_view(SEVEN, view, (1, 1), max_tiles=100).wanted) == 100
    plan = plan_view(SEVEN, view, (1, 1), max_tiles=99)
    assert (plan.level, plan.ideal_level, plan.degraded, len(plan.wanted)) == (1, 0, True, 25)
    plan = plan_view(SEVEN, view, (1, 1), max_tiles=1)
    assert plan.degraded
    assert len(plan.wanted) == 1
    assert plan.level == 4


def test_without_a_coarser_level_the_middle_of_the_view_is_wanted() -> None:
    plane = pyramid(2**31, 2**31, 1)
    view = plane.extent
    plan = plan_view(plane, view, (1e-6, 1e-6), max_tiles=50)
    assert plan.degraded
    assert 25 <= len(plan.wanted) <= 50
    middle = 2**31 // 256 // 2
    assert all(abs(key.grid[0] - middle) < 10 and abs(key.grid[1] - middle) < 10 for key in plan.wanted)
    unbounded = plan_view(plane, view, (1e-6, 1e-6))
    assert unbounded.degraded
    assert len(unbounded.wanted) <= 16384


def test_tiles_of_huge_images_are_exact_d26() -> None:
    """D26: positions beyond 2**24 quantised."""
    plane = pyramid(2**31, 2**31, 24)
    x = 2**31 - 3
    plan = plan_view(plane, Region((x, x), (x + 1, x + 1)), (800, 800))
    assert plan.wanted == (TileKey(0, (), (2**23 - 1, 2**23 - 1)),)
    plan = plan_view(plane, Region((2**30 - 0.25, 0), (2**30, 1)), (4000, 4000))
    assert plan.wanted == (TileKey(0, (), (2**22 - 1, 0)),)


@pytest.mark.parametrize("ceil", [True, False])
@pytest.mark.parametrize("size", [1, 2, 255, 257, 1001, 1025])
def test_no_tile_is_named_that_does_not_exist_d18(size: int, ceil: bool) -> None:
    """D18: row counts from base / 2**level gave tiles of size zero in floored pyramids."""
    plane = pyramid(size, size + 3, 5, ceil=ceil, tile=64)
    for level in range(5):
        plan = plan_view(plane, plane.extent, (1, 1), fixed_level=level)
        for key in (*plan.wanted, *plan.stand_ins, *plan.prefetch):
            assert min(plane.tile_shape(key.level, key.grid)) > 0
        assert len(plan.wanted) == math.prod(plane.levels[level].tile_counts)


def test_the_middle_of_the_view_comes_first() -> None:
    plan = plan_view(SEVEN, Region((0, 0), (256 * 5, 256 * 5)), (1, 1))
    assert plan.wanted[0].grid == (2, 2)
    distance = [(r - 2) ** 2 + (c - 2) ** 2 for _, _, (r, c) in plan.wanted]
    assert distance == sorted(distance)


def test_the_index_is_in_every_key_d32() -> None:
    """D32: the slice of a time series was never replaced."""
    indices = [[(t, 3 >> level) for level in range(7)] for t in (0, 1)]
    view = Region((0, 0), (900, 900))
    plans = [plan_view(SEVEN.at(index), view, (1, 1), prefetch_margin=0.5) for index in indices]
    for plan, index in zip(plans, indices, strict=True):
        keys = (*plan.wanted, *plan.stand_ins, *plan.prefetch)
        assert {key.level for key in plan.stand_ins}
        assert all(key.index == index[key.level] for key in keys)
    assert not set(plans[0].wanted) & set(plans[1].wanted)


def test_linear_filtering_wants_the_neighbours_whose_edge_shows() -> None:
    view = Region((256.2, 256.2), (511.9, 511.0))
    assert len(plan_view(SEVEN, view, (1, 1)).wanted) == 1
    grids = {key.grid for key in plan_view(SEVEN, view, (1, 1), margin_texels=0.5).wanted}
    assert grids == {(1, 1), (0, 1), (1, 0), (2, 1), (0, 0), (2, 0)}


planes = st.builds(
    lambda height, width, levels, tile, factor, ceil: pyramid(
        height, width, levels, tile=tile, factor=factor, ceil=ceil
    ),
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 5),
    st.sampled_from([16, 37, 64, 256]),
    st.sampled_from([(2, 2), (3, 3), (2, 1), (1, 4), (2, 3)]),
    st.booleans(),
)


@st.composite
def views(draw: st.DrawFn) -> tuple[Lattice, Region, float]:
    plane = draw(planes)
    zoom = draw(st.floats(2**-6, 64))
    y, x = draw(st.floats(-0.3, 1.3)), draw(st.floats(-0.3, 1.3))
    height, width = draw(st.integers(1, 700)), draw(st.integers(1, 700))
    cy, cx = y * plane.levels[0].shape[0], x * plane.levels[0].shape[1]
    rect = Region(
        (cy - height / zoom / 2, cx - width / zoom / 2), (cy + height / zoom / 2, cx + width / zoom / 2)
    )
    return plane, rect, zoom


@settings(max_examples=150, deadline=None)
@given(views(), st.randoms(use_true_random=False))
def test_every_visible_point_lies_in_a_wanted_tile(
    case: tuple[Lattice, Region, float], random: np.random.Generator
) -> None:
    plane, view, zoom = case
    plan = plan_view(plane, view, (zoom, zoom))
    seen = view.intersect(plane.extent)
    info = plane.levels[plan.level]
    grids = {key.grid for key in plan.wanted}
    assert len(grids) == len(plan.wanted)
    assert bool(grids) == (not seen.is_empty)
    if plan.degraded:  # even the coarsest level has more tiles in view than any atlas holds
        assert plan.level == len(plane.levels) - 1
        assert len(grids) > MAX_WANTED // 2
        return
    sliver = [TOLERANCE_TILES * edge * scale for edge, scale in zip(info.tile, info.scale, strict=True)]
    seen = seen.grown([-width for width in sliver])
    for _ in range(20):
        if seen.is_empty:
            break
        y = seen.y0 + random.random() * (seen.y1 - seen.y0)
        x = seen.x0 + random.random() * (seen.x1 - seen.x0)
        # the texel under the point; beyond the last one (a floored level) the last one stands in
        row = min(int(y / info.scale[0]), info.shape[0] - 1) // info.tile[0]
        col = min(int(x / info.scale[1]), info.shape[1] - 1) // info.tile[1]
        assert (row, col) in grids
    for row, col in grids:
        rect = plane.tile_region(plan.level, (row, col))
        if row + 1 < info.tile_counts[0] and col + 1 < info.tile_counts[1]:
            assert not rect.intersect(seen).is_empty, "a tile out of view is wanted"


@settings(max_examples=100, deadline=None)
@given(
    views(), st.sampled_from([(0.0, 0.0), (40.0, -300.0), (1e6, 0.0)]), st.floats(0, 2), st.integers(0, 2**31)
)
def test_stand_ins_and_prefetch_are_bounded_real_and_unknown(
    case: tuple[Lattice, Region, float], motion: tuple[float, float], margin: float, seed: int
) -> None:
    plane, view, zoom = case

    def known(key: TileKey) -> bool:
        return hash((key, seed)) % 3 == 0

    plan = plan_view(plane, view, (zoom, zoom), lacking=unless(known), motion=motion, prefetch_margin=margin)
    missing = [key for key in plan.wanted if not known(key)]
    roots = [key for key in plan.stand_ins if key.level == len(plane.levels) - 1]
    assert len(plan.stand_ins) <= max(4, len(missing) // 3 + len(roots))
    assert len(plan.prefetch) <= len(plan.wanted) + 8
    assert all(key.level > plan.level for key in plan.stand_ins)
    assert all(key.level == plan.level for key in plan.prefetch)
    assert not {*plan.stand_ins, *plan.prefetch} & set(plan.wanted)
    assert not any(known(key) for key in (*plan.stand_ins, *plan.prefetch))
    for key in (*plan.stand_ins, *plan.prefetch):
        counts = plane.levels[key.level].tile_counts
        assert 0 <= key.grid[0] < counts[0]
        assert 0 <= key.grid[1] < counts[1]
    assert plan.leaving <= set(plan.wanted)


# stand-ins


def test_the_coarsest_level_comes_first_of_all_then_the_nearest_that_the_budget_allows() -> None:
    plan = plan_view(SEVEN, Region((1000, 1000), (1768, 2024)), (1, 1))
    assert len(plan.wanted) == 20
    assert plan.stand_ins[0] == TileKey(6, (), (0, 0))
    assert {key.level for key in plan.stand_ins[1:]} == {2}
    assert len(plan.stand_ins) <= 1 + 20 // 3


def test_stand_ins_cover_all_that_is_missing() -> None:
    view = Region((1000, 1000), (1768, 2024))
    plan = plan_view(SEVEN, view, (1, 1))
    area = sum(
        SEVEN.tile_region(k.level, k.grid).intersect(view).volume for k in plan.stand_ins if k.level == 2
    )
    assert area == pytest.approx(view.volume)


def test_nothing_is_loaded_beneath_a_known_stand_in() -> None:
    def known(key: TileKey) -> bool:
        return key.level in (1, 6)

    assert plan_view(SEVEN, Region((1000, 1000), (1768, 2024)), (1, 1), lacking=unless(known)).stand_ins == ()
    assert (
        plan_view(SEVEN, Region((1000, 1000), (1768, 2024)), (1, 1), lacking=unless(everything)).stand_ins
        == ()
    )


def test_an_image_of_one_level_has_no_stand_ins_d24() -> None:
    """D24: tile (0, 0) of the only level was drawn as if it covered everything."""
    plane = pyramid(5000, 5000, 1)
    plan = plan_view(plane, Region((3000, 3000), (4000, 4000)), (0.1, 0.1))
    assert plan.level == 0
    assert plan.stand_ins == ()
    assert TileKey(0, (), (0, 0)) not in plan.wanted


def test_a_coarsest_level_of_many_tiles_is_no_backdrop() -> None:
    plane = pyramid(2**16, 2**16, 2)
    plan = plan_view(plane, Region((0, 0), (2048, 2048)), (1, 1))
    assert 0 < len(plan.stand_ins) <= len(plan.wanted) // 3
    last = plan.wanted[-1]
    plan = plan_view(
        plane,
        Region((0, 0), (2048, 2048)),
        (1, 1),
        lacking=unless(lambda key: key.level == 0 and key != last),
    )
    assert plan.stand_ins == ()


def test_levels_that_are_made_and_not_read_are_no_stand_ins_and_are_not_prefetched() -> None:
    view = Region((1000, 1000), (1768, 2024))
    assert {k.level for k in plan_view(SEVEN, view, (1, 1), cheap_levels=4).stand_ins} <= {1, 2, 3}
    plan = plan_view(SEVEN, view, (0.5, 0.5), cheap_levels=1, prefetch_margin=1.0)
    assert (plan.stand_ins, plan.prefetch) == ((), ())


def test_a_stand_in_on_its_way_stays_wanted_while_it_helps() -> None:
    """As ideal tiles arrive the budget of stand-ins shrinks: those begun must not be thrown away for that."""
    view = Region((1000, 1000), (1768, 2024))
    first = plan_view(SEVEN, view, (1, 1))
    arrived = set(first.wanted[:15])
    after = plan_view(SEVEN, view, (1, 1), lacking=unless(arrived.__contains__), previous=first)
    assert set(first.stand_ins) <= set(after.stand_ins)
    done = plan_view(SEVEN, view, (1, 1), lacking=unless(lambda key: key.level == 0), previous=after)
    assert {key.level for key in done.stand_ins} <= {6}
    stand_ins = arrived | set(after.stand_ins)
    assert (
        plan_view(SEVEN, view, (1, 1), lacking=unless(stand_ins.__contains__), previous=after).stand_ins == ()
    )
    elsewhere = plan_view(SEVEN, Region((9000, 9000), (9768, 10024)), (1, 1), previous=first)
    assert not set(first.stand_ins[1:]) & set(elsewhere.stand_ins)


# motion


def test_while_the_view_moves_a_stand_in_is_still_in_view_when_it_arrives() -> None:
    view = Region((4000, 1000), (4768, 2024))
    slow = plan_view(SEVEN, view, (1, 1), motion=(0.0, 100.0))
    assert {key.level for key in slow.stand_ins} == {6, 2}
    later = Region((view.y0, view.x0 + 6000), (view.y1, view.x1 + 6000))
    fast = plan_view(SEVEN, view, (1, 1), motion=(0.0, 6000.0))
    for key in fast.stand_ins:
        assert not SEVEN.tile_region(key.level, key.grid).intersect(later).is_empty
    assert fast.stand_ins == (TileKey(6, (), (0, 0)),)


def test_tiles_that_will_have_left_are_named_and_no_load_is_begun_for_them() -> None:
    view = Region((0, 0), (768, 1024))
    plan = plan_view(SEVEN, view, (1, 1), motion=(0.0, 600.0))
    assert plan.leaving == {key for key in plan.wanted if key.grid[1] < 2}
    ideal = [r for r in load_requests(plan, keys_of(FakeSource())) if r.tier is Tier.IDEAL]
    assert [r.key.tile for r in ideal] == list(plan.wanted)
    assert {r.key.tile for r in ideal if not r.load} == plan.leaving


def test_prefetch_goes_ahead_of_the_motion_first() -> None:
    view = Region((1024, 1024), (1792, 2048))
    plan = plan_view(SEVEN, view, (1, 1), motion=(0.0, 300.0), prefetch_margin=0.125)
    assert plan.prefetch
    assert all(key.grid[1] >= 8 for key in plan.prefetch[:3])
    around = {key.grid for key in plan_view(SEVEN, view, (1, 1), prefetch_margin=0.125).prefetch}
    assert around == {(r, c) for r in range(3, 8) for c in range(3, 9)} - {
        (r, c) for r in range(4, 7) for c in range(4, 8)
    }


def test_prefetch_leaves_room_for_what_is_wanted() -> None:
    view = Region((1024, 1024), (1792, 2048))
    assert len(plan_view(SEVEN, view, (1, 1), prefetch_margin=1, max_tiles=12).prefetch) == 0
    assert len(plan_view(SEVEN, view, (1, 1), prefetch_margin=1, max_tiles=15).prefetch) == 3


# requests and plain images


class FakeSource:
    token, version = "source", 3
    texture_dtype = np.dtype("uint8")

    def tile_shape(self, tile: TileKey) -> tuple[int, ...]:
        return (1, 1)

    def read_tile(self, tile: TileKey) -> np.ndarray:
        raise AssertionError

    def worker_recipe(self) -> None:
        return None


def test_requests_come_in_order_of_urgency_with_levels_above_the_ideal() -> None:
    plan = plan_view(SEVEN, Region((1000, 1000), (1768, 2024)), (0.5, 0.5), prefetch_margin=0.2)
    requests = load_requests(plan, keys_of(FakeSource()))
    assert [r.key.tile for r in requests] == [*plan.stand_ins, *plan.wanted, *plan.prefetch]
    assert [r.tier for r in requests] == sorted(r.tier for r in requests)
    assert all(r.levels_above_ideal == r.key.tile.level - plan.level for r in requests)
    assert {(r.key.source, r.key.version) for r in requests} == {("source", 3)}


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 100_000), st.integers(1, 100_000), st.integers(64, 16384))
def test_plain_image_mode_has_the_fewest_tiles_that_fit_a_texture(
    height: int, width: int, limit: int
) -> None:
    plane = untiled_lattice(pyramid(height, width, 3), limit)
    for level in plane.levels:
        for length, tile, count in zip(level.shape, level.tile, level.tile_counts, strict=True):
            assert tile <= limit
            assert count == math.ceil(length / limit)


def test_one_plan_is_one_value() -> None:
    a = plan_view(SEVEN, Region((1000, 1000), (1768, 2024)), (1, 1))
    b = plan_view(replace(SEVEN), Region((1000, 1000), (1768, 2024)), (1, 1))
    assert a == b
    assert hash(a) == hash(b)


@settings(max_examples=50, deadline=None)
@given(views())
def test_a_larger_atlas_never_gives_a_coarser_level(case: tuple[Lattice, Region, float]) -> None:
    plane, view, zoom = case
    assume(not view.intersect(plane.extent).is_empty)
    levels = [plan_view(plane, view, (zoom, zoom), max_tiles=room).level for room in (1, 4, 16, 64, None)]
    assert levels == sorted(levels, reverse=True)
