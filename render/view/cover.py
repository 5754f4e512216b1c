"""What to draw with what is there: wanted tiles and residency → disjoint quads and ``Coverage``, in one pass.

Every part of the visible image is given to exactly one tile, so opacity and additive blending are right while
tiles are still arriving, and the coverage numbers are the areas of what is drawn, not an estimate. A cell of
the wanted level shows, in this order:

1. its own tile;
2. nothing but a failure pattern, when its own tile could not be read: whatever else is in memory, so that a settled
   view does not depend on what was seen before it;
3. the finer tiles under it, when all of them are resident;
4. the matching part of the nearest resident coarser tile;
5. nothing (missing).

Most views want one level. Where a plan wants tiles of several, each place is a cell of the finest of them that it
lies in, and of the coarsest of their levels where it lies in none: cells are whole tiles, or what finer ones left.

Pure: geometry comes from ``Lattice`` alone, so any factor, odd size and shifted level works, on any number of
displayed axes (d below). Neighbours share their edges to the last bit. Rows of arrays are regions: low, then high on
each axis; on a plane (y0, x0, y1, x1).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice, Region
from octree.pyramid.model import TileKey
from octree.render.view.coverage import Coverage

TOLERANCE = 1e-7
"""Pixels and texels: a centre this close before an edge counts as on it. Cameras are decimal numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class QuadBatch:
    """n disjoint quads; row i shows ``source[i]`` of tile ``keys[i]``, of ``levels[i]``, at ``dest[i]``.

    ``source``  (n, 2 d) float64: region in texels of the tile, 0 the outer corner of its first texel.
                It reaches beyond the tile where an outermost tile stands in for a level that ends early.
    ``dest``    (n, 2 d) float64: region in base coordinates.
    """

    keys: tuple[TileKey, ...]
    levels: NDArray[np.intp]
    source: NDArray[np.float64]
    dest: NDArray[np.float64]
    wanted: NDArray[np.intp] | None = None
    """(n,) the level that is wanted there; None: everywhere the same."""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """The answer. ``missing`` and ``failed`` are base regions, ``level`` is the one that the zoom asks for."""

    quads: QuadBatch
    coverage: Coverage
    missing: tuple[Region, ...]
    failed: tuple[Region, ...]
    level: int
    is_whole: bool
    """Everything shows its own tile: nothing stands in, is missing or has failed."""

    @property
    def pending(self) -> NDArray[np.float64]:
        """Base regions (n, 2 d) that show a stand-in, or nothing yet."""
        quads = self.quads
        wanted = self.level if quads.wanted is None else quads.wanted
        return np.concatenate(
            [quads.dest[quads.levels != wanted], rows_of(self.missing, quads.dest.shape[1] // 2)]
        )

    @property
    def drawn(self) -> frozenset[TileKey]:
        """Each tile that has a quad."""
        return frozenset(self.quads.keys)


def never(_key: TileKey) -> bool:
    return False


def cover_view(
    lattice: Lattice,
    view: Region,
    level: int,
    resident: Callable[[TileKey], bool],
    failed: Callable[[TileKey], bool] = never,
    size_px: tuple[int, int] | None = None,
    *,
    wanted: Collection[TileKey] | None = None,
    ideal_level: int | None = None,
    part: tuple[Region, Region] | None = None,
    elsewhere: bool = True,
    ideal_levels: Mapping[TileKey, int] | None = None,
) -> Cover:
    """Cover the part of ``view`` (base coordinates) that the image fills, wanting ``level``.

    With ``size_px`` (width, height) of a plane's frame, coverage counts its pixels: each belongs to what covers its
    centre, as it is drawn. Without, coverage measures areas, or volumes. It counts against ``ideal_level``, by default
    the wanted one.

    ``wanted``  tiles of several levels that are wanted instead of one ``level``; coverage counts what each place wants. Not
                ``elsewhere``: where none of them is nothing is looked for, nor said to be missing. ``ideal_levels``: of a
                plan that lacks room, what is wanted where each of these tiles is.

    ``part``  only the tiles that meet a region (base coordinates), and only the pixels (y, x) of another are counted.
              Each tile is shown where it would be in the whole.

    ``resident`` and ``failed`` are asked about
    tiles of any level; to make several channels appear together, ``resident`` asks for all of them.
    """
    visible = view.intersect(lattice.extent)
    if visible.is_empty or (part is not None and part[0].intersect(visible).is_empty):
        quads = _batch(lattice, (), np.zeros((0, 2 * len(visible.low))))
        return Cover(quads, Coverage(), (), (), level, is_whole=True)
    missing: list[Region] = []
    broken: list[Region] = []
    tiles = _Tiles(lattice, resident)
    # most frames are all ideal: whole arrays for what is there, one by one only for what is not
    within = part[0] if part else None
    if wanted:
        keys, dest = tiles.mixed(wanted, visible, within, elsewhere=elsewhere)
    else:
        keys, dest = tiles.cells(level, visible, within)
    own: list[int] = []  # of several levels: what each quad wants
    asked = {} if ideal_levels is None else ideal_levels
    there = [resident(key) for key in keys]
    if not all(there):
        painted: list[tuple[TileKey, Region]] = []
        absent = np.logical_not(there)
        for key, cell in zip(itertools.compress(keys, absent), regions_of(dest[absent]), strict=True):
            if failed(key):
                broken.append(cell)
            elif (pieces := tiles.finer(key.level - 1, cell)) is not None:
                painted += pieces
            else:
                tiles.coarser(key.level + 1, cell, painted, missing)
            own += [asked.get(key, key.level)] * (len(painted) - len(own))
        own = (
            [*(asked.get(key, key.level) for key in itertools.compress(keys, there)), *own] if wanted else own
        )
        keys = [*itertools.compress(keys, there), *(key for key, _ in painted)]
        others = np.array([cell for _, cell in painted], np.float64).reshape(-1, dest.shape[1])
        dest = np.concatenate([dest[~absent], others])
    elif wanted:
        own = [asked.get(key, key.level) for key in keys]
    quads = _batch(lattice, tuple(keys), dest, own if wanted else None)
    areas = _areas
    if size_px is not None:
        areas = functools.partial(_pixels, view, size_px, part[1] if part else None)
    ideal = level if ideal_level is None else ideal_level
    coverage = _coverage(quads, missing, broken, areas, ideal)
    return Cover(quads, coverage, tuple(missing), tuple(broken), ideal, is_whole=all(there))


class _Tiles:
    """What could be drawn where, for one ``cover_view``."""

    def __init__(self, lattice: Lattice, resident: Callable[[TileKey], bool]) -> None:
        self._lattice = lattice
        self._resident = resident
        self._known: dict[tuple[int, int, float, float], tuple[range, list[float]]] = {}

    def cells(
        self, level: int, region: Region, within: Region | None = None
    ) -> tuple[list[TileKey], NDArray[np.float64]]:
        """Tiles of ``level`` that meet ``region``, and the parts of it they are responsible for, (n, 2 d): a
        partition. Of them those that meet ``within``."""
        numbers, edges = self._spans(level, region, within)
        index, axes = self._lattice.levels[level].index, len(edges)
        new = tuple.__new__  # a named tuple's own constructor takes twice the time, and this is the hot spot
        keys = [new(TileKey, (level, index, grid)) for grid in itertools.product(*numbers)]
        dest = np.empty((*map(len, numbers), 2 * axes))
        for axis, along in enumerate(edges):
            ends = np.array(along).reshape(-1, *[1] * (axes - 1 - axis))
            dest[..., axis], dest[..., axes + axis] = ends[:-1], ends[1:]
        return keys, dest.reshape(-1, 2 * axes)

    def mixed(
        self,
        wanted: Collection[TileKey],
        region: Region,
        within: Region | None = None,
        *,
        elsewhere: bool = True,
    ) -> tuple[list[TileKey], NDArray[np.float64]]:
        """As ``cells``, of tiles of several levels: a tile that finer ones cut is in it once for each part. Where none is
        wanted, a tile of the coarsest of their levels is; with ``elsewhere`` False nothing is."""
        chosen = [{key.grid for key in wanted if key.level == n} for n in range(len(self._lattice.levels))]
        coarsest = max(key.level for key in wanted)
        cut: list[set[tuple[int, ...]]] = [set()]  # by level: tiles over wanted ones of finer levels
        for level in range(coarsest):
            cut.append(self._over(level, chosen[level] | cut[level], region))
        if not (cut[coarsest] or elsewhere) and within is None:
            return self.listed(coarsest, chosen[coarsest], region)
        found: list[tuple[TileKey, Region]] = []

        def divide(level: int, tiles: Iterable[tuple[TileKey, Region]], owner: TileKey | None) -> None:
            for key, part in tiles:
                mine = key if key.grid in chosen[level] or (owner is None and elsewhere) else owner
                if key.grid in cut[level]:
                    divide(level - 1, self.few(level - 1, part), mine)
                elif mine is not None and (within is None or not part.intersect(within).is_empty):
                    found.append((mine, part))

        few = self.few(coarsest, region)
        if not elsewhere:
            few = self.some(coarsest, sorted(chosen[coarsest] | cut[coarsest]), region)
        divide(coarsest, few, None)
        cells = np.array([cell for _, cell in found], np.float64).reshape(-1, 2 * len(region.low))
        return [key for key, _ in found], cells

    def _over(self, level: int, grids: Collection[tuple[int, ...]], region: Region) -> set[tuple[int, ...]]:
        """Tiles of the next coarser level over what tiles of ``level`` are responsible for in ``region``."""
        below, above = self._lattice.levels[level], self._lattice.levels[level + 1]
        along: list[dict[int, range]] = []
        for axis, (low, high) in enumerate(zip(*region, strict=True)):
            origin, size = below.origin[axis], below.scale[axis] * below.tile[axis]
            last, over = below.tile_counts[axis] - 1, {}
            for number in {grid[axis] for grid in grids}:
                # the outermost tiles answer for what lies beyond
                start = max(origin + number * size, low) if number else low
                stop = min(origin + (number + 1) * size, high) if number < last else high
                if start < stop:
                    over[number] = range(*above.blocks_along(axis, start, stop))
            along.append(over)
        none = range(0)
        found = set[tuple[int, ...]]()
        for grid in grids:
            found.update(
                itertools.product(*[over.get(number, none) for over, number in zip(along, grid, strict=True)])
            )
        return found

    def few(self, level: int, region: Region) -> Iterator[tuple[TileKey, Region]]:
        """The same, one by one: faster for a handful."""
        numbers, edges = self._spans(level, region)
        index = self._lattice.levels[level].index
        grids = itertools.product(*numbers)
        if max(map(len, edges)) == 2:
            yield TileKey(level, index, next(grids)), region
            return
        lows = itertools.product(*[along[:-1] for along in edges])
        highs = itertools.product(*[along[1:] for along in edges])
        for grid, low, high in zip(grids, lows, highs, strict=True):
            yield TileKey(level, index, grid), Region(low, high)

    def some(
        self, level: int, grids: Iterable[tuple[int, ...]], region: Region
    ) -> Iterator[tuple[TileKey, Region]]:
        """The same of some of the tiles, whether they meet ``region`` or not."""
        numbers, edges = self._spans(level, region)
        index = self._lattice.levels[level].index
        for grid in grids:
            if all(number in along for number, along in zip(grid, numbers, strict=True)):
                places = [number - along.start for number, along in zip(grid, numbers, strict=True)]
                low = tuple([along[place] for along, place in zip(edges, places, strict=True)])
                high = tuple([along[place + 1] for along, place in zip(edges, places, strict=True)])
                yield TileKey(level, index, grid), Region(low, high)

    def listed(
        self, level: int, grids: Iterable[tuple[int, ...]], region: Region
    ) -> tuple[list[TileKey], NDArray[np.float64]]:
        """As ``some``, of thousands at once."""
        numbers, edges = self._spans(level, region)
        ordered = sorted(grids)
        places = np.array(ordered).reshape(-1, len(numbers)) - [along.start for along in numbers]
        met = np.flatnonzero(((places >= 0) & (places < [len(along) for along in numbers])).all(axis=1))
        ends = [
            np.array(along)[places[met, axis] + side] for side in (0, 1) for axis, along in enumerate(edges)
        ]
        index, new = self._lattice.levels[level].index, tuple.__new__
        keys = [new(TileKey, (level, index, ordered[number])) for number in met.tolist()]
        return keys, np.column_stack(ends)

    def _spans(
        self, level: int, region: Region, within: Region | None = None
    ) -> tuple[list[range], list[list[float]]]:
        """Along each axis: numbers of the tiles that meet ``region``, and their edges, cut to it. Of them those that
        meet ``within``, if any do."""
        numbers, edges = [], []
        for axis, ends in enumerate(zip(*region, strict=True)):
            tiles, along = self._span(level, axis, *ends)
            if within is not None:
                low, high = max(ends[0], within.low[axis]), min(ends[1], within.high[axis])
                begin, end = self._lattice.levels[level].blocks_along(axis, low, high)
                begin, end = max(begin, tiles.start), min(end, tiles.stop)
                tiles, along = range(begin, end), along[begin - tiles.start : end - tiles.start + 1]
            numbers.append(tiles)
            edges.append(along)
        return numbers, edges

    def _span(self, level: int, axis: int, low: float, high: float) -> tuple[range, list[float]]:
        """The same along one axis; parts of a view share their ends."""
        known = self._known.get((level, axis, low, high))
        if known is None:
            info = self._lattice.levels[level]
            first, stop = info.blocks_along(axis, low, high)
            origin, size = info.origin[axis], info.scale[axis] * info.tile[axis]
            edges = [low, *[origin + size * number for number in range(first + 1, stop)], high]
            known = self._known[level, axis, low, high] = range(first, stop), edges
        return known

    def finer(self, level: int, region: Region) -> list[tuple[TileKey, Region]] | None:
        """Tiles finer than the wanted level that cover ``region`` completely, or None."""
        if level < 0:
            return None
        pieces: list[tuple[TileKey, Region]] = []
        for key, cell in self.few(level, region):
            if self._resident(key):
                pieces.append((key, cell))
            elif (more := self.finer(level - 1, cell)) is not None:
                pieces += more
            else:
                return None
        return pieces

    def coarser(
        self, level: int, region: Region, painted: list[tuple[TileKey, Region]], missing: list[Region]
    ) -> None:
        """Paint ``region`` from ``level`` and coarser ones; what no level has goes to ``missing``."""
        if level >= len(self._lattice.levels):
            missing.append(region)
            return
        for key, cell in self.few(level, region):
            if self._resident(key):
                painted.append((key, cell))
            else:
                self.coarser(level + 1, cell, painted, missing)


def regions_of(rows: NDArray[np.float64]) -> list[Region]:
    """(n, 2 d) → n regions."""
    return [Region(tuple(low), tuple(high)) for low, high in rows.reshape(len(rows), 2, -1).tolist()]


def rows_of(regions: Sequence[Region], axes: int = 2) -> NDArray[np.float64]:
    """n regions → (n, 2 d), d being ``axes``."""
    return np.array(regions, np.float64).reshape(-1, 2 * axes)


def _batch(
    lattice: Lattice, keys: tuple[TileKey, ...], dest: NDArray[np.float64], wanted: list[int] | None = None
) -> QuadBatch:
    axes = dest.shape[1] // 2
    levels = np.array([key[0] for key in keys], np.intp)
    grid = np.array([key[2] for key in keys], np.float64).reshape(-1, axes)
    size = np.array([(info.scale, info.origin, info.tile) for info in lattice.levels])[levels]
    scale, origin, tile = size[:, 0], size[:, 1], size[:, 2]
    corner = origin + scale * (grid * tile)
    source = (dest.reshape(-1, 2, axes) - corner[:, None]) / scale[:, None]
    own = None if wanted is None else np.array(wanted, np.intp)
    return QuadBatch(keys, levels, source.reshape(-1, 2 * axes), dest, own)


def _areas(regions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas or volumes of regions, (n, 2 d) → (n,)."""
    low, high = np.hsplit(regions, 2)
    area: NDArray[np.float64] = (high - low).prod(axis=1)
    return area


def pixel_edges(dest: NDArray[np.float64], view: Region, size_px: tuple[int, int]) -> NDArray[np.float64]:
    """(n, 4) whole pixels (y0, x0, y1, x1) whose centres lie in ``dest``, cut to the frame of ``size_px``
    (w, h) that shows ``view``. Regions that share an edge share it here too: watertight."""
    size = np.array([size_px[1], size_px[0]] * 2, np.float64)
    corner = np.array(view.low * 2)
    px_per_base = size / np.array(view.size * 2)
    edges: NDArray[np.float64] = np.ceil((dest - corner) * px_per_base - (0.5 + TOLERANCE))
    return np.minimum(np.maximum(edges, 0.0), size)


def _pixels(
    view: Region, size_px: tuple[int, int], part: Region | None, regions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How many pixel centres each region covers, (n, 4) → (n,): whole numbers; of ``part``, pixels (y, x), alone."""
    edges = pixel_edges(regions, view, size_px)
    if part is not None:
        edges = np.clip(edges, (*part.low, *part.low), (*part.high, *part.high))
    return _areas(edges)


def _coverage(
    quads: QuadBatch,
    missing: list[Region],
    failed: list[Region],
    areas: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    wanted: int,
) -> Coverage:
    covered = areas(quads.dest)
    sums = np.bincount(quads.levels, covered)
    lost, holes = (
        float(areas(rows_of(regions, quads.dest.shape[1] // 2)).sum()) if regions else 0.0
        for regions in (failed, missing)
    )
    whole = float(sums.sum()) + lost + holes
    if not whole:  # the image is in view, but under no pixel's centre
        return Coverage()
    lost, holes = lost / whole, holes / whole
    by_level = {int(level): float(sums[level]) / whole for level in np.flatnonzero(sums)}
    if quads.wanted is not None:
        off = quads.levels - quads.wanted
        below, above = (float(covered[side].sum()) / whole for side in (off < 0, off > 0))
        ideal = max(0.0, 1.0 - (below + above + lost + holes)) if (off == 0).any() else 0.0
        return Coverage(ideal, below, above, lost, holes, by_level)
    finer = sum((part for level, part in by_level.items() if level < wanted), 0.0)
    coarser = sum((part for level, part in by_level.items() if level > wanted), 0.0)
    # the rest, so that a frame which is all ideal says exactly 1
    ideal = max(0.0, 1.0 - (finer + coarser + lost + holes)) if wanted in by_level else 0.0
    if wanted in by_level:
        by_level[wanted] = ideal
    return Coverage(ideal, finer, coarser, lost, holes, by_level)
