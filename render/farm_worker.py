"""What a worker process does of a run that is spread over several: a group of frames, with a renderer that it keeps.

OpenGL belongs to one thread of a process: the main one where calls come in it, else one that does nothing but draw.
"""

from __future__ import annotations

import atexit
import functools
import io
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from octree.pyramid.errors import OctreeError, OctreeWarning
from octree.pyramid.memory import peak_rss_bytes
from octree.render.frames import Renderer, Rows
from octree.render.output.encode import PngKeeper
from octree.render.output.png import PngRows
from octree.render.report.empty import Unreached
from octree.render.report.values import FrameReport, SliceReport
from octree.render.request import RenderRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """What to draw with. ``run``: a random word, the same for all groups of one run. ``by_rows``: large frames are encoded as they
    are drawn, as a single process does where they become PNGs."""

    run: str
    request: RenderRequest
    by_rows: bool


@dataclass(frozen=True, slots=True)
class Drawn:
    """One frame, encoded. ``tile_set`` as of ``Frame``."""

    index: int
    png: bytes
    report: FrameReport
    tile_set: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GroupDrawn:
    """A group of frames. ``began_s``: when, on the wall clock; times of frames and slices count from there. ``counts``: what
    ``totals_of`` takes, of this group alone but for peaks."""

    began_s: float
    frames: tuple[Drawn, ...]
    slices: tuple[SliceReport, ...]
    counts: dict[str, Any]
    failures: tuple[dict[str, Any], ...]
    renderer: dict[str, Any]
    wanted_atlas_bytes: int
    unreached: dict[int, Unreached]


def draw_group(order: Order, first: int, stop: int) -> GroupDrawn | OctreeError:
    """Frames ``first`` to ``stop`` of a run. An error travels as a value."""
    return drawing(_draw, order, range(first, stop))


def renderer_here(gl: str) -> dict[str, Any] | OctreeError:
    """Which OpenGL draws in this process, and by which octree."""
    return drawing(_renderer, gl)


def forget(run: str) -> None:
    """The run is over: nothing of it is kept."""
    drawing(_forget, run)


@functools.cache
def _own_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="octree-draw")


def drawing(call: Callable[..., T], *args: Any) -> T | OctreeError:
    """``call(*args)`` in the thread of a worker process that draws. An error travels as a value."""
    try:
        if threading.current_thread() is threading.main_thread():
            _end_at_once()
            return call(*args)
        return _own_thread().submit(call, *args).result()
    except OctreeError as error:
        return error


@functools.cache
def _end_at_once() -> None:
    """A process of our own, whose main thread draws, ends without OpenGL's libraries being taken down one by one: they complain."""
    atexit.register(os._exit, 0)


_kept: dict[str, Renderer] = {}
"""The renderer of the newest run. Owned by the thread that draws."""


def _renderer(gl: str) -> dict[str, Any]:
    from octree.render.gl.platform import start
    from octree.render.report.values import version

    return {**start(gl).to_json(), "octree_version": version()}


def _forget(run: str) -> None:
    if run in _kept:
        _kept.pop(run).close()


def _of(order: Order) -> Renderer:
    if order.run not in _kept:
        for run in list(_kept):
            _forget(run)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OctreeWarning)  # whoever began the run has heard them
            _kept[order.run] = Renderer(order.request)
    return _kept[order.run]


def _draw(order: Order, span: range) -> GroupDrawn:
    renderer = _of(order)
    began_s = time.time()
    before, slices_before = renderer.counts(), len(renderer.slices())
    pngs: dict[int, bytes] = {}
    drawn = []
    with PngKeeper() as keeper:
        for frame in renderer.frames(functools.partial(_rows, pngs) if order.by_rows else None, of=span):
            if len(frame.rgba):
                keeper.put(frame.rgba)
            drawn.append((frame.report, frame.tile_set()))
        kept = iter(keeper.pngs())
    frames = [
        Drawn(index, pngs[index] if index in pngs else next(kept), report, tile_set)
        for index, (report, tile_set) in zip(span, drawn, strict=True)
    ]
    counts = _since(before, renderer.counts())
    return GroupDrawn(
        began_s,
        tuple(frames),
        renderer.slices()[slices_before:],
        {**counts, "peak_rss_bytes": peak_rss_bytes()},
        tuple(renderer.failures()),
        renderer.scene.canvas.info.to_json(),
        renderer.wanted_atlas_bytes(),
        {index: found for index, found in renderer.unreached.items() if index in span},
    )


@contextmanager
def _rows(pngs: dict[int, bytes], index: int, size_px: tuple[int, int], alpha: bool) -> Iterator[Rows]:
    out = io.BytesIO()
    rows = PngRows(out.write, size_px, alpha=alpha)
    yield rows.put
    rows.finish()
    pngs[index] = out.getvalue()


def _since(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Counters of a group. Milestones and peaks stay as they are."""
    counts: dict[str, Any] = {}
    for name, value in now.items():
        if name.startswith("peak_") or name.endswith("_ms"):
            counts[name] = value
        elif name == "prefetch":
            was = before[name]
            counts[name] = replace(value, used=value.used - was.used, wasted=value.wasted - was.wasted)
        elif name == "remote":
            counts[name] = value.since(before[name])
        else:
            counts[name] = value - before[name]
    return counts
