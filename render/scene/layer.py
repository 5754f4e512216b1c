"""One layer of planes: what to load, what to upload, what to draw. ``tile_layer.py`` has what volumes share with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.pyramid.model import PyramidSpec
from octree.render.loading.values import LoadedTile, Tier
from octree.render.request import RenderRequest
from octree.render.scene.keys import Once, Part
from octree.render.scene.look import Look
from octree.render.scene.shown import Shown
from octree.render.scene.tile_layer import NO_PLAN, TileLayer, Weighed
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.ahead import Tiles
from octree.render.view.camera import Camera
from octree.render.view.cover import Cover, cover_view, never, pixel_edges, rows_of
from octree.render.view.parts import Part as FramePart
from octree.render.view.parts import Placed
from octree.render.view.plan import ViewPlan, choose_level, plan_view
from octree.render.view.state import Slicing, ViewState

if TYPE_CHECKING:
    from octree.render.gl.tiled_image import TiledImageVisual
    from octree.render.scene.pipeline import Pipeline

_NOWHERE = Region((math.inf, math.inf), (math.inf, math.inf))


def make_layer(
    pipeline: Pipeline,
    source: OpenTileSource,
    looks: Sequence[Look],
    request: RenderRequest,
    visual: Callable[..., TiledImageVisual],
    first: PyramidSpec | None = None,
) -> Layer:
    """A layer with a ``visual`` for each of ``looks``, bottom first. It may plan once it has joined the pipeline. Cameras
    count voxels of the image ``first``; None: of the source itself."""
    aids = {"show_grid": request.show_grid, "mark_pending": request.mark_pending}
    parts = [
        Part(
            look.channel,
            visual(pipeline.atlas, **look.drawing(), **aids, base=source.base(look.channel)),
        )
        for look in looks
    ]
    linear = looks[0].interpolation == "linear"
    return Layer(source, parts, pipeline, first=first or source.spec, linear=linear)


class Layer(TileLayer):
    """One source in one view of planes. Main thread only."""

    def __init__(
        self,
        source: OpenTileSource,
        parts: Sequence[Part],
        pipeline: Pipeline,
        *,
        first: PyramidSpec,
        linear: bool,
    ) -> None:
        super().__init__(source, parts, pipeline, pipeline.atlas, first=first, linear=linear)
        self._planes = pipeline.atlas
        self._view = Region((0.0, 0.0), (0.0, 0.0))
        # of the view, if only a part is wanted now; its pixels
        self._part: tuple[Region, Region] | None = None

    def plan(
        self,
        state: ViewState,
        size_px: tuple[int, int],
        *,
        motion: tuple[float, float] = (0.0, 0.0),
        later: Camera | None = None,
        fresh: bool = False,
        prefetch: bool = False,
        sparing: bool = False,
        part: FramePart | None = None,
        held_from: Tier | None = None,
    ) -> ViewPlan:
        view, px_per_base = self._seen(state, size_px)
        sy, sx = self.to_base.scale
        return self.plan_rect(
            view,
            px_per_base,
            state.slicing,
            motion=(motion[0] * sy, motion[1] * sx),
            fresh=fresh,
            prefetch=prefetch,
            sparing=sparing,
            part=None if part is None else (self.placed(view, px_per_base, size_px), part),
            held_from=held_from,
        )

    def _seen(self, state: ViewState, size_px: tuple[int, int]) -> tuple[Region, tuple[float, float]]:
        """What a frame shows, in base coordinates, and screen pixels per base pixel (y, x)."""
        self.go_to(state.slicing)
        return self._seen_by(state.camera, size_px)

    def _seen_by(self, camera: Camera, size_px: tuple[int, int]) -> tuple[Region, tuple[float, float]]:
        sy, sx = self.to_base.scale
        return self.to_base.region(camera.rect(size_px)), (camera.zoom * camera.aspect / sy, camera.zoom / sx)

    def aim(self, state: ViewState, size_px: tuple[int, int]) -> None:
        """Stand where a frame will be; nothing of it is wanted yet."""
        self._view, self._part = self._seen(state, size_px)[0], None

    def placed_in(self, state: ViewState, size_px: tuple[int, int]) -> Placed:
        """What ``parts_of`` must know of a frame that shows ``state``."""
        return self.placed(*self._seen(state, size_px), size_px)

    def placed(self, view: Region, px_per_base: tuple[float, float], size_px: tuple[int, int]) -> Placed:
        """As ``placed_in``, for a view in base coordinates."""
        level = choose_level(self.face.lattice, px_per_base)
        room = self._pipeline.room_for(self)
        return Placed(self.face.lattice, level, view, size_px, room, self._margin_texels)

    def plan_rect(
        self,
        view: Region,
        px_per_base: tuple[float, float],
        slicing: Slicing,
        *,
        motion: tuple[float, float] = (0.0, 0.0),
        fresh: bool = False,
        prefetch: bool = False,
        sparing: bool = False,
        part: tuple[Placed, FramePart] | None = None,
        held_from: Tier | None = None,
    ) -> ViewPlan:
        """As ``plan``, for a view in base coordinates; ``px_per_base`` is screen pixels per base pixel (y, x). No read of
        the tier ``held_from`` or of a later one is begun yet."""
        self.go_to(slicing)
        if self.is_beyond:
            self._want_nothing()
            self._view, self._part = view, None
            return NO_PLAN
        self._see_version()
        self._part = None if part is None else (part[0].region(part[1]), part[1].region)
        limits = self._pipeline.settings.render
        lacking = Once(self._lacking)
        plan = plan_view(
            self._lattice,
            view if self._part is None else self._part[0],
            px_per_base,
            previous=None if fresh or self._plan is NO_PLAN else self._plan,
            hysteresis=limits.hysteresis,
            max_tiles=self._pipeline.room_for(self),
            margin_texels=self._margin_texels,
            lacking=lacking,
            prefetch_margin=limits.prefetch_margin if prefetch else 0.0,
            motion=(motion[0] * limits.lookahead_ms, motion[1] * limits.lookahead_ms),
            cheap_levels=self.source.stored_levels,
        )
        plan = self._trimmed(plan, lacking, fresh=fresh, prefetch=prefetch, sparing=sparing)
        # a view that has just been chosen is still: only one that goes on from the last has moved
        moved = view != self._view and not fresh
        self._view = view
        shown = view if self._part is None else self._part[0]
        return self._ask_for(plan, shown, lacking, moved=moved, fresh=fresh, held_from=held_from)

    @property
    def tiles_now(self) -> Tiles:
        """What the view wants of its plane: it will want as much of others, as long as the camera stays."""
        return self._coarsest_in(self._view, self._plan.level, len(self._plan.wanted)), self._plan.wanted

    def tiles_seen(self, camera: Camera, size_px: tuple[int, int]) -> Tiles:
        """What a view will want of any plane from another camera."""
        view, px_per_base = self._seen_by(camera, size_px)
        plan = plan_view(
            self._lattice,
            view,
            px_per_base,
            max_tiles=self._pipeline.room_for(self),
            margin_texels=self._margin_texels,
        )
        return self._coarsest_in(view, plan.level, len(plan.wanted)), plan.wanted

    def upload(self, tile: LoadedTile) -> int:
        """Bring one tile into the atlas; returns the bytes uploaded, 0 when there was no room."""
        key = tile.key

        def neighbour(drow: int, dcol: int) -> NDArray[Any] | None:
            found = self._loader.peek(key.beside(drow, dcol))
            return found.data if found is not None else None

        return self._planes.upload(tile, neighbour)

    def rehearse(
        self,
        offset_px: tuple[int, int] = (0, 0),
        size_px: tuple[int, int] = (1, 1),
        *,
        frame_px: tuple[int, int] | None = None,
    ) -> None:
        """While the first tiles are on their way: have their texture made, and the shaders built. Called as
        ``Drawable.draw_part``, for a frame of ``frame_px``; None when a vispy camera places the visuals."""
        plan = self._plan
        if not plan.wanted:
            return
        page = self._planes.reserve(self.face.tile_shape(plan.wanted[0]), self.face.texture_dtype)
        for part in self.parts if page is not None else ():
            if frame_px is not None:
                part.visual.set_view(self._view, frame_px)
            part.visual.rehearse(page, offset_px, size_px)

    def make_cover(self, size_px: tuple[int, int] | None = None) -> Cover:
        """Decide what every part of the view shows, and give it to the visuals. ``size_px`` is that of the
        frame for ``Canvas.draw``; None when a vispy camera places the visuals."""
        return self.show(self.cover_now(size_px), size_px)

    def cover_now(self, size_px: tuple[int, int] | None = None) -> Cover:
        """What ``make_cover`` would show."""
        plan = self._plan
        return cover_view(
            self._lattice,
            _NOWHERE if self.is_beyond else self._view,
            plan.level,
            self._resident_now(),
            self.failed if self._loader.failures else never,
            size_px,
            wanted=plan.wanted if len(self._levels) > 1 else None,
            ideal_level=plan.ideal_level,
            part=self._part,
        )

    def show(self, cover: Cover, size_px: tuple[int, int] | None = None) -> Cover:
        """Give the visuals a cover of the view as it is planned now."""
        origin = self._view.centre
        keys = [self._known_keys[tile] for tile in cover.quads.keys]
        for number, standing in enumerate(self._standing):
            visual = standing.part.visual
            visual.set_cover(cover, [parts[number] for parts in keys], origin)
            visual.base = self.face.base(standing.part.channel)
            if size_px is not None:
                visual.set_view(self._view, size_px)
        self._note_drawn(cover, [key for parts in keys for key in parts])
        return cover

    def missing_now(self) -> float:
        return self.cover_now().coverage.missing

    def blank(self) -> None:
        if self._is_drawn:
            self.show(cover_view(self._lattice, _NOWHERE, self._plan.level, self.resident))
            self._is_drawn, self.cover = False, None

    def weighed(self, size_px: tuple[int, int]) -> Weighed:
        assert self.cover is not None
        return self.cover.coverage, self._planned_px(size_px)

    def shown(self, size_px: tuple[int, int]) -> Shown:
        """What the last cover shows, in a frame of ``size_px`` or in the part of it that was planned."""
        assert self.cover is not None
        plan = self._plan
        return Shown(
            level=plan.level,
            degraded=plan.degraded,
            wanted=frozenset(plan.wanted),
            drawn=self.drawn,
            channels=len(self.parts),
            coverage=self.cover.coverage,
            visible_px=self._planned_px(size_px),
        )

    @property
    def view(self) -> Region:
        """What the frame shows, in base coordinates."""
        return self._view

    def visible_rect(self, size_px: tuple[int, int]) -> tuple[int, int, int, int]:
        """Screen pixels whose centre the image covers, half-open: (row0, row1, col0, col1)."""
        if self.is_beyond:
            return 0, 0, 0, 0
        edges = pixel_edges(rows_of([self.face.lattice.extent]), self._view, size_px)
        row0, col0, row1, col1 = map(int, edges[0])
        return row0, row1, col0, col1

    def visible_px(self, size_px: tuple[int, int]) -> int:
        row0, row1, col0, col1 = self.visible_rect(size_px)
        return (row1 - row0) * (col1 - col0)

    def mark_visible(self, seen: NDArray[np.bool_]) -> None:
        row0, row1, col0, col1 = self.visible_rect((seen.shape[1], seen.shape[0]))
        seen[row0:row1, col0:col1] = True

    def _planned_px(self, size_px: tuple[int, int]) -> int:
        row0, row1, col0, col1 = self.visible_rect(size_px)
        if self._part is not None:
            (y0, x0), (y1, x1) = self._part[1]
            row0, row1, col0, col1 = max(row0, y0), min(row1, y1), max(col0, x0), min(col1, x1)  # type: ignore[assignment] # whole numbers
        return max(row1 - row0, 0) * max(col1 - col0, 0)
