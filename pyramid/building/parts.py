"""``--part 3/16``: a build by many processes that know nothing of each other, as job arrays start them, and ``--part finish``.

Each part does its share of the blocks of level 0, and what is reduced from them, into DEST itself, with a journal of its own
beside it: ``.DEST.octree-journal-3-of-16``. What DEST is marked with follows from source and options alone, so the parts agree
without meeting, and one that was given others is refused. The last call looks whether all parts are whole, does what is left
of the coarser levels, and publishes.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from octree.pyramid.building.destination import Places, State, inspect, marker_of, refused
from octree.pyramid.building.found import Found
from octree.pyramid.building.job import Job
from octree.pyramid.building.journal import (
    Done,
    Header,
    Journal,
    changed_facts,
    read_header,
    remove_journal,
)
from octree.pyramid.building.lock import DestLock
from octree.pyramid.building.task import Task, TaskResult
from octree.pyramid.building.work import Progress
from octree.pyramid.errors import DestinationError, WriteError
from octree.pyramid.model import PyramidSpec
from octree.pyramid.store.removal import MARKER, Folder, join_mark

_TORN_S = 5.0
"""How long a marker may take to be whole that another part is writing."""


class Part(NamedTuple):
    """Which part, from 1; ``number`` 0 finishes."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}" if self.number else "finish"


def journal_of(places: Places, part: Part) -> Path:
    return places.journal.with_name(f"{places.journal.name}-{part.number}-of-{part.of}")


def lock_of(places: Places, part: Part) -> Path:
    return places.lock.with_name(f"{places.lock.name}-{part.number}-of-{part.of}")


def parts_beside(places: Places) -> list[Part]:
    """The parts of which there are journals, in order."""
    name = re.compile(re.escape(places.journal.name) + r"-([1-9]\d{0,5})-of-([1-9]\d{0,5})", re.ASCII)
    try:
        names = [path.name for path in places.journal.parent.iterdir()]
    except OSError:
        return []
    return sorted([Part(int(found[1]), int(found[2])) for each in names if (found := name.fullmatch(each))])


def refuse_parts(places: Places) -> None:
    """Raises DestinationError when DEST holds parts of a build: another kind of build has no business there."""
    if parts_beside(places):
        raise DestinationError(
            f"{places.dest} holds parts of a build",
            hint="--part finish makes it whole; --overwrite begins again",
            path=str(places.dest),
        )


def remove_parts(places: Places) -> None:
    """The journals of all parts. Raises DestinationError while one of them is being built."""
    with ExitStack() as locks:
        found = parts_beside(places)
        for part in found:
            locks.enter_context(DestLock(lock_of(places, part), places.dest))
        for part in found:
            remove_journal(journal_of(places, part), places.name)


@dataclass(frozen=True, slots=True)
class PartJob(Job):
    """One part of a build, or its finish. ``part`` of how many is found out when it finishes."""

    part: Part

    def _run(self, *, overwrite: bool, resume: bool) -> tuple[Done, PyramidSpec, bool]:
        if self.part.number:
            return self._one()
        found = parts_beside(self.places)
        if not found:
            if inspect(self.places)[0] is State.OCCUPIED:
                return Done(), self._finished_before(), True
            raise self._unfinished("there are no parts of it", [])
        self._merge(found)
        done, spec, _ = Job._run(self, overwrite=False, resume=True)
        remove_parts(self.places)
        return done, spec, True

    # one part

    def _one(self) -> tuple[Done, PyramidSpec, bool]:
        facts = {**self._facts(), "parts": [self.part.of, list(self.plan.group)]}
        header = Header(_word(facts), False, facts, self.places.name)
        if read_header(self.places.journal, self.places.name) is not None:
            raise refused(self.places, State.PARTIAL)
        self._join(header)
        self._create_levels(header)
        path = journal_of(self.places, self.part)
        before = read_header(path, self.places.name)
        if before is None:
            journal, done = Journal.create(path, header), Done()
        else:
            if before.build != header.build:
                raise self._other(before.facts, facts)
            found = Found(self.plan, self.places.dest)
            found.refuse_links()
            journal, done = Journal.load(path, self.places.name, found.is_possible, found.is_there)
        try:
            self._build(journal, done, again=before is not None)
        finally:
            journal.close()
        return done, self.plan.spec, before is not None

    def _join(self, header: Header) -> None:
        """Have DEST marked for these parts, by this one or another. Raises DestinationError when it is something else."""
        dest = self.places.dest
        until_s = time.monotonic() + _TORN_S
        while (word := marker_of(self.places, aside=False)) != header.build:
            if word is not None:
                facts = next(
                    (h.facts for part in parts_beside(self.places) if (h := self._header_of(part))), {}
                )
                raise self._other(facts, header.facts)
            try:
                dest.mkdir(exist_ok=True)
                with Folder.of(dest.parent) as parent, parent.folder(dest.name) as folder:
                    # every part marks it before it writes anything else
                    names = folder.names()
                    if names and MARKER not in names:
                        raise refused(self.places, State.OCCUPIED)
                    join_mark(folder, MARKER, self.places.name, header.build)
            except FileExistsError:
                # another part is at it; a marker that stays torn is none of ours
                if time.monotonic() > until_s:
                    raise refused(self.places, State.OCCUPIED) from None
            except OSError as error:
                raise WriteError(f"{dest} cannot be written: {error.strerror}", path=str(dest)) from error

    def _header_of(self, part: Part) -> Header | None:
        return read_header(journal_of(self.places, part), self.places.name)

    def _other(self, then: dict[str, Any], now: dict[str, Any]) -> DestinationError:
        changed = changed_facts(then, now) or ["source or options"]
        return DestinationError(
            f"{self.places.dest} holds parts of another build ({'; '.join(changed)})",
            hint="give every part the same SOURCE and options (--memory, too); --overwrite begins again",
            path=str(self.places.dest),
            changed=changed,
        )

    def _open_tasks(self, index: int, done: Done) -> Iterator[tuple[Task, ...]]:
        if not self.part.number:
            yield from Job._open_tasks(self, index, done)
        elif index == 0:
            yield from (
                group
                for places in self._share(self.part)
                if (group := tuple(task for place in places if (task := Task(0, place)) not in done.tasks))
            )

    def _share(self, part: Part) -> Iterator[list[int]]:
        """The groups of a part: every so many, so that each has some of all of the image."""
        for number, places in enumerate(self.plan.groups(0)):
            if number % part.of == part.number - 1:
                yield places

    def _report(self, done: Done, resumed_bytes: int) -> None:
        if not self.part.number:
            Job._report(self, done, resumed_bytes)
        elif self.progress is not None:
            tasks = sum(map(len, self._share(self.part)))
            whole = self.plan.level_bytes[0] * tasks // max(1, self.plan.rounds[0].tasks)
            self.progress(
                Progress(len(done.tasks), tasks, done.bytes_read, max(whole, done.bytes_read), resumed_bytes)
            )

    # the finish

    def _merge(self, found: list[Part]) -> None:
        """One journal of all parts' records, if they are whole. Raises DestinationError that names those that are not."""
        counts = sorted({part.of for part in found})
        if len(counts) > 1:
            raise self._unfinished(f"there are parts of {' and of '.join(map(str, counts))}", [])
        of = counts[0]
        headers = {part: header for part in found if (header := self._header_of(part)) is not None}
        first = next(iter(headers.values()), None)
        if first is not None:
            group = first.facts.get("parts", [of, []])[1]
            facts = {**self._facts(), "parts": [of, group]}
            for header in headers.values():
                if header.build != _word(facts):
                    raise self._other(header.facts, facts)
        looked = Found(self.plan, self.places.dest)
        looked.refuse_links()
        missing, journals = [], []
        plan = self.plan if first is None else replace(self.plan, group=tuple(first.facts["parts"][1]))
        for number in range(1, of + 1):
            part = Part(number, of)
            if part not in headers:
                missing.append(number)
                continue
            recorded = self._recorded(journal_of(self.places, part), looked)
            tasks = {result.task for result in recorded}
            share = replace(self, plan=plan)._share(part)
            if not all(Task(0, place) in tasks for places in share for place in places):
                missing.append(number)
            journals.append(recorded)
        if missing:
            raise self._unfinished("", missing, of)
        assert first is not None
        remove_journal(self.places.journal, self.places.name)
        merged = Journal.create(
            self.places.journal, Header(first.build, False, self._facts(), self.places.name)
        )
        try:
            for recorded in journals:
                for result in recorded:
                    merged.append(result)
        finally:
            merged.close()

    def _recorded(self, path: Path, looked: Found) -> list[TaskResult]:
        """What a part has finished, whether its files are there or not: what is empty has none."""
        recorded: list[TaskResult] = []

        def keep(result: TaskResult) -> bool:
            if looked.is_possible(result):
                recorded.append(result)
                return True
            return False

        journal, _ = Journal.load(path, self.places.name, keep, lambda result: False)
        journal.close()
        return recorded

    def _unfinished(self, why: str, missing: list[int], of: int = 0) -> DestinationError:
        if missing:
            which = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
            why = f"of {of} parts {len(missing)} {'is' if len(missing) == 1 else 'are'} not done: {which}"
        return DestinationError(
            f"{self.places.dest} cannot be finished: {why}",
            hint="run those parts (again): each goes on where it was; then --part finish",
            path=str(self.places.dest),
            missing=missing,
        )


def _word(facts: dict[str, Any]) -> str:
    """The same for all parts of one build."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return f"parts-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"
