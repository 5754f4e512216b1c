"""The work of one build, wherever it goes: tasks that are not done yet, done and recorded; what is said when it ends early."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from octree.pyramid.building.executors import Executor
from octree.pyramid.building.journal import Done, Header, changed_facts
from octree.pyramid.building.options import BuildOptions
from octree.pyramid.building.plan import BuildPlan
from octree.pyramid.building.task import Recipe, Task, TaskResult, TaskRunner
from octree.pyramid.errors import (
    DestinationError,
    Interrupted,
    OctreeError,
    OutsideError,
    SourceError,
    WriteError,
)
from octree.pyramid.model import PyramidSpec
from octree.pyramid.sources.source import ArraySource
from octree.pyramid.store.arrays import create_level
from octree.pyramid.store.json_files import finite
from octree.pyramid.store.named import Where
from octree.pyramid.store.place import Place


class Recording(Protocol):
    """A journal of finished tasks."""

    @property
    def header(self) -> Header: ...

    def append(self, result: TaskResult) -> None: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is; bytes are of level 0, uncompressed. ``resumed_bytes`` were there before this run."""

    tasks_done: int
    tasks: int
    bytes_done: int
    bytes_total: int
    resumed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of one build does whatever its DEST is. Owner of the journal: the thread that called ``build``."""

    options: BuildOptions
    plan: BuildPlan
    source: ArraySource
    given_source: Any
    executor: Executor
    stop: Callable[[], bool]
    progress: Callable[[Progress], None] | None

    @property
    @abstractmethod
    def dest(self) -> Any:
        """What users call it."""

    @abstractmethod
    def folder(self, header: Header) -> Where:
        """Where levels are written."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Room there; None where nobody knows."""

    def _facts(self) -> dict[str, Any]:
        """What must be the same for two runs to be one build. JSON-able."""
        return {
            "source": self._fingerprint(),
            "blocks": [[r.first, r.last, list(r.blocks[0])] for r in self.plan.rounds],
            **facts_of(self.plan.spec, self.plan.nodata),
        }

    def _fingerprint(self) -> dict[str, Any]:
        try:
            return self.source.fingerprint()
        except (OctreeError, MemoryError):
            raise
        except Exception as error:  # an object in memory raises what it likes
            raise SourceError(
                f"{self.source.path} cannot be read: {type(error).__name__}: {error}", path=self.source.path
            ) from error

    def _check_same(self, header: Header) -> None:
        if changed := changed_facts(header.facts, self._facts()):
            raise DestinationError(
                f"{self.dest} holds an interrupted build of something else ({'; '.join(changed)})",
                hint="resume with the source and options it was begun with, or start again with --overwrite",
                path=str(self.dest),
                changed=changed,
            )

    def _create_levels(self, header: Header) -> None:
        plan, folder = self.plan, self.folder(header)
        for level in plan.spec.levels:
            create_level(folder, level, plan.spec.dtype, plan.spec.axis_names, plan.codec, plan.zarr_format)

    def _build(self, journal: Recording, done: Done, *, again: bool) -> None:
        plan, folder = self.plan, self.folder(journal.header)
        fill = self.options.on_error == "fill"
        runner = TaskRunner(plan, self.source, folder, fill_holes=fill, again=again)
        recipe = Recipe(
            plan,
            folder if isinstance(folder, Place) else str(folder),
            str(self.given_source),
            self.options.axes,
            fill,
            again,
            self.options.limits,
            self.options.allow_outside,
            self.options.remote,
        )
        resumed_bytes = done.bytes_read
        self._report(done, resumed_bytes)
        try:
            for index in range(len(plan.rounds)):
                open_tasks = self._open_tasks(index, done)
                for results in self.executor.run(runner, recipe, open_tasks, self.stop):
                    for result in results:
                        journal.append(result)
                        done.add(result)
                    self._report(done, resumed_bytes)
                if self.stop():
                    raise self._interrupted(done)
        except WriteError as error:
            raise self._no_space(error, done) from error
        except OutsideError:
            raise
        except SourceError as error:
            hint = f"{error.hint}; " if error.hint else ""
            error.hint = f"{hint}when it is repaired go on with --resume, or fill what is lost: --resume --on-error fill"
            raise

    def _open_tasks(self, index: int, done: Done) -> Iterator[tuple[Task, ...]]:
        """Groups of tasks of one round that are not done yet."""
        for places in self.plan.groups(index):
            tasks = tuple(task for place in places if (task := Task(index, place)) not in done.tasks)
            if tasks:
                yield tasks

    def _report(self, done: Done, resumed_bytes: int) -> None:
        if self.progress is not None:
            total = self.plan.level_bytes[0]
            self.progress(Progress(len(done.tasks), self.plan.tasks, done.bytes_read, total, resumed_bytes))

    def _interrupted(self, done: Done) -> Interrupted:
        return Interrupted(
            f"stopped after {len(done.tasks)} of {self.plan.tasks} blocks; what is done is kept",
            hint="give the same command with --resume to go on",
            path=str(self.dest),
            tasks_done=len(done.tasks),
            tasks=self.plan.tasks,
        )

    def _no_space(self, error: WriteError, done: Done) -> WriteError:
        """A failed write, with what it would take to finish: by the compression so far, else uncompressed."""
        full = re.search("no space|too large|quota", error.message, re.IGNORECASE)
        total = sum(self.plan.level_bytes)
        share = done.bytes_read / max(1, self.plan.level_bytes[0])
        whole = done.bytes_written / share if share > 0 else total
        needed = max(0, int(whole) - done.bytes_written)
        dest, free = self.dest, self.free_bytes()
        message = error.message
        if full and free is not None:
            message = f"no space to write {dest}: about {needed} more bytes needed, {free} free ({message})"
        cure = "make room" if full else error.hint or "see to that"
        details = {**error.details, "dest": str(dest), "bytes_needed": needed, "bytes_free": free}
        return WriteError(message, hint=f"{cure}, then go on with --resume", **details)

    def _finished(self, done: Done) -> tuple[PyramidSpec, dict[str, Any]]:
        """What the metadata will say."""
        spec = replace(
            self.plan.spec,
            channels=self.source.channels,
            label_facts=self.source.label_facts,
        )
        metadata: dict[str, Any] = {
            "method": self.plan.method,
            "factors": [list(step) for step in self.plan.factors],
            "rounding": "integers: exact, halves to even" if self.plan.method == "mean" else "none",
            "edges": "only samples that exist",
            "nodata": self.plan.nodata,
            "tool": "octree",
        }
        if self.source.attributes:
            metadata["source"] = dict(self.source.attributes)
        if done.holes:
            metadata["holes"] = [h.to_json() for h in sorted(done.holes, key=lambda hole: hole.start)]
        return spec, metadata


def facts_of(spec: PyramidSpec, nodata: Any) -> dict[str, Any]:
    """What options decide about a pyramid, whether it is planned or found on disk. JSON-able."""
    return {
        "shape": list(spec.levels[0].shape),
        "dtype": spec.dtype.str,
        "axes": [[axis.name, axis.unit] for axis in spec.axes],
        "levels": [[list(v.shape), list(v.chunks), list(v.shards or ())] for v in spec.levels],
        "scale": [list(level.scale) for level in spec.levels],
        "translation": [list(level.translation) for level in spec.levels],
        "method": spec.method,
        "nodata": finite(nodata),
        "codec": spec.levels[0].codec,
        "ome_version": spec.ome_version,
        "name": spec.name,
        "labels": spec.labels,
        "rgb": spec.rgb,
    }
