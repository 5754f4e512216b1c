"""Comparing two frames of 3840 x 2160, against the plain numpy of one line. Prints a Markdown table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from octree.render.check.compare import compare_frames

ROUNDS = 9


def milliseconds(call: Callable[[], Any]) -> float:
    call()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (2160, 3840, 4), dtype=np.uint8)
    frame[..., 3] = 255
    noise = rng.integers(-1, 2, frame.shape)
    noise[..., 3] = 0
    few = frame.copy()
    few.reshape(-1, 4)[rng.integers(0, 2160 * 3840, 1500), 0] ^= 32
    changed = {
        "equal": frame.copy(),
        "noise of one grey level": (frame + noise).clip(0, 255).astype(np.uint8),
        "1500 differing pixels": few,
        "shifted by one texel": np.roll(frame, 1, axis=1),
    }
    print("| comparing two 3840 x 2160 frames | octree check, ms | `abs(a - b).max()` in int16, ms |")
    print("|---|---|---|")
    for name, other in changed.items():
        ours = milliseconds(lambda other=other: compare_frames(frame, other))
        plain = milliseconds(
            lambda other=other: np.abs(frame.astype(np.int16) - other.astype(np.int16)).max()
        )
        print(f"| {name} | {ours:.0f} | {plain:.0f} |")


main()
