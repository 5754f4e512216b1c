"""What octree draws of a volume in memory, and the yardstick: a bare march of the same samples through one texture of all of
it, with nothing decided, skipped or loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _volume_views import AZIMUTH, ELEVATION, ISO, MOST_OPAQUE, RAMP
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice, LatticeLevel, Region
from octree.render.gl.canvas import Canvas
from octree.render.gl.library import gloo
from octree.render.gl.residents import FORMATS
from octree.render.gl.volume.brick_atlas import BRICK_PX, BrickAtlas, BrickPart
from octree.render.gl.volume.march import MarchVisual
from octree.render.gl.volume.textures import VolumeTexture
from octree.render.loading.values import LoadedTile, LoadKey
from octree.render.view.camera import Camera
from octree.render.view.cover import cover_view
from octree.render.view.register import ToBase
from octree.render.view.volume.cells import Cells, cells_of
from octree.render.view.volume.orbit import Orbit
from octree.render.view.volume.sight import Rays, Sight, rays_of, sight_of

_VERTEX = "#version 130\nin vec2 a_at; void main() { gl_Position = vec4(a_at, 0.0, 1.0); }"
_MARCH = {
    "mip": ("float m = 0.0;", "m = max(m, v);", "color = vec4(vec3(m), 1.0);"),
    "mean": ("float m = 0.0;", "m += v;", "color = vec4(vec3(m / max(stop - at, 1.0)), 1.0);"),
    "alpha": (
        "vec2 m = vec2(0.0);",
        f"m += (1.0 - m.y) * clamp(v / {RAMP}, 0.0, 1.0) * {MOST_OPAQUE} * vec2(v, 1.0); if (m.y > 0.995) break;",
        "color = vec4(m.xxx, m.y);",
    ),
    "iso": (
        "vec3 m = vec3(0.0);",
        f"if (v >= {ISO}) {{ vec3 q = o + (k + 0.5) * d, e = u_texel; m = normalize(vec3("
        "texture(u_all, q + vec3(e.x, 0, 0)).r - texture(u_all, q - vec3(e.x, 0, 0)).r,"
        "texture(u_all, q + vec3(0, e.y, 0)).r - texture(u_all, q - vec3(0, e.y, 0)).r,"
        "texture(u_all, q + vec3(0, 0, e.z)).r - texture(u_all, q - vec3(0, 0, e.z)).r)); break; }",
        "color = vec4(vec3(abs(dot(m, normalize(d)))), 1.0);",
    ),
}


class Bare:
    """Marches through ``volume`` (z, y, x) as one texture, linear."""

    def __init__(self, mode: str, volume: NDArray[Any], rays: Rays) -> None:
        begin, each, end = _MARCH[mode]
        self._program = gloo.Program(
            _VERTEX,
            "#version 130\n"
            "uniform sampler3D u_all; uniform vec3 u_texel; uniform vec3 u_origin; uniform vec3 u_across;"
            "uniform vec3 u_down; uniform vec3 u_step; out vec4 color;"
            "void main() {"
            "  vec3 o = u_origin + gl_FragCoord.x * u_across + gl_FragCoord.y * u_down;"
            "  vec3 d = u_step, a = ceil(-o / d - 0.5), b = ceil((1.0 - o) / d - 0.5), low = min(a, b), high = max(a, b);"
            "  float at = max(max(low.x, low.y), low.z), stop = min(min(high.x, high.y), high.z);"
            f"  {begin}"
            "  for (float k = at; k < stop; k += 1.0) {"
            f"    float v = texture(u_all, o + (k + 0.5) * d).r; {each}"
            "  }"
            f"  {end}"
            "}",
        )
        self._program["a_at"] = np.array([[-1, -1], [3, -1], [-1, 3]], np.float32)
        texture = VolumeTexture(volume.shape, volume.dtype.name, 1, FORMATS[volume.dtype.name, 1])
        texture.interpolation = "linear"
        texture.write([(np.ascontiguousarray(volume), 0, 0, 0)])
        self._program["u_all"] = texture
        size = np.array(volume.shape[::-1], np.float64)
        self._program["u_texel"] = 1 / size
        self._program["u_origin"] = np.add(rays.origin, rays.centre) / size
        for name in ("across", "down", "step"):
            self._program[f"u_{name}"] = np.array(getattr(rays, name)) / size

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        gloo.set_state(blend=False, depth_test=False)
        self._program.draw("triangles")


def sight(
    edge: int,
    size_px: tuple[int, int],
    azimuth: float,
    elevation: float,
    zoom: float,
    slab: float | None = None,
) -> Sight:
    middle = edge / 2
    camera = Camera(middle, middle, zoom, orbit=Orbit(middle, azimuth, elevation))
    extent = Region((0.0,) * 3, (float(edge),) * 3)
    return sight_of(
        camera, size_px, to_base=ToBase((1.0,) * 3, (0.0,) * 3), world=(1.0,) * 3, extent=extent, slab=slab
    )


class Bricks:
    """``volume`` (z, y, x) in the atlas, as one level of bricks."""

    def __init__(self, volume: NDArray[Any]) -> None:
        self._volume = volume
        shape = volume.shape
        level = LatticeLevel(shape, (BRICK_PX,) * 3, (1.0,) * 3, (0.0,) * 3)
        self.lattice = Lattice((level,))
        self.atlas = BrickAtlas(2**30)
        part = BrickPart("bench")
        keys = [self.lattice.key(0, grid) for grid in np.ndindex(*level.tile_counts)]
        self.atlas.reserve((BRICK_PX,) * 3, volume.dtype, part, len(keys))
        for key in keys:
            low = [n * BRICK_PX for n in key.grid]
            data = np.ascontiguousarray(volume[tuple(slice(a, a + BRICK_PX) for a in low)])
            self.atlas.upload(LoadedTile(LoadKey("bench", 0, key), data, data.nbytes, 0.0), part=part)

    def cells(self, view: Sight) -> tuple[Cells, list[LoadKey | None]]:
        cover = cover_view(self.lattice, view.box, 0, lambda key: LoadKey("bench", 0, key) in self.atlas)
        cells = cells_of(self.lattice, cover, view)
        return cells, [None if key is None else LoadKey("bench", 0, key) for key in cells.keys]


def frame_of(
    contender: str,
    mode: Any,
    volume: NDArray[Any],
    size_px: tuple[int, int],
    view: tuple[NDArray[np.float64], float],
) -> Callable[[], Any]:
    canvas = Canvas(size_px)
    seen = sight(len(volume), size_px, AZIMUTH, ELEVATION, view[1])
    rays = rays_of(seen, 1.0)
    if contender == "bare":
        bare = Bare(mode, volume, rays)
        return lambda: canvas.draw([bare])
    bricks = Bricks(volume)
    high, opacity = (65535 * RAMP, MOST_OPAQUE) if mode == "alpha" else (65535.0, 1.0)
    visual = MarchVisual(bricks.atlas, mode=mode, clim=(0.0, high), iso=65535 * ISO, opacity=opacity)

    def frame() -> None:  # as for a camera that has moved
        visual.set_cells(*bricks.cells(seen))
        visual.set_rays(rays_of(seen, 1.0))
        canvas.draw([visual])

    return frame
