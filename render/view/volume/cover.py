"""What to draw of a volume with what is there: a plan and residency → disjoint boxes; its coverage, from samples. Pure.

The boxes are those of ``view/cover.py``, on three axes: a wanted brick itself; else nothing, if it has failed; else the finer ones under it;
else the part of the nearest coarser one; else nothing yet. Coverage counts samples of rays, which the renderer has to
count: it is known before only where all is as it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Lattice, Region
from octree.pyramid.model import TileKey
from octree.render.view.cover import Cover, cover_view, never
from octree.render.view.coverage import Coverage
from octree.render.view.plan import ViewPlan
from octree.render.view.volume.cells import DRAWN, FAILED, MISSING, Cells
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
    """Shares of the samples that each row of ``cells`` owns. Where there are none all is ideal."""
    owned = np.asarray(counts, np.float64)
    whole = float(owned.sum())
    if not whole:
        return Coverage()
    drawn, off = cells.kinds == DRAWN, cells.levels - cells.wanted

    def share(rows: NDArray[np.bool_]) -> float:
        return float(owned[rows].sum()) / whole

    finer, coarser = share(drawn & (off < 0)), share(drawn & (off > 0))
    failed, missing = share(cells.kinds == FAILED), share(cells.kinds == MISSING)
    # the rest, so that a frame which is all ideal says exactly 1
    ideal = max(0.0, 1.0 - (finer + coarser + failed + missing)) if owned[drawn & (off == 0)].any() else 0.0
    levels = cells.levels[drawn & (owned > 0)]
    by_level = {int(level): share(drawn & (cells.levels == level)) for level in np.unique(levels)}
    return Coverage(ideal, finer, coarser, failed, missing, by_level)
