"""What a view will show next, as far as it is known: loaded while what it shows now is drawn. Main thread.

A film knows its frames, a node that plays its planes; where somebody steps by hand the next planes are a guess. What is wished
here is wished by an owner of its own, after everything that any view wants now, so it goes on while a frame is drawn,
encoded, and the next one planned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from octree.render.loading.loader import TileLoader
from octree.render.loading.values import LoadKey, LoadRequest, Tier
from octree.render.scene.tile_layer import TileLayer
from octree.render.view.ahead import (
    MOST_PLANES,
    PlaneAhead,
    Tile,
    Tiles,
    in_loading_order,
    planes_ahead,
    room_ahead,
    thinned,
    too_few,
)
from octree.render.view.state import Slicing


@dataclass(frozen=True, slots=True)
class Coming:
    """What will be shown: the place, when (ms from now; 0: as soon as can be), and the tiles of each layer there."""

    slicing: Slicing
    due_ms: float
    tiles: Callable[[TileLayer], Tiles]


class Ahead:
    """The wishes for planes to come of one view, whose layers these are. It is their owner. ``share``: of the room and of
    the workers that there are for that."""

    def __init__(self, layers: Sequence[TileLayer], loader: TileLoader) -> None:
        self._layers, self._loader, self._wishes = layers, loader, False
        self.share = 1.0

    def plan(self, coming: Iterable[Coming], plane_ms: float) -> None:
        """Once the layers have planned: wish what comes, soonest first; what was wished before is forgotten. ``plane_ms``:
        how long one plane is shown, 0 for as long as it takes."""
        loader = self._loader
        latency_ms = loader.latency_ms()
        wanted = [(layer, len(layer.parts) * len(layer.plan_in_force.wanted)) for layer in self._layers]
        flat = sum(count for layer, count in wanted if not layer.shares_chunks)
        shared = any(layer.shares_chunks for layer in self._layers)
        at_once = MOST_PLANES if shared else math.ceil(self.share * loader.most_workers / max(1, flat))
        coming = list(islice(coming, planes_ahead(latency_ms, plane_ms, at_once)))
        if not coming:
            self.rest()
            return
        if shared:
            coming = thinned(coming)
        room = room_ahead(
            int(self.share * loader.cache_bytes), sum(layer.tile_bytes * count for layer, count in wanted)
        )
        planes = [self._plane(each) for each in coming]
        self._wishes = True
        workers = self.share * loader.most_workers
        if shared or not too_few(workers, flat, plane_ms, latency_ms):
            workers = math.inf
        tiles = in_loading_order(planes, room, latency_ms, plane_ms, workers)
        loader.plan(self, self._requests(tiles), moved=False)
        loader.expect_tiles(self, flat, plane_ms)

    def rest(self) -> None:
        """Nothing is known of what comes."""
        if self._wishes:
            self._loader.plan(self, (), moved=False)
            self._loader.expect_tiles(self, 0)
            self._wishes = False

    def forget(self) -> None:
        """The view is gone."""
        self.rest()
        self._loader.forget(self)

    def _plane(self, coming: Coming) -> PlaneAhead:
        coarse: list[Tile] = []
        wanted: list[Tile] = []
        missing = under_way = 0
        for number, layer in enumerate(self._layers):
            keys = layer.keys_at(coming.slicing)
            if keys is None:
                continue
            # hundreds for each plane that is drawn: no constructor
            size, new = layer.tile_bytes, tuple.__new__
            for found, tiles in zip((coarse, wanted), coming.tiles(layer), strict=True):
                lacking = [key for key in keys.of(tiles) if not layer.is_resident(key)]
                found += [new(Tile, (number, key[2], size, True)) for key in lacking]
            if coming.due_ms > 0:  # of the wanted ones
                absent = self._loader.lacking(lacking)
                missing += len(absent)
                under_way += self._loader.under_way(absent)
        return PlaneAhead(coarse, wanted, coming.due_ms, missing, under_way)

    def _requests(self, tiles: Iterable[Tile]) -> list[LoadRequest]:
        new, tier = tuple.__new__, Tier.PREFETCH
        known = [(each.face.token, each.face.version, each.plan_in_force.level) for each in self._layers]
        requests = []
        for layer, tile, _, begin in tiles:
            token, version, level = known[layer]
            key = new(LoadKey, (token, version, tile))
            requests.append(new(LoadRequest, (key, tier, max(0, tile[0] - level), begin)))
        return requests
