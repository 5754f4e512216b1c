"""What is asked of a volume: how its samples become pixels, and what of it is shown. Pure and light: ``--help`` imports this."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from octree.pyramid.errors import UsageError
from octree.pyramid.options import finite, shown
from octree.pyramid.units import space_unit
from octree.render.films import EXAMPLE, PlaneRange, parse_index

VolumeMode: TypeAlias = Literal["mip", "minip", "mean", "attenuated-mip", "alpha", "iso"]
VOLUME_MODES: tuple[VolumeMode, ...] = get_args(VolumeMode)
SLICE = "slice"
CLIP_AXES = ("x", "y", "z")
Planes: TypeAlias = tuple[tuple[str, int], ...]
"""Planes across some of the axes x, y and z: (axis, level-0 position) each."""


@dataclass(frozen=True, slots=True)
class Length:
    """``amount`` of level-0 voxels of x; with a ``unit``, of that."""

    amount: float
    unit: str | None = None

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.amount:g}{self.unit or ''}"


@dataclass(frozen=True, slots=True)
class Clip:
    """A box of level-0 positions: (low, high) on some of the axes x, y and z, half-open; None: the image's end."""

    spans: tuple[tuple[str, float | None, float | None], ...]

    def __str__(self) -> str:
        """As it is written."""

        def end(at: float | None) -> str:
            return "" if at is None else f"{at:g}"

        return ",".join(f"{axis}={end(low)}:{end(high)}" for axis, low, high in self.spans)


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """How a volume is drawn. ``slab`` None: no slab; ``clip`` None: all of it. ``detail_px``: the wanted level's voxels are no
    larger than so many pixels. ``box``: its outline and axes."""

    mode: VolumeMode = "mip"
    slab: Length | None = None
    clip: Clip | None = None
    detail_px: float = 1.0
    box: bool = False

    def to_json(self) -> dict[str, Any]:
        """As they are written."""
        slab, clip = (None if each is None else str(each) for each in (self.slab, self.clip))
        return {"mode": self.mode, "slab": slab, "clip": clip, "detail": self.detail_px, "box": self.box}


def parse_slab(value: Any) -> Length:
    """A number of at least 0, or one with a unit of length, such as 20um."""
    if isinstance(value, Length):
        return value
    if not isinstance(value, str):
        return Length(_thickness(value, value))
    match = re.fullmatch(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*([^\s\d.]*)\s*", value)
    if match is None:
        raise ValueError(value)
    amount = _thickness(match[1], value)
    return Length(amount, space_unit(match[2]) if match[2] else None)


def _thickness(number: Any, value: Any) -> float:
    amount = finite(number)
    if amount < 0:
        raise ValueError(value)
    return amount


def parse_clip(value: Any) -> Clip:
    """``x=100:900,z=:50``: level-0 positions, half-open; of a mapping the same texts, or pairs."""
    if isinstance(value, Clip):
        return value
    if isinstance(value, Mapping):
        pairs = [(str(axis), ends) for axis, ends in value.items()]
    else:
        parts = [part.partition("=") for part in str(value).split(",")]
        pairs = [(axis.strip(), ends) for axis, _, ends in parts]
    spans: list[tuple[str, float | None, float | None]] = []
    for axis, ends in pairs:
        if axis not in CLIP_AXES:
            raise UsageError(
                f"{value!r}: {axis!r} is not x, y or z",
                hint="for example x=100:900,z=:50, in level-0 positions",
            )
        if axis in [known for known, _, _ in spans]:
            raise UsageError(f"{value!r} clips {axis} twice", hint="one range for each axis")
        spans.append((axis, *_ends(axis, ends)))
    return Clip(tuple(spans))


def _ends(axis: str, ends: Any) -> tuple[float | None, float | None]:
    written = ends.split(":") if isinstance(ends, str) else ends if isinstance(ends, list | tuple) else ()
    try:
        low, high = (
            None if end is None or end == "" or str(end).strip() == "" else finite(end) for end in written
        )
    except (TypeError, ValueError):
        raise UsageError(
            f"{axis}={ends} is not FROM:TO",
            hint="for example x=100:900, x=100: or x=:900, in level-0 positions",
        ) from None
    if (low or 0) < 0 or (low or 0) >= (math.inf if high is None else high):
        raise UsageError(
            f"{axis}={ends} holds nothing", hint="FROM is at least 0 and below TO, which is not part of it"
        )
    return low, high


def parse_planes(value: Any) -> Planes | None:
    """``x=40,z=12``: level-0 positions, one for an axis at most, of a fraction the plane below; None for ``none``."""
    if isinstance(value, str) and value.strip() == "none":
        return None
    if isinstance(value, tuple) and all(isinstance(pair, tuple) for pair in value):
        value = dict(value)
    example = "for example x=100,y=80,z=12, in level-0 positions; none shows all of it"
    try:
        places = parse_index(value)
    except UsageError as error:
        raise UsageError(error.message.replace(EXAMPLE, "x=100,z=12"), hint=example) from None
    for axis, place in places.items():
        if axis not in CLIP_AXES:
            raise UsageError(f"{shown(value)}: {axis!r} is not x, y or z", hint=example)
        if isinstance(place, PlaneRange):
            raise UsageError(f"{shown(value)}: a plane lies at one position of {axis}", hint=example)
    return tuple([(axis, place) for axis, place in places.items() if not isinstance(place, PlaneRange)])


def auto_or_number(value: Any) -> float | None:
    """None for auto."""
    return None if isinstance(value, str) and value.strip() == "auto" else finite(value)


def auto_or_positive(value: Any) -> float | None:
    """The same, a number of at least 0."""
    found = auto_or_number(value)
    if found is not None and found < 0:
        raise ValueError(value)
    return found
