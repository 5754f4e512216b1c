"""Tests that keep the house: who may import whom, who may touch what, what starts fast, what ships."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("cli", "render", "pyramid")


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


ORDER = {
    "": [{"pyramid"}, {"render"}, {"cli"}],
    "pyramid": [
        {
            "errors",
            "model",
            "boxes",
            "reach",
            "grid",
            "units",
            "axes",
            "downsample",
            "memory",
            "foreign",
            "limits",
            "declared",
            "confined",
            "confined_child",
            "options",
        },
        {"deadline", "reach"},
        {"store"},
        {"sources", "verify"},
        {"building"},
    ],
    "render": [
        {"config", "films", "option_table", "volume_options"},
        {"view"},
        {"loading"},
        {"request", "tiles", "output"},
        {"report", "gl"},
        {"scene"},
        {"frames", "run", "farm", "farm_worker", "live"},
        {"check", "showcase"},
    ],
}
"""What each folder's rooms and files may import: those in groups before their own."""


def modules() -> dict[str, Path]:
    """Dotted names without ``octree.``, rooms by their ``__init__``."""
    found = {}
    for path in sources(*ROOMS):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports_at(name: str, path: Path, known: dict[str, Path], *, types: bool) -> set[str]:
    """The modules of ours that ``name`` imports; with ``types`` also those that only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skip = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and id(node) not in skip
            and (node.module or "").startswith("octree")
        ):
            module = (node.module or "").removeprefix("octree.")
            for alias in node.names:
                found.add(f"{module}.{alias.name}" if f"{module}.{alias.name}" in known else module)
    return {one for one in found if one in known and one != name}


@pytest.mark.parametrize("folder", ORDER)
def test_rooms_import_one_way(folder: str) -> None:
    """At every depth: a room imports rooms before it, never one beside or after it."""
    groups, known = ORDER[folder], modules()
    place = {room: number for number, group in enumerate(groups) for room in group}
    depth = len(folder.split(".")) if folder else 0
    here = {name.split(".")[depth] for name in known if name.startswith(f"{folder}." if folder else "")}
    assert here - {"__main__"} == set(place), f"rooms of {folder or 'octree'} without a place in the order"
    for name, path in known.items():
        if folder and not name.startswith(f"{folder}."):
            continue
        room = name.split(".")[depth]
        if path == ROOT / folder / "__init__.py":
            continue  # a map, and lazy names
        for other in imports_at(name, path, known, types=False):
            if (folder and not other.startswith(f"{folder}.")) or other == folder:
                continue
            target = other.split(".")[depth]
            may = place[target] < place[room] or target == room
            # files of one group that are no rooms may use each other; test_files_import_in_no_circle looks at those
            may |= place[target] == place[room] and not {target, room} & ROOMS_OF[folder]
            assert may, f"{name} imports {other}"


ROOMS_OF = {folder: {p.name for p in (ROOT / folder).iterdir() if p.is_dir()} for folder in ORDER}


def test_files_import_in_no_circle() -> None:
    known = modules()
    graph = {
        name: {o for o in imports_at(name, path, known, types=False) if known[o].name != "__init__.py"}
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_room_is_a_crowd() -> None:
    """A folder of more files than one reads at a glance wants rooms."""
    for folder in {path.parent for path in sources(*ROOMS)}:
        assert len(list(folder.glob("*.py"))) <= 20, folder.relative_to(ROOT)


def test_opengl_is_kept_to_its_rooms() -> None:
    for path in [*sources("render/loading"), *sources("render/view"), *sources("render/tiles")]:
        for name in imported(path):
            assert not name.startswith(("octree.render.gl", "vispy", "glfw")), f"{path} imports {name}"


@pytest.mark.parametrize(
    ("package", "only"),
    [
        ("glfw", {"render/gl/platform.py"}),
        ("typer", {"cli/"}),
        ("rich", {"cli/"}),
        ("tensorstore", {"pyramid/store/arrays.py"}),
        ("zarr", {"pyramid/store/arrays.py", "pyramid/store/remote/zarr_engine.py"}),
        ("obstore", {"pyramid/store/remote/client.py"}),
        ("vispy", {"render/gl/", "render/live/"}),
        ("matplotlib", {"render/report/html.py", "render/report/pages.py"}),
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


REMOVES = {
    "rmtree",
    "move",
    "remove",
    "unlink",
    "rmdir",
    "removedirs",
    "rename",
    "renames",
    "truncate",
    "ftruncate",
}
MAY_REMOVE = {
    ("pyramid/store/removal.py", "rmtree"),
    ("pyramid/store/removal.py", "unlink"),
    ("pyramid/store/removal.py", "rmdir"),
    ("pyramid/store/removal.py", "rename"),
    ("pyramid/store/removal.py", "replace"),
    # the finished folder and DEST change places; a folder with something in it is never renamed over
    ("pyramid/building/destination.py", "rename"),
    ("render/check/folders.py", "rename"),
    # what is cut off is a torn line of a journal of ours; the lock's text, in a file that was found to be a lock
    ("pyramid/building/journal.py", "ftruncate"),
    ("pyramid/building/lock.py", "ftruncate"),
    # memory that processes share
    ("render/loading/processes.py", "ftruncate"),
    ("pyramid/confined_child.py", "ftruncate"),
}


def removals(path: Path) -> Iterator[str]:
    """Calls in ``path`` that take something from the disk, or put one thing in another's place."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, owner = node.func.attr, node.func.value
        of = owner.id if isinstance(owner, ast.Name) else ""
        if name == "replace":
            # those of text and of dataclasses have two arguments, or named ones
            if of == "os" or (len(node.args) == 1 and not node.keywords):
                yield name
        elif name in ("remove", "move"):  # lists have one too
            if of in ("os", "shutil"):
                yield name
        elif name in REMOVES:
            yield name


def test_only_one_file_removes_anything() -> None:
    found = {(p.relative_to(ROOT).as_posix(), name) for p in sources(*ROOMS) for name in removals(p)}
    assert found <= MAY_REMOVE, "pyramid/store/removal.py removes, and says why it may; others ask it"


NGFF_KEYS = {"multiscales", "coordinateTransformations", "omero", "image-label", "bioformats2raw.layout"}


def test_only_these_files_know_ome_zarr_keys() -> None:
    for path in sources(*ROOMS):
        if path in (ROOT / "pyramid/store/ngff.py", ROOT / "pyramid/store/ngff_write.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in NGFF_KEYS, f"{path.relative_to(ROOT)} knows the key {node.value!r}"


ALL_ROOMS = sorted(
    path.parent.relative_to(ROOT).as_posix() for path in sources(*ROOMS) if path.name == "__init__.py"
)


@pytest.mark.parametrize("room", ALL_ROOMS)
def test_a_rooms_map_names_every_file(room: str) -> None:
    map_ = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    missing = [
        path.name
        for path in sorted((ROOT / room).glob("*.py"))
        if not path.name.startswith("__") and path.name not in map_
    ]
    missing += [
        f"{path.parent.name}/"
        for path in sorted((ROOT / room).glob("*/__init__.py"))
        if f"{path.parent.name}/" not in map_
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
    "obstore",
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
        "octree/" + path.relative_to(ROOT).as_posix().removeprefix("cli/package/")
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in ship and "__pycache__" not in path.parts
    }
    expected |= {f"octree/{room}/py.typed" for room in ROOMS}
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_the_package_says_its_version_and_imports_nothing_for_it() -> None:
    program = "import octree, sys; print(octree.__version__, 'numpy' in sys.modules); from octree import build; assert callable(build)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [version("octree"), "False"]


def test_wheel_brings_no_bare_names(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info" not in name} == {"octree"}


def test_whoever_silences_the_type_checker_says_why() -> None:
    """``# type: ignore[code]  # reason``."""
    files = [
        *sources(*ROOMS),
        *sorted((ROOT / "tests").glob("*.py")),
        *sorted((ROOT / "scripts").rglob("*.py")),
    ]
    silent = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"\S +# type: ignore", line) and not re.search(r"# type: ignore\[[\w, -]+\] +# ", line)
    ]
    assert silent == []
