"""Cases of a suite, spread over several processes: each renders, judges and stages whole cases of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from octree.pyramid.building.executors import in_window, never
from octree.pyramid.building.options import usable_cores
from octree.pyramid.building.schedulers import make_calls
from octree.pyramid.errors import OctreeError, UsageError, WriteError
from octree.render.check.judge import CaseResult, Verdict
from octree.render.check.spec import Case
from octree.render.farm import HINT, check_alike
from octree.render.farm_worker import drawing, renderer_here


class Spread(NamedTuple):
    """``scheduler`` as ``make_calls`` takes it, and how many processes where they are this machine's."""

    scheduler: Any
    processes: int


def spread_of(jobs: int, scheduler: Any, *, accept: bool) -> Spread | None:
    """What ``--jobs`` and ``--scheduler`` mean, None where cases are rendered here. Raises UsageError."""
    if jobs == 1 and scheduler is None:
        return None
    if accept:
        raise UsageError(
            "--accept takes staged frames, one case after the other",
            hint=f"leave out {'--jobs' if scheduler is None else '--scheduler'}",
        )
    if scheduler not in (None, "local") and jobs > 1:
        raise UsageError(
            f"--jobs {jobs} counts processes of this machine, and --scheduler {scheduler} has workers of its own",
            hint="leave out one of them",
        )
    return Spread(scheduler or "local", jobs if jobs > 1 else usable_cores())


def checked(
    check: Callable[[Case], CaseResult], cases: Sequence[Case], spread: Spread
) -> Iterator[CaseResult]:
    """``check(case)`` of each case, as they come. A case whose worker ends again and again is an error of that case. Raises
    GLError when nothing can be drawn, or by different renderers."""
    with make_calls(spread.scheduler, spread.processes, hint=HINT) as calls:
        try:
            check_alike(calls.everywhere(renderer_here, "auto"))
            yield from in_window(
                lambda case: _told(calls.submit(check_here, check, case), case),
                cases,
                calls.workers + 1,
                never,
            )
        except BaseException:
            calls.abandon()
            raise


def check_here(check: Callable[[Case], CaseResult], case: Case) -> CaseResult | OctreeError:
    """In a worker. An error that is not the case's travels as a value."""
    return drawing(check, case)


def _told(future: Future[CaseResult], case: Case) -> Future[CaseResult]:
    answer: Future[CaseResult] = Future()
    answer.set_running_or_notify_cancel()

    def arrived(done: Future[CaseResult]) -> None:
        try:
            answer.set_result(done.result())
        except WriteError as error:
            answer.set_result(CaseResult(case, Verdict.ERROR, (error.message,), error=error.to_json()))
        except BaseException as error:
            answer.set_exception(error)

    future.add_done_callback(arrived)
    return answer
