"""Run a suite: render every case, judge it, stage what may become a baseline, write the reports.

Everything happens in the calling thread, one case after another: drawing belongs to one thread anyway.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from octree.pyramid.errors import GLError, OctreeError, UsageError
from octree.render.check.baseline import BaselineStore, Scope
from octree.render.check.compare import Frame
from octree.render.check.judge import CaseResult, Verdict, judge, worst
from octree.render.check.record import (
    CaseRecord,
    RunResult,
    case_digest,
    read_record,
    record_of,
    write_record,
)
from octree.render.check.spec import Case, Suite, load_suite
from octree.render.output.files import check_destination

RenderCase = Callable[[Case], RunResult]
Progress = Callable[[CaseResult], None]

DEFAULT_OUTPUT = "octree-check"
STAGED_FOLDER = "actual"
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
    render_case: RenderCase | None = None,
    on_case: Progress | None = None,
) -> SuiteResult:
    """Run the suite, or with ``accept`` take frames as baselines.

    ``only`` names the cases to run; none: all. ``accept`` None only compares; a list of names, or an empty
    one for all, accepts the frames that the last run staged, and renders cases only where nothing is
    staged. ``ci`` None looks at the variable CI: there a missing baseline fails. ``on_case`` is called after
    each case. Raises ``UsageError`` for a suite or name that is wrong, ``DestinationError`` when ``output``
    cannot be written, ``GLError`` when nothing can be drawn here at all; whatever else goes wrong in a case
    is that case's verdict.
    """
    begin_s = time.perf_counter()
    suite = load_suite(Path(suite_path))
    cases = chosen(suite, [*only, *(accept or ())])
    runner = CaseRunner(
        BaselineStore(Path(baselines) if baselines is not None else suite.default_baselines),
        Path(output),
        render_case or render_with_pipeline,
        missing_fails=is_ci() if ci is None else ci,
        reason=reason,
        scope=scope,
    )
    check_destination(runner.output / "report.json")
    results = []
    for case in cases if accept is None else acceptable(runner, cases, named=bool(accept)):
        result = runner.check(case) if accept is None else runner.accept(case)
        results.append(result)
        if on_case is not None:
            on_case(result)
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

    write_reports(outcome)
    return outcome


def acceptable(runner: CaseRunner, cases: Sequence[Case], *, named: bool) -> list[Case]:
    """The cases that ``--accept`` is about: all that were named; else, when some are staged, those and the
    ones without a baseline (the others passed at the time, and nobody has seen a new frame of them)."""
    if named or not any(runner.staged(case) for case in cases):
        return list(cases)
    return [case for case in cases if runner.staged(case) or not runner.has_baseline(case)]


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


def render_with_pipeline(case: Case) -> RunResult:
    """Render a case as ``octree render`` would; pixels are kept of the frames that are compared."""
    from octree.render import frames as loop
    from octree.render.request import parse_request

    size = f"{case.size_px[0]}x{case.size_px[1]}"
    request = parse_request(case.sources, case.cameras, {**case.options, "size": size})
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

    def check(self, case: Case) -> CaseResult:
        """Render and judge. What did not pass is staged, what passed leaves nothing behind."""
        begin_s = time.perf_counter()
        folder = self.staging(case)
        shutil.rmtree(folder, ignore_errors=True)
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
        )

    def accept(self, case: Case, *, fresh: bool = False) -> CaseResult:
        """Make the staged frames of a case its baseline; render it first if none are staged, or if ``fresh``."""
        record = None if fresh else self.staged(case)
        result = CaseResult(case, Verdict.PASS, record=record)
        if record is None:
            result = self.check(case)
            if result.verdict is Verdict.PASS:
                return result
            record = self.staged(case)
            if record is None:
                return replace(
                    result,
                    verdict=worst([result.verdict, Verdict.FAIL]),
                    reasons=("not accepted", *result.reasons),
                )
        folder = self.staging(case)
        key = self.store.accept(case.name, folder, record, reason=self.reason, scope=self.scope)
        shutil.rmtree(folder, ignore_errors=True)
        frames = tuple(replace(frame, verdict=Verdict.PASS, kinds=(), reasons=()) for frame in result.frames)
        said = (f"accepted as the baseline for {key}",)
        return replace(
            result, verdict=Verdict.PASS, reasons=said, frames=frames, baseline=key, accepted=key, error=None
        )

    def staging(self, case: Case) -> Path:
        return self.output / STAGED_FOLDER / case.name

    def staged(self, case: Case) -> CaseRecord | None:
        """The record that a run of this very case staged, None when there is none."""
        record = read_record(self.staging(case))
        return record if record is not None and record.case_digest == case_digest(case) else None

    def has_baseline(self, case: Case) -> bool:
        return any(entry.partition("/")[2] == case.name for entry in self.store.manifest())


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
