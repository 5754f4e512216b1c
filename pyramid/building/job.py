"""One run of one build, from what it finds at DEST to the finished pyramid: begin or go on, do the tasks, publish."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from octree.pyramid.building.destination import (
    Places,
    State,
    begin_folder,
    check_writable,
    discard,
    finish,
    inspect,
    refused,
    tidy_swap,
)
from octree.pyramid.building.executors import Executor
from octree.pyramid.building.found import Found
from octree.pyramid.building.journal import (
    Done,
    Header,
    Journal,
    changed_facts,
    read_header,
    remove_journal,
)
from octree.pyramid.building.options import BuildOptions
from octree.pyramid.building.plan import BuildPlan
from octree.pyramid.building.task import Recipe, Task, TaskRunner
from octree.pyramid.building.windows import with_windows
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
from octree.pyramid.store import ngff
from octree.pyramid.store.arrays import Pyramid, create_level
from octree.pyramid.store.json_files import finite
from octree.pyramid.store.ngff_write import write_image_metadata


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is; bytes are of level 0, uncompressed. ``resumed_bytes`` were there before this run."""

    tasks_done: int
    tasks: int
    bytes_done: int
    bytes_total: int
    resumed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one build. Owner of the journal: the thread that called ``build``."""

    options: BuildOptions
    plan: BuildPlan
    source: ArraySource
    given_source: Any
    places: Places
    executor: Executor
    stop: Callable[[], bool]
    progress: Callable[[Progress], None] | None

    def run(self, *, overwrite: bool, resume: bool) -> tuple[Done, PyramidSpec, bool]:
        """What was done in all runs together, the pyramid's spec, and whether an earlier run was gone on with."""
        try:
            return self._run(overwrite=overwrite, resume=resume)
        except WriteError as error:
            if "bytes_needed" in error.details:
                raise
            raise self._no_space(error, Done()) from error  # before the first task

    def _run(self, *, overwrite: bool, resume: bool) -> tuple[Done, PyramidSpec, bool]:
        if overwrite and not resume:
            self._forget_damaged_journal()
        tidy_swap(self.places)
        state, header = inspect(self.places)
        if state is State.OCCUPIED and resume and not overwrite:
            return Done(), self._finished_before(), True
        if header is not None and resume:
            self._check_same(header)
            found = Found(self.plan, self.places.folder(header.aside))
            found.refuse_links()
            journal, done = Journal.load(
                self.places.journal, self.places.name, found.is_possible, found.is_there
            )
            begun = True
        else:
            aside = check_writable(self.places, state, overwrite=overwrite)
            discard(self.places, header, aside=aside)
            journal, done, begun = self._begin(aside), Done(), False
        writing = False
        try:
            self._create_levels(journal.header)
            writing = True
            self._build(journal, done, again=begun)
        except OctreeError as error:
            # after one failed write others may still be on their way to the disk, and would make a removed
            # folder anew: it stays, for --resume
            if not done.tasks and not (writing and isinstance(error, WriteError)):
                with suppress(DestinationError):
                    discard(self.places, journal.header)
            raise
        finally:
            journal.close()
        spec = self._publish(journal.header, done)
        return done, spec, begun

    def _forget_damaged_journal(self) -> None:
        """A journal of this DEST that cannot be read says nothing; --overwrite begins without it."""
        try:
            read_header(self.places.journal, self.places.name)
        except DestinationError:
            with suppress(DestinationError):  # no journal of ours: what reads it next says so
                remove_journal(self.places.journal, self.places.name)

    def _facts(self) -> dict[str, Any]:
        """What must be the same for two runs to be one build. JSON-able."""
        return {
            "source": self._fingerprint(),
            "blocks": [[r.first, r.last, list(r.blocks[0])] for r in self.plan.rounds],
            **_facts_of(self.plan.spec, self.plan.nodata),
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
                f"{self.places.dest} holds an interrupted build of something else ({'; '.join(changed)})",
                hint="resume with the source and options it was begun with, or start again with --overwrite",
                path=str(self.places.dest),
                changed=changed,
            )

    def _finished_before(self) -> PyramidSpec:
        """DEST holds no interrupted build: fine if it is what this build would make. Raises DestinationError."""
        dest = self.places.dest
        try:
            found = ngff.read_spec(dest)
        except SourceError:
            raise refused(self.places, State.OCCUPIED) from None
        nodata = found.metadata.get("nodata")
        changed = changed_facts(_facts_of(found, nodata), _facts_of(self.plan.spec, self.plan.nodata))
        if self._is_older_than_source():
            changed.append("source: changed since")
        if changed:
            raise DestinationError(
                f"{dest} is finished, and not what this source and these options make, so there is nothing to resume "
                f"({'; '.join(changed)})",
                hint="choose another DEST, or give --overwrite",
                path=str(dest),
                changed=changed,
            )
        remove_journal(self.places.journal, self.places.name)
        return found

    def _is_older_than_source(self) -> bool:
        written = max(file.stat().st_mtime_ns for file in self.places.dest.iterdir() if file.is_file())
        times = self._fingerprint().get("mtime_ns", 0)
        return max(times if isinstance(times, list) else [times], default=0) > written

    def _begin(self, aside: bool) -> Journal:
        header = Header(os.urandom(8).hex(), aside, self._facts(), self.places.name)
        journal = Journal.create(self.places.journal, header)
        try:
            begin_folder(self.places, aside, header.build)
        except BaseException:
            journal.close()
            remove_journal(self.places.journal, self.places.name)
            raise
        return journal

    def _create_levels(self, header: Header) -> None:
        plan, folder = self.plan, self.places.folder(header.aside)
        for level in plan.spec.levels:
            create_level(folder, level, plan.spec.dtype, plan.spec.axis_names, plan.codec, plan.zarr_format)

    def _build(self, journal: Journal, done: Done, *, again: bool) -> None:
        plan, folder = self.plan, self.places.folder(journal.header.aside)
        fill = self.options.on_error == "fill"
        runner = TaskRunner(plan, self.source, folder, fill_holes=fill, again=again)
        recipe = Recipe(
            plan,
            str(folder),
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
            path=str(self.places.dest),
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
        dest = self.places.dest
        free = shutil.disk_usage(dest if dest.is_dir() else dest.parent).free
        message = error.message
        if full:
            message = f"no space to write {dest}: about {needed} more bytes needed, {free} free ({message})"
        cure = "make room" if full else error.hint or "see to that"
        details = {**error.details, "dest": str(dest), "bytes_needed": needed, "bytes_free": free}
        return WriteError(message, hint=f"{cure}, then go on with --resume", **details)

    def _publish(self, header: Header, done: Done) -> PyramidSpec:
        """Metadata last, then the folder takes its place."""
        folder = self.places.folder(header.aside)
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
        try:
            finished = with_windows(Pyramid(folder, spec), self.plan.nodata)
            write_image_metadata(folder, finished, metadata=metadata)
            finish(self.places, header)
        except WriteError as error:
            raise self._no_space(error, done) from error
        except OSError as error:
            raise self._no_space(
                WriteError(f"{folder} cannot be finished: {error.strerror}", path=str(folder)), done
            ) from error
        return finished


def _facts_of(spec: PyramidSpec, nodata: Any) -> dict[str, Any]:
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
