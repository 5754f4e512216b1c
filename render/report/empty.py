"""Frames that show nothing of the image: black pictures that look as if all were well. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from octree.pyramid.grid import Region
from octree.render.report.values import FrameReport


class Emptiness(NamedTuple):
    """What is to be said of frames that show nothing. ``fails``: one of them was settled, or a path shows nothing at all;
    a path that passes outside for some of its frames may be meant."""

    message: str
    hint: str
    fails: bool


class Unreached(NamedTuple):
    """A surface that is nowhere: ``iso`` lies above ``highest``, and no value that is drawn does."""

    iso: float
    highest: float


def emptiness(
    frames: Sequence[FrameReport],
    settled: Sequence[bool],
    extent: Region,
    unreached: Mapping[int, Unreached] = MappingProxyType({}),
) -> Emptiness | None:
    """``settled``: of each frame, was it waited for? ``extent``: what the image covers, camera coordinates (y, x). ``unreached``:
    by index, frames without a surface. None where every frame shows something."""

    def is_empty(frame: FrameReport) -> bool:
        return not frame.visible_px or frame.index in unreached

    empty = [(frame, done) for frame, done in zip(frames, settled, strict=True) if is_empty(frame)]
    if not empty:
        return None
    alive = {frame.camera.name for frame in frames if not is_empty(frame)}
    fatal = [frame for frame, done in empty if done or frame.camera.name not in alive]
    frame = (fatal or [empty[0][0]])[0]
    camera, covers = frame.camera, _spans(extent)
    why = _plane_why(frame, extent) if camera.orbit is None else _volume_why(frame)
    hint = "cameras count level-0 pixels, and fit shows all of them"
    if frame.visible_px:
        iso, highest = unreached[frame.index]
        why = f"no value in view reaches --iso {iso:g}; the highest, at level {frame.level}, is {highest:g}"
        hint = "--iso auto is the middle of the contrast limits"
    which = "the frame" if len(frames) == 1 else f"{len(empty)} of {len(frames)} frames"
    first = "" if len(frames) == 1 else f"; the first is frame {frame.index} ({camera.name})"
    return Emptiness(
        f"{which} {'shows' if len(empty) == 1 else 'show'} nothing of the image, which covers {covers}{first}: {why}",
        f"{hint}; --allow-empty takes frames without an image",
        bool(fatal),
    )


def _plane_why(frame: FrameReport, extent: Region) -> str:
    camera, shown = frame.camera, frame.camera.rect(frame.size_px)
    seen = shown.intersect(extent)
    if seen.is_empty:
        return f"its camera shows {_spans(shown)}"
    if min(seen.size[1] * camera.zoom, seen.size[0] * camera.zoom * camera.aspect) >= 1:
        return f"no layer has {_places(frame)}"
    return f"at zoom {camera.zoom:g} it is smaller than a pixel, and under no pixel's centre"


def _volume_why(frame: FrameReport) -> str:
    camera = frame.camera
    assert camera.orbit is not None
    width, height = (edge / camera.zoom for edge in frame.size_px)
    looks = (
        f"its camera looks at x {camera.x:g}, y {camera.y:g}, z {camera.orbit.z:g}, and shows {width:g} x {height:g} "
        "level-0 voxels of x there"
    )
    places = f", or no layer has {_places(frame)}" if frame.position.requested else ""
    return f"{looks}; no sample of a ray lies in it{places}"


def _places(frame: FrameReport) -> str:
    return ", ".join(f"{axis}={at}" for axis, at in frame.position.requested)


def _spans(region: Region) -> str:
    """In the order x, y, z."""
    ends = zip("xyz", region.low[::-1], region.high[::-1], strict=False)
    *before, last = [_span(axis, low, high) for axis, low, high in ends]
    return f"{', '.join(before)} and {last}"


def _span(axis: str, low: float, high: float) -> str:
    return f"{axis} from {low:g} to {high:g}"
