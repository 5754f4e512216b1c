"""The yardstick of the drawing benchmarks: the same quads of one page, texture coordinates worked out beforehand, a
shader of one texture read, drawn by gloo into the same framebuffer. No colours, no tiles, nothing decided."""

from __future__ import annotations

import numpy as np

from octree.pyramid.grid import Region
from octree.render.gl.library import gloo
from octree.render.gl.quads import corner_indices, exact_vertices
from octree.render.gl.tiled_image import TiledImageVisual


class Bare:
    """Draws what ``visual`` was last given, for one view of ``frame_px`` (w, h)."""

    def __init__(self, visual: TiledImageVisual, view: Region, frame_px: tuple[int, int]) -> None:
        quads = visual._quads
        assert quads is not None
        vertices, pages = exact_vertices(quads, view, frame_px, nearest=True)
        page = visual._atlas.texture(int(pages[0]))
        made = np.zeros(len(vertices), [("a_position", np.float32, 2), ("a_texcoord", np.float32, 2)])
        made["a_position"] = vertices["a_position"] / frame_px * 2 - 1
        texels = vertices["a_local"] + vertices["a_tile"][:, :2]
        made["a_texcoord"] = texels / (page.shape[1], page.shape[0])
        self._program = gloo.Program(
            "attribute vec2 a_position; attribute vec2 a_texcoord; varying vec2 v_texcoord;"
            "void main() { v_texcoord = a_texcoord; gl_Position = vec4(a_position, 0.0, 1.0); }",
            "uniform sampler2D u_page; varying vec2 v_texcoord;"
            "void main() { float x = texture2D(u_page, v_texcoord).r; gl_FragColor = vec4(x, x, x, 1.0); }",
        )
        self._program.bind(gloo.VertexBuffer(made))
        self._program["u_page"] = page
        self._indices = gloo.IndexBuffer(corner_indices(len(vertices) // 4))

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        gloo.set_state(blend=False, depth_test=False)
        self._program.draw("triangles", self._indices)
