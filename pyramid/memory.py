"""Memory of the process: how much it held and may have, and what its allocator needs to be told to keep a build's
promise."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys

from octree.pyramid.errors import WriteError

# glibc's mallopt
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def use_one_heap() -> None:
    """Let all threads share one heap that keeps what is freed, blocks of up to 32 MiB included.

    glibc gives each of many threads a heap of its own, and what is freed in one is no use to the others: building
    16384 x 16384 uint16 held 300 MiB with the default, 185 with two heaps, 137 with one. Blocks that go back to the
    system come again as zeroed pages, which cost more time than the heap's one lock: tasks allocate seldom, and much.

    Changes the whole process, so only the command does it, and worker processes that build. Does nothing where the allocator is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


_RESERVE_BYTES = 64 * 2**20
"""Left to threads and libraries: those in C++ end the process when they get none."""


def out_of_memory(what: str = "", **details: object) -> WriteError:
    """The error of a command that the system refuses memory, at ``what``."""
    return WriteError(
        f"{what}: out of memory" if what else "out of memory",
        hint="give less with --memory, --cache or --atlas, fewer --workers or a smaller --size; or raise the limit (ulimit -v)",
        **details,
    )


@functools.cache
def _address_limit() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def room_bytes() -> int | None:
    """How much more address space this process may take; None where nothing limits it, or nobody knows."""
    limit = _address_limit()
    if limit is None:
        return None
    try:
        with open("/proc/self/statm", encoding="ascii") as facts:
            return max(0, limit - int(facts.read().split()[0]) * mmap.PAGESIZE - _RESERVE_BYTES)
    except OSError:
        return None


def check_room(count: int) -> None:
    """Raises MemoryError when ``count`` bytes more are above a limit of address space: asked before libraries that
    would end the process there."""
    room = room_bytes()
    if room is not None and count > room:
        raise MemoryError(f"{count} bytes are needed, and this process may take {room} more")


def can_have(count: int) -> bool:
    """Would the system give this process ``count`` bytes now?"""
    try:
        mmap.mmap(-1, max(1, count)).close()
    except (OSError, ValueError, OverflowError, MemoryError):
        return False
    return True


def peak_rss_bytes() -> int:
    """Most memory this process ever held."""
    try:
        # getrusage would count the process that started this one, if it was larger
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
