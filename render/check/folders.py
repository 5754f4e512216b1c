"""Folders that ``check`` writes to and removes from: always by one plain name in a folder that is held open, never
through a link. Whatever lies in them may have come from elsewhere, with a branch or a downloaded artifact.

A folder of frames is removed only when it holds nothing but frames, a record and a mark, and the mark or the record
says that ``check`` made it: ``--output`` may lead anywhere.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from octree.pyramid.store import removal
from octree.pyramid.store.removal import Members

MARK = "octree-case.json"
_SCHEMA = "octree-case/1"
_OURS = re.compile(
    r"frame-\d{4,}\.png|record\.json|octree-case\.json|\.[0-9a-f]{16}\.(octree-)?part(\.\w+)?", re.ASCII
)
_MOST_BYTES = 256 << 20


class Folder:
    """A folder held open; owned by whoever opened it, closed as a context manager.

    Every method takes names of what lies directly in it, and raises OSError: ELOOP for a link where a folder or a
    file is needed."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._held = removal.Folder.of(path, listed=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @contextmanager
    def folder(self, name: str, *, create: bool = False) -> Iterator[Folder]:
        """The folder ``name`` in this one."""
        if create:
            with suppress(FileExistsError):
                self._held.make_folder(_plain(name))
        self._refuse_link(name)
        made = Folder.__new__(Folder)
        made.path, made._held = self.path / name, self._held.folder(name)
        with made:
            yield made

    @contextmanager
    def frames(self, name: str) -> Iterator[Folder]:
        """The folder ``name`` for frames, made and marked as one that may be removed again."""
        with self.folder(name, create=True) as made:
            with suppress(FileExistsError):
                made._held.create(MARK, json.dumps({"schema": _SCHEMA, "case": name}) + "\n")
            yield made

    def names(self) -> list[str]:
        return self._held.names()

    def read(self, name: str, limit_bytes: int) -> bytes:
        """The bytes of a regular file of at most ``limit_bytes``."""
        self._refuse_link(name)
        return _all_of(self._held.open_file(name, os.O_RDONLY), limit_bytes)

    def write(self, name: str, data: bytes) -> None:
        """Write ``data`` beside ``name``, then put it there: whatever had the name before, a link too, is gone."""
        self._held.write(_plain(name), data)

    def move(self, name: str, into: Folder, new_name: str) -> None:
        """Rename: a folder takes the place of nothing but an empty one."""
        self._held.rename(_plain(name), _plain(new_name), into=into._held)

    def remove(self, name: str, *, known: bool = False) -> None:
        """Remove the folder of frames ``name``, if it is there. ``known``: something else says that we made it.

        Raises DestinationError for what holds, or may hold, anything else."""
        try:
            self._refuse_link(name)
        except FileNotFoundError:
            return
        self._held.remove_members(name, _members(name, known))

    def check_frames(self, name: str, *, known: bool = False) -> None:
        """Raise as ``remove`` would; remove nothing."""
        self._refuse_link(name)
        with self._held.folder(name) as folder:
            _members(name, known).checked(folder)

    def _refuse_link(self, name: str) -> None:
        """What is not a link now may be one when it is opened: O_NOFOLLOW stands behind this. This is for words."""
        if stat.S_ISLNK(self._held.stat(_plain(name)).st_mode):
            raise OSError(errno.ELOOP, f"{name!r} is a link, and links are not followed here")


def _plain(name: str) -> str:
    if os.path.basename(name) != name or name in ("", os.curdir, os.pardir):
        raise ValueError(f"{name!r} is not the name of one thing in a folder")
    return name


def _members(case: str, known: bool) -> Members:
    def proves(folder: removal.Folder) -> bool:
        return known or _says(folder, MARK, case) or _says(folder, "record.json", None)

    return Members(lambda name: _OURS.fullmatch(name) is not None, proves)


def _says(folder: removal.Folder, name: str, case: str | None) -> bool:
    try:
        found = json.loads(folder.read(name, _MOST_BYTES))
        if case is None:
            return str(found["schema"]).startswith("octree-record/")
        return bool(found["schema"] == _SCHEMA and found["case"] == case)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def read_file(path: Path, limit_bytes: int) -> bytes:
    """The bytes of a regular file of at most ``limit_bytes``; links to one are followed. Raises OSError at once for
    a pipe or a device, which would block or never end."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return _all_of(os.open(path, flags), limit_bytes)


def _all_of(handle: int, limit_bytes: int) -> bytes:
    """What the file of this handle holds; closes it."""
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if facts.st_size > limit_bytes:
            raise OSError(errno.EFBIG, f"it is larger than {limit_bytes} bytes")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(facts.st_size)
    finally:
        os.close(handle)
