"""Objects in memory or with slicing of their own: numpy, dask, zarr, h5py, xarray, tensorstore and the like."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.axes import name_axes
from octree.pyramid.boxes import covering_shape, fitted
from octree.pyramid.errors import OctreeError, SourceError, UsageError
from octree.pyramid.model import Box
from octree.pyramid.sources.protocol import Facts
from octree.pyramid.units import known_unit

_SPACING_TOLERANCE = 1e-3


class ObjectArray:
    """Any object with shape, dtype and slicing, read through ``fetch(slices) -> array``."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        fetch: Callable[[tuple[slice, ...]], Any],
        *,
        engine: str,
        block: tuple[int, ...] | None = None,
        facts: Facts | None = None,
        copies: bool = True,
        name: str = "",
    ) -> None:
        self.shape, self.dtype, self.engine = shape, dtype.newbyteorder("="), engine
        self.block = fitted(block or shape, shape)
        self._chunked = block is not None
        self.facts = facts or Facts()
        self.held_bytes = 0
        self._fetch, self._copies = fetch, copies or not dtype.isnative
        self._name = name

    def read(self, box: Box) -> NDArray[Any]:
        try:
            data = unmasked(self._fetch(box.slices), SourceError)
        except (OctreeError, MemoryError):
            raise
        except Exception as error:  # whatever the object's own library raises
            raise SourceError(
                f"the {self.engine} array's block from {box.start} to {box.stop} cannot be read: "
                f"{type(error).__name__}: {error}",
                block=[list(box.start), list(box.stop)],
            ) from error
        if data.shape != box.shape:
            raise SourceError(
                f"the source gave shape {data.shape} for a block of shape {box.shape}",
                hint="the object's slicing does not behave like numpy's",
            )
        return data

    def transient_bytes(self, box: Box) -> int:
        """The chunks that the box meets, twice: a library holds them encoded, or as parts of a whole, too. Where
        nothing is known of chunks, the box itself."""
        if not self._copies:
            return 0
        if not self._chunked:
            return 2 * math.prod(box.shape) * self.dtype.itemsize
        return 2 * math.prod(covering_shape(box, self.block)) * self.dtype.itemsize

    def identity(self) -> dict[str, Any]:
        """Shape, dtype and a digest of a few blocks: an object has no date of change to go by."""
        digest = hashlib.sha256(repr((self._name, self.shape, self.dtype.str)).encode())
        for place in (0.0, 0.5, 1.0):
            start = tuple(int((n - min(n, 64)) * place) for n in self.shape)
            stop = tuple(
                a + min(n, 64) if i >= len(start) - 2 else a + 1
                for i, (a, n) in enumerate(zip(start, self.shape, strict=True))
            )
            digest.update(np.ascontiguousarray(self.read(Box(start, stop))).tobytes())
        return {"object": self.engine, "name": self._name, "digest": digest.hexdigest()}

    def close(self) -> None:
        """The object is the caller's: it is not closed."""


def wrap_array(source: Any) -> ObjectArray:
    """A RawArray over ``source``. Raises UsageError when it has no shape, dtype or slicing."""
    if isinstance(source, np.ma.MaskedArray):
        source = unmasked(source, UsageError)
    if isinstance(source, np.ndarray):
        return ObjectArray(source.shape, source.dtype, source.__getitem__, engine="numpy", copies=False)
    library = type(source).__module__.partition(".")[0]
    if library == "xarray":
        return _wrap_xarray(source)
    for attribute in ("shape", "dtype", "__getitem__"):
        if not hasattr(source, attribute):
            raise UsageError(
                f"a source is a path or an object with shape, dtype and slicing; {type(source).__name__} has no {attribute}",
                hint="give a path, or convert it with numpy.asarray",
            )
    try:
        shape, dtype = tuple(int(n) for n in source.shape), _dtype_of(source)
    except ValueError as error:  # dask, after a selection
        raise UsageError(
            f"the array's shape {source.shape} is not known",
            hint="dask: call array.compute_chunk_sizes() first",
        ) from error
    if library == "tensorstore" and shape:  # its axes may begin anywhere
        source = source.translate_to[(0,) * len(shape)]
    fetch = _fetcher(source, library)
    engine = library if library in ("dask", "zarr", "h5py", "tensorstore") else "object"
    name = str(getattr(source, "name", "") or "")
    names = _axis_names(source, library)
    facts = Facts(axes=name_axes(names) if any(names) else None)
    return ObjectArray(shape, dtype, fetch, engine=engine, block=_block_of(source), facts=facts, name=name)


def _axis_names(source: Any, library: str) -> list[str]:
    """What the object calls its axes, "" for those that it does not name; [] where it has no names."""
    names: Any = ()
    if library == "zarr":
        names = getattr(source.metadata, "dimension_names", None) or source.attrs.get("_ARRAY_DIMENSIONS")
    elif library == "tensorstore":
        names = source.domain.labels
    elif library == "h5py":
        names = [dim.label for dim in source.dims]
    return [str(name or "") for name in names or ()]


def unmasked(values: Any, refused: type[OctreeError]) -> NDArray[Any]:
    """``values`` as an array. Masked floats are NaN, which counts for nothing; integers have no such value, so the user
    must choose one: raises ``refused``."""
    if not np.ma.is_masked(values):
        return np.asarray(values)
    if values.dtype.kind in "fc":
        return np.asarray(values.filled(np.nan))
    raise refused(
        f"a masked array of {values.dtype} has no value for what is masked",
        hint="fill it, array.filled(value), and give that value as nodata",
    )


def _dtype_of(source: Any) -> np.dtype[Any]:
    declared = getattr(source.dtype, "numpy_dtype", source.dtype)
    try:
        dtype: np.dtype[Any] = np.dtype(declared)
    except TypeError as error:
        raise SourceError(
            f"the source's dtype {declared} has no numpy equivalent", hint="convert it with numpy.asarray"
        ) from error
    return dtype


def _fetcher(source: Any, library: str) -> Callable[[tuple[slice, ...]], Any]:
    if hasattr(source, "dask") and hasattr(source, "compute"):
        # the synchronous scheduler: our own threads are the parallelism, dask's would multiply them
        return lambda slices: source[slices].compute(scheduler="synchronous")
    if library == "tensorstore":
        return lambda slices: source[slices].read().result()
    return lambda slices: source[slices]


def _block_of(source: Any) -> tuple[int, ...] | None:
    chunks = getattr(source, "chunks", None)
    if not isinstance(chunks, tuple) or len(chunks) != len(source.shape):
        return None
    # dask lists every chunk's length per axis, the others give one length
    return tuple(int(max(c, default=1)) if isinstance(c, tuple) else int(c) for c in chunks)


def _wrap_xarray(source: Any) -> ObjectArray:
    if not hasattr(source, "dims") or not hasattr(source, "isel") or hasattr(source, "data_vars"):
        raise UsageError(
            "an xarray Dataset holds several images", hint="choose one: dataset['name'] is a DataArray"
        )
    dims: tuple[Hashable, ...] = source.dims
    letters = name_axes(str(dim) for dim in dims)
    data = source.variable
    lazy = hasattr(getattr(data, "_data", None), "dask")

    def fetch(slices: tuple[slice, ...]) -> Any:
        part = data[slices]
        return part.data.compute(scheduler="synchronous") if lazy else part.values

    chunks = data.chunks
    block = tuple(max(c) for c in chunks) if chunks else None
    name = str(source.name or "")
    facts = _coordinate_facts(source, dict(zip(letters, dims, strict=True)) if letters else {}, letters, name)
    return ObjectArray(
        tuple(source.shape),
        np.dtype(source.dtype),
        fetch,
        engine="xarray",
        block=block,
        facts=facts,
        name=name,
    )


def _coordinate_facts(source: Any, dims: Mapping[str, Hashable], axes: str | None, name: str) -> Facts:
    """Voxel sizes, positions and units from evenly spaced, rising coordinates."""
    sizes: dict[str, float] = {}
    shifts: dict[str, float] = {}
    units: dict[str, str] = {}
    for letter, dim in dims.items():
        if letter in "cs" or dim not in source.coords:
            continue
        values = source.coords[dim]
        if values.dtype.kind not in "iuf" or values.size < 2:
            continue
        steps = np.diff(np.asarray(values.values, dtype=np.float64))
        step = float(steps.mean())
        if step > 0 and np.all(np.abs(steps - step) <= _SPACING_TOLERANCE * step):
            sizes[letter], shifts[letter] = step, float(values.values[0])
            if unit := known_unit(str(values.attrs.get("units", ""))):
                units[letter] = unit
    return Facts(axes=axes, voxel_size=sizes, translation=shifts, units=units, name=name)
