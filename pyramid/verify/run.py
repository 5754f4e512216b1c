"""Is this pyramid whole and right? Metadata, files, and each level against the reduction of the one before."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from octree.pyramid.errors import LimitError, OutsideError, SourceError
from octree.pyramid.limits import DEFAULT_LIMITS, Limits
from octree.pyramid.model import Box
from octree.pyramid.store import ngff
from octree.pyramid.store.images import Absent, Listed, images_of
from octree.pyramid.store.named import place_of
from octree.pyramid.store.remote.faults import RemoteError
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions
from octree.pyramid.verify.files import Stored, leftovers, survey
from octree.pyramid.verify.findings import Finding, Findings, VerifyResult
from octree.pyramid.verify.schema import display_errors, own_errors, schema_errors
from octree.pyramid.verify.structure import check_structure
from octree.pyramid.verify.unlisted import look

if TYPE_CHECKING:
    from octree.pyramid.verify.levels import LevelChecker

__all__ = ["Finding", "VerifyResult", "verify"]

_MISSING_LOOKED_AT = 256


def verify(
    path: str | os.PathLike[str],
    *,
    deep: bool = False,
    sample: int = 16,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    allow_outside: bool = False,
    remote: RemoteOptions = DEFAULT_REMOTE,
) -> VerifyResult:
    """Check the pyramid at ``path``; what is wrong is in the result's ``findings``.

    ``sample``    blocks of each level that are read and compared; with ``deep`` all of them are.
    ``workers``   threads (all cores this process may use).
    ``progress``  called with (blocks done, blocks) from this thread.
    ``limits``    what one chunk may decode to.
    ``allow_outside``  what it names, and links, may lead out of its folder.
    ``remote``    how a URL is reached.

    Raises SourceNotFound or SourceError when there is no pyramid at ``path`` at all, LimitError for chunks above ``limits``,
    OutsideError.
    """
    how = _How(deep, sample, workers or _cores(), progress, limits)
    listed = images_of(place_of(path, anywhere=allow_outside, remote=remote))
    parts = [_verify_image(image, how) for image in listed]
    return VerifyResult(
        path=str(path),
        deep=deep,
        findings=tuple(finding for part in parts for finding in part.findings),
        notes=tuple(note for part in parts for note in part.notes),
        levels=sum(part.levels for part in parts),
        files=sum(part.files for part in parts),
        compared=sum(part.compared for part in parts),
        total=sum(part.total for part in parts),
        images=len(listed),
    )


def _verify_image(listed: Listed | Absent, how: _How) -> VerifyResult:
    """One image; what is found in another than the first says in which."""
    findings, levels, files, compared, total = Findings(), 0, 0, 0, 0
    image = _read(listed, findings)
    if image is not None:
        check_structure(image, findings)
        stored = _survey(image, findings, deep=how.deep)
        compared, total = _check_pixels(image, stored, findings, how)
        levels, files = len(image.levels), sum(len(level.present) for level in stored)
    prefix = f"{listed.name}: " if listed.name else ""
    return VerifyResult(
        path=listed.name,
        deep=how.deep,
        findings=tuple(replace(f, where=prefix + f.where) for f in findings.result()),
        notes=tuple(prefix + note for note in findings.notes),
        levels=levels,
        files=files,
        compared=compared,
        total=total,
    )


def _read(listed: Listed | Absent, findings: Findings) -> ngff.Multiscale | None:
    """The image as its metadata say, which are checked; None when they cannot be understood."""
    if isinstance(listed, Absent):
        findings.add("metadata", "attributes", listed.what)
        return None
    attributes = listed.attributes
    try:
        image = ngff.understand(listed.group, listed.own_attributes, listed.version)
    except (OutsideError, RemoteError):
        raise
    except SourceError as error:
        _check_schema(attributes, listed.version, findings)
        findings.add("metadata", str(listed.group), error.message)
        return None
    if listed.number == 0:  # attributes are the group's: checked once
        _check_schema(attributes, image.version, findings)
        for what in display_errors(attributes, _channel_count(image)):
            findings.add("schema", "attributes", what)
    if image.by_octree:
        for what in own_errors(listed.entry, image.version):
            findings.add("schema", "attributes", what)
    return image


def _survey(image: ngff.Multiscale, findings: Findings, *, deep: bool) -> list[Stored]:
    if not image.group.cheap_to_list:
        return [
            look(image.group.child(level.path), array, i, findings, deep=deep)
            for i, (level, array) in enumerate(zip(image.levels, image.arrays, strict=True))
        ]
    leftovers(image.group, [level.path for level in image.levels], findings)
    return [
        survey(image.group.child(level.path), array, i, findings, deep=deep)
        for i, (level, array) in enumerate(zip(image.levels, image.arrays, strict=True))
    ]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _channel_count(image: ngff.Multiscale) -> int:
    letters = [axis.name for axis in image.axes]
    return image.arrays[0].shape[letters.index("c")] if "c" in letters else 1


def _check_schema(attributes: dict[str, object], version: str, findings: Findings) -> None:
    errors = schema_errors(attributes, version)
    if errors is None:
        findings.note(f"the schema of OME-Zarr {version} is not known here: it was not checked")
    for what in errors or ():
        findings.add("schema", "attributes", what)


@dataclass(frozen=True, slots=True)
class _How:
    """How much is read, by how many threads, and who is told."""

    deep: bool
    sample: int
    workers: int
    progress: Callable[[int, int], None] | None
    limits: Limits


def _check_pixels(
    image: ngff.Multiscale, stored: list[Stored], findings: Findings, how: _How
) -> tuple[int, int]:
    """Read and compare blocks; (chunks compared, chunks that could be)."""
    from octree.pyramid.verify.levels import LevelChecker, chunk_count, sample_boxes

    try:
        checker = LevelChecker(image, how.limits)
    except (LimitError, OutsideError):
        raise
    except SourceError as error:
        findings.add("unreadable", str(image.group), error.message)
        return 0, 0
    _note_method(checker, findings)
    _check_missing(checker, stored, findings, how.deep)
    chunks = [chunk_count(array.shape, array.chunks) for array in image.arrays]
    work: list[Iterable[Box]] = [checker.blocks(level) for level in range(len(chunks))]
    if not how.deep:
        work = [
            sample_boxes(array.shape, array.chunks, how.sample, units)
            for array, units in zip(image.arrays, stored, strict=True)
        ]
    planned = sum(count if how.deep else min(how.sample, count) for count in chunks)
    compared = done = 0
    for level, box, wrong in _in_threads(checker, enumerate(work), how.workers):
        count = chunk_count(box.shape, image.arrays[level].chunks)
        compared += count if checker.comparable(level) else 0
        done += count
        for finding in wrong:
            findings.put(finding)
        if how.progress:
            how.progress(min(done, planned), planned)
    return compared, sum(count for level, count in enumerate(chunks) if checker.comparable(level))


def _note_method(checker: LevelChecker, findings: Findings) -> None:
    if len(checker.image.levels) < 2:
        return
    if checker.method is None:
        method = (
            f"the method {checker.image.method!r} is not known"
            if checker.image.method
            else "no method is recorded"
        )
        findings.note(f"levels were not compared: {method}")
    elif not checker.exact:
        findings.note("not built by octree: levels were compared within the rounding of the mean")


def _in_threads(
    checker: LevelChecker, work: Iterable[tuple[int, Iterable[Box]]], workers: int
) -> Iterator[tuple[int, Box, list[Finding]]]:
    """Compare in ``workers`` threads, a bounded number of blocks at a time, in order."""
    items = ((level, box) for level, boxes in work for box in boxes)
    with ThreadPoolExecutor(workers, thread_name_prefix="octree-verify") as pool:
        pending: deque[tuple[int, Box, Future[list[Finding]]]] = deque()
        for level, box in items:
            pending.append((level, box, pool.submit(checker.compare, level, box)))
            if len(pending) > 2 * workers:
                level, box, future = pending.popleft()
                yield level, box, future.result()
        for level, box, future in pending:
            yield level, box, future.result()


def _check_missing(checker: LevelChecker, stored: list[Stored], findings: Findings, deep: bool) -> None:
    """Write units that are not stored stand for the fill value: the levels around them must agree."""
    image = checker.image
    most = None if deep else _MISSING_LOOKED_AT
    for level, units in enumerate(stored):
        missing = units.missing(most)
        if units.listed and len(missing) < units.total - len(units.present):
            findings.note(f"level {level}: of the chunks that are not stored, {len(missing)} were looked at")
        for number in missing.tolist():
            box = units.box(number, image.arrays[level].shape)
            key = units.key(number, image.arrays[level])
            where = f"{image.levels[level].path}/{key}"
            try:
                if level + 1 < len(stored) and checker.hidden(level, box):
                    findings.add(
                        "missing-chunk",
                        where,
                        f"not stored, but level {level + 1} shows something there",
                        level,
                    )
                elif level and any(
                    finding.kind == "missing-chunk"
                    for block in checker.blocks(level, box)
                    for finding in checker.compare(level, block)
                ):
                    findings.add(
                        "missing-chunk",
                        where,
                        f"not stored, but level {level - 1} has something there",
                        level,
                    )
            except OutsideError:
                raise
            except SourceError:
                continue  # found again, and named, when blocks are compared
