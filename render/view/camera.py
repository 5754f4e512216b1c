"""Where the viewer stands, and how a view moves: pure values.

Camera coordinates are level-0 pixels of the first layer: (0, 0) is the outer corner of the first pixel, x to
the right, y down, whatever axes are displayed there. ``zoom`` is screen pixels per level-0 pixel, to the right. A camera
with an *orbit* looks at a volume: there is a z, too, and angles (``volume/orbit.py``).
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.render.films import LEAST_FPS, MAX_FRAMES, MOST_FPS
from octree.render.view.volume.orbit import Orbit, Turn

Easing: TypeAlias = Literal["linear", "smooth"]
EASINGS: tuple[Easing, ...] = get_args(Easing)

DEFAULT_FPS = 60.0
_WHOLE = 1e-6
"""A position so close below a plane is on it: interpolated numbers are not exact."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Centre of the view (camera coordinates) and zoom. ``aspect``: how high a level-0 pixel is drawn for its width.
    ``orbit``: of a volume."""

    x: float
    y: float
    zoom: float
    name: str = ""
    aspect: float = 1.0
    orbit: Orbit | None = None

    def rect(self, size_px: tuple[int, int]) -> Region:
        """What a frame of ``size_px`` (width, height) shows, in camera coordinates."""
        half_width = size_px[0] / (2 * self.zoom)
        half_height = size_px[1] / (2 * self.zoom * self.aspect)
        return Region(
            (self.y - half_height, self.x - half_width), (self.y + half_height, self.x + half_width)
        )

    def to_json(self) -> dict[str, Any]:
        plane = {"name": self.name, "x": self.x, "y": self.y, "zoom": self.zoom, "aspect": self.aspect}
        return plane if self.orbit is None else plane | self.orbit.to_json()


def plane_at(position: float) -> int:
    """The plane at or below a position that was computed."""
    return math.floor(position + _WHOLE)


@dataclass(frozen=True, slots=True)
class Keyframe:
    """What is seen at one time; ``t_s`` is seconds, on any origin. ``camera`` None: wherever it moves between the others.
    ``position``: (axis, level-0 position) on some of the axes that are not displayed."""

    t_s: float
    camera: Camera | None
    position: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a path shows at one time: ``position`` is (axis, plane) on each axis that the path moves along."""

    camera: Camera
    position: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CameraPath:
    """Keyframes in increasing time, drawn ``fps`` times a second; some of them have a camera.

    Between keyframes x, y, the logarithm of zoom and positions on other axes are interpolated: straight (``linear``), or
    by a cubic that never overshoots, keeps its speed through the inner keyframes and rests at both ends (``smooth``).
    Around a volume z and fov as x and y, orientations on the sphere (``volume/orbit.py``).
    Camera and axes each for themselves: through the keyframes that have them, and standing before the first of those
    and after the last. A path that is a ``loop`` ends where it begins: what its last keyframe shows has no frame, since the first
    frame follows.
    """

    keyframes: tuple[Keyframe, ...]
    fps: float = DEFAULT_FPS
    easing: Easing = "linear"
    name: str = ""
    loop: bool = False

    def __post_init__(self) -> None:
        if not self.keyframes:
            raise UsageError("a camera path needs at least one keyframe")
        if not LEAST_FPS <= self.fps <= MOST_FPS:
            raise UsageError(f"fps must be above 0 ({LEAST_FPS:g} to {MOST_FPS:g}), not {self.fps:g}")
        if self.easing not in EASINGS:
            raise UsageError(f"easing must be {' or '.join(EASINGS)}, not {self.easing!r}")
        times = [key.t_s for key in self.keyframes]
        for number, (before, after) in enumerate(pairwise(times), start=1):
            if not after > before:
                raise UsageError(
                    f"keyframe {number} is at t_s={after:g}, not after keyframe {number - 1} at t_s={before:g}",
                    hint="sort the keyframes by time; two of them cannot share one",
                )
        if self.duration_s * self.fps > MAX_FRAMES:
            raise UsageError(
                f"the path is {self.duration_s:g} s long: more than {MAX_FRAMES} frames at {self.fps:g} fps"
            )

    @property
    def duration_s(self) -> float:
        return self.keyframes[-1].t_s - self.keyframes[0].t_s

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes, not displayed, that the path moves along."""
        return tuple(dict.fromkeys(axis for key in self.keyframes for axis, _ in key.position))

    def times_s(self) -> list[float]:
        """When its frames are, from the first keyframe on. The first keyframe is the first frame and the last keyframe
        the last, even when the time between them is no multiple of 1/fps; but for the last of a loop."""
        if self.loop:
            return [index / self.fps for index in range(max(1, math.ceil(self.duration_s * self.fps - 1e-6)))]
        whole = math.floor(self.duration_s * self.fps + 1e-6)
        times = [index / self.fps for index in range(whole + 1)]
        if self.duration_s - times[-1] > 1e-6 / self.fps:
            times.append(self.duration_s)
        times[0], times[-1] = 0.0, self.duration_s
        return times

    def frames(self) -> list[tuple[float, Camera]]:
        """(milliseconds since the first keyframe, camera) of every frame."""
        times = self.times_s()
        return [(1000 * t, seen.camera) for t, seen in zip(times, self.seen(times), strict=True)]

    def seen(self, times_s: Sequence[float]) -> list[Seen]:
        """What it shows at each of these times, seconds from the first keyframe."""
        cameras = _Cameras(self)
        along = [(axis, self._track_along(axis)) for axis in self.axes]
        return [
            Seen(cameras.at(t), tuple([(axis, plane_at(track.at(t))) for axis, track in along]))
            for t in times_s
        ]

    def _track_along(self, axis: str) -> _Track:
        points = [(key.t_s, dict(key.position)[axis]) for key in self.keyframes if axis in dict(key.position)]
        start_s = self.keyframes[0].t_s
        return _track([t_s - start_s for t_s, _ in points], [at for _, at in points], self.easing)


class _Cameras:
    """The camera of a path over time, seconds from its first keyframe."""

    def __init__(self, path: CameraPath) -> None:
        start_s = path.keyframes[0].t_s
        keys = [(key.t_s - start_s, key.camera) for key in path.keyframes if key.camera is not None]
        if not keys:
            raise UsageError("no keyframe of the camera path has a camera")
        cameras = [replace(camera, name=path.name) for _, camera in keys]
        times = [t_s for t_s, _ in keys]
        self._first, self._last = (times[0], cameras[0]), (times[-1], cameras[-1])
        columns = (
            [camera.x for camera in cameras],
            [camera.y for camera in cameras],
            [math.log2(camera.zoom) for camera in cameras],
        )
        self._tracks = [_track(times, column, path.easing) for column in columns]
        orbits = [camera.orbit for camera in cameras if camera.orbit is not None]
        if orbits and len(orbits) < len(cameras):
            raise UsageError("a camera path looks at a plane or at a volume, not at both")
        self._orbits = _Orbits(times, orbits, path.easing) if orbits else None

    def at(self, t_s: float) -> Camera:
        # log2 and exp2 are exact for powers of two only: the ends are the keyframes themselves
        if t_s <= self._first[0]:
            return self._first[1]
        if t_s >= self._last[0]:
            return self._last[1]
        x, y, log_zoom = (track.at(t_s) for track in self._tracks)
        orbit = None if self._orbits is None else self._orbits.at(t_s)
        return replace(self._first[1], x=x, y=y, zoom=math.exp2(log_zoom), orbit=orbit)


class _Orbits:
    """The orbit of a path over time: z and fov as x and y; orientations along the ways between them, the next of
    which begins where the last has ended."""

    def __init__(self, times: Sequence[float], orbits: Sequence[Orbit], easing: Easing) -> None:
        self._z = _track(times, [orbit.z for orbit in orbits], easing)
        self._fov = _track(times, [orbit.fov for orbit in orbits], easing)
        self._turns = list(itertools.starmap(Turn, pairwise(orbits)))
        self._degrees = list(itertools.accumulate([turn.degrees for turn in self._turns], initial=0.0))
        self._turned = _track(times, self._degrees, easing)
        self._only = orbits[0]

    def at(self, t_s: float) -> Orbit:
        orbit = self._only
        if self._turns:
            i = self._turned.leg(t_s)
            start, end = self._degrees[i : i + 2]
            share = (self._turned.at(t_s) - start) / (end - start) if end > start else 0.0
            orbit = self._turns[i].at(share)
        return replace(orbit, z=self._z.at(t_s), fov=self._fov.at(t_s))


@dataclass(frozen=True, slots=True)
class _Track:
    """One coordinate over time: values and slopes at the times (seconds from the first)."""

    times: tuple[float, ...]
    values: tuple[float, ...]
    slopes: tuple[float, ...] | None

    def leg(self, t_s: float) -> int:
        """Between which two of the times it is: the number of the first."""
        return min(max(bisect_right(self.times, t_s) - 1, 0), len(self.times) - 2)

    def at(self, t_s: float) -> float:
        if len(self.times) == 1:
            return self.values[0]
        i = self.leg(t_s)
        width = self.times[i + 1] - self.times[i]
        u = min(max((t_s - self.times[i]) / width, 0.0), 1.0)
        low, high = self.values[i], self.values[i + 1]
        if self.slopes is None:
            return low + (high - low) * u
        # cubic Hermite, written as the straight line plus what the slopes add
        into, out = self.slopes[i] * width, self.slopes[i + 1] * width
        rise = high - low
        return low + u * (into + u * ((3 * rise - 2 * into - out) + u * (into + out - 2 * rise)))


def _track(times: Sequence[float], values: Sequence[float], easing: Easing) -> _Track:
    slopes = _slopes(times, values) if easing == "smooth" else None
    return _Track(tuple(times), tuple(values), slopes)


def _slopes(times: Sequence[float], values: Sequence[float]) -> tuple[float, ...]:
    """Slopes of a monotone cubic: the weighted harmonic mean of the neighbours' slopes, 0 at a turning
    point and at both ends. Between any two keyframes the curve stays between their values."""
    widths = [b - a for a, b in pairwise(times)]
    rises = [(b - a) / w for a, b, w in zip(values, values[1:], widths, strict=False)]
    inner = []
    for left, right, before, after in zip(rises, rises[1:], widths, widths[1:], strict=False):
        if left * right <= 0:
            inner.append(0.0)
            continue
        first, second = 2 * after + before, after + 2 * before
        inner.append((first + second) / (first / left + second / right))
    return (0.0, *inner, 0.0) if len(values) > 1 else (0.0,)


def unique_names(views: Sequence[Camera | CameraPath]) -> list[str]:
    """A name for each view, good for file names and reports: its own, or ``view``; repeats get a number."""
    names: list[str] = []
    for view in views:
        base = view.name or "view"
        name, count = base, 1
        while name in names:
            count += 1
            name = f"{base}-{count}"
        names.append(name)
    return names
