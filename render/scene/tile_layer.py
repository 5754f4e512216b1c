"""What layers of planes and of volumes share: the keys of their tiles, what they ask the loader for, what of it is there.

A layer owns its plan and the level it last drew (main thread only). Loader, cache and atlases are the pipeline's; a
layer speaks to them with keys and drops only its own wishes. A layer has one *part* for each channel; a tile
counts as resident when all its parts are, so channels never disagree on screen. The tiles of
its plan and cover know no channel where parts have one: only the loader's keys do.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.pyramid.model import PyramidSpec, TileKey
from octree.render.loading.values import FailedTile, LoadedTile, LoadKey, LoadRun, Tier, Wish
from octree.render.loading.wishes import load_requests
from octree.render.scene.keys import Keys, Part, Standing
from octree.render.scene.shown import Shown
from octree.render.tiles.face import Face
from octree.render.tiles.texels import Base
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.ahead import Tiles
from octree.render.view.camera import Camera
from octree.render.view.cover import Cover
from octree.render.view.coverage import Coverage
from octree.render.view.plan import STAND_IN_SHARE, Lacking, ViewPlan
from octree.render.view.register import ToBase, to_base
from octree.render.view.stand_ins import stand_ins_at_hand
from octree.render.view.state import Section, Slicing, ViewState, place_of, resolve

if TYPE_CHECKING:
    from octree.render.scene.pipeline import Pipeline
    from octree.render.scene.volume.layer import VolumeLayer

MOST_PLACES = 256
"""Whose keys are remembered."""
NO_PLAN = ViewPlan(0, False, ())
"""What a layer wants that has not been asked to show anything."""


Weighed: TypeAlias = tuple[Coverage, int]
"""The coverage of a layer, and its weight among others."""


class Residence(Protocol):
    """What a layer asks of the atlas that its tiles lie in; see ``gl.texture_atlas.Atlas``."""

    @property
    def resident(self) -> Collection[LoadKey]: ...

    def where(self, keys: Iterable[LoadKey]) -> list[Any]: ...

    def pin(self, keys: Iterable[LoadKey], owner: Hashable = None) -> None: ...

    def slot_bytes(self, tile_shape: tuple[int, ...], dtype: Any) -> int: ...


class TileLayer(ABC):
    """One source in one view. Main thread only. ``face`` is the one that the view state shows now; ``atlas`` is the
    pipeline's for tiles of its kind."""

    is_volume: ClassVar[bool] = False

    def __init__(
        self,
        source: OpenTileSource,
        parts: Sequence[Part],
        pipeline: Pipeline,
        atlas: Residence,
        *,
        first: PyramidSpec,
        linear: bool,
    ) -> None:
        self.source = source
        self.face: Face = source
        self.parts = tuple(parts)
        self.to_base = ToBase()
        self._first = first
        self._pipeline, self._loader, self.atlas = pipeline, pipeline.loader, atlas
        self._margin_texels = 1.0 if linear else 0.0  # the filter reaches a texel further when minified
        self._slicing: Slicing | None = None
        self._bases: Mapping[int | None, Base] | None = None  # None: those of the source
        self._outdated: list[Face] = []  # before it was rebased
        self._standing: tuple[Standing, ...] = ()
        self._keys = Keys(source, ())
        self._lattice = source.lattice
        self._version = source.version
        self._plan = NO_PLAN
        self._levels: Set[int] = {NO_PLAN.level}  # of the wanted tiles
        self._standing_in: Set[LoadKey] = frozenset()  # known where these are of several levels
        # coarser tiles that stand in besides those of the plan
        self._at_hand: tuple[TileKey, ...] = ()
        self._rank: dict[LoadKey, None] = {}  # keys of the plan, in loading order
        self._sent = False  # the loader knows the plan
        self._held_from: Tier | None = None
        self._drawn_keys: tuple[LoadKey, ...] = ()  # of what the visuals show
        self._is_drawn = False
        self._others: dict[Slicing, Keys | None] = {}  # the keys of other places of the face
        self._others_of: tuple[str, int] = ("", 0)
        self.cover: Cover | None = None

    # what each kind of layer does in its own way

    @abstractmethod
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
        """Decide what a view wants and tell the loader.

        ``motion`` is how fast the camera moves, camera pixels per ms (y, x): planes go by that. ``later``: where it will be
        within the look-ahead, None if that is not known: volumes go by that. ``fresh``: the view has nothing to do
        with the one before, whose level must not hold it back. ``sparing``: nobody will see what stands in, unless time
        runs out: the coarsest level will do. ``part``: only this part of the frame is to be drawn.
        No read of the tier ``held_from`` or of a later one is begun.
        """

    @abstractmethod
    def aim(self, state: ViewState, size_px: tuple[int, int]) -> None:
        """Stand where a frame will be; nothing of it is wanted yet."""

    @property
    @abstractmethod
    def tiles_now(self) -> Tiles:
        """What the view wants of its plane: it will want as much of others, as long as the camera stays."""

    @abstractmethod
    def tiles_seen(self, camera: Camera, size_px: tuple[int, int]) -> Tiles:
        """What a view will want of any plane from another camera."""

    @abstractmethod
    def upload(self, tile: LoadedTile) -> int:
        """Bring one tile into the atlas; returns the bytes uploaded, 0 when there was no room."""

    def worth_uploading(self, waiting: Sequence[LoadedTile]) -> Sequence[LoadedTile]:
        """Of what waits, what to upload now where nothing is drawn before all that is wanted has come."""
        return waiting

    @abstractmethod
    def rehearse(
        self,
        offset_px: tuple[int, int] = (0, 0),
        size_px: tuple[int, int] = (1, 1),
        *,
        frame_px: tuple[int, int] | None = None,
    ) -> None:
        """While the first tiles are on their way: have their texture made, and the shaders built. Called as
        ``Drawable.draw_part``, for a frame of ``frame_px``; None when a vispy camera places the visuals."""

    @abstractmethod
    def make_cover(self, size_px: tuple[int, int] | None = None) -> Cover:
        """Decide what every part of the view shows, and give it to the visuals. ``size_px`` is that of the
        frame for ``Canvas.draw``; None when a vispy camera places the visuals."""

    @abstractmethod
    def weighed(self, size_px: tuple[int, int]) -> Weighed:
        """What the last cover shows, as far as that is known without looking at the pixels, and how much it counts beside
        others."""

    @abstractmethod
    def shown(self, size_px: tuple[int, int]) -> Shown:
        """What the last cover shows, in a frame of ``size_px`` or in the part of it that was planned."""

    @abstractmethod
    def visible_px(self, size_px: tuple[int, int]) -> int:
        """Screen pixels that the image covers."""

    @abstractmethod
    def mark_visible(self, seen: NDArray[np.bool_]) -> None:
        """Set those pixels of a frame, (height, width)."""

    @abstractmethod
    def missing_now(self) -> float:
        """The share of the view of which ``make_cover`` would show nothing yet."""

    @abstractmethod
    def blank(self) -> None:
        """Show nothing."""

    # wishes

    def sleep(self) -> None:
        """Nobody looks: want nothing, show nothing, and leave others the room."""
        self.rest()
        self._plan, self._levels, self._rank, self._at_hand = NO_PLAN, {NO_PLAN.level}, {}, ()
        self.blank()

    def _want_nothing(self) -> None:
        self._loader.plan(self, (), moved=False)
        self._at_hand, self._rank = (), {}

    def _see_version(self) -> None:
        """The data may have changed."""
        if self._version != self.source.version:
            self._version, self._plan, self._sent = self.source.version, NO_PLAN, False

    def _trimmed(
        self, plan: ViewPlan, lacking: Lacking, *, fresh: bool, prefetch: bool, sparing: bool
    ) -> ViewPlan:
        """The plan without stand-ins that nobody will see."""
        if sparing:
            coarsest = min(self.source.stored_levels, len(self._lattice.levels)) - 1
            plan = replace(plan, stand_ins=tuple([tile for tile in plan.stand_ins if tile.level == coarsest]))
        if fresh and not prefetch and plan.stand_ins and not lacking(plan.wanted):
            plan = replace(plan, stand_ins=())  # a frame that waits for nothing shows none
        return plan

    def _ask_for(
        self,
        plan: ViewPlan,
        shown: Region,
        lacking: Lacking,
        *,
        moved: bool,
        fresh: bool,
        held_from: Tier | None,
    ) -> ViewPlan:
        """Tell the loader what is wanted of what is ``shown`` (base coordinates), if that is new. ``moved``: the camera has,
        since the plan before."""
        changed = moved or not self._sent or plan != self._plan or held_from != self._held_from
        self._held_from = held_from
        if changed or self.cover is None or not self.cover.is_whole:
            # a view that has just been chosen has nothing to do with what the one before asked for
            levels = 0 if fresh else self.source.stored_levels
            at_hand = stand_ins_at_hand(self._lattice, plan, shown, lacking, on_their_way=levels)
            if changed or at_hand != self._at_hand:
                self._loader.plan(self, self._requests(plan, at_hand), moved=moved)
                table = self._known_keys.table
                self._rank = dict.fromkeys(table((*at_hand, *plan.stand_ins)))
                self._rank.update(dict.fromkeys(table(plan.wanted)))
                self._rank.update(dict.fromkeys(table(plan.prefetch)))
            self._at_hand = at_hand
        if plan.wanted is not self._plan.wanted:
            self._levels = plan.levels or {plan.level}
            if len(self._levels) > 1:  # what stands in may be of a level that is wanted elsewhere
                others = frozenset(plan.stand_ins).difference(plan.wanted)
                keys = self._known_keys
                self._standing_in = frozenset([key for tile in others for key in keys[tile]])
        self._plan, self._sent = plan, True
        return plan

    @property
    def is_beyond(self) -> bool:
        """The view stands where the image has ended: there is nothing to show, and nothing to wait for."""
        return self._standing[0].section.beyond

    def keys_at(self, slicing: Slicing) -> Keys | None:
        """The keys of the tiles of the face that is shown, in another place; None where there is nothing of it. Raises
        UsageError for what cannot be shown."""
        if self._others_of != (self.face.token, self.face.version) or len(self._others) > MOST_PLACES:
            self._others_of, self._others = (self.face.token, self.face.version), {}
        if slicing not in self._others:
            standing = [self._stand(part, slicing) for part in self.parts]
            here = all(self.source.face(each.section, self._bases) is self.face for each in standing)
            beyond = any(each.section.beyond for each in standing)
            self._others[slicing] = Keys(self.face, standing) if here and not beyond else None
        return self._others[slicing]

    @property
    def largest(self) -> tuple[int, ...]:
        """The shape of the largest tile of the face, samples last."""
        tiles = [tuple(map(min, level.tile, level.shape)) for level in self.face.lattice.levels]
        return (*max(tiles, key=math.prod), *self.face.samples_shape)

    @property
    def slot_bytes(self) -> int:
        """What a tile of the face takes of the atlas, at most."""
        return self.atlas.slot_bytes(self.largest, self.face.texture_dtype)

    @property
    def shares_chunks(self) -> bool:
        """Tiles of several planes come with one read."""
        return self._plan.level in self.face.batch_levels

    @property
    def tile_bytes(self) -> int:
        """Of one tile of a part, at most."""
        own = self.face.lattice.levels[self._plan.level]
        pixels = math.prod((*map(min, own.tile, own.shape), *self.face.samples_shape))
        return pixels * self.face.texture_dtype.itemsize

    def is_resident(self, key: LoadKey) -> bool:
        return key in self.atlas.resident

    def needed_keys(self) -> Iterator[LoadKey]:
        """What the plan in force needs now, and what stands in for it."""
        keys = self._known_keys
        return (
            key for tile in (*self._plan.wanted, *self._plan.stand_ins, *self._at_hand) for key in keys[tile]
        )

    def ask_again(self) -> None:
        """The atlas has been emptied: ask for everything that the view wants."""
        self._loader.plan(self, self._requests(self._plan, ()), moved=False)

    def go_to(self, slicing: Slicing) -> None:
        """Show this of the image, as far as the source has the axes. Raises UsageError for what it cannot show."""
        if slicing == self._slicing:
            return
        source, standing = self.source, []
        face: Face = source
        for part in self.parts:
            standing.append(self._stand(part, slicing))
            face = source.face(standing[-1].section, self._bases)
        if face is not self.face:
            self.face, self.cover = face, None
            self._pipeline.reshape(self)
        self.to_base = to_base(self._first, source.spec, face.displayed)
        self._slicing, self._plan, self._sent = slicing, NO_PLAN, False
        self._levels = {NO_PLAN.level}
        self._standing, shared = tuple(standing), standing[0].indices
        self._keys = Keys(face, standing)
        if self.parts[0].channel is not None:
            c = standing[0].section.entries.index("c")
            shared = tuple(index[:c] + index[c + 1 :] for index in shared)
        self._lattice = face.lattice.at(shared)

    def _stand(self, part: Part, slicing: Slicing) -> Standing:
        section = self._section_of(part, slicing)
        levels = self.source.face(section, self._bases).at(section).levels
        return Standing(part, section, tuple([level.index for level in levels]))

    def _section_of(self, part: Part, slicing: Slicing) -> Section:
        if part.channel is not None:
            position = {**dict(slicing.position), "c": part.channel}
            slicing = replace(slicing, position=tuple(position.items()))
        return resolve(slicing, self.source.spec, lenient=True)

    def strays(self, slicing: Slicing) -> int:
        """How many of the tiles that the visuals were given to draw are of another place than ``slicing``: none, unless
        something is wrong. Looks at what is drawn, not at what was planned."""
        count = 0
        for part in self.parts:
            section = self._section_of(part, slicing)
            face = self.source.face(section, self._bases)
            token, spec = face.token, face.spec
            drawn = [key for key in part.visual.keys if key is not None]
            levels = {key.tile.level for key in drawn}
            own = {level: None if section.beyond else section.own_index(spec, level) for level in levels}
            count += sum(key.source != token or key.tile.index != own[key.tile.level] for key in drawn)
        return count

    def rebase(self, bases: Mapping[int | None, Base]) -> None:
        """Have texels relative to these from now on, by channel (None: all others): its tiles are made anew. What is shown
        stays as it is until ``show``."""
        slicing, cover = self._slicing, self.cover
        self._outdated.append(self.face)
        self._bases, self._slicing = bases, None
        if slicing is not None:
            self.go_to(slicing)
        self.cover = cover

    @property
    def is_rebased(self) -> bool:
        """What is shown is of the texels before."""
        return bool(self._outdated)

    def keys(self, tile: TileKey) -> tuple[LoadKey, ...]:
        """The key of each part of one tile."""
        return self._known_keys[tile]

    @property
    def _known_keys(self) -> Keys:
        """To be looked at once for many tiles."""
        if self._keys.version != self.face.version:
            self._keys = Keys(self.face, self._standing)
        return self._keys

    def _lacking(self, tiles: Sequence[TileKey]) -> Sequence[TileKey]:
        """Tiles of which some part is not in memory."""
        table = self._known_keys.table(tiles)
        absent = self._loader.lacking(set(table).difference(self.atlas.resident))
        if len(absent) == len(table) == len(tiles):
            return tiles
        return [tiles[place] for place in sorted({table[key] for key in absent})]

    def _requests(self, plan: ViewPlan, at_hand: tuple[TileKey, ...]) -> list[Wish]:
        keys, resident = self._known_keys, self.atlas.resident
        places = keys.table(plan.wanted)
        asked = set(places).difference(resident)
        leaving = {key for tile in plan.leaving for key in keys[tile]}
        wanted, prefetch = [LoadRun(asked - leaving, places, Tier.IDEAL)], None
        if leaving:
            wanted.append(LoadRun(asked & leaving, places, Tier.IDEAL, load=False))
        if {tile.level for tile in plan.prefetch} == {plan.level}:
            places = keys.table(plan.prefetch)
            prefetch = [LoadRun(set(places).difference(resident), places, Tier.PREFETCH)]
        wishes = load_requests(
            plan, keys.__getitem__, at_hand, but=resident, wanted=wanted, prefetch=prefetch
        )
        held = self._held_from
        if held is None:
            return wishes
        return [each._replace(load=each.load and each.tier < held) for each in wishes]

    def waiting(self) -> Iterator[LoadedTile]:
        """Tiles in memory that this view wants and the atlas does not hold, in loading order: coarse first. Stand-ins
        only while there is something to stand in for."""
        complete: bool | None = None  # asked only for a stand-in, as few frames have one that waits
        resident = self.atlas.resident
        for key in [key for key in self._rank if key not in resident]:
            if (tile := self._loader.peek(key)) is not None:
                if not self.is_wanted(key):
                    complete = self.is_complete if complete is None else complete
                    if complete:
                        continue
                yield tile

    def is_wanted(self, key: LoadKey) -> bool:
        """The key is of the wanted level, not a stand-in or prefetched."""
        levels = self._levels
        return key.tile.level in levels and (len(levels) == 1 or key not in self._standing_in)

    def pin(self, owner: Hashable, *, stand_ins: bool = True) -> None:
        """Keep in the atlas what this view wants, and what it shows meanwhile, for ``owner`` (see ``Atlas``)."""
        atlas, resident = self.atlas, self.atlas.resident
        atlas.pin(
            [key for key in self._rank if key in resident and (stand_ins or self.is_wanted(key))], owner
        )
        if stand_ins:
            atlas.pin([key for key in self._drawn_keys if key in resident], owner)

    def holdings(self) -> Hashable:
        """What decides what the view shows: where its tiles are in the atlas, and which were lost. A cover holds
        until this changes, whoever changed it."""
        lost = self._loader.failures
        return (
            tuple(self.atlas.where((*self._rank, *self._drawn_keys))),
            tuple([key for key in self._rank if key in lost]) if lost else (),
        )

    def resident(self, tile: TileKey) -> bool:
        """All parts of the tile are in the atlas."""
        return self._resident_now()(tile)

    @property
    def holds_some(self) -> bool:
        """Some of what it asked for is in the atlas."""
        resident = self.atlas.resident
        return any(key in resident for key in self._rank)

    def _resident_now(self) -> Callable[[TileKey], bool]:
        """``resident``, for many tiles."""
        keys, held = self._known_keys, self.atlas.resident

        def resident(tile: TileKey) -> bool:
            for key in keys[tile]:  # noqa: SIM110 - a generator for each tile takes twice as long
                if key not in held:
                    return False
            return True

        return resident

    def failed(self, tile: TileKey) -> bool:
        """Some part of the tile could not be read, after all tries."""
        return any(self._loader.failed(key) is not None for key in self.keys(tile))

    @property
    def is_complete(self) -> bool:
        """Every wanted tile is resident or has failed: nothing that arrives can make this view better."""
        resident = self._resident_now()
        return all(resident(tile) or self.failed(tile) for tile in self._plan.wanted)

    def shows(self, key: LoadKey) -> bool:
        """The key is a tile of the plane where the layer stands, or of a coarser one that holds it."""
        level, index = key.tile.level, key.tile.index
        return key.source == self.face.token and any(own.indices[level] == index for own in self._standing)

    def lost(self) -> list[FailedTile]:
        """Which tiles of the plane could not be read, in order of their keys."""
        return [self._loader.failures[key] for key in sorted(self._loader.failures) if self.shows(key)]

    @property
    def stands_in(self) -> bool:
        """Coarser tiles may show something before the wanted ones do."""
        return bool(self._at_hand or self._plan.stand_ins)

    @property
    def drawn(self) -> frozenset[TileKey]:
        return self.cover.drawn if self.cover is not None else frozenset()

    @property
    def section(self) -> Section:
        """What the first part shows of the image."""
        return self._standing[0].section

    @property
    def channels(self) -> tuple[int | None, ...]:
        """What its parts show of the axis c, None: the channel where the view stands; () where it has none to choose."""
        has_c = "c" in self.source.spec.free_axes
        return tuple([part.channel for part in self.parts]) if has_c else ()

    @property
    def position(self) -> tuple[int, ...]:
        """Where the first part stands on the axes that are not displayed: what baselines know its tiles by."""
        return self.section.position

    def position_of(self, tile: TileKey) -> tuple[int, ...]:
        """The level-0 positions of a key's tile: those of the view if it shows them, else the first."""
        for standing in self._standing:
            if standing.indices[tile.level] == tile.index:
                return standing.section.position
        return self.section.first_position(self.face.spec, tile.index, tile.level)

    def rest(self) -> None:
        """The view is done: what it still had under way is not needed any more."""
        self._loader.plan(self, (), moved=False)
        self._sent = False

    @property
    def plan_in_force(self) -> ViewPlan:
        return self._plan

    def drawn_places(self) -> tuple[Any, ...] | None:
        """Where in the atlas the tiles lie that the visuals show; None when they show none of this face."""
        return None if self.cover is None else tuple(self.atlas.where(self._drawn_keys))

    def _coarsest_in(self, shown: Region, level: int, wanted: int) -> tuple[TileKey, ...]:
        """The coarsest tiles of what is shown (base coordinates), where they are few enough to stand in for ``wanted`` of a
        level."""
        coarsest = self.source.stored_levels - 1
        if coarsest <= level:
            return ()
        tiles = self._lattice.blocks_meeting(coarsest, shown)
        if tiles.size > max(4, wanted // STAND_IN_SHARE):
            return ()
        return tuple([self._lattice.key(coarsest, grid) for grid in tiles.grids()])

    def _note_drawn(self, cover: Cover, keys: Iterable[LoadKey]) -> None:
        """The visuals show this now, of the face that is."""
        outdated, self._outdated = self._outdated, []
        for face in outdated:
            self._pipeline.drop(self.source, face)
        self._is_drawn = True
        self._drawn_keys = tuple(dict.fromkeys(keys))
        self.cover = cover


def stand_of(layers: Collection[TileLayer], slicing: Slicing) -> dict[str, int]:
    """Where a view of some layers stands; see ``place_of``."""
    axes = [axis for layer in layers for axis in layer.source.spec.free_axes]
    return place_of(slicing, axes, [channel for layer in layers for channel in layer.channels])


def volumes_of(layers: Iterable[TileLayer]) -> list[VolumeLayer]:
    """Those that are volumes; told without importing what they are made of, which a frame of planes needs not."""
    return cast("list[VolumeLayer]", [layer for layer in layers if layer.is_volume])
