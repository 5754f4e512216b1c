"""One layer of a volume: what to load, what to upload, what the rays of a frame meet. ``tile_layer.py`` has what planes share
with it.

Its tiles are bricks. They lie in an atlas of 3-D textures, and a frame is drawn in one piece: bricks that have no room make
it coarser, which is said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice, Region
from octree.pyramid.model import PyramidSpec, TileKey
from octree.render.gl.volume.brick_atlas import BrickPart
from octree.render.gl.volume.gutters import STEPS
from octree.render.loading.values import LoadedTile, LoadKey, Tier
from octree.render.scene.keys import Once, Part
from octree.render.scene.look import Look
from octree.render.scene.shown import Samples, Shown
from octree.render.scene.tile_layer import NO_PLAN, TileLayer, Weighed
from octree.render.scene.volume.around import Around
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.ahead import Tiles
from octree.render.view.camera import Camera
from octree.render.view.cover import Cover, never
from octree.render.view.coverage import Coverage
from octree.render.view.plan import Lacking, ViewPlan
from octree.render.view.state import VOLUME, Slicing, ViewState
from octree.render.view.volume.cells import Cells, cells_of, closed_faces
from octree.render.view.volume.cover import cover_volume, coverage_of_classes, is_known
from octree.render.view.volume.plan import plan_volume, step_of
from octree.render.view.volume.samples import seen_samples
from octree.render.view.volume.sight import Places, Rays, Sight, rays_of, sight_of
from octree.render.volume_options import Planes

if TYPE_CHECKING:
    from octree.render.gl.volume.march import MarchVisual
    from octree.render.scene.pipeline import Pipeline


_DARKENS = 2.5
"""An attenuation that nobody gives darkens the brightest samples by so many powers of e over the volume's longest edge."""
_SHOWS, _AFTER = 0.1, 1 / 20
"""With an opacity that nobody gives the brightest samples let so much through after such a part of the longest edge."""


def make_volume_layer(
    pipeline: Pipeline,
    source: OpenTileSource,
    looks: Sequence[Look],
    visual: Callable[..., MarchVisual],
    around: Around,
    first: PyramidSpec | None = None,
) -> VolumeLayer:
    """As ``make_layer``, of a volume."""
    parts = [
        Part(
            look.channel,
            visual(pipeline.bricks, **_drawing(look, around), base=source.base(look.channel)),
        )
        for look in looks
    ]
    linear, planes = looks[0].interpolation == "linear", looks[0].planes
    return VolumeLayer(
        source, parts, pipeline, around, first=first or source.spec, linear=linear, planes=planes
    )


def _drawing(look: Look, around: Around) -> dict[str, Any]:
    """The arguments of ``MarchVisual``; what nobody has said goes by the size of the volume."""
    drawing = look.drawing()
    if look.planes is not None:
        return {**drawing, "mode": "mip", "planes": True}
    if look.auto_opacity and around.options.mode == "alpha" and not look.labels:
        drawing["opacity"] = 1.0 - _SHOWS ** (1.0 / (_AFTER * max(around.longest, 1.0 / _AFTER)))
    attenuation = _DARKENS / around.longest if look.attenuation is None else look.attenuation
    return {**drawing, "mode": around.options.mode, "iso": look.iso, "attenuation": attenuation}


class VolumeLayer(TileLayer):
    """One source in one view of a volume. Main thread only."""

    is_volume = True

    def __init__(
        self,
        source: OpenTileSource,
        parts: Sequence[Part],
        pipeline: Pipeline,
        around: Around,
        *,
        first: PyramidSpec,
        linear: bool,
        planes: Planes | None = None,
    ) -> None:
        super().__init__(source, parts, pipeline, pipeline.bricks, first=first, linear=linear)
        self._bricks = pipeline.bricks
        self.go_to(Slicing(displayed=VOLUME))  # bricks, from the first: room is made for them
        self._around, self._planes = around, planes
        self._sight: Sight | None = None
        self._seen: tuple[Camera, tuple[int, int]] | None = None  # what ``_sight`` is of
        self._rays: Rays | None = None
        self._counted: tuple[NDArray[np.int64], Coverage] | None = None  # of the rays and the cover
        self._cells: Cells | None = None
        self._settles = True  # the frame waits for what it wants
        self._coarser = 0  # halvings below what the options want
        self._short: Sight | None = None  # the last for which there was not enough room

    @property
    def sight(self) -> Sight | None:
        """What the frame shows of it; None before the first."""
        return self._sight

    # from a camera to wishes

    def _sight_of(self, camera: Camera, size_px: tuple[int, int]) -> Sight:
        around = self._around
        return sight_of(
            camera,
            size_px,
            to_base=self.to_base,
            world=around.world,
            extent=self.face.lattice.extent,
            clip=around.clip,
            slab=around.slab,
            planes=self.planes,
        )

    @property
    def planes(self) -> Places | None:
        """The middles of the planes that are shown, base coordinates (x, y, z); None: all of the volume is."""
        if self._planes is None:
            return None
        if self.source.slab is not None:
            return None, None, 0.5
        z, y, x = zip(self.to_base.scale, self.to_base.offset, strict=True)
        places = dict(self._planes)
        ways = (("x", x), ("y", y), ("z", z))
        return _places(
            [
                (places[axis] + 0.5) * scale + offset if axis in places else None
                for axis, (scale, offset) in ways
            ]
        )

    def aim(self, state: ViewState, size_px: tuple[int, int]) -> None:
        self.go_to(state.slicing)
        self._seen, self._sight = (state.camera, size_px), self._sight_of(state.camera, size_px)

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
        part: Any = None,
        held_from: Tier | None = None,
    ) -> ViewPlan:
        before = self._seen
        self.aim(state, size_px)
        assert self._sight is not None
        moved = self._seen != before and not fresh
        ahead = None if later is None else self._sight_of(later, size_px)
        return self._plan_sight(
            self._sight,
            moved=moved,
            later=ahead,
            fresh=fresh,
            prefetch=prefetch,
            sparing=sparing,
            held_from=held_from,
        )

    def plan_seen(
        self,
        sight: Sight,
        slicing: Slicing,
        *,
        coarser: int = 0,
        fresh: bool = False,
        prefetch: bool = False,
        held_from: Tier | None = None,
    ) -> ViewPlan:
        """As ``plan``, for what somebody else's camera sees of the layer. ``coarser``: by so many halvings than the
        options want it."""
        self.go_to(slicing)
        self._sight, self._seen, self._coarser = sight, None, coarser
        return self._plan_sight(sight, moved=not fresh, fresh=fresh, prefetch=prefetch, held_from=held_from)

    def _plan_sight(
        self,
        sight: Sight,
        *,
        moved: bool,
        later: Sight | None = None,
        fresh: bool,
        prefetch: bool,
        sparing: bool = False,
        held_from: Tier | None,
    ) -> ViewPlan:
        if self.is_beyond:
            self._want_nothing()
            return NO_PLAN
        self._see_version()
        self._settles = fresh and not prefetch  # streams look ahead
        lacking = Once(self._lacking)
        previous = None if fresh else self._plan
        plan = self._planned(sight, lacking, previous, prefetch=prefetch, later=later)
        plan = self._trimmed(plan, lacking, fresh=fresh, prefetch=prefetch, sparing=sparing)
        shown = hull_of(self._lattice, plan.wanted)
        return self._ask_for(plan, shown, lacking, moved=moved, fresh=fresh, held_from=held_from)

    def _planned(
        self,
        sight: Sight,
        lacking: Lacking,
        previous: ViewPlan | None,
        *,
        prefetch: bool = False,
        later: Sight | None = None,
    ) -> ViewPlan:
        limits = self._pipeline.settings.render
        plan = plan_volume(
            self._lattice,
            sight,
            detail_px=self._around.options.detail_px * 2**self._coarser,
            previous=None if previous is NO_PLAN else previous,
            hysteresis=limits.hysteresis,
            max_tiles=self._pipeline.room_for(self),
            margin_texels=self._margin_texels,
            lacking=lacking,
            prefetch_margin=limits.prefetch_margin if prefetch else 0.0,
            later=later,
            cheap_levels=self.source.stored_levels,
        )
        if plan.degraded:
            self._short = sight
        return plan

    @property
    def wanted_bytes(self) -> int:
        """What a part's bricks would take in a view that was degraded, the last one; 0: none was."""
        if self._short is None:
            return 0
        detail_px = self._around.options.detail_px
        plan = plan_volume(self._lattice, self._short, detail_px=detail_px, margin_texels=self._margin_texels)
        return len(plan.wanted) * self.slot_bytes

    @property
    def tiles_now(self) -> Tiles:
        wanted = self._plan.wanted
        return self._coarsest_in(hull_of(self._lattice, wanted), self._plan.level, len(wanted)), wanted

    def tiles_seen(self, camera: Camera, size_px: tuple[int, int]) -> Tiles:
        plan = self._planned(self._sight_of(camera, size_px), lambda tiles: tiles, None)
        hull = hull_of(self._lattice, plan.wanted)
        return self._coarsest_in(hull, plan.level, len(plan.wanted)), plan.wanted

    # what is in memory

    def upload(self, tile: LoadedTile) -> int:
        source, version, (level, index, _) = tile.key
        new, peek = (
            tuple.__new__,
            self._loader.peek,
        )  # for each of 26: the constructors take four times as long

        def beside(grid: tuple[int, ...]) -> NDArray[Any] | None:
            found = peek(new(LoadKey, (source, version, new(TileKey, (level, index, grid)))))
            return found.data if found is not None else None

        return self._bricks.upload(tile, beside, self._owner_of(tile.key))

    def worth_uploading(self, waiting: Sequence[LoadedTile]) -> list[LoadedTile]:
        """Not what stands in, nor bricks beside which others are on their way: their gutters would be written twice. But no
        more of them wait than take half of the cache."""
        wanted = self._known_keys.table(self._plan.wanted)
        coming = self._coming([tile.key for tile in waiting])
        left = self._loader.cache_bytes // 2
        now = []
        for tile in waiting:
            left -= tile.data.nbytes
            if left < 0 or (tile.key in wanted and not _is_beside(tile.key, coming)):
                left += tile.data.nbytes
                now.append(tile)
        return now

    def _coming(self, here: Iterable[LoadKey] = ()) -> dict[Hashable, set[tuple[int, ...]]]:
        """The wanted bricks that are neither in the atlas nor ``here``, and may still come: their numbers, by level and index."""
        absent = set(self._known_keys.table(self._plan.wanted))
        absent = absent.difference(self._bricks.resident, here, self._loader.failures)
        coming: dict[Hashable, set[tuple[int, ...]]] = {}
        for key in absent:
            coming.setdefault(key.tile[:2], set()).add(key.tile.grid)
        return coming

    def _refresh(self, drawn: Collection[LoadKey]) -> None:
        """What is about to be drawn shows what lies around it, but where more of that is about to come."""
        known = self._bricks.outdated
        if known and (outdated := [key for key in drawn if key in known]):
            coming = self._coming()
            self._bricks.refresh([key for key in outdated if not _is_beside(key, coming)])

    def _owner_of(self, key: LoadKey) -> BrickPart:
        """Whose page a brick goes to: that of its channel."""
        level, index, _ = key.tile
        found = next((own.part for own in self._standing if own.indices[level] == index), self.parts[0])
        return self._owner(found)

    def _owner(self, part: Part) -> BrickPart:
        alpha = self.face.rgb and self.face.samples_shape in ((2,), (4,))
        return BrickPart((self.face.token, part.channel), self.largest[:3], alpha)

    @property
    def owners(self) -> list[BrickPart]:
        """Who has a page of its own."""
        return [self._owner(part) for part in self.parts]

    def rehearse(
        self,
        offset_px: tuple[int, int] = (0, 0),
        size_px: tuple[int, int] = (1, 1),
        *,
        frame_px: tuple[int, int] | None = None,
    ) -> None:
        if not self._plan.wanted or self._sight is None:
            return
        # with what stands in, where somebody will see it: a texture that must grow is copied, which takes longer than all
        # that is uploaded
        room = len(self._plan.wanted) if self._settles else len(self._rank) // len(self.parts)
        for part in self.parts:
            page = self._bricks.reserve(self.largest, self.face.texture_dtype, self._owner(part), room)
            if not self._settles:
                part.visual.expect_strides()
            if page is not None:
                part.visual.rehearse(page, offset_px, size_px)

    # what is drawn

    def make_cover(self, size_px: tuple[int, int] | None = None) -> Cover:
        return self._show(self._cover_now())

    def _cover_now(self) -> Cover:
        assert self._sight is not None
        return cover_volume(
            self._lattice,
            self._plan,
            self._sight,
            self._resident_now(),
            self.failed if self._loader.failures else never,
        )

    def missing_now(self) -> float:
        return 0.0 if self.is_beyond or self._sight is None else self._cover_now().coverage.missing

    def blank(self) -> None:
        if self._is_drawn and self._sight is not None:
            nothing = Region(self._sight.box.low, self._sight.box.low)
            self._sight = replace(self._sight, box=nothing)
            self._show(self._cover_now())
            self._is_drawn, self.cover = False, None

    def _show(self, cover: Cover) -> Cover:
        """Give the visuals a cover of the sight as it is planned now."""
        sight, plan = self._sight, self._plan
        assert sight is not None
        cells, rays = (
            cells_of(self._lattice, cover, sight),
            rays_of(sight, step_of(self._lattice, sight, plan)),
        )
        keys = [() if tile is None else self._known_keys[tile] for tile in cells.keys]
        resident, wanted = self._resident_now(), frozenset(plan.wanted)
        closed = closed_faces(self._lattice, cells, lambda tile: tile in wanted and resident(tile))
        strides = not self._settles and not self.is_complete
        for number, standing in enumerate(self._standing):
            visual = standing.part.visual
            visual.set_rays(rays, sight.voxel)
            visual.set_cells(cells, [own[number] if own else None for own in keys], closed, strides=strides)
            visual.base = self.face.base(standing.part.channel)
        drawn = [key for own in keys for key in own]
        self._refresh(drawn)
        self._note_drawn(cover, drawn)
        self._rays, self._cells, self._counted = rays, cells, None
        return cover

    # what it showed

    def weighed(self, size_px: tuple[int, int]) -> Weighed:
        assert self.cover is not None
        return self.cover.coverage, len(self._plan.wanted)

    def shown(self, size_px: tuple[int, int]) -> Shown:
        assert self.cover is not None
        counts, coverage = self._count()
        plan, rays = self._plan, self._rays
        return Shown(
            level=plan.level,
            degraded=plan.degraded,
            wanted=frozenset(plan.wanted),
            drawn=self.drawn,
            channels=len(self.parts),
            coverage=coverage,
            visible_px=int((counts > 0).sum()),
            samples=Samples(int(counts.sum()), rays.step_world if rays is not None else 0.0),
            unreached=self._unreached(),
        )

    def _unreached(self) -> tuple[float, float] | None:
        found = [part.visual.unreached() for part in self.parts]
        return max(each for each in found if each) if all(found) else None

    def visible_px(self, size_px: tuple[int, int]) -> int:
        return int((self._count()[0] > 0).sum())

    def mark_visible(self, seen: NDArray[np.bool_]) -> None:
        seen |= self._count()[0] > 0

    def _count(self) -> tuple[NDArray[np.int64], Coverage]:
        """Samples of each pixel's ray in what is shown of the image, (height, width), and what they show."""
        if self._counted is None:
            cover, rays, cells = self.cover, self._rays, self._cells
            assert self._sight is not None
            assert cover is not None
            assert rays is not None
            assert cells is not None
            coverage = cover.coverage
            if not self.is_beyond and not is_known(cover, self._plan):
                counter = self._pipeline.counter(planes=rays.planes is not None)
                coverage = coverage_of_classes(counter.count(cells, rays))
            nothing = np.zeros(rays.size_px[::-1], np.int64)
            self._counted = nothing if self.is_beyond else seen_samples(rays, self._sight), coverage
        return self._counted


def _places(each: Sequence[float | None]) -> Places:
    x, y, z = each
    return x, y, z


def _is_beside(key: LoadKey, grids: Mapping[Hashable, Set[tuple[int, ...]]]) -> bool:
    """One of some bricks, by level and index, touches this one."""
    some = grids.get(key.tile[:2])
    if not some:
        return False
    z, y, x = key.tile.grid
    return any((z + dz, y + dy, x + dx) in some for dz, dy, dx in STEPS)


def hull_of(lattice: Lattice, tiles: Sequence[TileKey]) -> Region:
    """The smallest region that holds all of some tiles, base coordinates; an empty one of none."""
    if not tiles:
        return Region(lattice.extent.low, lattice.extent.low)
    found: Region | None = None
    for level in {tile.level for tile in tiles}:
        numbers = list(zip(*[tile.grid for tile in tiles if tile.level == level], strict=True))
        ends = [lattice.tile_region(level, tuple(map(pick, numbers))) for pick in (min, max)]
        own = Region(ends[0].low, ends[1].high)
        found = (
            own
            if found is None
            else Region(tuple(map(min, found.low, own.low)), tuple(map(max, found.high, own.high)))
        )
    assert found is not None
    return found
