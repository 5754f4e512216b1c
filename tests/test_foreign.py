"""Text from files on its way out: shown, never obeyed by a terminal, a CI service, Markdown, HTML or a parser."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from browser import ask
from check_cases import Bench, FakeRenderer, Shown, pixels
from hypothesis import given
from hypothesis import strategies as st
from report_cases import run_report

from octree.cli.app import run as octree
from octree.cli.console import say_warning
from octree.pyramid.errors import SourceError
from octree.pyramid.foreign import INVISIBLE, json_text, markdown, printable, xml_text
from octree.render.check.reports import to_html, to_markdown
from octree.render.loading.load_log import TextLog
from octree.render.report.html import make_page

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = {
    "line": "a\n::error::b",
    "return": "a\r##[error]b",
    "escape": "a\x1b]0;t\x07\x1b[2J\x1b[31m",
    "delete": "a\x08\x7f",
    "c1": "a\x9b2J\x85",
    "bidi": "a\u202egnp.exe\u2066",
    "separator": "a\u2028::error::b",
    "nothing": "a\u200b\ufeff\U000e0041",
    "command": "::error file=x::boom",
    "spaced command": "  ::set-output name=x::y",
    "other command": "x ##vso[task.complete result=Succeeded]",
    "picture": "![x](y) [z](javascript:alert)",
    "mention": "@somebody #12 and GH-7",
    "html": "<img src=x onerror=alert(1)><b>",
    "code": "`a` ``b``",
    "cells": "a|b | c",
    "markup": "[red]a[bold :smile:",
    "not utf-8": os.fsdecode(b"a\xff\xfe"),
}
COMMAND = re.compile(r"^\s*::|##\w*\[", re.M)


def harmless(text: str) -> str:
    """``text``, checked: it can be encoded, and holds nothing that is obeyed."""
    text.encode()
    assert not INVISIBLE.search(text.replace("\n", "")), ascii(INVISIBLE.findall(text.replace("\n", "")))
    assert not COMMAND.search(text), text
    return text


def within(text: str) -> str:
    """How ``text`` is shown within a line."""
    return printable("x" + text)[1:]


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# the functions


@given(st.text() | st.sampled_from(sorted(HOSTILE.values())))
def test_whatever_is_printed_is_one_harmless_line(text: str) -> None:
    for made in (printable(text), xml_text(text), markdown(text)):
        assert "\n" not in harmless(made)
    ElementTree.fromstring(ElementTree.tostring(_element(text)))


def _element(text: str) -> ElementTree.Element:
    element = ElementTree.Element("a")
    element.text = xml_text(text)
    return element


@given(st.recursive(st.text() | st.integers() | st.booleans(), lambda item: st.dictionaries(st.text(), item)))
def test_json_is_harmless_and_says_the_same(value: Any) -> None:
    for indent, ascii_only in ((None, False), (2, False), (None, True)):
        text = json_text(value, indent=indent, ascii_only=ascii_only)
        text.encode("ascii" if ascii_only else "utf-8")
        assert not INVISIBLE.search(text.replace("\n", ""))
        assert "##[" not in text
        assert json.loads(text) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain über 👩‍🔬 C:\\x", "plain über 👩‍🔬 C:\\x"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b", r"\x9b"),
        ("\udcff", r"\xff"),
        ("\ud800", r"\ud800"),
        ("\u202e", r"\u202e"),
        ("\U000e0041", r"\U000e0041"),
        ("::error::x", r"\x3a:error::x"),
        ("h5::/a", "h5::/a"),
        ("##[error]", r"\x23#[error]"),
        ("## x [y]", "## x [y]"),
        (3, "3"),
    ],
)
def test_what_is_shown(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_in_the_middle() -> None:
    text = printable("a" * 100_000 + "z")
    assert len(text) <= 4000
    assert (text[0], text[-1]) == ("a", "z")


def test_markdown_has_no_markup_left() -> None:
    text = markdown("![x](http://a.b) @me #1 GH-2 <b> `c` | *d* __e__ www.f.g & $h$ ~~i~~ \\")
    assert text == (
        r"\!\[x\]\(http&#58;//a.b\) @<!-- -->me #<!-- -->1 GH-<!-- -->2 &lt;b&gt; \`c\` \| \*d\* \_\_e\_\_ "
        r"www&#46;f.g &amp; \$h\$ \~\~i\~\~ " + "\\\\"
    )


# through the commands


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command; its exit code, and stdout and stderr, which are harmless."""

    def run(*words: object) -> tuple[int, str, str]:
        code = octree([str(word) for word in words])
        out, err = capsys.readouterr()
        harmless(err)
        assert "internal error" not in err
        return code, harmless(out), err

    return run


def test_info_of_files_that_are_there_and_that_are_not(tmp_path: Path, name: str, said: Any) -> None:
    path = tmp_path / f"{name}.npy"
    np.save(path, np.zeros((8, 8), np.uint8))
    code, out, _ = said("info", path)
    assert (code, within(path.name) in out) == (0, True)
    code, out, _ = said("info", path, "--json")
    assert json.loads(out)["path"].endswith(path.name)
    code, out, err = said("info", tmp_path / f"no {name}.npy", "--json")
    assert (code, json.loads(out)["error"]["kind"]) == (3, "source-not-found")
    assert "error: " in err
    (tmp_path / f"{name}.tif").write_bytes(b"II*\0 no TIFF")
    assert said("info", tmp_path / f"{name}.tif")[0] == 3


def test_datasets_in_a_file(tmp_path: Path, name: str, said: Any) -> None:
    inside = name.encode("utf-8", "replace").decode().replace("/", "_")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(inside, data=np.zeros((8, 8), np.uint8))
        file.create_dataset("other", data=np.zeros((8, 8), np.uint8))
    assert said("info", f"{tmp_path}/a.h5::/{inside}")[0] == 0
    assert said("info", f"{tmp_path}/a.h5")[0] == 3  # names what is in it
    assert said("info", f"{tmp_path}/a.h5::/no {inside}")[0] == 3


def test_channels_of_a_pyramid(tmp_path: Path, name: str, said: Any) -> None:
    source = tmp_path / "a.npy"
    np.save(source, np.zeros((2, 8, 8), np.uint8))
    assert said("build", source, tmp_path / "a.zarr", "--axes", "cyx")[0] == 0
    path = tmp_path / "a.zarr" / "zarr.json"
    document = json.loads(path.read_bytes())
    image = document["attributes"]["ome"]
    image["multiscales"][0]["name"] = name
    image["omero"] = {"channels": [{"label": name, "color": name, "active": True}] * 2}
    path.write_text(json.dumps(document))
    code, out, _ = said("info", tmp_path / "a.zarr")
    assert (code, within(name) in out) == (0, True)
    assert json.loads(said("info", tmp_path / "a.zarr", "--json")[1])["name"] == name
    assert said("verify", tmp_path / "a.zarr")[0] in (0, 1)
    image["multiscales"][0]["axes"][0]["name"] = name
    image["multiscales"][0]["datasets"][0]["path"] = name
    path.write_text(json.dumps(document))
    assert said("info", tmp_path / "a.zarr")[0] == 3
    assert said("verify", tmp_path / "a.zarr")[0] in (1, 3)


@pytest.mark.parametrize(
    "name", [HOSTILE[key] for key in ("line", "escape", "bidi", "command", "html", "not utf-8")]
)
def test_building_and_verifying(tmp_path: Path, name: str, said: Any) -> None:
    source = tmp_path / f"{name}.npy"
    dest = tmp_path / f"{os.fsencode(name).decode('utf-8', 'replace')}.zarr"
    np.save(source, np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert said("build", source, dest, "--dry-run")[0] == 0
    code, out, _ = said("build", source, dest)
    assert (code, printable(str(dest)) in out) == (0, True)
    assert said("build", source, dest)[0] == 4
    assert json.loads(said("build", source, dest, "--overwrite", "--json", "--progress", "json")[1])["dest"]
    assert said("build", source, tmp_path / "b.zarr", "--axes", name)[0] == 2
    assert said("verify", dest)[0] == 0
    (dest / name).write_bytes(b"not ours")
    next(path for path in (dest / "0").rglob("0") if path.is_file()).write_bytes(b"damaged")
    assert said("verify", dest)[0] == 1
    assert said("verify", dest, "--deep", "--json")[0] == 1


def test_settings_and_traceback(
    tmp_path: Path, name: str, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text("{}")
    assert within(path.name) in said("config", "--config", path)[2]
    path.write_text(json.dumps({name: 1}))
    assert said("config", "--config", path)[0] == 2
    code, _, err = said("config", "--config", path, "--debug")
    assert (code, "Traceback" in err) == (2, True)
    monkeypatch.setenv("OCTREE_CONFIG", str(tmp_path / f"no {name}"))
    assert said("config")[0] == 2


def test_everything_that_a_rendering_writes(tmp_path: Path, gl_info: Any, said: Any) -> None:
    sources = []
    for name in HOSTILE.values():
        sources.append(tmp_path / f"{name}.npy")
        np.save(sources[-1], np.zeros((8, 8), np.uint8))
    camera = tmp_path / f"{HOSTILE['line']}.json"
    camera.write_text(json.dumps({"keyframes": [{"t_s": t, "x": 4, "y": 4, "zoom": 9} for t in (0, 0.02)]}))
    log, config = tmp_path / "log.txt", tmp_path / "config.json"
    config.write_text(json.dumps({"loader_defaults": {"log_path": str(log)}}))
    files = [tmp_path / f"out.{ending}" for ending in ("json", "html", "trace", "monitor")]
    places = [
        word
        for pair in zip(("--report", "--html", "--trace", "--monitor"), files, strict=True)
        for word in pair
    ]
    words = ["--config", config, "--size", "40x30", "--progress", "plain", "--settle", "--json"]
    named = "x=4,y=4,zoom=2,name=[red]a[/] [/nothing] :smile:"
    code, out, err = said("render", *sources, "--camera", camera, "--camera", named, *words, *places)
    assert code == 0, err
    assert [source["path"] for source in json.loads(out)["sources"]] == [str(path) for path in sources]
    for path in (*files, log):
        harmless(path.read_text(encoding="utf-8"))
    assert json.loads(files[0].read_text())["command"]
    assert "<img src=x" not in files[1].read_text()
    faults = ["--fail-rate", "1", "--clock", "virtual", "--size", "40x30", "-o", tmp_path / "a.png"]
    code, _, err = said("render", sources[0], "--camera", named, *faults)
    assert (code, "[red]a[/] [/nothing] :smile:" in err) == (1, True)


def suite(folder: Path) -> Path:
    """Every hostile name as a source that is not there."""
    text = ""
    for number, name in enumerate(HOSTILE.values()):
        # TOML holds no bytes that are no text
        text += f'[[case]]\nname = "case {number} `x` @me ![y](z)"\nsource = "no '
        text += "".join(f"\\U{ord(char):08x}" for char in name.encode("utf-8", "replace").decode()) + '"\n'
    path = folder / f"{HOSTILE['line']} ![x](y).toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_that_a_check_writes(tmp_path: Path, gl_info: Any, said: Any) -> None:
    out = tmp_path / "out"
    code, _, err = said("check", suite(tmp_path), "--output", out)
    assert code == 1
    for name in ("[red]a[bold :smile:", r"no a\n", r"\x1b[31m"):
        assert name in err
    for path in (out / "report.json", out / "junit.xml", out / "summary.md", out / "report.html"):
        harmless(path.read_text(encoding="utf-8"))
    assert ElementTree.parse(out / "junit.xml").getroot().get("errors") == str(len(HOSTILE))
    summary = (out / "summary.md").read_text(encoding="utf-8")
    # of what is not escaped, only our own table and heading remain
    bare = re.sub(r"\\[!-/:-@\[-`{-~]|(@|#|GH-)<!-- -->|&\w+;|&#\d+;", "", summary)
    assert not re.search(r"[`<>@\[\]!]", bare)
    rows = [line for line in bare.splitlines() if line.startswith("| case")]
    assert len(rows) == len(HOSTILE) + 1
    assert all(line.count("|") == 5 for line in rows)
    assert "<img src=x" not in (out / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def result(tmp_path: Path) -> Any:
    bench = Bench(tmp_path, FakeRenderer())
    bench.run("a", "b", accept=[])
    bench.renderer.shown["a"] = Shown(frames=[pixels(1)])
    bench.renderer.shown["b"] = SourceError(f"<script>window.hacked = 1</script>{HOSTILE['bidi']}")
    (tmp_path / "baselines" / "x" / HOSTILE["html"]).mkdir(parents=True)
    return bench.run("a", "b")


def test_folders_among_the_baselines(result: Any) -> None:
    assert "<img" not in harmless(to_markdown(result))
    assert "<img src=x" not in harmless(to_html(result))


def test_lines_of_the_log(tmp_path: Path, name: str) -> None:
    log = TextLog(str(tmp_path / "log"))
    log.write(f"  {name}")
    log.close()
    assert harmless((tmp_path / "log").read_text()).count("\n") == 1


# pages


def policy_of(page: str) -> str:
    found = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', page)
    assert found
    assert page.index(found[0]) < page.index("<style")
    return found[1].replace("&#39;", "'")


def test_pages_name_their_scripts_and_allow_no_others(result: Any, tmp_path: Path) -> None:
    page = to_html(result)
    assert policy_of(page).startswith(
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: 'self';"
    )
    assert re.search(r"script-src 'sha256-[\w+/=]{44}'$", policy_of(page))
    assert re.search(r"script-src 'sha256-[\w+/=]{44}'$", policy_of(make_page(run_report([]).to_json(), [])))
    assert "<script>window.hacked" not in page
    assert "&lt;script&gt;window.hacked" in page
    # what got in as markup in spite of all does not run
    (tmp_path / "page.html").write_text(page.replace("<h1>", "<script>window.hacked = 1</script><h1>", 1))
    told = ask(
        tmp_path / "page.html",
        tmp_path,
        """document.body.insertAdjacentHTML("beforeend", "<button id=bad onclick='window.hacked = 2'>");
        document.getElementById("bad").click();
        const before = document.querySelectorAll(".case:not([hidden])").length;
        document.querySelector("[data-filter=fail]").click();
        await new Promise(resolve => setTimeout(resolve, 50));
        return [window.hacked ?? null, before, document.querySelectorAll(".case:not([hidden])").length];""",
    )
    assert told == [None, 2, 1]


# the house


def test_only_the_console_writes_to_stdout_and_stderr() -> None:
    allowed = {
        "cli/option_page.py": {"print"},
        "cli/console.py": {"print"},
        "cli/app.py": {"print"},
        "render/gl/probe.py": {"print"},
    }
    for path in sorted(path for room in ("cli", "render", "pyramid") for path in (ROOT / room).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert "print" in allowed.get(place, ()), f"{place}:{node.lineno} prints: use cli/console.py"


def test_stdout_that_is_not_utf_8_gets_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "ü.npy"
    np.save(path, np.zeros((8, 8), np.uint8))
    with open(os.dup(1), "w", encoding="ascii") as ascii_only:
        monkeypatch.setattr(sys, "stdout", ascii_only)
        assert octree(["info", str(path)]) == 0
        assert octree(["info", str(path), "--json"]) == 0
    out = capfdbinary.readouterr().out
    assert b"\\xfc.npy" in out
    assert json.loads(out[out.index(b"{") :])["path"].endswith("ü.npy")


def test_warnings_of_libraries_are_lines_like_others(capsys: pytest.CaptureFixture[str]) -> None:
    say_warning(UserWarning(HOSTILE["line"]), UserWarning, "file.py", 3)
    assert capsys.readouterr().err == "warning: UserWarning: a\\n::error::b\n"
