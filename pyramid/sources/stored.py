"""Sources in stores other than the file system: Zarr and OME-Zarr, and TIFF by ranges of bytes."""

from __future__ import annotations

from pathlib import PurePosixPath

from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.sources.protocol import RawArray
from octree.pyramid.sources.zarr_array import open_zarr
from octree.pyramid.store import ngff
from octree.pyramid.store.place import Place
from octree.pyramid.store.zarr_meta import is_array

_FILES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".svs", ".ndpi", ".scn", ".qptiff", ".lsm")
"""Names of files, of which nobody looks for metadata below."""
_HEAD_BYTES = 16
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_file_name(place: Place) -> bool:
    """Is it called as files are that no folder is called like?"""
    return PurePosixPath(place.name.lower()).suffix in _FILES


def open_stored(
    place: Place,
    *,
    engine: str = "auto",
    threads: int | None = None,
    as_stored: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> RawArray:
    """The reader of what lies at ``place``. Raises SourceNotFound, SourceError for what only local files can be."""
    if not is_file_name(place) and (is_array(place) or ngff.group_attributes(place) is not None):
        return open_zarr(place, engine, threads, limits=limits)
    file = None
    if is_file_name(place):
        from octree.pyramid.sources.tiff.far import FarFile

        file = FarFile(place)
    head = place.read(0, _HEAD_BYTES) if file is None else file.read_blocks(0, _HEAD_BYTES)
    if head is None:
        raise SourceNotFound(
            f"there is nothing at {place}: neither a file nor the metadata of a Zarr array or OME-Zarr image",
            hint="check its spelling; a bucket that may not be read can look empty, too",
            path=str(place),
        )
    if head[:4] in _TIFF:
        from octree.pyramid.sources.tiff.far import FarFile
        from octree.pyramid.sources.tiff.pages import open_tiff

        return open_tiff(file or FarFile(place), as_stored=as_stored, limits=limits)
    raise SourceError(
        f"{place} is neither Zarr, OME-Zarr nor TIFF; other files are read from this machine only",
        hint="copy it here first",
        path=str(place),
    )
