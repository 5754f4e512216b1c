"""DEST and what lies beside it: what state a build finds, and how a finished one takes its place.

    DEST                     the pyramid, or the folder being built
    DEST/.octree-partial     names DEST and the build (a random word), until the build is finished
    .DEST.octree-journal     done-records                .DEST.octree-lock  who is writing
    .DEST.octree-new         with --overwrite: the folder being built, until it changes places with DEST
    DEST/.octree-replaced    in the pyramid that is about to be replaced: names DEST and the build that does it
    .DEST.octree-old         that pyramid, for a moment, where two names cannot change places in one step

States are told apart by where the marker with the journal's word lies; every step that changes one leaves a
state that the next run understands. What carries no such marker is never removed.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from octree.pyramid.building.journal import Header, read_header, remove_journal
from octree.pyramid.building.replaceable import check_replaceable, in_use
from octree.pyramid.errors import DestinationError, UsageError, WriteError
from octree.pyramid.options import PATH
from octree.pyramid.store.place import tensorstore_path
from octree.pyramid.store.removal import (
    MARKER,
    REPLACED,
    Folder,
    is_fresh,
    mark,
    remove_folder,
    unmark,
    word_in,
)


class State(Enum):
    """What a build finds at DEST."""

    FREE = "nothing there, or an empty folder"
    OCCUPIED = "something else, whole as far as we know"
    PARTIAL = "an interrupted build in DEST itself"
    PARTIAL_ASIDE = "an interrupted build beside DEST"


@dataclass(frozen=True, slots=True)
class Places:
    """Every path that a build of ``dest`` may write. ``dest`` is absolute, links followed. ``through_link``: what
    the user named is a link."""

    dest: Path
    through_link: bool = False

    @property
    def name(self) -> str:
        """What markers call DEST."""
        return self.dest.name

    def _beside(self, word: str) -> Path:
        return self.dest.with_name(f".{self.dest.name}.octree-{word}")

    @property
    def lock(self) -> Path:
        return self._beside("lock")

    @property
    def journal(self) -> Path:
        return self._beside("journal")

    @property
    def aside(self) -> Path:
        return self._beside("new")

    @property
    def old(self) -> Path:
        return self._beside("old")

    def folder(self, aside: bool) -> Path:
        """Where levels are written."""
        return self.aside if aside else self.dest


def places_of(dest: str | os.PathLike[str]) -> Places:
    """Raises DestinationError for a DEST that cannot be a folder of its own, UsageError for an empty name."""
    if not os.fspath(dest):
        raise UsageError("DEST is empty", hint="name the folder to write")
    path = Path(os.path.realpath(PATH.read("DEST", dest)))
    try:
        tensorstore_path(path)
    except ValueError as error:
        raise DestinationError(
            f"{path} cannot be written: {error}",
            hint="choose another name for DEST or its folder",
            path=str(path),
        ) from error
    if path.parent == path:
        raise DestinationError(f"{path} cannot be replaced by a pyramid", path=str(path))
    if os.path.islink(os.path.normpath(dest)) and not path.exists():
        raise DestinationError(
            f"{os.fspath(dest)} is a link to {path}, where nothing is",
            hint="name the folder itself, or remove the link",
            path=str(path),
        )
    return Places(path, os.path.islink(os.path.normpath(dest)))


def check_apart(source_path: str, places: Places) -> None:
    """SOURCE and DEST may not contain one another. Raises DestinationError."""
    text = source_path.partition("::")[0] if not os.path.exists(source_path) else source_path
    if not os.path.exists(text):
        return  # an object in memory
    source = Path(os.path.realpath(text))
    if source == places.dest or places.dest in source.parents or source in places.dest.parents:
        how = "are the same" if source == places.dest else "contain one another"
        raise DestinationError(
            f"SOURCE {source} and DEST {places.dest} {how}",
            hint="write the pyramid somewhere else",
            path=str(places.dest),
        )


def inspect(places: Places) -> tuple[State, Header | None]:
    """What is there. The header is given for the two interrupted states. Raises DestinationError."""
    header = read_header(places.journal, places.name)
    if header is not None and marker_of(places, header.aside) == header.build:
        return (State.PARTIAL_ASIDE if header.aside else State.PARTIAL), header
    return (State.FREE if _is_free(places) else State.OCCUPIED), None


def refused(places: Places, state: State) -> DestinationError:
    """Why a plain build leaves alone what is there."""
    if state is State.OCCUPIED:
        what, hint = "exists and is not empty", "choose another DEST, or give --overwrite"
    else:
        what, hint = "holds an interrupted build", "go on with --resume, or start again with --overwrite"
    return DestinationError(f"{places.dest} {what}", hint=hint, path=str(places.dest))


def check_writable(places: Places, state: State, *, overwrite: bool) -> bool:
    """Whether a new build must leave what is in DEST until it is done. Raises DestinationError where it may not take the
    place of what is there; changes nothing."""
    if state is not State.FREE and not overwrite:
        raise refused(places, state)
    # an interrupted build in DEST itself is no pyramid that is worth keeping until the new one is done
    aside = state in (State.OCCUPIED, State.PARTIAL_ASIDE) and places.dest.exists()
    if aside:
        check_replaceable(places.dest, through_link=places.through_link)
    return aside


def _is_free(places: Places) -> bool:
    dest = places.dest
    if not os.path.lexists(dest):
        return True
    if not dest.is_dir():
        raise DestinationError(
            f"{dest} exists and is not a folder", hint="choose another DEST", path=str(dest)
        )
    try:
        # a marker alone is a build that was killed before it knew its own word
        with Folder.of(dest.parent) as parent, parent.folder(dest.name) as folder:
            return is_fresh(folder, MARKER, places.name)
    except OSError as error:
        raise DestinationError(f"{dest} cannot be read: {error.strerror}", path=str(dest)) from error


def marker_of(places: Places, aside: bool, marker: str = MARKER) -> str | None:
    """The word of the build that marked DEST, or the folder beside it; None when none did."""
    return _marker_at(places.folder(aside), marker, places.name)


def _marker_at(path: Path, marker: str, dest: str) -> str | None:
    try:
        with Folder.of(path.parent) as parent, parent.folder(path.name) as folder:
            return word_in(folder, marker, dest)
    except OSError:
        return None


def begin_folder(places: Places, aside: bool, word: str) -> None:
    """Make the folder, with the marker in it; one beside DEST is a new one. Raises DestinationError, or WriteError
    when the disk is full."""
    path = places.folder(aside)
    try:
        with Folder.of(path.parent) as parent:
            if aside or not parent.has(path.name):
                parent.make_folder(path.name)
            with parent.folder(path.name) as folder:
                if not is_fresh(folder, MARKER, places.name):
                    raise FileExistsError(errno.EEXIST, "something has been put there", str(path))
                mark(folder, MARKER, places.name, word)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WriteError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error
        raise DestinationError(
            f"{path} cannot be written: {error.strerror}",
            hint="choose a DEST that you may write",
            path=str(path),
        ) from error


def tidy_swap(places: Places) -> None:
    """Finish an ``--overwrite`` that was killed while DEST was being exchanged, or after it."""
    old = _marker_at(places.old, REPLACED, places.name)
    if old is not None and not os.path.lexists(places.dest):
        with Folder.of(places.dest.parent) as parent:
            parent.rename(places.old.name, places.dest.name)
    elif old is not None and marker_of(places, aside=False) == old:
        remove_folder(places.old, places.name, REPLACED, build=old)
    header = read_header(places.journal, places.name)
    if header is not None and header.aside and marker_of(places, aside=False) == header.build:
        finish(places, header, swapped=True)


def finish(places: Places, header: Header, *, swapped: bool = False) -> None:
    """The built folder takes its place, then everything of the build but the pyramid goes."""
    if header.aside and not swapped:
        _exchange(places, header.build)
    if header.aside:
        _remove_replaced(places, header.build)
    with Folder.of(places.dest.parent) as parent, parent.folder(places.dest.name) as dest:
        unmark(dest, MARKER, places.name)
    remove_journal(places.journal, places.name)


def _remove_replaced(places: Places, build: str) -> None:
    try:
        remove_folder(places.aside, places.name, REPLACED, build=build)
    except DestinationError as error:
        raise WriteError(
            f"{places.dest} is finished and in its place, but what it replaced is left: {error.message}",
            hint=error.hint,
            path=str(places.dest),
        ) from error


def discard(places: Places, header: Header | None, *, aside: bool = False) -> None:
    """Remove an interrupted build: its folder and its journal. DEST itself only when it is that folder. ``aside``:
    the place beside DEST is needed, so a stranger there is an error, else it is left alone."""
    if header is not None:
        remove_folder(
            places.folder(header.aside),
            places.name,
            MARKER,
            build=header.build,
            keep=not header.aside and in_use(places.dest) is not None,
        )
    else:
        try:
            remove_folder(places.aside, places.name, MARKER, REPLACED)
        except DestinationError:
            if aside:
                raise
    remove_journal(places.journal, places.name)


def _exchange(places: Places, build: str) -> None:
    """The folder beside DEST and DEST change places; there is no moment without a DEST where the system can do
    that. What has come to lie in DEST while the build ran is looked at once more."""
    new, dest, old = (path.name for path in (places.aside, places.dest, places.old))
    if os.path.lexists(places.dest):
        check_replaceable(places.dest)
    try:
        with Folder.of(places.dest.parent) as parent:
            if not parent.has(dest):
                parent.rename(new, dest)
                return
            with parent.folder(dest) as replaced:
                mark(replaced, REPLACED, places.name, build)
            if not exchange_at_once(parent, new, dest):
                parent.rename(dest, old)
                parent.rename(new, dest)
                parent.rename(old, new)
    except OSError as error:
        raise WriteError(
            f"{places.dest} cannot be replaced: {error.strerror}; the finished pyramid is at {places.aside}",
            path=str(places.dest),
        ) from error


def exchange_at_once(parent: Folder, name: str, other: str) -> bool:
    """Two names change places in one step; False where the system cannot do that."""
    return parent.exchange(name, other)
