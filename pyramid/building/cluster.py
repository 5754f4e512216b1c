"""Groups of tasks on a dask cluster: plain function calls, no array graphs.

A lost worker's calls are given to another one by the scheduler. That is safe without any agreement between
workers: a task's files are its own, each is written under another name and renamed, and whoever does a task
writes the same bytes. dask is imported only here, and only when asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Self

from octree.pyramid.building.executors import Group, in_window
from octree.pyramid.building.remote import run_group
from octree.pyramid.building.task import Recipe, TaskResult, TaskRunner
from octree.pyramid.errors import OctreeError, UsageError, WriteError

ANSWER_S = 5  # how long a scheduler may take to answer
RETRIES = 3  # of calls that fail because of the cluster, not because of the image


class Distributed:
    """A dask Client: the caller's, or one for an address."""

    name = "distributed"

    def __init__(self, scheduler: Any) -> None:
        try:
            import distributed
        except ImportError as error:
            raise UsageError(
                "the scheduler needs dask.distributed", hint="pip install 'octree[distributed]'"
            ) from error
        dask: Any = distributed  # without types
        self._own = isinstance(scheduler, str)
        if not self._own:
            self._client = scheduler
        else:
            try:
                self._client = dask.Client(scheduler, timeout=ANSWER_S)
            except (OSError, ValueError, TypeError) as error:
                raise UsageError(
                    f"no dask scheduler answers at {scheduler}: {error}",
                    hint="check the address; dask scheduler prints it",
                ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:
            self._client.close()

    def run(
        self, runner: TaskRunner, recipe: Recipe, groups: Iterable[Group], stop: Callable[[], bool]
    ) -> Iterator[list[TaskResult]]:
        threads = sum(self._client.nthreads().values()) or 1
        yield from in_window(functools.partial(self._submit, recipe), groups, 2 * threads, stop)

    def _submit(self, recipe: Recipe, group: Group) -> Future[list[TaskResult]]:
        """One call, as a standard future, so that one loop serves threads and clusters. The recipe, a few KiB, goes
        with each: what is scattered is gone with the last worker that holds it, and the calls with it."""
        answer: Future[list[TaskResult]] = Future()
        remote = self._client.submit(run_group, recipe, group, pure=False, retries=RETRIES)
        answer.set_running_or_notify_cancel()  # a call on a cluster is not taken back

        def arrived(future: Any) -> None:
            try:
                result = future.result()
            except BaseException as error:
                answer.set_exception(_lost(error) if _is_cluster_s(error) else error)
                return
            if isinstance(result, OctreeError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        remote.add_done_callback(arrived)
        return answer


def _is_cluster_s(error: BaseException) -> bool:
    """Did the cluster fail, not the call?"""
    from distributed import KilledWorker

    return isinstance(error, CancelledError | KilledWorker | OSError) and not isinstance(error, OctreeError)


def _lost(error: BaseException) -> WriteError:
    return WriteError(
        f"the dask cluster lost a block of the build: {type(error).__name__}: {error}",
        hint="see why its workers or its scheduler ended; less memory is held with --memory",
    )
