"""The shell of a build: plan → tasks → metadata last. Called ``builder`` because ``build`` is its function's name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octree.pyramid.building.archive import build_archive, check_archive, names_archive
from octree.pyramid.building.bucket.job import BucketJob, bucket_of, look
from octree.pyramid.building.bucket.job import check_apart as check_apart_remote
from octree.pyramid.building.bucket.job import check_writable as check_writable_remote
from octree.pyramid.building.bucket.lease import Lease
from octree.pyramid.building.destination import Places, check_apart, check_writable, inspect, places_of
from octree.pyramid.building.executors import never
from octree.pyramid.building.job import Job
from octree.pyramid.building.lock import DestLock
from octree.pyramid.building.option_table import BUILD, RUNNING
from octree.pyramid.building.options import BuildOptions
from octree.pyramid.building.parts import Part, PartJob, lock_of, refuse_parts, remove_parts
from octree.pyramid.building.plan import BuildPlan, make_plan
from octree.pyramid.building.schedulers import make_executor
from octree.pyramid.building.task import Hole, read_source
from octree.pyramid.building.work import Progress
from octree.pyramid.errors import DestinationError, UsageError, WriteError
from octree.pyramid.memory import peak_rss_bytes, room_bytes
from octree.pyramid.model import Box, PyramidSpec
from octree.pyramid.options import takes
from octree.pyramid.sources.source import ArraySource, open_source
from octree.pyramid.store.named import local_name
from octree.pyramid.store.remote.faults import RemoteError
from octree.pyramid.store.remote.place import RemotePlace
from octree.pyramid.units import bytes_text


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did; ``to_json`` is the document of ``octree build --json``.

    ``bytes_read``     of SOURCE, decoded, earlier runs included.   ``bytes_written``   on disk, likewise.
    ``peak_rss_bytes`` most memory this process ever held.          ``holes``  what --on-error fill filled.
    ``warnings``       what of SOURCE is lost, or taken by a rule.   ``notes``  those of the plan.
    ``part``           as "3/16", of a build that is finished by ``--part finish``: until then there is no pyramid.
    """

    dest: str
    spec: PyramidSpec
    bytes_read: int
    bytes_written: int
    files: int
    seconds: float
    peak_rss_bytes: int
    method: str
    engine: str
    resumed: bool
    workers: int
    scheduler: str
    holes: tuple[Hole, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    part: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "dest": self.dest,
            "levels": [
                {
                    "path": level.path,
                    "shape": list(level.shape),
                    "scale": list(level.scale),
                    "translation": list(level.translation),
                }
                for level in self.spec.levels
            ],
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "files": self.files,
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "method": self.method,
            "engine": self.engine,
            "resumed": self.resumed,
            "workers": self.workers,
            "scheduler": self.scheduler,
            "holes": [hole.to_json() for hole in self.holes],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            **({"part": self.part} if self.part else {}),
        }


@takes(BUILD, RUNNING)
def plan_build(source: Any, dest: str | os.PathLike[str] | None = None, **options: Any) -> BuildPlan:
    """What ``build`` would do with these options; writes nothing. Raises as ``build`` does.

    With ``dest``, also refuses a SOURCE and DEST that contain one another, and a DEST that may not be written.
    """
    running = RUNNING.read({name: options.pop(name) for name in RUNNING.names if name in options})
    wanted = BuildOptions.read(options)
    with _open(source, wanted) as opened:
        archive = dest is not None and names_archive(dest)
        bucket = None if dest is None or archive else bucket_of(dest, wanted.remote)
        if dest is not None and archive:
            check_archive(opened.path, dest, running)
        elif bucket is not None:
            check_apart_remote(opened.path, bucket)
            found = look(bucket, wanted.ome_version)
            if not running["resume"] or (found.begun is None and running["overwrite"]):
                check_writable_remote(bucket, found, overwrite=running["overwrite"])
        elif dest is not None:
            dest = local_name(os.fspath(dest))
            places = places_of(dest)
            check_apart(opened.path, places)
            state, header = inspect(places)
            # whether what is there is the same build, is for the build to find out
            if running["part"] is None and not running["overwrite"]:
                refuse_parts(places)
            if running["part"] is None and (
                not running["resume"] or (header is None and running["overwrite"])
            ):
                check_writable(places, state, overwrite=running["overwrite"])
        if wanted.on_error == "fail":
            _check_decodes(opened)
        return replace(
            make_plan(
                wanted.request(opened, remote=bucket is not None),
                opened.transient_bytes,
                opened.decoded_bytes,
            ),
            warnings=opened.warnings,
        )


@takes(BUILD, RUNNING)
def build(
    source: Any,
    dest: str | os.PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    **options: Any,
) -> BuildResult:
    """Build the OME-Zarr pyramid of ``source`` in the folder ``dest``, or in the new archive ``dest`` (``.ozx``).

    ``source``      a path (``file.h5::/dataset`` inside HDF5), or an object with shape, dtype and slicing.
    ``progress``    called in this thread after each step.  ``stop``  asked in between: True ends the build.
    ``options``     as on the command line, texts or values: ``voxel_size`` also a mapping by axis letter,
                    ``scheduler`` also a dask Client.

    Raises UsageError, SourceError (source missing, corrupt), DestinationError (``dest`` exists, is locked or
    holds another build), WriteError (no space), Interrupted (``stop``). What is done then stays for ``resume``.
    """
    began = time.perf_counter()
    running = RUNNING.read({name: options.pop(name) for name in RUNNING.names if name in options})
    wanted = BuildOptions.read(options)
    if names_archive(dest):
        text = os.fspath(source) if isinstance(source, str | os.PathLike) else ""

        def build_folder(folder: Path) -> BuildResult:
            again = {**running, "overwrite": True}
            return build(source, folder, progress=progress, stop=stop, **options, **again)

        return build_archive(text, dest, running, build_folder)
    bucket = bucket_of(dest, wanted.remote)
    places = places_of(local_name(os.fspath(dest))) if bucket is None else None
    with _open(source, wanted) as opened, ExitStack() as stack:
        if bucket is not None:
            check_apart_remote(opened.path, bucket)
        elif places is not None:
            check_apart(opened.path, places)
        plan = make_plan(
            wanted.request(opened, remote=bucket is not None), opened.transient_bytes, opened.decoded_bytes
        )
        _check_memory(plan)
        asked = stop or never
        part = None if running["part"] is None else Part(*running["part"])
        if part is not None and (bucket is not None or running["overwrite"]):
            raise UsageError(
                f"--part {part} with {'--overwrite' if bucket is None else 'a DEST in object storage'}",
                hint="parts are built where nothing is: remove DEST first"
                if bucket is None
                else "one process keeps the journal there: --scheduler spreads the work over machines",
            )
        if places is not None:
            own = _lock_path(places)
            stack.enter_context(
                DestLock(own if not (part and part.number) else lock_of(places, part), places.dest)
            )
            if part is None and running["overwrite"]:
                remove_parts(places)
            elif part is None:
                refuse_parts(places)
        lease = None if bucket is None else stack.enter_context(_lease(bucket))
        executor = stack.enter_context(
            make_executor(running["scheduler"], plan.workers, plan.in_flight, source)
        )
        job: Job | BucketJob
        if bucket is not None and lease is not None:
            held = lease
            job = BucketJob(
                wanted, plan, opened, source, executor, lambda: held.lost or asked(), progress, bucket, held
            )
        else:
            assert places is not None
            facts = (wanted, plan, opened, source, executor, asked, progress, places)
            job = Job(*facts) if part is None else PartJob(*facts, part)
        done, spec, resumed = job.run(overwrite=running["overwrite"], resume=running["resume"])
        return BuildResult(
            dest=str(dest),
            spec=spec,
            bytes_read=done.bytes_read,
            bytes_written=done.bytes_written,
            files=done.files,
            seconds=time.perf_counter() - began,
            peak_rss_bytes=peak_rss_bytes(),
            method=plan.method,
            engine=opened.engine,
            resumed=resumed,
            workers=plan.workers,
            scheduler=executor.name,
            holes=tuple(sorted(done.holes, key=lambda hole: hole.start)),
            warnings=opened.warnings,
            notes=plan.notes,
            part=None if part is None or not part.number else str(part),
        )


@contextmanager
def _lease(bucket: RemotePlace) -> Iterator[Lease]:
    """Raises DestinationError, WriteError for what the store refuses."""
    lease = Lease(bucket.client, bucket.key)
    try:
        lease.__enter__()
    except RemoteError as error:
        refused = (
            DestinationError if error.fault in ("forbidden", "unauthorized", "missing-bucket") else WriteError
        )
        raise refused(error.message, hint=error.hint, path=str(bucket)) from error
    try:
        yield lease
    finally:
        lease.__exit__(None, None, None)


def _check_decodes(source: ArraySource) -> None:
    """Read one voxel: what cannot be decoded at all is said before a build begins. Raises SourceError."""
    none = (0,) * len(source.shape)
    read_source(source, Box(none, (1,) * len(none)))


def _check_memory(plan: BuildPlan) -> None:
    """Raises WriteError when the plan needs more address space than there is: libraries would end the process."""
    room = room_bytes()
    if room is not None and plan.peak_bytes > room:
        raise WriteError(
            f"out of memory: this build plans with {bytes_text(plan.peak_bytes)}, and this process may take "
            f"{bytes_text(room)} more",
            hint="give less with --memory, or fewer --workers; or raise the limit (ulimit -v)",
            bytes_needed=plan.peak_bytes,
            bytes_free=room,
        )


def _open(source: Any, options: BuildOptions) -> ArraySource:
    return open_source(
        source,
        axes=options.axes,
        voxel_size=options.voxel_size,
        unit=options.unit,
        threads=options.threads,
        labels=options.labels,
        limits=options.limits,
        allow_outside=options.allow_outside,
        remote=options.remote,
        holes=options.on_error == "fill",
    )


def _lock_path(places: Places) -> Path:
    try:
        places.dest.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DestinationError(
            f"the folder {places.dest.parent} cannot be made: {error.strerror}",
            hint="choose a DEST that you may write",
            path=str(places.dest),
        ) from error
    return places.lock
