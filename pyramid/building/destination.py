"""DEST and what lies beside it: what state a build finds, and how a finished one takes its place.

    DEST                     the pyramid, or the folder being built
    DEST/.octree-partial     holds the build's random word, until the build is finished
    .DEST.octree-journal     done-records                .DEST.octree-lock  who is writing
    .DEST.octree-new         with --overwrite: the folder being built, until it changes places with DEST

States are told apart by where the marker with the journal's word lies; every step that changes one leaves a
state that the next run understands.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from octree.pyramid.building.journal import Header, read_header
from octree.pyramid.errors import DestinationError, UsageError, WriteError

MARKER = ".octree-partial"


class State(Enum):
    """What a build finds at DEST."""

    FREE = "nothing there, or an empty folder"
    OCCUPIED = "something else, whole as far as we know"
    PARTIAL = "an interrupted build in DEST itself"
    PARTIAL_ASIDE = "an interrupted build beside DEST"


@dataclass(frozen=True, slots=True)
class Places:
    """Every path that a build of ``dest`` may write. ``dest`` is absolute, links followed."""

    dest: Path

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

    def folder(self, aside: bool) -> Path:
        """Where levels are written."""
        return self.aside if aside else self.dest


def places_of(dest: str | os.PathLike[str]) -> Places:
    """Raises DestinationError for a DEST that cannot be a folder of its own, UsageError for an empty name."""
    if not os.fspath(dest):
        raise UsageError("DEST is empty", hint="name the folder to write")
    path = Path(os.path.realpath(dest))
    if path.parent == path:
        raise DestinationError(f"{path} cannot be replaced by a pyramid", path=str(path))
    return Places(path)


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


def check_replaceable(dest: Path) -> None:
    """--overwrite removes what is there: not where that would be more than a pyramid. Raises DestinationError."""
    here = Path(os.path.realpath(os.curdir))
    if dest == here or dest in here.parents or dest == Path.home() or os.path.ismount(dest):
        raise DestinationError(
            f"{dest} is no folder to overwrite: it is in use as working, home or mounted folder",
            hint="name a folder inside it",
            path=str(dest),
        )


def inspect(places: Places) -> tuple[State, Header | None]:
    """What is there. The header is given for the two interrupted states. Raises DestinationError."""
    header = read_header(places.journal) if places.journal.exists() else None
    if header is not None and marker_of(places.folder(header.aside)) == header.build:
        return (State.PARTIAL_ASIDE if header.aside else State.PARTIAL), header
    return (State.FREE if _is_free(places.dest) else State.OCCUPIED), None


def _is_free(dest: Path) -> bool:
    if not dest.exists():
        return True
    if not dest.is_dir():
        raise DestinationError(
            f"{dest} exists and is not a folder", hint="choose another DEST", path=str(dest)
        )
    try:
        # a marker alone is a build that was killed before it knew its own word
        return all(child.name == MARKER for child in dest.iterdir())
    except OSError as error:
        raise DestinationError(f"{dest} cannot be read: {error.strerror}", path=str(dest)) from error


def marker_of(folder: Path) -> str | None:
    """The word of the build that is writing ``folder``, None when none is."""
    try:
        return (folder / MARKER).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def begin_folder(folder: Path, word: str) -> None:
    """Make the folder, with the marker in it. Raises DestinationError, or WriteError when the disk is full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text(word + "\n", encoding="utf-8")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WriteError(f"{folder} cannot be written: {error.strerror}", path=str(folder)) from error
        raise DestinationError(
            f"{folder} cannot be written: {error.strerror}",
            hint="choose a DEST that you may write",
            path=str(folder),
        ) from error


def forget_strange_journal(places: Places) -> None:
    """A journal that cannot be read says nothing about DEST; --overwrite begins without it."""
    try:
        read_header(places.journal)
    except DestinationError:
        with suppress(IsADirectoryError, PermissionError):  # no journal at all: what reads it next says so
            places.journal.unlink()


def tidy_swap(places: Places) -> None:
    """Finish the clean-up of an ``--overwrite`` that was killed after DEST had been exchanged."""
    header = read_header(places.journal) if places.journal.exists() else None
    if header is not None and header.aside and marker_of(places.dest) == header.build:
        finish(places, aside=True, swapped=True)


def finish(places: Places, *, aside: bool, swapped: bool = False) -> None:
    """The built folder takes its place, then everything of the build but the pyramid goes."""
    if aside and not swapped:
        _exchange(places.aside, places.dest)
    if aside:
        shutil.rmtree(places.aside, ignore_errors=True)
    (places.dest / MARKER).unlink(missing_ok=True)
    places.journal.unlink(missing_ok=True)


def discard(places: Places, header: Header | None) -> None:
    """Remove an interrupted build: its folder and its journal. DEST itself only when it is that folder."""
    if header is not None:
        _remove(places.folder(header.aside))
    elif places.aside.exists():
        _remove(places.aside)
    places.journal.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Remove a folder that an interrupted build wrote; the marker goes last. Raises DestinationError."""
    try:
        for child in folder.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            elif child.name != MARKER:
                child.unlink()
        shutil.rmtree(folder)
    except OSError as error:
        raise DestinationError(
            f"{folder} cannot be removed: {error.strerror}", hint="remove it yourself", path=str(folder)
        ) from error


def _exchange(new: Path, dest: Path) -> None:
    """``new`` and ``dest`` change places; there is no moment without a DEST where the system can do that."""
    try:
        if not dest.exists():
            new.rename(dest)
        elif not _exchange_at_once(new, dest):
            old = new.with_name(new.name.removesuffix("new") + "old")
            dest.rename(old)
            new.rename(dest)
            old.rename(new)
    except OSError as error:
        raise WriteError(
            f"{dest} cannot be replaced: {error.strerror}; the finished pyramid is at {new}",
            path=str(dest),
        ) from error


def _exchange_at_once(new: Path, dest: Path) -> bool:
    """Linux can exchange two names in one step; False where it cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2
    return bool(call(here, os.fsencode(new), here, os.fsencode(dest), exchange) == 0)
