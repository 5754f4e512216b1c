"""A name in an archive, as a ``Place``."""

from __future__ import annotations

import errno
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from octree.pyramid.errors import OutsideError, SourceError
from octree.pyramid.store.place import End, Place, Stamp
from octree.pyramid.store.zipped.archive import Archive, LocalArchive, local_archive

if TYPE_CHECKING:
    from octree.pyramid.store.remote.client import Bytes
    from octree.pyramid.store.remote.place import RemotePlace
    from octree.pyramid.store.zarr_meta import ArrayMeta


@dataclass(frozen=True, slots=True)
class ZipPlace(Place):
    """``key`` in an archive, "" for its root. Nothing outside of the archive is ever read. Methods raise SourceError for
    archives that are damaged."""

    archive: Archive
    key: str

    def __str__(self) -> str:
        return f"{self.archive}/{self.key}" if self.key else str(self.archive)

    def child(self, name: str, what: str = "") -> ZipPlace:
        key = posixpath.normpath(posixpath.join("/", self.key, name)) if name else f"/{self.key}"
        depth = 0
        for part in posixpath.join(self.key, name).split("/"):
            depth += -1 if part == ".." else part not in ("", ".")
            if depth < 0:
                break
        if depth < 0 or name.startswith("/") or "\0" in name or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):
            raise OutsideError(
                f"{what or f'{self}: {name!r}'} leads to {name}, which is outside of {self.archive}",
                hint="nothing outside of an archive is read: unpack it, and name the folder",
                path=str(self),
                leads_to=name,
                folder=str(self.archive),
            )
        return ZipPlace(self.archive, key.lstrip("/"))

    def read(self, start: int = 0, stop: int | None = None) -> bytes | None:
        return self.archive.read(self.key, start, stop)

    def stamp(self) -> Stamp | None:
        entry = self.archive.entry(self.key)
        return None if entry is None else Stamp(entry.size, f"{entry.crc:08x}")

    def names(self) -> list[str]:
        return self.archive.names(self.key)

    def kind(self) -> Literal["folder", "value", "nothing"]:
        if self.archive.entry(self.key) is not None:
            return "value"
        return "folder" if not self.key or self.archive.names(self.key) else "nothing"

    def write(self, data: bytes) -> None:
        raise OSError(errno.EROFS, "an archive is never written to", str(self))

    def ends(self, keys: Iterable[str]) -> list[End]:
        found = []
        for each in map(self.child, keys):
            stamp = each.stamp()
            if stamp is not None:
                found.append(End(stamp.size, each.read(max(0, stamp.size - 4)) or b""))
        return found

    def remove(self, keys: Iterable[str]) -> None:
        raise OSError(errno.EROFS, "an archive is never written to", str(self))

    def prefetch(self, names: Iterable[str]) -> None:
        prefetch = getattr(self.archive, "prefetch", None)
        if prefetch is not None:
            prefetch(self.child(name).key for name in names)

    def usage(self) -> tuple[int, int]:
        """(values, bytes) below, as they are stored."""
        head = f"{self.key}/" if self.key else ""
        sizes = [e.stored for name, e in self.archive.directory.entries.items() if name.startswith(head)]
        return len(sizes), sum(sizes)

    @property
    def name(self) -> str:
        return posixpath.basename(self.key or str(self.archive).rstrip("/"))

    @property
    def kvstore(self) -> Any:
        raise ValueError("TensorStore reads no archives here")

    @property
    def identity(self) -> str:
        return f"{self.archive.identity}!/{self.key}"

    @property
    def in_flight(self) -> int:
        return self.archive.in_flight

    @property
    def zarr_store(self) -> Any:
        raise SourceError(
            f"{self} has a codec that octree does not decode in archives",
            hint="unpack the archive, and name the folder",
            path=str(self),
        )

    def reader(self, meta: ArrayMeta, what: str) -> Any:
        """Raises ValueError for an array with codecs that are not decoded here."""
        if isinstance(self.archive, LocalArchive):
            from octree.pyramid.store.zipped.direct import DirectReader

            return DirectReader(self.archive, self.key, meta, what, str(self))
        from octree.pyramid.store.remote.reader import RangeReader

        return RangeReader(self.archive, self.key, meta, what, str(self))  # type: ignore[arg-type] # a remote one gives ranges


def local_zip(path: str) -> ZipPlace:
    """The archive at ``path``. Raises SourceNotFound, SourceError."""
    return _at_root(ZipPlace(local_archive(path), ""))


def zip_at(place: RemotePlace) -> ZipPlace:
    """The archive that is the value of a remote place. Raises SourceNotFound, SourceError."""
    return remote_zip(place.client, place.key, str(place))


def remote_zip(values: Bytes, key: str, where: str) -> ZipPlace:
    """The archive that is the value ``key``, called ``where``. Raises SourceNotFound, SourceError."""
    from octree.pyramid.store.zipped.remote_archive import RemoteArchive

    return _at_root(ZipPlace(RemoteArchive(values, key, where), ""))


_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


def _at_root(place: ZipPlace) -> ZipPlace:
    """The root; or, where all lies in one folder, as when a folder was packed with its name, that."""
    names = [name for name in place.names() if not name.startswith(("__MACOSX", ".DS_Store"))]
    if len(names) == 1 and names[0].endswith("/"):
        inner = place.child(names[0].rstrip("/"))
        if any(inner.child(name).stamp() is not None for name in _METADATA):
            return inner
    return place
