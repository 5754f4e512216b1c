"""What the frame loop makes frames with: one scene, or a montage of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from octree.render.gl.canvas import Canvas
from octree.render.scene.pipeline import Pipeline
from octree.render.scene.shown import Shown
from octree.render.scene.tile_layer import TileLayer
from octree.render.view.coverage import Coverage
from octree.render.view.shots import Shot
from octree.render.view.state import ViewState


class Stage(Protocol):
    """See ``Scene``. What ``parts`` returns is for ``plan`` and ``draw`` of the same stage alone."""

    pipeline: Pipeline
    canvas: Canvas

    @property
    def images(self) -> Sequence[TileLayer]: ...

    @property
    def layers(self) -> Sequence[TileLayer]: ...

    def look_ahead(self, shots: Sequence[Shot], *, waits: bool = False) -> None: ...

    def stand(self, state: ViewState | None) -> None: ...

    @property
    def steps(self) -> bool: ...

    def plan(
        self,
        state: ViewState,
        *,
        motion: tuple[float, float] = (0.0, 0.0),
        fresh: bool = False,
        prefetch: bool = False,
        sparing: bool = False,
        part: Any = None,
    ) -> None: ...

    def parts(self, state: ViewState, *, by_rows: bool = False) -> Sequence[Any]: ...

    def rehearse(self) -> None: ...

    @property
    def is_complete(self) -> bool: ...

    def make_cover(self) -> Coverage: ...

    def see(self, coverage: Coverage) -> None: ...

    @property
    def holds_some(self) -> bool: ...

    @property
    def is_news(self) -> bool: ...

    def draw(self, part: Any = None) -> None: ...

    def shown(self) -> list[Shown]: ...

    def strays(self, state: ViewState) -> int: ...

    def covered_px(self) -> int: ...

    def visible_px(self) -> int: ...

    def close(self) -> None: ...
