"""The suite file: what it means, and that whatever is wrong in it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.pyramid.errors import UsageError
from octree.render.check.compare import Tolerance
from octree.render.check.spec import Case, load_suite, make_case

FULL = """
[defaults]
source = "data/a.zarr"
size = "640x480"
options = { clim = "0,1000", interpolation = "linear" }
tolerance = { max_delta = 2, cap = 50 }

[[case]]
name = "plain"

[[case]]
name = "über alles"
source = ["b.zarr", "s3://bucket/c.zarr", "/abs/d.h5::/x", "e.h5::/data"]
camera = ["zoom-in", "paths/tour.json", "x=1,y=2,zoom=0.5"]
size = "32x16"
options = { clock = "virtual", latency = "50ms", clim = ["0,1", "auto"], "mark-pending" = true }
frames = [0, 7, 7]
masks = [[0, 0, 5, 6]]
tolerance = { budget = 0.5, cluster = 3 }
compare = ["tiles"]
repeat = 3
"""


def load(folder: Path, text: str) -> dict[str, Case]:
    (folder / "s.toml").write_text(text, encoding="utf-8")
    return {case.name: case for case in load_suite(folder / "s.toml").cases}


def test_a_suite_is_read_with_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "paths").mkdir()
    (tmp_path / "paths" / "tour.json").write_text('{"keyframes": [{"t_s": 0, "x": 1, "y": 1, "zoom": 1}]}')
    cases = load(tmp_path, FULL)
    assert cases["plain"] == Case(
        name="plain",
        sources=(str(tmp_path / "data/a.zarr"),),
        size_px=(640, 480),
        options={"clim": "0,1000", "interpolation": "linear"},
        tolerance=Tolerance(max_delta=2, cap=50),
    )
    assert cases["über alles"] == Case(
        name="über alles",
        sources=(
            str(tmp_path / "b.zarr"),
            "s3://bucket/c.zarr",
            "/abs/d.h5::/x",
            str(tmp_path / "e.h5::/data"),
        ),
        cameras=("zoom-in", str(tmp_path / "paths/tour.json"), "x=1,y=2,zoom=0.5"),
        size_px=(32, 16),
        options={
            "clim": ["0,1", "auto"],
            "interpolation": "linear",
            "clock": "virtual",
            "latency": "50ms",
            "mark_pending": True,
        },
        frames=(0, 7),
        masks=((0, 0, 5, 6),),
        tolerance=Tolerance(max_delta=2, cap=50, budget=0.5, cluster=3),
        compare=("tiles",),
        repeat=3,
    )


def test_a_suite_of_one_line_per_case_has_the_defaults_of_the_contract(tmp_path: Path) -> None:
    case = load(tmp_path, '[[case]]\nname = "a"\nsource = "a.zarr"')["a"]
    assert (case.cameras, case.size_px, case.frames, case.masks) == (("fit",), (1024, 768), None, ())
    tolerance = case.tolerance
    assert (tolerance.max_delta, tolerance.budget, tolerance.cap, tolerance.cluster) == (3, 0.0002, 64, 30)


CASE = '[[case]]\nname = "a"\nsource = "a.zarr"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no cases"),
        ("[defaults]\n", "no cases"),
        ("case = 3", "no cases"),
        ("[[case]\n", "not TOML"),
        ("[[cases]]\n", "unknown key 'cases'"),
        ("[defaults]\nname = 'x'\n" + CASE, "[defaults]: unknown key 'name'"),
        ("defaults = 3\n" + CASE, "defaults must be a table"),
        ('[[case]]\nsource = "a"\n', "case 1: no name"),
        ('[[case]]\nname = "a"\n', "case 'a': no source"),
        (CASE + CASE, "two cases are called 'a'"),
        (CASE + CASE.replace('"a"', '"A"'), "two cases are called 'A'"),
        (CASE.replace('name = "a"', 'name = "a/b"'), "cannot be a name"),
        (CASE.replace('name = "a"', 'name = ".."'), "cannot be a name"),
        (CASE.replace('name = "a"', 'name = "a."'), "cannot be a name"),
        (CASE.replace('name = "a"', "name = 3"), "no name"),
        (CASE.replace('name = "a"', f'name = "{"ü" * 99}"'), "too long"),
        (CASE + "camra = 'fit'", "case 'a': unknown key 'camra'"),
        (CASE + "camera = 'fitt'", "unknown camera 'fitt'"),
        (CASE + "camera = []", "camera must be a text"),
        (CASE + "camera = 'nowhere.json'", "no camera path file"),
        (CASE + "source = ''".replace("source", "camera"), "camera must be a text"),
        (CASE + "size = 'big'", "size: 'big'"),
        (CASE + "size = '0x5'", "size"),
        (CASE + "options = {clmi = 3}", "unknown option 'clmi'"),
        (CASE + "options = {size = '1x1'}", "unknown option 'size'"),
        (CASE + "options = {clim = '9,9'}", "--clim"),
        (CASE + "options = {clock = 'vitrual'}", "--clock"),
        (CASE + "options = 'x'", "options must be a table"),
        (CASE + "frames = [-1]", "frames must be"),
        (CASE + "frames = []", "frames must be"),
        (CASE + "frames = [true]", "frames must be"),
        (CASE + "masks = [[0, 0, 5]]", "a mask is"),
        (CASE + "masks = [[0, 0, 0, 5]]", "is empty"),
        (CASE + "masks = [[0, 0, 1.5, 5]]", "a mask is"),
        (CASE + "masks = 3", "a mask is"),
        (CASE + "tolerance = {max = 3}", "tolerance: unknown key 'max'"),
        (CASE + "tolerance = {budget = 2}", "budget must be a fraction"),
        (CASE + "tolerance = {max_delta = -1}", "max_delta must be"),
        (CASE + "tolerance = {cap = nan}", "cap must be"),
        (CASE + "tolerance = {cap = true}", "cap must be"),
        (CASE + "tolerance = {cluster = 1.5}", "cluster must be a whole number"),
        (CASE + "compare = ['colour']", "compare must be"),
        (CASE + "repeat = 0", "repeat must be"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert says in caught.value.message
    assert "s.toml" in caught.value.message


def test_a_suite_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no suite file"):
        load_suite(tmp_path / "nowhere.toml")
    with pytest.raises(UsageError, match="cannot read"):
        load_suite(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xff")
    with pytest.raises(UsageError, match="not TOML"):
        load_suite(tmp_path / "b.toml")


def test_a_case_is_made_of_python_values() -> None:
    array = np.zeros((4, 4))
    case = make_case(
        "a", [array, Path("/x/b.zarr")], size=(8, 9), masks=[(0, 0, 1, 1)], options={"clim": (0, 1)}
    )
    assert case.sources[0] is array
    assert (case.sources[1], case.size_px, case.masks) == ("/x/b.zarr", (8, 9), ((0, 0, 1, 1),))
    bad: list[dict[str, Any]] = [{"frames": [-1]}, {"size": "x"}, {"options": {"x": 1}}, {"camera": "zzz"}]
    for values in bad:
        with pytest.raises(UsageError, match="case 'a'"):
            make_case("a", array, **values)
