"""Display windows for the metadata, from a coarse level: cheap, and the same however a pyramid was built."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from octree.pyramid.downsample import Scalar
from octree.pyramid.model import Box, Channel, PyramidSpec
from octree.pyramid.store import Pyramid

SAMPLE_VOXELS = 4 * 2**20
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
    """Percentiles of one channel of the coarsest level, of its middle t and z when all would be too many."""
    spec = pyramid.spec
    if spec.dtype.kind == "b":
        return 0.0, 1.0
    level = len(spec.levels) - 1
    shape = spec.levels[level].shape
    start, stop = [0] * len(shape), list(shape)
    if c is not None:
        start[c], stop[c] = index, index + 1
    for axis, name in enumerate(spec.axis_names):
        size = math.prod(b - a for a, b in zip(start, stop, strict=True))
        if name in "tz" and size > SAMPLE_VOXELS:
            middle = shape[axis] // 2
            start[axis], stop[axis] = middle, middle + 1
    values = pyramid.read(level, Box(tuple(start), tuple(stop)))
    if nodata is not None:
        values = values[values != nodata]
    if spec.dtype.kind == "c":
        values = np.abs(values)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    low, high = (float(v) for v in np.percentile(finite.astype(np.float64), (LOW, HIGH)))
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    if low < high:
        return low, high
    # where numbers lie further apart than 1, the neighbour that is not infinite
    return (low, low + 1.0) if low < low + 1.0 else _ordered(low, math.nextafter(low, 0.0))


def _ordered(a: float, b: float) -> tuple[float, float]:
    return min(a, b), max(a, b)
