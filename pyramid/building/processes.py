"""``--scheduler local``: calls in processes of this machine, over pipes. No socket is opened.

A worker that dies takes its pool with it: what was under way is given to a new pool, ``RETRIES`` times over. That
is safe without any agreement between workers: a task's files are its own, and whoever does a task writes the
same bytes; a frame has the same pixels wherever it is drawn.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from types import TracebackType
from typing import Any, Self

from octree.pyramid.building.executors import Group, in_window
from octree.pyramid.building.task import Recipe, TaskResult, TaskRunner, run_group
from octree.pyramid.errors import OctreeError, WriteError

RETRIES = 3  # of groups whose worker died, which may be theirs or a neighbour's fault
BUILDS = "less is held with --memory and --workers; --resume goes on"


class Processes:
    """``workers`` processes, started when they are first needed. One owner: the thread that made it. ``hint``: what helps where
    they end again and again."""

    name = "local"

    def __init__(self, workers: int, *, hint: str = BUILDS) -> None:
        self.workers, self._hint = workers, hint
        self._lock = threading.Lock()  # the pool is replaced in whichever thread learns that it broke
        self._abandoned = False
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        # a process that is forked while others' threads hold locks may hang: each starts afresh
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            # the standard library ends workers at once from 3.14 on
            for process in list((getattr(self._pool, "_processes", None) or {}).values()):
                process.kill()

    def run(
        self, runner: TaskRunner, recipe: Recipe, groups: Iterable[Group], stop: Callable[[], bool]
    ) -> Iterator[list[TaskResult]]:
        yield from in_window(partial(self.submit, run_group, recipe), groups, 2 * self.workers, stop)

    def everywhere(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Nothing: these processes are of this machine, and end with this one."""
        return []

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()  # a group that a worker may have begun is not taken back
        self._try(answer, partial(function, *args), RETRIES)
        return answer

    def _try(self, answer: Future[Any], call: Callable[[], Any], left: int) -> None:
        with self._lock:
            if self._abandoned:
                answer.set_exception(self._lost(BrokenProcessPool("abandoned")))
                return
            try:
                future = self._pool.submit(call)
            except (BrokenProcessPool, OSError):  # the latter where it breaks while it starts its processes
                self._pool = self._new_pool()
                try:
                    future = self._pool.submit(call)
                except (BrokenProcessPool, OSError) as error:
                    answer.set_exception(self._lost(error))
                    return

        def arrived(done: Future[Any]) -> None:
            try:
                result = done.result()
            except BrokenProcessPool as error:
                if left:
                    # not from here: this thread is the broken pool's, and must come to its end
                    threading.Thread(target=self._try, args=(answer, call, left - 1)).start()
                else:
                    answer.set_exception(self._lost(error))
            except BaseException as error:
                answer.set_exception(error)
            else:
                if isinstance(result, OctreeError):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)

        future.add_done_callback(arrived)

    def _lost(self, error: BaseException) -> WriteError:
        return WriteError(
            f"a worker process ended {RETRIES + 1} times over in the middle of its work: {error}",
            hint=f"was it killed for its memory? {self._hint}",
        )


def _begin() -> None:
    """In each worker. A terminal sends Ctrl-C to all processes of a command; what is under way must be finished,
    so only the parent listens. Without a parent there is nobody to work for."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="octree-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
