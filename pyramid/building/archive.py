"""DEST that is an archive (``.ozx``): the pyramid is built in a folder beside it, then packed.

.DEST.octree-unpacked                 the pyramid, until it is packed; what an earlier run left there gives way
.DEST.octree-unpacked/.octree-packed  the archive that is being written
DEST                                  appears whole, or not at all
.DEST.octree-lock                     who is writing
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octree.pyramid.building.destination import Places, discard, inspect, places_of
from octree.pyramid.building.lock import DestLock
from octree.pyramid.errors import DestinationError, OctreeError, SourceError, UsageError, WriteError
from octree.pyramid.options import PATH
from octree.pyramid.store import ngff
from octree.pyramid.store.named import local_name, named_url
from octree.pyramid.store.ngff_write import archive_comment
from octree.pyramid.store.removal import MARKER, Folder, give_name, mark, remove_folder
from octree.pyramid.store.zipped.packing import PACKED, pack
from octree.pyramid.store.zipped.place import local_zip

if TYPE_CHECKING:
    from octree.pyramid.building.builder import BuildResult

_SUFFIX = ".ozx"
_WORD = "packed"
"""Of the build, in the marker of a folder whose pyramid is finished."""
NOT_RESUMED = "an archive is built in one go"


def names_archive(dest: object) -> bool:
    """Is DEST called like an archive?"""
    return isinstance(dest, str | os.PathLike) and os.fspath(dest).lower().endswith(_SUFFIX)


def _named(dest: str | os.PathLike[str]) -> Any:
    """The path of DEST. Raises UsageError for a URL that is none of this machine."""
    text = os.fspath(dest)
    if (url := named_url(text)) is not None and local_name(url) == url:
        raise UsageError(
            f"DEST {text} is an archive in a store: one is packed on this machine only",
            hint="write it here and upload it, or leave out .ozx: a folder can be written there",
        )
    return PATH.read("DEST", local_name(text))


def check_archive(source_path: str, dest: str | os.PathLike[str], running: dict[str, Any]) -> Path:
    """The folder in which the pyramid of an archive is built. Changes nothing. Raises UsageError, DestinationError."""
    if running["resume"]:
        raise UsageError(
            f"--resume does not go with {os.fspath(dest)}: {NOT_RESUMED}",
            hint="build a folder, which can be resumed; or leave out --resume",
        )
    named = _named(dest)
    path = Path(os.path.realpath(named))
    if os.path.islink(named):
        raise DestinationError(
            f"{named} is a link, which is not written through", hint="name the file itself", path=str(path)
        )
    if os.path.exists(source_path) and os.path.realpath(source_path) == str(path):
        raise DestinationError(
            f"SOURCE and DEST {path} are the same", hint="write the pyramid somewhere else", path=str(path)
        )
    _check_replaceable(path, overwrite=running["overwrite"])
    return path.with_name(f".{path.name}.octree-unpacked")


def _check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Raises DestinationError unless nothing is there, or an archive of OME-Zarr that may give way."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise DestinationError(
            f"{path} exists", hint="choose another DEST, or give --overwrite", path=str(path)
        )
    try:
        is_ours = path.is_file() and not path.is_symlink() and ngff.is_pyramid(local_zip(str(path)))
    except SourceError:
        is_ours = False
    if not is_ours:
        raise DestinationError(
            f"{path} is no archive of a pyramid, and is not overwritten",
            hint="choose another DEST, or move away what is there",
            path=str(path),
        )


def build_archive(
    source_path: str,
    dest: str | os.PathLike[str],
    running: dict[str, Any],
    build_folder: Callable[[Path], BuildResult],
) -> BuildResult:
    """Build in a folder beside DEST by ``build_folder``, pack it, and remove it. Raises as ``build``."""
    unpacked = check_archive(source_path, dest, running)
    path = Path(os.path.realpath(_named(dest)))
    places = places_of(unpacked)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DestinationError(
            f"the folder {path.parent} cannot be made: {error.strerror}",
            hint="choose a DEST that you may write",
            path=str(path),
        ) from error
    with DestLock(path.with_name(f".{path.name}.octree-lock"), path):
        try:
            done = build_folder(unpacked)
        except BaseException as error:
            _give_up(places)
            if isinstance(error, OctreeError) and "--resume" in (error.hint or ""):
                fill = (
                    "; --on-error fill makes holes of what is lost"
                    if "--on-error" in (error.hint or "")
                    else ""
                )
                error.hint = f"{NOT_RESUMED}: give the same command again{fill}"
            raise
        try:
            with Folder.of(unpacked.parent) as parent, parent.folder(unpacked.name) as folder:
                mark(folder, MARKER, places.name, _WORD)  # whoever finds it packed in part may remove it
                with os.fdopen(folder.open_file(PACKED, os.O_RDWR | os.O_CREAT | os.O_EXCL), "r+b") as stream:
                    files = pack(unpacked, stream, archive_comment(done.spec.ome_version))
                    size = stream.tell()
                    stream.flush()
                    os.fsync(stream.fileno())
            if running["overwrite"]:
                # what has come to lie there meanwhile is looked at, too
                _check_replaceable(path, overwrite=True)
            give_name(unpacked / PACKED, path, replace=running["overwrite"])
        except FileExistsError as error:
            raise DestinationError(
                f"{path} has been put there meanwhile; the pyramid is at {unpacked}",
                hint="move away what is there, and build again",
                path=str(path),
            ) from error
        except OSError as error:
            if isinstance(error, OctreeError):
                raise
            raise WriteError(
                f"{path} cannot be written: {error.strerror or error}; the pyramid is at {unpacked}",
                hint="an archive takes as much room again while it is packed",
                path=str(path),
            ) from error
        remove_folder(unpacked, places.name, MARKER, build=_WORD)
    return replace(done, dest=str(dest), bytes_written=size, files=files)


def _give_up(places: Places) -> None:
    """Remove what cannot be resumed, as far as it can be."""
    with suppress(OctreeError, OSError):
        discard(places, inspect(places)[1])
