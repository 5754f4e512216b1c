"""Pictures of a report, within so many bytes: whole where they fit, else what differs, else every second pixel."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from octree.render.check.compare import Frame
from octree.render.report.pages import data_url

PAGE_BYTES = 5_000_000
"""What a page takes at most: larger ones are slow to open, and left out by what shows artefacts of CI."""
_TEXT_BYTES, _CASE_BYTES = 250_000, 2_000
_AS_TEXT = 3 / 4  # base64
_MARGIN_PX = 24
_MOST_HALVINGS = 5
Box = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Addresses (``data:…``) of the pictures of one frame, which show the same part of it; none where there was no room.
    ``box`` (x0, y0, x1, y1) is that part; ``step``: of so many pixels one is shown, each way; ``said`` says so."""

    urls: tuple[Any, ...]
    box: Box
    step: int = 1
    said: str = ""


class Album:
    """Gives each frame's pictures their share of the page. Owner: whoever writes the page."""

    def __init__(self, frames: int, cases: int, *, whole: bool = False) -> None:
        """``frames``: how many will ask, of ``cases`` that the page tells of; ``whole``: whatever it takes."""
        self._frames = max(1, frames)
        room_bytes = PAGE_BYTES - _TEXT_BYTES - cases * _CASE_BYTES
        self._left_bytes = float("inf") if whole else max(0, room_bytes) * _AS_TEXT

    def pictures(self, frames: Sequence[Frame], box: Box | None = None) -> Pictures:
        """The frame's pictures, each of shape (height, width, 4); ``box`` is where they differ, if that is known."""
        share = self._left_bytes / self._frames
        self._frames = max(1, self._frames - 1)
        height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
        for part, step in _ways((0, 0, width, height), box):
            x0, y0, x1, y1 = part
            encoded = [lossless(frame[y0:y1:step, x0:x1:step]) for frame in frames]
            taken = sum(map(len, encoded))
            if taken <= share:
                self._left_bytes -= taken
                said = _said(part, step) if (part, step) != ((0, 0, width, height), 1) else ""
                return Pictures(tuple(data_url(each, "webp") for each in encoded), part, step, said)
        return Pictures((), (0, 0, width, height), said="no picture: the page would be too large")


def _ways(whole: Box, differs: Box | None) -> Iterator[tuple[Box, int]]:
    """From the best to the least: all of it, what differs, and that with fewer and fewer pixels."""
    yield whole, 1
    part = whole
    if differs is not None:
        low, high = differs[:2], differs[2:]
        part = (
            *(max(0, edge - _MARGIN_PX) for edge in low),
            *(min(most, edge + _MARGIN_PX) for most, edge in zip(whole[2:], high, strict=True)),
        )
        if part != whole:
            yield part, 1
    for power in range(1, _MOST_HALVINGS + 1):
        yield part, 2**power


def _said(part: Box, step: int) -> str:
    x0, y0, x1, y1 = part
    where = f"shown: x {x0} to {x1}, y {y0} to {y1}"
    return where if step == 1 else f"{where}, one pixel of {step} each way"


def lossless(frame: Frame) -> bytes:
    """WebP: every pixel as it is, in two thirds of what PNG takes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "webp", lossless=True, quality=20, method=1, exact=True)
    return stream.getvalue()
