"""``TiledImage``: the same pipeline in anybody's vispy scene, with any camera.

    canvas = vispy.scene.SceneCanvas(show=True)
    view = canvas.central_widget.add_view(camera="panzoom")
    image = TiledImage("slide.ome.zarr", parent=view.scene, colormap="viridis")

All on the thread of vispy's event loop. Sixty times a second the node looks where the camera stands, plans,
uploads what has arrived within the frame's budget, and asks for a draw if anything changed; it never waits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from vispy import app
from vispy.scene.node import Node
from vispy.scene.visuals import create_visual_node
from vispy.scene.widgets import ViewBox

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.render.config import Settings, load_settings
from octree.render.gl.texture_atlas import Atlas
from octree.render.gl.tiled_image import TiledImageVisual
from octree.render.loading.cache import TileCache
from octree.render.loading.loader import TileLoader
from octree.render.loading.requests import FailedTile
from octree.render.request import LAYER_OPTIONS, parse_request
from octree.render.scene.layer import Layer, Part, limits_of, make_atlas, upload_with_room
from octree.render.scene.look import looks_of
from octree.render.scene.scene import open_layer_source
from octree.render.view.coverage import Coverage
from octree.render.view.register import ToBase
from octree.render.view.seen import seen_by_points, seen_part
from octree.render.view.state import resolve

TICK_S = 1 / 60
OPTIONS = (*LAYER_OPTIONS, "index", "labels", "single_level", "show_grid", "mark_pending")
"""What of ``octree render`` means something where somebody else owns canvas, camera and clock."""


class _VisualNode(create_visual_node(TiledImageVisual)):  # type: ignore[misc] # made by vispy at run time
    """One channel in the scene. What vispy attaches to it (clipping, opacity) holds for its marks too."""

    # vispy's nodes have an opacity of their own, applied by a filter; the visual's is in its shader already
    opacity = TiledImageVisual.opacity

    def attach(self, filt: Any, view: Any = None) -> None:
        super().attach(filt, view)
        if self._marks is not None:
            self._marks.attach(filt)

    def detach(self, filt: Any, view: Any = None) -> None:
        super().detach(filt, view)
        if self._marks is not None:
            self._marks.detach(filt)

    def _mark(self, *what: Any) -> None:
        before = self._marks
        super()._mark(*what)
        if self._marks is not before:
            for filt in self._vshare.filters:
                self._marks.attach(filt)

    def view(self) -> Any:
        raise UsageError(
            "a tiled image loads what one view shows, so it has no second view",
            hint="make another TiledImage of the same source, with atlas= that of the first",
        )


class TiledImage(Node):  # type: ignore[misc] # vispy has no type information
    """A tiled image as a vispy scene node. Coordinates are level-0 pixels: x to the right, y down. Any camera; a
    transform that bends (polar, say) places the corners of tiles, straight between them.

    ``source``    a pyramid, or anything ``octree render`` takes, array objects included.
    ``settings``  see ``octree.render.config``; None looks for a settings file as the commands do.
    ``atlas``     texture memory shared with other nodes of the same canvas; None makes one.
    ``options``   of ``octree render`` by their long names: clim, gamma, colormap, opacity, blending,
                  interpolation, channels, index, labels, single_level, show_grid, mark_pending.

    Call ``close`` (or close the canvas) to stop loading. ``visuals`` are the vispy visuals, one for each
    channel: set their ``clim``, ``gamma``, ``colormap``, ``opacity`` at any time; nothing is uploaded again.
    Raises OctreeError for a source or option that is wrong.
    """

    def __init__(
        self,
        source: Any,
        *,
        parent: Node | None = None,
        name: str | None = None,
        settings: Settings | None = None,
        atlas: Atlas | None = None,
        **options: Any,
    ) -> None:
        for option in options:
            if option not in OPTIONS:
                raise UsageError(
                    f"TiledImage has no option {option!r}", hint=f"options: {', '.join(OPTIONS)}"
                )
        super().__init__(parent=None, name=name)
        self._stack = ExitStack()
        with ExitStack() as stack:
            request = parse_request([source], [], options, settings=settings or load_settings())
            self._limits = render = request.settings.render
            opened = open_layer_source(source, request, labels=request.labels)
            stack.callback(opened.close)
            self._loader = stack.enter_context(
                TileLoader(request.settings.loader, cache=TileCache(render.cache_bytes))
            )
            self._loader.add_source(opened)
            if atlas is None:
                atlas = make_atlas(render, [opened])
                stack.callback(atlas.close)
            self._atlas = atlas
            stack.callback(atlas.begin_frame, self)  # its pins go with it
            looks = looks_of(opened, request.layers[0], request)
            parts = [
                Part(
                    look.channel,
                    _VisualNode(
                        atlas,
                        **look.drawing(),
                        show_grid=request.show_grid,
                        mark_pending=request.mark_pending,
                        parent=self,
                    ),
                )
                for look in looks
            ]
            self._layer = Layer(
                opened,
                parts,
                loader=self._loader,
                atlas=atlas,
                to_base=ToBase(),
                linear=request.layers[0].interpolation == "linear",
                limits=limits_of(render, atlas, [(opened, len(parts))])[0],
            )
            self._stack = stack.pop_all()
        for part, look in zip(parts, looks, strict=True):
            part.visual.opacity = look.opacity  # making the node has set vispy's default
        self._positions = dict(request.index)
        self._seen: tuple[Region, tuple[float, float]] | None = None
        self._timer = app.Timer(TICK_S, connect=self._tick, start=True)
        self._stack.callback(self._timer.stop)
        self.parent = parent

    @property
    def visuals(self) -> Sequence[TiledImageVisual]:
        """One for each channel, bottom first."""
        return [part.visual for part in self._layer.parts]

    @property
    def coverage(self) -> Coverage | None:
        """What the last frame showed; None before the first."""
        return self._layer.cover.coverage if self._layer.cover is not None else None

    @property
    def extent(self) -> Region:
        """The image in the node's coordinates: for ``camera.set_range``."""
        return self._layer.source.lattice.extent

    @property
    def is_settled(self) -> bool:
        """Every tile that the view wants is drawn, or has failed."""
        return self._seen is not None and self._layer.cover is not None and self._layer.is_complete

    def go_to(self, **positions: int) -> None:
        """Show another place on axes that are not displayed, as in ``go_to(z=3)``, in positions of level 0. Its
        tiles come coarse first. Raises UsageError for an axis or a place that there is not."""
        if "c" in positions and len(self._layer.parts) > 1:
            raise UsageError("each channel has a visual of its own here", hint="set visuals[i].visible")
        wished = {**self._positions, **positions}
        resolve(wished, self._layer.source.spec)
        self._positions, self._seen = wished, None

    def retry(self) -> None:
        """Read again what could not be read."""
        self._loader.retry_failed()
        self._seen = None

    def close(self) -> None:
        """Stop loading and free the textures. Closing twice is harmless."""
        self._stack.close()
        self.parent = None

    def _tick(self, _event: Any = None) -> None:
        """One turn: where is the camera, what arrived, does anything change?"""
        canvas = self._canvas_in_view()
        if canvas is None:
            return
        if canvas._closed:
            self.close()
            return
        seen = self._view()
        changed = seen != self._seen
        if changed:
            self._layer.plan_rect(*seen, self._positions, fresh=self._seen is None, prefetch=True)
            self._seen = seen
        # what is lost shows a pattern, and no stand-in
        changed |= any(isinstance(arrival, FailedTile) for arrival in self._loader.poll())
        canvas.set_current()
        self._atlas.begin_frame(self)  # another node may draw from the same atlas: only this one's pins
        self._layer.pin(self)
        if self._upload() or changed:
            self._layer.make_cover()
            self.update()

    def _canvas_in_view(self) -> Any:
        scene = self.scene_node
        return getattr(scene, "canvas", None) if scene is not None else None

    def _upload(self) -> int:
        until_s = time.perf_counter() + self._limits.upload_ms / 1000
        left_bytes, count = self._limits.upload_bytes, 0
        for tile in self._layer.waiting():
            if count and (left_bytes <= 0 or time.perf_counter() >= until_s):
                break
            size = upload_with_room(self._layer, tile, [self._layer], self._atlas, self)
            left_bytes -= size
            count += size > 0
        return count

    def _view(self) -> tuple[Region, tuple[float, float]]:
        """What of the image the screen shows, and how many of its pixels a base pixel takes, (y, x)."""
        canvas, extent, screen = self._canvas_in_view(), self.extent, self._screen()
        transform = self._layer.parts[0].visual.get_transform("visual", "canvas")
        if transform.Linear:
            seen, (py, px) = seen_part(np.asarray(transform.map(np.eye(4)), np.float64), extent, screen)
        else:
            seen, (py, px) = seen_by_points(transform.imap, extent, screen)
        return seen, (py * canvas.pixel_scale, px * canvas.pixel_scale)

    def _screen(self) -> Region:
        """The part of the canvas where the node can show: inside every view box that it lies in."""
        width, height = self._canvas_in_view().size
        screen, node = Region((0.0, 0.0), (height, width)), self.parent
        while node is not None:
            if isinstance(node, ViewBox):
                inner = node.inner_rect
                corners = node.get_transform("visual", "canvas").map(
                    [(x, y) for x in (inner.left, inner.right) for y in (inner.bottom, inner.top)]
                )[:, :2]
                (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
                screen = screen.intersect(Region((y0, x0), (y1, x1)))
            node = node.parent
        return screen

    # what vispy tells a node and not the nodes below it

    def _set_clipper(self, node: Node, clipper: Any) -> None:
        if clipper is None:
            self._clippers.pop(node, None)
        else:
            self._clippers[node] = clipper
        for visual in self.visuals:
            visual._set_clipper(node, clipper)

    def _update_opacity(self) -> None:
        for visual in self.visuals:
            visual._opacity_filter.alpha = self._opacity
        self.update()
