"""Who may write a DEST: one build at a time.

The lock is the operating system's, on a file beside DEST, so it ends with the process that holds it, however
that ends: a lock file without a living holder is stale and is taken over. Where the system or the file system
has no such locks, the process number in the file decides (on this machine only).
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import TracebackType

from octree.pyramid.errors import DestinationError
from octree.pyramid.store.removal import Folder, remove_opened

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # absence is what the rest of the file asks about

_WORD = "process "
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class DestLock:
    """Held by the thread that builds, from ``__enter__`` to ``__exit__``. Raises DestinationError when taken."""

    def __init__(self, path: Path, dest: Path) -> None:
        self._path, self._dest = path, dest
        self._file: int | None = None

    def __enter__(self) -> DestLock:
        while True:
            try:
                with Folder.of(self._path.parent) as parent:
                    file = parent.open_file(self._path.name, os.O_RDWR | os.O_CREAT)
            except OSError as error:
                if os.path.lexists(self._path):
                    raise self._strange(error.strerror or str(error)) from error
                raise DestinationError(
                    f"{self._path.parent} cannot be written: {error.strerror}",
                    hint="choose a DEST whose parent folder you may write",
                    path=str(self._dest),
                ) from error
            try:
                self._take(file)
                # the holder before may have removed the file between our open and our lock
                if os.path.lexists(self._path) and os.path.samestat(os.fstat(file), os.lstat(self._path)):
                    break
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        os.ftruncate(file, 0)
        os.pwrite(file, me().encode(), 0)
        self._file = file
        return self

    def _take(self, file: int) -> None:
        found, facts = os.pread(file, 200, 0), os.fstat(file)
        if found and not found.startswith(_WORD.encode()):
            raise self._strange("octree did not write it")
        if facts.st_nlink > 1 or (hasattr(os, "geteuid") and facts.st_uid != os.geteuid()):
            raise self._strange("it is not a file of yours alone")
        holder = found.decode(errors="replace").strip()
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise self._taken(holder) from error
        if _lives(holder):
            raise self._taken(holder)

    def _strange(self, why: str) -> DestinationError:
        return DestinationError(
            f"{self._path}, where a build notes who is writing, is no lock of yours: {why}",
            hint="move it away, or choose another DEST",
            path=str(self._dest),
        )

    def _taken(self, holder: str) -> DestinationError:
        return DestinationError(
            f"another build is writing {self._dest} ({holder or 'unknown process'})",
            hint="wait until it has ended, or choose another DEST",
            path=str(self._dest),
        )

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # removed while still held, so that nobody locks a file that is about to vanish unnoticed
            remove_opened(self._path, self._file)
            os.close(self._file)
            self._file = None


def me() -> str:
    """This process, as it is named to others."""
    return f"{_WORD}{os.getpid()} on {socket.gethostname()}"


def _lives(holder: str) -> bool:
    """Is the process named in a lock file alive, as far as this machine can tell?"""
    words = holder.split()
    if len(words) != 4 or words[3] != socket.gethostname() or not words[1].isdigit():
        return False
    if int(words[1]) == os.getpid():
        return False
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def may_live(holder: str) -> bool:
    """Is the process perhaps alive? Of another machine nobody knows."""
    words = holder.split()
    return len(words) != 4 or words[3] != socket.gethostname() or _lives(holder)
