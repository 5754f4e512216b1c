"""Netpbm's grey and colour images, PAM and PFM, with the values that are in the file: Pillow stretches all whose highest
value is not 255, and cuts colours of 16 bits to 8.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import SourceError
from octree.pyramid.limits import Limits
from octree.pyramid.model import Channel
from octree.pyramid.sources.flat.array import DecodedArray
from octree.pyramid.sources.plain import PositionedFile, RawFileArray
from octree.pyramid.sources.protocol import Facts, RawArray
from octree.pyramid.sources.views import turned

_HEAD_BYTES = 1 << 16
_SAMPLES = {b"P2": 1, b"P3": 3, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
_PLAIN_TEXT = (b"P2", b"P3")
_BOTTOM_FIRST = 4  # as EXIF numbers the ways that an image may lie
_NUMBER = rb"(?:\s|#[^\n]*\n)+"


class _Head(NamedTuple):
    height: int
    width: int
    samples: int
    dtype: str
    top: int
    offset: int


def open_pnm(path: Path, limits: Limits) -> RawArray | None:
    """The image; None for a file that is none of these (bitmaps P1 and P4 are Pillow's). Raises SourceError, LimitError."""
    with path.open("rb") as stream:
        data = stream.read(_HEAD_BYTES)
    kind = data[:2]
    if kind != b"P7" and kind not in _SAMPLES:
        return None
    try:
        head = _pam_head(data) if kind == b"P7" else _head(kind, data)
    except (ValueError, KeyError):
        return None  # other formats may begin so, too
    limits.check_pixels(str(path), head.height, head.width)
    shape = (head.height, head.width, *((head.samples,) if head.samples > 1 else ()))
    windows = (Channel(window=(0.0, float(head.top))),) * head.samples if head.samples in (3, 4) else ()
    facts = Facts(axes="yxs"[: len(shape)], codec="none", channels=windows if head.top else ())
    if kind in _PLAIN_TEXT:
        return _plain_text(path, head, shape, facts)
    file = PositionedFile(path)
    try:
        raw = RawFileArray(file, head.offset, shape, np.dtype(head.dtype), engine="pnm", facts=facts)
    except BaseException:
        file.close()
        raise
    return turned(raw, _BOTTOM_FIRST) if kind in (b"Pf", b"PF") else raw


def _head(kind: bytes, data: bytes) -> _Head:
    found = re.match(kind + (_NUMBER + rb"([-+.\deE]+)") * 3 + rb"\s", data)
    if found is None:
        raise ValueError("no header")
    width, height = int(found[1]), int(found[2])
    if kind in (b"Pf", b"PF"):
        return _Head(height, width, _SAMPLES[kind], "<f4" if float(found[3]) < 0 else ">f4", 0, found.end())
    return _Head(height, width, _SAMPLES[kind], *_kind_of(int(found[3])), found.end())


def _kind_of(top: int) -> tuple[str, int]:
    if not 0 < top < 65536:
        raise ValueError(top)
    return ("u1" if top < 256 else ">u2"), top


def _pam_head(data: bytes) -> _Head:
    notes, end, _ = data.partition(b"ENDHDR\n")
    words = dict(line.split(None, 1) for line in notes.splitlines() if len(line.split(None, 1)) == 2)
    if not end or min(int(words[key]) for key in (b"WIDTH", b"HEIGHT", b"DEPTH")) < 1:
        raise ValueError("no header")
    return _Head(
        int(words[b"HEIGHT"]),
        int(words[b"WIDTH"]),
        int(words[b"DEPTH"]),
        *_kind_of(int(words[b"MAXVAL"])),
        len(notes) + len(end),
    )


def _plain_text(path: Path, head: _Head, shape: tuple[int, ...], facts: Facts) -> RawArray:
    size, count = path.stat().st_size, math.prod(shape)
    if 2 * count - 1 > size - head.offset:
        raise SourceError(
            f"{path} is truncated: {count} values promised by its header, {size - head.offset} bytes there",
            hint="copy the file again, or write it anew",
            path=str(path),
        )

    def decode() -> NDArray[Any]:
        text = re.sub(rb"#[^\n]*", b"", path.read_bytes()[head.offset :])
        try:
            values = np.array(text.split()[:count], np.uint32)
        except (ValueError, OverflowError):
            values = np.zeros(0, np.uint32)
        if len(values) != count or int(values.max(initial=0)) > head.top:
            raise SourceError(
                f"{path} is damaged: its header promises {count} values up to {head.top}",
                hint="copy the file again, or write it anew",
                path=str(path),
            )
        return values.astype(head.dtype.lstrip(">")).reshape(shape)

    return DecodedArray(
        path,
        shape,
        head.dtype.lstrip(">"),
        decode,
        engine="pnm",
        facts=facts,
        decoding_bytes=3 * size + 64 * count,
    )
