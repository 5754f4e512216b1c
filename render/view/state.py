"""What is looked at: one value for each frame, and what it means for one image. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from octree.pyramid.errors import UsageError
from octree.pyramid.model import AXIS_ORDER, PyramidSpec
from octree.pyramid.options import shown
from octree.pyramid.units import metres
from octree.render.option_table import Projection
from octree.render.view.camera import Camera

Displayed = tuple[str, ...]
"""Names of the axes that are displayed: rows, then columns; of a volume slabs before them."""
PLANE: Displayed = ("y", "x")
VOLUME: Displayed = ("z", "y", "x")
"""What a camera around a volume looks at."""


@dataclass(frozen=True, slots=True)
class Slicing:
    """What is shown of an image of more axes than a frame has, as it is wished.

    ``position``    (axis, level-0 position) each; 0 on axes that are not named.
    ``displayed``   axes of the rows and of the columns, or ``VOLUME``.
    ``projection``  of one of the other axes.
    """

    position: tuple[tuple[str, int], ...] = ()
    displayed: Displayed = PLANE
    projection: Projection | None = None

    @classmethod
    def of(
        cls,
        position: Mapping[str, int],
        displayed: Sequence[str] | None = None,
        projection: Projection | None = None,
    ) -> Slicing:
        return cls(tuple(position.items()), PLANE if displayed is None else tuple(displayed), projection)

    @property
    def axes(self) -> set[str]:
        """Every axis that is named."""
        projected = {self.projection.axis} if self.projection is not None else set()
        return {axis for axis, _ in self.position} | set(self.displayed) | projected


@dataclass(frozen=True, slots=True)
class ViewState:
    """Where the camera stands on the displayed axes, which these are, and what is shown of the others. A path is a
    sequence of these."""

    camera: Camera
    slicing: Slicing = Slicing()
    cells: tuple[ViewState, ...] = ()
    """Of a montage what each of its views shows; camera and slicing are then those of the first."""


@dataclass(frozen=True, slots=True)
class Section:
    """What a ``Slicing`` is in one image.

    ``spans``   (axis, first, stop): level-0 positions on each axis that is not displayed, in axis order; one, but on the
                axis that is ``projected``.
    ``method``  of the projection, None when there is none.
    ``beyond``  the position lies beyond the image, which shows nothing there; ``spans`` are the nearest.
    """

    displayed: Displayed
    spans: tuple[tuple[str, int, int], ...]
    projected: str = ""
    method: str | None = None
    beyond: bool = False

    @property
    def entries(self) -> tuple[str, ...]:
        """The axis of each number of ``TileKey.index``: a projected one has two."""
        return index_entries([axis for axis, _, _ in self.spans], self.projected)

    @property
    def position(self) -> tuple[int, ...]:
        """As ``TileKey.index``, in level-0 positions."""
        return self._numbers(lambda axis, first, stop: (first, stop))

    def own_index(self, spec: PyramidSpec, level: int) -> tuple[int, ...]:
        """``TileKey.index`` on a level. Planes that share a coarse plane share its tiles."""

        def own(axis: str, first: int, stop: int) -> tuple[int, int]:
            place = spec.axis_names.index(axis)
            return _voxel(spec, level, place, first), _voxel(spec, level, place, stop - 1) + 1

        return self._numbers(own)

    def first_position(self, spec: PyramidSpec, index: Sequence[int], level: int) -> tuple[int, ...]:
        """The first level-0 positions whose index on the level this is."""
        found, seen = [], ""
        for axis, voxel in zip(self.entries, index, strict=True):
            place, after = spec.axis_names.index(axis), int(axis == seen)
            base = range(spec.levels[0].shape[place])
            at = bisect_left(base, voxel - after, key=partial(_voxel, spec, level, place))
            found.append(at + after)
            seen = axis
        return tuple(found)

    def _numbers(self, ends: Callable[[str, int, int], tuple[int, int]]) -> tuple[int, ...]:
        pairs = [(axis, *ends(axis, first, stop)) for axis, first, stop in self.spans]
        return tuple(
            [
                n
                for axis, first, stop in pairs
                for n in ((first, stop) if axis == self.projected else (first,))
            ]
        )


def index_entries(axes: Sequence[str], projected: str) -> tuple[str, ...]:
    return tuple([axis for axis in axes for _ in range(1 + (axis == projected))])


def resolve(wishes: Slicing, spec: PyramidSpec, *, lenient: bool = False) -> Section:
    """What the wishes are in an image.

    ``lenient``: axes that are named for a position or a projection, and that the image lacks, are another's, and so are
    positions beyond its end: there it shows nothing. Raises UsageError for those otherwise, for axes that cannot be
    displayed, and for negative positions; its ``option`` detail says what was wrong."""
    check_displayed(wishes.displayed, spec)
    others = [axis for axis in spec.free_axes if axis not in wishes.displayed]
    sizes = {axis: spec.levels[0].shape[spec.axis_names.index(axis)] for axis in others}
    position, projection, beyond = dict(wishes.position), wishes.projection, False
    for axis, at in wishes.position:
        if axis in wishes.displayed:
            raise _refused(
                "index",
                f"{axis} is displayed: there is no position to choose on it",
                "axes to choose on",
                sizes,
            )
        if axis in sizes and lenient and at >= sizes[axis]:
            beyond, position[axis] = True, sizes[axis] - 1
        elif axis in sizes:
            check_place(axis, at, sizes[axis])
        elif not lenient:
            raise _refused("index", f"there is no axis {axis!r} to choose a position on", "axes", sizes)
    spans = {axis: (position.get(axis, 0), position.get(axis, 0) + 1) for axis in sizes}
    projected, method = "", None
    if projection is not None:
        axis = projection.axis
        if axis in wishes.displayed:
            raise _refused(
                "project", f"{axis} is displayed, and cannot be projected", "axes to project", sizes
            )
        if axis in sizes:
            spans[axis] = _projected(projection, position.get(axis), sizes[axis])
            projected, method = axis, projection.method
        elif not lenient:
            raise _refused("project", f"there is no axis {axis!r} to project", "axes", sizes)
    located = tuple([(axis, *span) for axis, span in spans.items()])
    return Section(wishes.displayed, located, projected, method, beyond)


def place_of(
    wishes: Slicing, axes: Iterable[str], channels: Collection[int | None] = (None,)
) -> dict[str, int]:
    """Where a view stands: the level-0 position on each of ``axes`` that is neither displayed nor projected over a fixed
    span, in the order of axes. ``channels``: what is shown of c, None: the channel where the view stands. Several that are
    added up are no place on c, one is."""
    position, projection = dict(wishes.position), wishes.projection
    taken = set(wishes.displayed)
    if projection is not None and projection.around is None:
        taken.add(projection.axis)
    standing = set(axes) - taken
    if channels and None not in channels:
        only, *others = set(channels)
        if others:
            standing.discard("c")
        else:
            position["c"] = cast(int, only)
    return {axis: position.get(axis, 0) for axis in AXIS_ORDER if axis in standing}


def whole_position(axis: str, value: Any) -> int:
    """The plane at or below a position. Raises UsageError for what is no finite number."""
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError(value)
        position: int = math.floor(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"{axis} must be a position, a finite number, not {shown(value)}",
            hint="positions count from 0, as in z=3",
        ) from None
    return position


def check_displayed(displayed: Displayed, spec: PyramidSpec) -> None:
    """Raises UsageError for what is not two of the image's axes, or a volume that the image is none of."""
    text, axes = "".join(displayed), spec.free_axes
    if displayed == VOLUME:
        lacking = [axis for axis in VOLUME if axis not in axes]
        if lacking:
            raise UsageError(
                f"a volume has the axes z, y and x, and this image has no {' and no '.join(lacking)}",
                hint=f"axes: {', '.join(axes)}; --mode slice, and a camera without angles, show planes",
                option="mode",
            )
        return
    for axis in displayed:
        if axis not in axes:
            raise _refused("display", f"there is no axis {axis!r} to display", "axes", axes)
    if len(displayed) != 2 or displayed[0] == displayed[1]:
        raise _refused("display", f"a frame shows two axes, rows and columns, not {text!r}", "axes", axes)


def aspect_of(spec: PyramidSpec, displayed: Displayed) -> float:
    """How high a level-0 voxel is for its width, by voxel size; 1 where the two cannot be compared."""
    sizes = []
    for name in displayed:
        place = spec.axis_names.index(name)
        axis, size = spec.axes[place], spec.levels[0].scale[place]
        unit = metres(axis.unit) if axis.unit else None
        if axis.type != "space":
            return 1.0
        sizes.append((size, unit))
    (high, unit), (wide, other) = sizes
    if (unit is None) != (other is None):
        return 1.0
    return high / wide * (1.0 if unit is None or other is None else unit / other)


def _projected(projection: Projection, at: int | None, size: int) -> tuple[int, int]:
    """Level-0 positions [first, stop) of an axis of ``size``."""
    axis = projection.axis
    if projection.around is not None:
        middle = at or 0
        return max(0, middle - projection.around), min(size, middle + projection.around + 1)
    if at is not None:
        raise UsageError(
            f"{axis} is projected: there is no position to choose on it",
            hint=f"{axis}={projection.method}:~N projects N planes each way of the position",
            option="index",
        )
    first = projection.first or 0
    stop = size if projection.stop is None else projection.stop
    if not 0 <= first < stop <= size:
        raise UsageError(
            f"{axis}={first}:{stop} lies outside the image",
            hint=f"{axis} runs from 0 to {size}, the last not included",
            option="project",
        )
    return first, stop


def check_place(axis: str, at: int, size: int) -> None:
    """Raises UsageError for a position outside an axis of ``size``."""
    if not 0 <= at < size:
        raise UsageError(
            f"{axis}={at} lies outside the image", hint=f"{axis} runs from 0 to {size - 1}", option="index"
        )


def _refused(option: str, message: str, what: str, axes: Any) -> UsageError:
    return UsageError(message, hint=f"{what}: {', '.join(axes) or 'none'}", option=option)


def _voxel(spec: PyramidSpec, level: int, place: int, position: int) -> int:
    """Along one axis: the voxel of a level that holds the middle of a level-0 position."""
    base, own = spec.levels[0], spec.levels[level]
    world = base.translation[place] + position * base.scale[place]
    voxel = round((world - own.translation[place]) / own.scale[place] - 1e-9)
    return min(max(voxel, 0), own.shape[place] - 1)
