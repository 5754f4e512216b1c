"""What a run leaves behind: report.json, junit.xml, summary.md and report.html, and difference pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octree.pyramid.foreign import json_text, markdown, xml_text
from octree.pyramid.store.removal import Folder, append_to
from octree.render.check.compare import amplified, highlighted
from octree.render.check.folders import frames_folder, remove_frames
from octree.render.check.judge import CaseResult, FrameResult, Verdict
from octree.render.check.pictures import Album
from octree.render.check.record import frame_file
from octree.render.output.files import atomic_file, write_error
from octree.render.output.png import encode_png
from octree.render.report.pages import render_page
from octree.render.report.values import plain_json, utc_now, version

if TYPE_CHECKING:
    from octree.render.check.suite import SuiteResult

SCHEMA = "octree-check/1"
DIFFERENCE_FOLDER = "difference"
_THUMBNAIL_PX = 220
_GRAVITY = (Verdict.ERROR, Verdict.FAIL, Verdict.UNSTABLE, Verdict.NEW, Verdict.PASS)


def write_reports(
    result: SuiteResult, env: Mapping[str, str] = os.environ, *, whole_pictures: bool = False
) -> None:
    """Write every report into ``result.output``; the summary also where GITHUB_STEP_SUMMARY says. ``whole_pictures``: in the
    page, however large it gets.

    Raises ``DestinationError`` or ``WriteError``."""
    document = to_json(result)
    output = result.output
    _write_differences(result)
    _write(output / "report.json", json_text(document, indent=1) + "\n")
    _write(output / "junit.xml", to_junit(result))
    _write(output / "summary.md", to_markdown(result))
    _write(output / "report.html", to_html(result, whole_pictures=whole_pictures))
    summary = env.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with append_to(Path(summary)) as file:
                file.write(to_markdown(result))
        except OSError as error:
            raise write_error(Path(summary), error) from error


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _write_differences(result: SuiteResult) -> None:
    """A picture of the difference for each frame whose pixels fail; those of earlier runs go."""
    place = result.output / DIFFERENCE_FOLDER
    try:
        with (
            Folder.of(result.output, create=True) as output,
            output.folder(place.name, create=True) as differences,
        ):
            for case in result.cases:
                remove_frames(differences, case.name)
                for frame in case.shown:
                    if frame.expected is not None and frame.actual is not None and frame.diff is not None:
                        picture = highlighted(
                            frame.expected, frame.actual, case.case.tolerance, masks=case.case.masks
                        )
                        with frames_folder(differences, case.name) as folder:
                            folder.write(frame_file(frame.index), encode_png(picture))
    except OSError as error:
        raise write_error(place, error) from error


# JSON


def to_json(result: SuiteResult) -> dict[str, Any]:
    """The report as plain values."""
    document: dict[str, Any] = plain_json(
        {
            "schema": SCHEMA,
            "octree_version": version(),
            "written_utc": utc_now(),
            "suite": result.suite,
            "baselines": result.baselines,
            "output": result.output,
            "passed": result.passed,
            "seconds": round(result.seconds, 3),
            "counts": {verdict.value: result.count(verdict) for verdict in Verdict},
            "cases": [case_json(case) for case in result.cases],
            "unused_baselines": result.unused,
        }
    )
    return document


def case_json(case: CaseResult) -> dict[str, Any]:
    """One case as plain values."""
    document: dict[str, Any] = plain_json(
        {
            "name": case.name,
            "verdict": case.verdict,
            "reasons": case.reasons,
            "warnings": case.warnings,
            "baseline": case.baseline,
            "accepted": case.accepted,
            "fingerprint": case.record.fingerprint if case.record else None,
            "seconds": round(case.seconds, 3),
            "timings": case.record.timings if case.record else None,
            "error": case.error,
            "frames": [
                {
                    "index": frame.index,
                    "camera": frame.camera,
                    "verdict": frame.verdict,
                    "kinds": frame.kinds,
                    "reasons": frame.reasons,
                    "diff": frame.diff.to_json() if frame.diff else None,
                }
                for frame in case.frames
            ],
        }
    )
    return document


# JUnit


def to_junit(result: SuiteResult) -> str:
    """JUnit XML: a failure for a case that fails or is unstable, an error for one that could not run."""
    from xml.etree import ElementTree

    counts = {
        "tests": len(result.cases),
        "failures": result.count(Verdict.FAIL) + result.count(Verdict.UNSTABLE),
        "errors": result.count(Verdict.ERROR),
        "skipped": 0,
    }
    facts = {key: str(value) for key, value in counts.items()} | {"time": f"{result.seconds:.3f}"}
    root = ElementTree.Element("testsuites", {"name": "octree check", **facts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": xml_text(result.suite.stem), **facts})
    for case in result.cases:
        item = ElementTree.SubElement(
            suite,
            "testcase",
            {"classname": "octree.check", "name": xml_text(case.name), "time": f"{case.seconds:.3f}"},
        )
        said = xml_text("; ".join(case.reasons))
        if case.failed:
            kinds = sorted({kind for frame in case.frames for kind in frame.kinds})
            tag = "error" if case.verdict is Verdict.ERROR else "failure"
            what = ", ".join(kinds) or case.verdict.value
            detail = ElementTree.SubElement(item, tag, {"message": said, "type": what})
            lines = [f"frame {f.index}: {r}" for f in case.frames for r in f.reasons]
            detail.text = "\n".join(map(xml_text, lines))
        notes = [*(() if case.failed else case.reasons), *(f"warning: {text}" for text in case.warnings)]
        if notes:
            ElementTree.SubElement(item, "system-out").text = "\n".join(map(xml_text, notes))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


# Markdown


def to_markdown(result: SuiteResult) -> str:
    """A short summary: one line, and a table of what did not simply pass."""
    lines = [f"### {'✅' if result.passed else '❌'} octree check: {markdown(result.suite.name)}", ""]
    lines += [headline(result), ""]
    rows = [case for case in by_gravity(result.cases) if case.verdict is not Verdict.PASS or case.warnings]
    if rows:
        lines += ["| case | verdict | why | baseline |", "|---|---|---|---|"]
        for case in rows:
            why = "; ".join([*case.reasons, *(f"warning: {text}" for text in case.warnings)])
            lines.append(
                f"| {markdown(case.name)} | {case.verdict.value} | {markdown(why)} | {markdown(case.baseline or '–')} |"
            )
        lines.append("")
    if result.unused:
        lines += [f"Baselines without a case: {', '.join(map(markdown, result.unused))}", ""]
    return "\n".join(lines)


def headline(result: SuiteResult) -> str:
    """``4 cases: 3 pass, 1 fail, in 2.1 s``."""
    counts = [f"{result.count(verdict)} {verdict.value}" for verdict in Verdict if result.count(verdict)]
    many = len(result.cases)
    return f"{many} case{'s' if many != 1 else ''}: {', '.join(counts) or 'nothing to do'}, in {result.seconds:.1f} s"


def by_gravity(cases: Iterable[CaseResult]) -> list[CaseResult]:
    """What needs a person first; within a verdict the case with most differing pixels."""

    def weight(case: CaseResult) -> tuple[int, int]:
        differing = max((frame.diff.differing_px for frame in case.frames if frame.diff), default=0)
        return _GRAVITY.index(case.verdict), -differing

    return sorted(cases, key=weight)


# HTML


def to_html(result: SuiteResult, *, whole_pictures: bool = False) -> str:
    """One page that works offline, worst cases first."""
    frames = sum(max(1, len(case.shown)) for case in result.cases)
    album = Album(frames, len(result.cases), whole=whole_pictures)
    return render_page(
        "check.html.jinja",
        passed=result.passed,
        headline=headline(result),
        suite=result.suite.name,
        version=version(),
        written=utc_now(),
        counts={verdict.value: result.count(verdict) for verdict in Verdict},
        unused=result.unused,
        accept_all=result.accept_command(),
        cases=[_case_view(case, result, album) for case in by_gravity(result.cases)],
    )


def _case_view(case: CaseResult, result: SuiteResult, album: Album) -> dict[str, Any]:
    failing = [frame for frame in case.frames if frame.verdict is not Verdict.PASS]
    return {
        "name": case.name,
        "verdict": case.verdict.value,
        "reasons": case.reasons,
        "warnings": case.warnings,
        "baseline": case.baseline,
        "fingerprint": case.record.fingerprint if case.record else None,
        "seconds": case.seconds,
        "hint": (case.error or {}).get("hint"),
        "frames_in_all": len(case.frames),
        "more": len(failing) - len(case.shown),
        "frames": [_frame_view(frame, case, album) for frame in case.shown],
        "thumbnail": _thumbnail(case, album),
        "masks": len(case.case.masks),
        "accept": result.accept_command(case.name)
        if case.stageable and case.verdict is not Verdict.PASS
        else None,
    }


def _frame_view(frame: FrameResult, case: CaseResult, album: Album) -> dict[str, Any]:
    expected, actual = frame.expected, frame.actual
    names, pictures, box = ["expected", "actual"], [expected, actual], None
    if expected is not None and actual is not None and frame.diff is not None:
        names += ["amplified", "highlighted"]
        marked = highlighted(expected, actual, case.case.tolerance, masks=case.case.masks)
        pictures, box = [expected, actual, amplified(expected, actual), marked], frame.diff.box
    named = [
        (name, each) for name, each in zip(names, pictures, strict=True) if each is not None and each.size
    ]
    found = album.pictures([each for _, each in named], box) if named else None
    urls = dict(zip((name for name, _ in named), found.urls, strict=False)) if found else {}
    x0, y0, x1, y1 = found.box if found else (0, 0, 0, 0)
    return {
        "index": frame.index,
        "camera": frame.camera,
        "reasons": frame.reasons,
        "diff": frame.diff,
        "size": (x1 - x0, y1 - y0),
        "said": found.said if found else "",
        **{name: urls.get(name) for name in ("expected", "actual", "amplified", "highlighted")},
    }


def _thumbnail(case: CaseResult, album: Album) -> Any:
    """A small picture of the last frame of a case that passed."""
    frame = case.frames[-1].actual if case.frames and case.verdict is Verdict.PASS else None
    if frame is None or not frame.size:
        return None
    step = max(1, -(-max(frame.shape[:2]) // _THUMBNAIL_PX))
    return next(iter(album.pictures([frame[::step, ::step]]).urls), None)
