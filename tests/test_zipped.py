"""OME-Zarr in archives: which are refused, what is read of them, and how they are made."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from fake_values import FakeValues
from hypothesis import given
from hypothesis import strategies as st

from octree.pyramid.boxes import whole
from octree.pyramid.errors import OctreeError, OutsideError, SourceError, SourceNotFound
from octree.pyramid.model import Box
from octree.pyramid.store.zarr_meta import read_array_meta
from octree.pyramid.store.zipped.archive import LocalArchive, local_archive
from octree.pyramid.store.zipped.directory import TAIL_BYTES, BadArchive, Directory, read_directory
from octree.pyramid.store.zipped.packing import pack
from octree.pyramid.store.zipped.place import ZipPlace, local_zip, remote_zip

# directories


def driven(data: bytes) -> Directory:
    asking: Generator[Any, bytes, Directory] = read_directory(len(data), data[-TAIL_BYTES:])
    try:
        need = next(asking)
        while True:
            need = asking.send(data[slice(*need)])
    except StopIteration as done:
        found: Directory = done.value
        return found


def zipped(values: dict[str, bytes], method: int = zipfile.ZIP_STORED, **more: Any) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in values.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", **more) as value:
                value.write(data)
        archive.comment = b'{"ome": {"version": "0.5"}}'
    return stream.getvalue()


class Forward(io.BytesIO):
    """A pipe: sizes come after the data."""

    def seekable(self) -> bool:
        return False

    def seek(self, *to: int) -> int:
        raise OSError

    def tell(self) -> int:
        raise OSError


def streamed(values: dict[str, bytes]) -> bytes:
    stream = Forward()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in values.items():
            archive.writestr(name, data)
    return stream.getvalue()


VALUES = {
    "zarr.json": b"{}",
    "0/zarr.json": b'{"a": 1}',
    "0/c/0/0": bytes(range(256)) * 40,
    "0/ä": b"x",
    "empty": b"",
}
MADE: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "stored": zipped,
    "deflated": lambda values: zipped(values, zipfile.ZIP_DEFLATED),
    "long sizes": lambda values: zipped(values, force_zip64=True),
    "streamed": streamed,
}


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("how", MADE)
def test_values_are_what_was_put_in(how: str, remote: bool, tmp_path: Path) -> None:
    data = MADE[how](VALUES)
    (tmp_path / "a.ozx").write_bytes(data)
    values = FakeValues({"a.ozx": data})
    place = remote_zip(values, "a.ozx", "s3://b/a.ozx") if remote else local_zip(str(tmp_path / "a.ozx"))
    for name, value in VALUES.items():
        assert place.child(name).read() == value
        assert place.child(name).read(2, 5) == value[2:5]
        stamp = place.child(name).stamp()
        assert stamp is not None
        assert stamp.size == len(value)
    assert place.names() == ["0/", "empty", "zarr.json"]
    assert place.child("0").names() == ["c/", "zarr.json", "ä"]
    assert [place.child(name).kind() for name in ("0", "0/ä", "1")] == ["folder", "value", "nothing"]
    assert place.child("1").read() is None
    assert place.child("0/c/0").child("../../zarr.json").read() == b'{"a": 1}'
    if remote:
        assert values.asked[0].start == -TAIL_BYTES


def test_many_values_whose_directory_is_longer_than_the_end_that_is_read(tmp_path: Path) -> None:
    values = {f"0/c/{number:05d}": b"x" for number in range(3000)}
    assert list(driven(zipped(values)).entries) == list(values)
    (tmp_path / "0" / "c").mkdir(parents=True)
    for name in values:
        (tmp_path / name).write_bytes(b"x")
    stream = io.BytesIO()
    assert pack(tmp_path, stream) == 3000
    assert len(driven(stream.getvalue()).entries) == 3000


def test_names_that_lead_out_and_names_twice_are_refused() -> None:
    for name in ["../x", "a/../../x", "/etc/x", "c:/x", "a//x", "./x", "a\\x", "..", "a/.."]:
        with pytest.raises(BadArchive, match="a name that leads out of it"):
            driven(renamed(zipped({"n" * len(name): b"x"}), name))
    twice = zipped({"one/a": b"x", "one/b": b"y"}).replace(b"one/b", b"one/a")
    with pytest.raises(BadArchive, match="holds 'one/a' twice"):
        driven(twice)


def renamed(data: bytes, name: str) -> bytes:
    return data.replace(b"n" * len(name), name.encode())


def set_entry(data: bytes, number: int, offset: int, form: str, value: int) -> bytes:
    """Change a field of an entry of the directory."""
    found, at = bytearray(data), -1
    for _ in range(number + 1):
        at = data.index(b"PK\1\2", at + 1)
    struct.pack_into(form, found, at + offset, value)
    return bytes(found)


def test_entries_over_each_other_are_refused() -> None:
    data = zipped({"a": bytes(100), "b": bytes(100), "c": bytes(100)})
    with pytest.raises(BadArchive, match="lies over what follows it"):
        driven(set_entry(data, 2, 42, "<I", 0))  # quoted: the same bytes, many times
    longer = set_entry(set_entry(data, 0, 20, "<I", 5000), 0, 24, "<I", 5000)
    with pytest.raises(BadArchive, match="'a' lies over what follows it"):
        driven(longer)
    with pytest.raises(BadArchive, match="contradict"):
        driven(set_entry(data, 1, 24, "<I", 2**31))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1], "directory at its end is missing"),
        (lambda data: data[: len(data) // 2], "directory at its end is missing"),
        (lambda data: b"", "directory at its end is missing"),
        (lambda data: data[200:], "cut short, or has something before it"),
        (lambda data: set_entry(data, 1, 0, "<I", 0), "its directory is damaged"),
        (lambda data: set_entry(data, 1, 28, "<H", 60_000), "its directory is damaged"),
        (lambda data: set_entry(data, 1, 24, "<I", 2**32 - 1), "a long size is missing"),
        (lambda data: data[:-39] + b"\x07" + data[-38:], "cannot be|one part of several|damaged"),
    ],
)
def test_archives_that_are_damaged_are_refused(
    change: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    (tmp_path / "a.ozx").write_bytes(change(zipped(VALUES)))
    with pytest.raises(SourceError, match=words) as raised:
        local_zip(str(tmp_path / "a.ozx"))
    assert "a.ozx cannot be read: " in str(raised.value)


@given(st.data())
def test_no_change_of_a_directory_is_anything_but_refused_or_read(data: st.DataObject) -> None:
    made = bytearray(zipped({"a": bytes(20), "b/c": bytes(300)}, force_zip64=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        made[-data.draw(st.integers(1, 200))] = data.draw(st.integers(0, 255))
    try:
        entries = driven(bytes(made)).entries
    except BadArchive:
        return
    for entry in entries.values():
        assert entry.header + 30 + entry.stored <= len(made)


def opened(tmp_path: Path, data: bytes) -> LocalArchive:
    (tmp_path / "a.ozx").write_bytes(data)
    return local_archive(str(tmp_path / "a.ozx"))


def test_what_inflates_to_more_than_is_said_is_damage(tmp_path: Path) -> None:
    data = zipped({"a": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    archive = opened(tmp_path, set_entry(data, 0, 24, "<I", 100_000))
    with pytest.raises(SourceError, match="a is not what the directory says"):
        archive.read("a")
    archive = opened(tmp_path, zipped({"a": bytes(80_000_000)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(SourceError, match=r"80000000 bytes of it: .* where it is stored"):
        archive.read("a")


def test_other_methods_and_locks_are_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="compressed by method 14"):
        opened(tmp_path, zipped({"a": b"x" * 100}, zipfile.ZIP_LZMA)).read("a")
    with pytest.raises(SourceError, match="a is encrypted"):
        opened(tmp_path, set_entry(zipped({"a": b"x"}), 0, 8, "<H", 1)).read("a")


def test_a_head_that_is_not_there_is_damage(tmp_path: Path) -> None:
    data = bytearray(streamed({"a": b"x" * 100}))
    data[:4] = b"none"
    with pytest.raises(SourceError, match="the head of an entry is damaged"):
        opened(tmp_path, bytes(data)).read("a")
    data[:4], data[28:30] = b"PK\3\4", b"\xff\xff"
    with pytest.raises(SourceError, match="a is said to lie beyond the end"):
        opened(tmp_path, bytes(data)).read("a")


def test_nothing_outside_of_an_archive_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.ozx").write_bytes(zipped(VALUES))
    place = local_zip(str(tmp_path / "a.ozx"))
    for name in ["..", "0/../../x", "/etc/passwd", "file:///etc", "s3://b/c"]:
        with pytest.raises(OutsideError, match="outside of"):
            place.child(name)
    with pytest.raises(SourceNotFound):
        local_zip(str(tmp_path / "none.ozx"))


def test_a_folder_that_was_packed_with_its_name_is_the_root(tmp_path: Path) -> None:
    values = {f"image.zarr/{name}": data for name, data in VALUES.items()}
    (tmp_path / "a.zip").write_bytes(zipped(values))
    assert local_zip(str(tmp_path / "a.zip")).names() == ["0/", "empty", "zarr.json"]
    assert str(local_zip(str(tmp_path / "a.zip"))).endswith("a.zip/image.zarr")


def test_an_open_archive_is_one_and_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.ozx"
    first = opened(tmp_path, zipped({"a": b"one"}))
    assert local_archive(str(path)) is first
    (tmp_path / "new").write_bytes(zipped({"a": b"other"}))
    (tmp_path / "new").replace(path)
    assert first.read("a") == b"one"
    assert local_archive(str(path)).read("a") == b"other"


# arrays in archives


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("array")
    made = zarr.create_array(folder / "0", shape=(70, 90), chunks=(16, 16), shards=(32, 64), dtype="uint16")
    made[:40] = np.random.default_rng(3).integers(0, 2**16, (40, 90), dtype=np.uint16)
    plain = zarr.create_array(folder / "1", shape=(70, 90), chunks=(16, 16), dtype="uint16")
    plain[:40] = made[:40]
    return folder


@pytest.mark.parametrize("level", ["0", "1"])
@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("how", MADE)
def test_arrays_are_those_of_the_folder(
    how: str, remote: bool, level: str, array: Path, tmp_path: Path
) -> None:
    values = {
        p.relative_to(array).as_posix(): p.read_bytes() for p in sorted(array.rglob("*")) if p.is_file()
    }
    data = MADE[how](values)
    (tmp_path / "a.ozx").write_bytes(data)
    place = (
        remote_zip(FakeValues({"a.ozx": data}), "a.ozx", "s3://b/a.ozx")
        if remote
        else ZipPlace(local_archive(str(tmp_path / "a.ozx")), "")
    ).child(level)
    reader = place.reader(read_array_meta(place), "level 0")
    expected = np.asarray(zarr.open_array(array / level, mode="r")[:])
    for box in [whole((70, 90)), Box((3, 5), (50, 80)), Box((64, 0), (70, 16)), Box((16, 16), (32, 32))]:
        found = reader.start(box, ValueError).result()
        np.testing.assert_array_equal(found, expected[box.slices])


def test_damage_in_an_array_names_the_chunk(array: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    pack(array, stream)
    data = bytearray(stream.getvalue())
    entry = driven(bytes(data)).entries["0/c/0/0"]
    data[entry.data + entry.size - 10] ^= 1
    (tmp_path / "a.ozx").write_bytes(data)
    place = local_zip(str(tmp_path / "a.ozx")).child("0")
    reader = place.reader(read_array_meta(place), "level 0")
    with pytest.raises(
        SourceError, match=r"level 0 at .*a\.ozx/0: chunk 1/1 cannot be read: .*index is damaged"
    ):
        reader.start(Box((16, 16), (32, 32)), ValueError).result()


def test_two_requests_for_the_first_tile_and_metadata_in_one(array: Path) -> None:
    """As of a folder: of archives that octree writes nothing more is asked."""
    stream = io.BytesIO()
    pack(array, stream)
    values = FakeValues({"a.ozx": stream.getvalue()})
    place = remote_zip(values, "a.ozx", "s3://b/a.ozx")
    assert len(values.asked) == 1
    place.prefetch(["0/zarr.json", "1/zarr.json", "2/zarr.json"])
    assert len(values.asked) == 2
    reader = place.child("0").reader(read_array_meta(place.child("0")), "level 0")
    assert len(values.asked) == 2
    reader.start(Box((0, 0), (16, 16)), ValueError).result()
    assert len(values.asked) == 4
    reader.start(Box((16, 16), (32, 32)), ValueError).result()
    assert len(values.asked) == 5


def test_an_archive_that_changes_while_it_is_read_is_refused(array: Path) -> None:
    stream = io.BytesIO()
    pack(array, stream)
    values = FakeValues({"a.ozx": stream.getvalue()})
    place = remote_zip(values, "a.ozx", "s3://b/a.ozx").child("0")
    reader = place.reader(read_array_meta(place), "level 0")
    values.etag = "two"
    with pytest.raises(OctreeError, match=r"s3://b/a\.ozx cannot be read: it has been changed or removed"):
        reader.start(Box((0, 0), (16, 16)), ValueError).result()
    with pytest.raises(SourceNotFound, match=r"there is nothing at s3://b/none\.ozx"):
        remote_zip(values, "none.ozx", "s3://b/none.ozx")


# packing


def test_packed_archives_are_as_rfc_9_says(array: Path, tmp_path: Path) -> None:
    (array / "zarr.json").write_text("{}")
    comment = json.dumps({"ome": {"version": "0.5"}}).encode()
    path = tmp_path / "a.ozx"
    with path.open("wb") as stream:
        pack(array, stream, comment)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment == comment
        infos = archive.infolist()
        for info in infos:
            assert info.compress_type == zipfile.ZIP_STORED
            assert archive.read(info) == (array / info.filename).read_bytes()
    names = [info.filename for info in infos]
    assert names[:3] == ["zarr.json", "0/zarr.json", "1/zarr.json"]
    assert sorted(names) == sorted(p.relative_to(array).as_posix() for p in array.rglob("*") if p.is_file())
    numbers = [int(name.rpartition("/")[2]) for name in names if name.startswith("1/c/0/")]
    assert numbers == sorted(numbers)
    data = path.read_bytes()
    assert b"PK\6\6" in data[-200:]
    assert b"PK\6\7" in data[-200:]
    # a program that others unpack with takes it
    subprocess.run(["python3", "-m", "zipfile", "-t", path], check=True, capture_output=True)
    again = io.BytesIO()
    pack(array, again, comment)
    assert again.getvalue() == data


def test_links_are_not_packed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        pack(tmp_path, io.BytesIO())


def test_checksums_are_those_of_the_values() -> None:
    data = random.Random(1).randbytes(1000)
    (entry,) = driven(zipped({"a": data})).entries.values()
    assert entry.crc == zlib.crc32(data)
    assert (entry.size, entry.stored, entry.data) == (1000, 1000, 31)
