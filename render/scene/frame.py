"""One drawn frame, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.model import TileKey
from octree.render.gl.marks import PENDING_COLOR
from octree.render.report.values import FrameReport, Positions
from octree.render.scene.shown import Shown
from octree.render.view.camera import Camera
from octree.render.view.shots import Shot


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One drawn frame: ``rgba`` is uint8 (height, width, 4), (0, width, 4) where its rows were handed over as they were drawn; ``tiles`` are the tiles drawn, layer by layer, with level-0
    positions for an index."""

    index: int
    camera: Camera
    rgba: NDArray[np.uint8]
    report: FrameReport
    tiles: tuple[tuple[TileKey, ...], ...]

    def tile_set(self) -> dict[str, Any]:
        """What was drawn, as plain values, for ``octree check``: the same on every renderer."""
        return {
            "level": self.report.level,
            "layers": [
                sorted([tile.level, list(tile.index), list(tile.grid)] for tile in layer)
                for layer in self.tiles
            ],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A complete frame of a stream, and what it shows: to be kept while the next plane is late."""

    shot: Shot
    frame: Frame
    shown: Sequence[Shown]

    def instead_of(self, shot: Shot, now: FrameReport, *, mark: bool) -> Frame:
        """This picture as the frame ``shot``; ``now``: what happened meanwhile. ``mark``: hatch it, as what is not that
        plane."""
        was = self.frame.report
        report = replace(
            was,
            index=shot.index,
            t_ms=now.t_ms,
            position=Positions(shot.position, was.position.shown),
            late=True,
            tiles=replace(
                now.tiles,
                wanted=was.tiles.wanted,
                ideal=was.tiles.ideal,
                drawn=was.tiles.drawn,
                wrong_plane=was.tiles.wrong_plane,
            ),
            bytes=now.bytes,
            timings_ms=now.timings_ms,
            gauges=now.gauges,
        )
        rgba = hatched(self.frame.rgba) if mark else self.frame.rgba
        return replace(self.frame, index=shot.index, rgba=rgba, report=report)


def hatched(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame under diagonals like those that mark what is pending (``gl/marks.frag``)."""
    rows, columns = np.indices(rgba.shape[:2], np.int32)
    marked = rgba.copy()
    marked[(rows + columns) % 12 < 2] = (*(round(255 * part) for part in PENDING_COLOR), 255)
    return marked
