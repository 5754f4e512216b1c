"""Opening a SOURCE for drawing: a pyramid with its levels, or any array as an image of one level."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import queue
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from octree.pyramid.errors import LimitError, OutsideError, SourceError, SourceWarning
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import AXIS_ORDER, Box, LevelInfo, PyramidSpec
from octree.pyramid.sources.source import ArraySource, open_source
from octree.pyramid.sources.stored import is_file_name
from octree.pyramid.store import ngff
from octree.pyramid.store.arrays import open_pyramid
from octree.pyramid.store.chunk_files import few_keys
from octree.pyramid.store.doubts import doubts
from octree.pyramid.store.named import place_of
from octree.pyramid.store.place import LocalPlace, Place
from octree.pyramid.store.reading import Later, Reading
from octree.pyramid.store.remote.faults import RemoteError
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions
from octree.pyramid.store.zarr_meta import is_array, read_array_meta
from octree.render.config import MAX_WORKERS
from octree.render.tiles.cancelling import Levels

DIGEST_BYTES = 64 * 2**10
"""Of a file so much of its beginning and of its end is looked at."""
DIGEST_S = 10.0
"""A look at an array takes no longer."""
DIGEST_VALUES = 4
"""Chunks of an array that are looked at."""
_numbers = itertools.count()
_objects: dict[int, tuple[weakref.ref[Any], int]] = {}
"""Of objects in memory that have been opened and are still there, by ``id``: (the object, its number)."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What ``open_levels`` found. ``identity``: equal only for the same data at the same time on this machine.
    ``digest()``: of the content as far as a quick look goes, the same wherever the data lie."""

    levels: Levels
    path: str
    identity: str
    digest: Callable[[], str]
    close: Callable[[], None]
    private: bool = False
    """Every read gives new memory, shared with nobody."""
    chunked: bool = False
    """Reading a voxel is decoding its chunk."""
    blocks: bool = False
    """So it is, or computing it: of ``LevelInfo.chunks``, whatever the source calls them."""
    begins: bool = False
    """``levels.start`` begins a read that goes on by itself, as far as the store's library can."""
    gives_up: bool = False
    """Reads end by themselves, as each request is given up in time."""
    in_flight: int = 0
    """So many of these may be under way at a time, of a store that is far away; 0: as many as there are workers."""
    warnings: tuple[str, ...] = ()
    """What of the source is lost or taken by a rule."""


def open_levels(
    source: Any,
    *,
    labels: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    allow_outside: bool = False,
    remote: RemoteOptions = DEFAULT_REMOTE,
) -> Opened:
    """Open the path, URL or Place of a pyramid, or anything ``open_source`` takes; the options are as there. Raises SourceError, SourceNotFound, OutsideError."""
    if isinstance(source, str | os.PathLike | Place):
        place = place_of(source, anywhere=allow_outside, remote=remote)
        if not is_file_name(place) and ngff.is_pyramid(place):
            try:
                return _open_pyramid(place, limits)
            except (LimitError, OutsideError, RemoteError):
                raise
            except SourceError:
                # axes in an order of its own: level 0 is read like any array, and coarser levels are made
                names = [axis.name for axis in ngff.read_multiscale(place).axes]
                if names == sorted(names, key=AXIS_ORDER.index):
                    raise
        if not isinstance(place, LocalPlace):
            source = place
        elif isinstance(source, Place):
            source = place.path
    return _open_array(source, labels, limits, allow_outside)


@dataclass(frozen=True, slots=True)
class _ArrayLevel:
    """An ArraySource as an image of one level."""

    source: ArraySource
    spec: PyramidSpec

    def start(self, level: int, box: Box) -> Reading:
        return Later(lambda: self.source.read(box))

    def read(self, level: int, box: Box) -> NDArray[Any]:
        return self.source.read(box)


_CHUNKS_MET = 4  # by a tile, of chunks that are larger than it
_TILE_PX = 256


class _InTurn:
    """Levels with chunks so large that not every worker may decode one at the same time. Any thread reads."""

    def __init__(self, levels: Levels, at_once: int) -> None:
        self.spec, self._levels = levels.spec, levels
        self._room = threading.BoundedSemaphore(at_once)

    def start(self, level: int, box: Box) -> Reading:
        return Later(lambda: self.read(level, box))

    def read(self, level: int, box: Box) -> NDArray[Any]:
        with self._room:
            return self._levels.read(level, box)


def in_turn(levels: Levels, read_bytes: int, limits: Limits) -> Levels:
    """``levels``, of which the reads under way, each of which takes ``read_bytes``, take no more than the limit together,
    or are one."""
    at_once = max(1, limits.max_decoded_bytes // max(1, read_bytes))
    return levels if at_once >= MAX_WORKERS else _InTurn(levels, at_once)


def _bytes_of_a_tile(array: ArraySource) -> int:
    """What reading one tile takes besides its pixels."""
    names = [axis.name for axis in array.axes]
    edges = (_TILE_PX if name in "yx" else 1 for name in names)
    stop = tuple(min(edge, n) for edge, n in zip(edges, array.shape, strict=True))
    return array.transient_bytes(Box((0,) * len(stop), stop))


def _open_array(source: Any, labels: bool, limits: Limits, allow_outside: bool) -> Opened:
    array = (
        source
        if isinstance(source, ArraySource)
        else open_source(source, labels=labels, limits=limits, allow_outside=allow_outside, holes=True)
    )
    spec = PyramidSpec(
        axes=array.axes,
        dtype=array.dtype,
        levels=(LevelInfo("0", array.shape, array.read_shape, None, array.voxel_size, array.translation),),
        name=array.name,
        rgb=array.rgb,
        labels=array.labels,
        channels=array.channels,
        metadata={"nodata": array.nodata},
    )
    facts = json.dumps([array.shape, array.dtype.str, [axis.name for axis in array.axes], array.rgb])
    levels = in_turn(_ArrayLevel(array, spec), _bytes_of_a_tile(array), limits)
    voxel = Box((0,) * len(array.shape), (1,) * len(array.shape))
    blocks = array.transient_bytes(voxel) >= math.prod(array.read_shape) * array.dtype.itemsize
    close = _nothing if array is source else array.close
    if isinstance(source, str | os.PathLike | Place):
        place = (
            source
            if isinstance(source, Place)  # of ``file.h5::/dataset`` the file
            else place_of(array.path.partition("::")[0], anywhere=allow_outside)
        )
        place, keys = _pixels_at(place)
        return Opened(
            levels,
            array.path,
            _identity(array, place, keys),
            lambda: _digest(facts, place, keys),
            close,
            blocks=blocks,
            gives_up=not isinstance(place, LocalPlace),
            warnings=array.warnings,
        )
    # an object in memory has no lasting identity: it is itself as long as it is there
    return Opened(
        levels, array.path, f"array {_number_of(source)}", lambda: _array_digest(array), close, blocks=blocks
    )


def _number_of(source: Any) -> int:
    """The same for the same object, never given again. Of an object that cannot be watched, each opening is a source
    of its own."""
    place = id(source)
    known = _objects.get(place)
    if known is not None and known[0]() is source:
        return known[1]
    number = next(_numbers)
    with suppress(TypeError):
        _objects[place] = weakref.ref(source, lambda _: _objects.pop(place, None)), number
    return number


def _open_pyramid(place: Place, limits: Limits) -> Opened:
    pyramid = open_pyramid(place, limits=limits)
    spec, group = pyramid.spec, pyramid.group
    chunk_bytes = max(math.prod(level.chunks) for level in spec.levels) * spec.dtype.itemsize
    facts = json.dumps(
        [spec.dtype.str, spec.axis_names, [[v.shape, v.chunks, v.scale, v.translation] for v in spec.levels]]
    )
    stamps = [next(filter(None, (group.child(name).stamp() for name in ("zarr.json", ".zattrs"))), None)]
    coarsest = group.child(spec.levels[-1].path)
    keys = few_keys(pyramid.metas[-1], DIGEST_VALUES)
    said = doubts(spec)
    for text in said:
        warnings.warn(f"{place}: {text}", SourceWarning, stacklevel=2)
    levels = in_turn(pyramid, _CHUNKS_MET * chunk_bytes, limits)
    return Opened(
        levels,
        str(place),
        f"{group.identity}|{stamps}|{facts}",
        lambda: _digest(facts, coarsest, keys),
        _nothing,
        private=True,  # neither TensorStore nor zarr gives what it keeps
        chunked=True,
        blocks=True,
        begins=levels is pyramid,
        gives_up=group.in_flight > 0,
        in_flight=group.in_flight,
        warnings=said,
    )


def _nothing() -> None:
    pass


def _pixels_at(place: Place) -> tuple[Place, list[str]]:
    """The array that a folder's pixels are in, and a few of its chunks; a file itself, and none."""
    if is_file_name(place):
        return place, []
    if is_array(place):
        return place, few_keys(read_array_meta(place), DIGEST_VALUES)
    if not ngff.is_pyramid(place):
        return place, []
    scale = ngff.read_multiscale(place, base_only=True)
    return scale.group.child(scale.levels[0].path), few_keys(scale.arrays[0], DIGEST_VALUES)


def _identity(array: ArraySource, place: Place, keys: Sequence[str]) -> str:
    """Of an array of chunks not by all of them: there may be millions."""
    if not keys:
        return json.dumps(array.fingerprint(), sort_keys=True, default=str)
    stamps = [place.child(name).stamp() for name in ("zarr.json", ".zarray", ".zattrs")]
    facts = [array.shape, array.dtype.str, [axis.name for axis in array.axes], array.rgb]
    return f"{place.identity}|{stamps}|{facts}|{_digest('', place, keys)}"


def _digest(facts: str, place: Place, keys: Sequence[str]) -> str:
    """Of ``facts``, and sizes and ends of the values at ``keys`` below, or beginning and end of the value itself. At most 4
    reads, whatever its size."""
    found = hashlib.sha256(facts.encode())
    try:
        if keys:
            ends = place.peek(keys, DIGEST_BYTES)
            parts = [None if end is None else (end.size, end.last) for end in ends]
        else:
            stamp = place.stamp()
            if stamp is None:
                raise FileNotFoundError(str(place))
            parts = [
                (stamp.size, place.read(start, start + DIGEST_BYTES) or b"") for start in _ends(stamp.size)
            ]
    except (OSError, SourceError):
        found.update(b"|unreadable|")
        return found.hexdigest()
    for part in parts:
        found.update(b"|none|" if part is None else f"|{part[0]}|".encode() + part[1])
    return found.hexdigest()


def _ends(size: int) -> tuple[int, ...]:
    """Where the beginning and the end of so many bytes begin."""
    return (0,) if size <= DIGEST_BYTES else (0, size - DIGEST_BYTES)


def _array_digest(array: ArraySource) -> str:
    """Of a few blocks, read in a thread of its own: the caller's may be the one that draws, and reading may never end."""
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def look() -> None:
        try:
            answer.put(array.fingerprint())
        except Exception as error:  # a source that cannot be read has its failures in the report
            answer.put({"unreadable": type(error).__name__})

    threading.Thread(target=look, name="octree-digest", daemon=True).start()
    try:
        facts = answer.get(timeout=DIGEST_S)
    except queue.Empty:
        facts = {"unreadable": "in time"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
