"""Compressions of TIFF that are refused, and what is done by hand around tifffile's decoders."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from octree.pyramid.errors import SourceError
from octree.pyramid.sources.tiff.far import FilePath
from octree.pyramid.sources.tiff.subsampled import is_subsampled

OLD_JPEG, _DEFLATE, _PACKBITS = 6, {8, 32946}, 32773
_COMPLEX_WHOLE = 5
_COLOURS = {2: "RGB", 6: "YCbCr", 8: "CIE L*a*b*"}
_STREAM = 513
_LOG = (34676, 34677)
_ODD_BITS = 24  # of which readers disagree, as to the order of bytes


def in_parts(path: FilePath) -> str:
    """A hint on old-style JPEG, whose parts only libtiff puts together."""
    return f"convert it with libtiff: tiff2rgba {path.name} out.tif"


def check_readable(path: FilePath, series: Any) -> None:
    """Raises SourceError for what cannot be decoded, or not exactly, before anything is."""
    import tifffile

    page = series.keyframe
    compression = int(page.compression)
    why, hint = "", "convert it with a tool that reads it, such as ImageMagick"
    if compression in _LOG:
        why, hint = "LogLuv (SGI) compression", f"convert it with ImageMagick: convert {path.name} out.hdr"
    elif compression == OLD_JPEG:
        # libjpeg needs a whole stream; its parts in tags and strips are put together by libtiff alone
        if _STREAM not in page.tags or len(page.dataoffsets) != 1 or len(series) > 1:
            why, hint = "old-style JPEG in parts", in_parts(path)
    elif compression != 1 and compression not in tifffile.TIFF.DECOMPRESSORS:
        why = f"compression {compression}"
    elif int(np.max(page.sampleformat or 1)) == _COMPLEX_WHOLE:
        why, hint = "complex whole numbers", "convert it with GDAL: gdal_translate -ot CFloat32 IN OUT"
    elif page.bitspersample == _ODD_BITS and np.dtype(page.dtype).kind in "iu":
        why, hint = "whole numbers of 24 bits", "convert it with GDAL: gdal_translate -ot UInt32 IN OUT"
    elif page.samplesperpixel < 3 and int(page.photometric) in _COLOURS:
        why = f"it says that it is {_COLOURS[int(page.photometric)]}, of {page.samplesperpixel} samples for each pixel"
        hint = "its tags contradict each other: write it anew"
    elif page.is_subsampled and not is_subsampled(page) and compression not in (7, 34892, 33007):
        why = "colours at a lower resolution, which are not in whole data units of bytes"
    if why:
        raise SourceError(f"{path} cannot be read: {why}", hint=hint, path=str(path))


def inflated(page: Any, data: bytes, size: int) -> bytes | None:
    """A segment of deflate or PackBits that holds more than ``size`` bytes, written anew without the rest; None when it is no
    such."""
    if int(page.fillorder) != 1:
        return None
    if int(page.compression) == _PACKBITS:
        return _packed(data, size)
    if int(page.compression) not in _DEFLATE:
        return None
    try:
        plain = zlib.decompressobj().decompress(data, size)
    except zlib.error:
        return None
    return zlib.compress(plain, 0) if len(plain) == size else None


def _packed(data: bytes, size: int) -> bytes | None:
    """The packets of PackBits that make ``size`` bytes, the last one cut to that; None when they make fewer."""
    place = made = 0
    while made < size and place < len(data):
        code = data[place]
        count = code + 1 if code < 128 else 257 - code if code > 128 else 0
        taken = min(count, size - made)
        if taken < count:  # the last packet says more than there is room for
            head = bytes([taken - 1 if code < 128 else 257 - taken if taken > 1 else 0])
            return data[:place] + head + data[place + 1 : place + 1 + (taken if code < 128 else 1)]
        place += 1 + (count if code < 128 else code > 128)
        made += count
    return data[:place] if made == size and place <= len(data) else None


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
