"""From a request to layers ready to draw: sources opened, registered and given their colours.

``Scene`` owns what all layers share: loader, atlas, canvas. Main thread only. Sources are opened before
OpenGL, so that a path that is wrong is said at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.render.gl.canvas import Canvas
from octree.render.gl.colors import parse_color
from octree.render.gl.texture_atlas import Atlas
from octree.render.loading.cache import TileCache
from octree.render.loading.clock import RealClock, VirtualClock
from octree.render.loading.loader import TileLoader
from octree.render.loading.requests import FailedTile, LoadedTile
from octree.render.report.trace import NullTrace
from octree.render.request import RenderRequest
from octree.render.scene.layer import Layer, LayerLimits, Part, limits_of, make_atlas, upload_with_room
from octree.render.scene.look import Look, looks_of
from octree.render.tiles.tile_source import OpenTileSource, open_tile_source
from octree.render.view.coverage import Coverage, merge_coverage
from octree.render.view.register import to_base

if TYPE_CHECKING:
    from octree.render.gl.tiled_image import TiledImageVisual
    from octree.render.scene.overview import Overview
    from octree.render.view.plan import ViewPlan


def open_scene(request: RenderRequest, *, trace: NullTrace) -> Scene:
    """Open every source and start the loader. Raises SourceError, UsageError."""
    settings = request.settings
    with ExitStack() as stack:
        loader = stack.enter_context(
            TileLoader(
                settings.loader,
                cache=TileCache(settings.render.cache_bytes),
                clock=VirtualClock() if request.clock == "virtual" else RealClock(),
                network=request.network,
                trace=trace,
            )
        )
        sources = [
            stack.enter_context(closing(open_layer_source(source, request, labels=request.labels and only)))
            for source in request.sources
            for only in (len(request.sources) == 1,)
        ]
        if request.labels and len(sources) > 1:
            for number in _which_are_labels(sources):
                sources[number].close()
                again = open_layer_source(request.sources[number], request, labels=True)
                sources[number] = stack.enter_context(closing(again))
        for source in sources:
            loader.add_source(source)
        return Scene(request, sources, loader, stack.pop_all())


def open_layer_source(source: Any, request: RenderRequest, *, labels: bool) -> OpenTileSource:
    """One source as the request's settings and options want it drawn."""
    octree = request.settings.octree
    return open_tile_source(
        source,
        tile=octree.tile_size,
        labels=labels,
        single_level=request.single_level,
        untiled=not octree.enabled,
        limits=request.settings.render.limits,
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


class Scene:
    """Everything that is drawn together. ``start`` brings up OpenGL and makes the layers."""

    def __init__(
        self, request: RenderRequest, sources: Sequence[OpenTileSource], loader: TileLoader, stack: ExitStack
    ) -> None:
        self.loader = loader
        self.layers: tuple[Layer, ...] = ()
        self.overview: Overview | None = None
        self._request = request
        self._sources = tuple(sources)
        self._stack = stack
        self._failures: dict[Any, FailedTile] = {}
        self._packed: list[ViewPlan] = []
        self._canvas: Canvas | None = None
        self._atlas: Atlas | None = None

    @property
    def extent(self) -> Region:
        """What the first layer covers: camera coordinates are its pixels."""
        return self._sources[0].lattice.extent

    def start(self) -> None:
        """Bring up OpenGL and make the layers. Raises GLError, and UsageError for what names no colour,
        channel or plane."""
        request, render = self._request, self._request.settings.render
        background = parse_color(request.background)
        canvas = self._canvas = self._stack.enter_context(Canvas(request.size_px, request.gl, background))
        gutters = any(options.interpolation == "linear" for options in request.layers)
        texture_px = canvas.info.max_texture_size
        atlas = self._atlas = make_atlas(render, self._sources, texture_px, gutters=gutters)
        self._stack.callback(atlas.close)
        looks = [
            looks_of(source, options, request)
            for source, options in zip(self._sources, request.layers, strict=True)
        ]
        insets = looks[:1] if request.overview else []
        drawn = list(zip([*self._sources, *self._sources[: len(insets)]], [*looks, *insets], strict=True))
        limits = limits_of(render, atlas, [(source, len(own)) for source, own in drawn])
        stack = [self._layer(*pair, own) for pair, own in zip(drawn, limits, strict=True)]
        self.layers = tuple(stack[: len(looks)])
        if insets:
            from octree.render.scene.overview import Overview

            self.overview = Overview(stack[-1], request.size_px)

    @property
    def all_layers(self) -> tuple[Layer, ...]:
        """The layers and the overview's: all that loads."""
        return (*self.layers, *([self.overview.layer] if self.overview else []))

    def _layer(self, source: OpenTileSource, looks: Sequence[Look], limits: LayerLimits) -> Layer:
        return Layer(
            source,
            [Part(look.channel, self._visual(look)) for look in looks],
            loader=self.loader,
            atlas=self._gl_atlas,
            to_base=to_base(self._sources[0].spec, source.spec),
            linear=looks[0].interpolation == "linear",
            limits=limits,
        )

    def _visual(self, look: Look) -> TiledImageVisual:
        # vispy finds its OpenGL when it is first imported: after the platform has been chosen, not before
        from octree.render.gl.tiled_image import TiledImageVisual

        return TiledImageVisual(
            self._gl_atlas,
            **look.drawing(),
            show_grid=self._request.show_grid,
            mark_pending=self._request.mark_pending,
        )

    # while a frame is made

    def pin(self) -> None:
        """Keep what the layers want and show; the rest of the atlas may be evicted."""
        self._gl_atlas.begin_frame()
        for layer in self.all_layers:
            layer.pin()

    def waiting(self) -> Iterator[tuple[Layer, LoadedTile]]:
        """Tiles in memory that wait for upload: stand-ins of all layers first, then layer by layer."""
        waiting = [(layer, tile) for layer in self.all_layers for tile in layer.waiting()]
        return iter(sorted(waiting, key=lambda pair: pair[0].is_wanted(pair[1].key)))

    def upload(self, layer: Layer, tile: LoadedTile) -> int:
        """Upload one tile; returns its bytes, 0 when there is no room even without the stand-ins."""
        if tile.key in self._gl_atlas:
            return 0
        size = upload_with_room(layer, tile, self.all_layers, self._gl_atlas)
        return size or (self._repack() if layer.is_wanted(tile.key) else 0)

    def _repack(self) -> int:
        """The room there is may lie in pages of other tiles, none of them free of pins. Once nothing is under way
        that could change the view, and once for each view: empty the atlas and fill it with what is wanted,
        as far as it is in memory; the rest is asked for again. Returns the bytes uploaded."""
        plans = [layer.plan_in_force for layer in self.all_layers]
        if plans == self._packed or not self.loader.settled():
            return 0
        self._packed = plans
        self._gl_atlas.clear()
        for layer in self.all_layers:
            layer.ask_again()
        wanted = [(layer, tile) for layer, tile in self.waiting() if layer.is_wanted(tile.key)]
        self._gl_atlas.pin(tile.key for _, tile in wanted)
        return sum(layer.upload(tile) for layer, tile in wanted)

    def rehearse(self) -> None:
        """Once the first view is planned: what its tiles will need of OpenGL, while they are on their way."""
        self._gl_canvas.rehearse([_Rehearsal(layer, self._request.size_px) for layer in self.all_layers])

    def draw(self) -> None:
        visuals = [part.visual for layer in self.layers for part in layer.parts]
        if self.overview is not None:
            self.overview.mark(self.layers[0].view)
        self._gl_canvas.draw([*visuals, *([self.overview] if self.overview else [])])

    def read(self) -> NDArray[np.uint8]:
        """The last frame: uint8 (height, width, 4), RGBA."""
        return self._gl_canvas.read()

    # what it shows

    def coverage(self, size_px: tuple[int, int]) -> Coverage:
        """Of all layers, each weighted by the screen pixels it covers."""
        return merge_coverage(
            (layer.cover.coverage, _area(layer.visible_rect(size_px)))
            for layer in self.layers
            if layer.cover is not None
        )

    def visible_px(self, size_px: tuple[int, int]) -> int:
        """Screen pixels that any layer covers."""
        rects = [layer.visible_rect(size_px) for layer in self.layers]
        if len(rects) == 1:
            return _area(rects[0])
        seen = np.zeros((size_px[1], size_px[0]), bool)
        for row0, row1, col0, col1 in rects:
            seen[row0:row1, col0:col1] = True
        return int(seen.sum())

    @property
    def atlas_evicted(self) -> int:
        return self._gl_atlas.evicted

    @property
    def atlas_bytes(self) -> int:
        return self._gl_atlas.bytes

    @property
    def atlas_peak_bytes(self) -> int:
        return self._gl_atlas.peak_bytes

    # what the report says

    def note_failure(self, tile: FailedTile) -> None:
        self._failures[tile.key] = tile

    def failures(self) -> list[dict[str, Any]]:
        """The tiles that could not be read, in order of their keys."""
        layers = {layer.source.token: layer for layer in self.layers}
        return [
            {
                "source": layers[key.source].source.path,
                "key": {
                    "level": key.tile.level,
                    "index": list(layers[key.source].position_of(key.tile)),
                    "grid": list(key.tile.grid),
                },
                "error": failure.error,
                "attempts": failure.attempts,
            }
            for key, failure in sorted(self._failures.items(), key=lambda item: item[0])
        ]

    def renderer(self) -> dict[str, Any]:
        return self._gl_canvas.info.to_json()

    def describe_sources(self) -> list[dict[str, Any]]:
        return [source.describe() for source in self._sources]

    def describe_settings(self) -> dict[str, Any]:
        """Everything that was in force: the settings file's sections, and the options of this run."""
        request = self._request
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

    # what exists only after start

    @property
    def _gl_canvas(self) -> Canvas:
        if self._canvas is None:
            raise RuntimeError("the scene has not been started")
        return self._canvas

    @property
    def _gl_atlas(self) -> Atlas:
        if self._atlas is None:
            raise RuntimeError("the scene has not been started")
        return self._atlas

    def close(self) -> None:
        """Stop loading and free everything. Closing twice is harmless."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _area(rect: tuple[int, int, int, int]) -> int:
    row0, row1, col0, col1 = rect
    return (row1 - row0) * (col1 - col0)


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """A layer that draws nothing yet, for ``Canvas.rehearse``."""

    layer: Layer
    frame_px: tuple[int, int]

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        self.layer.rehearse(self.frame_px, offset_px, size_px)
