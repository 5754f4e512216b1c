"""What a plan says for people: what it changed to fit, why z is not halved, what cannot be. Pure; words as in plan.py."""

from __future__ import annotations

import math
from collections.abc import Iterator

from octree.pyramid.boxes import counts
from octree.pyramid.building.planning.layout import Layout, first_layout
from octree.pyramid.building.planning.request import VOLUME_CHUNK, PlanRequest
from octree.pyramid.errors import UsageError
from octree.pyramid.limits import DEFAULT_LIMITS
from octree.pyramid.model import LevelInfo
from octree.pyramid.units import bytes_text

INDEX_ENTRIES = 2**16  # chunks of one shard: their places are read before any of them
WORTH_SAYING = 2.0  # times that SOURCE is decoded


def check_chunk(request: PlanRequest) -> None:
    """Raises UsageError for chunks that nobody could read back."""
    size = math.prod(request.chunk) * request.dtype.itemsize
    if size > DEFAULT_LIMITS.max_decoded_bytes:
        raise UsageError(
            f"one chunk of {_by(request.chunk)} voxels takes {bytes_text(size)}; whoever reads one must decode it whole, and "
            f"stops at {bytes_text(DEFAULT_LIMITS.max_decoded_bytes)}",
            hint=f"give smaller {'--chunks' if request.chunks else '--tile'}",
        )


def check_shards(levels: tuple[LevelInfo, ...]) -> None:
    """Raises UsageError for shards of so many chunks that finding one is dearer than reading it."""
    shards, chunks = levels[0].shards, levels[0].chunks
    count = math.prod(counts(shards, chunks)) if shards else 1
    if shards and count > INDEX_ENTRIES:
        raise UsageError(
            f"a shard of {_by(shards)} voxels holds {count} chunks of {_by(chunks)}; at most {INDEX_ENTRIES} can be found "
            "in good time",
            hint="give a smaller --shard, or larger --chunks",
        )


def _by(lengths: tuple[int, ...]) -> str:
    return " x ".join(map(str, lengths))


def notes_of_fit(request: PlanRequest, got: Layout, workers: int, groups: int) -> tuple[str, ...]:
    notes, wanted = [], first_layout(request)
    if got != wanted:
        sizes = [
            _by(tuple(b * c for b, c in zip(layout.block, request.chunk, strict=True)))
            for layout in (got, wanted)
        ]
        notes.append(f"blocks of {sizes[0]} voxels instead of {sizes[1]}, to fit the memory limit")
    if workers < min(request.workers, groups):
        notes.append(f"{workers} instead of {request.workers} workers, to fit the memory limit")
    return tuple(notes)


def note_of_decoding(request: PlanRequest, times: float, needed_bytes: int) -> Iterator[str]:
    """Where no room is left to read together what SOURCE keeps in one block: how often it is decoded, and the ``memory``
    with which it would be decoded once."""
    if times >= WORTH_SAYING:
        yield (
            f"SOURCE is decoded about {times:.0f} times, as its blocks of {_by(request.read_shape)} voxels are longer than "
            f"those of the build; with --memory {-(-needed_bytes // 2**20)}MiB once"
        )


def note_of_z(request: PlanRequest) -> Iterator[str]:
    """Why a stack is not taken for a volume, and what would make it one."""
    if "z" not in request.names or request.halves_z or request.shape[request.names.index("z")] == 1:
        return
    edge = VOLUME_CHUNK
    becomes = (
        "z would be halved too"
        if request.chunks
        else f"z would be halved too, in chunks of {edge} x {edge} x {edge}"
    )
    lacking = [name for name in request.names if name in "zyx" and name not in request.sizes_known]
    if lacking:
        sizes = ",".join(f"{name}=..." for name in lacking)
        yield (
            f"z is not halved, as no voxel size is known of {', '.join(lacking)}; with --voxel-size {sizes} {becomes}"
        )
    else:
        units = ", ".join(
            f"{axis.name} {axis.unit or 'none'}" for axis in request.axes if axis.type == "space"
        )
        yield (
            f"z is not halved, as voxel sizes are not in one unit ({units}); with --unit, which is one for all, {becomes}"
        )
