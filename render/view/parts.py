"""A frame in parts, none of which wants more tiles than there is room for. Pure.

What a settled frame shows must not depend on how many textures there are: where its tiles do not fit, it is drawn part
by part, each from the same tiles at the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import BlockRange, Lattice, Region
from octree.render.view.cover import pixel_edges, rows_of
from octree.render.view.plan import MAX_WANTED, tiles_with_margin

_FILTER_TEXELS = 5.0
"""So far from a pixel's centre linear filtering looks at most, however small the texels are."""
_POINT_PX = 1e-3


class Part(NamedTuple):
    """A rectangle of a frame's pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def region(self) -> Region:
        """The same as pixels (y, x), half-open."""
        return Region((self.y, self.x), (self.y + self.height, self.x + self.width))


@dataclass(frozen=True, slots=True)
class Placed:
    """One layer in a frame of ``size_px`` (w, h) that shows ``view`` (base coordinates), wanting ``level``.

    ``room``           tiles that it may have in the atlas at once.
    ``margin_texels``  so far beyond what a pixel covers its colour depends on texels; 0: nearest.
    """

    lattice: Lattice
    level: int
    view: Region
    size_px: tuple[int, int]
    room: int
    margin_texels: float

    def region(self, part: Part) -> Region:
        """What of the image ``part`` needs, margins apart."""
        width, height = self.size_px
        per_px = (self.view.size[0] / height, self.view.size[1] / width)
        # of pixels that show what lies under their centres, the rest is nobody's; but for the frame's own edges
        inset = 0.0 if self.margin_texels else 0.5 - _POINT_PX
        low = [at + inset if at else 0.0 for at in (part.y, part.x)]
        high = [
            at - inset if at < end else float(end)
            for at, end in ((part.y + part.height, height), (part.x + part.width, width))
        ]
        y0, x0 = self.view.low
        whole = Region(
            (y0 + low[0] * per_px[0], x0 + low[1] * per_px[1]),
            (y0 + high[0] * per_px[0], x0 + high[1] * per_px[1]),
        )
        if (part.width, part.height) != (1, 1) or self._tiles(whole).size <= self._most:
            return whole
        # one pixel over many tiles: it is drawn from what lies around its centre, which at the frame's own edges is not that
        # of ``whole``
        centre = (y0 + (part.y + 0.5) * per_px[0], x0 + (part.x + 0.5) * per_px[1])
        reach = [_FILTER_TEXELS * scale for scale in self.lattice.levels[self.level].scale]
        small = reach if self.margin_texels else [_POINT_PX * step for step in per_px]
        return Region(centre, centre).grown(small).intersect(whole)

    @property
    def _most(self) -> int:
        return min(self.room, MAX_WANTED)

    def _tiles(self, region: Region) -> BlockRange:
        seen = region.intersect(self.lattice.extent)
        if seen.is_empty:
            return BlockRange((0, 0), (0, 0))
        return tiles_with_margin(self.lattice, self.level, seen, self.margin_texels)

    def fits(self, part: Part) -> bool:
        return self._tiles(self.region(part)).size <= self._most

    def cut(self, part: Part, *, by_rows: bool = False) -> tuple[Part, Part]:
        """Two halves, along the axis with more tiles, at the border between tiles that is nearest to the middle. ``by_rows``: one
        above the other while there are several rows of tiles."""
        rows, cols = self._tiles(self.region(part)).shape
        lies_flat = rows <= (3 if self.margin_texels else 1)
        along_x = part.width > 1 and (part.height == 1 or (cols >= rows and (lies_flat or not by_rows)))
        first, length = (part.x, part.width) if along_x else (part.y, part.height)
        middle = first + length // 2
        borders = [at for at in self._borders(part, along_x=along_x) if first < at < first + length]
        at = min(borders, key=lambda border: abs(border - middle), default=middle) - first
        if along_x:
            return part._replace(width=at), part._replace(x=part.x + at, width=part.width - at)
        return part._replace(height=at), part._replace(y=part.y + at, height=part.height - at)

    def _borders(self, part: Part, *, along_x: bool) -> list[int]:
        """The pixels at which tiles that ``part`` wants begin."""
        tiles, axis = self._tiles(self.region(part)), int(along_x)
        corners = [
            self.lattice.tile_region(self.level, (n, tiles.start[1]) if not along_x else (tiles.start[0], n))
            for n in range(tiles.start[axis], tiles.stop[axis])
        ]
        edges = pixel_edges(rows_of(corners), self.view, self.size_px)
        return [int(edge) for edge in edges[:, axis]]


def parts_of(size_px: tuple[int, int], layers: Sequence[Placed], *, by_rows: bool = False) -> Iterator[Part]:
    """The parts of a frame of ``size_px`` (w, h), which divide it: one where everything fits. ``by_rows``: as wide as the frame
    where that fits, for ``strips_of``. Raises UsageError when not even what one pixel is drawn from does."""
    left = [Part(0, 0, *size_px)]
    while left:
        part = left.pop()
        tight = next((layer for layer in layers if not layer.fits(part)), None)
        if tight is not None and part.width * part.height > 1:
            left += reversed(tight.cut(part, by_rows=by_rows))
            continue
        if tight is not None and tight.margin_texels:
            raise UsageError(
                f"the atlas has room for {tight.room} tiles of each layer, and linear interpolation draws one pixel "
                "from up to 4",
                hint="give more --atlas, or --interpolation nearest",
            )
        yield part


def strips_of(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Parts of a frame, from the top, in groups of which none has a row of another."""
    strip: list[Part] = []
    stop = 0
    for part in sorted(parts, key=lambda each: (each.y, each.x)):
        if strip and part.y >= stop:
            yield strip
            strip = []
        strip.append(part)
        stop = max(stop, part.y + part.height)
    if strip:
        yield strip
