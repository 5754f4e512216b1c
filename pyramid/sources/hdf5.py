"""Datasets in HDF5 files: ``file.h5::/path/of/dataset``."""

from __future__ import annotations

import difflib
import functools
import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.axes import name_axes
from octree.pyramid.boxes import covering_shape, fitted
from octree.pyramid.confined import Confined, ConfinedFailure, Make
from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import Box
from octree.pyramid.reach import Reach, reach_of
from octree.pyramid.sources.attributes import kept
from octree.pyramid.sources.flat.open import decoding_time_s, refusal
from octree.pyramid.sources.hdf5_chunks import ChunkDecoder
from octree.pyramid.sources.hdf5_links import Hdf5Files
from octree.pyramid.sources.nodata import by_conventions
from octree.pyramid.sources.protocol import Facts, RawArray
from octree.pyramid.sources.tiff.segments import SegmentCache

_LISTED = 12
_CACHE_BYTES = 8 << 20  # decoded chunks that HDF5 keeps for each dataset
_LIBRARY_BYTES = 12 << 20  # h5py and HDF5 themselves, which only this reader needs


class Hdf5Array:
    """One dataset. What is deflated is decoded here, the rest by HDF5; in a process of its own what nobody can bound. h5py serialises all its calls under one lock, so reading is safe from any thread."""

    def __init__(self, path: Path, files: Hdf5Files, dataset: Any, limits: Limits) -> None:
        self._path, self._files, self._dataset = path, files, dataset
        self.shape, self.engine = tuple(dataset.shape), "hdf5"
        self.held_bytes = _LIBRARY_BYTES + (_CACHE_BYTES if dataset.chunks else 0)
        self.dtype = np.dtype(dataset.dtype).newbyteorder("=")
        self._chunks = dataset.chunks
        if self._chunks:
            limits.check_bytes(str(path), "one chunk", math.prod(self._chunks) * self.dtype.itemsize)
        self.block = fitted(self._chunks or _row_band(self.shape, self.dtype.itemsize), self.shape)
        self._decoder = ChunkDecoder(dataset) if self._chunks else None
        # a virtual one is made of others, whose chunks nobody looks at
        self._is_confined = bool(dataset.is_virtual) or (self._decoder is not None and self._decoder.unknown)
        self._limits, self._confined, self._lock = limits, Confined(), threading.Lock()
        self._cache = SegmentCache(_CACHE_BYTES)
        labels = [dim.label for dim in dataset.dims]
        attributes, dropped = _attributes(dataset)
        self.facts = Facts(
            axes=name_axes(labels) if any(labels) else None,
            codec=str(dataset.compression or "none"),
            attributes=attributes,
            warnings=dropped,
        )

    def read(self, box: Box) -> NDArray[Any]:
        try:
            if self._is_confined:
                return self._read_confined(box)
            if self._decoder is not None and self._decoder.decodes:
                return self._read_chunks(box, self._decoder)
            if self._decoder is not None and self._decoder.guards:
                self._check_chunks(box, self._decoder)
            data: NDArray[Any] = self._dataset[box.slices]
        except (OSError, RuntimeError, ValueError) as error:
            raise SourceError(
                f"{self._path}::{self._dataset.name}: the block from {box.start} to {box.stop} cannot be read: {error}",
                hint="a chunk is damaged, or its filter is not installed",
                path=str(self._path),
                block=[list(box.start), list(box.stop)],
            ) from error
        return data.astype(self.dtype, copy=False)

    def _read_confined(self, box: Box) -> NDArray[Any]:
        """By HDF5 in a process of its own, for one thread at a time: the pixels lie in memory that the next read changes."""
        reach, count = self._files.reach, math.prod(box.shape)
        try:
            with self._lock:
                _, data = self._confined.call(
                    f"{__name__}:read_confined",
                    *(self._dataset.file.filename, self._dataset.name, reach.root, reach.anywhere),
                    *(box.start, box.stop),
                    room_bytes=self._limits.probe_bytes + 2 * count * self.dtype.itemsize,
                    deadline_s=decoding_time_s(count),
                )
                assert data is not None
                return np.array(data, self.dtype)
        except ConfinedFailure as failure:
            if failure.reason == "error":
                raise ValueError(str(failure)) from failure
            raise refusal(self._path, failure, self._limits, "one chunk") from failure

    def _met(self, box: Box) -> Iterator[tuple[int, ...]]:
        """Where the chunks begin that ``box`` meets."""
        ranges = [range(a // c * c, b, c) for a, b, c in zip(box.start, box.stop, self._chunks, strict=True)]
        yield from itertools.product(*ranges)

    def _read_chunks(self, box: Box, decoder: ChunkDecoder) -> NDArray[Any]:
        out = np.empty(box.shape, self.dtype)
        for low in self._met(box):
            high = [a + c for a, c in zip(low, self._chunks, strict=True)]
            start = [max(a, b) for a, b in zip(low, box.start, strict=True)]
            stop = [min(a, b) for a, b in zip(high, box.stop, strict=True)]
            target = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, box.start, strict=True))
            inner = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, low, strict=True))
            ends = zip(stop, high, self.shape, strict=True)
            whole = tuple(start) == low and all(b == min(c, n) for b, c, n in ends)
            chunk = self._chunk_at(low, decoder, keep=not whole)
            out[target] = self._dataset.fillvalue if chunk is None else chunk[inner]
        return out

    def _chunk_at(self, low: tuple[int, ...], decoder: ChunkDecoder, *, keep: bool) -> NDArray[Any] | None:
        """The decoded chunk that begins at ``low``; None when it is not stored."""

        def make() -> NDArray[Any]:
            skipped, data = self._dataset.id.read_direct_chunk(low)
            return decoder.decode(data, skipped)

        kept = self._cache.peek(low)
        if kept is not None:
            return kept
        if self._dataset.id.get_chunk_info_by_coord(low).byte_offset is None:
            return None
        try:
            fits = keep and decoder.chunk_bytes <= _CACHE_BYTES
            return self._cache.get(low, make) if fits else make()
        except Exception as error:  # each codec raises its own kind
            raise ValueError(f"the chunk at {low}: {type(error).__name__}: {error}") from error

    def _check_chunks(self, box: Box, decoder: ChunkDecoder) -> None:
        """Before HDF5 decodes them: that none holds more than a chunk."""
        for low in self._met(box):
            facts = self._dataset.id.get_chunk_info_by_coord(low)
            if facts.byte_offset is None or decoder.is_harmless(facts.size):
                continue
            skipped, data = self._dataset.id.read_direct_chunk(low)
            try:
                decoder.check(data, skipped)
            except Exception as error:
                raise ValueError(f"the chunk at {low}: {type(error).__name__}: {error}") from error

    def transient_bytes(self, box: Box) -> int:
        """The chunks that the box meets, decoded: one after the other, but all of them again with every read. And
        one of them encoded, and between two of its filters."""
        swapped = 0 if self._dataset.dtype.isnative else math.prod(box.shape) * self.dtype.itemsize
        if not self._chunks:
            return swapped
        met = math.prod(covering_shape(box, self._chunks))
        decoded: int = (met + 2 * math.prod(self._chunks)) * self.dtype.itemsize
        return swapped + decoded

    def identity(self) -> dict[str, Any]:
        others = [Path(other).stat() for other in sorted(self._files.others)]
        facts = self._path.stat()
        sizes, times = ([getattr(f, key) for f in [facts, *others]] for key in ("st_size", "st_mtime_ns"))
        return {
            "path": f"{self._path.absolute()}::{self._dataset.name}",
            **({"size": sizes, "mtime_ns": times} if others else {"size": sizes[0], "mtime_ns": times[0]}),
        }

    def close(self) -> None:
        self._confined.close()
        self._files.close()


_OF_HDF5 = {"DIMENSION_LABELS", "DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME"}
_ATTRIBUTE_BYTES = 1 << 16


def _attributes(dataset: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the file says of a dataset; attributes that are too large are not read."""
    import h5py

    found: dict[str, Any] = {}
    # by number: to go through them by name, HDF5 opens the dataset once more, without knowing where its external files are
    for number in range(h5py.h5a.get_num_attrs(dataset.id)):
        name = h5py.h5a.open(dataset.id, index=number).name.decode("utf-8", "surrogateescape")
        if name in _OF_HDF5:
            continue
        try:
            small = dataset.attrs.get_id(name).get_storage_size() <= _ATTRIBUTE_BYTES
            found[name] = dataset.attrs[name] if small else object()
        except (OSError, RuntimeError, TypeError, ValueError, KeyError):
            found[name] = object()  # named as dropped
    return kept(found)


def read_confined(
    make: Make,
    path: str,
    name: str,
    root: str,
    anywhere: bool,
    start: Sequence[int],
    stop: Sequence[int],
) -> tuple[None, NDArray[Any]]:
    """A box of a dataset, in a confined process, which keeps the file open."""
    dataset = _opened_dataset(path, name, root, anywhere)
    return None, np.asarray(dataset[Box(tuple(start), tuple(stop)).slices])


@functools.lru_cache(maxsize=1)
def _opened_dataset(path: str, name: str, root: str, anywhere: bool) -> Any:
    return Hdf5Files(Path(path), Reach(root, anywhere), _CACHE_BYTES).find(name)


def _row_band(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    rows = (4 << 20) // max(1, shape[-1] * itemsize) if shape else 1
    return (*(1 for _ in shape[:-2]), *(max(1, rows) for _ in shape[-2:-1]), *shape[-1:])


def open_hdf5(
    path: Path, inner: str, reach: Reach | None = None, limits: Limits = DEFAULT_LIMITS
) -> RawArray:
    """The dataset ``inner`` of the HDF5 file ``path``; with no name, the only one that could be an image.

    Raises SourceNotFound (the file, or the dataset: it lists what is there), SourceError, LimitError for chunks above
    ``limits``, and OutsideError when it leads out of ``reach`` (the file's folder by default).
    """
    if not path.is_file():
        raise SourceNotFound(
            f"there is no file {path}", hint="check the path and its spelling", path=str(path)
        )
    try:
        files = Hdf5Files(path, reach or reach_of(path), _CACHE_BYTES)
    except OSError as error:
        raise _damaged(path, error) from error
    try:
        return by_conventions(Hdf5Array(path, files, _dataset(path, files, inner.strip("/")), limits))
    except SourceError:
        files.close()
        raise
    except Exception as error:  # HDF5 reports damage in many ways
        files.close()
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    if isinstance(error, TypeError):  # of whole numbers of 24 bits, and other types that numpy has not
        return SourceError(
            f"{path} holds numbers of a type that cannot be read: {error}",
            hint="convert it to whole numbers of 8, 16, 32 or 64 bits, or floats",
            path=str(path),
        )
    return SourceError(
        f"{path} cannot be read as HDF5: {error}", hint="the file is damaged or not HDF5", path=str(path)
    )


def _dataset(path: Path, files: Hdf5Files, inner: str) -> Any:
    import h5py

    node = files.find(inner) if inner else None
    if isinstance(node, h5py.Dataset):
        if node.shape is None:
            raise SourceError(f"{path}::/{inner} has no values at all", hint="choose another", path=str(path))
        return node
    found = _shapes(files.file)
    images = [name for name, shape in found.items() if len(shape) >= 2]
    if not inner and len(images) == 1:
        return files.find(images[0])
    if not found:
        raise SourceError(f"{path} holds no dataset", path=str(path))
    listed = ", ".join(f"{name} {found[name]}" for name in list(found)[:_LISTED])
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    near = difflib.get_close_matches("/" + inner, found, n=1)
    example = near[0] if near else (images or list(found))[0]
    what = "is a group, not a dataset" if node is not None else "does not exist"
    raise SourceNotFound(
        f"{path}: /{inner} {what}" if inner else f"{path} holds several datasets",
        hint=f"it has {listed}{more}; name one, for example {path}::{example}",
        path=str(path),
        datasets=list(found)[:_LISTED],
    )


def _shapes(file: Any) -> dict[str, tuple[int, ...]]:
    """The datasets of the file itself with their shapes; () for one without values."""
    import h5py

    found: dict[str, tuple[int, ...]] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            plist = node.id.get_create_plist()
            # HDF5 would open a virtual dataset's files for its shape
            virtual = plist.get_layout() == h5py.h5d.VIRTUAL and plist.get_virtual_count()
            found["/" + name] = (plist.get_virtual_vspace(0) if virtual else node).shape or ()

    file.visititems(visit)
    return found
