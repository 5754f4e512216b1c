"""Places on axes as people write them, ``t=3``, or ``t=0:50:5`` for a film, and the limits of films. Pure and light:
``--help`` imports this.

Everything is a level-0 position, counted from 0. A position may lie between two planes, ``z=3.5``: the plane at or
below is meant. Fractions are exact, so that a step of 0.1 meets every tenth plane.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from octree.pyramid.errors import AxisError
from octree.pyramid.options import shown

AXES = ("t", "c", "z", "y", "x")
MAX_FRAMES = 1_000_000
"""Of one run: more is a mistake, or several runs."""
FILM_FPS = 10.0
"""Of a film over an index, if nobody says."""
LATE = ("coarse", "hold", "wait")
"""What becomes of a plane that is not complete when it is due."""
LEAST_FPS, MOST_FPS = 1e-6, 1e6
"""Beyond these the time of one frame is no number of microseconds that means anything."""
_PLACE = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
EXAMPLE = "t=3,z=10"


@dataclass(frozen=True, slots=True)
class PlaneRange:
    """Positions from ``first`` (None: 0) up to ``stop``, which is not among them (None: the axis' end)."""

    first: Fraction | None = None
    stop: Fraction | None = None
    step: Fraction = Fraction(1)

    @property
    def begin(self) -> int:
        """The first plane."""
        return math.floor(self.first or 0)

    def count(self, length: int) -> int:
        """How many planes, on an axis of ``length``."""
        stop = length if self.stop is None else self.stop
        return max(0, math.ceil((stop - (self.first or 0)) / self.step))

    def planes(self, length: int) -> Iterator[int]:
        """The plane at or below each position."""
        first = self.first or Fraction(0)
        if first.denominator == self.step.denominator == 1:
            start, step = int(first), int(self.step)
            return iter(range(start, start + self.count(length) * step, step))
        return (math.floor(first + number * self.step) for number in range(self.count(length)))

    def __str__(self) -> str:
        """As it is written."""
        ends = ":".join("" if end is None else _written(end) for end in (self.first, self.stop))
        return ends if self.step == 1 else f"{ends}:{_written(self.step)}"


Place: TypeAlias = int | PlaneRange
"""Where a view stands on an axis, or the planes of a film."""


def parse_index(value: Any) -> dict[str, Place]:
    """``t=3,z=10``: which plane of the axes that are not displayed, or ``t=0:50:5``: planes of a film. Of several
    ranges the last runs fastest."""
    if isinstance(value, Mapping):
        pairs = [(str(axis), place) for axis, place in value.items()]
    else:
        parts = [part.partition("=") for part in str(value).split(",")]
        pairs = [(axis.strip(), place.strip()) for axis, _, place in parts]
    index: dict[str, Place] = {}
    for axis, place in pairs:
        if axis in index:
            raise AxisError(f"{value!r} chooses {axis} twice", hint="one place, or one range, for each axis")
        # another letter may be an axis that the image lacks: there those that it has are named
        if len(axis) != 1 or not axis.isascii() or not axis.isalpha():
            raise AxisError(
                f"{value!r} is not like {EXAMPLE}", hint=f"axes {', '.join(AXES)}, counted from 0"
            )
        index[axis] = _place(axis, place)
    return index


def _place(axis: str, value: Any) -> Place:
    text = value.strip() if isinstance(value, str) else value
    if not isinstance(text, str) or ":" not in text:
        return math.floor(_position(axis, text))
    return _range(axis, text)


def _range(axis: str, text: str) -> PlaneRange:
    written = f"{axis}={text}"
    ends = [part.strip() for part in text.split(":")]
    if len(ends) > 3:
        raise AxisError(f"{written!r} is not FROM:TO:STEP", hint="for example t=0:50 or t=0:50:5")
    if len(ends) == 3 and ends[2].startswith("-"):
        raise AxisError(
            f"{written!r}: the step must be above 0", hint="keyframes of a camera path run backwards, too"
        )
    first, stop = (_position(axis, end) if end else None for end in ends[:2])
    step = _position(axis, ends[2]) if ends[2:] and ends[2] else Fraction(1)
    if not step:
        raise AxisError(f"{written!r}: the step must be above 0", hint="for example t=0:50:5")
    if stop is not None and stop <= (first or 0):
        raise AxisError(
            f"{written!r} holds no plane",
            hint="FROM must be below TO, which is not part of it; keyframes of a camera path run backwards, too",
        )
    return PlaneRange(first, stop, step)


def _position(axis: str, value: Any) -> Fraction:
    """A number of at least 0, exactly as it is written."""
    if isinstance(value, str):
        if _PLACE.fullmatch(value):
            return Fraction(value)
    elif not isinstance(value, bool | bytes):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if 0 <= number < 1e18:
            return Fraction(int(value)) if number.is_integer() else Fraction(number)
    written = f"{axis}={value}" if isinstance(value, str) else f"{axis}: {shown(value)}"
    raise AxisError(
        f"{written!r} is not like {EXAMPLE}",
        hint=f"axes {', '.join(AXES)}, counted from 0; a film has a range, as in t=0:50",
    )


def _written(place: Fraction) -> str:
    """As a decimal number, exactly: what is read has 18 digits after the point at most."""
    digits = f"{int(place * 10**18):019d}"
    return f"{digits[:-18]}.{digits[-18:]}".rstrip("0").rstrip(".")
