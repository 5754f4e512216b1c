"""A frame of several views, each a scene of its own on a pane of the canvas, all on one pipeline. Main thread only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from octree.render.gl.canvas import Canvas, Drawable
from octree.render.option_table import ChannelOption
from octree.render.request import LayerOptions, RenderRequest
from octree.render.scene.cells import Cells
from octree.render.scene.look import Look, looks_of
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.scene import Scene
from octree.render.scene.shown import Shown
from octree.render.scene.tile_layer import TileLayer
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.coverage import Coverage, merge_coverage
from octree.render.view.parts import Part
from octree.render.view.shots import Shot
from octree.render.view.state import ViewState


@dataclass(frozen=True, slots=True)
class CellPart:
    """A part of one cell: what is drawn at once where the tiles of all cells do not fit the atlas. ``last`` of its cell."""

    cell: int
    part: Part | None
    last: bool


@dataclass(frozen=True, slots=True)
class _Moved:
    """A visual of a pane, on the canvas."""

    visual: Drawable
    place: Part

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        self.visual.draw_part((offset_px[0] - self.place.x, offset_px[1] - self.place.y), size_px)


class Pane(Canvas):
    """A rectangle of another canvas, for a scene as if it were all there is."""

    def __init__(self, canvas: Canvas, place: Part) -> None:
        self._canvas, self._place = canvas, place
        self.size_px = (place.width, place.height)

    def draw(self, visuals: Sequence[Drawable], within: tuple[int, int, int, int] | None = None) -> None:
        place = self._place
        x, y, width, height = within or (0, 0, *self.size_px)
        moved = [_Moved(visual, place) for visual in visuals]
        self._canvas.draw(moved, (place.x + x, place.y + y, width, height))

    def rehearse(self, visuals: Sequence[Drawable]) -> None:
        self._canvas.rehearse([_Moved(visual, self._place) for visual in visuals])

    def close(self) -> None:
        pass


class Montage:
    """What ``Scene`` is to the frame loop, of several: ``scenes`` in the order of the cells, which share looks, so that limits
    measured of the data are the same in all. Raises UsageError as ``Scene`` does."""

    def __init__(
        self,
        pipeline: Pipeline,
        canvas: Canvas,
        request: RenderRequest,
        sources: Sequence[OpenTileSource],
        cells: Cells,
    ) -> None:
        self.pipeline, self.canvas, self.cells = pipeline, canvas, cells
        looks: list[list[Look]] = []
        for source, options in zip(sources, request.layers, strict=True):
            # what is compared is drawn alike: a plate, too
            alike = looks and request.montage_by == "wells"
            looks.append(looks_of(source, _as(looks[0], options) if alike else options, request))
        self.scenes = [
            Scene(
                pipeline,
                Pane(canvas, cell.place),
                request,
                [sources[n] for n in cell.sources],
                looks=[_of_channel(looks[n], cell.channel) for n in cell.sources],
                joins=False,
            )
            for cell in cells.cells
        ]
        pipeline.join(*self.scenes)  # at once, so that what an atlas must hold is known of all
        self._active: CellPart | None = None

    @property
    def images(self) -> list[TileLayer]:
        return [layer for scene in self.scenes for layer in scene.images]

    @property
    def layers(self) -> list[TileLayer]:
        return [layer for scene in self.scenes for layer in scene.layers]

    def look_ahead(self, shots: Sequence[Shot], *, waits: bool = False) -> None:
        """As ``Scene.look_ahead``, of all cells: together they take no more than one scene would."""
        for number, scene in enumerate(self.scenes):
            own = [replace(shot, state=shot.state.cells[number]) for shot in shots]
            scene.look_ahead(own, waits=waits, share=1 / len(self.scenes))

    def stand(self, state: ViewState | None) -> None:
        for number, scene in enumerate(self.scenes):
            scene.stand(None if state is None else state.cells[number])

    @property
    def steps(self) -> bool:
        return any(scene.steps for scene in self.scenes)

    # while a frame is made

    def plan(
        self,
        state: ViewState,
        *,
        motion: tuple[float, float] = (0.0, 0.0),
        fresh: bool = False,
        prefetch: bool = False,
        sparing: bool = False,
        part: CellPart | None = None,
    ) -> None:
        """As ``Scene.plan``, of all cells or of that which ``part`` is of. ``motion`` is that of the first cell, and of those that
        stand where it does."""
        self._active = part
        for number, (scene, own) in enumerate(zip(self.scenes, state.cells, strict=True)):
            if part is not None and number != part.cell:
                scene.aim(own)
                continue
            linked = (own.camera.x, own.camera.y) == (state.camera.x, state.camera.y)
            scene.plan(
                own,
                motion=motion if linked else (0.0, 0.0),
                fresh=fresh,
                prefetch=prefetch,
                sparing=sparing,
                part=None if part is None else part.part,
            )

    def parts(self, state: ViewState, *, by_rows: bool = False) -> list[CellPart | None]:
        """[None]: all cells at once; else cell by cell, each as a whole or in parts, whatever ``by_rows`` says."""
        self.canvas.draw([])  # what lies between the cells
        each = [scene.parts(own) for scene, own in zip(self.scenes, state.cells, strict=True)]
        if all(parts == [None] for parts in each):
            return [None]
        return [
            CellPart(number, part, part is parts[-1]) for number, parts in enumerate(each) for part in parts
        ]

    @property
    def _at_work(self) -> list[Scene]:
        return self.scenes if self._active is None else [self.scenes[self._active.cell]]

    def rehearse(self) -> None:
        for scene in self._at_work:
            scene.rehearse()

    @property
    def is_complete(self) -> bool:
        return all(scene.is_complete for scene in self._at_work)

    def make_cover(self) -> Coverage:
        return merge_coverage([each for scene in self._at_work for each in scene.cover()])

    def see(self, coverage: Coverage) -> None:
        """Each cell for itself, once it is whole."""
        if self._active is None or self._active.last:
            for scene in self._at_work:
                scene.see(merge_coverage(scene.weighed()))

    @property
    def holds_some(self) -> bool:
        return any(scene.holds_some for scene in self._at_work)

    @property
    def is_news(self) -> bool:
        return any(scene.is_news for scene in self._at_work)

    def draw(self, part: CellPart | None = None) -> None:
        if part is not None:
            self.scenes[part.cell].draw(part.part)
            return
        for scene in self.scenes:
            scene.draw()

    # what it shows

    def shown(self) -> list[Shown]:
        """Of each image of each cell; of a cell that is not being drawn nothing."""
        working = self._at_work
        return [
            each
            for scene in self.scenes
            for each in (scene.shown() if scene in working else [_nothing(layer) for layer in scene.images])
        ]

    def strays(self, state: ViewState) -> int:
        cells = zip(self.scenes, state.cells, strict=True)
        return sum(scene.strays(own) for scene, own in cells if scene in self._at_work)

    def covered_px(self) -> int:
        return sum(scene.covered_px() for scene in self.scenes)

    def visible_px(self) -> int:
        return sum(scene.visible_px() for scene in self.scenes)

    def close(self) -> None:
        for scene in self.scenes:
            scene.close()


def _as(looks: Sequence[Look], options: LayerOptions) -> LayerOptions:
    """The options of a layer that is to have the contrast limits of another."""
    if looks[0].channel is None:
        return replace(options, clim=looks[0].clim)
    chosen = [
        ChannelOption(look.channel, look.colormap, look.clim) for look in looks if look.channel is not None
    ]
    return replace(options, channels=tuple(chosen))


def _of_channel(looks: Sequence[Look], channel: int | None) -> list[Look]:
    """Of a source that has the channel its look; of another all."""
    return [look for look in looks if look.channel == channel] or list(looks)


def _nothing(layer: TileLayer) -> Shown:
    return Shown(0, False, frozenset(), frozenset(), len(layer.parts), Coverage(), 0)
