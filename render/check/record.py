"""What is kept of a rendered case: the same for a baseline and for frames staged to become one.

A folder holds ``frame-0000.png`` … and ``record.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from octree.render.check.spec import Case
from octree.render.output.encode import read_png, write_png
from octree.render.output.files import atomic_file
from octree.render.report.values import RunReport, plain_json

SCHEMA = "octree-record/1"
RECORD_FILE = "record.json"
Frame = NDArray[np.uint8]


class RunResult(Protocol):
    """What rendering a case gives: frames of shape (height, width, 4), their report, and for each frame the
    tiles it drew, as JSON-able values that are equal when the sets are. Frames that the case does not compare
    may be empty arrays."""

    @property
    def frames(self) -> Sequence[Frame]: ...

    @property
    def report(self) -> RunReport: ...

    @property
    def tile_sets(self) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame without its pixels; ``tiles`` and ``coverage`` are plain JSON."""

    index: int
    camera: str
    size_px: tuple[int, int]
    t_ms: float
    level: int
    visible_px: int
    coverage: Mapping[str, Any]
    tiles: Any

    @property
    def file(self) -> str:
        return frame_file(self.index)


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """A rendered case without its pixels: on which renderer, from which definition, what each frame drew."""

    fingerprint: str
    family: str
    case_digest: str
    frames: tuple[FrameRecord, ...]
    timings: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    def frame(self, index: int) -> FrameRecord | None:
        return next((frame for frame in self.frames if frame.index == index), None)


def frame_file(index: int) -> str:
    return f"frame-{index:04}.png"


def case_digest(case: Case) -> str:
    """Names what is rendered: frames of another definition are no candidates for this one's baseline."""
    sources = [
        source if isinstance(source, str) else [type(source).__name__, str(getattr(source, "shape", ""))]
        for source in case.sources
    ]
    what = plain_json([sources, case.cameras, case.size_px, sorted(case.options.items()), case.frames])
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def record_of(case: Case, result: RunResult, indices: Sequence[int]) -> CaseRecord:
    """The record of a run, of the frames ``indices``."""
    report: dict[str, Any] = result.report.to_json()
    renderer, totals = report["renderer"], report["totals"]
    fingerprint = str(renderer.get("fingerprint") or "unknown")
    frames = []
    for index in indices:
        frame = report["frames"][index]
        frames.append(
            FrameRecord(
                index=index,
                camera=frame["camera"]["name"],
                size_px=(frame["size_px"][0], frame["size_px"][1]),
                t_ms=frame["t_ms"],
                level=frame["level"],
                visible_px=frame["visible_px"],
                coverage=frame["coverage"],
                tiles=plain_json(result.tile_sets[index]) if index < len(result.tile_sets) else None,
            )
        )
    timings = {
        "frame_ms_p50": totals["frame_ms"]["p50"],
        "frame_ms_p95": totals["frame_ms"]["p95"],
        "seconds": totals["seconds"],
        "tiles_read": totals["tiles_read"],
        "bytes_read": totals["bytes_read"],
    }
    return CaseRecord(
        fingerprint=fingerprint,
        family=str(renderer.get("family") or fingerprint),
        case_digest=case_digest(case),
        frames=tuple(frames),
        timings={key: value for key, value in timings.items() if value is not None},
    )


# folders


def write_record(folder: Path, record: CaseRecord, frames: Mapping[int, Frame]) -> None:
    """Write a record and its pixels into ``folder``, the record last. Raises ``DestinationError`` or
    ``WriteError``."""
    text = {"octree": record.fingerprint}
    for frame in record.frames:
        write_png(folder / frame.file, frames[frame.index], text)
    with atomic_file(folder / RECORD_FILE) as partial:
        partial.write_text(json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_record(folder: Path) -> CaseRecord | None:
    """The record in ``folder``; None when there is none that this version understands."""
    try:
        document = json.loads((folder / RECORD_FILE).read_bytes())
        if document.pop("schema") != SCHEMA:
            return None
        frames = tuple(
            FrameRecord(**frame | {"size_px": tuple(frame["size_px"])}) for frame in document.pop("frames")
        )
        return CaseRecord(frames=frames, **document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def read_frame(folder: Path, record: FrameRecord) -> Frame:
    return read_png(folder / record.file)
