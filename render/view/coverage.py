"""Coverage: by what each screen pixel of the visible image shows. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FRACTIONS = ("ideal", "finer", "coarser", "failed", "missing")


@dataclass(frozen=True, slots=True)
class Coverage:
    """Fractions of the visible image (sum 1), by what each screen pixel shows.

    ``ideal`` the level that the zoom asks for · ``finer``, ``coarser`` stand-ins · ``failed`` the tile could not be read ·
    ``missing`` nothing yet. ``by_level`` maps a level to the fraction drawn from it.
    When nothing of the image is visible all of it is ideal.
    """

    ideal: float = 1.0
    finer: float = 0.0
    coarser: float = 0.0
    failed: float = 0.0
    missing: float = 0.0
    by_level: dict[int, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        fractions: dict[str, Any] = {name: getattr(self, name) for name in FRACTIONS}
        fractions["by_level"] = {str(level): part for level, part in sorted(self.by_level.items())}
        return fractions


def merge_coverage(parts: Iterable[tuple[Coverage, int]]) -> Coverage:
    """Coverage of several layers, or parts of a frame, as one: each weighted by its ``visible_px``."""
    weighted = [(coverage, visible_px) for coverage, visible_px in parts if visible_px > 0]
    total = sum(visible_px for _, visible_px in weighted)
    if not total:
        return Coverage()
    if len(weighted) == 1:
        return weighted[0][0]
    levels = sorted({level for coverage, _ in weighted for level in coverage.by_level})
    by_level = {
        level: math.fsum(coverage.by_level.get(level, 0.0) * visible_px for coverage, visible_px in weighted)
        / total
        for level in levels
    }
    sums = {
        name: math.fsum(getattr(coverage, name) * visible_px for coverage, visible_px in weighted) / total
        for name in FRACTIONS
    }
    return Coverage(**sums, by_level=by_level)
