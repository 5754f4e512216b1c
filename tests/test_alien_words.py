"""What libraries warn of reaches nobody in their words: it is said in ours, or means nothing."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from pathlib import Path

import pytest
from build_tools import octree, octree_json
from PIL import Image
from test_source_odd import whole
from test_source_said import png

from octree.pyramid.errors import OctreeWarning, SourceError, SourceWarning
from octree.pyramid.sources.flat.decode import heard
from octree.pyramid.sources.source import open_source


def jpeg(marker: int, body: bytes) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((30, 20), 50).save(out, "JPEG")
    plain = out.getvalue()
    return plain[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + plain[2:]


def exif() -> bytes:
    notes = Image.Exif()
    notes[0x0112], notes[0x010E] = 6, "x" * 50
    return notes.tobytes()


ODD = {
    "notes.jpg": (lambda: jpeg(0xE1, exif()[:30]), "its EXIF notes are damaged"),
    "notes.png": (lambda: png(4, 1, 8, 0, bytes(5), (b"eXIf", exif()[6:26])), "its EXIF notes are damaged"),
    "index.jpg": (lambda: jpeg(0xE2, b"MPF\0II*\0" + bytes(10)), "its list of further pictures is damaged"),
    "film.png": (lambda: png(4, 1, 8, 0, bytes(5), (b"acTL", bytes(8))), "its list of frames is damaged"),
}


@pytest.mark.parametrize("name", ODD)
def test_damaged_notes_are_said_once_in_our_words(tmp_path: Path, name: str) -> None:
    make, words = ODD[name]
    (tmp_path / name).write_bytes(make())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with open_source(tmp_path / name) as source:
            assert [words in text for text in source.warnings].count(True) == 1
        whole(tmp_path / name)
    assert {one.category for one in found} == {SourceWarning}


@pytest.mark.parametrize("name", ["notes.jpg", "index.jpg", "film.png"])
def test_no_command_lets_a_library_speak(tmp_path: Path, name: str) -> None:
    """Whatever Python is told to show."""
    make, words = ODD[name]
    (tmp_path / name).write_bytes(make())
    for command in (["info"], ["build", "--progress", "none"]):
        where = [tmp_path / name, *([tmp_path / command[0]] if command[0] == "build" else [])]
        document = octree_json(*command, *where, env={"PYTHONWARNINGS": "default", "PATH": ""})
        assert sum(words in text for text in document["warnings"]) == 1
    done = octree("build", *where, "--overwrite", "-q", env={"PYTHONWARNINGS": "default", "PATH": ""})
    assert all(line.startswith("warning: ") and str(tmp_path) in line for line in done.stderr.splitlines())


def test_warnings_of_ours_are_not_swallowed() -> None:
    """Other threads may have some to give meanwhile."""

    def listen() -> list[str]:
        with heard() as said:
            thread = threading.Thread(target=lambda: warnings.warn("ours", OctreeWarning, stacklevel=1))
            thread.start()
            thread.join()
            warnings.warn("what nobody knows", UserWarning, stacklevel=1)
        return said

    with pytest.warns(OctreeWarning, match="ours"):
        said = listen()
    assert said == ["its decoder says: what nobody knows"]


def test_a_text_that_is_no_number_is_damage(tmp_path: Path) -> None:
    for text in ("1 2 x", "1 2 -3", "1 2 99999999999999"):
        (tmp_path / "a.pgm").write_text(f"P2\n3 1\n255\n{text}\n")
        with pytest.raises(SourceError, match="is damaged"):
            whole(tmp_path / "a.pgm")
