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
from collections.abc import Callable, Iterator
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
from octree.render.gl.quads import (
    MISSING,
    VERTEX,
    Quads,
    corner_indices,
    exact_vertices,
    place_quads,
    plain_vertices,
)
from octree.render.gl.texture_atlas import Atlas
from octree.render.loading.requests import LoadKey

Blending = Literal["translucent", "additive", "opaque"]
Interpolation = Literal["nearest", "linear"]

_BLEND: dict[str, dict[str, Any]] = {
    # colours leave the shader premultiplied, so these are right for transparent backgrounds too
    "translucent": {"blend": True, "blend_func": ("one", "one_minus_src_alpha")},
    "additive": {"blend": True, "blend_func": ("one", "one")},
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
        self._kind = "LABELS" if labels else "RGB" if rgb else ""
        self._exact = False
        self._interpolation: Interpolation = interpolation
        self._cover: Cover | None = None
        self._quads: Quads | None = None
        self._origin = (0.0, 0.0)
        self._view: tuple[Rect, tuple[int, int]] | None = None
        self._stale = True
        self._pages: list[tuple[int, NDArray[np.void]]] = []
        self._buffer = gloo.VertexBuffer(np.zeros(4, VERTEX))
        self._indices = gloo.IndexBuffer(corner_indices(1))
        self._index_count = 1
        super().__init__(*self._sources())
        self._draw_mode = "triangles"
        self._table = gloo.Texture2D(
            np.zeros((1, colors.TABLE_SIZE, 4), np.uint8), interpolation="linear", wrapping="clamp_to_edge"
        )
        program = self.shared_program
        program["u_table"] = self._table
        program["u_part"] = (0.0, 0.0, 1.0, 1.0)
        self._aids = [0.0, 0.0, 0.0]
        self._clim = clim
        self.clim, self.gamma, self.opacity = clim, gamma, opacity
        self.colormap, self.nan_color, self.blending = colormap, nan_color, blending
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
        place = self._atlas.place
        self._cover = cover
        self._quads = place_quads(cover, [place(key_of(key)) for key in cover.quads.keys])
        self._origin = origin
        self._stale = True
        self.update()

    def set_view(self, view: Rect, size_px: tuple[int, int]) -> None:
        """The frame of ``size_px`` (w, h) shows ``view`` (base coordinates of this layer), for ``Canvas.draw``."""
        if not self._exact:
            self._exact = True
            self._rebuild()
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
        # equal limits: everything above is white, the limit itself and below black
        gain = 1.0 / (high - low) if high != low else 3e38
        self.shared_program["u_window"] = (low, float(np.clip(gain, -3e38, 3e38)))
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
        self.update()

    @property
    def opacity(self) -> float:
        return self._opacity

    @opacity.setter
    def opacity(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise UsageError(f"opacity must be from 0 to 1, not {value}")
        self._opacity = float(value)
        self.shared_program["u_opacity"] = self._opacity
        self.update()

    @property
    def colormap(self) -> str:
        return self._colormap

    @colormap.setter
    def colormap(self, value: str) -> None:
        self._table.set_data(colors.colormap_table(value)[None])
        self._colormap = value
        self.update()

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
        self.set_gl_state(None, depth_test=False, cull_face=False, **_BLEND[value])
        self._set_aid(0, value == "opaque")

    @property
    def interpolation(self) -> Interpolation:
        return self._interpolation

    @interpolation.setter
    def interpolation(self, value: Interpolation) -> None:
        if value not in ("nearest", "linear"):
            raise UsageError(f"no interpolation called {value!r}", hint="nearest or linear")
        if value != self._interpolation:
            self._interpolation = value
            self._rebuild()
            self.update()

    @property
    def show_grid(self) -> bool:
        return self._aids[1] > 0

    @show_grid.setter
    def show_grid(self, value: bool) -> None:
        self._set_aid(1, value)

    @property
    def mark_pending(self) -> bool:
        return self._aids[2] > 0

    @mark_pending.setter
    def mark_pending(self, value: bool) -> None:
        self._set_aid(2, value)
        self._stale = True

    def _set_aid(self, number: int, on: bool) -> None:
        self._aids[number] = float(on)
        self.shared_program["u_aids"] = tuple(self._aids)
        self.update()

    # drawing

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """Draw one part of the frame given to ``set_view``; see ``Canvas.draw``."""
        self.shared_program["u_part"] = (*offset_px, *size_px)
        self.draw()

    def draw(self) -> None:
        """Draw now, into the current framebuffer. (vispy's own draw knows one draw call only.)"""
        if not self.visible or self._prepare_draw(self) is False:
            return
        self._configure_gl_state()
        for page, vertices in self._pages:
            self._use_page(page)
            self._buffer.set_data(vertices)
            self._grow_indices(len(vertices) // 4)
            self._program.draw("triangles", self._indices)

    def _prepare_draw(self, view: Any = None) -> bool:
        if self._quads is None:
            return False
        if self._stale:
            self._pages = list(self._split(self._quads))
            self._stale = False
        return bool(self._pages)

    def _split(self, quads: Quads) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Vertices of each page."""
        if self._exact and self._view is not None:
            vertices, kept = exact_vertices(quads, *self._view)
        else:
            vertices, kept = plain_vertices(quads, (0.0, 0.0))
        if not self.mark_pending:
            seen = quads.kind[kept] != MISSING
            vertices, kept = vertices.reshape(-1, 4)[seen].ravel(), kept[seen]
        pages = quads.page[kept]
        edges = [0, *(np.flatnonzero(np.diff(pages)) + 1), len(pages)]
        for first, last in itertools.pairwise(edges):
            if last > first:
                yield int(pages[first]), vertices[4 * first : 4 * last]

    def _use_page(self, number: int) -> None:
        program = self.shared_program
        if number < 0:  # patterns only: any texture will do
            program["u_page"], program["u_page_px"] = self._table, (1.0, 1.0)
            program["u_texel_max"], program["u_samples"] = 1.0, 1.0
            return
        page = self._atlas.texture(number)
        program["u_page"] = page
        program["u_page_px"] = (page.shape[1], page.shape[0])
        program["u_texel_max"] = _TEXEL_MAX[page.dtype_name]
        program["u_samples"] = float(page.samples)

    def _grow_indices(self, count: int) -> None:
        if count != self._index_count:
            self._indices.set_data(corner_indices(count))
            self._index_count = count

    # vispy's machinery

    def _sources(self) -> tuple[str, str]:
        lines = [f"#define {name}" for name in (self._kind, self._exact and "EXACT") if name]
        if self._interpolation == "linear" and self._kind != "LABELS":  # a mean of ids is not an id
            lines.append("#define LINEAR")
        for name, value in colors.label_constants().items():
            lines.append(f"#define {name} {value}")
        head = "\n".join(lines) + "\n"
        here = files("octree.render.gl")
        return tuple(head + (here / f"tiled_image.{kind}").read_text("utf-8") for kind in ("vert", "frag"))  # type: ignore[return-value] # two of them

    def _rebuild(self) -> None:
        vertex, fragment = self._sources()
        self.shared_program.vert = vertex
        self.shared_program.frag = fragment
        self._prepare_transforms(self)
        self.shared_program.bind(self._buffer)

    def _prepare_transforms(self, view: Any) -> None:
        view.view_program.vert["transform"] = view.transforms.get_transform()

    def _compute_bounds(self, axis: int, view: Any) -> tuple[float, float] | None:
        if self._cover is None or not len(self._cover.quads):
            return None
        dest = self._cover.quads.dest
        low, high = (1, 3) if axis == 0 else (0, 2)
        return (float(dest[:, low].min()), float(dest[:, high].max())) if axis < 2 else (0.0, 0.0)
