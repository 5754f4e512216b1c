"""Was a TIFF written to its end? Asked of its structure, where tifffile takes what is left for all there is."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from octree.pyramid.errors import SourceError

DAMAGED = "the file is damaged or was not written to its end; copy it again"


def check_chain(path: Path, tiff: Any) -> None:
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


def check_imagej(path: Path, tiff: Any) -> None:
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
