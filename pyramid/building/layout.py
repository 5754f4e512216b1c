"""How a pyramid is laid out: write units, task blocks and rounds, for a wanted size of block. Pure; words as in plan.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from octree.pyramid.boxes import counts
from octree.pyramid.downsample import Method, Scalar, reduced_shape
from octree.pyramid.model import Axis, LevelInfo
from octree.pyramid.store.codecs import Codec

BLOCK_TILES = 8  # edge of a task block, in tiles, where shards are smaller or absent
DEPTH_BYTES = 32 * 2**20  # a task block grows along z up to this size


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan depends on. ``read_shape`` is the block in which SOURCE reads cheaply, ``held_bytes`` what it
    keeps between reads."""

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    voxel_size: tuple[float, ...]
    translation: tuple[float, ...]
    voxel_size_known: bool
    rgb: bool
    labels: bool
    name: str
    method: Method
    nodata: Scalar | None
    codec: Codec
    tile: int
    shard: int
    ome_version: str
    workers: int
    memory_bytes: int
    read_shape: tuple[int, ...]
    held_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """Levels ``first`` to ``last`` (inclusive); ``blocks[i]`` is the task block on level first + i.

    ``grid``     number of tasks along each axis.
    ``factors``  from the input (SOURCE or level first - 1) to level ``first``: all 1 in round 0.
    """

    first: int
    last: int
    blocks: tuple[tuple[int, ...], ...]
    grid: tuple[int, ...]
    factors: tuple[int, ...]

    @property
    def tasks(self) -> int:
        return math.prod(self.grid)


@dataclass(frozen=True, slots=True)
class Layout:
    """Edges that the memory search may change: task block and shard in tiles, depth in voxels."""

    block_tiles: int
    shard_tiles: int
    depth: int


def first_layout(request: PlanRequest, names: str) -> Layout:
    sharded = request.shard > 0 and request.ome_version != "0.4"
    tiles = request.shard if sharded else BLOCK_TILES
    while tiles < BLOCK_TILES:
        tiles *= 2
    depth = 1
    if "z" in names:
        edges = [min(tiles * request.tile, n) for n, a in zip(request.shape, names, strict=True) if a in "yx"]
        plane = math.prod(edges) * request.dtype.itemsize * _samples(request, names)
        most = min(BLOCK_TILES, 1 << (request.shape[names.index("z")] - 1).bit_length())
        while depth * 2 <= most and plane * depth * 2 <= DEPTH_BYTES:
            depth *= 2
    return Layout(tiles, request.shard if sharded else 0, depth)


def _samples(request: PlanRequest, names: str) -> int:
    return request.shape[names.index("c")] if request.rgb else 1


def smaller_and_smaller(layout: Layout) -> Iterator[Layout]:
    """The wanted layout, then ones that need less memory: shallower, then narrower, shards last."""
    yield layout
    depth, tiles, shard_tiles = layout.depth, layout.block_tiles, layout.shard_tiles
    while depth > 1:
        depth //= 2
        yield Layout(tiles, shard_tiles, depth)
    while tiles > 1:
        tiles = tiles // 2 if tiles % 2 == 0 else 1
        if shard_tiles and tiles % shard_tiles:
            shard_tiles = tiles
        yield Layout(tiles, shard_tiles, depth)


def lay_out(
    request: PlanRequest, names: str, factors: tuple[tuple[int, ...], ...], layout: Layout
) -> tuple[tuple[LevelInfo, ...], tuple[Round, ...]]:
    chunk = tuple(_chunk_edge(request, name, n) for name, n in zip(names, request.shape, strict=True))
    first_block = tuple(
        c * layout.block_tiles if name in "yx" else layout.depth if name == "z" else c
        for name, c in zip(names, chunk, strict=True)
    )
    shapes = _shapes(request.shape, factors)
    rounds = _rounds(shapes, factors, chunk, first_block)
    levels, total = [], (1,) * len(names)
    blocks = [block for r in rounds for block in r.blocks]
    shift = 0.0 if request.method == "nearest" else 0.5
    for k, (shape, block) in enumerate(zip(shapes, blocks, strict=True)):
        total = tuple(a * b for a, b in zip(total, factors[k], strict=True))
        scale = tuple(s * f for s, f in zip(request.voxel_size, total, strict=True))
        moved = tuple(
            t + s * (f - 1) * shift
            for t, s, f in zip(request.translation, request.voxel_size, total, strict=True)
        )
        shards = _shard_shape(names, chunk, block, shape, layout) if layout.shard_tiles else None
        levels.append(LevelInfo(str(k), shape, chunk, shards, scale, moved, str(request.codec)))
    return tuple(levels), rounds


def _chunk_edge(request: PlanRequest, name: str, length: int) -> int:
    if name in "yx":
        return min(request.tile, length)
    return length if name == "c" and request.rgb else 1


def _shard_shape(
    names: str, chunk: tuple[int, ...], block: tuple[int, ...], shape: tuple[int, ...], layout: Layout
) -> tuple[int, ...]:
    """The shard: the asked edge, but never larger than the task block or than the level needs."""
    edges = []
    for name, c, b, n in zip(names, chunk, block, shape, strict=True):
        edge = min(layout.shard_tiles * c, b) if name in "yx" else b
        # what is left over in the block must be whole shards
        edge = edge if b % edge == 0 else b
        edges.append(min(edge, _round_up(n, c)))
    return tuple(edges)


def _shapes(shape: tuple[int, ...], factors: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    shapes = [shape]
    for step in factors[1:]:
        shapes.append(reduced_shape(shapes[-1], step))
    return shapes


def _rounds(
    shapes: list[tuple[int, ...]],
    factors: tuple[tuple[int, ...], ...],
    chunk: tuple[int, ...],
    first_block: tuple[int, ...],
) -> tuple[Round, ...]:
    rounds, level = [], 0
    while level < len(shapes):
        step = factors[level]
        # the block that is read, on the level before, is as large as round 0's
        block = tuple(max(c, b // f // c * c) for b, f, c in zip(first_block, step, chunk, strict=True))
        block = _fit(block, chunk, shapes[level])
        grid = counts(shapes[level], block)
        blocks, last = [block], level
        while last + 1 < len(shapes):
            following = _next_block(blocks[-1], factors[last + 1], chunk, shapes[last], shapes[last + 1])
            if following is None:
                break
            blocks.append(following)
            last += 1
        rounds.append(Round(level, last, tuple(blocks), grid, step))
        level = last + 1
    return tuple(rounds)


def _fit(block: tuple[int, ...], chunk: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(b, _round_up(n, c)) for b, c, n in zip(block, chunk, shape, strict=True))


def _next_block(
    block: tuple[int, ...],
    step: tuple[int, ...],
    chunk: tuple[int, ...],
    shape: tuple[int, ...],
    next_shape: tuple[int, ...],
) -> tuple[int, ...] | None:
    """The block on the next level that a task can make of its own voxels; None when it would cut a chunk."""
    following = []
    for b, f, c, n, m in zip(block, step, chunk, shape, next_shape, strict=True):
        if b >= n:
            following.append(_round_up(m, c))
        elif b % (f * c) == 0:
            following.append(b // f)
        else:
            return None
    return tuple(following)


def _round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
