"""The kept files of ``fixtures/``, written once by other libraries, hold what the program that made them says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from octree.pyramid.model import Box
from octree.pyramid.sources.source import open_source
from octree.pyramid.store import ngff
from octree.pyramid.verify.run import verify

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def load_program(name: str) -> ModuleType:
    """A program of ``fixtures/``, as a module."""
    spec = importlib.util.spec_from_file_location(f"octree_fixtures_{name}", FIXTURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for dataclasses, which look for the module of their class
    spec.loader.exec_module(module)
    return module


MAKER = load_program("make")


@pytest.mark.parametrize("name", MAKER.EXPECTED)
def test_kept_file(name: str) -> None:
    expected = MAKER.EXPECTED[name]()
    with open_source(FIXTURES / name) as source:
        assert source.dtype == expected.dtype
        np.testing.assert_array_equal(source.read(Box((0,) * expected.ndim, source.shape)), expected)
        assert source.rgb == ("rgb" in name)


@pytest.mark.parametrize("name", ["stack.ome.tif", "imagej.tif"])
def test_kept_voxel_sizes(name: str) -> None:
    with open_source(FIXTURES / name) as source:
        assert source.voxel_size == (1.0, 1.0, 1.0, 0.25, 0.25)
        assert source.axes[-1].unit == "micrometer"


def test_the_pyramid_of_others_is_read_and_its_flaws_are_found() -> None:
    path = FIXTURES / "others.ome.zarr"
    spec = ngff.read_spec(path)
    assert [level.shape for level in spec.levels] == [(61, 83), (30, 41), (15, 20)]
    assert {finding.kind for finding in verify(path).findings} == {"shape"}


def test_the_program_still_makes_them(tmp_path: Path) -> None:
    MAKER.make(tmp_path)
    for name, pixels in MAKER.EXPECTED.items():
        with open_source(tmp_path / name) as source:
            np.testing.assert_array_equal(source.read(Box((0,) * len(source.shape), source.shape)), pixels())
