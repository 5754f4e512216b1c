"""What hides what between layers of a volume: how deep the first thing lies, pixel by pixel, that nothing is seen behind. Main
thread only.

Depths are those of ``Rays``: world units behind the point that is looked at, across the view axis, alike in all layers of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octree.render.gl.library import gloo
from octree.render.gl.page import PageTexture
from octree.render.gl.residents import FORMATS
from octree.render.gl.volume.march import MarchVisual

FAR = 3e38
"""Where nothing hides anything."""


class Surfaces:
    """Owner of a texture of depths, made when it is first needed, as large as what is drawn."""

    def __init__(self) -> None:
        self._texture: Any = None
        self._framebuffer: Any = None

    def draw(
        self, visuals: Sequence[MarchVisual], offset_px: tuple[int, int], size_px: tuple[int, int]
    ) -> PageTexture:
        """The depths of what these show, in the part of a frame that ``Canvas.draw`` is drawing: (height, width), until the next
        call."""
        self._resize(size_px)
        context = gloo.get_current_canvas().context
        with self._framebuffer:
            # gloo's own way of naming a colour cuts it to 0 to 1
            context.glir.command("FUNC", "glClearColor", FAR, FAR, FAR, FAR)
            context.glir.command("FUNC", "glClear", "color_buffer_bit")
            for visual in visuals:
                visual.draw_depths(offset_px, size_px)
            gloo.set_blend_equation("func_add")
        return self._texture  # type: ignore[no-any-return] # vispy has no type information

    def _resize(self, size_px: tuple[int, int]) -> None:
        shape = size_px[::-1]
        if self._texture is not None and self._texture.shape[:2] == shape:
            return
        self.close()
        self._texture = PageTexture(shape, "float32", 1, FORMATS["float32", 1])
        self._framebuffer = gloo.FrameBuffer(color=self._texture)

    def close(self) -> None:
        """Free what was made. Closing twice is harmless."""
        for thing in (self._framebuffer, self._texture):
            if thing is not None:
                thing.delete()
        self._framebuffer = self._texture = None


@dataclass(frozen=True, slots=True)
class Met:
    """The visuals of a layer, seen as far as what ``others`` show does not hide them. ``Canvas`` draws it."""

    visuals: tuple[MarchVisual, ...]
    others: tuple[MarchVisual, ...]
    surfaces: Surfaces

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        depths = self.surfaces.draw(self.others, offset_px, size_px) if self.others else None
        for visual in self.visuals:
            visual.stop_at(depths)
            visual.draw_part(offset_px, size_px)


def met(layers: Sequence[Sequence[MarchVisual]], surfaces: Surfaces) -> list[Met]:
    """How to draw layers, each the visuals of its parts, first at the bottom: what hides first, then what is in front of it."""
    hiding = [[visual for visual in own if visual.hides] for own in layers]
    found = []
    for number, own in enumerate(layers):
        others = [visual for other, each in enumerate(hiding) if other != number for visual in each]
        found.append(Met(tuple(own), tuple(others), surfaces))
    return sorted(found, key=lambda each: not any(visual.hides for visual in each.visuals))
