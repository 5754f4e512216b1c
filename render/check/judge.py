"""From a rendered case and its baseline to a verdict. Pure, but for reading the baseline's pixels.

Reasons begin with what a person sees, the pixels; coverage and tiles, which no renderer changes, say why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from octree.render.check.baseline import Baseline
from octree.render.check.compare import Frame, ImageDiff, compare_frames
from octree.render.check.record import CaseRecord, FrameRecord, read_frame
from octree.render.check.spec import Case

COVERAGE_SLACK = 0.001
"""Coverage comes from areas in floating point; a thousandth is below any tile."""
PICTURES_PER_CASE = 6
"""Frames of a case that reports show in full; a path may have hundreds that fail alike."""
_SLOWER = 2.0
_SLOWER_LEAST_MS = 10.0
_FRAMES_FOR_P95 = 20
_MORE = 1.1
_NOTHING_YET = 1 - 1e-9


class Verdict(Enum):
    """What came out, best first. ``NEW``: no baseline yet. ``UNSTABLE``: two renderings differ."""

    PASS = "pass"
    NEW = "new"
    FAIL = "fail"
    UNSTABLE = "unstable"
    ERROR = "error"


_ORDER = list(Verdict)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    return max(verdicts, key=_ORDER.index, default=Verdict.PASS)


@dataclass(frozen=True, slots=True)
class FrameResult:
    """One frame. ``kinds`` names what failed (tiles, coverage, pixels, size, empty, unstable, missing, count);
    ``reasons`` says it in words. ``expected`` and ``actual`` are pixels, None where there are none."""

    index: int
    camera: str
    verdict: Verdict
    kinds: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    diff: ImageDiff | None = None
    expected: Frame | None = field(default=None, compare=False, repr=False)
    actual: Frame | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case. ``baseline`` is the renderer key it was compared with; ``record`` what was rendered, None when
    rendering failed (``error``). ``stageable``: these frames may become a baseline."""

    case: Case
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    frames: tuple[FrameResult, ...] = ()
    baseline: str | None = None
    record: CaseRecord | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    error: Mapping[str, Any] | None = None
    accepted: str | None = None

    @property
    def name(self) -> str:
        return self.case.name

    @property
    def failed(self) -> bool:
        return self.verdict not in (Verdict.PASS, Verdict.NEW)

    @property
    def shown(self) -> list[FrameResult]:
        """The frames worth a look: those that did not pass, the first few."""
        return [frame for frame in self.frames if frame.verdict is not Verdict.PASS][:PICTURES_PER_CASE]

    def without_surplus(self) -> CaseResult:
        """The same with pixels only where a report shows them: a path has hundreds of frames, a suite many."""
        kept = {frame.index for frame in (*self.shown, *self.frames[-1:])}
        frames = tuple(
            frame if frame.index in kept else replace(frame, expected=None, actual=None)
            for frame in self.frames
        )
        return replace(self, frames=frames)

    @property
    def stageable(self) -> bool:
        kinds = {kind for frame in self.frames for kind in frame.kinds}
        return self.record is not None and not kinds & {"unstable", "empty"}


def judge(
    case: Case,
    record: CaseRecord,
    frames: Mapping[int, Frame],
    baseline: Baseline | None,
    *,
    unstable: Mapping[int, str] | None = None,
    missing_fails: bool = False,
    background: tuple[int, int, int, int] = (0, 0, 0, 255),
    allow_empty: bool = False,
) -> CaseResult:
    """The verdict on one case.

    ``frames`` are the pixels by index, ``unstable`` says of frame indices how a second rendering differed,
    ``background`` is the RGBA of a frame that shows nothing; ``allow_empty``: that may be so.
    """
    alive = any(not _is_blank(frames[frame.index], frame, background) for frame in record.frames)
    results = [
        _judge_frame(
            case,
            frame,
            frames[frame.index],
            baseline,
            unstable=(unstable or {}).get(frame.index),
            empty=not allow_empty
            and _is_blank(frames[frame.index], frame, background)
            and not (alive and frame.coverage.get("missing", 0) >= _NOTHING_YET),
            missing_fails=missing_fails,
        )
        for frame in record.frames
    ]
    reasons: list[str] = []
    verdict = worst([result.verdict for result in results])
    if baseline is not None:
        extra = {f.index for f in baseline.record.frames} - {f.index for f in record.frames}
        if extra:
            verdict = worst([verdict, Verdict.FAIL])
            reasons.append(
                f"the baseline has {len(baseline.record.frames)} frames, now there are {len(record.frames)}"
            )
    bad = [result for result in results if result.verdict is verdict and result.reasons]
    if bad:
        more = f" (and {len(bad) - 1} more frames)" if len(bad) > 1 else ""
        where = f"frame {bad[0].index}: " if len(results) > 1 else ""
        reasons.append(where + "; ".join(bad[0].reasons) + more)
    return CaseResult(
        case=case,
        verdict=verdict,
        reasons=tuple(reasons),
        frames=tuple(results),
        baseline=baseline.key if baseline else None,
        record=record,
        warnings=(
            *failure_warnings(record),
            *(timing_warnings(record, baseline.record) if baseline else ()),
        ),
    )


def _judge_frame(
    case: Case,
    frame: FrameRecord,
    actual: Frame,
    baseline: Baseline | None,
    *,
    unstable: str | None,
    empty: bool,
    missing_fails: bool,
) -> FrameResult:
    """``kinds`` and ``reasons`` grow together, in the order of the checks."""
    found: list[tuple[str, str]] = []
    verdict = Verdict.PASS
    if unstable:
        found.append(("unstable", f"rendered twice, it differs: {unstable}"))
        verdict = Verdict.UNSTABLE
    if empty:
        found.append(("empty", "the frame is empty: nothing but background"))
    expected_frame = baseline.record.frame(frame.index) if baseline else None
    expected: Frame | None = None
    diff: ImageDiff | None = None
    if baseline is not None and expected_frame is not None:
        expected = read_frame(baseline.folder, expected_frame)
        problems, diff = _differences(case, expected_frame, frame, expected, actual)
        found += problems
    if found:
        verdict = worst([verdict, Verdict.FAIL])
    elif expected_frame is None:
        verdict = Verdict.FAIL if missing_fails or baseline is not None else Verdict.NEW
        what = "the baseline does not have this frame" if baseline else "no baseline"
        found.append(("missing", what))
    return FrameResult(
        index=frame.index,
        camera=frame.camera,
        verdict=verdict,
        kinds=tuple(kind for kind, _ in found),
        reasons=tuple(reason for _, reason in found),
        diff=diff,
        expected=expected if verdict is not Verdict.PASS else None,
        actual=actual,
    )


def _differences(
    case: Case, before: FrameRecord, now: FrameRecord, expected: Frame, actual: Frame
) -> tuple[list[tuple[str, str]], ImageDiff | None]:
    found: list[tuple[str, str]] = []
    if expected.shape[:2] != actual.shape[:2]:
        sizes = [f"{frame.shape[1]}x{frame.shape[0]}" for frame in (expected, actual)]
        return [("size", f"the frame is {sizes[1]}, the baseline {sizes[0]}")], None
    diff = compare_frames(expected, actual, case.tolerance, masks=case.masks)
    if "pixels" in case.compare and not diff.passed:  # first, since it is what people see
        found.append(("pixels", "; ".join((diff.summary, *diff.reasons))))
    if "coverage" in case.compare and (reason := coverage_differs(before, now)):
        found.append(("coverage", reason))
    if "tiles" in case.compare and (reason := tiles_differ(before, now)):
        found.append(("tiles", reason))
    return found, diff


def tiles_differ(before: FrameRecord, now: FrameRecord) -> str:
    """How the tiles drawn differ, "" when they do not or are not known."""
    if before.tiles is None or now.tiles is None or before.tiles == now.tiles:
        return ""
    old, new = (_tiles_of(frame.tiles) for frame in (before, now))
    gone, came = sorted(old - new), sorted(new - old)
    parts = [
        f"{len(tiles)} {word} ({', '.join(tiles[:3])}{', …' if len(tiles) > 3 else ''})"
        for word, tiles in (("no longer drawn", gone), ("drawn in addition", came))
        if tiles
    ]
    if before.level != now.level:
        parts.insert(0, f"wanted level {now.level} instead of {before.level}")
    return "tiles: " + ("; ".join(parts) or "drawn in another arrangement")


def _tiles_of(tiles: Any) -> set[str]:
    """Names of tiles, one text each, from ``Frame.tile_set``."""
    layers = tiles.get("layers", []) if isinstance(tiles, dict) else []
    names = set()
    for number, layer in enumerate(layers):
        for level, index, grid in layer:
            place = "/".join(map(str, [*index, *grid]))
            names.add(f"layer {number} level {level} tile {place}")
    return names


def coverage_differs(before: FrameRecord, now: FrameRecord) -> str:
    """How coverage differs by more than ``COVERAGE_SLACK``, "" when it does not."""
    parts = []
    for name in ("ideal", "finer", "coarser", "failed", "missing"):
        old, new = before.coverage.get(name, 0.0), now.coverage.get(name, 0.0)
        if abs(old - new) > COVERAGE_SLACK:
            parts.append(f"{name} {new:.1%} instead of {old:.1%}")
    return "coverage: " + ", ".join(parts) if parts else ""


def _is_blank(pixels: Frame, frame: FrameRecord, background: tuple[int, int, int, int]) -> bool:
    """Whether a frame shows nothing but background (to one grey level), or nothing of the image is in view."""
    if frame.visible_px == 0 or pixels.size == 0:
        return True
    colour = np.array(background[: pixels.shape[2]], np.int16)
    first = pixels[0, 0].astype(np.int16)
    if not bool((pixels == pixels[0, 0]).all()):
        return False
    return bool((np.abs(first - colour) <= 1).all()) or (pixels.shape[2] == 4 and first[3] == 0)


def failure_warnings(now: CaseRecord) -> list[str]:
    """A frame that shows the pattern of tiles that could not be read may be meant, but is worth a word."""
    bad = [frame for frame in now.frames if frame.coverage.get("failed", 0.0) > 0]
    if not bad:
        return []
    return [
        f"tiles could not be read: {bad[0].coverage['failed']:.1%} of frame {bad[0].index} shows their pattern"
    ]


def timing_warnings(now: CaseRecord, before: CaseRecord) -> list[str]:
    """Timings against those of the baseline, as ratios; only between frames of one renderer. Warnings never
    fail a case: shared machines are noisy."""
    warnings = []
    if now.fingerprint == before.fingerprint:
        many = len(now.frames) >= _FRAMES_FOR_P95
        for key in ("frame_ms_p50", "frame_ms_p95") if many else ("frame_ms_p50",):
            old, new = before.timings.get(key), now.timings.get(key)
            if old and new and new > _SLOWER * old and new - old > _SLOWER_LEAST_MS:
                warnings.append(
                    f"{key} is {new / old:.1f} times the baseline's ({new:.1f} ms, was {old:.1f} ms)"
                )
    for key in ("tiles_read", "bytes_read"):
        old, new = before.timings.get(key), now.timings.get(key)
        if old and new and new > _MORE * old:
            warnings.append(f"{key} is {new / old:.2f} times the baseline's ({new:g}, was {old:g})")
    return warnings
