"""What the loader counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Totals since the loader was made. Owned by the loader's thread."""

    requested: int = 0
    loaded: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cancelled: int = 0
    failed: int = 0
    retried: int = 0
    bytes_read: int = 0
    tiles_read_twice: int = 0
    reads_wasted: int = 0
    tiles_read_along: int = 0
    prefetched: int = 0
    prefetch_used: int = 0


@dataclass(frozen=True, slots=True)
class LoaderStats:
    """Totals since construction, then what is the case now (``queued`` and later).

    ``requested``        loads begun for a wish that was nowhere in memory.
    ``loaded``           tiles asked for that arrived; ``tiles_read`` the same; ``bytes_read`` the bytes of all that came.
    ``cache_hits``       new wishes that were in memory already, ``cache_misses`` that were not.
    ``tiles_read_twice`` reads of a tile that had been read before (evicted since).
    ``reads_wasted``     reads whose tile nobody wanted when they ended, given-up ones included.
    ``tiles_read_along``       tiles that came with those that were asked for, since they lie in the same chunks.
    ``prefetch_used``    tiles loaded ahead that a view needed later, while they were there; ``prefetch_wasted`` all others.
    ``cancelled``        loads given up before they brought anything.
    ``main_thread_reads`` reads of a source seen on the thread that owns the loader.
    """

    requested: int = 0
    loaded: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cancelled: int = 0
    failed: int = 0
    retried: int = 0
    bytes_read: int = 0
    tiles_read: int = 0
    tiles_read_twice: int = 0
    reads_wasted: int = 0
    tiles_read_along: int = 0
    prefetch_used: int = 0
    prefetch_wasted: int = 0
    evicted: int = 0
    main_thread_reads: int = 0
    queued: int = 0
    loading: int = 0
    delayed: int = 0
    cache_bytes: int = 0
    peak_cache_bytes: int = 0
