"""``TiledVolume``: a volume in anybody's vispy scene, with any camera that keeps shapes.

canvas = vispy.scene.SceneCanvas(show=True)
view = canvas.central_widget.add_view()
volume = TiledVolume("embryo.ome.zarr", parent=view.scene, mode="mip")
view.camera = vispy.scene.TurntableCamera(up="-y", fov=40)
view.camera.set_range(*volume.extent)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from vispy.scene.visuals import create_visual_node

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.pyramid.options import Table
from octree.render.gl.library import gl
from octree.render.gl.volume.brick_atlas import BrickAtlas
from octree.render.gl.volume.march import MarchVisual
from octree.render.live.node import LiveNode
from octree.render.loading.values import Tier
from octree.render.option_table import RENDER
from octree.render.request import RenderRequest
from octree.render.scene.look import Look
from octree.render.scene.volume.around import Around, around_of
from octree.render.scene.volume.layer import VolumeLayer, make_volume_layer
from octree.render.scene.volume.placing import with_planes
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.plan import ViewPlan
from octree.render.view.volume.rate import Pacer
from octree.render.view.volume.seen import sight_through
from octree.render.view.volume.sight import Sight
from octree.render.volume_options import SLICE

STILL_MS = 150.0
"""A camera that has not moved for so long stands."""
_PLANES_ONLY = ("display", "project", "show_grid", "mark_pending")
_OF_VOLUMES = ("mode", "iso", "attenuation", "slab", "clip", "planes", "detail")


class _March(create_visual_node(MarchVisual)):  # type: ignore[misc] # made by vispy at run time
    """One channel in the scene."""

    def draw(self) -> None:
        self.parent._before_draw()
        self.set_corner(self.parent._corner_px)
        began_s = time.perf_counter()
        super().draw()
        gl.glFinish()  # what is only asked for has taken no time yet
        self.parent._drew(1000 * (time.perf_counter() - began_s))

    # vispy's nodes have an opacity of their own, applied by a filter; the visual's is in its shader already
    opacity = MarchVisual.opacity


class _Seen(NamedTuple):
    """Where a camera stands: what ``sight_through`` takes, where in the framebuffer the frame begins, and how much coarser
    it is drawn."""

    matrix: tuple[float, ...]
    corner_px: tuple[int, int]
    size_px: tuple[int, int]
    coarser: int


class TiledVolume(LiveNode):
    """A volume as a vispy scene node: z, y and x of an image, seen by the camera of its view, in perspective or not. Its
    coordinates are (x, y, z), level-0 voxels of x; y and z are stretched by voxel size, so that shapes are right as they
    are: y runs down and z away in the image, which a camera with ``up="-y"`` shows upright. Transforms may move, turn and
    scale it, and mirror it; one that bends shapes shows nothing. It is drawn over what was drawn before, and hides nothing
    behind what lies in front of it.

    ``source``, ``settings``, ``pipeline``, ``group``, ``swap``   as for ``TiledImage``: t and c are axes to choose on.
    ``fps``       while the camera moves, the volume is drawn as much coarser as it takes to draw so many frames in each
                  second; once it stands, as fine as is wanted.
    ``options``   of ``octree render`` by their long names: mode, iso, attenuation, slab, clip, planes, detail; clim, gamma,
                  colormap, opacity, blending, interpolation, channels, index, labels, single_level, allow_outside.

    ``visuals`` are the vispy visuals, one for each channel: ``mode``, ``iso``, ``attenuation``, ``clim``, ``gamma``, ``colormap`` and
    ``opacity`` may be set at any time. Events, ``go_to``, ``play``, ``settle`` and ``close`` are those of ``TiledImage``. Raises OctreeError
    for a source or option that is wrong.
    """

    OPTIONS = Table(
        "TiledVolume",
        tuple(
            option
            for option in RENDER
            if (option.live and option.name not in _PLANES_ONLY) or option.name in _OF_VOLUMES
        ),
    )
    _layer: VolumeLayer

    def __init__(self, source: Any, *, fps: float = 30.0, **arguments: Any) -> None:
        if not 0 < fps <= 1000:
            raise UsageError(f"fps must be above 0 (to 1000), not {fps}")
        self._pacer = Pacer(fps)
        self._matrix: tuple[float, ...] = ()
        self._moved_ms = -STILL_MS
        self._corner_px, self._drawn_coarser = (0, 0), 0
        super().__init__(source, **arguments)

    def _request(self, source: Any, options: Mapping[str, Any]) -> RenderRequest:
        if options.get("mode") == SLICE:
            raise UsageError("mode: a volume is no slice", hint="TiledImage shows planes")
        return super()._request(source, {"mode": "mip", **options})

    def _make_layer(
        self, source: OpenTileSource, looks: Sequence[Look], request: RenderRequest
    ) -> VolumeLayer:
        assert request.volume is not None
        with_planes(request, source.spec, [False], [source.labels])
        self._around: Around = around_of(request.volume, source.spec)
        return make_volume_layer(self.pipeline, source, looks, partial(_March, parent=self), self._around)

    @property
    def atlas(self) -> BrickAtlas:
        """The texture memory that it draws from."""
        return self.pipeline.bricks

    @property
    def visuals(self) -> Sequence[MarchVisual]:
        """One for each channel, bottom first."""
        return [part.visual for part in self._layer.parts]

    @property
    def extent(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        """The volume in the node's coordinates: (low, high) of x, y and z, as ``camera.set_range`` takes them."""
        x, y, z = ((0.0, size * edge) for size, edge in zip(self._size, self._voxel, strict=True))
        return x, y, z

    @property
    def coarser(self) -> int:
        """By how many halvings the last frame was coarser than is wanted: above 0 only while the camera moves."""
        return self._drawn_coarser

    @property
    def _size(self) -> tuple[float, ...]:
        return self._layer.face.lattice.extent.size[::-1]

    @property
    def _voxel(self) -> tuple[float, ...]:
        return self._around.world[::-1]

    def _see(self) -> _Seen:
        canvas = self._canvas_in_view()
        transform = self._layer.parts[0].visual.get_transform("visual", "framebuffer")
        bends = not transform.Linear
        matrix = np.asarray(transform.map(np.eye(4)), np.float64) if not bends else np.full((4, 4), np.nan)
        now_ms = self.pipeline.clock.now_ms()
        told = tuple(matrix.ravel().tolist())
        if told != self._matrix and self._matrix:
            self._moved_ms = now_ms
        self._matrix = told
        coarser = self._pacer.coarser(moving=now_ms - self._moved_ms < STILL_MS)
        (y0, x0), (y1, x1) = self._screen()
        high, scale = canvas.size[1], canvas.pixel_scale
        # rows of a framebuffer are counted from below
        left, bottom = int(x0 * scale), int((high - y1) * scale)
        size = max(int(-(-x1 * scale // 1)) - left, 1), max(int(-(-(high - y0) * scale // 1)) - bottom, 1)
        return _Seen(told, (left, bottom), size, coarser)

    def _plan(self, seen: _Seen, *, prefetch: bool, held_from: Tier | None) -> ViewPlan:
        self._corner_px, self._drawn_coarser = seen.corner_px, seen.coarser
        return self._layer.plan_seen(
            self._sight(seen),
            self._slicing,
            coarser=seen.coarser,
            fresh=self._fresh,
            prefetch=prefetch,
            held_from=held_from,
        )

    def _sight(self, seen: _Seen) -> Sight:
        around, extent = self._around, self._layer.face.lattice.extent
        box = extent if around.clip is None else extent.intersect(around.clip)
        matrix = np.diag((*self._voxel, 1.0)) @ np.reshape(seen.matrix, (4, 4))
        matrix[:, :2] -= np.outer(matrix[:, 3], seen.corner_px)
        found = sight_through(matrix, seen.size_px, self._voxel, box)
        if found is None:  # nothing of it is in view
            nothing = Region(box.low, box.low)
            found = sight_through(np.diag((1.0, 1.0, 1.0, 1.0)), seen.size_px, (1.0,) * 3, nothing)
            assert found is not None
        return replace(found, slab=around.slab, planes=self._layer.planes)

    def _drew(self, ms: float) -> None:
        self._pacer.note(ms * len(self.visuals), self._drawn_coarser)
