"""Arithmetic of boxes and of regular grids of blocks, for any number of axes. Pure.

A grid begins at 0 and has blocks of the shape ``edges``, the last of which an array's end may cut. Everything is a
tuple with an entry for each axis; boxes are half-open.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from octree.pyramid.model import Box

Lengths = tuple[int, ...]


def whole(shape: Lengths) -> Box:
    """All of an array."""
    return Box((0,) * len(shape), shape)


def counts(shape: Lengths, edges: Lengths) -> Lengths:
    """How many blocks an array has along each axis."""
    return tuple(-(-n // e) for n, e in zip(shape, edges, strict=True))


def fitted(edges: Lengths, shape: Lengths) -> Lengths:
    """``edges`` no longer than the array, and never 0."""
    return tuple(max(1, min(e, n)) for e, n in zip(edges, shape, strict=True))


def block_at(index: Sequence[Any], edges: Lengths, shape: Lengths) -> Box:
    """The block at this place of the grid, as far as it lies in the array."""
    start = tuple(int(i) * e for i, e in zip(index, edges, strict=True))
    return Box(start, tuple(min(a + e, n) for a, e, n in zip(start, edges, shape, strict=True)))


def blocks_met(box: Box, edges: Lengths) -> tuple[range, ...]:
    """Places along each axis of the blocks that ``box`` meets; an empty box meets none."""
    return tuple(
        range(a // e, -(-b // e) if a < b else a // e)
        for a, b, e in zip(box.start, box.stop, edges, strict=True)
    )


def covering_shape(box: Box, edges: Lengths) -> Lengths:
    """The shape of all blocks together that ``box`` meets, none of them cut."""
    return tuple(len(met) * e for met, e in zip(blocks_met(box, edges), edges, strict=True))


def parts(box: Box, edges: Lengths) -> Iterator[Box]:
    """``box`` cut where blocks begin, in C order."""
    for index in itertools.product(*blocks_met(box, edges)):
        start = tuple(max(a, i * e) for a, i, e in zip(box.start, index, edges, strict=True))
        yield Box(start, tuple(min(b, (i + 1) * e) for b, i, e in zip(box.stop, index, edges, strict=True)))


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them, at least one."""
    return Box(
        tuple(map(min, zip(*(box.start for box in boxes), strict=True))),
        tuple(map(max, zip(*(box.stop for box in boxes), strict=True))),
    )


def overlap(one: Box, other: Box) -> Box | None:
    """What two boxes share; None when that is nothing."""
    both = Box(tuple(map(max, one.start, other.start)), tuple(map(min, one.stop, other.stop)))
    return both if all(length > 0 for length in both.shape) else None


def moved(box: Box, by: Lengths) -> Box:
    return Box(
        tuple(a + d for a, d in zip(box.start, by, strict=True)),
        tuple(b + d for b, d in zip(box.stop, by, strict=True)),
    )


def inside(box: Box, outer: Box) -> tuple[slice, ...]:
    """Where ``box`` lies in an array that holds ``outer``."""
    return tuple(slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, outer.start, strict=True))


def finer(box: Box, factors: Lengths, shape: Lengths) -> Box:
    """The box of the level before, of this shape, from which ``box`` is reduced."""
    return Box(
        tuple(a * f for a, f in zip(box.start, factors, strict=True)),
        tuple(min(b * f, n) for b, f, n in zip(box.stop, factors, shape, strict=True)),
    )


def coarser(box: Box, factors: Lengths) -> Box:
    """The box of the next level to which ``box`` contributes."""
    return Box(
        tuple(a // f for a, f in zip(box.start, factors, strict=True)),
        tuple(-(-b // f) for b, f in zip(box.stop, factors, strict=True)),
    )
