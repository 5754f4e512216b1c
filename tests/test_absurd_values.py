"""Every option of every table, and every key of the settings file, takes any number or name there is, or says in one
sentence that it does not: no value is an internal error. New options are covered as they are declared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octree.cli.app import run
from octree.pyramid import build
from octree.pyramid.building.option_table import BUILD, RUNNING
from octree.pyramid.errors import UsageError
from octree.pyramid.limits import LIMITS
from octree.pyramid.options import ANY, PATH, TEXT, Kind, Option, Table
from octree.pyramid.reach import OUTSIDE
from octree.render import config, parse_request
from octree.render.check import suite
from octree.render.check.option_table import CHECK
from octree.render.option_table import OUTPUTS, RENDER, SPREAD
from octree.render.output.files import FrameName, output_paths
from octree.render.view.camera import CameraPath
from octree.render.view.camera_text import parse_camera
from octree.render.view.path_file import path_from_json

NUMBERS = (
    *("1e300", "1e308", "inf", "-inf", "nan", "-0", "-1", "0", "1e-300", "1e18", "9223372036854775808"),
    *("1e400", "9" * 400, "9" * 5000, "\u0663", ""),
)
JSON_NUMBERS = (
    *(1e300, -1e308, float("inf"), float("nan"), -0.0, 0, 1e-300, 10**400, 2**63, 1e18),
    *("1e300", True, [], None),
)
SIZES_OF_TIME = (
    "{}ms",
    "{}h",
    "{}MB/s",
    "{}GiB",
    "0,{}",
    "{}x2",
    "y={},x=1",
    "zstd:{}",
    "t={}",
    "{}:red",
    "0:red:0-{}",
)
"""The texts of which numbers are a part."""
TABLES = {
    "build": (BUILD, RUNNING),
    "info": (LIMITS, OUTSIDE),
    "render": (RENDER, SPREAD, OUTPUTS),
    "check": (CHECK,),
}


def options(*wanted: str) -> Iterator[tuple[str, Option]]:
    for command in wanted:
        for table in TABLES[command]:
            yield from ((command, option) for option in table if not option.flag)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The command line of a small run, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.arange(48 * 64, dtype="u2").reshape(48, 64))
    rest = {
        "build": ["a.npy", "p", "--overwrite", "-q"],
        "info": ["a.npy"],
        "render": ["a.npy", "-o", "o.png", "--size=32x24", "-q", "--gl=osmesa", "--timeout=20ms", "--min-coverage=0"],
        "check": ["suite.toml"],
    }  # fmt: skip
    return lambda name, *more: [name, *rest[name], *more]


def accepted(option: Option, value: Any) -> bool:
    """Raises whatever is no UsageError."""
    try:
        option.read(value)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("name", TABLES)
def test_no_number_is_an_internal_error(
    name: str, command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [*NUMBERS, *(form.format(number) for form in SIZES_OF_TIME for number in NUMBERS[:9])]
    for _, option in options(name):
        plain = option.kind in (TEXT, PATH, ANY)
        for text in NUMBERS[:3] if plain else texts:
            if accepted(option, text):
                code = run(command(name, f"{option.long}={text}"))
                said = capsys.readouterr().err
                assert code in (0, 2, 3, 4, 6), (option.long, text, said)
                assert "internal error" not in said


@pytest.mark.parametrize("name", ["build", "render"])
def test_python_and_suites_take_numbers_too(name: str) -> None:
    for _, option in options(name):
        for value in JSON_NUMBERS:
            accepted(option, value)


def kinds(table: dict[str, Kind], section: str) -> Iterator[tuple[str, str, Kind]]:
    return ((section, key, kind) for key, kind in table.items() if kind is not ANY)


SETTINGS = [
    *kinds(config._LOADER, "loader_defaults"),
    *kinds(config._OCTREE, "octree"),
    *kinds(config._RENDER, "render"),
    *kinds(config._POOL, "pool"),
]


def document(given: dict[tuple[str, str], Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"loader_defaults": {}, "octree": {}, "render": {}, "pool": {}}
    for (section, key), value in given.items():
        made[section][key] = value
    if pool := made.pop("pool"):
        made["octree"]["loaders"] = {"0": pool}
    return made


@pytest.mark.parametrize("value", [*JSON_NUMBERS, "a\0b", "\ud800", "s3://x/y"], ids=lambda v: repr(v)[:24])
def test_no_setting_is_an_internal_error(
    value: Any, command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each key alone, then a run with all that take the value."""
    taken: dict[tuple[str, str], Any] = {}
    for section, key, _ in SETTINGS:
        one = {(section, key): value}
        try:
            config.parse_settings(document(one))
        except UsageError:
            continue
        taken |= one
    Path("s.json").write_text(json.dumps(document(taken)))
    assert run(command("render", "--config", "s.json", "--latency=1ms", "--clim=0,9")) in (0, 2, 3)
    assert "internal error" not in capsys.readouterr().err


@pytest.mark.parametrize("part", ["t_s", "x", "zoom", "fps"])
def test_no_camera_is_an_internal_error(part: str) -> None:
    for value in (*JSON_NUMBERS, 1e-9, 1e9, 1e15):
        key: dict[str, Any] = {"t_s": 1, "x": 1, "y": 1, "zoom": 1}
        path: dict[str, Any] = {"keyframes": [{"t_s": 0, "x": 1, "y": 1, "zoom": 1}, key]}
        (path if part == "fps" else key)[part] = value
        with suppress(UsageError):
            made = path_from_json(path)
            assert isinstance(made, CameraPath)
            assert made.frames()
        with suppress(UsageError):
            parse_camera(f"x=1,y=1,zoom=1,{part}={value}", extent=(9.0, 9.0), size_px=(3, 3))


URLS = ("s3://bucket/x", "file:///tmp/x", "a://b", "https://example.org/x.png")


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_no_place_to_write_to(
    url: str, command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every option that is a path, and the names of folders: nothing makes a local folder ``s3:``."""
    paths = [(name, option) for name, option in options("build", "render", "check") if option.kind is PATH]
    assert {option.name for _, option in paths} >= {
        "output",
        "report",
        "html",
        "trace",
        "monitor",
        "config",
        "baselines",
    }
    lines = [
        [
            word
            for word in command(name, f"{option.long}={url}")
            if option.name != "output" or word not in ("-o", "o.png")
        ]
        for name, option in paths
    ]
    if not url.startswith(("s3:", "file:")):  # where a pyramid may be built
        lines += [["build", "a.npy", url], ["build", "a.npy", url, "--overwrite"]]
    lines += [["check", url], ["demo", url]]
    lines += [["config", "--config", url], ["render", "a.npy", "-o", url]]
    for line in lines:
        before = sorted(Path.cwd().iterdir())
        assert run(line) == 2, line
        said = capsys.readouterr().err
        assert any(words in said for words in ("is a URL", "octree knows no", "takes no pyramids")), said
        assert sorted(Path.cwd().iterdir()) == before, line


@pytest.mark.parametrize("url", URLS)
def test_nor_in_python(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (
        *(() if url.startswith(("s3:", "file:")) else (lambda: build(np.zeros((8, 8)), url),)),
        lambda: suite.run("suite.toml", output=url),
        lambda: suite.run("suite.toml", baselines=url),
        lambda: output_paths(url, [FrameName("fit")]),
        lambda: parse_request(["a"], ["fit"], {"config": url}),
        lambda: config.parse_settings({"loader_defaults": {"log_path": url}}),
        lambda: config.parse_settings({"octree": {"log_path": url}}),
    ):
        with pytest.raises(UsageError):
            call()
    assert list(tmp_path.iterdir()) == []


def test_every_option_of_a_path_says_so() -> None:
    """An option about a file or a folder is of that kind, so that the tests above know it."""
    words = ("file", "folder", "write", "path")
    for command in TABLES:
        for _, option in options(command):
            if any(
                option.help.lower().startswith(word) or f" {word} here" in option.help.lower()
                for word in words
            ):
                assert option.kind is PATH, option.long


def test_a_table_says_what_is_wrong_with_a_path() -> None:
    table = Table("x", (Option("place", PATH, "Help."),))
    for value in ("", "a\0b", "\ud800", 7, b"x"):
        with pytest.raises(UsageError, match="--place must be a path of this machine"):
            table.read({"place": value})
    assert table.read({"place": Path("a/b")}) == {"place": "a/b"}
    assert table.read({"place": "s3:/a"}) == {"place": "s3:/a"}
    assert table.read({"place": "n\udcff"}) == {"place": "n\udcff"}  # how Python carries other names
