"""How fast frames come, and how evenly: frame-rate classes and jank. Pure.

The classes are those of napari's guide on rendering (60 Hz great, 30 good, 20 acceptable, 10 bad, 5 unusable), which
calls jank what isolated slow frames do to an otherwise even rate.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

CLASSES_HZ = (60, 30, 20, 10, 5)
SLOWER = "slower"
_PERIODS_MS = tuple(1000 / hz for hz in CLASSES_HZ)


def frame_classes(times_ms: Sequence[float]) -> dict[str, float]:
    """The share of frames in each class: of those that its period has room for, and no faster one's. Empty for no
    frames."""
    names = [*map(str, CLASSES_HZ), SLOWER]
    counts = [0] * len(names)
    for time_ms in times_ms:
        counts[bisect_left(_PERIODS_MS, time_ms)] += 1
    return {
        name: round(count / len(times_ms), 6) for name, count in zip(names, counts, strict=True) if times_ms
    }


def jank_ms(times_ms: Sequence[float]) -> float | None:
    """By how much frames overrun the class of the run, on average over all frames. The class is that of the median
    frame; where that is slower than all classes, its own time counts for a period. None for no frames."""
    if not times_ms:
        return None
    median = sorted(times_ms)[(len(times_ms) - 1) // 2]
    place = bisect_left(_PERIODS_MS, median)
    period_ms = _PERIODS_MS[place] if place < len(_PERIODS_MS) else median
    return round(sum(max(0.0, time_ms - period_ms) for time_ms in times_ms) / len(times_ms), 4)
