"""How a pyramid is laid out: write units, task blocks and rounds, for a wanted size of block. Pure; words as in plan.py."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from octree.pyramid.boxes import counts
from octree.pyramid.building.planning.request import PlanRequest
from octree.pyramid.downsample import reduced_shape
from octree.pyramid.model import LevelInfo

BLOCK_TILES = 8  # edge of a task block, in tiles, where shards are smaller or absent
SPAN_VOX = 2048  # edge of a task block in y and x where it is not told by --tile
DEPTH_BYTES = 32 * 2**20  # a task block grows up to this size: along z, and of volumes in y and x
VOLUME_SHARD_VOX = 256  # longest edge of a volume's shard
VOLUME_SHARD_BYTES = 64 * 2**20  # what is larger, as of complex numbers, is not as deep
SHARD_TILES = 8  # edge of a shard, in chunks
REMOTE_SHARD_TILES = 16  # in object storage, where each shard is a request


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
    """What the memory search may change: edges of task block and shard, in chunks along each axis; ``shard`` is empty
    where every chunk is a file."""

    block: tuple[int, ...]
    shard: tuple[int, ...]


def layouts(request: PlanRequest) -> Iterator[Layout]:
    """The layout that is wanted when memory is not short, then ones that need less: shallower, then narrower, shards last.
    Blocks of a volume stay about as deep as they are wide, so that levels halve on."""
    layout = first_layout(request)
    yield layout
    for block in _smaller(layout.block, request):
        # what is left over in the block must be whole shards
        shard = (
            tuple(b if b % s else s for b, s in zip(block, layout.shard, strict=True)) if layout.shard else ()
        )
        layout = Layout(block, shard)
        yield layout


def first_layout(request: PlanRequest) -> Layout:
    """The layout that is wanted when memory is not short."""
    names, chunk = request.names, request.chunk
    sharded = request.shard != 0 and request.ome_version != "0.4"
    if request.deep:
        shard = _volume_shard(request)
        block = _volume_block(request, shard if sharded else (1,) * len(names))
    else:
        shard = tuple(
            _plane_shard(request, c) if name in "yx" else 1 for name, c in zip(names, chunk, strict=True)
        )
        block = _plane_block(request, shard if sharded else (BLOCK_TILES,) * len(names))
        # a stack's shard is as deep as its block
        shard = tuple(s if name in "yx" else b for name, s, b in zip(names, shard, block, strict=True))
    return Layout(block, shard if sharded else ())


def _plane_shard(request: PlanRequest, chunk: int) -> int:
    if request.shard or not request.chunks:
        return request.shard or (REMOTE_SHARD_TILES if request.remote else SHARD_TILES)
    return _power_of_two(SPAN_VOX // chunk)


def _power_of_two(most: int) -> int:
    """At most ``most``, and as a shard's edge in chunks: what halves evenly is reduced without being read again."""
    return 1 << (max(1, min(SHARD_TILES, most)).bit_length() - 1)


def _plane_block(request: PlanRequest, shard: tuple[int, ...]) -> tuple[int, ...]:
    """Whole shards in y and x, and as many planes as ``DEPTH_BYTES`` hold."""
    names, chunk = request.names, request.chunk
    block = [1] * len(names)
    for axis in (i for i, name in enumerate(names) if name in "yx"):
        tiles = shard[axis]
        while tiles < BLOCK_TILES and (not request.chunks or 2 * tiles * chunk[axis] <= SPAN_VOX):
            tiles *= 2
        block[axis] = tiles
    if "z" in names:
        z = names.index("z")
        plane = _bytes_of(request, block)
        most = min(BLOCK_TILES, 1 << (request.shape[z] - 1).bit_length())
        while block[z] * 2 <= most and plane * block[z] * 2 <= DEPTH_BYTES:
            block[z] *= 2
    return tuple(block)


def _volume_shard(request: PlanRequest) -> tuple[int, ...]:
    """As asked for, else up to 256 voxels an edge, less deep where voxels take many bytes."""
    names, chunk = request.names, request.chunk
    longest = [
        request.shard or _power_of_two(VOLUME_SHARD_VOX // c) if name in "zyx" else 1
        for name, c in zip(names, chunk, strict=True)
    ]
    wanted = tuple(longest)
    if request.shard or _bytes_of(request, wanted) <= VOLUME_SHARD_BYTES:
        return wanted
    smaller = _smaller(wanted, request)
    return next(
        (shard for shard in smaller if _bytes_of(request, shard) <= VOLUME_SHARD_BYTES), (1,) * len(names)
    )


def _volume_block(request: PlanRequest, shard: tuple[int, ...]) -> tuple[int, ...]:
    """Whole shards, up to 256 voxels deep, and wide in y and x where a volume is not deep."""
    block, wider = list(shard), True
    axes = {name: i for i, name in enumerate(request.names) if name in "zyx"}
    steps = (((axes["z"],), VOLUME_SHARD_VOX), (tuple(axes[name] for name in "yx"), SPAN_VOX))

    def edge(axis: int) -> int:
        return block[axis] * request.chunk[axis]

    while wider:
        wider = False
        for grown, longest in sorted(steps, key=lambda step: min(edge(axis) for axis in step[0])):
            if (
                all(edge(axis) >= request.shape[axis] for axis in grown)
                or 2 * max(map(edge, grown)) > longest
            ):
                continue
            larger = [b * 2 if i in grown else b for i, b in enumerate(block)]
            if _bytes_of(request, larger) <= DEPTH_BYTES:
                block, wider = larger, True
                break
    return tuple(block)


def _bytes_of(request: PlanRequest, block: Sequence[int]) -> int:
    """Of so many chunks along each axis, as far as the image goes."""
    edges = [min(b * c, n) for b, c, n in zip(block, request.chunk, request.shape, strict=True)]
    return math.prod(edges) * request.dtype.itemsize


def _smaller(block: tuple[int, ...], request: PlanRequest) -> Iterator[tuple[int, ...]]:
    """Smaller and smaller blocks, in chunks along each axis."""
    plane = [i for i, name in enumerate(request.names) if name in "yx"]
    z = request.names.find("z")
    while any(b > 1 for b in block):
        shallower = z >= 0 and block[z] > 1 and (not request.deep or block[z] >= max(block[i] for i in plane))
        halved = [z] if shallower else plane
        block = tuple((b // 2 if b % 2 == 0 else 1) if i in halved else b for i, b in enumerate(block))
        yield block


def lay_out(
    request: PlanRequest, factors: tuple[tuple[int, ...], ...], layout: Layout
) -> tuple[tuple[LevelInfo, ...], tuple[Round, ...]]:
    chunk = request.chunk
    first_block = tuple(c * b for c, b in zip(chunk, layout.block, strict=True))
    shapes = _shapes(request.shape, factors)
    rounds = _rounds(shapes, factors, chunk, first_block)
    levels, total = [], (1,) * len(chunk)
    blocks = [block for r in rounds for block in r.blocks]
    shift = 0.0 if request.method == "nearest" else 0.5
    for k, (shape, block) in enumerate(zip(shapes, blocks, strict=True)):
        total = tuple(a * b for a, b in zip(total, factors[k], strict=True))
        scale = tuple(s * f for s, f in zip(request.voxel_size, total, strict=True))
        moved = tuple(
            t + s * (f - 1) * shift
            for t, s, f in zip(request.translation, request.voxel_size, total, strict=True)
        )
        shards = _shard_shape(chunk, block, shape, layout) if layout.shard else None
        levels.append(LevelInfo(str(k), shape, chunk, shards, scale, moved, str(request.codec)))
    return tuple(levels), rounds


def _shard_shape(
    chunk: tuple[int, ...], block: tuple[int, ...], shape: tuple[int, ...], layout: Layout
) -> tuple[int, ...]:
    """The shard: the asked edge, but never larger than the task block or than the level needs."""
    edges = []
    for c, s, b, n in zip(chunk, layout.shard, block, shape, strict=True):
        edge = min(s * c, b)
        # what is left over in the block must be whole shards, where another block follows
        edge = edge if b % edge == 0 or b >= n else b
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
