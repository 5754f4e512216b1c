"""The only file that removes anything from disk, or puts one thing in another's place.

Whoever may write beside our files may put a link where we expect a folder. So a folder is opened first, without
following a link, and everything in it is done relative to that handle; a folder is removed only when it carries a
marker that names the DEST it belongs to; new files get random names and are never opened where something lies.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from octree.pyramid.errors import DestinationError

MARKER = ".octree-partial"
"""In a folder that a build writes, until it is finished."""
REPLACED = ".octree-replaced"
"""In a pyramid that a finished build takes the place of; it is removed then."""

_HANDLES = (
    hasattr(os, "O_DIRECTORY") and {os.open, os.unlink, os.rmdir, os.mkdir, os.rename} <= os.supports_dir_fd
)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_HEAD = '{"octree_marker": 1, "dest": '
_MARKER_BYTES = 16_384  # the longest name there is, escaped, and some more


class Folder:
    """A folder held open: what is done by a name is done in that very folder, wherever its path leads by now, and
    never through a link. Owner: whoever opened it. Without handles for folders (Windows) its path stands in."""

    def __init__(self, path: Path, handle: int | None) -> None:
        self.path, self._handle = path, handle

    @classmethod
    def of(cls, path: Path, *, listed: bool = False, create: bool = False) -> Folder:
        """``path``, links followed: for folders that the user named. ``listed``: its names are asked for. ``create``: it is
        made where nothing is."""
        if create:
            path.mkdir(parents=True, exist_ok=True)
        if not _HANDLES:
            return cls(path, None)
        flags = (
            os.O_RDONLY if listed else getattr(os, "O_PATH", os.O_RDONLY)
        )  # a folder may be closed to reading
        return cls(path, os.open(path, flags | os.O_DIRECTORY | os.O_CLOEXEC))

    def folder(self, name: str, *, create: bool = False) -> Folder:
        """The folder ``name`` in this one; ``create``: it is made where nothing is. Raises OSError for a link or a file."""
        path = self.path / plain(name)
        if create:
            with suppress(FileExistsError):
                self.make_folder(name)
        self.refuse_link(name)
        if not stat.S_ISDIR(self.stat(name).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        if self._handle is None:
            return Folder(path, None)
        return Folder(path, os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK, dir_fd=self._handle))

    def _at(self, name: str) -> str:
        return name if self._handle is not None else os.path.join(self.path, name)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path if self._handle is None else self._handle))

    def stat(self, name: str) -> os.stat_result:
        """Of ``name`` itself, also when it is a link."""
        return os.stat(self._at(name), dir_fd=self._handle, follow_symlinks=False)

    def refuse_link(self, name: str) -> None:
        """What is not a link now may be one when it is opened: O_NOFOLLOW stands behind this. This is for words."""
        if stat.S_ISLNK(self.stat(plain(name)).st_mode):
            raise OSError(
                errno.ELOOP, f"{name!r} is a link, and links are not followed here", str(self.path / name)
            )

    def has(self, name: str) -> bool:
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def open_file(self, name: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor of the regular file ``name``. Raises OSError for anything else that has the name."""
        if not _NO_LINK and self.has(name) and stat.S_ISLNK(self.stat(name).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self.path / name))
        # a pipe without a writer would keep us waiting
        flags |= _NO_LINK | getattr(os, "O_NONBLOCK", 0)
        file = os.open(self._at(name), flags, mode, dir_fd=self._handle)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(errno.EINVAL, "not a regular file", str(self.path / name))
        return file

    def read(self, name: str, most_bytes: int) -> bytes:
        """The beginning of the regular file ``name``."""
        file = self.open_file(name, os.O_RDONLY)
        try:
            return os.read(file, min(most_bytes, os.fstat(file).st_size))
        finally:
            os.close(file)

    def read_whole(self, name: str, limit_bytes: int) -> bytes:
        """The bytes of a regular file of at most ``limit_bytes``. Raises OSError."""
        self.refuse_link(name)
        return all_of(self.open_file(name, os.O_RDONLY), limit_bytes)

    def create(self, name: str, text: str) -> None:
        """A new file; on disk when this returns. Raises FileExistsError for whatever is there."""
        file = self.open_file(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            data = text.encode("utf-8", "surrogateescape")
            if os.write(file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / name))
            os.fsync(file)
        finally:
            os.close(file)

    def make_folder(self, name: str) -> None:
        os.mkdir(self._at(name), dir_fd=self._handle)

    def rename(self, name: str, new: str, into: Folder | None = None) -> None:
        """``name`` becomes ``new``, here or in another folder; a folder that holds something is in the way."""
        there = into or self
        plain(name), plain(new)
        os.rename(self._at(name), there._at(new), src_dir_fd=self._handle, dst_dir_fd=there._handle)

    def move(self, name: str, into: Folder, new: str) -> None:
        """``name`` becomes ``new`` in another folder: a folder takes the place of nothing but an empty one."""
        self.rename(name, new, into)

    def write(self, name: str, data: bytes) -> None:
        """Write a file of a random name, then let it take the name: whatever had it, a link too, is gone."""
        plain(name)
        partial = f".{os.urandom(8).hex()}.octree-part"
        handle = self.open_file(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(self._at(partial), self._at(name), src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except BaseException:
            with suppress(OSError):
                self._unlink(partial)
            raise

    def remove_members(self, name: str, members: Members) -> None:
        """Remove the folder ``name`` of plain files that is ours or empty, if it is there. Raises DestinationError
        for any other folder, and OSError for a link: that stays as it is."""
        plain(name)
        with suppress(FileNotFoundError):
            with self.folder(name) as folder:
                for member in members.checked(folder):
                    folder._unlink(member)
            self._rmdir(name)

    def _unlink(self, name: str) -> None:
        os.unlink(self._at(name), dir_fd=self._handle)

    def _rmdir(self, name: str) -> None:
        os.rmdir(self._at(name), dir_fd=self._handle)

    def _device(self) -> int:
        return os.stat(self.path if self._handle is None else self._handle).st_dev

    def _empty(self, last: str) -> None:
        """Remove everything in this folder, the marker ``last``; what is mounted below it is not entered."""
        for name in self.names():
            if name == last:
                continue
            if not stat.S_ISDIR(self.stat(name).st_mode):
                self._unlink(name)
                continue
            with self.folder(name) as child:
                if child._device() != self._device():
                    raise OSError(errno.EBUSY, "another file system is mounted there", str(child.path))
                child._empty(last="")
            self._rmdir(name)
        if last and self.has(last):
            self._unlink(last)

    def exchange(self, name: str, other: str) -> bool:
        """Two names change places in one step; False where the system cannot do that."""
        try:
            call = ctypes.CDLL(None, use_errno=True).renameat2
        except (AttributeError, OSError, TypeError):
            return False
        if self._handle is None:
            return False
        here, exchange = self._handle, 2
        return bool(call(here, os.fsencode(name), here, os.fsencode(other), exchange) == 0)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def plain(name: str) -> str:
    """``name``, when it is that of one thing in a folder. Raises ValueError."""
    if os.path.basename(name) != name or name in ("", os.curdir, os.pardir):
        raise ValueError(f"{name!r} is not the name of one thing in a folder")
    return name


def all_of(handle: int, limit_bytes: int) -> bytes:
    """What the regular file of this handle holds, at most ``limit_bytes``; closes it. Raises OSError."""
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


# markers


def dest_name(folder: str) -> str:
    """The name of the DEST that a folder a build writes belongs to: its own, or ``.DEST.octree-new``."""
    return folder[1:].removesuffix(".octree-new") if folder.endswith(".octree-new") else folder


def mark(folder: Folder, marker: str, dest: str, build: str) -> None:
    """Write a marker; one of ours that is there gives way. Raises OSError for anything else of its name."""
    if folder.has(marker) and (word_in(folder, marker, dest) is not None or _is_torn(folder, marker)):
        folder._unlink(marker)
    folder.create(marker, f'{_HEAD}{json.dumps(dest)}, "build": {json.dumps(build)}}}\n')


def join_mark(folder: Folder, marker: str, dest: str, build: str) -> None:
    """Write a marker where there is none yet. Raises FileExistsError: somebody else was faster."""
    folder.create(marker, f'{_HEAD}{json.dumps(dest)}, "build": {json.dumps(build)}}}\n')


def unmark(folder: Folder, marker: str, dest: str) -> None:
    """Remove a marker of ``dest``, if it is there."""
    if word_in(folder, marker, dest) is not None:
        folder._unlink(marker)


def word_in(folder: Folder, marker: str, dest: str) -> str | None:
    """The build that marked ``folder`` for ``dest``; None without a marker, and for anything else of its name."""
    try:
        document = json.loads(folder.read(marker, _MARKER_BYTES))
        if document["octree_marker"] == 1 and document["dest"] == dest:
            return str(document["build"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return None


def _is_torn(folder: Folder, marker: str) -> bool:
    """A marker whose writing was cut short: a regular file, empty or the beginning of one."""
    try:
        text = folder.read(marker, _MARKER_BYTES)
    except OSError:
        return False
    head = _HEAD.encode()
    return not text.endswith(b"\n") and (head.startswith(text) or text.startswith(head))


def is_fresh(folder: Folder, marker: str, dest: str) -> bool:
    """Nothing in it, or nothing but a marker of ours."""
    names = folder.names()
    ours = word_in(folder, marker, dest) is not None or _is_torn(folder, marker)
    return not names or (names == [marker] and ours)


# removal


def remove_folder(path: Path, dest: str, *markers: str, build: str | None = None, keep: bool = False) -> bool:
    """Remove the folder ``path`` if it carries one of the ``markers`` of ``dest`` (of that ``build``, if given), or
    is empty; the marker goes last. ``keep``: empty it only. False when nothing is there.

    Raises DestinationError for anything else, which stays as it is, and for what the system refuses.
    """
    try:
        with Folder.of(path.parent) as parent:
            if not parent.has(path.name):
                return False
            with parent.folder(path.name) as folder:
                marker = _marker_of(folder, dest, markers, build)
                folder._empty(last=marker)
            if not keep:
                parent._rmdir(path.name)
            return True
    except (OSError, RecursionError) as error:
        raise DestinationError(
            f"{path} cannot be removed: {getattr(error, 'strerror', None) or error}",
            hint="it is no folder that octree made, or is not yours: move it away, or remove it yourself",
            path=str(path),
        ) from error


def _marker_of(folder: Folder, dest: str, markers: tuple[str, ...], build: str | None) -> str:
    for marker in markers:
        word = word_in(folder, marker, dest)
        if word is not None and build in (None, word):
            return marker
        if is_fresh(folder, marker, dest):
            return marker
    raise DestinationError(
        f"{folder.path} is not removed: it carries no mark of a build of {dest}",
        hint="move it away, or remove it yourself, if nobody needs it",
        path=str(folder.path),
    )


def remove_units(folder: Path, keys: Iterable[str]) -> None:
    """Remove files of a folder that a build is writing, by names with ``/`` below it; those that are not there are
    passed over. Raises OSError for a folder without a marker, and for links on the way."""
    with Folder.of(folder.parent) as parent, parent.folder(folder.name) as root:
        if word_in(root, MARKER, dest_name(folder.name)) is None:
            raise OSError(errno.EPERM, "it carries no mark of a build", str(folder))
        for key in keys:
            with suppress(FileNotFoundError):
                _remove_below(root, key.split("/"))


def _remove_below(folder: Folder, names: list[str]) -> None:
    if len(names) == 1:
        folder._unlink(names[0])
        return
    with folder.folder(names[0]) as child:
        _remove_below(child, names[1:])


@dataclass(frozen=True, slots=True)
class Members:
    """Which folders of plain files are ours: every name ``is_ours``, and ``proves`` says so of the folder."""

    is_ours: Callable[[str], bool]
    proves: Callable[[Folder], bool]

    def checked(self, folder: Folder) -> list[str]:
        """The names in it. Raises DestinationError when one is a stranger's."""
        names = folder.names()
        strange = [n for n in names if not (self.is_ours(n) and stat.S_ISREG(folder.stat(n).st_mode))]
        if strange or (names and not self.proves(folder)):
            what = f"it holds {strange[0]!r}" if strange else "nothing in it says that octree made it"
            raise DestinationError(
                f"{folder.path} is not removed: {what}", hint="move it away", path=str(folder.path)
            )
        return names


def remove_file(path: Path, is_ours: Callable[[bytes], bool]) -> bool:
    """Remove a regular file whose first 64 KiB ``is_ours``. False when there is none, True when it is gone.

    Raises OSError for what is not ours, a link, a folder.
    """
    try:
        with Folder.of(path.parent) as parent:
            if not is_ours(parent.read(path.name, 65_536)):
                raise OSError(errno.EPERM, "octree did not write it", str(path))
            parent._unlink(path.name)
            return True
    except FileNotFoundError:
        return False


def remove_opened(path: Path, file: int) -> None:
    """Remove the name ``path`` of the open ``file``, unless something else has that name by now."""
    with suppress(FileNotFoundError), Folder.of(path.parent) as parent:
        if os.path.samestat(parent.stat(path.name), os.fstat(file)):
            parent._unlink(path.name)


# new files


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, empty file of a random name beside ``path`` to write to; at the end it is ``path``, or is removed if
    the block raises. What is no file, as ``/dev/stdout``, gets its bytes instead. Raises OSError."""
    if _is_channel(path):
        handle, name = tempfile.mkstemp(suffix=path.suffix, prefix=".octree-")
        os.close(handle)
        try:
            yield Path(name)
            with open(name, "rb") as written, open(path, "wb", buffering=0) as channel:
                shutil.copyfileobj(written, channel)
        finally:
            os.unlink(name)
        return
    partial = _new_beside(path)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise


def give_name(partial: Path, path: Path, *, replace: bool) -> None:
    """The finished file ``partial`` takes the name ``path``, with ``replace`` from whatever file has it. Raises FileExistsError
    when something has it, and OSError."""
    if replace:
        os.replace(partial, path)
        return
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: there is a moment in which another may take the name
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.rename(partial, path)


def begin_file(path: Path) -> IO[str]:
    """``path`` begun anew, to write text to while others may read it. Raises OSError."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_channel(path):
        return open(path, "w", encoding="utf-8")
    partial = _new_beside(path)
    try:
        stream = open(partial, "w", encoding="utf-8")  # noqa: SIM115 closed by the caller
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise
    return stream


def append_to(path: Path) -> IO[str]:
    """``path`` open for more text at its end. Raises OSError, also for a link."""
    if _is_channel(path):
        return open(path, "a", encoding="utf-8")
    with Folder.of(path.parent) as parent:
        file = parent.open_file(path.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return os.fdopen(file, "a", encoding="utf-8")


def probe(path: Path) -> None:
    """Raises OSError when no file can be made at ``path``. Leaves nothing."""
    if not _is_channel(path):
        os.unlink(_new_beside(path))


def _new_beside(path: Path) -> Path:
    """An empty file that was not there before, short however long the name of ``path``, with the same ending."""
    ending = path.suffix if len(path.suffix) <= 16 else ""
    partial = path.with_name(f".{os.urandom(8).hex()}.octree-part{ending}")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666))
    return partial


def _is_channel(path: Path) -> bool:
    """A device, a pipe, or a name of an open file: to be written to, never replaced."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISDIR(mode):
        return False
    within = os.path.realpath(path.parent)
    return not stat.S_ISREG(mode) or within in ("/dev", "/proc") or within.startswith(("/dev/fd", "/proc/"))
