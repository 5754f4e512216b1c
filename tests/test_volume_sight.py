"""Rays of a volume's frame, the samples that boxes own, and the cells that a ray walks through."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volume_cases import bricks, close, lattices, look_at, on_screen, sights

from octree.pyramid.grid import Lattice, Region
from octree.pyramid.model import TileKey
from octree.render.view.camera import Camera
from octree.render.view.cover import Cover, cover_view
from octree.render.view.register import ToBase
from octree.render.view.volume.cells import DRAWN, FAILED, MISSING, cells_of, closed_faces
from octree.render.view.volume.orbit import Orbit
from octree.render.view.volume.samples import count_samples, owned, rays_at, seen_samples
from octree.render.view.volume.sight import EVER, Rays, Sight, rays_of, sight_of

CUBE = bricks((32, 32, 32))


def sample(rays: Rays, i: int, j: int, k: float) -> list[float]:
    """Base coordinates (x, y, z) of a sample."""
    origin, step = (
        np.array(at) + (i + 0.5) * np.array(x) + (j + 0.5) * np.array(y)
        for at, x, y in (
            (rays.origin, rays.across, rays.down),
            (rays.step, rays.step_across, rays.step_down),
        )
    )
    point: list[float] = (origin + (k + 0.5) * step + rays.centre).tolist()
    return point


@given(st.data(), st.floats(0.2, 5), st.integers(0, 23), st.integers(0, 17), st.integers(-40, 40))
@settings(deadline=None, max_examples=30)
def test_a_sample_lies_where_its_pixel_shows_it(data: Any, step: float, i: int, j: int, k: int) -> None:
    sight = data.draw(sights(CUBE))
    rays = rays_of(sight, step)
    k = int(min(max(k, rays.first_k), rays.stop_k))
    column, row, depth = on_screen(sight, sample(rays, i, j, k))
    assert close((column, row), (i + 0.5 - 12, j + 0.5 - 9), 0.01)
    _, _, before = on_screen(sight, sample(rays, 0, 0, k - 1))
    assert depth - before == pytest.approx(step)
    assert depth > -sight.distance or rays.first_k > k


def test_fov_is_the_angle_of_the_frames_height_and_zoom_that_of_the_middle() -> None:
    sight = look_at(CUBE, (40, 100), zoom=4, fov=90)
    assert sight.distance == pytest.approx(12.5)
    assert on_screen(sight, (16, 16 + 12.5, 16)) == pytest.approx((0, 50, 0))
    assert on_screen(sight, (16, 16 + 25, 16 + 12.5)) == pytest.approx((0, 50, 12.5))
    assert sight.px_per_world([0.0, 12.5, -13, -20]).tolist() == pytest.approx([4, 2, math.inf, math.inf])
    assert look_at(CUBE, zoom=4).px_per_world(-1e9) == 4


def test_a_view_that_is_hardly_one_of_perspective_is_none() -> None:
    assert math.isinf(look_at(CUBE, fov=1e-300).distance)
    assert math.isfinite(look_at(CUBE, fov=0.001).distance)


@pytest.mark.parametrize("zoom", [1e-9, 1e9])
@pytest.mark.parametrize("fov", [0, 0.001, 179.9999])
@pytest.mark.parametrize("at", [(16, 16, 16), (0, 32, 5), (1e15, -1e15, 3)])
def test_extreme_views_have_rays(zoom: float, fov: float, at: tuple[float, float, float]) -> None:
    sight = look_at(CUBE, (7, 5), zoom=zoom, fov=fov, at=at, azimuth=20, elevation=1e6)
    rays = rays_of(sight, 1.0)
    numbers = (rays.origin, rays.across, rays.down, rays.step, rays.step_across, rays.step_down)
    assert np.isfinite(numbers).all()
    assert rays.first_k <= rays.stop_k
    assert seen_samples(rays, sight).min() >= 0


def test_no_sample_lies_behind_the_eye() -> None:
    rays = rays_of(look_at(CUBE, (10, 10), fov=60, zoom=0.5), 1.0)
    assert on_screen(look_at(CUBE, (10, 10), fov=60, zoom=0.5), sample(rays, 3, 3, rays.first_k))[2] > (
        -10 / math.tan(math.radians(30))
    )
    assert rays.stop_k == EVER
    near = rays_of(look_at(CUBE, (10, 10), fov=60, zoom=50, slab=30), 1.0)
    assert 0 < near.stop_k - near.first_k < 30  # a slab that the eye stands in


def test_along_an_axis_samples_are_voxel_middles() -> None:
    """So that the view is the projection of all planes: also where the volume's middle is none of their borders."""
    for azimuth, elevation, axis in ((0, 0, 2), (180, 0, 2), (90, 0, 0), (0, 90, 1)):
        for level in (0, 1):
            step = 2.0**level
            sight = look_at(bricks((33, 35, 37)), azimuth=azimuth, elevation=elevation)
            at = sample(rays_of(sight, step), 0, 0, 3)[axis]
            assert (at / step) % 1 == pytest.approx(0.5, abs=0.01)


def test_rays_and_samples_on_a_border_lie_on_one_side_of_it() -> None:
    rays = rays_of(look_at(bricks((32, 33, 33)), (8, 8), slab=0, at=(16, 16.5, 16.5)), 1.0)
    x, y, z = sample(rays, 3, 3, 0)
    for at in (x, y, z):
        assert 0 < at % 1 < 0.01


@pytest.mark.parametrize(
    ("slab", "step", "depths"),
    [(0, 1, [0]), (0.4, 1, [0]), (3, 1, [-1, 0, 1]), (4, 2, [-1, 1]), (4, 1, [-1.5, -0.5, 0.5, 1.5])],
)
@pytest.mark.parametrize("fov", [0, 30])
def test_a_slab_lies_about_the_target(slab: float, step: float, depths: list[float], fov: float) -> None:
    sight = look_at(CUBE, slab=slab, azimuth=30, elevation=10, fov=fov, at=(3, 4.3, 5))
    rays = rays_of(sight, step)
    ks = range(int(rays.first_k), int(rays.stop_k))
    assert close([on_screen(sight, sample(rays, 5, 5, k))[2] for k in ks], depths, 0.01)


def test_a_layer_of_other_voxels_has_the_same_rays_in_the_world() -> None:
    """Registered: half as large, shifted, anisotropic."""
    camera = Camera(20, 30, 2, orbit=Orbit(10, 25, 40, 5, 50))
    to_base = ToBase((0.5, 2.0, 4.0), (3.0, -7.0, 11.0))
    world = (2.5, 1.5, 1.0)
    extent = Region((0.0,) * 3, (64.0,) * 3)
    own = sight_of(camera, (20, 20), to_base=to_base, world=world, extent=extent)
    first = sight_of(camera, (20, 20), to_base=ToBase((1.0,) * 3, (0.0,) * 3), world=world, extent=extent)
    base = to_base.region(Region((10.0, 30.0, 20.0), (11.0, 31.0, 21.0)))
    assert on_screen(own, base.low[::-1]) == pytest.approx((0, 0, 0))
    for corner in ((base.high[2], base.low[1], base.low[0]), (base.low[2], base.low[1], base.high[0])):
        camera_point = [
            (at - offset) / scale
            for at, offset, scale in zip(corner, to_base.offset[::-1], to_base.scale[::-1], strict=True)
        ]
        assert on_screen(own, corner) == pytest.approx(on_screen(first, camera_point))


def test_a_clip_box_cuts_what_is_shown() -> None:
    clip = Region((-math.inf, 4.0, 8.0), (math.inf, 400.0, 16.0))
    assert look_at(CUBE, clip=clip).box == Region((0, 4, 8), (32, 32, 16))
    away = look_at(CUBE, clip=Region((50.0,) * 3, (60.0,) * 3))
    assert away.box.is_empty
    assert not seen_samples(rays_of(away, 1.0), away).any()


def test_what_is_far_from_0_is_exact_in_float32_near_the_target() -> None:
    huge = bricks((100_000, 100_000, 100_000), levels=1)
    sight = look_at(huge, at=(70_000.3, 90_000.2, 80_000.1), azimuth=33, elevation=21)
    assert sight.centre == (80_000, 90_000, 70_000)
    rays = rays_of(sight, 1.0)
    exact, single = rays_at(rays, np.float64)[0], rays_at(rays)[0]
    assert close(single, exact, 1e-5)


# owned samples


def covered(lattice: Lattice, sight: Sight, seed: int, share: float) -> Cover:
    def resident(key: TileKey) -> bool:
        return hash((seed, key)) % 1000 < share * 1000

    def failed(key: TileKey) -> bool:
        return hash((seed, key, "failed")) % 9 == 0

    return cover_view(lattice, sight.box, min(1, len(lattice.levels) - 1), resident, failed)


@given(st.data(), lattices, st.integers(0, 2**32), st.sampled_from([0.0, 0.4, 0.8, 1.0]))
@settings(deadline=None, max_examples=30)
def test_the_rows_of_a_cover_own_each_sample_once(
    data: Any, lattice: Lattice, seed: int, share: float
) -> None:
    sight = data.draw(sights(lattice, (11, 7)))
    cover = covered(lattice, sight, seed, share)
    cells, rays = cells_of(lattice, cover, sight), rays_of(sight, data.draw(st.sampled_from([0.7, 1.0, 2.0])))
    kinds: list[Any] = [np.float32, np.float64]
    for dtype in kinds:
        counts = count_samples(rays, cells, dtype)
        assert (counts >= 0).all()
        low, high = ([planes[end] for planes in cells.planes] for end in (0, -1))
        first, stop = owned(rays, low, high, dtype)
        assert counts.sum() == np.maximum(stop - first, 0).sum(dtype=np.float64)
    assert count_samples(rays, cells).sum() == seen_samples(rays, sight).sum()


def test_owned_samples_of_boxes_agree_with_points() -> None:
    """Box by box against the slow question whether a sample lies in it."""
    lattice = bricks((20, 24, 28))
    sight = look_at(lattice, (9, 7), azimuth=33, elevation=21, fov=40)
    rays = rays_of(sight, 0.8)
    cells = cells_of(lattice, covered(lattice, sight, 3, 0.6), sight)
    counts = np.zeros(len(cells.keys), int)
    for i in range(9):
        for j in range(7):
            for k in range(int(rays.first_k), 100):
                at = np.subtract(sample(rays, i, j, k), rays.centre)
                places = [int(np.searchsorted(p, a)) - 1 for p, a in zip(cells.planes, at, strict=True)]
                if all(0 <= n < size for n, size in zip(places, cells.cells.shape[::-1], strict=True)):
                    counts[cells.cells[tuple(places[::-1])] - 1] += 1
    np.testing.assert_array_equal(count_samples(rays, cells, np.float64), counts)


# cells


@given(st.data(), lattices, st.integers(0, 2**32), st.sampled_from([0.0, 0.4, 0.8, 1.0]))
@settings(deadline=None, max_examples=30)
def test_each_cell_shows_what_its_box_does(data: Any, lattice: Lattice, seed: int, share: float) -> None:
    sight = data.draw(sights(lattice))
    cover = covered(lattice, sight, seed, share)
    cells = cells_of(lattice, cover, sight)
    assert cells.cells.shape == tuple(len(p) - 1 for p in cells.planes[::-1])
    if not cells.cells.any():
        assert min(sight.box.size) < 1e-5
        return
    assert all((np.diff(p) > 0).all() for p in cells.planes)
    assert cells.cells.min() > 0
    middles = [(p[:-1] + p[1:]) / 2 for p in cells.planes]
    quads, shown = cover.quads, set[int]()
    places = list(np.ndindex(*cells.cells.shape))
    for z, y, x in places[:: 1 + len(places) // 200]:
        point = np.array([middles[0][x], middles[1][y], middles[2][z]])
        base = (point + cells.centre)[::-1]
        row = int(cells.cells[z, y, x]) - 1
        inside = (quads.dest[:, :3] <= base) & (base < quads.dest[:, 3:])
        box = int([*np.flatnonzero(inside.all(1)), -1][0])
        if box < 0:
            of = cover.failed if cells.kinds[row] == FAILED else cover.missing
            assert any((np.array(r.low) <= base).all() and (base < r.high).all() for r in of)
            assert cells.keys[row] is None
            continue
        assert (cells.kinds[row], cells.keys[row]) == (DRAWN, quads.keys[box])
        assert (cells.levels[row], cells.wanted[row]) == (quads.levels[box], cover.level)
        texel = ((point - cells.corner[row]) / cells.scale[row])[::-1]
        share_of_box = (base - quads.dest[box, :3]) / (quads.dest[box, 3:] - quads.dest[box, :3])
        source = quads.source[box]
        assert close(texel, source[:3] + share_of_box * (source[3:] - source[:3]), 1e-4)
        shown.add(box)
    assert shown == set(range(len(quads))) or len(places) >= 200
    assert cells.kinds.tolist().count(MISSING) == 1


def test_boxes_of_one_tile_are_one_row() -> None:
    lattice = bricks((64, 64, 64))
    sight = look_at(lattice)
    cover = cover_view(lattice, sight.box, 0, lambda key: key.level == 2)
    cells = cells_of(lattice, cover, sight)
    assert len(cover.quads) == 64
    assert len(cells.keys) == 1 + 2
    np.testing.assert_array_equal(np.unique(cells.cells), [1])


def test_what_no_box_of_the_cover_names_is_missing() -> None:
    lattice = bricks((32, 32, 32))
    sight = look_at(lattice)
    cover = cover_view(lattice, Region((0, 0, 0), (16, 32, 32)), 0, lambda key: True)
    cells = cells_of(lattice, cover, sight)
    assert cells.kinds[cells.cells[-1] - 1].tolist() == [[MISSING] * 2] * 2


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_faces_are_closed_where_something_beyond_them_is_not_wanted(data: st.DataObject) -> None:
    lattice = bricks((40, 50, 60), levels=2, edge=16)
    fine = [lattice.key(0, grid) for grid in np.ndindex(*lattice.levels[0].tile_counts)]
    wanted = {key for key in fine if data.draw(st.integers(0, 3))} | {lattice.key(1, (0, 0, 0))}
    sight = look_at(lattice)
    cover = cover_view(lattice, sight.box, 0, lambda tile: tile.level == 1 or tile in wanted)
    cells = cells_of(lattice, cover, sight)
    closed = closed_faces(lattice, cells, wanted.__contains__)
    if len(np.unique(cells.levels[cells.kinds == DRAWN])) < 2:
        assert closed is None
        return
    assert closed is not None
    for key, faces in zip(cells.keys, closed, strict=True):
        if key is None:
            continue
        counts = lattice.levels[key.level].tile_counts
        for face in range(6):
            axis, side = 2 - face % 3, 1 if face >= 3 else -1
            beyond = [
                tuple(np.add(key.grid, step)) for step in product((-1, 0, 1), repeat=3) if step[axis] == side
            ]
            lost = [
                grid
                for grid in beyond
                if all(0 <= at < count for at, count in zip(grid, counts, strict=True))
                and lattice.key(key.level, grid) not in wanted
            ]
            assert faces[face] == bool(lost)
