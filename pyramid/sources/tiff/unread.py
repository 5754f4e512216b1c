"""What of a TIFF is not read, or not taken for what it was: said, when it is opened."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from octree.pyramid.sources.tiff.missing import is_mask
from octree.pyramid.sources.tiff.values import WHITE_IS_ZERO, is_measured, is_unsaid

_RGB, _SEPARATED = 2, 5
_OTHER_COLOURS = {
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32844: "logarithms of brightness (LogL)",
    32845: "logarithms of brightness and colour (LogLuv)",
    32803: "a colour filter's mosaic",
    34892: "raw values of a camera",
}
_UNSAID_SAMPLE, _ASSOCIATED = 0, 1
_GDAL_METADATA = 42112
_SCALING = re.compile(r'<Item[^>]*role="(scale|offset)"[^>]*>\s*([^<]+?)\s*</Item>')
_BESIDE = ("label", "macro", "thumbnail", "map", "probability")
"""What scanners put beside a slide."""


def unread(tiff: Any, series: Any) -> list[str]:
    """Warnings about a file of which ``series`` is read."""
    said = [*_colours(tiff, series.keyframe), *_measures(tiff, series)]
    names = [str(other.name).strip() or str(number) for number, other in _others(tiff, series)]
    names = [name for name in names if name.lower() not in _BESIDE]
    if names:
        what = "another image in it is" if len(names) == 1 else f"{len(names)} other images in it are"
        said.append(f"{what} not read: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}")
    return said


def _colours(tiff: Any, page: Any) -> list[str]:
    """What its samples mean, and are not shown as."""
    said, meaning = [], int(page.photometric)
    if meaning == _SEPARATED:
        said.append("its inks are kept as channels: they are drawn as light, not as print")
    if meaning in _OTHER_COLOURS:
        said.append(
            f"its samples are {_OTHER_COLOURS[meaning]}: they are kept as they are, and drawn as light"
        )
    if meaning == WHITE_IS_ZERO and not is_measured(tiff):
        if is_unsaid(page):
            said.append("it does not say whether 0 is black or white: it is taken for black")
        elif np.dtype(page.dtype).kind not in "bu":
            said.append("white is its lowest value: its numbers are kept, and drawn the other way round")
    extra = tuple(page.extrasamples or ())
    if meaning == _RGB and page.samplesperpixel == 4 and extra:
        if extra[0] == _ASSOCIATED:
            said.append(
                "its colours are multiplied by their alpha: they are kept so, and drawn darker where it is low"
            )
        elif extra[0] == _UNSAID_SAMPLE:
            said.append("its fourth sample does not say what it is: it is drawn as alpha")
    if isinstance(page.bitspersample, tuple) and len(set(page.bitspersample)) > 1:
        said.append(f"its samples of {', '.join(map(str, page.bitspersample))} bits become 8 bits")
    return said


def _measures(tiff: Any, series: Any) -> list[str]:
    """Scales of values that are stored beside them."""
    found: list[tuple[str, float]] = []
    notes = (tiff.imagej_metadata or {}) if tiff.is_imagej and series.kind == "imagej" else {}
    if "cf" in notes and (notes["cf"] or (notes.get("c0", 0), notes.get("c1", 1)) != (0, 1)):
        return ["its calibration (ImageJ's function of the values) is not applied: values are as stored"]
    tag = series.keyframe.tags.get(_GDAL_METADATA)
    for role, text in _SCALING.findall(str(tag.value)) if tag is not None else ():
        try:
            found.append((role, float(text)))
        except ValueError:
            continue
    if any(value != (role == "scale") for role, value in found):
        return ["its scale and offset (GDAL) are not applied: values are as stored"]
    return []


def _others(tiff: Any, series: Any) -> list[tuple[int, Any]]:
    """With their numbers; files of an OME-TIFF describe the images of all of them, which are no part of this one."""
    found = []
    for number, other in enumerate(tiff.series):
        page = next((page for page in other if page is not None), None)
        if other is series or page is None or is_mask(other.keyframe):
            continue
        if page.parent.filename == tiff.filename:
            found.append((number, other))
    return found
