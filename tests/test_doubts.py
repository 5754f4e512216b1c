"""Levels that lie elsewhere than level 0, and numbers that are not the ones that were written: said, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import octree
from test_ngff import a_spec

from octree.pyramid import build, open_pyramid
from octree.pyramid.errors import UsageError
from octree.pyramid.store.doubts import doubts
from octree.render.option_table import parse_channels, parse_clim
from octree.render.tiles.tile_source import open_tile_source


def changed(level: int, **facts: Any) -> tuple[str, ...]:
    spec = a_spec(names="zyx")
    levels = list(spec.levels)
    levels[level] = replace(levels[level], **facts)
    return doubts(replace(spec, levels=tuple(levels)))


def test_levels_over_each_other_are_no_doubt() -> None:
    for names in ("yx", "cyx", "tczyx"):
        assert not doubts(a_spec(names=names))
    third = (0.25, 0.25, 0.25)
    floors = {"shape": (5, 25, 32), "scale": (1.0, 1.0, 1.0), "translation": (0.0, 0.0, 0.0)}
    assert not changed(2, **floors)
    assert not changed(1, shape=(20, 101, 130), scale=third, translation=(0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    "facts",
    [
        {"scale": (0.5, 0.5, 1.0)},
        {"translation": (0.125, 0.125, 20.0)},
        {"shape": (10, 51, 40)},
        {"shape": (10, 51, 90)},
    ],
)
def test_levels_that_lie_elsewhere(facts: dict[str, Any]) -> None:
    (said,) = changed(1, **facts)
    assert said.startswith("level 1 does not lie over level 0: by its metadata it covers x from")


def test_a_frame_of_such_levels_says_so(tmp_path: Path) -> None:
    build(np.zeros((600, 600), np.uint8), tmp_path / "p")
    assert len(open_pyramid(tmp_path / "p").spec.levels) == 3
    with open_tile_source(tmp_path / "p") as source:
        assert source.describe()["warnings"] == []
    metadata = tmp_path / "p" / "zarr.json"
    document = json.loads(metadata.read_text())
    steps = document["attributes"]["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    steps[0]["scale"] = [4.0, 4.0]
    metadata.write_text(json.dumps(document))
    done = octree("render", tmp_path / "p", "--size", "50x50", "-o", tmp_path / "a.png", "--json")
    assert "warning: " in done.stderr
    assert "level 1 does not lie over level 0" in done.stderr
    assert len(json.loads(done.stdout)["sources"][0]["warnings"]) == 1


@pytest.mark.parametrize("number", [2**53 + 1, 2**62 + 1, -(2**60) - 1, 10**20 + 1])
def test_limits_that_no_float_is_are_refused(number: int) -> None:
    """They were rounded: a window of 300 values beyond 2^60 was another one."""
    for given in (f"{number},{10**22}", [number, 10**22]):
        with pytest.raises(UsageError, match=f"{number} is no contrast limit") as caught:
            parse_clim(given)
        assert str(int(float(number))) in (caught.value.hint or "")
    if number > 0:
        with pytest.raises(UsageError, match="is no contrast limit"):
            parse_channels(f"0:red:{number}-{10**22}")


def test_limits_that_are_floats_are_taken() -> None:
    assert parse_clim(f"{2**62},{2**62 + 1024}") == (2.0**62, 2.0**62 + 1024)
    assert parse_clim("0,1e300") == (0, 1e300)
    assert parse_clim([0.5, 2**53]) == (0.5, 2.0**53)
