"""The plan: levels, factors, write units that no two tasks share, files, memory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octree.pyramid.building.plan import BuildPlan, level_factors, make_plan
from octree.pyramid.building.planning.budget import RUNTIME_BYTES
from octree.pyramid.building.planning.request import PlanRequest
from octree.pyramid.errors import UsageError
from octree.pyramid.model import Axis, Box
from octree.pyramid.store.codecs import Codec


def request(
    shape: tuple[int, ...], names: str | None = None, *, voxel_size_known: bool = False, **changes: Any
) -> PlanRequest:
    names = names or "tczyx"[-len(shape) :]
    base = PlanRequest(
        axes=tuple(Axis(name) for name in names),
        shape=shape,
        dtype=np.dtype("u2"),
        voxel_size=(1.0,) * len(shape),
        translation=(0.0,) * len(shape),
        sizes_known="zyx" if voxel_size_known else "",
        rgb=False,
        labels=False,
        name="",
        method="mean",
        nodata=None,
        codec=Codec("zstd", 1),
        tile=256,
        shard=None,
        ome_version="0.5",
        workers=2,
        memory_bytes=2**30,
        read_shape=(1,) * len(shape),
    )
    return replace(base, **changes)


def shapes(plan: BuildPlan) -> list[tuple[int, ...]]:
    return [level.shape for level in plan.spec.levels]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 1), [(1, 1)]),
        ((256, 256), [(256, 256)]),
        ((257, 256), [(257, 256), (129, 128)]),
        ((1000, 700), [(1000, 700), (500, 350), (250, 175)]),
        ((1, 1000), [(1, 1000), (1, 500), (1, 250)]),
        ((3, 600, 10), [(3, 600, 10), (3, 300, 5), (3, 150, 3)]),
    ],
)
def test_y_and_x_halve_together_until_both_fit_one_tile(
    shape: tuple[int, ...], expected: list[tuple[int, ...]]
) -> None:
    assert shapes(make_plan(request(shape))) == expected


@pytest.mark.parametrize(
    ("shape", "sizes", "expected"),
    [
        # isotropic: all together, until z fits too
        ((600, 300, 300), (1, 1, 1), ["zyx", "zyx"]),
        # coarse z waits until the plane has become as coarse
        ((40, 4096, 4096), (4, 1, 1), ["yx", "yx", "zyx", "zyx"]),
        # just below and just above √2
        ((40, 512, 512), (1.41, 1, 1), ["zyx"]),
        ((40, 512, 512), (1.42, 1, 1), ["yx"]),
        # fine z goes first
        ((512, 512, 512), (0.25, 1, 1), ["z", "z", "zyx"]),
        # one slice has nothing to halve, however thin it is
        ((1, 512, 512), (0.01, 1, 1), ["yx"]),
        # a plane of one pixel has nothing to halve either
        ((1000, 1, 1), (8, 1, 1), ["z", "z"]),
    ],
)
def test_anisotropic_voxels_become_isotropic_first(
    shape: tuple[int, ...], sizes: tuple[float, ...], expected: list[str]
) -> None:
    steps = list(level_factors("zyx", shape, tuple(map(float, sizes)), tile=256, z_joins=True))
    assert ["".join(n for n, f in zip("zyx", step, strict=True) if f == 2) for step in steps] == expected


def test_z_stays_when_voxel_sizes_are_unknown_and_t_and_c_always() -> None:
    plan = make_plan(request((3, 4, 500, 600, 600), voxel_size_known=False))
    assert {shape[:3] for shape in shapes(plan)} == {(3, 4, 500)}
    plan = make_plan(request((3, 4, 500, 600, 600), voxel_size_known=True))
    assert shapes(plan)[-1] == (3, 4, 125, 150, 150)


def test_scale_is_the_exact_factor_and_translation_the_half_pixel() -> None:
    plan = make_plan(request((101, 1001), voxel_size=(0.5, 2.0), translation=(10.0, 0.0), tile=64))
    factors = [2**k for k in range(len(plan.spec.levels))]
    assert [level.scale for level in plan.spec.levels] == [(0.5 * f, 2.0 * f) for f in factors]
    assert [level.translation for level in plan.spec.levels] == [
        (10 + 0.5 * (f - 1) / 2, 2.0 * (f - 1) / 2) for f in factors
    ]
    nearest = make_plan(request((101, 1001), method="nearest", translation=(10.0, 0.0), tile=64))
    assert {level.translation for level in nearest.spec.levels} == {(10.0, 0.0)}


def test_shards_halve_with_each_level_so_that_a_task_owns_them() -> None:
    plan = make_plan(request((16384, 16384)))
    assert [level.shards for level in plan.spec.levels] == [
        (2048, 2048), (1024, 1024), (512, 512), (256, 256), (1024, 1024), (512, 512), (256, 256)
    ]  # fmt: skip
    assert [(r.first, r.last) for r in plan.rounds] == [(0, 3), (4, 6)]


def test_no_shards_when_not_wanted_or_not_possible() -> None:
    for changes in ({"shard": 0}, {"ome_version": "0.4"}):
        plan = make_plan(request((5000, 5000), **changes))
        assert {level.shards for level in plan.spec.levels} == {None}
        assert plan.rounds[0].blocks[0] == (2048, 2048)
    assert plan.zarr_format == 2


def test_samples_of_one_colour_image_stay_in_one_chunk() -> None:
    plan = make_plan(request((3, 5000, 4000), "cyx", rgb=True, dtype=np.dtype("u1")))
    assert {level.chunks for level in plan.spec.levels} == {(3, 256, 256)}
    apart = make_plan(request((3, 5000, 4000), "cyx", dtype=np.dtype("u1")))
    assert {level.chunks for level in apart.spec.levels} == {(1, 256, 256)}


some_plans = st.builds(
    lambda names, lengths, tile, shard, known, rgb, version, memory, read: request(
        tuple(n if name in "yx" else min(n, 5) for name, n in zip(names, lengths, strict=False)),
        names,
        tile=tile,
        shard=shard,
        voxel_size_known=known,
        voxel_size=tuple({"z": 3.0}.get(n, 1.0) for n in names),
        rgb=rgb and "c" in names,
        ome_version=version,
        memory_bytes=memory,
        read_shape=tuple(read[: len(names)]),
    ),
    st.sampled_from(["yx", "zyx", "cyx", "czyx", "tczyx", "tyx"]),
    st.lists(st.integers(1, 70), min_size=5, max_size=5),
    st.integers(1, 20),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["0.5", "0.4"]),
    st.sampled_from([2**30, RUNTIME_BYTES + 40_000, RUNTIME_BYTES + 2_000_000]),
    st.lists(st.integers(1, 60), min_size=5, max_size=5),
)


@settings(deadline=None, max_examples=50)
@given(some_plans)
def test_tasks_tile_every_level_in_whole_write_units_owned_once(wanted: PlanRequest) -> None:
    try:
        plan = make_plan(wanted)
    except UsageError:
        return
    assert plan.peak_bytes <= plan.memory_bytes
    for index, r in enumerate(plan.rounds):
        assert sorted(place for group in plan.groups(index) for place in group) == list(range(r.tasks))
        for level in range(r.first, r.last + 1):
            info = plan.spec.levels[level]
            unit = info.shards or info.chunks
            assert all(s % c == 0 for s, c in zip(unit, info.chunks, strict=True))
            owners: dict[tuple[int, ...], int] = {}
            covered = np.zeros(info.shape, np.uint8)
            for task in range(r.tasks):
                box = plan.block(index, task, level)
                covered[box.slices] += 1
                for corner in np.ndindex(
                    *(-(-(b - a) // u) for a, b, u in zip(box.start, box.stop, unit, strict=True))
                ):
                    key = tuple(a // u + i for a, u, i in zip(box.start, unit, corner, strict=True))
                    assert owners.setdefault(key, task) == task
                if level == r.first:
                    made_of = plan.input_box(index, task)
                    assert tuple(a * f for a, f in zip(box.start, r.factors, strict=True)) == made_of.start
                    assert box.shape == tuple(
                        -(-n // f) for n, f in zip(made_of.shape, r.factors, strict=True)
                    )
            assert (covered == 1).all()


def test_the_layout_depends_on_neither_workers_nor_the_source_s_own_blocks() -> None:
    base = make_plan(request((40, 3000, 3000)))
    for changes in ({"workers": 9}, {"read_shape": (40, 512, 512)}, {"read_shape": (1, 3000, 3000)}):
        other = make_plan(request((40, 3000, 3000), **changes))
        assert other.spec == base.spec
        assert other.rounds == base.rounds


def bricks(edge: int) -> Any:
    """What reading needs of a source in cubes: all cubes that the box meets, decoded."""
    return lambda box: (
        2
        * math.prod(-(-b // edge) * edge - a // edge * edge for a, b in zip(box.start, box.stop, strict=True))
    )


def test_tasks_read_together_what_the_source_keeps_in_one_block() -> None:
    wanted = request((64, 1024, 1024), read_shape=(64, 64, 64))
    plan = make_plan(wanted, bricks(64))
    depth = plan.rounds[0].blocks[0][0]
    assert depth < 64
    assert plan.group == (64 // depth, 1, 1)
    tight = make_plan(replace(wanted, memory_bytes=300 * 2**20), bricks(64))
    assert 1 <= tight.group[0] < plan.group[0]
    assert tight.rounds == plan.rounds


@pytest.mark.parametrize("edge", [64, 100])
def test_blocks_that_must_be_smaller_anyway_are_such_that_the_source_is_decoded_once(edge: int) -> None:
    """Wider blocks with no memory left to read together were chosen over narrower ones that could; and groups that
    end inside a brick over those that end with it."""
    wanted = request((256, 1024, 768), read_shape=(edge,) * 3, workers=1)
    largest = make_plan(wanted, bricks(edge)).rounds[0].blocks[0]
    for mib in range(128, 300, 10):
        plan = make_plan(replace(wanted, memory_bytes=mib * 2**20), bricks(edge))
        box = tuple(b * g for b, g in zip(plan.rounds[0].blocks[0], plan.group, strict=True))
        if plan.rounds[0].blocks[0] != largest:
            assert bricks(edge)(Box((0, 0, 0), box)) / math.prod(box) <= 3 * plan.spec.dtype.itemsize


def test_tasks_read_alone_where_parts_of_the_source_s_blocks_cost_nothing_more() -> None:
    wanted = request((5000, 5000), read_shape=(64, 5000))
    assert make_plan(wanted).group == (1, 1)
    assert make_plan(wanted, lambda box: 2 * math.prod(box.shape)).group == (1, 1)
    strips = make_plan(wanted, lambda box: 2 * box.shape[0] * 5000)
    assert strips.group == (1, 2)


def test_memory_is_kept_by_fewer_workers_then_smaller_blocks_then_refused() -> None:
    wanted = request((20000, 20000), dtype=np.dtype("f8"), workers=16)
    plan = make_plan(wanted)
    assert plan.workers < 16
    assert plan.peak_bytes <= wanted.memory_bytes
    small = make_plan(replace(wanted, memory_bytes=64 * 2**20))
    assert small.rounds[0].blocks[0] < (2048, 2048)
    assert small.peak_bytes <= 64 * 2**20
    with pytest.raises(UsageError) as caught:
        make_plan(replace(wanted, memory_bytes=2**20))
    needed = caught.value.details["needed_bytes"]
    assert make_plan(replace(wanted, memory_bytes=needed)).peak_bytes <= needed
    with pytest.raises(UsageError):
        make_plan(replace(wanted, memory_bytes=needed - 1))


def test_what_reading_needs_counts() -> None:
    calm = make_plan(request((5000, 5000), workers=99))
    hungry = make_plan(request((5000, 5000), workers=99), lambda box: 200 * 2**20)
    assert hungry.workers < calm.workers
    with pytest.raises(UsageError):
        make_plan(request((5000, 5000)), lambda box: 2**31)
    with pytest.raises(UsageError):
        make_plan(request((5000, 5000), held_bytes=2**31))


def test_reading_is_planned_for_the_task_that_cuts_most_of_the_source_s_blocks() -> None:
    """Bricks of 200: 2 x 2 of them meet a block of 256 at the corner, 3 x 3 one in the middle."""
    wanted = request((2, 3000, 3000), read_shape=(2, 200, 200), workers=1)
    least = least_memory(wanted, bricks(200))
    assert least >= RUNTIME_BYTES + 2 * (9 * 200**3)


def test_what_a_reader_says_it_holds_is_planned_once() -> None:
    wanted = request((5000, 5000), read_shape=(4096, 4096), workers=1)
    one = 4096 * 4096
    more = least_memory(wanted, lambda box: 3 * one) - least_memory(wanted, lambda box: one)
    assert more == 2 * one


def least_memory(wanted: PlanRequest, transient: Any) -> int:
    with pytest.raises(UsageError) as caught:
        make_plan(replace(wanted, memory_bytes=1), transient)
    return int(caught.value.details["needed_bytes"])


def test_a_petabyte_is_planned_without_listing_its_tasks() -> None:
    plan = make_plan(request((1000, 10**6, 10**6), voxel_size_known=True))
    assert plan.level_bytes[0] == 2 * 10**15
    assert plan.tasks > 10**6
    last = plan.rounds[0].tasks - 1
    assert plan.block(0, last, 0).stop == (1000, 10**6, 10**6)
    assert (
        plan.files
        == sum(
            math.prod(-(-n // s) for n, s in zip(v.shape, v.shards or (), strict=True))
            for v in plan.spec.levels
        )
        + len(plan.spec.levels)
        + 1
    )


def test_boxes_are_clipped_to_the_level() -> None:
    plan = make_plan(request((5000, 100)))
    assert plan.block(0, 2, 0) == Box((4096, 0), (5000, 100))
