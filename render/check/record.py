"""What is kept of a rendered case: the same for a baseline and for frames staged to become one.

A folder holds ``frame-0000.png`` … and ``record.json``. Both may have come from elsewhere, with a branch or an
artifact: a record is parsed strictly, and nothing in it reaches a path unchecked.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import SourceError
from octree.pyramid.store.removal import Folder
from octree.render.check import names
from octree.render.check.folders import read_file
from octree.render.check.spec import MAX_FRAMES, Case
from octree.render.option_table import MAX_FRAME_PX, MAX_SIDE_PX
from octree.render.output.files import write_error
from octree.render.output.png import encode_png, read_png
from octree.render.report.values import RunReport, plain_json

SCHEMA = "octree-record/1"
RECORD_FILE = "record.json"
MAX_RECORD_BYTES = 256 << 20  # a path of a thousand frames lists their tiles in some tens of MiB
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
    """One frame without its pixels; ``tiles`` and ``coverage`` are plain JSON. ``sha256`` is that of its file; None
    until it has been written, and in records of older versions."""

    index: int
    camera: str
    size_px: tuple[int, int]
    t_ms: float
    level: int
    visible_px: int
    coverage: Mapping[str, Any]
    tiles: Any
    sha256: str | None = None

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
    """Names what is rendered: frames of another definition are no candidates for this one's baseline. Files count
    by the names that the suite gives them, so that it is the same in another checkout."""
    named = case.named
    sources = [
        source if isinstance(source, str) else [type(source).__name__, str(getattr(source, "shape", ""))]
        for source in (named.sources if named else case.sources)
    ]
    cameras = named.cameras if named else case.cameras
    options = dict(case.options) | ({"config": named.config} if named and named.config else {})
    what = plain_json([sources, cameras, case.size_px, sorted(options.items()), case.frames])
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


def write_record(folder: Folder, record: CaseRecord, frames: Mapping[int, Frame]) -> None:
    """Write a record and its pixels into ``folder``, the record last, with the digests of the frames. Raises
    ``DestinationError`` or ``WriteError``."""
    written = []
    try:
        for frame in record.frames:
            data = encode_png(frames[frame.index], {"octree": record.fingerprint})
            folder.write(frame.file, data)
            written.append(replace(frame, sha256=hashlib.sha256(data).hexdigest()))
        document = replace(record, frames=tuple(written)).to_json()
        folder.write(RECORD_FILE, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise write_error(folder.path, error) from error


def read_record(path: Path) -> CaseRecord | None:
    """The record in the file ``path``; None when there is none. Raises ``SourceError`` when it is none that this
    version understands, or one that names what no run of ours would."""
    try:
        return parse_record(read_file(path, MAX_RECORD_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _bad_record(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _bad_record(path, str(error)) from error


def _bad_record(path: Path, why: str) -> SourceError:
    return SourceError(f"the record {path} cannot be used: {why}", path=str(path))


def read_frame(folder: Path, record: FrameRecord) -> Frame:
    """Pixels of a frame, as large as its record says. Raises ``SourceError``."""
    path = folder / record.file
    try:
        data = read_file(path, max_png_bytes(record.size_px))
        header = struct.unpack(">8sI4sII", data[:24]) if len(data) >= 24 else ()
        if header[:3] != (b"\x89PNG\r\n\x1a\n", 13, b"IHDR") or header[3:] != record.size_px:
            raise ValueError("it is no PNG of {}x{} pixels".format(*record.size_px))
        return read_png(io.BytesIO(data), ("PNG",))
    except (
        OSError,
        ValueError,
        SyntaxError,
    ) as error:  # Pillow says of a damaged PNG that its syntax is wrong
        raise SourceError(f"the frame {path} cannot be read: {error}", path=str(path)) from error


def max_png_bytes(size_px: tuple[int, int]) -> int:
    """More than a PNG of that size ever takes: pixels that do not compress, and room for its texts."""
    return size_px[0] * size_px[1] * 5 + (1 << 20)


# from JSON to a record: ValueError says what is wrong with it


def parse_record(data: bytes) -> CaseRecord:
    """A record from the bytes of its file. Raises ValueError (RecursionError for JSON too deep to be one)."""
    document = _keys(
        "it", json.loads(data), ("schema", "fingerprint", "family", "case_digest", "frames", "timings")
    )
    if document["schema"] != SCHEMA:
        raise ValueError(f"its schema is {_shown(document['schema'])}, not {SCHEMA!r}")
    for key in ("fingerprint", "family"):
        if (wrong := names.fault(document[key])) is not None:
            raise ValueError(f"{key}: {wrong}")
    frames = tuple(_frame(each) for each in _list("frames", document["frames"]))
    if not frames or len({frame.index for frame in frames}) < len(frames):
        raise ValueError("it lists no frames, or one of them twice")
    timings = _keys("timings", document["timings"])
    return CaseRecord(
        fingerprint=document["fingerprint"],
        family=document["family"],
        case_digest=_text("case_digest", document["case_digest"]),
        frames=frames,
        timings={_text("timings", key): _number("timings", value) for key, value in timings.items()},
    )


def _frame(value: Any) -> FrameRecord:
    needed = ("index", "camera", "size_px", "t_ms", "level", "visible_px", "coverage", "tiles")
    frame = _keys("a frame", value, needed)
    size = [_whole("size_px", each, 1, MAX_SIDE_PX) for each in _list("size_px", frame["size_px"])]
    if len(size) != 2 or size[0] * size[1] > MAX_FRAME_PX:
        raise ValueError(f"size_px is {_shown(frame['size_px'])}")
    sha256 = frame.get("sha256")
    if sha256 is not None and not (isinstance(sha256, str) and len(sha256) == 64 and set(sha256) <= _HEX):
        raise ValueError(f"sha256 is {_shown(sha256)}")
    return FrameRecord(
        index=_whole("index", frame["index"], 0, MAX_FRAMES),
        camera=_text("camera", frame["camera"]),
        size_px=(size[0], size[1]),
        t_ms=_number("t_ms", frame["t_ms"]),
        level=_whole("level", frame["level"]),
        visible_px=_whole("visible_px", frame["visible_px"]),
        coverage=_coverage(frame["coverage"]),
        tiles=_tiles(frame["tiles"]),
        sha256=sha256,
    )


def _coverage(value: Any) -> dict[str, Any]:
    parts = _keys("coverage", value)
    by_level = _keys("by_level", parts.pop("by_level", {}))
    return {
        **{_text("coverage", key): _number("coverage", part) for key, part in parts.items()},
        "by_level": {_text("by_level", key): _number("by_level", part) for key, part in by_level.items()},
    }


def _tiles(value: Any) -> dict[str, Any] | None:
    """As ``Frame.tile_set``; None where the tiles are not known."""
    if value is None:
        return None
    tiles = _keys("tiles", value, ("level", "layers"))
    layers = [[_tile(tile) for tile in _list("layers", layer)] for layer in _list("layers", tiles["layers"])]
    return {"level": _whole("level", tiles["level"]), "layers": layers}


def _tile(value: Any) -> list[Any]:
    parts = _list("a tile", value)
    if len(parts) != 3:
        raise ValueError(f"a tile is {_shown(value)}")
    return [
        _whole("a tile", parts[0]),
        *([_whole("a tile", i) for i in _list("a tile", p)] for p in parts[1:]),
    ]


_HEX = frozenset("0123456789abcdef")


def _keys(what: str, value: Any, needed: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict) or any(key not in value for key in needed):
        raise ValueError(f"{what} is no object" + (f" with {', '.join(needed)}" if needed else ""))
    return dict(value)


def _list(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is {_shown(value)}, not a list")
    return value


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > 4096 or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError(f"{what} is {_shown(value)}, not a short text")
    return value


def _whole(what: str, value: Any, low: int = -(2**53), high: int = 2**53) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{what} is {_shown(value)}, not a whole number from {low} to {high}")
    return value


def _number(what: str, value: Any) -> float:
    if type(value) not in (int, float) or not (abs(value) < 1e300 and math.isfinite(value)):
        raise ValueError(f"{what} is {_shown(value)}, not a number")
    return float(value)


def _shown(value: Any) -> str:
    """``value`` in a few characters, none of which a terminal obeys."""
    if type(value) is int and abs(value) >= 10**18:
        return "a large number"
    return ascii(value)[:80] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
