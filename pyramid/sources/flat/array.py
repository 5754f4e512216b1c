"""An image that is decoded as a whole, once."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.sources.protocol import Facts


class DecodedArray:
    """An image that ``decode`` gives as a whole; the result is kept, under a lock in which one thread decodes."""

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: str,
        decode: Callable[[], NDArray[Any]],
        *,
        engine: str,
        facts: Facts,
        decoding_bytes: int = 0,
    ) -> None:
        self.shape, self.dtype, self.block = shape, np.dtype(dtype), shape
        self.engine, self.facts = engine, facts
        # decoding happens once, while everyone else waits: it is no part of what each read needs
        self.held_bytes = math.prod(shape) * self.dtype.itemsize + decoding_bytes
        self._path, self._decode = path, decode
        self._image: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def _whole(self) -> NDArray[Any]:
        with self._lock:
            if self._image is None:
                image = self._decode()
                same = np.can_cast(image.dtype, self.dtype, "equiv")
                if image.shape != self.shape or not same:
                    raise SourceError(
                        f"{self._path} decodes to {image.dtype} of shape {image.shape}; its header says "
                        f"{self.dtype} of {self.shape}",
                        hint="the file is damaged; copy it again",
                        path=str(self._path),
                    )
                self._image = image.astype(self.dtype, copy=False)
            return self._image

    def read(self, box: Box) -> NDArray[Any]:
        return self._whole()[box.slices]

    def transient_bytes(self, box: Box) -> int:
        """Nothing: a read is a view."""
        return 0

    def identity(self) -> dict[str, Any]:
        facts = self._path.stat()
        return {"path": str(self._path.absolute()), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}

    def close(self) -> None:
        self._image = None
