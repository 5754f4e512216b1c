"""Volumes by marching: one ray for each pixel, through cells of bricks, in one pass. Main thread only.

What a pixel shows, of the samples of its ray that lie in bricks which are drawn; NaN is no sample:

``mip``, ``minip``     the highest, the lowest value.
``mean``               their mean.
``attenuated-mip``     the highest of x exp(-attenuation * A): x is the value within the contrast limits, 0 to 1, and A what lies
                       before it, the sum of the x of all samples before, times the distance of two (world units).
``alpha``              all, front to back. A sample has the opacity 1 - (1 - opacity x)^distance, and the colour of the colormap;
                       the colormap's own opacity is a factor of ``opacity``. Gamma bends colours, not opacities. It ends where
                       less than 1/200 would show through.
``iso``                the first that is no less than ``iso``, in the colour of the upper limit, under a headlight.

Of colour images, values are compared by brightness (Rec. 709, times alpha), and what is shown is the sample's own colour, in
attenuated-mip darkened by what lies before it; the mean is that of each sample; in ``alpha`` brightness takes the place of x.
Of labels, every mode shows the first id that is not 0, but ``alpha``, where each has the opacity ``opacity`` per world unit.
Pixels whose ray meets nothing of all this are left as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError
from octree.render.gl import colors
from octree.render.gl.colored import Blending, ColoredVisual, Interpolation, Page
from octree.render.gl.library import gloo
from octree.render.gl.page import PageTexture
from octree.render.gl.residents import FORMATS
from octree.render.gl.volume.brick_atlas import BrickAtlas
from octree.render.gl.volume.textures import VolumeTexture
from octree.render.loading.values import LoadKey
from octree.render.view.volume.cells import DRAWN, Cells
from octree.render.view.volume.orbit import Vec
from octree.render.view.volume.sight import Rays

Mode = Literal["mip", "minip", "mean", "attenuated-mip", "alpha", "iso"]
MODES: tuple[Mode, ...] = get_args(Mode)
_DEFINES = {mode: mode.split("-")[0].upper() for mode in MODES}

_NOWHERE = (0.0, 0.0, 0.0)
_UNIFORMS: dict[str, Any] = {
    **dict.fromkeys(("u_first", "u_last", "u_origin", "u_across", "u_down", "u_step"), _NOWHERE),
    **dict.fromkeys(("u_step_across", "u_step_down"), _NOWHERE),
    **dict.fromkeys(("u_counts", "u_world"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("u_range", "u_bounds"), (0.0, 0.0)),
    **dict.fromkeys(("u_rows_high", "u_half", "u_step_world", "u_samples"), 1.0),
    **dict.fromkeys(("u_attenuation", "u_threshold", "u_sample_alpha"), 0.0),
    "u_classes": (0.0, 0.0),
    "u_surface": (0.0, 0.0, 0.0, 0.0),
    "u_frame": (0.0, 0.0, 1.0, 1.0),
}

ROWS_HIGH = 4096
"""Rows of cells that lie one above the other in their texture."""


class Table:
    """A texture of numbers, (h, w[, samples]) or (d, h, w), which is made anew only when it must be larger."""

    def __init__(self, kind: type[PageTexture] | type[VolumeTexture], dtype: str, samples: int = 1) -> None:
        self._kind, self._dtype, self._samples = kind, dtype, samples
        self.texture: Any = None

    def send(self, values: NDArray[Any]) -> None:
        axes = 3 if self._kind is VolumeTexture else 2
        shape, texture = values.shape[:axes], self.texture
        if texture is None or any(n > m for n, m in zip(shape, texture.shape, strict=False)):
            if texture is not None:
                shape = tuple(max(n, m) for n, m in zip(shape, texture.shape, strict=False))
                texture.delete()
            formats = FORMATS[self._dtype, self._samples]
            self.texture = texture = self._kind(shape, self._dtype, self._samples, formats)
        texture.write([(np.ascontiguousarray(values, self._dtype), *(0,) * axes)])

    @property
    def texel(self) -> tuple[float, ...]:
        """Size of a texel, where the whole texture is 1: x, y[, z]."""
        return tuple([1.0 / size for size in reversed(self.texture.shape[:-1])])


class MarchVisual(ColoredVisual):
    """Draws ``Cells`` from a ``BrickAtlas``: one part (channel) of a layer.

    ``mode``  see above. ``iso`` is in values of the texels, None: the middle of the contrast limits. ``attenuation`` per world
    unit. ``stride``: bricks that are so many times coarser than what is wanted take only every so many-th sample. Other
    arguments as for ``TiledImageVisual``.
    """

    _shader = "volume/march"

    def __init__(
        self,
        atlas: BrickAtlas,
        *,
        mode: Mode = "mip",
        iso: float | None = None,
        attenuation: float = 0.01,
        stride: bool = False,
        clim: tuple[float, float] = (0.0, 1.0),
        gamma: float = 1.0,
        colormap: str = "gray",
        opacity: float = 1.0,
        blending: Blending = "translucent",
        interpolation: Interpolation = "linear",
        labels: bool = False,
        rgb: bool = False,
        nan_color: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
        base: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self._atlas = atlas
        self.keys: tuple[LoadKey | None, ...] = ()
        """The brick that each row of the cells shows."""
        self._cells: Cells | None = None
        self._rays: Rays | None = None
        self._world: Vec = (1.0, 1.0, 1.0)
        self._page: int | None = None
        self._sent_uploads = -1
        self._bounds = (0.0, 0.0)
        self._tables = {
            "u_cells": Table(VolumeTexture, "uint16"),
            "u_planes": Table(PageTexture, "float32"),
            "u_rows": Table(PageTexture, "float32", 4),
            "u_transfer": Table(PageTexture, "float32", 4),
        }
        self._transfer_of: tuple[Any, ...] = ()
        self._triangle = gloo.VertexBuffer(np.array([[-1, -1], [3, -1], [-1, 3]], np.float32))
        self._mode: Mode = "mip"
        self.iso, self.attenuation = iso, attenuation
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
        self._defines.add(_DEFINES[self._mode])
        self.mode, self.stride = mode, stride
        for name, value in _UNIFORMS.items():  # vispy warns of any that a shader has, and nobody has set
            self._set(name, value)
        self._send("u_cells", np.zeros((1, 1, 1)))
        self._send("u_planes", np.zeros((3, 2)))
        self._send("u_rows", np.zeros((1, 3, 4)))
        self._send("u_transfer", np.zeros((1, colors.TABLE_SIZE, 4)))

    # how to draw it

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, value: Mode) -> None:
        if value not in MODES:
            raise UsageError(f"no mode called {value!r}", hint=f"one of {', '.join(MODES)}")
        self._define(_DEFINES[self._mode], on=False)
        self._define(_DEFINES[value], on=True)
        self._mode = value

    @property
    def stride(self) -> bool:
        return "STRIDE" in self._defines

    @stride.setter
    def stride(self, value: bool) -> None:
        self._define("STRIDE", value)

    # what to draw

    def set_cells(self, cells: Cells, keys: Sequence[LoadKey | None]) -> None:
        """Draw this from now on. ``keys`` are those of its rows, all resident until it has been drawn; None for rows that
        draw nothing."""
        self._cells, self.keys = cells, tuple(keys)
        self._stale = True
        self.update()

    def set_rays(self, rays: Rays, world: Vec = (1.0, 1.0, 1.0)) -> None:
        """Look along these from now on. ``world``: size of a base voxel (x, y, z) in world units."""
        self._rays, self._world = rays, world
        self.update()

    # drawing

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """Draw one part of the frame; see ``Canvas.draw``."""
        self._set("u_frame", (*map(float, offset_px), 1.0, 1.0))
        self.draw()

    def draw(self) -> None:
        """Draw now, into the current framebuffer."""
        if not self.visible or self._prepare_draw(self) is False:
            return
        if self._page is not None:
            self._draw_page(self._atlas.texture(self._page))

    def rehearse(self, page: VolumeTexture, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """As ``draw_part``, but nothing is seen: a driver builds its shaders now, and not in the frame that first shows a
        brick."""
        self._set("u_frame", (*map(float, offset_px), 1.0, 1.0))
        self._set("u_range", (0.0, 0.0))
        self._draw_page(page)

    def _draw_page(self, page: VolumeTexture) -> None:
        if page.interpolation != (wanted := self._filter):
            page.interpolation = wanted
        self._use_state([page], may_skip=True)
        if self._mode != "alpha":
            self._send_table()
        self._use_colors(page)
        self._program.draw("triangles")

    @property
    def _filter(self) -> Interpolation:
        return "linear" if "LINEAR" in self._defines else "nearest"

    def _prepare_draw(self, view: Any = None) -> bool:
        if self._cells is None or self._rays is None:
            return False
        if (
            self._stale or self._sent_uploads != self._atlas.uploads
        ):  # a gutter may have values of a neighbour now
            self._stale, self._sent_uploads = False, self._atlas.uploads
            self._send_cells(self._cells)
        self._send_rays(self._rays, self._cells)
        return True

    def _send_cells(self, cells: Cells) -> None:
        drawn = [key for key in self.keys if key is not None]
        places = self._atlas.places(drawn)
        pages = np.unique(places[:, 0]).tolist()
        if len(pages) > 1:
            raise ValueError(f"bricks of one part lie in pages {pages}")
        self._page = pages[0] if pages else None
        bounds = self._atlas.bounds(drawn)
        rows = rows_of(cells, [key is not None for key in self.keys], places, bounds)
        lows, highs = bounds[:, 0], bounds[:, 1]
        self._bounds = (float(lows.min()), float(highs.max())) if len(drawn) else (0.0, 0.0)
        self._send("u_cells", cells.cells)
        self._send("u_planes", _padded_planes(cells))
        self._send("u_rows", rows)
        counts = [len(planes) - 1 for planes in cells.planes]
        self._set("u_counts", tuple(map(float, counts)))
        self._set("u_half", float(2 ** math.floor(math.log2(max(counts)))))
        self._set("u_rows_high", float(min(max(len(self.keys), 1), ROWS_HIGH)))
        self._set("u_first", tuple([float(planes[0]) for planes in cells.planes]))
        self._set("u_last", tuple([float(planes[-1]) for planes in cells.planes]))

    def _send(self, name: str, values: NDArray[Any]) -> None:
        """A table for the shader, and the size of its texels."""
        table = self._tables[name]
        before = table.texture
        table.send(values)
        if table.texture is not before:
            self.shared_program[name] = table.texture
            if name != "u_transfer":
                self._set(f"{name}_texel", table.texel)

    def _send_rays(self, rays: Rays, cells: Cells) -> None:
        apart = [ours - theirs for ours, theirs in zip(rays.centre, cells.centre, strict=True)]
        self._set("u_origin", tuple([a + b for a, b in zip(rays.origin, apart, strict=True)]))
        for name in ("across", "down", "step", "step_across", "step_down"):
            self._set(f"u_{name}", tuple(getattr(rays, name)))
        self._set("u_range", (rays.first_k, rays.stop_k))

    def _use_colors(self, page: Page) -> None:
        super()._use_colors(page)
        low, high = sorted(self._texel(limit, page.dtype_name) for limit in self._clim)
        # what lies beyond the limits looks as they do
        self._set("u_bounds", (max(self._bounds[0], low), min(self._bounds[1], high)))
        step = 1.0 if self._rays is None else self._rays.step_world
        self._set("u_step_world", step)
        if self._mode == "attenuated-mip":
            self._set("u_attenuation", self.attenuation * step)
        elif self._mode == "iso":
            threshold = sum(self._clim) / 2 if self.iso is None else self.iso
            self._set("u_threshold", self._texel(threshold, page.dtype_name))
            self._set("u_world", self._world)
            surface = colors.colormap_values(self._colormap, np.ones(1))[0]
            self._set("u_surface", tuple(surface.tolist()))
        elif self._mode == "alpha":
            self._set("u_sample_alpha", 1.0 - (1.0 - self._strength) ** step)
            self._send_transfer(step)

    def _send_transfer(self, step: float) -> None:
        """What one sample of each value adds, premultiplied."""
        look = (str(self._colormap), self._colormap, self._gamma, self._strength, step)
        if self._defines & {"RGB", "LABELS"} or look == self._transfer_of:
            return
        self._transfer_of = look
        self._send("u_transfer", transfer_table(self._colormap, self._gamma, self._strength, step)[None])

    def _is_solid(self, pages: Sequence[Page]) -> bool:
        return self._mode != "alpha" and super()._is_solid(pages)

    # vispy's machinery

    def _prepare_transforms(self, view: Any) -> None:
        """Rays come from uniforms."""

    def _bind(self) -> None:
        self.shared_program["a_position"] = self._triangle

    def _compute_bounds(self, axis: int, view: Any) -> tuple[float, float] | None:
        if self._cells is None:
            return None
        planes, centre = self._cells.planes[axis], self._cells.centre[axis]
        return float(planes[0]) + centre, float(planes[-1]) + centre


def transfer_table(colormap: Any, gamma: float, opacity: float, step: float) -> NDArray[np.float32]:
    """(TABLE_SIZE, 4) premultiplied RGBA that one sample adds, of values from 0 to 1, ``step`` world units long."""
    value = np.linspace(0.0, 1.0, colors.TABLE_SIZE)
    color = colors.colormap_values(colormap, value**gamma)
    alpha = 1.0 - (1.0 - opacity * value * color[:, 3]) ** step
    return np.column_stack([color[:, :3] * alpha[:, None], alpha]).astype(np.float32)


def rows_of(
    cells: Cells, drawn: Sequence[bool], places: NDArray[np.int64], bounds: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(h, 3 b, 4): three texels for each row of the cells, ``ROWS_HIGH`` one above the other in b blocks. ``places`` and
    ``bounds`` are of the rows that are drawn, in their order."""
    count, there = max(len(drawn), 1), np.flatnonzero(drawn)
    rows = np.zeros((count, 3, 4), np.float32)
    rows[:, 0, 3], rows[:, 1, 3] = -np.inf, np.inf  # nothing is as high and as low
    per_unit = 1.0 / np.asarray(cells.scale, np.float64)[there]
    begins = places[:, 3:0:-1].astype(np.float64)  # (x, y, z)
    rows[there, 0, :3] = begins - np.asarray(cells.corner, np.float64)[there] * per_unit
    rows[there, 1, :3] = per_unit
    rows[there, 0, 3], rows[there, 1, 3] = bounds[:, 1], bounds[:, 0]
    rows[there, 2, 1] = bounds[:, 2]
    rows[:, 2, 0] = 1.0
    rows[there, 2, 0] = _strides(cells)[there]
    high = min(count, ROWS_HIGH)
    blocks = -(-count // high)
    padded = np.zeros((blocks * high, 3, 4), np.float32)
    padded[:count] = rows
    return padded.reshape(blocks, high, 3, 4).swapaxes(0, 1).reshape(high, 3 * blocks, 4)


def _strides(cells: Cells) -> NDArray[np.float64]:
    """How many times coarser each row's brick is than what is wanted there; at least 1."""
    coarser = np.maximum(np.asarray(cells.levels) - np.asarray(cells.wanted), 0)
    return 2.0 ** np.where(np.asarray(cells.kinds) == DRAWN, coarser, 0)


def _padded_planes(cells: Cells) -> NDArray[np.float32]:
    """(3, n): planes of x, y, z, the last repeated."""
    most = max(map(len, cells.planes))
    return np.stack([np.pad(planes, (0, most - len(planes)), "edge") for planes in cells.planes]).astype(
        np.float32
    )
