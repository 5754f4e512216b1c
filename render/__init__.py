"""From a camera to pixels and a report: tiles loaded asynchronously, kept in a texture atlas, drawn exactly once.

The way of a frame:  view → loading → (cache) → gl.texture_atlas → view.cover → gl.tiled_image → report

Rooms, each with a map of its own, in the order in which they may import each other:

config.py      the settings file (pure)
films.py       places and ranges on axes as people write them (pure)
volume_options.py           what is asked of a volume (pure)
option_table.py             the options of ``octree render``, each declared once (pure)
view/          cameras, plans, covers, coverage (pure)
loading/       asynchronous loading; no OpenGL
request.py     option texts → a frozen request (pure)
tiles/         any SOURCE as tiles; coarser levels made in memory
output/        frames to files that appear complete or not at all
report/        what a run showed and what it cost: JSON, HTML, trace
gl/            everything that touches OpenGL; main thread only
scene/         layers, and the pipeline they share
run.py         a run before anything is drawn: sources opened, frames listed
farm.py        settled frames drawn by several processes; farm_worker.py   what each of them does
frames.py      the frame loop, settle and stream; ``render``, ``iter_frames`` and ``Renderer``
live/          ``TiledImage`` and ``TiledVolume`` for anybody's vispy SceneCanvas
check/         rendered-frame regression checks
showcase.py    what ``octree demo`` makes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octree.render.frames import Renderer, RunResult, iter_frames, render
    from octree.render.live.image import TiledImage
    from octree.render.live.volume import TiledVolume
    from octree.render.request import RenderRequest, parse_request
    from octree.render.scene.pipeline import Pipeline
    from octree.render.view.camera import Camera, CameraPath

__all__ = [
    "Camera",
    "CameraPath",
    "Pipeline",
    "RenderRequest",
    "Renderer",
    "RunResult",
    "TiledImage",
    "TiledVolume",
    "iter_frames",
    "parse_request",
    "render",
]

_HOME = {
    "Camera": "view.camera",
    "CameraPath": "view.camera",
    "Pipeline": "scene.pipeline",
    "RenderRequest": "request",
    "Renderer": "frames",
    "RunResult": "frames",
    "TiledImage": "live.image",
    "TiledVolume": "live.volume",
    "iter_frames": "frames",
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
