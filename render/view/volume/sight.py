"""What a camera around a volume shows of one layer, and the rays of its pixels. Pure.

Vectors are (x, y, z), as OpenGL has them; regions and lattices have (z, y, x) as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Vec: TypeAlias = tuple[float, float, float]
"""(x, y, z)."""

EVER = 1e9
"""More samples than any ray has."""


@dataclass(frozen=True, slots=True, eq=False)
class Rays:
    """The rays of all pixels of a frame, in base coordinates of one layer, relative to ``centre``.

    The pixel of column i and row j, counted from the top left, looks from ``origin + (i + 1/2) across + (j + 1/2) down`` along
    ``step + (i + 1/2) step_across + (j + 1/2) step_down``; the last two are 0 without perspective. Its sample k lies
    k + 1/2 such steps from there: on planes across the view axis, the same for all pixels.

    ``size_px``     (width, height).
    ``centre``      base coordinates: what is near it is exact in float32, too.
    ``first_k``, ``stop_k``     samples from the first, before the other, exist: those of a slab, or in front of the eye.
    ``step_world``  how far two planes of samples lie apart, in level-0 voxels of x.
    """

    size_px: tuple[int, int]
    centre: Vec
    origin: Vec
    across: Vec
    down: Vec
    step: Vec
    step_across: Vec
    step_down: Vec
    first_k: float
    stop_k: float
    step_world: float
