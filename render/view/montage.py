"""Where the views of a montage lie in its frame, and what the planes around one point show. Pure.

Places are whole pixels, ``GAP_PX`` apart, with the background between them. A grid is filled row by row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.render.view.camera import Camera
from octree.render.view.parts import Part
from octree.render.view.state import Slicing, ViewState

GAP_PX = 4
ORTHO: tuple[tuple[str, str], ...] = (("y", "x"), ("y", "z"), ("z", "x"))
"""What the views of ``ortho`` display, rows and columns: the plane, to its right the one across x, below the one across y."""
_LEAST_SHARE = 1 / 8
"""Of the frame, for the depth of a stack of few planes."""
Shape: TypeAlias = tuple[int, int] | Literal["auto", "ortho"]
"""(columns, rows), or how to find them."""


class Line(NamedTuple):
    """Of pixels of the frame: column ``x``, or row ``y``, within a place."""

    place: Part
    x: int | None
    y: int | None


def grid_places(shape: Shape, count: int, size_px: tuple[int, int], content: float) -> list[Part]:
    """``count`` places of one size. ``content``: how wide what they show is for its height, by which ``auto`` chooses the columns
    that show it largest. Raises UsageError for a shape with too few places, and for a frame that is too small."""
    columns, rows = _best(count, size_px, content) if isinstance(shape, str) else shape
    if columns * rows < count:
        raise UsageError(
            f"--montage {columns}x{rows} has {columns * rows} places, for {count} views",
            hint="auto chooses as many as there are views",
        )
    width, height = _edges(size_px, columns, rows)
    if min(width, height) < 1:
        raise UsageError(
            f"a frame of {size_px[0]}x{size_px[1]} pixels has no room for {columns}x{rows} views",
            hint="give a larger --size",
        )
    return [
        Part(number % columns * (width + GAP_PX), number // columns * (height + GAP_PX), width, height)
        for number in range(count)
    ]


def _edges(size_px: tuple[int, int], columns: int, rows: int) -> tuple[int, int]:
    """(width, height) of each place."""
    return (size_px[0] - GAP_PX * (columns - 1)) // columns, (size_px[1] - GAP_PX * (rows - 1)) // rows


def _best(count: int, size_px: tuple[int, int], content: float) -> tuple[int, int]:
    """(columns, rows) with the largest pictures; of equals the one with the fewest columns."""

    def scale(columns: int) -> float:
        width, height = _edges(size_px, columns, math.ceil(count / columns))
        return min(width / content, float(height))

    columns = max(range(1, count + 1), key=lambda n: (scale(n), -n))
    return columns, math.ceil(count / columns)


@dataclass(frozen=True, slots=True)
class Ortho:
    """Three planes through one point. ``lengths`` of z, y and x, level-0 voxels; ``depth``: how deep a voxel is for its width.
    The point is the middle of the camera on y and x, and on z the index."""

    size_px: tuple[int, int]
    lengths: tuple[int, int, int]
    depth: float
    aspect: float

    def places(self) -> list[Part]:
        """Of ``ORTHO``. Raises UsageError for a frame that is too small."""
        z, y, x = self.lengths
        width, height = self.size_px
        across, down = width - GAP_PX, height - GAP_PX
        deep = z * self.depth
        wide = across - round(across * _share(deep, x))
        high = down - round(down * _share(deep, y * self.aspect))
        places = [
            Part(0, 0, wide, high),
            Part(wide + GAP_PX, 0, across - wide, high),
            Part(0, high + GAP_PX, wide, down - high),
        ]
        if min(min(place.width, place.height) for place in places) < 1:
            raise UsageError(
                f"a frame of {width}x{height} pixels has no room for three views", hint="give a larger --size"
            )
        return places

    def states(self, state: ViewState, places: list[Part]) -> list[ViewState]:
        """What each of ``ORTHO`` shows where the first shows ``state``."""
        camera, slicing = state.camera, state.slicing
        position = dict(slicing.position)
        z, y, x = self.point(state)
        wide, deep = camera.zoom, camera.zoom * self.depth
        across = Camera(
            self._middle(z, places[1].width / deep), camera.y, deep, camera.name, self.aspect / self.depth
        )
        below = Camera(camera.x, self._middle(z, places[2].height / deep), wide, camera.name, self.depth)
        others = [("x", x, across, ORTHO[1]), ("y", y, below, ORTHO[2])]
        return [
            ViewState(camera, replace(slicing, position=tuple({**position, "z": z}.items()))),
            *(
                ViewState(
                    view,
                    Slicing(
                        tuple({**{a: p for a, p in position.items() if a != "z"}, axis: at}.items()),
                        displayed,
                    ),
                )
                for axis, at, view, displayed in others
            ),
        ]

    def point(self, state: ViewState) -> tuple[int, int, int]:
        """(z, y, x), the voxel that all three show."""
        length_z, length_y, length_x = self.lengths
        camera, z = state.camera, dict(state.slicing.position).get("z", length_z // 2)
        y, x = (
            min(max(math.floor(at), 0), length - 1)
            for at, length in ((camera.y, length_y), (camera.x, length_x))
        )
        return z, y, x

    def _middle(self, z: int, seen: float) -> float:
        """The middle of a view that is ``seen`` voxels deep: of all planes if they fit, else about ``z``, within the stack."""
        length = self.lengths[0]
        return length / 2 if seen >= length else min(max(z + 0.5, seen / 2), length - seen / 2)

    def lines(self, states: list[ViewState], places: list[Part]) -> list[Line]:
        """Where the planes cross: a column and a row of each view, as far as it shows them."""
        z, y, x = (at + 0.5 for at in self.point(states[0]))
        found: list[Line] = []
        for place, state, (row, col) in zip(places, states, ((y, x), (y, z), (z, x)), strict=True):
            camera = state.camera
            view = camera.rect((place.width, place.height))
            left = math.floor((col - view.x0) * camera.zoom)
            top = math.floor((row - view.y0) * camera.zoom * camera.aspect)
            if 0 <= left < place.width:
                found.append(Line(place, place.x + left, None))
            if 0 <= top < place.height:
                found.append(Line(place, None, place.y + top))
        return found


def _share(deep: float, long: float) -> float:
    return min(max(deep / (deep + long), _LEAST_SHARE), 1 / 2)


def content_of(extent: Region, aspect: float) -> float:
    """How wide an image is drawn for its height."""
    height, width = extent.size
    return max(width, 1e-9) / max(height * aspect, 1e-9)
