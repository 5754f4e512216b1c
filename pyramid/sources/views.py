"""A RawArray seen in another way: values converted, or channels and samples as one axis."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.model import Box, Channel
from octree.pyramid.sources.protocol import Facts, RawArray


class ConvertedArray:
    """``raw`` with ``convert`` applied to what is read; ``samples`` adds a last axis s of uint8."""

    def __init__(
        self, raw: RawArray, convert: Callable[[NDArray[Any]], NDArray[Any]], samples: int = 0
    ) -> None:
        self._raw, self._convert, self._samples = raw, convert, samples
        tail = (samples,) if samples else ()
        self.shape, self.block = raw.shape + tail, raw.block + tail
        self.dtype: np.dtype[Any] = np.dtype(np.uint8) if samples else raw.dtype
        self.engine, self.held_bytes, self.facts = raw.engine, raw.held_bytes, raw.facts
        if samples and raw.facts.axes:
            self.facts = dataclasses.replace(raw.facts, axes=raw.facts.axes + "s")

    def read(self, box: Box) -> NDArray[Any]:
        if not self._samples:
            return self._convert(self._raw.read(box))
        data = self._convert(self._raw.read(Box(box.start[:-1], box.stop[:-1])))
        return data[..., box.start[-1] : box.stop[-1]]

    def transient_bytes(self, box: Box) -> int:
        own = Box(box.start[:-1], box.stop[:-1]) if self._samples else box
        pixels = math.prod(own.shape)
        looked_up = pixels * (8 + self._samples) if self._samples else 0
        return self._raw.transient_bytes(own) + pixels * self._raw.dtype.itemsize + looked_up

    def identity(self) -> dict[str, Any]:
        return self._raw.identity()

    def close(self) -> None:
        self._raw.close()


class Said:
    """``raw``, of which ``facts`` are to be said."""

    def __init__(self, raw: RawArray, facts: Facts) -> None:
        self._raw, self.facts = raw, facts
        self.shape, self.dtype, self.block = raw.shape, raw.dtype, raw.block
        self.engine, self.held_bytes = raw.engine, raw.held_bytes
        self.read, self.transient_bytes = raw.read, raw.transient_bytes
        self.identity, self.close = raw.identity, raw.close


def turned(raw: RawArray, orientation: int, axes: str | None = None) -> RawArray:
    """``raw`` as it is to be seen, by a number from 1 to 8 as EXIF and TIFF have them; ``axes`` are those of ``raw``, among
    them y and x."""
    if orientation not in range(2, 9):
        return raw
    letters = axes or raw.facts.axes or ""
    return Turned(raw, letters.index("y"), letters.index("x"), orientation)


class Turned:
    """``raw`` with its rows and columns (axes ``row`` and ``column``) in another order: each the other way round, or one for
    the other. The axes keep their places."""

    def __init__(self, raw: RawArray, row: int, column: int, orientation: int) -> None:
        self._raw, self._row, self._column = raw, row, column
        self._swapped = orientation >= 5
        # of the seen image: which of its axes run against the stored ones
        flips = ((row, orientation in (3, 4, 7, 8)), (column, orientation in (2, 3, 6, 7)))
        self._flipped = tuple(axis for axis, against in flips if against)
        self.shape, self.block = self._exchange(raw.shape), self._exchange(raw.block)
        self.dtype, self.engine, self.held_bytes = raw.dtype, raw.engine, raw.held_bytes
        facts, names = raw.facts, {"x": "y", "y": "x"} if self._swapped else {}
        self.facts = dataclasses.replace(
            facts,
            voxel_size={names.get(axis, axis): size for axis, size in facts.voxel_size.items()},
            units={names.get(axis, axis): unit for axis, unit in facts.units.items()},
        )

    def _exchange(self, values: tuple[int, ...]) -> tuple[int, ...]:
        if not self._swapped:
            return tuple(values)
        changed = list(values)
        changed[self._row], changed[self._column] = values[self._column], values[self._row]
        return tuple(changed)

    def _own_box(self, box: Box) -> Box:
        start, stop = list(box.start), list(box.stop)
        for axis in self._flipped:
            start[axis], stop[axis] = self.shape[axis] - box.stop[axis], self.shape[axis] - box.start[axis]
        return Box(self._exchange(tuple(start)), self._exchange(tuple(stop)))

    def read(self, box: Box) -> NDArray[Any]:
        data = self._raw.read(self._own_box(box))
        if self._swapped:
            data = data.swapaxes(self._row, self._column)
        return np.flip(data, self._flipped) if self._flipped else data

    def transient_bytes(self, box: Box) -> int:
        return self._raw.transient_bytes(self._own_box(box))

    def identity(self) -> dict[str, Any]:
        return self._raw.identity()

    def close(self) -> None:
        self._raw.close()


class MergedSamples:
    """``raw`` with axes ``letters``, both c and s among them, seen with one: s if c has length 1, else c.

    The merged axis stands where c stood and runs through the samples of the first channel, then of the next.
    """

    def __init__(self, raw: RawArray, letters: str) -> None:
        self._raw = raw
        self._c, self._s = letters.index("c"), letters.index("s")
        self._samples = raw.shape[self._s]
        self.letters = letters.replace("s", "").replace("c", "s" if raw.shape[self._c] == 1 else "c")
        self.shape, self.block = self._merge(raw.shape), self._merge(raw.block)
        self.dtype, self.engine, self.held_bytes = raw.dtype, raw.engine, raw.held_bytes
        channels = raw.facts.channels
        if len(channels) == raw.shape[self._c]:
            channels = tuple(
                Channel(f"{channel.label} {sample + 1}".strip())
                for channel in channels
                for sample in range(self._samples)
            )
        self.facts = dataclasses.replace(raw.facts, axes=self.letters, channels=channels)

    def _merge(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        merged = list(lengths)
        merged[self._c] *= lengths[self._s]
        del merged[self._s]
        return tuple(merged)

    def _own_box(self, box: Box) -> tuple[Box, int]:
        """The box of ``raw`` that covers ``box``, and how many of its first samples are too many."""
        place = self._c - (self._s < self._c)
        start, stop = list(box.start), list(box.stop)
        first, skip = divmod(start[place], self._samples)
        start[place], stop[place] = first, -(-stop[place] // self._samples)
        start.insert(self._s, 0)
        stop.insert(self._s, self._samples)
        return Box(tuple(start), tuple(stop)), skip

    def read(self, box: Box) -> NDArray[Any]:
        own, skip = self._own_box(box)
        data = self._raw.read(own)
        place = self._c - (self._s < self._c)
        together = np.moveaxis(data, self._s, place + 1)
        shape = list(box.shape)
        shape[place] = own.shape[self._c] * self._samples
        merged = together.reshape(shape)
        part: NDArray[Any] = np.take(merged, range(skip, skip + box.shape[place]), axis=place)
        return part

    def transient_bytes(self, box: Box) -> int:
        own, _ = self._own_box(box)
        return self._raw.transient_bytes(own) + 2 * math.prod(own.shape) * self.dtype.itemsize

    def identity(self) -> dict[str, Any]:
        return self._raw.identity()

    def close(self) -> None:
        self._raw.close()
