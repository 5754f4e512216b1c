"""Compressions of TIFF that are refused, and what is done by hand around tifffile's decoders."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from octree.pyramid.errors import SourceError
from octree.pyramid.sources.tiff.subsampled import is_subsampled

_OLD_JPEG, _DEFLATE = 6, {8, 32946}
_STREAM = 513
_LOG = (34676, 34677)


def check_readable(path: Path, series: Any) -> None:
    """Raises SourceError for what cannot be decoded, or not exactly, before anything is."""
    import tifffile

    page = series.keyframe
    compression = int(page.compression)
    why, hint = "", "convert it with a tool that reads it, such as ImageMagick"
    if compression in _LOG:
        why, hint = "LogLuv (SGI) compression", f"convert it with ImageMagick: convert {path.name} out.hdr"
    elif compression == _OLD_JPEG:
        # libjpeg needs a whole stream; its parts in tags and strips are put together by libtiff alone
        if _STREAM not in page.tags or len(page.dataoffsets) != 1 or len(series) > 1:
            why, hint = "old-style JPEG in parts", f"convert it with libtiff: tiff2rgba {path.name} out.tif"
    elif compression != 1 and compression not in tifffile.TIFF.DECOMPRESSORS:
        why = f"compression {compression}"
    elif page.is_subsampled and not is_subsampled(page) and compression not in (7, 34892, 33007):
        why = "colours at a lower resolution, which are not in whole data units of bytes"
    if why:
        raise SourceError(f"{path} cannot be read: {why}", hint=hint, path=str(path))


def inflated(page: Any, data: bytes, size: int) -> bytes | None:
    """A deflated segment that holds more than ``size`` bytes, deflated anew without the rest; None when it is no such."""
    if int(page.compression) not in _DEFLATE or int(page.fillorder) != 1:
        return None
    try:
        plain = zlib.decompressobj().decompress(data, size)
    except zlib.error:
        return None
    return zlib.compress(plain, 0) if len(plain) == size else None


def decompressed(page: Any, data: bytes, size: int) -> bytes:
    """``size`` bytes of a segment of simple compression, at most. Raises what the codec raises."""
    import imagecodecs

    if int(page.fillorder) == 2:
        data = bytes(imagecodecs.bitorder_decode(data))
    compression = int(page.compression)
    if compression == 1:
        return data
    if compression in _DEFLATE:
        return zlib.decompressobj().decompress(data, size)
    decode = imagecodecs.lzw_decode if compression == 5 else imagecodecs.packbits_decode
    return bytes(decode(data, out=size))
