"""Codecs of chunks: the words of ``--codec`` to what Zarr v2 and v3 metadata say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octree.pyramid.errors import UsageError

_BLOSC_INNER = ("lz4", "lz4hc", "zstd", "zlib", "blosclz", "snappy")
# lowest, default and highest level of each family
_LEVELS = {"zstd": (-131072, 1, 22), "gzip": (0, 5, 9), "blosc": (0, 5, 9)}

_CHECKSUM = {"name": "crc32c"}


@dataclass(frozen=True, slots=True)
class Codec:
    """One compressor. ``inner`` is blosc's compressor, "" for the others; ``name`` "none" does nothing."""

    name: str
    level: int = 0
    inner: str = ""

    def __str__(self) -> str:
        if self.name == "none":
            return "none"
        return f"{self.name}{'-' if self.inner else ''}{self.inner}:{self.level}"

    def v3(self, itemsize: int) -> list[dict[str, Any]]:
        """Zarr v3 codecs, after the one that makes bytes of the array. A flipped bit is an error, not pixels: the last
        of them ends in a checksum."""
        if self.name == "none":
            return [_CHECKSUM]
        if self.name == "zstd":
            # its own costs nothing that can be measured; TensorStore's crc32c a fifth of a build
            return [{"name": "zstd", "configuration": {"level": self.level, "checksum": True}}]
        if self.name == "gzip":
            return [{"name": "gzip", "configuration": {"level": self.level}}]
        shuffle = "shuffle" if itemsize > 1 else "bitshuffle"
        settings = {"cname": self.inner, "clevel": self.level, "shuffle": shuffle, "typesize": itemsize}
        return [{"name": "blosc", "configuration": {**settings, "blocksize": 0}}, _CHECKSUM]

    def v2(self, itemsize: int) -> dict[str, Any] | None:
        """The Zarr v2 ``compressor``."""
        if self.name == "none":
            return None
        if self.name == "blosc":
            shuffle = 1 if itemsize > 1 else 2
            return {
                "id": "blosc",
                "cname": self.inner,
                "clevel": self.level,
                "shuffle": shuffle,
                "blocksize": 0,
            }
        return {"id": self.name, "level": self.level}


def parse_codec(given: object) -> Codec:
    """``none``, ``zstd``, ``zstd:3``, ``gzip:5``, ``blosc``, ``blosc-lz4``, ``blosc-zstd:5``. Raises UsageError."""
    text = str(given)
    word, _, digits = text.strip().lower().partition(":")
    hint = "use none, zstd:1, gzip:5, blosc-lz4, blosc-zstd:5 …"
    if word in ("none", "raw") and not digits:
        return Codec("none")
    family, _, inner = word.partition("-")
    if family == "blosc":
        inner = inner or "lz4"
    if family not in _LEVELS or (family == "blosc") != bool(inner) or (inner and inner not in _BLOSC_INNER):
        raise UsageError(f"there is no codec {text!r}", hint=hint)
    lowest, usual, highest = _LEVELS[family]
    try:
        level = int(digits) if digits else usual
    except ValueError:
        raise UsageError(f"codec {text!r}: the level {digits!r} is not a whole number", hint=hint) from None
    if (":" in text and not digits) or not lowest <= level <= highest:
        raise UsageError(f"codec {text!r}: the level is {lowest} to {highest}", hint=hint)
    return Codec(family, level, inner)
