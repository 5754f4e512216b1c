"""What a run leaves behind: report.json, junit.xml, report.html, a Markdown summary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from octree.render.encode import atomic_file
from octree.render.report import plain_json, utc_now, version

if TYPE_CHECKING:
    from octree.render.check.suite import SuiteResult

SCHEMA = "octree-check/1"


def write_reports(result: SuiteResult) -> None:
    with atomic_file(result.output / "report.json") as partial:
        partial.write_text(json.dumps(to_json(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def to_json(result: SuiteResult) -> dict[str, Any]:
    document: dict[str, Any] = plain_json(
        {"schema": SCHEMA, "octree_version": version(), "written_utc": utc_now(), "passed": result.passed}
    )
    return document
