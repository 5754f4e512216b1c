"""Levels in stores where listing a million chunks takes minutes and costs money, or cannot be done: a few are looked at."""

from __future__ import annotations

import math

import numpy as np

from octree.pyramid.boxes import counts
from octree.pyramid.store.place import Place
from octree.pyramid.store.shards import index_bytes, index_fault
from octree.pyramid.store.zarr_meta import ArrayMeta
from octree.pyramid.verify.files import Stored
from octree.pyramid.verify.findings import Findings, Kind

LOOKED_AT = 64
LOOKED_AT_DEEP = 4096


def look(place: Place, meta: ArrayMeta, level: int, findings: Findings, *, deep: bool) -> Stored:
    """Write units spread over the level: those that are empty or torn are added to ``findings``. What is not stored is compared
    as fill values are. Raises SourceError for a store that does not answer."""
    unit = meta.shards or meta.chunks
    grid = counts(meta.shape, unit)
    total = math.prod(grid)
    most = min(total, LOOKED_AT_DEEP if deep else LOOKED_AT)
    numbers = sorted({i * (total - 1) // max(1, most - 1) for i in range(most)})
    units = Stored(unit, grid, np.array(numbers, np.int64), listed=False)
    keys = [units.key(number, meta) for number in numbers]
    length = index_bytes(meta.shards, meta.chunks) if meta.shards and meta.index_location == "end" else 0
    present = []
    for number, key, end in zip(numbers, keys, place.peek(keys, max(4, length)), strict=True):
        if end is None:
            continue
        present.append(number)
        kind: Kind = "torn-shard" if meta.shards else "torn-chunk"
        if end.size == 0:
            findings.add(kind, key, "the file is empty", level)
        elif length and (what := index_fault(end.last, length, end.size)):
            findings.add(kind, key, what, level)
    if most < total:
        findings.note(f"level {level}: {most} of {total} files were looked at, as they are not listed there")
    return Stored(unit, grid, np.array(present, np.int64), listed=False)
