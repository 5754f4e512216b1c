"""How far a source may reach: what a file or folder names must lie below it, after symbolic links are followed.

Files name other files: OME-TIFF its companions, HDF5 external links and data, OME-Zarr its levels, and any folder may
hold links. Whoever made the file chose these names, not who opens it; without a fence, an image from a stranger copies
what its reader may read into the pyramid.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from octree.pyramid.errors import OutsideError, SourceError, SourceNotFound
from octree.pyramid.options import FLAG, Option, Table

OUTSIDE = Table(
    "reach",
    (
        Option("allow_outside", FLAG, "What SOURCE names (companion files, links) may lie outside of its folder. Only for "
               "sources you trust.", group="How it runs", live=True),
    ),
)  # fmt: skip
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # of two letters or more: c:/ is a drive


def is_below(real: str, root: str) -> bool:
    """Does the path ``real`` lie at or below the folder ``root``? Both absolute and without links. Pure."""
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)


@dataclass(frozen=True, slots=True)
class Reach:
    """The real folder below which everything must lie that a source names; ``anywhere`` lifts that."""

    root: str
    anywhere: bool = False

    def allows(self, path: str | os.PathLike[str]) -> bool:
        """May what is at ``path`` be read, wherever links lead?"""
        return self.anywhere or is_below(os.path.realpath(path), self.root)

    def real(self, path: str | os.PathLike[str], what: str) -> Path:
        """The path without links, to be opened. ``what`` says in errors who names it: "the level 0 of image.zarr".

        Raises OutsideError when it leads out of the folder. What is not there is no error here.
        """
        text = os.fspath(path)
        real = os.path.realpath(text)
        if not (self.anywhere or is_below(real, self.root)):
            raise OutsideError(
                f"{what} leads to {real}, which is outside of {self.root}",
                hint="copy it into that folder, or give --allow-outside if you trust whoever made the source",
                path=text,
                leads_to=real,
                folder=self.root,
            )
        return Path(real)

    def named(self, folder: str | os.PathLike[str], name: str, what: str) -> Path:
        """As ``real``, of a name that was read from a file, seen from ``folder``. A URL is refused always: it is read
        as no path here, and what it names is not local."""
        if _URL.match(name):
            raise OutsideError(
                f"{what} leads to {name}, a URL; octree reads local files and folders",
                hint="copy it below the source's folder, and name it from there",
                path=name,
                leads_to=name,
                folder=self.root,
            )
        return self.real(os.path.join(folder, name), what)


_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def check_regular(path: str | os.PathLike[str], mode: int) -> None:
    """Raises SourceError for what is no regular file (``mode`` as ``stat`` gives it): a pipe may never have anything to
    read, and a device never an end."""
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in _KINDS if test(mode)), "no file")
        raise SourceError(
            f"{path} is {kind}; octree reads files and folders",
            hint="write what it gives into a file, and name that",
            path=os.fspath(path),
        )


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """The regular file ``path``, opened without waiting for whoever might write into it. Raises SourceError, and
    SourceNotFound."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise SourceNotFound(
            f"there is no file {path}", hint="check the path and its spelling", path=os.fspath(path)
        ) from error
    except OSError as error:  # a socket cannot be opened at all
        check_regular(path, os.stat(path).st_mode)
        raise SourceError(f"{path} cannot be opened: {error.strerror}", path=os.fspath(path)) from error
    try:
        check_regular(path, os.fstat(fd).st_mode)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


MOST_SMALL_BYTES = 16 * 2**20
"""Settings and camera paths are written by hand or by small programs."""


def read_small(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file of settings or the like, or of a pipe that the shell hands over (``/dev/fd/63``). Raises
    OSError, at once for other pipes and devices: they may never have anything to read, or no end."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(fd, "rb") as file:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) and os.fspath(path).startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/")):
            os.set_blocking(fd, True)
        elif not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = file.read(MOST_SMALL_BYTES + 1)
    if len(data) > MOST_SMALL_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MOST_SMALL_BYTES} bytes")
    return data


def reach_of(source: str | os.PathLike[str], *, anywhere: bool = False) -> Reach:
    """The reach of what a user named: a folder itself, or the folder of a file.

    Where the name is a symbolic link, only the real folder counts, not the one with the link: readers look for
    companions beside the real file, and a link in /tmp or HOME must not open all of that.
    """
    real = os.path.realpath(source)
    return Reach(real if os.path.isdir(real) else os.path.dirname(real), anywhere)
