"""The edges of the command line: streams that are closed or full, little address space, odd numbers, names and users.
Nothing of it is an internal error."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bombs
import numpy as np
import pytest
from build_tools import COMMAND, levels_of, octree
from PIL import Image

from octree.pyramid import build, open_source
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box

DIGITS = "9" * 5000
NAME = "a" * 5000


@pytest.fixture
def image(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.arange(3000, dtype="u2").reshape(50, 60))
    return tmp_path / "a.npy"


def in_shell(words: str, *args: object) -> subprocess.CompletedProcess[str]:
    """A command line with redirections, as a shell runs it."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {words}', "bash", *COMMAND, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def no_bug(done: subprocess.CompletedProcess[str], code: int) -> None:
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "internal error" not in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


@pytest.mark.parametrize("words", [">/dev/full", ">&-"])
@pytest.mark.parametrize("args", [["info"], ["info", "--json"], ["config"], ["--version"], ["--help"]])
def test_what_cannot_be_printed_is_exit_5(image: Path, words: str, args: list[str]) -> None:
    done = in_shell(words, *args, *([image] if "info" in args else []))
    if words == ">&-" and args[0].startswith("--"):
        assert "internal error" not in done.stderr  # the library prints nothing where there is no stdout
        return
    no_bug(done, 5)
    assert "stdout" in done.stderr or "No space left" in done.stderr


@pytest.mark.parametrize("words", [">&-", ">/dev/full"])
def test_a_build_whose_result_cannot_be_printed_is_done_and_says_so(
    image: Path, tmp_path: Path, words: str
) -> None:
    no_bug(in_shell(words, "build", image, tmp_path / "p"), 5)
    assert octree("verify", tmp_path / "p").returncode == 0


@pytest.mark.parametrize("words", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_an_error_that_cannot_be_printed_is_its_exit_code(words: str) -> None:
    no_bug(in_shell(words, "info", "nowhere"), 3)


def test_no_file_takes_the_number_of_a_closed_stream(image: Path, tmp_path: Path) -> None:
    """Else what a library prints would be written into it."""
    in_shell("<&- >&- 2>&-", "build", image, tmp_path / "p", "--quiet")
    done = octree("verify", tmp_path / "p", "--deep")
    assert done.returncode == 0, done.stderr


def limited(mib: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (mib * 2**20, mib * 2**20))


@pytest.mark.parametrize(
    ("command", "mib"), [("build", 200), ("info", 150), ("verify", 200), ("render", 700)]
)
def test_too_little_address_space_is_said_and_aborts_nothing(
    image: Path, tmp_path: Path, command: str, mib: int
) -> None:
    rest = {"build": [tmp_path / "p"], "render": ["-o", tmp_path / "o.png"]}.get(command, [])
    done = octree(command, image, *rest, preexec_fn=limited(mib))
    no_bug(done, 5)
    assert "ulimit -v" in done.stderr


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of images that take a gigabyte as they are decoded."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "a.jpg").write_bytes(bombs.jpeg_of(32_000, 32_000))
    bombs.zarr_v2(folder / "a.zarr", {"id": "zlib", "level": 1}, b"", shape=(32_000, 32_000))
    (folder / "a.zarr/0.0").write_bytes(bombs.deflated(4 << 20))
    return folder


@pytest.mark.parametrize("name", ["a.jpg", "a.zarr"])
@pytest.mark.parametrize(("command", "mib"), [("build", 900), ("render", 2500)])
def test_out_of_memory_is_exit_5(large: Path, tmp_path: Path, command: str, name: str, mib: int) -> None:
    """Neither a damaged source, nor failed tiles, nor the end of the process by a library."""
    rest = {
        "build": [tmp_path / "p", "--memory", "6GiB"],
        "render": ["-o", tmp_path / "o.png", "--gl", "osmesa"],
    }
    arguments = [*rest[command], "--max-decoded", "6GiB"]
    done = octree(command, large / name, *arguments, preexec_fn=limited(mib))
    no_bug(done, 5)
    assert "out of memory" in done.stderr
    assert "ulimit -v" in done.stderr


def test_no_room_for_a_thread_is_out_of_memory(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from octree.cli import app

    def start(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    build(image, tmp_path / "p")
    monkeypatch.setattr("threading.Thread.start", start)
    assert app.run(["verify", str(tmp_path / "p")]) == 5
    assert "out of memory" in capsys.readouterr().err


def test_a_file_that_asks_for_terabytes_is_damaged(tmp_path: Path, capsys: Any) -> None:
    """524331 MiB were asked for: whatever there is of memory, that is the file's fault."""
    from octree.cli.app import run

    (tmp_path / "a.tif").write_bytes(bombs.page(741_487, 741_487, 8, bytes(100)))
    head = "{'descr': '<f8', 'fortran_order': False, 'shape': (262144, 262165), }".ljust(117) + "\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0\x76\0" + head.encode() + bytes(64))
    bombs.zarr_v2(tmp_path / "a.zarr", None, b"", shape=(741_487, 741_487))
    for name in ("a.tif", "a.npy", "a.zarr"):
        for args in (["info"], ["build"], ["render"]):
            rest = {"build": [str(tmp_path / "p")], "render": ["-o", str(tmp_path / "o.png")]}.get(
                args[0], []
            )
            assert run([*args, str(tmp_path / name), *rest]) == 3, capsys.readouterr().err


def test_a_reader_that_asks_for_more_than_its_pixels_take_is_damage() -> None:
    """And one that the system does not give what they do take is out of memory."""

    class Hungry:
        dtype, shape, chunks = np.dtype("u1"), (64, 64), (64, 64)

        def __getitem__(self, key: object) -> object:
            raise MemoryError

    with open_source(Hungry()) as source:
        with pytest.raises(SourceError, match="more memory than its pixels take"):
            source.read(Box((0, 0), (64, 64)))
        source.held_bytes = 1 << 60
        with pytest.raises(MemoryError):
            source.read(Box((0, 0), (64, 64)))


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--size", [DIGITS, f"{DIGITS}x{DIGITS}", "1e400"]),
        ("--channels", [DIGITS, f"{DIGITS}:red", f"0:red:0-{DIGITS}"]),
        ("--index", [f"t={DIGITS}", "z=1e400"]),
        ("--seed", [DIGITS, "1e400"]),
        ("--clim", [f"{DIGITS},1e400", NAME]),
        ("--cache", [DIGITS, "1e400"]),
        ("--camera", [f"x={DIGITS},y=1,zoom=1", "x=1e400,y=1,zoom=1", NAME, NAME + ".json"]),
        ("--config", [NAME]),
    ],
)
def test_numbers_and_names_of_any_length_are_usage_errors(
    image: Path, tmp_path: Path, option: str, values: list[str], capsys: Any
) -> None:
    from octree.cli.app import run

    for value in values:
        assert run(["render", str(image), "-o", str(tmp_path / "o.png"), option, value]) == 2, value[:20]
        assert "internal error" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", [f'{{"render": {{"upload_ms": {DIGITS}}}}}', '{"render": {"upload_ms": 1e400}}', "[" * 100_000]
)
def test_settings_of_odd_numbers_and_depths_are_usage_errors(tmp_path: Path, text: str, capsys: Any) -> None:
    from octree.cli.app import run

    (tmp_path / "s.json").write_text(text)
    assert run(["config", "--config", str(tmp_path / "s.json")]) == 2
    assert "internal error" not in capsys.readouterr().err


@pytest.mark.parametrize("name", [NAME, "a/" * 3000, "x\x00y"])
def test_paths_that_no_file_can_have_are_no_internal_errors(
    image: Path, tmp_path: Path, name: str, capsys: Any
) -> None:
    from octree.cli.app import run

    for args in (
        ["info", name],
        ["verify", name],
        ["build", name, str(tmp_path / "p")],
        ["build", str(image), name],
        ["render", name, "-o", str(tmp_path / "o.png")],
        ["render", str(image), "--report", name],
        ["check", name],
    ):
        assert run(args) in (2, 3, 4, 5), args[0]
        assert "internal error" not in capsys.readouterr().err


def test_a_name_that_is_no_text_can_be_read_and_is_refused_where_it_cannot_be_written(
    image: Path, tmp_path: Path
) -> None:
    odd = os.fsencode(tmp_path) + b"/n\xff.npy"
    with open(odd, "wb") as file:
        file.write(image.read_bytes())
    no_bug(octree("build", os.fsdecode(odd), tmp_path / "p"), 0)
    done = octree("build", image, os.fsdecode(os.fsencode(tmp_path) + b"/n\xff.zarr"))
    no_bug(done, 4)
    assert r"n\xff.zarr" in done.stderr


def test_a_dest_with_a_backslash_is_refused_and_nothing_is_written_elsewhere(
    image: Path, tmp_path: Path
) -> None:
    """TensorStore would write the levels of ``a\\b`` into the folder ``b`` of ``a``, which is somebody's."""
    (tmp_path / "a").mkdir()
    done = octree("build", image, tmp_path / "a\\b")
    no_bug(done, 4)
    assert "backslash" in done.stderr
    assert os.listdir(tmp_path / "a") == []
    assert sorted(os.listdir(tmp_path)) == ["a", "a.npy"]


@pytest.mark.parametrize(
    "options", [{}, {"ome_version": "0.4"}, {"codec": "blosc-lz4", "shard": 0}], ids=["0.5", "0.4", "blosc"]
)
def test_a_folder_whose_name_is_no_text_is_a_place_like_any_other(
    image: Path, tmp_path: Path, options: dict[str, Any], capsys: Any
) -> None:
    """For every command that reads, and for what it writes; only DEST is refused there. The parent's name and the own."""
    from octree.cli.app import run

    build(image, tmp_path / "p.zarr", **options)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xff"))
    odd.mkdir()
    here = odd / os.fsdecode(b"p\xfe.zarr")
    (tmp_path / "p.zarr").rename(here)
    (odd / os.fsdecode(b"zarr\xfd.json~")).touch()
    (odd / "s.json").write_text(json.dumps({"loader_defaults": {"log_path": str(odd / "log")}}))
    outputs = [
        word for name in ("report", "html", "trace", "monitor") for word in (f"--{name}", str(odd / name))
    ]
    for args, code in (
        (["info", str(here), "--json"], 0),
        (["verify", str(here), "--deep", "--json"], 0),
        (
            [
                "render",
                str(here),
                "-o",
                str(odd / "o.png"),
                *outputs,
                "--config",
                str(odd / "s.json"),
                "--gl=osmesa",
            ],
            0,
        ),
        (["build", str(here), str(tmp_path / "again")], 0),
        (["build", str(image), str(odd / "again")], 4),
        (["demo", str(odd / "demo")], 4),
    ):
        assert run(args) == code, capsys.readouterr().err
        said = capsys.readouterr()
        assert "internal error" not in said.err
        if "--json" in args:
            assert json.loads(said.out)["path"] == str(here)
    np.testing.assert_array_equal(levels_of(tmp_path / "again")[0], np.load(image))
    assert json.loads((odd / "report").read_text())["sources"][0]["path"] == str(here)


@pytest.mark.parametrize("option", ["--config", "--camera"])
@pytest.mark.parametrize("kind", ["pipe", "device", "hole"])
def test_settings_and_camera_paths_without_an_end_are_refused(
    image: Path, tmp_path: Path, option: str, kind: str
) -> None:
    """A suite from somebody's branch names such files, too."""
    endless = tmp_path / "endless.json"
    if kind == "pipe":
        os.mkfifo(endless)
    elif kind == "device":
        endless.symlink_to("/dev/zero")
    else:
        with endless.open("wb") as file:
            file.truncate(1 << 40)
    done = octree("render", image, "-o", tmp_path / "o.png", option, endless)
    no_bug(done, 2)
    assert "regular file" in done.stderr or "larger than" in done.stderr


def test_settings_may_come_from_the_shell(image: Path, tmp_path: Path) -> None:
    done = in_shell("--config <(echo {})", "render", image, "-o", tmp_path / "o.png")
    no_bug(done, 0)


@pytest.mark.parametrize("key", ["shape", "chunk_shape"])
def test_metadata_of_infinite_numbers_are_damaged_sources(tmp_path: Path, key: str) -> None:
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": ["INFINITE" if key == "shape" else 9, 9],
        "data_type": "uint8",
        "fill_value": 0,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": ["INFINITE" if key == "chunk_shape" else 5, 5]},
        },
        "chunk_key_encoding": {"name": "default"},
        "codecs": [{"name": "bytes"}],
    }
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(document).replace('"INFINITE"', "1e400"))
    for args in (["info"], ["build"], ["render"]):
        rest = {"build": [tmp_path / "p"], "render": ["-o", tmp_path / "o.png"]}.get(args[0], [])
        no_bug(octree(*args, tmp_path / "a.zarr", *rest), 3)


def test_a_user_without_an_entry_and_a_home_is_a_user(image: Path, tmp_path: Path) -> None:
    script = (
        "import pwd, sys\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "from octree.cli.app import run\n"
        "raise SystemExit(run(sys.argv[1:]))\n"
    )
    clean = {key: value for key, value in os.environ.items() if key not in ("HOME", "USER", "LOGNAME")}
    for args in (
        ["build", image, tmp_path / "p"],
        ["build", image, tmp_path / "p", "--overwrite"],
        ["render", tmp_path / "p", "-o", tmp_path / "o.png", "--html", tmp_path / "o.html", "--gl", "osmesa"],
        ["info", tmp_path / "p"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, args)],
            capture_output=True,
            text=True,
            env=clean,
            check=False,
            timeout=120,
        )
        no_bug(done, 0)


@pytest.mark.parametrize("option", ["--timeout", "--latency", "--jitter"])
def test_a_time_without_its_unit_is_refused(image: Path, tmp_path: Path, option: str) -> None:
    """Five seconds, or milliseconds?"""
    done = octree("render", image, option, "5", "-o", tmp_path / "o.png")
    no_bug(done, 2)
    assert f"{option}: '5' has no unit" in done.stderr
    assert "5s or 5ms" in done.stderr
    assert not (tmp_path / "o.png").exists()


def test_no_latency_needs_no_unit(image: Path, tmp_path: Path) -> None:
    no_bug(octree("render", image, "--latency", "0", "--timeout", "30s", "-o", tmp_path / "o.png"), 0)


@pytest.mark.parametrize(
    ("command", "twice"),
    [
        ("render", "--index"),
        ("render", "--size"),
        ("render", "-o"),
        ("build", "--tile"),
        ("check", "--reason"),
    ],
)
def test_an_option_given_twice_where_one_is_meant_is_refused(
    image: Path, tmp_path: Path, command: str, twice: str
) -> None:
    value = {"--index": "t=0", "--size": "20x20", "-o": str(tmp_path / "o.png"), "--tile": "64"}.get(
        twice, "a"
    )
    done = octree(
        command, image, *([tmp_path / "p"] if command == "build" else []), twice, value, twice, value
    )
    no_bug(done, 2)
    assert "is given several times, and takes one value" in done.stderr
    assert list(tmp_path.iterdir()) == [image]


def test_of_how_it_runs_the_last_word_counts(image: Path, tmp_path: Path) -> None:
    """As aliases and scripts are used to."""
    no_bug(octree("build", image, tmp_path / "p", "--workers", "zero", "--workers", "1", "--quiet"), 0)


def test_limits_the_other_way_round_draw_the_negative(image: Path, tmp_path: Path) -> None:
    for name, clim in (("a", "0,3000"), ("b", "3000,0")):
        no_bug(octree("render", image, "--size", "60x50", "--clim", clim, "-o", tmp_path / f"{name}.png"), 0)
    pixels = [np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"), int) for name in "ab"]
    assert np.ptp(pixels[0]) > 200
    assert abs(pixels[0] + pixels[1] - 255).max() <= 1


@pytest.mark.parametrize("budget", ["0", "1", "100KiB"])
def test_too_small_an_atlas_is_said_with_what_would_do(image: Path, tmp_path: Path, budget: str) -> None:
    no_bug(done := octree("render", image, "--atlas", budget, "-o", tmp_path / "o.png"), 2)
    (least,) = re.findall(r"--atlas (\d+KiB)", done.stderr)
    no_bug(octree("render", image, "--atlas", least, "-o", tmp_path / "o.png"), 0)


def test_too_little_memory_is_said_with_units(image: Path, tmp_path: Path) -> None:
    no_bug(done := octree("build", image, tmp_path / "p", "--memory", "10"), 2)
    assert "10 B is too small" in done.stderr
    (least,) = re.findall(r"--memory (\d+MiB)", done.stderr)
    no_bug(octree("build", image, tmp_path / "p", "--memory", least), 0)


@pytest.mark.parametrize("where", ["/proc/octree", "file/below"])
def test_a_demo_that_cannot_be_written_is_exit_4(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    no_bug(done := octree("demo", where, cwd=tmp_path), 4)
    assert where in done.stderr
