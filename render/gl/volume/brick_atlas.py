"""Bricks in 3-D textures: one page for each part that rays go through, uploads with gutters from neighbours. Main thread
only.

A brick lies in a slot one texel larger on every side. That *gutter* repeats the texels of the 26 bricks of its level around
it, so that a filter needs no second texture read; where a brick is not known, the nearest that is, or its own edge, is
repeated, as at the borders of the image. When a neighbour arrives later, the part of the gutter that it knows better is
patched. For this the atlas remembers the outermost texels of every resident brick, a tenth of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError
from octree.render.gl.residents import FORMATS, MIB, Residents, texture_format
from octree.render.gl.slots import GUTTER, Page, SlotClass, slot_class
from octree.render.gl.volume.brick_slots import MOST_BYTES, MOST_PX, BrickSlots
from octree.render.loading.values import LoadedTile, LoadKey

if TYPE_CHECKING:
    from octree.render.gl.volume.textures import VolumeTexture

BRICK_PX = 64
Step = tuple[int, int, int]
"""From a brick to one beside it: -1, 0 or 1 along z, y, x."""
BrickNeighbours = Callable[[int, int, int], "NDArray[Any] | None"]

_RANK = tuple([8 * axes.bit_count() + axes for axes in range(8)])
"""How well a part of a gutter is known, by the axes (bits) along which it was looked up: one across a corner better than
one across an edge than one across a face; of two alike always the same one, whoever came first."""
_AXES: dict[Step, int] = {
    (z, y, x): (4 if z else 0) + (2 if y else 0) + (1 if x else 0)
    for z, y, x in product((-1, 0, 1), repeat=3)
    if z or y or x
}
STEPS = tuple(sorted(_AXES, key=lambda step: _RANK[_AXES[step]]))
"""The 26 neighbours; those who know best what lies between two others last."""
_BEYOND = {
    step: tuple([other for other in STEPS if all(o == s or not s for o, s in zip(other, step, strict=True))])
    for step in STEPS
}
"""The parts of a gutter that lie towards a neighbour: those along a face include its edges and corners, which at the
image's border nobody else knows."""
_BEST = {step: {other: _AXES[other] for other in _BEYOND[step]} for step in STEPS}
_OUTSIDE: dict[int, Any] = {-1: slice(0, 1), 0: slice(1, -1), 1: slice(-1, None)}
_INSIDE: dict[int, Any] = {-1: slice(1, 2), 1: slice(-2, -1)}
_HALVES: dict[int, Any] = {-1: slice(0, 1), 0: slice(None), 1: slice(1, 2)}
_WHOLE: dict[int, Any] = {-1: slice(0, 1), 0: slice(None), 1: slice(-1, None)}


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
    largest of them, (d, h, w)."""

    owner: Hashable
    tile: tuple[int, ...] = (BRICK_PX,) * 3


@dataclass(slots=True, eq=False)
class _Brick:
    """A brick in the atlas. ``edges``: its outermost texels, low and high along each axis (views are copies). ``known``: of
    each part of its gutter how well, see ``_RANK``. ``bounds``: see ``bounds_of``."""

    place: BrickPlacement
    edges: tuple[tuple[NDArray[Any], NDArray[Any]], ...]
    known: dict[Step, int]
    bounds: NDArray[np.float32]

    def facing(self, step: Step) -> NDArray[Any]:
        """Texels that face a brick for which this one lies at ``step``, with all three axes."""
        axis = next(axis for axis in range(3) if step[axis])
        return _facing(self.edges[axis][step[axis] < 0], step)

    def corner(self, step: Step, *, whole: bool) -> tuple[int, ...]:
        """Where on its page the gutter towards ``step`` begins, with or without its own ends."""
        begin = self.place[1:4]
        size = self.place[4:]
        return tuple(
            [
                at + n if by > 0 else at - 1 if by < 0 or whole else at
                for at, n, by in zip(begin, size, step, strict=True)
            ]
        )

    def widen(self, texels: NDArray[Any], step: Step) -> None:
        """There are other texels in the gutter towards ``step``."""
        bounds = self.bounds[tuple([_HALVES[by] for by in step])]
        low, high, has_nan = _ends(texels, np.minimum, np.maximum, None)
        if low >= bounds[..., 0].max() and high <= bounds[..., 1].min() and not has_nan:
            return  # as in most images
        if not has_nan and sum(map(abs, step)) < 3:
            low, high, has_nan = _ends(texels, _by_halves(np.minimum), _by_halves(np.maximum), 3)
        bounds[..., 0] = np.minimum(bounds[..., 0], low)
        bounds[..., 1] = np.maximum(bounds[..., 1], high)
        bounds[..., 2] = np.maximum(bounds[..., 2], has_nan)


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

    def upload(
        self, tile: LoadedTile, neighbours: BrickNeighbours | None = None, part: BrickPart | None = None
    ) -> int:
        """Bring a brick in; returns the bytes given to OpenGL, 0 when there is no room (all is pinned).

        ``tile.data`` is (d, h, w) or (d, h, w, samples). ``neighbours(dz, dy, dx)`` returns the texels of a brick beside it
        that is in RAM, or None; those that are resident need not be given. ``part`` None: one for each source and place on
        the axes that are not displayed. A brick that is already resident is only counted as used.
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
        padded = self._padded(data)
        known: dict[Step, int] = {}
        around: list[tuple[Step, _Brick]] = []
        for step in STEPS if self._gutters else ():
            other = self._tiles.get(key.beside(*step))
            if other is not None:
                around.append((step, other))
                strip = other.facing(step)
            elif neighbours is not None and (texels := neighbours(*step)) is not None:
                strip = _facing(texels, step)
            else:
                continue
            _fill(padded, step, strip)
            known.update(dict.fromkeys(_BEYOND[step], _AXES[step]))
        edges = _edges(data) if self._gutters else ()
        brick = _Brick(place, edges, known, bounds_of(padded))
        self._write(place.page, [(padded, *[at - GUTTER for at in corner])])
        for step, other in around:
            self._write(other.place.page, list(_patches(other, step, brick, padded)))
        self.uploads += 1
        self.patches -= 1
        self._remember(key, brick)
        return padded.nbytes

    def _write(self, page: int, pieces: list[tuple[Any, ...]]) -> None:
        if not pieces:
            return
        self._textures[page].write(pieces)
        self.patches += len(pieces)
        self.uploaded_bytes += sum(piece[0].nbytes for piece in pieces)

    def _padded(self, data: NDArray[Any]) -> NDArray[Any]:
        """The brick with its own edge repeated around it, in memory that the next brick of this kind gets again."""
        shape = (*[n + 2 * GUTTER for n in data.shape[:3]], *data.shape[3:])
        if self._scratch.shape != shape or self._scratch.dtype != data.dtype:
            self._scratch = np.empty(shape, data.dtype)
        padded = self._scratch
        padded[1:-1, 1:-1, 1:-1] = data
        padded[0], padded[-1] = padded[1], padded[-2]
        padded[:, 0], padded[:, -1] = padded[:, 1], padded[:, -2]
        padded[:, :, 0], padded[:, :, -1] = padded[:, :, 1], padded[:, :, -2]
        return padded

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


def bounds_of(padded: NDArray[Any]) -> NDArray[np.float32]:
    """(2, 2, 2, 3) of a brick with its gutter: lowest and highest value as a texture reads it (0 to 1 of whole numbers) of
    what samples in each half along z, y, x may need, NaN left out, and whether there is one. Of several samples no weighed
    mean lies beyond them, and with alpha, none that is weighed by that."""
    low, high, has_nan = _ends(padded, _by_halves(np.minimum), _by_halves(np.maximum), 3)
    return np.stack([low, high, has_nan], axis=-1).astype(np.float32)


def _ends(texels: NDArray[Any], lowest: Any, highest: Any, axes: int | None) -> tuple[Any, Any, Any]:
    """Lowest, highest, is there a NaN; by two ways to reduce."""
    alpha = texels.ndim == 4 and texels.shape[3] in (2, 4)
    if texels.ndim == 4 and axes:
        below, above = texels.min(axis=3), texels.max(axis=3)
    else:
        below = above = texels
    low, high = lowest.reduce(below, axis=None), highest.reduce(above, axis=None)
    if texels.dtype.kind == "f":
        has_nan = np.isnan(low)
        if has_nan.any():
            with np.errstate(invalid="ignore"):
                low = lowest.reduce(np.where(np.isnan(texels), np.inf, texels), axis=None)
                high = highest.reduce(np.where(np.isnan(texels), -np.inf, texels), axis=None)
    else:
        has_nan = np.zeros_like(low, bool)
        full = np.float32(np.iinfo(texels.dtype).max)
        low, high = low / full, high / full
    return (np.minimum(low, 0), np.maximum(high, 0), has_nan) if alpha else (low, high, has_nan)


class _by_halves:
    """A reduction of a brick with its gutter to (2, 2, 2): each half with a texel of the other. An axis of one texel, which
    is gutter, stays as it is; one that is no longer than a brick may be without its gutter."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self._ufunc = ufunc

    def reduce(self, texels: NDArray[Any], axis: None) -> NDArray[Any]:
        for along in range(3):
            if texels.shape[along] == 1:
                continue
            before = (slice(None),) * along
            half = (texels.shape[along] - 2 * GUTTER) // 2
            parts = (slice(0, half + 2 * GUTTER), slice(half, None))
            texels = np.stack(
                [self._ufunc.reduce(texels[(*before, part)], axis=along) for part in parts], axis=along
            )
        return texels


def _fill(padded: NDArray[Any], step: Step, strip: NDArray[Any]) -> None:
    """Write what a neighbour knows into the gutter towards it, its ends repeated at both ends of that."""
    padded[tuple([_OUTSIDE[by] for by in step])] = strip
    gutter = padded[tuple([_WHOLE[by] for by in step])]
    if not step[0]:
        gutter[0], gutter[-1] = gutter[1], gutter[-2]
    if not step[1]:
        gutter[:, 0], gutter[:, -1] = gutter[:, 1], gutter[:, -2]
    if not step[2]:
        gutter[:, :, 0], gutter[:, :, -1] = gutter[:, :, 1], gutter[:, :, -2]


def _facing(texels: NDArray[Any], step: Step) -> NDArray[Any]:
    """Texels of a brick that lies at ``step`` which face this one, with all three axes."""
    sides: dict[int, Any] = {-1: slice(-1, None), 0: slice(None), 1: slice(0, 1)}
    strip: NDArray[Any] = texels[tuple([sides[by] for by in step])]
    return strip


def _edges(data: NDArray[Any]) -> tuple[tuple[NDArray[Any], NDArray[Any]], ...]:
    return (
        (data[:1].copy(), data[-1:].copy()),
        (data[:, :1].copy(), data[:, -1:].copy()),
        (data[:, :, :1].copy(), data[:, :, -1:].copy()),
    )


def _patches(other: _Brick, step: Step, new: _Brick, padded: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
    """What ``other``, which lies at ``step`` and was here first, learns from a new brick about its own gutter: texels, and
    where on its page they go."""
    towards: Step = (-step[0], -step[1], -step[2])
    own, known = _AXES[towards], other.known
    better: list[Step] = []
    if len(new.known) == len(STEPS) and all(new.known[step] == _AXES[step] for step in STEPS):
        best = _BEST[towards]
        if all(known.get(beyond) == axes for beyond, axes in best.items()):
            return  # it was told by the same tiles, when they were in RAM
        known.update(best)  # nobody knows better than one who knows all
        better = [towards] * len(_BEST[towards])
    for beyond in () if better else _BEYOND[towards]:
        sideways = (beyond[0] - towards[0], beyond[1] - towards[1], beyond[2] - towards[2])
        axes = own | new.known.get(sideways, 0)
        if _RANK[axes] > _RANK[known.get(beyond, 0)]:  # what is known as well is known by the same tile
            known[beyond] = axes
            better.append(beyond)
    if len(better) == len(_BEYOND[towards]):  # the usual case: all of it in one call
        better = [towards]
        across: dict[int, Any] = _WHOLE
    else:
        across = _OUTSIDE
    for beyond in better:
        strip = padded[
            tuple([_INSIDE[-by] if by else across[to] for by, to in zip(towards, beyond, strict=True)])
        ]
        other.widen(strip, beyond)
        yield np.ascontiguousarray(strip), *other.corner(beyond, whole=across is _WHOLE)
