"""Views that step through planes together: where they stand, what they have asked for, and playing. Main thread only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from octree.pyramid.errors import UsageError
from octree.pyramid.model import PyramidSpec
from octree.render.loading.values import Tier
from octree.render.scene.playing import Play, play_from
from octree.render.scene.slice_request import Sight, SliceRequest
from octree.render.scene.slices import sight_of
from octree.render.scene.tile_layer import stand_of
from octree.render.view.ahead import MOST_PLANES, arrives_in_time
from octree.render.view.coverage import merge_coverage
from octree.render.view.pace import Pace
from octree.render.view.state import Slicing, check_place, resolve, whole_position

if TYPE_CHECKING:
    from octree.render.scene.layer import Layer
    from octree.render.scene.pipeline import Pipeline

Swap = Literal["each", "all"]
SWAPS = ("each", "all")
TICK_MS = 1000 / 60


class Member(Protocol):
    """A view of a group, as the group drives it."""

    @property
    def layers(self) -> Sequence[Layer]: ...

    @property
    def slicing(self) -> Slicing:
        """What it shows of its image."""
        ...

    @property
    def is_shown(self) -> bool:
        """It loads: it lies in a canvas, and nobody has hidden it."""
        ...

    def slice_to(self, slicing: Slicing) -> None:
        """Show that from now on. Raises UsageError for what cannot be shown."""
        ...

    def tell(self, event: str, request: SliceRequest) -> None:
        """A request of the group is in another state."""
        ...

    def turn(self) -> None: ...


class Group:
    """Views of a pipeline that stand at the same place on the axes they do not display. A view that nobody put into one is alone
    in its own.

    ``position``  level-0 positions that were asked for, by axis.
    ``swap``      "each" member shows what there is of the new plane as it comes; "all": none does before all can without
                  a hole, and each keeps the plane before until then, hatched.
    ``play``      what is played, if anything is.
    ``sync_s``    each step is waited for, at most so long; None: none is.
    """

    def __init__(self, pipeline: Pipeline, name: str = "", swap: Swap = "each") -> None:
        self.name, self.swap = name, swap
        self.members: tuple[Member, ...] = ()
        self.position: dict[str, int] = {}
        self.play: Play | None = None
        self.sync_s: float | None = None
        self._pipeline = pipeline
        self._held_from: Tier | None = None
        self._pace = Pace()

    # who

    def join(self, member: Member) -> Slicing:
        """One more; what it is to show. Raises UsageError when it was to stand elsewhere."""
        own = dict(member.slicing.position)
        for axis in own.keys() & self.position.keys():
            if own[axis] != self.position[axis]:
                raise UsageError(
                    f"group {self.name!r} stands at {axis}={self.position[axis]}, not at {axis}={own[axis]}",
                    hint="leave out index=, or give another group=",
                )
        self.position = own | self.position
        self.members += (member,)
        return self._slicing_of(member)

    def leave(self, member: Member) -> None:
        """One less. What nobody waits for any more is superseded."""
        self.members = tuple([other for other in self.members if other is not member])
        if not self.members:
            self._pipeline.slices.forget(self)
            self.play, self.position = None, {}

    @property
    def layers(self) -> Sequence[Layer]:
        """Of those that load."""
        return [layer for member in self.members if member.is_shown for layer in member.layers]

    @property
    def is_shown(self) -> bool:
        return any(member.is_shown for member in self.members)

    @property
    def request(self) -> SliceRequest | None:
        """The newest."""
        return self._pipeline.slices.newest(self)

    # to another plane

    def go_to(self, positions: Mapping[str, Any]) -> SliceRequest:
        """Everybody to another place. Raises UsageError for an axis or a place that no member has, and for what is no
        number."""
        wished = {axis: whole_position(axis, at) for axis, at in positions.items()}
        for axis, at in wished.items():
            check_place(axis, at, self.length_of(axis))
        if self.play is not None and self.play.axis in wished:
            self.play = self.play.moved_to(wished[self.play.axis], self._now_ms)
        if (request := self.request) is not None and all(
            self.position.get(axis, 0) == at for axis, at in wished.items()
        ):
            return request  # it stands there: nothing new is asked for
        return self._step(wished)

    def change(self, member: Member, slicing: Slicing) -> SliceRequest:
        """One of them shows other axes, or another projection. Raises UsageError for what cannot be shown. What nobody stands
        on any more is not played on."""
        self._pipeline.slices.note_unread(self)
        member.slice_to(self._slicing_of(member, slicing))
        if self.play is not None and not any(
            self.play.axis in _free(_spec(m), m.slicing) for m in self.members
        ):
            self.play = None
        return self.ask()

    def length_of(self, axis: str) -> int:
        """Of the longest image of a member that can stand on an axis. Raises UsageError when none can, as the first of them
        says it, and when there is none."""
        if not self.members:
            raise UsageError("the node is closed: it shows nothing any more", hint="make another TiledImage")
        lengths = []
        for member in self.members:
            spec = _spec(member)
            if axis in _free(spec, member.slicing):
                lengths.append(spec.levels[0].shape[spec.axis_names.index(axis)])
        if not lengths:
            first = self.members[0]
            resolve(replace(first.slicing, position=((axis, 0),)), _spec(first))
        return max(lengths)

    def _step(self, wished: Mapping[str, int]) -> SliceRequest:
        for axis, at in wished.items():
            self._pace.step(self._now_ms, axis, self.position.get(axis, 0), at)
        self.position |= wished
        self._pipeline.slices.note_unread(self)
        for member in self.members:
            member.slice_to(self._slicing_of(member))
        return self.ask()

    def _slicing_of(self, member: Member, slicing: Slicing | None = None) -> Slicing:
        """What a member shows where the group stands."""
        return self._slicing_at(self.position, member, slicing or member.slicing)

    def _slicing_at(self, position: Mapping[str, int], member: Member, wishes: Slicing) -> Slicing:
        free = _free(_spec(member), wishes)
        return replace(wishes, position=tuple([place for place in position.items() if place[0] in free]))

    # and what comes after it

    @property
    def plane_ms(self) -> float | None:
        """How long each plane is shown while planes are stepped through; None: the group stands."""
        return 1000 / self.play.fps if self.play is not None else self._pace.steps_ms(self._now_ms)

    @property
    def left_ms(self) -> float:
        """How long the plane that is shown will be; nobody knows it unless it is played."""
        return math.inf if self.play is None else self.play.next_ms(self._now_ms) - self._now_ms

    def coming(self, member: Member, count: int = MOST_PLANES) -> list[tuple[float, Slicing]]:
        """(when it is due, ms from now; what a member will show) of the next planes, soonest first: known while something is
        played, else a guess."""
        now_ms, play = self._now_ms, self.play
        if play is not None:
            axis, planes = play.axis, [(due_ms - now_ms, at) for due_ms, at in play.coming(now_ms, count)]
        else:
            axis, planes = self._pace.coming(now_ms, count)
        if not axis or axis not in _free(_spec(member), member.slicing):
            return []
        length = self.length_of(axis)
        return [
            (due_ms, self._slicing_at(self.position | {axis: at}, member, member.slicing))
            for due_ms, at in planes
            if 0 <= at < length
        ]

    def ask(self, *, stepped: bool = True) -> SliceRequest:
        """Everybody has been told where to stand: what is asked for with it. ``stepped``: they stood elsewhere before."""
        slices, before, now_ms = self._pipeline.slices, self.request, self._now_ms
        outrun = before is not None and not before.is_over and self._is_outrun(before)
        delay_ms = self._delay_ms() if stepped else 0.0
        # steps that follow each other faster than anything can arrive are not worth a read
        self._held_from = None if not delay_ms else Tier.STAND_IN if outrun else Tier.IDEAL
        was_under_way = before is not None and not before.is_over
        # of what the members show differently each says for itself where it stands on it
        layers = [layer for member in self.members for layer in member.layers]
        axes = {axis for member in self.members for axis in stand_of(member.layers, self._slicing_of(member))}
        request = slices.request(
            self,
            self.members[0].slicing,
            {
                axis: at
                for axis, at in stand_of(layers, Slicing.of(self.position, ())).items()
                if axis in axes
            },
            name=self.name or "node",
            deadline_ms=self.play.next_ms(now_ms) if self.play is not None else None,
            delay_ms=delay_ms,
            wait=self._wait,
        )
        if was_under_way and before is not None:
            self._tell("superseded", before)
        self._tell("requested", request)
        return request

    def _is_outrun(self, request: SliceRequest) -> bool:
        """It is left sooner than anything read for it could come; that its coarsest tiles had come ahead does not count."""
        shown_ms = self._now_ms - request.requested_ms
        in_time = arrives_in_time(self._pipeline.loader.latency_ms(), shown_ms)
        return request.record.first_ms is None or not in_time

    def _delay_ms(self) -> float:
        """How long loads of a step wait for the next one: no time when they are known fast, or while playing."""
        loader = self._pipeline.loader
        return loader.delay_ms if self.play is None and loader.is_slow() else 0.0

    @property
    def held_from(self) -> Tier | None:
        """Loads of this tier and of later ones must wait; None: none has to."""
        request = self.request
        waits = request is not None and self._now_ms < request.record.starts_ms
        return self._held_from if waits else None

    # turns

    @property
    def _now_ms(self) -> float:
        return self._pipeline.clock.now_ms()

    def advance(self) -> None:
        """Before a turn: what is played goes on. Nobody looks: nothing is asked for."""
        play, now_ms = self.play, self._now_ms
        if play is None or not self.is_shown:
            return
        plane = play.plane(now_ms)
        if plane != self.position.get(play.axis, 0):
            self._step({play.axis: plane})
        if self.play is play and play.is_over(now_ms):
            self.play = None

    def see(self, *, held: bool = False) -> None:
        """After a turn: what the members show now. ``held``: the plane before."""
        request = self.request
        if request is None or request.is_over or not self.is_shown:
            return
        sight = Sight(1.0, settled=False)
        layers = self.layers
        covers = [layer.cover for layer in layers if layer.cover is not None]
        if not held and len(covers) == len(layers):
            there = [
                cover.coverage for cover, layer in zip(covers, layers, strict=True) if not layer.is_beyond
            ]
            sight = sight_of(self, merge_coverage([(coverage, 1) for coverage in there]))
        changed = self._pipeline.slices.see(self, sight)
        if changed is not None and changed.state.value in ("partial", "complete", "failed"):
            self._tell(changed.state.value, changed)

    def _tell(self, event: str, request: SliceRequest) -> None:
        for member in self.members:
            member.tell(event, request)

    def _wait(self, timeout_s: float) -> None:
        clock, request = self._pipeline.clock, self.request
        until_ms = clock.now_ms() + 1000 * timeout_s
        while request is not None and not request.is_over and self.is_shown:
            self.members[0].turn()
            if request.is_over or (now_ms := clock.now_ms()) >= until_ms:
                return
            self._pipeline.loader.wait_until(min(until_ms, now_ms + TICK_MS))

    # playing

    def start(self, axis: str, fps: Any, at_end: Any) -> None:
        """Play an axis from where it stands. Raises UsageError for what cannot be played."""
        length = self.length_of(axis)
        self.play = play_from(axis, fps, at_end, length, self.position.get(axis, 0), self._now_ms)


def _spec(member: Member) -> PyramidSpec:
    return member.layers[0].source.spec


def _free(spec: PyramidSpec, slicing: Slicing) -> set[str]:
    """The axes of an image on which a view can stand."""
    projection = slicing.projection
    spread = {projection.axis} if projection is not None and projection.around is None else set()
    return set(spec.free_axes) - set(slicing.displayed) - spread
