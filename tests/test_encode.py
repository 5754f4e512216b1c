"""Frames to files: PNG, patterns, stdout, GIF, MP4; and what is refused before anything is rendered."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from octree.pyramid.errors import DestinationError, OctreeError, SourceNotFound, UsageError, WriteError
from octree.render.output import encode, files
from octree.render.output.encode import FrameWriter, PngKeeper
from octree.render.output.files import FrameName
from octree.render.output.png import encode_png, read_png
from octree.render.output.video import Gif, gif_delays


def named(cameras: list[str], fps: float | None = None) -> list[FrameName]:
    return [FrameName(camera, fps=fps) for camera in cameras]


def picture(seed: int = 0, shape: tuple[int, int] = (24, 32), *, opaque: bool = True) -> Any:
    frame = np.random.default_rng(seed).integers(0, 256, (*shape, 4), dtype=np.uint8)
    if opaque:
        frame[..., 3] = 255
    return frame


# PNG


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 4]))))
@settings(deadline=None, max_examples=60)
def test_a_png_holds_the_very_pixels(frame: Any) -> None:
    with Image.open(io.BytesIO(encode_png(frame))) as image:
        opaque = frame.shape[2] == 3 or bool((frame[..., 3] == 255).all())
        assert image.mode == ("RGB" if opaque else "RGBA")
        back = np.asarray(image)
    assert np.array_equal(back, frame[..., : back.shape[2]])


def test_alpha_is_kept_or_left_out_when_told() -> None:
    with Image.open(io.BytesIO(encode_png(picture(), alpha=True))) as image:
        assert image.mode == "RGBA"
    with Image.open(io.BytesIO(encode_png(picture(opaque=False), alpha=False))) as image:
        assert image.mode == "RGB"


def test_a_view_of_an_array_is_written_as_it_looks() -> None:
    frame = picture()[::-1, ::2]
    with Image.open(io.BytesIO(encode_png(frame))) as image:
        assert np.array_equal(np.asarray(image), frame[..., :3])


def test_text_travels_with_the_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(picture(), {"octree": "Grüße", "empty": ""}))
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["octree"] == "Grüße"
    assert np.array_equal(read_png(tmp_path / "a.png"), picture())


def test_the_same_frame_gives_the_same_bytes() -> None:
    assert encode_png(picture()) == encode_png(picture().copy())


# files


def test_a_file_is_complete_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half() -> None:
        with files.atomic_file(target) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_text() == "old"
    with target.open() as reader:  # someone who is reading sees one file to its end
        with files.atomic_file(target) as partial:
            partial.write_text("new")
        assert reader.read() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(("errno", "kind"), [(28, WriteError), (5, WriteError), (13, DestinationError)])
def test_what_the_system_says_decides_the_error(tmp_path: Path, errno: int, kind: type[OctreeError]) -> None:
    with pytest.raises(kind) as caught, files.atomic_file(tmp_path / "a"):
        raise OSError(errno, os.strerror(errno))
    assert os.strerror(errno) in caught.value.message


def test_what_else_goes_wrong_inside_stays_what_it_is(tmp_path: Path) -> None:
    for error in (SourceNotFound("no such slide"), WriteError("full")):
        with pytest.raises(type(error)), files.atomic_file(tmp_path / "a"):
            raise error


def test_long_names_do_not_meet_while_they_are_written(tmp_path: Path) -> None:
    names = [tmp_path / f"{'ü' * 110}-{index}.png" for index in range(2)]
    with files.atomic_file(names[0]) as one, files.atomic_file(names[1]) as two:
        one.write_text("one")
        two.write_text("two")
    assert [name.read_text() for name in names] == ["one", "two"]


# names


@pytest.mark.parametrize(
    ("pattern", "cameras", "names"),
    [
        ("a.png", ["v"], ["a.png"]),
        ("A.PNG", ["v"], ["A.PNG"]),
        ("f-{index:04}.png", ["v", "v"], ["f-0000.png", "f-0001.png"]),
        ("{camera}.png", ["fit", "top left"], ["fit.png", "top left.png"]),
        ("{camera}-{index}.png", ["a", "a"], ["a-0.png", "a-1.png"]),
        ("{{x}}-{index}.png", ["a"], ["{x}-0.png"]),
        ("{camera}.png", ["../etc/pass:wd", ""], ["_etc_pass_wd.png", "view.png"]),
    ],
)
def test_patterns_name_files(tmp_path: Path, pattern: str, cameras: list[str], names: list[str]) -> None:
    with FrameWriter(str(tmp_path / "new dir ü" / pattern), named(cameras)) as writer:
        for index in range(len(cameras)):
            writer.put(index, picture(index))
    assert [path.name for path in writer.paths] == names
    assert sorted(path.name for path in (tmp_path / "new dir ü").iterdir()) == sorted(names)
    assert np.array_equal(read_png(writer.paths[-1]), picture(len(cameras) - 1))


@pytest.mark.parametrize(
    ("pattern", "count", "says"),
    [
        ("a.png", 3, "3 frames"),
        ("{camera}.png", 2, "2 frames"),
        ("{frame}.png", 1, "unknown field {frame}"),
        ("{}.png", 1, "unknown field {}"),
        ("{index.real}.png", 1, "unknown field"),
        ("{index:q}.png", 1, "code 'q'"),
        ("{index", 1, "'{index'"),
        ("a}.png", 1, "Single '}'"),
        ("a.jpg", 1, "must end in .png"),
        ("a", 1, "must end in .png"),
        ("", 1, "must end in .png"),
        ("{index}.gif", 2, "one film per frame"),
    ],
)
def test_names_that_cannot_work_are_refused_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, count: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        FrameWriter(pattern, named(["v"] * count))
    assert says in caught.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.mp4", "f-{index}.png"])
def test_places_that_cannot_be_written_are_refused_before_anything_is_drawn(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationError):
        FrameWriter(str(tmp_path / "file" / name), named(["v"]))
    (tmp_path / name.format(index=0)).mkdir()
    with pytest.raises(DestinationError):
        FrameWriter(str(tmp_path / name), named(["v"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["file", name.format(index=0)])


# the writer


def test_frames_are_encoded_off_the_main_thread_and_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    real = encode.write_png

    def spy(*args: Any, **kwargs: Any) -> None:
        threads.add(threading.current_thread().name)
        real(*args, **kwargs)

    monkeypatch.setattr(encode, "write_png", spy)
    with FrameWriter(
        str(tmp_path / "{index}.png"), named(["v"] * 20), buffer_bytes=3 * picture().nbytes
    ) as writer:
        for index in range(20):
            writer.put(index, picture(index))
            assert writer._pending_bytes <= 4 * picture().nbytes
    assert len(writer.paths) == 20
    assert all(name.startswith("octree-encode") for name in threads)
    assert not [t for t in threading.enumerate() if t.name.startswith("octree-encode")]


def test_a_keeper_holds_every_frame_as_a_png() -> None:
    with PngKeeper(buffer_frames=2) as keeper:
        for index in range(7):
            keeper.put(picture(index))
        assert keeper.pngs() == [encode_png(picture(index)) for index in range(7)]
    assert not [t for t in threading.enumerate() if t.name.startswith("octree-encode")]


def test_what_fails_in_a_worker_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(encode, "write_png", full)
    with (
        pytest.raises(WriteError, match="No space"),
        FrameWriter(str(tmp_path / "a.png"), named(["v"])) as writer,
    ):
        writer.put(0, picture())
    assert list(tmp_path.iterdir()) == []


def test_stdout_gets_the_frames_in_order() -> None:
    out = io.BytesIO()
    with FrameWriter("-", named(["v"] * 3), stdout=out) as writer:
        for index in range(3):
            writer.put(index, picture(index))
    assert out.getvalue() == b"".join(encode_png(picture(index)) for index in range(3))
    assert writer.paths == []


def test_a_reader_of_stdout_that_leaves_is_no_failed_write() -> None:
    class Gone(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError), FrameWriter("-", named(["v"]), stdout=Gone()) as writer:
        writer.put(0, picture())


# films


@pytest.mark.parametrize(
    ("count", "fps", "kept"),
    [(1, 60, [0]), (2, 60, [0, 1]), (3, 10, [0, 1, 2]), (7, 60, [0, 1, 3, 4, 6]), (5, 1000, [0, 4])],
)
def test_a_gif_keeps_frames_that_can_be_shown_and_the_last(count: int, fps: float, kept: list[int]) -> None:
    assert sorted(gif_delays(count, fps)) == kept


@given(st.integers(1, 300), st.floats(0.5, 240))
@settings(deadline=None, max_examples=80)
def test_a_gif_lasts_as_long_as_the_path(count: int, fps: float) -> None:
    delays = gif_delays(count, fps)
    assert min(delays.values()) >= 2
    assert {0, count - 1} <= set(delays)
    assert sum(delays.values()) == pytest.approx(100 * count / fps, abs=4)


def test_a_gif_of_greys_is_exact_and_loops(tmp_path: Path) -> None:
    frames = [
        np.dstack([np.full((5, 7), grey, np.uint8)] * 3 + [np.full((5, 7), 255, np.uint8)])
        for grey in (3, 99, 250)
    ]
    with FrameWriter(str(tmp_path / "a.gif"), named(["v"] * 3, fps=10)) as writer:
        for index, frame in enumerate(frames):
            writer.put(index, frame)
    assert writer.paths == [tmp_path / "a.gif"]
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 3  # type: ignore[attr-defined]  # of GIF images
        assert (film.info["loop"], film.info["duration"]) == (0, 100)
        for index, grey in enumerate((3, 99, 250)):
            film.seek(index)
            assert set(np.asarray(film.convert("L")).ravel()) == {grey}


def test_a_gif_shows_every_frame_as_it_was(tmp_path: Path) -> None:
    frames = [picture(0, (30, 40)) // 64 * 64 for _ in range(4)]  # 125 colours: a palette holds them all
    for frame in frames:
        frame[..., 3] = 255
    frames[1][5:9, 30:33, :3] = (10, 20, 30)
    frames[3] = picture(1, (30, 40)) // 64 * 64
    with FrameWriter(str(tmp_path / "a.gif"), named(["v"] * 4, fps=10)) as writer:
        for index, frame in enumerate(frames):
            writer.put(index, frame)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]  # of GIF images
        for index, frame in enumerate(frames):
            film.seek(index)
            assert np.array_equal(np.asarray(film.convert("RGB")), frame[..., :3]), index
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = [
        ffmpeg,
        "-v",
        "error",
        "-i",
        str(tmp_path / "a.gif"),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    read = subprocess.run(command, check=True, capture_output=True)
    assert read.stderr == b""
    shown = np.frombuffer(read.stdout, np.uint8).reshape(-1, 30, 40, 3)
    assert np.array_equal(shown[1], frames[1][..., :3])


def test_what_does_not_change_costs_a_gif_nothing(tmp_path: Path) -> None:
    sizes = []
    for count in (1, 30):
        with FrameWriter(str(tmp_path / "a.gif"), named(["v"] * count, fps=10)) as writer:
            for index in range(count):
                writer.put(index, picture(0, (100, 100)))
        sizes.append((tmp_path / "a.gif").stat().st_size)
    assert sizes[1] < sizes[0] + 30 * 60


def test_a_gif_is_on_disk_as_far_as_it_has_come(tmp_path: Path) -> None:
    """A film of an hour is never held in memory."""
    film = Gif(tmp_path / "a.gif", 10, 4)
    sizes = []
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (200, 200, 4), np.uint8)
        film.job(index, noise)
        sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
    assert not (tmp_path / "a.gif").exists()
    assert sizes[0] > 20_000
    assert sizes[1] - sizes[0] > 20_000 < sizes[2] - sizes[1]
    film.abort()
    assert not list(tmp_path.iterdir())


def test_a_gif_of_colours_is_close(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :60]
    frame = np.dstack([x * 4, y * 6, 255 - x * 4, np.full(x.shape, 255)]).astype(np.uint8)
    with FrameWriter(str(tmp_path / "a.gif"), named(["v"])) as writer:
        writer.put(0, frame)
    assert np.abs(read_png(tmp_path / "a.gif").astype(int) - frame).max() <= 32


@pytest.mark.parametrize("shape", [(48, 64), (47, 63)])
def test_an_mp4_has_every_frame_and_even_sides(tmp_path: Path, shape: tuple[int, int]) -> None:
    target = tmp_path / "ü a.mp4"
    with FrameWriter(str(target), named(["v"] * 12, fps=24)) as writer:
        for index in range(12):
            writer.put(index, np.full((*shape, 4), 20 * index, np.uint8))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(target), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    read = subprocess.run(command, check=True, capture_output=True)
    assert b"64x48" in read.stderr
    assert b"24 fps" in read.stderr
    frames = np.frombuffer(read.stdout, np.uint8).reshape(-1, 48, 64, 3)
    assert len(frames) == 12
    assert abs(int(frames[6].mean()) - 120) <= 4
    assert [path.name for path in tmp_path.iterdir()] == ["ü a.mp4"]


def test_an_mp4_of_odd_sides_is_padded_not_scaled(tmp_path: Path) -> None:
    stripes = np.zeros((47, 63, 4), np.uint8)
    stripes[:, ::2] = 255
    with FrameWriter(str(tmp_path / "a.mp4"), named(["v"])) as writer:
        writer.put(0, stripes)
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-i",
        str(tmp_path / "a.mp4"),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "gray",
        "-",
    ]
    read = subprocess.run(command, check=True, capture_output=True).stdout
    row = np.frombuffer(read, np.uint8).reshape(48, 64)[20].astype(int)
    assert np.abs(np.diff(row[:63])).min() > 120


def test_an_abandoned_film_leaves_nothing(tmp_path: Path) -> None:
    def abandon(name: str) -> None:
        with FrameWriter(str(tmp_path / name), named(["v"] * 9)) as writer:
            writer.put(0, picture())
            raise KeyError

    for name in ("a.mp4", "a.gif"):
        with pytest.raises(KeyError):
            abandon(name)
    assert list(tmp_path.iterdir()) == []


def test_one_film_per_camera(tmp_path: Path) -> None:
    cameras = ["pan"] * 3 + ["tour"] * 2
    with FrameWriter(str(tmp_path / "{camera}.gif"), named(cameras, fps=10)) as writer:
        for index in range(5):
            writer.put(index, picture(index))
    assert [path.name for path in writer.paths] == ["pan.gif", "tour.gif"]
    for path, count in zip(writer.paths, (3, 2), strict=True):
        with Image.open(path) as film:
            assert film.n_frames == count  # type: ignore[attr-defined]  # of GIF images


def test_without_the_encoder_mp4_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError) as caught:
        FrameWriter(str(tmp_path / "a.mp4"), named(["v"]))
    assert "octree[video]" in str(caught.value.hint)


def test_a_png_needs_no_pillow() -> None:
    code = (
        "import sys, numpy; from octree.render.output.png import encode_png; "
        "encode_png(numpy.zeros((2, 2, 4), 'u1')); assert 'PIL' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("frames", "niceness"), [(1, 0), (2, encode.NICENESS)])
def test_encoding_gives_way_to_the_drawing_of_further_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, niceness: int
) -> None:
    seen = []

    def encoded(*_: Any, **__: Any) -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    monkeypatch.setattr(encode, "write_png", encoded)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with FrameWriter(str(tmp_path / "{index}.png"), named(["a"] * frames)) as writer:
        for index in range(frames):
            writer.put(index, picture())
    assert seen == [min(before + niceness, 19)] * frames
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
