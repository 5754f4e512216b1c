"""What planning a view of two thousand tiles does to each of them: counted, not timed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from octree.pyramid.grid import BlockRange, Region
from octree.pyramid.model import TileKey
from octree.render.config import Settings, default_settings
from octree.render.loading.clock import VirtualClock
from octree.render.loading.network import Network
from octree.render.request import parse_request
from octree.render.scene.keys import Part
from octree.render.scene.layer import Layer
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.sources import open_source
from octree.render.view import plan as planning
from octree.render.view.state import Slicing

TILE = 256


class Counted(str):
    """A token: whoever hashes a key hashes it."""

    hashed = 0
    __slots__ = ()

    def __hash__(self) -> int:
        Counted.hashed += 1
        return super().__hash__()

    __eq__ = str.__eq__


class Computed:
    dtype, ndim, chunks = np.dtype("u2"), 2, (TILE, TILE)

    def __init__(self, edge: int) -> None:
        self.shape = (edge, edge)

    def __getitem__(self, place: Any) -> Any:
        return np.zeros([part.stop - part.start for part in place], np.uint16)


class NoVisual:
    keys = ()

    def set_cover(self, *_: Any) -> None: ...

    def set_view(self, *_: Any) -> None: ...


class View:
    def __init__(self, layer: Layer) -> None:
        self.layers = (layer,)

    def close(self) -> None: ...


def roomy() -> Settings:
    usual = default_settings()
    return replace(usual, render=replace(usual.render, cache_bytes=2**29, atlas_bytes=2**29))


@pytest.fixture
def layer() -> Iterator[Layer]:
    """Of 64 x 64 tiles, none of which arrives."""
    source, settings = Computed(64 * TILE), roomy()
    request = parse_request([source], [], {"single_level": True, "clim": "0,65535"}, settings=settings)
    with Pipeline(settings, clock=VirtualClock(), network=Network(latency_ms=1e6)) as pipeline:
        tiles = open_source(source, request, labels=False)
        tiles._token = Counted(tiles._token)
        made = Layer(tiles, [Part(None, NoVisual())], pipeline, first=tiles.spec, linear=False)  # type: ignore[arg-type] # nothing is drawn
        pipeline.join(View(made))
        yield made
        tiles.close()


def turn(layer: Layer, y: float, x: float) -> int:
    """Plan a view of 45 x 45 tiles and their neighbours; how often keys were hashed."""
    before = Counted.hashed
    view = Region((y, x), (y + 45 * TILE, x + 45 * TILE))
    plan = layer.plan_rect(view, (0.1, 0.1), Slicing(), motion=(2.0, 3.0), prefetch=True)
    assert len(plan.wanted) >= 45 * 45
    return Counted.hashed - before


def test_a_turn_hashes_the_keys_of_a_view_of_thousands_few_times(layer: Layer) -> None:
    """Twice: the keys of the plan, and the wishes of them; those that come and go, and those around the view, more often. It
    was 13 times."""
    turn(layer, 100, 200)
    wanted = len(layer.plan_in_force.wanted)
    for step in range(1, 8):  # onto other tiles each time
        assert turn(layer, 100 + 300.0 * step, 200 + 300.0 * step) < 5 * wanted
    # within a tile, moving: the same tiles in the same order
    assert turn(layer, 100 + 300.0 * 7 + 1, 200 + 300.0 * 7 + 1) < 0.5 * wanted


def test_a_view_that_moves_slowly_hashes_each_key_about_once(layer: Layer) -> None:
    """Where other tiles come into view, which is every other turn here; what stays as it is is handed on as it was."""
    turn(layer, 100, 200)
    counts = [turn(layer, 100.0 + 37 * step, 200.0 + 53 * step) for step in range(1, 21)]
    wanted = len(layer.plan_in_force.wanted)
    assert sum(counts) < 2 * wanted * len(counts)
    assert min(counts) < 0.1 * wanted


def test_a_view_of_thousands_keeps_its_order_while_it_moves_by_a_tile(layer: Layer) -> None:
    def wanted(tiles: int) -> Sequence[TileKey]:
        turn(layer, 100.0 + TILE * tiles, 200.0)
        return layer.plan_in_force.wanted

    first, second = wanted(0), wanted(1)
    both = set(first) & set(second)
    assert len(both) > 0.9 * len(first)
    assert [tile for tile in first if tile in both] == [tile for tile in second if tile in both]
    middle = np.array(first[0].grid)
    assert abs(middle - 23).max() <= 3, "loading begins near the middle"


def test_queued_loads_are_ranked_when_a_worker_can_take_one(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with each plan: all workers are busy for long here."""
    turn(layer, 100, 200)
    loader = layer._loader
    loader.wait(1.0)  # as many begin as there are workers
    assert loader.stats().loading == 10
    schedule = loader._engine._schedule  # type: ignore[attr-defined] # of either engine
    ranked = []
    ranks_of = schedule._rank_queued
    monkeypatch.setattr(schedule, "_rank_queued", lambda now_ms: (ranked.append(now_ms), ranks_of(now_ms)))
    for step in range(1, 8):
        turn(layer, 100 + 300.0 * step, 200 + 300.0 * step)
        loader.wait(1.0)
    assert not ranked
    assert loader.stats().queued > 2000
    assert loader.wait(2e3)
    loaded = {each.key for each in loader.poll()}
    assert ranked
    # the next are the first of the plan that is in force
    nearest = [key for tile in layer.plan_in_force.wanted for key in layer.keys(tile) if key not in loaded]
    running = [key for pool in schedule._pools.values() for key in pool.running]
    assert set(running) == set(nearest[:10])


@pytest.mark.parametrize("motion", [(0, 0), (1, 0), (-2, 3), (5, -1), (0, 60), (-50, -50)])
def test_leaving_is_what_the_range_has_and_the_later_one_has_not(motion: tuple[int, int]) -> None:
    here = BlockRange((3, 5), (12, 9))
    there = BlockRange(
        tuple(a + b for a, b in zip(here.start, motion, strict=True)),
        tuple(a + b for a, b in zip(here.stop, motion, strict=True)),
    )
    level = planning.LatticeLevel((4096, 4096), (TILE, TILE), (1.0, 1.0), (0.0, 0.0), (7,))
    wanted = planning._keys_in_order(2, level, here, (7, 7), None)
    inside = set(there.grids())
    leaving = planning._leaving(wanted, here, there)
    assert leaving == {key for key in wanted if key.grid not in inside}
    assert {key.index for key in leaving} <= {(7,)}
