"""What live nodes of planes and of volumes share: turns, steps along axes, waiting, sleeping. ``image.py`` and ``volume.py`` say
where their cameras stand, and what they want of that.

All on the thread of vispy's event loop. Sixty times a second the nodes of a pipeline take a turn together: they look
where their cameras stand and plan, tiles are taken in and uploaded within the budget of one frame, and who shows
something else than before asks for a draw. Nothing waits but for ``auto_sync_ms``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from vispy import app
from vispy.scene.node import Node
from vispy.scene.widgets import ViewBox

from octree.pyramid.errors import OctreeError, UsageError
from octree.pyramid.grid import Region
from octree.pyramid.options import Table, shown
from octree.render.config import Settings
from octree.render.gl.texture_atlas import Atlas
from octree.render.loading.values import Tier
from octree.render.request import RenderRequest
from octree.render.scene.ahead import Ahead, Coming
from octree.render.scene.look import Look, looks_of, warn_of_lost
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.playing import AtEnd
from octree.render.scene.slice_request import WHOLE, SliceRequest
from octree.render.scene.sources import asked, check_slicing, open_source
from octree.render.scene.stepping import SWAPS, Swap
from octree.render.scene.tile_layer import TileLayer, stand_of
from octree.render.tiles.texels import base_for, serves
from octree.render.tiles.tile_source import OpenTileSource
from octree.render.view.ahead import Tiles, arrives_in_time
from octree.render.view.coverage import Coverage
from octree.render.view.pace import STANDING_MS
from octree.render.view.plan import ViewPlan
from octree.render.view.state import Slicing, resolve

TICK_S = 1 / 60
EVENTS = ("requested", "partial", "complete", "failed", "superseded")


def _all(layer: TileLayer) -> Tiles:
    return layer.tiles_now


def _coarse(layer: TileLayer) -> Tiles:
    return layer.tiles_now[0], ()


class LiveNode(Node):  # type: ignore[misc] # vispy has no type information
    """Base of ``TiledImage``, which says what arguments and events are. A kind of node says which ``OPTIONS`` it takes, makes
    its layer, sees where its camera stands, and plans for that."""

    OPTIONS: ClassVar[Table]

    def __init__(
        self,
        source: Any,
        *,
        parent: Node | None = None,
        name: str | None = None,
        settings: Settings | None = None,
        atlas: Atlas | None = None,
        pipeline: Pipeline | None = None,
        group: str | None = None,
        swap: Swap = "each",
        **options: Any,
    ) -> None:
        self.OPTIONS.check_names(options)
        if swap not in SWAPS:
            raise UsageError(f"swap must be one of {', '.join(SWAPS)}, not {shown(swap)}")
        if pipeline is not None and (settings is not None or atlas is not None):
            raise UsageError("a pipeline has settings and an atlas", hint="leave out settings= and atlas=")
        super().__init__(parent=None, name=name)
        self.pipeline = Pipeline(settings, atlas=atlas, lasting=False) if pipeline is None else pipeline
        try:
            request = self._request(source, options)
            if request.ranges:
                raise UsageError("index: a node stands on one plane", hint="go_to shows another at any time")
            opened = open_source(source, request, labels=request.labels)
            try:
                check_slicing(request, [opened])
                looks = looks_of(opened, request.layers[0], request)
            except BaseException:
                opened.close()
                raise
            opened = self.pipeline.share(opened)
            self._layer = self._make_layer(opened, looks, request)
            self.pipeline.join(self)
            self._slicing = request.slicing
            self._layer.go_to(request.slicing)
            self._group = self.pipeline.group(group, swap)
            self._slicing = self._group.join(self)
        except BaseException:
            self.pipeline.leave(self)
            self.pipeline.close_unused()
            raise
        for node, look in zip(self.visuals, looks, strict=True):
            node.opacity = look.opacity  # making the node has set vispy's default
        self._limits: tuple[Any, list[tuple[float, float]]] | None = None
        self._shown: Slicing | None = None
        self._places: tuple[Any, ...] | None = None
        self._held = self._asleep = False
        self._ahead = Ahead([self._layer], self.pipeline.loader)
        self._foreseen: Any = None
        self._looked: tuple[Any, ...] = ()
        self._fresh = self._stale = True
        self._holdings: Any = ()
        self.events.add(**dict.fromkeys(EVENTS))
        for name in EVENTS:
            self.events[name].ignore_callback_errors = True
        self._timer = app.Timer(TICK_S, connect=self._tick, start=True)
        self.parent = parent
        self._group.ask(stepped=False)

    # what each kind of node does in its own way

    def _request(self, source: Any, options: Mapping[str, Any]) -> RenderRequest:
        return asked([source], [], options, settings=self.pipeline.settings)

    def _make_layer(self, source: OpenTileSource, looks: Sequence[Look], request: RenderRequest) -> TileLayer:
        raise NotImplementedError

    def _see(self) -> Any:
        """Where the camera stands: equal as long as it wants the same."""
        raise NotImplementedError

    def _plan(self, seen: Any, *, prefetch: bool, held_from: Tier | None) -> ViewPlan:
        """Tell the layer what is seen."""
        raise NotImplementedError

    def _mark_old(self, old: bool) -> None:
        """What is shown is of another plane than the one that was asked for, or is not any more."""

    # what all do

    @property
    def layers(self) -> Sequence[TileLayer]:
        """What it is for its pipeline."""
        return [self._layer]

    @property
    def visuals(self) -> Sequence[Any]:
        """One for each channel, bottom first."""
        return [part.visual for part in self._layer.parts]

    @property
    def coverage(self) -> Coverage | None:
        """What the last frame showed; None before the first."""
        return self._layer.cover.coverage if self._layer.cover is not None else None

    @property
    def is_settled(self) -> bool:
        """At the last turn, every tile that the view wants was drawn, or had failed. What is hidden wants nothing."""
        if self._asleep:
            return self._canvas_in_view() is not None
        return not self._fresh and not self._held and self._layer.is_complete

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The tiles that could not be read, as in the report: source, key, error, attempts."""
        return self.pipeline.failures(self)

    def go_to(self, **positions: float) -> SliceRequest:
        """Show another place on axes that are not displayed, as in ``go_to(z=3)``, in positions of level 0; of a
        position between two planes the one below. Its tiles come coarse first; what becomes of it the request says, and
        ``events``. All nodes of its group go there. Raises UsageError for an axis or a place that there is not, and for
        what is no number."""
        self._check_channels(positions)
        request = self._group.go_to(positions)
        self._synchronise()
        return request

    def _check_channels(self, axes: Iterable[str]) -> None:
        channels = self._layer.channels
        if "c" in axes and channels and None not in channels:
            raise UsageError(
                "each channel has a visual of its own here",
                hint="set visuals[i].visible, or give index='c=0' to stand on one of them",
            )

    def _change(self, slicing: Slicing) -> None:
        self._group.change(self, slicing)
        self._synchronise()

    # what its group asks of it

    @property
    def slicing(self) -> Slicing:
        """What it shows of its image."""
        return self._slicing

    def slice_to(self, slicing: Slicing) -> None:
        """For its group: show that from now on. Raises UsageError for what cannot be shown."""
        resolve(replace(slicing, position=()), self._layer.source.spec)
        if not self._held:
            self._places = self._layer.drawn_places()
        self._layer.go_to(slicing)
        self._slicing, self._fresh = slicing, True

    def tell(self, event: str, request: SliceRequest) -> None:
        """For its group: a request is in another state. An error in a callback is printed, and breaks nothing."""
        getattr(self.events, event)(request=request)

    @property
    def is_shown(self) -> bool:
        """It lies in a canvas, and neither it nor what it lies in is hidden. What is hidden loads nothing."""
        node: Any = self
        while node is not None:
            if not node.visible:
                return False
            node = node.parent
        if not any(visual.visible for visual in self.visuals):
            return False
        return self._canvas_in_view() is not None

    def retry(self) -> None:
        """Read again what could not be read, for all that share the pipeline."""
        self.pipeline.loader.retry_failed()

    def refresh(self) -> None:
        """The data have changed: read them anew, and draw what is there now, in all nodes that share the pipeline and
        show this source. Shape and dtype must be what they were: else its tiles fail. Contrast limits stay."""
        self.pipeline.refresh(self._layer.source)

    def play(self, axis: str, fps: float = 10.0, at_end: AtEnd = "stop") -> None:
        """Show one plane of an axis after the other, ``fps`` in each second, from where the node stands (from the first, when
        it stands at the end and is to stop there). ``at_end``: "stop", "loop" (begin anew) or "reverse" (there and back). Each
        plane is shown at its time, as far as it is in memory; planes whose time has passed are skipped. Nothing
        waits. ``go_to`` goes on from there. Raises UsageError for an axis, a rate or an end that there is not."""
        self._check_channels([axis])
        self._group.start(axis, fps, at_end)

    def stop(self) -> None:
        """Play no more: the plane that is shown stays."""
        self._group.play = None

    @property
    def is_playing(self) -> bool:
        return self._group.play is not None

    @property
    def slice(self) -> SliceRequest | None:
        """The plane that was asked for last, and what became of it so far; None when the node is closed."""
        return self._group.request

    @property
    def index(self) -> dict[str, int]:
        """Where it stands on the axes that are not displayed: what was asked for."""
        return stand_of(self.layers, self._slicing)

    @property
    def shown_index(self) -> dict[str, int] | None:
        """The plane of which the last frame showed something, on which a time stamp should stand; None before the first. Other
        than ``index`` only with ``swap="all"``, while it is hatched."""
        return None if self._shown is None else stand_of(self.layers, self._shown)

    @contextmanager
    def force_sync(self, timeout_s: float = 60.0) -> Iterator[None]:
        """For screenshots: within the ``with`` block the view, and that of the nodes in its group, is complete: at its
        beginning and whenever ``go_to``, ``display`` or ``project`` has changed it (``settle()`` after the camera has
        moved). Raises OctreeError when that takes longer; of what cannot be read ``failures`` tells."""
        before, self._group.sync_s = self._group.sync_s, timeout_s
        try:
            self._synchronise()
            yield
        finally:
            self._group.sync_s = before

    def _synchronise(self) -> None:
        limit_s = self._group.sync_s
        if limit_s is None:
            return
        until_ms = self.pipeline.clock.now_ms() + 1000 * limit_s
        for node in [each for each in self._sharing() if each._group is self._group]:
            left_s = max(0.0, until_ms - self.pipeline.clock.now_ms()) / 1000
            if not node.settle(left_s):
                raise OctreeError(
                    f"the view was not complete within {limit_s:g} s",
                    hint="give force_sync a longer time, and the node a canvas and a camera that show it",
                )

    def close(self) -> None:
        """Stop loading, and free what no other node uses. Closing twice is harmless."""
        self._timer.stop()
        self._group.leave(self)
        if self in self.pipeline.views:
            self._ahead.forget()
        self.pipeline.leave(self)
        self.parent = None

    def settle(self, timeout_s: float = 60.0, *, prefetch: bool = False) -> bool:
        """Take turns until everything that the view wants is drawn or has failed, or the time is up; True when it is.
        For pictures without an event loop. ``prefetch``: and until nothing is left to load or to upload."""
        pipeline, loader = self.pipeline, self.pipeline.loader
        until_ms = pipeline.clock.now_ms() + 1000 * timeout_s
        while True:
            self.turn()
            busy = prefetch and (not loader.settled(prefetch=True) or pipeline.waiting())
            if self.is_settled and not busy:
                return True
            now_ms = pipeline.clock.now_ms()
            if now_ms >= until_ms:
                return False
            loader.wait_until(min(until_ms, now_ms + 1000 * TICK_S))

    def turn(self) -> None:
        """What a timer does sixty times a second, for an event loop of your own: one turn of all nodes that share the
        pipeline."""
        for node in self._sharing():
            canvas = node._canvas_in_view()
            if canvas is not None and canvas._closed:
                node.close()
        nodes = self._sharing()
        for node in nodes:
            node._rest()
        shown = [node for node in nodes if not node._asleep]
        if not shown:
            return
        groups = list(dict.fromkeys(node._group for node in shown))
        for group in groups:
            group.advance()
        shown[0]._canvas_in_view().set_current()
        for node in shown:
            node._look()
        for node in shown:
            node._look_ahead(1 / len(shown))
        self.pipeline.take_in(at_most_ms=1000 * TICK_S if any(group.play for group in groups) else math.inf)
        self.pipeline.upload(budgeted=True)
        for group in groups:
            held = group.swap == "all" and not all(node._is_whole() for node in shown if node._group is group)
            for node in [node for node in shown if node._group is group]:
                node._show(held=held)
            group.see(held=held)

    def _tick(self, _event: Any = None) -> None:
        """Each node has a timer; that of the first one turns them all."""
        if self._sharing()[:1] == [self]:
            self.turn()

    def _sharing(self) -> list[LiveNode]:
        return [view for view in self.pipeline.views if isinstance(view, LiveNode)]

    def _follow_contrast(self) -> None:
        """Contrast limits that were set far from those before ask for other texels, where texels have 24 bits of wider
        values."""
        face, visuals = self._layer.face, self.visuals
        limits = (face, [visual.clim for visual in visuals])
        if limits == self._limits:
            return
        known, self._limits = self._limits, limits
        bases = {part.channel: face.base(part.channel) for part in self._layer.parts}
        fitting = {
            channel: base
            if serves(base, face.value_dtype, clim, labels=face.labels)
            else base_for(face.value_dtype, clim, labels=face.labels)
            for (channel, base), clim in zip(bases.items(), limits[1], strict=True)
        }
        if known is not None and known[1] != limits[1] and not face.labels:
            warn_of_lost(self._layer.source, face.value_dtype, limits[1])
        if fitting != bases:
            if not self._layer.is_rebased:
                self._places = self._layer.drawn_places()
            self._layer.rebase(fitting)
            self._limits = (self._layer.face, limits[1])
            self._fresh = True

    def _look(self) -> None:
        """Where is the camera, and where will it be? Plan, if that is news."""
        self._follow_contrast()
        seen, version = self._see(), self._layer.source.version
        held_from, group = self._group.held_from, self._group
        if held_from is None and not arrives_in_time(self.pipeline.loader.latency_ms(), group.left_ms):
            held_from = Tier.STAND_IN  # as in films: what comes after the plane has gone is read in vain
        stands = group.plane_ms is None
        looked = (seen, self.pipeline.room_for(self._layer), version, held_from, stands)
        if looked == self._looked and not self._fresh:
            return
        plan = self._plan(seen, prefetch=stands, held_from=held_from)
        if plan.wanted and not any(visual.shader_builds for visual in self.visuals):
            self._layer.rehearse()
            self._canvas_in_view().context.flush_commands()
        self._looked, self._fresh, self._stale = looked, False, True

    def _look_ahead(self, share: float) -> None:
        """Which planes come next? Wish them, if that is news."""
        coming, plane_ms = self._group.coming(self), self._group.plane_ms
        foreseen = (coming, plane_ms, self._looked, self.pipeline.loader.latency_ms())
        if foreseen == self._foreseen:
            return
        self._foreseen, self._ahead.share = foreseen, share
        # a guess is worth no more than what stands in, where anything else takes longer than a step
        guessed = plane_ms is not None and not self.is_playing and self.pipeline.loader.is_slow()
        tiles = _coarse if guessed else _all
        planes = [Coming(slicing, due_ms, tiles) for due_ms, slicing in coming]
        self._ahead.plan(planes, STANDING_MS if plane_ms is None else plane_ms)

    def _show(self, *, held: bool = False) -> None:
        """Cover the view anew if it has changed, or what there is to show, whoever changed that. ``held``: what others
        lack of the new plane keeps this one at the plane before, which is hatched, as long as that is there."""
        held = held and self._shown != self._slicing
        if held and self._places is not None and self._layer.drawn_places() == self._places:
            self._mark_old(True)
        elif held:
            self._layer.blank()
        elif self._is_outdated():
            return
        elif self._held or self._stale or self._layer.holdings() != self._holdings:
            self._mark_old(False)
            self._layer.make_cover()
            self._shown, self._stale, self._holdings = self._slicing, False, self._layer.holdings()
            self.update()
        self._held = held

    def _is_outdated(self) -> bool:
        """It shows the right plane from texels for other contrast limits, until the new ones have no hole."""
        layer = self._layer
        return (
            layer.is_rebased
            and self._shown == self._slicing
            and layer.drawn_places() == self._places
            and layer.missing_now() > WHOLE
        )

    def _is_whole(self) -> bool:
        """It could show its plane without a hole."""
        return self._shown == self._slicing or self._layer.missing_now() <= WHOLE

    def _rest(self) -> None:
        """Hidden: load nothing."""
        asleep = not self.is_shown
        if asleep and not self._asleep:
            self._layer.sleep()
            self._ahead.rest()
            self._foreseen = None
            self._fresh = True
        self._asleep = asleep

    def _before_draw(self) -> None:
        """Drawn between two turns, after ``go_to`` or when it was hidden: show what there is of where it stands, and nothing
        of where it stood."""
        if not self._fresh or self._shown is None:
            return
        if self._group.swap == "all":
            self._mark_old(self._shown != self._slicing)
        else:
            self._look()
            self._show()

    def _canvas_in_view(self) -> Any:
        scene = self.scene_node
        return getattr(scene, "canvas", None) if scene is not None else None

    def _screen(self) -> Region:
        """The part of the canvas where the node can show: inside every view box that it lies in."""
        width, height = self._canvas_in_view().size
        screen, node = Region((0.0, 0.0), (height, width)), self.parent
        while node is not None:
            if isinstance(node, ViewBox):
                inner = node.inner_rect
                corners = node.get_transform("visual", "canvas").map(
                    [(x, y) for x in (inner.left, inner.right) for y in (inner.bottom, inner.top)]
                )[:, :2]
                (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
                screen = screen.intersect(Region((y0, x0), (y1, x1)))
            node = node.parent
        return screen

    # what vispy tells a node and not the nodes below it

    def _set_clipper(self, node: Node, clipper: Any) -> None:
        if clipper is None:
            self._clippers.pop(node, None)
        else:
            self._clippers[node] = clipper
        for visual in self.visuals:
            visual._set_clipper(node, clipper)

    def _update_opacity(self) -> None:
        for visual in self.visuals:
            visual._opacity_filter.alpha = self._opacity
        self.update()
