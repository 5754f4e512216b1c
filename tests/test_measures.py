"""Voxel sizes, positions and units: the file's, the user's, in one unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from octree.pyramid.building.builder import plan_build
from octree.pyramid.errors import UsageError
from octree.pyramid.sources.measures import measure
from octree.pyramid.sources.protocol import Facts
from octree.pyramid.units import SPACE_UNITS, converted, metres, space_unit


def test_axes_of_one_file_in_several_units_are_compared_as_lengths(tmp_path: Path) -> None:
    file = tmp_path / "a.ome.tif"
    notes = {
        "axes": "ZYX",
        "PhysicalSizeX": 500,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 0.002,
        "PhysicalSizeZUnit": "mm",
    }
    tifffile.imwrite(file, np.zeros((8, 40, 40), np.uint8), ome=True, metadata=notes)
    plan = plan_build(file, tile=8)
    assert {axis.unit for axis in plan.spec.axes} == {"nanometer"}
    # z is four times as long: it joins when y and x have halved twice
    assert [level.scale for level in plan.spec.levels] == [
        (2000, 500, 500), (2000, 1000, 1000), (2000, 2000, 2000), (4000, 4000, 4000),
    ]  # fmt: skip


def test_positions_are_converted_too() -> None:
    facts = Facts(
        voxel_size={"y": 500.0, "x": 0.25},
        translation={"y": 1000.0, "x": 3.0},
        units={"y": "nanometer", "x": "micrometer", "t": "second"},
    )
    found = measure(facts, "tyx", None, None)
    assert found.sizes == {"y": 0.5, "x": 0.25}
    assert found.shifts == {"y": 1.0, "x": 3.0}
    assert found.units == {"t": "second", "y": "micrometer", "x": "micrometer"}


def test_sizes_of_the_user_are_in_the_files_unit() -> None:
    facts = Facts(voxel_size={"x": 0.5, "z": 1.0}, units={"x": "micrometer", "z": "millimeter"})
    found = measure(facts, "zyx", {"z": 2.0, "y": 0.5}, None)
    assert found.sizes == {"z": 2.0, "y": 0.5, "x": 0.5}
    assert set(found.units.values()) == {"micrometer"}
    assert measure(facts, "zyx", {"z": 2.0}, "nanometer").units == dict.fromkeys("zyx", "nanometer")
    assert measure(Facts(), "zyx", {"z": 2.0}, None).units == {}


def test_a_unit_of_time_is_none_of_length() -> None:
    facts = Facts(voxel_size={"x": 0.5, "t": 3.0}, units={"x": "second", "t": "meter"})
    assert measure(facts, "tyx", None, None).units == {}


@pytest.mark.parametrize(
    ("length", "own", "other", "expected"),
    [
        (500, "nanometer", "micrometer", 0.5),
        (0.3, "millimeter", "micrometer", 300.0),
        (1, "inch", "foot", 1 / 12),
    ],
)
def test_lengths_are_converted_in_decimal(length: float, own: str, other: str, expected: float) -> None:
    assert converted(length, own, other) == expected


def test_every_unit_of_length_is_so_many_metres() -> None:
    assert all(metres(unit) for unit in SPACE_UNITS)
    assert metres("second") is None


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf"), 1e308, 5e-324, 10**400, "1", None])
def test_sizes_that_no_voxel_has(size: Any) -> None:
    with pytest.raises(UsageError, match="above 0") as caught:
        measure(Facts(), "yx", {"x": size}, None)
    assert "1e+100" in str(caught.value.hint)
    if isinstance(size, float):
        assert measure(Facts(voxel_size={"x": size}), "yx", None, None).sizes == {}


@pytest.mark.parametrize("given", [(0.5, 0.5), 2.0, "x=1"])
def test_sizes_are_given_by_axis(given: Any) -> None:
    with pytest.raises(UsageError, match="by axis"):
        measure(Facts(), "yx", given, None)


def test_a_unit_that_is_no_word() -> None:
    with pytest.raises(UsageError, match="not a unit"):
        space_unit(3)  # type: ignore[arg-type]  # what a caller may give


def test_letters_of_either_case() -> None:
    assert measure(Facts(), "yx", {"X": 2.0}, None).sizes == {"x": 2.0}
