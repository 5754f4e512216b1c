"""Folders that ``check`` writes to and removes from: always by one plain name in a folder that is held open, never
through a link. Whatever lies in them may have come from elsewhere, with a branch or a downloaded artifact."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

_BY_HANDLE = {os.open, os.mkdir, os.rename, os.unlink, os.stat} <= os.supports_dir_fd
"""Where the system opens names relative to a folder that is open. Elsewhere (Windows) each name is looked at first."""
_JUNCTION = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT, a link between folders on Windows
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Folder:
    """A folder held open; owned by whoever opened it, closed as a context manager.

    Every method takes names of what lies directly in it, and raises OSError: ELOOP for a link where a folder or a
    file is needed."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY) if _BY_HANDLE else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            os.close(self._handle)

    @contextmanager
    def folder(self, name: str, *, create: bool = False) -> Iterator[Folder]:
        """The folder ``name`` in this one."""
        if create:
            with suppress(FileExistsError):
                self._do(os.mkdir, name)
        self._refuse_link(name)
        made = Folder.__new__(Folder)
        made.path = self.path / name
        made._handle = None
        if self._handle is not None:
            flags = os.O_RDONLY | os.O_DIRECTORY | _FLAGS
            made._handle = os.open(name, flags, dir_fd=self._handle)
        with made:
            yield made

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path if self._handle is None else self._handle))

    def read(self, name: str, limit_bytes: int) -> bytes:
        """The bytes of a regular file of at most ``limit_bytes``."""
        self._refuse_link(name)
        return _all_of(self._do(os.open, name, os.O_RDONLY | _FLAGS), limit_bytes)

    def write(self, name: str, data: bytes) -> None:
        """Write ``data`` beside ``name``, then put it there: whatever had the name before, a link too, is gone."""
        partial = f".{secrets.token_hex(8)}.part"
        handle = self._do(os.open, partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            self.move(partial, self, name)
        except BaseException:
            with suppress(OSError):
                self._do(os.unlink, partial)
            raise

    def move(self, name: str, into: Folder, new_name: str) -> None:
        """Rename, as os.replace: a folder takes the place of nothing but an empty one."""
        if self._handle is None or into._handle is None:
            os.replace(self.path / name, into.path / new_name)
        else:
            os.replace(name, new_name, src_dir_fd=self._handle, dst_dir_fd=into._handle)

    def remove(self, name: str) -> None:
        """Remove the folder ``name`` and all in it, if it is there. Links in it go, what they point to stays."""
        try:
            self._refuse_link(name)
        except FileNotFoundError:
            return
        if self._handle is None:
            shutil.rmtree(self.path / name)
        else:
            shutil.rmtree(name, dir_fd=self._handle)

    def _do(self, function: Any, name: str, *arguments: Any) -> Any:
        if self._handle is None:
            return function(self.path / name, *arguments)
        return function(name, *arguments, dir_fd=self._handle)

    def _refuse_link(self, name: str) -> None:
        """What is not a link now may be one when it is opened: O_NOFOLLOW stands behind this. This is for words, and
        for systems without handles."""
        if os.path.basename(name) != name or name in ("", os.curdir, os.pardir):
            raise ValueError(f"{name!r} is not the name of one thing in a folder")
        facts = self._do(os.lstat if self._handle is None else _lstat, name)
        if stat.S_ISLNK(facts.st_mode) or getattr(facts, "st_reparse_tag", 0) == _JUNCTION:
            raise OSError(errno.ELOOP, f"{name!r} is a link, and links are not followed here")


def _lstat(name: str, *, dir_fd: int) -> os.stat_result:
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)


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
