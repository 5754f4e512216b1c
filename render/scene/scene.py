"""The frame of ``octree render``: the layers of a request on a canvas of their own. Main thread only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from octree.pyramid.model import PyramidSpec
from octree.render.gl.canvas import Canvas, Drawable
from octree.render.loading.values import Tier
from octree.render.request import RenderRequest
from octree.render.scene.ahead import Ahead, Coming
from octree.render.scene.layer import Layer, make_layer
from octree.render.scene.look import Look, looks_of
from octree.render.scene.overview import Overview
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.shown import Shown
from octree.render.scene.slices import sight_of
from octree.render.scene.tile_layer import TileLayer, Weighed, stand_of, volumes_of
from octree.render.scene.volume.around import around_of
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.ahead import Tiles, arrives_in_time
from octree.render.view.camera import Camera
from octree.render.view.coverage import Coverage, merge_coverage
from octree.render.view.film import Film
from octree.render.view.parts import Part, parts_of
from octree.render.view.shots import Shot
from octree.render.view.state import Slicing, ViewState

if TYPE_CHECKING:
    from octree.render.gl.volume.box import BoxVisual
    from octree.render.scene.volume.layer import VolumeLayer


class Scene:
    """A view of a pipeline: ``images``, a layer for each of ``sources``, and over them the inset if the request has
    one, drawn on ``canvas``. ``looks`` of each source; None: as the request says. ``joins``
    the pipeline; else somebody does that for it. Raises UsageError for what names no colour, channel or plane."""

    def __init__(
        self,
        pipeline: Pipeline,
        canvas: Canvas,
        request: RenderRequest,
        sources: Sequence[OpenTileSource],
        *,
        looks: Sequence[Sequence[Look]] | None = None,
        joins: bool = True,
    ) -> None:
        self.pipeline, self.canvas = pipeline, canvas
        if looks is None:
            looks = [
                looks_of(source, options, request)
                for source, options in zip(sources, request.layers, strict=True)
            ]
        self.images = _images(pipeline, request, sources, looks)
        self._boxes = _boxes(request, self.images)
        self.overview: Overview | None = None
        if request.overview:
            self.overview = Overview(_plane(pipeline, request, sources[0], looks[0]), canvas.size_px)
        self.layers = [*self.images, *([self.overview.layer] if self.overview else [])]
        self._slicing: Slicing | None = None
        self._film = Film(())
        self._ahead = Ahead(self.layers, pipeline.loader)
        if joins:
            pipeline.join(self)

    def look_ahead(self, shots: Sequence[Shot], *, waits: bool = False, share: float = 1.0) -> None:
        """All that will be shown, in order, before the first frame is made. ``waits``: frames that are streamed come as late
        as their tiles. ``share``: of what may be kept of planes to come."""
        self._film, self._ahead.share = Film(shots, waits=waits), share

    def stand(self, state: ViewState | None) -> None:
        """What was shown before the next frame, by whomever: without a change of plane that is no slice request."""
        self._slicing = None if state is None else state.slicing

    # while a frame is made

    def plan(
        self,
        state: ViewState,
        *,
        motion: tuple[float, float] = (0.0, 0.0),
        fresh: bool = False,
        prefetch: bool = False,
        sparing: bool = False,
        part: Part | None = None,
    ) -> None:
        """Say what a frame wants; see ``Layer.plan``. One that is sliced as none was before it is a slice request."""
        if state.slicing != self._slicing:
            self.pipeline.slices.note_unread(self)
            self._slicing = state.slicing
            place = stand_of(self.images, state.slicing)
            self.pipeline.slices.request(self, state.slicing, place, name=state.camera.name or "view")
        # neighbours in the plane are worth less than the same view of the next one
        self._film.go_on(state)
        prefetch = prefetch and not self._film.steps
        in_time = fresh or arrives_in_time(self.pipeline.loader.latency_ms(), self._film.left_ms)
        later = self._film.later(self.pipeline.settings.render.lookahead_ms)
        for layer in self.images:
            layer.plan(
                state,
                self.canvas.size_px,
                motion=motion,
                later=later,
                fresh=fresh,
                prefetch=prefetch,
                sparing=sparing,
                part=part,
                held_from=None if in_time else Tier.STAND_IN,
            )
        if self.overview is not None:
            self.overview.plan(state, part)
        if part is None:
            self._ahead.plan(self._coming(state), self._film.plane_ms)
        else:  # what does not fit the atlas leaves no room beside it
            self._ahead.rest()

    @property
    def steps(self) -> bool:
        """More than one plane will be shown."""
        return self._film.steps

    def _coming(self, state: ViewState) -> Iterator[Coming]:
        for shot, due_ms in self._film.coming():
            yield Coming(shot.state.slicing, due_ms, partial(self._tiles, state.camera, shot.state.camera))

    def _tiles(self, now: Camera, then: Camera, layer: TileLayer) -> Tiles:
        """What a layer will want, seen from another camera or the same; the inset is always seen in the same way."""
        if then == now or layer not in self.images:
            return layer.tiles_now
        return layer.tiles_seen(then, self.canvas.size_px)

    def parts(self, state: ViewState, *, by_rows: bool = False) -> list[Part | None]:
        """The parts in which a frame is to be drawn so that all tiles of each have room; [None]: it is whole. ``by_rows``: see
        ``parts_of``. Raises UsageError when the atlas has no room for what one pixel is drawn from."""
        size_px = self.canvas.size_px
        placed = [
            (layer, layer.placed_in(state, size_px)) for layer in self.images if isinstance(layer, Layer)
        ]  # volumes are drawn whole: a ray meets bricks near and far
        if self.overview is not None:
            placed.append((self.overview.layer, self.overview.placed_in(state)))
        tight = [each for layer, each in placed if not layer.is_beyond]
        parts = list(parts_of(size_px, tight, by_rows=by_rows))
        return [*parts] if len(parts) > 1 else [None]

    def rehearse(self) -> None:
        """Once the first view is planned: what its tiles will need of OpenGL, while they are on their way."""
        self.canvas.rehearse([_Rehearsal(layer, self.canvas.size_px) for layer in self.layers])

    @property
    def is_complete(self) -> bool:
        """Nothing that arrives can make this frame better."""
        return all(layer.is_complete for layer in self.layers)

    def aim(self, state: ViewState) -> None:
        """Say what a frame shows, and want nothing of it yet."""
        if state.slicing != self._slicing:
            self.pipeline.slices.note_unread(self)
        for layer in self.images:
            layer.aim(state, self.canvas.size_px)
        for layer in self.layers:
            layer.rest()

    def make_cover(self) -> Coverage:
        """Decide what the frame shows; the coverage of all images, each weighted by the screen pixels it covers. Of volumes it
        is that of space: samples are counted when somebody asks for ``shown``."""
        return merge_coverage(self.cover())

    def cover(self) -> list[Weighed]:
        """As ``make_cover``, image by image."""
        for layer in self.layers:
            layer.make_cover(self.canvas.size_px)
        return self.weighed()

    def weighed(self) -> list[Weighed]:
        """The coverage of each image, as it was decided last, and how much it counts."""
        return [layer.weighed(self.canvas.size_px) for layer in self.images]

    def see(self, coverage: Coverage) -> None:
        """The frame that is being made shows so much of its plane."""
        self.pipeline.slices.see(self, sight_of(self, coverage))

    @property
    def holds_some(self) -> bool:
        """A cover would show something of what was planned."""
        return any(layer.holds_some for layer in self.layers)

    @property
    def is_news(self) -> bool:
        """What the frame shows before it is done may be a milestone of its plane."""
        request = self.pipeline.slices.newest(self)
        if request is None or request.record.full_ms is not None:
            return False
        return request.record.first_ms is None or any(layer.stands_in for layer in self.layers)

    def draw(self, part: Part | None = None) -> None:
        """``part``: only these pixels of the frame change."""
        first = self.images[0]
        if self.overview is not None and isinstance(first, Layer):
            self.overview.mark(first.view)
        self.canvas.draw([*self._images_drawn(), *self._over()], part)

    def _images_drawn(self) -> list[Drawable]:
        """The images, bottom first; of several volumes each as far as others do not hide it."""
        layers = [[part.visual for part in layer.parts] for layer in self.images]
        if len(layers) < 2 or not any(layer.is_volume for layer in self.images):
            return [visual for layer in layers for visual in layer]
        from octree.render.gl.volume.surfaces import met

        return [*met(layers, self.pipeline.surfaces)]

    def _over(self) -> list[Drawable]:
        """What is drawn over the images: of volumes outlines, of planes the inset."""
        if self.overview is not None:
            return [self.overview]
        for layer, box in self._boxes:
            if layer.sight is not None and layer.cover is not None:
                box.set_box(layer.sight, layer.cover.failed)
        return [box for _, box in self._boxes]

    # what it shows

    def shown(self) -> list[Shown]:
        """Of each image, in the frame or in the part of it that was planned."""
        return [layer.shown(self.canvas.size_px) for layer in self.images]

    def strays(self, state: ViewState) -> int:
        """Tiles given to be drawn that are of another place than ``state``; see ``Layer.strays``."""
        return sum(layer.strays(state.slicing) for layer in self.layers)

    def covered_px(self) -> int:
        """Screen pixels of each image, added up: what coverage is weighted by."""
        return sum(layer.visible_px(self.canvas.size_px) for layer in self.images)

    def visible_px(self) -> int:
        """Screen pixels that any image covers."""
        if len(self.images) == 1:
            return self.images[0].visible_px(self.canvas.size_px)
        seen = np.zeros((self.canvas.size_px[1], self.canvas.size_px[0]), bool)
        for layer in self.images:
            layer.mark_visible(seen)
        return int(seen.sum())

    def close(self) -> None:
        """Leave the pipeline. Closing twice is harmless."""
        if self in self.pipeline.views:
            self._ahead.forget()
        self.pipeline.leave(self)


def _images(
    pipeline: Pipeline,
    request: RenderRequest,
    sources: Sequence[OpenTileSource],
    looks: Sequence[Sequence[Look]],
) -> Sequence[TileLayer]:
    """A layer for each source, bottom first."""
    first, pairs = sources[0].spec, list(zip(sources, looks, strict=True))
    if request.volume is None:
        return [_plane(pipeline, request, source, own, first) for source, own in pairs]
    from octree.render.gl.volume.march import MarchVisual
    from octree.render.scene.volume.layer import make_volume_layer

    around = around_of(request.volume, first)
    return [make_volume_layer(pipeline, source, own, MarchVisual, around, first) for source, own in pairs]


def _boxes(request: RenderRequest, images: Sequence[TileLayer]) -> list[tuple[VolumeLayer, BoxVisual]]:
    """Of each volume the outlines of what could not be read; of the first its own, if that is asked for."""
    if request.volume is None:
        return []
    from octree.render.gl.volume.box import BoxVisual

    layers = volumes_of(images)
    return [(layer, BoxVisual(show_box=request.volume.box and layer is layers[0])) for layer in layers]


def _plane(
    pipeline: Pipeline,
    request: RenderRequest,
    source: OpenTileSource,
    looks: Sequence[Look],
    first: PyramidSpec | None = None,
) -> Layer:
    # vispy finds its OpenGL when it is first imported: after the platform has been chosen, not before
    from octree.render.gl.tiled_image import TiledImageVisual

    return make_layer(pipeline, source, looks, request, TiledImageVisual, first)


def coverage_of(shown: Iterable[Shown]) -> Coverage:
    """Of all images together, each weighted by the screen pixels it covers, volumes by their samples."""
    return merge_coverage((each.coverage, each.weight) for each in shown)


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """A layer that draws nothing yet, for ``Canvas.rehearse``."""

    layer: TileLayer
    frame_px: tuple[int, int]

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        self.layer.rehearse(offset_px, size_px, frame_px=self.frame_px)
