"""Done-records of a build, in a file beside DEST: what makes ``--resume`` safe.

The first line says what is being built (a fingerprint of source, options and layout); every line after it is one
finished task. A record is written after the task's files are on disk, in one append: a line that is torn or
missing only means that its task is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octree.pyramid.building.task import Hole, Task, TaskResult
from octree.pyramid.errors import DestinationError, WriteError

VERSION = 1


@dataclass(frozen=True, slots=True)
class Header:
    """``build`` is a random word that also lies in the folder being built. ``aside``: the folder is not DEST yet."""

    build: str
    aside: bool
    facts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"octree_journal": VERSION, "build": self.build, "aside": self.aside, "facts": self.facts}


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
        self.tasks.add(result.task)
        self.bytes_read += result.bytes_read
        self.bytes_written += result.bytes_written
        self.files += result.files
        self.holes.extend(result.holes)


class Journal:
    """The file, open for appending. Owner: the building thread."""

    def __init__(self, path: Path, header: Header, file: int) -> None:
        self.path, self.header, self._file = path, header, file

    @classmethod
    def create(cls, path: Path, header: Header) -> Journal:
        """Begin a new journal; it exists with its first line or not at all. Raises WriteError."""
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("w", encoding="utf-8") as stream:
                stream.write(json.dumps(header.to_json()) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
            return cls(path, header, os.open(path, os.O_WRONLY | os.O_APPEND))
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise WriteError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error

    @classmethod
    def load(cls, path: Path) -> tuple[Journal, Done]:
        """Go on with an existing journal. Raises DestinationError when it is none of ours."""
        with path.open("rb") as stream:
            first = stream.readline()
            header, done, good = _header(first, path), Done(), len(first)
            for line in stream:
                result = _record(line) if line.endswith(b"\n") else None
                if result is None:
                    break
                done.add(result)
                good += len(line)
        try:
            file = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.ftruncate(file, good)
        except OSError as error:
            raise WriteError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error
        return cls(path, header, file), done

    def append(self, result: TaskResult) -> None:
        """Record a finished task. Raises WriteError."""
        record = [
            *result.task,
            result.bytes_read,
            result.bytes_written,
            result.files,
            [h.to_json() for h in result.holes],
        ]
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(28, os.strerror(28))
        except OSError as error:
            raise WriteError(
                f"{self.path} cannot be written: {error.strerror}", path=str(self.path)
            ) from error

    def close(self) -> None:
        os.close(self._file)


def read_header(path: Path) -> Header | None:
    """The header of the journal at ``path``, None when there is no journal. Raises DestinationError."""
    try:
        with path.open("rb") as stream:
            return _header(stream.readline(), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DestinationError(
            f"{path} cannot be read: {error.strerror}",
            hint="remove it, or choose another DEST",
            path=str(path),
        ) from error


def _header(line: bytes, path: Path) -> Header:
    try:
        given = json.loads(line)
        if given["octree_journal"] != VERSION:
            raise ValueError(f"version {given['octree_journal']}")
        return Header(str(given["build"]), bool(given["aside"]), dict(given["facts"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DestinationError(
            f"{path} is not a journal that this version of octree can read: {error}",
            hint="give --overwrite to build from the start",
            path=str(path),
        ) from error


def _record(line: bytes) -> TaskResult | None:
    try:
        round_, place, read, written, files, holes = json.loads(line)
        return TaskResult(
            Task(int(round_), int(place)),
            int(read),
            int(written),
            int(files),
            tuple(Hole(tuple(h["start"]), tuple(h["stop"]), str(h["error"])) for h in holes),
        )
    except (ValueError, KeyError, TypeError):
        return None


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
