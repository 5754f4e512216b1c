"""Memory of the process: how much it held, and what its allocator needs to be told to keep a build's promise."""

from __future__ import annotations

import ctypes
import sys

# glibc's mallopt
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def use_one_heap() -> None:
    """Let all threads share one heap that keeps what is freed, blocks of up to 32 MiB included.

    glibc gives each of many threads a heap of its own, and what is freed in one is no use to the others: building
    16384 x 16384 uint16 held 300 MiB with the default, 185 with two heaps, 137 with one. Blocks that go back to the
    system come again as zeroed pages, which cost more time than the heap's one lock: tasks allocate seldom, and much.

    Changes the whole process, so only the command does it. Does nothing where the allocator is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


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
