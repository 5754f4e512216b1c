"""The HTML report: complete, offline, small, the same every time, and it works in a real browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import ask, screenshot
from report_cases import refining_frames, run_report

from octree.pyramid.errors import DestinationError
from octree.render.output.png import encode_png
from octree.render.report import html
from octree.render.report.html import make_page, write_html
from octree.render.report.pages import bytes_or_dash, human_ms
from octree.render.report.values import Positions


def png(grey: int, size: tuple[int, int] = (64, 48)) -> bytes:
    return encode_png(np.full((size[1], size[0], 3), grey, np.uint8))


def pages_of(count: int) -> tuple[dict[str, Any], list[bytes]]:
    return run_report(refining_frames(count)).to_json(), [png(4 * i % 256) for i in range(count)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("html") / "réport.html"
    write_html(path, *pages_of(60))
    return path


def test_the_page_says_what_the_report_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for words in (
        "llvmpipe (made up)",
        "octree render",
        "10000 × 20000",
        "uint16",
        "300 MiB",
        "98.0 %",
        "Settings",
    ):
        assert words in text
    assert "&lt;script&gt;boom" in text
    assert "<script>boom" not in text
    assert "<b>.zarr" not in text


def test_the_page_says_which_plane_a_frame_shows() -> None:
    frames = [
        replace(each, position=Positions((("t", t),), (("t", 0),)), late=t == 1)
        for t, each in enumerate(refining_frames(2))
    ]
    text = make_page(run_report(frames).to_json(), [png(0), png(9)])
    for words in (
        r"frame 0 \u00b7 t=0",
        "shows t=0, as t=1 is late",
        "late frames",
        "60 Hz 100 %",
        "planes never shown",
    ):
        assert words in text
    assert "late frames" not in make_page(*pages_of(2))


def test_the_page_stands_alone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href|url|@import)\s*[=(]?\s*["\']?([^"\'\s>)]+)', text)
    assert {link.split(":")[0] for link in links if re.match("[a-z]+:", link)} == {"data"}
    assert not re.findall(r"<link|@import|fetch\(", text)


def test_the_plots_are_valid_svg_whose_ids_do_not_clash(page: Path) -> None:
    plots = re.findall(r"<svg.*?</svg>", page.read_text(encoding="utf-8"), re.S)
    assert len(plots) == 4
    seen: set[str] = set()
    for plot in plots:
        tree = ElementTree.fromstring(plot)
        ids = [item.get("id", "") for item in tree.iter() if item.get("id")]
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', plot)
        assert set(used) <= set(ids)
        assert not seen & set(ids)
        seen |= set(ids)
    assert "level 2" in plots[0]
    assert "missing" in plots[0]
    assert "16.7 ms" in plots[1]
    assert "33.3 ms" in plots[1]
    assert "queued" in plots[2]
    assert "texture atlas" in plots[3]


@pytest.mark.parametrize("count", [60, 2400])
def test_beside_the_frames_the_page_is_small(count: int) -> None:
    report, _ = pages_of(count)
    assert len(make_page(report, []).encode()) < 2_000_000


def test_the_same_report_gives_the_same_page() -> None:
    assert make_page(*pages_of(5)) == make_page(*pages_of(5))


def test_frames_can_be_files_and_none_can_be_given(tmp_path: Path) -> None:
    report, pngs = pages_of(2)
    (tmp_path / "a.png").write_bytes(pngs[1])
    assert make_page(report, pngs) == make_page(report, [pngs[0], tmp_path / "a.png"])
    assert "No frames are in this page" in make_page(report, [])
    empty = run_report([], failures=[], sources=[]).to_json()
    assert "None: every tile" in make_page(empty, [])


def test_too_many_frames_are_thinned_and_the_last_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    report, pngs = pages_of(20)
    monkeypatch.setattr(html, "FRAMES_BUDGET_BYTES", 6 * max(map(len, pngs)))
    text = make_page(report, pngs)
    assert len(set(re.findall(r"data:image/png;base64,[^\"&]+", text))) <= 6
    assert "frame 19 " in text
    assert re.search(r"1\d further frames are left out", text)


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(DestinationError):
        write_html(tmp_path, *pages_of(1))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (300 << 20, "300 MiB"), (None, "–")]
)
def test_bytes_for_people(count: int | None, text: str) -> None:
    assert bytes_or_dash(count) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(0.04, "0.0 ms"), (99.94, "99.9 ms"), (250, "250 ms"), (1500, "1.50 s")]
)
def test_times_for_people(ms: float, text: str) -> None:
    assert human_ms(ms) == text


# in a browser


def test_the_slider_and_the_play_button_work_in_a_browser(page: Path, tmp_path: Path) -> None:
    answer = ask(
        page,
        tmp_path,
        """
        const slider = document.getElementById("slider"), picture = document.getElementById("picture");
        const before = picture.src;
        slider.value = 59; slider.dispatchEvent(new Event("input"));
        await picture.decode();
        const canvas = document.createElement("canvas"); canvas.width = 64; canvas.height = 48;
        const pen = canvas.getContext("2d"); pen.drawImage(picture, 0, 0);
        const pixel = Array.from(pen.getImageData(10, 10, 1, 1).data);
        const caption = document.getElementById("caption").textContent;
        document.getElementById("play").click();
        await new Promise((done) => setTimeout(done, 500));
        const moved = slider.value;
        return {changed: before !== picture.src, pixel, caption, moved,
          plots: Array.from(document.querySelectorAll(".plot svg")).map((plot) => plot.getBoundingClientRect().width),
          wide: document.documentElement.scrollWidth <= innerWidth};
        """,
    )
    assert answer["changed"]
    assert answer["pixel"] == [236, 236, 236, 255]
    assert "frame 59" in answer["caption"]
    assert "ideal 98.0 %" in answer["caption"]
    assert answer["moved"] != "59"
    assert len(answer["plots"]) == 4
    assert all(width > 300 for width in answer["plots"])
    assert answer["wide"]


def test_the_page_is_drawn_by_a_browser(page: Path, tmp_path: Path) -> None:
    shot = screenshot(page, tmp_path)
    inked = (shot[..., :3].astype(int).max(-1) - shot[..., :3].min(-1)) > 60
    coloured = np.flatnonzero(inked.any(1))
    assert len(coloured) > 500, "the plots have no colours"
    dark = (shot[..., :3].max(-1) < 110).mean()
    assert 0.002 < dark < 0.5


@pytest.mark.parametrize(
    ("missing", "first"), [((1.0, 0.4, 0.0, 0.0), 2), ((1.0, 0.4, 0.7), 1), ((0.0, 0.5), 0), ((1.0, 1.0), 0)]
)
def test_the_page_opens_on_the_first_frame_that_is_covered(missing: Sequence[float], first: int) -> None:
    """Films begin with black."""
    report, pngs = pages_of(len(missing))
    for frame, share in zip(report["frames"], missing, strict=True):
        frame["coverage"] |= {"ideal": 1 - share, "missing": share, "finer": 0, "coarser": 0, "failed": 0}
    text = make_page(report, pngs)
    number = report["frames"][first]["number"]
    assert f'alt="frame {number}"' in text
    assert f'value="{first}" step="1"' in text


def test_tables_are_read_at_the_width_of_a_phone(page: Path, tmp_path: Path) -> None:
    """Nothing is wider than the page, and no column is a letter wide."""
    script = """
        const cells = Array.from(document.querySelectorAll("td")).filter((cell) => cell.textContent.trim());
        return {width: innerWidth, wide: document.documentElement.scrollWidth,
          narrowest: Math.min(...cells.map((cell) => cell.clientWidth))};
    """
    answer: dict[str, Any] = ask(page, tmp_path, script, width_px=500)
    assert answer["wide"] <= answer["width"] <= 500
    assert answer["narrowest"] > 350
