"""Reads that end when nobody wants them any more: how the cancel token of a load reaches the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box, PyramidSpec
from octree.pyramid.store.reading import Reading
from octree.render.loading.load import current_cancel_token

Close = Callable[[], None]


class GivenUp(Exception):
    """The load that asked for this has been cancelled."""

    def __init__(self) -> None:
        super().__init__("nobody wants this any more")


class Levels(Protocol):
    """Stored levels of an image."""

    @property
    def spec(self) -> PyramidSpec: ...

    def start(self, level: int, box: Box) -> Reading:
        """Begin to read the voxels of ``box``; ``read`` waits for what this gives."""

    def read(self, level: int, box: Box) -> NDArray[Any]: ...


def as_declared(data: NDArray[Any], level: int, spec: PyramidSpec) -> NDArray[Any]:
    """Raises SourceError for voxels of another dtype than the image."""
    if data.dtype != spec.dtype:
        raise SourceError(
            f"level {level} holds {data.dtype}, and the image declares {spec.dtype}",
            hint="octree verify says which levels are not what they should be",
        )
    return data


class CancellableLevels:
    """``Levels`` read for loads. Thread-safe as far as they are."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels

    @property
    def spec(self) -> PyramidSpec:
        return self._levels.spec

    def start(self, level: int, box: Box) -> Reading:
        return self._levels.start(level, box)

    def read(self, level: int, box: Box) -> NDArray[Any]:
        """As ``Levels.read``. Raises GivenUp when the load of this thread is cancelled before the voxels are there, and
        SourceError when they are of another dtype than the image."""
        return as_declared(self._read(level, box), level, self.spec)

    def _read(self, level: int, box: Box) -> NDArray[Any]:
        token = current_cancel_token()
        reading = self._levels.start(level, box)
        if token is None:
            return reading.result()
        token.on_cancel(reading.cancel)
        try:
            return reading.result()
        except Exception as error:
            if token.cancelled:
                raise GivenUp from error
            raise
        finally:
            token.forget_callbacks()


class FreshLevels:
    """``Levels`` that are opened anew once what was opened is out of date: readers keep chunks, tiles and whole images.

    Any thread reads; ``forget`` is for the owner, and costs nothing until somebody reads again."""

    def __init__(self, levels: Levels, close: Close, reopen: Callable[[], tuple[Levels, Close]]) -> None:
        self.spec = levels.spec
        self._levels, self._close, self._reopen = levels, close, reopen
        self._lock = threading.Lock()
        self._old = False

    def forget(self) -> None:
        """The data have changed."""
        self._old = True

    def start(self, level: int, box: Box) -> Reading:
        return self._now().start(level, box)

    def read(self, level: int, box: Box) -> NDArray[Any]:
        return self._now().read(level, box)

    def _now(self) -> Levels:
        """Raises what opening raises, and SourceError when it is another image now."""
        if self._old:
            with self._lock:
                if self._old:
                    self._open_again()
        return self._levels

    def _open_again(self) -> None:
        levels, close = self._reopen()
        now, before = levels.spec, self.spec
        if (now.axes, now.dtype, now.levels, now.rgb) != (
            before.axes,
            before.dtype,
            before.levels,
            before.rgb,
        ):
            close()
            raise SourceError(
                "the source is another image now: its shape, axes, voxel size or dtype have changed",
                hint="open it anew",
            )
        self._close()  # reads that are still under way may fail: nobody wants them any more
        self._levels, self._close, self._old = levels, close, False

    def close(self) -> None:
        with self._lock:
            self._close()
