"""What lies in the gutter of a brick, one texel on every side, and what values that adds. Pure; arrays are (z, y, x), samples
last.

A gutter has 26 parts: faces, edges and corners. Each repeats the texels that lie there, as far as the brick is known that has
them; else those of the nearest brick that is known, or the brick's own edge, as at the borders of the image. What a part
repeats is a matter of which bricks are known, not of who came first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.render.gl.slots import GUTTER

Step = tuple[int, int, int]
"""From a brick to one beside it: -1, 0 or 1 along z, y, x."""
Shell = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""The outermost texels of a brick along z, along y and along x: each (z, y, x) with one or two texels along its axis."""

STEPS: tuple[Step, ...] = tuple([(z, y, x) for z, y, x in product((-1, 0, 1), repeat=3) if z or y or x])
"""To the 26 bricks around one; what is ``known`` of them is a number with a bit for each, in this order."""
ALL_KNOWN = (1 << len(STEPS)) - 1
AXES = tuple([next(axis for axis in range(3) if step[axis]) for step in STEPS])
"""Which part of the shell of each of them has all that gutters repeat of it."""
_OUTSIDE: dict[int, Any] = {-1: 0, 0: slice(1, -1), 1: -1}
_HALVES: dict[int, Any] = {-1: slice(0, 1), 0: slice(None), 1: slice(1, 2)}
_BEFORE: tuple[Any, ...] = tuple([(slice(None),) * axis for axis in range(3)])

Around = Sequence["NDArray[Any] | None"]
"""Of each of ``STEPS`` that part of its shell, or None."""


def ends_of(texels: NDArray[Any], axis: int) -> NDArray[Any]:
    """The outermost texels of a brick along one axis: a view."""
    cut: NDArray[Any] = texels[(*_BEFORE[axis], slice(None, None, max(texels.shape[axis] - 1, 1)))]
    return cut


def shell_of(texels: NDArray[Any]) -> Shell:
    """Copies, which keep nothing else of the brick alive."""
    return ends_of(texels, 0).copy(), ends_of(texels, 1).copy(), ends_of(texels, 2).copy()


def mirrored(number: int) -> int:
    """Of two bricks side by side: how the other one counts this one."""
    return len(STEPS) - 1 - number


def pad(padded: NDArray[Any], texels: NDArray[Any], around: Around, known: int) -> None:
    """Write a brick and its gutter. ``known``: which of those ``around`` are not None."""
    padded[1:-1, 1:-1, 1:-1] = texels
    if known != ALL_KNOWN:
        around = [*around, *[ends_of(texels, axis) for axis in range(3)]]
    for place, number, cut in gutter_of(known):
        padded[place] = around[number][cut]  # type: ignore[index] # it is known


@functools.lru_cache(maxsize=1024)
def gutter_of(known: int) -> tuple[tuple[tuple[Any, ...], int, tuple[Any, ...]], ...]:
    """Of each part of a gutter, in the order of ``STEPS``: where it lies in the brick with its gutter; whose texels it repeats, a
    number in ``STEPS``, or after those one for each axis of the brick's own shell; and which of these."""
    return tuple([_part(step, known) for step in STEPS])


def _part(step: Step, known: int) -> tuple[tuple[Any, ...], int, tuple[Any, ...]]:
    number = _nearest(step, known)
    towards = (0, 0, 0) if number is None else STEPS[number]
    # texels that face the brick, of one that lies towards it; else those at the same end
    ends = [-s if t else s for s, t in zip(step, towards, strict=True)]
    cut = tuple([slice(None) if not end else 0 if end < 0 else -1 for end in ends])
    own = len(STEPS) + AXES[STEPS.index(step)]
    return tuple([_OUTSIDE[by] for by in step]), own if number is None else number, cut


def _nearest(step: Step, known: int) -> int | None:
    """Who knows best what lies at ``step``: a brick across a corner better than one across an edge than one across a face, and of two
    alike always the same."""
    best, most = None, (0, 0)
    for number, other in enumerate(STEPS):
        if known >> number & 1 and all(o in (0, s) for o, s in zip(other, step, strict=True)):
            axes = sum([4 >> axis for axis in range(3) if other[axis]])
            if (axes.bit_count(), axes) > most:
                best, most = number, (axes.bit_count(), axes)
    return best


def bounds_of(padded: NDArray[Any], *, alpha: bool = False) -> NDArray[np.float32]:
    """(2, 2, 2, 3) of a brick with its gutter: lowest and highest value as a texture reads it (0 to 1 of whole numbers) of
    what samples in each half along z, y, x may need, NaN left out, and whether there is one. Of several samples no weighed
    mean lies beyond them, and with alpha, none that is weighed by that. ``alpha``: the last sample is that, and none of its own."""
    padded = _colours(padded, alpha)
    low = high = padded
    if padded.ndim == 4:
        low, high = padded.min(axis=3), padded.max(axis=3)
    return _as_read(padded, _by_halves(np.minimum, low), _by_halves(np.maximum, high), alpha)


def _colours(texels: NDArray[Any], alpha: bool) -> NDArray[Any]:
    # a NaN in alpha makes its sample none
    return texels[..., :-1] if alpha and texels.dtype.kind != "f" else texels


def widen(bounds: NDArray[np.float32], step: Step, texels: NDArray[Any], *, alpha: bool = False) -> None:
    """There are other texels in the gutter towards ``step``: with them, ``bounds`` (2, 2, 2, 3) are those of a brick still."""
    halves = bounds[tuple([_HALVES[by] for by in step])]
    texels = _colours(texels, alpha)
    low, high, has_nan = _as_read(texels, np.min(texels), np.max(texels), alpha).tolist()
    halves[..., 0] = np.minimum(halves[..., 0], low)
    halves[..., 1] = np.maximum(halves[..., 1], high)
    halves[..., 2] = np.maximum(halves[..., 2], has_nan)


def _by_halves(ufunc: np.ufunc, texels: NDArray[Any]) -> NDArray[Any]:
    """A brick with its gutter reduced to (2, 2, 2): each half with a texel of the other."""
    for axis in range(3):
        half = (texels.shape[axis] - 2 * GUTTER) // 2
        halves = np.empty((*texels.shape[:axis], 2, *texels.shape[axis + 1 :]), texels.dtype)
        for number, part in enumerate((slice(0, half + 2 * GUTTER), slice(half, None))):
            before: tuple[Any, ...] = (slice(None),) * axis
            ufunc.reduce(texels[(*before, part)], axis, out=halves[(*before, number)])
        texels = halves
    return texels


def _as_read(texels: NDArray[Any], low: NDArray[Any], high: NDArray[Any], alpha: bool) -> NDArray[np.float32]:
    """Lowest, highest, is there a NaN, as the last axis. ``alpha``: they are weighed by it."""
    bounds = np.zeros((*np.shape(low), 3), np.float32)
    if texels.dtype.kind == "f":
        bounds[..., 2] = np.isnan(low)
        if bounds[..., 2].any():
            low, high = _without_nan(texels, np.shape(low))
        bounds[..., 0], bounds[..., 1] = low, high
    else:
        full = np.float32(np.iinfo(texels.dtype).max)
        bounds[..., 0], bounds[..., 1] = low / full, high / full
    if alpha or (texels.ndim == 4 and texels.shape[3] in (2, 4)):
        np.minimum(bounds[..., 0], 0, out=bounds[..., 0])
        np.maximum(bounds[..., 1], 0, out=bounds[..., 1])
    return bounds


def _without_nan(texels: NDArray[Any], shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lowest and highest, of all or by halves as ``shape`` says."""
    found = []
    for ufunc, nothing in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        values = np.where(np.isnan(texels), nothing, texels)
        if values.ndim == 4:
            values = ufunc.reduce(values, 3)
        found.append(_by_halves(ufunc, values) if shape else ufunc.reduce(values, None))
    return found[0], found[1]
