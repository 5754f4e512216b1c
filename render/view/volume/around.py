"""Cameras around a volume from the numbers that people give of them, and the turntable. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from octree.pyramid.errors import UsageError
from octree.render.view.camera import Camera, CameraPath, Keyframe
from octree.render.view.camera_numbers import zoom_of
from octree.render.view.volume.framing import Framed, any_zoom, fit_zoom, turning_zoom
from octree.render.view.volume.orbit import Orbit

ANGLES = ("azimuth", "elevation", "roll", "fov")
"""A camera that has one of these looks at a volume."""
AROUND = ("x", "y", "z", "zoom", *ANGLES)
MOST_DEGREES = 1e6
TURNTABLE_ELEVATION = 20.0


def camera_around(
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
        zoom = zoom_of(values["zoom"], where)
    else:
        zoom = any_zoom(volume, size_px, fov) if moves else fit_zoom(volume, size_px, orbit)
    return Camera(values.get("x", x), values.get("y", y), zoom, name, volume.world[-2], orbit)


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
