"""What an interrupted build left: records are believed as far as the plan allows them and the disk shows them."""

from __future__ import annotations

import math
import os
import stat
from typing import Any, NamedTuple

from octree.pyramid.building.plan import BuildPlan
from octree.pyramid.building.task import Task, TaskResult, digest_of
from octree.pyramid.errors import DestinationError
from octree.pyramid.store.arrays import unit_keys
from octree.pyramid.store.place import End, end_of
from octree.pyramid.store.removal import Folder
from octree.pyramid.store.shards import index_bytes, index_fault


class Found:
    """Looks at the folder of a build that goes on. Used by one thread, while nothing is written."""

    def __init__(self, plan: BuildPlan, folder: Any) -> None:
        self._plan, self._folder = plan, folder

    def refuse_links(self) -> None:
        """Raises DestinationError when a level, which is written into by its path, is reached through a link."""
        for level in self._plan.spec.levels:
            path = self._folder / level.path
            if os.path.lexists(path) and not stat.S_ISDIR(path.lstat().st_mode):
                raise DestinationError(
                    f"{path} is no folder that octree made",
                    hint="start again with --overwrite, which leaves alone what it leads to",
                    path=str(path),
                )

    def is_possible(self, result: TaskResult) -> bool:
        """Is it a task of this plan, with what that reads, and as many files as it can write?"""
        task, plan = result.task, self._plan
        if task.round >= len(plan.rounds) or task.place >= plan.rounds[task.round].tasks:
            return False
        reads = 0
        if plan.rounds[task.round].first == 0:
            reads = math.prod(plan.input_box(*task).shape) * plan.spec.dtype.itemsize
        shape = plan.spec.levels[0].shape
        return (
            result.bytes_read == reads
            and result.files <= len(self._keys(task))
            and all(
                len(hole.start) == len(hole.stop) == len(shape)
                and all(a < b <= n for a, b, n in zip(hole.start, hole.stop, shape, strict=True))
                for hole in result.holes
            )
        )

    def is_there(self, result: TaskResult) -> bool:
        """Are all files of the task there, and does each end as when it was written: of its length, and of a shard with its
        whole index?

        A unit of nothing but zeros has no file. That cannot be told from one that is lost, so its task is done
        again: it costs reading what compresses best.
        """
        keys = self._keys(result.task)
        if result.files != len(keys):
            return False
        try:
            return digest_of([self._end(key) for key in keys]) == result.digest
        except (OSError, ValueError):
            return False

    def _keys(self, task: Task) -> list[_Unit]:
        """The files that a task writes."""
        plan, steps = self._plan, self._plan.rounds[task.round]
        v3 = plan.zarr_format == 3
        return [
            _Unit(f"{level.path}/{key}", index_bytes(level.shards, level.chunks) if level.shards else 0)
            for number, level in enumerate(plan.spec.levels[steps.first : steps.last + 1], steps.first)
            for key in unit_keys(level, plan.block(task.round, task.place, number), v3=v3)
        ]

    def _end(self, unit: _Unit) -> End:
        """Of a regular file; no link is followed below the build's folder. Raises OSError, and ValueError for a shard whose
        index is damaged."""
        *folders, name = unit.key.split("/")
        here = Folder.of(self._folder)
        try:
            for folder in folders:
                inner = here.folder(folder)
                here.close()
                here = inner
            file = here.open_file(name, os.O_RDONLY)
        finally:
            here.close()
        with os.fdopen(file, "rb") as stream:
            end = end_of(file)
            if unit.index_bytes:
                stream.seek(max(0, end.size - unit.index_bytes))
                if what := index_fault(stream.read(unit.index_bytes), unit.index_bytes, end.size):
                    raise ValueError(what)
            return end


class _Unit(NamedTuple):
    """A file below the build's folder, and how many bytes the index at its end takes, if it is a shard."""

    key: str
    index_bytes: int
