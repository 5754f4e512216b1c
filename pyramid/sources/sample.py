"""Sample images: pictures that ship inside a dependency, and a generated one of any size.

Nothing is fetched: scikit-image comes with ome-zarr and carries its pictures in its wheel.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import SourceNotFound

BLOCK_PX = 512
_SPOTS_PER_BLOCK = 24
_REACH_PX = 128


def picture(name: str) -> Path:
    """Path of a picture in scikit-image's wheel, such as ``retina.jpg``. Raises SourceNotFound."""
    spec = find_spec("skimage")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / "data" / name
        if path.is_file():
            return path
    raise SourceNotFound(f"no sample picture {name}", hint="install scikit-image, which carries it")


class GeneratedImage:
    """A uint16 microscopy-like image that is never held as a whole: bright spots of many sizes on a slowly
    varying background, with noise in the lowest bits. Shape (edge_px, edge_px), axes (y, x).

    A value depends on the seed and its place only, so every slicing gives the same pixels. Thread-safe.
    """

    dtype = np.dtype(np.uint16)
    ndim = 2

    def __init__(self, edge_px: int, seed: int = 0) -> None:
        self.shape = (edge_px, edge_px)
        self.seed = seed
        self.chunks = (BLOCK_PX, BLOCK_PX)

    def __getitem__(self, slices: Any) -> NDArray[np.uint16]:
        rows, cols = (s.indices(n)[:2] for s, n in zip(slices, self.shape, strict=True))
        out = np.empty((rows[1] - rows[0], cols[1] - cols[0]), np.uint16)
        for row in range(rows[0] // BLOCK_PX, -(-rows[1] // BLOCK_PX)):
            for col in range(cols[0] // BLOCK_PX, -(-cols[1] // BLOCK_PX)):
                y0, x0 = row * BLOCK_PX, col * BLOCK_PX
                top, left = max(y0, rows[0]), max(x0, cols[0])
                bottom, right = min(y0 + BLOCK_PX, rows[1]), min(x0 + BLOCK_PX, cols[1])
                out[top - rows[0] : bottom - rows[0], left - cols[0] : right - cols[0]] = self._block(
                    row, col
                )[top - y0 : bottom - y0, left - x0 : right - x0]
        return out

    def _block(self, row: int, col: int) -> NDArray[np.uint16]:
        y = np.arange(row * BLOCK_PX, (row + 1) * BLOCK_PX, dtype=np.float32)
        x = np.arange(col * BLOCK_PX, (col + 1) * BLOCK_PX, dtype=np.float32)
        spots = np.concatenate([self._spots(row + dy, col + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
        near = (np.abs(spots[:, 0] - y.mean()) < BLOCK_PX / 2 + _REACH_PX) & (
            np.abs(spots[:, 1] - x.mean()) < BLOCK_PX / 2 + _REACH_PX
        )
        cy, cx, radius, height = spots[near].T[:, :, None]
        # a sum of separable bumps is one matrix product
        bumps = (height * _bump((y - cy) / radius)).T @ _bump((x - cx) / radius)
        wave = np.outer(np.sin(y / 1300), np.cos(x / 1700)) + np.outer(np.cos(y / 5200), np.sin(x / 4100))
        noise = np.random.default_rng((self.seed, row, col)).integers(0, 256, (BLOCK_PX, BLOCK_PX), np.uint16)
        smooth: NDArray[np.uint16] = np.clip(1500 + 700 * wave + bumps, 0, 65000).astype(np.uint16)
        pixels: NDArray[np.uint16] = smooth + noise
        return pixels

    def _spots(self, row: int, col: int) -> NDArray[np.float32]:
        """(n, 4): centre y, centre x, radius in pixels, height, of the spots centred in one block."""
        if row < 0 or col < 0:
            return np.empty((0, 4), np.float32)
        draw = np.random.default_rng((self.seed, row, col, 1)).random((_SPOTS_PER_BLOCK, 4), np.float32)
        corner = np.array([row, col], np.float32) * BLOCK_PX
        size = 4 + 28 * draw[:, 2:3] ** 3
        spots = [corner + draw[:, :2] * BLOCK_PX, size, 2000 + 30000 * draw[:, 3:4] ** 2]
        return np.hstack(spots).astype(np.float32)


def _bump(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Close to a Gaussian, but exactly 0 from 4 radii on, so that blocks agree where they meet."""
    height: NDArray[np.float32] = np.clip(1 - (distance / 4) ** 2, 0, None).astype(np.float32) ** 8
    return height


def generated_stack(seed: int = 0) -> NDArray[np.uint16]:
    """Sixty round nuclei with brighter spots in them, on a dim background: uint16 (48, 192, 256), axes (z, y, x), made for
    voxels twice as deep as they are wide. The same for the same seed."""
    shape, depth = (48, 192, 256), 2.0
    chance = np.random.default_rng(seed)
    z, y, x = (np.arange(n, dtype=np.float32) for n in shape)
    out = np.full(shape, 600.0, np.float32) + chance.normal(0, 60, shape).astype(np.float32)
    for _ in range(60):
        middle, radius = chance.uniform((6, 14, 14), (42, 178, 242)), chance.uniform(8, 16)
        bright = chance.uniform(6_000, 16_000)
        spots = middle + chance.uniform(-0.5, 0.5, (4, 3)) * radius / (depth, 1, 1)
        for at, size, value in [(middle, radius, bright), *[(spot, 1.6, bright) for spot in spots]]:
            far = [
                ((along - here) * scale / size) ** 2
                for along, here, scale in zip((z, y, x), at, (depth, 1, 1), strict=True)
            ]
            inside = far[0][:, None, None] + far[1][:, None] + far[2]
            out += value / (1 + np.exp(np.minimum(8 * (inside - 1), 40)))
    return np.clip(out, 0, 65535).astype(np.uint16)
