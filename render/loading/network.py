"""A simulated network between the loader and its sources: latency, one shared link, jitter, failures, hangs.

Every outcome is a function of the seed, the tile and the number of the try, so the same run meets the same
weather on every machine, in whatever order the loads happen.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass

from octree.pyramid.errors import UsageError
from octree.pyramid.model import TileKey


@dataclass(frozen=True, slots=True)
class Weather:
    """What one try meets: ``latency_ms`` before the first byte, then perhaps a failure."""

    latency_ms: float
    fails: bool = False
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """``latency_ms`` per try, plus up to ``jitter_ms`` at random; ``bandwidth_bytes_per_s`` is shared by all
    transfers, one after the other (None: no limit); ``fail_rate`` of the tries fail; ``hang_rate`` of them take
    ``hang_ms`` longer. Rates are fractions from 0 to 1. Raises UsageError for a value out of range."""

    latency_ms: float = 0.0
    bandwidth_bytes_per_s: float | None = None
    jitter_ms: float = 0.0
    fail_rate: float = 0.0
    hang_rate: float = 0.0
    hang_ms: float = 30_000.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("latency_ms", "jitter_ms", "hang_ms"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"network {name} is {value}; allowed: a time of at least 0")
        for name in ("fail_rate", "hang_rate"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"network {name} is {value}; allowed: 0 to 1")
        rate = self.bandwidth_bytes_per_s
        if rate is not None and not rate > 0:
            raise UsageError(f"network bandwidth is {rate}; allowed: above 0")

    def weather(self, source: int, tile: TileKey, attempt: int) -> Weather:
        """What try number ``attempt`` (from 1) of ``tile`` of the loader's source number ``source`` meets."""
        if not (self.jitter_ms or self.fail_rate or self.hang_rate):
            return Weather(self.latency_ms)
        jitter, fails, hangs = dice(self.seed, source, tile, attempt)
        latency_ms = self.latency_ms + jitter * self.jitter_ms
        does_hang = hangs < self.hang_rate
        return Weather(latency_ms + self.hang_ms * does_hang, fails < self.fail_rate, does_hang)

    def transfer_ms(self, nbytes: int) -> float:
        """How long ``nbytes`` keep the link busy."""
        rate = self.bandwidth_bytes_per_s
        return 0.0 if rate is None or math.isinf(rate) else nbytes / rate * 1e3


def dice(seed: int, source: int, tile: TileKey, attempt: int) -> tuple[float, float, float]:
    """Three even random numbers from [0, 1), the same on every machine for the same arguments."""
    text = repr((seed, source, tuple(tile), attempt)).encode()
    words = struct.unpack("<3Q", hashlib.blake2b(text, digest_size=24).digest())
    return words[0] / 2**64, words[1] / 2**64, words[2] / 2**64
