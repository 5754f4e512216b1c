"""Was a TIFF written to its end, and can it hold what it says? Asked of its structure, where tifffile takes what is left
for all there is, and every number for what is there."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from octree.pyramid.errors import SourceError
from octree.pyramid.sources.tiff.far import FarFile, FilePath

_PLANES_AT_LEAST = 1 << 20
"""So many planes may be described and be missing: a list of them takes a few megabytes."""
_PLANE_BYTES = 18  # of the smallest page: a count, one tag, the place of the next
DAMAGED = "the file is damaged or was not written to its end; copy it again"


def check_chain(path: FilePath, tiff: Any) -> None:
    """tifffile takes a list of pages that ends in nowhere for its end: the pages that were cut off would be missed."""
    layout, last = tiff.tiff, tiff.pages[len(tiff.pages) - 1]
    handle = tiff.filehandle
    handle.seek(last.offset)
    count = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))[0]
    handle.seek(last.offset + layout.tagnosize + count * layout.tagsize)
    word = handle.read(layout.offsetsize)
    following = struct.unpack(layout.offsetformat, word)[0] if len(word) == layout.offsetsize else handle.size
    if following >= handle.size:
        raise SourceError(
            f"{path} is truncated: page {len(tiff.pages)} is said to be at offset {following}, the file has {handle.size} bytes",
            hint=DAMAGED,
            path=str(path),
            page=len(tiff.pages),
        )


def check_imagej(path: FilePath, tiff: Any) -> None:
    """ImageJ writes large stacks as one page with all planes behind it: cut short, they look like one plane."""
    planes = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    if not isinstance(planes, int) or planes < 2 or len(tiff.pages) > 1:
        return
    page = tiff.pages[0]
    offset, size = page.dataoffsets[0], tiff.filehandle.size
    one, all_ = offset + page.nbytes, offset + planes * page.nbytes
    # a plane that another program took out of a stack may still be described as the stack: nothing follows it
    if page.offset < offset and page.compression == 1 and one < size < all_:
        raise SourceError(
            f"{path} is truncated: its {planes} planes end at byte {all_}, the file has {size} bytes",
            hint=DAMAGED,
            path=str(path),
        )


def check_counts(path: FilePath, series: Any) -> list[str]:
    """Pixels without compression that lie together are read as one block, whatever their strips are said to hold: what is to
    be said of that. Raises SourceError where the rest of them would be the file's own structure."""
    page = series.keyframe
    if page.compression != 1 or page.is_tiled or series.dataoffset is None or not page.is_contiguous:
        return []
    counted, begin = sum(page.databytecounts), page.dataoffsets[0]
    if counted >= page.nbytes:
        return []
    if begin + counted <= page.offset < begin + page.nbytes:
        raise SourceError(
            f"{path}: the strips of page 0 hold {counted} bytes, and its pixels take {page.nbytes}",
            hint=DAMAGED,
            path=str(path),
            page=0,
        )
    return [
        f"its strips are said to hold {counted} bytes, and its pixels take {page.nbytes}: what follows is taken for them"
    ]


def check_planes(path: FilePath, tiff: Any) -> None:
    """A file of 600 bytes may say in OME-XML that it has 400 million planes, of which tifffile would make a list. Asked
    before ``tiff.series``."""
    xml = tiff.ome_metadata
    if not xml:
        return
    try:
        root = ElementTree.fromstring(xml)
        planes = sum(_planes_of(pixels) for pixels in root.iter() if str(pixels.tag).endswith("Pixels"))
        planes += sum(_labels_of(node) for node in root.iter() if "Start" in node.attrib)
    except (ElementTree.ParseError, ValueError, KeyError, OverflowError):
        return  # tifffile says so itself, or does without
    if planes <= _PLANES_AT_LEAST:
        return
    size = tiff.filehandle.size + sum(_companion_sizes(root, path))
    if planes * _PLANE_BYTES > size:
        raise SourceError(
            f"{path}: its OME-XML describes {planes} planes, more than its files of {size} bytes can hold",
            hint=DAMAGED,
            path=str(path),
            planes=planes,
        )


def _planes_of(pixels: Element) -> int:
    sizes = [int(pixels.attrib[f"Size{axis}"]) for axis in "ZCT"]
    listed = sum(
        max(int(node.get("PlaneCount", 0)), int(node.get("NumPlanes", 0)))
        for node in pixels
        if str(node.tag).endswith("TiffData")
    )
    return max(math.prod(max(0, n) for n in sizes), listed)


def _labels_of(node: Element) -> int:
    """Places along an axis of "modulo" annotations, of which tifffile makes an array, too."""
    if not str(node.tag)[:-1].endswith("Along"):
        return 0
    start, end, step = (float(node.get(key, 1)) for key in ("Start", "End", "Step"))
    return int(abs(end - start) / abs(step)) if step else 0


def _companion_sizes(root: Element, path: FilePath) -> list[int]:
    if isinstance(path, FarFile):
        return []
    names = {node.get("FileName") or "" for node in root.iter() if str(node.tag).endswith("UUID")}
    places = {path.parent / Path(name).name for name in names if name} - {path}
    return [place.stat().st_size for place in places if place.is_file()]
