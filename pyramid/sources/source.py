"""Any SOURCE as one lazily readable array in canonical axis order, with axes and voxel size.

``open_source`` picks the reader of the format (``read_*.py``, each in the file's own axis order) and
``ArraySource`` adds what is the same for all: canonical order, little-endian dtype, checks, RGB.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.axes import SAMPLE_COUNTS, guess_axes, parse_axes
from octree.pyramid.boxes import covering_shape
from octree.pyramid.deadline import within_time
from octree.pyramid.errors import SourceError, SourceNotFound, SourceWarning, UsageError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.memory import can_have
from octree.pyramid.model import AXIS_ORDER, AXIS_TYPES, Axis, Box, Channel
from octree.pyramid.reach import Reach, open_file, reach_of
from octree.pyramid.sources.measures import Measures, measure
from octree.pyramid.sources.protocol import RawArray
from octree.pyramid.sources.views import MergedSamples
from octree.pyramid.store.named import is_archive, local_name, named_url, place_of
from octree.pyramid.store.place import LocalPlace, Place
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions
from octree.pyramid.units import space_unit

DTYPES = frozenset(
    np.dtype(name)
    for name in ("bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16")
)
ENGINES = ("auto", "tensorstore", "zarr")
_BLOCK_BY_BLOCK = frozenset({"tiff"})  # engines that hold one block at a time, however many they decode
_HEAD_BYTES = 2056
_HDF5 = b"\x89HDF\r\n\x1a\n"  # at 0, or behind a block of the user's own (MATLAB 7.3)
SAMPLE_NAMES = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"), ("alpha", "FFFFFF"))


class ArraySource:
    """An image in canonical axis order (a subset of t, c, z, y, x) and native little-endian dtype.

    Per axis, in that order: ``shape``, ``axes``, ``voxel_size`` (world units; 1.0 where unknown),
    ``translation`` (world position of voxel 0's centre), ``read_shape`` (block in which reading is cheap).
    ``rgb``: c holds the samples of one colour image. ``sizes_known``: the spatial axes of
    which the voxel size is known; ``voxel_size_known``: it is of all of them.
    ``missing``: how many planes no file has, by reason. ``warnings``: what is lost or taken by a rule. ``nodata``: a value that does not count.
    ``attributes``: what else the source says of itself (JSON). ``held_bytes``: most bytes the source keeps between reads. Reading is thread-safe; who opens it closes it.
    """

    def __init__(
        self,
        raw: RawArray,
        letters: str,
        *,
        path: str,
        name: str,
        measures: Measures,
    ) -> None:
        facts = raw.facts
        self._raw = raw
        self.path, self.name, self.engine = path, name, raw.engine
        self.missing, self.warnings = facts.missing, facts.warnings
        self.nodata, self.attributes = facts.nodata, facts.attributes
        self.dtype: np.dtype[Any] = raw.dtype.newbyteorder("=")
        self.held_bytes = raw.held_bytes
        self.labels, self.label_facts, self.codec = facts.labels, facts.label_facts, facts.codec
        names = letters.replace("s", "c")
        self._order = tuple(sorted(range(len(names)), key=lambda i: AXIS_ORDER.index(names[i])))
        self.shape = self.in_canonical_order(raw.shape)
        self.read_shape = self.in_canonical_order(raw.block)
        ordered = [names[i] for i in self._order]
        self.axes = tuple(Axis(letter, measures.units.get(letter)) for letter in ordered)
        self.voxel_size = tuple(float(measures.sizes.get(letter, 1.0)) for letter in ordered)
        space = [a for a in ordered if AXIS_TYPES[a] == "space"]
        self.sizes_known = "".join(a for a in space if a in measures.sizes)
        self.voxel_size_known = len(self.sizes_known) == len(space)
        self.translation = tuple(float(measures.shifts.get(letter, 0.0)) for letter in ordered)
        count = self.shape[ordered.index("c")] if "c" in ordered else 0
        self.rgb = ("s" in letters or facts.rgb) and count in SAMPLE_COUNTS
        self.channels = facts.channels if len(facts.channels) == max(count, 1) else ()
        if self.rgb:
            self.channels = sample_channels(count, self.dtype, self.channels)

    def in_canonical_order(self, values: tuple[int, ...]) -> tuple[int, ...]:
        """Numbers per axis of the source, in its own order, per axis of this image."""
        return tuple(values[i] for i in self._order)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole image, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize

    def _own_box(self, box: Box) -> Box:
        inside = len(box.start) == len(self.shape) and all(
            0 <= a <= b <= n for a, b, n in zip(box.start, box.stop, self.shape, strict=True)
        )
        if not inside:
            raise ValueError(f"{box} does not lie in an image of shape {self.shape}")
        place = {own: i for i, own in enumerate(self._order)}
        pick = [place[own] for own in range(len(self._order))]
        return Box(tuple(box.start[i] for i in pick), tuple(box.stop[i] for i in pick))

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels of ``box``, shape ``box.shape``. Thread-safe.

        The result may be a read-only view or not contiguous: copy it before changing it.
        Raises SourceError, naming file and block, when the data are damaged or gone; MemoryError when the system does not
        give what they take.
        """
        own = self._own_box(box)
        if 0 in box.shape:
            return np.empty(box.shape, self.dtype)
        try:
            data = self._raw.read(own)
        except MemoryError as error:
            needed = math.prod(box.shape) * self.dtype.itemsize + self.transient_bytes(box) + self.held_bytes
            if not can_have(needed):
                raise
            raise SourceError(
                f"{self.path}: reading the block from {box.start} to {box.stop} asks for more memory than its pixels take",
                hint="the file is damaged; copy it again",
                path=self.path,
            ) from error
        data = self._as_declared(data, box).transpose(self._order)
        # libraries hand out bools of other bytes than 0 and 1 (Pillow's are 255), which no reader of Zarr accepts
        return data.view(np.uint8) != 0 if self.dtype.kind == "b" else data

    def _as_declared(self, data: NDArray[Any], box: Box) -> NDArray[Any]:
        """What was read, in native byte order. Raises SourceError for values of another type than was declared: cast,
        70000 would become 4464, and NaN nothing."""
        if data.dtype == self.dtype:
            return data
        if data.dtype.newbyteorder("=") == self.dtype:
            return data.astype(self.dtype)
        raise SourceError(
            f"{self.path} declares {self.dtype}, and its block from {box.start} to {box.stop} came as {data.dtype}",
            hint="what declares an array must return what it declares: convert one of the two",
            path=self.path,
            declared=str(self.dtype),
            came=str(data.dtype),
        )

    def transient_bytes(self, box: Box) -> int:
        """Most bytes that ``read(box)`` holds besides its result (decoded source tiles)."""
        bools = math.prod(box.shape) if self.dtype.kind == "b" else 0
        return self._raw.transient_bytes(self._own_box(box)) + bools

    def decoded_bytes(self, box: Box) -> int:
        """How much ``read(box)`` decodes, again with every read: more than the box where blocks are met in part."""
        transient = self.transient_bytes(box)
        if self.engine not in _BLOCK_BY_BLOCK or self.codec in ("", "none"):
            return transient
        met = math.prod(covering_shape(box, self.read_shape)) * self.dtype.itemsize
        # few blocks are kept until the neighbour is read
        return transient if met <= self.held_bytes else max(transient, met)

    def fingerprint(self) -> dict[str, Any]:
        """JSON-able identity of the data and of how they are taken: equal means the same image."""
        return {
            **self._raw.identity(),
            "shape": list(self.shape),
            "dtype": self.dtype.str,
            "axes": "".join(axis.name for axis in self.axes),
            "rgb": self.rgb,
        }

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> ArraySource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        axes = "".join(axis.name for axis in self.axes)
        return f"<ArraySource {self.name!r} {axes} {self.shape} {self.dtype} {self.engine}>"


def sample_channels(count: int, dtype: np.dtype[Any], given: tuple[Channel, ...] = ()) -> tuple[Channel, ...]:
    """Channels of one colour image of ``count`` samples: red, green, blue[, alpha], with the windows ``given``."""
    top = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
    windows = [channel.window or (0.0, top) for channel in given] or [(0.0, top)] * count
    return tuple(Channel(*name, window) for name, window in zip(SAMPLE_NAMES[:count], windows, strict=True))


def open_source(
    source: Any,
    *,
    axes: str | None = None,
    voxel_size: Mapping[str, float] | None = None,
    unit: str | None = None,
    engine: str = "auto",
    threads: int | None = None,
    labels: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    allow_outside: bool = False,
    remote: RemoteOptions = DEFAULT_REMOTE,
    holes: bool = False,
) -> ArraySource:
    """Open ``source``: a path (``file.h5::/dataset`` inside HDF5), a URL, a Place, or an object with shape, dtype and slicing.

    ``axes``        names in the SOURCE's own order, out of "tczyxs"; else what the file says; else by rank.
    ``voxel_size``  world units per axis letter, over what the file says.
    ``unit``        unit of length of the spatial axes (``micrometer``, ``µm``).
    ``engine``      "auto", or for Zarr "tensorstore" or "zarr".
    ``threads``     how many decode Zarr chunks at a time, all cores by default.
    ``labels``      the values are ids: those of a palette image are its indices, not its colours.
    ``limits``      what a flat image, a tile or a chunk may take; an object in memory has none.

    ``allow_outside``  files that the source names, and links, may lie outside of its folder.
    ``remote``      how a URL is reached.
    ``holes``       planes that no file has are no error yet; reading one is.

    What is lost or taken by a rule is in ``warnings`` of the result, and given as SourceWarning.
    Raises LimitError, SourceNotFound, SourceError (corrupt, unsupported), OutsideError, or UsageError (axes, voxel size,
    unit).
    """
    if engine not in ENGINES:
        raise UsageError(f"there is no engine {engine!r}", hint=f"use {', '.join(ENGINES)}")
    word = space_unit(unit) if unit else None
    what = str(source) if isinstance(source, (str, os.PathLike, Place)) else "the source"
    how = _How(engine, threads, labels, limits, allow_outside, remote)
    raw, path, name = within_time(what, lambda: _open_raw(source, how))
    try:
        _check_array(raw, path)
        if raw.facts.missing and not holes:
            raise _missing(path, raw.facts.missing)
        letters = (
            parse_axes(axes, raw.shape) if axes else raw.facts.axes or guess_axes(raw.shape, raw.dtype, path)
        )
        if "c" in letters and "s" in letters:
            merged = MergedSamples(raw, letters)
            raw, letters = merged, merged.letters
        if len(letters) > len(AXIS_ORDER):
            raise SourceError(f"{path} has {len(letters)} axes; an image has 2 to 5", path=path)
        measures = measure(raw.facts, letters, voxel_size, word)
        for text in raw.facts.warnings:
            warnings.warn(f"{path}: {text}", SourceWarning, stacklevel=2)
        return ArraySource(raw, letters, path=path, name=raw.facts.name or name, measures=measures)
    except BaseException:
        raw.close()
        raise


def _missing(path: str, reasons: Mapping[str, int]) -> SourceError:
    count = sum(reasons.values())
    words = [f"{reason} ({number})" for reason, number in islice(reasons.items(), 5)]
    return SourceError(
        f"{path}: {count} plane{'s are' if count > 1 else ' is'} missing: {', '.join(words)}",
        hint="put all its files into one folder; octree build --on-error fill makes holes of them, and lists these",
        path=path,
        missing=dict(reasons),
    )


def _check_array(raw: RawArray, path: str) -> None:
    if any(n < 0 for n in raw.shape) or math.prod(raw.shape) >= 2**63:
        raise SourceError(
            f"{path} says that its shape is {raw.shape}, which no image has",
            hint="the file is damaged; copy it again",
            path=path,
        )
    if 0 in raw.shape:
        raise SourceError(
            f"{path} has an axis of length 0: shape {raw.shape}", hint="there is no pixel to show", path=path
        )
    if raw.dtype.newbyteorder("=") not in DTYPES:
        what = "structured fields" if raw.dtype.names else f"dtype {raw.dtype}"
        raise SourceError(
            f"{path} has {what}; an image holds bool, integers, floats of 16 to 64 bits or complex numbers",
            hint="convert it, or choose one field",
            path=path,
        )
    if len(raw.shape) < 2:
        guess_axes(raw.shape, raw.dtype, path)  # raises


@dataclass(frozen=True, slots=True)
class _How:
    """Options of ``open_source`` that concern the readers."""

    engine: str
    threads: int | None
    labels: bool
    limits: Limits
    allow_outside: bool
    remote: RemoteOptions


def _open_raw(source: Any, how: _How) -> tuple[RawArray, str, str]:
    """The format's reader, what to call the source in messages, and the image's name."""
    if isinstance(source, Place):
        return _open_place(source, how)
    if not isinstance(source, (str, os.PathLike)):
        from octree.pyramid.sources.objects import wrap_array

        raw = wrap_array(source)
        return raw, f"<{raw.engine} array>", "image"
    text = local_name(os.fspath(source))
    if named_url(text) is not None or is_archive(text.partition("::")[0]):
        return _open_place(place_of(text, anywhere=how.allow_outside, remote=how.remote), how)
    if "::" in text and not os.path.exists(text):
        file, _, inner = text.partition("::")
        reach = reach_of(file, anywhere=how.allow_outside)
        if Path(file).is_dir():
            path = Path(file) / inner.strip("/")
            reach.real(path, f"{text}: the path inside")
            return _open_existing(path, how, reach)
        from octree.pyramid.sources.hdf5 import open_hdf5

        return (
            open_hdf5(Path(file), inner, reach, how.limits),
            text,
            inner.strip("/").rpartition("/")[2] or Path(file).stem,
        )
    if not text:
        raise SourceNotFound("the name of the source is empty", hint="name a file or folder")
    path = Path(text)
    return _open_existing(path, how, reach_of(path, anywhere=how.allow_outside))


def _open_place(place: Place, how: _How) -> tuple[RawArray, str, str]:
    if isinstance(place, LocalPlace):
        return _open_existing(place.path, how, place.reach)
    from octree.pyramid.sources.stored import open_stored

    raw = open_stored(place, engine=how.engine, threads=how.threads, as_stored=how.labels, limits=how.limits)
    return raw, str(place), stem_of(place.name)


def _open_existing(path: Path, how: _How, reach: Reach) -> tuple[RawArray, str, str]:
    if not path.exists():
        raise SourceNotFound(
            f"there is no file or folder {path}", hint="check the path and its spelling", path=str(path)
        )
    return _open_file(path, how, reach), str(path), _stem(path)


def _stem(path: Path) -> str:
    return stem_of(path.resolve().name)


def stem_of(name: str) -> str:
    """The name of a file or folder without its ending."""
    for ending in (".ome.tiff", ".ome.tif", ".ome.zarr", ".ome.btf"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(name).stem or name


def _open_file(path: Path, how: _How, reach: Reach) -> RawArray:
    if path.is_dir():
        from octree.pyramid.sources.zarr_array import open_zarr

        return open_zarr(path, how.engine, how.threads, reach, how.limits)
    with open_file(path) as stream:
        try:
            head = stream.read(_HEAD_BYTES)
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    if not head:
        raise SourceError(f"{path} is empty", hint="copy or write the file again", path=str(path))
    if head[:6] == b"\x93NUMPY":
        from octree.pyramid.sources.plain import open_npy

        return open_npy(path)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from octree.pyramid.sources.tiff.pages import open_tiff

        return open_tiff(path, reach, as_stored=how.labels, limits=how.limits)
    if any(head[place : place + 8] == _HDF5 for place in (0, 512, 1024, 2048)):
        from octree.pyramid.sources.hdf5 import open_hdf5

        return open_hdf5(path, "", reach, how.limits)
    if head[:4] == b"PK\3\4":
        from octree.pyramid.sources.flat.npz import open_npz

        return open_npz(path, how.limits)
    from octree.pyramid.sources.flat.open import open_flat

    return open_flat(path, as_stored=how.labels, limits=how.limits)
