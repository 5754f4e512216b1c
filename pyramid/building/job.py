"""One run of one build, from what it finds at DEST to the finished pyramid: begin or go on, do the tasks, publish."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
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
from octree.pyramid.building.found import Found
from octree.pyramid.building.journal import (
    Done,
    Header,
    Journal,
    changed_facts,
    read_header,
    remove_journal,
)
from octree.pyramid.building.windows import with_windows
from octree.pyramid.building.work import Work, facts_of
from octree.pyramid.errors import (
    DestinationError,
    OctreeError,
    SourceError,
    WriteError,
)
from octree.pyramid.model import PyramidSpec
from octree.pyramid.store import ngff
from octree.pyramid.store.arrays import Pyramid
from octree.pyramid.store.named import Where
from octree.pyramid.store.ngff_write import write_image_metadata


@dataclass(frozen=True, slots=True)
class Job(Work):
    """One run of one build of a folder."""

    places: Places

    @property
    def dest(self) -> Any:
        return self.places.dest

    def folder(self, header: Header) -> Where:
        return self.places.folder(header.aside)

    def free_bytes(self) -> int | None:
        dest = self.places.dest
        return shutil.disk_usage(dest if dest.is_dir() else dest.parent).free

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

    def _finished_before(self) -> PyramidSpec:
        """DEST holds no interrupted build: fine if it is what this build would make. Raises DestinationError."""
        dest = self.places.dest
        try:
            found = ngff.read_spec(dest)
        except SourceError:
            raise refused(self.places, State.OCCUPIED) from None
        nodata = found.metadata.get("nodata")
        changed = changed_facts(facts_of(found, nodata), facts_of(self.plan.spec, self.plan.nodata))
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

    def _publish(self, header: Header, done: Done) -> PyramidSpec:
        """Metadata last, then the folder takes its place."""
        folder = self.folder(header)
        spec, metadata = self._finished(done)
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
