"""Which executor, or whose calls, the words of ``--scheduler`` mean."""

from __future__ import annotations

from typing import Any

from octree.pyramid.building.executors import Calls, Executor, Serial, Threads
from octree.pyramid.errors import UsageError


def make_executor(scheduler: Any, workers: int, in_flight: int, source: Any) -> Executor:
    """``scheduler``: None, "threads", "serial", "local", an address of a dask scheduler, or a dask Client.

    Raises UsageError for anything else, and for a source in memory that other processes cannot open.
    """
    if scheduler in (None, "threads"):
        return Threads(in_flight) if in_flight > 1 else Serial()
    if scheduler == "serial":
        return Serial()
    address = isinstance(scheduler, str) and "://" in scheduler
    if scheduler == "local" or address or hasattr(scheduler, "submit"):
        if not isinstance(source, str) and not hasattr(source, "__fspath__"):
            raise UsageError(
                "an array in memory cannot be sent to other processes",
                hint="save it to a file first, or leave the scheduler out",
            )
        if scheduler == "local":
            from octree.pyramid.building.processes import Processes

            return Processes(workers)
        from octree.pyramid.building.cluster import Distributed

        return Distributed(scheduler)
    raise UsageError(
        f"there is no scheduler {scheduler!r}",
        hint="use threads, serial, local, or the address of a dask scheduler such as tls://host:8786",
    )


def make_calls(scheduler: Any, workers: int, *, hint: str) -> Calls:
    """Calls in ``workers`` processes for "local", else on the dask cluster at an address, or of a dask Client. ``hint``: what helps
    where workers end. Raises UsageError for anything else."""
    if scheduler == "local":
        from octree.pyramid.building.processes import Processes

        return Processes(workers, hint=hint)
    if (isinstance(scheduler, str) and "://" in scheduler) or hasattr(scheduler, "submit"):
        from octree.pyramid.building.cluster import Distributed

        return Distributed(scheduler, hint=hint)
    raise UsageError(
        f"there is no scheduler {scheduler!r}",
        hint="use local, or the address of a dask scheduler such as tls://host:8786",
    )
