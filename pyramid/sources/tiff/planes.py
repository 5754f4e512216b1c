"""Planes that an image is said to have and that are in none of its files: tifffile shows zeros for them, without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from octree.pyramid.sources.tiff.facts import OmeImage
from octree.pyramid.sources.tiff.far import FilePath

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LISTED_KINDS = ("ome", "mmstack", "ndtiff")
"""Series whose metadata list planes one by one; pages of any other are what the file itself has."""
UNNAMED = "its metadata name no page for it"


@dataclass(frozen=True, slots=True)
class Promise:
    """Planes ``first`` to ``first + count`` are said to be in the file called ``file`` ("": the image's own), from its page
    ``page`` on. ``count`` 0: as many as it has pages."""

    first: int
    count: int
    page: int
    file: str


def absent_planes(path: FilePath, folder: Path, series: Any, image: OmeImage | None) -> dict[int, str]:
    """Numbers of planes (C order) that no file has, each with the reason; {} for what is whole."""
    if series.kind not in _LISTED_KINDS:
        return {}
    absent = [number for number, page in enumerate(series) if page is None]
    if not absent:
        return {}
    reasons: dict[int, str] = {}
    for promise in promises(image, path.name) if image is not None else ():
        last = promise.first + promise.count if promise.count else max(absent) + 1
        for number in absent:
            if promise.first <= number < last:
                page = promise.page + number - promise.first
                reasons.setdefault(number, _reason(folder, promise.file, page))
    return {number: reasons.get(number, UNNAMED) for number in absent}


def summary(absent: Mapping[int, str]) -> dict[str, int]:
    """How many planes are absent for which reason, the most frequent first."""
    return dict(Counter(absent.values()).most_common())


def promises(image: OmeImage, own_name: str) -> Iterator[Promise]:
    """What the OME-XML of one image promises, in its order; what makes no sense is left out. Pure."""
    pixels = next((node for node in image.element if _tag(node) == "Pixels"), None)
    if pixels is None:
        return
    try:
        axes, shape = _planes_shape(pixels)
    except (ValueError, KeyError):
        return
    for node in pixels:
        if _tag(node) != "TiffData":
            continue
        try:
            place = [int(node.get("First" + axis, 0)) for axis in axes]
            first = int(np.ravel_multi_index(place, shape)) if shape else 0
            page = int(node.get("IFD", 0))
            count = int(node.get("PlaneCount", node.get("NumPlanes", 1 if "IFD" in node.attrib else 0)))
        except ValueError:
            continue
        named = next((inner for inner in node if _tag(inner) == "UUID"), None)
        name = "" if named is None else named.get("FileName") or ""
        own = named is not None and (
            named.text == image.file_uuid if image.file_uuid is not None else name.lower() == own_name.lower()
        )
        yield Promise(first, max(0, count), page, "" if own else name)


def _planes_shape(pixels: Element) -> tuple[str, tuple[int, ...]]:
    """The axes of an image that are not in a plane, slowest first, and their lengths."""
    axes = pixels.attrib["DimensionOrder"][:1:-1]
    samples = next((int(c.get("SamplesPerPixel", 1)) for c in pixels if _tag(c) == "Channel"), 1)
    sizes = {axis: int(pixels.attrib["Size" + axis]) for axis in axes}
    if samples > 1 and "C" in sizes:
        sizes["C"] //= samples
    if min(sizes.values(), default=1) < 1:
        raise ValueError(f"no image has the sizes {sizes}")
    return axes, tuple(sizes.values())


def _reason(folder: Path, name: str, page: int) -> str:
    if not name:
        return f"the file has no page {page}"
    place = folder / name
    if not place.exists():
        return f"{name} is not there"
    try:
        with place.open("rb") as stream:
            head = stream.read(4)
    except OSError as error:
        return f"{name} cannot be opened: {error.strerror}"
    return f"{name} has no page that could be it" if head in _MAGIC else f"{name} is no TIFF"


def _tag(node: Element) -> str:
    return str(node.tag).rpartition("}")[2]
