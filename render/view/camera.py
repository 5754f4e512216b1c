"""Where the viewer stands, and how a view moves: pure values.

Camera coordinates are level-0 pixels of the first layer: (0, 0) is the outer corner of the first pixel, x to
the right, y down, whatever axes are displayed there. ``zoom`` is screen pixels per level-0 pixel, to the right.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region

Easing: TypeAlias = Literal["linear", "smooth"]
EASINGS: tuple[Easing, ...] = get_args(Easing)

MAX_FRAMES = 1_000_000
DEFAULT_FPS = 60.0
LEAST_FPS, MOST_FPS = 1e-6, 1e6
"""Beyond these the time of one frame is no number of microseconds that means anything."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Centre of the view (camera coordinates) and zoom. ``aspect``: how high a level-0 pixel is drawn for its width."""

    x: float
    y: float
    zoom: float
    name: str = ""
    aspect: float = 1.0

    def rect(self, size_px: tuple[int, int]) -> Region:
        """What a frame of ``size_px`` (width, height) shows, in camera coordinates."""
        half_width = size_px[0] / (2 * self.zoom)
        half_height = size_px[1] / (2 * self.zoom * self.aspect)
        return Region(
            (self.y - half_height, self.x - half_width), (self.y + half_height, self.x + half_width)
        )

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "x": self.x, "y": self.y, "zoom": self.zoom, "aspect": self.aspect}


@dataclass(frozen=True, slots=True)
class Keyframe:
    """The camera at one time; ``t_s`` is seconds, on any origin."""

    t_s: float
    camera: Camera


@dataclass(frozen=True, slots=True)
class CameraPath:
    """Keyframes in increasing time, drawn ``fps`` times a second.

    Between keyframes x, y and the logarithm of zoom are interpolated: straight (``linear``), or by a cubic
    that never overshoots, keeps its speed through the inner keyframes and rests at both ends (``smooth``).
    """

    keyframes: tuple[Keyframe, ...]
    fps: float = DEFAULT_FPS
    easing: Easing = "linear"
    name: str = ""

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

    def frames(self) -> list[tuple[float, Camera]]:
        """(milliseconds since the first keyframe, camera) of every frame.

        The first keyframe is the first frame and the last keyframe the last, even when the time between
        them is no multiple of 1/fps.
        """
        whole = math.floor(self.duration_s * self.fps + 1e-6)
        times = [index / self.fps for index in range(whole + 1)]
        if self.duration_s - times[-1] > 1e-6 / self.fps:
            times.append(self.duration_s)
        tracks = _tracks(self.keyframes, self.easing)
        frames = [(1000 * t, self._at(t, tracks)) for t in times]
        # log2 and exp2 are exact for powers of two only: the ends are the keyframes themselves
        ends = [replace(key.camera, name=self.name) for key in (self.keyframes[0], self.keyframes[-1])]
        frames[0], frames[-1] = (0.0, ends[0]), (1000 * self.duration_s, ends[1])
        return frames

    def _at(self, t_s: float, tracks: Sequence[_Track]) -> Camera:
        x, y, log_zoom = (track.at(t_s) for track in tracks)
        return Camera(x, y, math.exp2(log_zoom), self.name, self.keyframes[0].camera.aspect)


@dataclass(frozen=True, slots=True)
class _Track:
    """One coordinate over time: values and slopes at the times (seconds from the first)."""

    times: tuple[float, ...]
    values: tuple[float, ...]
    slopes: tuple[float, ...] | None

    def at(self, t_s: float) -> float:
        if len(self.times) == 1:
            return self.values[0]
        i = min(max(bisect_right(self.times, t_s) - 1, 0), len(self.times) - 2)
        width = self.times[i + 1] - self.times[i]
        u = min(max((t_s - self.times[i]) / width, 0.0), 1.0)
        low, high = self.values[i], self.values[i + 1]
        if self.slopes is None:
            return low + (high - low) * u
        # cubic Hermite, written as the straight line plus what the slopes add
        into, out = self.slopes[i] * width, self.slopes[i + 1] * width
        rise = high - low
        return low + u * (into + u * ((3 * rise - 2 * into - out) + u * (into + out - 2 * rise)))


def _tracks(keyframes: Sequence[Keyframe], easing: Easing) -> tuple[_Track, ...]:
    times = tuple(key.t_s - keyframes[0].t_s for key in keyframes)
    columns = (
        tuple(key.camera.x for key in keyframes),
        tuple(key.camera.y for key in keyframes),
        tuple(math.log2(key.camera.zoom) for key in keyframes),
    )
    return tuple(
        _Track(times, column, _slopes(times, column) if easing == "smooth" else None) for column in columns
    )


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
