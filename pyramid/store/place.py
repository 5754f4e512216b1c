"""Where things lie: a name in a key-value store. Folders of this machine are the one store so far.

Whatever reads or writes metadata and arrays asks a ``Place``; what is true of local folders only (links that lead out,
renaming into place) is known here.
"""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from octree.pyramid.errors import SourceError
from octree.pyramid.reach import Reach, reach_of
from octree.pyramid.store.removal import remove_units, replacing

if TYPE_CHECKING:
    from octree.pyramid.store.zarr_meta import ArrayMeta

_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class Stamp(NamedTuple):
    """What changes with a value: its length in bytes, and its time of change or whatever the store has for that."""

    size: int
    changed: int | str


class End(NamedTuple):
    """A value's length in bytes, and its last 4 (or as many as were asked for, or all, of fewer): of a shard the checksum of
    its index, of a chunk that of its bytes, where it has one."""

    size: int
    last: bytes


class Staging(Protocol):
    """Where arrays of a place far away are encoded and decoded: values are kept here until they are sent. ``keys`` below the place."""

    @property
    def kvstore(self) -> Any: ...

    def send(self, written: Any, keys: Sequence[str]) -> Any:
        """Once ``written``, a future or None, is done: send the values there are at ``keys``, and forget them; a future."""
        ...

    def fetch(self, keys: Sequence[str]) -> None:
        """Have the values here, as far as there are any."""
        ...

    def drop(self, keys: Sequence[str]) -> None:
        """They are not needed any more."""
        ...

    def ends(self, keys: Sequence[str]) -> list[End]:
        """How the values ended that were sent; each is told once."""
        ...


class Place(ABC):
    """One name in a key-value store: that of a value, or of a folder, with which names of others begin. ``str()`` is
    what users call it. ``cheap_to_list``: all that lies below may be looked at. Never changes; any thread may use it. Methods raise OSError for what the store refuses."""

    cheap_to_list: ClassVar[bool] = True
    """May all that lies below be looked at? Where there are millions of values far away, nobody waits for that."""

    @abstractmethod
    def child(self, name: str, what: str = "") -> Place:
        """What ``name`` means from here; ``/`` leads down, ``..`` up. Names come from metadata, so this is where they are
        checked. ``what`` names it in errors: "level 0 of image.zarr".

        Raises OutsideError when it leads out of what the user named.
        """

    @abstractmethod
    def read(self, start: int = 0, stop: int | None = None) -> bytes | None:
        """The value's bytes from ``start`` to ``stop``; None when there is no value. Raises OutsideError."""

    @abstractmethod
    def stamp(self) -> Stamp | None:
        """None when there is no value. Raises OutsideError."""

    @abstractmethod
    def names(self) -> list[str] | None:
        """Names directly below, sorted, those of folders with ``/`` at the end; None where a store cannot list."""

    @abstractmethod
    def kind(self) -> Literal["folder", "value", "nothing"]:
        """What is here; a store that cannot list takes everything that is no value for a folder."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Set the value in one step: no reader ever sees half of it."""

    @abstractmethod
    def ends(self, keys: Iterable[str]) -> list[End]:
        """How the values at ``keys`` below end, which are our own and not checked; those there are."""

    @abstractmethod
    def remove(self, keys: Iterable[str]) -> None:
        """Remove the values at ``keys`` below a folder that a build is writing; those there are."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of its name."""

    @property
    @abstractmethod
    def kvstore(self) -> Any:
        """For TensorStore: a specification as JSON, or an open ``KvStore``. Raises ValueError for what it cannot reach."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """The same for the same place, whatever it is called."""

    @property
    def in_flight(self) -> int:
        """How many reads at a time are worth it here, as most of their time is waiting; 0 where the number of threads is."""
        return 0

    def prefetch(self, names: Iterable[str]) -> None:  # noqa: B027 nothing is what most do
        """The metadata at ``names`` below are about to be read: stores far away read them together, others do nothing.
        Raises SourceError for a store that does not answer."""

    def peek(self, keys: Iterable[str], count: int) -> list[End | None]:
        """Size and last ``count`` bytes of the values at ``keys`` below; None of those that are not there."""
        found: list[End | None] = []
        for value in map(self.child, keys):
            stamp = value.stamp()
            data = None if stamp is None else value.read(max(0, stamp.size - count))
            found.append(None if stamp is None or data is None else End(stamp.size, data))
        return found

    def read_parts(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The value's bytes from start to stop of each span; fewer where it ends. Together, where that is faster."""
        return [self.read(start, stop) or b"" for start, stop in spans]

    def reader(self, meta: ArrayMeta, what: str) -> Any:
        """The store's own way of reading an array here (``arrays.Readable``); None where that is TensorStore's. Raises
        ValueError for an array with codecs that it does not know."""
        return None

    def staging(self, make_store: Callable[[], Any]) -> Staging | None:
        """For an array here that is to be written, with a key-value store of TensorStore's in memory; None where TensorStore writes
        here itself."""
        return None

    @property
    def zarr_store(self) -> Any:
        """What the zarr library reads an array here from. Raises SourceError where it cannot."""
        return self.local()

    def local(self) -> Path:
        """Where it lies in the file system. Raises SourceError in other stores."""
        raise SourceError(
            f"{self} is no local folder, and what was asked for needs one", hint="copy it here first"
        )


@dataclass(frozen=True, slots=True)
class LocalPlace(Place):
    """A file or folder of this machine, and how far what it names may lead."""

    path: Path
    reach: Reach

    def __str__(self) -> str:
        return str(self.path)

    def child(self, name: str, what: str = "") -> LocalPlace:
        if "\0" in name:
            raise SourceError(f"{what or self}: {name!r} can be no name of a file", path=str(self))
        self.reach.named(self.path, name, what or f"{self.path}: {name!r}")
        return LocalPlace(self.path / name, self.reach)

    def _is_value(self) -> bool:
        try:
            regular = stat.S_ISREG(os.stat(self.path).st_mode)  # a pipe would keep a reader waiting
        except OSError as error:
            if error.errno in _NOT_THERE:
                return False
            raise
        if regular:
            self.reach.real(self.path, str(self.path))
        return regular

    def read(self, start: int = 0, stop: int | None = None) -> bytes | None:
        if not self._is_value():
            return None
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else stop - start)

    def stamp(self) -> Stamp | None:
        if not self._is_value():
            return None
        facts = self.path.stat()
        return Stamp(facts.st_size, facts.st_mtime_ns)

    def names(self) -> list[str]:
        try:
            with os.scandir(self.path) as entries:
                inside = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [f"{name}/" if folder else name for name, folder in inside]

    def kind(self) -> Literal["folder", "value", "nothing"]:
        return "folder" if self.path.is_dir() else "value" if self.path.exists() else "nothing"

    def write(self, data: bytes) -> None:
        with replacing(self.path) as partial, partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def ends(self, keys: Iterable[str]) -> list[End]:
        found = []
        for key in keys:
            try:
                file = os.open(f"{self.path}/{key}", os.O_RDONLY | _FLAGS)
            except FileNotFoundError:
                continue  # nothing but fill values: not stored
            try:
                found.append(end_of(file))
            finally:
                os.close(file)
        return found

    def remove(self, keys: Iterable[str]) -> None:
        remove_units(self.path, keys)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def kvstore(self) -> dict[str, Any]:
        """Raises ValueError for a path that TensorStore takes for another one."""
        return {"driver": "file", "path": f"{tensorstore_path(self.path)}/"}

    @property
    def identity(self) -> str:
        return os.path.realpath(self.path)

    def local(self) -> Path:
        return self.path


def tensorstore_path(path: Path) -> str:
    """The path as TensorStore takes it. Raises ValueError where that would be no path, or another one: to it a backslash
    separates folders on every system, so that ``a\\b`` would be read and written at ``a/b``."""
    # it takes no .. either; what that means when there are links on the way, only the system knows
    text = os.path.realpath(path) if ".." in path.parts else str(path)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("its name is not UTF-8 text, as TensorStore wants it") from error
    if os.sep != "\\" and "\\" in text:
        raise ValueError("there is a backslash in its name, which TensorStore takes for a separator")
    return text


def end_of(file: int) -> End:
    """How the open file ends. Raises OSError."""
    size = os.fstat(file).st_size
    os.lseek(file, max(0, size - 4), os.SEEK_SET)
    return End(size, os.read(file, 4))


def reach_at(place: Place) -> Reach:
    """How far files may lead that are looked at without the place. Raises SourceError in stores that have none."""
    return place.reach if isinstance(place, LocalPlace) else reach_of(place.local())


def values_below(place: Place) -> Iterator[Place]:
    """Every value below a folder, by name; none in a store that cannot list. Links to folders are not followed."""
    for name in place.names() or ():
        below = place.child(name.rstrip("/"))
        if name.endswith("/"):
            yield from values_below(below)
        else:
            yield below
