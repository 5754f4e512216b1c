"""Every command that the README and the docs show, run as shown; every link, followed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from octree.pyramid import build

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every line beginning with ``octree`` in a bash block."""
    found = []
    for page in PAGES:
        for block in re.findall(
            r"```(?:bash|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
        ):
            joined = block.replace("\\\n", " ")
            found += [
                (page.name, re.sub(r"\s+#.*", "", line).strip().removeprefix("$ "))
                for line in joined.splitlines()
                if line.removeprefix("$ ").startswith("octree ")
            ]
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("docs")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4000, (600, 800), np.uint16)
    tifffile.imwrite(folder / "slide.tif", pixels, tile=(256, 256))
    build(pixels, folder / "slide.ome.zarr")
    build(rng.integers(0, 4000, (3, 350, 450), np.uint16), folder / "cells.ome.zarr", axes="cyx")
    build(pixels, folder / "image.ome.zarr")
    build(rng.integers(0, 9, (350, 450), np.uint16), folder / "labels.ome.zarr", labels=True)
    build(rng.integers(0, 4000, (24, 320, 300), np.uint16), folder / "stack.ome.zarr", axes="zyx")
    case = '[[case]]\nname = "fit"\nsource = "slide.ome.zarr"\ncamera = "fit"\nsize = "160x120"\n'
    (folder / "suite.toml").write_text(case)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, line: str) -> Path:
    """A copy of it for one command; without what that command is to make."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    if line.startswith("octree build"):
        for word in shlex.split(line)[3:]:  # DEST; before it stands SOURCE
            if word.endswith(".ome.zarr"):
                shutil.rmtree(tmp_path / word, ignore_errors=True)
    return tmp_path


def test_the_pages_show_commands() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize(("page", "line"), dict.fromkeys(commands()))
def test_a_command_of_the_docs_runs(page: str, line: str, place: Path) -> None:
    words = shlex.split(line)
    if any(word.startswith("<") or "…" in word for word in words):
        pytest.fail(f"{page}: {line!r} cannot be typed as it stands")
    run = subprocess.run(
        [sys.executable, "-m", "octree.cli", *words[1:]],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith(("OCTREE_", "NAPARI_", "CI"))},
    )
    assert run.returncode in EXPECTED.get(line, (0,)), f"{page}: {line}\n{run.stderr}"


EXPECTED: dict[str, tuple[int, ...]] = {}
"""Commands that are shown with another outcome than 0."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_python_page_runs(tmp_path: Path) -> None:
    """Its blocks, one after another, as one program."""
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_each_guard_named_on_the_page_of_defects_exists() -> None:
    rows = (ROOT / "docs" / "defects.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", rows)
    assert len(named) >= 35
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file} has no {test}"


def test_each_test_named_on_the_page_of_security_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.split("## Inputs tried")[1].splitlines() if line.startswith("| ")][1:]
    assert rows
    for row in rows:
        named = re.findall(r"`((?:test_|tests/)[\w./-]+)`", row.rpartition("|")[0].rpartition("|")[2])
        assert named, row
        for name in named:
            assert (ROOT / name).exists() or (ROOT / "tests" / name).exists(), name
