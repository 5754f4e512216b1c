"""Every frame of a run, in order: cameras, paths and planes of an index → shots. Pure.

A film over an index has a frame for each plane, of the last axis first; a path beside it lasts as long as the film, and
each camera has a film of its own. Without ranges a path has its own times, and may move along axes itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from octree.pyramid.errors import UsageError
from octree.render.films import FILM_FPS, PlaneRange
from octree.render.view.camera import Camera, CameraPath, Seen, plane_at, unique_names
from octree.render.view.state import Slicing, ViewState, place_of

Mode = Literal["settle", "stream"]
Position = tuple[tuple[str, int], ...]
"""(axis, level-0 position) each."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame to come: what it looks at, and for a film its time (ms since the film's start) and the motion of
    the camera (camera pixels per ms, (y, x)). ``fps`` is that of its film, None for a single view. ``position``: the
    plane, on every axis of some layer that is neither displayed nor projected over a fixed span."""

    index: int
    state: ViewState
    settle: bool
    t_ms: float = 0.0
    starts_path: bool = True
    motion: tuple[float, float] = (0.0, 0.0)
    fps: float | None = None
    position: Position = ()

    @property
    def camera(self) -> Camera:
        return self.state.camera


@dataclass(frozen=True, slots=True)
class Film:
    """What a run shows. ``ranges``: axes of an index, the slowest first; ``slicing``: its beginning. ``lengths`` of the
    axes that are not displayed, in axis order: the longest of any layer. ``mode`` and ``fps`` None: nobody has said.
    ``channels`` that are shown; see ``place_of``."""

    views: Sequence[Camera | CameraPath]
    slicing: Slicing
    ranges: Mapping[str, PlaneRange]
    lengths: Mapping[str, int]
    mode: Mode | None = None
    fps: float | None = None
    channels: Collection[int | None] = (None,)

    def check(self) -> int:
        """How many frames. Raises UsageError for axes and positions that no layer has, and for those that two would move."""
        for axis, planes in self.ranges.items():
            length = self.lengths[axis]
            if planes.stop is not None and planes.stop > length:
                raise UsageError(
                    f"--index: {axis}={planes} lies outside the image",
                    hint=f"{axis} runs from 0 to {length}, the last not included",
                )
        for view in self.views:
            if isinstance(view, CameraPath):
                for number, key in enumerate(view.keyframes):
                    for axis, at in key.position:
                        self._check_key(f"camera path {view.name!r}: keyframe {number}", axis, at)
        return self.count()

    def _check_key(self, where: str, axis: str, at: float) -> None:
        stands, projection = {**dict(self.slicing.position), **self.ranges}, self.slicing.projection
        if axis not in self.lengths:
            displayed = axis in self.slicing.displayed
            raise UsageError(
                f"{where}: {axis} is displayed: there is no position to choose on it"
                if displayed
                else f"{where}: there is no axis {axis!r} to choose a position on",
                hint=f"axes to choose on: {', '.join(self.lengths) or 'none'}",
            )
        if not 0 <= plane_at(at) < self.lengths[axis]:
            raise UsageError(
                f"{where}: {axis}={at:g} lies outside the image",
                hint=f"{axis} runs from 0 to {self.lengths[axis] - 1}",
            )
        if axis in stands:
            raise UsageError(
                f"{where} moves along {axis}, which --index {axis}={stands[axis]} chooses, too",
                hint=f"leave {axis} out of one of them",
            )
        if projection is not None and projection.axis == axis and projection.around is None:
            raise UsageError(
                f"{where}: {axis} is projected: there is no position to choose on it",
                hint=f"{axis}={projection.method}:~N projects N planes each way of the position",
            )

    @property
    def moved(self) -> frozenset[str]:
        """The axes that camera paths move along."""
        return frozenset(axis for view in self.views if isinstance(view, CameraPath) for axis in view.axes)

    @property
    def steps(self) -> bool:
        """Its frames are of several planes."""
        return bool(self.ranges or self.moved)

    def count(self) -> int:
        """Frames of the run."""
        planes = math.prod(each.count(self.lengths[axis]) for axis, each in self.ranges.items())
        if self.ranges:
            return planes * len(self.views)
        return sum(len(view.times_s()) if isinstance(view, CameraPath) else 1 for view in self._at_rate())

    def shots(self) -> Iterator[Shot]:
        """In order, camera by camera."""
        index = itertools.count()
        for view, name in zip(self._at_rate(), unique_names(self.views), strict=True):
            moves = isinstance(view, CameraPath)
            fps = (
                (self.fps or FILM_FPS) if self.ranges else view.fps if isinstance(view, CameraPath) else None
            )
            settle = self.mode == "settle" or (self.mode is None and (bool(self.ranges) or not moves))
            before: tuple[float, Camera] | None = None
            unnamed = camera = None
            for t_ms, seen in self._seen(view, fps):
                was_ms, was = before or (t_ms, seen.camera)
                step_ms = max(t_ms - was_ms, 1e-9)
                if camera is None or seen.camera is not unnamed:  # one for all frames in which it stands
                    unnamed = seen.camera
                    camera = unnamed if unnamed.name == name else replace(unnamed, name=name)
                slicing = self._slicing(seen.position)
                yield Shot(
                    index=next(index),
                    state=ViewState(camera, slicing),
                    settle=settle,
                    t_ms=t_ms,
                    starts_path=before is None,
                    motion=((camera.y - was.y) / step_ms, (camera.x - was.x) / step_ms),
                    fps=fps,
                    position=self.stands(slicing),
                )
                before = t_ms, camera

    def _at_rate(self) -> list[Camera | CameraPath]:
        """The views, paths at the rate that was asked for; one beside ranges has the film's."""
        if self.fps is None or self.ranges:
            return list(self.views)
        return [replace(view, fps=self.fps) if isinstance(view, CameraPath) else view for view in self.views]

    def _seen(self, view: Camera | CameraPath, fps: float | None) -> Iterator[tuple[float, Seen]]:
        """(ms since the start, what is seen) of each frame of one camera."""
        if not self.ranges:
            if isinstance(view, Camera):
                return iter([(0.0, Seen(view))])
            times_s = view.times_s()
            return zip([1000 * t for t in times_s], view.seen(times_s), strict=True)
        planes = [
            [(axis, plane) for plane in each.planes(self.lengths[axis])] for axis, each in self.ranges.items()
        ]
        count = math.prod(map(len, planes))
        if isinstance(view, CameraPath):  # it lasts as long as the film
            last = count if view.loop else max(1, count - 1)
            seen = view.seen([view.duration_s * number / last for number in range(count)])
        else:
            seen = [Seen(view)] * count
        assert fps is not None
        return (
            (1000 * number / fps, Seen(each.camera, (*position, *each.position)))
            for number, (position, each) in enumerate(zip(itertools.product(*planes), seen, strict=True))
        )

    def _slicing(self, moved: Position) -> Slicing:
        if not moved:
            return self.slicing
        stands = self.slicing
        position = tuple({**dict(stands.position), **dict(moved)}.items())
        return Slicing(position, stands.displayed, stands.projection)

    def stands(self, slicing: Slicing) -> Position:
        """The plane that is shown with this slicing, on every axis that it neither displays nor projects over a fixed span, nor adds
        up."""
        return tuple(place_of(slicing, {*self.lengths, *dict(slicing.position)}, self.channels).items())
