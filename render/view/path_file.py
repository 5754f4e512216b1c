"""Path files: cameras that move, as JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from octree.pyramid.errors import UsageError
from octree.pyramid.reach import read_small
from octree.render.view.built_in_paths import FORMS
from octree.render.view.camera import DEFAULT_FPS, Camera, CameraPath, Keyframe
from octree.render.view.camera_numbers import json_number, object_of, zoom_of
from octree.render.view.volume.around import ANGLES, AROUND, camera_around
from octree.render.view.volume.framing import Framed

KEYFRAME_AXES = ("t", "c", "z")
"""x and y are the camera's, whatever is displayed; so is z around a volume."""


def read_path(path: Path) -> CameraPath:
    """A path over planes. Raises ``UsageError`` for a file that is missing, is not JSON, or has an unknown key."""
    with _said_of(path):
        return path_from_json(_document(path), name=path.stem)


def read_path_around(path: Path, volume: Framed, size_px: tuple[int, int]) -> CameraPath:
    """A path around a volume, for frames of ``size_px`` (width, height). Raises as ``read_path``."""
    with _said_of(path):
        return _path_around(_document(path), volume, size_px, name=path.stem)


def is_around_volume(path: Path) -> bool:
    """Whether some keyframe of a file has an angle; False of one that cannot be read."""
    try:
        document = _document(path)
    except UsageError:
        return False
    keyframes = document.get("keyframes") if isinstance(document, dict) else None
    return isinstance(keyframes, list) and any(
        isinstance(key, dict) and not key.keys().isdisjoint(ANGLES) for key in keyframes
    )


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
    top = object_of(document, "the file", required=("keyframes",), optional=("fps", "easing", "name", "loop"))
    keyframes = top["keyframes"]
    if not isinstance(keyframes, list) or not keyframes:
        raise UsageError("keyframes must be a list of at least one keyframe")
    keys = [keyframe(number, item) for number, item in enumerate(keyframes)]
    label, easing, loop = top.get("name", name), top.get("easing", "linear"), top.get("loop", False)
    if not isinstance(label, str):
        raise UsageError("name must be a string")
    if not isinstance(loop, bool):
        raise UsageError(f"loop must be true or false, not {loop!r}")
    return CameraPath(tuple(keys), json_number(top.get("fps", DEFAULT_FPS), "fps"), easing, label, loop)


def _keyframe(number: int, item: Any) -> Keyframe:
    """x, y and zoom, or none of them where it has a position on another axis."""
    where, camera = f"keyframe {number}", ("x", "y", "zoom")
    still = isinstance(item, dict) and not any(name in item for name in camera)
    axes = [axis for axis in KEYFRAME_AXES if isinstance(item, dict) and axis in item]
    needed = ("t_s",) if still and axes else ("t_s", *camera)
    key = object_of(item, where, required=needed, optional=KEYFRAME_AXES)
    values = {name: json_number(value, f"{where}: {name}") for name, value in key.items()}
    seen = None if still else Camera(values["x"], values["y"], zoom_of(values["zoom"], where))
    return Keyframe(values["t_s"], seen, tuple([(axis, values[axis]) for axis in axes]))


def _path_around(document: Any, volume: Framed, size_px: tuple[int, int], *, name: str) -> CameraPath:
    """A path around a volume from its JSON form: ``keyframes`` of t_s and any of ``AROUND``, and positions on the axes t and c.
    What one leaves out is as in the one before."""
    known: dict[str, float] = {}

    def keyframe(number: int, item: Any) -> Keyframe:
        where, axes = f"keyframe {number}", tuple(axis for axis in KEYFRAME_AXES if axis not in AROUND)
        key = object_of(item, where, required=("t_s",), optional=(*AROUND, *axes))
        values = {name: json_number(value, f"{where}: {name}") for name, value in key.items()}
        own = {name: value for name, value in values.items() if name in AROUND}
        position = tuple([(axis, values[axis]) for axis in axes if axis in values])
        if not own and position:
            return Keyframe(values["t_s"], None, position)
        known.update(own)
        return Keyframe(values["t_s"], camera_around(known, volume, size_px, where, moves=True), position)

    path = _path(document, name, keyframe)
    if all(key.camera is None for key in path.keyframes):
        still = replace(path.keyframes[0], camera=camera_around({}, volume, size_px, "the file"))
        path = replace(path, keyframes=(still, *path.keyframes[1:]))
    return path
