"""Cameras as people write them: the text of ``--camera``, path files, and the built-in paths."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.pyramid.reach import read_small
from octree.render.view.camera import DEFAULT_FPS, Camera, CameraPath, Keyframe
from octree.render.view.volume.framing import Framed, any_zoom, fit_zoom, turning_zoom
from octree.render.view.volume.orbit import Orbit

Extent: TypeAlias = Region | tuple[float, float]

PLANE_PATHS = ("pan", "tour")
VOLUME_PATHS = ("turntable",)
BUILT_IN_PATHS = ("zoom-in", *PLANE_PATHS, *VOLUME_PATHS)
FORMS = (
    "fit, x=8000,y=8000,zoom=1, rect=x0,y0,x1,y1, azimuth=30,elevation=20, a path file ending in .json, or one of "
    + (", ".join(BUILT_IN_PATHS))
)
ANGLES = ("azimuth", "elevation", "roll", "fov")
"""A camera that has one of these looks at a volume."""
AROUND = ("x", "y", "z", "zoom", *ANGLES)
MOST_DEGREES = 1e6
ZOOM_LIMITS = (1e-9, 1e9)
"""Beyond these a frame would show more, or less, than float64 coordinates can tell apart."""
MAX_COORDINATE = 1e15
KEYFRAME_AXES = ("t", "c", "z")
"""x and y are the camera's, whatever is displayed; so is z around a volume."""
TURNTABLE_ELEVATION = 20.0


def parse_camera(
    text: str,
    *,
    extent: Extent,
    size_px: tuple[int, int],
    aspect: float = 1.0,
    volume: Framed | None = None,
) -> Camera | CameraPath:
    """What one ``--camera`` means.

    ``extent`` is what the image covers in camera coordinates, a ``Region`` or (width, height); ``size_px`` is
    (width, height) of a frame; ``aspect`` how high a level-0 pixel is drawn for its width. ``volume``: the camera looks
    at it, whatever its text; ``extent`` and ``aspect`` say nothing then. Raises ``UsageError`` for anything that is not one
    of ``FORMS``.
    """
    spec = text.strip()
    if volume is not None:
        return _around(text, spec, volume, size_px)
    if is_volume_camera(spec):
        raise UsageError(
            f"camera {text!r} looks at a volume; this is a view of a plane",
            hint="a plane has x=, y= and zoom=; leave out --mode slice, --display and --project to see the volume",
            camera=text,
        )
    area = extent if isinstance(extent, Region) else Region((0.0, 0.0), (float(extent[1]), float(extent[0])))
    if spec == "fit":
        return fit_rect(area, size_px, name="fit", aspect=aspect)
    if spec in BUILT_IN_PATHS:
        return built_in_path(spec, area, size_px, aspect)
    if is_path(spec):
        path = read_path(_path_of(spec))
        return _placed(path, fit_rect(area, size_px, aspect=aspect))
    if spec.startswith(("rect=", "rect ")):
        return fit_rect(_parse_rect(text, spec), size_px, name="rect", aspect=aspect)
    if "=" in spec:
        return replace(_plane_camera(text, spec), aspect=aspect)
    raise _unknown(text)


def _unknown(text: str) -> UsageError:
    return UsageError(f"unknown camera {text!r}", hint=f"a camera is {FORMS}", camera=text)


def is_volume_camera(text: str) -> bool:
    """Whether a text by itself tells that a volume is looked at, and no plane: it names an angle, or is a path that does.
    Of a file that cannot be read it is False: ``parse_camera`` says why."""
    spec = text.strip()
    if spec in VOLUME_PATHS:
        return True
    if is_path(spec) and spec not in BUILT_IN_PATHS:
        try:
            return turns(_document(_path_of(spec)))
        except UsageError:
            return False
    return any(part.partition("=")[0].strip() in ANGLES and "=" in part for part in spec.split(","))


def turns(document: Any) -> bool:
    """Whether a path in its JSON form is around a volume."""
    keyframes = document.get("keyframes") if isinstance(document, dict) else None
    return isinstance(keyframes, list) and any(
        isinstance(key, dict) and not key.keys().isdisjoint(ANGLES) for key in keyframes
    )


def _path_of(spec: str) -> Path:
    return Path(os.path.expanduser(spec))


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


def _pairs(text: str, spec: str, known: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for part in spec.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in known:
            listed = ", ".join(f"{name}=" for name in known[:-1])
            raise UsageError(
                f"camera {text!r}: {part.strip()!r} is not {listed} or {known[-1]}=",
                hint="z= is of a camera around a volume, with --mode; the plane that is shown is chosen by --index z=10"
                if equals and key == "z"
                else f"a camera is {FORMS}",
            )
        if key in values:
            raise UsageError(f"camera {text!r}: {key} is given twice")
        values[key] = value
    return values


def _plane_camera(text: str, spec: str) -> Camera:
    values = _pairs(text, spec, ("x", "y", "zoom", "name"))
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
    with _said_of(path):
        return path_from_json(_document(path), name=path.stem)


@contextlib.contextmanager
def _said_of(path: Path) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if "path" in error.details:
            raise
        raise UsageError(f"camera path {path}: {error.message}", hint=error.hint, path=str(path)) from None


def _document(path: Path) -> Any:
    try:
        return json.loads(read_small(path))
    except FileNotFoundError:
        raise UsageError(f"no camera path file {path}", hint=f"a camera is {FORMS}", path=str(path)) from None
    except OSError as error:
        raise UsageError(
            f"cannot read the camera path {path}: {error.strerror or error}", path=str(path)
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the camera path {path} is not JSON: {error}", path=str(path)) from error


def path_from_json(document: Any, *, name: str = "") -> CameraPath:
    """A path over planes from its JSON form: ``keyframes`` of t_s, x, y, zoom and positions on the axes t, c, z; ``fps`` (60) and
    ``easing`` (linear)."""
    return _path(document, name, _keyframe)


def _path(document: Any, name: str, keyframe: Callable[[int, Any], Keyframe]) -> CameraPath:
    top = _object(document, "the file", required=("keyframes",), optional=("fps", "easing", "name", "loop"))
    keyframes = top["keyframes"]
    if not isinstance(keyframes, list) or not keyframes:
        raise UsageError("keyframes must be a list of at least one keyframe")
    keys = [keyframe(number, item) for number, item in enumerate(keyframes)]
    label, easing, loop = top.get("name", name), top.get("easing", "linear"), top.get("loop", False)
    if not isinstance(label, str):
        raise UsageError("name must be a string")
    if not isinstance(loop, bool):
        raise UsageError(f"loop must be true or false, not {loop!r}")
    return CameraPath(tuple(keys), _json_number(top.get("fps", DEFAULT_FPS), "fps"), easing, label, loop)


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


# around a volume


def _around(text: str, spec: str, volume: Framed, size_px: tuple[int, int]) -> Camera | CameraPath:
    if spec == "fit":
        return _camera_around({}, volume, size_px, f"camera {text!r}", name="fit")
    if spec == "turntable":
        return turntable(volume, size_px)
    if spec == "zoom-in":
        whole = _camera_around({}, volume, size_px, f"camera {text!r}")
        return _zoom_in(whole)
    if spec in PLANE_PATHS or spec.startswith(("rect=", "rect ")):
        raise UsageError(
            f"camera {text!r} moves over a plane; this is a view of a volume"
            if spec in PLANE_PATHS
            else f"camera {text!r} is of a plane; this is a view of a volume",
            hint="around a volume a camera is fit, azimuth=30,elevation=20,zoom=1, x=100,y=100,z=50,zoom=2, turntable, "
            "zoom-in or a path file; --mode slice shows a plane",
            camera=text,
        )
    if is_path(spec):
        path = _path_of(spec)
        with _said_of(path):
            return _path_around(_document(path), volume, size_px, name=path.stem)
    if "=" not in spec:
        raise _unknown(text)
    values = _pairs(text, spec, (*AROUND, "name"))
    name = values.pop("name", "")
    numbers = {
        key: (_coordinate if key in "xyz" else _number)(value, key, text) for key, value in values.items()
    }
    return _camera_around(numbers, volume, size_px, f"camera {text!r}", name=name)


def _camera_around(
    values: Mapping[str, float],
    volume: Framed,
    size_px: tuple[int, int],
    where: str,
    *,
    name: str = "",
    moves: bool = False,
) -> Camera:
    """A camera with these of ``AROUND``; else it looks at the middle, from in front, at all of the volume, or, if it
    ``moves``, at all of it from anywhere."""
    for key in ("azimuth", "elevation", "roll"):
        if abs(values.get(key, 0.0)) > MOST_DEGREES:
            raise UsageError(f"{where}: {key} is beyond {MOST_DEGREES:g} degrees")
    fov = values.get("fov", 0.0)
    if not 0.0 <= fov < 180.0:
        raise UsageError(
            f"{where}: fov must be at least 0 and below 180 degrees, not {fov:g}",
            hint="fov is the angle of the frame's height: 0 is orthographic, 30 to 60 are usual",
        )
    z, y, x = volume.region.centre
    angles = {key: values[key] for key in ANGLES if key in values}
    orbit = Orbit(values.get("z", z), **angles)
    if "zoom" in values:
        zoom = _zoom(values["zoom"], where)
    else:
        zoom = any_zoom(volume, size_px, fov) if moves else fit_zoom(volume, size_px, orbit)
        zoom = min(max(zoom, ZOOM_LIMITS[0]), ZOOM_LIMITS[1])
    return Camera(values.get("x", x), values.get("y", y), zoom, name, volume.world[-2], orbit)


def _path_around(document: Any, volume: Framed, size_px: tuple[int, int], *, name: str) -> CameraPath:
    """A path around a volume from its JSON form: ``keyframes`` of t_s and any of ``AROUND``, and positions on the axes t and c.
    What one leaves out is as in the one before."""
    known: dict[str, float] = {}

    def keyframe(number: int, item: Any) -> Keyframe:
        where, axes = f"keyframe {number}", tuple(axis for axis in KEYFRAME_AXES if axis not in AROUND)
        key = _object(item, where, required=("t_s",), optional=(*AROUND, *axes))
        values = {name: _json_number(value, f"{where}: {name}") for name, value in key.items()}
        own = {name: value for name, value in values.items() if name in AROUND}
        position = tuple([(axis, values[axis]) for axis in axes if axis in values])
        if not own and position:
            return Keyframe(values["t_s"], None, position)
        known.update(own)
        return Keyframe(values["t_s"], _camera_around(known, volume, size_px, where, moves=True), position)

    path = _path(document, name, keyframe)
    if all(key.camera is None for key in path.keyframes):
        still = replace(path.keyframes[0], camera=_camera_around({}, volume, size_px, "the file"))
        path = replace(path, keyframes=(still, *path.keyframes[1:]))
    return path


def turntable(volume: Framed, size_px: tuple[int, int]) -> CameraPath:
    """One turn about the vertical axis, seen from 20 degrees above, in 120 frames and 6 s; nothing is ever cut off."""
    z, y, x = volume.region.centre
    zoom = turning_zoom(volume, size_px, TURNTABLE_ELEVATION)
    keys = [
        Keyframe(
            6.0 * turn / 360,
            Camera(x, y, zoom, aspect=volume.world[-2], orbit=Orbit(z, turn, TURNTABLE_ELEVATION)),
        )
        for turn in (0.0, 120.0, 240.0, 360.0)
    ]
    return CameraPath(tuple(keys), 20.0, "linear", "turntable", loop=True)


# built-in paths: the same for every image of the same size, so that benchmarks can be compared


def built_in_path(name: str, area: Region, size_px: tuple[int, int], aspect: float = 1.0) -> CameraPath:
    """``zoom-in``: from all of the image to its centre at full size, 4 s. ``pan``: from the top left across at
    most 4 frame widths and heights at full size, 4 s. ``tour``: overview, two places, overview, 8 s."""
    fit = fit_rect(area, size_px, aspect=aspect)
    close = max(1.0, 4 * fit.zoom)
    if name == "zoom-in":
        return _zoom_in(fit)
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


def _zoom_in(fit: Camera) -> CameraPath:
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
