"""Numbers as people write them in cameras: what they may be, and what is said of others. Pure."""

from __future__ import annotations

import math
from typing import Any

from octree.pyramid.errors import UsageError

ZOOM_LIMITS = (1e-9, 1e9)
"""Beyond these a frame would show more, or less, than float64 coordinates can tell apart."""
MAX_COORDINATE = 1e15


def clipped_zoom(zoom: float) -> float:
    """One that was computed."""
    return min(max(zoom, ZOOM_LIMITS[0]), ZOOM_LIMITS[1])


def number_of(value: str, name: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"camera {text!r}: {name} must be a finite number, not {value.strip()!r}")
    return number


def coordinate_of(value: str, name: str, text: str) -> float:
    number = number_of(value, name, text)
    if abs(number) > MAX_COORDINATE:
        raise UsageError(f"camera {text!r}: {name} is beyond {MAX_COORDINATE:g} pixels")
    return number


def zoom_of(zoom: float, where: str) -> float:
    low, high = ZOOM_LIMITS
    if not low <= zoom <= high:
        raise UsageError(
            f"{where}: zoom must be above 0 ({low:g} to {high:g}), not {zoom:g}",
            hint="zoom is screen pixels per level-0 pixel: 1 is full size, 0.5 half size",
        )
    return zoom


def object_of(
    value: Any, where: str, *, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be an object with {', '.join(required)}")
    known = required + optional
    unknown = [key for key in value if key not in known]
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}", hint=f"known keys: {', '.join(known)}")
    missing = [key for key in required if key not in value]
    if missing:
        raise UsageError(f"{where}: no {missing[0]!r}", hint=f"needed: {', '.join(required)}")
    return value


def json_number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where} must be a number, not {value!r}")
    if not abs(value) <= MAX_COORDINATE:  # also catches NaN
        raise UsageError(f"{where} must be finite and within {MAX_COORDINATE:g}, not {value!r}")
    return float(value)
