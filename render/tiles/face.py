"""The faces of a source: the same voxels as planes of any two of its axes, another one projected or not, or as bricks of a volume.

What is displayed is a matter of each view, not of the source: a layer asks its source for the face that its view state
shows. A face is what loader and atlas know as a tile source; its token says which face it is, so that tiles of two
faces are never taken for one another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.boxes import covering_shape, parts
from octree.pyramid.errors import LimitError, OctreeError, OutsideError, UsageError
from octree.pyramid.grid import Lattice, lattice_of
from octree.pyramid.memory import out_of_memory
from octree.pyramid.model import Box, PyramidSpec, TileKey
from octree.pyramid.store.reading import Started
from octree.render.loading.guard import ReadCounter
from octree.render.loading.load import current_cancel_token
from octree.render.loading.values import Batch
from octree.render.tiles.batches import Periods, batch_at, batch_box, cuts, periods_of
from octree.render.tiles.cancelling import GivenUp, Levels, as_declared
from octree.render.tiles.folding import Fold, folded_dtype
from octree.render.tiles.open_levels import Opened
from octree.render.tiles.texels import NO_BASE, Base, texture_dtype, to_texels
from octree.render.view.plan import untiled_lattice
from octree.render.view.state import PLANE, VOLUME, Displayed, Section, index_entries

UNTILED_PX = 4096
"""Longest side of a texture in plain-image mode: what every OpenGL of the last fifteen years takes."""
UNTILED_VOXELS = 256
"""The same of a volume: 64 MiB of floats."""
DEFAULT_TILE = 256
BRICK = 64
"""Longest edge of a brick: a ray changes bricks seldom, and what it does not see is seldom read."""
BRICK_BYTES = 2**20
"""Thin chunks are projected so many bytes at a time."""


@dataclass(slots=True, eq=False)
class Voxels:
    """What all faces of one opened source share. The owner of the source changes ``version``; a worker that is led out
    of the source's folder, finds an image that cannot be decoded within the limits, or gets no memory, says so in ``refused``:
    no failure to be drawn, but an end.

    ``levels``, ``volume``  of planes, and of bricks: those that nobody stored are made in ways of their own.
    ``edge``    of a tile, None for what suits the chunks.
    ``stored``  how many of the levels are read and not made.
    ``bases``   what texels are relative to, by channel; None: all other channels.
    """

    opened: Opened
    levels: Levels
    volume: Levels
    stored: int
    token: str
    edge: int | None = None
    labels: bool = False
    untiled: bool = False
    recipe: tuple[Any, ...] | None = None
    version: int = 0
    refused: OctreeError | None = None
    bases: Mapping[int | None, Base] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class BegunTile:
    """A tile whose voxels are on their way by themselves. Satisfies ``loading.values.BegunTile``."""

    face: Face
    tile: TileKey
    reading: Started

    def wait(self, timeout_s: float) -> bool:
        return self.reading.wait(timeout_s)

    def cancel(self) -> None:
        self.reading.cancel()

    def result(self) -> NDArray[Any]:
        return self.face.end_tile(self.tile, self.reading)


class Face:
    """One source as planes, or as bricks. Satisfies ``loading.values.TileSource``; see there for threads.

    ``spec``   all levels, the made ones included.  ``lattice``  their geometry on the axes that are ``displayed``.
    ``stored_levels``  how many of them are read and not made.
    ``labels``, ``rgb``  how values are taken.  ``samples_shape``  () or (3,), (4,): what follows (h, w), or (d, h, w).
    ``projected``, ``method``  of an axis that is not displayed; "" and None for none.
    ``bases``  what its texels are relative to, by channel (None: all others), where that is not as in ``voxels``.
    """

    private_tiles = True

    def __init__(
        self,
        voxels: Voxels,
        displayed: Displayed = PLANE,
        projected: str = "",
        method: str | None = None,
        *,
        bases: Mapping[int | None, Base] | None = None,
    ) -> None:
        levels = voxels.volume if displayed == VOLUME else voxels.levels
        spec = levels.spec
        self._own_bases = bases
        self._voxels, self._levels, self.spec = voxels, levels, spec
        self.displayed, self.projected, self.method = displayed, projected, method
        self.labels, self.rgb = voxels.labels, spec.rgb and not voxels.labels
        self._check_projection()
        self.stored_levels = voxels.stored
        # a projection takes as long as it needs, as levels do that are made
        self.cheap_levels = voxels.stored if method is None else 0
        tile = _tile_of(voxels, spec, displayed)
        lattice = Lattice(
            tuple(replace(level, tile=tile) for level in lattice_of(spec, displayed=displayed).levels)
        )
        longest = UNTILED_VOXELS if displayed == VOLUME else UNTILED_PX
        self.lattice: Lattice = untiled_lattice(lattice, longest) if voxels.untiled else lattice
        self._texture_dtype = texture_dtype(self.value_dtype, labels=voxels.labels)
        names = spec.axis_names
        self._shown = tuple(names.index(name) for name in displayed)
        self._samples = (names.index("c"),) if self.rgb else ()
        self._folded = names.index(projected) if method is not None else -1
        others = [name for name in spec.free_axes if name not in displayed]
        self._entries = tuple(names.index(name) for name in index_entries(others, projected))
        self.samples_shape: tuple[int, ...] = (
            (4,) if voxels.labels else tuple(spec.levels[0].shape[place] for place in self._samples)
        )
        index_names = [names[place] for place in self._entries]
        self._channel = index_names.index("c") if index_names.count("c") == 1 else None
        self._periods = tuple(self._periods_of(level) for level in range(len(spec.levels)))
        self.batch_levels = frozenset([level for level, own in enumerate(self._periods) if own is not None])
        self.begin_levels = frozenset(range(voxels.stored) if voxels.opened.begins and method is None else ())
        self.gives_up = voxels.opened.gives_up
        self.in_flight = voxels.opened.in_flight
        self._token = self._name()
        self._reads = ReadCounter()

    def _name(self) -> str:
        """The token: another for each face, and for each way to make texels."""
        voxels, way = self._voxels, (self.displayed, self.projected, self.method)
        if way[::2] == (PLANE, None) and not self._bases:
            return voxels.token
        bases = sorted(self._bases.items(), key=str)
        return hashlib.sha256(f"{voxels.token}|{way}|{bases}".encode()).hexdigest()

    def _check_projection(self) -> None:
        if (self.labels and self.method in ("mean", "sum")) or (self.rgb and self.method == "sum"):
            what = "labels have" if self.labels else "colours have"
            raise UsageError(
                f"{self._voxels.opened.path}: {what} no {self.method}",
                hint=f"project by max or min{'' if self.labels else ', or mean'}",
                option="project",
            )

    # identity

    @property
    def token(self) -> str:
        return self._token

    @property
    def version(self) -> int:
        return self._voxels.version

    @property
    def refused(self) -> OctreeError | None:
        """Why no more of the source may be read."""
        return self._voxels.refused

    @refused.setter
    def refused(self, error: OctreeError) -> None:
        self._voxels.refused = error

    def worker_recipe(self) -> tuple[Any, ...] | None:
        if self._voxels.recipe is None:
            return None
        function, path, options = self._voxels.recipe
        way = (self.displayed, self.projected, self.method)
        return function, path, {**options, "bases": self._bases}, way

    def reads_on(self, thread: int) -> int:
        """Reads made by the thread of this ``threading.get_ident()``."""
        return self._reads.on(thread)

    # geometry

    def at(self, section: Section) -> Lattice:
        """The lattice at a section's place on the axes that are not displayed."""
        return self.lattice.at(
            [section.own_index(self.spec, level) for level in range(len(self.spec.levels))]
        )

    @property
    def texture_dtype(self) -> np.dtype[Any]:
        return self._texture_dtype

    def tile_shape(self, tile: TileKey) -> tuple[int, ...]:
        return (*self.lattice.tile_shape(tile.level, tile.grid), *self.samples_shape)

    def tile_box(self, tile: TileKey) -> Box:
        """The voxels of a tile in its level's array; those that are projected on it, too."""
        shape = self.spec.levels[tile.level].shape
        start, stop = [0] * len(shape), list(shape)
        before = -1
        for place, voxel in zip(self._entries, tile.index, strict=True):
            if place == before:  # the second entry of a projected axis
                stop[place] = voxel
            else:
                start[place], stop[place] = voxel, voxel + 1
            before = place
        edges = self.lattice.levels[tile.level].tile
        for place, edge, number in zip(self._shown, edges, tile.grid, strict=True):
            start[place] = number * edge
            stop[place] = min((number + 1) * edge, shape[place])
        return Box(tuple(start), tuple(stop))

    def _periods_of(self, level: int) -> Periods | None:
        """None where no two tiles share a chunk, and of planes that are made; bricks are made of chunks that they share."""
        if not self._voxels.opened.blocks or (level >= self.stored_levels and self.displayed != VOLUME):
            return None
        own = self.lattice.levels[level]
        periods = periods_of(self.spec.levels[level], own, self._shown, self._entries, self._folded)
        return periods if periods.size > 1 else None

    def batch_of(self, tile: TileKey, most_bytes: int | None = None, *, planes: bool = True) -> Batch | None:
        """The tiles to read with ``tile`` since they lie in the same chunks, those of other ``planes`` among them or not,
        as far as all of them together take no more than ``most_bytes``; None: it is alone."""
        periods = self._periods[tile.level]
        if periods is None:
            return None
        if most_bytes is None:
            return batch_at(tile, periods, periods.size, planes=planes)
        own = self.lattice.levels[tile.level]
        largest = (*map(min, own.tile, own.shape), *self.samples_shape)
        most = most_bytes // (math.prod(largest) * self._texture_dtype.itemsize)
        return batch_at(tile, periods, most, planes=planes)

    def excess(self, chunks: tuple[int, ...] | None = None) -> float:
        """How many voxels are decoded for each that a tile of level 0 shows or projects; would be, were these the chunks."""
        level, names = self.spec.levels[0], self.spec.axis_names
        others = [name for name in self.spec.free_axes if name not in self.displayed]
        lengths = [level.shape[names.index(name)] if name == self.projected else 1 for name in others]
        spans = tuple([(name, 0, length) for name, length in zip(others, lengths, strict=True)])
        index = Section(self.displayed, spans, self.projected).position
        box = self.tile_box(TileKey(0, index, (0,) * len(self.displayed)))
        return math.prod(covering_shape(box, chunks or level.chunks)) / math.prod(box.shape)

    # pixels

    def read_tile(self, tile: TileKey) -> NDArray[Any]:
        """Texels of one tile: (h, w), or (h, w, samples); of a brick (d, h, w), … Raises what the source raises, and WriteError for want of
        memory."""
        return self._texels(tile, self.read_values(tile), private=self._voxels.opened.private)

    def begin_tile(self, tile: TileKey) -> BegunTile | None:
        """Begin to read a tile of ``begin_levels``; None where only ``read_tile`` can. Raises as that."""
        self._reads.note()
        try:
            reading = self._levels.start(tile.level, self.tile_box(tile))
        except (OutsideError, LimitError, MemoryError) as error:
            self._refuse(error)
            raise
        return BegunTile(self, tile, reading) if isinstance(reading, Started) else None

    def end_tile(self, tile: TileKey, reading: Started) -> NDArray[Any]:
        """What ``read_tile`` gives, of a read that was begun."""
        try:
            data = as_declared(reading.result(), tile.level, self.spec)
        except (OutsideError, LimitError, MemoryError) as error:
            self._refuse(error)
            raise
        return self._texels(tile, self._plane(data), private=self._voxels.opened.private)

    def read_batch(self, batch: Batch) -> list[NDArray[Any]]:
        """The texels of each tile of a batch, as ``read_tile`` gives them. Where there is no memory for all at once, they
        are read one by one. Raises as ``read_tile``."""
        self._reads.note()
        try:
            data = self._read(batch.first.level, self._batch_box(batch))
        except MemoryError:
            return [self.read_tile(tile) for tile in batch.members()]
        except (OutsideError, LimitError) as error:
            self.refused = error
            raise
        edges = self.lattice.levels[batch.first.level].tile
        places = cuts(batch, data.ndim, edges, self._shown, self._entries, self._folded)
        return [
            self._texels(tile, self._plane(data[cut]), private=False)
            for tile, cut in zip(batch.members(), places, strict=True)
        ]

    def _batch_box(self, batch: Batch) -> Box:
        first, level = batch.first, self.spec.levels[batch.first.level]
        edges = self.lattice.levels[first.level].tile
        return batch_box(batch, self.tile_box(first), level, edges, self._shown, self._entries)

    def _texels(self, tile: TileKey, values: NDArray[Any], *, private: bool) -> NDArray[Any]:
        """``private``: ``values`` share memory with nobody."""
        base = self._base_of(tile) if self._bases else NO_BASE
        texels = np.ascontiguousarray(to_texels(values, labels=self.labels, rgb=self.rgb, base=base))
        if not private and (texels.base is not None or texels is values):
            texels = texels.copy()
        return texels

    def _base_of(self, tile: TileKey) -> Base:
        return self.base(None if self._channel is None else tile.index[self._channel])

    @property
    def _bases(self) -> Mapping[int | None, Base]:
        return self._voxels.bases if self._own_bases is None else self._own_bases

    def base(self, channel: int | None) -> Base:
        """What the texels of a channel are relative to."""
        bases = self._bases
        return bases.get(channel, bases.get(None, NO_BASE))

    def middle_slabs(self, tile: TileKey) -> tuple[int, int]:
        """The slabs [first, stop) of a brick's level that are as deep as a chunk, in the brick's middle."""
        box, place = self.tile_box(tile), self._shown[0]
        chunk = self.spec.levels[min(tile.level, self.stored_levels - 1)].chunks[place]
        first, stop = box.start[place], box.stop[place]
        begin = max(first, (first + stop) // 2 // chunk * chunk)
        return begin, min(begin + chunk, stop)

    def read_values(self, tile: TileKey, slabs: tuple[int, int] | None = None) -> NDArray[Any]:
        """The values that the texels of a tile are made of, shaped as those; of a brick only these ``slabs`` of its level. Raises
        what the source raises."""
        self._reads.note()
        box = self.tile_box(tile)
        if slabs is not None:
            ends = zip((box.start, box.stop), slabs, strict=True)
            place = self._shown[0]
            box = Box(*((*end[:place], slab, *end[place + 1 :]) for end, slab in ends))
        try:
            data = self._read(tile.level, box)
        except (OutsideError, LimitError, MemoryError) as error:
            self._refuse(error)
            raise
        return self._plane(data)

    def _refuse(self, error: OutsideError | LimitError | MemoryError) -> None:
        """No more of the source may be read. Raises WriteError for want of memory."""
        if isinstance(error, MemoryError):
            path = self._voxels.opened.path
            self.refused = refused = out_of_memory(path, path=path)
            raise refused from error
        self.refused = error

    @property
    def value_dtype(self) -> np.dtype[Any]:
        """Of ``read_values``."""
        return folded_dtype(self.spec.dtype, self.method, rgb=self.rgb)

    def _read(self, level: int, box: Box) -> NDArray[Any]:
        if self.method is None:
            return self._levels.read(level, box)
        place, token = self._folded, current_cancel_token()
        fold = Fold(self.method, place, rgb=self.rgb)
        for brick in self._bricks(level, box):
            if token is not None and token.cancelled:
                raise GivenUp
            fold.add(self._levels.read(level, brick))
        return fold.result(self.spec.levels[level].scale[place] / self.spec.levels[0].scale[place])

    def _bricks(self, level: int, box: Box) -> Iterator[Box]:
        """Cut along the projected axis, between chunks: each is decoded once for a tile, and no more than a few are
        held."""
        place, depth = self._folded, self.spec.levels[level].chunks[self._folded]
        layer = math.prod(box.shape) // box.shape[place] * depth * self.spec.dtype.itemsize
        step = depth * max(1, BRICK_BYTES // layer)
        return parts(box, tuple(step if axis == place else stop for axis, stop in enumerate(box.stop)))

    def _plane(self, data: NDArray[Any]) -> NDArray[Any]:
        """Slabs, rows, columns and samples of what was read; every other axis is 1 long."""
        order = (*self._shown, *self._samples)
        if order == tuple(range(data.ndim)):
            return data
        rest = [axis for axis in range(data.ndim) if axis not in order]
        plane = data.transpose(*order, *rest)
        return plane.reshape(plane.shape[: len(order)])


def _tile_of(voxels: Voxels, spec: PyramidSpec, displayed: Displayed) -> tuple[int, ...]:
    if displayed == VOLUME:
        edge = BRICK if voxels.edge is None else min(voxels.edge, BRICK)
        return fitting_brick(spec, edge)
    return (voxels.edge, voxels.edge) if voxels.edge else fitting_tile(spec, displayed)


def fitting_brick(spec: PyramidSpec, most: int = BRICK) -> tuple[int, ...]:
    """The edges of a brick (z, y, x) that suit the chunks of level 0: whole chunks or whole parts of one, between half of
    ``most`` and that; ``most`` where no such edge is."""
    level, names = spec.levels[0], spec.axis_names

    def edge(chunk: int, length: int) -> int:
        if chunk >= length or chunk < 2:
            return most
        if chunk <= most:
            return chunk * (most // chunk)
        return next(
            (chunk // n for n in range(-(-chunk // most), 2 * chunk // most + 1) if chunk % n == 0), most
        )

    return tuple([edge(level.chunks[place], level.shape[place]) for place in map(names.index, VOLUME)])


def fitting_tile(spec: PyramidSpec, displayed: Displayed = PLANE) -> tuple[int, int]:
    """A tile (rows, columns) that suits the chunks of level 0."""
    level, names = spec.levels[0], spec.axis_names
    places = [names.index(name) for name in displayed]
    edges = [(level.chunks[i], level.shape[i]) for i in places]
    if any(chunk >= length > 1024 for chunk, length in edges):
        # bands of whole rows, as in plain files: their other edge is no one's choice
        return DEFAULT_TILE, DEFAULT_TILE
    return _fitting_edge(*edges[0]), _fitting_edge(*edges[1])


def _fitting_edge(chunk: int, length: int) -> int:
    """A tile edge from 128 to 1024 for chunks of this edge: whole chunks if it can be, else a whole part of
    one, so that few chunks are decoded more than once. 256 where chunks say nothing: one for the whole axis, or
    thin ones."""
    if chunk >= length or chunk < 32:
        return DEFAULT_TILE
    if chunk > 1024:
        parts = range(-(-chunk // 1024), chunk // 256 + 1)
        return next((chunk // n for n in parts if chunk % n == 0), 512)
    return chunk if chunk >= 128 else chunk * (DEFAULT_TILE // chunk)
