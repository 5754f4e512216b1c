"""Done-records of a build, in a file beside DEST: what makes ``--resume`` safe.

The first line says what is being built (a fingerprint of source, options and layout); every line after it is one
finished task. A record is written after the task's files are on disk, in one append: a line that is torn or
missing only means that its task is done again, and so does one whose files are not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from octree.pyramid.building.task import Hole, Task, TaskResult
from octree.pyramid.errors import DestinationError, WriteError
from octree.pyramid.store.removal import Folder, remove_file

VERSION = 3
MAX_ROUNDS, MAX_PLACES = 256, 2**28
"""A record beyond these is none of ours: no build has as many blocks, and a bit for each takes 32 MiB."""


@dataclass(frozen=True, slots=True)
class Header:
    """``build`` is a random word that also lies in the folder being built. ``aside``: the folder is not DEST yet.
    ``dest``: the name of DEST."""

    build: str
    aside: bool
    facts: dict[str, Any]
    dest: str

    def to_json(self) -> dict[str, Any]:
        # what says whose journal it is comes first, see _is_ours
        return {
            "octree_journal": VERSION,
            "dest": self.dest,
            "build": self.build,
            "aside": self.aside,
            "facts": self.facts,
        }


class TaskSet(Set[Task]):
    """Tasks as one bit each: builds have millions. Owner: the building thread."""

    def __init__(self) -> None:
        self._rounds: dict[int, bytearray] = {}
        self._count = 0

    def add(self, task: Task) -> None:
        bits = self._rounds.setdefault(task.round, bytearray())
        place, bit = task.place >> 3, 1 << (task.place & 7)
        if place >= len(bits):
            bits.extend(bytes(place + 1 - len(bits)))
        self._count += not bits[place] & bit
        bits[place] |= bit

    def __contains__(self, task: object) -> bool:
        if not isinstance(task, Task):
            return False
        bits, place = self._rounds.get(task.round, b""), task.place >> 3
        return place < len(bits) and bool(bits[place] & 1 << (task.place & 7))

    def __iter__(self) -> Iterator[Task]:
        for number, bits in self._rounds.items():
            for place in range(8 * len(bits)):
                if (task := Task(number, place)) in self:
                    yield task

    def __len__(self) -> int:
        return self._count


@dataclass(slots=True)
class Done:
    """What earlier runs finished. Owner: the building thread."""

    tasks: TaskSet = field(default_factory=TaskSet)
    bytes_read: int = 0
    bytes_written: int = 0
    files: int = 0
    holes: list[Hole] = field(default_factory=list)

    def add(self, result: TaskResult) -> None:
        if result.task in self.tasks:
            return  # done again, as its files were gone: counted once
        self.tasks.add(result.task)
        self.bytes_read += result.bytes_read
        self.bytes_written += result.bytes_written
        self.files += result.files
        self.holes.extend(result.holes)


Judge = Callable[[TaskResult], bool]


class Journal:
    """The file, open for appending. Owner: the building thread."""

    def __init__(self, path: Path, header: Header, file: int) -> None:
        self.path, self.header, self._file = path, header, file

    @classmethod
    def create(cls, path: Path, header: Header) -> Journal:
        """Begin a new journal; without a whole first line it says nothing. Raises WriteError."""
        try:
            remove_file(path, lambda text: _is_torn(text, header.dest))
            with Folder.of(path.parent) as parent:
                parent.create(path.name, json.dumps(header.to_json()) + "\n")
                return cls(path, header, parent.open_file(path.name, os.O_WRONLY | os.O_APPEND))
        except OSError as error:
            with suppress(OSError):
                remove_file(path, lambda text: _is_ours(text, header.dest))
            raise WriteError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error

    @classmethod
    def load(cls, path: Path, dest: str, is_possible: Judge, is_there: Judge) -> tuple[Journal, Done]:
        """Go on with an existing journal.

        ``is_possible``  of a record: could the build that goes on have written it? The first that it could not, and
                         all after it, are cut off.
        ``is_there``     are its files on disk, as they were when it was written? What is not counts as not done.

        Raises DestinationError when it is no journal of ``dest``.
        """
        with _opened(path) as stream:
            first = stream.readline()
            header, done, good = header_of(first, path, dest), Done(), len(first)
            for line in stream:
                result = _record(line) if line.endswith(b"\n") else None
                if result is None or not is_possible(result):
                    break
                good += len(line)
                if is_there(result):
                    done.add(result)
        try:
            with Folder.of(path.parent) as parent:
                file = parent.open_file(path.name, os.O_WRONLY | os.O_APPEND)
            os.ftruncate(file, good)
        except OSError as error:
            raise WriteError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error
        return cls(path, header, file), done

    def append(self, result: TaskResult) -> None:
        """Record a finished task. Raises WriteError."""
        line = json.dumps(record_of(result), separators=(",", ":")).encode() + b"\n"
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(28, os.strerror(28))
        except OSError as error:
            raise WriteError(
                f"{self.path} cannot be written: {error.strerror}", path=str(self.path)
            ) from error

    def close(self) -> None:
        os.close(self._file)


def read_header(path: Path, dest: str) -> Header | None:
    """The header of the journal at ``path``, None when there is no journal of a build that has begun. Raises
    DestinationError for what is none, and for the journal of another DEST."""
    try:
        with _opened(path) as stream:
            line = stream.readline()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DestinationError(
            f"{path} cannot be read: {error.strerror}",
            hint="remove it, or choose another DEST",
            path=str(path),
        ) from error
    return None if _is_torn(line, dest) else header_of(line, path, dest)


def remove_journal(path: Path, dest: str) -> None:
    """Remove the journal of ``dest``, if there is one. Raises DestinationError for anything else of its name."""
    try:
        remove_file(path, lambda text: _is_ours(text, dest))
    except OSError as error:
        raise DestinationError(
            f"{path} is not removed: {error.strerror or error}",
            hint="move it away, or remove it yourself",
            path=str(path),
        ) from error


def _opened(path: Path) -> BinaryIO:
    """Raises OSError; a link is not followed."""
    with Folder.of(path.parent) as parent:
        return os.fdopen(parent.open_file(path.name, os.O_RDONLY), "rb")


def _head(dest: str) -> bytes:
    return json.dumps({"octree_journal": VERSION, "dest": dest}).encode()[:-1]


def _is_ours(text: bytes, dest: str) -> bool:
    return text.startswith(_head(dest)) or _is_torn(text, dest)


def _is_torn(text: bytes, dest: str) -> bool:
    """A journal that was killed while its first line was written: nothing of its build had begun."""
    head = _head(dest)
    return b"\n" not in text and (text.startswith(head) or head.startswith(text))


def header_of(line: bytes, path: object, dest: str) -> Header:
    """What the first line of the journal at ``path`` says. Raises DestinationError."""
    try:
        given = json.loads(line)
        if given["octree_journal"] != VERSION:
            raise ValueError(f"version {given['octree_journal']}")
        header = Header(**{name: given[name] for name in ("build", "aside", "facts", "dest")})
        if list(map(type, (header.build, header.aside, header.facts, header.dest))) != [str, bool, dict, str]:
            raise TypeError("its first line does not say what it should")
        if header.dest != dest:
            raise ValueError(f"it belongs to {header.dest!r}")
        return header
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DestinationError(
            f"{path} is not a journal that this version of octree can read: {error}",
            hint="move it away, or give --overwrite to build from the start",
            path=str(path),
        ) from error


def record_of(result: TaskResult) -> list[Any]:
    """A finished task as JSON."""
    holes = [hole.to_json() for hole in result.holes]
    return [*result.task, result.bytes_read, result.bytes_written, result.files, result.digest, holes]


def _record(line: bytes) -> TaskResult | None:
    try:
        return result_of(json.loads(line))
    except (ValueError, RecursionError):
        return None


def result_of(record: Any) -> TaskResult | None:
    """What a record says; None for anything but whole numbers from 0 where they belong."""
    try:
        *numbers, digest, holes = record
        if not isinstance(digest, str):
            return None
        round_, place, read, written, files = map(_whole, numbers)
        if round_ >= MAX_ROUNDS or place >= MAX_PLACES:
            return None
        return TaskResult(Task(round_, place), read, written, files, tuple(map(_hole, holes)), digest)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _hole(given: dict[str, Any]) -> Hole:
    return Hole(tuple(map(_whole, given["start"])), tuple(map(_whole, given["stop"])), str(given["error"]))


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(value)
    return value


def changed_facts(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two builds' facts, as ``name: old then, new now``."""
    return [
        f"{key}: {_short(then.get(key))} then, {_short(now.get(key))} now"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"
