"""Any SOURCE as tiles: the lattice that is displayed, and a reader of texels for workers.

``OpenTileSource.read_tile`` is the only place where pixels are read for drawing; it runs in workers only, which
is counted, not assumed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.downsample import METHODS, Method
from octree.pyramid.errors import OutsideError, UsageError
from octree.pyramid.grid import Lattice, lattice_of
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import Box, PyramidSpec, TileKey
from octree.render.loading.guard import ReadCounter
from octree.render.tiles.cancelling import CancellableLevels, Levels
from octree.render.tiles.made_levels import MadeLevels
from octree.render.tiles.open_levels import Opened, open_levels
from octree.render.tiles.texels import texture_dtype, to_texels
from octree.render.view.plan import untiled_lattice
from octree.render.view.state import own_index

UNTILED_PX = 4096
"""Longest side of a texture in plain-image mode: what every OpenGL of the last fifteen years takes."""
DEFAULT_TILE = 256


class OpenTileSource:
    """One source, opened. Satisfies ``loading.requests.TileSource``; see there for threads.

    ``spec``   all levels, the made ones included.  ``lattice``  their geometry.
    ``stored_levels``  how many of them are read and not made; also ``cheap_levels``.
    ``labels``, ``rgb``  how values are taken.  ``samples_shape``  () or (3,), (4,): what follows (h, w).
    ``path``   what to call it.
    """

    private_tiles = True

    def __init__(
        self,
        opened: Opened,
        *,
        tile: tuple[int, int],
        labels: bool,
        single_level: bool,
        untiled: bool,
        recipe: tuple[Any, ...] | None,
    ) -> None:
        levels: Levels = CancellableLevels(opened.levels)
        spec = levels.spec
        self.path, self.labels, self.rgb = opened.path, labels, spec.rgb and not labels
        self.stored_levels = self.cheap_levels = len(spec.levels)
        self._made: MadeLevels | None = None
        if not single_level:
            levels = self._made = MadeLevels(levels, tile, _method(spec, labels=labels))
        self._levels = levels
        self.spec = levels.spec
        lattice = _tiled(lattice_of(self.spec), tile)
        self.lattice: Lattice = untiled_lattice(lattice, UNTILED_PX) if untiled else lattice
        self._texture_dtype = texture_dtype(spec.dtype, labels=labels)
        names = spec.axis_names
        self.samples_shape: tuple[int, ...] = (
            (4,) if labels else (spec.levels[0].shape[names.index("c")],) if self.rgb else ()
        )
        way = f"{opened.identity}|{tile}|{labels}|{single_level}|{untiled}"
        self._token = hashlib.sha256(way.encode()).hexdigest()
        self._version = 0
        self._recipe, self._opened = recipe, opened
        self._reads = ReadCounter()
        self.refused: OutsideError | None = None
        """A tile's file that lay outside of the source's folder: no failure to be drawn, but an end. Any worker sets it."""

    # identity

    @property
    def token(self) -> str:
        return self._token

    @property
    def version(self) -> int:
        return self._version

    def invalidate(self) -> None:
        """The data have changed: tiles read before are no longer this source's."""
        self._version += 1
        if self._made is not None:
            self._made.forget()

    def worker_recipe(self) -> tuple[Any, ...] | None:
        return self._recipe

    def reads_on(self, thread: int) -> int:
        """Reads made by the thread of this ``threading.get_ident()``."""
        return self._reads.on(thread)

    # axes

    def at(self, position: tuple[int, ...]) -> Lattice:
        """The lattice at level-0 positions on the axes that are not displayed, in axis order."""
        return self.lattice.at(
            [own_index(self.spec, position, level) for level in range(len(self.spec.levels))]
        )

    # tiles

    @property
    def texture_dtype(self) -> np.dtype[Any]:
        return self._texture_dtype

    def tile_shape(self, tile: TileKey) -> tuple[int, ...]:
        return (*self.lattice.tile_shape(tile.level, tile.grid), *self.samples_shape)

    def tile_box(self, tile: TileKey) -> Box:
        """The voxels of a tile in its level's array."""
        level = self.spec.levels[tile.level]
        start, stop = [0] * len(level.shape), list(level.shape)
        for place, voxel in zip(self.spec.index_axes, tile.index, strict=True):
            start[place], stop[place] = voxel, voxel + 1
        edges = self.lattice.levels[tile.level].tile
        for name, edge, number in zip("yx", edges, tile.grid[-2:], strict=True):
            place = self.spec.axis_names.index(name)
            start[place] = number * edge
            stop[place] = min((number + 1) * edge, level.shape[place])
        return Box(tuple(start), tuple(stop))

    def read_tile(self, tile: TileKey) -> NDArray[Any]:
        """Texels of one tile: (h, w), or (h, w, samples). Raises what the source raises."""
        self._reads.note()
        try:
            data = self._levels.read(tile.level, self.tile_box(tile))
        except OutsideError as error:
            self.refused = error
            raise
        if self.rgb:
            # of t, c, z, y, x all but c, y, x have length 1 here
            samples = data.reshape(self.samples_shape[0], *data.shape[-2:])
            data = np.moveaxis(samples, 0, -1)
        elif data.ndim > 2:
            data = data.reshape(data.shape[-2:])
        texels = np.ascontiguousarray(to_texels(data, labels=self.labels, rgb=self.rgb))
        if not self._opened.private and (texels.base is not None or texels is data):
            texels = texels.copy()
        return texels

    def describe(self) -> dict[str, Any]:
        """The source as the report names it."""
        tile = self.lattice.levels[0].tile
        return {
            "path": self.path,
            "digest": self._opened.digest(),
            "dtype": self.spec.dtype.name,
            "axes": "".join(self.spec.axis_names),
            "tile": tile[0] if tile[0] == tile[1] else list(tile),
            "levels": [
                {
                    "shape": list(level.shape),
                    "scale": list(level.scale),
                    "translation": list(level.translation),
                }
                for level in self.spec.levels
            ],
        }

    def close(self) -> None:
        """Close the files; nothing can be read any more. Closing twice is harmless."""
        self._opened.close()

    def __enter__(self) -> OpenTileSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_tile_source(
    source: Any,
    *,
    tile: int | None = None,
    labels: bool = False,
    single_level: bool = False,
    untiled: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    allow_outside: bool = False,
) -> OpenTileSource:
    """Open ``source``: the path of a pyramid, or anything ``octree.pyramid.sources.source.open_source`` takes.

    ``tile``          tile edge in pixels; None: what suits the chunks of the source.
    ``labels``        values are ids.
    ``single_level``  do not make levels coarser than the stored ones.
    ``untiled``       each level as one image, or the fewest tiles that textures allow.
    ``limits``        what one chunk, tile or flat image may take.

    ``allow_outside`` what the source names, and links, may lie outside of its folder.

    Raises SourceError, SourceNotFound, OutsideError, UsageError (labels of several samples).
    """
    opened = open_levels(source, labels=labels, limits=limits, allow_outside=allow_outside)
    spec = opened.levels.spec
    try:
        if labels and spec.rgb:
            raise UsageError(
                f"{opened.path} is a colour image, not labels", hint="leave out --labels, or give one channel"
            )
        options = {
            "tile": tile,
            "labels": labels,
            "single_level": single_level,
            "untiled": untiled,
            "limits": limits,
            "allow_outside": allow_outside,
        }
        recipe = (_reopen, str(source), options) if isinstance(source, str | os.PathLike) else None
        return OpenTileSource(
            opened,
            tile=(tile, tile) if tile else _fitting_tile(spec),
            labels=labels,
            single_level=single_level,
            untiled=untiled,
            recipe=recipe,
        )
    except BaseException:
        opened.close()
        raise


def _reopen(path: str, options: Mapping[str, Any]) -> OpenTileSource:
    """In a worker process: the same source again."""
    return open_tile_source(path, **options)


def _method(spec: PyramidSpec, *, labels: bool) -> Method:
    """How levels beyond the stored ones are made: as the stored ones were, else as a build would."""
    for method in METHODS:
        if method == spec.method and not labels:
            return method
    return "mode" if labels or spec.labels or spec.dtype.kind == "b" else "mean"


def _tiled(lattice: Lattice, tile: tuple[int, int]) -> Lattice:
    return Lattice(tuple(replace(level, tile=tile) for level in lattice.levels))


def _fitting_tile(spec: PyramidSpec) -> tuple[int, int]:
    """A tile (y, x) that suits the chunks of level 0."""
    level, names = spec.levels[0], spec.axis_names
    edges = [(level.chunks[i], level.shape[i]) for i in (names.index("y"), names.index("x"))]
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
