"""Suites end to end on a stand-in renderer: verdicts, staging, accepting, baselines by renderer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from check_cases import Bench, FakeRenderer, Shown, pixels, tile_set

from octree.pyramid.errors import (
    DestinationError,
    GLError,
    SourceError,
    SourceNotFound,
    UsageError,
)
from octree.render.check.baseline import BaselineStore
from octree.render.check.suite import background_of, is_ci
from octree.render.view.coverage import Coverage


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, FakeRenderer())


def accepted(bench: Bench, *names: str, **options: Any) -> None:
    """Give the cases baselines, of frames rendered for it."""
    shutil.rmtree(bench.folder / "out", ignore_errors=True)
    bench.run(*names, accept=[], **options)


def kinds(result: Any, name: str = "a") -> set[str]:
    case = next(case for case in result.cases if case.name == name)
    return {kind for frame in case.frames for kind in frame.kinds}


# from new to accepted


def test_a_missing_baseline_is_new_here_and_fails_in_ci(bench: Bench) -> None:
    first = bench.run("a")
    assert (bench.verdicts(first), first.exit_code) == ({"a": "new"}, 0)
    in_ci = bench.run("a", ci=True)
    assert (bench.verdicts(in_ci), in_ci.exit_code) == ({"a": "fail"}, 1)
    assert kinds(in_ci) == {"missing"}
    assert not (bench.folder / "baselines").exists()


def test_ci_is_read_from_the_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert bench.run("a", ci=None).exit_code == 1
    monkeypatch.setenv("CI", "")
    assert bench.run("a", ci=None).exit_code == 0
    assert [is_ci({"CI": text}) for text in ("1", "0", "false", "yes")] == [True, False, False, True]


def test_one_run_fails_and_stages_and_accept_takes_what_was_staged(bench: Bench) -> None:
    accepted(bench, "a", "b")
    bench.renderer.shown["a"] = Shown(frames=[pixels(1)])
    failed = bench.run("a", "b")
    assert bench.verdicts(failed) == {"a": "fail", "b": "pass"}
    assert sorted(p.name for p in (bench.folder / "out" / "actual").iterdir()) == ["a"]
    assert (bench.folder / "out" / "difference" / "a" / "frame-0000.png").exists()
    calls = len(bench.renderer.calls)
    bench.renderer.shown["a"] = Shown(frames=[pixels(2)])  # accepting renders nothing: it takes what was seen
    taken = bench.run("a", "b", accept=[], reason="new colours")
    assert len(bench.renderer.calls) == calls
    assert [case.name for case in taken.cases] == ["a"]
    assert taken.passed
    bench.renderer.shown["a"] = Shown(frames=[pixels(1)])
    again = bench.run("a", "b")
    assert bench.verdicts(again) == {"a": "pass", "b": "pass"}
    assert not list((bench.folder / "out" / "actual").iterdir())
    assert not (bench.folder / "out" / "difference" / "a").exists()
    manifest = json.loads((bench.folder / "baselines" / "manifest.json").read_bytes())
    entry = manifest["baselines"]["default/a"]
    assert (entry["reason"], entry["fingerprint"]) == ("new colours", "llvmpipe-made-up-x86_64")
    assert entry["files"]["frame-0000.png"]["size_px"] == [64, 48]
    assert len(entry["files"]["frame-0000.png"]["sha256"]) == 64


def test_accept_renders_what_was_never_rendered(bench: Bench) -> None:
    result = bench.run("a", "b", accept=["b"])
    assert [(case.name, case.accepted) for case in result.cases] == [("b", "default")]
    assert bench.renderer.calls == ["b", "b"]
    assert bench.verdicts(bench.run("a", "b", ci=True)) == {"a": "fail", "b": "pass"}


def test_accept_without_a_run_renders_all_and_leaves_what_passes(bench: Bench) -> None:
    accepted(bench, "a", "b")
    bench.renderer.shown["b"] = Shown(frames=[pixels(1)])
    result = bench.run("a", "b", accept=[], output=bench.folder / "new")
    assert {case.name: case.accepted for case in result.cases} == {"a": None, "b": "default"}
    assert result.cases[1].reasons == ("rendered now, and accepted as the baseline for default",)
    assert bench.run("a", "b").passed


def test_accept_after_a_run_that_staged_nothing_renders_nothing(bench: Bench) -> None:
    accepted(bench, "a", "b")
    bench.renderer.shown["b"] = Shown(frames=[pixels(1)])
    bench.renderer.calls.clear()
    with pytest.raises(UsageError, match="nothing to accept"):
        bench.run("a", "b", accept=[])
    named = bench.run("a", "b", accept=["b"])
    assert bench.verdicts(named) == {"b": "fail"}
    assert "staged no frames of it" in named.cases[0].reasons[1]
    assert bench.renderer.calls == []


def test_frames_staged_from_another_definition_are_not_taken(bench: Bench) -> None:
    bench.run("a")
    bench.renderer.calls.clear()
    result = bench.run("a", more='camera = "x=1,y=2,zoom=1"', accept=[])
    assert (bench.verdicts(result), result.exit_code) == ({"a": "fail"}, 1)
    assert "another definition of 'a'" in result.cases[0].reasons[1]
    assert bench.renderer.calls == []
    assert not (bench.folder / "baselines").exists()


def test_only_named_cases_run_and_unknown_names_are_said(bench: Bench) -> None:
    assert bench.verdicts(bench.run("a", "b", "c", only=["c", "a"])) == {"a": "new", "c": "new"}
    with pytest.raises(UsageError, match="no case 'x'") as caught:
        bench.run("a", "b", only=["x"])
    assert "a, b" in str(caught.value.hint)


# what fails


def change(**values: Any) -> Shown:
    return Shown(**values)


@pytest.mark.parametrize(
    ("shown", "kind", "says"),
    [
        (change(frames=[pixels(1)]), "pixels", "pixels differ"),
        (change(frames=[pixels(0, (60, 48))]), "size", "60x48, the baseline 64x48"),
        (change(frames=[np.zeros((48, 64, 4), np.uint8)]), "empty", "nothing but background"),
        (change(visible_px=0), "empty", "nothing but background"),
        (
            change(tiles=[tile_set((0, 0, 0), (1, 0, 0))]),
            "tiles",
            "1 no longer drawn (layer 0 level 0 tile 0/0/1); 1 drawn in addition (layer 0 level 1 tile 0/0/0)",
        ),
        (change(tiles=[tile_set((0, 0, 0), (0, 0, 1), level=2)]), "tiles", "arrangement"),
        (
            change(coverage=[Coverage(0.9, coarser=0.1)]),
            "coverage",
            "ideal 90.0% instead of 100.0%, coarser 10.0% instead of 0.0%",
        ),
    ],
)
def test_each_kind_of_change_fails_and_is_named(bench: Bench, shown: Shown, kind: str, says: str) -> None:
    accepted(bench, "a")
    bench.renderer.shown["a"] = shown
    result = bench.run("a")
    assert bench.verdicts(result) == {"a": "fail"}
    assert kind in kinds(result)
    assert says in result.cases[0].reasons[0]


def test_only_what_is_asked_for_is_compared(bench: Bench) -> None:
    accepted(bench, "a")
    bench.renderer.shown["a"] = Shown(tiles=[tile_set((3, 0, 0))], coverage=[Coverage(0, coarser=1)])
    assert bench.run("a", more='compare = ["pixels"]').passed
    assert kinds(bench.run("a", more='compare = ["tiles", "pixels"]')) == {"tiles"}


def test_an_empty_frame_never_passes_nor_becomes_a_baseline(bench: Bench) -> None:
    bench.renderer.shown["a"] = Shown(frames=[np.full((48, 64, 4), (0, 0, 0, 255), np.uint8)])
    assert bench.verdicts(bench.run("a")) == {"a": "fail"}
    refused = bench.run("a", accept=[])
    assert (refused.exit_code, refused.cases[0].accepted) == (1, None)
    assert refused.cases[0].reasons[0] == "not accepted"
    assert not (bench.folder / "baselines").exists()


def test_an_empty_frame_that_is_meant_passes(bench: Bench) -> None:
    bench.renderer.shown["a"] = Shown(frames=[np.full((48, 64, 4), (0, 0, 0, 255), np.uint8)], visible_px=0)
    meant = "options = {allow_empty = true}"
    assert bench.run("a", more=meant, accept=[]).exit_code == 0
    assert bench.run("a", more=meant).passed
    assert kinds(bench.run("a")) == {"empty"}


@pytest.mark.parametrize(
    ("background", "colour", "empty"),
    [
        ("white", (255, 255, 255, 255), True),
        ("transparent", (0, 0, 0, 0), True),
        ("#102030", (16, 32, 48, 255), True),
        ("black", (90, 90, 90, 255), False),
    ],
)
def test_a_flat_frame_is_empty_only_in_the_background_colour(
    bench: Bench, background: str, colour: tuple[int, ...], empty: bool
) -> None:
    bench.renderer.shown["a"] = Shown(frames=[np.full((48, 64, 4), colour, np.uint8)])
    result = bench.run("a", more=f'options = {{background = "{background}"}}')
    assert ("empty" in kinds(result)) is empty


def test_a_colour_that_is_none_counts_as_black() -> None:
    assert background_of("no colour") == (0, 0, 0, 255)
    assert background_of("#ff000080") == (255, 0, 0, 128)


def test_in_a_path_frames_before_the_first_tile_may_be_blank(bench: Bench) -> None:
    blank = np.full((48, 64, 4), (0, 0, 0, 255), np.uint8)
    waiting, some = Coverage(0, missing=1), Coverage(0.5, missing=0.5)
    tiles = [tile_set(), tile_set((2, 0, 0))]
    path = Shown(frames=[blank, pixels()], tiles=tiles, coverage=[waiting, some])
    bench.renderer.shown["a"] = path
    accepted(bench, "a")
    assert bench.run("a").passed
    bench.renderer.shown["a"] = Shown(frames=[pixels(), blank], tiles=tiles[::-1], coverage=[some, some])
    assert "empty" in kinds(bench.run("a"))


def test_a_path_that_never_shows_anything_is_empty(bench: Bench) -> None:
    blank = np.full((48, 64, 4), (0, 0, 0, 255), np.uint8)
    bench.renderer.shown["a"] = Shown(
        frames=[blank, blank], tiles=[tile_set()] * 2, coverage=[Coverage(0, missing=1)]
    )
    assert kinds(bench.run("a")) >= {"empty"}
    assert bench.run("a", accept=[]).exit_code == 1


def test_a_path_with_other_frames_fails(bench: Bench) -> None:
    three = Shown(frames=[pixels(i) for i in range(3)], tiles=[tile_set((0, 0, i)) for i in range(3)])
    bench.renderer.shown["a"] = three
    accepted(bench, "a")
    bench.renderer.shown["a"] = Shown(frames=three.frames[:2], tiles=three.tiles[:2])
    assert "3 frames, now there are 2" in bench.run("a").cases[0].reasons[0]
    bench.renderer.shown["a"] = Shown(frames=[*three.frames, pixels(9)], tiles=[*three.tiles, tile_set()])
    assert "does not have this frame" in bench.run("a").cases[0].reasons[0]


def test_frames_picks_frames_of_a_path(bench: Bench) -> None:
    bench.renderer.shown["a"] = Shown(frames=[pixels(i) for i in range(5)], tiles=[tile_set()] * 5)
    accepted(bench, "a", more="frames = [4, 1]")
    files = sorted(p.name for p in (bench.folder / "baselines" / "default" / "a").iterdir())
    assert files == ["frame-0001.png", "frame-0004.png", "record.json"]
    bench.renderer.shown["a"] = Shown(
        frames=[pixels(i if i in (1, 4) else 70) for i in range(5)], tiles=[tile_set()] * 5
    )
    assert bench.run("a", more="frames = [4, 1]").passed
    beyond = bench.run("a", more="frames = [5]")
    assert bench.verdicts(beyond) == {"a": "error"}
    assert "no frame 5; there are 5" in beyond.cases[0].reasons[0]


def test_masks_and_tolerances_reach_the_comparison(bench: Bench) -> None:
    accepted(bench, "a")
    changed = pixels()
    changed[5:20, 5:20] = 255
    bench.renderer.shown["a"] = Shown(frames=[changed])
    assert not bench.run("a").passed
    assert bench.run("a", more="masks = [[5, 5, 20, 20]]").passed
    loose = "tolerance = {budget = 1.0, cap = 255, cluster = 10000, drift = 255}"
    assert bench.run("a", more=loose).passed


# unstable, errors


def test_frames_that_differ_when_rendered_twice_are_unstable(bench: Bench) -> None:
    accepted(bench, "a", "b")
    bench.renderer.calls.clear()
    bench.renderer.shown["a"] = lambda call: Shown(frames=[pixels(call)])
    bench.renderer.shown["b"] = lambda call: Shown(tiles=[tile_set((call, 0, 0))])
    result = bench.run("a", "b")
    assert bench.verdicts(result) == {"a": "unstable", "b": "unstable"}
    assert "other pixels" in result.cases[0].reasons[0]
    assert 'clock = "virtual"' in result.cases[1].reasons[0]
    assert result.exit_code == 1
    assert bench.run("a", accept=["a"]).exit_code == 1
    assert bench.run("a", "b", more="repeat = 1").count(result.cases[0].verdict) == 0


def test_what_goes_wrong_in_a_case_is_its_verdict_and_the_others_run(bench: Bench) -> None:
    accepted(bench, "a", "b", "c")
    bench.renderer.shown["a"] = SourceNotFound("no file a.zarr", hint="check the path")
    bench.renderer.shown["b"] = ZeroDivisionError("oops")
    result = bench.run("a", "b", "c")
    assert bench.verdicts(result) == {"a": "error", "b": "error", "c": "pass"}
    assert result.cases[0].error == {
        "kind": "source-not-found",
        "message": "no file a.zarr",
        "hint": "check the path",
    }
    assert "ZeroDivisionError: oops" in result.cases[1].reasons[0]
    assert result.exit_code == 1


def test_a_case_that_breaks_leaves_no_older_frames_to_accept(bench: Bench) -> None:
    bench.run("a")
    assert (bench.folder / "out" / "actual" / "a").exists()
    bench.renderer.shown["a"] = SourceNotFound("gone")
    bench.run("a")
    assert not (bench.folder / "out" / "actual" / "a").exists()
    assert bench.run("a", accept=[]).exit_code == 1


def test_without_opengl_and_when_interrupted_the_run_stops(bench: Bench) -> None:
    for error in (GLError("no OpenGL"), KeyboardInterrupt()):
        bench.renderer.shown["a"] = error
        with pytest.raises(type(error)):
            bench.run("a", "b")


# baselines


def renderer_is(bench: Bench, fingerprint: str, family: str) -> None:
    bench.renderer.renderer |= {"fingerprint": fingerprint, "family": family}


def test_baselines_are_looked_up_by_renderer_then_family_then_default(bench: Bench) -> None:
    renderer_is(bench, "gpu-1", "gpu")
    store = bench.folder / "baselines"
    for scope, seed in (("default", 1), ("family", 2), ("exact", 3)):
        bench.renderer.shown["a"] = Shown(frames=[pixels(seed)])
        accepted(bench, "a", scope=scope)
    assert sorted(p.name for p in store.iterdir()) == ["default", "gpu", "gpu-1", "manifest.json"]
    for fingerprint, family, seed, key in (
        ("gpu-1", "gpu", 3, "gpu-1"),
        ("gpu-2", "gpu", 2, "gpu"),
        ("other", "other", 1, "default"),
    ):
        renderer_is(bench, fingerprint, family)
        bench.renderer.shown["a"] = Shown(frames=[pixels(seed)])
        result = bench.run("a", ci=True)
        assert (result.passed, result.cases[0].baseline) == (True, key)


def test_another_renderer_gets_its_own_baseline_beside_the_default(bench: Bench) -> None:
    renderer_is(bench, "intel", "llvmpipe")
    accepted(bench, "a")
    renderer_is(bench, "amd", "llvmpipe")
    bench.renderer.shown["a"] = Shown(frames=[pixels(1)])
    assert not bench.run("a").passed
    assert bench.run("a", accept=[]).cases[0].accepted == "amd"
    assert bench.run("a").passed
    renderer_is(bench, "intel", "llvmpipe")
    bench.renderer.shown["a"] = Shown()
    assert bench.run("a").cases[0].baseline == "default"
    bench.renderer.shown["a"] = Shown(frames=[pixels(2)])
    bench.run("a")
    assert bench.run("a", accept=[]).cases[0].accepted == "default"


def test_unused_baselines_are_named_and_do_not_fail(bench: Bench) -> None:
    accepted(bench, "a", "old")
    (bench.folder / "baselines" / "default" / "by hand").mkdir()
    result = bench.run("a")
    assert result.unused == ("default/by hand", "default/old")
    assert result.exit_code == 0
    assert bench.run("a", "old", only=["a"]).unused == ("default/by hand",)


@pytest.mark.parametrize("name", ["frame-0000.png", "record.json"])
def test_a_baseline_that_was_changed_by_hand_is_an_error(bench: Bench, name: str) -> None:
    accepted(bench, "a")
    file = bench.folder / "baselines" / "default" / "a" / name
    file.write_bytes(file.read_bytes() + b" ")
    changed = bench.run("a")
    assert bench.verdicts(changed) == {"a": "error"}
    assert "is not the file that was accepted" in changed.cases[0].reasons[0]
    file.unlink()
    assert "cannot be read" in bench.run("a").cases[0].reasons[0]


def test_line_ends_of_a_checkout_do_not_matter(bench: Bench) -> None:
    accepted(bench, "a")
    record = bench.folder / "baselines" / "default" / "a" / "record.json"
    record.write_bytes(record.read_bytes().replace(b"\n", b"\r\n"))
    assert bench.run("a").passed


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other/1", "baselines": {}}', '{"schema": 1}'])
def test_a_broken_manifest_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(SourceError, match="manifest"):
        BaselineStore(tmp_path).find("a", "f", "g")


def test_baselines_can_lie_elsewhere(bench: Bench, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where ü"
    accepted(bench, "a", baselines=elsewhere)
    assert (elsewhere / "default" / "a" / "frame-0000.png").exists()
    assert bench.run("a", baselines=str(elsewhere), ci=True).passed
    assert not bench.run("a", ci=True).passed


def test_an_output_that_cannot_be_written_is_said_before_rendering(bench: Bench) -> None:
    (bench.folder / "file").write_text("")
    with pytest.raises(DestinationError):
        bench.run("a", output=bench.folder / "file" / "out")
    assert bench.renderer.calls == []


# warnings


def test_tiles_that_could_not_be_read_are_worth_a_word(bench: Bench) -> None:
    bench.renderer.shown["a"] = Shown(coverage=[Coverage(0.75, failed=0.25)])
    accepted(bench, "a")
    result = bench.run("a")
    assert result.passed
    assert result.cases[0].warnings == ("tiles could not be read: 25.0% of frame 0 shows their pattern",)


def test_slower_than_the_baseline_warns_and_passes(bench: Bench) -> None:
    accepted(bench, "a")
    bench.renderer.shown["a"] = Shown(ms=35.0)
    slow = bench.run("a")
    assert slow.passed
    assert slow.cases[0].warnings == ("frame_ms_p50 is 3.5 times the baseline's (35.0 ms, was 10.0 ms)",)
    bench.renderer.shown["a"] = Shown(ms=19.0)
    assert bench.run("a").cases[0].warnings == ()
    renderer_is(bench, "other", "other")
    bench.renderer.shown["a"] = Shown(ms=350.0)
    assert bench.run("a").cases[0].warnings == ()
