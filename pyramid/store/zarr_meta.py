"""What a Zarr array's own metadata say, v2 and v3, from plain JSON and without the zarr library. Pure but for reading."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from octree.pyramid.errors import SourceError, SourceNotFound
from octree.pyramid.store.json_files import read_json
from octree.pyramid.store.place import Place


@dataclass(frozen=True, slots=True)
class ArrayMeta:
    """``chunks`` is the unit of decoding, ``shards`` the file's when it holds several chunks. ``dtype`` is native.

    ``index_location``  "start" or "end" of a shard whose index is plain with a checksum, as everyone writes it;
    "" without shards, or with an index of another kind.
    ``frame``  "zstd", "blosc" or "none" when a chunk's bytes are just that, and a checksum of ``checksum_bytes`` after it; ""
    when there is more to it.
    ``codecs``  of one chunk, in the order of encoding: name and configuration of each.
    ``big_endian``, ``order``  how the numbers of a chunk are stored, and in which order: "C" or, in v2, "F".
    """

    zarr_format: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codec: str
    dimension_names: tuple[str | None, ...] | None
    fill_value: Any
    separator: str
    attributes: Mapping[str, Any]
    key_prefix: str = ""
    index_location: str = ""
    frame: str = ""
    checksum_bytes: int = 0
    codecs: tuple[Mapping[str, Any], ...] = ()
    big_endian: bool = False
    order: str = "C"


_DTYPES = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
}  # fmt: skip


class UnknownDtype(ValueError):
    """A data type that is none of an image's numbers; nothing is wrong with the metadata."""


def _checked(meta: ArrayMeta) -> ArrayMeta:
    """``meta``, when its lengths can be of one array. Raises ValueError."""
    if math.prod(meta.shape) >= 2**63:
        raise ValueError(f"an array of shape {meta.shape} has more voxels than can be counted")
    units = [meta.chunks, *([meta.shards] if meta.shards else [])]
    if any(len(unit) != len(meta.shape) or 0 in unit for unit in units):
        raise ValueError(f"chunks of shape {units[-1]} do not fit an array of shape {meta.shape}")
    if meta.shards and any(s % c for s, c in zip(meta.shards, meta.chunks, strict=True)):
        raise ValueError(f"shards of shape {meta.shards} are no whole chunks of shape {meta.chunks}")
    return meta


def is_array(place: Place) -> bool:
    """Is ``place`` the folder of a Zarr array, v2 or v3? Raises OutsideError."""
    node = read_json(place.child("zarr.json"))
    if node is not None:
        return node.get("node_type") == "array"
    return place.child(".zarray").stamp() is not None


def metadata_name(zarr_format: int) -> str:
    """The value that holds an array's metadata."""
    return ".zarray" if zarr_format == 2 else "zarr.json"


def read_array_meta(place: Place, what: str = "array", *, zarr_format: int | None = None) -> ArrayMeta:
    """Metadata of the array at ``place``; ``what`` names it in errors. ``zarr_format`` that it most likely has: then only
    its own metadata are read, of v2 without attributes. Raises SourceNotFound, SourceError, OutsideError."""
    try:
        if zarr_format == 2 and (node := read_json(place.child(".zarray"))) is not None:
            return _checked(_from_v2(node, {}))
        if (node := read_json(place.child("zarr.json"))) is not None:
            if node.get("node_type") != "array":
                raise SourceError(f"{what}: {place} is a Zarr group, not an array", path=str(place))
            return _checked(_from_v3(node))
        if (node := read_json(place.child(".zarray"))) is not None:
            return _checked(_from_v2(node, read_json(place.child(".zattrs")) or {}))
    except UnknownDtype as error:
        raise SourceError(
            f"{place} has {error}; an image holds bool, integers, floats of 16 to 64 bits or complex numbers",
            hint="convert it, or choose another array",
            path=str(place),
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SourceError(
            f"{what}: the Zarr metadata in {place} are broken: {type(error).__name__}: {error}",
            path=str(place),
        ) from error
    raise SourceNotFound(
        f"{what}: there is no Zarr array at {place}",
        hint="the folder is incomplete; copy it again",
        path=str(place),
    )


def _from_v3(node: Mapping[str, Any]) -> ArrayMeta:
    shape = _lengths(node["shape"])
    grid = node["chunk_grid"]
    if grid["name"] != "regular":
        raise ValueError(f"chunk grid {grid['name']!r} is not supported")
    outer = _lengths(grid["configuration"]["chunk_shape"])
    codecs = node.get("codecs") or []
    shards, chunks, index_location = None, outer, ""
    for codec in codecs:
        if codec["name"] == "sharding_indexed":
            inner = codec["configuration"]
            shards, chunks = outer, _lengths(inner["chunk_shape"])
            codecs = inner.get("codecs") or []
            if [step["name"] for step in inner.get("index_codecs") or []] == ["bytes", "crc32c"]:
                index_location = str(inner.get("index_location", "end"))
            break
    encoding = node.get("chunk_key_encoding") or {}
    default = encoding.get("name", "default") == "default"
    configuration = encoding.get("configuration") or {}
    names = [str(codec["name"]) for codec in codecs if codec["name"] not in ("bytes", "transpose")]
    checksum_bytes = 4 if names[-1:] == ["crc32c"] else 0
    names = names[:-1] if checksum_bytes else names
    axes = node.get("dimension_names")
    return ArrayMeta(
        zarr_format=3,
        shape=shape,
        dtype=_v3_dtype(node["data_type"]),
        chunks=chunks,
        shards=shards,
        codec=_codec_text(codecs),
        dimension_names=tuple(axes) if axes else None,
        fill_value=node.get("fill_value"),
        separator=str(configuration.get("separator", "/" if default else ".")),
        attributes=_object(node.get("attributes")),
        key_prefix="c" if default else "",
        index_location=index_location,
        frame=_frame(names),
        checksum_bytes=checksum_bytes,
        codecs=tuple(codecs),
        big_endian=any(_is_big(codec) for codec in codecs),
    )


def _from_v2(node: Mapping[str, Any], attributes: Mapping[str, Any]) -> ArrayMeta:
    steps = [*(node.get("filters") or []), *([node["compressor"]] if node.get("compressor") else [])]
    return ArrayMeta(
        zarr_format=2,
        shape=_lengths(node["shape"]),
        dtype=_v2_dtype(node["dtype"]),
        chunks=_lengths(node["chunks"]),
        shards=None,
        codec=_codec_text([{"name": step["id"], "configuration": step} for step in steps]),
        dimension_names=None,
        fill_value=node.get("fill_value"),
        separator=str(node.get("dimension_separator") or "."),
        frame=_frame([str(step["id"]) for step in steps]),
        codecs=tuple({"name": step["id"], "configuration": step} for step in steps),
        big_endian=str(node["dtype"]).startswith(">"),
        order=str(node.get("order") or "C"),
        attributes=attributes,
    )


def _frame(names: list[str]) -> str:
    name = names[0] if len(names) == 1 else "" if names else "none"
    return name if name in ("zstd", "blosc", "none") else ""


def _is_big(codec: Mapping[str, Any]) -> bool:
    return codec["name"] == "bytes" and (codec.get("configuration") or {}).get("endian") == "big"


def _object(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping | None):
        raise ValueError("attributes are no object")
    return given or {}


def _lengths(values: Any) -> tuple[int, ...]:
    """Lengths per axis. Raises ValueError or TypeError for what is none, or more than any system has bytes."""
    lengths = tuple(operator.index(v) for v in values)
    if any(not 0 <= v < 2**63 for v in lengths):
        raise ValueError("a length is negative or beyond what a file can have")
    return lengths


def _v3_dtype(given: Any) -> np.dtype[Any]:
    name = given.get("name") if isinstance(given, Mapping) else given
    if name in _DTYPES:
        return np.dtype(name)
    raise UnknownDtype(f"dtype {name or given}")


def _v2_dtype(given: Any) -> np.dtype[Any]:
    dtype = np.dtype(given if isinstance(given, str) else [tuple(field) for field in given])
    if dtype.name not in _DTYPES:
        raise UnknownDtype("structured fields" if dtype.names else f"dtype {dtype}")
    return dtype.newbyteorder("=")


def _codec_text(codecs: Any) -> str:
    """As ``--codec`` writes it: ``zstd:1``, ``blosc-lz4:5``, ``none``; several joined by ``+``."""
    words = []
    for codec in codecs:
        name, options = str(codec["name"]), codec.get("configuration") or {}
        if name in ("bytes", "crc32c", "transpose"):
            continue
        level = options.get("level", options.get("clevel"))
        cname = f"-{options['cname']}" if name == "blosc" and "cname" in options else ""
        words.append(name + cname + (f":{level}" if level is not None else ""))
    return "+".join(words) or "none"


def fill_of(meta: ArrayMeta) -> Any:
    """The fill value as a number of the array's dtype: what a chunk that is not stored holds."""
    value = meta.fill_value
    if value is None:
        return meta.dtype.type(0)
    if meta.dtype.kind == "c" and isinstance(value, (list, tuple)):
        return meta.dtype.type(complex(*(_real(part) for part in value)))
    return meta.dtype.type(_real(value)) if isinstance(value, str) else meta.dtype.type(value)


def _real(value: Any) -> float:
    words = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return words[value] if value in words else float(value)
