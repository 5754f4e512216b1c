"""A stand-in for the renderer: suites are run without OpenGL, on frames that a test makes up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from report_cases import RENDERER, frame, run_report

from octree.pyramid.errors import OctreeError
from octree.render.check.spec import Case
from octree.render.check.suite import SuiteResult, run
from octree.render.report.values import FrameReport, RunReport
from octree.render.view.coverage import Coverage

SIZE = (64, 48)


def pixels(seed: int = 0, size: tuple[int, int] = SIZE) -> Any:
    out = np.random.default_rng(seed).integers(40, 200, (size[1], size[0], 4), dtype=np.uint8)
    out[..., 3] = 255
    return out


def tile_set(*tiles: tuple[int, int, int], level: int = 0) -> dict[str, Any]:
    """As ``Frame.tile_set``: tiles are (level, row, column)."""
    return {"level": level, "layers": [sorted([[lev, [0], [row, col]] for lev, row, col in tiles])]}


@dataclass
class Shown:
    """What the stand-in renders for a case: one entry per frame."""

    frames: list[Any] = field(default_factory=lambda: [pixels()])
    tiles: list[Any] = field(default_factory=lambda: [tile_set((0, 0, 0), (0, 0, 1))])
    coverage: list[Coverage] = field(default_factory=lambda: [Coverage(by_level={0: 1.0})])
    visible_px: int = 64 * 48
    ms: float = 10.0


@dataclass(frozen=True)
class Result:
    frames: Sequence[Any]
    report: RunReport
    tile_sets: Sequence[Any]


class FakeRenderer:
    """Renders what ``shown`` says of a case's name, or raises it; counts its calls."""

    def __init__(self, **shown: Any) -> None:
        self.shown: dict[str, Shown | OctreeError | BaseException | Callable[[int], Shown]] = dict(shown)
        self.renderer = dict(RENDERER)
        self.calls: list[str] = []

    def __call__(self, case: Case) -> Result:
        self.calls.append(case.name)
        what = self.shown.get(case.name) or Shown()
        if isinstance(what, BaseException):
            raise what
        shown = what(self.calls.count(case.name)) if callable(what) else what
        reports: list[FrameReport] = []
        for index, each in enumerate(shown.frames):
            made = frame(index, 16.0 * index, shown.coverage[min(index, len(shown.coverage) - 1)])
            size = (each.shape[1], each.shape[0])
            times = replace(made.timings_ms, total=shown.ms)
            reports.append(replace(made, size_px=size, visible_px=shown.visible_px, timings_ms=times))
        return Result(shown.frames, run_report(reports, renderer=self.renderer), shown.tiles)


@dataclass
class Bench:
    """A suite in a folder, and its stand-in renderer."""

    folder: Path
    renderer: FakeRenderer

    def suite(self, *names: str, more: str = "") -> Path:
        path = self.folder / "suite.toml"
        cases = "".join(
            f'[[case]]\nname = "{name}"\nsource = "a.zarr"\nsize = "64x48"\n{more}\n' for name in names
        )
        path.write_text(cases, encoding="utf-8")
        return path

    def run(self, *names: str, more: str = "", **options: Any) -> SuiteResult:
        options = {"ci": False, "output": self.folder / "out"} | options
        return run(self.suite(*names, more=more), render_case=self.renderer, **options)

    def verdicts(self, result: SuiteResult) -> dict[str, str]:
        return {case.name: case.verdict.value for case in result.cases}
