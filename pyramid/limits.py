"""How much one piece of a source may take before it is decoded: pixels of a flat image, bytes of whatever is decoded at
once (a tile, a strip, a chunk, a flat image with what its decoder needs). Pure.

A file of a few hundred bytes can say that it is an image of terabytes. What a file says is compared with these limits
before memory is asked for; what a decoder does beyond that is stopped by the limits of ``confined.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octree.pyramid.errors import LimitError
from octree.pyramid.options import BYTES, Kind, Option, Table
from octree.pyramid.units import bytes_text, parse_pixels

MAX_PIXELS = 2**30
MAX_DECODED_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_pixels`` of one flat image, frames times height times width; ``max_decoded_bytes`` that one tile, strip, chunk
    or flat image may take, decoding included. ``probe_bytes``: what a decoder may take that has to decode before anything
    is known and planned, never above ``max_decoded_bytes``."""

    max_pixels: int = MAX_PIXELS
    max_decoded_bytes: int = MAX_DECODED_BYTES
    memory_bytes: int | None = None

    @property
    def probe_bytes(self) -> int:
        return min(self.max_decoded_bytes, self.memory_bytes or self.max_decoded_bytes)

    def check_pixels(self, path: str, height: int, width: int, frames: int = 1) -> None:
        """Raises LimitError for an image with more pixels than ``max_pixels``."""
        count = height * width * frames
        if count > self.max_pixels:
            each = f"{frames} frames of " if frames > 1 else ""
            raise LimitError(
                f"{path} says that it is an image of {each}{width} x {height} pixels, {count} in all; "
                f"the limit is {self.max_pixels}",
                hint=f"if you trust the file, give --max-pixels {count}",
                path=path,
                option="--max-pixels",
                needed=count,
                limit=self.max_pixels,
            )

    def check_bytes(self, path: str, what: str, count: int) -> None:
        """Raises LimitError when ``what`` of the file at ``path`` ("a tile") takes more than ``max_decoded_bytes``."""
        if count > self.max_decoded_bytes:
            raise LimitError(
                f"{path}: decoding {what} takes {bytes_text(count)}; the limit is {bytes_text(self.max_decoded_bytes)}",
                hint=f"if you trust the file, give --max-decoded {-(-count // 2**20)}MiB",
                path=path,
                option="--max-decoded",
                needed=count,
                limit=self.max_decoded_bytes,
            )


DEFAULT_LIMITS = Limits()


def _above_0(kind: Kind, words: str) -> Kind:
    def parse(value: Any) -> int:
        amount = int(kind.parse(value))
        if amount <= 0:
            raise ValueError(value)
        return amount

    return Kind(words, parse, kind.symbol)


PIXELS = _above_0(Kind("", parse_pixels, "PIXELS"), "a number of pixels above 0, or a text such as 500M")
DECODED = _above_0(BYTES, "a number of bytes above 0, or a text such as 512MiB")
LIMITS = Table(
    "limits",
    (
        Option("max_pixels", PIXELS, "Pixels of one flat image, frames counted.", unset="2^30",
               group="How it runs", setting="max_pixels"),
        Option("max_decoded", DECODED, "Bytes that one flat image, tile or chunk may take while it is decoded.",
               unset="2GiB; at least --memory in a build", group="How it runs", setting="max_decoded_bytes"),
    ),
)  # fmt: skip


def make_limits(
    max_pixels: str | int | None = None,
    max_decoded: str | int | None = None,
    *,
    memory_bytes: int | None = None,
) -> Limits:
    """Limits from what options say; None is the default. Raises UsageError.

    With ``memory_bytes``, what a whole build may hold, the default of ``max_decoded`` is at least that: who gives a build
    more memory means it.
    """
    given = LIMITS.read({"max_pixels": max_pixels, "max_decoded": max_decoded})
    return Limits(
        given["max_pixels"] or MAX_PIXELS,
        given["max_decoded"] or max(MAX_DECODED_BYTES, memory_bytes or 0),
        memory_bytes,
    )
