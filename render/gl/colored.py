"""How a tiled image is coloured: the part of the visual that knows the shader's variants and its numbers.

Contrast, gamma, colormap, opacity are numbers for the shader, or a table of 16 KiB: changing them uploads no
texel. Plain gray has a shader of its own, since it is a third faster; from the first change beyond that on, one
shader serves all colours, and nothing is built any more. Main thread only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from octree.pyramid.errors import UsageError
from octree.render.gl import colors
from octree.render.gl.library import Visual, gloo, shader_pair
from octree.render.gl.marks import TRANSLUCENT
from octree.render.gl.placing import Placing

if TYPE_CHECKING:
    from vispy.color import BaseColormap


class Page(Protocol):
    """A texture of texels: ``PageTexture``, or one of three axes."""

    dtype_name: str
    samples: int

    @property
    def shape(self) -> tuple[int, ...]: ...


Blending = Literal["translucent", "additive", "opaque"]
Interpolation = Literal["nearest", "linear"]

_BLEND: dict[str, dict[str, Any]] = {
    "translucent": TRANSLUCENT,
    "additive": {"blend": True, "blend_func": ("src_alpha", "one", "one", "one")},
    "opaque": {"blend": False},
}
_TEXEL_MAX = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


class ColoredVisual(Visual):  # type: ignore[misc] # vispy has no type information
    """Base of ``TiledImageVisual``, which says what the arguments mean. Owns the program and its variants."""

    _shader: str
    """Name of the shader's files."""

    def __init__(
        self,
        *,
        clim: tuple[float, float],
        gamma: float,
        colormap: str | BaseColormap,
        opacity: float,
        blending: Blending,
        interpolation: Interpolation,
        labels: bool,
        rgb: bool,
        nan_color: tuple[float, float, float, float],
        base: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.base = base
        self._defines = {"LABELS"} if labels else {"RGB"} if rgb else set[str]()
        self._built: frozenset[str] | None = None  # None: nothing is bound yet
        self._uniforms: dict[str, Any] = {}
        self._stale = True
        self._table: Any = None
        self._table_stale = True
        self._state = ""
        self.shader_builds = 0
        self._placing = Placing()
        super().__init__(*self._sources())
        self._draw_mode = "triangles"
        self._gamma, self._strength = 1.0, 1.0
        self._colormap: str | BaseColormap = "gray"
        self.clim, self.nan_color = clim, nan_color
        self._set_opacity(opacity)  # vispy's nodes have a property of this name, which is not ready yet
        self.blending, self.interpolation = blending, interpolation
        self.gamma, self.colormap = gamma, colormap

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
    def colormap(self) -> str | BaseColormap:
        """A name as ``--colormap`` takes it, or a colormap of vispy."""
        return self._colormap

    @colormap.setter
    def colormap(self, value: str | BaseColormap) -> None:
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

    def _define(self, name: str, on: bool) -> None:
        (self._defines.add if on else self._defines.discard)(name)
        self.update()

    def _use_colors(self, page: Page) -> None:
        """Make the shader fit one page. Contrast limits are in what its texture reads (0 to 1)."""
        (self._defines.add if page.dtype_name == "float32" else self._defines.discard)("FLOAT")
        if self._built is None or self._built != self._defines:
            self._rebuild()
        self._set("u_page", page)
        self._set("u_texel", tuple([1.0 / size for size in reversed(page.shape[:-1])]))
        self._set("u_window", self._window(page.dtype_name))
        if "RGB" in self._defines:
            self._set("u_samples", float(page.samples))

    def _texel(self, value: float, dtype_name: str) -> float:
        """A value, in what a texture reads (0 to 1 of whole numbers); no more than float32 can say."""
        offset, scale = self.base
        return min(max((value - offset) * scale / _TEXEL_MAX[dtype_name], -3e38), 3e38)

    def _value(self, texel: float, dtype_name: str) -> float:
        """What a texture reads, as a value."""
        offset, scale = self.base
        return texel * _TEXEL_MAX[dtype_name] / scale + offset

    def _window(self, dtype_name: str) -> tuple[float, float]:
        """The low contrast limit, 1 / (high - low), in what a texture reads."""
        offset, scale = self.base
        low, high = [(limit - offset) * scale for limit in self._clim]
        full = _TEXEL_MAX[dtype_name]
        gain = full / (high - low) if high != low else 3e38
        if high == low and full > 1:
            low += 0.25  # a step between whole numbers: equal limits show everything above them white
        return min(max(low / full, -3e38), 3e38), min(max(gain, -3e38), 3e38)

    def _set(self, name: str, value: Any) -> None:
        """Set a uniform that seldom changes; vispy takes its time for each."""
        if self._uniforms.get(name) != value:
            self._uniforms[name] = value
            self.shared_program[name] = value

    def _use_state(self, pages: Sequence[Page], *, may_skip: bool) -> None:
        """Blending for this draw. It costs a software rasteriser a quarter of the frame, so with ``may_skip``
        there is none where every pixel is opaque; vispy's filters can make pixels transparent unseen."""
        skip = may_skip and self._blending == "translucent" and self._is_solid(pages)
        state = "opaque" if skip else self._blending
        if state != self._state:
            self._state = state
            self.set_gl_state(None, depth_test=False, cull_face=False, **_BLEND[state])
        self._configure_gl_state()

    def _is_solid(self, pages: Sequence[Page]) -> bool:
        """Every pixel that is drawn of these is opaque."""
        return (
            self._strength == 1.0
            and self._solid_colors
            and "LABELS" not in self._defines
            and all(page.samples in (1, 3) for page in pages)
            and (self._nan_color[3] == 1.0 or all(page.dtype_name != "float32" for page in pages))
        )

    @property
    def _constants(self) -> dict[str, str]:
        """Numbers that shader and program must share."""
        return colors.shader_constants()

    def _sources(self) -> tuple[str, str]:
        lines = [f"#define {name}" for name in sorted(self._defines)]
        lines += [f"#define {name} {value}" for name, value in self._constants.items()]
        head = "\n".join(lines) + "\n"
        return shader_pair(self._shader, head)

    def _rebuild(self) -> None:
        self.shared_program.vert, self.shared_program.frag = self._sources()
        self._prepare_transforms(self)
        self._bind()
        self._built = frozenset(self._defines)
        self.shader_builds += 1

    def _prepare_transforms(self, view: Any) -> None:
        """What it is, is asked when drawing."""
        view.view_program.vert["transform"] = self._placing.current

    def _bind(self) -> None:
        """Give the new program its vertices. Each kind of visual has its own; this class is drawn by none of itself."""
        raise NotImplementedError  # a visual without it is a mistake of ours, and heard at its first frame
