"""What a flat image is, as a plain value that goes from one process to another."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Look:
    """What a flat image is. ``dtype`` as numpy writes it; ``axes`` None where nothing says.

    ``decoding_bytes``  what decoding holds besides the pixels.
    ``mode``            Pillow's, in which the pixels are taken; of engine imagecodecs, its codec.
    ``top``             the highest value that a sample can have, where that is less than its dtype has; else 0.
    ``warnings``        what is lost or taken by a rule when the image is read so.
    """

    shape: tuple[int, ...]
    dtype: str
    axes: str | None
    engine: str
    codec: str = ""
    decoding_bytes: int = 0
    mode: str = ""
    frames: int = 1
    orientation: int = 1
    top: int = 0
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(facts: dict[str, Any]) -> Look:
        return Look(**{**facts, "shape": tuple(facts["shape"]), "warnings": tuple(facts["warnings"])})
