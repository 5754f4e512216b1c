"""An archive that is open: its directory is read once, its values by ranges of bytes."""

from __future__ import annotations

import io
import os
import threading
import weakref
import zlib
from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, BinaryIO, TypeVar

from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.reach import open_file
from octree.pyramid.store.zipped.directory import (
    DEFLATED,
    LOCAL_BYTES,
    STORED,
    TAIL_BYTES,
    BadArchive,
    Directory,
    Entry,
    Need,
    data_start,
    read_directory,
)

T = TypeVar("T")
MOST_INFLATED_BYTES = 64 * 2**20
"""Of a deflated value, which can only be read whole."""
_STREAM_BYTES, _COPY_BYTES = 4096, 1 << 20


class Archive(ABC):
    """Owner of the directory: this object, under its lock. Any thread. ``str()`` is what users call it."""

    in_flight = 0
    """As ``Place.in_flight``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._directory: Directory | None = None
        self._folders: dict[str, list[str]] | None = None
        self._starts: dict[str, int] = {}
        self._size = 0

    @property
    @abstractmethod
    def identity(self) -> str:
        """The same for the same archive, whatever it is called."""

    @abstractmethod
    def _read(self, start: int, stop: int) -> bytes:
        """Its bytes, fewer where it ends. Raises SourceError."""

    @abstractmethod
    def _tail(self, count: int) -> tuple[int, bytes]:
        """Its size, and its last ``count`` bytes. Raises SourceError."""

    @property
    def directory(self) -> Directory:
        """Raises SourceError for what is no archive, or one that cannot be; SourceNotFound."""
        with self._lock:
            if self._directory is None:
                try:
                    self._size, tail = self._tail(TAIL_BYTES)
                    self._directory = self._driven(read_directory(self._size, tail))
                except BadArchive as error:
                    raise self.damaged(str(error)) from error
            return self._directory

    def damaged(self, what: str) -> SourceError:
        """The error of an archive in which ``what`` is wrong."""
        return SourceError(
            f"{self} cannot be read: {what}",
            hint="copy it again; or unpack it with a program that can, and name the folder",
            path=str(self),
        )

    def _driven(self, asking: Generator[Need, bytes, T]) -> T:
        """What it returns when it has had the bytes that it asks for."""
        try:
            need = next(asking)
            while True:
                need = asking.send(self._read(*need))
        except StopIteration as done:
            found: T = done.value
            return found

    def entry(self, name: str) -> Entry | None:
        """None: there is no such value."""
        return self.directory.entries.get(name)

    def names(self, folder: str) -> list[str]:
        """Names directly below ``folder`` ("" for the root), sorted, those of folders with ``/`` at the end."""
        if self._folders is None:
            self._folders = _folders(self.directory)
        return self._folders.get(folder, [])

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Bytes of a value; None when there is none. Raises SourceError."""
        entry = self.entry(name)
        if entry is None:
            return None
        self.check_method(name, entry)
        if entry.method == DEFLATED:
            begin = self.start_of(name, entry)
            return inflated(self, name, entry, self._read(begin, begin + entry.stored))[start:stop]
        last = entry.size if stop is None else min(stop, entry.size)
        if last <= start:
            return b""
        begin = self.start_of(name, entry)
        data = self._read(begin + start, begin + last)
        if len(data) < last - start:
            raise self.damaged(f"{name} is cut short")
        return data

    def open(self, name: str) -> BinaryIO:
        """A value as a file that reads what is asked for. Raises SourceError."""
        return io.BufferedReader(_Stream(self, name), _STREAM_BYTES)

    def fault_of(self, name: str) -> str | None:
        """What is wrong with the bytes of a value, all of which are read. Raises SourceError."""
        crc = 0
        with self.open(name) as stream:
            while data := stream.read(_COPY_BYTES):
                crc = zlib.crc32(data, crc)
        same = crc == self.directory.entries[name].crc
        return None if same else "its bytes are not those that were put into the archive"

    def start_of(self, name: str, entry: Entry) -> int:
        """Where the data of an entry begin. Where the directory does not say, its head is read once."""
        if entry.data >= 0:
            return entry.data
        found = self._starts.get(name)
        if found is None:
            found = self.note_start(name, entry, self._read(entry.header, entry.header + LOCAL_BYTES))
        return found

    def known_start(self, name: str, entry: Entry) -> int | None:
        """As far as it is known without reading."""
        return entry.data if entry.data >= 0 else self._starts.get(name)

    def note_start(self, name: str, entry: Entry, head: bytes) -> int:
        """Of the first bytes of an entry's head."""
        try:
            found = data_start(entry, head)
        except BadArchive as error:
            raise self.damaged(f"{error} ({name})") from error
        if found + entry.stored > self._size:
            raise self.damaged(f"{name} is said to lie beyond the end")
        self._starts[name] = found
        return found

    def check_method(self, name: str, entry: Entry) -> None:
        """Raises SourceError for a value that is not read here."""
        if entry.encrypted:
            raise self.damaged(f"{name} is encrypted")
        if entry.method not in (STORED, DEFLATED):
            raise self.damaged(
                f"{name} is compressed by method {entry.method}; octree reads what is stored or deflated"
            )
        if entry.method == DEFLATED and max(entry.size, entry.stored) > MOST_INFLATED_BYTES:
            raise self.damaged(
                f"{name} is deflated, {entry.size} bytes of it: what is as large can only be read where it is stored (zip -0)"
            )


class _Stream(io.RawIOBase):
    """A value of an archive, to be read from any place."""

    def __init__(self, archive: Archive, name: str) -> None:
        super().__init__()
        entry = archive.entry(name)
        self._archive, self._name, self._at = archive, name, 0
        self._size = 0 if entry is None else entry.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._archive.read(self._name, self._at, self._at + len(buffer)) or b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _folders(directory: Directory) -> dict[str, list[str]]:
    below: dict[str, set[str]] = {}
    for name in directory.entries:
        folder, _, last = name.rpartition("/")
        while last not in (known := below.setdefault(folder, set())):
            known.add(last)
            if not folder:
                break
            folder, _, last = folder.rpartition("/")
            last += "/"
    return {folder: sorted(names) for folder, names in below.items()}


def inflated(archive: Archive, name: str, entry: Entry, data: bytes) -> bytes:
    """The value of a deflated entry, of just these bytes. Raises SourceError when it is another one than the directory says, and
    does not decode more than that."""
    decoder = zlib.decompressobj(-15)
    try:
        found = decoder.decompress(data, entry.size + 1)
    except zlib.error as error:
        raise archive.damaged(f"{name} is damaged: {error}") from error
    if len(found) != entry.size or zlib.crc32(found) != entry.crc:
        raise archive.damaged(f"{name} is not what the directory says: it is damaged")
    return found


class LocalArchive(Archive):
    """A file of this machine, held open: what takes its name later is another archive. Raises SourceNotFound, SourceError."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        with open_file(path) as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        facts = os.fstat(self._file)
        self._facts = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)

    def __str__(self) -> str:
        return self._path

    def __reduce__(self) -> Any:
        return local_archive, (self._path,)

    @property
    def identity(self) -> str:
        return f"{os.path.realpath(self._path)}|{self._facts}"

    def _tail(self, count: int) -> tuple[int, bytes]:
        size = self._facts[2]
        return size, self._read(max(0, size - count), size)

    def _read(self, start: int, stop: int) -> bytes:
        parts = []
        while start < stop:
            part = os.pread(self._file, min(stop - start, 1 << 30), start)
            if not part:
                break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


_open: weakref.WeakValueDictionary[tuple[Any, ...], LocalArchive] = weakref.WeakValueDictionary()


def local_archive(path: str) -> LocalArchive:
    """The archive at ``path``; one that is open, and has not changed since, is the same object. Raises SourceNotFound,
    SourceError."""
    try:
        facts = os.stat(path)
    except OSError as error:
        raise SourceNotFound(
            f"there is no file {path}", hint="check the path and its spelling", path=path
        ) from error
    key = (path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    found = _open.get(key)
    if found is None:
        found = _open[key] = LocalArchive(path)
    return found
