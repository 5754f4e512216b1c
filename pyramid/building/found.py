"""What an interrupted build left: records are believed as far as the plan allows them and the disk shows them."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

from octree.pyramid.building.plan import BuildPlan
from octree.pyramid.building.task import Task, TaskResult
from octree.pyramid.errors import DestinationError
from octree.pyramid.store.arrays import unit_keys
from octree.pyramid.store.removal import Folder


class Found:
    """Looks at the folder of a build that goes on. Used by one thread, while nothing is written."""

    def __init__(self, plan: BuildPlan, folder: Path) -> None:
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
        """Are all files of the task there, and together as long as when they were written?

        A unit of nothing but zeros has no file. That cannot be told from one that is lost, so its task is done
        again: it costs reading what compresses best.
        """
        keys = self._keys(result.task)
        if result.files != len(keys):
            return False
        try:
            return sum(map(self._size, keys)) == result.bytes_written
        except OSError:
            return False

    def _keys(self, task: Task) -> list[str]:
        """Names below the folder of the files that a task writes."""
        plan, steps = self._plan, self._plan.rounds[task.round]
        v3 = plan.zarr_format == 3
        return [
            f"{level.path}/{key}"
            for number, level in enumerate(plan.spec.levels[steps.first : steps.last + 1], steps.first)
            for key in unit_keys(level, plan.block(task.round, task.place, number), v3=v3)
        ]

    def _size(self, key: str) -> int:
        """Of a regular file; no link is followed below the build's folder. Raises OSError."""
        *folders, name = key.split("/")
        here = Folder.of(self._folder)
        try:
            for folder in folders:
                inner = here.folder(folder)
                here.close()
                here = inner
            facts = here.stat(name)
        finally:
            here.close()
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(f"{key} is no file")
        return facts.st_size
