"""What a run of check leaves behind: JSON, JUnit, Markdown, and a page that works in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import ask
from check_cases import Bench, FakeRenderer, Shown, pixels, tile_set
from PIL import Image

from octree.pyramid.errors import DestinationError, SourceNotFound
from octree.render.check.compare import Frame
from octree.render.check.pictures import Album, lossless
from octree.render.check.reports import to_markdown, write_reports
from octree.render.check.suite import SuiteResult
from octree.render.output.png import read_png

NASTY = "a & 'c' ]] ü"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> SuiteResult:
    """A run with every verdict; the failing case changes a square of 20 x 20 pixels."""
    bench = Bench(tmp_path_factory.mktemp("check"), FakeRenderer())
    names = ("good", NASTY, "broken", "shaky", "path")
    path = [pixels(i) for i in range(9)]
    bench.renderer.shown["path"] = Shown(frames=path, tiles=[tile_set()] * 9)
    bench.run(*names, accept=[])
    changed = pixels()
    changed[10:30, 20:40, :3] = 255
    bench.renderer.shown |= {
        NASTY: Shown(frames=[changed]),
        "broken": SourceNotFound("no <file>\x00\x1b[31m | here", hint="look | again"),
        "shaky": lambda call: Shown(frames=[pixels(call)]),
        "path": Shown(frames=[frame[::-1] for frame in path], tiles=[tile_set()] * 9),
        "good": Shown(ms=50.0),
    }
    return bench.run(*names, "fresh")


def test_the_json_says_everything(mixed: SuiteResult) -> None:
    document = json.loads((mixed.output / "report.json").read_bytes())
    assert (document["schema"], document["passed"]) == ("octree-check/1", False)
    assert document["counts"] == {"pass": 1, "new": 1, "fail": 2, "unstable": 1, "error": 1}
    cases = {case["name"]: case for case in document["cases"]}
    frame = cases[NASTY]["frames"][0]
    assert frame["kinds"] == ["pixels"]
    assert frame["diff"]["differing_px"] == frame["diff"]["largest_cluster_px"] == 400
    assert frame["diff"]["box"] == [20, 10, 40, 30]
    assert cases["broken"]["error"]["hint"] == "look | again"
    assert cases["good"]["warnings"]
    assert cases["fresh"]["verdict"] == "new"
    assert cases["path"]["baseline"] == "default"
    assert cases["path"]["fingerprint"] == "llvmpipe-made-up-x86_64"


def test_the_junit_file_is_what_ci_systems_read(mixed: SuiteResult) -> None:
    root = ElementTree.parse(mixed.output / "junit.xml").getroot()
    suite = root[0]
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "3", "errors": "1", "skipped": "0"}
    assert all(counts[key] == root.get(key) for key in counts)
    cases = {case.get("name"): case for case in suite}
    assert {name: [child.tag for child in case] for name, case in cases.items()} == {
        "good": ["system-out"],
        NASTY: ["failure"],
        "broken": ["error"],
        "shaky": ["failure"],
        "path": ["failure"],
        "fresh": ["system-out"],
    }
    assert cases["broken"][0].get("message") == r"no <file>\x00\x1b[31m | here"
    assert cases[NASTY][0].get("type") == "pixels"
    assert "frame 8:" in str(cases["path"][0].text)


def test_the_summary_is_a_table(mixed: SuiteResult) -> None:
    text = (mixed.output / "summary.md").read_text(encoding="utf-8")
    assert text == to_markdown(mixed)
    assert "6 cases: 1 pass, 1 new, 2 fail, 1 unstable, 1 error" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)
    assert [row.split(" | ")[1] for row in rows[1:]] == ["error", "fail", "fail", "unstable", "new", "pass"]


def test_the_summary_goes_where_github_reads_it(mixed: SuiteResult, tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    write_reports(mixed, {"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.read_text(encoding="utf-8") == "before\n" + to_markdown(mixed)


def test_the_summary_is_written_through_no_link(mixed: SuiteResult, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "summary").symlink_to(precious)
    with pytest.raises(DestinationError, match="summary"):
        write_reports(mixed, {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")})
    assert precious.read_text() == "mine"


def test_difference_pictures_are_files_too(mixed: SuiteResult) -> None:
    picture = read_png(mixed.output / "difference" / NASTY / "frame-0000.png")
    red = (picture[..., :3] == (220, 0, 0)).all(-1)
    assert red.sum() == 400
    assert not (mixed.output / "difference" / "good").exists()


def test_the_page_works_in_a_browser(mixed: SuiteResult, tmp_path: Path) -> None:
    text = (mixed.output / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    answer: dict[str, Any] = ask(
        mixed.output / "report.html",
        tmp_path,
        f"""
        const shown = (item) => item.offsetParent !== null;
        const names = () => Array.from(document.querySelectorAll(".case")).filter(shown)
          .map((item) => item.querySelector("h2").firstChild.textContent.trim());
        const order = names();
        document.querySelector('[data-filter="fail"]').click();
        const failing = names();
        const item = Array.from(document.querySelectorAll(".case")).find((c) => c.textContent.includes({json.dumps(NASTY)}));
        const wipe = item.querySelector(".wipe"), over = item.querySelector(".over");
        wipe.value = 25; wipe.dispatchEvent(new Event("input"));
        const views = {{}};
        for (const button of item.querySelectorAll("[data-view]")) {{
          button.click();
          views[button.dataset.view] = Array.from(item.querySelectorAll("img")).filter(shown).map((i) => i.alt);
        }}
        const broken = Array.from(document.images).filter((i) => i.hasAttribute("src") && (!i.complete || !i.naturalWidth)).length;
        const clip = over.style.clipPath, line = item.querySelector(".line").style.left;
        return {{order, failing, views, broken, clip, line, pictures: document.querySelectorAll(".frame").length}};
        """,
    )
    assert answer["order"] == ["broken", "path", NASTY, "shaky", "fresh", "good"]
    assert answer["failing"] == ["path", NASTY]
    assert answer["clip"] == "inset(0px 0px 0px 25%)"
    assert answer["line"] == "25%"
    assert answer["broken"] == 0
    assert answer["pictures"] == 6 + 1 + 1 + 1  # six of the path's nine
    assert answer["views"] == {
        "slider": ["expected", "actual"],
        "side by side": ["expected", "actual"],
        "flicker": ["expected", "actual"],
        "difference ×16": ["difference, 16 times"],
        "differing pixels": ["differing pixels in red"],
    }
    for words in ("3 more frames did not pass", "--accept", "look | again", "warning: frame_ms_p50"):
        assert words in text


def test_sizes_that_differ_are_shown_side_by_side(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeRenderer())
    bench.run("a", accept=[])
    bench.renderer.shown["a"] = Shown(frames=[np.ascontiguousarray(pixels()[:20])])
    text = (bench.run("a").output / "report.html").read_text(encoding="utf-8")
    assert "the frame is 64x20, the baseline 64x48" in text
    assert 'data-view="side by side"' in text
    assert 'data-view="slider"' not in text


def noise(seed: int, edge: int = 1024) -> Frame:
    """A picture that no encoder makes smaller: four of it are twelve megabytes."""
    frame = np.random.default_rng(seed).integers(0, 256, (edge, edge, 4), np.uint8)
    frame[..., 3] = 255
    return frame


def page_of(folder: Path, change: Callable[[Frame], Frame], **options: Any) -> str:
    """The page of a run of one case whose frame was noise, and is ``change`` of it now."""
    bench = Bench(folder, FakeRenderer())
    bench.renderer.shown["a"] = Shown(frames=[noise(1)])
    bench.run("a", accept=[])
    bench.renderer.shown["a"] = Shown(frames=[change(noise(1))])
    return (bench.run("a", **options).output / "report.html").read_text(encoding="utf-8")


def sizes(page: str) -> set[tuple[int, int]]:
    return {
        Image.open(io.BytesIO(base64.b64decode(data))).size
        for data in re.findall(r"data:image/webp;base64,([^\"]+)", page)
    }


def negative(frame: Frame) -> Frame:
    return np.dstack([255 - frame[..., :3], frame[..., 3:]])


def with_a_hole(frame: Frame) -> Frame:
    frame[100:200, 300:500, :3] = 0
    return frame


def test_large_pictures_are_cut_to_what_differs(tmp_path: Path) -> None:
    page = page_of(tmp_path, with_a_hole)
    assert len(page) < 1_000_000
    assert sizes(page) == {(248, 148)}
    assert "shown: x 276 to 524, y 76 to 224; --whole-pictures" in page


def test_larger_ones_lose_pixels_and_it_is_said(tmp_path: Path) -> None:
    page = page_of(tmp_path, negative)
    assert 1_000_000 < len(page) < 5_000_000
    assert sizes(page) == {(512, 512)}
    assert "one pixel of 2 each way" in page


def test_whole_pictures_are_had_on_request(tmp_path: Path) -> None:
    page = page_of(tmp_path, negative, whole_pictures=True)
    assert len(page) > 8_000_000
    assert sizes(page) == {(1024, 1024)}
    assert "--whole-pictures" not in page


def test_pictures_are_to_the_last_bit() -> None:
    frame = noise(2, 64)
    frame[..., 3] = np.arange(64)  # what is hardly seen, too
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(lossless(frame)))), frame)


@pytest.mark.parametrize("frames", [1, 7, 300, 20_000])
def test_however_many_pictures_the_page_stays_small(frames: int) -> None:
    album = Album(frames, cases=frames)
    pictures = [noise(seed, 128) for seed in range(2)]
    taken = [sum(map(len, album.pictures(pictures).urls)) for _ in range(min(frames, 300))]
    assert sum(taken) + 2_000 * frames < 5_000_000 or not any(taken)
    assert (taken[0] > 0) == (frames < 20_000)


def test_reasons_begin_with_what_people_see(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeRenderer())
    bench.run("a", accept=[])
    bench.renderer.shown["a"] = Shown(frames=[negative(pixels())], tiles=[tile_set(level=1)])
    (case,) = bench.run("a").cases
    assert re.match(r"\d+ % of pixels differ, by up to \d+ of 255; ", case.reasons[0])
    assert "tiles: " in case.reasons[0]
