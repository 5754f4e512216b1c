"""Shape, voxel size and options → everything a build will do, before it starts. Pure.

*Write unit*: what is written as one file or as one group of files by one task: a shard, or a chunk when there
are no shards. *Task block*: whole write units that one task owns. *Round*: the levels that one pass of tasks
writes; its first level is the copy of SOURCE (round 0) or the reduction of the last level of the round before,
the others are reduced in memory. Blocks halve with each level of a round, so a task owns its write units on
every level of it, and no two tasks ever touch one file.

The layout depends on shape, dtype, tile, shard and (only when it is short) memory; never on workers or on how
SOURCE is stored. All shapes are per axis in the image's axis order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octree.pyramid.boxes import block_at, counts
from octree.pyramid.building.planning.budget import (
    RUNTIME_BYTES,
    WORTH_GROUPING,
    decoded_per_voxel,
    group_bytes,
    group_for,
    largest_group,
)
from octree.pyramid.building.planning.layout import Layout, Round, first_layout, lay_out, layouts
from octree.pyramid.building.planning.notes import (
    check_chunk,
    check_shards,
    note_of_decoding,
    note_of_z,
    notes_of_fit,
)
from octree.pyramid.building.planning.request import PlanRequest
from octree.pyramid.downsample import Method, Scalar
from octree.pyramid.errors import UsageError
from octree.pyramid.model import Box, LevelInfo, PyramidSpec
from octree.pyramid.store.codecs import Codec
from octree.pyramid.units import bytes_text


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build will do.

    ``spec``      the pyramid to be written (no channels' windows yet).
    ``factors``   per level, from the level before; all 1 for level 0.
    ``group``     how many tasks along each axis read SOURCE together in round 0, so that its blocks (chunks, tiles,
                  strips) that are larger than a task's are not decoded again and again.
    ``workers``   how many groups run at once; fewer than asked for when memory is short.
    ``readers`` threads that read for one group of several tasks, so that those that wait for memory help.
    ``in_flight`` groups under way: one more than workers, so that cores have work while a group waits for the disk.
    ``peak_bytes``     planned peak, beside the bare process.  ``minimum_bytes``  least ``memory`` that would do.
    ``files``     files at most (empty ones are not stored), metadata included.
    ``notes``     what was changed to fit, for people.
    ``warnings``  what of SOURCE is lost, or taken by a rule.
    """

    spec: PyramidSpec
    factors: tuple[tuple[int, ...], ...]
    rounds: tuple[Round, ...]
    method: Method
    nodata: Scalar | None
    codec: Codec
    group: tuple[int, ...]
    workers: int
    readers: int
    in_flight: int
    memory_bytes: int
    peak_bytes: int
    minimum_bytes: int
    files: int
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())

    @property
    def level_bytes(self) -> tuple[int, ...]:
        """Uncompressed bytes of each level."""
        return tuple(math.prod(level.shape) * self.spec.dtype.itemsize for level in self.spec.levels)

    @property
    def tasks(self) -> int:
        return sum(r.tasks for r in self.rounds)

    @property
    def zarr_format(self) -> int:
        return 2 if self.spec.ome_version == "0.4" else 3

    def block(self, round_index: int, task: int, level: int) -> Box:
        """The voxels of ``level`` that a task owns, clipped to the level."""
        r = self.rounds[round_index]
        return block_at(
            np.unravel_index(task, r.grid), r.blocks[level - r.first], self.spec.levels[level].shape
        )

    def input_box(self, round_index: int, task: int) -> Box:
        """What a task reads: voxels of SOURCE in round 0, of the level before the round's first later on."""
        r = self.rounds[round_index]
        reach = tuple(b * f for b, f in zip(r.blocks[0], r.factors, strict=True))
        shape = self.spec.levels[max(0, r.first - 1)].shape
        return block_at(np.unravel_index(task, r.grid), reach, shape)

    def groups(self, round_index: int) -> Iterator[list[int]]:
        """Every task of a round once, by its place in the round's grid, in groups that read together."""
        r = self.rounds[round_index]
        if round_index or all(g == 1 for g in self.group):
            yield from ([place] for place in range(r.tasks))
            return
        steps = [range(0, n, g) for n, g in zip(r.grid, self.group, strict=True)]
        for corner in itertools.product(*steps):
            spans = [range(a, min(a + g, n)) for a, g, n in zip(corner, self.group, r.grid, strict=True)]
            yield [int(np.ravel_multi_index(index, r.grid)) for index in itertools.product(*spans)]

    def to_json(self) -> dict[str, Any]:
        """The plan as ``--dry-run --json`` prints it."""
        return {
            "axes": "".join(self.spec.axis_names),
            "dtype": self.spec.dtype.name,
            "rgb": self.spec.rgb,
            "labels": self.spec.labels,
            "ome_version": self.spec.ome_version,
            "method": self.method,
            "codec": str(self.codec),
            "levels": [
                {
                    "path": level.path,
                    "shape": list(level.shape),
                    "chunks": list(level.chunks),
                    "shards": list(level.shards) if level.shards else None,
                    "scale": list(level.scale),
                    "translation": list(level.translation),
                    "bytes": size,
                }
                for level, size in zip(self.spec.levels, self.level_bytes, strict=True)
            ],
            "bytes": sum(self.level_bytes),
            "files": self.files,
            "tasks": self.tasks,
            "rounds": [[r.first, r.last] for r in self.rounds],
            "workers": self.workers,
            "memory_bytes": self.memory_bytes,
            "peak_bytes": self.peak_bytes,
            "minimum_bytes": self.minimum_bytes,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def level_factors(
    names: str, shape: tuple[int, ...], voxel_size: tuple[float, ...], *, tile: int, z_joins: bool
) -> Iterator[tuple[int, ...]]:
    """Factors of level 1, 2, …, each from the level before, until y and x (and z if it joins) fit one tile.

    y and x have equal factors always. z joins when voxel sizes are known; then at each step the axes halve whose
    voxel size is below √2 times the finest one's; an axis of length 1 has nothing to halve and does not count.
    """
    plane = [i for i, name in enumerate(names) if name in "yx"]
    z = names.find("z") if z_joins else -1
    lengths, sizes = list(shape), list(voxel_size)
    while True:
        plane_length = max(lengths[i] for i in plane)
        deep = z >= 0 and lengths[z] > 1
        if plane_length <= tile and not (deep and lengths[z] > tile):
            return
        plane_size = min(sizes[i] for i in plane) if plane_length > 1 else math.inf
        z_size = sizes[z] if deep else math.inf
        limit = math.sqrt(2) * min(plane_size, z_size)
        halved = ([*plane] if plane_size < limit else []) + ([z] if z_size < limit else [])
        yield tuple(2 if i in halved else 1 for i in range(len(shape)))
        for i in halved:
            lengths[i], sizes[i] = -(-lengths[i] // 2), sizes[i] * 2


def make_plan(
    request: PlanRequest,
    transient_bytes: Callable[[Box], int] | None = None,
    decoded_bytes: Callable[[Box], int] | None = None,
) -> BuildPlan:
    """The plan; ``transient_bytes(box)`` is what reading a box of SOURCE needs besides its result, ``decoded_bytes(box)``
    what it decodes, as much if not given.

    Raises UsageError, naming the least memory that would do, when ``memory_bytes`` is not enough.
    """
    transient = transient_bytes or (lambda box: 0)
    decoded = decoded_bytes or transient
    steps = level_factors(
        request.names, request.shape, request.voxel_size, tile=request.tile, z_joins=request.halves_z
    )
    factors = ((1,) * len(request.shape), *steps)
    check_chunk(request)
    fixed = RUNTIME_BYTES + request.held_bytes
    way, least = _choose(request, factors, transient, decoded, request.memory_bytes - fixed)
    minimum = fixed + least
    if way is None:
        raise UsageError(
            f"--memory of {bytes_text(request.memory_bytes)} is too small: this build needs at least {bytes_text(minimum)}",
            hint=f"give --memory {-(-minimum // 2**20)}MiB or more{', or smaller --chunks' if request.chunks else ''}",
            needed_bytes=minimum,
        )
    levels, rounds, group = way.levels, way.rounds, way.group
    check_shards(levels)
    each = group_bytes(request, levels, rounds, group, transient)
    busiest = max(math.prod(counts(r.grid, group)) for r in rounds[:1])
    fitting = max(1, min((request.memory_bytes - fixed) // each, busiest))
    workers = min(request.workers, fitting)
    in_flight = min(workers + 1, fitting) if workers > 1 else 1
    most = largest_group(request, rounds[0])
    once = decoded_per_voxel(rounds[0], levels[0].shape, most, decoded)
    whole_bytes = group_bytes(request, levels, rounds, most, transient)
    return BuildPlan(
        spec=PyramidSpec(
            axes=request.axes,
            dtype=request.dtype,
            levels=levels,
            name=request.name,
            ome_version=request.ome_version,
            method=request.method,
            rgb=request.rgb,
            labels=request.labels,
        ),
        factors=factors,
        rounds=rounds,
        method=request.method,
        nodata=request.nodata,
        codec=request.codec,
        group=group,
        workers=workers,
        readers=max(1, request.workers // workers),
        in_flight=in_flight,
        memory_bytes=request.memory_bytes,
        peak_bytes=fixed + in_flight * each,
        minimum_bytes=minimum,
        files=_files(levels, request.ome_version),
        notes=(
            *notes_of_fit(request, way.layout, workers, busiest),
            *note_of_decoding(request, way.cost / max(once, request.dtype.itemsize), fixed + whole_bytes),
            *note_of_z(request),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """One layout that fits the memory. ``cost``: bytes decoded per voxel of level 0."""

    layout: Layout
    levels: tuple[LevelInfo, ...]
    rounds: tuple[Round, ...]
    group: tuple[int, ...]
    cost: float


def _choose(
    request: PlanRequest,
    factors: tuple[tuple[int, ...], ...],
    transient: Callable[[Box], int],
    decoded: Callable[[Box], int],
    room_bytes: int,
) -> tuple[_Way | None, int]:
    """The largest layout that fits ``room_bytes``, and the least bytes that any needs. Where it must be smaller than
    wanted anyway, one still smaller whose tasks can read together beats one that decodes SOURCE again and again."""
    best, least, alone = None, 0, (1,) * len(request.shape)
    wanted = first_layout(request)
    for layout in layouts(request):
        levels, rounds = lay_out(request, factors, layout)
        least = group_bytes(request, levels, rounds, alone, transient)
        if least > room_bytes or (best and best.layout == wanted):
            continue
        group = group_for(request, levels, rounds, transient, decoded, room_bytes)
        way = _Way(
            layout, levels, rounds, group, decoded_per_voxel(rounds[0], levels[0].shape, group, decoded)
        )
        if best is None or way.cost * WORTH_GROUPING < best.cost:
            best = way
    return best, least


def _files(levels: tuple[LevelInfo, ...], ome_version: str) -> int:
    """Data files at most, and the metadata files."""
    units = sum(math.prod(counts(level.shape, level.shards or level.chunks)) for level in levels)
    return units + len(levels) + (2 if ome_version == "0.4" else 1)
