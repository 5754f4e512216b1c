"""Tests that keep the house: who may import whom, who may touch what, what starts fast, what ships."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("cli", "render", "pyramid")
MAY_IMPORT = {"cli": {"cli", "render", "pyramid"}, "render": {"render", "pyramid"}, "pyramid": {"pyramid"}}


def sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module named by an import statement, at module level or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_one_way(room: str) -> None:
    for path in sources(room):
        for name in imported(path):
            if name.startswith("octree."):
                assert name.split(".")[1] in MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {name}"


def test_loading_knows_no_opengl() -> None:
    for path in [*sources("render/loading"), ROOT / "render/octree.py", ROOT / "render/cover.py"]:
        for name in imported(path):
            assert not name.startswith(("octree.render.gl", "vispy", "glfw")), f"{path} imports {name}"


@pytest.mark.parametrize(
    ("package", "only"),
    [
        ("glfw", {"render/gl/platform.py"}),
        ("typer", {"cli/"}),
        ("rich", {"cli/"}),
        ("tensorstore", {"pyramid/store.py"}),
        ("zarr", {"pyramid/store.py"}),
        ("vispy", {"render/"}),
        ("matplotlib", {"render/html.py", "render/pages.py"}),
    ],
)
def test_only_this_file_imports(package: str, only: set[str]) -> None:
    for path in sources(*ROOMS):
        where = path.relative_to(ROOT).as_posix()
        touches = any(name == package or name.startswith(package + ".") for name in imported(path))
        assert not touches or any(where == o or (o.endswith("/") and where.startswith(o)) for o in only), (
            f"{where} imports {package}; only {sorted(only)} may"
        )


def test_only_platform_chooses_the_backend() -> None:
    for path in sources(*ROOMS):
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "use"
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "vispy"
        ]
        assert not calls or path == ROOT / "render/gl/platform.py", f"{path} calls vispy.use"


NGFF_KEYS = {"multiscales", "coordinateTransformations", "omero", "image-label", "bioformats2raw.layout"}


def test_only_ngff_knows_ome_zarr_keys() -> None:
    for path in sources(*ROOMS):
        if path == ROOT / "pyramid/ngff.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in NGFF_KEYS, f"{path.relative_to(ROOT)} knows the key {node.value!r}"


@pytest.mark.parametrize("room", ["cli", "pyramid", "render", "render/loading", "render/gl", "render/check"])
def test_a_rooms_map_names_every_file(room: str) -> None:
    map_ = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    missing = [
        path.name
        for path in sorted((ROOT / room).glob("*.py"))
        if not path.name.startswith("__") and path.name not in map_
    ]
    assert not missing, f"the map of {room} leaves out {missing}"


def modules_after(code: str) -> set[str]:
    script = f"import sys, json\ntry:\n    {code}\nexcept SystemExit: pass\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


HEAVY = {
    "numpy",
    "zarr",
    "tensorstore",
    "dask",
    "vispy",
    "glfw",
    "PIL",
    "tifffile",
    "imageio",
    "h5py",
    "matplotlib",
}


@pytest.mark.parametrize(
    "command", ["", "build", "render", "check", "info", "verify", "doctor", "demo", "config"]
)
def test_help_imports_nothing_heavy(command: str) -> None:
    args = [a for a in ("octree", command, "--help") if a]
    loaded = modules_after(f"sys.argv = {args!r}; import octree.cli; octree.cli.main()")
    assert "typer" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "module", ["octree.pyramid", "octree.render", "octree.render.loading", "octree.render.check.plugin"]
)
def test_importing_a_room_is_light(module: str) -> None:
    loaded = modules_after(f"import {module}")
    assert not loaded & (HEAVY - {"numpy"}), f"import {module} brings {sorted(loaded & HEAVY)}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as a user gets it: built from the source distribution."""
    work = tmp_path_factory.mktemp("wheel")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(work), str(ROOT)],
        check=True,
        capture_output=True,
        env=environment,
    )
    (sdist,) = work.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("pyproject.toml") for name in archive.getnames())
    (path,) = work.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_exactly_the_rooms(wheel: zipfile.ZipFile) -> None:
    ship = {".py", ".typed", ".vert", ".frag", ".json", ".jinja"}
    expected = {
        "octree/" + path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in ship and "__pycache__" not in path.parts
    }
    expected |= {f"octree/{room}/py.typed" for room in ROOMS}
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_wheel_brings_no_bare_names(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info" not in name} == {"octree"}
