"""The pipeline that views share: what any kind of view must keep to, and what sharing is worth."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from octree.pyramid.errors import UsageError
from octree.render.config import LoaderSettings, PoolSettings, Settings, default_settings
from octree.render.loading.clock import VirtualClock
from octree.render.loading.network import Network
from octree.render.request import RenderRequest, parse_request
from octree.render.scene.layer import Layer, make_layer
from octree.render.scene.look import looks_of
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.sources import open_source
from octree.render.view.camera import Camera
from octree.render.view.plan import plan_view
from octree.render.view.state import ViewState

pytestmark = pytest.mark.usefixtures("gl_info")
SLOT = 258 * 258
AT_ONCE = LoaderSettings(pools=((0, PoolSettings(auto_sync_ms=0.0, delay_queue_ms=0.0)),), retries=1)


class Recorded:
    """An array that notes what is read of it, and may fail to be read."""

    def __init__(self, side: int = 1024, dtype: Any = np.uint8, broken: bool = False) -> None:
        rows, cols = np.indices((side, side))
        self.pixels = ((rows // 8 + cols // 8) % 2 * 200).astype(dtype)
        self.shape, self.dtype, self.ndim = self.pixels.shape, self.pixels.dtype, 2
        self.broken = broken
        self.reads: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __getitem__(self, place: Any) -> Any:
        if self.broken:
            raise OSError("the disk is gone")
        with self._lock:
            self.reads[str(place)] += 1
        return self.pixels[place]


def settings_of(slots: float = 64.0, loader: LoaderSettings = AT_ONCE) -> Settings:
    usual = default_settings()
    return replace(usual, loader=loader, render=replace(usual.render, atlas_bytes=int(slots * SLOT)))


def simulated(slots: float = 64.0, *, latency_ms: float = 20.0, loader: LoaderSettings = AT_ONCE) -> Pipeline:
    """A pipeline whose reads take virtual time: what happens is the same on every machine."""
    network = Network(latency_ms=latency_ms)
    return Pipeline(settings_of(slots, loader), clock=VirtualClock(), network=network)


@dataclass
class Shown:
    """A view of some kind, as the contract drives it: ``look`` plans, ``show`` decides what is drawn."""

    view: Any
    look: Callable[[], object]
    show: Callable[[], object]

    def settle(self) -> None:
        pipeline: Pipeline = self.view.pipeline
        for _ in range(300):
            self.look()
            pipeline.take_in()
            pipeline.upload(budgeted=True)
            self.show()
            if all(layer.is_complete for layer in self.view.layers):
                return
            pipeline.loader.wait(1 / 60)
        raise AssertionError("the view did not settle")

    @property
    def ideal(self) -> float:
        return min(layer.cover.coverage.ideal for layer in self.view.layers)

    @property
    def degraded(self) -> bool:
        """For want of room something coarser is shown than the zoom asks for."""
        return any(layer.plan_in_force.degraded for layer in self.view.layers)

    def places(self) -> list[Any]:
        """Where what it draws lies in the atlas."""
        layers = self.view.layers
        keys = [key for layer in layers for tile in sorted(layer.drawn) for key in layer.keys(tile)]
        return list(self.view.pipeline.atlas.where(keys))


def request_of(source: Any, pipeline: Pipeline, more: Mapping[str, Any] | None = None) -> RenderRequest:
    options = {"clim": "0,255", "size": "400x300"} | dict(more or {})
    return parse_request([source], [], options, settings=pipeline.settings)


@dataclass(eq=False)
class Plain:
    """The least that a new kind of view needs."""

    pipeline: Pipeline
    source: Any
    options: dict[str, Any] = field(default_factory=dict)
    layers: Sequence[Layer] = field(init=False)

    def __post_init__(self) -> None:
        from octree.render.gl.tiled_image import TiledImageVisual

        request = request_of(self.source, self.pipeline, self.options)
        opened = self.pipeline.share(open_source(self.source, request, labels=False))
        looks = looks_of(opened, request.layers[0], request)
        self.layers = [make_layer(self.pipeline, opened, looks, request, TiledImageVisual)]
        self.pipeline.join(self)

    def close(self) -> None:
        self.pipeline.leave(self)


def plain(pipeline: Pipeline, source: Any, at: tuple[float, float], zoom: float, stage: Any) -> Shown:
    view = Plain(pipeline, source)
    (layer,) = view.layers
    state = ViewState(Camera(at[1], at[0], zoom))
    return Shown(view, lambda: layer.plan(state, (400, 300)), lambda: layer.make_cover((400, 300)))


def frame(pipeline: Pipeline, source: Any, at: tuple[float, float], zoom: float, stage: Any) -> Shown:
    from octree.render.scene.scene import Scene

    request = request_of(source, pipeline)
    opened = pipeline.share(open_source(source, request, labels=False))
    stage.canvas.resize(request.size_px)
    scene = Scene(pipeline, stage.canvas, request, [opened])
    return Shown(scene, lambda: scene.plan(ViewState(Camera(at[1], at[0], zoom))), scene.make_cover)


def node(
    pipeline: Pipeline, source: Any, at: tuple[float, float], zoom: float, stage: Any, **options: Any
) -> Shown:
    from vispy.scene import PanZoomCamera

    from octree.render import TiledImage

    view = stage.window.central_widget.add_view(camera=PanZoomCamera(aspect=1))
    width, height = 400 / zoom, 300 / zoom
    view.camera.rect = (at[1] - width / 2, at[0] - height / 2, width, height)
    image = TiledImage(source, parent=view.scene, pipeline=pipeline, clim="0,255", **options)
    return Shown(image, image.turn, image.turn)


@dataclass
class Stage:
    canvas: Any
    window: Any


@pytest.fixture
def stage(canvas: Any) -> Any:
    from vispy.scene import SceneCanvas

    with SceneCanvas(size=(400, 300), show=False) as window:
        yield Stage(canvas, window)


@pytest.mark.parametrize("kind", [plain, frame, node])
class TestAnyView:
    """The contract: what a view of a pipeline keeps to, whatever its kind. A new kind goes into the list above."""

    def test_it_gets_what_it_wants_and_reads_nothing_itself(self, kind: Any, stage: Any) -> None:
        with simulated() as pipeline:
            shown = kind(pipeline, Recorded(), (500, 500), 1.0, stage)
            shown.settle()
            assert shown.ideal == 1
            assert pipeline.loader.stats().main_thread_reads == 0
            assert pipeline.views == (shown.view,)

    def test_others_leave_it_its_tiles(self, kind: Any, stage: Any) -> None:
        with simulated(slots=12) as pipeline:
            image = Recorded(2048)
            shown = kind(pipeline, image, (300, 300), 1.0, stage)
            shown.settle()
            before = shown.places()
            assert before
            assert None not in before
            for x in range(800, 2000, 200):
                other = plain(pipeline, image, (1500, x), 1.0, stage)
                other.settle()
                other.view.close()
            assert pipeline.atlas.evicted > 0
            assert shown.places() == before

    def test_closing_it_leaves_nothing_behind(self, kind: Any, stage: Any) -> None:
        with simulated(latency_ms=10_000) as pipeline:
            shown = kind(pipeline, Recorded(), (500, 500), 1.0, stage)
            shown.look()
            assert not pipeline.loader.settled(prefetch=True)
            shown.view.close()
            shown.view.close()
            assert pipeline.views == ()
            assert pipeline.loader.settled(prefetch=True)
            assert len(pipeline.atlas) == 0

    def test_closing_it_takes_back_its_wishes(self, kind: Any, stage: Any) -> None:
        """And no others: the image is shown elsewhere, too."""
        with simulated(latency_ms=500) as pipeline:
            image = Recorded(4096)
            shown = kind(pipeline, image, (500, 500), 1.0, stage)
            shown.look()
            other = plain(pipeline, image, (3500, 3500), 1.0, stage)
            other.look()
            shown.view.close()
            wanted = set(other.view.layers[0].plan_in_force.wanted)
            other.settle()
            assert other.ideal == 1
            read = pipeline.loader.stats()
            assert read.loaded <= len(wanted) + 4, "what stands in for them, and nothing of the other view"
            assert read.cancelled > 0

    def test_closing_it_frees_its_room(self, kind: Any, stage: Any) -> None:
        """What it had pinned may go, though the image is still shown elsewhere."""
        with simulated(slots=9) as pipeline:
            image = Recorded(2048)
            shown = kind(pipeline, image, (300, 300), 1.0, stage)
            other = plain(pipeline, image, (1500, 1500), 0.9, stage)
            shown.settle()
            other.settle()
            assert other.degraded, "there must be no room for both, or this test shows nothing"
            shown.view.close()
            other.settle()
            assert not other.degraded
            assert other.ideal == 1

    def test_what_is_lost_is_listed(self, kind: Any, stage: Any) -> None:
        with simulated() as pipeline:
            lost = kind(pipeline, Recorded(broken=True), (500, 500), 1.0, stage)
            lost.settle()
            whole = plain(pipeline, Recorded(), (500, 500), 1.0, stage)
            whole.settle()
            failures = pipeline.failures(lost.view)
            assert any(failure["key"]["level"] == 0 for failure in failures)
            assert all("the disk is gone" in failure["error"] for failure in failures)
            assert pipeline.failures(whole.view) == []

    def test_an_image_that_is_shown_already_is_not_read_again(self, kind: Any, stage: Any) -> None:
        with simulated() as pipeline:
            image = Recorded()
            first = plain(pipeline, image, (500, 500), 1.0, stage)
            first.settle()
            before, uploads = Counter(image.reads), pipeline.atlas.uploads
            second = kind(pipeline, image, (500, 500), 1.0, stage)
            second.settle()
            assert second.ideal == 1
            wanted = second.view.layers[0].plan_in_force.wanted
            assert set(wanted) == set(first.view.layers[0].plan_in_force.wanted)
            assert pipeline.loader.stats().tiles_read_twice == 0
            assert all(image.reads[place] == count for place, count in before.items())
            assert pipeline.atlas.uploads - uploads <= 8  # what lies around the view
            first.view.close()
            second.settle()
            assert second.ideal == 1


def test_an_atlas_without_room_for_one_more_says_so_and_stays_as_it_was(stage: Any) -> None:
    with simulated(slots=1.5) as pipeline:
        shown = plain(pipeline, Recorded(), (500, 500), 0.2, stage)
        with pytest.raises(UsageError, match="cannot hold one tile"):
            plain(pipeline, Recorded(), (500, 500), 0.2, stage)
        shown.settle()
        assert pipeline.views == (shown.view,)


def test_two_formats_share_an_atlas_that_just_holds_them(stage: Any) -> None:
    """The pages of one must make way for the other: the atlas is filled anew."""
    with simulated(slots=4) as pipeline:
        small = node(pipeline, Recorded(256, np.uint8), (128, 128), 1.0, stage)
        small.settle()
        large = node(pipeline, Recorded(256, np.uint16), (128, 128), 1.0, stage)
        large.settle()
        small.settle()
        assert (small.ideal, large.ideal) == (1, 1)


def test_a_plan_may_want_tiles_of_several_levels(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is loaded, uploaded and drawn as ideal where it is wanted."""
    from octree.render.scene import layer as module

    def mixed(lattice: Any, *arguments: Any, **options: Any) -> Any:
        plan = plan_view(lattice, *arguments, **options)
        fine = [key for key in plan.wanted if key.grid[1] < 2]
        coarse = {lattice.key(1, (row // 2, 1)) for _, _, (row, col) in plan.wanted if col >= 2}
        return replace(plan, wanted=(*fine, *sorted(coarse)))

    monkeypatch.setattr(module, "plan_view", mixed)
    with simulated() as pipeline:
        shown = plain(pipeline, Recorded(), (500, 500), 1.0, stage)
        shown.settle()
        (layer,) = shown.view.layers
        coverage = layer.cover.coverage
        assert coverage.ideal == 1
        assert coverage.by_level == {0: pytest.approx(212 / 400), 1: pytest.approx(188 / 400)}
        assert pipeline.loader.stats().loaded <= len(layer.plan_in_force.wanted) + 2, (
            "and the coarsest level's"
        )


def test_pages_that_old_tiles_hold_make_way_for_tiles_of_another_kind(stage: Any) -> None:
    """There is room for all that is wanted, but a tile that is shown lies in each page, old ones around it: the atlas is
    emptied and filled anew."""
    with simulated(slots=64) as pipeline:
        bytes_, words = (
            Plain(pipeline, Recorded(2048, dtype), {"single_level": True}) for dtype in (np.uint8, np.uint16)
        )

        def look(view: Plain, row: int, col: int, tiles: int) -> None:
            side = 256 * tiles - 100
            middle = 256 * col + 128 * tiles, 256 * row + 128 * tiles
            view.layers[0].plan(ViewState(Camera(*middle, 1.0)), (side, side), fresh=True)

        def settle(*looks: tuple[Plain, int, int, int]) -> None:
            for _ in range(300):
                for each in looks:
                    look(*each)
                pipeline.take_in()
                pipeline.upload(budgeted=True)
                for view, *_ in looks:
                    view.layers[0].make_cover()
                if all(view.layers[0].is_complete for view, *_ in looks):
                    return
                pipeline.loader.wait(1 / 60)
            raise AssertionError("some tile found no room")

        shown = [(row, col) for row in range(3) for col in range(3)]
        others = [(row, col) for row in range(8) for col in range(8) if (row, col) not in shown]
        for number, (row, col) in enumerate(shown):
            for at in ((row, col), *others[4 * number : 4 * number + 4]):
                settle((bytes_, *at, 1))
        evicted = pipeline.atlas.evicted
        for at in others[36:]:
            settle((bytes_, *at, 1))
        assert pipeline.atlas.evicted == evicted == 0
        settle((bytes_, 0, 0, 3), (words, 1, 1, 4))
        for view, tiles in ((bytes_, 9), (words, 16)):
            assert len(view.layers[0].drawn) == tiles
            assert view.layers[0].cover is not None
            assert view.layers[0].cover.coverage.ideal == 1


# nodes have what frames have


def test_nodes_of_one_pipeline_share_threads_memory_and_tiles(stage: Any) -> None:
    """With pipelines of their own both read everything, with twice the threads."""
    from octree.render import TiledImage

    image = Recorded()
    before = threading.active_count()
    first = node(Pipeline(settings_of()), image, (500, 500), 1.0, stage)
    assert first.view.settle(timeout_s=20, prefetch=True)
    threads, reads = threading.active_count(), Counter(image.reads)
    assert threads > before
    pipeline = first.view.pipeline
    second = node(pipeline, image, (500, 500), 1.0, stage)
    assert second.view.settle(timeout_s=20, prefetch=True)
    assert threading.active_count() == threads
    assert image.reads == reads
    assert second.view.atlas is first.view.atlas
    assert second.view.coverage == first.view.coverage
    first.view.close()
    assert second.view.settle(timeout_s=20)
    second.view.close()
    pipeline.close()
    assert threading.active_count() == before
    with pytest.raises(UsageError, match="settings"):
        TiledImage(image, pipeline=pipeline, settings=settings_of())


def test_a_pipeline_that_a_node_made_goes_with_the_last_that_uses_it(stage: Any) -> None:
    from octree.render import TiledImage

    before = threading.active_count()
    image = Recorded()
    first = TiledImage(image, settings=settings_of(), clim="0,255")
    second = node(first.pipeline, image, (500, 500), 1.0, stage)
    first.close()
    assert second.view.settle(timeout_s=20)
    assert second.ideal == 1
    second.view.close()
    assert threading.active_count() == before


def test_a_closed_node_leaves_no_pins_in_somebody_elses_atlas(stage: Any) -> None:
    from octree.render.gl.texture_atlas import Atlas

    atlas, image = Atlas(9 * SLOT), Recorded(2048)

    def shown_at(y: float, x: float) -> Shown:
        network = Network(latency_ms=20)
        pipeline = Pipeline(settings_of(), atlas=atlas, clock=VirtualClock(), network=network, lasting=False)
        shown = node(pipeline, image, (y, x), 0.9, stage)
        shown.settle()
        return shown

    first = shown_at(300, 300)
    assert len(atlas) >= 4
    first.view.close()
    second = shown_at(1500, 1500)
    assert not second.degraded
    assert second.ideal == 1
    second.view.close()
    atlas.close()


@pytest.mark.parametrize(("allowed_ms", "ideal"), [(30.0, 1.0), (0.0, 0.0)])
def test_fast_data_are_there_in_the_first_turn(stage: Any, allowed_ms: float, ideal: float) -> None:
    """``auto_sync_ms`` holds for nodes too."""
    pool = PoolSettings(auto_sync_ms=allowed_ms, delay_queue_ms=0.0)
    with simulated(latency_ms=5, loader=LoaderSettings(pools=((0, pool),))) as pipeline:
        shown = node(pipeline, Recorded(256), (128, 128), 1.0, stage)
        shown.view.turn()
        assert shown.ideal == ideal


def test_a_node_looks_ahead_where_its_camera_goes(stage: Any) -> None:
    """Moving right, the tiles to the right are asked for before those to the left; standing still, none is left out."""
    with simulated(latency_ms=1_000) as pipeline:
        shown = node(pipeline, Recorded(4096), (2000, 2000), 1.0, stage)
        (layer,) = shown.view.layers
        camera = shown.view.parent.parent.camera
        clock = pipeline.clock
        assert isinstance(clock, VirtualClock)
        for step in range(8):
            camera.rect = (1800 + 60 * step, 1850, 400, 300)
            shown.view.turn()
            clock.advance_by(1000 / 60)
        plan = layer.plan_in_force
        assert plan.prefetch[0].grid[1] > max(tile.grid[1] for tile in plan.wanted)
        assert plan.leaving
        for _ in range(8):
            shown.view.turn()
            clock.advance_by(1000 / 60)
        assert not layer.plan_in_force.leaving


def test_a_nodes_shaders_are_built_while_its_first_tiles_are_on_their_way(stage: Any) -> None:
    with simulated(latency_ms=50) as pipeline:
        shown = node(pipeline, Recorded(), (500, 500), 1.0, stage, colormap="viridis")
        shown.view.turn()
        (visual,) = shown.view.visuals
        assert shown.view.coverage.missing == 1
        assert visual.shader_builds == 1
        shown.settle()
        picture = stage.window.render()[..., :3]
        assert visual.shader_builds == 1
        inner = picture[2:-2, 2:-2].reshape(-1, 3)
        assert len(np.unique(inner, axis=0)) == 2, "two values, two colours, the whole of the view"


def test_a_node_lists_what_it_could_not_read_and_reads_it_again_when_told(stage: Any) -> None:
    with simulated() as pipeline:
        image = Recorded(256, broken=True)
        shown = node(pipeline, image, (128, 128), 1.0, stage)
        other = node(pipeline, image, (128, 128), 1.0, stage)
        shown.settle()
        other.settle()
        (failure,) = shown.view.failures
        assert failure["key"] == {"level": 0, "index": [], "grid": [0, 0]}
        assert other.view.failures == shown.view.failures
        assert other.view.coverage.failed == 1
        image.broken = False
        shown.view.retry()
        shown.settle()
        assert shown.view.failures == []
        assert (shown.ideal, other.ideal) == (1, 1)
