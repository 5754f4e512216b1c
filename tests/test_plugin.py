"""The pytest plugin, in a pytest of its own: off unless used, fails and accepts like octree check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TEST = """
import numpy as np
ARRAY = np.add.outer(np.arange(200), np.arange(300)).astype(np.uint16)

def test_one(octree_check):
    result = octree_check("one", ARRAY, size="60x40", clim="0,500")
    assert result.name == "one"

def test_two(octree_check):
    octree_check("two", ARRAY, "x=100,y=100,zoom=2", size=(60, 40), clim=(0, HIGH))

def test_other():
    pass
"""


class Outer:
    """A folder with tests, and pytest run in it as a user would. ``CI`` is what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write(500)

    def write(self, high: int) -> None:
        (self.folder / "test_frames.py").write_text(f"HIGH = {high}\n{TEST}")

    def run(self, *args: str, ci: str = "") -> tuple[int, str]:
        # only our plugin, by the name of its entry point: others of this environment import what they like
        env = {**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        command = [
            str(Path(sys.executable).with_name("pytest")),
            "-p",
            "octree",
            "-p",
            "no:cacheprovider",
            *args,
        ]
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def report(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "octree-check" / "report.json").read_bytes())
        return document


def test_new_accept_pass_fail(tmp_path: Path) -> None:
    outer = Outer(tmp_path)
    code, said = outer.run()
    assert (code, said.count("OctreeCheckWarning")) == (0, 2), said
    assert "no baseline; to accept: pytest --octree-accept" in said
    code, said = outer.run(ci="1")
    assert (code, "2 failed, 1 passed" in said) == (1, True), said

    code, said = outer.run("--octree-accept", "--octree-reason", "first")
    assert code == 0, said
    manifest = json.loads((tmp_path / "baselines" / "manifest.json").read_bytes())
    assert {key: entry["reason"] for key, entry in manifest["baselines"].items()} == {
        "default/one": "first",
        "default/two": "first",
    }
    code, said = outer.run(ci="1")
    assert (code, "3 passed" in said) == (0, True), said
    assert outer.report()["counts"]["pass"] == 2

    outer.write(300)
    code, said = outer.run()
    assert (code, "1 failed, 2 passed" in said) == (1, True), said
    for words in (
        "octree check 'two': fail",
        "pixels differ",
        "report.html",
        "to accept: pytest --octree-accept",
    ):
        assert words in said
    assert "Traceback" not in said
    assert (tmp_path / "octree-check" / "actual" / "two" / "frame-0000.png").exists()
    assert "pytest --octree-accept" in (tmp_path / "octree-check" / "report.html").read_text(encoding="utf-8")


def test_folders_can_be_chosen(tmp_path: Path) -> None:
    outer = Outer(tmp_path)
    code, said = outer.run(
        "-k", "one", "--octree-accept", "--octree-baselines", "b/c", "--octree-output", "o"
    )
    assert code == 0, said
    assert (tmp_path / "b" / "c" / "default" / "one" / "frame-0000.png").exists()
    assert (tmp_path / "o" / "report.html").exists()
    assert not (tmp_path / "baselines").exists()


def test_names_belong_to_one_test_and_errors_are_said(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "def test_a(octree_check):\n    octree_check('x', 'nowhere.zarr')\n"
        "def test_b(octree_check):\n    octree_check('X', 'nowhere.zarr')\n"
        "def test_c(octree_check):\n    octree_check('y', 'nowhere.zarr', clmi=3)\n"
    )
    outer = Outer(tmp_path)
    code, said = outer.run("test_a.py")
    assert code == 1
    assert "octree check 'x': error: " in said
    assert "nowhere.zarr" in said
    assert "two tests check a case called 'X'" in said
    assert "unknown option 'clmi'" in said


def test_accepting_in_parallel_is_refused(tmp_path: Path) -> None:
    code, said = Outer(tmp_path).run("-p", "xdist", "--octree-accept", "-n", "2")
    assert code == 4
    assert "without -n" in said


def test_the_plugin_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import sys\n\ndef test_a():\n"
        "    names = {name.partition('.')[0] for name in sys.modules}\n"
        "    assert not names & {'numpy', 'vispy', 'PIL', 'jinja2', 'matplotlib', 'zarr', 'dask'}\n"
        "    ours = sorted(name for name in sys.modules if name.startswith('octree.'))\n"
        "    assert ours == ['octree.render', 'octree.render.check', 'octree.render.check.plugin']\n"
    )
    outer = Outer(tmp_path)
    code, said = outer.run("test_a.py")
    assert code == 0, said
    assert not (tmp_path / "octree-check").exists()


def test_the_plugin_is_found_by_its_entry_point() -> None:
    found = [point for point in entry_points(group="pytest11") if point.name == "octree"]
    assert [point.value for point in found] == ["octree.render.check.plugin"]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PYTEST_", "COV_")):
            monkeypatch.delenv(name)


def test_relative_sources_lie_beside_the_test(tmp_path: Path) -> None:
    """As those of a suite lie beside the suite; pytest is called from above."""
    deep = tmp_path / "deep"
    deep.mkdir()
    np.save(deep / "a.npy", np.add.outer(np.arange(90), np.arange(120)).astype(np.uint16))
    keys = [{"t_s": 0, "x": 60, "y": 45, "zoom": 1}]
    (deep / "way.json").write_text(json.dumps({"keyframes": keys}))
    (deep / "test_deep.py").write_text(
        "from pathlib import Path\n"
        "def test_deep(octree_check):\n"
        "    for name, source in (('text', 'a.npy'), ('path', Path('a.npy'))):\n"
        "        octree_check(name, source, 'way.json', size='60x40', frames=[0])\n"
    )
    outer = Outer(tmp_path)
    code, said = outer.run("deep/test_deep.py", "--octree-accept")
    assert (code, "1 passed" in said) == (0, True), said
    assert (deep / "baselines" / "default" / "path" / "frame-0000.png").exists()
