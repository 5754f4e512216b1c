"""Plans and covers of volumes: which bricks a view wants, and what each place of it shows while they arrive."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_cases import bricks, lattices, look_at, sights

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.view.cover import rows_of
from octree.render.view.coverage import Coverage
from octree.render.view.plan import ViewPlan, plan_view
from octree.render.view.volume.cells import FAILED, MISSING, Cells, cells_of
from octree.render.view.volume.cover import cover_volume, coverage_of_counts, is_known
from octree.render.view.volume.plan import plan_volume, step_of
from octree.render.view.volume.samples import count_samples, owned, rays_at, seen_samples
from octree.render.view.volume.sight import Sight, rays_of


def everything(_key: TileKey) -> bool:
    return True


def nothing(_key: TileKey) -> bool:
    return False


def none_lacking(_tiles: Sequence[TileKey]) -> Sequence[TileKey]:
    return ()


def shown(
    lattice: Lattice, plan: ViewPlan, sight: Sight, there: Callable[[TileKey], bool] = everything
) -> Cells:
    return cells_of(lattice, cover_volume(lattice, plan, sight, there), sight)


def counted(cells: Cells, sight: Sight, step: float) -> dict[TileKey | None, int]:
    """Samples of each brick; those of no wanted one as None."""
    found: dict[TileKey | None, int] = {}
    for key, count in zip(cells.keys, count_samples(rays_of(sight, step), cells).tolist(), strict=True):
        found[key] = found.get(key, 0) + count
    return found


# which bricks


@given(st.data(), lattices, st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([None, None, 40, 5]))
@settings(deadline=None, max_examples=50)
def test_every_sample_lies_in_a_wanted_brick(
    data: Any, lattice: Lattice, detail_px: float, room: int | None
) -> None:
    sight = data.draw(sights(lattice, (13, 9)))
    plan = plan_volume(lattice, sight, detail_px=detail_px, max_tiles=room)
    if room is not None:
        assert len(plan.wanted) <= room
    if plan.degraded and plan.levels == {len(lattice.levels) - 1}:
        return  # not even that fits, perhaps
    samples = counted(shown(lattice, plan, sight), sight, step_of(lattice, sight, plan))
    assert samples[None] == 0
    assert samples.keys() - {None} <= set(plan.wanted)
    if not plan.wanted:
        assert not seen_samples(rays_of(sight, 0.5), sight).any()


def test_few_bricks_are_wanted_that_own_no_sample() -> None:
    lattice, wanted, idle = bricks((200, 230, 256), edge=16), 0, 0
    for azimuth, elevation, fov, slab in itertools.product((0, 33), (0, 21, 60), (0, 40), (None, 0)):
        sight = look_at(lattice, (60, 40), azimuth=azimuth, elevation=elevation, fov=fov, slab=slab)
        plan = plan_volume(lattice, sight)
        samples = counted(shown(lattice, plan, sight), sight, step_of(lattice, sight, plan))
        wanted += len(plan.wanted)
        idle += len(plan.wanted) - sum(count > 0 for key, count in samples.items() if key is not None)
    assert wanted > 1000
    assert idle < 0.05 * wanted


@given(st.data(), lattices)
@settings(deadline=None, max_examples=30)
def test_texels_that_linear_samples_look_at_are_of_wanted_bricks(data: Any, lattice: Lattice) -> None:
    """Half a texel beyond what a sample's brick has: without them a picture would depend on what was seen before."""
    sight = data.draw(sights(lattice, (7, 5)))
    if not math.isinf(sight.distance):
        return  # one level alone has neighbours
    plan = plan_volume(lattice, sight, margin_texels=0.5)
    rays = rays_of(sight, step_of(lattice, sight, plan))
    if not plan.wanted:
        return
    info, wanted = lattice.levels[plan.level], {key.grid for key in plan.wanted}
    origins, steps = rays_at(rays, np.float64)
    low, high = (np.subtract(ends[::-1], rays.centre).tolist() for ends in sight.box)
    first, stop = owned(rays, low, high, np.float64)
    ks = first + np.floor(data.draw(st.floats(0, 1)) * (stop - first))
    for j, i in zip(*np.nonzero(ks < stop), strict=True):
        base = (origins[j, i] + (ks[j, i] + 0.5) * steps[j, i] + rays.centre)[::-1]
        texel = (base - info.origin) / info.scale - 0.5
        for side in itertools.product((0, 1), repeat=3):
            at = np.clip(np.floor(texel + np.array(side) * 0.999), 0, np.array(info.shape) - 1)
            assert tuple((at // info.tile).astype(int).tolist()) in wanted


def test_texels_beside_a_clip_box_are_wanted() -> None:
    lattice = bricks((64, 64, 64), edge=16)
    for zoom, level, reach in ((1, 0, 1), (0.5, 1, 0)):
        sight = look_at(lattice, (100, 100), zoom=zoom, clip=Region((0, 16, 16), (64, 32, 32)))
        wide, bare = (plan_volume(lattice, sight, margin_texels=margin) for margin in (0.5, 0.0))
        assert wide.levels == {level}
        assert {key.grid[2] for key in bare.wanted} == {1 - level}
        assert {key.grid[2] for key in wide.wanted} == set(range(2 + reach))


# which levels


@given(st.data(), lattices, st.sampled_from([0.5, 1.0, 3.0]))
@settings(deadline=None, max_examples=30)
def test_no_sample_is_of_a_coarser_level_than_its_place_asks_for(
    data: Any, lattice: Lattice, detail_px: float
) -> None:
    sight = data.draw(sights(lattice, (9, 7)))
    plan = plan_volume(lattice, sight, detail_px=detail_px)
    cells = shown(lattice, plan, sight)
    rays = rays_of(sight, step_of(lattice, sight, plan))
    least = [info.scale for info in lattice.levels]
    origins, steps = rays_at(rays, np.float64)
    for (z, y, x), row in np.ndenumerate(cells.cells):
        if not row or cells.keys[row - 1] is None:
            continue
        level = int(cells.levels[row - 1])
        low, high = (
            [planes[n + end] for planes, n in zip(cells.planes, (x, y, z), strict=True)] for end in (0, 1)
        )
        first, stop = owned(rays, low, high, np.float64)
        inside = first < stop
        if not inside.any() or not level:
            continue
        ks = first[inside]
        points = origins[inside] + (ks[:, None] + 0.5) * steps[inside] + np.array(rays.centre)
        nearest = sight.depths(points).min()
        longer = [own > fine for own, fine in zip(least[level], least[0], strict=True)]
        edges = [own * edge for own, edge in zip(least[level], sight.voxel[::-1], strict=True)]
        longest = max(edge for edge, counts in zip(edges, longer, strict=True) if counts or not any(longer))
        assert longest * sight.px_per_world(nearest) <= detail_px * (1 + 1e-6)


def test_without_perspective_there_is_one_level_that_of_planes() -> None:
    lattice = bricks((128, 128, 128), levels=4)
    for zoom in (3, 1, 0.99, 0.5, 0.26, 0.25, 0.01):
        sight = look_at(lattice, zoom=zoom, azimuth=40, elevation=20)
        plan = plan_volume(lattice, sight)
        plane = plan_view(Lattice(lattice.levels), sight.box, (zoom,) * 3)
        assert plan.levels == {plane.level}
        assert plan.ideal_level == plane.ideal_level
        assert (
            plan_volume(lattice, look_at(lattice, zoom=zoom * 2, azimuth=40), detail_px=2).levels
            == plan.levels
        )


def test_levels_go_by_size_in_the_world() -> None:
    """Planes 4 apart: z has no finer level and holds nothing back until y and x are as coarse."""
    lattice = Lattice(
        tuple(LatticeLevel((32, n, n), (16,) * 3, (1.0, 64 / n, 64 / n), (0.0,) * 3) for n in (64, 32, 16))
    )
    for zoom, level in ((1, 0), (0.5, 1), (0.25, 2)):
        assert plan_volume(lattice, look_at(lattice, zoom=zoom, world=(4, 1, 1))).levels == {level}


def test_in_perspective_what_is_near_is_finer() -> None:
    lattice = bricks((512, 128, 128), edge=16, levels=5)
    sight = look_at(lattice, (128, 128), zoom=0.25, fov=60)
    plan = plan_volume(lattice, sight)
    depth = {
        level: [lattice.tile_region(level, key.grid).low[0] for key in plan.wanted if key.level == level]
        for level in plan.levels
    }
    assert len(depth) > 2
    levels = sorted(depth)
    assert all(min(depth[a]) <= min(depth[b]) for a, b in itertools.pairwise(levels))
    assert all(max(depth[a]) < max(depth[b]) for a, b in itertools.pairwise(levels))
    assert plan.ideal_level == 2


@given(st.data(), st.sampled_from([0.5, 1.0, 3.0]))
@settings(deadline=None, max_examples=25)
def test_the_wanted_bricks_are_a_cut(data: Any, detail_px: float) -> None:
    """None lies in another."""
    lattice = bricks((70, 60, 64), edge=4, levels=4)
    sight = data.draw(sights(lattice))
    plan = plan_volume(lattice, sight, detail_px=detail_px)
    wanted = set(plan.wanted)
    assert len(wanted) == len(plan.wanted)
    for level, _, grid in wanted:
        above = {TileKey(up, (), tuple(n >> (up - level) for n in grid)) for up in range(level + 1, 4)}
        assert above.isdisjoint(wanted)


# room


@given(st.data(), st.integers(1, 60))
@settings(deadline=None, max_examples=30)
def test_what_does_not_fit_is_coarser_everywhere(data: Any, room: int) -> None:
    lattice = bricks((70, 60, 64), edge=8, levels=5)
    sight = data.draw(sights(lattice))
    free, plan = plan_volume(lattice, sight), plan_volume(lattice, sight, max_tiles=room)
    assert plan == plan_volume(lattice, sight, max_tiles=room)
    assert len(plan.wanted) <= room
    assert plan.degraded == (len(free.wanted) > room)
    if not plan.degraded:
        assert plan == replace(free, prefetch=plan.prefetch)
        return
    assert plan.wanted
    assert len(plan.ideal_levels) == len(plan.wanted)
    assert all(ideal <= key.level for ideal, key in zip(plan.ideal_levels, plan.wanted, strict=True))
    if math.isinf(sight.distance):
        assert len(plan.levels) == 1
        assert set(plan.ideal_levels) == {plan.ideal_level}


def test_as_much_is_wanted_as_fits() -> None:
    lattice = bricks((512, 512, 512), edge=16, levels=6)
    sight = look_at(lattice, (256, 256), zoom=0.5, fov=50, azimuth=20, elevation=30)
    sizes = [len(plan_volume(lattice, sight, max_tiles=room).wanted) for room in (50, 100, 200, 400, 800)]
    assert all(0.5 * room < size <= room for room, size in zip((50, 100, 200, 400, 800), sizes, strict=True))


def test_more_of_the_coarsest_level_than_fits_leaves_what_is_near_the_target() -> None:
    lattice = bricks((64, 64, 64), levels=1)
    sight = look_at(lattice, (200, 200), at=(8, 8, 8))
    plan = plan_volume(lattice, sight, max_tiles=8)
    assert plan.degraded
    assert len(plan.wanted) == 8
    assert plan.wanted[0].grid == (0, 0, 0)
    assert max(map(max, (key.grid for key in plan.wanted))) <= 2
    cover = cover_volume(lattice, plan, sight, everything)
    assert not is_known(cover, plan)
    cells = cells_of(lattice, cover, sight)
    coverage = coverage_of_counts(cells, count_samples(rays_of(sight, 1.0), cells))
    assert coverage.ideal == pytest.approx(8 / 64)
    assert coverage.missing == pytest.approx(56 / 64)


@pytest.mark.parametrize("fov", [0.0, 50.0])
@pytest.mark.parametrize("levels", [1, 11])
def test_the_size_of_a_volume_does_not_matter(
    levels: int, fov: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted before listed: 1563 bricks along each edge."""
    lattice, calls = bricks((100_000,) * 3, edge=64, levels=levels), []
    plain = LatticeLevel.blocks_along

    def counting(self: LatticeLevel, axis: int, low: float, high: float) -> tuple[int, int]:
        calls.append(axis)
        return plain(self, axis, low, high)

    monkeypatch.setattr(LatticeLevel, "blocks_along", counting)
    for zoom, slab in itertools.product((0.001, 0.01, 1), (None, 0)):
        sight = look_at(lattice, (512, 512), zoom=zoom, fov=fov, azimuth=30, elevation=20, slab=slab)
        calls.clear()
        plan = plan_volume(lattice, sight, max_tiles=450)
        assert 0 < len(plan.wanted) <= 450
        assert len(calls) < 3000
        calls.clear()
        cover = cover_volume(lattice, plan, sight, everything)
        assert len(calls) < 5000
        assert len(cover.quads) <= 2 * 450


def test_a_long_row_of_bricks_across_a_large_volume_is_not_cut_into_a_million_cells() -> None:
    lattice = bricks((100_000,) * 3, edge=64, levels=11)
    sight = look_at(lattice, (8, 8), zoom=1, azimuth=43, elevation=37)
    plan = plan_volume(lattice, sight, max_tiles=10_000)
    assert plan.degraded
    assert shown(lattice, plan, sight).cells.size < 2**22


# order, stand-ins, prefetch


def test_the_nearest_to_what_is_looked_at_comes_first() -> None:
    lattice = bricks((128, 128, 128))
    sight = look_at(lattice, (300, 300), at=(120, 8, 8), azimuth=30)
    plan = plan_volume(lattice, sight)
    assert plan.wanted[0].grid == (7, 0, 0)
    away = [math.dist(lattice.tile_region(0, key.grid).centre, (120, 8, 8)) for key in plan.wanted]
    assert away == sorted(away)


def test_stand_ins_are_few_and_coarse() -> None:
    lattice = bricks((256, 256, 256), edge=16, levels=5)
    sight = look_at(lattice, (256, 256), azimuth=20, zoom=1)
    plan = plan_volume(lattice, sight, max_tiles=5000)
    coarse = [key.level for key in plan.stand_ins]
    assert coarse[0] == 4
    assert set(coarse[1:]) == {1}
    assert len(coarse) <= len(plan.wanted) / 3
    assert plan_volume(lattice, sight, max_tiles=5000, lacking=none_lacking).stand_ins == ()
    assert plan_volume(lattice, sight, max_tiles=5000, cheap_levels=1).stand_ins == ()
    again = plan_volume(lattice, sight, max_tiles=5000, previous=plan)
    assert set(again.stand_ins) == set(plan.stand_ins)


def test_prefetch_is_where_the_camera_goes_then_around() -> None:
    lattice = bricks((256, 256, 256), edge=16, levels=1)
    sight, later = (look_at(lattice, (64, 64), at=(128, 128, x), slab=0) for x in (100, 120))
    plan = plan_volume(lattice, sight, later=later)
    there = plan_volume(lattice, later)
    assert plan.prefetch
    assert set(plan.prefetch) == set(there.wanted) - set(plan.wanted)
    assert plan.leaving == set(plan.wanted) - set(there.wanted)
    assert plan.leaving
    around = plan_volume(lattice, sight, prefetch_margin=0.25).prefetch
    assert around
    assert set(around).isdisjoint(plan.wanted)
    assert plan_volume(lattice, sight, later=later, lacking=none_lacking).prefetch == ()
    full = plan_volume(lattice, sight, later=later, max_tiles=len(plan.wanted) + 3)
    assert len(full.prefetch) == 3


@pytest.mark.parametrize("fov", [0.0, 40.0])
def test_levels_are_held_on_to(fov: float) -> None:
    lattice = bricks((64, 64, 64))
    coarse = plan_volume(lattice, look_at(lattice, zoom=0.4, fov=fov))
    closer = look_at(lattice, zoom=0.4 * 1.04, fov=fov)
    held = plan_volume(lattice, closer, previous=coarse)
    assert set(held.wanted) <= set(coarse.wanted)
    at_once = plan_volume(
        lattice, look_at(lattice, zoom=0.505), previous=plan_volume(lattice, look_at(lattice, zoom=0.5))
    )
    assert at_once.levels == {1}
    assert plan_volume(lattice, look_at(lattice, zoom=0.505)).levels == {0}


@pytest.mark.parametrize(
    "sight",
    [
        look_at(bricks((64, 64, 64)), at=(32, 32, 500)),
        look_at(bricks((64, 64, 64)), at=(500, 32, 32), slab=3),
        look_at(bricks((64, 64, 64)), at=(-100, 32, 32), azimuth=180, fov=30, zoom=2),
        look_at(bricks((64, 64, 64)), clip=Region((70,) * 3, (80,) * 3)),
    ],
)
def test_nothing_in_view_is_nothing_wanted(sight: Sight) -> None:
    lattice = bricks((64, 64, 64))
    plan = plan_volume(lattice, sight, later=sight, prefetch_margin=0.1)
    assert (plan.wanted, plan.stand_ins, plan.prefetch, plan.degraded) == ((), (), (), False)
    cover = cover_volume(lattice, plan, sight, everything)
    assert cover.coverage == Coverage()
    assert is_known(cover, plan)
    cells = cells_of(lattice, cover, sight)
    assert coverage_of_counts(cells, count_samples(rays_of(sight, 1.0), cells)) == Coverage()


# covers


@given(
    st.data(),
    lattices,
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    st.sampled_from([None, 9]),
)
@settings(deadline=None, max_examples=25)
def test_a_cover_is_exact_and_disjoint(
    data: Any, lattice: Lattice, seed: int, share: float, room: int | None
) -> None:
    sight = data.draw(sights(lattice))
    plan = plan_volume(lattice, sight, max_tiles=room)

    def resident(key: TileKey) -> bool:
        return hash((seed, key)) % 1000 < share * 1000

    def failed(key: TileKey) -> bool:
        return hash((seed, key, "failed")) % 7 == 0

    whole = cover_volume(lattice, plan, sight, everything)
    cover = cover_volume(lattice, plan, sight, resident, failed)
    boxes = np.concatenate([cover.quads.dest, rows_of(cover.missing, 3), rows_of(cover.failed, 3)])
    assert volume(boxes) == pytest.approx(volume(whole.quads.dest), rel=1e-9)
    if len(boxes) < 400:
        low, high = boxes[:, None, :3], boxes[:, None, 3:]
        shared = np.minimum(high, high[:, 0][None]) - np.maximum(low, low[:, 0][None])
        overlap = np.clip(shared, 0, None).prod(axis=2)
        np.fill_diagonal(overlap, 0)
        assert overlap.max(initial=0) == 0
    assert all(map(resident, cover.drawn))
    assert whole.drawn <= set(plan.wanted)
    if not plan.degraded:
        assert cover.is_whole == all(map(resident, whole.drawn))


def volume(boxes: Any) -> float:
    return float((boxes[:, 3:] - boxes[:, :3]).prod(axis=1).sum())


def test_all_of_a_volume_in_view_is_all_covered() -> None:
    lattice = bricks((61, 70, 45), factor=(3, 2, 2), shift=0.5, edge=7)
    clip = Region((3.5, -9, 2), (40, 70, 44.25))
    sight = look_at(lattice, (400, 400), azimuth=25, fov=50, zoom=0.33, clip=clip)
    plan = plan_volume(lattice, sight)
    assert len(plan.levels) > 1
    for there in (everything, nothing, lambda key: key.level == 2, lambda key: sum(key.grid) % 2 == 0):
        cover = cover_volume(lattice, plan, sight, there)
        boxes = np.concatenate([cover.quads.dest, rows_of(cover.missing, 3)])
        assert volume(boxes) == pytest.approx(sight.box.volume)


def test_a_wanted_brick_else_all_finer_else_failed_else_the_nearest_coarser_else_missing() -> None:
    lattice = bricks((64, 64, 64), edge=16)
    sight = look_at(lattice, zoom=0.5)
    plan = plan_volume(lattice, sight)
    assert plan.levels == {1}
    finer = {TileKey(0, (), grid) for grid in itertools.product((0, 1), repeat=3)}
    broken = {TileKey(1, (), (0, 0, 1))}
    there = {TileKey(1, (), (1, 1, 1)), TileKey(0, (), (0, 0, 2))} | finer
    cover = cover_volume(lattice, plan, sight, there.__contains__, broken.__contains__)
    assert cover.drawn == finer | {TileKey(1, (), (1, 1, 1))}
    assert (len(cover.failed), len(cover.missing)) == (1, 5)
    coarser = cover_volume(
        lattice, plan, sight, (there | {TileKey(2, (), (0, 0, 0))}).__contains__, broken.__contains__
    )
    assert (len(coarser.failed), len(coarser.missing)) == (1, 0)
    assert coarser.quads.levels.tolist().count(2) == 5


# coverage


def test_coverage_is_the_share_of_samples() -> None:
    lattice = bricks((64, 64, 64), edge=16)
    sight = look_at(lattice, (40, 40), zoom=0.5, azimuth=33, elevation=20, fov=30)
    plan = plan_volume(lattice, sight, detail_px=1.5)
    finer = {TileKey(0, (), grid) for grid in itertools.product((0, 1), repeat=3)}
    there = {TileKey(1, (), (1, 1, 1)), TileKey(2, (), (0, 0, 0))} | finer

    def failed(key: TileKey) -> bool:
        return key.grid == (0, 1, 1)

    cells = cells_of(lattice, cover_volume(lattice, plan, sight, there.__contains__, failed), sight)
    counts = count_samples(rays_of(sight, 1.0), cells)
    coverage = coverage_of_counts(cells, counts)
    total = seen_samples(rays_of(sight, 1.0), sight).sum()
    rows = list(zip(cells.keys, counts.tolist(), strict=True))
    assert coverage.failed == pytest.approx(counts[cells.kinds == FAILED].sum() / total)
    assert coverage.missing == pytest.approx(counts[cells.kinds == MISSING].sum() / total)
    of_level = {level: sum(n for key, n in rows if key and key.level == level) / total for level in range(3)}
    assert coverage.by_level == pytest.approx({level: part for level, part in of_level.items() if part})
    assert (
        coverage.ideal + coverage.finer + coverage.coarser + coverage.failed + coverage.missing
        == pytest.approx(1)
    )
    assert min(coverage.ideal, coverage.finer, coverage.coarser, coverage.failed) > 0


def test_all_ideal_is_exactly_1_and_known_without_counting() -> None:
    lattice = bricks((61, 70, 45), edge=7)
    for fov in (0, 50):
        sight = look_at(lattice, (100, 100), azimuth=25, fov=fov, zoom=0.5)
        plan = plan_volume(lattice, sight)
        cover = cover_volume(lattice, plan, sight, everything)
        cells = cells_of(lattice, cover, sight)
        coverage = coverage_of_counts(cells, count_samples(rays_of(sight, 0.7), cells))
        assert coverage.ideal == 1.0
        assert sum(coverage.by_level.values()) == pytest.approx(1)
        assert is_known(cover, plan) == (fov == 0)
        if is_known(cover, plan):
            assert cover.coverage.by_level == coverage.by_level


def test_nothing_of_a_degraded_frame_is_ideal_where_finer_was_asked_for() -> None:
    lattice = bricks((256, 256, 256), edge=16, levels=5)
    for fov in (0, 60):
        sight = look_at(lattice, (128, 128), zoom=0.5, fov=fov, azimuth=10)
        plan = plan_volume(lattice, sight, max_tiles=60)
        assert plan.degraded
        cells = shown(lattice, plan, sight)
        coverage = coverage_of_counts(cells, count_samples(rays_of(sight, 2.0), cells))
        assert coverage.coarser > 0.5
        asked = dict(zip(plan.wanted, plan.ideal_levels, strict=True))
        for key, wanted in zip(cells.keys, cells.wanted.tolist(), strict=True):
            assert key is None or wanted == asked[key]
