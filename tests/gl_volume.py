"""A small stage for tests of volumes: pyramids in memory, bricks into an atlas, frames out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray_march import Box, Volume

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.gl.canvas import Canvas
from octree.render.gl.volume.brick_atlas import BrickAtlas, BrickPart
from octree.render.gl.volume.march import MarchVisual
from octree.render.loading.values import LoadedTile, LoadKey
from octree.render.view.camera import Camera
from octree.render.view.cover import Cover, cover_view, never, regions_of
from octree.render.view.register import ToBase
from octree.render.view.volume.cells import cells_of
from octree.render.view.volume.orbit import Orbit
from octree.render.view.volume.sight import Sight, rays_of, sight_of

RNG = np.random.default_rng(9)


def load_key(tile: TileKey, source: str = "source") -> LoadKey:
    return LoadKey(source, 0, tile)


def pyramid(
    base: NDArray[Any],
    brick: tuple[int, int, int] = (8, 8, 8),
    factors: Sequence[tuple[int, int, int]] = (),
    shift: float = 0.0,
) -> tuple[Lattice, list[NDArray[Any]]]:
    """Levels by means; ``factors`` (z, y, x) of each after the first. ``shift`` moves coarse levels by so much of a base
    voxel."""
    arrays, scale = [base], np.ones(3)
    infos = [LatticeLevel(base.shape[:3], brick, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))]  # type: ignore[arg-type] # of three
    for factor in factors:
        last = arrays[-1]
        pad = [(0, -n % f) for n, f in zip(last.shape, factor, strict=False)] + [(0, 0)] * (last.ndim - 3)
        whole = np.pad(last, pad, "edge").astype(np.float64)
        shape = [m for n, f in zip(whole.shape, factor, strict=False) for m in (n // f, f)]
        mean = whole.reshape(*shape, *last.shape[3:]).mean(axis=(1, 3, 5))
        arrays.append(mean.astype(base.dtype))
        scale = scale * factor
        infos.append(LatticeLevel(mean.shape[:3], brick, tuple(scale.tolist()), (shift,) * 3))  # type: ignore[arg-type] # of three
    return Lattice(tuple(infos)), arrays


def bricks_of(lattice: Lattice, level: int) -> list[TileKey]:
    counts = lattice.levels[level].tile_counts
    return [TileKey(level, (), grid) for grid in itertools.product(*map(range, counts))]


def look_at(
    lattice: Lattice,
    size_px: tuple[int, int],
    azimuth: float = 0.0,
    elevation: float = 0.0,
    *,
    zoom: float = 1.0,
    fov: float = 0.0,
    roll: float = 0.0,
    at: Sequence[float] | None = None,
    slab: float | None = None,
    clip: Region | None = None,
    world: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Sight:
    """What a camera shows that looks at the middle of a volume, or ``at`` (x, y, z). ``world`` (z, y, x)."""
    z, y, x = lattice.extent.centre if at is None else at[::-1]
    camera = Camera(x=x, y=y, zoom=zoom, orbit=Orbit(z, azimuth, elevation, roll, fov))
    return sight_of(
        camera,
        size_px,
        to_base=ToBase((1.0,) * 3, (0.0,) * 3),
        world=world,
        extent=lattice.extent,
        clip=clip,
        slab=slab,
    )


@dataclass
class VolumeStage:
    """A volume, an atlas and a visual. ``put`` brings bricks in; ``frame`` draws."""

    lattice: Lattice
    arrays: list[NDArray[Any]]
    canvas: Canvas
    atlas: BrickAtlas = field(default_factory=lambda: BrickAtlas(64 * 2**20))
    options: dict[str, Any] = field(default_factory=dict)
    source: str = "source"

    def __post_init__(self) -> None:
        self.visual = MarchVisual(self.atlas, **self.options)
        tiles = [level.tile for level in self.lattice.levels]
        self.part = BrickPart(self.source, tuple(map(max, *tiles)) if len(tiles) > 1 else tiles[0])

    def texels(self, tile: TileKey) -> NDArray[Any]:
        sizes = self.lattice.levels[tile.level].tile
        cut = tuple(slice(n * size, (n + 1) * size) for n, size in zip(tile.grid, sizes, strict=True))
        return np.ascontiguousarray(self.arrays[tile.level][cut])

    def texels_beside(self, tile: TileKey, by: Any) -> NDArray[Any] | None:
        """All of the volume is in memory, wherever there is something of it."""
        grid = tuple(np.add(tile.grid, by).tolist())
        counts = self.lattice.levels[tile.level].tile_counts
        there = all(0 <= n < count for n, count in zip(grid, counts, strict=True))
        return self.texels(TileKey(tile.level, (), grid)) if there else None

    def put(self, tiles: Iterable[TileKey]) -> int:
        total = 0
        for tile in tiles:
            data = self.texels(tile)
            loaded = LoadedTile(load_key(tile, self.source), data, data.nbytes, 0.0)

            def beside(grid: tuple[int, ...], tile: TileKey = tile) -> NDArray[Any] | None:
                return self.texels_beside(tile, np.subtract(grid, tile.grid))

            total += self.atlas.upload(loaded, beside, self.part)
        return total

    def put_all(self) -> VolumeStage:
        for level in range(len(self.arrays)):
            self.put(bricks_of(self.lattice, level))
        return self

    def resident(self, tile: TileKey) -> bool:
        return load_key(tile, self.source) in self.atlas

    def cover(
        self,
        sight: Sight,
        level: int = 0,
        failed: Callable[[TileKey], bool] = never,
        wanted: Collection[TileKey] | None = None,
    ) -> Cover:
        return cover_view(self.lattice, sight.box, level, self.resident, failed, wanted=wanted)

    def boxes(self, cover: Cover) -> list[Box]:
        """What the reference is told of a cover."""
        volumes = [
            Volume(array, info.scale[::-1], info.origin[::-1])  # type: ignore[arg-type] # of three
            for array, info in zip(self.arrays, self.lattice.levels, strict=True)
        ]
        levels = cover.quads.levels.tolist()
        shown = [
            Box(region.low[::-1], region.high[::-1], volumes[level])  # type: ignore[arg-type] # of three
            for region, level in zip(regions_of(cover.quads.dest), levels, strict=True)
        ]
        return [*shown, *(Box(r.low[::-1], r.high[::-1], None) for r in (*cover.failed, *cover.missing))]  # type: ignore[arg-type] # of three

    def show(self, sight: Sight, cover: Cover, step: float = 1.0, *, strides: bool = False) -> None:
        cells = cells_of(self.lattice, cover, sight)
        self.atlas.refresh()
        self.visual.set_cells(
            cells,
            [None if tile is None else load_key(tile, self.source) for tile in cells.keys],
            strides=strides,
        )
        self.visual.set_rays(rays_of(sight, step), sight.voxel)

    def frame(
        self, sight: Sight, cover: Cover | None = None, step: float = 1.0, *, strides: bool = False
    ) -> NDArray[np.uint8]:
        """The frame, (h, w, 4)."""
        self.canvas.resize(sight.size_px)
        self.show(sight, self.cover(sight) if cover is None else cover, step, strides=strides)
        self.canvas.draw([self.visual])
        return self.canvas.read()
