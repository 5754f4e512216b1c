"""What the shader of a march is told of cells and rays: textures of numbers, and uniforms. Main thread only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.render.gl import colors
from octree.render.gl.page import PageTexture
from octree.render.gl.residents import FORMATS
from octree.render.gl.volume.textures import VolumeTexture
from octree.render.view.volume.cells import DRAWN, Cells
from octree.render.view.volume.sight import Rays

_NOWHERE = (0.0, 0.0, 0.0)
MOST_SCALES, LOOK_SCALE, LOOK_STRIDE = 32, 8, 256
_MOST_HALVINGS = 7
LOOK_CONSTANTS = {
    "LOOK_SCALE": f"{LOOK_SCALE}.0",
    "LOOK_STRIDE": f"{LOOK_STRIDE}.0",
}
"""Numbers that the shader must share: see ``looks_of``."""
UNIFORMS: dict[str, Any] = {
    **dict.fromkeys(("u_first", "u_last", "u_origin", "u_across", "u_down", "u_step"), _NOWHERE),
    **dict.fromkeys(("u_step_across", "u_step_down"), _NOWHERE),
    **dict.fromkeys(("u_counts", "u_world"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("u_range", "u_bounds", "u_limits"), (0.0, 0.0)),
    **dict.fromkeys(("u_rows_high", "u_half", "u_step_world", "u_samples"), 1.0),
    **dict.fromkeys(("u_attenuation", "u_threshold", "u_sample_alpha", "u_depth"), 0.0),
    **dict.fromkeys(("u_at", "u_on"), _NOWHERE),
    "u_classes": (0.0, 0.0),
    **{f"u_scales[{number}]": (1.0, 1.0, 1.0) for number in range(MOST_SCALES)},
    "u_surface": (0.0, 0.0, 0.0, 0.0),
    "u_frame": (0.0, 0.0, 1.0, 1.0),
}

TEXELS = 4
"""Of each row of cells."""
EMPTY: dict[str, NDArray[Any]] = {
    "u_cells": np.zeros((1, 1, 1, 2)),
    "u_planes": np.zeros((3, 2)),
    "u_rows": np.zeros((1, TEXELS, 4)),
    "u_transfer": np.zeros((1, colors.TABLE_SIZE, 4)),
    "u_surfaces": np.zeros((1, 1)),
}
"""Tables of no cell."""

ROWS_HIGH = 4096
"""Rows of cells that lie one above the other in their texture."""


class Table:
    """A texture of numbers, (h, w[, samples]) or (d, h, w), which is made anew only when it must be larger."""

    def __init__(self, kind: type[PageTexture] | type[VolumeTexture], dtype: str, samples: int = 1) -> None:
        self._kind, self._dtype, self._samples = kind, dtype, samples
        self.texture: Any = None

    def send(self, values: NDArray[Any]) -> None:
        axes = 3 if self._kind is VolumeTexture else 2
        shape, texture = values.shape[:axes], self.texture
        if texture is None or any(n > m for n, m in zip(shape, texture.shape, strict=False)):
            if texture is not None:
                shape = tuple(max(n, m) for n, m in zip(shape, texture.shape, strict=False))
                texture.delete()
            formats = FORMATS[self._dtype, self._samples]
            self.texture = texture = self._kind(shape, self._dtype, self._samples, formats)
        texture.write([(np.ascontiguousarray(values, self._dtype), *(0,) * axes)])

    @property
    def texel(self) -> tuple[float, ...]:
        """Size of a texel, where the whole texture is 1: x, y[, z]."""
        return tuple([1.0 / size for size in reversed(self.texture.shape[:-1])])


class Tables:
    """The tables of one program."""

    def __init__(self) -> None:
        self._tables = {
            "u_cells": Table(VolumeTexture, "uint16", 2),
            "u_planes": Table(PageTexture, "float32"),
            "u_rows": Table(PageTexture, "float32", 4),
            "u_transfer": Table(PageTexture, "uint16", 4),
            "u_surfaces": Table(PageTexture, "float32"),
        }

    def send(self, name: str, values: NDArray[Any], tell: Callable[[str, Any], None]) -> None:
        """Bring numbers in; ``tell`` sets a uniform where the texture is another one now."""
        table = self._tables[name]
        before = table.texture
        table.send(values)
        if table.texture is not before:
            tell(name, table.texture)
            if name != "u_transfer":
                tell(f"{name}_texel", table.texel)

    def delete(self) -> None:
        for table in self._tables.values():
            if table.texture is not None:
                table.texture.delete()


def cell_tables(cells: Cells, looks: NDArray[np.uint16] | None = None) -> dict[str, NDArray[Any]]:
    """The cells, and (3, n) their planes of x, y and z, the last repeated. ``looks`` of each row, 0 for those that are not
    looked at; None: all rows are, and nobody asks for more."""
    most = max(map(len, cells.planes))
    planes = [np.pad(planes, (0, most - len(planes)), "edge") for planes in cells.planes]
    entries = np.zeros((*cells.cells.shape, 2), np.uint16)
    entries[..., 0] = cells.cells
    if looks is not None:
        entries[..., 1] = np.concatenate([[0], looks])[cells.cells]
        entries[entries[..., 1] == 0] = 0
    return {"u_cells": entries, "u_planes": np.stack(planes).astype(np.float32)}


def cell_uniforms(cells: Cells) -> dict[str, Any]:
    counts = [len(planes) - 1 for planes in cells.planes]
    return {
        "u_counts": tuple(map(float, counts)),
        "u_half": float(2 ** math.floor(math.log2(max(*counts, 2) - 1))),
        "u_rows_high": float(min(max(len(cells.keys), 1), ROWS_HIGH)),
        "u_first": tuple([float(planes[0]) for planes in cells.planes]),
        "u_last": tuple([float(planes[-1]) for planes in cells.planes]),
    }


def ray_uniforms(rays: Rays, cells: Cells) -> dict[str, Any]:
    apart = [ours - theirs for ours, theirs in zip(rays.centre, cells.centre, strict=True)]
    names = ("across", "down", "step", "step_across", "step_down")
    found = {
        "u_origin": tuple([a + b for a, b in zip(rays.origin, apart, strict=True)]),
        "u_range": (rays.first_k, rays.stop_k),
        "u_depth": rays.depth,
        **{f"u_{name}": tuple(getattr(rays, name)) for name in names},
    }
    if rays.planes is not None:
        at = zip(rays.planes, apart, strict=True)
        found["u_at"] = tuple([0.0 if own is None else own + by for own, by in at])
        found["u_on"] = tuple([float(own is not None) for own in rays.planes])
    return found


def rows_of(
    cells: Cells,
    drawn: Sequence[bool],
    places: NDArray[np.int64],
    outermost: NDArray[np.float32],
    closed: NDArray[np.bool_] | None = None,
    *,
    linear: bool,
) -> NDArray[np.float32]:
    """(h, TEXELS b, 4): texels for each row of the cells, ``ROWS_HIGH`` one above the other in b blocks. ``places`` and
    ``outermost``, the value that decides whether a ray looks, are of the rows that are drawn, in their order; ``closed`` of all,
    see ``closed_faces``. ``linear``: positions are in the page, not in the brick."""
    count, there = max(len(drawn), 1), np.flatnonzero(drawn)
    rows = np.zeros((count, TEXELS, 4), np.float32)
    slots = places[:, 3:0:-1]  # (x, y, z)
    inside = slots if linear else 0
    offset = -np.asarray(cells.corner, np.float64)[there] / np.asarray(cells.scale, np.float64)[there]
    rows[there, 0, :3], rows[there, 0, 3] = offset + inside, outermost
    rows[there, 1, :3] = slots
    if closed is not None:
        # a filter stays half a texel away from a closed face; an open one is never reached
        sizes = places[:, :3:-1]
        rows[there, 2, :3] = np.where(closed[there, :3], 0.5, -1.0) + inside
        rows[there, 3, :3] = np.where(closed[there, 3:], sizes - 0.5, sizes + 1.0) + inside
    return blocks_of(rows)


def looks_of(
    cells: Cells, drawn: Sequence[bool], bounds: NDArray[np.float32], strides: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """What a ray does with each row of the cells, 0 where nothing is drawn: which of the scales it has, is it all one value (1), is
    there a NaN (2), or another value (4), and the ``strides``: so many samples come to one that is taken. And the scales, (n, 3) texels
    per unit. ``bounds`` (n, 3) are of the rows that are drawn."""
    there = np.flatnonzero(drawn)
    per_unit = 1.0 / np.asarray(cells.scale, np.float64)[there]
    scales, numbers = np.unique(per_unit, axis=0, return_inverse=True)
    if len(scales) > MOST_SCALES:
        raise ValueError(f"bricks of {len(scales)} levels in one frame")
    low, high, has_nan = bounds[:, 0], bounds[:, 1], bounds[:, 2] > 0
    looks = np.zeros(len(drawn), np.uint16)
    flags = ((low == high) & ~has_nan) + 2 * has_nan + 4 * (low <= high)
    looks[there] = LOOK_SCALE * numbers.reshape(-1) + flags
    if strides is not None:
        looks[there] += (LOOK_STRIDE * strides[there]).astype(np.uint16)
    return looks, scales


MOST_CELLS = 2**21
MOST_ROWS = 2**16 - 1


def by_halves(cells: Cells, drawn: Sequence[bool], places: NDArray[np.int64]) -> Cells:
    """The same with every brick cut in half along each axis: eight rows for each, those of z, y, x = 0, 0, 0 and 0, 0, 1 first.
    ``places`` are of the rows that are drawn."""
    middles = np.full((len(drawn), 3), np.inf)
    scale, corner = np.asarray(cells.scale, np.float64), np.asarray(cells.corner, np.float64)
    there = np.flatnonzero(drawn)
    # float32 knows these numbers: the shader cuts where the bounds of halves do
    middles[there] = (corner[there] + scale[there] * (places[:, :3:-1] // 2)).astype(np.float32)
    planes, origins = [], []
    for axis, before in enumerate(cells.planes):
        inside = middles[there, axis]
        inside = inside[(inside > before[0]) & (inside < before[-1])]
        planes.append(np.unique(np.concatenate([before, inside])))
        origins.append(np.searchsorted(before, planes[axis][:-1], side="right") - 1)
    x, y, z = planes
    entries = cells.cells[np.ix_(*reversed(origins))].astype(np.int64)
    rows = np.maximum(entries - 1, 0)
    upper = [
        (lows >= middles[rows, axis]).astype(np.int64)
        for axis, lows in enumerate((x[:-1], y[:-1, None], z[:-1, None, None]))
    ]
    halves = 1 + 8 * rows + 4 * upper[2] + 2 * upper[1] + upper[0]
    return Cells(
        planes=(x, y, z),
        cells=np.where(entries > 0, halves, 0).astype(np.uint16),
        keys=tuple([key for key in cells.keys for _ in range(8)]),
        kinds=np.repeat(cells.kinds, 8),
        levels=np.repeat(cells.levels, 8),
        wanted=np.repeat(cells.wanted, 8),
        scale=np.repeat(cells.scale, 8, axis=0),
        corner=np.repeat(cells.corner, 8, axis=0),
        centre=cells.centre,
    )


def blocks_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, TEXELS, 4) as (h, TEXELS b, 4): ``ROWS_HIGH`` rows one above the other in b blocks."""
    count = len(rows)
    high = min(count, ROWS_HIGH)
    blocks = -(-count // high)
    padded = np.zeros((blocks * high, TEXELS, 4), np.float32)
    padded[:count] = rows
    return padded.reshape(blocks, high, TEXELS, 4).swapaxes(0, 1).reshape(high, TEXELS * blocks, 4)


def strides_of(cells: Cells) -> NDArray[np.int64]:
    """How many times coarser each row's brick is than what is wanted there; at least 1."""
    coarser = np.clip(np.asarray(cells.levels) - np.asarray(cells.wanted), 0, _MOST_HALVINGS)
    return np.where(np.asarray(cells.kinds) == DRAWN, 2**coarser, 1)
