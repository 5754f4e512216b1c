"""What the pages about checking show works: the suite, the Python, and the GitHub action's steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from octree.pyramid.errors import OctreeError
from octree.render.check.compare import Tolerance
from octree.render.check.judge import Verdict
from octree.render.check.spec import CASE_KEYS, TOLERANCE_KEYS, load_suite

ROOT = Path(__file__).resolve().parent.parent
CHECK, CI = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("check.md", "ci.md"))
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
BIN = Path(sys.executable).parent


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


def rows(page: str, heading: str) -> list[str]:
    """First cells of the table below a heading."""
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| ([^|]+?) \|", section, re.M)[1:]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an image and a suite of one case."""
    image = np.add.outer(np.arange(600), np.arange(800)).astype(np.uint16)
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "suite.toml").write_text(
        '[[case]]\nname = "fit"\nsource = "image.npy"\nsize = "80x60"\noptions = {clim = "0,1400"}\n'
    )
    return tmp_path


# docs/check.md


def test_the_suite_of_the_page_is_one(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(blocks(CHECK, "toml")[0], encoding="utf-8")
    cases = {case.name: case for case in load_suite(tmp_path / "suite.toml").cases}
    assert list(cases) == ["overview", "detail", "tiles arriving"]
    assert cases["detail"].tolerance == Tolerance(budget=0.001)
    assert cases["tiles arriving"].options["clim"] == "0,4000"


def test_the_page_lists_every_key_and_verdict() -> None:
    assert [row.strip("`") for row in rows(CHECK, "The suite")] == list(CASE_KEYS)
    assert rows(CHECK, "Verdicts") == [verdict.value for verdict in (*Verdict,)]
    for key in TOLERANCE_KEYS:
        assert f"`{key}`" in CHECK
    for word in ("0.0002", "64", "30", "1.25"):
        assert f"| {word}" in CHECK


def test_the_python_of_the_page_runs(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("CI", raising=False)
    in_pytest, in_python = blocks(CHECK, "python")
    exec(compile(in_python, "check.md", "exec"), {})
    assert capsys.readouterr().out == "fit new no baseline\n"
    names: dict[str, Any] = {}
    exec(compile(in_pytest, "check.md", "exec"), names)
    called: list[Any] = []
    names["test_overview"](lambda *args, **kwargs: called.append((args, kwargs)))
    from octree.render.check.spec import make_case

    (((name, source), options),) = called
    case = make_case(name, source, options["camera"], size=options["size"], options={"clim": options["clim"]})
    assert case.size_px == (640, 480)


# the action


def steps() -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in ACTION["runs"]["steps"]}


def run_step(name: str, place: Path, inputs: dict[str, str], stubs: dict[str, str] | None = None) -> Any:
    """Run a step's script as GitHub would: inputs filled in, its files in the environment. ``stubs`` are
    commands that are not to be run here, each a script."""
    step = steps()[name]
    values = {key: str(each.get("default", "")) for key, each in ACTION["inputs"].items()} | inputs
    assert step["shell"] == "bash"

    def filled(text: str) -> str:
        return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: values[found[1]], text)

    assert "${{" not in step["run"], "inputs go through the environment, where they cannot be code"
    stub_folder = place / "stubs"
    stub_folder.mkdir(exist_ok=True)
    for command, script in (stubs or {}).items():
        (stub_folder / command).write_text(f"#!/bin/bash\n{script}\n")
        (stub_folder / command).chmod(0o755)
    env = {
        "PATH": f"{stub_folder}:{BIN}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", str(place)),
        "GITHUB_OUTPUT": str(place / "outputs"),
        "GITHUB_STEP_SUMMARY": str(place / "summary.md"),
        "GITHUB_ACTION_PATH": str(ROOT),
        **{key: filled(str(value)) for key, value in step.get("env", {}).items()},
    }
    script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(script, cwd=place, env=env, capture_output=True, text=True, check=False)


def test_the_action_checks_frames_reports_and_fails(place: Path) -> None:
    inputs = {"suite": "suite.toml", "output": "out put", "baselines": "base lines"}
    missing = run_step("Check frames", place, inputs)
    assert missing.returncode == 1, missing.stderr
    assert "fit" in (place / "summary.md").read_text(encoding="utf-8")
    assert (place / "outputs").read_text() == "report=out put/report.html\n"
    assert (place / "out put" / "report.html").exists()
    assert ElementTree.parse(place / "out put" / "junit.xml").getroot().get("failures") == "1"
    accept = ["octree", "check", "suite.toml", "--accept", "--output", "out put", "--baselines", "base lines"]
    subprocess.run([str(BIN / accept[0]), *accept[1:]], cwd=place, check=True, capture_output=True)
    passed = run_step("Check frames", place, inputs)
    assert passed.returncode == 0, passed.stderr
    other = run_step("Check frames", place, inputs | {"require-renderer": "geforce"})
    assert other.returncode == 6


def test_the_action_runs_no_code_from_its_inputs(place: Path) -> None:
    nasty = 'a"; touch hacked; $(touch hacked) `touch hacked`'
    assert run_step("Check frames", place, {"suite": nasty}).returncode == 2
    assert not (place / "hacked").exists()


def test_the_action_installs_what_is_missing(place: Path) -> None:
    note = 'echo "$(basename "$0") $*" >> said'
    none = {"ldconfig": "true", "sudo": note, "python": note}
    assert run_step("Install the software renderer", place, {}, none).returncode == 0
    assert run_step("Install octree", place, {}, none).returncode == 0
    assert run_step("Install octree", place, {"install": "octree==1.0"}, none).returncode == 0
    assert (place / "said").read_text().splitlines() == [
        "sudo apt-get update -q",
        "sudo apt-get install -y --no-install-recommends libosmesa6 libfontconfig1",
        f"python -m pip install --disable-pip-version-check {ROOT}",
        "python -m pip install --disable-pip-version-check octree==1.0",
    ]
    there = none | {"ldconfig": "echo libOSMesa.so.8"}
    (place / "said").unlink()
    assert run_step("Install the software renderer", place, {}, there).returncode == 0
    assert not (place / "said").exists()


def test_the_page_lists_every_input_of_the_action() -> None:
    assert [row.strip("`") for row in rows(CI, "GitHub")] == list(ACTION["inputs"])
    for block in blocks(CI, "yaml"):
        assert isinstance(yaml.safe_load(block), dict)
    used = yaml.safe_load(blocks(CI, "yaml")[0])["jobs"]["frames"]["steps"][1]["with"]
    assert set(used) <= set(ACTION["inputs"])
    known = {f"steps.{step['id']}" for step in ACTION["runs"]["steps"] if "id" in step}
    assert all(any(name in each["value"] for name in known) for each in ACTION["outputs"].values())


def test_every_exit_code_of_the_page_is_an_error_of_the_tree() -> None:
    def tree(kind: type[OctreeError]) -> set[int]:
        return {kind.exit_code}.union(*(tree(each) for each in kind.__subclasses__()))

    assert {int(code) for code in re.findall(r"(\d) (?:the suite|`--output`|no usable)", CHECK)} <= tree(
        OctreeError
    )
