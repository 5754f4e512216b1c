"""Box arithmetic: tables of cases, then against sets of voxels, which are slow and obviously right."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octree.pyramid import boxes
from octree.pyramid.model import Box

Voxels = set[tuple[int, ...]]


def voxels(box: Box) -> Voxels:
    return set(itertools.product(*map(range, box.start, box.stop)))


@st.composite
def cut_arrays(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], Box]:
    """A shape, edges of blocks, and a box in the shape that is not empty."""
    rank = draw(st.integers(1, 4))
    lengths = st.integers(1, 9)
    shape = tuple(draw(lengths) for _ in range(rank))
    edges = tuple(draw(lengths) for _ in range(rank))
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    return shape, edges, Box(start, stop)


@pytest.mark.parametrize(
    ("shape", "edges", "expected"),
    [
        ((10,), (5,), (2,)),
        ((11,), (5,), (3,)),
        ((1, 7), (256, 1), (1, 7)),
        ((0, 4), (2, 2), (0, 2)),
        ((), (), ()),
    ],
)
def test_counts(shape: Any, edges: Any, expected: Any) -> None:
    assert boxes.counts(shape, edges) == expected


@pytest.mark.parametrize(
    ("edges", "shape", "expected"), [((8, 8), (3, 100), (3, 8)), ((0, 5), (4, 0), (1, 1)), ((), (), ())]
)
def test_fitted(edges: Any, shape: Any, expected: Any) -> None:
    assert boxes.fitted(edges, shape) == expected


@pytest.mark.parametrize(
    ("box", "edges", "expected"),
    [
        (Box((0, 0), (5, 5)), (5, 5), [Box((0, 0), (5, 5))]),
        (Box((3,), (11,)), (5,), [Box((3,), (5,)), Box((5,), (10,)), Box((10,), (11,))]),
        (Box((3, 0), (3, 5)), (5, 5), []),
        (Box((4, 2), (6, 3)), (5, 9), [Box((4, 2), (5, 3)), Box((5, 2), (6, 3))]),
        (Box((), ()), (), [Box((), ())]),
    ],
)
def test_parts(box: Box, edges: Any, expected: list[Box]) -> None:
    assert list(boxes.parts(box, edges)) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Box((0, 0), (4, 4)), Box((2, 3), (9, 9)), Box((2, 3), (4, 4))),
        (Box((0, 0), (4, 4)), Box((4, 0), (9, 9)), None),
        (Box((0, 0), (4, 4)), Box((1, 2), (1, 3)), None),
    ],
)
def test_overlap(one: Box, other: Box, expected: Box | None) -> None:
    assert boxes.overlap(one, other) == boxes.overlap(other, one) == expected


@given(cut_arrays())
def test_blocks_cover_an_array_once(case: tuple[Any, Any, Box]) -> None:
    shape, edges, _ = case
    blocks = [boxes.block_at(i, edges, shape) for i in np.ndindex(*boxes.counts(shape, edges))]
    assert blocks == list(boxes.parts(boxes.whole(shape), edges))
    assert sum(len(voxels(block)) for block in blocks) == len(voxels(boxes.whole(shape)))
    assert set().union(*map(voxels, blocks)) == voxels(boxes.whole(shape))


@given(cut_arrays())
def test_parts_are_what_lies_in_one_block(case: tuple[Any, Any, Box]) -> None:
    """Voxels of the box, put together by the block that they lie in."""
    _, edges, box = case
    by_block: dict[tuple[int, ...], Voxels] = {}
    for voxel in voxels(box):
        by_block.setdefault(tuple(v // e for v, e in zip(voxel, edges, strict=True)), set()).add(voxel)
    expected = [by_block[place] for place in sorted(by_block)]
    assert [voxels(part) for part in boxes.parts(box, edges)] == expected
    assert list(itertools.product(*boxes.blocks_met(box, edges))) == sorted(by_block)
    area = len(by_block) * np.prod(edges, dtype=int)
    assert np.prod(boxes.covering_shape(box, edges), dtype=int) == area


@given(cut_arrays(), st.data())
def test_around_and_overlap(case: tuple[Any, Any, Box], data: st.DataObject) -> None:
    shape, edges, box = case
    others = list(boxes.parts(boxes.whole(shape), edges))
    some = data.draw(st.lists(st.sampled_from(others), min_size=1, max_size=3))
    hull = boxes.around([box, *some])
    assert voxels(hull) >= voxels(box).union(*map(voxels, some))
    # no face of it can be moved inwards
    for axis in range(len(shape)):
        assert hull.start[axis] in {one.start[axis] for one in (box, *some)}
        assert hull.stop[axis] in {one.stop[axis] for one in (box, *some)}
    shared = boxes.overlap(box, some[0])
    assert (voxels(shared) if shared else set()) == voxels(box) & voxels(some[0])


@given(cut_arrays())
def test_inside_and_moved(case: tuple[Any, Any, Box]) -> None:
    shape, edges, box = case
    array = np.arange(int(np.prod(shape))).reshape(shape)
    for part in boxes.parts(box, edges):
        assert np.array_equal(array[box.slices][boxes.inside(part, box)], array[part.slices])
    there = boxes.moved(box, edges)
    assert voxels(there) == {tuple(v + e for v, e in zip(one, edges, strict=True)) for one in voxels(box)}


@given(cut_arrays())
def test_finer_and_coarser(case: tuple[Any, Any, Box]) -> None:
    """A voxel of the next level is made of the voxels that divided by the factors are its own."""
    shape, factors, box = case

    def parent(voxel: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(v // f for v, f in zip(voxel, factors, strict=True))

    below = boxes.coarser(box, factors)
    assert voxels(below) == set(map(parent, voxels(box)))
    of_it = {voxel for voxel in voxels(boxes.whole(shape)) if parent(voxel) in voxels(below)}
    assert voxels(boxes.finer(below, factors, shape)) == of_it
