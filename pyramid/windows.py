"""Display windows for the metadata, from a coarse level: cheap, and the same however a pyramid was built."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from octree.pyramid.downsample import Scalar
from octree.pyramid.model import Box, Channel, PyramidSpec
from octree.pyramid.store import Pyramid

READ_BYTES = 8 * 2**20  # of one channel: more is one plane of it
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
    """Percentiles of one channel of the coarsest level: of its middle t and z, and of every so many voxels, when
    all would be too many. A build of little memory has no more to spare at its end than in between."""
    spec = pyramid.spec
    if spec.dtype.kind == "b":
        return 0.0, 1.0
    level = len(spec.levels) - 1
    shape = spec.levels[level].shape
    start, stop = [0] * len(shape), list(shape)
    if c is not None:
        start[c], stop[c] = index, index + 1
    for axis, name in enumerate(spec.axis_names):
        voxels = math.prod(b - a for a, b in zip(start, stop, strict=True))
        if name in "tz" and voxels * spec.dtype.itemsize > READ_BYTES:
            middle = shape[axis] // 2
            start[axis], stop[axis] = middle, middle + 1
    values = pyramid.read(level, Box(tuple(start), tuple(stop))).reshape(-1)
    # an odd step meets every column of rows that are a power of two long
    values = values[:: -(-values.size // SAMPLE_VOXELS) | 1]
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


def _ordered(a: float, b: float) -> tuple[float, float]:
    return min(a, b), max(a, b)
