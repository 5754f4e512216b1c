"""Cameras as people write them: the text of ``--camera``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.render.view.built_in_paths import (
    BUILT_IN_PATHS,
    FORMS,
    PLANE_PATHS,
    VOLUME_PATHS,
    built_in_path,
    fit_rect,
    zoom_in,
)
from octree.render.view.camera import Camera, CameraPath
from octree.render.view.camera_numbers import coordinate_of, number_of, zoom_of
from octree.render.view.path_file import is_around_volume, read_path, read_path_around
from octree.render.view.volume.around import ANGLES, AROUND, camera_around, turntable
from octree.render.view.volume.framing import Framed

Extent: TypeAlias = Region | tuple[float, float]


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
        return is_around_volume(_path_of(spec))
    return any(part.partition("=")[0].strip() in ANGLES and "=" in part for part in spec.split(","))


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


def _parse_rect(text: str, spec: str) -> Region:
    parts = spec.partition("=")[2].split(",")
    if len(parts) != 4:
        raise UsageError(
            f"camera {text!r}: rect takes 4 numbers, x0,y0,x1,y1, not {len(parts)}",
            hint="for example rect=0,0,1024,768",
        )
    x0, y0, x1, y1 = (
        coordinate_of(part, name, text) for part, name in zip(parts, ("x0", "y0", "x1", "y1"), strict=True)
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
        coordinate_of(values["x"], "x", text),
        coordinate_of(values["y"], "y", text),
        zoom_of(number_of(values["zoom"], "zoom", text), f"camera {text!r}"),
        values.get("name", ""),
    )


# around a volume


def _around(text: str, spec: str, volume: Framed, size_px: tuple[int, int]) -> Camera | CameraPath:
    if spec == "fit":
        return camera_around({}, volume, size_px, f"camera {text!r}", name="fit")
    if spec == "turntable":
        return turntable(volume, size_px)
    if spec == "zoom-in":
        return zoom_in(camera_around({}, volume, size_px, f"camera {text!r}"))
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
        return read_path_around(_path_of(spec), volume, size_px)
    if "=" not in spec:
        raise _unknown(text)
    values = _pairs(text, spec, (*AROUND, "name"))
    name = values.pop("name", "")
    numbers = {
        key: (coordinate_of if key in "xyz" else number_of)(value, key, text) for key, value in values.items()
    }
    return camera_around(numbers, volume, size_px, f"camera {text!r}", name=name)
