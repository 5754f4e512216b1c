"""One load on its way: the record that the queues and pools pass around, and its cancel token."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import OctreeError
from octree.pyramid.model import TileKey
from octree.render.loading.values import Batch, Event, LoadKey, State, TileSource, transition

Pixels = tuple[NDArray[Any], ...]
"""What a load brings: an array for each of its tiles."""


class CancelToken:
    """Says once and for all that a try is given up. Thread-safe; every method may be called from any thread."""

    __slots__ = ("_bell", "_callbacks", "_cancelled", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._bell: threading.Event | None = None  # made only when someone waits: most loads never do
        self._callbacks: list[Callable[[], object]] = []

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, []
            if self._bell is not None:
                self._bell.set()
        for callback in callbacks:
            callback()

    def wait(self, timeout_s: float) -> bool:
        """Sleep so long, or until cancelled; True when cancelled."""
        if timeout_s > 0 and not self._cancelled:
            with self._lock:
                bell = self._bell = self._bell or threading.Event()
                if self.cancelled:
                    bell.set()
            bell.wait(timeout_s)
        return self._cancelled

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when cancelled (at once when it already is): how a reader gives up a future of an
        asynchronous store. It runs in the cancelling thread and must not block."""
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def forget_callbacks(self) -> bool:
        """A later cancel calls nobody; True when it is too late for that."""
        with self._lock:
            self._callbacks = []
            return self._cancelled


_current = threading.local()


def current_cancel_token() -> CancelToken | None:
    """The token of the try that this worker thread is busy with; None outside a load."""
    token: CancelToken | None = getattr(_current, "token", None)
    return token


def set_current_token(token: CancelToken | None) -> None:
    _current.token = token


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredSource:
    """A source as the loader knows it: ``number`` counts sources in the order they were added. ``batch_levels``: those
    with tiles that may be read together; ``begin_levels``: those whose reads go on by themselves; ``in_flight``: so many of
    these at a time, of a source that is far away, 0 for no more than there are workers."""

    source: TileSource
    number: int
    batch_levels: frozenset[int] = frozenset()
    begin_levels: frozenset[int] = frozenset()
    in_flight: int = 0

    def patient(self, tile_level: int) -> bool:
        """Levels that are computed, not read, may take as long as they need; so may sources whose reads end by themselves."""
        if getattr(self.source, "gives_up", False):
            return True
        cheap = getattr(self.source, "cheap_levels", None)
        return cheap is not None and tile_level >= cheap


@dataclass(slots=True, eq=False)
class Load:
    """One key being loaded. Owned by its pool, under the pool's lock; the loader (owner thread) writes only
    ``rank`` and ``wanted``, and those also under that lock.

    ``rank`` (tier, position in the plan): lower is sooner. ``due_ms``: not before. ``run`` counts starts, so that
    what an abandoned worker brings back is recognised. ``first_ms``: when it was first wanted. ``tie``: which of
    two loads of one rank comes first; not by the source's token, which differs from machine to machine. ``batch``: what
    is read, None for the tile of ``key`` alone; ``asked``: the keys that somebody has wished of it, ``key`` first, written
    by the loader. ``error`` of the last try that has failed, ``failed_tries`` so many."""

    key: LoadKey
    registered: RegisteredSource
    pool_key: int
    rank: tuple[int, int]
    first_ms: float
    due_ms: float
    state: State = State.QUEUED
    attempt: int = 1
    run: int = 0
    started_ms: float = 0.0
    wanted: bool = True
    token: CancelToken = field(default_factory=CancelToken)
    batch: Batch | None = None
    asked: list[LoadKey] = field(default_factory=list)
    error: str = ""
    failed_tries: int = 0
    tie: tuple[int, int, TileKey] = field(init=False)

    def __post_init__(self) -> None:
        self.tie = (self.registered.number, self.key.version, self.key.tile)
        self.asked = self.asked or [self.key]

    def rank_by(self, ranks: Callable[[LoadKey], tuple[int, int]]) -> tuple[int, int]:
        """The most urgent of the ranks that these give to what was asked for."""
        return ranks(self.key) if len(self.asked) == 1 else min(map(ranks, self.asked))

    def tiles(self) -> list[TileKey]:
        """All that it brings."""
        return [self.key.tile] if self.batch is None else self.batch.members()

    def change(self, event: Event) -> None:
        self.state = transition(self.state, event)
        if event is Event.START:
            self.run += 1
            self.token = CancelToken()
        elif event is Event.RETRY:
            self.attempt += 1


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """What a load became. ``state``: LOADED (with ``data``, a tile for each of ``Load.tiles``), FAILED (with ``error``) or CANCELLED.
    ``was_read``: bytes were asked of the source, whatever came of it."""

    load: Load
    state: State
    data: Pixels | None = None
    error: str = ""
    read_ms: float = 0.0
    started_ms: float = 0.0
    done_ms: float = 0.0


class BadTile(Exception):
    """The source returned something that is not the promised tile; trying again is of no use."""


class WorkerFailed(Exception):
    """What went wrong in a worker process, in its own words."""


def checked_tile(source: TileSource, tile: TileKey, data: object) -> NDArray[Any]:
    """``data`` as a texture takes it: the promised shape and dtype, C-contiguous, read-only and owning its
    memory (a view would keep a whole chunk, or a caller's array, alive). A source that says ``private_tiles``
    sees to the last itself. Raises BadTile."""
    expected = tuple(source.tile_shape(tile))
    dtype = np.dtype(source.texture_dtype)
    if not isinstance(data, np.ndarray):
        raise BadTile(f"the source returned {type(data).__name__}, not an array")
    if data.shape != expected:
        raise BadTile(f"the source returned shape {data.shape}, not {expected}")
    if data.dtype != dtype:
        raise BadTile(f"the source returned dtype {data.dtype}, not {dtype}")
    shared = data.base is not None and not getattr(source, "private_tiles", False)
    if shared or not data.flags.c_contiguous:
        data = np.array(data, order="C", copy=True)
    data.setflags(write=False)
    return data


def is_final(error: BaseException) -> bool:
    """Is another try of no use?"""
    return isinstance(error, BadTile) or (isinstance(error, OctreeError) and error.final)


def error_text(error: BaseException) -> str:
    """One line for reports."""
    if isinstance(error, OctreeError | BadTile | WorkerFailed):
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
