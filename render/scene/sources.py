"""Opening what a request names, before OpenGL is there: a path that is wrong is said at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from octree.pyramid.grid import Region
from octree.render.gl.canvas import Canvas
from octree.render.gl.colors import parse_color
from octree.render.loading.clock import RealClock, VirtualClock
from octree.render.report.trace import NULL_TRACE, NullTrace
from octree.render.request import RenderRequest
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.scene import Scene
from octree.render.tiles.tile_source import OpenTileSource, open_tile_source


@dataclass(frozen=True, slots=True)
class OpenedSources:
    """A request, and its sources, bottom first; ``start`` draws them."""

    request: RenderRequest
    sources: tuple[OpenTileSource, ...]

    @property
    def extent(self) -> Region:
        """What the first source covers: camera coordinates are its pixels."""
        return self.sources[0].lattice.extent

    @contextmanager
    def start(self, trace: NullTrace = NULL_TRACE) -> Iterator[Scene]:
        """Bring up OpenGL and a pipeline, and draw with them until the end of the ``with`` block. Raises GLError, and
        UsageError for what names no colour, channel or plane."""
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
            yield Scene(pipeline, canvas, request, self.sources)

    def check_refused(self) -> None:
        """Raises the OutsideError that a tile ended with."""
        for source in self.sources:
            if source.refused is not None:
                raise source.refused

    def describe(self) -> list[dict[str, Any]]:
        """The sources as the report names them."""
        return [source.describe() for source in self.sources]

    def settings(self) -> dict[str, Any]:
        """Everything that is in force: the settings file's sections, and the options of this run."""
        request = self.request
        own = ("sources", "settings", "layers", "network")
        options = {f.name: getattr(request, f.name) for f in fields(request) if f.name not in own}
        return {
            **request.settings.to_json(),
            "options": {
                **options,
                "network": asdict(request.network) if request.network else None,
                "layers": [asdict(layer) for layer in request.layers],
            },
        }


@contextmanager
def open_sources(request: RenderRequest) -> Iterator[OpenedSources]:
    """The sources of a request, open until the end of the ``with`` block. Raises SourceError, UsageError."""
    with ExitStack() as stack:
        alone = len(request.sources) == 1
        sources = [
            stack.enter_context(closing(open_source(source, request, labels=request.labels and alone)))
            for source in request.sources
        ]
        if request.labels and not alone:
            for number in _which_are_labels(sources):
                sources[number].close()
                again = open_source(request.sources[number], request, labels=True)
                sources[number] = stack.enter_context(closing(again))
        yield OpenedSources(request, tuple(sources))


def open_source(source: Any, request: RenderRequest, *, labels: bool) -> OpenTileSource:
    """One source as the request's settings and options want it drawn."""
    octree = request.settings.octree
    return open_tile_source(
        source,
        tile=octree.tile_size,
        labels=labels,
        single_level=request.single_level,
        untiled=not octree.enabled,
        limits=request.settings.render.limits,
        allow_outside=request.allow_outside,
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
