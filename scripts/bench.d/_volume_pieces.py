"""Pieces of a volume's frame, each by itself: processor milliseconds, the least of some rounds. Prints Markdown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _volume_march import Bare, Bricks, sight
from _volume_views import AZIMUTH, ELEVATION, volume_of

from octree.pyramid.model import TileKey
from octree.render.gl.canvas import Canvas
from octree.render.gl.volume.brick_atlas import BRICK_PX, BrickAtlas, BrickPart
from octree.render.gl.volume.counting import SampleCounter
from octree.render.gl.volume.march import MarchVisual
from octree.render.loading.values import LoadedTile, LoadKey
from octree.render.view.volume.cells import cells_of
from octree.render.view.volume.cover import cover_volume
from octree.render.view.volume.plan import plan_volume
from octree.render.view.volume.sight import rays_of

EDGE = 512
SIZE = (512, 512)


def least(call: Callable[[], Any], rounds: int) -> float:
    """Processor milliseconds."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        spent.append(1000 * (time.process_time() - start))
    return min(spent)


def pieces(rounds: int) -> None:
    volume = np.tile(volume_of("dense", EDGE // 2), (2, 2, 2))
    canvas = Canvas(SIZE)
    zoom = min(SIZE) / (EDGE * 3**0.5)
    view = sight(EDGE, SIZE, AZIMUTH, ELEVATION, zoom)
    rays = rays_of(view, 1.0)
    bare = Bare("mip", volume, rays)
    canvas.draw([bare])
    bare_ms = least(lambda: canvas.draw([bare]), rounds)
    bricks, counter = Bricks(volume), SampleCounter()
    lattice = bricks.lattice

    def resident(key: Any) -> bool:
        return LoadKey("bench", 0, key) in bricks.atlas

    def told() -> Any:
        plan = plan_volume(lattice, view, max_tiles=1000)
        cover = cover_volume(lattice, plan, view, resident)
        return cells_of(lattice, cover, view)

    def covered() -> Any:
        return cells_of(lattice, cover_volume(lattice, plan, view, resident), view)

    plan = plan_volume(lattice, view, max_tiles=1000)
    some = cells_of(lattice, cover_volume(lattice, plan, view, lambda key: resident(key) and sum(key.grid) % 2 == 0), view)  # fmt: skip
    counter.count(some, rays)
    cells, keys = bricks.cells(view)
    visual = MarchVisual(bricks.atlas, mode="mip", clim=(0.0, 65535.0))
    visual.set_cells(cells, keys)
    slab = sight(EDGE, SIZE, AZIMUTH, ELEVATION, zoom, slab=0.0)
    visual.set_rays(rays_of(slab, 1.0))
    canvas.draw([visual])
    slice_ms = least(lambda: canvas.draw([visual]), rounds)
    count_ms = least(lambda: counter.count(some, rays), rounds)
    cover_ms, plan_ms = least(covered, rounds), least(told, rounds)
    bare_upload_ms, upload_ms, patched_ms = _uploads(rounds)
    print(
        f"\n| a {EDGE}³ uint16 volume of {len(plan.wanted)} bricks, {SIZE[0]}x{SIZE[1]}, linear | ms | of its bare MIP |"
    )
    print("|---|---|---|")
    for name, ms in (
        ("bare MIP", bare_ms),
        ("counting the samples of each level, half of the bricks missing", count_ms),
        ("an oblique slice", slice_ms),
    ):
        print(f"| {name} | {ms:.1f} | {ms / bare_ms:.3f} |")
    print(f"| cover and cells | {cover_ms:.1f} | |\n| plan, cover and cells | {plan_ms:.1f} | |")
    print(f"| upload a brick of 66³ that is padded, bare | {bare_upload_ms:.2f} | |")
    print(f"| pad and upload a brick, its neighbours in memory | {upload_ms:.2f} | |")
    print(f"| the same, its neighbours come one by one | {patched_ms:.2f} | |")
    counter.close()


def _uploads(rounds: int) -> tuple[float, float, float]:
    """Milliseconds for each of 4 x 4 x 4 bricks: a bare call of OpenGL with one that has its gutter; octree's upload, the bricks
    beside it in memory; and where none is before it has come itself."""
    data = {grid: volume_of("dense", BRICK_PX) for grid in np.ndindex(4, 4, 4)}
    some = data[0, 0, 0]
    atlas, part, number = BrickAtlas(2**30), BrickPart("upload"), 0
    texture = atlas.reserve(some.shape, some.dtype, part, len(data) * (2 * rounds + 1))
    assert texture is not None
    padded = np.pad(some, 1, "edge")
    spent: list[list[float]] = [[], [], []]
    slots = [tuple(66 * n for n in np.unravel_index(k, [n // 66 for n in texture.shape[:3]])) for k in range(len(data))]  # fmt: skip

    def upload(beside: Callable[..., Any] | None) -> None:
        for grid, texels in data.items():
            key = LoadKey(f"{number}", 0, TileKey(0, (), grid))
            atlas.upload(LoadedTile(key, texels, texels.nbytes, 0.0), beside, part)
        atlas.refresh()

    for _ in range(rounds):
        spent[0].append(least(lambda: [texture.write([(padded, *slot)]) for slot in slots], 1))
        for times, beside in zip(spent[1:], (data.get, None), strict=True):
            number += 1
            times.append(least(lambda beside=beside: upload(beside), 1))
    atlas.close()
    return tuple([min(times) / len(data) for times in spent])  # type: ignore[return-value] # of three
