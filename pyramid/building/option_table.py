"""The options of a build, each declared once. Light: ``octree build --help`` imports this and no numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octree.pyramid.errors import UsageError
from octree.pyramid.limits import LIMITS
from octree.pyramid.options import ANY, FLAG, RUN, TEXT, Kind, Option, Table, choice, shown, whole
from octree.pyramid.reach import OUTSIDE
from octree.pyramid.store.codecs import parse_codec
from octree.pyramid.store.remote.options import REMOTE
from octree.pyramid.units import parse_bytes

METHODS = ("mean", "mode", "median", "min", "max", "nearest")
WHAT, LEVELS, STORED = "What the source is", "How levels are made", "How they are stored"


def parse_voxel_size(value: str | Mapping[str, float]) -> dict[str, float]:
    """``z=2,y=0.5,x=0.5`` → sizes by axis; a mapping as it is. Raises UsageError."""
    if isinstance(value, Mapping):
        return dict(value)
    sizes: dict[str, float] = {}
    for part in str(value).replace(";", ",").split(","):
        axis, sign, number = (word.strip() for word in part.partition("="))
        try:
            if not sign or axis in sizes:
                raise ValueError(part)
            sizes[axis] = float(number)
        except ValueError:
            raise UsageError(f"{value!r} is not a list of sizes", hint="write z=2,y=0.5,x=0.5") from None
    return sizes


def _memory(value: Any) -> int:
    size = parse_bytes(value) if isinstance(value, str) else int(value)
    if size <= 0:
        raise UsageError(f"a memory limit of {value} is not above 0", hint="give --memory 512MiB or so")
    return size


def _chunks(value: Any) -> tuple[int, ...]:
    """``64,64,64`` → edges; a sequence of them as it is. Raises UsageError."""
    edge = whole(1)
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    try:
        edges = tuple(edge.parse(part) for part in parts)
    except (ValueError, TypeError):
        edges = ()
    if len(edges) not in (2, 3):
        raise UsageError(
            f"{shown(value)} is no shape of a chunk: an edge of at least 1 voxel for each spatial axis, z, y, x",
            hint="write 64,64,64, or 256,256 for an image without z",
        )
    return edges


def _part(value: Any) -> tuple[int, int]:
    """``3/16`` → (3, 16); ``finish`` → (0, 0). Raises ValueError."""
    if isinstance(value, tuple):
        return value
    if str(value).strip() == "finish":
        return 0, 0
    number, slash, count = str(value).partition("/")
    if not (slash and number.strip().isdecimal() and count.strip().isdecimal()):
        raise ValueError(value)
    part = int(number), int(count)
    if not 1 <= part[0] <= part[1] <= 99_999:
        raise ValueError(value)
    return part


BUILD = Table(
    "build",
    (
        Option("axes", TEXT, "Names of SOURCE's axes in its order, out of t c z y x and s (samples).",
               unset="from the file, or by rank", group=WHAT),
        Option("voxel_size", Kind("a list of sizes", parse_voxel_size), "World units per voxel, as z=2,y=0.5,x=0.5.",
               unset="from the file, or 1", group=WHAT),
        Option("unit", TEXT, "Unit of length, as micrometer.", unset="from the file", group=WHAT),
        Option("name", TEXT, "Name of the image.", unset="the source's", group=WHAT),
        Option("labels", FLAG, "Values are ids of objects.", group=LEVELS),
        Option("nodata", ANY, "A value that does not count. NaN never does.", group=LEVELS),
        Option("method", choice("auto", *METHODS),
               "auto, mean, mode, median, min, max, nearest; auto is mode for labels and bool, else mean.",
               "auto", group=LEVELS),
        Option("tile", whole(1), "Chunk edge in pixels; the coarsest level fits one tile.", 256, group=STORED),
        Option("chunks", Kind("edges of a chunk, as 64,64,64", _chunks, "Z,Y,X"),
               "Chunk edges on the spatial axes, as 64,64,64; --tile then says where halving ends.",
               unset="64,64,64 where z is halved, else 1 x tile x tile", group=STORED),
        Option("shard", whole(0), "Shard edge in chunks, 0 for none.", unset="8; of volumes up to 256 voxels", group=STORED),
        Option("codec", Kind("a codec", parse_codec), "zstd:LEVEL, gzip:LEVEL, blosc-lz4, blosc-zstd:LEVEL, none.",
               "zstd:1", group=STORED),
        Option("ome_version", choice("0.5", "0.4"), "0.5 (Zarr v3, sharded) or 0.4 (Zarr v2).", "0.5", group=STORED),
        Option("workers", whole(1), "Threads.", unset="all cores the process may use", group=RUN),
        Option("memory", Kind("a number of bytes above 0", _memory), "Bytes the build may hold.", "1GiB", group=RUN),
        Option("on_error", choice("fail", "fill"),
               "fail, or fill: what of SOURCE cannot be read becomes nodata or 0, and is listed.", "fail", group=RUN),
        *LIMITS,
        *OUTSIDE,
        *REMOTE,
    ),
)  # fmt: skip
"""What a build is made from: these decide the plan, so ``plan_build`` takes them all."""

RUNNING = Table(
    "build",
    (
        Option("overwrite", FLAG, "Build beside DEST, then change places.", group=STORED),
        Option("resume", FLAG, "Go on with an interrupted build.", group=RUN),
        Option("part", Kind("a part as 3/16, or finish", _part, "K/N"),
               "Of N parts, which run independently as in a job array, do this one: 3/16; then once: finish.",
               unset="all of it", group=RUN),
        Option("scheduler", ANY,
               "threads, serial, local (processes), or a dask scheduler as tls://host:8786.",
               unset="threads", group=RUN),
    ),
)  # fmt: skip
"""How one run goes about it; ``build`` alone takes these."""
