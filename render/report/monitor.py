"""The run while it runs: one JSON line per frame, flushed at once, for a terminal, a pipe or a dashboard."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from octree.pyramid.errors import WriteError
from octree.pyramid.foreign import json_text
from octree.pyramid.store.removal import begin_file
from octree.render.output.files import write_error
from octree.render.report.values import FrameReport, plain_json


class Monitor:
    """Writes frames as they are drawn. Owned by the main thread.

    ``target`` is a file (begun anew), or ``-`` for stdout. Each line is a frame of the report plus ``event``
    ("frame") and whatever counters the caller adds; the last line has ``event`` "end" and the totals.
    """

    def __init__(self, target: str, *, stdout: IO[str] | None = None) -> None:
        self._name = target
        self._owned: IO[str] | None = None
        if target == "-":
            self._stream: IO[str] = stdout or sys.stdout
            return
        path = Path(target)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._owned = begin_file(path)
        except OSError as error:
            raise write_error(path, error) from error

    def frame(self, frame: FrameReport, **counters: Any) -> None:
        """One frame; ``counters`` are further numbers of that moment (queued, loading, cache_bytes …)."""
        self._line({"event": "frame", **frame.to_json(), **counters})

    def end(self, totals: dict[str, Any]) -> None:
        self._line({"event": "end", "totals": totals})

    def _line(self, value: dict[str, Any]) -> None:
        try:
            self._stream.write(json_text(plain_json(value), ascii_only=True) + "\n")
            self._stream.flush()
        except BrokenPipeError:  # the reader has gone, as head does: the command ends quietly
            raise
        except OSError as error:
            raise WriteError(
                f"writing the monitor to {self._name} failed: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()
            self._owned = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
