"""Run independent groups in a bounded window: of tasks of a build, or of frames. A group is a small value; a runner knows the rest.

Every executor takes groups lazily, keeps a bounded number under way and yields results as they come. On ``stop``
or on a failure it starts nothing new, waits for what is under way and yields that; then the failure is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from octree.pyramid.building.task import Recipe, Task, TaskResult, TaskRunner

Group = tuple[Task, ...]
G = TypeVar("G")
R = TypeVar("R")
POLL_S = 0.2  # how often a waiting build looks whether it was told to stop


def never() -> bool:
    """The ``stop`` of a build that nobody stops."""
    return False


class Executor(Protocol):
    """``name`` is what the result's ``scheduler`` says. Used by one thread, as a context manager."""

    @property
    def name(self) -> str: ...

    def run(
        self, runner: TaskRunner, recipe: Recipe, groups: Iterable[Group], stop: Callable[[], bool]
    ) -> Iterator[list[TaskResult]]:
        """``runner`` does groups in this process; ``recipe`` makes one like it in another."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Calls(Protocol):
    """Plain functions, called in other processes. A call that is lost with its worker is made again elsewhere, so it must be one that
    may be made twice. A function returns an OctreeError instead of raising it: trying again would not help. Used by one thread."""

    @property
    def workers(self) -> int:
        """How many processes there are now."""
        ...

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """The answer; raises the OctreeError that was returned, or a WriteError where the call was lost too often."""
        ...

    def everywhere(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What each worker answers, of those that outlive this program; else nothing."""
        ...

    def abandon(self) -> None:
        """End what is under way: nobody waits for it any more."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _InProcess:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held between runs."""


class Serial(_InProcess):
    """One group after the other, in the calling thread."""

    name = "serial"

    def run(
        self, runner: TaskRunner, recipe: Recipe, groups: Iterable[Group], stop: Callable[[], bool]
    ) -> Iterator[list[TaskResult]]:
        for group in groups:
            if stop():
                return
            yield runner.run(group)


class Threads(_InProcess):
    """``in_flight`` groups at a time, each in a thread; numpy and TensorStore let go of Python's lock."""

    name = "threads"

    def __init__(self, in_flight: int) -> None:
        self._in_flight = in_flight

    def run(
        self, runner: TaskRunner, recipe: Recipe, groups: Iterable[Group], stop: Callable[[], bool]
    ) -> Iterator[list[TaskResult]]:
        with ThreadPoolExecutor(self._in_flight, thread_name_prefix="octree-build") as pool:
            # one more than the threads is queued, so that none waits for this thread
            yield from in_window(
                lambda group: pool.submit(runner.run, group), groups, self._in_flight + 1, stop
            )


def in_window(
    submit: Callable[[G], Future[R]],
    groups: Iterable[G],
    window: int,
    stop: Callable[[], bool],
) -> Iterator[R]:
    """Keep ``window`` groups submitted; see the module's contract on ``stop`` and failures."""
    waiting, running, failure = iter(groups), set[Future[R]](), None
    more = True
    while True:
        while more and len(running) < window and not stop():
            group = next(waiting, None)
            if group is None:
                more = False
            else:
                running.add(submit(group))
        if not running:
            break
        done, running = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            if future.cancelled():
                continue
            if (error := future.exception()) is None:
                yield future.result()
            else:
                failure = failure or error
        if more and (failure is not None or stop()):
            more = False
            for future in running:
                future.cancel()  # what has begun runs to its end
    if failure is not None:
        raise failure
