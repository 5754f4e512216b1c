"""Voxel sizes, positions and units of a SOURCE: the file's, then what the user says, in one unit of length. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from octree.pyramid.errors import UsageError
from octree.pyramid.sources.protocol import Facts
from octree.pyramid.units import SPACE_UNITS, TIME_UNITS, converted

_SMALLEST, _LARGEST = 1e-100, 1e100


@dataclass(frozen=True, slots=True)
class Measures:
    """By axis letter, what is known: ``sizes`` of a voxel and ``shifts`` (position of voxel 0's centre), in ``units``."""

    sizes: Mapping[str, float]
    shifts: Mapping[str, float]
    units: Mapping[str, str]


def measure(facts: Facts, letters: str, voxel_size: Mapping[str, float] | None, unit: str | None) -> Measures:
    """Measures of an image of axes ``letters``; ``voxel_size`` and ``unit`` (of length) are the user's.

    Sizes of the user are in ``unit``, else in the unit in which the file measures x. Raises UsageError.
    """
    known = [a for a in letters if a in "tzyx"]
    sizes = {a: float(v) for a, v in facts.voxel_size.items() if a in known and _is_size(v)}
    shifts = {a: float(v) for a, v in facts.translation.items() if a in known and abs(v) <= _LARGEST}
    units = {
        a: u for a, u in facts.units.items() if a in known and u in (TIME_UNITS if a == "t" else SPACE_UNITS)
    }
    _into_one_unit(sizes, shifts, units)
    if not isinstance(voxel_size, Mapping | None):
        raise UsageError(
            f"voxel size {voxel_size!r}: sizes are given by axis", hint='in Python as {"y": 0.5, "x": 0.5}'
        )
    for name, size in (voxel_size or {}).items():
        letter = str(name).lower()
        if letter not in known:
            raise UsageError(
                f"voxel size of {name!r}: the image has no such spatial or time axis (axes {letters})",
                hint="give sizes like z=2,y=0.5,x=0.5 for axes that the image has",
            )
        if not _is_size(size):
            raise UsageError(
                f"voxel size {letter}={size}: it must be a number above 0",
                hint=f"from {_SMALLEST:g} to {_LARGEST:g}, in another unit if need be",
            )
        sizes[letter] = float(size)
        if letter != "t" and (common := _common(units)):
            units[letter] = common
    if unit:
        units |= {a: unit for a in known if a != "t"}
    return Measures(sizes, shifts, units)


def _common(units: Mapping[str, str]) -> str | None:
    """The unit of length that the image is measured in: that of x, if it has one."""
    return next((units[a] for a in "xyz" if a in units), None)


def _into_one_unit(sizes: dict[str, float], shifts: dict[str, float], units: dict[str, str]) -> None:
    """Lengths in one unit, in place: which axes halve together is told by comparing them."""
    common = _common(units)
    for letter in "zyx":
        own = units.get(letter)
        if not own or not common or own == common:
            continue
        for lengths in (sizes, shifts):
            if letter in lengths:
                lengths[letter] = converted(lengths[letter], own, common)
        units[letter] = common


def _is_size(value: float) -> bool:
    """Can ``value`` be the size of a voxel? It is doubled with each level, which must not reach infinity."""
    return isinstance(value, (int, float, np.number)) and _SMALLEST <= value <= _LARGEST
