"""What a user names, as a Place: a path of this machine or a URL, of a folder or an archive."""

from __future__ import annotations

import os
from pathlib import Path

from octree.pyramid.reach import Reach, reach_of
from octree.pyramid.store.place import LocalPlace, Place
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions

Where = str | os.PathLike[str] | Place
"""What a user names, or a place already."""


def named_url(where: object) -> str | None:
    """The URL that ``where`` is; None for a path, and for a file or folder that is there under such a name."""
    return where if isinstance(where, str) and "://" in where and not os.path.exists(where) else None


def local_name(where: str) -> str:
    """``where``, of a ``file://`` URL its path. Raises UsageError for a file of another machine."""
    if named_url(where) is None:
        return where
    from octree.pyramid.store.remote.url import local_path

    path = local_path(where)
    return where if path is None else path


def place_of(
    where: Where,
    *,
    anywhere: bool = False,
    reach: Reach | None = None,
    remote: RemoteOptions = DEFAULT_REMOTE,
) -> Place:
    """The place of a local path: of what it names, links and ``..`` too, only what lies below it, or ``anywhere``, or
    within ``reach``. That of a URL, reached as ``remote`` says. Of an archive its root, whether it is here or there; ``::NAME``
    after it, or after a URL, is what lies in it. A Place is given back as it is.

    Raises UsageError for a URL of a store that octree does not know, or that holds credentials; SourceNotFound, SourceError for
    an archive that is not there, or is none.
    """
    if isinstance(where, Place):
        return where
    where = local_name(where) if isinstance(where, str) else where
    url = named_url(where)
    if url is not None:
        from octree.pyramid.store.remote.place import remote_place

        outer, _, inner = url.partition("::")
        found = remote_place(outer, remote, anywhere=anywhere)
        place: Place = found
        if is_archive_name(found.name):
            from octree.pyramid.store.zipped.place import zip_at

            place = zip_at(found)
        return place.child(inner.strip("/"), f"{place}: the path inside") if inner else place
    outer, _, inner = os.fspath(where).partition("::")
    if is_archive(outer) and not (inner and os.path.exists(where)):
        from octree.pyramid.store.zipped.place import local_zip

        place = local_zip(outer)
        return place.child(inner.strip("/"), f"{place}: the path inside") if inner else place
    return LocalPlace(Path(where), reach or reach_of(where, anywhere=anywhere))


def is_archive_name(name: str) -> bool:
    """Is a file called so taken for an archive of OME-Zarr?"""
    return name.lower().endswith((".ozx", ".zip"))


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Is it a file of this machine that is called like an archive?"""
    return is_archive_name(os.fspath(path)) and not os.path.isdir(path)
