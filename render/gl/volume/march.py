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

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import UsageError
from octree.render.gl import colors
from octree.render.gl.colored import Blending, ColoredVisual, Interpolation, Page
from octree.render.gl.library import gloo
from octree.render.gl.page import PageTexture
from octree.render.gl.volume.brick_atlas import BrickAtlas
from octree.render.gl.volume.tables import (
    EMPTY,
    LOOK_CONSTANTS,
    MOST_CELLS,
    MOST_ROWS,
    UNIFORMS,
    Tables,
    by_halves,
    cell_tables,
    cell_uniforms,
    looks_of,
    ray_uniforms,
    rows_of,
    strides_of,
)
from octree.render.gl.volume.textures import VolumeTexture
from octree.render.loading.values import LoadKey
from octree.render.view.volume.cells import Cells
from octree.render.view.volume.orbit import Vec
from octree.render.view.volume.sight import Rays

Mode = Literal["mip", "minip", "mean", "attenuated-mip", "alpha", "iso"]
MODES: tuple[Mode, ...] = get_args(Mode)
HALVING_PAYS = 0.15
"""Share of the bricks that rays skip besides those that they skip anyway."""
_DEFINES = {mode: mode.split("-")[0].upper() for mode in MODES}


class MarchVisual(ColoredVisual):
    """Draws ``Cells`` from a ``BrickAtlas``: one part (channel) of a layer.

    ``mode``  see above. ``iso`` is in values of the texels, None: the middle of the contrast limits. ``attenuation`` per world
    unit. ``planes``: its rays have planes, each in its place; the nearest that is something is shown, whatever the mode. Other arguments as for ``TiledImageVisual``.
    """

    _shader = "volume/march"

    def __init__(
        self,
        atlas: BrickAtlas,
        *,
        mode: Mode = "mip",
        iso: float | None = None,
        attenuation: float = 0.01,
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
        planes: bool = False,
    ) -> None:
        self._atlas = atlas
        self.keys: tuple[LoadKey | None, ...] = ()
        """The brick that each row of the cells shows."""
        self.sent_rows = 0
        """Of cells: eight for each brick that is cut in halves."""
        self._cells: Cells | None = None
        self._closed: NDArray[np.bool_] | None = None
        self._strides = False
        self._rays: Rays | None = None
        self._world: Vec = (1.0, 1.0, 1.0)
        self._page: int | None = None
        self._sent_for: tuple[Any, ...] = ()
        self._bounds = (0.0, 0.0)
        self._tables = Tables()
        self._depths: MarchVisual | None = None
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
        self._defines |= {_DEFINES[self._mode], *(["PLANES"] if planes else [])}
        self.mode = mode
        for name, value in UNIFORMS.items():  # vispy warns of any that a shader has, and nobody has set
            self._set(name, value)
        for name, values in EMPTY.items():
            self._tables.send(name, values, self._set_table)

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
    def hides(self) -> bool:
        """Nothing is seen behind what it shows: planes, and surfaces."""
        return "PLANES" in self._defines or self._mode == "iso"

    def unreached(self) -> tuple[float, float] | None:
        """Of a surface the value, and the highest of the bricks that are drawn, where that lies below: there is no surface."""
        drawn = [key for key in self.keys if key is not None]
        if not drawn or self._mode != "iso" or self._defines & {"LABELS", "PLANES"}:
            return None
        dtype_name = self._atlas.texture(int(self._atlas.places(drawn[:1])[0, 0])).dtype_name
        highest = float(self._atlas.bounds(drawn)[..., 1].max())
        return (
            None if highest >= self._threshold(dtype_name) else (self._iso, self._value(highest, dtype_name))
        )

    def stop_at(self, depths: PageTexture | None) -> None:
        """Show nothing that lies deeper than these, from now on; see ``Surfaces``."""
        if depths is None:
            self._define("STOPS", on=False)
            return
        self._define("STOPS", on=True)
        self._set_table("u_surfaces", depths)
        self._set("u_surfaces_texel", tuple([1.0 / size for size in depths.shape[1::-1]]))

    # what to draw

    def set_cells(
        self,
        cells: Cells,
        keys: Sequence[LoadKey | None],
        closed: NDArray[np.bool_] | None = None,
        *,
        strides: bool = False,
    ) -> None:
        """Draw this from now on. ``keys`` are those of its rows, all resident until it has been drawn; None for rows that
        draw nothing. ``closed``: see ``closed_faces``. ``strides``: bricks that are so many times coarser than what is wanted
        take only every so many-th sample, but in alpha, where rays end early."""
        self._cells, self.keys, self._closed, self._strides = cells, tuple(keys), closed, strides
        if strides:
            self.expect_strides()
        if closed is not None:  # for good: a shader that is built anew takes longer than what it saves
            self._define("EDGES", on=True)
        self._stale = True
        self.update()

    def expect_strides(self) -> None:
        """Build the shader for ``strides``: for good, whether there are some or not shows in no pixel."""
        if self._mode != "alpha" and "PLANES" not in self._defines:
            self._define("STRIDE", on=True)

    def set_rays(self, rays: Rays, world: Vec = (1.0, 1.0, 1.0)) -> None:
        """Look along these from now on. ``world``: size of a base voxel (x, y, z) in world units."""
        self._rays, self._world = rays, world
        self.update()

    def set_corner(self, corner_px: tuple[int, int]) -> None:
        """Where in the framebuffer the frame begins whose rays they are: pixels, as OpenGL counts them."""
        self._set("u_frame", (-float(corner_px[0]), -float(corner_px[1]), 1.0, 1.0))

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

    def draw_depths(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """As ``draw_part``, of what ``hides``: into each pixel how deep it lies, where nothing is there that lies less deep."""
        if self._depths is None:  # a shader of its own: one that changes is built anew
            labels, rgb, planes = (name in self._defines for name in ("LABELS", "RGB", "PLANES"))
            self._depths = MarchVisual(self._atlas, labels=labels, rgb=rgb, planes=planes)
            self._depths._define("DEPTH", on=True)
        depths = self._depths
        for name in ("mode", "iso", "clim", "interpolation", "base"):
            if getattr(depths, name) != (own := getattr(self, name)):
                setattr(depths, name, own)
        if depths._cells is not self._cells and self._cells is not None:
            depths.set_cells(self._cells, self.keys, self._closed, strides=self._strides)
        depths._rays, depths._world = self._rays, self._world
        depths.draw_part(offset_px, size_px)

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
        # a gutter may have values of a neighbour now; and other bricks may be skipped
        linear = "LINEAR" in self._defines
        sent_for = (
            self._atlas.uploads,
            self._atlas.patches,
            self._mode,
            self._clim,
            self.iso,
            self.base,
            linear,
        )
        if self._stale or self._sent_for != sent_for:
            self._stale, self._sent_for = False, sent_for
            self._send_cells(self._cells)
        for name, value in ray_uniforms(self._rays, self._cells).items():
            self._set(name, value)
        return True

    def _send_cells(self, cells: Cells) -> None:
        drawn = [key for key in self.keys if key is not None]
        places = self._atlas.places(drawn)
        pages = np.unique(places[:, 0]).tolist()
        if len(pages) > 1:
            raise ValueError(f"bricks of one part lie in pages {pages}")
        self._page = pages[0] if pages else None
        bounds = self._atlas.bounds(drawn)
        there = [key is not None for key in self.keys]
        lows, highs = bounds[..., 0], bounds[..., 1]
        self._bounds = (float(lows.min()), float(highs.max())) if len(drawn) else (0.0, 0.0)
        closed = self._closed
        if closed is None and "EDGES" in self._defines:
            closed = np.zeros((len(self.keys), 6), bool)
        if self._halving_pays(cells, bounds):
            cells = by_halves(cells, there, places)
            closed = None if closed is None else np.repeat(closed, 8, axis=0)
            there = [each for each in there for _ in range(8)]
            places, bounds = np.repeat(places, 8, axis=0), bounds.reshape(-1, 3)
        else:
            bounds = _merged(bounds)
        self.sent_rows = len(there)
        looks, scales = looks_of(cells, there, bounds, self._strides_of(cells))
        rows = rows_of(
            cells, there, places, self._outermost(bounds), closed, linear="LINEAR" in self._defines
        )
        for name, values in (*cell_tables(cells, looks).items(), ("u_rows", rows)):
            self._tables.send(name, values, self._set_table)
        for number, scale in enumerate(scales.tolist()):
            self._set(f"u_scales[{number}]", tuple(scale))
        for name, value in cell_uniforms(cells).items():
            self._set(name, value)

    def _halving_pays(self, cells: Cells, bounds: NDArray[np.float32]) -> bool:
        """Rays skip so much more of bricks by their halves that it is worth more cells."""
        if not len(bounds) or len(self.keys) * 8 > MOST_ROWS or cells.cells.size * 8 > MOST_CELLS:
            return False
        return bool(
            (self._skipped(bounds.reshape(-1, 8, 3)).mean(axis=1) - self._skipped(_merged(bounds))).mean()
            > HALVING_PAYS
        )

    def _strides_of(self, cells: Cells) -> NDArray[np.int64] | None:
        """None: the shader asks for none."""
        if "STRIDE" not in self._defines:
            return None
        strides = strides_of(cells)
        return strides if self._strides and self._mode != "alpha" else np.ones_like(strides)

    def _outermost(self, bounds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of each lowest and highest value that which decides whether a ray looks."""
        is_low = self._mode == "minip"
        if self._mode in ("alpha", "attenuated-mip"):
            is_low = self._clim[0] > self._clim[1]
        column: NDArray[np.float32] = bounds[:, 0 if is_low and "LABELS" not in self._defines else 1]
        return column

    def _skipped(self, bounds: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether rays need not look at what has such bounds (…, 3), whatever they met before. Decides no pixel."""
        assert self._page is not None
        page = self._atlas.texture(self._page)
        low, high = bounds[..., 0], bounds[..., 1]
        first, last = sorted(self._texel(limit, page.dtype_name) for limit in self._clim)
        even: NDArray[np.bool_] = low == high
        if "LABELS" in self._defines:
            return high <= 0
        if self._mode == "mip":
            return even | (high <= first)
        if self._mode == "minip":
            return even | (low >= last)
        if self._mode == "mean":
            return even
        if self._mode == "iso":
            return high < self._threshold(page.dtype_name)
        return high <= first if self._clim[0] <= self._clim[1] else low >= last

    def _threshold(self, dtype_name: str) -> float:
        return self._texel(self._iso, dtype_name)

    @property
    def _iso(self) -> float:
        return sum(self._clim) / 2 if self.iso is None else self.iso

    def _set_table(self, name: str, value: Any) -> None:
        self.shared_program[name] = value

    def _use_colors(self, page: Page) -> None:
        step = 1.0 if self._rays is None else self._rays.step_world
        is_plain = step == 1.0 and self._gamma == 1.0 and self._colormap in colors.GRAYS
        (self._defines.add if is_plain and self._mode == "alpha" else self._defines.discard)("PLAIN")
        super()._use_colors(page)
        low, high = sorted(self._texel(limit, page.dtype_name) for limit in self._clim)
        if "RGB" in self._defines:  # limits are of samples, and it is brightness that is compared
            low, high = -np.inf, np.inf
        self._set("u_limits", (low, high))
        self._set("u_bounds", (max(self._bounds[0], low), min(self._bounds[1], high)))
        self._set("u_step_world", step)
        if self._mode == "attenuated-mip":
            self._set("u_attenuation", self.attenuation * step)
        elif self._mode == "iso":
            self._set("u_threshold", self._threshold(page.dtype_name))
            self._set("u_world", self._world)
            surface = colors.colormap_values(self._colormap, np.ones(1))[0]
            self._set("u_surface", tuple(surface.tolist()))
        elif self._mode == "alpha":
            self._set("u_sample_alpha", 1.0 - (1.0 - self._strength) ** step)
            self._send_transfer(step)

    def _send_transfer(self, step: float) -> None:
        """What one sample of each value adds, premultiplied."""
        look = (str(self._colormap), self._colormap, self._gamma, self._strength, step)
        if self._defines & {"RGB", "LABELS", "PLAIN"} or look == self._transfer_of:
            return
        self._transfer_of = look
        table = transfer_table(self._colormap, self._gamma, self._strength, step)[None]
        self._tables.send("u_transfer", table, self._set_table)

    def _use_state(self, pages: Sequence[Page], *, may_skip: bool) -> None:
        if "DEPTH" not in self._defines:
            super()._use_state(pages, may_skip=may_skip)
            return
        self.set_gl_state(None, depth_test=False, cull_face=False, blend=True, blend_equation="min")
        self._configure_gl_state()

    def _is_solid(self, pages: Sequence[Page]) -> bool:
        return self._mode != "alpha" and super()._is_solid(pages)

    @property
    def _constants(self) -> dict[str, str]:
        return {**super()._constants, **LOOK_CONSTANTS}

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


def _merged(bounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 3) of whole bricks, of those of their halves."""
    halves = bounds.reshape(-1, 8, 3)
    return np.stack(
        [halves[..., 0].min(axis=1), halves[..., 1].max(axis=1), halves[..., 2].max(axis=1)], axis=1
    )


def transfer_table(colormap: Any, gamma: float, opacity: float, step: float) -> NDArray[np.uint16]:
    """(TABLE_SIZE, 4) premultiplied RGBA, of 65535, that one sample adds, of values from 0 to 1, ``step`` world units long."""
    value = np.linspace(0.0, 1.0, colors.TABLE_SIZE)
    color = colors.colormap_values(colormap, value**gamma)
    alpha = 1.0 - (1.0 - opacity * value * color[:, 3]) ** step
    return np.rint(np.column_stack([color[:, :3] * alpha[:, None], alpha]) * 65535).astype(np.uint16)
