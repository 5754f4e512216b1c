"""``TiledImage``: the same pipeline in anybody's vispy scene, with any camera.

canvas = vispy.scene.SceneCanvas(show=True)
view = canvas.central_widget.add_view(camera="panzoom")
image = TiledImage("slide.ome.zarr", parent=view.scene, colormap="viridis")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from vispy.scene.visuals import create_visual_node

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.pyramid.options import Table
from octree.render.gl.texture_atlas import Atlas
from octree.render.gl.tiled_image import TiledImageVisual
from octree.render.live.node import LiveNode
from octree.render.loading.values import Tier
from octree.render.option_table import RENDER
from octree.render.request import RenderRequest
from octree.render.scene.layer import Layer, make_layer
from octree.render.scene.look import Look
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.motion import Motion
from octree.render.view.plan import ViewPlan
from octree.render.view.seen import seen_by_points, seen_part
from octree.render.view.state import aspect_of


class _Plane(create_visual_node(TiledImageVisual)):  # type: ignore[misc] # made by vispy at run time
    """One channel in the scene. What vispy attaches to it (clipping, opacity) holds for its marks too."""

    def draw(self) -> None:
        self.parent._before_draw()
        super().draw()

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
            hint="make another TiledImage of the same source, with pipeline= that of the first",
        )


class TiledImage(LiveNode):
    """A tiled image as a vispy scene node. Coordinates are level-0 pixels of the axes that are displayed: columns to
    the right, rows down. Any camera; a transform that bends (polar, say) places the corners of tiles, straight between
    them. ``display`` and ``project`` may be set at any time; contrast limits stay.

    ``source``    a pyramid, or anything ``octree render`` takes, array objects included.
    ``settings``  see ``octree.render.config``; None looks for a settings file as the commands do.
    ``atlas``     texture memory shared with other nodes of the same canvas; None makes one.
    ``pipeline``  everything shared with other nodes of the same canvas: threads, memory, textures, settings, and
                  tiles that several show; None makes one, which closes with the last of its nodes.
    ``group``     a name: nodes of the pipeline that have it step together, each as far as it has the axes and the
                  planes. ``swap`` "all": none of them shows a new plane before all can show it without a hole; meanwhile
                  each keeps the one before, hatched. "each" shows what there is of the new plane as it comes.
    ``options``   of ``octree render`` by their long names: clim, gamma, colormap, opacity, blending,
                  interpolation, channels, index, display, project, labels, single_level, show_grid, mark_pending,
                  allow_outside.

    ``events`` of the slice requests (see ``go_to``): ``requested``, ``partial`` (no hole is left), ``complete``, ``failed``
    (complete but for tiles that could not be read; once for each plane), ``superseded``. Callbacks get an event with a
    ``request``: ``node.events.complete.connect(callback)``.

    Call ``close`` (or close the canvas) to stop loading. ``visuals`` are the vispy visuals, one for each
    channel: set their ``clim``, ``gamma``, ``colormap``, ``opacity`` at any time; nothing is uploaded again.
    Raises OctreeError for a source or option that is wrong.
    """

    # what of ``octree render`` means something where somebody else owns canvas, camera and clock
    OPTIONS = Table("TiledImage", tuple(option for option in RENDER if option.live))
    _layer: Layer

    def _make_layer(self, source: OpenTileSource, looks: Sequence[Look], request: RenderRequest) -> Layer:
        self._motion = Motion()
        return make_layer(self.pipeline, source, looks, request, partial(_Plane, parent=self))

    @property
    def atlas(self) -> Atlas:
        """The texture memory that it draws from."""
        return self.pipeline.atlas

    @property
    def visuals(self) -> Sequence[TiledImageVisual]:
        """One for each channel, bottom first."""
        return [part.visual for part in self._layer.parts]

    @property
    def extent(self) -> Region:
        """The image in the node's coordinates: for ``camera.set_range``."""
        return self._layer.face.lattice.extent

    @property
    def aspect(self) -> float:
        """How high a pixel is for its width, by voxel size: what a transform of the node or a camera may stretch rows by
        so that pixels have the shape of their voxels."""
        return aspect_of(self._layer.source.spec, self._slicing.displayed)

    @property
    def display(self) -> str:
        """The axes of rows and columns, ``"yx"`` or others. Setting it raises UsageError for what cannot be shown."""
        return "".join(self._slicing.displayed)

    @display.setter
    def display(self, axes: str) -> None:
        self._change(replace(self._slicing, displayed=RENDER["display"].read(axes)))

    @property
    def project(self) -> str | None:
        """The projection, as ``"z=max"``, or None. Setting it raises UsageError for what cannot be projected."""
        return None if self._slicing.projection is None else str(self._slicing.projection)

    @project.setter
    def project(self, projection: str | None) -> None:
        wished = None if projection is None else RENDER["project"].read(projection)
        self._change(replace(self._slicing, projection=wished))

    def _see(self) -> Any:
        view, px_per_base = self._view()
        return view, px_per_base, self._motion.measure(self.pipeline.clock.now_ms(), view)

    def _plan(self, seen: Any, *, prefetch: bool, held_from: Tier | None) -> ViewPlan:
        view, px_per_base, motion = seen
        return self._layer.plan_rect(
            view,
            px_per_base,
            self._slicing,
            motion=motion,
            fresh=self._fresh,
            prefetch=prefetch,
            held_from=held_from,
        )

    def _mark_old(self, old: bool) -> None:
        for visual in self.visuals:
            visual.mark_old = old

    def _view(self) -> tuple[Region, tuple[float, float]]:
        """What of the image the screen shows, and how many of its pixels a base pixel takes, (y, x)."""
        canvas, extent, screen = self._canvas_in_view(), self.extent, self._screen()
        transform = self._layer.parts[0].visual.get_transform("visual", "canvas")
        if transform.Linear:
            seen, (py, px) = seen_part(np.asarray(transform.map(np.eye(4)), np.float64), extent, screen)
        else:
            seen, (py, px) = seen_by_points(transform.imap, extent, screen)
        return seen, (py * canvas.pixel_scale, px * canvas.pixel_scale)
