"""Drawing by itself: frames, uploads, cover. Prints a Markdown table.

The yardstick is a bare program in the same run (``_bare.py``). Rounds of both alternate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _bare import Bare

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.pyramid.model import TileKey
from octree.render.gl.canvas import Canvas
from octree.render.gl.library import gl
from octree.render.gl.quads import exact_vertices, place_quads
from octree.render.gl.texture_atlas import Atlas
from octree.render.gl.tiled_image import TiledImageVisual
from octree.render.loading.values import LoadedTile, LoadKey
from octree.render.view.cover import Cover, cover_view

SIZE = (1024, 768)
TILE = 256
ROUNDS = 240
PLANE = Lattice((LatticeLevel((2**16, 2**16), (TILE, TILE), (1.0, 1.0), (0.0, 0.0)),))
RNG = np.random.default_rng(0)


def key_of(tile: TileKey) -> LoadKey:
    return LoadKey("bench", 0, tile)


def tile_at(row: int, col: int, data: Any) -> LoadedTile:
    return LoadedTile(key_of(TileKey(0, (), (row, col))), data, data.nbytes, 0.0)


def data_of(dtype: str, samples: int) -> Any:
    shape = (TILE, TILE) if samples == 1 else (TILE, TILE, samples)
    if dtype == "float32":
        return RNG.random(shape, np.float32)
    return RNG.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def panned(number: int) -> Region:
    """16 pixels a frame, there and back."""
    x = 200.3 + 16 * min(number % 40, 40 - number % 40)
    return Region((100.3, x), (100.3 + SIZE[1], x + SIZE[0]))


def show(visual: TiledImageVisual, cover: Cover) -> None:
    visual.set_cover(cover, [key_of(tile) for tile in cover.quads.keys])


def frame_row(name: str, canvas: Canvas, dtype: str = "uint16", samples: int = 1, **options: Any) -> str:
    """All resident; each frame has a new view: cover, vertices, draw, finish."""
    atlas = Atlas()
    high = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    visual = TiledImageVisual(atlas, clim=(0.0, high), **options)
    for row in range(6):
        for col in range(10):
            atlas.upload(tile_at(row, col, data_of(dtype, samples)))

    def frame(number: int) -> None:
        view = panned(number)
        visual.set_view(view, SIZE)
        show(visual, cover_view(PLANE, view, 0, lambda tile: key_of(tile) in atlas))
        canvas.draw([visual])

    frame(0)
    bare = Bare(visual, panned(0), SIZE)
    canvas.draw([bare])
    theirs, ours = [], []
    for number in range(ROUNDS):
        theirs.append(timed(lambda: canvas.draw([bare])))
        ours.append(timed(lambda number=number: frame(number)))
    atlas.close()
    return row_of(name, ours, float(np.median(theirs)), "bare draw of the same quads")


def streaming_row(canvas: Canvas) -> str:
    """500 tiles come in from memory while the view moves on: 9 tiles every 9th frame would be the pan itself,
    here 4 to 5 in each of 120 frames."""
    atlas = Atlas()
    visual = TiledImageVisual(atlas, clim=(0.0, 65535.0))
    tiles = [tile_at(row, col, data_of("uint16", 1)) for col in range(125) for row in range(4)]
    for tile in tiles[:40]:
        atlas.upload(tile)
    ours = []

    def frame(number: int) -> None:
        x = 200.3 + 16 * number
        view = Region((100.3, x), (100.3 + SIZE[1], x + SIZE[0]))
        first = 40 + number * 460 // 120
        for tile in tiles[first : 40 + (number + 1) * 460 // 120]:
            atlas.upload(tile)
        visual.set_view(view, SIZE)
        show(visual, cover_view(PLANE, view, 0, lambda tile: key_of(tile) in atlas))
        canvas.draw([visual])

    visual.set_view(panned(0), SIZE)
    show(visual, cover_view(PLANE, panned(0), 0, lambda tile: key_of(tile) in atlas))
    canvas.draw([visual])
    bare = Bare(visual, panned(0), SIZE)
    canvas.draw([bare])
    theirs = []
    for number in range(120):
        theirs.append(timed(lambda: canvas.draw([bare])))
        ours.append(timed(lambda number=number: frame(number)))
    atlas.close()
    return row_of("frame while 460 tiles come in from memory", ours, float(np.median(theirs)), "bare draw")


def upload_row(name: str, *, gutters: bool) -> str:
    atlas = Atlas(gutters=gutters)
    blocks = [data_of("uint16", 1) for _ in range(200)]
    atlas.upload(tile_at(99, 99, blocks[0]))
    ours = [
        timed(lambda n=n, block=block: atlas.upload(tile_at(n // 20, n % 20, block)))
        for n, block in enumerate(blocks)
    ]
    page = atlas.texture(0)
    gl.glBindTexture(gl.GL_TEXTURE_2D, page._handle)
    theirs = [
        timed(
            lambda block=block: gl.glTexSubImage2D(
                gl.GL_TEXTURE_2D, 0, 0, 0, 0x1903, gl.GL_UNSIGNED_SHORT, block
            )
        )
        for block in blocks
    ]
    atlas.close()
    return row_of(
        name,
        ours,
        float(np.median(theirs)),
        "`glTexSubImage2D` alone",
        3,
    )


def cover_row() -> str:
    view = Region((1000.3, 1000.7), (1000.3 + TILE * 19, 1000.7 + TILE * 29))
    cover = cover_view(PLANE, view, 0, lambda _tile: True)
    places = {
        key_of(tile): (0, 258 * (n % 15), 258 * (n // 15 % 15), 256, 256)
        for n, tile in enumerate(cover.quads.keys)
    }
    spots = np.array(list(places.values()), np.int64)

    def work() -> None:
        cover = cover_view(PLANE, view, 0, lambda tile: key_of(tile) in places)
        exact_vertices(place_quads(cover, spots), view, SIZE, nearest=True)

    return row_of(
        f"cover and vertices of {len(places)} tiles", [timed(work) for _ in range(100)], None, "", 2
    )


def row_of(name: str, ours: list[float], bare: float | None, what: str, digits: int = 1) -> str:
    p50, p99, worst = (float(np.quantile(ours, q)) for q in (0.5, 0.99, 1.0))
    ratio = f"{p50 / bare:.2f} x {what} ({bare:.{digits}f})" if bare else ""
    return f"| {name} | {p50:.{digits}f} | {p99:.{digits}f} | {worst:.{digits}f} | {ratio} |"


def main() -> None:
    with Canvas(SIZE, gl="osmesa") as canvas:
        print(f"Frames of {SIZE[0]} x {SIZE[1]}, {canvas.info.renderer}; milliseconds.\n")
        print("| what | p50 | p99 | max | p50 against |")
        print("|---|---|---|---|---|")
        print(frame_row("frame, all resident, gray uint16, nearest", canvas))
        print(frame_row("the same, viridis", canvas, colormap="viridis"))
        print(frame_row("the same, linear", canvas, interpolation="linear"))
        print(frame_row("the same, opacity 0.5", canvas, opacity=0.5))
        print(frame_row("frame, RGB uint8, nearest", canvas, "uint8", 3, rgb=True))
        print(frame_row("frame, float32 with NaN colour, nearest", canvas, "float32"))
        print(frame_row("frame, labels", canvas, "uint8", 4, labels=True))
        print(streaming_row(canvas))
        print(upload_row("upload of a tile of 256², uint16, for nearest", gutters=False))
        print(upload_row("the same for linear: with gutters, and neighbours' patched", gutters=True))
        print(cover_row())


main()
