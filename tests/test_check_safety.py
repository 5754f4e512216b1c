"""What ``octree check`` takes from files that came with a branch or an artifact: names, links, settings, frames."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from check_cases import Bench, FakeRenderer, Shown, pixels

from octree.cli.app import run as octree
from octree.pyramid.errors import SourceError, UsageError
from octree.pyramid.store.removal import Folder
from octree.render.check import names
from octree.render.check.folders import remove_frames
from octree.render.check.record import case_digest
from octree.render.check.spec import load_suite

LINKS = pytest.mark.skipif(not hasattr(os, "symlink"), reason="this system has no links")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A suite in ``work`` with frames of the case a staged in ``work/out``; ``victim`` lies beside it."""
    victim = tmp_path / "victim"
    (victim / "a").mkdir(parents=True)
    (victim / "a" / "precious.txt").write_text("all there is")
    (victim / "precious.txt").write_text("all there is")
    bench = Bench(tmp_path / "work", FakeRenderer())
    bench.folder.mkdir()
    bench.run("a")
    return bench


def accept(bench: Bench, *more: str) -> int:
    words = [
        "check",
        str(bench.folder / "suite.toml"),
        "--accept",
        "--output",
        str(bench.folder / "out"),
        *more,
    ]
    return octree(words)


def change_record(bench: Bench, change: Callable[[dict[str, Any]], None]) -> None:
    path = bench.folder / "out" / "actual" / "a" / "record.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


BAD_NAMES = {
    "up": "../victim",
    "up twice": "../../victim",
    "absolute": "/tmp",
    "parent": "..",
    "here": ".",
    "nested": "a/b",
    "backslash": "a\\b",
    "drive": "c:x",
    "hidden": ".git",
    "empty": "",
    "blank": " ",
    "zero": "a\0b",
    "escape": "a\x1b[31m",
    "line": "a\nb",
    "c1": "a\x9b31m",
    "bidi": "a\u202egnp",
    "surrogate": "a\udc80",
    "device": "nul",
    "device with an ending": "COM1.txt",
    "long": "x" * 151,
    "number": 3,
    "list": [],
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_plain_name_is_one_thing_in_one_folder(name: Any) -> None:
    assert names.fault(name)
    for good in (
        "default",
        "llvmpipe-mesa22.3-llvm15-256bit-x86_64",
        "über alles",
        "👩‍🔬",
        "a, b (c)",
        "x" * 150,
    ):
        assert names.fault(good) is None


@pytest.mark.parametrize("key", ["fingerprint", "family"])
@pytest.mark.parametrize(
    "name", ["../victim", "../../victim", "..", "/", "a/../../victim", "", 7, None, "x\x1b[2J"]
)
def test_a_staged_record_cannot_name_a_place_beyond_the_baselines(
    bench: Bench, key: str, name: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(bench.folder.parent / "victim")
    change_record(bench, lambda record: record.update({key: name}))
    for scope in ("auto", "exact", "family", "default"):
        assert accept(bench, "--scope", scope) == 1
    said = capsys.readouterr().err
    assert "not accepted" in said
    assert f"cannot be used: {key}: " in said
    assert "\x1b" not in said
    assert tree(bench.folder.parent / "victim") == before
    assert not (bench.folder / "baselines").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"index": "../../x"},
        {"index": -1},
        {"index": 1e9},
        {"index": True},
        {"size_px": [0, 5]},
        {"size_px": [10**9, 10**9]},
        {"size_px": 3},
        {"sha256": "x"},
        {"sha256": None},
        {"camera": 3},
        {"coverage": {"ideal": "all"}},
        {"tiles": {"level": 0, "layers": [[["a", [0], [0]]]]}},
    ],
)
def test_a_frame_of_a_staged_record_is_read_strictly(bench: Bench, change: dict[str, Any]) -> None:
    change_record(bench, lambda record: record["frames"][0].update(change))
    assert accept(bench) == 1
    assert not (bench.folder / "baselines").exists()


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"[" * 100_000, b'{"schema": 1}', b"\xff", b"1" * 5000, b'{"schema": 1e400}']
)
def test_a_staged_record_that_is_none_is_said(
    bench: Bench, text: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench.folder / "out" / "actual" / "a" / "record.json").write_bytes(text)
    assert accept(bench) == 1
    assert "cannot be used" in capsys.readouterr().err


@LINKS
@pytest.mark.parametrize("place", ["baselines/default", "baselines/default/a"])
def test_accepting_follows_no_link_in_the_baselines(
    bench: Bench, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = bench.folder.parent / "victim"
    before = tree(victim)
    link = bench.folder / place
    link.parent.mkdir(parents=True)
    link.symlink_to(victim, target_is_directory=True)
    assert accept(bench) == 4
    assert "link" in capsys.readouterr().err
    assert tree(victim) == before
    assert link.is_symlink()
    assert not list((bench.folder / "baselines").glob(".*"))


@LINKS
def test_a_link_in_the_place_of_the_manifest_is_replaced_not_followed(bench: Bench) -> None:
    secret = bench.folder.parent / "victim" / "precious.txt"
    secret.write_text('{"schema": "octree-baselines/1", "baselines": {}}')
    (bench.folder / "baselines").mkdir()
    (bench.folder / "baselines" / "manifest.json").symlink_to(secret)
    assert accept(bench) == 0
    assert secret.read_text() == '{"schema": "octree-baselines/1", "baselines": {}}'
    assert "default/a" in (bench.folder / "baselines" / "manifest.json").read_text()


@LINKS
@pytest.mark.parametrize("place", ["actual", "actual/a", "difference", "difference/a"])
def test_a_run_removes_and_writes_nothing_through_links_in_its_output(bench: Bench, place: str) -> None:
    victim = bench.folder.parent / "victim"
    before = tree(victim)
    shutil.rmtree(bench.folder / "out")
    accepted = bench.run("a", accept=[])
    assert accepted.passed
    shutil.rmtree(bench.folder / "out")
    link = bench.folder / "out" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(victim, target_is_directory=True)
    bench.renderer.shown["a"] = Shown(frames=[pixels(1)])
    with pytest.raises(Exception, match="link"):
        bench.run("a")
    assert tree(victim) == before


@LINKS
@pytest.mark.parametrize("name", ["frame-0000.png", "record.json"])
def test_staged_files_that_are_links_are_not_copied(
    bench: Bench, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bench.folder / "out" / "actual" / "a" / name
    moved = bench.folder.parent / "victim" / name
    path.rename(moved)
    path.symlink_to(moved)
    assert accept(bench) == 1
    assert "link" in capsys.readouterr().err
    assert not (bench.folder / "baselines" / "default").exists()


@LINKS
def test_pipes_in_the_place_of_files_do_not_hang(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = bench.folder / "out" / "actual" / "a" / "frame-0000.png"
    path.unlink()
    os.mkfifo(path)
    assert accept(bench) == 1
    os.mkfifo(bench.folder / "pipe.toml")
    assert octree(["check", str(bench.folder / "pipe.toml")]) == 2
    (bench.folder / "baselines").mkdir(exist_ok=True)
    os.mkfifo(bench.folder / "baselines" / "manifest.json")
    assert octree(["check", str(bench.folder / "suite.toml"), "--output", str(bench.folder / "o2")]) == 3
    assert capsys.readouterr().err.count("not a regular file") == 3


MANIFEST = {"schema": "octree-baselines/1", "baselines": {}}


@pytest.mark.parametrize(
    "entries",
    [
        {"../victim/a": {"files": {"record.json": {"sha256": ""}}}},
        {"default/../victim": {"files": {"record.json": {"sha256": ""}}}},
        {
            "default/a": {
                "files": {"record.json": {"sha256": ""}, "../../victim/precious.txt": {"sha256": ""}}
            }
        },
        {"default/a": {"files": {"record.json": {"sha256": ""}, "/etc/passwd": {"sha256": ""}}}},
        {"default": {"files": {}}},
        {"default/a": {"files": {}}},
        {"default/a": {"files": 3}},
        {"default/a": 3},
        {"default/a": {"files": {"record.json": 3}}},
        3,
    ],
)
def test_names_in_a_manifest_are_plain_ones(
    bench: Bench, entries: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench.folder / "baselines").mkdir()
    (bench.folder / "baselines" / "manifest.json").write_text(json.dumps(MANIFEST | {"baselines": entries}))
    assert accept(bench) == 3
    assert "cannot read the manifest" in capsys.readouterr().err
    with pytest.raises(SourceError, match="cannot read the manifest"):
        bench.run("a")


def test_a_frame_that_the_manifest_does_not_list_is_no_baseline(bench: Bench) -> None:
    assert accept(bench) == 0
    path = bench.folder / "baselines" / "manifest.json"
    document = json.loads(path.read_bytes())
    del document["baselines"]["default/a"]["files"]["frame-0000.png"]
    path.write_text(json.dumps(document))
    assert "not in the manifest" in bench.run("a").cases[0].reasons[0]


# accepting takes those bytes


def test_frames_of_another_checkout_are_taken_byte_for_byte(bench: Bench, tmp_path: Path) -> None:
    staged = tree(bench.folder / "out" / "actual" / "a")
    del staged["octree-case.json"]
    here = Bench(tmp_path / "elsewhere" / "deeper" / "checkout", FakeRenderer())
    here.folder.mkdir(parents=True)
    here.suite("a")
    shutil.copytree(bench.folder / "out", here.folder / "out")
    assert accept(here) == 0  # would need OpenGL and a source if it rendered
    assert tree(here.folder / "baselines" / "default" / "a") == staged
    manifest = json.loads((here.folder / "baselines" / "manifest.json").read_bytes())
    digest = manifest["baselines"]["default/a"]["files"]["frame-0000.png"]["sha256"]
    assert digest == hashlib.sha256(staged["frame-0000.png"]).hexdigest()
    assert here.run("a", ci=True).passed


def test_the_digest_of_a_case_is_of_what_the_suite_says(tmp_path: Path) -> None:
    def digest(folder: str, source: str = "../data/a.zarr", camera: str = "path.json", more: str = "") -> str:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        (place / "path.json").write_text('{"keyframes": [{"t_s": 0, "x": 1, "y": 1, "zoom": 1}]}')
        (place / "settings.json").write_text("{}")
        text = f'[[case]]\nname = "a"\nsource = "{source}"\ncamera = "{camera}"\n{more}'
        (place / "suite.toml").write_text(text, encoding="utf-8")
        return case_digest(load_suite(place / "suite.toml").cases[0])

    config = 'options = {config = "settings.json"}'
    assert digest("x") == digest("y") == digest("y", ".././data//a.zarr", "./path.json")
    assert digest("x", more=config) == digest("y", more=config.replace("settings", "./settings"))
    assert digest("x", "/data/a.zarr") == digest("y", "/data/a.zarr")
    others = [digest("x"), digest("x", "a.zarr"), digest("x", camera="fit"), digest("x", more=config)]
    others += [digest("x", more="size = '10x10'"), digest("x", more="frames = [0]")]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("changed", [pixels(5), None])
def test_frames_that_are_not_those_rendered_are_refused(
    bench: Bench, changed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from octree.render.output.png import encode_png

    path = bench.folder / "out" / "actual" / "a" / "frame-0000.png"
    path.write_bytes(path.read_bytes()[:-1] if changed is None else encode_png(changed))
    assert accept(bench) == 1
    said = capsys.readouterr().err
    assert "is not the one that was rendered" in said
    assert "hint: run the case again" in said
    assert not list((bench.folder / "baselines").iterdir())


def test_a_refused_frame_leaves_the_baseline_as_it_was(bench: Bench) -> None:
    assert accept(bench) == 0
    before = tree(bench.folder / "baselines")
    bench.renderer.shown["a"] = Shown(frames=[pixels(1)])
    bench.run("a")
    (bench.folder / "out" / "actual" / "a" / "frame-0000.png").unlink()
    assert accept(bench) == 1
    assert tree(bench.folder / "baselines") == before


def test_an_artifact_in_which_nothing_fits_is_said_and_nothing_is_rendered(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.suite("a", more='camera = "x=1,y=2,zoom=1"')
    assert accept(bench) == 1
    assert "another definition of 'a'" in capsys.readouterr().err
    bench.suite("b")
    assert accept(bench) == 1
    assert "staged no frames of it" in capsys.readouterr().err
    assert accept(bench, "b") == 1
    shutil.rmtree(bench.folder / "out" / "actual")
    assert accept(bench) == 1  # report.json says that there was a run
    assert not (bench.folder / "baselines").exists()


# what a suite has written


def suite_with_log(folder: Path, section: str, path: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({section: {"log_path": path}}))
    text = '[[case]]\nname = "a"\nsource = "nowhere.npy"\noptions = {config = "settings.json"}\n'
    (folder / "suite.toml").write_text(text)
    return ["check", str(folder / "suite.toml"), "--output", str(folder / "out")]


@pytest.mark.parametrize("section", ["loader_defaults", "octree"])
@pytest.mark.parametrize(
    "path", ["../victim.txt", "{outside}", "link.txt", "folder/victim.txt", "/dev/stdout", "."]
)
def test_the_settings_of_a_suite_write_nothing_outside_its_folder(
    tmp_path: Path, section: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("all there is")
    words = suite_with_log(tmp_path / "s", section, path.format(outside=victim))
    (tmp_path / "s" / "link.txt").symlink_to(victim)
    (tmp_path / "s" / "folder").symlink_to(tmp_path)
    assert octree(words) == 2
    said = capsys.readouterr().err
    assert "log_path in settings.json" in said
    assert victim.read_text() == "all there is"
    if "victim" in path:
        assert "outside the suite's folder" in said
        assert octree([*words, "--allow-outside"]) == 1  # its source is missing: the settings are taken
        assert "no file" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["log.txt", "sub/../log.txt", "{inside}"])
def test_logs_of_a_suite_lie_in_its_folder_wherever_it_is_run(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "s"
    suite_with_log(folder, "octree", path.format(inside=folder / "log.txt"))
    case = load_suite(Path("s/suite.toml")).cases[0]
    assert case.settings is not None
    log = str((folder / "log.txt").resolve())
    assert (case.settings.loader.plan_log_path, case.settings.octree.log_path) == (log, log)
    assert case.settings.loader.log_path is None


def test_a_settings_file_that_is_none_is_an_error_of_the_suite(tmp_path: Path) -> None:
    for config in ('"nowhere.json"', "3", '"a\\u0000b"', '""'):
        (tmp_path / "s.toml").write_text(
            f'[[case]]\nname = "a"\nsource = "a"\noptions = {{config = {config}}}\n'
        )
        with pytest.raises(UsageError, match="case 'a'"):
            load_suite(tmp_path / "s.toml")


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "1" * 5000, 'a = "\\ud800"'])
def test_toml_that_no_parser_likes_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UsageError, match="not TOML"):
        load_suite(tmp_path / "s.toml")


# folders


def test_a_folder_takes_only_names_of_what_lies_in_it(tmp_path: Path) -> None:
    with Folder.of(tmp_path, listed=True) as folder:
        for name in ("..", ".", "", "a/b", "/x"):
            with pytest.raises(ValueError, match="not the name of one thing"):
                remove_frames(folder, name)
            with pytest.raises((ValueError, OSError)), folder.folder(name):
                pass
        remove_frames(folder, "nothing")
        folder.write("a", b"1")
        folder.write("a", b"22")
        assert (folder.read_whole("a", 2), folder.names()) == (b"22", ["a"])
        with pytest.raises(OSError, match="larger than 1"):
            folder.read_whole("a", 1)
