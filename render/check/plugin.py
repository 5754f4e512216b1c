"""The pytest plugin: frames as assertions. Costs nothing where it is not used: octree is imported by the fixture.

    def test_overview(octree_check):
        octree_check("overview", "data/slide.zarr", camera="fit", size="640x480", clim="0,4000")

Baselines lie in ``baselines/`` beside the test file, or where ``--octree-baselines`` says. ``--octree-accept``
takes what is rendered as the new baselines. What was compared is in ``octree-check/report.html``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from octree.render.check.judge import CaseResult
    from octree.render.check.spec import Case


class OctreeCheckWarning(UserWarning):
    """A case has no baseline yet."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("octree", "rendered frames (octree)")
    group.addoption(
        "--octree-accept", action="store_true", help="take the frames that octree_check renders as baselines"
    )
    group.addoption(
        "--octree-baselines",
        metavar="DIR",
        help="folder of baselines (default: baselines/ beside each test file)",
    )
    group.addoption(
        "--octree-output",
        metavar="DIR",
        default="octree-check",
        help="folder for the report and staged frames (default: %(default)s)",
    )
    group.addoption("--octree-reason", metavar="TEXT", default="", help="why frames are accepted")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--octree-accept") and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--octree-accept writes one manifest: run it without -n")


def _local(config: pytest.Config, option: str) -> str:
    """The folder that an option names. Raises UsageError for a URL."""
    from octree.pyramid.options import PATH

    return str(PATH.read(option, config.getoption(option)))


_SESSION = pytest.StashKey["Session"]()


class Session:
    """What was checked in this test session. Owned by the main thread; made by the first use of the fixture."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.begin_s = time.perf_counter()
        self.results: list[CaseResult] = []
        self.baselines: set[Path] = set()
        self._names: dict[tuple[Path, str], str] = {}
        output = config.rootpath / _local(config, "--octree-output")
        worker = getattr(config, "workerinput", None)
        self.output = output / worker["workerid"] if worker else output

    def check(self, case: Case, baselines: Path, test: str) -> CaseResult:
        """Render a case and compare it, or accept it. A name belongs to one test."""
        from octree.pyramid.errors import UsageError
        from octree.render.check.baseline import BaselineStore
        from octree.render.check.suite import CaseRunner, is_ci

        owner = self._names.setdefault((baselines, case.name.casefold()), test)
        if owner != test:
            raise UsageError(f"two tests check a case called {case.name!r}", hint=f"the other one: {owner}")
        runner = CaseRunner(
            BaselineStore(baselines),
            self.output,
            missing_fails=is_ci(),
            reason=self.config.getoption("--octree-reason"),
        )
        accepting = self.config.getoption("--octree-accept")
        result = runner.accept(case, fresh=True) if accepting else runner.check(case)
        self.results.append(result)
        self.baselines.add(baselines)
        return result

    def write_reports(self) -> None:
        from octree.render.check.reports import write_reports
        from octree.render.check.suite import SuiteResult

        write_reports(
            SuiteResult(
                suite=self.config.rootpath / "pytest",
                cases=tuple(self.results),
                baselines=min(self.baselines),
                output=self.output,
                seconds=time.perf_counter() - self.begin_s,
                command=("pytest", "--octree-accept"),
            )
        )


@pytest.fixture
def octree_check(request: pytest.FixtureRequest) -> Callable[..., CaseResult]:
    """Check rendered frames: ``octree_check(name, source, camera="fit", **options)``.

    ``name`` names the baseline. ``source`` is what ``octree render`` takes, an array, or a list of layers; relative paths lie beside the
    file of the test;
    ``camera`` a text or a list. ``size``, ``frames``, ``masks``, ``tolerance`` (a dict), ``compare`` and
    ``repeat`` are those of a suite's case; all else are options of ``octree render`` (``clim``, ``clock`` …).
    Fails the test when the case fails; returns the ``CaseResult``.
    """
    stash = request.config.stash
    if _SESSION not in stash:
        stash[_SESSION] = Session(request.config)
    session = stash[_SESSION]
    chosen = request.config.getoption("--octree-baselines")
    folder = (
        request.config.rootpath / _local(request.config, "--octree-baselines")
        if chosen
        else request.path.parent / "baselines"
    )

    def check(
        name: str,
        source: Any,
        camera: str | Sequence[str] = "fit",
        *,
        size: str | tuple[int, int] = "1024x768",
        frames: Sequence[int] | None = None,
        masks: Sequence[Sequence[int]] = (),
        tolerance: Mapping[str, Any] | None = None,
        compare: Sequence[str] | None = None,
        repeat: int = 2,
        **options: Any,
    ) -> CaseResult:
        from octree.render.check.spec import make_case

        case = make_case(
            name,
            source,
            camera,
            size=size,
            frames=frames,
            masks=masks,
            tolerance=tolerance,
            compare=compare,
            repeat=repeat,
            options=options,
            folder=request.path.parent,
        )
        result = session.check(case, folder, request.node.nodeid)
        _tell(result, session.output)
        return result

    return check


def _tell(result: CaseResult, output: Path) -> None:
    """Fail the test, or warn, with the reasons."""
    __tracebackhide__ = True
    from octree.pyramid.foreign import printable

    said = f"octree check {result.name!r}: {result.verdict.value}: {'; '.join(result.reasons)}"
    if result.failed:
        hint = (result.error or {}).get("hint")
        lines = [said, *([hint] if hint else []), f"see {output / 'report.html'}"]
        if result.stageable:
            lines.append("to accept: pytest --octree-accept")
        pytest.fail("\n".join(map(printable, lines)), pytrace=False)
    if result.verdict.value == "new":
        warnings.warn(
            OctreeCheckWarning(printable(f"{said}; to accept: pytest --octree-accept")), stacklevel=3
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    checks = session.config.stash.get(_SESSION, None)
    if checks is not None and checks.results:
        checks.write_reports()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    checks = config.stash.get(_SESSION, None)
    if checks is None:
        return
    if any(result.verdict.value != "pass" for result in checks.results):
        terminalreporter.write_line(f"octree: see {checks.output / 'report.html'}")
    from octree.pyramid.foreign import printable

    for result in checks.results:  # not as warnings: a slow machine must not fail where those are errors
        for text in result.warnings:
            terminalreporter.write_line(printable(f"octree: {result.name}: {text}"))
