"""Which views a montage has: what varies from one to the next, and what each shows. Before OpenGL is there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from octree.pyramid.errors import UsageError
from octree.pyramid.grid import Region
from octree.render.films import PlaneRange
from octree.render.report.values import CellReport
from octree.render.request import RenderRequest
from octree.render.scene.look import channels_of
from octree.render.view.montage import ORTHO, Line, Ortho, Shape, content_of, grid_places
from octree.render.view.parts import Part
from octree.render.view.shots import Film, Position, Shot
from octree.render.view.state import PLANE, Slicing, ViewState, aspect_of

if TYPE_CHECKING:
    from octree.render.scene.sources import OpenedSources


@dataclass(frozen=True, slots=True)
class Cell:
    """One view of a montage: where it lies, its title, which of the sources it shows, and of their channels all or one.
    ``axes``: those that its sources have, where others have more."""

    place: Part
    title: str
    sources: tuple[int, ...]
    channel: int | None = None
    axes: frozenset[str] | None = None

    def own(self, position: Position) -> Position:
        """Of a position, what its sources know."""
        return position if self.axes is None else tuple([each for each in position if each[0] in self.axes])


@dataclass(frozen=True, slots=True)
class Cells:
    """The views of a montage, and the frames that they are in together: ``films`` has one film for each cell, or for ``ortho``
    that of the first."""

    cells: tuple[Cell, ...]
    films: tuple[Film, ...]
    ortho: Ortho | None = None

    def check(self) -> int:
        """How many frames. Raises UsageError as ``Film.check``."""
        return max([film.check() for film in self.films])

    @property
    def moved(self) -> frozenset[str]:
        """The axes that camera paths move along."""
        return frozenset().union(*(film.moved for film in self.films))

    @property
    def steps(self) -> bool:
        """Its frames are of several planes."""
        return any(film.steps for film in self.films)

    def shots(self) -> Iterator[Shot]:
        """Every frame, with the state of each cell; a film that ends before the others stands still."""
        last: list[Shot | None] = [None] * len(self.films)
        for index, shots in enumerate(itertools.zip_longest(*(film.shots() for film in self.films))):
            last = [shot or before for shot, before in zip(shots, last, strict=True)]
            now = [shot for shot in last if shot is not None]
            # the one that goes on has the time
            lead = next(shot for shot in shots if shot is not None)
            states = [shot.state for shot in now]
            if self.ortho is not None:
                states = self.ortho.states(states[0], [cell.place for cell in self.cells])
                # its middle, where nobody says
                lead = replace(lead, position=self.films[0].stands(states[0].slicing))
            if len({cell.channel for cell in self.cells}) > 1:  # the frame shows them all
                lead = replace(lead, position=tuple([each for each in lead.position if each[0] != "c"]))
            state = replace(states[0], cells=tuple(states))
            yield replace(lead, index=index, state=state, settle=all(shot.settle for shot in now))

    def reports(self, state: ViewState) -> tuple[CellReport, ...]:
        """What the cells show."""
        films = self.films if self.ortho is None else self.films * len(self.cells)
        return tuple(
            [
                CellReport(
                    cell.title,
                    *cell.place,
                    own.camera,
                    "".join(own.slicing.displayed),
                    cell.own(film.stands(own.slicing)),
                )
                for cell, film, own in zip(self.cells, films, state.cells, strict=True)
            ]
        )

    def lines(self, state: ViewState) -> list[Line]:
        """Where the planes of ``ortho`` cross."""
        if self.ortho is None:
            return []
        return self.ortho.lines(list(state.cells), [cell.place for cell in self.cells])


def cells_of(opened: OpenedSources) -> Cells:
    """The montage that a request asks for. Raises UsageError for one in which nothing varies, or with too few places."""
    request, shape = opened.request, opened.request.montage
    assert shape is not None
    if shape == "ortho":
        return _ortho(opened)
    by = request.montage_by or _what_varies(opened)
    make = {
        "index": _by_index,
        "camera": _by_camera,
        "source": _by_source,
        "channel": _by_channel,
        "wells": _by_wells,
    }[by]
    return make(opened, shape)


def _what_varies(opened: OpenedSources) -> str:
    request = opened.request
    varies = {
        "index": request.ranges,
        "camera": len(request.cameras) > 1,
        "source": len(opened.sources) > 1,
        "channel": len(_channels(opened)) > 1,
    }
    found = [name for name, does in varies.items() if does]
    if not found:
        raise UsageError(
            "--montage: one index, one camera, one source and one channel make one view",
            hint="give a range, as in --index z=0:9, several --camera or several SOURCE",
        )
    return found[0]


def _channels(opened: OpenedSources) -> list[tuple[int, str]]:
    """(index, name) of the channels of the first source that has some."""
    request = opened.request
    for source, options in zip(opened.sources, request.layers, strict=True):
        if channels := channels_of(source, options, request):
            named = source.spec.channels
            names = [named[c.index].label if c.index < len(named) else "" for c in channels]
            return [(c.index, name or f"c {c.index}") for c, name in zip(channels, names, strict=True)]
    return []


def _film(
    opened: OpenedSources,
    size_px: tuple[int, int],
    *,
    cameras: Sequence[str] | None = None,
    slicing: Slicing | None = None,
    ranges: dict[str, PlaneRange] | None = None,
    only: int | None = None,
    channel: int | None = None,
) -> Film:
    """Of one view, of all sources or of ``only`` one of them, of all their channels or of one."""
    request, source = opened.request, None if only is None else opened.sources[only]
    film = Film(
        [opened.camera(text, size_px, source) for text in (request.cameras if cameras is None else cameras)],
        request.slicing if slicing is None else slicing,
        request.ranges if ranges is None else ranges,
        opened.lengths,
        mode=request.mode,
        fps=request.fps,
    )
    channels = opened.channels(film.moved, only) if channel is None else [channel]
    return replace(film, channels=channels)


def _places(opened: OpenedSources, shape: Shape, count: int) -> list[Part]:
    low, high = (ends[-2:] for ends in opened.extent)  # of a volume what is seen from in front
    return grid_places(shape, count, opened.request.size_px, content_of(Region(low, high), opened.aspect))


def _size(place: Part) -> tuple[int, int]:
    return place.width, place.height


def _by_index(opened: OpenedSources, shape: Shape) -> Cells:
    """The planes of the last range; those of all ranges, if the shape has places for them. What is left is a film."""
    request = opened.request
    if not request.ranges:
        raise UsageError("--montage-by index without a range", hint="for example --index z=0:9")
    planes = {
        axis: [(axis, plane) for plane in each.planes(opened.lengths[axis])]
        for axis, each in request.ranges.items()
    }
    whole = not isinstance(shape, str) and math.prod(map(len, planes.values())) <= shape[0] * shape[1]
    within = list(planes) if whole else list(planes)[-1:]
    outside = {axis: each for axis, each in request.ranges.items() if axis not in within}
    positions = list(itertools.product(*(planes[axis] for axis in within)))
    places = _places(opened, shape, len(positions))
    base, everything = dict(request.slicing.position), tuple(range(len(opened.sources)))
    films, cells = [], []
    for place, position in zip(places, positions, strict=True):
        slicing = replace(request.slicing, position=tuple({**base, **dict(position)}.items()))
        films.append(_film(opened, _size(place), slicing=slicing, ranges=outside))
        cells.append(Cell(place, ", ".join(f"{axis} {plane}" for axis, plane in position), everything))
    return Cells(tuple(cells), tuple(films))


def _by_camera(opened: OpenedSources, shape: Shape) -> Cells:
    cameras = opened.request.cameras
    places = _places(opened, shape, len(cameras))
    films = [
        _film(opened, _size(place), cameras=[camera]) for place, camera in zip(places, cameras, strict=True)
    ]
    everything = tuple(range(len(opened.sources)))
    names = [film.views[0].name for film in films]
    titles = [text if name in ("", "rect") else name for text, name in zip(cameras, names, strict=True)]
    cells = [Cell(place, title, everything) for place, title in zip(places, titles, strict=True)]
    return Cells(tuple(cells), tuple(films))


def _by_source(opened: OpenedSources, shape: Shape) -> Cells:
    """Each source in its own coordinates."""
    request = opened.request
    named = [PurePath(source.path).name or source.path for source in opened.sources]
    titles = [name if named.count(name) == 1 else f"{name} ({n})" for n, name in enumerate(named)]
    if request.montage_by is None and len(request.cameras) > 1:
        raise UsageError("--montage: sources and cameras vary", hint="choose with --montage-by")
    return _one_each(opened, _places(opened, shape, len(titles)), titles)


def _one_each(opened: OpenedSources, places: Sequence[Part], titles: Sequence[str]) -> Cells:
    """A view of each source, in its own coordinates."""
    cells, films = [], []
    for number, (place, title, source) in enumerate(zip(places, titles, opened.sources, strict=True)):
        cells.append(Cell(place, title, (number,), axes=frozenset(source.spec.free_axes)))
        films.append(_film(opened, _size(place), only=number))
    return Cells(tuple(cells), tuple(films))


def _by_wells(opened: OpenedSources, shape: Shape) -> Cells:
    """A plate as it lies: rows and columns that have wells; in order where somebody says how many."""
    wells = opened.wells
    rows, columns = sorted({well.row for well in wells}), sorted({well.column for well in wells})
    if isinstance(shape, str):
        grid = _places(opened, (len(columns), len(rows)), len(columns) * len(rows))
        places = [grid[rows.index(well.row) * len(columns) + columns.index(well.column)] for well in wells]
    else:
        places = _places(opened, shape, len(wells))
    return _one_each(opened, places, [well.name for well in wells])


def _by_channel(opened: OpenedSources, shape: Shape) -> Cells:
    channels = _channels(opened)
    if not channels:
        raise UsageError(
            "--montage-by channel: there are no channels to choose from",
            hint="a channel axis is c, and neither --index nor --colormap may choose one of it",
        )
    places = _places(opened, shape, len(channels))
    everything = tuple(range(len(opened.sources)))
    cells = [
        Cell(place, title, everything, channel)
        for place, (channel, title) in zip(places, channels, strict=True)
    ]
    films = [
        _film(opened, _size(place), channel=channel)
        for place, (channel, _) in zip(places, channels, strict=True)
    ]
    return Cells(tuple(cells), tuple(films))


def _ortho(opened: OpenedSources) -> Cells:
    request = opened.request
    _check_ortho(request)
    first = opened.sources[0].spec
    for source in opened.sources:
        if not {"z", *PLANE} <= set(source.spec.free_axes):
            raise UsageError(
                f"--montage ortho: {source.path} has no z axis",
                hint=f"its axes: {', '.join(source.spec.axis_names)}",
            )
    lengths = [first.levels[0].shape[first.axis_names.index(axis)] for axis in ("z", "y", "x")]
    ortho = Ortho(
        request.size_px,
        (lengths[0], lengths[1], lengths[2]),
        aspect_of(first, ("z", "x")),
        opened.aspect,
    )
    places = ortho.places()
    everything = tuple(range(len(opened.sources)))
    cells = [Cell(place, "".join(axes), everything) for place, axes in zip(places, ORTHO, strict=True)]
    return Cells(tuple(cells), (_film(opened, _size(places[0])),), ortho)


def _check_ortho(request: RenderRequest) -> None:
    if request.montage_by is not None:
        raise UsageError("--montage ortho has three views of its own", hint="leave out --montage-by")
    if request.display != PLANE:
        raise UsageError("--montage ortho displays all three planes", hint="leave out --display")
    if request.project is not None:
        raise UsageError("--montage ortho shows planes, no projections", hint="leave out --project")
