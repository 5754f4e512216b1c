"""The only file that opens or creates arrays: Zarr v2 and v3 through TensorStore, through zarr where that cannot.

Reading and writing are thread-safe and done by TensorStore's own threads without Python's lock. zarr is imported
only when it is needed: its import takes longer than a whole frame.
"""

from __future__ import annotations

import functools
import math
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.boxes import blocks_met
from octree.pyramid.deadline import within_time
from octree.pyramid.errors import OctreeError, SourceError, WriteError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.memory import check_room, room_bytes
from octree.pyramid.model import Box, LevelInfo, PyramidSpec
from octree.pyramid.store import ngff
from octree.pyramid.store.chunk_codecs import ChunkCodecs
from octree.pyramid.store.chunk_files import ChunkFiles
from octree.pyramid.store.codecs import Codec
from octree.pyramid.store.named import Where, place_of
from octree.pyramid.store.place import End, LocalPlace, Place, Staging
from octree.pyramid.store.reading import Later, Reading, Started
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions
from octree.pyramid.store.zarr_meta import ArrayMeta, read_array_meta

Explain = Callable[[BaseException], Exception]
_LIBRARY_ERRORS = (ValueError, OSError, RuntimeError, TypeError)
_WRITE_ERRORS = (ValueError, OSError, RuntimeError, SourceError)


class Readable(Protocol):
    """What reads the chunks of one array."""

    def start(self, box: Box, explain: Explain) -> Reading: ...


class StoredArray:
    """One Zarr array, opened for reading. ``engine`` is "tensorstore" or "zarr". Thread-safe.

    ``what`` names the array in errors, for example "level 2".
    """

    def __init__(
        self,
        place: Place,
        meta: ArrayMeta,
        engine: str,
        what: str,
        threads: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.place, self.meta, self.what = place, meta, what
        limits.check_bytes(f"{what} at {place}", "one chunk", math.prod(meta.chunks) * meta.dtype.itemsize)
        if meta.shards:
            pairs = zip(meta.shards, meta.chunks, strict=True)
            index_bytes = 16 * math.prod(s // c for s, c in pairs)
            limits.check_bytes(f"{what} at {place}", "the index of one shard", index_bytes)
        self.shape, self.dtype = meta.shape, meta.dtype
        self.chunks, self.shards = meta.chunks, meta.shards
        self._limited = room_bytes() is not None
        self._reader: Readable
        self._files: ChunkFiles | None = None
        if engine == "zarr":
            self._open_zarr()
            return
        try:
            own = place.reader(meta, what)
            if own is not None:
                self.engine, self._reader = "ranges", own
                return
            self.engine, self._reader = "tensorstore", _TensorStoreReader(place, meta, threads)
        except ValueError as error:
            if engine == "tensorstore":
                raise SourceError(
                    f"{what}: TensorStore cannot open {place}: {_first_line(error)}", path=str(place)
                ) from error
            self._open_zarr()  # a codec or data type that only zarr knows
            return
        if isinstance(place, LocalPlace):  # other stores have no files to look at first
            self._files = ChunkFiles(place.path, meta, place.reach, what, all_codecs=False)

    def _open_zarr(self) -> None:
        """By the zarr library, which knows more codecs, and decodes whatever there is."""
        try:
            if isinstance(self.place, LocalPlace):
                path, reach = self.place.path, self.place.reach
                self._files = ChunkFiles(path, self.meta, reach, self.what, all_codecs=True)
            else:
                ChunkCodecs(self.meta, all_codecs=True)
        except ValueError as error:
            raise SourceError(
                f"{self.what}: the Zarr array at {self.place} cannot be read: {error}",
                hint="write it again with one of these",
                path=str(self.place),
            ) from error
        self.engine, self._reader = "zarr", _ZarrReader(self.place, self.what)

    def start(self, box: Box) -> Reading:
        """Begin to read ``box``. Errors are those of ``read``; what can be told at once is raised here."""
        if self._limited:
            check_room((math.prod(box.shape) + 2 * math.prod(self.chunks)) * self.dtype.itemsize)
        explain = functools.partial(_chunk_error, self, box)
        try:
            if self._files is not None:
                self._files.check(box)
            return self._reader.start(box, explain)
        except OctreeError:
            raise
        except _LIBRARY_ERRORS as error:
            raise explain(error) from error

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels of ``box``, native byte order; chunks that are not stored are the fill value.

        Raises SourceError naming array, chunk and file when a chunk is corrupt or cannot be read, OutsideError when a
        link leads out of the source.
        """
        return self.start(box).result()


class _TensorStoreReader:
    def __init__(self, place: Place, meta: ArrayMeta, threads: int | None) -> None:
        more = {"recheck_cached_metadata": "open", "recheck_cached_data": "open"}
        context = read_context(threads)
        self._array = _open(place, meta.zarr_format, more, open=True, read=True, context=context)

    def start(self, box: Box, explain: Explain) -> Reading:
        return Started(self._array[box.slices].read(), explain)


class _ZarrReader:
    def __init__(self, place: Place, what: str) -> None:
        store = place.zarr_store
        import zarr

        try:
            array = zarr.open_array(store, mode="r")
        except Exception as error:  # zarr raises whatever its codecs raise
            raise SourceError(
                f"{what}: the Zarr array at {place} cannot be opened: {_first_line(error)}",
                hint="its metadata are wrong, or it uses a codec that is not installed here",
                path=str(place),
            ) from error
        self._array = array

    def start(self, box: Box, explain: Explain) -> Reading:
        def read() -> NDArray[Any]:
            try:
                data = np.asarray(self._array[box.slices])
            except _LIBRARY_ERRORS as error:
                raise explain(error) from error
            return data.astype(data.dtype.newbyteorder("="), copy=False)

        return Later(read)


def _open(place: Place | Staging, zarr_format: int, spec: Mapping[str, Any], **options: Any) -> Any:
    """TensorStore's array at ``place``; raises as TensorStore does."""
    import tensorstore as ts

    store = place.kvstore
    if isinstance(store, Mapping):
        store = ts.KvStore.Spec(store)
    driver = "zarr3" if zarr_format == 3 else "zarr"
    return ts.open({"driver": driver, **spec}, kvstore=store, **options).result()


@functools.cache
def read_context(threads: int | None = None) -> Any:
    """TensorStore's threads and caches for reading, one for the process and number of threads (None: one for each
    core). Owner: TensorStore; any thread.

    The pool holds shard indices and a few decoded chunks: without it each tile reads its shard's index again.
    """
    import tensorstore as ts

    copying = {} if threads is None else {"data_copy_concurrency": {"limit": threads}}
    return ts.Context({"cache_pool": {"total_bytes_limit": 16 * 2**20}, **copying})


def _first_line(error: BaseException) -> str:
    """What an error says, without TensorStore's notes in brackets, which repeat a whole specification."""
    lines = re.split(r" \[(?:tensorstore_spec|source locations)=", str(error))[0].splitlines()
    return lines[0][:400] if lines else type(error).__name__


def _chunk_error(array: StoredArray, box: Box, error: BaseException) -> SourceError:
    """Which array, chunk and file: TensorStore says the file, from which the chunk follows."""
    text = _first_line(error)
    found = re.search(r'local file "([^"]+)"', text)
    file = found.group(1) if found else None
    chunk = os.path.relpath(file, str(array.place)) if file else chunk_text(box, array.chunks)
    return SourceError(
        f"{array.what} at {array.place}: chunk {chunk} cannot be read: {text}",
        hint="the file is damaged or incomplete: copy it again",
        array=str(array.place),
        chunk=chunk,
        file=file,
    )


def chunk_text(box: Box, chunks: tuple[int, ...]) -> str:
    """What the chunks are called that ``box`` meets: 0/1/2, or the first and the last."""
    met = blocks_met(box, chunks)
    first, last = ("/".join(str(places[end]) for places in met) for end in (0, -1))
    return first if first == last else f"{first} to {last}"


def open_array(
    where: Where,
    *,
    engine: str = "auto",
    what: str | None = None,
    threads: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    meta: ArrayMeta | None = None,
) -> StoredArray:
    """The Zarr array at ``where`` for reading.

    ``engine``   "auto" (TensorStore, else zarr), "tensorstore" or "zarr".
    ``threads``  how many decode chunks at a time, all cores by default.
    ``limits``   what one chunk may decode to.
    ``meta``     its metadata, where they have been read.

    Raises SourceNotFound or SourceError when there is no array or it cannot be opened, LimitError for chunks above
    ``limits``.
    """
    place = place_of(where)
    name = what or f"array {place.name}"
    return StoredArray(place, meta or read_array_meta(place, name), engine, name, threads, limits)


class Pyramid:
    """An OME-Zarr pyramid opened for reading. ``spec`` says what it is, ``read`` gives voxels.

    ``group`` is where its levels lie, ``path`` what the user called it, ``metas`` what is known of its levels. Levels are opened when first read. Owner of the open arrays: this object, under its lock; any thread reads.
    """

    def __init__(
        self,
        group: Where,
        spec: PyramidSpec,
        engine: str = "auto",
        limits: Limits = DEFAULT_LIMITS,
        path: str | None = None,
        metas: Sequence[ArrayMeta] = (),
    ) -> None:
        self.metas = tuple(metas)
        self.group, self.spec, self._limits = place_of(group), spec, limits
        self.path = path or str(group)
        self._wanted_engine = engine
        self._lock = threading.Lock()
        self._arrays: dict[int, StoredArray] = {}

    @property
    def engine(self) -> str:
        """What decodes level 0: "tensorstore" or "zarr"."""
        return self.array(0).engine

    def array(self, level: int) -> StoredArray:
        """The opened array of one level. Raises SourceError."""
        array = self._arrays.get(level)
        if array is None:
            with self._lock:
                array = self._arrays.get(level)
                if array is None:
                    array = open_array(
                        self.group.child(self.spec.levels[level].path),
                        engine=self._wanted_engine,
                        what=f"level {level}",
                        limits=self._limits,
                        meta=self.metas[level] if self.metas else None,
                    )
                    self._arrays[level] = array
        return array

    def start(self, level: int, box: Box) -> Reading:
        """Begin to read ``box`` (voxels of that level, all axes). Thread-safe. Raises SourceError."""
        return self.array(level).start(box)

    def read(self, level: int, box: Box) -> NDArray[Any]:
        """The voxels of ``box`` (voxels of that level, all axes): shape ``box.shape``. Thread-safe.

        Raises SourceError naming level, chunk and file.
        """
        return self.start(level, box).result()


def open_pyramid(
    where: Where,
    *,
    engine: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
    allow_outside: bool = False,
    remote: RemoteOptions = DEFAULT_REMOTE,
) -> Pyramid:
    """The OME-Zarr pyramid at ``where``. Raises SourceNotFound or SourceError for a folder that is none, LimitError when
    a chunk of one of its levels is above ``limits``, OutsideError when a name in it or a link leads out of the folder,
    unless ``allow_outside``. A URL is reached as ``remote`` says."""
    place = place_of(where, anywhere=allow_outside, remote=remote)
    scale = within_time(str(where), lambda: ngff.read_multiscale(place))
    spec = ngff.spec_of(scale)
    for level in spec.levels:
        size = math.prod(level.chunks) * spec.dtype.itemsize
        limits.check_bytes(str(where), f"one chunk of level {level.path}", size)
    return Pyramid(scale.group, spec, engine, limits, str(where), scale.arrays)


class LevelWriter:
    """One level opened for writing, thread-safe as long as no two callers write the same write unit."""

    def __init__(self, folder: Where, level: LevelInfo, zarr_format: int, context: Any) -> None:
        self.level, self._folder, self._v3 = level, place_of(folder), zarr_format == 3
        # TensorStore (up to 0.1.86) takes parts of an array for the fill value, and drops them, where they are strided along more
        # than three axes (colour in cubes): those it must copy first
        self._in_place = sum(c > 1 for c in level.chunks) <= 3
        self.place = self._folder.child(level.path)
        self._staging = self.place.staging(_memory_store)
        try:
            if self._staging is not None:
                self._staging.fetch([_metadata_name(zarr_format)])
            self._array = _open(
                self._staging or self.place,
                zarr_format,
                {"recheck_cached_metadata": "open"},
                open=True,
                context=context,
            )
        except _WRITE_ERRORS as error:
            raise write_error(
                f"level {level.path} cannot be opened for writing", self.place, error
            ) from error

    def write(self, box: Box, data: NDArray[Any]) -> Any:
        """Start writing whole write units; give what is returned to ``wait``. ``data`` must not change before."""
        written = self._array[box.slices].write(data, can_reference_source_data_indefinitely=self._in_place)
        return written if self._staging is None else self._staging.send(written, self._keys(box))

    def _keys(self, box: Box) -> list[str]:
        return unit_keys(self.level, box, v3=self._v3)

    def wait(self, future: Any) -> None:
        """Until a write's files are on disk. Raises WriteError."""
        try:
            future.result()
        except _WRITE_ERRORS as error:
            raise write_error(f"level {self.level.path} cannot be written", self.place, error) from error

    def read(self, box: Box) -> NDArray[Any]:
        """What is stored in ``box``. Raises WriteError: what was just written is damaged or gone."""
        try:
            if self._staging is not None:
                self._staging.fetch(self._keys(box))
            data: NDArray[Any] = self._array[box.slices].read().result()
            if self._staging is not None:
                self._staging.drop(self._keys(box))
        except _WRITE_ERRORS as error:
            raise write_error(f"level {self.level.path} cannot be read back", self.place, error) from error
        return data

    def remove(self, box: Box) -> None:
        """Remove the files of ``box``, and what a killed writer left of them. Raises WriteError."""
        keys = [f"{self.level.path}/{key}" for key in self._keys(box)]
        if self._staging is not None:
            try:
                self._folder.remove(keys)
            except _WRITE_ERRORS as error:
                raise write_error(f"level {self.level.path} cannot be removed", self.place, error) from error
            return
        try:
            self._folder.remove([name for key in keys for name in (key, f"{key}.__lock")])
        except OSError as error:
            raise WriteError(
                f"level {self.level.path}: {error.filename or self.place}, left by an earlier run, cannot be removed: "
                f"{error.strerror or error}",
                path=str(self.place),
            ) from error

    def ends(self, box: Box) -> list[End]:
        """How the files of the write units end that ``box`` meets, as far as there are any. Raises WriteError."""
        if self._staging is not None:
            return self._staging.ends(self._keys(box))
        try:
            return self.place.ends(self._keys(box))
        except OSError as error:
            raise write_error(f"level {self.level.path} cannot be read back", self.place, error) from error


def unit_keys(level: LevelInfo, box: Box, *, v3: bool) -> list[str]:
    """Keys of the write units (shards, or chunks) that ``box`` meets, below the level's folder."""
    unit = level.shards or level.chunks
    keys = [""] if not v3 else ["c"]
    for numbers in blocks_met(box, unit):
        keys = [f"{key}/{number}" if key else str(number) for key in keys for number in numbers]
    return keys


def write_context(workers: int) -> Any:
    """TensorStore's threads for building: as many as workers, and no cache, as nothing is read twice."""
    import tensorstore as ts

    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": 0},
            "data_copy_concurrency": {"limit": max(1, workers)},
            "file_io_concurrency": {"limit": max(4, workers)},
        }
    )


def create_level(
    folder: Where,
    level: LevelInfo,
    dtype: np.dtype[Any],
    names: tuple[str, ...],
    codec: Codec,
    zarr_format: int,
) -> None:
    """Create the array of one level (its metadata only), or find it as it should be.

    ``names`` are the axes' names, written as ``dimension_names`` in Zarr v3. Raises WriteError.
    """
    place = place_of(folder).child(level.path)
    metadata = (
        _v3_metadata(level, dtype, names, codec) if zarr_format == 3 else _v2_metadata(level, dtype, codec)
    )
    staging = place.staging(_memory_store)
    try:
        _open(staging or place, zarr_format, {"metadata": metadata}, create=True, open=True)
        if staging is not None:
            staging.send(None, [_metadata_name(zarr_format)]).result()
    except _WRITE_ERRORS as error:
        raise write_error(f"level {level.path} cannot be created", place, error) from error


def _memory_store() -> Any:
    import tensorstore as ts

    return ts.KvStore.open({"driver": "memory"}, context=ts.Context()).result()


def _metadata_name(zarr_format: int) -> str:
    return "zarr.json" if zarr_format == 3 else ".zarray"


def write_error(what: str, place: Place, error: BaseException) -> WriteError:
    """A failed write as the user meets it."""
    if isinstance(error, OctreeError):  # a store says itself what was refused, and what helps
        return WriteError(f"{what}: {error.message}", hint=error.hint, path=str(place))
    return WriteError(f"{what}: {_first_line(error)}", path=str(place))


def _v3_metadata(
    level: LevelInfo, dtype: np.dtype[Any], names: tuple[str, ...], codec: Codec
) -> dict[str, Any]:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    plain = {"name": "bytes"} if dtype.itemsize == 1 else little
    codecs: list[dict[str, Any]] = [plain, *codec.v3(dtype.itemsize)]
    if level.shards:
        sharding = {
            "chunk_shape": list(level.chunks),
            "codecs": codecs,
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    zero: Any = {"b": False, "f": 0.0, "c": [0.0, 0.0]}.get(dtype.kind, 0)
    return {
        "shape": list(level.shape),
        "data_type": dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(level.shards or level.chunks)},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": zero,
        "dimension_names": list(names),
        "codecs": codecs,
    }


def _v2_metadata(level: LevelInfo, dtype: np.dtype[Any], codec: Codec) -> dict[str, Any]:
    return {
        "shape": list(level.shape),
        "dtype": dtype.newbyteorder("<").str,
        "chunks": list(level.chunks),
        "dimension_separator": "/",
        "fill_value": {"b": False, "f": 0.0, "c": [0.0, 0.0]}.get(dtype.kind, 0),
        "compressor": codec.v2(dtype.itemsize),
        "filters": None,
        "order": "C",
    }
