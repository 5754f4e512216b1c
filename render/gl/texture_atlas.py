"""Tiles in textures: pages, uploads with gutters from real neighbours. Main thread only.

One atlas serves all layers. Texels keep their native format; nothing is converted here. Each tile is uploaded
by one texture call, with a border of one texel that repeats its neighbours where they are known and its own
edge where not. When a neighbour arrives later, the border is patched by a small strip. For this the atlas
remembers the outermost texels of every resident tile, about 1.6 % of the tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError
from octree.render.gl.residents import FORMATS, MIB, Residents, texture_format
from octree.render.gl.slots import GUTTER, Page, SlotClass, Slots, slot_class
from octree.render.loading.values import LoadedTile, LoadKey

# those across a corner last: they know better than the ends of rows and columns
_NEIGHBOURS = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
Neighbours = Callable[[int, int], "NDArray[Any] | None"]
Piece = tuple["NDArray[Any]", int, int]
"""Texels, and where on a page (y, x) the first of them goes."""


class Placement(NamedTuple):
    """Where a tile is: page number, texel (y, x) of its first own texel, and its (height, width)."""

    page: int
    y: int
    x: int
    height: int
    width: int


@dataclass(slots=True, eq=False)
class _Resident:
    """A tile in the atlas: where it is, and its outermost texels for neighbours that come later: top, bottom, left
    and right, or none where there are no gutters."""

    place: Placement
    edges: tuple[NDArray[Any], ...]

    def facing(self, dy: int, dx: int) -> NDArray[Any]:
        """Texels that face a tile for which this one lies at (dy, dx): a row, a column or one texel."""
        top, bottom, left, right = self.edges
        if dy == 0:
            return left if dx > 0 else right
        row = top if dy > 0 else bottom
        corner: NDArray[Any] = row if dx == 0 else row[0 if dx > 0 else -1]
        return corner


class Atlas(Residents[_Resident]):
    """Owner of all tile textures; main thread only.

    ``slot_px`` is the unit of slot sizes (tiles up to it take one slot), ``page_px`` the edge of a page; both
    may be changed at any time and hold for what comes later. ``budget_bytes`` may be changed by ``resize``.
    ``gutters=False`` leaves neighbours out, for those who never interpolate: an upload takes a third of the time.
    """

    def __init__(
        self,
        budget_bytes: int = 256 * MIB,
        slot_px: int = 256,
        page_px: int = 4096,
        *,
        max_texture_size: int = 16384,
        gutters: bool = True,
    ) -> None:
        if slot_px < 1 or page_px < 1:
            raise UsageError("the atlas needs a slot size and a page size above 0")
        super().__init__(Slots(budget_bytes, page_px, max_texture_size), len(Placement._fields))
        self.slot_px = slot_px
        self._gutters = gutters
        self._classes: dict[tuple[Any, ...], SlotClass] = {}
        self._scratch: NDArray[Any] = np.empty(0)

    @property
    def page_px(self) -> int:
        return self._slots.page_px

    @page_px.setter
    def page_px(self, value: int) -> None:
        self._slots.page_px = value

    def capacity_tiles(self, tile_shape: tuple[int, ...], dtype: Any) -> int:
        """How many tiles of ``tile_shape`` (h, w[, samples]) fit the budget at once, all layers together."""
        return self._slots.capacity(self._kind_of(tile_shape, dtype))

    def slot_bytes(self, tile_shape: tuple[int, ...], dtype: Any) -> int:
        """What one tile of ``tile_shape`` (h, w[, samples]) takes of the budget. Raises UsageError when no texture
        is so large."""
        kind = self._kind_of(tile_shape, dtype)
        if max(kind.slot) > self._slots.max_px:
            raise UsageError(
                f"a tile of {tile_shape[1]} x {tile_shape[0]} texels is larger than this OpenGL's textures, "
                f"{self._slots.max_px}",
                hint="give a smaller tile_size in the settings file",
            )
        return kind.bytes

    def place(self, key: LoadKey) -> Placement:
        """Where a resident tile is; KeyError when it is not resident."""
        return self._tiles[key].place

    def reserve(self, tile_shape: tuple[int, ...], dtype: Any) -> Any:
        """The texture that the next tile of ``tile_shape`` (h, w[, samples]) will go to, so that it is made before
        there is one; None when another tile must go first."""
        page = self._slots.reserve(self._kind_of(tile_shape, dtype))
        if page is not None and page.number not in self._textures:
            self._textures[page.number] = self._new_texture(page)
        return None if page is None else self._textures[page.number]

    def upload(self, tile: LoadedTile, neighbours: Neighbours | None = None) -> int:
        """Bring a tile in; returns the bytes given to OpenGL, 0 when there is no room (all is pinned).

        ``neighbours(drow, dcol)`` returns the pixels of an adjoining tile that is in RAM, or None; tiles
        that are resident need not be given. A tile that is already resident is only counted as used.
        """
        key = tile.key
        if key in self._tiles:
            self._slots.touch(key)
            return 0
        data = tile.data
        change = self._slots.place(key, self._kind_of(data.shape, data.dtype))
        self._follow(change)
        slot = change.slot
        if slot is None:
            return 0
        height, width = data.shape[:2]
        y, x = slot.corner
        place = Placement(slot.page, y + GUTTER, x + GUTTER, height, width)
        writes = (
            self._with_neighbours(key, data, place, neighbours)
            if self._gutters
            else {place.page: [(np.ascontiguousarray(data), place.y, place.x)]}
        )
        for page, pieces in writes.items():
            self._textures[page].write(pieces)
            self.patches += len(pieces)
            self.uploaded_bytes += sum(piece[0].nbytes for piece in pieces)
        self.uploads += 1
        self.patches -= 1
        edges = (data[0], data[-1], data[:, 0], data[:, -1]) if self._gutters else ()
        self._remember(key, _Resident(place, tuple(edge.copy() for edge in edges)))
        return writes[place.page][0][0].nbytes

    def _with_neighbours(
        self, key: LoadKey, data: NDArray[Any], place: Placement, neighbours: Neighbours | None
    ) -> dict[int, list[Piece]]:
        """What to write on which page: first the tile with its gutter, then the gutters of those around it."""
        around = [(dy, dx, self._tiles.get(key.beside(dy, dx))) for dy, dx in _NEIGHBOURS]
        padded = self._padded(data)
        for dy, dx, other in around:
            if other is not None:
                _put_strip(padded, dy, dx, other.facing(dy, dx))
            elif neighbours is not None and (pixels := neighbours(dy, dx)) is not None:
                _put_strip(padded, dy, dx, _facing_pixels(pixels, dy, dx))
        writes = {place.page: [(padded, place.y - GUTTER, place.x - GUTTER)]}
        for dy, dx, other in around:
            if other is not None:
                writes.setdefault(other.place.page, []).append(_patch(other.place, dy, dx, padded))
        return writes

    def _padded(self, data: NDArray[Any]) -> NDArray[Any]:
        """The tile with its own edge repeated around it, in memory that the next tile of this kind gets again:
        fresh memory costs as much as the copy."""
        height, width = data.shape[:2]
        shape = (height + 2, width + 2, *data.shape[2:])
        if self._scratch.shape != shape or self._scratch.dtype != data.dtype:
            self._scratch = np.empty(shape, data.dtype)
        padded = self._scratch
        padded[1:-1, 1:-1] = data
        padded[0, 1:-1], padded[-1, 1:-1] = data[0], data[-1]
        padded[:, 0], padded[:, -1] = padded[:, 1], padded[:, -2]
        return padded

    def _kind_of(self, tile_shape: tuple[int, ...], dtype: Any) -> SlotClass:
        """The slot class of tiles of ``tile_shape`` (h, w[, samples])."""
        asked = (tile_shape, dtype, self.slot_px)
        kind = self._classes.get(asked)
        if kind is None:
            kind = slot_class(tile_shape[:2], *texture_format(tile_shape, 2, dtype), self.slot_px)
            self._classes[asked] = kind
        return kind

    def _new_texture(self, page: Page) -> Any:
        from octree.render.gl.page import PageTexture

        dtype, samples = page.kind.format
        return PageTexture(page.shape, dtype, samples, FORMATS[dtype, samples])


def _patch(place: Placement, dy: int, dx: int, padded: NDArray[Any]) -> tuple[NDArray[Any], int, int]:
    """What a neighbour that was here first could not have: (strip, y, x), the new tile's edge, ends included.

    The neighbour lies at (dy, dx), so the strip is that edge of the new tile, on the neighbour's far side.
    """
    rows: dict[int, Any] = {-1: slice(1, 2), 0: slice(None), 1: slice(-2, -1)}
    strip = np.ascontiguousarray(padded[rows[dy], rows[dx]])
    y = place.y + place.height if dy < 0 else place.y - 1
    x = place.x + place.width if dx < 0 else place.x - 1
    return strip, y, x


def _facing_pixels(data: NDArray[Any], dy: int, dx: int) -> NDArray[Any]:
    """Texels of a tile that lies at (dy, dx) which face this one: a row, a column or one texel."""
    sides: dict[int, Any] = {-1: -1, 0: slice(None), 1: 0}
    strip: NDArray[Any] = data[sides[dy], sides[dx]]
    return strip


def _put_strip(padded: NDArray[Any], dy: int, dx: int, strip: NDArray[Any]) -> None:
    """Write a neighbour's texels into the gutter. A row or column also fills the corners with its ends: at the
    image's border no other tile will."""
    sides: dict[int, Any] = {-1: 0, 0: slice(1, -1), 1: -1}
    padded[sides[dy], sides[dx]] = strip
    if dy == 0:
        padded[0, sides[dx]], padded[-1, sides[dx]] = strip[0], strip[-1]
    elif dx == 0:
        padded[sides[dy], 0], padded[sides[dy], -1] = strip[0], strip[-1]
