"""Opening what a request names, before OpenGL is there: a path that is wrong is said at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from os import PathLike
from typing import Any

from octree.pyramid.building.planning.request import VOLUME_CHUNK
from octree.pyramid.errors import AxisError, UsageError
from octree.pyramid.grid import Region
from octree.pyramid.model import AXIS_ORDER
from octree.pyramid.store.named import place_of
from octree.pyramid.store.ngff import Well, wells_of
from octree.pyramid.store.remote.counts import NO_COUNTS, Counts, all_counts
from octree.render.config import Settings
from octree.render.gl.canvas import Canvas
from octree.render.gl.colors import parse_color
from octree.render.loading.clock import RealClock, VirtualClock
from octree.render.option_table import parse_display
from octree.render.report.trace import NULL_TRACE, NullTrace
from octree.render.request import RenderRequest, parse_request
from octree.render.scene.cells import Cells
from octree.render.scene.look import channels_shown
from octree.render.scene.montage import Montage
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.scene import Scene
from octree.render.scene.stage import Stage
from octree.render.scene.volume.around import around_of
from octree.render.scene.volume.placing import slab_of, with_planes
from octree.render.tiles.face import Face
from octree.render.tiles.open_levels import open_levels
from octree.render.tiles.slab import Slab
from octree.render.tiles.tile_source import OpenTileSource, open_tile_source
from octree.render.view.camera import Camera, CameraPath
from octree.render.view.camera_text import is_volume_camera, parse_camera
from octree.render.view.state import PLANE, VOLUME, aspect_of, check_place, resolve

SLOW_EXCESS = 64.0
"""Decoding more than so many times what a tile shows is worth a word: cubes of 64 voxels have this in any plane."""
WORTH_BUILDING = 1.25
"""Times less that must be decoded to store a source anew for it."""
SPATIAL = "zyx"


@dataclass(frozen=True, slots=True)
class OpenedSources:
    """A request, and its sources, bottom first; ``start`` draws them."""

    request: RenderRequest
    sources: tuple[OpenTileSource, ...]
    wells: tuple[Well, ...] = ()
    """Of the plate that the sources are the images of."""
    before: Counts = NO_COUNTS
    """What requests to stores had cost before they were opened."""

    @property
    def requests(self) -> Counts:
        """What they have cost since."""
        return all_counts().since(self.before)

    @property
    def extent(self) -> Region:
        """What the first source covers: camera coordinates are its pixels."""
        return self.extent_of(self.sources[0])

    @property
    def aspect(self) -> float:
        """How high a pixel of the first source is drawn for its width."""
        return self.aspect_of(self.sources[0])

    def extent_of(self, source: OpenTileSource) -> Region:
        """What a source covers in its own pixels."""
        return self._face(source).lattice.extent

    def aspect_of(self, source: OpenTileSource) -> float:
        """How high a pixel of a source is drawn for its width: by voxel size, if nobody asks for something else."""
        if self.request.pixel_aspect is not None:
            return self.request.pixel_aspect
        return aspect_of(source.spec, self.request.display)

    @property
    def lengths(self) -> dict[str, int]:
        """Of each axis that is not displayed, in axis order: the longest of any source."""
        return lengths_of(self.sources, self.request.slicing.displayed)

    def channels(self, moved: frozenset[str], only: int | None = None) -> list[int | None]:
        """What is shown of the axis c (see ``channels_shown``), of all sources or of one of them. ``moved``: axes that camera
        paths move along."""
        chosen = slice(None) if only is None else slice(only, only + 1)
        request = replace(self.request, moved=moved)
        return channels_shown(self.sources[chosen], request.layers[chosen], request)

    def camera(
        self, text: str, size_px: tuple[int, int], source: OpenTileSource | None = None
    ) -> Camera | CameraPath:
        """What one ``--camera`` means in a frame of this size that shows ``source``; None: the first. Raises UsageError."""
        own = self.sources[0] if source is None else source
        volume = None if self.request.volume is None else around_of(self.request.volume, own.spec).framed
        extent, aspect = self.extent_of(own), self.aspect_of(own)
        return parse_camera(text, extent=extent, size_px=size_px, aspect=aspect, volume=volume)

    @contextmanager
    def start(self, trace: NullTrace = NULL_TRACE, cells: Cells | None = None) -> Iterator[Stage]:
        """Bring up OpenGL and a pipeline, and draw with them until the end of the ``with`` block; ``cells``: of a montage.
        Raises GLError, and UsageError for what names no colour, channel or plane."""
        request = self.request
        with (
            Canvas(request.size_px, request.gl, parse_color(request.background)) as canvas,
            Pipeline(
                request.settings,
                clock=VirtualClock() if request.clock == "virtual" else RealClock(),
                network=request.network,
                trace=trace,
                max_texture_size=canvas.info.max_texture_size,
                gutters=any(options.interpolation == "linear" for options in request.layers),
            ) as pipeline,
        ):
            if cells is None:
                yield Scene(pipeline, canvas, request, self.sources)
            else:
                yield Montage(pipeline, canvas, request, self.sources, cells)

    def check_refused(self) -> None:
        """Raises the error that ended a tile and ends the run: OutsideError, LimitError, or WriteError (no memory)."""
        for source in self.sources:
            if source.refused is not None:
                raise source.refused

    def hints(self) -> list[str]:
        """Where chunks make a view slow: what would be faster."""
        found = []
        for source in self.sources:
            face = self._face(source)
            if face.displayed in (PLANE, VOLUME) or not source.chunked or face.excess() <= SLOW_EXCESS:
                continue
            helps = _building_anew(source, face)
            if not helps and set(face.displayed) <= set(SPATIAL):
                continue  # cubes already: no chunks are nearer to planes in all directions
            chunks = " x ".join(map(str, source.spec.levels[0].chunks))
            found.append(
                f"{source.path}: {''.join(face.displayed)} tiles decode {face.excess():.0f} times what they show, as "
                f"chunks are {chunks} ({', '.join(source.spec.axis_names)}){helps and '; '}{helps}"
            )
        return found

    def describe(self) -> list[dict[str, Any]]:
        """The sources as the report names them."""
        if self.request.volume is None:
            return [source.describe() for source in self.sources]
        return [source.describe(self._face(source)) for source in self.sources]

    def _face(self, source: OpenTileSource) -> Face:
        return source.face(resolve(self.request.slicing, source.spec, lenient=True))

    def settings(self) -> dict[str, Any]:
        """Everything that is in force: the settings file's sections, and the options of this run."""
        request = self.request
        own = ("sources", "settings", "layers", "network", "moved")
        options = {f.name: getattr(request, f.name) for f in fields(request) if f.name not in own}
        return {
            **request.settings.to_json(),
            "options": {
                **options,
                "display": "".join(request.display),
                "remote": asdict(request.remote),
                "network": asdict(request.network) if request.network else None,
                "layers": [asdict(layer) for layer in request.layers],
                "volume": request.volume.to_json() if request.volume else None,
            },
        }


def asked(
    sources: Sequence[Any],
    cameras: Sequence[str],
    options: Mapping[str, Any],
    *,
    settings: Settings | None = None,
) -> RenderRequest:
    """As ``parse_request``. Errors about axes name those that the first source has, if it can be opened here."""
    try:
        return parse_request(sources, cameras, options, settings=settings)
    except AxisError as error:
        try:
            axes = _axes_of(sources[0], options.get("display"))
        except Exception:  # whatever is wrong with it, that comes after what has been typed
            raise error from None
        found = ", ".join(axes) or "none"
        raise UsageError(error.message, hint=f"{error.hint}; axes: {found}", **error.details) from None


def _axes_of(source: Any, display: Any) -> list[str]:
    """On which a view of it stands. Raises whatever opening raises."""
    if isinstance(source, str) and "://" in source:
        raise ValueError("not for an answer over a network")
    opened = open_levels(source, labels=False)
    try:
        displayed = PLANE if display is None else parse_display(display)
        return [axis for axis in opened.levels.spec.free_axes if axis not in displayed]
    finally:
        opened.close()


@contextmanager
def open_sources(request: RenderRequest) -> Iterator[OpenedSources]:
    """The sources of a request, open until the end of the ``with`` block. Raises SourceError, UsageError."""
    before = all_counts()
    wells: tuple[Well, ...] = ()
    if request.montage_by == "wells":
        request, wells = _of_plate(request)
    with ExitStack() as stack:
        alone = len(request.sources) == 1
        sources = [
            stack.enter_context(closing(open_source(source, request, labels=request.labels and alone)))
            for source in request.sources
        ]
        first = sources[0].spec
        slabs = [slab_of(request, number, source.spec, first) for number, source in enumerate(sources)]
        labels = set(_which_are_labels(sources)) if request.labels and not alone else set()
        for number, slab in enumerate(slabs):
            if number in labels or slab is not None:
                sources[number].close()
                again = open_source(request.sources[number], request, labels=number in labels, slab=slab)
                sources[number] = stack.enter_context(closing(again))
        check_slicing(request, sources)
        if request.volume is not None:
            request = with_planes(
                request, first, [slab is not None for slab in slabs], [source.labels for source in sources]
            )
        yield OpenedSources(request, tuple(sources), wells, before)


def _of_plate(request: RenderRequest) -> tuple[RenderRequest, tuple[Well, ...]]:
    """The same of the wells of a plate. Raises UsageError for several, SourceError for what is none."""
    if len(request.sources) != 1 or not isinstance(request.sources[0], str | PathLike):
        raise UsageError(
            "--montage-by wells shows the wells of one plate", hint="give the plate's folder alone"
        )
    wells = wells_of(
        place_of(os.fspath(request.sources[0]), anywhere=request.allow_outside, remote=request.remote)
    )
    sources = tuple([str(well.image) for well in wells])
    return replace(request, sources=sources, layers=request.layers * len(wells)), wells


def check_slicing(request: RenderRequest, sources: Sequence[OpenTileSource]) -> None:
    """Raises UsageError for what a source cannot show of ``--index``, ``--display`` and ``--project``; an axis that is
    named must be some source's, and so must a position on it."""
    wishes, known = request.slicing, {axis for source in sources for axis in source.spec.free_axes}
    for source in sources:
        try:
            source.face(resolve(wishes, source.spec, lenient=wishes.axes <= known))
        except UsageError as error:
            option = f"--{error.details.get('option', 'display')}"
            around = next(filter(is_volume_camera, request.cameras), None)
            if option == "--mode" and around is not None:
                option = f"--camera {around}"
            hint = error.hint
            volumes = [other for other in sources if set(VOLUME) <= set(other.spec.free_axes)]
            if source is sources[0] and volumes and source not in volumes and wishes.displayed == VOLUME:
                hint = "give the volume first: cameras are in its voxels, and the plane is placed in it"
            raise UsageError(f"{option}: {source.path}: {error.message}", hint=hint) from None
    lengths = lengths_of(sources, wishes.displayed)
    for axis, at in wishes.position:
        try:
            check_place(axis, at, lengths[axis])
        except UsageError as error:
            paths = ", ".join(source.path for source in sources if axis in source.spec.free_axes)
            raise UsageError(f"--index: {paths}: {error.message}", hint=error.hint) from None


def lengths_of(sources: Sequence[OpenTileSource], displayed: Sequence[str]) -> dict[str, int]:
    """Of each axis that can be stood on, in axis order: the longest of any source."""
    found: dict[str, int] = {}
    for spec in (source.spec for source in sources):
        for axis, length in zip(spec.axis_names, spec.levels[0].shape, strict=True):
            if axis in spec.free_axes and axis not in displayed:
                found[axis] = max(length, found.get(axis, 0))
    return {axis: found[axis] for axis in AXIS_ORDER if axis in found}


def _building_anew(source: OpenTileSource, face: Face) -> str:
    """The option of ``build`` that stores a source so that what ``face`` shows is nearer; "" if none does."""
    spec, spatial = source.spec, [name for name in source.spec.axis_names if name in SPATIAL]
    wanted = tuple(
        min(VOLUME_CHUNK, n) if name in SPATIAL else c
        for name, n, c in zip(spec.axis_names, spec.levels[0].shape, spec.levels[0].chunks, strict=True)
    )
    then = face.excess(wanted)
    if then * WORTH_BUILDING > face.excess():
        return ""
    edges = ",".join([str(VOLUME_CHUNK)] * len(spatial))
    return f"octree build --chunks {edges} makes that {then:.0f} times"


def open_source(
    source: Any, request: RenderRequest, *, labels: bool, slab: Slab | None = None
) -> OpenTileSource:
    """One source as the request's settings and options want it drawn; without z, as a ``slab`` of a volume."""
    octree = request.settings.octree
    return open_tile_source(
        source,
        tile=octree.tile_size,
        labels=labels,
        single_level=request.single_level,
        untiled=not octree.enabled,
        limits=request.settings.render.limits,
        allow_outside=request.allow_outside,
        remote=request.remote,
        slab=slab,
    )


def _which_are_labels(sources: Sequence[OpenTileSource]) -> list[int]:
    """The layers that ``--labels`` means: those recorded as labels; if none is, all of whole numbers but the
    bottom one."""
    recorded = [number for number, source in enumerate(sources) if source.spec.labels]
    whole = [
        number
        for number, source in enumerate(sources)
        if number and source.spec.dtype.kind in "biu" and not source.rgb
    ]
    return recorded or whole
