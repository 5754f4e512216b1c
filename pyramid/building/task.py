"""One task of a build: read a block, reduce it in memory, write every level that fits.

A task is a pair of numbers (round, place in its grid); all it needs to know is in the plan, so it can run in
any thread, process or machine that sees SOURCE and DEST, any number of times, with the same result.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from octree.pyramid.boxes import around, blocks_met, inside, overlap, parts
from octree.pyramid.building.plan import BuildPlan
from octree.pyramid.downsample import reduce_block
from octree.pyramid.errors import OctreeError, OutsideError, SourceError, SourceWarning
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.memory import use_one_heap
from octree.pyramid.model import Box
from octree.pyramid.sources.source import open_source
from octree.pyramid.store.arrays import LevelWriter, write_context
from octree.pyramid.store.named import Where, place_of
from octree.pyramid.store.place import End
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions

SLABS = 16  # that each of several threads reads of one block: what is on its way is little beside it


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
    """What a task did. ``bytes_read`` are decoded bytes of SOURCE, ``bytes_written`` and ``files`` what lies on disk;
    ``digest`` of how each of these files ends."""

    task: Task
    bytes_read: int
    bytes_written: int
    files: int
    holes: tuple[Hole, ...] = ()
    digest: str = ""


def digest_of(ends: Sequence[End]) -> str:
    """Of the lengths and last bytes of a task's files, in the order of its levels: equal for the same files."""
    found = hashlib.blake2b(digest_size=8)
    for end in ends:
        found.update(end.size.to_bytes(8, "little") + end.last)
    return found.hexdigest()


class Readable(Protocol):
    """The part of ``source.ArraySource`` that a task needs."""

    @property
    def path(self) -> str: ...  # what to call it in messages

    @property
    def read_shape(self) -> tuple[int, ...]: ...

    def read(self, box: Box) -> NDArray[Any]: ...


def read_source(source: Readable, box: Box) -> NDArray[Any]:
    """``source.read(box)``; whatever an object or a library raises becomes a SourceError that says where."""
    try:
        return source.read(box)
    except (OctreeError, MemoryError):
        raise
    except Exception as error:
        raise SourceError(
            f"{source.path} cannot be read at {list(box.start)} to {list(box.stop)}: "
            f"{type(error).__name__}: {error}",
            path=source.path,
        ) from error


class TaskRunner:
    """Runs tasks of one plan. Thread-safe: tasks own disjoint files, arrays are opened once, under a lock.

    ``fill_holes``  fill parts of SOURCE that cannot be read, and list them, instead of failing.
    ``again``       an earlier run may have left files of these tasks: remove them first.
    """

    def __init__(
        self,
        plan: BuildPlan,
        source: Readable,
        folder: Where,
        *,
        fill_holes: bool = False,
        again: bool = False,
    ) -> None:
        self._plan, self._source, self._folder = plan, source, place_of(folder)
        self._fill_holes, self._again = fill_holes, again
        self._lock = threading.Lock()
        self._writers: dict[int, LevelWriter] = {}
        self._context = write_context(plan.workers)

    def _writer(self, level: int) -> LevelWriter:
        with self._lock:
            if level not in self._writers:
                info = self._plan.spec.levels[level]
                self._writers[level] = LevelWriter(self._folder, info, self._plan.zarr_format, self._context)
            return self._writers[level]

    def run(self, tasks: Sequence[Task]) -> list[TaskResult]:
        """Do tasks of one round that read together. Raises SourceError or WriteError; all may be run again."""
        boxes = [self._plan.input_box(*task) for task in tasks]
        whole = around(boxes)
        block, holes = self._input(tasks[0].round, whole, together=len(tasks) > 1)
        block = np.ascontiguousarray(block)  # colour samples come interleaved, files mapped
        results: list[TaskResult] = []
        pending: _Pending | None = None
        try:
            for task, box in zip(tasks, boxes, strict=True):
                started = self._start(task, block[inside(box, whole)], _meeting(holes, box))
                # while files of one task are written, the next is reduced
                before, pending = pending, started
                if before is not None:
                    results.append(before.finish())
            if pending is not None:
                results.append(pending.finish())
        except BaseException:
            if pending is not None:
                pending.settle()
            raise
        return results

    def _start(self, task: Task, block: NDArray[Any], holes: tuple[Hole, ...]) -> _Pending:
        plan, steps = self._plan, self._plan.rounds[task.round]
        pending = _Pending(task, block.nbytes if steps.first == 0 else 0, holes, [])
        try:
            for level in range(steps.first, steps.last + 1):
                if any(f > 1 for f in plan.factors[level]):
                    block = reduce_block(block, plan.factors[level], plan.method, plan.nodata)
                box, writer = plan.block(task.round, task.place, level), self._writer(level)
                if self._again:
                    writer.remove(box)
                pending.writes.append((writer, box, writer.write(box, block)))
        except BaseException:
            pending.settle()
            raise
        return pending

    def _input(self, round_index: int, box: Box, *, together: bool) -> tuple[NDArray[Any], tuple[Hole, ...]]:
        first = self._plan.rounds[round_index].first
        if first:
            return self._writer(first - 1).read(box), ()
        try:
            return self._read(box, together=together), ()
        except SourceError as error:
            if not self._fill_holes or isinstance(error, OutsideError):
                raise
        return self._read_around_holes(box)

    def _read(self, box: Box, *, together: bool) -> NDArray[Any]:
        """``box`` of SOURCE; what several tasks read ``together`` in slabs of its own blocks, by all threads there are."""
        blocks = [len(met) for met in blocks_met(box, self._source.read_shape)]
        axis = next((axis for axis, count in enumerate(blocks) if count > 1), None)
        readers = self._plan.readers
        if not together or readers == 1 or axis is None:
            return read_source(self._source, box)
        thick = self._source.read_shape[axis] * -(-blocks[axis] // (readers * SLABS))
        slabs = parts(box, (*box.stop[:axis], thick, *box.stop[axis + 1 :]))
        out = np.empty(box.shape, self._plan.spec.dtype)

        def read(part: Box) -> None:
            out[inside(part, box)] = read_source(self._source, part)

        with ThreadPoolExecutor(readers, thread_name_prefix="octree-build-read") as pool:
            try:
                for done in [pool.submit(read, slab) for slab in slabs]:
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return out

    def _read_around_holes(self, box: Box) -> tuple[NDArray[Any], tuple[Hole, ...]]:
        """Read cell by cell of the source's own grid; cells that fail are filled and listed."""
        out = np.full(box.shape, self._plan.nodata or 0, self._plan.spec.dtype)
        holes = []
        for cell in parts(box, self._source.read_shape):
            try:
                out[inside(cell, box)] = read_source(self._source, cell)
            except OutsideError:
                raise
            except SourceError as error:
                holes.append(Hole(cell.start, cell.stop, error.message))
        return out, tuple(holes)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What another process needs to run tasks of a build: it opens SOURCE and DEST by their names."""

    plan: BuildPlan
    folder: Where
    source: str
    axes: str | None
    fill_holes: bool
    again: bool
    limits: Limits = DEFAULT_LIMITS
    allow_outside: bool = False
    remote: RemoteOptions = DEFAULT_REMOTE

    def make_runner(self) -> TaskRunner:
        """Raises SourceError when this machine does not see SOURCE."""
        labels = self.plan.spec.labels
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SourceWarning)  # whoever began the build has heard them
            source = open_source(
                self.source,
                axes=self.axes,
                labels=labels,
                limits=self.limits,
                allow_outside=self.allow_outside,
                remote=self.remote,
                holes=self.fill_holes,
            )
        return TaskRunner(self.plan, source, self.folder, fill_holes=self.fill_holes, again=self.again)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A task whose files are being written."""

    task: Task
    bytes_read: int
    holes: tuple[Hole, ...]
    writes: list[tuple[LevelWriter, Box, Any]]

    def finish(self) -> TaskResult:
        """Wait until the files are there. Raises WriteError, when nothing is being written any more."""
        ends: list[End] = []
        self.settle()
        for writer, box, future in self.writes:
            writer.wait(future)
            ends += writer.ends(box)
        written = sum(end.size for end in ends)
        return TaskResult(self.task, self.bytes_read, written, len(ends), self.holes, digest_of(ends))

    def settle(self) -> None:
        """Wait until nothing is being written, whatever became of it."""
        for _, _, future in self.writes:
            future.exception()


def _meeting(holes: tuple[Hole, ...], box: Box) -> tuple[Hole, ...]:
    """The holes' parts in ``box``."""
    shared = ((overlap(Box(hole.start, hole.stop), box), hole.error) for hole in holes)
    return tuple(Hole(part.start, part.stop, error) for part, error in shared if part)


@functools.lru_cache(maxsize=4)
def _runner_of(recipe: Recipe) -> TaskRunner:
    # dask starts its workers with an allocator that gives every block back to the system at once: they come again as zeroed
    # pages, which took as long as all the rest of a build (260,000 page faults for 16384 x 16384 uint16, 1,600 so)
    use_one_heap()
    return recipe.make_runner()


def run_group(recipe: Recipe, group: tuple[Task, ...]) -> list[TaskResult] | OctreeError:
    """In a worker process. A failure of the build travels as a value: retrying it would not help."""
    try:
        return _runner_of(recipe).run(group)
    except OctreeError as error:
        return error
