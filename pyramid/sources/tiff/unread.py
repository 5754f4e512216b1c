"""What of a TIFF is not read, or not taken for what it was: said, when it is opened."""

from __future__ import annotations

from typing import Any

from octree.pyramid.sources.tiff.missing import is_mask

_SEPARATED = 5
_BESIDE = ("label", "macro", "thumbnail", "map", "probability")
"""What scanners put beside a slide."""


def unread(tiff: Any, series: Any) -> list[str]:
    """Warnings about a file of which ``series`` is read."""
    said = []
    if series.keyframe.photometric == _SEPARATED:
        said.append("its inks are kept as channels: they are drawn as light, not as print")
    names = [str(other.name).strip() or str(number) for number, other in _others(tiff, series)]
    names = [name for name in names if name.lower() not in _BESIDE]
    if names:
        what = "another image in it is" if len(names) == 1 else f"{len(names)} other images in it are"
        said.append(f"{what} not read: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}")
    return said


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
