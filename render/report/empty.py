"""Frames that show nothing of the image: black pictures that look as if all were well. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from octree.pyramid.grid import Region
from octree.render.report.values import FrameReport


class Emptiness(NamedTuple):
    """What is to be said of frames that show nothing. ``fails``: one of them was settled, or a path shows nothing at all;
    a path that passes outside for some of its frames may be meant."""

    message: str
    hint: str
    fails: bool


def emptiness(frames: Sequence[FrameReport], settled: Sequence[bool], extent: Region) -> Emptiness | None:
    """``settled``: of each frame, was it waited for? ``extent``: what the image covers, camera coordinates (y, x). None where
    every frame shows something."""
    empty = [(frame, done) for frame, done in zip(frames, settled, strict=True) if not frame.visible_px]
    if not empty:
        return None
    alive = {frame.camera.name for frame in frames if frame.visible_px}
    fatal = [frame for frame, done in empty if done or frame.camera.name not in alive]
    frame = (fatal or [empty[0][0]])[0]
    camera, (y0, x0), (y1, x1) = frame.camera, extent.low, extent.high
    shown = camera.rect(frame.size_px)
    seen = shown.intersect(extent)
    if seen.is_empty:
        why = f"its camera shows {_span('x', shown.x0, shown.x1)} and {_span('y', shown.y0, shown.y1)}"
    elif min(seen.size[1] * camera.zoom, seen.size[0] * camera.zoom * camera.aspect) >= 1:
        why = f"no layer has {', '.join(f'{axis}={at}' for axis, at in frame.position.requested)}"
    else:
        why = f"at zoom {camera.zoom:g} it is smaller than a pixel, and under no pixel's centre"
    which = "the frame" if len(frames) == 1 else f"{len(empty)} of {len(frames)} frames"
    first = "" if len(frames) == 1 else f"; the first is frame {frame.index} ({camera.name})"
    return Emptiness(
        f"{which} {'shows' if len(empty) == 1 else 'show'} nothing of the image, which covers {_span('x', x0, x1)} and "
        f"{_span('y', y0, y1)}{first}: {why}",
        "cameras count level-0 pixels, and fit shows all of them; --allow-empty takes frames without an image",
        bool(fatal),
    )


def _span(axis: str, low: float, high: float) -> str:
    return f"{axis} from {low:g} to {high:g}"
