"""Display windows for the metadata, from a coarse level: cheap, and the same however a pyramid was built."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from octree.pyramid.downsample import Scalar
from octree.pyramid.model import Box, Channel, PyramidSpec
from octree.pyramid.store.arrays import Pyramid

PLACES = {"t": 4, "z": 16}  # planes at most that are looked at along these axes
SAMPLE_VOXELS = 2**19  # percentiles work on copies of 64 bits
LOW, HIGH = 0.1, 99.9  # percentiles: a few hot pixels do not darken the picture
# colours that stay apart when they are added
COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


def with_windows(pyramid: Pyramid, nodata: Scalar | None = None) -> PyramidSpec:
    """The spec with a label, colour and window for each channel that lacks one. Labels have none.

    ``nodata`` is a value that does not count: the sea of an elevation model would take most of its window.
    """
    spec = pyramid.spec
    c = spec.axis_index("c")
    count = 1 if c is None else spec.levels[0].shape[c]
    if spec.labels or spec.rgb or count > 64:
        return spec
    given = spec.channels if len(spec.channels) == count else (Channel(),) * count
    channels = []
    for index, channel in enumerate(given):
        window = channel.window or _window(pyramid, c, index, nodata)
        color = channel.color or ("FFFFFF" if count == 1 else COLORS[index % len(COLORS)])
        channels.append(replace(channel, color=color, window=window))
    return replace(spec, channels=tuple(channels))


def _window(pyramid: Pyramid, c: int | None, index: int, nodata: Scalar | None) -> tuple[float, float] | None:
    """Percentiles of one channel of the coarsest level: of planes all over it, and of every so many voxels of
    them when all would be too many. A build of little memory has no more to spare at its end than in between."""
    spec = pyramid.spec
    if spec.dtype.kind == "b":
        return 0.0, 1.0
    level, boxes = len(spec.levels) - 1, list(_planes(spec, c, index))
    # an odd step meets every column of rows that are a power of two long
    step = -(-len(boxes) * math.prod(boxes[0].shape) // SAMPLE_VOXELS) | 1
    # copies: a view would keep the plane
    values = np.concatenate([pyramid.read(level, box).reshape(-1)[::step].copy() for box in boxes])
    if nodata is not None:
        values = values[values != nodata]
    if spec.dtype.kind == "c":
        values = np.abs(values)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    wide = finite.astype(np.float64)
    low, high = (float(v) for v in np.percentile(wide, (LOW, HIGH), overwrite_input=True))
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    if low < high:
        return low, high
    # where numbers lie further apart than 1, the neighbour that is not infinite
    return (low, low + 1.0) if low < low + 1.0 else _ordered(low, math.nextafter(low, 0.0))


def _planes(spec: PyramidSpec, c: int | None, index: int) -> Iterator[Box]:
    """Planes of one channel of the coarsest level, evenly spread over t and z."""
    spans = []
    for axis, (name, length) in enumerate(zip(spec.axis_names, spec.levels[-1].shape, strict=True)):
        if axis == c:
            spans.append([(index, index + 1)])
        elif name in PLACES:
            count = min(length, PLACES[name])
            spans.append([(k, k + 1) for k in ((2 * i + 1) * length // (2 * count) for i in range(count))])
        else:
            spans.append([(0, length)])
    for combination in itertools.product(*spans):
        start, stop = zip(*combination, strict=True)
        yield Box(start, stop)


def _ordered(a: float, b: float) -> tuple[float, float]:
    return min(a, b), max(a, b)
