"""Tiles as one vispy visual. Main thread only.

Coordinates of the visual are base coordinates of the layer: x right, y down. Two ways to draw it:

* offscreen, through ``Canvas.draw`` after ``set_view``: the frame is axis-aligned, pixels are placed in float64,
  and each shows the texel under its centre, exactly;
* in anybody's ``SceneCanvas``, where vispy's transforms place it.

Colours: ``colored.py``. ``interpolation="linear"`` is the mean over the pixel's area, at least one texel wide: bilinear when
magnified, free of sparkle when minified up to two texels per pixel (then up to eight, a little softer at tile
borders). ``nearest`` is the texel under the pixel's centre at every zoom.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.render.gl.colored import Blending, ColoredVisual, Interpolation
from octree.render.gl.library import gloo
from octree.render.gl.marks import (
    CROSSES,
    FAILED_COLOR,
    HATCH,
    PENDING_COLOR,
    Area,
    MarksVisual,
    level_color,
)
from octree.render.gl.page import PageTexture
from octree.render.gl.quads import VERTEX, Quads, corner_indices, exact_vertices, place_quads, plain_vertices
from octree.render.gl.texture_atlas import Atlas
from octree.render.loading.values import LoadKey
from octree.render.view.cover import Cover, rows_of


class TiledImageVisual(ColoredVisual):
    """Draws a ``Cover`` from an ``Atlas``: one draw call per page.

    ``clim`` is in values of the texels (0 to 255, 0 to 65535, or floats). ``rgb``: tiles have samples
    (2 gray and alpha, 3 RGB, 4 RGBA). ``labels``: tiles are (h, w, 4) uint8, the little-endian bytes of ids.
    ``nan_color`` is RGBA, not premultiplied. ``base``: (offset, scale) of texels, which are (value - offset) * scale of
    values that ``clim`` speaks of.
    """

    _shader = "tiled_image"

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
        base: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self._atlas = atlas
        self.keys: Sequence[LoadKey] = ()
        """The tiles that are drawn, one for each quad."""
        self._cover: Cover | None = None
        self._quads: Quads | None = None
        self._view: tuple[Region, tuple[int, int]] | None = None
        self._origin: tuple[float, ...] = (0.0, 0.0)
        self._part = ((0, 0), (1, 1))
        self._pages: list[tuple[int, NDArray[np.void]]] = []
        self._marks: MarksVisual | None = None
        self._show_grid, self._mark_pending, self._mark_old = show_grid, mark_pending, False
        self._buffer = gloo.VertexBuffer(np.zeros(4, VERTEX))
        self._indices = gloo.IndexBuffer(corner_indices(1))
        self._index_count = 1
        super().__init__(
            clim=clim,
            gamma=gamma,
            colormap=colormap,
            opacity=opacity,
            blending=blending,
            interpolation=interpolation,
            labels=labels,
            rgb=rgb,
            nan_color=nan_color,
            base=base,
        )

    # what to draw

    def set_cover(
        self,
        cover: Cover,
        keys: Sequence[LoadKey],
        origin: tuple[float, ...] = (0.0, 0.0),
    ) -> None:
        """Draw this from now on. ``keys`` are those of its quads, all resident until it has been drawn.

        ``origin`` (y, x) is a base coordinate near the centre of the view: with vispy's cameras positions are
        sent relative to it, because float32 cannot tell pixels apart beyond 2^24.
        """
        self._cover = cover
        self.keys = keys
        self._quads = place_quads(cover, self._atlas.places(keys))
        self._origin = origin
        self._bounds_changed()
        self._stale = True
        self.update()

    def set_view(self, view: Region, size_px: tuple[int, int]) -> None:
        """The frame of ``size_px`` (w, h) shows ``view`` (base coordinates of this layer), for ``Canvas.draw``."""
        self._defines.add("EXACT")
        if self._view != (view, size_px):
            self._view = (view, size_px)
            self._stale = True

    # aids

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

    @property
    def mark_old(self) -> bool:
        """All of it is hatched: it is of a plane that was left, and of the new one there is not enough yet."""
        return self._mark_old

    @mark_old.setter
    def mark_old(self, value: bool) -> None:
        if value != self._mark_old:
            self._mark_old = value
            self._stale = True
            self.update()

    # drawing

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """Draw one part of the frame given to ``set_view``; see ``Canvas.draw``."""
        self._begin_part(offset_px, size_px)
        self.draw()

    def _begin_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        self._part = (offset_px, size_px)
        self._set("u_part", (*offset_px, *size_px))

    def draw(self) -> None:
        """Draw now, into the current framebuffer. (vispy's own draw knows one draw call only.)"""
        if not self.visible or self._prepare_draw(self) is False:
            return
        self._draw_pages([(self._atlas.texture(number), vertices) for number, vertices in self._pages])
        if self._marks is not None:
            self._marks.opacity = self._strength
            self._marks.set_part(*self._part)
            self._marks.draw()

    def rehearse(self, page: PageTexture, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """As ``draw_part``, but a quad of no size from a page: a driver builds its shaders now, a matter of 50 ms,
        and not in the frame that first shows a tile. Where vispy's transforms place the visual, nothing is drawn
        between its own draws: then the driver's last step remains."""
        self._begin_part(offset_px, size_px)
        if self._view is not None:
            self._draw_pages([(page, np.zeros(4, VERTEX))])
        else:
            self._place()
            self._use_colors(page)
            self._program.build_if_needed()

    def _draw_pages(self, pages: list[tuple[PageTexture, NDArray[np.void]]]) -> None:
        self._use_state([page for page, _ in pages], may_skip=self._view is not None)
        self._send_table()
        for page, vertices in pages:
            self._use_colors(page)
            self._buffer.set_data(vertices)
            self._grow_indices(len(vertices) // 4)
            self._program.draw("triangles", self._indices)

    def _prepare_draw(self, view: Any = None) -> bool:
        if self._quads is None or self._cover is None:
            return False
        self._place()
        if self._stale:
            self._stale = False
            self._pages = list(self._split(self._quads))
            self._mark(self._quads, self._cover)
        return True

    def _place(self) -> None:
        """Where vispy's transforms put things now, if they do."""
        if self._view is None:
            placed = self._placing.begin(self.transforms.get_transform(), self._origin)
            self.view_program.vert["transform"] = placed

    def _split(self, quads: Quads) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Vertices of each page."""
        if self._view is not None:
            vertices, pages = exact_vertices(quads, *self._view, nearest="LINEAR" not in self._defines)
        else:
            vertices, pages = plain_vertices(quads, self._origin)
        edges = [0, *(np.flatnonzero(np.diff(pages)) + 1), len(pages)]
        for first, last in itertools.pairwise(edges):
            if last > first:
                yield int(pages[first]), vertices[4 * first : 4 * last]

    def _mark(self, quads: Quads, cover: Cover) -> None:
        """What lies over the image: failures always, the rest when asked for."""
        areas = [Area(rows_of(cover.failed), FAILED_COLOR, CROSSES)] if cover.failed else []
        if self._mark_old:
            areas.append(Area(quads.dest, PENDING_COLOR, HATCH))
        elif self._mark_pending:
            areas.append(Area(cover.pending, PENDING_COLOR, HATCH))
        borders = quads.dest if self._show_grid else rows_of(())
        if self._marks is None:
            if not (areas or len(borders)):
                return
            self._marks = MarksVisual()
            self._marks.transforms = self.transforms
        tints = [level_color(level) for level in quads.level.tolist()] if self._show_grid else []
        self._marks.set_marks(areas, borders, tints, self._view)

    def _grow_indices(self, count: int) -> None:
        if count != self._index_count:
            self._indices.set_data(corner_indices(count))
            self._index_count = count

    # vispy's machinery

    def _bind(self) -> None:
        self.shared_program.bind(self._buffer)

    def _compute_bounds(self, axis: int, view: Any) -> tuple[float, float] | None:
        if self._cover is None or not len(self._cover.quads):
            return None
        dest = self._cover.quads.dest
        low, high = (1, 3) if axis == 0 else (0, 2)
        return (float(dest[:, low].min()), float(dest[:, high].max())) if axis < 2 else (0.0, 0.0)
