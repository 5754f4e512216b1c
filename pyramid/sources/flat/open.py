"""PNG, JPEG and other flat images: decoded as a whole, once, at the first read.

These formats have no tiles to pick from. ``held_bytes`` says what the decoded image costs, decoding included; what is above
the limits is refused before that. Formats whose header says all there is to say are decoded in this process, the others in
one of their own, which cannot take more memory or time than it is given.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.confined import Confined, ConfinedFailure
from octree.pyramid.deadline import open_timeout_s
from octree.pyramid.errors import LimitError, OctreeError, SourceError, SourceWarning
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import Channel
from octree.pyramid.sources.flat.array import DecodedArray
from octree.pyramid.sources.flat.decode import decode, look, pillow_without_limit
from octree.pyramid.sources.flat.look import Look
from octree.pyramid.sources.flat.pnm import open_pnm
from octree.pyramid.sources.protocol import Facts, RawArray
from octree.pyramid.units import bytes_text

_HERE = ("PNG", "JPEG", "BMP", "PPM")
_HEADS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"P1", b"P4")
"""What the formats of ``_HERE`` begin with: one image, row by row, of the size that the header says. Measured: their
decoding in a process of its own costs a third of a second more, of 0.5 s for the whole command on a small image."""
_PIXELS_PER_S = 1e6  # slower than any decoder that ends


def open_flat(path: Path, *, as_stored: bool = False, limits: Limits = DEFAULT_LIMITS) -> RawArray:
    """A flat image; moving ones (GIF, PNG, WebP, AVIF, FLI) have an axis t. ``as_stored``: of a palette, the indices.

    EXIF orientation is applied, so that a photograph stands as every viewer shows it.
    Raises SourceError when nothing can decode the file, LimitError when it is above ``limits``.
    """
    with path.open("rb") as stream:
        head = stream.read(8)
    if head[:1] == b"P" and (pnm := open_pnm(path, limits)) is not None:
        return pnm
    try:
        array = (_open_here if head.startswith(_HEADS) else _open_confined)(path, as_stored, limits)
    except (OctreeError, MemoryError):
        raise
    except Exception as error:  # each of Pillow's readers fails in its own way
        raise _damaged(path, error) from error
    limits.check_bytes(str(path), "this image", array.held_bytes)
    return array


def _open_here(path: Path, as_stored: bool, limits: Limits) -> DecodedArray:
    from PIL import UnidentifiedImageError

    try:
        with pillow_without_limit():
            found = look(path, as_stored, limits, _HERE)
    except UnidentifiedImageError:  # other formats may begin so, too
        return _open_confined(path, as_stored, limits)

    def whole() -> NDArray[Any]:
        try:
            with pillow_without_limit():
                return decode(path, found, np.empty)
        except (OctreeError, MemoryError):
            raise
        except Exception as error:  # each of Pillow's readers fails in its own way
            raise _damaged(path, error) from error

    return _array(path, found, whole)


def _open_confined(path: Path, as_stored: bool, limits: Limits) -> DecodedArray:
    process = Confined()
    try:
        facts, pixels = _confined(
            process, path, limits, "look_confined", (as_stored, limits.max_pixels), open_timeout_s()
        )
    finally:
        process.close()
    found = Look.from_json(facts)
    if pixels is not None:
        here = pixels
        return _array(path, found, lambda: here)

    def whole() -> NDArray[Any]:
        process = Confined()
        seconds = decoding_time_s(math.prod(found.shape))
        try:
            arguments = (found.to_json(), limits.max_pixels)
            said, pixels = _confined(process, path, limits, "decode_confined", arguments, seconds)
        finally:
            process.close()
        assert pixels is not None
        for text in said:
            warnings.warn(f"{path}: {text}", SourceWarning, stacklevel=2)
        return pixels

    return _array(path, found, whole)


def _array(path: Path, found: Look, whole: Callable[[], NDArray[Any]]) -> DecodedArray:
    count = found.shape[-1] if (found.axes or "").endswith("s") else 1
    windows = (Channel(window=(0.0, float(found.top))),) * count if found.top else ()
    facts = Facts(axes=found.axes, codec=found.codec, channels=windows, warnings=found.warnings)
    return DecodedArray(
        path,
        found.shape,
        found.dtype,
        whole,
        engine=found.engine,
        facts=facts,
        decoding_bytes=found.decoding_bytes,
    )


def _confined(
    process: Confined, path: Path, limits: Limits, name: str, arguments: tuple[Any, ...], deadline_s: float
) -> tuple[Any, NDArray[Any] | None]:
    """One call of ``decode.py`` in a process of its own; what becomes of it as the user meets it."""
    try:
        return process.call(
            f"octree.pyramid.sources.flat.decode:{name}",
            str(path),
            *arguments,
            room_bytes=limits.probe_bytes,
            deadline_s=deadline_s,
        )
    except ConfinedFailure as failure:
        raise refusal(path, failure, limits, "this image") from failure


def refusal(path: Path, failure: ConfinedFailure, limits: Limits, what: str) -> SourceError:
    """What the user meets when a confined decoder of ``what`` came to nothing."""
    if failure.reason == "error":
        return _damaged(path, failure)
    if failure.reason == "deadline":
        return SourceError(
            f"{path} cannot be decoded: {failure}",
            hint="the file is damaged, or made to keep its reader busy",
            path=str(path),
        )
    by_memory = limits.probe_bytes < limits.max_decoded_bytes
    option = "--memory" if by_memory else "--max-decoded"
    return LimitError(
        f"{path}: decoding {what} takes more than the limit of {bytes_text(limits.probe_bytes)} ({failure})",
        hint=f"the file is damaged; or, if you trust it, give more {option}",
        path=str(path),
        option=option,
        limit=limits.probe_bytes,
    )


def decoding_time_s(values: int) -> float:
    """Longest that a confined decoder may take for so many values, opening included."""
    return open_timeout_s() + values / _PIXELS_PER_S


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path} cannot be decoded: {error}",
        hint="the file is damaged or not an image; copy it again",
        path=str(path),
    )
