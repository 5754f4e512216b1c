"""One page of the atlas: a gloo texture with a sized native format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.render.gl.library import gloo


class PageTexture(gloo.Texture2D):  # type: ignore[misc] # vispy has no type information
    """A texture of ``shape`` (h, w) texels, nearest, clamped, memory not initialised.

    gloo knows formats by names, and some of its numbers are wrong (RG8, RG16); here they are given as numbers.
    """

    def __init__(self, shape: tuple[int, int], dtype: str, samples: int, gl_formats: tuple[int, int]) -> None:
        super().__init__(shape=(*shape, 1), interpolation="nearest", wrapping="clamp_to_edge")
        self._glir.command("SIZE", self._id, (*shape, 1), gl_formats[1], gl_formats[0])
        self.dtype_name, self.samples = dtype, samples
        self._in_context = False

    def write(self, data: NDArray[Any], y: int, x: int) -> None:
        """Replace texels from (y, x). Done at once when the texture's context is current, else at the next draw."""
        self._glir.command("DATA", self._id, (y, x), data if data.ndim == 3 else data[..., np.newaxis])
        canvas = gloo.get_current_canvas()
        if canvas is not None:
            if not self._in_context:
                canvas.context.glir.associate(self.glir)
                self._in_context = True
            canvas.context.flush_commands()
