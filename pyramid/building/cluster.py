"""Calls on a dask cluster: plain functions, no array graphs.

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
from octree.pyramid.building.task import Recipe, TaskResult, TaskRunner, run_group
from octree.pyramid.errors import OctreeError, UsageError, WriteError

ANSWER_S = 5  # how long a scheduler may take to answer
BUILDS = "less memory is held with --memory"
RETRIES = 3  # of calls that fail because of the cluster, not because of the image


class Distributed:
    """A dask Client: the caller's, or one for an address."""

    name = "distributed"

    def __init__(self, scheduler: Any, *, hint: str = BUILDS) -> None:
        self._hint = hint
        try:
            import distributed
        except ImportError as error:
            raise UsageError(
                "the scheduler needs dask.distributed", hint="pip install 'octree[distributed]'"
            ) from error
        dask: Any = distributed  # without types
        self._own = isinstance(scheduler, str)
        self._under_way: set[Any] = set()
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
        yield from in_window(functools.partial(self.submit, run_group, recipe), groups, 2 * threads, stop)

    @property
    def workers(self) -> int:
        return len(self._client.nthreads()) or 1

    def everywhere(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        try:
            return list(self._client.run(function, *args).values())
        except OctreeError:
            raise
        except Exception as error:  # a worker raises what it likes
            raise UsageError(
                f"a worker of the dask cluster cannot do this: {type(error).__name__}: {error}",
                hint="its workers need the same octree as this one",
            ) from error

    def abandon(self) -> None:
        self._client.cancel(list(self._under_way), force=True)

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """One call, as a standard future, so that one loop serves threads and clusters. What it is given, a few KiB, goes
        with each: what is scattered is gone with the last worker that holds it, and the calls with it."""
        answer: Future[Any] = Future()
        remote = self._client.submit(function, *args, pure=False, retries=RETRIES)
        self._under_way.add(remote)
        answer.set_running_or_notify_cancel()  # a call on a cluster is not taken back

        def arrived(future: Any) -> None:
            self._under_way.discard(future)
            try:
                result = future.result()
            except BaseException as error:
                answer.set_exception(self._lost(error) if _is_cluster_s(error) else error)
                return
            if isinstance(result, OctreeError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        remote.add_done_callback(arrived)
        return answer

    def _lost(self, error: BaseException) -> WriteError:
        return WriteError(
            f"the dask cluster lost a part of the work: {type(error).__name__}: {error}",
            hint=f"see why its workers or its scheduler ended; {self._hint}",
        )


def _is_cluster_s(error: BaseException) -> bool:
    """Did the cluster fail, not the call?"""
    from distributed import KilledWorker

    return isinstance(error, CancelledError | KilledWorker | OSError) and not isinstance(error, OctreeError)
