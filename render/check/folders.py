"""Folders of frames, which ``check`` writes to and removes: always by one plain name in a folder that is held open
(``removal.Folder``), never through a link. Whatever lies in them may have come from elsewhere, with a branch or a downloaded
artifact.

A folder of frames is removed only when it holds nothing but frames, a record and a mark, and the mark or the record
says that ``check`` made it: ``--output`` may lead anywhere.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path

from octree.pyramid.store.removal import Folder, Members, all_of

MARK = "octree-case.json"
_SCHEMA = "octree-case/1"
_OURS = re.compile(
    r"frame-\d{4,}\.png|record\.json|octree-case\.json|\.[0-9a-f]{16}\.(octree-)?part(\.\w+)?", re.ASCII
)
_MOST_BYTES = 256 << 20


def frames_folder(folder: Folder, name: str) -> Folder:
    """The folder ``name`` in ``folder`` for frames, made and marked as one that may be removed again. Raises OSError."""
    made = folder.folder(name, create=True)
    try:
        with suppress(FileExistsError):
            made.create(MARK, json.dumps({"schema": _SCHEMA, "case": name}) + "\n")
    except BaseException:
        made.close()
        raise
    return made


def remove_frames(folder: Folder, name: str, *, known: bool = False) -> None:
    """Remove the folder of frames ``name``, if it is there. ``known``: something else says that we made it.

    Raises DestinationError for what holds, or may hold, anything else; OSError for a link."""
    with suppress(FileNotFoundError):
        folder.refuse_link(name)
        folder.remove_members(name, _members(name, known))


def check_frames(folder: Folder, name: str, *, known: bool = False) -> None:
    """Raise as ``remove_frames`` would, and FileNotFoundError; remove nothing."""
    with folder.folder(name) as frames:
        _members(name, known).checked(frames)


def _members(case: str, known: bool) -> Members:
    def proves(folder: Folder) -> bool:
        return known or _says(folder, MARK, case) or _says(folder, "record.json", None)

    return Members(lambda name: _OURS.fullmatch(name) is not None, proves)


def _says(folder: Folder, name: str, case: str | None) -> bool:
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
    return all_of(os.open(path, flags), limit_bytes)
