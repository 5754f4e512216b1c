"""How much memory a group of tasks holds, and how many tasks should read together. Pure; words as in plan.py."""

from __future__ import annotations

import math
from collections.abc import Callable

from octree.pyramid.boxes import block_at, counts, finer, whole
from octree.pyramid.building.planning.layout import Round
from octree.pyramid.building.planning.request import PlanRequest
from octree.pyramid.model import Box, LevelInfo

TASK_COPIES = (
    4  # of what a task reads: itself, its sums and levels, chunks being encoded, files being written
)
PLACES_TRIED = 16  # blocks along an axis among which the one that cuts most of SOURCE's blocks is looked for
WORTH_GROUPING = 1.5  # times what whole blocks of SOURCE would take above which tasks read together
RUNTIME_BYTES = 42 * 2**20  # TensorStore's cache for reading, threads, allocator slack


def group_for(
    request: PlanRequest,
    levels: tuple[LevelInfo, ...],
    rounds: tuple[Round, ...],
    transient: Callable[[Box], int],
    decoded: Callable[[Box], int],
    room_bytes: int,
) -> tuple[int, ...]:
    """Tasks that read together: more and more while that saves decoding, as far as memory allows."""
    first, shape = rounds[0], levels[0].shape
    most = largest_group(request, first)

    def cost_of(group: tuple[int, ...]) -> float:
        return decoded_per_voxel(first, shape, group, decoded)

    def larger(group: tuple[int, ...], times: int) -> tuple[int, ...]:
        """The best of the groups that are ``times`` as long along one axis, or as long as there is a use for it."""
        candidates = [
            (*group[:axis], min(most[axis], group[axis] * times), *group[axis + 1 :])
            for axis in range(len(most))
        ]
        fitting = [g for g in candidates if group_bytes(request, levels, rounds, g, transient) <= room_bytes]
        return min(fitting, key=cost_of, default=group)

    group, enough = (1,) * len(most), WORTH_GROUPING * max(cost_of(most), request.dtype.itemsize)
    while cost_of(group) > enough:
        # at once to a whole block of SOURCE where less would end inside one, and so meet more of them
        following = min(
            larger(group, 2),
            larger(group, max(most)),
            key=lambda g: (cost_of(g) >= cost_of(group), math.prod(g)),
        )
        if cost_of(following) >= cost_of(group):
            break
        group = following
    return group


def largest_group(request: PlanRequest, first: Round) -> tuple[int, ...]:
    """As many tasks as meet one of the blocks in which SOURCE is read."""
    return tuple(map(min, counts(request.read_shape, first.blocks[0]), first.grid))


def decoded_per_voxel(
    first: Round, shape: tuple[int, ...], group: tuple[int, ...], decoded: Callable[[Box], int]
) -> float:
    """Bytes of SOURCE that are decoded for each voxel, when tasks of the first round read in such groups."""
    box = finer(whole(group), first.blocks[0], shape)
    return decoded(box) / math.prod(box.shape)


def group_bytes(
    request: PlanRequest,
    levels: tuple[LevelInfo, ...],
    rounds: tuple[Round, ...],
    group: tuple[int, ...],
    transient: Callable[[Box], int],
) -> int:
    """Most bytes that one group of tasks holds: what it reads, its levels, the widened sums, encoded chunks."""
    most = 0
    for r in rounds:
        base = levels[max(0, r.first - 1)].shape
        box = tuple(min(b * f, n) for b, f, n in zip(r.blocks[0], r.factors, base, strict=True))
        size = math.prod(box) * request.dtype.itemsize
        need = size * TASK_COPIES
        if r.first == 0:
            whole = tuple(min(b * g, n) for b, g, n in zip(box, group, base, strict=True))
            need += _most_transient(whole, base, transient)
            need += math.prod(whole) * request.dtype.itemsize - size
        most = max(most, need)
    return most


def _most_transient(edges: tuple[int, ...], shape: tuple[int, ...], transient: Callable[[Box], int]) -> int:
    """Most that reading one box of a grid needs. Boxes that begin where a block of SOURCE begins need least: along
    each axis the worst of the first boxes is taken, as the number of blocks met is a product over the axes."""

    def box(places: tuple[int, ...]) -> Box:
        return block_at(places, edges, shape)

    worst = (0,) * len(edges)
    for axis, (edge, length) in enumerate(zip(edges, shape, strict=True)):
        along = [
            (*worst[:axis], place, *worst[axis + 1 :])
            for place in range(min(PLACES_TRIED, -(-length // edge)))
        ]
        worst = max(along, key=lambda places: transient(box(places)))
    return transient(box(worst))
