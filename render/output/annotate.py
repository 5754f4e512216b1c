"""Words and lines over a finished frame: they are no part of what was rendered, and change no number of a report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.foreign import printable
from octree.render.view.montage import Line
from octree.render.view.parts import Part

LINE_RGB = (255, 204, 0)
_GROUND = (0, 0, 0, 160)
_LEAST_PX, _MOST_PX = 9, 18
_SHARE = 0.07
"""Of the height of the tallest place."""


class Title(NamedTuple):
    place: Part
    text: str


def annotated(rgba: NDArray[np.uint8], titles: Iterable[Title], lines: Iterable[Line]) -> NDArray[np.uint8]:
    """The frame, uint8 (height, width, 4), with lines of one pixel, and a title in the upper left corner of each place. In the array
    itself if there are none, or if it may be written to: a large frame is there once."""
    titles, lines = list(titles), list(lines)
    if not (titles or lines):
        return rgba
    out = rgba if rgba.flags.writeable else rgba.copy()
    for place, x, y in lines:
        rows, cols = slice(place.y, place.y + place.height), slice(place.x, place.x + place.width)
        out[rows if y is None else y, cols if x is None else x] = (*LINE_RGB, 255)
    tallest = max((title.place.height for title in titles), default=0)
    size = round(min(max(tallest * _SHARE, _LEAST_PX), _MOST_PX))
    for place, text in titles:
        _write(out[place.y : place.y + place.height, place.x : place.x + place.width], printable(text), size)
    return out


def _write(cell: NDArray[np.uint8], text: str, size: int) -> None:
    """``text`` in the corner of ``cell``, cut off where it ends."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=size)
    left, top, right, bottom = font.getbbox(text)
    margin = max(2, size // 4)
    wide = min(cell.shape[1], int(right - left) + 2 * margin)
    high = min(cell.shape[0], int(bottom - top) + 2 * margin)
    picture = Image.fromarray(np.ascontiguousarray(cell[:high, :wide]), "RGBA")
    picture.alpha_composite(Image.new("RGBA", picture.size, _GROUND))
    ImageDraw.Draw(picture).text((margin - left, margin - top), text, fill=(255, 255, 255, 255), font=font)
    cell[:high, :wide] = np.asarray(picture)
