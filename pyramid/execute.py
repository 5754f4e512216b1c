"""Run independent tasks in a bounded window. A task is a small value; what runs it knows the rest.

Every executor takes any number of tasks lazily, keeps at most ``window`` of them under way, yields results as they
come, and on ``stop`` or on a failure starts nothing new, waits for what is under way, and yields that first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def never() -> bool:
    return False


def run_serial(run: Callable[[T], R], tasks: Iterable[T], *, stop: Callable[[], bool] = never) -> Iterator[R]:
    """One task after the other, in this thread."""
    for task in tasks:
        if stop():
            return
        yield run(task)


def run_threads(
    run: Callable[[T], R], tasks: Iterable[T], workers: int, *, stop: Callable[[], bool] = never
) -> Iterator[R]:
    """``workers`` tasks at a time, each in a thread; results in the order in which they finish."""
    waiting, failure = iter(tasks), None
    with ThreadPoolExecutor(workers, thread_name_prefix="octree-build") as pool:
        running: set[Future[R]] = set()
        more = True
        while True:
            # one more than the workers is queued, so that none waits for this thread
            while more and failure is None and len(running) <= workers:
                try:
                    running.add(pool.submit(run, next(waiting)))
                except StopIteration:
                    more = False
            if not running:
                break
            done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            if stop():
                more = False
                _cancel(running)
            for future in done:
                if future.cancelled():
                    continue
                if (error := future.exception()) is None:
                    yield future.result()
                elif failure is None:
                    failure = error
                    _cancel(running)
    if failure is not None:
        raise failure


def _cancel(futures: Iterable[Future[R]]) -> None:
    """What has not begun will not begin; what has runs to its end."""
    for future in futures:
        future.cancel()
