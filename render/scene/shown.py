"""What a frame showed of a layer: a value, added up where the frame was drawn in parts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octree.pyramid.model import TileKey
from octree.render.view.coverage import Coverage, merge_coverage


@dataclass(frozen=True, slots=True)
class Samples:
    """What rays met of a layer: how many samples, ``step_world`` apart (level-0 voxels of x of the first image)."""

    count: int
    step_world: float


@dataclass(frozen=True, slots=True)
class Shown:
    """One layer in one frame, or in a part of it.

    ``level`` is the wanted one, ``degraded`` when the zoom asks for a finer one. ``wanted`` and ``drawn`` are tiles, of
    which each of ``channels`` has one. ``visible_px``: pixels that the image covers. ``samples``: of a volume.
    ``unreached``: of a surface that is nowhere its value, and the highest of what is drawn.
    """

    level: int
    degraded: bool
    wanted: frozenset[TileKey]
    drawn: frozenset[TileKey]
    channels: int
    coverage: Coverage
    visible_px: int
    samples: Samples | None = None
    unreached: tuple[float, float] | None = None

    @property
    def weight(self) -> int:
        """What its coverage counts beside that of others."""
        return self.visible_px if self.samples is None else self.samples.count

    @property
    def wanted_count(self) -> int:
        """Wanted tiles, each channel counted."""
        return len(self.wanted) * self.channels

    @property
    def ideal_count(self) -> int:
        """Wanted tiles that are drawn."""
        return len(self.wanted & self.drawn) * self.channels

    @property
    def drawn_count(self) -> int:
        return len(self.drawn) * self.channels


def together(parts: Sequence[Shown]) -> Shown:
    """Parts of one layer as one."""
    if len(parts) == 1:
        return parts[0]
    return Shown(
        level=max(part.level for part in parts),
        degraded=any(part.degraded for part in parts),
        wanted=frozenset().union(*(part.wanted for part in parts)),
        drawn=frozenset().union(*(part.drawn for part in parts)),
        channels=parts[0].channels,
        coverage=merge_coverage((part.coverage, part.visible_px) for part in parts),
        visible_px=sum(part.visible_px for part in parts),
    )
