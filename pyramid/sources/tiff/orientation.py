"""Pages that stand another way round than the first: no array has them both as they are to be seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.sources.protocol import RawArray
from octree.pyramid.sources.tiff.far import FilePath, positioned
from octree.pyramid.sources.tiff.ifd import Directories

ORIENTATION = 274


class OneWayRound:
    """``raw``, of which each page is looked at before it is read: is its orientation that of the first? Owns ``raw``."""

    def __init__(self, raw: RawArray, path: FilePath, tiff: Any, series: Any, orientation: int) -> None:
        self._raw, self._path, self._own = raw, path, orientation
        self.shape, self.dtype, self.block = raw.shape, raw.dtype, raw.block
        self.engine, self.facts, self.held_bytes = raw.engine, raw.facts, raw.held_bytes
        self.transient_bytes, self.identity = raw.transient_bytes, raw.identity
        self._lead = tuple(series.shape[: len(series.shape) - len(series.keyframe.shape)])
        self._offsets = [page.offset for page in series]
        self._seen = {0}
        self._file = positioned(path)
        self._directories = Directories(self._file, tiff.tiff)

    def read(self, box: Box) -> NDArray[Any]:
        """Raises SourceError for a page that stands another way round."""
        if len(self._seen) < len(self._offsets) == math.prod(self._lead):
            lead = len(self._lead)
            places = (range(a, b) for a, b in zip(box.start[:lead], box.stop[:lead], strict=True))
            for number in np.ravel_multi_index(np.ix_(*places), self._lead).ravel().tolist():
                self._check(number)
        return self._raw.read(box)

    def _check(self, number: int) -> None:
        if number in self._seen:
            return
        (own,) = self._directories.tags(self._offsets[number], (ORIENTATION,)).get(ORIENTATION, (1,))[:1]
        if own != self._own:
            raise SourceError(
                f"{self._path}: page {number} stands another way round (orientation {own}) than the first ({self._own})",
                hint="write the pages of each orientation to a file of their own, as tiffsplit does",
                path=str(self._path),
                page=number,
            )
        self._seen.add(number)

    def close(self) -> None:
        self._raw.close()
        self._file.close()
