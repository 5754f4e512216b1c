"""From a camera to pixels and a report: tiles loaded asynchronously, kept in a texture atlas, drawn exactly once.

The way of a frame:  camera → octree → loading → (cache) → gl.texture_atlas → cover → gl.tiled_image → report

request.py     option texts → a frozen request (pure)
camera.py camera_text.py    cameras and paths, and how they are written (pure)
octree.py      camera + levels → wanted tiles, in loading order (pure)
cover.py       wanted tiles + residency → disjoint quads and coverage, in one pass (pure)
register.py    how layers of different voxel size lie on each other (pure)
look.py contrast.py         colours and contrast limits of each part of a layer
config.py      the settings file (pure)
tile_source.py open_levels.py made_levels.py texels.py      any SOURCE as tiles; coarser levels made in memory
layer.py       one layer of a view: its plan, its uploads, its cover
overview.py    the inset: one more layer
compose.py     the scene: layers, and the loader, atlas and canvas they share
frames.py      the frame loop, settle and stream; ``render`` and ``Renderer``
live.py seen.py             ``TiledImage`` for anybody's vispy SceneCanvas; what of it a camera shows (pure)
report.py html.py pages.py trace.py monitor.py              what a run showed and what it cost
encode.py video.py files.py                 frames to files that appear complete or not at all
showcase.py    what ``octree demo`` makes
loading/       asynchronous loading; no OpenGL
gl/            everything that touches OpenGL; main thread only
check/         rendered-frame regression checks
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octree.render.camera import Camera, CameraPath
    from octree.render.frames import Renderer, RunResult, render
    from octree.render.live import TiledImage
    from octree.render.request import RenderRequest, parse_request

__all__ = [
    "Camera",
    "CameraPath",
    "RenderRequest",
    "Renderer",
    "RunResult",
    "TiledImage",
    "parse_request",
    "render",
]

_HOME = {
    "Camera": "camera",
    "CameraPath": "camera",
    "RenderRequest": "request",
    "Renderer": "frames",
    "RunResult": "frames",
    "TiledImage": "live",
    "parse_request": "request",
    "render": "frames",
}


def __getattr__(name: str) -> Any:
    # OpenGL and the readers are imported with the first name that needs them
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"octree.render.{_HOME[name]}"), name)
    globals()[name] = value
    return value
