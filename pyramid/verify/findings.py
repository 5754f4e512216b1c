"""What a verification says: values, and the list that collects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "schema", "metadata", "dtype", "dimension-names", "shape", "scale", "translation",
    "missing-chunk", "torn-shard", "torn-chunk", "unreadable", "reduction", "leftover",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: ``kind``, the level (None: the whole image), where, and what about it."""

    kind: Kind
    where: str
    what: str
    level: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "level": self.level, "where": self.where, "what": self.what}


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found (nothing: the pyramid is whole), what was looked at, and what could not be.

    ``compared`` and ``total``  blocks of coarser levels compared with the level before, and how many there are.
    ``images``  looked at: the image, others of its folder, its labels; ``levels`` of all of them.
    ``files``  chunk and shard files looked at.  ``notes``  what was not checked, and why.
    """

    path: str
    deep: bool
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    levels: int
    files: int = 0
    compared: int = 0
    total: int = 0
    images: int = 1

    @property
    def ok(self) -> bool:
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "ok": self.ok,
            "deep": self.deep,
            "images": self.images,
            "levels": self.levels,
            "files": self.files,
            "blocks_compared": self.compared,
            "blocks_total": self.total,
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class Findings:
    """Collects findings, at most ``limit`` of one kind and level: damage comes in thousands. Owner: ``verify``."""

    limit: int = 20
    _kept: list[Finding] = field(default_factory=list)
    _counts: dict[tuple[Kind, int | None], int] = field(default_factory=dict)
    _seen: set[Finding] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: Kind, where: str, what: str, level: int | None = None) -> None:
        self.put(Finding(kind, where, what, level))

    def put(self, finding: Finding) -> None:
        """Add one finding, once."""
        kind, level = finding.kind, finding.level
        if finding in self._seen:
            return
        self._seen.add(finding)
        count = self._counts[kind, level] = self._counts.get((kind, level), 0) + 1
        if count <= self.limit:
            self._kept.append(finding)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def result(self) -> Sequence[Finding]:
        """All findings, by level; what went over the limit as one line of its kind."""
        for (kind, level), count in self._counts.items():
            if count > self.limit:
                more = f"{count - self.limit} more of the same kind"
                self._kept.append(Finding(kind, "…", more, level))
        return sorted(self._kept, key=lambda f: -1 if f.level is None else f.level)
