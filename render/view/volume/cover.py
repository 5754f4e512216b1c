"""What to draw of a volume with what is there: a plan and residency → disjoint boxes; its coverage, from samples. Pure.

The boxes are those of ``view/cover.py``, on three axes: a wanted brick itself; else nothing, if it has failed; else the finer ones under it;
else the part of the nearest coarser one; else nothing yet. Coverage counts samples of rays, which the renderer has to
count: it is known before only where all is as it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice, Region
from octree.pyramid.model import TileKey
from octree.render.view.cover import Cover, cover_view, never
from octree.render.view.coverage import FRACTIONS, Coverage
from octree.render.view.plan import ViewPlan
from octree.render.view.volume.cells import DRAWN, FAILED, Cells
from octree.render.view.volume.sight import Sight


def cover_volume(
    lattice: Lattice,
    plan: ViewPlan,
    sight: Sight,
    resident: Callable[[TileKey], bool],
    failed: Callable[[TileKey], bool] = never,
) -> Cover:
    """The boxes of what ``plan`` wants in ``sight``. ``coverage`` of the result measures volumes: unless it ``is_known``,
    ``coverage_of_counts`` is to take its place."""
    box = sight.box if plan.wanted else Region(sight.box.low, sight.box.low)
    return cover_view(
        lattice,
        box,
        plan.ideal_level,
        resident,
        failed,
        wanted=plan.wanted or None,
        elsewhere=False,
        ideal_levels=dict(zip(plan.wanted, plan.ideal_levels, strict=True)) if plan.degraded else None,
    )


def is_known(cover: Cover, plan: ViewPlan) -> bool:
    """Whether coverage is the same however many samples each box has: all that is in view is of one level, as it is wanted."""
    return cover.is_whole and not plan.degraded and len(cover.coverage.by_level) < 2


def coverage_of_counts(cells: Cells, counts: Sequence[float] | NDArray[Any]) -> Coverage:
    """Shares of the samples that each row of ``cells`` owns."""
    kinds = zip(cells.kinds.tolist(), cells.levels.tolist(), cells.wanted.tolist(), strict=True)
    owned: dict[tuple[int, int, int], float] = {}
    for kind, count in zip(kinds, np.asarray(counts).tolist(), strict=True):
        owned[kind] = owned.get(kind, 0) + count
    return coverage_of_classes(owned)


def coverage_of_classes(owned: Mapping[tuple[int, int, int], float]) -> Coverage:
    """Shares of the samples of all rows of one kind, level, and level that is wanted there. Where there are none all is
    ideal."""
    whole = sum(owned.values())
    if not whole:
        return Coverage()
    parts, by_level = dict.fromkeys(FRACTIONS, 0.0), dict[int, float]()
    for (kind, level, wanted), count in sorted(owned.items()):
        if kind == DRAWN and count:
            by_level[level] = by_level.get(level, 0) + count
        parts[_name(kind, level - wanted)] += count
    shares = {name: count / whole for name, count in parts.items()}
    return Coverage(**shares, by_level={level: count / whole for level, count in sorted(by_level.items())})


def _name(kind: int, off: int) -> str:
    if kind != DRAWN:
        return "failed" if kind == FAILED else "missing"
    return "ideal" if not off else "finer" if off < 0 else "coarser"
