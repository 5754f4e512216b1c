"""How far a source may reach: what a file or folder names must lie below it, after symbolic links are followed.

Files name other files: OME-TIFF its companions, HDF5 external links and data, OME-Zarr its levels, and any folder may
hold links. Whoever made the file chose these names, not who opens it; without a fence, an image from a stranger copies
what its reader may read into the pyramid.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from octree.pyramid.errors import OutsideError

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
                hint="copy it into that folder",
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


def reach_of(source: str | os.PathLike[str], *, anywhere: bool = False) -> Reach:
    """The reach of what a user named: a folder itself, or the folder of a file.

    Where the name is a symbolic link, only the real folder counts, not the one with the link: readers look for
    companions beside the real file, and a link in /tmp or HOME must not open all of that.
    """
    real = os.path.realpath(source)
    return Reach(real if os.path.isdir(real) else os.path.dirname(real), anywhere)
