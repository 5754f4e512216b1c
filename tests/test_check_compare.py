"""The gate: what must fail fails, what must pass passes, and the numbers are right."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from octree.render.check.compare import (
    Tolerance,
    amplified,
    compare_frames,
    highlighted,
    largest_cluster,
)


def scene() -> Any:
    """A frame like those of microscopy: smooth ground, small bright objects, three channels."""
    return make_scene().copy()


@cache
def make_scene(height: int = 240, width: int = 320) -> Any:
    y, x = np.mgrid[:height, :width].astype(float)
    rng = np.random.default_rng(3)
    frame = np.zeros((height, width, 4))
    for channel in range(3):
        frame[..., channel] = 90 + 60 * np.sin(x / (23 + 7 * channel)) * np.cos(y / (31 - 5 * channel))
    for _ in range(120):
        cy, cx, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(2, 6)
        spot = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * size**2))
        frame[..., :3] += 120 * spot[..., None] * rng.uniform(0.3, 1, 3)
    frame[..., 3] = 255
    return frame.clip(0, 255).round().astype(np.uint8)


def labels(height: int = 240, width: int = 320) -> Any:
    """A frame of label colours: flat areas with sharp borders, one area of 12 x 12 pixels among them."""
    rng = np.random.default_rng(5)
    colours = rng.integers(40, 256, (64, 3))
    ids = (np.arange(height)[:, None] // 40) * 8 + np.arange(width) // 40
    frame = np.dstack([colours[ids], np.full(ids.shape, 255)])
    frame[100:112, 100:112, :3] = (200, 30, 90)
    return frame.astype(np.uint8)


def coarser(frame: Any) -> Any:
    """The frame as the next coarser level would show it."""
    height, width = frame.shape[:2]
    small = frame.reshape(height // 2, 2, width // 2, 2, 4).mean((1, 3)).round().astype(np.uint8)
    return small.repeat(2, 0).repeat(2, 1)


def swapped_tile(frame: Any) -> Any:
    out = frame.copy()
    out[64:96, 64:96], out[64:96, 96:128] = frame[64:96, 96:128], frame[64:96, 64:96]
    return out


def without_channel(frame: Any) -> Any:
    out = frame.copy()
    out[..., 1] = 0
    return out


def gamma(frame: Any) -> Any:
    out = frame.copy()
    out[..., :3] = np.round(255 * (frame[..., :3] / 255) ** 1.02)
    return out


def recoloured_label(frame: Any) -> Any:
    out = frame.copy()
    out[100:112, 100:112, :3] = (190, 45, 90)  # not one channel is more than 15 off
    return out


def without_small_object(frame: Any) -> Any:
    out = frame.copy()
    out[50:53, 60:63, :3] ^= 128
    return out


def with_alpha_hole(frame: Any) -> Any:
    out = frame.copy()
    out[30:60, 30:60, 3] = 0
    return out


CHANGES: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (scene, lambda frame: np.roll(frame, 1, axis=1)),
    (scene, lambda frame: np.roll(frame, -1, axis=0)),
    (labels, lambda frame: np.roll(frame, 1, axis=1)),
    (scene, swapped_tile),
    (scene, coarser),
    (scene, without_channel),
    (labels, recoloured_label),
    (scene, gamma),
    (scene, without_small_object),
    (scene, with_alpha_hole),
]


@pytest.mark.parametrize(("make", "change"), CHANGES)
def test_negative_controls_fail(make: Callable[[], Any], change: Callable[[Any], Any]) -> None:
    frame = make()
    assert not compare_frames(frame, change(frame)).passed
    assert not compare_frames(change(frame), frame).passed


def test_noise_of_one_grey_level_passes() -> None:
    frame = scene()
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(-1, 2, frame.shape)
        noise[..., 3] = 0
        noisy = (frame.astype(int) + noise).clip(0, 255).astype(np.uint8)
        diff = compare_frames(frame, noisy)
        assert diff.passed, diff.reasons
        assert diff.worst_delta == 1
    lighter = frame.copy()
    lighter[..., :3] = np.minimum(frame[..., :3].astype(int) + 1, 255)
    assert compare_frames(frame, lighter).passed


def test_equal_frames_pass_with_zeros() -> None:
    diff = compare_frames(scene(), scene())
    assert diff.passed
    assert (diff.differing_px, diff.worst_delta, diff.mean_delta, diff.drift, diff.box) == (0, 0, 0, 0, None)
    assert diff.compared_px == 240 * 320


# the three numbers and the rule, at their edges


def flat(height: int = 200, width: int = 500) -> Any:
    frame = np.full((height, width, 4), 100, np.uint8)
    frame[..., 3] = 255
    return frame


def scattered(count: int, delta: int) -> Any:
    """``flat`` with ``count`` lone pixels ``delta`` off."""
    frame = flat()
    places = np.arange(count) * 3
    frame[(places // 498) * 3, places % 498, 0] += delta
    return frame


@pytest.mark.parametrize(
    ("count", "delta", "tolerance", "passes"),
    [
        (1000, 3, Tolerance(), True),  # max_delta itself is no difference
        (20, 4, Tolerance(), True),  # 0.02 % of 100 000 pixels
        (21, 4, Tolerance(), False),
        (20, 64, Tolerance(), True),  # the cap itself is not above it
        (1, 65, Tolerance(), False),
        (21, 4, Tolerance(max_delta=4), True),
        (500, 4, Tolerance(budget=0.005), True),
        (501, 4, Tolerance(budget=0.005), False),
        (10, 4, Tolerance(budget=1e-9), True),  # ten are always allowed
        (11, 4, Tolerance(budget=1e-9), False),
        (1, 4, Tolerance(budget=0), False),  # unless none is
        (5, 100, Tolerance(cap=100), True),
        (1, 1, Tolerance(max_delta=0, budget=0), False),
    ],
)
def test_the_budget_and_the_cap(count: int, delta: int, tolerance: Tolerance, passes: bool) -> None:
    diff = compare_frames(flat(), scattered(count, delta), tolerance)
    assert diff.passed is passes, diff
    assert diff.differing_px == (count if delta > tolerance.max_delta else 0)


@pytest.mark.parametrize(
    ("shape", "cluster", "passes"),
    [((5, 6), 30, True), ((1, 31), 30, False), ((31, 1), 30, False), ((1, 31), 31, True)],
)
def test_differing_pixels_that_touch(shape: tuple[int, int], cluster: int, passes: bool) -> None:
    frame = flat()
    frame[50 : 50 + shape[0], 60 : 60 + shape[1], 1] += 10
    diff = compare_frames(flat(), frame, Tolerance(budget=0.01, cluster=cluster, drift=255))
    assert diff.passed is passes
    assert diff.largest_cluster_px == shape[0] * shape[1]
    assert diff.box == (60, 50, 60 + shape[1], 50 + shape[0])


def test_corners_touch_and_edges_of_the_frame_do_not_meet() -> None:
    diagonal = np.eye(40, dtype=bool)
    assert largest_cluster(diagonal) == 40
    edges = np.zeros((10, 10), bool)
    edges[:, 0] = edges[:, -1] = True
    assert largest_cluster(edges) == 10
    assert largest_cluster(np.zeros((3, 3), bool)) == 0


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
@settings(deadline=None, max_examples=60)
def test_clusters_are_those_of_a_trusted_labelling(mask: Any) -> None:
    from scipy import ndimage

    named, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(named.ravel())[1:] if count else [0]
    assert largest_cluster(mask) == max(sizes)


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 9), st.just(4))),
    st.integers(0, 2**32 - 1),
    st.integers(0, 80),
)
@settings(deadline=None, max_examples=60)
def test_the_numbers_are_those_of_plain_arithmetic(expected: Any, seed: int, spread: int) -> None:
    noise = np.random.default_rng(seed).integers(-spread, spread + 1, expected.shape)
    actual = (expected.astype(int) + noise).clip(0, 255).astype(np.uint8)
    diff = compare_frames(expected, actual)
    delta = np.abs(expected.astype(int) - actual)
    assert diff.differing_px == int((delta.max(-1) > 3).sum())
    assert diff.far_px == int((delta.max(-1) > 64).sum())
    assert diff.worst_delta == int(delta.max())
    assert diff.mean_delta == pytest.approx(delta.mean())
    assert diff.rms_delta == pytest.approx(np.sqrt((delta**2).mean()))


def test_a_small_frame_that_differs_everywhere_fails() -> None:
    assert not compare_frames(flat(3, 3), flat(3, 3) + np.array([9, 0, 0, 0], np.uint8)).passed
    assert not compare_frames(flat(1, 1), flat(1, 1) + np.array([9, 0, 0, 0], np.uint8)).passed


def test_masks_are_not_compared_and_are_clipped() -> None:
    frame = flat()
    frame[10:60, 20:90, :3] = 255
    assert not compare_frames(flat(), frame).passed
    masked = compare_frames(flat(), frame, masks=[(20, 10, 90, 60), (-5, -5, 2, 2), (490, 190, 999, 999)])
    assert masked.passed
    assert masked.compared_px == 200 * 500 - 50 * 70 - 4 - 100
    assert not compare_frames(flat(), frame, masks=[(20, 10, 89, 60)]).passed
    everything = compare_frames(flat(), frame, masks=[(0, 0, 500, 200)])
    assert (everything.compared_px, everything.passed) == (0, True)


def test_rgb_counts_as_opaque_and_sizes_must_agree() -> None:
    assert compare_frames(scene()[..., :3], scene()).passed
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_frames(flat(10, 10), flat(10, 11))


def test_drift_can_be_allowed() -> None:
    assert compare_frames(scene(), gamma(scene()), Tolerance(drift=2.5)).passed


# pictures


def test_pictures_of_the_difference_show_where() -> None:
    frame = flat()
    frame[50:60, 60:70, 0] += 10
    frame[0, 0, 3] = 0
    loud = amplified(flat(), frame)
    assert tuple(loud[55, 65]) == (160, 0, 0, 255)
    assert tuple(loud[0, 0]) == (255, 0, 255, 255)
    assert tuple(loud[100, 100]) == (0, 0, 0, 255)
    marked = highlighted(flat(), frame, masks=[(100, 100, 110, 110)])
    assert tuple(marked[55, 65]) == (220, 0, 0, 255)
    assert marked[105, 105, 2] > marked[105, 105, 0]
    assert len(set(marked[150, 150, :3].tolist())) == 1
