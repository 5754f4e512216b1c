"""Cameras as people write them: the text of ``--camera``, path files, and the built-in paths."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.pyramid.reach import read_small
from octree.render.view.camera import DEFAULT_FPS, Camera, CameraPath, Keyframe

Extent: TypeAlias = Region | tuple[float, float]

BUILT_IN_PATHS = ("zoom-in", "pan", "tour")
FORMS = "fit, x=8000,y=8000,zoom=1, rect=x0,y0,x1,y1, a path file ending in .json, or one of " + ", ".join(
    BUILT_IN_PATHS
)
ZOOM_LIMITS = (1e-9, 1e9)
"""Beyond these a frame would show more, or less, than float64 coordinates can tell apart."""
MAX_COORDINATE = 1e15
KEYFRAME_AXES = ("t", "c", "z")
"""x and y are the camera's, whatever is displayed."""


def parse_camera(
    text: str, *, extent: Extent, size_px: tuple[int, int], aspect: float = 1.0
) -> Camera | CameraPath:
    """What one ``--camera`` means.

    ``extent`` is what the image covers in camera coordinates, a ``Region`` or (width, height); ``size_px`` is
    (width, height) of a frame; ``aspect`` how high a level-0 pixel is drawn for its width. Raises ``UsageError`` for
    anything that is not one of ``FORMS``.
    """
    spec = text.strip()
    area = extent if isinstance(extent, Region) else Region((0.0, 0.0), (float(extent[1]), float(extent[0])))
    if spec == "fit":
        return fit_rect(area, size_px, name="fit", aspect=aspect)
    if spec in BUILT_IN_PATHS:
        return built_in_path(spec, area, size_px, aspect)
    if is_path(spec):
        path = read_path(Path(os.path.expanduser(spec)))
        return _placed(path, fit_rect(area, size_px, aspect=aspect))
    if spec.startswith(("rect=", "rect ")):
        return fit_rect(_parse_rect(text, spec), size_px, name="rect", aspect=aspect)
    if "=" in spec:
        return replace(_parse_pairs(text, spec), aspect=aspect)
    raise UsageError(f"unknown camera {text!r}", hint=f"a camera is {FORMS}", camera=text)


def is_path(text: str) -> bool:
    """Whether a camera moves."""
    spec = text.strip()
    return spec in BUILT_IN_PATHS or spec.lower().endswith(".json")


def _placed(path: CameraPath, fit: Camera) -> CameraPath:
    """A path from a file, for pixels as high as those of ``fit``; where no keyframe has a camera, that is the one."""
    keys = [
        replace(key, camera=key.camera and replace(key.camera, aspect=fit.aspect)) for key in path.keyframes
    ]
    if all(key.camera is None for key in keys):
        keys[0] = replace(keys[0], camera=fit)
    return replace(path, keyframes=tuple(keys))


def fit_rect(area: Region, size_px: tuple[int, int], *, name: str = "", aspect: float = 1.0) -> Camera:
    """The camera that shows all of ``area``, as large as the frame allows. Empty sides count as one pixel."""
    width, height = max(area.x1 - area.x0, 1e-9), max(area.y1 - area.y0, 1e-9)
    zoom = min(size_px[0] / width, size_px[1] / (height * aspect))
    zoom = min(max(zoom, ZOOM_LIMITS[0]), ZOOM_LIMITS[1])
    return Camera((area.x0 + area.x1) / 2, (area.y0 + area.y1) / 2, zoom, name, aspect)


def _parse_rect(text: str, spec: str) -> Region:
    parts = spec.partition("=")[2].split(",")
    if len(parts) != 4:
        raise UsageError(
            f"camera {text!r}: rect takes 4 numbers, x0,y0,x1,y1, not {len(parts)}",
            hint="for example rect=0,0,1024,768",
        )
    x0, y0, x1, y1 = (
        _coordinate(part, name, text) for part, name in zip(parts, ("x0", "y0", "x1", "y1"), strict=True)
    )
    if not (x1 > x0 and y1 > y0):
        raise UsageError(
            f"camera {text!r}: the rectangle is empty", hint="x1 must be above x0, and y1 above y0"
        )
    return Region((y0, x0), (y1, x1))


def _parse_pairs(text: str, spec: str) -> Camera:
    values: dict[str, str] = {}
    for part in spec.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in ("x", "y", "zoom", "name"):
            raise UsageError(
                f"camera {text!r}: {part.strip()!r} is not x=, y=, zoom= or name=",
                hint=f"a camera is {FORMS}",
            )
        if key in values:
            raise UsageError(f"camera {text!r}: {key} is given twice")
        values[key] = value
    missing = [key for key in ("x", "y", "zoom") if key not in values]
    if missing:
        raise UsageError(
            f"camera {text!r}: no {' and no '.join(missing)}", hint="for example x=8000,y=8000,zoom=1"
        )
    return Camera(
        _coordinate(values["x"], "x", text),
        _coordinate(values["y"], "y", text),
        _zoom(_number(values["zoom"], "zoom", text), f"camera {text!r}"),
        values.get("name", ""),
    )


def _number(value: str, name: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"camera {text!r}: {name} must be a finite number, not {value.strip()!r}")
    return number


def _coordinate(value: str, name: str, text: str) -> float:
    number = _number(value, name, text)
    if abs(number) > MAX_COORDINATE:
        raise UsageError(f"camera {text!r}: {name} is beyond {MAX_COORDINATE:g} pixels")
    return number


def _zoom(zoom: float, where: str) -> float:
    low, high = ZOOM_LIMITS
    if not low <= zoom <= high:
        raise UsageError(
            f"{where}: zoom must be above 0 ({low:g} to {high:g}), not {zoom:g}",
            hint="zoom is screen pixels per level-0 pixel: 1 is full size, 0.5 half size",
        )
    return zoom


# path files


def read_path(path: Path) -> CameraPath:
    """A path file. Raises ``UsageError`` for a file that is missing, is not JSON, or has an unknown key."""
    try:
        document = json.loads(read_small(path))
    except FileNotFoundError:
        raise UsageError(f"no camera path file {path}", hint=f"a camera is {FORMS}", path=str(path)) from None
    except OSError as error:
        raise UsageError(
            f"cannot read the camera path {path}: {error.strerror or error}", path=str(path)
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the camera path {path} is not JSON: {error}", path=str(path)) from error
    try:
        return path_from_json(document, name=path.stem)
    except UsageError as error:
        raise UsageError(f"camera path {path}: {error.message}", hint=error.hint, path=str(path)) from None


def path_from_json(document: Any, *, name: str = "") -> CameraPath:
    """A path from its JSON form: ``keyframes`` of t_s, x, y, zoom and positions on the axes t, c, z; ``fps`` (60) and
    ``easing`` (linear)."""
    top = _object(document, "the file", required=("keyframes",), optional=("fps", "easing", "name"))
    keyframes = top["keyframes"]
    if not isinstance(keyframes, list) or not keyframes:
        raise UsageError("keyframes must be a list of at least one keyframe")
    keys = [_keyframe(number, item) for number, item in enumerate(keyframes)]
    label, easing = top.get("name", name), top.get("easing", "linear")
    if not isinstance(label, str):
        raise UsageError("name must be a string")
    return CameraPath(tuple(keys), _json_number(top.get("fps", DEFAULT_FPS), "fps"), easing, label)


def _keyframe(number: int, item: Any) -> Keyframe:
    """x, y and zoom, or none of them where it has a position on another axis."""
    where, camera = f"keyframe {number}", ("x", "y", "zoom")
    still = isinstance(item, dict) and not any(name in item for name in camera)
    axes = [axis for axis in KEYFRAME_AXES if isinstance(item, dict) and axis in item]
    needed = ("t_s",) if still and axes else ("t_s", *camera)
    key = _object(item, where, required=needed, optional=KEYFRAME_AXES)
    values = {name: _json_number(value, f"{where}: {name}") for name, value in key.items()}
    seen = None if still else Camera(values["x"], values["y"], _zoom(values["zoom"], where))
    return Keyframe(values["t_s"], seen, tuple([(axis, values[axis]) for axis in axes]))


def _object(
    value: Any, where: str, *, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be an object with {', '.join(required)}")
    known = required + optional
    unknown = [key for key in value if key not in known]
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}", hint=f"known keys: {', '.join(known)}")
    missing = [key for key in required if key not in value]
    if missing:
        raise UsageError(f"{where}: no {missing[0]!r}", hint=f"needed: {', '.join(required)}")
    return value


def _json_number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where} must be a number, not {value!r}")
    if not abs(value) <= MAX_COORDINATE:  # also catches NaN
        raise UsageError(f"{where} must be finite and within {MAX_COORDINATE:g}, not {value!r}")
    return float(value)


# built-in paths: the same for every image of the same size, so that benchmarks can be compared


def built_in_path(name: str, area: Region, size_px: tuple[int, int], aspect: float = 1.0) -> CameraPath:
    """``zoom-in``: from all of the image to its centre at full size, 4 s. ``pan``: from the top left across at
    most 4 frame widths and heights at full size, 4 s. ``tour``: overview, two places, overview, 8 s."""
    fit = fit_rect(area, size_px, aspect=aspect)
    close = max(1.0, 4 * fit.zoom)
    if name == "zoom-in":
        keys = (Keyframe(0, fit), Keyframe(4, replace(fit, zoom=close)))
        return CameraPath(keys, DEFAULT_FPS, "linear", name)
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
