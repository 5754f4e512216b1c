"""Nothing that is not ours is removed, emptied or written through: links and strangers at every name there is."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import image, leftovers, levels_of, octree, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octree.cli.app import run
from octree.pyramid import build, open_pyramid
from octree.pyramid.building import destination as destination_module
from octree.pyramid.building.destination import places_of
from octree.pyramid.errors import DestinationError, Interrupted
from octree.pyramid.store import removal
from octree.pyramid.store.removal import MARKER, REPLACED, Folder

OLD, NEW = image((70, 70)), image((100, 100), seed=1)
ENDS_WELL = {0, 3, 4}


def stop_after(count: int) -> Callable[[], bool]:
    calls = iter(range(10**6))
    return lambda: next(calls) >= count


class Yard:
    """A folder that others may write to as well, and what lies elsewhere and is theirs."""

    def __init__(self, root: Path) -> None:
        self.shared, self.victim = root / "shared", root / "victim"
        self.shared.mkdir()
        (self.victim / "deep/0/c/0").mkdir(parents=True)
        for name in ("thesis.txt", "deep/photo.jpg", "deep/0/c/0/0", "empty", "zarr.json", "frame-0000.png"):
            (self.victim / name).write_bytes(b"" if name == "empty" else b"mine: " + name.encode())
        (self.victim / "closed").mkdir()
        self.dest = self.shared / "out.zarr"
        np.save(self.shared / "image.npy", NEW)
        self.before = snapshot(self.victim)

    def beside(self, word: str) -> Path:
        return self.shared / f".out.zarr.octree-{word}"

    def put(self, path: Path, kind: str) -> None:
        """Something that is not ours at ``path``, where nothing is or what is gives way by another name."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            os.rename(path, path.with_name(path.name + ".before"))
        match kind:
            case "folder link":
                path.symlink_to(self.victim)
            case "deep folder link":
                path.symlink_to(self.victim / "deep")
            case "file link":
                path.symlink_to(self.victim / "thesis.txt")
            case "empty file link":
                path.symlink_to(self.victim / "empty")
            case "dangling link":
                path.symlink_to(self.victim / "not-there-yet")
            case "hard link":
                os.link(self.victim / "empty", path)
            case "pipe":
                os.mkfifo(path)
            case "folder":
                (path / "inner").mkdir(parents=True)
                (path / "inner/mine.txt").write_text("mine")
            case "marked folder of another":
                path.mkdir()
                (path / MARKER).write_text('{"octree_marker": 1, "dest": "other", "build": "b"}\n')
                (path / "mine.txt").write_text("mine")
            case "file":
                path.write_text("mine")

    def unharmed(self) -> None:
        assert snapshot(self.victim) == self.before


KINDS = (
    "folder link",
    "deep folder link",
    "file link",
    "empty file link",
    "dangling link",
    "hard link",
    "pipe",
    "folder",
    "marked folder of another",
    "file",
)
OURS_ALONE = {"folder": "inner/mine.txt", "marked folder of another": "mine.txt", "file": ""}


def snapshot(folder: Path) -> dict[str, Any]:
    """Every name with its kind, mode, number of names and bytes."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        facts = path.lstat()
        is_file = stat.S_ISREG(facts.st_mode)
        data = (facts.st_mtime_ns, path.read_bytes()) if is_file else None
        found[str(path)] = (facts.st_mode, facts.st_ino, data)
    return found


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def part_of_a_build(dest: Path, **options: Any) -> None:
    with pytest.raises(Interrupted):
        build(str(dest.parent / "image.npy"), dest, tile=8, shard=4, workers=1, stop=stop_after(3), **options)


def interrupted_beside(yard: Yard) -> None:
    build(OLD, yard.dest)
    part_of_a_build(yard.dest, overwrite=True)


STATES: dict[str, Callable[[Yard], Any]] = {
    "nothing": lambda yard: None,
    "empty folder": lambda yard: yard.dest.mkdir(),
    "pyramid": lambda yard: build(OLD, yard.dest),
    "interrupted": lambda yard: part_of_a_build(yard.dest),
    "interrupted beside": interrupted_beside,
}
SIDES = ("octree-lock", "octree-journal", "octree-journal.partial", "octree-new", "octree-old")
WITHIN = (MARKER, REPLACED, "zarr.json", "zarr.json.partial", "0", "0/c", "0/c/0", "0/c/1/1", "0/zarr.json")
PLACES = (
    "",
    *(f"side {name}" for name in SIDES),
    *(f"dest {n}" for n in WITHIN),
    *(f"new {n}" for n in WITHIN),
)
WAYS: tuple[tuple[str, ...], ...] = ((), ("--overwrite",), ("--resume",), ("--overwrite", "--resume"))


def path_of(yard: Yard, place: str) -> Path:
    where, _, name = place.partition(" ")
    if where == "side":
        return yard.shared / f".out.zarr.{name}"
    base = yard.beside("new") if where == "new" else yard.dest
    return base / name if name else base


def build_command(yard: Yard, *options: str) -> int:
    return run(
        ["build", str(yard.shared / "image.npy"), str(yard.dest), "--tile", "8", "--shard", "4", *options]
    )


@settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    state=st.sampled_from(sorted(STATES)),
    planted=st.dictionaries(st.sampled_from(PLACES), st.sampled_from(KINDS), min_size=1, max_size=3),
    ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=2),
)
def test_whatever_lies_wherever_a_build_leaves_it_alone(
    tmp_path_factory: pytest.TempPathFactory, state: str, planted: dict[str, str], ways: list[tuple[str, ...]]
) -> None:
    yard = Yard(tmp_path_factory.mktemp("yard"))
    STATES[state](yard)
    for place, kind in planted.items():
        if all(not (p.is_symlink() or (p.exists() and not p.is_dir())) for p in path_of(yard, place).parents):
            yard.put(path_of(yard, place), kind)
    for options in ways:
        assert build_command(yard, *options) in ENDS_WELL
        yard.unharmed()


@pytest.mark.parametrize("place", [p for p in PLACES if p.startswith("side") or not p])
@pytest.mark.parametrize("state", ["nothing", "pyramid"])
def test_at_every_side_name_strangers_stay(tmp_path: Path, place: str, state: str) -> None:
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        yard = Yard(tmp_path / kind)
        STATES[state](yard)
        yard.put(path_of(yard, place), kind)
        for options in ((), ("--overwrite",)):
            assert build_command(yard, *options) in ENDS_WELL
            yard.unharmed()
        if kind in OURS_ALONE and place:
            assert (path_of(yard, place) / OURS_ALONE[kind]).read_text() == "mine"


def test_the_command_of_the_report(yard: Yard) -> None:
    """A link where an overwrite keeps its folder: everything behind it was deleted, without ``--overwrite``."""
    yard.beside("new").symlink_to(yard.victim)
    done = octree("build", yard.shared / "image.npy", yard.dest)
    assert done.returncode == 0, done.stderr
    yard.unharmed()
    done = octree("build", yard.shared / "image.npy", yard.dest, "--overwrite")
    assert done.returncode == 4
    assert ".out.zarr.octree-new cannot be removed" in done.stderr
    yard.unharmed()
    assert yard.beside("new").is_symlink()


def test_a_lock_that_is_a_link_is_named(yard: Yard) -> None:
    yard.beside("lock").symlink_to(yard.victim / "thesis.txt")
    done = octree("build", yard.shared / "image.npy", yard.dest)
    assert done.returncode == 4
    assert ".out.zarr.octree-lock" in done.stderr
    yard.unharmed()


# what --overwrite may replace


def git(folder: Path) -> None:
    (folder / ".git/objects").mkdir(parents=True)
    (folder / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (folder / "main.py").write_text("print()")


def photos(folder: Path) -> None:
    for name in ("2023", "2024", "0"):
        (folder / name).mkdir(parents=True)
        (folder / name / "photo.jpg").write_bytes(b"jpg")


def stray(metadata: str, text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        photos(folder)
        (folder / metadata).write_text(text)

    return make


def pyramid_with(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        build(OLD, folder)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")

    return make


def pyramid_with_link(folder: Path) -> None:
    build(OLD, folder)
    (folder / "1").symlink_to(folder / "0")


GROUP = '{"zarr_format": 3, "node_type": "group"}'
STRANGERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a git repository": (git, "no Zarr metadata"),
    "photos": (photos, "no Zarr metadata"),
    "photos and a stray group": (stray("zarr.json", GROUP), "'0'"),
    "photos and a stray v2 group": (stray(".zgroup", '{"zarr_format": 2}'), "'0'"),
    "photos and attributes": (stray(".zattrs", "{}"), "no Zarr metadata"),
    "photos and another zarr.json": (stray("zarr.json", '{"scripts": []}'), "no Zarr metadata"),
    "photos and a list": (stray("zarr.json", "[]"), "no Zarr metadata"),
    "photos and deep brackets": (stray("zarr.json", "[" * 10**5), "no Zarr metadata"),
    "a pyramid and a file": (pyramid_with("thesis.txt"), "'thesis.txt'"),
    "a pyramid and a hidden file": (pyramid_with(".bashrc"), "'.bashrc'"),
    "a pyramid and a repository": (pyramid_with(".git/HEAD"), "'.git'"),
    "a pyramid and a file in a level": (pyramid_with("0/notes.txt"), "'0/notes.txt'"),
    "a pyramid and a link": (pyramid_with_link, "the link '1'"),
}


@pytest.mark.parametrize("what", STRANGERS)
def test_overwrite_replaces_no_folder_with_anything_foreign_in_it(tmp_path: Path, what: str) -> None:
    make, words = STRANGERS[what]
    np.save(tmp_path / "image.npy", NEW)
    dest = tmp_path / "dest"
    dest.mkdir()
    make(dest)
    before = snapshot(dest)
    with pytest.raises(DestinationError) as caught:
        build(str(tmp_path / "image.npy"), dest, overwrite=True)
    assert words in caught.value.message
    assert run(["build", str(tmp_path / "image.npy"), str(dest), "--overwrite"]) == 4
    assert snapshot(dest) == before
    assert leftovers(dest) == [], "nothing is begun either"


def zarr_v2_group(folder: Path) -> None:
    build(OLD, folder, ome_version="0.4")


def bare_array(folder: Path) -> None:
    build(OLD, folder.with_name("whole"))
    os.rename(folder.with_name("whole") / "0", folder)


def bioformats2raw(folder: Path) -> None:
    (folder / "OME").mkdir(parents=True)
    (folder / "OME/METADATA.ome.xml").write_text("<OME/>")
    for name in (".zgroup", "OME/.zgroup"):
        (folder / name).write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    build(OLD, folder / "0", ome_version="0.4")


@pytest.mark.parametrize("make", [zarr_v2_group, bare_array, bioformats2raw, lambda folder: folder.mkdir()])
def test_overwrite_replaces_what_is_a_pyramid(tmp_path: Path, make: Callable[[Path], None]) -> None:
    dest = tmp_path / "dest"
    make(dest)
    build(NEW, dest, overwrite=True)
    np.testing.assert_array_equal(levels_of(dest)[0], NEW)
    assert leftovers(dest) == []


def test_home_and_what_holds_it_are_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "people/real/me"
    build(OLD, home)  # even were it a pyramid
    (tmp_path / "link").symlink_to(home)
    for name in (tmp_path / "people/real", tmp_path / "people"):
        (name / "zarr.json").write_text(GROUP)
    np.save(tmp_path / "image.npy", NEW)
    before = snapshot(tmp_path / "people")
    for value in (home, tmp_path / "link"):
        monkeypatch.setenv("HOME", str(value))
        for dest in (
            home,
            home / ".." / "me",
            tmp_path / "people/real",
            tmp_path / "people",
            tmp_path / "link",
        ):
            with pytest.raises(DestinationError, match=r"home|link"):
                build(NEW, dest, overwrite=True)
    done = octree("build", tmp_path / "image.npy", tmp_path / "people", "--overwrite")
    assert done.returncode == 4
    assert "home folder" in done.stderr
    assert snapshot(tmp_path / "people") == before


def test_the_working_folder_and_what_holds_it_are_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(OLD, tmp_path / "a/b")
    monkeypatch.chdir(tmp_path / "a/b/0")
    before = snapshot(tmp_path)
    for dest in (".", "..", "../../../a/b", "../.."):
        with pytest.raises(DestinationError, match="working folder"):
            build(NEW, dest, overwrite=True)
    assert snapshot(tmp_path) == before


def test_a_mount_point_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(OLD, tmp_path / "p")
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "p")
    with pytest.raises(DestinationError, match="mounted"):
        build(NEW, tmp_path / "p", overwrite=True)
    np.testing.assert_array_equal(levels_of(tmp_path / "p")[0], OLD)


@pytest.mark.parametrize("name", ["link", "link/", "./link"])
def test_overwrite_through_a_link_is_refused(tmp_path: Path, name: str) -> None:
    build(OLD, tmp_path / "p")
    (tmp_path / "link").symlink_to(tmp_path / "p")
    before = snapshot(tmp_path)
    with pytest.raises(DestinationError, match="through a link"):
        build(NEW, f"{tmp_path}/{name}", overwrite=True)
    assert snapshot(tmp_path) == before


def test_what_was_put_into_the_old_pyramid_during_the_build_is_not_lost(tmp_path: Path) -> None:
    dest = tmp_path / "p"
    build(OLD, dest)

    def meanwhile(progress: Any) -> None:
        (dest / "thesis.txt").write_text("mine")

    with pytest.raises(DestinationError, match=r"thesis\.txt"):
        build(NEW, dest, overwrite=True, progress=meanwhile)
    assert (dest / "thesis.txt").read_text() == "mine"
    np.testing.assert_array_equal(levels_of(dest)[0], OLD)


# killed at any moment


class Killed(BaseException):
    pass


STEPS = ("rename", "exchange", "create", "make_folder", "_unlink", "_rmdir")


def killed_at(patch: pytest.MonkeyPatch, moment: int) -> list[str]:
    """The process dies before its step number ``moment`` on disk; the steps that were taken."""
    taken: list[str] = []
    for step in STEPS:
        real = getattr(Folder, step)

        def stepped(self: Folder, *args: Any, _real: Any = real, _step: str = step) -> Any:
            if len(taken) >= moment:
                raise Killed
            taken.append(_step)
            return _real(self, *args)

        patch.setattr(Folder, step, stepped)
    return taken


def whole_somewhere(dest: Path, levels: list[np.ndarray]) -> bool:
    for folder in (dest, places_of(dest).aside, places_of(dest).old):
        try:
            found = levels_of(folder)
        except Exception:  # whatever is wrong with it: it is not whole
            continue
        if len(found) == len(levels) and all(map(np.array_equal, found, levels)):
            return True
    return False


@pytest.mark.parametrize("at_once", [True, False])
def test_an_overwrite_that_is_killed_before_any_of_its_steps_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(destination_module, "exchange_at_once", lambda *names: False)
    build(OLD, tmp_path / "old")
    build(NEW, tmp_path / "new", name="n")
    old, new, undisturbed = levels_of(tmp_path / "old"), levels_of(tmp_path / "new"), tree(tmp_path / "new")
    np.save(tmp_path / "image.npy", NEW)
    for moment in range(100):
        (tmp_path / str(moment)).mkdir()
        dest = tmp_path / str(moment) / "p"
        build(OLD, dest)
        with monkeypatch.context() as patch:
            killed_at(patch, moment)
            try:
                build(str(tmp_path / "image.npy"), dest, overwrite=True, name="n")
                break
            except Killed:
                pass
        assert whole_somewhere(dest, old) or whole_somewhere(dest, new)
        os.path.lexists(places_of(dest).lock) and os.unlink(places_of(dest).lock)
        build(str(tmp_path / "image.npy"), dest, overwrite=True, resume=True, name="n")
        assert tree(dest) == undisturbed
        assert leftovers(dest) == []
    else:
        pytest.fail("it never came to an end")
    assert moment > 8


def test_a_file_system_mounted_in_what_is_replaced_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest, real = tmp_path / "p", Folder._device
    build(OLD, dest)
    monkeypatch.setattr(Folder, "_device", lambda self: -1 if self.path.name == "c" else real(self))
    with pytest.raises(Exception, match="another file system is mounted there"):
        build(NEW, dest, overwrite=True)
    assert (places_of(dest).aside / "0/c").is_dir()
    np.testing.assert_array_equal(levels_of(dest)[0], NEW)


# files that commands write


@pytest.fixture
def pyramid(yard: Yard) -> Path:
    build(OLD, yard.shared / "p.zarr")
    return yard.shared / "p.zarr"


LINKS = ("folder link", "file link", "dangling link", "hard link")


@pytest.mark.parametrize("option", ["-o", "--report", "--html", "--trace", "--monitor"])
def test_outputs_of_render_go_through_no_link(yard: Yard, pyramid: Path, option: str) -> None:
    for kind in LINKS:
        target = yard.shared / f"{kind}.png"
        yard.put(target, kind)
        code = run(["render", str(pyramid), "--camera", "fit", "--size", "16x16", option, str(target)])
        assert code == (4 if kind == "folder link" else 0)
        yard.unharmed() if kind != "hard link" else None
        assert (yard.victim / "empty").read_bytes() == b""


def test_a_log_does_not_grow_behind_a_link(yard: Yard, pyramid: Path) -> None:
    log, config = yard.shared / "log.txt", yard.shared / "settings.json"
    config.write_text(json.dumps({"loader_defaults": {"log_path": str(log)}, "octree": {"enabled": True}}))
    command = ["render", str(pyramid), "--camera", "fit", "--size", "16x16", "--config", str(config)]
    command += ["--report", str(yard.shared / "r.json")]
    assert run(command) == 0
    assert "level=" in log.read_text()
    log.unlink()
    log.symlink_to(yard.victim / "thesis.txt")
    assert run(command) == 4
    yard.unharmed()


def test_devices_and_pipes_are_written_to_and_stay(yard: Yard, pyramid: Path) -> None:
    command = ["render", pyramid, "--camera", "fit", "--size", "16x16"]
    done = octree(*command, "--report", "/dev/stdout")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"].startswith("octree-report/")
    done = octree(*command, "--report", "/dev/null", "-o", yard.shared / "a.png")
    assert done.returncode == 0, done.stderr
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.mkfifo(yard.shared / "pipe")
    with subprocess.Popen(["cat", str(yard.shared / "pipe")], stdout=subprocess.PIPE) as reader:
        done = octree(*command, "--report", yard.shared / "pipe")
        assert done.returncode == 0, done.stderr
        assert json.loads(reader.communicate()[0])["frames"]
    assert stat.S_ISFIFO(os.stat(yard.shared / "pipe").st_mode)


def test_a_device_that_is_full_is_exit_5(yard: Yard, pyramid: Path) -> None:
    done = octree("render", pyramid, "--camera", "fit", "--size", "16x16", "--report", "/dev/full")
    assert done.returncode == 5, done.stderr
    assert "No space left" in done.stderr


def test_a_partial_file_has_a_name_that_nobody_can_prepare(tmp_path: Path) -> None:
    names = set()
    for _ in range(5):
        with removal.replacing(tmp_path / "a.json") as partial:
            names.add(partial.name)
            assert partial.stat().st_size == 0
    assert len(names) == 5
    assert all(len(name) >= 16 for name in names)


# check


@pytest.fixture
def suite(yard: Yard, pyramid: Path) -> Path:
    path = yard.shared / "suite.toml"
    path.write_text(
        f'[[case]]\nname = "a"\nsource = "{pyramid}"\ncamera = "fit"\nsize = "16x16"\noptions = {{clim = "0,200"}}\n'
    )
    return path


def check(suite: Path, *options: str) -> int:
    return run(["check", str(suite), "--output", str(suite.parent / "out"), *options])


CHECK_PLACES = ("out/actual/a", "out/difference/a", "baselines/default/a", "out/actual/a/record.json")


@pytest.mark.parametrize("place", CHECK_PLACES)
def test_a_check_removes_only_frames_of_its_own(yard: Yard, suite: Path, place: str) -> None:
    assert check(suite, "--accept") == 0
    for kind in ("folder link", "file link", "folder", "marked folder of another", "file"):
        target = suite.parent / place
        yard.put(target, kind)
        for options in ((), ("--accept",)):
            assert check(suite, *options) in {0, 1, 2, 3, 4}
            yard.unharmed()
        if kind in OURS_ALONE and not place.endswith("json"):
            assert (target / OURS_ALONE[kind]).read_text() == "mine"
        if os.path.lexists(target):
            os.rename(target, target.with_name(f"moved {kind}"))


def test_frames_of_somebody_else_are_not_ours(yard: Yard, suite: Path) -> None:
    """Named as ours are, in a folder that only ``--output`` leads to."""
    film = suite.parent / "out/actual/a"
    film.mkdir(parents=True)
    (film / "frame-0000.png").write_bytes(b"mine")
    assert check(suite) == 4
    assert (film / "frame-0000.png").read_bytes() == b"mine"


def test_baselines_of_an_earlier_version_are_replaced(yard: Yard, suite: Path) -> None:
    assert check(suite, "--accept") == 0
    baseline = suite.parent / "baselines/default/a"
    assert sorted(p.name for p in baseline.iterdir()) == ["frame-0000.png", "record.json"]
    suite.write_text(suite.read_text().replace("0,200", "0,100"))
    first = tree(baseline)
    assert check(suite) == 1
    assert check(suite, "--accept") == 0
    assert tree(baseline) != first
    assert check(suite) == 0
    assert sorted(p.name for p in baseline.parent.iterdir()) == ["a"]


def test_the_pyramid_is_still_readable_while_it_is_about_to_be_replaced(tmp_path: Path) -> None:
    build(OLD, tmp_path / "p")
    with Folder.of(tmp_path) as parent, parent.folder("p") as folder:
        removal.mark(folder, REPLACED, "p", "b")
    assert len(open_pyramid(tmp_path / "p").spec.levels) == 1
    build(NEW, tmp_path / "p", overwrite=True)
    np.testing.assert_array_equal(levels_of(tmp_path / "p")[0], NEW)
    assert leftovers(tmp_path / "p") == []
