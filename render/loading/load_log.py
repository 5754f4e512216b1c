"""A readable line per load, for ``log_path``."""

from __future__ import annotations

from typing import TextIO

from octree.pyramid.errors import DestinationError
from octree.render.loading.load import Arrival


class LoadLog:
    """Appends to a text file; does nothing without a path. One owner: the loader's thread."""

    def __init__(self, path: str | None) -> None:
        self._file: TextIO | None = None
        if path is None:
            return
        try:
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 closed by close()
        except OSError as error:
            raise DestinationError(
                f"log file {path!r} cannot be written: {error.strerror}",
                hint="change log_path in the settings file",
                path=path,
            ) from error

    def write(self, arrival: Arrival, wanted: bool) -> None:
        if self._file is None:
            return
        load = arrival.load
        size = 0 if arrival.data is None else arrival.data.nbytes
        self._file.write(
            f"{arrival.done_ms:12.3f} ms  {arrival.state.value:9}  {load.key.source[:12]} v{load.key.version} "
            f"level={load.key.tile.level} index={load.key.tile.index} grid={load.key.tile.grid} "
            f"pool={load.pool_key} try={load.attempt} queued={arrival.started_ms - load.first_ms:.3f}ms "
            f"read={arrival.read_ms:.3f}ms bytes={size} {'wanted' if wanted else 'unwanted'} {arrival.error}".rstrip()
            + "\n"
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
