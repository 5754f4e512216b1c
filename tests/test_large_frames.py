"""Frames too large to be held twice: drawn and written row by row, with the pixels of a frame drawn at once."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_tools import octree
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octree.pyramid import build
from octree.render import frames as frames_module
from octree.render.frames import Renderer, Rows, iter_frames, render
from octree.render.gl import canvas as canvas_module
from octree.render.output.encode import FrameWriter
from octree.render.output.files import FrameName
from octree.render.output.png import PngRows, encode_png, read_png
from octree.render.request import parse_request

pytestmark = pytest.mark.usefixtures("gl_info")
RANGE = "0,65535"
SIZE = (460, 350)


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("large") / "four.ome.zarr"
    pixels = np.random.default_rng(0).integers(0, 65535, (4, 500, 700), np.uint16)
    build(pixels, dest, axes="cyx", tile=128)
    return dest


class Collected:
    """The rows of each frame, as they were handed over."""

    def __init__(self) -> None:
        self.frames: dict[int, list[NDArray[np.uint8]]] = {}
        self.alpha: list[bool] = []

    @contextmanager
    def rows(self, index: int, size_px: tuple[int, int], alpha: bool) -> Iterator[Rows]:
        self.alpha.append(alpha)
        yield self.frames.setdefault(index, []).append
        assert sum(map(len, self.frames[index])) == size_px[1]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a frame of these tests were large."""
    monkeypatch.setattr(canvas_module, "_MAX_PART_PX", 180)
    monkeypatch.setattr(frames_module, "_BAND_BYTES", 4 * SIZE[0] * 50)


LOOKS: dict[str, dict[str, Any]] = {
    "at once": {},
    "parts": {"atlas": "1MiB"},
    "parts beside each other": {"atlas": "192KiB"},
    "linear": {"atlas": "1MiB", "interpolation": "linear"},
    "linear, tight": {"atlas": "544KiB", "interpolation": "linear"},
    "see-through": {"background": "transparent", "opacity": 0.5, "atlas": "1MiB"},
    "one channel, borders, overview": {
        "index": "c=3",
        "show_grid": True,
        "overview": True,
        "atlas": "256KiB",
    },
}


@pytest.mark.parametrize("look", LOOKS)
def test_rows_are_those_of_the_whole_frame(channels: Path, look: str, small_parts: None) -> None:
    options = {"clim": RANGE, "size": f"{SIZE[0]}x{SIZE[1]}", **LOOKS[look]}
    cameras = ["x=333.3,y=261.7,zoom=0.83", "fit"]
    with Renderer(parse_request([channels], cameras, options)) as renderer:
        found = Collected()
        drawn = list(renderer.frames(found.rows))
    assert [frame.rgba.shape for frame in drawn] == [(0, SIZE[0], 4)] * 2
    assert all(len(bands) > 1 for bands in found.frames.values())
    whole = render([channels], cameras, options=options | {"atlas": "64MiB"})
    for index, rgba in enumerate(whole.frames):
        np.testing.assert_array_equal(np.concatenate(found.frames[index]), rgba)
        assert drawn[index].report.coverage == whole.report.frames[index].coverage
        assert drawn[index].report.tiles.wanted == whole.report.frames[index].tiles.wanted
    assert found.alpha == [look == "see-through"] * 2


def test_a_volume_comes_by_rows(tmp_path: Path, small_parts: None) -> None:
    """Drawn in parts, whole or by rows: rays begin where those of its part do, which rounds."""
    volume = np.random.default_rng(1).integers(0, 65535, (40, 48, 56), np.uint16)
    options = {"clim": RANGE, "size": f"{SIZE[0]}x{SIZE[1]}", "mode": "mip"}
    with Renderer(parse_request([volume], ["azimuth=30,elevation=20"], options)) as renderer:
        found = Collected()
        list(renderer.frames(found.rows))
    whole = render([volume], ["azimuth=30,elevation=20"], options=options).frames[0]
    assert whole[..., :3].any()
    np.testing.assert_array_equal(np.concatenate(found.frames[0]), whole)


def test_a_large_frame_that_is_kept_is_not_drawn_over(channels: Path, small_parts: None) -> None:
    options = {"clim": RANGE, "size": f"{SIZE[0]}x{SIZE[1]}", "atlas": "1MiB"}
    cameras = ["x=200,y=200,zoom=1", "x=400,y=300,zoom=1"]
    together = render([channels], cameras, options=options).frames
    alone = [render([channels], [camera], options=options).frames[0] for camera in cameras]
    assert (alone[0] != alone[1]).any()
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_command_writes_a_large_frame_by_rows(channels: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "wide.png", ["--size", "5000x70", "--clim", RANGE]
    done = octree("render", channels, "--camera", "fit", *options, "-o", out, "--report", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    whole = render([channels], ["fit"], options={"size": "5000x70", "clim": RANGE}).frames[0]
    np.testing.assert_array_equal(read_png(out), whole)
    assert out.read_bytes() == encode_png(whole)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# how much is held


def peak_bytes(call: Any) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_by_rows_there_is_never_a_whole_frame_and_else_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that Python and numpy hold at most, of a frame whose tiles are few."""
    monkeypatch.setattr(canvas_module, "_MAX_PART_PX", 256)
    monkeypatch.setattr(frames_module, "_BAND_BYTES", 1 << 20)
    side = 2048
    frame_bytes = 4 * side * side
    options = {"size": f"{side}x{side}", "clim": "0,255", "background": "transparent"}
    image = np.random.default_rng(2).integers(0, 255, (64, 64), np.uint8)
    render([image], ["fit"], options={"size": "64x64"})  # what is imported once

    def command() -> None:
        with (
            Renderer(parse_request([image], ["fit"], options)) as renderer,
            FrameWriter(str(tmp_path / "a.png"), [FrameName("fit")]) as writer,
        ):
            list(renderer.frames(writer.rows))

    def whole() -> None:
        render([image], ["fit"], options=options)

    assert peak_bytes(command) < 0.8 * frame_bytes
    assert peak_bytes(whole) < 1.5 * frame_bytes
    assert read_png(tmp_path / "a.png").shape == (side, side, 4)


def test_encoding_holds_a_few_rows(tmp_path: Path) -> None:
    frame = np.zeros((2048, 4096, 4), np.uint8)
    frame[..., 3] = 255

    def encode() -> None:
        with FrameWriter(str(tmp_path / "a.png"), [FrameName("fit")]) as writer:
            writer.put(0, frame)

    assert peak_bytes(encode) < 0.4 * frame.nbytes


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.booleans(), st.integers(1, 40))
@settings(deadline=None, max_examples=40)
def test_the_same_bytes_however_the_rows_come(counts: list[int], alpha: bool, width: int) -> None:
    frame = np.random.default_rng(width).integers(0, 256, (sum(counts), width, 4), np.uint8)
    out = io.BytesIO()
    rows = PngRows(out.write, (width, len(frame)), alpha=alpha)
    first = 0
    for count in counts:
        rows.put(frame[first : first + count])
        first += count
    rows.finish()
    assert out.getvalue() == encode_png(frame, alpha=alpha)


def test_a_picture_that_lacks_rows_is_none(tmp_path: Path) -> None:
    def write(count: int) -> None:
        with (
            FrameWriter(str(tmp_path / "a.png"), [FrameName("a")]) as writer,
            writer.rows(0, (4, 4), False) as put,
        ):
            put(np.zeros((count, 4, 4), np.uint8))

    with pytest.raises(ValueError, match="missing"):
        write(3)
    assert list(tmp_path.iterdir()) == []
    write(4)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# one frame at a time


def test_frames_can_be_had_one_at_a_time(channels: Path) -> None:
    cameras = [f"x={x},y=200,zoom=1" for x in (100, 200, 300)]
    options = {"clim": RANGE}
    seen = []
    for frame in iter_frames([channels], cameras, size=(64, 48), options=options):
        seen.append(frame.rgba)
        if len(seen) == 2:
            break
    both = render([channels], cameras, size=(64, 48), options=options)
    for one, other in zip(seen, both.frames, strict=False):
        np.testing.assert_array_equal(one, other)
