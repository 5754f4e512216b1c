"""Names of axes: reading a declaration, guessing when there is none, and the way to canonical order. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from octree.pyramid.errors import SourceError, UsageError
from octree.pyramid.model import AXIS_ORDER

LETTERS = "tczyxs"
SAMPLE_COUNTS = (3, 4)

_WORDS = {
    "time": "t", "frame": "t", "frames": "t", "channel": "c", "channels": "c", "band": "c", "bands": "c", "ch": "c",
    "wavelength": "c", "depth": "z", "plane": "z", "planes": "z", "slice": "z", "height": "y", "row": "y", "rows": "y",
    "lat": "y", "latitude": "y", "width": "x", "col": "x", "cols": "x", "column": "x", "columns": "x", "lon": "x",
    "longitude": "x", "sample": "s", "samples": "s", "rgb": "s", "rgba": "s",
}  # fmt: skip


def parse_axes(text: str | Iterable[str], shape: tuple[int, ...]) -> str:
    """A declaration such as ``"tczyx"``, ``"y,x,s"`` or ``("y", "x")`` for an array of ``shape``, as letters.

    Raises UsageError for a letter that is no axis, one given twice, a wrong number, or no y and x.
    """
    if not isinstance(text, str):
        text = ",".join(map(str, text if isinstance(text, Iterable) else [text]))
    letters = "".join(text.lower().replace(",", " ").split())
    hint = "name each axis of the array once, in its order, out of t c z y x and s (samples), for example --axes zyx"
    if unknown := sorted(set(letters) - set(LETTERS)):
        raise UsageError(f"axes {text!r}: no axis is called {', '.join(map(repr, unknown))}", hint=hint)
    if twice := sorted({name for name in letters if letters.count(name) > 1}):
        raise UsageError(f"axes {text!r}: {', '.join(twice)} given twice", hint=hint)
    if len(letters) != len(shape):
        raise UsageError(
            f"axes {text!r} names {len(letters)} axes; the source has {len(shape)}, of shape {shape}",
            hint=hint,
        )
    if not {"y", "x"} <= set(letters):
        raise UsageError(f"axes {text!r}: an image has both y and x", hint=hint)
    return letters


def guess_axes(shape: tuple[int, ...], dtype: np.dtype[np.generic], path: str = "the source") -> str:
    """Axes by rank alone: yx, zyx, czyx, tczyx; a last axis of 3 or 4 in uint8 or uint16 is samples.

    Raises SourceError, naming ``path``, when the rank does not make an image.
    """
    samples = len(shape) >= 3 and shape[-1] in SAMPLE_COUNTS and dtype in (np.uint8, np.uint16)
    by_rank = {2: "yx", 3: "yxs" if samples else "zyx", 4: "zyxs" if samples else "czyx"}
    by_rank |= {5: "tzyxs" if samples else "tczyx"}
    if len(shape) in by_rank:
        return by_rank[len(shape)]
    what = "a single value" if not shape else f"an array of shape {shape}"
    raise SourceError(
        f"{path} is {what}; an image has 2 to 5 axes",
        hint="select or reshape the part that is the image",
        path=path,
    )


def letter_of(name: str) -> str:
    """The letter that a name of an axis means by itself, "" for a name that says nothing."""
    word = str(name).strip().lower()
    return _WORDS.get(word, word if len(word) == 1 and word in LETTERS else "")


def name_axes(names: Iterable[str]) -> str | None:
    """Letters for axis names as files and libraries write them ("Y", "time", "channel"); None if none fit.

    Names that say nothing (I, Q, dim_0 …) get free letters in canonical order, the same as ``guess_axes`` gives:
    one unknown axis is z, two are c and z (t and z beside samples).
    """
    letters = [letter_of(name) for name in names]
    known = [letter for letter in letters if letter]
    free = [letter for letter in ("ztc" if "s" in known else "zct") if letter not in known]
    missing = letters.count("")
    if len(known) != len(set(known)) or missing > len(free) or not {"y", "x"} <= set(known):
        return None
    fill = iter(sorted(free[:missing], key=AXIS_ORDER.index))
    return "".join(letter or next(fill) for letter in letters)
