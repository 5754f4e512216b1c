"""One page of the atlas: a gloo texture with a sized native format. Main thread only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.render.gl.library import gl, gloo

_TYPES = {"uint8": gl.GL_UNSIGNED_BYTE, "uint16": gl.GL_UNSIGNED_SHORT, "float32": gl.GL_FLOAT}


class PageTexture(gloo.Texture2D):  # type: ignore[misc] # vispy has no type information
    """A texture of ``shape`` (h, w) texels, nearest, clamped, memory not initialised.

    gloo knows formats by names, and some of its numbers are wrong (RG8, RG16); here they are numbers:
    ``gl_formats`` is (internal format, format).
    """

    def __init__(self, shape: tuple[int, int], dtype: str, samples: int, gl_formats: tuple[int, int]) -> None:
        super().__init__(shape=(*shape, 1), interpolation="nearest", wrapping="clamp_to_edge")
        self.dtype_name, self.samples = dtype, samples
        self._gl_format = gl_formats[1]
        self._glir.command("SIZE", self._id, (*shape, 1), gl_formats[1], gl_formats[0])
        self._context: Any = None
        self._handle = 0

    def write(self, pieces: list[tuple[NDArray[Any], int, int]]) -> None:
        """Replace texels: contiguous pieces, each from (y, x). They may change afterwards.

        Now, when the context of this texture is current; gloo's queue costs three times the upload itself, so
        it is passed by. Else when the texture is next drawn.
        """
        if not self._is_current():
            for data, y, x in pieces:
                texels = data.copy() if data.ndim == 3 else data[..., np.newaxis].copy()
                self._glir.command("DATA", self._id, (y, x), texels)
            return
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._handle)
        gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 1)
        for data, y, x in pieces:
            gl.glTexSubImage2D(gl.GL_TEXTURE_2D, 0, x, y, self._gl_format, _TYPES[self.dtype_name], data)
        gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 4)

    def _is_current(self) -> bool:
        """Whether the context that draws this texture is current; a new texture joins the current one."""
        canvas = gloo.get_current_canvas()
        if canvas is None:
            return False
        if self._context is None:
            canvas.context.glir.associate(self.glir)
            canvas.context.flush_commands()
            self._context = canvas.context
            self._handle = canvas.context.shared.parser.get_object(self._id).handle
        return canvas.context is self._context
