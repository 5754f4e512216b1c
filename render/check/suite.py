"""Run a suite: render every case, judge it, stage what may become a baseline, write the reports.

Everything happens in the calling thread, one case after another: drawing belongs to one thread of a process. Several processes
each take whole cases, from rendering to staging (``spread.py``); the reports are written here.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from octree.pyramid.errors import GLError, OctreeError, SourceError, UsageError
from octree.pyramid.options import PATH
from octree.pyramid.store.removal import Folder
from octree.render.check.baseline import BaselineStore, Scope
from octree.render.check.compare import Frame
from octree.render.check.folders import frames_folder, remove_frames
from octree.render.check.judge import CaseResult, Verdict, judge, worst
from octree.render.check.record import (
    RECORD_FILE,
    CaseRecord,
    RunResult,
    case_digest,
    read_record,
    record_of,
    write_record,
)
from octree.render.check.spec import Case, Suite, load_suite
from octree.render.check.spread import checked, spread_of
from octree.render.option_table import RENDER
from octree.render.output.files import check_destination, write_error

RenderCase = Callable[[Case], RunResult]
Progress = Callable[[CaseResult], None]

DEFAULT_OUTPUT = "octree-check"
STAGED_FOLDER = "actual"
REPORT_FILE = "report.json"
_NO_PIXELS: Frame = np.zeros((0, 0, 4), np.uint8)


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What came of a run. ``unused`` are baselines (renderer/case) that belong to no case of the suite;
    ``command`` are the words that accept its frames; names of cases may follow."""

    suite: Path
    cases: tuple[CaseResult, ...]
    baselines: Path
    output: Path
    unused: tuple[str, ...] = ()
    seconds: float = 0.0
    command: tuple[str, ...] = ()

    def count(self, verdict: Verdict) -> int:
        return sum(case.verdict is verdict for case in self.cases)

    @property
    def passed(self) -> bool:
        return not any(case.failed for case in self.cases)

    @property
    def exit_code(self) -> int:
        return 0 if self.passed else 1

    def accept_command(self, *cases: str) -> str:
        """What to type to accept these cases, or all; pytest always accepts all that it renders."""
        return shlex.join([*self.command, *(cases if self.command[:1] == ("octree",) else ())])


def run(
    suite_path: str | os.PathLike[str],
    *,
    baselines: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] = DEFAULT_OUTPUT,
    only: Sequence[str] = (),
    accept: Sequence[str] | None = None,
    reason: str = "",
    scope: Scope = "auto",
    ci: bool | None = None,
    allow_outside: bool = False,
    remote: Mapping[str, Any] | None = None,
    whole_pictures: bool = False,
    jobs: int = 1,
    scheduler: Any = None,
    render_case: RenderCase | None = None,
    on_case: Progress | None = None,
) -> SuiteResult:
    """Run the suite, or with ``accept`` take frames as baselines.

    ``only`` names the cases to run; none: all. ``accept`` None only compares; a list of names, or an empty
    one for all, accepts the frames that the run in ``output`` staged, those bytes; cases are rendered for it only
    where ``output`` holds no run. ``ci`` None looks at the variable CI: there a missing baseline fails.
    ``allow_outside``: settings files that the suite names may have logs written outside its folder, and what its sources
    name may lie outside of theirs. ``jobs`` and ``scheduler``: other processes that cases are spread over, see ``spread.py``. ``remote``:
    options of ``octree render`` for remote stores. ``whole_pictures``: as ``write_reports`` takes it. ``on_case`` is called after each case. Raises ``UsageError`` for a suite or name that is wrong, ``DestinationError`` when ``output``
    cannot be written, ``GLError`` when nothing can be drawn here at all; whatever else goes wrong in a case
    is that case's verdict.
    """
    begin_s = time.perf_counter()
    PATH.read("--output", output)
    if baselines is not None:
        PATH.read("--baselines", baselines)
    spread = spread_of(jobs, scheduler, accept=accept is not None)
    if spread is not None:  # workers may be in other folders
        suite_path, output = os.path.abspath(suite_path), os.path.abspath(output)
        baselines = None if baselines is None else os.path.abspath(baselines)
    suite = load_suite(Path(suite_path), allow_outside=allow_outside)
    cases = chosen(suite, [*only, *(accept or ())])
    runner = CaseRunner(
        BaselineStore(Path(baselines) if baselines is not None else suite.default_baselines),
        Path(output),
        render_case or functools.partial(render_with_pipeline, allow_outside=allow_outside, remote=remote),
        missing_fails=is_ci() if ci is None else ci,
        reason=reason,
        scope=scope,
    )
    runner = replace(runner, may_render=accept is None or not runner.has_run())
    check_destination(runner.output / REPORT_FILE)
    results: list[CaseResult] = []
    coming: Iterable[CaseResult]
    if accept is not None:
        coming = map(runner.accept, acceptable(runner, cases, named=bool(accept)))
    elif spread is None:
        coming = map(runner.check, cases)
    else:
        coming = checked(runner.check, cases, spread)
    for result in coming:
        results.append(result)
        if on_case is not None:
            on_case(result)
    results.sort(key=lambda result: cases.index(result.case))
    outcome = SuiteResult(
        suite=suite.path,
        cases=tuple(results),
        baselines=runner.store.root,
        output=runner.output,
        unused=tuple(runner.store.unused(case.name for case in suite.cases)),
        seconds=time.perf_counter() - begin_s,
        command=_accept_words(suite_path, baselines, output),
    )
    from octree.render.check.reports import write_reports

    write_reports(outcome, whole_pictures=whole_pictures)
    return outcome


def acceptable(runner: CaseRunner, cases: Sequence[Case], *, named: bool) -> list[Case]:
    """The cases that ``--accept`` is about: all that were named; else, when there has been a run, those it staged and
    the ones without a baseline (the others passed at the time, and nobody has seen a new frame of them).

    Raises ``UsageError`` when that is none."""
    if named or runner.may_render:
        return list(cases)
    found = [case for case in cases if runner.is_staged(case) or not runner.has_baseline(case)]
    if not found:
        raise UsageError(
            f"nothing to accept: the run in {runner.output} staged no frames of this suite's cases",
            hint="octree check without --accept renders the cases and stages what differs",
        )
    return found


def _accept_words(
    suite_path: str | os.PathLike[str],
    baselines: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
) -> tuple[str, ...]:
    """The command line that accepts frames of this run."""
    words = ["octree", "check", os.fspath(suite_path)]
    if baselines is not None:
        words += ["--baselines", os.fspath(baselines)]
    if os.fspath(output) != DEFAULT_OUTPUT:
        words += ["--output", os.fspath(output)]
    return (*words, "--accept")


def is_ci(env: Mapping[str, str] = os.environ) -> bool:
    """Whether the variable CI says so."""
    return env.get("CI", "").strip().lower() not in ("", "0", "false", "no")


def chosen(suite: Suite, names: Sequence[str]) -> tuple[Case, ...]:
    """The cases called ``names`` in the suite's order; all when none is named."""
    known = [case.name for case in suite.cases]
    for name in names:
        if name not in known:
            raise UsageError(f"no case {name!r} in {suite.path.name}", hint=f"cases: {', '.join(known)}")
    return tuple(case for case in suite.cases if not names or case.name in names)


def render_with_pipeline(
    case: Case, *, allow_outside: bool = False, remote: Mapping[str, Any] | None = None
) -> RunResult:
    """Render a case as ``octree render`` would; pixels are kept of the frames that are compared."""
    from octree.render import frames as loop
    from octree.render.request import parse_request

    size = f"{case.size_px[0]}x{case.size_px[1]}"
    request = parse_request(
        case.sources,
        case.cameras,
        # titles are drawn with the font that Pillow has: other pixels with each version of it
        {
            **case.options,
            **({"no_titles": True} if case.options.get("montage") else {}),
            "size": size,
            **({"allow_outside": True} if allow_outside else {}),
            **(remote or {}),
        },
        settings=case.settings,
    )
    pixels: list[Frame] = []
    tile_sets = []
    with loop.Renderer(request, command="octree check") as renderer:
        for frame in renderer.frames():
            kept = case.frames is None or frame.index in case.frames
            pixels.append(frame.rgba if kept else _NO_PIXELS)
            tile_sets.append(frame.tile_set())
        return loop.RunResult(pixels, renderer.report(), tile_sets)


@dataclass(frozen=True, slots=True)
class CaseRunner:
    """Renders, judges and stages single cases; also the engine of the pytest plugin."""

    store: BaselineStore
    output: Path
    render_case: RenderCase = render_with_pipeline
    missing_fails: bool = False
    reason: str = ""
    scope: Scope = "auto"
    may_render: bool = True

    def check(self, case: Case) -> CaseResult:
        """Render and judge. What did not pass is staged, what passed leaves nothing behind."""
        begin_s = time.perf_counter()
        self._unstage(case)
        try:
            result = self._judged(case)
        except GLError:
            raise
        except OctreeError as error:
            result = CaseResult(case, Verdict.ERROR, (error.message,), error=error.to_json())
        except Exception as error:
            said = f"internal error: {type(error).__name__}: {error}"
            result = CaseResult(case, Verdict.ERROR, (said,), error={"kind": "internal", "message": said})
        if result.verdict is not Verdict.PASS and result.stageable and result.record is not None:
            pixels = {frame.index: frame.actual for frame in result.frames if frame.actual is not None}
            with self._staging(create=True) as staging, frames_folder(staging, case.name) as folder:
                write_record(folder, result.record, pixels)
        return replace(result.without_surplus(), seconds=time.perf_counter() - begin_s)

    def _judged(self, case: Case) -> CaseResult:
        digests: list[dict[int, str]] = []
        record, frames = _render_once(case, self.render_case)
        first = record
        for _ in range(case.repeat - 1):
            digests.append(_digests(frames))
            frames = {}  # one set of frames in memory at a time
            record, frames = _render_once(case, self.render_case)
        return judge(
            case,
            record,
            frames,
            self.store.find(case.name, record.fingerprint, record.family),
            unstable=_unstable(first, record, [*digests, _digests(frames)] if digests else []),
            missing_fails=self.missing_fails,
            background=background_of(case.options.get("background", "black")),
            allow_empty=RENDER["allow_empty"].read(case.options.get("allow_empty", False)),
        )

    def accept(self, case: Case, *, fresh: bool = False) -> CaseResult:
        """Make the staged frames of a case its baseline. With ``fresh``, or where there has been no run that could
        have staged any, render it first."""
        rendered = fresh or (self.may_render and not self.is_staged(case))
        result = self.check(case) if rendered else CaseResult(case, Verdict.PASS)
        if rendered and result.verdict is Verdict.PASS:
            return result
        try:
            record = self.staged(case)
            if record is None:
                why = result.reasons if rendered else (f"the run in {self.output} staged no frames of it",)
                return _refused(result, why, result.error or {"hint": "run the case, and look at its frames"})
            with self._staging() as staging, staging.folder(case.name) as folder:
                key = self.store.accept(case.name, folder, reason=self.reason, scope=self.scope)
        except SourceError as error:
            return _refused(result, (error.message,), error.to_json())
        self._unstage(case)
        frames = tuple(replace(frame, verdict=Verdict.PASS, kinds=(), reasons=()) for frame in result.frames)
        said = f"{'rendered now, and ' if rendered else ''}accepted as the baseline for {key}"
        return replace(
            result,
            verdict=Verdict.PASS,
            reasons=(said,),
            frames=frames,
            baseline=key,
            accepted=key,
            error=None,
            record=record,
        )

    def has_run(self) -> bool:
        """Whether ``output`` holds what a run left behind, here or elsewhere."""
        return (self.output / REPORT_FILE).exists() or (self.output / STAGED_FOLDER).exists()

    def is_staged(self, case: Case) -> bool:
        """Whether there are frames of a case of that name; ``staged`` says whether they are of this very case."""
        return os.path.lexists(self.output / STAGED_FOLDER / case.name / RECORD_FILE)

    def staged(self, case: Case) -> CaseRecord | None:
        """The record that a run of this very case staged, None when there is none. Raises ``SourceError`` when what
        is there cannot be taken for it."""
        record = read_record(self.output / STAGED_FOLDER / case.name / RECORD_FILE)
        if record is not None and record.case_digest != case_digest(case):
            raise SourceError(
                f"the staged frames are of another definition of {case.name!r}: its sources, cameras, size, options "
                "or frames have changed since",
                hint="accept them with the suite they were rendered from, or run the case again",
            )
        if record is not None and any(frame.sha256 is None for frame in record.frames):
            raise SourceError(
                f"the staged frames of {case.name!r} are of an older octree, which did not note their digests",
                hint="run the case again",
            )
        return record

    @contextmanager
    def _staging(self, *, create: bool = False) -> Iterator[Folder]:
        """The folder of staged frames, held open. Raises ``DestinationError``."""
        path = self.output / STAGED_FOLDER
        try:
            with (
                Folder.of(self.output, create=create) as output,
                output.folder(STAGED_FOLDER, create=create) as found,
            ):
                yield found
        except OctreeError:
            raise
        except OSError as error:
            raise write_error(path, error) from error

    def _unstage(self, case: Case) -> None:
        if os.path.lexists(self.output / STAGED_FOLDER):
            with self._staging() as staging:
                remove_frames(staging, case.name)

    def has_baseline(self, case: Case) -> bool:
        return any(entry.partition("/")[2] == case.name for entry in self.store.manifest())


def _refused(result: CaseResult, why: Sequence[str], error: Mapping[str, Any]) -> CaseResult:
    """A case whose frames were not taken, and why."""
    verdict = worst([result.verdict, Verdict.FAIL])
    return replace(result, verdict=verdict, reasons=("not accepted", *why), error=error)


def _render_once(case: Case, render_case: RenderCase) -> tuple[CaseRecord, dict[int, Frame]]:
    result = render_case(case)
    count = len(result.frames)
    indices = range(count) if case.frames is None else case.frames
    beyond = [index for index in indices if index >= count]
    if beyond:
        raise UsageError(
            f"case {case.name!r}: no frame {beyond[0]}; there are {count}", hint="frames are counted from 0"
        )
    record = record_of(case, result, list(indices))
    return record, {index: result.frames[index] for index in indices}


def _digests(frames: Mapping[int, Frame]) -> dict[int, str]:
    return {
        index: hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).hexdigest()
        for index, frame in frames.items()
    }


def _unstable(first: CaseRecord, last: CaseRecord, digests: Sequence[Mapping[int, str]]) -> dict[int, str]:
    """Of each frame that was not the same every time, how it differed."""
    hint = '; use clock = "virtual" for frames that are drawn while tiles arrive'
    found: dict[int, str] = {}
    for frame in first.frames:
        again = last.frame(frame.index)
        if again is None or (frame.tiles is not None and frame.tiles != again.tiles):
            found[frame.index] = "other tiles were drawn" + hint
        elif len({each.get(frame.index) for each in digests}) > 1:
            found[frame.index] = "the same tiles gave other pixels"
    return found


def background_of(colour: object) -> tuple[int, int, int, int]:
    """RGBA of a background given as ``--background``; black when it is no colour that Pillow knows."""
    from PIL import ImageColor

    if str(colour).strip().lower() == "transparent":
        return 0, 0, 0, 0
    try:
        rgb = ImageColor.getrgb(str(colour).strip())
    except ValueError:
        return 0, 0, 0, 255
    return rgb[0], rgb[1], rgb[2], rgb[3] if len(rgb) > 3 else 255
