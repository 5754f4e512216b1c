"""Where an HDF5 dataset's values really are: links, external data and virtual datasets lead into other files.

HDF5 follows all of them by itself, silently, wherever they lead, and has fill values for what is not there. So every
step is looked at before HDF5 takes it: paths are walked name by name, and what a dataset is made of is checked before
it is read.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.reach import Reach

_MOST_LINKS = 40  # as many as Linux follows
_DEEPEST = 8  # virtual datasets of virtual datasets
_PREFIXES = ("HDF5_EXT_PREFIX", "HDF5_EXTFILE_PREFIX", "HDF5_VDS_PREFIX")


class Hdf5Files:
    """The files of one source: the one that was named, and ``others`` that it leads to. Who makes it closes it."""

    def __init__(self, path: Path, reach: Reach, cache_bytes: int) -> None:
        """Opens ``path``. Raises OSError as h5py does."""
        self._path, self.reach, self._cache_bytes = path, reach, cache_bytes
        self._stack = ExitStack()
        self._open: dict[str, Any] = {}
        self.others: set[str] = set()
        # by its real name: HDF5 looks for other files beside the name it was given first
        self.file = self._opened(os.path.realpath(path))

    def close(self) -> None:
        self._stack.close()

    def _opened(self, path: str) -> Any:
        import h5py

        if path not in self._open:
            self._open[path] = self._stack.enter_context(h5py.File(path, "r", rdcc_nbytes=self._cache_bytes))
        return self._open[path]

    def find(self, inner: str) -> Any:
        """The group or dataset ``inner``, whose values are all within reach; None when there is none of that name.

        Raises OutsideError, SourceNotFound and SourceError for what it leads to.
        """
        import h5py

        node = self._walk(self.file, inner)
        if not isinstance(node, h5py.Dataset):
            return node
        self._check(node)
        if not node.external:
            return node
        # HDF5 would look for the values in the folder where the process happens to be
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access.set_efile_prefix(b"${ORIGIN}")
        parent, name = node.parent.id, node.name.rpartition("/")[2].encode()
        del node  # one that is open already keeps its own prefix
        return h5py.Dataset(h5py.h5d.open(parent, name, access))

    def _walk(self, file: Any, inner: str, *, links: bool = True) -> Any:
        """As ``find``, in any of the files, without a look at what a dataset is made of. ``links``: follow those that
        lead to other files."""
        import h5py

        node, names, followed = file["/"], inner.split("/"), 0
        while names:
            name = names.pop(0).encode()
            if name in (b"", b"."):
                continue
            if not isinstance(node, h5py.Group) or not node.id.links.exists(name):
                return None
            kind = node.id.links.get_info(name).type
            if kind == h5py.h5l.TYPE_HARD:
                node = node[name]
                continue
            followed += 1
            where = f"{node.file.filename}::{node.name.rstrip('/')}/{name.decode(errors='replace')}"
            if followed > _MOST_LINKS:
                raise SourceError(f"{where}: its links lead in a circle", path=str(self._path))
            if kind == h5py.h5l.TYPE_SOFT:
                target = os.fsdecode(node.id.links.get_val(name))
                node = node.file["/"] if target.startswith("/") else node
            elif kind == h5py.h5l.TYPE_EXTERNAL and links:
                other, target = map(os.fsdecode, node.id.links.get_val(name))
                node = self._opened(self._beside(node.file, other, f"{where}, an external link,"))["/"]
            else:
                raise SourceError(
                    f"{where} is a link of a kind that octree does not follow", path=str(self._path)
                )
            names = [*target.split("/"), *names]
        return node

    def _beside(self, file: Any, name: str, what: str) -> str:
        """The file ``name`` as HDF5 finds it, seen from ``file``. Raises OutsideError, SourceNotFound."""
        folder = os.path.dirname(file.filename)
        places = [os.path.join(folder, name)]
        if os.path.isabs(name):  # where it was when it was written; HDF5 looks beside the file, too
            places.append(os.path.join(folder, os.path.basename(name)))
        elif self.reach.anywhere:
            places.append(os.path.abspath(name))
        if not self.reach.anywhere:
            for variable in _PREFIXES:
                if os.environ.get(variable):
                    raise SourceError(
                        f"{what} leads to another file, and {variable} is set, which says where HDF5 looks for it",
                        hint=f"unset {variable}, or give --allow-outside",
                        path=str(self._path),
                    )
        for place in places:
            if os.path.exists(place):
                self.reach.named(folder, place, what)
                if not os.path.isfile(place):
                    raise SourceError(f"{what} leads to {place}, which is no file", path=str(self._path))
                self.others.add(place)
                return place
        self.reach.named(folder, name, what)
        raise SourceNotFound(
            f"{what} leads to {places[0]}, which is not there",
            hint="put all files of the source into one folder",
            path=str(self._path),
        )

    def _check(self, dataset: Any, depth: int = 0) -> None:
        """Are the dataset's values within reach, and there at all?"""
        import h5py

        what = f"{dataset.file.filename}::{dataset.name}"
        if depth > _DEEPEST:
            raise SourceError(
                f"{what}: virtual datasets of virtual datasets without end", path=str(self._path)
            )
        if dataset.id.get_create_plist().get_layout() == h5py.h5d.VIRTUAL:
            named = {(source.file_name, source.dset_name) for source in dataset.virtual_sources()}
            for name, inner in sorted(named):
                for part in self._parts(dataset, name, inner, f"{what}, a virtual dataset,"):
                    self._check(part, depth + 1)
        elif dataset.external:
            if depth and not self.reach.anywhere:
                raise SourceError(
                    f"{what}, which a virtual dataset shows, keeps its values in other files",
                    hint="give --allow-outside if you trust whoever made the source",
                    path=str(self._path),
                )
            self._check_external(dataset, what)

    def _parts(self, dataset: Any, name: str, inner: str, what: str) -> Iterator[Any]:
        """The datasets that a virtual one shows under these names, which may stand for many (``%b``)."""
        import h5py

        for file in self._files(dataset.file, name, what):
            for path in self._paths(file, inner):
                # HDF5 takes this path by itself, so there must be nothing on it to follow
                part = self._walk(file, path, links=False)
                if not isinstance(part, h5py.Dataset):
                    raise SourceNotFound(
                        f"{what} shows {file.filename}::{path}, which is not there",
                        hint="its values would read as nothing; copy the file again",
                        path=str(self._path),
                    )
                yield part

    def _paths(self, file: Any, inner: str) -> list[str]:
        """The paths that ``inner`` stands for in a file: itself, or those of one group that fit its pattern."""
        if not _BLOCK.search(inner):
            return [inner.replace("%%", "%")]
        folder, _, last = inner.rpartition("/")
        inside = self._walk(file, folder, links=False)
        return [f"{folder}/{name}" for name in inside or () if _pattern(last).fullmatch(name)]

    def _files(self, file: Any, name: str, what: str) -> Iterator[Any]:
        if name == ".":
            yield file
            return
        if not _BLOCK.search(name):
            yield self._opened(self._beside(file, name.replace("%%", "%"), what))
            return
        folder, pattern = os.path.split(os.path.join(os.path.dirname(file.filename), name))
        if _BLOCK.search(folder):
            raise SourceError(f"{what} leads to many folders, {folder}", path=str(self._path))
        self.reach.named(folder, ".", what)
        for found in sorted(os.listdir(folder) if os.path.isdir(folder) else ()):
            if _pattern(pattern).fullmatch(found):
                yield self._opened(self._beside(file, os.path.join(folder, found), what))

    def _check_external(self, dataset: Any, what: str) -> None:
        """External data end where the dataset does, or later: HDF5 has zeros for what is missing."""
        left = math.prod(dataset.shape) * dataset.dtype.itemsize
        for name, offset, size in dataset.external:
            place = self._beside(dataset.file, name, f"{what}: its external data")
            wanted = min(size, left)
            if os.path.getsize(place) < offset + wanted:
                raise SourceError(
                    f"{what}: its external data {place} end too early: {offset + wanted} bytes wanted, "
                    f"{os.path.getsize(place)} there",
                    hint="the file is truncated; copy it again",
                    path=str(self._path),
                )
            left -= wanted


_BLOCK = re.compile(r"(?<!%)(?:%%)*%\d*b")


def _pattern(name: str) -> re.Pattern[str]:
    """A virtual dataset's name with ``%b`` (the number of a block) as an expression for names."""
    parts = re.split(r"(%%|%\d*b)", name)
    words = ("%" if p == "%%" else r"\d+" if p[:1] == "%" and p[-1:] == "b" else re.escape(p) for p in parts)
    return re.compile("".join(words))
