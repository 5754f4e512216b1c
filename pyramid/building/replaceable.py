"""What ``--overwrite`` may take the place of: a Zarr group or array and nothing else, in no folder that is in use.

A folder with Zarr metadata is not yet a pyramid: one ``zarr.json`` that strayed into a home folder would give it
away. So everything in it must look like a member: groups are looked through, of arrays the first names.
"""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from octree.pyramid.errors import DestinationError
from octree.pyramid.store.removal import MARKER, REPLACED, Folder, is_fresh, word_in

_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_MOST_BYTES = 64 * 2**20  # consolidated metadata may be long
_DEEPEST = 16
_CHUNK = re.compile(r"(c|(c[./])?\d+([./]\d+)*)(\.__lock)?", re.ASCII)


def check_replaceable(dest: Path, *, through_link: bool = False) -> None:
    """Raises DestinationError unless the folder ``dest`` (links followed) may be replaced as a whole."""
    why: str | None
    if through_link:
        why = "it is reached through a link, which would be left with nothing behind it"
    else:
        why = in_use(dest) or stranger_in(dest)
    if why:
        raise DestinationError(
            f"{dest} is no pyramid to overwrite: {why}",
            hint="choose another DEST, or move away what is there",
            path=str(dest),
        )


def in_use(dest: Path) -> str | None:
    """Why ``dest`` must stay whatever is in it, None when it need not."""
    here = Path(os.path.realpath(os.curdir))
    places = dict.fromkeys(_homes(), "home folder") | {here: "working folder, in use"}
    for place, what in places.items():
        if dest == place:
            return f"it is the {what}"
        if dest in place.parents:
            return f"it holds the {what}, {place}"
    if os.path.ismount(dest):
        return "a file system in use is mounted there"
    return None


def _homes() -> set[Path]:
    """By the environment, by the user's entry, links followed."""
    names = {os.environ.get("HOME", ""), os.path.expanduser("~")}
    with suppress(ImportError, KeyError, AttributeError):  # no such list here, or a user without an entry
        import pwd

        names.add(pwd.getpwuid(os.getuid()).pw_dir)
    return {Path(os.path.realpath(name)) for name in names if os.path.isabs(name)}


def stranger_in(dest: Path) -> str | None:
    """What in the folder ``dest`` is none of a pyramid's, in words; None when all of it is."""
    try:
        with Folder.of(dest.parent) as parent, parent.folder(dest.name) as folder:
            if is_fresh(folder, MARKER, dest.name) or word_in(folder, MARKER, dest.name) is not None:
                return None
            return _stranger(folder, "", 0)
    except OSError as error:
        return f"it cannot be looked through: {error.strerror or error}"


def _stranger(folder: Folder, at: str, depth: int) -> str | None:
    names = folder.names()
    kind = _kind(folder, names)
    if kind is None:
        return f"it holds {at[:-1]!r}, which has no Zarr metadata" if at else "it has no Zarr metadata"
    if depth > _DEEPEST:
        return f"{at[:-1]!r} lies too deep for a pyramid"
    for name in names:
        mode = folder.stat(name).st_mode
        if stat.S_ISLNK(mode):
            return f"it holds the link {at + name!r}"
        if _is_member(name, mode, kind, os.path.basename(at[:-1])):
            continue
        if kind != "group" or not stat.S_ISDIR(mode):
            return f"it holds {at + name!r}"
        with folder.folder(name) as child:
            if (why := _stranger(child, f"{at}{name}/", depth + 1)) is not None:
                return why
    return None


def _is_member(name: str, mode: int, kind: str, of: str) -> bool:
    """A name that needs no further look: metadata, a chunk of an array."""
    if kind == "array" and _CHUNK.fullmatch(name):
        return True
    if not stat.S_ISREG(mode):
        return False
    # bioformats2raw keeps what it read there
    return name in (*_METADATA, REPLACED) or (of == "OME" and name == "METADATA.ome.xml")


def _kind(folder: Folder, names: list[str]) -> str | None:
    """ "group" or "array" by the folder's own metadata, None for a folder that is neither."""
    if (found := _document(folder, names, "zarr.json")) is not None:
        kind = found.get("node_type")
        return kind if found.get("zarr_format") == 3 and kind in ("group", "array") else None
    for name, kind in ((".zarray", "array"), (".zgroup", "group")):
        if (found := _document(folder, names, name)) is not None and found.get("zarr_format") == 2:
            return kind
    return None


def _document(folder: Folder, names: list[str], name: str) -> dict[str, Any] | None:
    if name not in names:
        return None
    try:
        found = json.loads(folder.read(name, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
