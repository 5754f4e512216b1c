"""Options are declared once: what the tables say is what every door takes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from octree.cli.option_page import page
from octree.pyramid import build, plan_build
from octree.pyramid.building.option_table import BUILD, METHODS, RUNNING
from octree.pyramid.downsample import METHODS as REDUCTIONS
from octree.pyramid.errors import UsageError
from octree.pyramid.options import BYTES, FLAG, MS, Kind, Option, Table, choice, number, whole
from octree.render.check.spec import parse_options
from octree.render.option_table import RENDER
from octree.render.request import parse_request

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_of_options_is_made_from_the_tables() -> None:
    assert (ROOT / "docs/options.md").read_text() == page(), (
        "python -m octree.cli.option_page > docs/options.md"
    )


def test_methods_of_the_table_are_those_that_reduce() -> None:
    assert set(METHODS) == set(REDUCTIONS)


@pytest.mark.parametrize(("command", "tables"), [("build", (BUILD, RUNNING)), ("render", (RENDER,))])
def test_the_command_line_takes_every_option_with_its_help(command: str, tables: tuple[Table, ...]) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "octree.cli", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "400", "PATH": ""},
    ).stdout
    lines = said.splitlines()
    for option in (option for table in tables for option in table):
        (line,) = [line for line in lines if line.startswith(f"│ {option.long} ")]
        assert option.help in line
        assert option.default_text in line


@pytest.mark.parametrize("function", [build, plan_build])
def test_python_takes_every_option_of_a_build(function: Any) -> None:
    names = set(inspect.signature(function).parameters)
    assert set(BUILD.names) <= names
    for option in BUILD:
        assert option.help in (function.__doc__ or "")
    with pytest.raises(UsageError, match="build has no option 'tiel'") as caught:
        function("a", "b", tiel=3)
    assert "tile" in (caught.value.hint or "")


def test_a_suite_takes_every_option_of_render_but_size() -> None:
    assert set(parse_options("case", dict.fromkeys(set(RENDER.names) - {"size"}))) == set(RENDER.names) - {
        "size"
    }


def test_the_environment_takes_them_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "octree.cli", "render", "nowhere", "-o", str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        env={"OCTREE_RENDER_MIN_COVERAGE": "2", "PATH": ""},
    )
    assert (done.returncode, "--min-coverage must be a number from 0 to 1, not '2'" in done.stderr) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (whole(1), [1, "7", 3.0], [0, "x", 1.5, True, None, "9" * 5000, [], "1e3"]),
        (whole(0, 9), [0, 9], [10, -1]),
        (number(0, 100, above=True), [0.1, "100"], [0, 101, "nan", "inf", True, None, "1" * 400]),
        (choice("a", "b"), ["a"], ["c", 1, None, ""]),
        (FLAG, [True, False], ["true", 1, None]),
        (BYTES, ["512MiB", 7], ["much", -1]),
        (MS, ["50ms", 3], ["soon", -1]),
    ],
)
def test_kinds(kind: Kind, good: list[Any], bad: list[Any]) -> None:
    option = Option("some_thing", kind, "Help.")
    for value in good:
        option.read(value)
    for value in bad:
        with pytest.raises(UsageError, match="--some-thing"):
            option.read(value)


def test_every_default_can_be_read() -> None:
    assert BUILD.read({})["memory"] == 2**30
    request = parse_request(["a"], [], {})
    assert (request.size_px, request.timeout_ms, request.layers[0].gamma) == ((1024, 768), 60_000, 1)


def test_what_is_wrong_is_said_in_plain_words() -> None:
    with pytest.raises(UsageError, match="unknown --method 'x'") as caught:
        plan_build("a", method="x")
    assert (caught.value.hint or "").startswith("choose auto, mean")
    with pytest.raises(UsageError, match="--gamma must be a number > 0 and <= 100, not '0'"):
        parse_request(["a"], [], {"gamma": "0"})
