"""No file keeps a command busy for ever: pipes, devices, lengths below 1, readers that never end."""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from build_tools import octree
from PIL import Image

from octree.cli.app import run
from octree.pyramid import open_pyramid, open_source
from octree.pyramid.deadline import VARIABLE, open_timeout_ms, open_timeout_s, within_time
from octree.pyramid.errors import SourceError, UsageError
from octree.pyramid.model import Box
from octree.pyramid.sources.flat.open import open_flat

FIFO_NAMES = ("pipe.tif", "pipe.npy", "pipe.h5", "pipe.png", "pipe.zarr")


def set_tag(file: Path, page: int, tag: int, value: int, kind: int = 9) -> None:
    """Make a tag of a little-endian TIFF a signed number."""
    with tifffile.TiffFile(file) as tiff:
        place = tiff.pages[page].aspage().tags[tag].offset
    with file.open("r+b") as stream:
        stream.seek(place + 2)
        stream.write(struct.pack("<HIi", kind, 1, value))


def stack(file: Path, pages: int = 3, **options: object) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (pages, 120, 106)).astype(np.uint8)
    tifffile.imwrite(file, pixels, photometric="minisblack", **options)  # type: ignore[arg-type]  # of several types
    return file


@pytest.mark.parametrize("page", [0, 1, 2])
@pytest.mark.parametrize("command", ["info", "build", "render", "verify"])
def test_pages_of_negative_width_are_refused(
    tmp_path: Path, page: int, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of 38 KB over whose pages tifffile walks to and fro for ever, keeping each."""
    file = stack(tmp_path / "negative.tif")
    set_tag(file, page, 256, -106)
    more = {"build": [str(tmp_path / "p.zarr")], "render": ["-o", str(tmp_path / "frame.png")]}.get(
        command, []
    )
    assert run([command, str(file), *more]) == 3
    out = capsys.readouterr()
    assert "-106x" not in out.out + out.err
    assert "x-106" not in out.out + out.err
    if command != "verify":  # which says that it is no pyramid
        assert f"page {page} has a width of -106" in out.err


@pytest.mark.parametrize(("tag", "what"), [(257, "length"), (322, "tile width"), (323, "tile length")])
@pytest.mark.parametrize("value", [-16, 0])
def test_other_lengths_too(tmp_path: Path, tag: int, what: str, value: int) -> None:
    file = stack(tmp_path / "negative.tif", tile=(16, 16))
    set_tag(file, 0, tag, value)
    with pytest.raises(SourceError, match=f"page 0 has a {what} of {value}"):
        open_source(file)


def test_pages_below_pages_too(tmp_path: Path) -> None:
    """In a SubIFD the walk has no end either."""
    file = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.zeros((64, 64), np.uint8), subifds=1)
        writer.write(np.zeros((32, 32), np.uint8))
    with tifffile.TiffFile(file) as tiff:
        place = tiff.pages[0].aspage().pages[0].aspage().tags[256].offset  # type: ignore[index, union-attr]  # a page with one below
    with file.open("r+b") as stream:
        stream.seek(place + 2)
        stream.write(struct.pack("<HIi", 9, 1, -32))
    with pytest.raises(SourceError, match="page 0 has a width of -32"):
        open_source(file)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_whole_files_pass(tmp_path: Path, bigtiff: bool, byteorder: str) -> None:
    file = stack(tmp_path / "whole.tif", bigtiff=bigtiff, byteorder=byteorder, metadata={"axes": "ZYX"})
    with open_source(file) as source:
        assert source.shape == (3, 120, 106)


def test_a_chain_of_pages_that_bites_its_tail_ends(tmp_path: Path) -> None:
    file = stack(tmp_path / "ring.tif", pages=1)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0].aspage()
        place = page.offset + 2 + 12 * len(page.tags)
    with file.open("r+b") as stream:
        stream.seek(place)
        stream.write(struct.pack("<I", page.offset))
    with open_source(file) as source:
        assert source.shape[-2:] == (120, 106)


def negative_npy(folder: Path) -> Path:
    head = "{'descr': '|u1', 'fortran_order': False, 'shape': (-120, -106), }".ljust(117) + "\n"
    (folder / "x.npy").write_bytes(
        b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + bytes(12720)
    )
    return folder / "x.npy"


def negative_zarr(folder: Path) -> Path:
    zarr.create_array(folder / "x.zarr", shape=(120, 106), chunks=(60, 53), dtype="u1")
    node = json.loads((folder / "x.zarr/zarr.json").read_text())
    node["shape"] = [120, -106]
    (folder / "x.zarr/zarr.json").write_text(json.dumps(node))
    return folder / "x.zarr"


def countless_hdf5(folder: Path) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("a", (2**40, 2**40), "u1", chunks=(64, 64))
    return folder / "x.h5"


@pytest.mark.parametrize("make", [negative_npy, negative_zarr, countless_hdf5])
def test_shapes_that_no_array_has_are_refused(
    tmp_path: Path, make: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path)
    for command in (["info", str(source)], ["build", str(source), str(tmp_path / "p"), "--dry-run"]):
        assert run(command) == 3
        assert "x-106" not in capsys.readouterr().out


@pytest.mark.parametrize("name", FIFO_NAMES)
@pytest.mark.parametrize("command", ["info", "build", "render", "verify"])
def test_a_pipe_is_not_waited_for(
    tmp_path: Path, name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / name)
    more = {"build": [str(tmp_path / "p.zarr")], "render": ["-o", str(tmp_path / "frame.png")]}.get(
        command, []
    )
    assert run([command, str(tmp_path / name), *more]) == 3
    if command != "verify":
        assert "is a named pipe" in capsys.readouterr().err


def test_sockets_and_devices_are_no_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "socket"))
        assert run(["info", str(tmp_path / "socket")]) == 3
        assert "is a socket" in capsys.readouterr().err
    assert run(["info", "/dev/zero"]) == 3
    assert "is a device" in capsys.readouterr().err


def test_pipes_as_companions_are_not_waited_for(tmp_path: Path) -> None:
    xml = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a"><Image ID="Image:0"><Pixels ID="Pixels:0"
DimensionOrder="XYCZT" Type="uint8" SizeX="28" SizeY="8" SizeZ="1" SizeC="2" SizeT="1"><Channel ID="Channel:0:0"/>
<Channel ID="Channel:0:1"/><TiffData FirstC="0" IFD="0"><UUID FileName="own.ome.tif">urn:uuid:a</UUID></TiffData>
<TiffData FirstC="1" IFD="0"><UUID FileName="pipe.tif">urn:uuid:b</UUID></TiffData></Pixels></Image></OME>"""
    os.mkfifo(tmp_path / "pipe.tif")
    tifffile.imwrite(tmp_path / "own.ome.tif", np.zeros((8, 28), np.uint8), description=xml, metadata=None)
    with pytest.raises(SourceError, match="is a named pipe"):
        open_source(tmp_path / "own.ome.tif")
    os.mkfifo(tmp_path / "pipe.companion.ome")
    left = '<BinaryOnly MetadataFile="pipe.companion.ome" UUID="urn:uuid:z"/>'
    xml = f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{left}</OME>'
    tifffile.imwrite(tmp_path / "left.ome.tif", np.zeros((8, 28), np.uint8), description=xml, metadata=None)
    with pytest.raises(SourceError, match="is a named pipe"):
        open_source(tmp_path / "left.ome.tif")


@pytest.mark.parametrize("allow_outside", [False, True])
def test_a_pipe_as_a_chunk_is_not_waited_for(tmp_path: Path, allow_outside: bool) -> None:
    zarr.create_array(tmp_path / "x.zarr", data=np.ones((8, 8), np.uint8), chunks=(4, 4))
    (tmp_path / "x.zarr/c/0/1").unlink()
    os.mkfifo(tmp_path / "x.zarr/c/0/1")
    with open_source(tmp_path / "x.zarr", allow_outside=allow_outside) as source:
        assert source.read(Box((0, 0), (4, 4))).all()
        with pytest.raises(SourceError, match="is a named pipe"):
            source.read(Box((0, 0), (8, 8)))


def endless(*_: object, **__: object) -> None:
    while True:
        try:
            for _ in range(1000):
                pass
        except Exception:
            continue


def test_a_reader_that_never_ends_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the main thread and in any other; and what catches every Exception hears it, too."""
    monkeypatch.setenv(VARIABLE, "20ms")
    monkeypatch.setattr("octree.pyramid.sources.tiff.pages._open_tiff", endless)
    monkeypatch.setattr("octree.pyramid.store.ngff.read_multiscale", endless)
    file = stack(tmp_path / "a.tif")
    assert run(["info", str(file)]) == 3
    assert "takes longer than 0.02 s to open" in capsys.readouterr().err
    caught: list[SourceError] = []

    def work() -> None:
        for opening in (open_source, open_pyramid):
            try:
                opening(file)
            except SourceError as error:
                caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [error.details["limit_ms"] for error in caught] == [20.0, 20.0]
    assert all(VARIABLE in str(error.hint) for error in caught)


def test_nothing_is_raised_after_an_opening_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1us")
    said = set()
    for _ in range(200):
        try:
            within_time("x", lambda: within_time("y", lambda: sum(range(100))))
        except SourceError as error:
            said.add(error.message.partition(" longer")[0])
    assert said <= {"x takes"}
    sum(range(100_000))  # nothing comes later


def test_an_opening_leaves_nothing_for_the_interpreter_to_look_for() -> None:
    """An exception that is taken back makes CPython look for it at each call for good; 3.11 with a profiler stays at the
    first one for ever."""
    program = (
        "import sys, octree.pyramid.deadline as d\n"
        "d.within_time('x', lambda: 1)\n"
        "d.OPEN_TIMEOUT_MS = 1e-3\n"
        "for _ in range(50):\n"
        "    try: d.within_time('x', lambda: sum(range(100)))\n"
        "    except d.SourceError: pass\n"
        "sys.setprofile(lambda *call: None)\n"
        "print(sum(map(abs, range(100))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "4950\n"), done.stderr


def test_the_limit_is_documented_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert open_timeout_ms() == 60_000
    text = (Path(__file__).parents[1] / "docs/settings.md").read_text()
    assert VARIABLE in text
    assert "60 s" in text
    monkeypatch.setenv(VARIABLE, "0")
    assert within_time("x", lambda: 1) == 1
    monkeypatch.setenv(VARIABLE, "soon")
    with pytest.raises(UsageError, match=VARIABLE):
        open_timeout_ms()


def test_a_decoder_in_a_process_of_its_own_has_the_same_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variable for both: with no limit, or one of hours, the process is not ended after a minute either."""
    Image.new("L", (8, 8)).save(tmp_path / "a.gif")
    monkeypatch.setenv(VARIABLE, "1us")
    with pytest.raises(SourceError, match="takes longer than 0 s"):
        open_flat(tmp_path / "a.gif")
    monkeypatch.setenv(VARIABLE, "0")
    assert open_timeout_s() == math.inf
    assert open_flat(tmp_path / "a.gif").shape[:2] == (8, 8)


def test_a_command_ends_even_when_a_library_does_not_hear(tmp_path: Path) -> None:
    """A C function that does not come back, without Python's lock: the process ends itself."""
    np.save(tmp_path / "x.npy", np.zeros((4, 4), np.uint8))
    program = (
        "import sys, time, octree.pyramid.deadline as d, octree.pyramid.sources.plain as p, octree.cli as c\n"
        "d._GRACE_MS = 0\n"
        "p.open_npy = lambda *a: time.sleep(1000)\n"
        f"sys.argv = ['octree', 'info', '--json', {str(tmp_path / 'x.npy')!r}]\n"
        "c.main()\n"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, VARIABLE: "1ms"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "to open" in json.loads(done.stdout)["error"]["message"]


def test_the_real_command_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tif")
    done = octree("info", tmp_path / "x.tif")
    assert (done.returncode, "is a named pipe" in done.stderr) == (3, True)
