"""Paths that have a name: the same for every image of the same size, so that benchmarks can be compared. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from octree.pyramid.grid import Region
from octree.render.view.camera import DEFAULT_FPS, Camera, CameraPath, Keyframe
from octree.render.view.camera_numbers import clipped_zoom

PLANE_PATHS = ("pan", "tour")
VOLUME_PATHS = ("turntable",)
BUILT_IN_PATHS = ("zoom-in", *PLANE_PATHS, *VOLUME_PATHS)
FORMS = (
    "fit, x=8000,y=8000,zoom=1, rect=x0,y0,x1,y1, azimuth=30,elevation=20, a path file ending in .json, or one of "
    + ", ".join(BUILT_IN_PATHS)
)
"""Of a camera."""


def fit_rect(area: Region, size_px: tuple[int, int], *, name: str = "", aspect: float = 1.0) -> Camera:
    """The camera that shows all of ``area``, as large as the frame allows. Empty sides count as one pixel."""
    width, height = max(area.x1 - area.x0, 1e-9), max(area.y1 - area.y0, 1e-9)
    zoom = min(size_px[0] / width, size_px[1] / (height * aspect))
    return Camera((area.x0 + area.x1) / 2, (area.y0 + area.y1) / 2, clipped_zoom(zoom), name, aspect)


def built_in_path(name: str, area: Region, size_px: tuple[int, int], aspect: float = 1.0) -> CameraPath:
    """``zoom-in``: from all of the image to its centre at full size, 4 s. ``pan``: from the top left across at
    most 4 frame widths and heights at full size, 4 s. ``tour``: overview, two places, overview, 8 s."""
    fit = fit_rect(area, size_px, aspect=aspect)
    close = max(1.0, 4 * fit.zoom)
    if name == "zoom-in":
        return zoom_in(fit)
    if name == "pan":
        start = _inside(Camera(area.x0, area.y0, close, aspect=aspect), area, size_px)
        travel = 4 * size_px[0] / close, 4 * size_px[1] / (close * aspect)
        end = _inside(replace(start, x=start.x + travel[0], y=start.y + travel[1]), area, size_px)
        return CameraPath((Keyframe(0, start), Keyframe(4, end)), DEFAULT_FPS, "linear", name)
    if name == "tour":
        wide, high = area.x1 - area.x0, area.y1 - area.y0
        there = Camera(area.x0 + 0.3 * wide, area.y0 + 0.35 * high, close, aspect=aspect)
        beside = replace(there, x=area.x0 + 0.7 * wide, y=area.y0 + 0.6 * high)
        middle = math.sqrt(fit.zoom * close)
        back = [replace(there, zoom=middle), replace(beside, zoom=middle)]
        stops = [fit, there, *back, beside, fit]
        times = (0.0, 2.0, 3.0, 4.5, 5.5, 8.0)
        return CameraPath(_flight(stops, times), DEFAULT_FPS, "smooth", name)
    raise ValueError(f"no built-in path {name!r}")


def zoom_in(fit: Camera) -> CameraPath:
    keys = (Keyframe(0, fit), Keyframe(4, replace(fit, zoom=max(1.0, 4 * fit.zoom))))
    return CameraPath(keys, DEFAULT_FPS, "linear", "zoom-in")


def _inside(camera: Camera, area: Region, size_px: tuple[int, int]) -> Camera:
    """The camera moved so that its view lies in ``area``; centred on a side where the view is larger."""

    def clamp(value: float, low: float, high: float) -> float:
        return (low + high) / 2 if low > high else min(max(value, low), high)

    half_width, half_height = size_px[0] / (2 * camera.zoom), size_px[1] / (2 * camera.zoom * camera.aspect)
    return replace(
        camera,
        x=clamp(camera.x, area.x0 + half_width, area.x1 - half_width),
        y=clamp(camera.y, area.y0 + half_height, area.y1 - half_height),
    )


def _flight(stops: Sequence[Camera], times: Sequence[float]) -> tuple[Keyframe, ...]:
    """Keyframes through the stops, ten to a leg. While zoom changes the centre moves in 1/zoom: then the
    target of a leg travels straight over the screen, where a straight line in x and y would lose it."""
    keys = [Keyframe(times[0], stops[0])]
    for (a, b), (t0, t1) in zip(pairwise(stops), pairwise(times), strict=True):
        for step in range(1, 10):
            u = step / 10
            zoom = a.zoom * (b.zoom / a.zoom) ** u
            done = u if math.isclose(a.zoom, b.zoom) else (1 / a.zoom - 1 / zoom) / (1 / a.zoom - 1 / b.zoom)
            camera = Camera(a.x + (b.x - a.x) * done, a.y + (b.y - a.y) * done, zoom, aspect=a.aspect)
            keys.append(Keyframe(t0 + (t1 - t0) * u, camera))
        keys.append(Keyframe(t1, b))
    return tuple(keys)
