"""What all views of tiles share: one loader, one cache, one atlas. Main thread only.

A *view* is what is drawn together: a frame of ``octree render``, or a node in somebody's scene. Its layers say what
they want; the pipeline loads it, finds room for it and uploads it. Tiles that several views show are read, kept and
uploaded once. What a view wanted goes with it.

One turn of any view:  layers plan → ``take_in`` → ``upload`` → ``make_cover`` → draw
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from octree.pyramid.errors import UsageError
from octree.pyramid.units import bytes_text
from octree.render.config import Settings, load_settings
from octree.render.gl.texture_atlas import Atlas
from octree.render.loading.cache import TileCache
from octree.render.loading.clock import Clock
from octree.render.loading.loader import TileLoader
from octree.render.loading.network import Network
from octree.render.loading.values import LoadedTile
from octree.render.report.trace import NULL_TRACE, NullTrace
from octree.render.scene.slices import Slices
from octree.render.scene.stepping import Group, Swap
from octree.render.scene.tile_layer import TileLayer, volumes_of
from octree.render.tiles.face import Face
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.plan import ViewPlan

if TYPE_CHECKING:
    from octree.render.gl.volume.brick_atlas import BrickAtlas
    from octree.render.gl.volume.counting import SampleCounter
    from octree.render.gl.volume.surfaces import Surfaces
    from octree.render.scene.volume.layer import VolumeLayer

_SLACK = 1.1
"""A page of bricks is a block: not every budget can be filled."""
SLOT_PX = 256
"""Edge of a slot of the atlas for tiles that are no smaller."""


@dataclass(frozen=True, slots=True)
class TextureMemory:
    """What the atlases hold, bytes of all pages, and did: tiles evicted, textures written."""

    bytes: int
    peak_bytes: int
    evicted: int
    uploads: int


class View(Protocol):
    """Layers that are drawn together. ``close`` must ``leave`` the pipeline, and may be called twice."""

    @property
    def layers(self) -> Sequence[TileLayer]:
        """All that load for it, bottom first."""
        ...

    def close(self) -> None: ...


class Pipeline:
    """Owner of loader, cache and atlas. Views join when they are made and leave when they are closed.

    ``settings``  see ``octree.render.config``; None looks for a settings file as the commands do.
    ``atlas``     texture memory of somebody else, who frees it; None makes one.
    ``clock``, ``network``, ``trace``  of the loader.
    ``max_texture_size``, ``gutters``  of the atlas that is made; ``gutters``: some layer will interpolate.
    ``lasting``   False: closes with its last view.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        atlas: Atlas | None = None,
        clock: Clock | None = None,
        network: Network | None = None,
        trace: NullTrace = NULL_TRACE,
        max_texture_size: int = 16384,
        gutters: bool = True,
        lasting: bool = True,
    ) -> None:
        self.settings = settings or load_settings()
        self.views: tuple[View, ...] = ()
        self.uploaded_bytes = 0
        limits = self.settings.render
        self._owns_atlas, self._lasting = atlas is None, lasting
        self._max_texture_size, self._gutters = max_texture_size, gutters
        self.atlas = (
            atlas
            if atlas is not None
            else Atlas(limits.atlas_bytes, SLOT_PX, max_texture_size=max_texture_size, gutters=gutters)
        )
        self.loader = TileLoader(
            self.settings.loader,
            cache=TileCache(limits.cache_bytes),
            clock=clock,
            network=network,
            trace=trace,
        )
        self.clock = self.loader.clock
        self.slices = Slices(self.clock, self.loader.unread)
        self._groups: dict[str, Group] = {}
        self._rooms: dict[TileLayer, int] = {}
        self._shared: dict[str, OpenTileSource] = {}
        self._packed: list[ViewPlan] = []
        self._bricks: BrickAtlas | None = None
        self._counters: dict[bool, SampleCounter] = {}
        self._surfaces: Surfaces | None = None
        self._lent_bytes = 0  # of the atlas' budget, to the bricks
        self._stack = ExitStack()
        if self._owns_atlas:
            self._stack.callback(self.atlas.close)
        self._stack.callback(self.loader.close)
        self._stack.callback(self.slices.close)

    @property
    def bricks(self) -> BrickAtlas:
        """The texture memory of volumes, made when somebody asks. Its budget is a part of the atlas'."""
        if self._bricks is None:
            from octree.render.gl.volume.brick_atlas import BrickAtlas

            self._bricks = BrickAtlas(self.settings.render.atlas_bytes, gutters=self._gutters)
            self._stack.callback(self._bricks.close)
        return self._bricks

    def counter(self, *, planes: bool) -> SampleCounter:
        """Who counts the samples of rays, of all or of those on ``planes``, made when somebody asks."""
        if planes not in self._counters:
            from octree.render.gl.volume.counting import SampleCounter

            self._counters[planes] = SampleCounter(planes=planes)
            self._stack.callback(self._counters[planes].close)
        return self._counters[planes]

    @property
    def surfaces(self) -> Surfaces:
        """What of the volumes of a frame hides others, made when somebody asks."""
        if self._surfaces is None:
            from octree.render.gl.volume.surfaces import Surfaces

            self._surfaces = Surfaces()
            self._stack.callback(self._surfaces.close)
        return self._surfaces

    @property
    def _atlases(self) -> Iterator[Atlas | BrickAtlas]:
        """Those whose textures are the pipeline's."""
        if self._owns_atlas:
            yield self.atlas
        if self._bricks is not None:
            yield self._bricks

    @property
    def memory(self) -> TextureMemory:
        """Of planes and volumes together."""
        both: list[Atlas | BrickAtlas] = [self.atlas, *([self._bricks] if self._bricks else [])]
        return TextureMemory(
            bytes=sum(atlas.bytes for atlas in both),
            peak_bytes=sum(atlas.peak_bytes for atlas in both),
            evicted=sum(atlas.evicted for atlas in both),
            uploads=sum(atlas.uploads for atlas in both),
        )

    # who shares it

    @property
    def layers(self) -> list[TileLayer]:
        return [layer for view in self.views for layer in view.layers]

    def share(self, source: OpenTileSource) -> OpenTileSource:
        """The source to make a layer of: ``source``, or, with that one closed, the one of the same data that is
        shown already. It is closed when the last view that shows it has left."""
        if source.token in self._shared:
            source.close()
        return self._shared.setdefault(source.token, source)

    def group(self, name: str | None, swap: Swap) -> Group:
        """The views that step together under a name; None: one of its own. Raises UsageError when they swap in another
        way."""
        if name is None:
            return Group(self, swap=swap)
        group = self._groups.setdefault(name, Group(self, name, swap))
        if group.swap != swap and group.members:
            raise UsageError(f"group {name!r} has swap={group.swap!r}", hint="give all its nodes the same")
        group.swap = swap
        return group

    def refresh(self, source: OpenTileSource) -> None:
        """The data of a source have changed: what loader and reader keep of it is dropped, and read anew by all views
        that show it."""
        source.invalidate()
        for face in source.faces:
            self.loader.invalidate(face.token)

    def join(self, *views: View) -> None:
        """Raises UsageError when the atlas cannot hold a tile of everything that is drawn, before any of them is in."""
        layers = [layer for view in views for layer in view.layers]
        self._divide([*self.layers, *layers])
        self.views += views
        for layer in layers:
            self.loader.add_source(layer.face)

    def reshape(self, layer: TileLayer) -> None:
        """A layer shows another face of its source: other tiles, in other slots. Raises UsageError as ``join`` does."""
        if layer in self._rooms:
            self._divide(self.layers)
            self.loader.add_source(layer.face)

    def drop(self, source: OpenTileSource, face: Face) -> None:
        """A layer shows another face of its source: forget this one, unless some layer shows it."""
        if face is source or any(layer.face is face for layer in self.layers):
            return
        source.drop(face)
        self._forget(face)

    def _forget(self, face: Face) -> None:
        self.loader.remove_source(face.token)
        for atlas in self._atlases:
            atlas.release(face.token)

    def leave(self, view: View) -> None:
        """Forget the view: its pins, its wishes, and what nobody else shows. Leaving twice is harmless."""
        if view not in self.views:
            return
        self.views = tuple(other for other in self.views if other is not view)
        self._pin()
        self.slices.forget(view)
        for layer in view.layers:
            self.loader.forget(layer)
        self._divide(self.layers)
        self.close_unused()

    def close_unused(self) -> None:
        """Close the shared sources that no view shows, and all of it if there is no view and it is not to last."""
        for token in self._shared.keys() - {layer.source.token for layer in self.layers}:
            source = self._shared.pop(token)
            for face in source.faces:
                self._forget(face)
            source.close()
        if not self.views and not self._lasting:
            self.close()

    def _divide(self, layers: Sequence[TileLayer]) -> None:
        """Every part of every layer has room for a tile, and what is left is divided evenly. Slots are no larger than
        the tiles: one of 64 pixels in a slot of 256 would waste fifteen sixteenths."""
        volumes = volumes_of(layers)
        planes = [layer for layer in layers if layer not in volumes]
        edges = [max(level.tile) for layer in planes for level in layer.face.lattice.levels]
        if self._owns_atlas and edges:
            self.atlas.slot_px = min(SLOT_PX, *edges)
        slots = {layer: layer.slot_bytes for layer in layers}
        parts = sum(len(layer.parts) for layer in layers)
        budget = self.atlas.budget_bytes + self._lent_bytes
        spare = budget - sum(size * len(layer.parts) for layer, size in slots.items())
        if spare < 0:
            raise UsageError(
                f"an atlas of {bytes_text(budget)} cannot hold one tile of everything that is drawn: that takes "
                f"{bytes_text(budget - spare)}",
                hint=f"give --atlas {-(-(budget - spare) // 2**10)}KiB or more, fewer layers, or a smaller tile_size in the settings file",
            )
        self._rooms = {layer: 1 + spare // parts // slots[layer] for layer in planes}
        own = sum((slots[layer] + spare // parts) * len(layer.parts) for layer in volumes)
        if volumes:
            self._divide_bricks(volumes, own)
        if self._owns_atlas and own != self._lent_bytes:
            self.atlas.resize(max(1, budget - own))
            self._lent_bytes = budget - self.atlas.budget_bytes

    def _divide_bricks(self, volumes: Sequence[VolumeLayer], budget_bytes: int) -> None:
        """Each part that rays go through has a page; layers that show the same share its room."""
        sharing = _sharing(volumes)
        bricks = self.bricks
        bricks.shares = len({owner for layer in volumes for owner in layer.owners})
        bricks.resize(budget_bytes)
        for layer in volumes:
            room = bricks.capacity_tiles(layer.largest, layer.face.texture_dtype)
            self._rooms[layer] = max(1, room // sharing[layer])

    def room_for(self, layer: TileLayer) -> int:
        """How many tiles of a layer may be resident at once."""
        return self._rooms[layer]

    @property
    def wanted_bytes(self) -> int:
        """The atlas that would have had room for the last view of a volume that was degraded; 0 where none was, or where no atlas
        would."""
        from octree.render.gl.volume.brick_slots import MOST_BYTES

        volumes = volumes_of(self.layers)
        sharing = _sharing(volumes)
        page = math.ceil(_SLACK * max([layer.wanted_bytes * sharing[layer] for layer in volumes], default=0))
        return page * self.bricks.shares if 0 < page <= MOST_BYTES else 0

    # one turn

    def take_in(self, *, wait: bool = True, at_most_ms: float = math.inf) -> None:
        """Accept what has been read. ``wait``: as long as ``auto_sync_ms`` and ``at_most_ms`` allow, for what is nearly
        there."""
        if self.loader.is_ahead:
            for layer in self.layers:
                self.loader.use(layer.needed_keys(), layer.is_resident)
        if wait:
            self.loader.auto_sync(at_most_ms=at_most_ms)
        for result in self.loader.poll():
            if isinstance(result, LoadedTile):
                self.slices.count(result.key)

    def waiting(self, *, patient: bool = False) -> list[tuple[TileLayer, LoadedTile]]:
        """Tiles in memory that wait for upload: stand-ins of all layers first, then layer by layer. ``patient``: but for those
        that nobody needs yet, see ``TileLayer.worth_uploading``."""
        waiting = []
        for layer in self.layers:
            tiles = layer.waiting()
            waiting += [(layer, tile) for tile in (layer.worth_uploading([*tiles]) if patient else tiles)]
        return sorted(waiting, key=lambda pair: pair[0].is_wanted(pair[1].key))

    def upload(self, *, budgeted: bool, patient: bool = False) -> int:
        """Upload what waits, at least one tile; returns the bytes. ``patient``: nothing is drawn before all that is wanted has
        arrived. ``budgeted``: no more than one frame may spend,
        all views together. The virtual clock budgets by bytes only, so that a run is the same on every machine."""
        limits = self.settings.render
        until_s = time.perf_counter() + limits.upload_ms / 1000
        timed = not self.clock.is_virtual
        self._pin()
        done = 0
        for layer, tile in self.waiting(patient=patient):
            spent = done >= limits.upload_bytes or (timed and time.perf_counter() >= until_s)
            if budgeted and done and spent:
                break
            done += self._bring_in(layer, tile)
        self.uploaded_bytes += done
        return done

    def _pin(self, *, stand_ins: bool = True) -> None:
        """Keep what the views want, and what they show meanwhile; the rest of the atlas may be evicted."""
        self.atlas.begin_frame(self)
        if self._bricks is not None:
            self._bricks.begin_frame(self)
        for layer in self.layers:
            layer.pin(self, stand_ins=stand_ins)

    def _bring_in(self, layer: TileLayer, tile: LoadedTile) -> int:
        """Upload one tile and keep it for this turn; returns the bytes, 0 when there is no room for it."""
        if layer.is_resident(tile.key):
            return 0
        wanted = layer.is_wanted(tile.key)
        size = layer.upload(tile)
        if not size and wanted:
            self._pin(stand_ins=False)  # they may go for what they stand in for
            size = layer.upload(tile)
        if size:
            layer.atlas.pin([tile.key], self)  # or the next upload of this turn would take its place
        return size or (self._repack() if wanted else 0)

    def _repack(self) -> int:
        """The room there is may lie in pages of other tiles, none of them free of pins. Once nothing is under way
        that could change a view, and once for each view: empty the atlas and fill it with what is wanted, as far as
        it is in memory; the rest is asked for again. Returns the bytes uploaded. Somebody else's atlas stays."""
        plans = [layer.plan_in_force for layer in self.layers]
        if not self._owns_atlas or plans == self._packed or not self.loader.settled():
            return 0
        self._packed = plans
        for atlas in self._atlases:
            atlas.clear()
        for layer in self.layers:
            layer.ask_again()
        wanted = [(layer, tile) for layer, tile in self.waiting() if layer.is_wanted(tile.key)]
        for layer, tile in wanted:
            layer.atlas.pin([tile.key], self)
        return sum(layer.upload(tile) for layer, tile in wanted)

    @property
    def is_loading(self) -> bool:
        """Something is under way that could change a view."""
        return not self.loader.settled()

    def failures(self, view: View) -> list[dict[str, Any]]:
        """The tiles of what a view shows that could not be read, in order of their keys, as in the report."""
        layers = {layer.face.token: layer for layer in view.layers}
        return [
            {
                "source": layers[key.source].source.path,
                "key": {
                    "level": key.tile.level,
                    "index": list(layers[key.source].position_of(key.tile)),
                    "grid": list(key.tile.grid),
                },
                "error": failure.error,
                "attempts": failure.attempts,
            }
            for key, failure in sorted(self.loader.failures.items(), key=lambda item: item[0])
            if key.source in layers
        ]

    # its end

    def close(self) -> None:
        """Close the views, stop loading and free the textures. Closing twice is harmless."""
        self.slices.close()  # nobody has asked for another plane
        for view in self.views:
            view.close()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sharing(volumes: Sequence[VolumeLayer]) -> dict[VolumeLayer, int]:
    """How many layers have bricks in the same page as each."""
    owners = Counter(owner for layer in volumes for owner in layer.owners)
    return {layer: max(owners[owner] for owner in layer.owners) for layer in volumes}
