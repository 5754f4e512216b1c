"""3-D textures without PyOpenGL. Main thread only.

vispy calls PyOpenGL for two functions that its own list of OpenGL lacks, and only for these; here they are called in the
library that vispy uses for all others. PyOpenGL would look for a library of its own, which has no context.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.render.gl.library import gl, glir, gloo, native
from octree.render.gl.page import GL_TYPES, DirectWrites

GL_TEXTURE_3D = 0x806F

_I, _U, _P = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
_IMAGE = ("glTexImage3D", (_U, _I, _I, _I, _I, _I, _I, _U, _U, _P))
_SUB_IMAGE = ("glTexSubImage3D", (_U, _I, _I, _I, _I, _I, _I, _I, _U, _U, _P))
_GET_IMAGE = ("glGetTexImage", (_U, _I, _U, _U, _P))


def _tex_image(target: Any, level: int, internal: Any, form: Any, kind: Any, shape: tuple[int, ...]) -> None:
    """As vispy calls it: ``shape`` (d, h, w), and no texels."""
    depth, height, width = shape
    native(*_IMAGE)(int(target), level, int(internal), width, height, depth, 0, int(form), int(kind), None)


def _tex_sub_image(
    target: Any, level: int, x: int, y: int, z: int, form: Any, kind: Any, texels: NDArray[Any]
) -> None:
    """As vispy calls it: ``texels`` (d, h, w[, samples])."""
    depth, height, width = texels.shape[:3]
    texels = np.ascontiguousarray(texels)
    address = texels.ctypes.data
    native(*_SUB_IMAGE)(int(target), level, x, y, z, width, height, depth, int(form), int(kind), address)


def _teach_vispy() -> None:
    glir.glTexImage3D, glir.glTexSubImage3D = _tex_image, _tex_sub_image
    glir.USE_TEX_3D = True  # it unbinds 3-D textures, too, after a draw


_teach_vispy()


class VolumeTexture(DirectWrites, gloo.Texture3D):  # type: ignore[misc] # vispy has no type information
    """A texture of ``shape`` (d, h, w) texels, nearest, clamped, memory not initialised. ``gl_formats`` (internal format,
    format) are numbers, as in ``PageTexture``: of gloo's own formats for 3-D textures some keep 8 bits of 16."""

    _target, _axes = GL_TEXTURE_3D, 3

    def __init__(self, shape: tuple[int, ...], dtype: str, samples: int, gl_formats: tuple[int, int]) -> None:
        # gloo has no texture without a size: of one texel first
        super().__init__(shape=(1, 1, 1, 1), interpolation="nearest", wrapping="clamp_to_edge")
        self._shape = (*shape, samples)
        self.dtype_name, self.samples = dtype, samples
        self._gl_format = gl_formats[1]
        self._glir.command("SIZE", self._id, (*shape, 1), gl_formats[1], gl_formats[0])

    def _send(self, data: NDArray[Any], *corner: int) -> None:
        z, y, x = corner
        _tex_sub_image(self._target, 0, x, y, z, self._gl_format, GL_TYPES[self.dtype_name], data)

    def read(self) -> NDArray[Any]:
        """All texels, (d, h, w) or (d, h, w, samples). Its context must be current."""
        depth, height, width, samples = self._shape
        texels = np.empty((depth, height, width, samples), self.dtype_name)
        gl.glBindTexture(self._target, self._handle)
        gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)
        native(*_GET_IMAGE)(self._target, 0, self._gl_format, GL_TYPES[self.dtype_name], texels.ctypes.data)
        return texels[..., 0] if samples == 1 else texels
