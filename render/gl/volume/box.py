"""The box of what is shown, with ticks and an axes mark; outlines of bricks that failed. Main thread only.

Lines lie over the volume. Edges that the box itself would hide are fainter, as far as it is seen from outside; nothing else is
hidden, since a volume has no surface that could hide it. From the corner of the lowest coordinates x is red, y green, z blue,
each with its letter at its far end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.grid import Region
from octree.render.gl.library import Visual, gloo, shader_pair
from octree.render.gl.marks import FAILED_COLOR, TRANSLUCENT
from octree.render.gl.quads import corner_indices
from octree.render.view.volume.sight import Sight

AXIS_COLORS = ((1.0, 0.3, 0.3), (0.35, 0.9, 0.35), (0.45, 0.6, 1.0))
EDGE_COLOR = (0.75, 0.75, 0.75)
FAINT = 0.35
TICK_PX = 5.0
TICKS_APART_PX = 40.0
LETTER_PX = 9.0
_LETTERS: tuple[tuple[tuple[float, float, float, float], ...], ...] = (
    ((0, 0, 1, 1), (0, 1, 1, 0)),
    ((0, 0, 0.5, 0.5), (1, 0, 0.5, 0.5), (0.5, 0.5, 0.5, 1)),
    ((0, 0, 1, 0), (1, 0, 0, 1), (0, 1, 1, 1)),
)
"""Strokes (x0, y0, x1, y1) of X, Y and Z in a square, from its top left."""
_VERTEX = np.dtype([("a_position", np.float32, 2), ("a_across", np.float32, 2), ("a_color", np.float32, 4)])


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """n lines: ``ends`` (n, 2, 2) from and to, (x, y) in pixels of the frame; ``colors`` (n, 4) RGBA; ``widths`` (n,) px."""

    ends: NDArray[np.float64]
    colors: NDArray[np.float64]
    widths: NDArray[np.float64]


def project(sight: Sight, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(…, 3) world points relative to the target → (…, 2) pixels of the frame."""
    scale = np.asarray(sight.px_per_world(points @ np.array(sight.forward)), np.float64)
    width, height = sight.size_px
    x, y = points @ np.array(sight.right), points @ np.array(sight.down)
    pixels: NDArray[np.float64] = np.stack([x * scale + width / 2, y * scale + height / 2], axis=-1)
    return pixels


def clipped(sight: Sight, segments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of segments (n, 2, 3), world relative to the target, what lies in front of the eye."""
    if math.isinf(sight.distance):
        return segments
    nearest = -0.999 * sight.distance
    depths = segments @ np.array(sight.forward)
    kept: NDArray[np.float64] = segments[(depths > nearest).any(axis=1)].copy()
    depths = depths[(depths > nearest).any(axis=1)]
    for end, other in ((0, 1), (1, 0)):
        behind = depths[:, end] < nearest
        part = (nearest - depths[behind, end]) / (depths[behind, other] - depths[behind, end])
        kept[behind, end] += part[:, None] * (kept[behind, other] - kept[behind, end])
    return kept


def _edges(region: Region) -> list[tuple[int, NDArray[np.float64], tuple[int, ...]]]:
    """The twelve edges of a box: (axis, (2, 3) ends as base coordinates x, y, z, on which side of the other two axes)."""
    low, high = np.array(region.low[::-1]), np.array(region.high[::-1])
    found = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        for sides in product((0, 1), repeat=2):
            ends = np.stack([low, high])
            for other, side in zip(others, sides, strict=True):
                ends[:, other] = high[other] if side else low[other]
            found.append((axis, ends, sides))
    return found


def _seen_faces(sight: Sight) -> NDArray[np.bool_]:
    """(3, 2) whether the low and the high side along x, y, z is turned to the viewer; all of them from within the box."""
    corners = sight.world(np.array([sight.box.low[::-1], sight.box.high[::-1]]))
    forward = np.array(sight.forward)
    if math.isinf(sight.distance):
        seen = np.stack([forward > 1e-9, forward < -1e-9], axis=1)
    else:
        eye = -sight.distance * forward
        seen = np.stack([eye < corners[0], eye > corners[1]], axis=1)
    return np.asarray(seen if seen.any() else ~seen)


def box_lines(sight: Sight, failed: Sequence[Region] = (), *, box: bool = True) -> Lines:
    """The lines of a view: those of ``sight.box`` if ``box``, and around ``failed`` regions (base coordinates, z, y, x)."""
    ends: list[NDArray[np.float64]] = []
    colors: list[tuple[float, ...]] = []
    widths: list[float] = []

    def add(segments: NDArray[np.float64], color: tuple[float, ...], alpha: float, width: float) -> None:
        """``segments`` (n, 2, 2) of the frame."""
        ends.append(segments)
        colors.extend([(*color, alpha)] * len(segments))
        widths.extend([width] * len(segments))

    for region in [each.intersect(sight.box) for each in failed]:
        if region.is_empty:
            continue
        edges = np.array([edge for _, edge, _ in _edges(region)])
        add(project(sight, clipped(sight, sight.world(edges))), FAILED_COLOR, 1.0, 1.0)
    if box and not sight.box.is_empty:
        seen, middle = _seen_faces(sight), np.array(sight.box.centre[::-1])
        for axis, edge, sides in _edges(sight.box):
            others = [other for other in range(3) if other != axis]
            is_seen = any(seen[other, side] for other, side in zip(others, sides, strict=True))
            is_axis = sides == (0, 0)
            alpha = 1.0 if is_seen else FAINT
            color = AXIS_COLORS[axis] if is_axis else EDGE_COLOR
            shown = clipped(sight, sight.world(edge[None]))
            add(project(sight, shown), color, alpha, 2.0 if is_axis else 1.0)
            if len(shown) and is_seen:
                add(_ticks(sight, axis, edge, middle), color, alpha, 1.0)
            if is_axis and len(shown) and not (shown[0, 1] != sight.world(edge[1:])[0]).any():
                add(_letter(sight, axis, edge), color, alpha, 1.5)
    return Lines(
        np.concatenate([np.zeros((0, 2, 2)), *ends]),
        np.array(colors, np.float64).reshape(-1, 4),
        np.array(widths, np.float64),
    )


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= least * (1 - 1e-9))


def _ticks(sight: Sight, axis: int, edge: NDArray[np.float64], middle: NDArray[np.float64]) -> Any:
    """Short lines away from the box at round base coordinates of an edge, no closer than ``TICKS_APART_PX``."""
    low, high = float(edge[0, axis]), float(edge[1, axis])
    scale = float(sight.px_per_world(float(sight.depths(edge.mean(axis=0, keepdims=True))[0])))
    per_px = 1 / max(scale * sight.voxel[axis], 1e-9) if math.isfinite(scale) else high - low
    step = max(nice_step(max(TICKS_APART_PX * per_px, (high - low) / 200)), 1.0)
    at = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    points = np.repeat(edge[:1], len(at), axis=0)
    points[:, axis] = at
    world = sight.world(points)
    in_front = world @ np.array(sight.forward) > -0.999 * sight.distance
    begin = project(sight, world[in_front])
    # away from the middle of the box, across the edge, as both are seen
    ends = project(sight, sight.world(np.stack([edge.mean(axis=0), middle, edge[0], edge[1]])))
    outwards, along = ends[0] - ends[1], ends[3] - ends[2]
    length = float(np.hypot(*along))
    if not np.isfinite(ends).all() or length < 2 * TICK_PX:
        return np.zeros((0, 2, 2))
    across = np.array([-along[1], along[0]]) / length
    across *= TICK_PX if across @ outwards >= 0 else -TICK_PX
    return np.stack([begin, begin + across], axis=1)


def _letter(sight: Sight, axis: int, edge: NDArray[np.float64]) -> Any:
    """The axis's letter beyond its far end; beside it where the frame ends there."""
    near, far = project(sight, sight.world(edge))
    way = far - near
    length = float(np.hypot(*way))
    if not np.isfinite(way).all() or length < LETTER_PX:
        return np.zeros((0, 2, 2))
    corner = far + way / length * LETTER_PX * 1.4 - LETTER_PX / 2
    size = np.array(sight.size_px)
    if ((far >= 0) & (far <= size)).all():
        corner = np.clip(corner, 1, np.maximum(size - LETTER_PX - 1, 1))
    return corner + np.array(_LETTERS[axis]).reshape(-1, 2, 2) * LETTER_PX


def line_vertices(lines: Lines) -> NDArray[np.void]:
    """(4 n,) corners of rectangles along lines, half a pixel wider on each side for their soft edges."""
    vertices = np.zeros((len(lines.ends), 4), _VERTEX)
    way = lines.ends[:, 1] - lines.ends[:, 0]
    length = np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-9)[:, None]
    along, half = way / length, (lines.widths / 2)[:, None]
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) * (half + 0.5)
    overlap = along * half  # lines that meet at a corner leave no gap
    for number, (end, sign) in enumerate(((0, -1), (0, 1), (1, -1), (1, 1))):
        beyond = overlap if end else -overlap
        vertices["a_position"][:, number] = lines.ends[:, end] + beyond + sign * side
        vertices["a_across"][:, number, 0] = sign * (half + 0.5)[:, 0]
        vertices["a_across"][:, number, 1] = half[:, 0]
    vertices["a_color"] = lines.colors[:, None]
    return vertices.ravel()


class BoxVisual(Visual):  # type: ignore[misc] # vispy has no type information
    """Draws ``box_lines``; over all volumes of a view."""

    def __init__(self, *, show_box: bool = True) -> None:
        super().__init__(*shader_pair("volume/box", ""))
        self.show_box = show_box
        self._draw_mode = "triangles"
        self._vertices: NDArray[np.void] = np.zeros(0, _VERTEX)
        self._buffer = gloo.VertexBuffer(np.zeros(4, _VERTEX))
        self._indices = gloo.IndexBuffer(corner_indices(1))
        self.set_gl_state(None, depth_test=False, cull_face=False, **TRANSLUCENT)
        self.shared_program["u_part"] = (0.0, 0.0, 1.0, 1.0)
        self.shared_program["u_up"] = 1.0

    def set_box(self, sight: Sight, failed: Sequence[Region] = ()) -> None:
        """Draw this from now on: see ``box_lines``."""
        self._vertices = line_vertices(box_lines(sight, failed, box=self.show_box))
        self.update()

    def draw_part(self, offset_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """Draw one part of the frame; see ``Canvas.draw``."""
        self.shared_program["u_part"] = (*offset_px, *size_px)
        self.draw()

    def draw(self) -> None:
        """Draw now, into the current framebuffer."""
        if not self.visible or not len(self._vertices):
            return
        self._configure_gl_state()
        self._buffer.set_data(self._vertices)
        self.shared_program.bind(self._buffer)
        self._indices.set_data(corner_indices(len(self._vertices) // 4))
        self._program.draw("triangles", self._indices)

    def _prepare_transforms(self, view: Any) -> None:
        """Lines are where they are in the frame."""
