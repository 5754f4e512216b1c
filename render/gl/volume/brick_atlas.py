"""Bricks in 3-D textures: one page for each part that rays go through, uploads with gutters from neighbours. Main thread
only.

A brick lies in a slot one texel larger on every side. That *gutter* repeats the texels of the 26 bricks of its level around
it (``gutters.py``), so that a filter needs no second texture read. A brick whose neighbours are all known when it comes is
written once. Where one of them comes later, the gutter is *outdated*, until somebody who is about to draw has it refreshed. For
this the atlas remembers the outermost texels of every resident brick, a tenth of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError
from octree.render.gl.residents import FORMATS, MIB, Residents, texture_format
from octree.render.gl.slots import GUTTER, Change, Page, SlotClass, slot_class
from octree.render.gl.volume.brick_slots import MOST_BYTES, MOST_PX, BrickSlots
from octree.render.gl.volume.gutters import (
    AXES,
    STEPS,
    Around,
    Shell,
    bounds_of,
    ends_of,
    gutter_of,
    mirrored,
    pad,
    shell_of,
    widen,
)
from octree.render.loading.values import LoadedTile, LoadKey

if TYPE_CHECKING:
    from octree.render.gl.volume.textures import VolumeTexture

BRICK_PX = 64
Grid = tuple[int, ...]
Beside = Callable[[Grid], "NDArray[Any] | None"]
"""The texels of a brick of the same level and place that is in memory, by its number along z, y, x."""


_NOBODY = (None,) * len(STEPS)


class BrickPlacement(NamedTuple):
    """Where a brick is: page number, texel (z, y, x) of its first own texel, and its (depth, height, width)."""

    page: int
    z: int
    y: int
    x: int
    depth: int
    height: int
    width: int


class BrickPart(NamedTuple):
    """Bricks that one ray may meet, and which therefore share a page: those of one channel of a layer. ``tile`` is the
    largest of them, (d, h, w). ``alpha``: the last sample of their texels is that."""

    owner: Hashable
    tile: tuple[int, ...] = (BRICK_PX,) * 3
    alpha: bool = False


@dataclass(slots=True, eq=False)
class _Brick:
    """A brick in the atlas. ``shell`` None: nobody asks for it. ``known``: the bricks around it whose texels are in its
    gutter, see ``gutters.STEPS``. ``bounds``: see ``bounds_of``."""

    place: BrickPlacement
    shell: Shell | None
    known: int
    bounds: NDArray[np.float32]
    alpha: bool


def _family(key: LoadKey) -> tuple[Any, ...]:
    """Bricks that may lie side by side: their grids tell them apart."""
    return (*key[:2], *key.tile[:2])


class BrickAtlas(Residents[_Brick]):
    """Owner of all textures of bricks; main thread only.

    Each ``BrickPart`` has a page of its own, which grows as it needs, up to the budget divided by ``shares``.
    ``gutters=False`` leaves neighbours out, for those who look at no texel but the nearest.
    """

    def __init__(
        self,
        budget_bytes: int = 256 * MIB,
        *,
        max_texture_size: int = MOST_PX,
        page_bytes: int = MOST_BYTES,
        gutters: bool = True,
    ) -> None:
        if budget_bytes < 1:
            raise UsageError("the atlas needs a budget above 0")
        slots = BrickSlots(budget_bytes, min(max_texture_size, MOST_PX), page_bytes)
        super().__init__(slots, len(BrickPlacement._fields))
        self._bricks = slots
        self._gutters = gutters
        self._scratch: NDArray[Any] = np.empty(0)
        self._families: dict[Hashable, dict[Grid, _Brick]] = {}
        self._outdated: set[LoadKey] = set()

    @property
    def shares(self) -> int:
        """How many parts share the budget."""
        return self._bricks.shares

    @shares.setter
    def shares(self, value: int) -> None:
        self._bricks.shares = max(value, 1)

    def capacity_tiles(self, tile_shape: tuple[int, ...], dtype: Any) -> int:
        """How many bricks one part may have resident, of which the largest has ``tile_shape`` (d, h, w[, samples])."""
        return self._slots.capacity(_kind_of(BrickPart(None, tile_shape[:3]), tile_shape, dtype))

    def slot_bytes(self, tile_shape: tuple[int, ...], dtype: Any) -> int:
        """What one brick of ``tile_shape`` (d, h, w[, samples]) takes of the budget. Raises UsageError when no texture is
        so large."""
        kind = _kind_of(BrickPart(None, tile_shape[:3]), tile_shape, dtype)
        if max(kind.slot) > self._slots.max_px:
            depth, height, width = tile_shape[:3]
            raise UsageError(
                f"a brick of {width} x {height} x {depth} texels is larger than this OpenGL's 3-D textures, "
                f"{self._slots.max_px}",
                hint="give a smaller tile_size in the settings file",
            )
        return kind.bytes

    def place(self, key: LoadKey) -> BrickPlacement:
        """Where a resident brick is; KeyError when it is not resident."""
        return self._tiles[key].place

    def bounds(self, keys: Sequence[LoadKey]) -> NDArray[np.float32]:
        """(n, 2, 2, 2, 3) of the halves of each brick, along z, y and x: no value that it shows there lies below the first
        or above the second, in what textures hold; whether there is a NaN. KeyError when one is not resident."""
        bounds = [self._tiles[key].bounds for key in keys]
        return np.array(bounds, np.float32).reshape(-1, 2, 2, 2, 3)

    def reserve(
        self, tile_shape: tuple[int, ...], dtype: Any, part: BrickPart, count: int = 1
    ) -> VolumeTexture | None:
        """The texture for bricks of a part, such as ``tile_shape`` (d, h, w[, samples]), with room for ``count`` of them as
        far as the budget allows: a texture that need not grow is never copied. None when there is no room for one."""
        page = self._bricks.reserve(_kind_of(part, tile_shape, dtype), count)
        if page is None:
            return None
        self._make(page)
        texture: VolumeTexture = self._textures[page.number]
        return texture

    def upload(self, tile: LoadedTile, beside: Beside | None = None, part: BrickPart | None = None) -> int:
        """Bring a brick in; returns the bytes given to OpenGL, 0 when there is no room (all is pinned).

        ``tile.data`` is (d, h, w) or (d, h, w, samples). ``beside`` tells of bricks that are not resident yet. ``part`` None: one
        for each source and place on the axes that are not displayed. A brick that is already resident is only counted as used.
        """
        key, data = tile.key, tile.data
        if key in self._tiles:
            self._slots.touch(key)
            return 0
        part = part or BrickPart((key.source, key.tile.index))
        change = self._slots.place(key, _kind_of(part, data.shape, data.dtype))
        self._follow(change)
        if change.slot is None:
            return 0
        corner = tuple([at + GUTTER for at in change.slot.corner])
        place = BrickPlacement(change.slot.page, *corner, *data.shape[:3])
        around, known = self._around(key, beside) if self._gutters else (_NOBODY, 0)
        padded = self._padded(data, around, known)
        shell = shell_of(data) if self._gutters else None
        brick = _Brick(place, shell, known, bounds_of(padded, alpha=part.alpha), part.alpha)
        self._write(place, [(padded, (-GUTTER,) * 3)])
        self.uploads += 1
        self._remember(key, brick)
        self._families.setdefault(_family(key), {})[key.tile.grid] = brick
        return padded.nbytes

    def _around(self, key: LoadKey, beside: Beside | None) -> tuple[Around, int]:
        """The shells of the bricks around one that are known, and which these are. Resident ones that did not know this one
        are outdated now."""
        z, y, x = key.tile.grid
        family, known = self._families.get(_family(key), {}), 0
        around: list[NDArray[Any] | None] = []
        for number, (dz, dy, dx) in enumerate(STEPS):
            grid, shell = (z + dz, y + dy, x + dx), None
            brick = family.get(grid)
            if brick is not None:
                assert brick.shell is not None
                shell = brick.shell[AXES[number]]
                if not brick.known >> mirrored(number) & 1:
                    self._outdated.add(key._replace(tile=key.tile._replace(grid=grid)))
            elif beside is not None and (texels := beside(grid)) is not None:
                shell = ends_of(texels, AXES[number])
            around.append(shell)
            if shell is not None:
                known |= 1 << number
        return around, known

    @property
    def outdated(self) -> Set[LoadKey]:
        """Bricks beside which others have come since."""
        return self._outdated

    def refresh(self, keys: Iterable[LoadKey] | None = None) -> None:
        """Have in the gutters of some bricks (None: all) what is known now. Who draws calls it: what is about to come may come
        before that."""
        for key in self._outdated.intersection(self._outdated if keys is None else keys):
            self._outdated.discard(key)
            brick, before = self._tiles[key], self._tiles[key].known
            around, now = self._around(key, None)
            brick.known = before | now
            self._patch(brick, around, before)

    def _patch(self, brick: _Brick, around: Around, before: int) -> None:
        """Write the parts of a gutter that other bricks know best now than ``before``."""
        pieces, parts = [], zip(STEPS, gutter_of(before), gutter_of(brick.known), strict=True)
        for step, (_, old, _), (_, number, cut) in parts:
            if old == number:
                continue
            shell = around[number]
            assert shell is not None
            texels = shell[tuple([slice(at, at + 1 or None) if isinstance(at, int) else at for at in cut])]
            widen(brick.bounds, step, texels, alpha=brick.alpha)
            sides = [n if by > 0 else min(by, 0) for by, n in zip(step, brick.place[4:], strict=True)]
            pieces.append((np.ascontiguousarray(texels), sides))
        self._write(brick.place, pieces)
        self.patches += len(pieces)

    def _write(self, place: BrickPlacement, pieces: Sequence[tuple[NDArray[Any], Sequence[int]]]) -> None:
        """Texels, each piece with where it begins, counted from the brick's own first texel."""
        begin = place[1:4]
        self._textures[place.page].write(
            [(texels, *[at + by for at, by in zip(begin, corner, strict=True)]) for texels, corner in pieces]
        )
        self.uploaded_bytes += sum(texels.nbytes for texels, _ in pieces)

    def _follow(self, change: Change) -> None:
        for key in change.gone:
            family = _family(key)
            bricks = self._families[family]
            del bricks[key.tile.grid]
            if not bricks:
                del self._families[family]
        self._outdated.difference_update(change.gone)
        super()._follow(change)

    def _padded(self, data: NDArray[Any], around: Around, known: int) -> NDArray[Any]:
        """The brick in its gutter, in memory that the next brick of this kind gets again."""
        shape = (*[n + 2 * GUTTER for n in data.shape[:3]], *data.shape[3:])
        if self._scratch.shape != shape or self._scratch.dtype != data.dtype:
            self._scratch = np.empty(shape, data.dtype)
        pad(self._scratch, data, around, known)
        return self._scratch

    def _make(self, page: Page) -> None:
        """Its texture, as large as the page is now; a smaller one of before is copied."""
        texture = self._textures.get(page.number)
        if texture is None or texture.shape[:3] != page.shape:
            self._textures[page.number] = self._new_texture(page)

    def _new_texture(self, page: Page) -> VolumeTexture:
        from octree.render.gl.volume.textures import VolumeTexture

        dtype, samples = page.kind.format
        made = VolumeTexture(page.shape, dtype, samples, FORMATS[dtype, samples])
        before = self._textures.get(page.number)
        if before is None:
            return made
        if before.is_current():
            made.write([(before.read(), 0, 0, 0)])
        else:  # nothing can be read from here: its bricks come again from memory
            self._remove([key for key, brick in self._tiles.items() if brick.place.page == page.number])
        before.delete()
        return made


def _kind_of(part: BrickPart, shape: tuple[int, ...], dtype: Any) -> SlotClass:
    """The slot class of a part's bricks, of which one has ``shape`` (d, h, w[, samples])."""
    return replace(_kind(part.tile, shape[3:], dtype), owner=part.owner)


@functools.lru_cache(maxsize=64)
def _kind(tile: tuple[int, ...], samples: tuple[int, ...], dtype: Any) -> SlotClass:
    """Of any owner: nobody is kept alive by what is remembered."""
    return slot_class(tile, *texture_format((*tile, *samples), 3, dtype), 1)
