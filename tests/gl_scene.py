"""A small stage for drawing tests: pyramids in memory, tiles into an atlas, frames out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.gl.canvas import Canvas
from octree.render.gl.texture_atlas import Atlas
from octree.render.gl.tiled_image import TiledImageVisual
from octree.render.loading.values import LoadedTile, LoadKey
from octree.render.view.cover import Cover, cover_view


def show(visual: Any, cover: Cover, origin: tuple[float, ...] = (0.0, 0.0)) -> None:
    """Have a visual draw a cover of the tiles that ``load_key`` names."""
    visual.set_cover(cover, [load_key(tile) for tile in cover.quads.keys], origin)


def load_key(tile: TileKey) -> LoadKey:
    return LoadKey("source", 0, tile)


def never(_tile: TileKey) -> bool:
    return False


def halves(base: NDArray[Any], tile: tuple[int, int], levels: int) -> tuple[Lattice, list[NDArray[Any]]]:
    """A pyramid by means of 2 x 2, shapes rounded up, edges repeated."""
    arrays, infos = [base], [LatticeLevel(base.shape[:2], tile, (1.0, 1.0), (0.0, 0.0))]  # type: ignore[arg-type] # a slice of two
    for level in range(1, levels):
        last = arrays[-1]
        pad = [(0, n % 2) for n in last.shape[:2]] + [(0, 0)] * (last.ndim - 2)
        even = np.pad(last, pad, "edge").astype(np.float64)
        mean = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
        arrays.append(mean.astype(base.dtype))
        infos.append(LatticeLevel(mean.shape[:2], tile, (2.0**level,) * 2, (0.0, 0.0)))
    return Lattice(tuple(infos)), arrays


def tiles_of(plane: Lattice, level: int) -> list[TileKey]:
    rows, cols = plane.levels[level].tile_counts
    return [TileKey(level, (), (row, col)) for row in range(rows) for col in range(cols)]


@dataclass
class Stage:
    """An image, an atlas and a visual. ``put`` brings tiles in; ``frame`` draws."""

    lattice: Lattice
    arrays: list[NDArray[Any]]
    canvas: Canvas
    atlas: Atlas = field(default_factory=lambda: Atlas(64 * 2**20, page_px=1024))
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.visual = TiledImageVisual(self.atlas, **self.options)

    def pixels(self, tile: TileKey) -> NDArray[Any]:
        height, width = self.lattice.levels[tile.level].tile
        row, col = tile.grid
        part = self.arrays[tile.level][row * height : (row + 1) * height, col * width : (col + 1) * width]
        return np.ascontiguousarray(part)

    def put(self, tiles: Iterable[TileKey]) -> int:
        """Upload; returns the bytes."""
        total = 0
        for tile in tiles:
            data = self.pixels(tile)
            total += self.atlas.upload(LoadedTile(load_key(tile), data, data.nbytes, 0.0))
        return total

    def resident(self, tile: TileKey) -> bool:
        return load_key(tile) in self.atlas

    def cover(self, view: Region, level: int, failed: Callable[[TileKey], bool] = never) -> Cover:
        return cover_view(self.lattice, view, level, self.resident, failed)

    def frame(
        self,
        view: Region,
        size_px: tuple[int, int],
        level: int = 0,
        failed: Callable[[TileKey], bool] = never,
    ) -> NDArray[np.uint8]:
        """The frame, (h, w, 4)."""
        self.canvas.resize(size_px)
        self.visual.set_view(view, size_px)
        show(self.visual, self.cover(view, level, failed))
        self.canvas.draw([self.visual])
        return self.canvas.read()


def view_at(y: float, x: float, zoom: float, size_px: tuple[int, int]) -> Region:
    """As ``Camera.rect``."""
    height, width = size_px[1] / zoom / 2, size_px[0] / zoom / 2
    return Region((y - height, x - width), (y + height, x + width))


def difference(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Largest difference of two frames, in steps of 255."""
    return int(np.abs(a[..., :3].astype(int) - b[..., :3].astype(int)).max())
