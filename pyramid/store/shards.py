"""The index of a shard, with its checksum: is it whole, and do its chunks lie in the file? Pure."""

from __future__ import annotations

import math

import google_crc32c
import numpy as np

from octree.pyramid.boxes import counts

ABSENT = (1 << 64) - 1
"""Stands for the place of a chunk that is not stored."""


def index_bytes(shards: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """How long the index of a shard is: 16 bytes for each chunk, and a checksum."""
    return 16 * math.prod(counts(shards, chunks)) + 4


def index_fault(index: bytes, length: int, size: int) -> str | None:
    """What is wrong with the index of a shard of ``size`` bytes that should be ``length`` bytes long; None when nothing is."""
    if len(index) < length:
        return f"{size} bytes are shorter than the shard's index ({length} bytes)"
    if google_crc32c.value(index[:-4]) != int.from_bytes(index[-4:], "little"):
        return "the shard's index is damaged, or the file is cut short"
    entries = np.frombuffer(index[:-4], "<u8").reshape(-1, 2)
    offsets, lengths = (entries[entries[:, 0] != ABSENT][:, i] for i in (0, 1))
    beyond = (offsets > size) | (lengths > size - np.minimum(offsets, size))
    return f"{int(beyond.sum())} of its chunks lie beyond the end of the file" if beyond.any() else None
