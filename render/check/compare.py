"""Two frames: are they the same picture? Pure: the numbers behind a verdict, and pictures of the difference.

A pixel *differs* when some channel is more than ``max_delta`` off. A frame fails when

- more than ``budget`` of the compared pixels differ (ten are always allowed, unless ``budget`` is 0);
- any pixel is more than ``cap`` off: the budget forgives faint differences only, so one small object that is
  missing fails however few pixels it has. (Counting such pixels against the budget would change nothing: they
  are differing pixels already.)
- more than ``cluster`` differing pixels touch by side or corner: noise is scattered; a missing object, a moved
  edge or a swapped tile is not;
- in one of 16 bands of brightness a channel is off by more than ``drift`` grey levels on average: a gamma of
  1.02 never moves a pixel by more than 2, but it moves all of them the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Mask = NDArray[np.bool_]

ALWAYS_ALLOWED_PX = 10
_STRIP_ROWS = 64
"""Rows compared at a time: what a strip needs stays in the processor's cache."""
_DRIFT_SAMPLE_PX = 1_000_000
_DRIFT_LEAST_PX = 200
"""Fewer pixels than this in a band of brightness say nothing about it."""
_CLUSTER_SEARCH_PX = 20_000
"""With more differing pixels than this the largest cluster is not worked out; the frame has failed anyway."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The gate. ``max_delta``, ``cap`` and ``drift`` in grey levels of 255, ``budget`` a fraction of the
    compared pixels, ``cluster`` in pixels."""

    max_delta: float = 3
    budget: float = 0.0002
    cap: float = 64
    cluster: int = 30
    drift: float = 1.25

    def allowed_px(self, compared_px: int) -> int:
        """How many pixels may differ; never all of a small frame by the ten that are always allowed."""
        if self.budget == 0:
            return 0
        always = min(ALWAYS_ALLOWED_PX, max(0, compared_px - 1))
        return max(always, math.floor(self.budget * compared_px))


@dataclass(frozen=True, slots=True)
class ImageDiff:
    """How two frames differ. ``reasons`` are the gate's parts that failed; none: the frames agree.

    ``worst_delta``, ``mean_delta``, ``rms_delta`` over all compared channel values · ``far_px`` more than the
    cap off · ``largest_cluster_px`` None when it was not worked out · ``drift`` the largest mean difference of
    a band of brightness, signed · ``box`` of the differing pixels, half-open (x0, y0, x1, y1).
    """

    compared_px: int
    differing_px: int = 0
    allowed_px: int = 0
    far_px: int = 0
    worst_delta: int = 0
    mean_delta: float = 0.0
    rms_delta: float = 0.0
    largest_cluster_px: int | None = 0
    drift: float = 0.0
    box: tuple[int, int, int, int] | None = None
    reasons: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """In a few words: 88 % of pixels differ, by up to 120 of 255."""
        share = 100 * self.differing_px / max(1, self.compared_px)
        some = f"{self.differing_px} pixels differ" if share < 1 else f"{share:.0f} % of pixels differ"
        return f"{some}, by up to {self.worst_delta} of 255"

    @property
    def passed(self) -> bool:
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}


def compare_frames(
    expected: Frame,
    actual: Frame,
    tolerance: Tolerance | None = None,
    *,
    masks: Sequence[tuple[int, int, int, int]] = (),
) -> ImageDiff:
    """Compare two frames of shape (height, width, 4), RGBA; three channels count as opaque. Pixels inside the rectangles ``masks`` (x0, y0,
    x1, y1, half-open, clipped to the frame) are not compared. Raises ValueError when the sizes differ."""
    tolerance = tolerance or Tolerance()
    if expected.shape[:2] != actual.shape[:2]:
        raise ValueError(f"frames of {expected.shape} and {actual.shape} cannot be compared")
    expected, actual = (_with_alpha(frame) for frame in (expected, actual))
    ignored = mask_of(expected.shape[:2], masks) if masks else None
    compared_px = expected.shape[0] * expected.shape[1] - (int(ignored.sum()) if ignored is not None else 0)
    allowed_px = tolerance.allowed_px(compared_px)
    if np.array_equal(expected.view(np.uint32), actual.view(np.uint32)):
        return ImageDiff(compared_px, allowed_px=allowed_px)
    differs, far_px, worst, total, squares = _scan(expected, actual, ignored, tolerance)
    differing_px = int(np.count_nonzero(differs))
    cluster = largest_cluster(differs) if 0 < differing_px <= _CLUSTER_SEARCH_PX else None
    drift = tone_drift(expected, actual, ignored)
    values = max(1, 4 * compared_px)
    diff = ImageDiff(
        compared_px=compared_px,
        differing_px=differing_px,
        allowed_px=allowed_px,
        far_px=far_px,
        worst_delta=worst,
        mean_delta=total / values,
        rms_delta=math.sqrt(squares / values),
        largest_cluster_px=cluster if differing_px else 0,
        drift=drift,
        box=bounding_box(differs),
    )
    return _judged(diff, tolerance)


def _judged(diff: ImageDiff, tolerance: Tolerance) -> ImageDiff:
    reasons = []
    if diff.differing_px > diff.allowed_px:
        reasons.append(
            f"{diff.differing_px} pixels differ by more than {tolerance.max_delta:g} ({diff.allowed_px} may)"
        )
    if diff.far_px:
        reasons.append(f"{diff.far_px} pixels differ by more than {tolerance.cap:g} (none may)")
    if diff.largest_cluster_px is not None and diff.largest_cluster_px > tolerance.cluster:
        reasons.append(f"{diff.largest_cluster_px} differing pixels touch ({tolerance.cluster} may)")
    if abs(diff.drift) > tolerance.drift:
        reasons.append(
            f"pixels of one brightness are {diff.drift:+.2f} off on average ({tolerance.drift:g} is allowed)"
        )
    return replace(diff, reasons=tuple(reasons))


def _with_alpha(frame: Frame) -> Frame:
    if frame.shape[2] == 3:
        return np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)])
    return np.ascontiguousarray(frame, dtype=np.uint8)


def _scan(
    expected: Frame, actual: Frame, ignored: Mask | None, tolerance: Tolerance
) -> tuple[Mask, int, int, float, float]:
    """(differing pixels, pixels beyond the cap, worst delta, sum of deltas, sum of squared deltas)."""
    height, width = expected.shape[:2]
    differs = np.zeros((height, width), bool)
    far_px, worst, total, squares = 0, 0, 0.0, 0.0
    for row in range(0, height, _STRIP_ROWS):
        rows = slice(row, row + _STRIP_ROWS)
        one, two = expected[rows], actual[rows]
        delta = np.maximum(one, two) - np.minimum(one, two)
        if ignored is not None:
            delta[ignored[rows]] = 0
        high = int(delta.max(initial=0))
        if not high:
            continue
        worst = max(worst, high)
        flat = delta.ravel().astype(np.float32)
        total += float(flat.sum(dtype=np.float64))
        squares += float(np.dot(flat, flat))
        if high > tolerance.max_delta:
            differs[rows] = _any_channel(delta > tolerance.max_delta)
        if high > max(tolerance.cap, tolerance.max_delta):
            far_px += int(np.count_nonzero(_any_channel(delta > tolerance.cap)))
    return differs, far_px, worst, total, squares


def _any_channel(flags: Mask) -> Mask:
    """Per pixel, whether any of its four flags is set: one look at four bytes as a word."""
    words: NDArray[np.uint32] = flags.view(np.uint32)[..., 0]
    return np.not_equal(words, 0)


def mask_of(shape: tuple[int, ...], rectangles: Sequence[tuple[int, int, int, int]]) -> Mask:
    """True inside the rectangles (x0, y0, x1, y1), clipped to ``shape`` (height, width)."""
    mask = np.zeros(shape, bool)
    for x0, y0, x1, y1 in rectangles:
        mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = True
    return mask


def bounding_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """The smallest (x0, y0, x1, y1) around what is True; None when nothing is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def largest_cluster(mask: Mask) -> int:
    """Pixels of the largest group that touches by side or corner. Walks the True pixels only, so its cost
    follows their number, not the frame's size."""
    left = set(map(int, np.flatnonzero(np.pad(mask, 1))))
    width = mask.shape[1] + 2  # a frame of False around, so that a neighbour never wraps to the next row
    steps = (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1)
    largest = 0
    while left:
        group = [left.pop()]
        for pixel in group:
            for step in steps:
                if pixel + step in left:
                    left.remove(pixel + step)
                    group.append(pixel + step)
        largest = max(largest, len(group))
    return largest


def tone_drift(expected: Frame, actual: Frame, ignored: Mask | None = None) -> float:
    """The mean difference (actual - expected), in grey levels, of the channel and band of brightness where it
    is largest. Bands are 16 of the expected value. Large frames are sampled by rows."""
    stride = max(1, math.ceil(expected.shape[0] * expected.shape[1] / _DRIFT_SAMPLE_PX))
    one, two = expected[::stride], actual[::stride]
    keep = None if ignored is None else ~ignored[::stride]
    worst = 0.0
    for channel in range(4):
        before, after = one[..., channel], two[..., channel]
        before, after = (before.ravel(), after.ravel()) if keep is None else (before[keep], after[keep])
        if np.array_equal(before, after):
            continue
        band = before >> 4
        count = np.bincount(band, minlength=16)
        sums = np.bincount(band, weights=after.astype(np.float32) - before, minlength=16)
        enough = count >= _DRIFT_LEAST_PX
        means = sums[enough] / count[enough]
        if len(means):
            worst = max(worst, float(means[np.abs(means).argmax()]), key=abs)
    return worst


# pictures


def amplified(expected: Frame, actual: Frame, gain: int = 16) -> Frame:
    """|expected - actual| times ``gain``, opaque; a difference in alpha alone shows as magenta."""
    one, two = (_with_alpha(frame).astype(np.int16) for frame in (expected, actual))
    delta = np.abs(one - two) * gain
    picture: Frame = np.minimum(delta, 255).astype(np.uint8)
    alpha_only = (delta[..., 3] > 0) & (delta[..., :3].max(-1) == 0)
    picture[alpha_only] = (255, 0, 255, 255)
    picture[..., 3] = 255
    return picture


def highlighted(
    expected: Frame,
    actual: Frame,
    tolerance: Tolerance | None = None,
    *,
    masks: Sequence[tuple[int, int, int, int]] = (),
) -> Frame:
    """The actual frame, faded to grey, with differing pixels red and masked rectangles blue."""
    tolerance = tolerance or Tolerance()
    one, two = (_with_alpha(frame) for frame in (expected, actual))
    delta = (np.maximum(one, two) - np.minimum(one, two)).max(-1)
    grey = (two[..., :3].mean(-1) * 0.35 + 140).astype(np.uint8)
    picture = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    picture[delta > tolerance.max_delta] = (220, 0, 0, 255)
    if masks:
        ignored = mask_of(one.shape[:2], masks)
        picture[ignored] = (picture[ignored] * np.array([0.6, 0.6, 1, 1])).astype(np.uint8)
    return picture
