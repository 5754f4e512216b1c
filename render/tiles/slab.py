"""An image without z as one slab of a volume. Nothing of it is read or stored in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.model import Axis, Box, LevelInfo, PyramidSpec
from octree.pyramid.store.reading import Reading
from octree.render.tiles.cancelling import Levels


@dataclass(frozen=True, slots=True)
class Slab:
    """Where a plane lies on z: voxel size and unit there, and the world position of its middle."""

    size: float
    middle: float
    unit: str | None

    @classmethod
    def of(cls, volume: PyramidSpec, position: float = 0.0) -> Slab:
        """The slab at a level-0 position of a volume."""
        place, level = volume.axis_names.index("z"), volume.levels[0]
        size = level.scale[place]
        return cls(size, level.translation[place] + position * size, volume.axes[place].unit)


class SlabLevels:
    """``Levels`` with an axis z of one voxel, before y. Thread-safe as far as they are."""

    def __init__(self, levels: Levels, slab: Slab) -> None:
        self._levels, self._place = levels, levels.spec.axis_names.index("y")
        self.spec = self._with_z(levels.spec, slab)

    def _with_z(self, spec: PyramidSpec, slab: Slab) -> PyramidSpec:
        def level(own: LevelInfo) -> LevelInfo:
            return replace(
                own,
                shape=self._put(own.shape, 1),
                chunks=self._put(own.chunks, 1),
                shards=None if own.shards is None else self._put(own.shards, 1),
                scale=self._put(own.scale, slab.size),
                translation=self._put(own.translation, slab.middle),
            )

        axes = self._put(spec.axes, Axis("z", slab.unit))
        return replace(spec, axes=axes, levels=tuple(map(level, spec.levels)))

    def _put(self, each: Sequence[Any], own: Any) -> tuple[Any, ...]:
        return (*each[: self._place], own, *each[self._place :])

    def start(self, level: int, box: Box) -> Reading:
        start, stop = ((*ends[: self._place], *ends[self._place + 1 :]) for ends in (box.start, box.stop))
        return _Raised(self._levels.start(level, Box(start, stop)), self._place)

    def read(self, level: int, box: Box) -> NDArray[Any]:
        return self.start(level, box).result()


class _Raised:
    """A read that gives one axis more."""

    def __init__(self, reading: Reading, place: int) -> None:
        self._reading, self._place = reading, place

    def result(self) -> NDArray[Any]:
        return np.expand_dims(self._reading.result(), self._place)

    def cancel(self) -> None:
        self._reading.cancel()

    def wait(self, timeout_s: float) -> bool:
        """Of a read that has ``begun``: see ``Started``."""
        done: bool = self._reading.wait(timeout_s)  # type: ignore[attr-defined] # of those that begin by themselves
        return done
