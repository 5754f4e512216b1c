"""Coarser levels that nobody stored: made in memory, by workers, tile by tile from the level before.

Shapes, scales, translations and reductions are those of ``octree build``: an image without a pyramid shows the
same pixels as its pyramid would.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.boxes import finer, inside, parts
from octree.pyramid.downsample import Method, reduce_block, reduced_shape
from octree.pyramid.model import Box, LevelInfo, PyramidSpec
from octree.pyramid.store.reading import Later, Reading
from octree.render.loading.load import current_cancel_token
from octree.render.tiles.cancelling import GivenUp, Levels

MEMO_BYTES = 64 * 2**20
"""Made tiles kept for the levels above them; a parent is made right after its children, so few are needed."""
BAND_BYTES = 32 * 2**20
"""Read for a part of what is made."""


_Key = tuple[int, int, Box]
"""(age of the data, level, box)."""


def with_made_levels(spec: PyramidSpec, tile: tuple[int, int], method: Method = "mean") -> PyramidSpec:
    """``spec`` with levels added until y and x fit one ``tile`` (y, x): each halves y and x together; a length
    of 1 stays 1, though its scale doubles like the other's. A voxel's centre is that of its block, but for the
    method "nearest", which takes the block's first."""
    iy, ix = spec.axis_names.index("y"), spec.axis_names.index("x")
    shift = 0.0 if method == "nearest" else 0.5
    levels = list(spec.levels)
    while levels[-1].shape[iy] > tile[0] or levels[-1].shape[ix] > tile[1]:
        last = levels[-1]
        factors = tuple(2 if i in (iy, ix) else 1 for i in range(len(last.shape)))
        levels.append(
            LevelInfo(
                path="",
                shape=reduced_shape(last.shape, factors),
                chunks=tuple(
                    tile[0] if i == iy else tile[1] if i == ix else c for i, c in enumerate(last.chunks)
                ),
                shards=None,
                scale=tuple(s * f for s, f in zip(last.scale, factors, strict=True)),
                translation=tuple(
                    t + s * (f - 1) * shift
                    for t, s, f in zip(last.translation, last.scale, factors, strict=True)
                ),
                codec="",
            )
        )
    return replace(spec, levels=tuple(levels))


def nodata_of(spec: PyramidSpec) -> int | None:
    """The value that does not count; of floats it is NaN, which never does."""
    nodata = spec.metadata.get("nodata")
    return nodata if isinstance(nodata, int) and spec.dtype.kind in "iu" else None


class MadeLevels:
    """Stored levels and the ones made from them. Thread-safe: one lock owns the memo; two workers that need the
    same tile make it once."""

    def __init__(self, stored: Levels, tile: tuple[int, int], method: Method) -> None:
        self._stored = stored
        self._count = len(stored.spec.levels)
        self._tile, self._method = tile, method
        self._nodata = nodata_of(stored.spec)
        self.spec = with_made_levels(stored.spec, tile, method)
        names = self.spec.axis_names
        self._plane = (names.index("y"), names.index("x"))
        self._lock = threading.Lock()
        self._memo: OrderedDict[_Key, NDArray[Any]] = OrderedDict()
        self._memo_bytes = self._age = 0
        self._making: dict[_Key, Future[NDArray[Any]]] = {}

    def forget(self) -> None:
        """The stored data have changed."""
        with self._lock:
            self._age += 1
            self._memo.clear()
            self._memo_bytes = 0

    def start(self, level: int, box: Box) -> Reading:
        """As ``read``; a tile that must be made is made by who asks for the result."""
        if level < self._count:
            return self._stored.start(level, box)
        return Later(lambda: self.read(level, box))

    def read(self, level: int, box: Box) -> NDArray[Any]:
        """The voxels of ``box``. Of a made level every box is made once, so it should be that of a tile: in the plane of y
        and x the tiles below it are shared, across it only what the box needs is read.

        Raises what reading the stored level raises, and GivenUp when the load that asks has been cancelled."""
        if level < self._count:
            return self._stored.read(level, box)
        token = current_cancel_token()
        while True:
            # a tile of a coarse level stands for a large part of the image: look up now and then
            if token is not None and token.cancelled:
                raise GivenUp
            key, mine, others = self._claim(level, box)
            if isinstance(others, np.ndarray):
                return others
            if others is None:
                return self._make_for_all(key, mine)
            try:
                # waits only for a thread that works on a finer level or on this very tile: no cycle
                return others.result()
            except GivenUp:  # the other load was cancelled, this one was not
                continue

    def _claim(
        self, level: int, box: Box
    ) -> tuple[_Key, Future[NDArray[Any]], NDArray[Any] | Future[NDArray[Any]] | None]:
        """(key, a new future, what there is already: the tile, the future of who makes it, or None: it is for the
        caller to make)."""
        mine: Future[NDArray[Any]] = Future()
        with self._lock:
            key = (self._age, level, box)
            done = self._memo.get(key)
            if done is not None:
                self._memo.move_to_end(key)
                return key, mine, done
            others = self._making.get(key)
            if others is None:
                self._making[key] = mine
            return key, mine, others

    def _make_for_all(self, key: _Key, mine: Future[NDArray[Any]]) -> NDArray[Any]:
        try:
            data = self._make(key[1], key[2])
            self._keep(key, data)
            mine.set_result(data)
            return data
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._making[key]

    def _keep(self, key: _Key, data: NDArray[Any]) -> None:
        with self._lock:
            self._memo[key] = data
            self._memo_bytes += data.nbytes
            while self._memo_bytes > MEMO_BYTES:
                self._memo_bytes -= self._memo.popitem(last=False)[1].nbytes

    def _make(self, level: int, box: Box) -> NDArray[Any]:
        shape = self.spec.levels[level - 1].shape
        factors = tuple(2 if i in self._plane else 1 for i in range(len(shape)))

        def made(part: Box) -> NDArray[Any]:
            data = self._read_below(level - 1, finer(part, factors, shape))
            return reduce_block(data, factors, self._method, self._nodata)

        bands = list(self._bands(box))
        if len(bands) == 1:
            return made(box)
        out = np.empty(box.shape, self.spec.dtype)
        for band in bands:
            out[inside(band, box)] = made(band)
        return out

    def _bands(self, box: Box) -> Iterator[Box]:
        """``box`` cut across the axes that are not halved, so that what is read for a part is not much."""
        across = [axis for axis in range(len(box.shape)) if axis not in self._plane]
        longest = max(across, key=lambda axis: box.shape[axis], default=0)
        read_bytes = 4 * math.prod(box.shape) * self.spec.dtype.itemsize
        edges = list(box.stop)
        if across and read_bytes > BAND_BYTES:
            edges[longest] = max(1, BAND_BYTES * box.shape[longest] // read_bytes)
        return parts(box, tuple(edges))

    def _read_below(self, level: int, box: Box) -> NDArray[Any]:
        if level < self._count:
            return self._stored.read(level, box)
        # made levels have tiles of one whole plane; a box in the plane begins where a tile does
        edges = dict(zip(self._plane, self._tile, strict=True))
        out = np.empty(box.shape, self.spec.dtype)
        for part in parts(box, tuple(edges.get(axis, stop) for axis, stop in enumerate(box.stop))):
            out[inside(part, box)] = self.read(level, part)
        return out
