"""Tiles as one vispy visual. Main thread only.

Coordinates of the visual are base coordinates of the layer: x right, y down. Two ways to draw it:

* offscreen, through ``Canvas.draw`` after ``set_view``: the frame is axis-aligned, pixels are placed in float64,
  and each shows the texel under its centre, exactly;
* in anybody's ``SceneCanvas``, where vispy's transforms place it.

Contrast, gamma, colormap, opacity and the aids are uniforms: changing them uploads no texel and builds no
shader. ``interpolation="linear"`` is the mean over the pixel's area, at least one texel wide: bilinear when
magnified, free of sparkle when minified up to two texels per pixel (then up to eight, a little softer at tile
borders). ``nearest`` is the texel under the pixel's centre at every zoom.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Rect
from octree.pyramid.model import TileKey
from octree.render.cover import Cover
from octree.render.gl import colors
from octree.render.gl.library import Visual, gloo
from octree.render.gl.marks import (
    CROSSES,
    FAILED_COLOR,
    HATCH,
    PENDING_COLOR,
    TRANSLUCENT,
    Area,
    MarksVisual,
    level_color,
)
from octree.render.gl.quads import VERTEX, Quads, corner_indices, exact_vertices, place_quads, plain_vertices
from octree.render.gl.texture_atlas import Atlas
from octree.render.loading.requests import LoadKey

Blending = Literal["translucent", "additive", "opaque"]
Interpolation = Literal["nearest", "linear"]

_BLEND: dict[str, dict[str, Any]] = {
    "translucent": TRANSLUCENT,
    "additive": {"blend": True, "blend_func": ("src_alpha", "one", "one", "one")},
    "opaque": {"blend": False},
}
_TEXEL_MAX = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


class TiledImageVisual(Visual):  # type: ignore[misc] # vispy has no type information
    """Draws a ``Cover`` from an ``Atlas``: one draw call per page.

    ``clim`` is in values of the texels (0 to 255, 0 to 65535, or floats). ``rgb``: tiles have samples
    (2 gray and alpha, 3 RGB, 4 RGBA). ``labels``: tiles are (h, w, 4) uint8, the little-endian bytes of ids.
    ``nan_color`` is RGBA, not premultiplied.
    """

    def __init__(
        self,
        atlas: Atlas,
        *,
        clim: tuple[float, float] = (0.0, 1.0),
        gamma: float = 1.0,
        colormap: str = "gray",
        opacity: float = 1.0,
        blending: Blending = "translucent",
        interpolation: Interpolation = "nearest",
        labels: bool = False,
        rgb: bool = False,
        nan_color: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
        show_grid: bool = False,
        mark_pending: bool = False,
    ) -> None:
        self._atlas = atlas
        self._defines = {"LABELS"} if labels else {"RGB"} if rgb else set[str]()
        self._built: frozenset[str] | None = None  # None: nothing is bound yet
        self._cover: Cover | None = None
        self._quads: Quads | None = None
        self._view: tuple[Rect, tuple[int, int]] | None = None
        self._marks: MarksVisual | None = None
        self._state = ""
        self._stale = True
        self._pages: list[tuple[int, NDArray[np.void]]] = []
        self._buffer = gloo.VertexBuffer(np.zeros(4, VERTEX))
        self._indices = gloo.IndexBuffer(corner_indices(1))
        self._index_count = 1
        self._uniforms: dict[str, Any] = {}
        self.shader_builds = 0
        super().__init__(*self._sources())
        self._draw_mode = "triangles"
        self._table: Any = None
        self._table_stale = True
        self._part = ((0, 0), (1, 1))
        self._origin = (0.0, 0.0)
        self._clim, self._gamma, self._strength, self._colormap = clim, gamma, 1.0, colormap
        self._nan_color, self._blending, self._interpolation = nan_color, blending, interpolation
        self.clim, self.nan_color = clim, nan_color
        self._set_opacity(opacity)  # vispy's nodes have a property of this name, which is not ready yet
        self.blending, self.interpolation = blending, interpolation
        self.gamma, self.colormap = gamma, colormap
        self.show_grid, self.mark_pending = show_grid, mark_pending

    # what to draw

    def set_cover(
        self,
        cover: Cover,
        key_of: Callable[[TileKey], LoadKey],
        origin: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Draw this from now on. All tiles of ``cover`` must be resident until it has been drawn.

        ``origin`` (y, x) is a base coordinate near the centre of the view: with vispy's cameras positions are
        sent relative to it, because float32 cannot tell pixels apart beyond 2^24.
        """
        self._cover = cover
        self._quads = place_quads(cover, self._atlas.places([key_of(key) for key in cover.quads.keys]))
        self._origin = origin
        self._bounds_changed()
        self._stale = True
        self.update()

    def set_view(self, view: Rect, size_px: tuple[int, int]) -> None:
        """The frame of ``size_px`` (w, h) shows ``view`` (base coordinates of this layer), for ``Canvas.draw``."""
        self._defines.add("EXACT")
        self._defines.discard("AFFINE")
        if self._view != (view, size_px):
            self._view = (view, size_px)
            self._stale = True

    # how to draw it

    @property
    def clim(self) -> tuple[float, float]:
        return self._clim

    @clim.setter
    def clim(self, value: tuple[float, float]) -> None:
        low, high = float(value[0]), float(value[1])
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UsageError(f"contrast limits must be numbers, not {low}, {high}")
        self._clim = (low, high)
        self.update()

    @property
    def gamma(self) -> float:
        return self._gamma

    @gamma.setter
    def gamma(self, value: float) -> None:
        if not value > 0:
            raise UsageError(f"gamma must be above 0, not {value}")
        self._gamma = float(value)
        self.shared_program["u_gamma"] = self._gamma
        self._set_colors()

    @property
    def opacity(self) -> float:
        return self._strength

    @opacity.setter
    def opacity(self, value: float) -> None:
        self._set_opacity(value)

    def _set_opacity(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise UsageError(f"opacity must be from 0 to 1, not {value}")
        self._strength = float(value)
        self.shared_program["u_opacity"] = self._strength
        self._set_colors()

    @property
    def colormap(self) -> str:
        return self._colormap

    @colormap.setter
    def colormap(self, value: str) -> None:
        self._solid_colors = colors.is_solid(value)  # an unknown name fails here, before anything changes
        self._colormap = value
        self._set_colors()

    def _set_colors(self) -> None:
        """Plain gray, or everything that colours can need once one of it was: then no shader changes any more."""
        if self._colormap not in colors.GRAYS or self._gamma != 1.0 or self._strength != 1.0:
            self._defines |= {"TABLE", "OPACITY", "GAMMA"}
        self._table_stale = True
        self.update()

    def _send_table(self) -> None:
        """Colormap and gamma as a table: 16 KiB, and no texel."""
        if not self._table_stale or "TABLE" not in self._defines or self._defines & {"RGB", "LABELS"}:
            return
        self._table_stale = False
        table = colors.color_table(self._colormap, self._gamma)[None]
        if self._table is None:
            self._table = gloo.Texture2D(table, interpolation="nearest", wrapping="clamp_to_edge")
        else:
            self._table.set_data(table)
        self.shared_program["u_table"] = self._table

    @property
    def nan_color(self) -> tuple[float, float, float, float]:
        return self._nan_color

    @nan_color.setter
    def nan_color(self, value: tuple[float, float, float, float]) -> None:
        self._nan_color = value
        self.shared_program["u_nan_color"] = value
        self.update()

    @property
    def blending(self) -> Blending:
        return self._blending

    @blending.setter
    def blending(self, value: Blending) -> None:
        if value not in _BLEND:
            raise UsageError(f"no blending called {value!r}", hint=f"one of {', '.join(_BLEND)}")
        self._blending = value
        self._define("OPAQUE", value == "opaque")

    @property
    def interpolation(self) -> Interpolation:
        return self._interpolation

    @interpolation.setter
    def interpolation(self, value: Interpolation) -> None:
        if value not in ("nearest", "linear"):
            raise UsageError(f"no interpolation called {value!r}", hint="nearest or linear")
        self._interpolation = value
        # a mean of ids is not an id
        self._define("LINEAR", value == "linear" and "LABELS" not in self._defines)
        self._stale = True

    @property
    def show_grid(self) -> bool:
        return self._show_grid

    @show_grid.setter
    def show_grid(self, value: bool) -> None:
        self._show_grid = value
        self._stale = True
        self.update()

    @property
    def mark_pending(self) -> bool:
        return self._mark_pending

    @mark_pending.setter
    def mark_pending(self, value: bool) -> None:
        self._mark_pending = value
        self._stale = True
        self.update()

    def _define(self, name: str, on: bool) -> None:
        (self._defines.add if on else self._defines.discard)(name)
        self.update()

    # drawing

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """Draw one part of the frame given to ``set_view``; see ``Canvas.draw``."""
        self._part = (offset_px, size_px)
        self._set("u_part", (*offset_px, *size_px))
        self.draw()

    def draw(self) -> None:
        """Draw now, into the current framebuffer. (vispy's own draw knows one draw call only.)"""
        if not self.visible or self._prepare_draw(self) is False:
            return
        blending = self._effective_blending()
        if blending != self._state:
            self._state = blending
            self.set_gl_state(None, depth_test=False, cull_face=False, **_BLEND[blending])
        self._configure_gl_state()
        self._send_table()
        for page, vertices in self._pages:
            self._use_page(page)
            self._buffer.set_data(vertices)
            self._grow_indices(len(vertices) // 4)
            self._program.draw("triangles", self._indices)
        if self._marks is not None:
            self._marks.opacity = self._strength
            self._marks.set_part(*self._part)
            self._marks.draw()

    def _prepare_draw(self, view: Any = None) -> bool:
        if self._quads is None or self._cover is None:
            return False
        if self._view is None:
            self._place(self._quads)
        if self._stale:
            self._stale = False
            self._pages = list(self._split(self._quads))
            self._mark(self._quads, self._cover)
        return True

    def _split(self, quads: Quads) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Vertices of each page."""
        if self._view is not None:
            vertices, pages = exact_vertices(quads, *self._view, nearest="LINEAR" not in self._defines)
        else:
            vertices, pages = plain_vertices(quads, self._origin if "AFFINE" in self._defines else (0.0, 0.0))
        edges = [0, *(np.flatnonzero(np.diff(pages)) + 1), len(pages)]
        for first, last in itertools.pairwise(edges):
            if last > first:
                yield int(pages[first]), vertices[4 * first : 4 * last]

    def _place(self, quads: Quads) -> None:
        """For vispy's cameras: as long as they are affine, map the origin in float64 and add small numbers to it
        on the GPU. Otherwise (perspective, polar) their own float32 arithmetic must do."""
        y, x = self._origin
        span = max(float(np.abs(quads.dest - np.tile(self._origin, 2)).max(initial=0.0)), 1.0)
        corners = np.array(
            [[x, y, 0, 1], [x + span, y, 0, 1], [x, y + span, 0, 1], [x + span, y + span, 0, 1]]
        )
        mapped = np.asarray(self.transforms.get_transform().map(corners), np.float64)
        zero, right, down = mapped[0], mapped[1] - mapped[0], mapped[2] - mapped[0]
        off = np.abs(zero + right + down - mapped[3]).max()
        affine = bool(
            np.allclose(mapped[:, 3], 1.0) and off <= 1e-4 * (1 + np.abs(right).max() + np.abs(down).max())
        )
        if affine != ("AFFINE" in self._defines):
            self._define("AFFINE", affine)
            self._stale = True
        for name, value in (("u_zero", zero), ("u_right", right / span), ("u_down", down / span)):
            self._set(name, tuple(value.tolist()))

    def _mark(self, quads: Quads, cover: Cover) -> None:
        """What lies over the image: failures always, the rest when asked for."""
        areas = [Area(_rects(cover.failed), FAILED_COLOR, CROSSES)] if cover.failed else []
        if self._mark_pending:
            pending = np.concatenate([quads.dest[quads.level != cover.level], _rects(cover.missing)])
            areas.append(Area(pending, PENDING_COLOR, HATCH))
        borders = quads.dest if self._show_grid else _rects(())
        if not (areas or len(borders)):
            self._marks = None
            return
        if self._marks is None:
            self._marks = MarksVisual()
            self._marks.transforms = self.transforms
        tints = [level_color(level) for level in quads.level.tolist()] if self._show_grid else []
        self._marks.set_marks(areas, borders, tints, self._view)

    def _use_page(self, number: int) -> None:
        """Point the shader at one page. Its contrast limits are in what the texture reads (0 to 1)."""
        page = self._atlas.texture(number)
        self._define_float(page.dtype_name == "float32")
        if self._built is None or self._built != self._defines:
            self._rebuild()
        low, high = self._clim
        full = _TEXEL_MAX[page.dtype_name]
        gain = full / (high - low) if high != low else 3e38
        if high == low and full > 1:
            low += 0.25  # a step between whole numbers: equal limits show everything above them white
        self._set("u_page", page)
        self._set("u_page_px", (page.shape[1], page.shape[0]))
        self._set("u_window", (low / full, min(max(gain, -3e38), 3e38)))
        if "RGB" in self._defines:
            self._set("u_samples", float(page.samples))

    def _set(self, name: str, value: Any) -> None:
        """Set a uniform that seldom changes; vispy takes its time for each."""
        if self._uniforms.get(name) != value:
            self._uniforms[name] = value
            self.shared_program[name] = value

    def _effective_blending(self) -> Blending:
        """Blending costs a software rasteriser a quarter of the frame: none where every pixel is opaque. (In a
        scene of vispy a filter may change that.)"""
        if (
            self._view is None
            or self._blending != "translucent"
            or self._strength < 1
            or not self._solid_colors
        ):
            return self._blending
        samples = {self._atlas.texture(page).samples for page, _ in self._pages}
        floats = any(self._atlas.texture(page).dtype_name == "float32" for page, _ in self._pages)
        if "LABELS" in self._defines or (floats and self._nan_color[3] < 1) or samples & {2, 4}:
            return self._blending
        return "opaque"

    def _define_float(self, on: bool) -> None:
        (self._defines.add if on else self._defines.discard)("FLOAT")

    def _grow_indices(self, count: int) -> None:
        if count != self._index_count:
            self._indices.set_data(corner_indices(count))
            self._index_count = count

    # vispy's machinery

    def _sources(self) -> tuple[str, str]:
        lines = [f"#define {name}" for name in sorted(self._defines)]
        lines += [f"#define {name} {value}" for name, value in colors.shader_constants().items()]
        head = "\n".join(lines) + "\n"
        here = files("octree.render.gl")
        vertex, fragment = ((here / f"tiled_image.{kind}").read_text("utf-8") for kind in ("vert", "frag"))
        return head + vertex, head + fragment

    def _rebuild(self) -> None:
        self.shared_program.vert, self.shared_program.frag = self._sources()
        self._prepare_transforms(self)
        self.shared_program.bind(self._buffer)
        self._built = frozenset(self._defines)
        self.shader_builds += 1

    def _prepare_transforms(self, view: Any) -> None:
        view.view_program.vert["transform"] = view.transforms.get_transform()

    def _compute_bounds(self, axis: int, view: Any) -> tuple[float, float] | None:
        if self._cover is None or not len(self._cover.quads):
            return None
        dest = self._cover.quads.dest
        low, high = (1, 3) if axis == 0 else (0, 2)
        return (float(dest[:, low].min()), float(dest[:, high].max())) if axis < 2 else (0.0, 0.0)


def _rects(rects: Sequence[Rect]) -> NDArray[np.float64]:
    return np.array(rects, np.float64).reshape(-1, 4)
