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
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.boxes import blocks_met
from octree.pyramid.errors import SourceError, WriteError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import Box, LevelInfo, PyramidSpec
from octree.pyramid.store import ngff
from octree.pyramid.store.codecs import Codec
from octree.pyramid.store.removal import remove_units
from octree.pyramid.store.zarr_meta import ArrayMeta, read_array_meta


class _Readable(Protocol):
    def read(self, box: Box) -> NDArray[Any]: ...


class StoredArray:
    """One Zarr array, opened for reading. ``engine`` is "tensorstore" or "zarr". Thread-safe.

    ``what`` names the array in errors, for example "level 2".
    """

    def __init__(
        self,
        path: Path,
        meta: ArrayMeta,
        engine: str,
        what: str,
        threads: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.path, self.meta, self.what = path, meta, what
        limits.check_bytes(f"{what} at {path}", "one chunk", math.prod(meta.chunks) * meta.dtype.itemsize)
        self.shape, self.dtype = meta.shape, meta.dtype
        self.chunks, self.shards = meta.chunks, meta.shards
        self._reader: _Readable
        if engine == "zarr":
            self.engine, self._reader = "zarr", _ZarrReader(path, what)
            return
        try:
            self.engine, self._reader = "tensorstore", _TensorStoreReader(path, meta, threads)
        except ValueError as error:
            if engine == "tensorstore":
                raise SourceError(
                    f"{what}: TensorStore cannot open {path}: {_first_line(error)}", path=str(path)
                ) from error
            # a codec or data type that only zarr knows
            self.engine, self._reader = "zarr", _ZarrReader(path, what)

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels of ``box``, native byte order; chunks that are not stored are the fill value.

        Raises SourceError naming array, chunk and file when a chunk is corrupt or cannot be read.
        """
        try:
            return self._reader.read(box)
        except (ValueError, OSError, RuntimeError, TypeError) as error:
            raise _chunk_error(self, box, error) from error


class _TensorStoreReader:
    def __init__(self, path: Path, meta: ArrayMeta, threads: int | None) -> None:
        import tensorstore as ts

        spec = {
            "driver": "zarr3" if meta.zarr_format == 3 else "zarr",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "recheck_cached_metadata": "open",
            "recheck_cached_data": "open",
        }
        self._array = ts.open(spec, open=True, read=True, context=read_context(threads)).result()

    def read(self, box: Box) -> NDArray[Any]:
        data: NDArray[Any] = self._array[box.slices].read().result()
        return data


class _ZarrReader:
    def __init__(self, path: Path, what: str) -> None:
        import zarr

        try:
            array = zarr.open_array(path, mode="r")
        except Exception as error:  # zarr raises whatever its codecs raise
            raise SourceError(
                f"{what}: the Zarr array at {path} cannot be opened: {_first_line(error)}",
                hint="it may use a codec that is not installed here",
                path=str(path),
            ) from error
        self._array = array

    def read(self, box: Box) -> NDArray[Any]:
        data = np.asarray(self._array[box.slices])
        return data.astype(data.dtype.newbyteorder("="), copy=False)


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
    chunk = os.path.relpath(file, array.path) if file else chunk_text(box, array.chunks)
    return SourceError(
        f"{array.what} at {array.path}: chunk {chunk} cannot be read: {text}",
        hint="the file is damaged or incomplete: copy it again",
        array=str(array.path),
        chunk=chunk,
        file=file,
    )


def chunk_text(box: Box, chunks: tuple[int, ...]) -> str:
    """What the chunks are called that ``box`` meets: 0/1/2, or the first and the last."""
    met = blocks_met(box, chunks)
    first, last = ("/".join(str(places[end]) for places in met) for end in (0, -1))
    return first if first == last else f"{first} to {last}"


def open_array(
    path: str | Path,
    *,
    engine: str = "auto",
    what: str | None = None,
    threads: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> StoredArray:
    """The Zarr array at ``path`` for reading.

    ``engine``   "auto" (TensorStore, else zarr), "tensorstore" or "zarr".
    ``threads``  how many decode chunks at a time, all cores by default.
    ``limits``   what one chunk may decode to.

    Raises SourceNotFound or SourceError when there is no array or it cannot be opened, LimitError for chunks above
    ``limits``.
    """
    path = Path(path)
    name = what or f"array {path.name}"
    return StoredArray(path, read_array_meta(path, name), engine, name, threads, limits)


class Pyramid:
    """An OME-Zarr pyramid opened for reading. ``spec`` says what it is, ``read`` gives voxels.

    Levels are opened when first read. Owner of the open arrays: this object, under its lock; any thread reads.
    """

    def __init__(
        self,
        path: str | Path,
        spec: PyramidSpec,
        engine: str = "auto",
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.path, self.spec, self._limits = str(path), spec, limits
        self._group = Path(spec.extra.get("group", path))
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
                    path = self._group / self.spec.levels[level].path
                    array = open_array(
                        path, engine=self._wanted_engine, what=f"level {level}", limits=self._limits
                    )
                    self._arrays[level] = array
        return array

    def read(self, level: int, box: Box) -> NDArray[Any]:
        """The voxels of ``box`` (voxels of that level, all axes): shape ``box.shape``. Thread-safe.

        Raises SourceError naming level, chunk and file.
        """
        return self.array(level).read(box)


def open_pyramid(path: str | Path, *, engine: str = "auto", limits: Limits = DEFAULT_LIMITS) -> Pyramid:
    """The OME-Zarr pyramid at ``path``. Raises SourceNotFound or SourceError for a folder that is none, LimitError when
    a chunk of one of its levels is above ``limits``."""
    spec = ngff.read_spec(path)
    for level in spec.levels:
        size = math.prod(level.chunks) * spec.dtype.itemsize
        limits.check_bytes(str(path), f"one chunk of level {level.path}", size)
    return Pyramid(path, spec, engine, limits)


class LevelWriter:
    """One level opened for writing, thread-safe as long as no two callers write the same write unit."""

    def __init__(self, folder: Path, level: LevelInfo, zarr_format: int, context: Any) -> None:
        import tensorstore as ts

        self.level, self.path, self._v3 = level, folder / level.path, zarr_format == 3
        spec = {
            "driver": "zarr3" if self._v3 else "zarr",
            "kvstore": {"driver": "file", "path": f"{self.path}/"},
            "recheck_cached_metadata": "open",
        }
        try:
            self._array = ts.open(spec, open=True, context=context).result()
        except (ValueError, OSError) as error:
            raise WriteError(
                f"{self.path} cannot be opened for writing: {_first_line(error)}", path=str(self.path)
            ) from error

    def write(self, box: Box, data: NDArray[Any]) -> Any:
        """Start writing whole write units; give what is returned to ``wait``. ``data`` must not change before."""
        return self._array[box.slices].write(data, can_reference_source_data_indefinitely=True)

    def wait(self, future: Any) -> None:
        """Until a write's files are on disk. Raises WriteError."""
        try:
            future.result()
        except (ValueError, OSError, RuntimeError) as error:
            raise write_error(f"level {self.level.path} cannot be written", self.path, error) from error

    def read(self, box: Box) -> NDArray[Any]:
        """What is stored in ``box``. Raises WriteError: what was just written is damaged or gone."""
        try:
            data: NDArray[Any] = self._array[box.slices].read().result()
        except (ValueError, OSError, RuntimeError) as error:
            raise write_error(f"level {self.level.path} cannot be read back", self.path, error) from error
        return data

    def remove(self, box: Box) -> None:
        """Remove the files of ``box``, and what a killed writer left of them. Raises WriteError."""
        keys = [f"{self.level.path}/{key}" for key in unit_keys(self.level, box, v3=self._v3)]
        try:
            remove_units(self.path.parent, [name for key in keys for name in (key, f"{key}.__lock")])
        except OSError as error:
            raise WriteError(
                f"level {self.level.path}: what an earlier run left cannot be removed: {error.strerror or error}",
                path=str(self.path),
            ) from error

    def files(self, box: Box) -> list[Path]:
        """The files of the write units that ``box`` meets, whether they exist or not."""
        return [self.path / key for key in unit_keys(self.level, box, v3=self._v3)]


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
    folder: Path,
    level: LevelInfo,
    dtype: np.dtype[Any],
    names: tuple[str, ...],
    codec: Codec,
    zarr_format: int,
) -> None:
    """Create the array of one level (its metadata only), or find it as it should be.

    ``names`` are the axes' names, written as ``dimension_names`` in Zarr v3. Raises WriteError.
    """
    import tensorstore as ts

    metadata = (
        _v3_metadata(level, dtype, names, codec) if zarr_format == 3 else _v2_metadata(level, dtype, codec)
    )
    spec = {
        "driver": "zarr3" if zarr_format == 3 else "zarr",
        "kvstore": {"driver": "file", "path": f"{folder / level.path}/"},
        "metadata": metadata,
    }
    try:
        ts.open(spec, create=True, open=True).result()
    except (ValueError, OSError) as error:
        raise write_error(f"level {level.path} cannot be created", folder / level.path, error) from error


def write_error(what: str, path: Path, error: BaseException) -> WriteError:
    """A failed write as the user meets it."""
    return WriteError(f"{what}: {_first_line(error)}", path=str(path))


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
