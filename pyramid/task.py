"""One task of a build: read a block, reduce it in memory, write every level that fits.

A task is a pair of numbers (round, place in its grid); all it needs to know is in the plan, so it can run in
any thread, process or machine that sees SOURCE and DEST, any number of times, with the same result.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.downsample import reduce_block
from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.plan import BuildPlan
from octree.pyramid.store import LevelWriter, write_context, write_error


class Task(NamedTuple):
    """Which task: ``round`` counts the plan's rounds, ``place`` is its place in their grid, in C order."""

    round: int
    place: int


@dataclass(frozen=True, slots=True)
class Hole:
    """A part of SOURCE (level-0 voxels) that could not be read and was filled instead."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    error: str

    def to_json(self) -> dict[str, Any]:
        return {"start": list(self.start), "stop": list(self.stop), "error": self.error}


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task did. ``bytes_read`` are decoded bytes of SOURCE, ``bytes_written`` and ``files`` what lies on disk."""

    task: Task
    bytes_read: int
    bytes_written: int
    files: int
    holes: tuple[Hole, ...] = ()


class Readable(Protocol):
    """The part of ``source.ArraySource`` that a task needs."""

    @property
    def read_shape(self) -> tuple[int, ...]: ...
    def read(self, box: Box) -> NDArray[Any]: ...


class TaskRunner:
    """Runs tasks of one plan. Thread-safe: tasks own disjoint files, arrays are opened once, under a lock."""

    def __init__(self, plan: BuildPlan, source: Readable, folder: Path, *, fill_holes: bool) -> None:
        self._plan, self._source, self._folder, self._fill_holes = plan, source, folder, fill_holes
        self._lock = threading.Lock()
        self._writers: dict[int, LevelWriter] = {}
        self._context = write_context(plan.workers)

    def _writer(self, level: int) -> LevelWriter:
        with self._lock:
            if level not in self._writers:
                info = self._plan.spec.levels[level]
                self._writers[level] = LevelWriter(self._folder, info, self._plan.zarr_format, self._context)
            return self._writers[level]

    def run(self, task: Task) -> TaskResult:
        """Do one task. Raises SourceError or WriteError; then it may be run again."""
        plan, steps = self._plan, self._plan.rounds[task.round]
        block, holes = self._input(task)
        read = block.nbytes if steps.first == 0 else 0
        pending: list[tuple[LevelWriter, Box, Any]] = []
        for level in range(steps.first, steps.last + 1):
            if any(f > 1 for f in plan.factors[level]):
                block = reduce_block(block, plan.factors[level], plan.method, plan.nodata)
            box, writer = plan.block(task.round, task.place, level), self._writer(level)
            pending.append((writer, box, writer.write(box, block)))
        written = files = 0
        for writer, box, future in pending:
            try:
                future.result()
            except (ValueError, OSError, RuntimeError) as error:
                raise write_error(
                    f"level {writer.level.path} cannot be written", writer.path, error
                ) from error
            sizes = [size for size in map(_size, writer.files(box)) if size is not None]
            written, files = written + sum(sizes), files + len(sizes)
        return TaskResult(task, read, written, files, holes)

    def _input(self, task: Task) -> tuple[NDArray[Any], tuple[Hole, ...]]:
        plan, first = self._plan, self._plan.rounds[task.round].first
        box = plan.input_box(task.round, task.place)
        if first:
            return self._writer(first - 1).read(box), ()
        try:
            return np.ascontiguousarray(self._source.read(box)), ()
        except SourceError:
            if not self._fill_holes:
                raise
        return self._read_around_holes(box)

    def _read_around_holes(self, box: Box) -> tuple[NDArray[Any], tuple[Hole, ...]]:
        """Read cell by cell of the source's own grid; cells that fail are filled and listed."""
        out = np.full(box.shape, self._plan.nodata or 0, self._plan.spec.dtype)
        holes = []
        for cell in _cells(box, self._source.read_shape):
            place = tuple(
                slice(a - o, b - o) for a, b, o in zip(cell.start, cell.stop, box.start, strict=True)
            )
            try:
                out[place] = self._source.read(cell)
            except SourceError as error:
                holes.append(Hole(cell.start, cell.stop, error.message))
        return out, tuple(holes)


def _cells(box: Box, grid: tuple[int, ...]) -> Iterator[Box]:
    """The parts of ``box`` in each cell of a grid of blocks that begins at 0."""
    spans = []
    for a, b, edge in zip(box.start, box.stop, grid, strict=True):
        cuts = [a, *range((a // edge + 1) * edge, b, edge), b]
        spans.append(list(itertools.pairwise(cuts)))
    for combination in itertools.product(*spans):
        start, stop = zip(*combination, strict=True)
        yield Box(start, stop)


def _size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None  # nothing but fill values: not stored
