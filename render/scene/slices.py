"""The slice requests of a pipeline: each view's newest one, and what became of all. Main thread only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from octree.render.loading.clock import Clock
from octree.render.loading.load_log import TextLog
from octree.render.loading.values import FailedTile, LoadKey
from octree.render.report.values import SliceReport
from octree.render.scene.slice_request import Sight, SliceRecord, SliceRequest, SliceState, slice_line
from octree.render.scene.tile_layer import TileLayer
from octree.render.view.coverage import Coverage
from octree.render.view.state import Slicing


class Stepping(Protocol):
    """A view whose layers step together: the frame of ``octree render``, or a group of nodes."""

    @property
    def layers(self) -> Sequence[TileLayer]: ...


def sight_of(view: Stepping, coverage: Coverage) -> Sight:
    """What a view shows of its plane, all its layers together."""
    settled = all(layer.is_complete for layer in view.layers)
    if not (settled and coverage.failed):
        return Sight(coverage.missing, settled)
    lost = [failure for layer in view.layers for failure in layer.lost()]
    return Sight(coverage.missing, settled, max(1, len(lost)), lost[0].error if lost else "")


class Slices:
    """Owner of the records. ``all`` are the requests so far if they are to be kept; of each view the newest always is.
    ``unread``: asked for the tiles that could not be read so far."""

    def __init__(self, clock: Clock, unread: Callable[[], Mapping[LoadKey, FailedTile]] = dict) -> None:
        self.all: list[SliceRequest] | None = None
        self._clock, self._unread = clock, unread
        self._log = TextLog(None)
        self._newest: dict[Stepping, SliceRequest] = {}
        self._generation = 0

    def keep(self, log: TextLog) -> None:
        """From now on keep all requests, and write a line for each when it is over."""
        self.all, self._log = [], log

    def request(
        self,
        view: Stepping,
        slicing: Slicing,
        index: Mapping[str, int],
        *,
        name: str,
        deadline_ms: float | None = None,
        delay_ms: float = 0.0,
        wait: Callable[[float], None] = lambda timeout_s: None,
    ) -> SliceRequest:
        """A view shows something else from now on; what it asked for before is superseded, unless that is over.
        ``delay_ms``: its loads wait so long. ``wait`` takes turns of the view, for at most so many seconds."""
        now_ms = self._clock.now_ms()
        self.forget(view)
        self._generation += 1
        state = SliceState.DELAYED if delay_ms > 0 else SliceState.LOADING
        request = SliceRequest(
            self._generation,
            MappingProxyType(dict(index)),
            "".join(slicing.displayed),
            None if slicing.projection is None else str(slicing.projection),
            name,
            now_ms,
            deadline_ms,
            SliceRecord(state, now_ms + delay_ms, wait=wait),
        )
        self._newest[view] = request
        if self.all is not None:
            self.all.append(request)
        return request

    def newest(self, view: Stepping) -> SliceRequest | None:
        """What a view asked for last."""
        return self._newest.get(view)

    def see(self, view: Stepping, sight: Sight) -> SliceRequest | None:
        """What a view shows now; its request, if that is in another state for it."""
        request = self._newest.get(view)
        if request is None or not request.record.see(self._clock.now_ms(), sight):
            return None
        if request.is_over:
            self._log.write(slice_line(request))
        return request

    def note_unread(self, view: Stepping | None = None) -> None:
        """Keep with the requests that are not over what of their planes could not be read so far: of all views, or of one
        that is about to show something else."""
        unread: Mapping[LoadKey, FailedTile] | None = None
        for each, request in self._newest.items():
            if request.is_over or view not in (None, each):
                continue
            unread = self._unread() if unread is None else unread
            lost = sorted([key for key in unread if any(layer.shows(key) for layer in each.layers)])
            request.record.lost = len(lost)
            request.record.error = unread[lost[0]].error if lost else ""

    def count(self, key: LoadKey) -> None:
        """A tile has been read: count it for who waits for its plane."""
        for view, request in self._newest.items():
            if not request.is_over and any(layer.shows(key) for layer in view.layers):
                request.record.tiles_read += 1

    def forget(self, view: Stepping) -> None:
        """A view asks for something else, or is gone."""
        request = self._newest.pop(view, None)
        if request is not None and request.record.supersede(self._clock.now_ms()):
            self._log.write(slice_line(request))

    def close(self) -> None:
        """What is under way stays as it is, and is logged. Closing twice is harmless."""
        self.note_unread()
        for request in self._newest.values():
            if not request.is_over:
                self._log.write(slice_line(request))
        self._newest.clear()


def slice_reports(requests: Iterable[SliceRequest], zero_ms: float) -> tuple[SliceReport, ...]:
    """For the report, in times since ``zero_ms``."""

    def since(time_ms: float | None) -> float | None:
        return None if time_ms is None else time_ms - zero_ms

    return tuple(
        [
            SliceReport(
                dict(request.index),
                request.requested_ms - zero_ms,
                since(request.record.first_ms),
                since(request.record.full_ms),
                since(request.record.complete_ms),
                request.state.value,
                request.record.tiles_read,
                request.record.lost,
                request.record.error,
            )
            for request in requests
        ]
    )
