"""Readable lines for people who wonder: one per load (``loader_defaults.log_path``), one per plan of a view
(``octree.log_path``); ``TextLog`` also takes one per slice request (``--slice-log``, ``scene/slices.py``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from octree.pyramid.errors import DestinationError
from octree.pyramid.foreign import printable
from octree.pyramid.store.remote.counts import Counts
from octree.pyramid.store.removal import append_to
from octree.render.loading.load import Arrival
from octree.render.loading.values import LoadRun, Tier, Wish


class TextLog:
    """Appends lines to a text file; does nothing without a path. One owner: the loader's thread."""

    def __init__(self, path: str | None, *, hint: str = "change log_path in the settings file") -> None:
        self._file: IO[str] | None = None
        if path is None:
            return
        try:
            self._file = append_to(Path(path))
        except OSError as error:
            raise DestinationError(
                f"log file {path!r} cannot be written: {error.strerror}",
                hint=hint,
                path=path,
            ) from error

    @property
    def is_on(self) -> bool:
        return self._file is not None

    def write(self, line: str) -> None:
        if self._file is not None:
            self._file.write(printable(line) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def load_line(arrival: Arrival, wanted: bool) -> str:
    """What became of one load."""
    load, key = arrival.load, arrival.load.key
    size = sum([data.nbytes for data in arrival.data or ()])
    facts = (
        f"{arrival.done_ms:12.3f} ms  {arrival.state.value:9}  {key.source[:12]} v{key.version}",
        f"level={key.tile.level} index={key.tile.index} grid={key.tile.grid} pool={load.pool_key}",
        f"try={load.attempt} queued={arrival.started_ms - load.first_ms:.3f}ms read={arrival.read_ms:.3f}ms",
        f"bytes={size} {'wanted' if wanted else 'unwanted'}",
        arrival.error,
    )
    return " ".join(facts).rstrip()


def remote_line(now_ms: float, counts: Counts) -> str:
    """What requests to stores have cost, at the end."""
    facts = " ".join(f"{name}={count}" for name, count in counts.to_json().items())
    return f"{now_ms:12.3f} ms  remote    {facts}"


def plan_line(now_ms: float, generation: int, wishes: Sequence[Wish], begun: int, moved: bool) -> str:
    """What one owner wants from now on."""
    tiers: Counter[Tier] = Counter()
    level = None
    for wish in wishes:
        keys = wish.keys if isinstance(wish, LoadRun) else (wish.key,)
        tiers[wish.tier] += len(keys)
        if wish.tier is Tier.IDEAL and level is None:
            level = next((key.tile.level for key in keys), None)
    counts = " ".join(f"{tier.name.lower()}={tiers[tier]}" for tier in Tier)
    return f"{now_ms:12.3f} ms  plan {generation}  level={level} {counts} begun={begun} moved={moved}"
