"""One page of the atlas: a gloo texture with a sized native format. Main thread only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.render.gl.library import gl, gloo

ALIGNMENT = 4
"""Rows of what is uploaded begin at multiples of so many bytes, unless somebody says otherwise."""
GL_TYPES = {"uint8": gl.GL_UNSIGNED_BYTE, "uint16": gl.GL_UNSIGNED_SHORT, "float32": gl.GL_FLOAT}


class DirectWrites:
    """Of a gloo texture: texels are replaced now, when its context is current. gloo's queue costs three times the
    upload itself, so it is passed by. ``_target`` and ``_send`` are those of the kind of texture."""

    _target: int
    _context: Any = None
    _handle = 0
    _axes: int

    def write(self, pieces: Iterable[tuple[Any, ...]]) -> None:
        """Replace texels: contiguous pieces, each with where its first texel goes, (y, x) or (z, y, x). They may change
        afterwards. When another context is current, that happens when the texture is next drawn."""
        if not self.is_current():
            for data, *corner in pieces:
                texels = data.copy() if data.ndim > self._axes else data[..., np.newaxis].copy()
                self._glir.command("DATA", self._id, tuple(corner), texels)  # type: ignore[attr-defined] # gloo's
            return
        gl.glBindTexture(self._target, self._handle)
        for data, *corner in pieces:
            # rows of most tiles end where the next may begin: two calls less for each
            odd = data.strides[self._axes - 2] % ALIGNMENT
            if odd:
                gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 1)
            self._send(data, *corner)
            if odd:
                gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, ALIGNMENT)

    def _send(self, data: NDArray[Any], *corner: int) -> None:
        raise NotImplementedError  # each kind of texture has its own call

    def is_current(self) -> bool:
        """Whether the context that draws this texture is current; a new texture joins the current one."""
        canvas = gloo.get_current_canvas()
        if canvas is None:
            return False
        if self._context is None:
            canvas.context.glir.associate(self.glir)  # type: ignore[attr-defined] # gloo's
            canvas.context.flush_commands()
            self._context = canvas.context
            self._handle = canvas.context.shared.parser.get_object(self._id).handle  # type: ignore[attr-defined] # gloo's
        return bool(canvas.context is self._context)


class PageTexture(DirectWrites, gloo.Texture2D):  # type: ignore[misc] # vispy has no type information
    """A texture of ``shape`` (h, w) texels, nearest, clamped, memory not initialised.

    gloo knows formats by names, and some of its numbers are wrong (RG8, RG16); here they are numbers:
    ``gl_formats`` is (internal format, format).
    """

    _target, _axes = gl.GL_TEXTURE_2D, 2

    def __init__(self, shape: tuple[int, ...], dtype: str, samples: int, gl_formats: tuple[int, int]) -> None:
        super().__init__(shape=(*shape, 1), interpolation="nearest", wrapping="clamp_to_edge")
        self.dtype_name, self.samples = dtype, samples
        self._gl_format = gl_formats[1]
        self._glir.command("SIZE", self._id, (*shape, 1), gl_formats[1], gl_formats[0])

    def _send(self, data: NDArray[Any], *corner: int) -> None:
        y, x = corner
        gl.glTexSubImage2D(self._target, 0, x, y, self._gl_format, GL_TYPES[self.dtype_name], data)
