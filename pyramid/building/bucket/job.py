"""DEST in object storage: there is no renaming and no locking, so what appears, appears by one conditional write.

    DEST/zarr.json           the pyramid's metadata, written last: before, there is no pyramid
    DEST/0, DEST/1, …        levels; with --overwrite they are in DEST/BUILD/, until which the old ones are whole
    DEST/.octree/lease       who is writing        DEST/.octree/journal/BUILD/…   done-records
    DEST/.octree/built       what the finished pyramid was built from, for --resume

Every step leaves a state that the next run understands; a build that was taken for dead and goes on writes the same bytes to the
same keys, or to keys that nothing leads to.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import Any

from octree.pyramid.building.bucket.lease import FOLDER, PROBE, Lease
from octree.pyramid.building.bucket.segments import Begun, Segments, found_builds, remove_segments
from octree.pyramid.building.destination import State
from octree.pyramid.building.found import Found
from octree.pyramid.building.journal import Done, Header, changed_facts
from octree.pyramid.building.windows import with_windows
from octree.pyramid.building.work import Work
from octree.pyramid.errors import DestinationError, OctreeError, SourceError, UsageError, WriteError
from octree.pyramid.model import PyramidSpec
from octree.pyramid.store import ngff
from octree.pyramid.store.arrays import Pyramid
from octree.pyramid.store.json_files import json_bytes
from octree.pyramid.store.named import Where, local_name, named_url, place_of
from octree.pyramid.store.ngff_write import image_documents
from octree.pyramid.store.remote.client import RemoteClient, waited
from octree.pyramid.store.remote.faults import RemoteError
from octree.pyramid.store.remote.options import RemoteOptions
from octree.pyramid.store.remote.place import RemotePlace

_ROOT = {"0.4": ".zattrs", "0.5": "zarr.json"}


def bucket_of(dest: Any, options: RemoteOptions) -> RemotePlace | None:
    """The place of a DEST in object storage, None of one in a folder. Raises UsageError for what cannot be written to."""
    if not isinstance(dest, str) or named_url(local_name(dest)) is None:
        return None
    place = place_of(dest, remote=options)
    assert isinstance(place, RemotePlace)
    if place.client.root.startswith("http"):
        raise UsageError(
            f"DEST {place} is on a web server, which takes no pyramids",
            hint="s3://bucket/name.ome.zarr, gs:// and az:// do, also with --endpoint",
        )
    if not place.key:
        raise UsageError(
            f"DEST {place} is a whole bucket", hint=f"name a folder in it, as {place}/image.ome.zarr"
        )
    return place


def check_apart(source_path: str, dest: RemotePlace) -> None:
    """SOURCE and DEST may not contain one another. Raises DestinationError."""
    source, name = f"{source_path.partition('::')[0].rstrip('/')}/", f"{dest}/"
    if source.startswith(name) or name.startswith(source):
        how = "are the same" if source == name else "contain one another"
        raise DestinationError(
            f"SOURCE {source_path} and DEST {dest} {how}",
            hint="write the pyramid somewhere else",
            path=str(dest),
        )


@dataclass(frozen=True, slots=True)
class Looked:
    """What a build finds at DEST. ``root``: its metadata, as bytes and ETag."""

    state: State
    begun: Begun | None
    root: tuple[bytes, str] | None
    names: tuple[str, ...]


def look(place: RemotePlace, version: str) -> Looked:
    """Raises OctreeError."""
    client, names = place.client, tuple(place.names() or ())
    # stores of folders list those that have become empty, too
    names = tuple(
        n for n in names if not n.endswith("/") or waited(client.any_below(f"{place.key}/{n[:-1]}"))
    )
    root = None
    for name in sorted(_ROOT.values(), key=lambda each: each != _ROOT[version]):
        if name in names and (got := waited(client.get(f"{place.key}/{name}"))) is not None:
            root = (bytes(got.data), got.etag or "")
            break
    begun = next(iter(found_builds(client, place.key, place.name)), None) if f"{FOLDER}/" in names else None
    if begun is not None:
        aside = begun.header.aside
        published = root is not None and (not aside or _leads_to(root[0], begun.header.build))
        if published:
            tidy(place, begun)
            return replace(look(place, version), begun=None)
        return Looked(State.PARTIAL_ASIDE if aside else State.PARTIAL, begun, root, names)
    free = all(name == f"{FOLDER}/" for name in names)
    return Looked(State.FREE if free else State.OCCUPIED, None, root, names)


def tidy(place: RemotePlace, begun: Begun) -> None:
    """After a build has published: what it replaced goes, then its journal."""
    for folder in begun.replaces:
        remove_below(place.client, f"{place.key}/{folder}")
    kept = f"{place.key}/{FOLDER}"
    names = waited(place.client.names(kept)) or []
    waited(place.client.delete([f"{kept}/{name}" for name in names if name.startswith(PROBE)]))
    document = json.dumps({"facts": begun.header.facts}).encode()
    waited(place.client.put(f"{kept}/built", document))
    remove_segments(place.client, place.key, begun.header.build)


def remove_below(client: RemoteClient, prefix: str) -> None:
    keys = waited(client.keys(prefix))
    for first in range(0, len(keys), 1000):
        waited(client.delete(keys[first : first + 1000]))


def refused(dest: Any, state: State) -> DestinationError:
    """Why a plain build leaves alone what is there."""
    if state is State.OCCUPIED:
        what, hint = "exists and is not empty", "choose another DEST, or give --overwrite"
    else:
        what, hint = "holds an interrupted build", "go on with --resume, or start again with --overwrite"
    return DestinationError(f"{dest} {what}", hint=hint, path=str(dest))


def check_writable(place: RemotePlace, found: Looked, *, overwrite: bool) -> None:
    """Raises DestinationError where a new build may not begin."""
    if found.state is not State.FREE and not overwrite:
        raise refused(place, found.state)
    if found.root is not None or found.state is State.OCCUPIED:
        replaced_folders(place, found)


def replaced_folders(place: RemotePlace, found: Looked) -> tuple[str, ...]:
    """The folders of the pyramid at DEST, which has nothing else in it. Raises DestinationError."""
    try:
        spec = ngff.read_spec(place)
    except SourceError as error:
        raise _no_pyramid(place, error.message) from error
    folders = {level.path.partition("/")[0] for level in spec.levels}
    known = {"zarr.json", ".zattrs", ".zgroup", f"{FOLDER}/", *(f"{name}/" for name in folders)}
    if found.begun is not None:
        known.add(f"{found.begun.header.build}/")
    if strangers := [name for name in found.names if name not in known]:
        raise _no_pyramid(place, f"it holds {strangers[0]!r}")
    return tuple(sorted(folders))


def _no_pyramid(place: RemotePlace, why: str) -> DestinationError:
    return DestinationError(
        f"{place} is no pyramid to overwrite: {why}",
        hint="choose another DEST, or move away what is there",
        path=str(place),
    )


def _leads_to(root: bytes, build: str) -> bool:
    return f'"{build}/'.encode() in root


@dataclass(frozen=True, slots=True)
class BucketJob(Work):
    """One run of one build to object storage, while its lease is held."""

    place: RemotePlace
    lease: Lease

    @property
    def dest(self) -> Any:
        return self.place

    def folder(self, header: Header) -> Where:
        return self.place

    def free_bytes(self) -> int | None:
        return None

    def run(self, *, overwrite: bool, resume: bool) -> tuple[Done, PyramidSpec, bool]:
        """As ``Job.run``."""
        try:
            return self._run(overwrite=overwrite, resume=resume)
        except RemoteError as error:  # a source's own are told as such where they are read
            raise WriteError(error.message, hint=error.hint, path=str(self.place)) from error

    def _run(self, *, overwrite: bool, resume: bool) -> tuple[Done, PyramidSpec, bool]:
        found = look(self.place, self.options.ome_version)
        client, key = self.place.client, self.place.key
        if found.state is State.OCCUPIED and resume and not overwrite:
            return Done(), self._finished_before(), True
        if found.begun is not None and resume:
            begun = found.begun
            self._check_same(begun.header)
            possible = Found(self.plan, self.place).is_possible
            journal, done = Segments.load(client, key, begun.header, possible)
        else:
            check_writable(self.place, found, overwrite=overwrite)
            begun, done = self._begin(found), Done()
            journal = Segments.create(client, key, begun)
        again = found.begun is not None and resume
        work = self._of(begun.header)
        work._create_levels(begun.header)
        try:
            work._build(journal, done, again=again)
        finally:
            if not self.lease.lost:
                journal.flush()
            else:
                self.lease.check()
        return done, work._publish(begun, done), again

    def _of(self, header: Header) -> BucketJob:
        """The same, with levels where this build has them."""
        if not header.aside:
            return self
        levels = tuple(replace(v, path=f"{header.build}/{v.path}") for v in self.plan.spec.levels)
        return replace(self, plan=replace(self.plan, spec=replace(self.plan.spec, levels=levels)))

    def _begin(self, found: Looked) -> Begun:
        """What is to be built; what an interrupted build left goes first."""
        replaces = replaced_folders(self.place, found) if found.root is not None else ()
        if found.begun is not None:
            self._discard(found.begun)
        header = Header(os.urandom(8).hex(), found.root is not None, self._facts(), self.place.name)
        return Begun(header, replaces, None if found.root is None else found.root[1])

    def _discard(self, begun: Begun) -> None:
        names = (
            [begun.header.build]
            if begun.header.aside
            else list(map(str, range(len(begun.header.facts["levels"]))))
        )
        for name in names:
            remove_below(self.place.client, f"{self.place.key}/{name}")
        remove_segments(self.place.client, self.place.key, begun.header.build)

    def _finished_before(self) -> PyramidSpec:
        """DEST holds no interrupted build: fine if it is what this build would make. Raises DestinationError."""
        data = self.place.child(f"{FOLDER}/built").read()
        try:
            facts = json.loads(data or b"")["facts"]
            found = ngff.read_spec(self.place)
        except (ValueError, KeyError, TypeError, RecursionError, SourceError):
            raise refused(self.place, State.OCCUPIED) from None
        if changed := changed_facts(facts, self._facts()):
            raise DestinationError(
                f"{self.place} is finished, and not what this source and these options make, so there is nothing to resume "
                f"({'; '.join(changed)})",
                hint="choose another DEST, or give --overwrite",
                path=str(self.place),
                changed=changed,
            )
        return found

    def _publish(self, begun: Begun, done: Done) -> PyramidSpec:
        """Metadata last, in one conditional write: of two builds one has its own there."""
        spec, metadata = self._finished(done)
        finished = with_windows(Pyramid(self.place, spec), self.plan.nodata)
        *first, (name, root) = image_documents(finished, metadata=metadata)
        self.lease.check()
        client, key = self.place.client, self.place.key
        for other, document in first:
            waited(client.put(f"{key}/{other}", json_bytes(document)))
        try:
            waited(client.put_once(f"{key}/{name}", json_bytes(root), match=begun.root))
        except RemoteError as error:
            if error.fault not in ("exists", "changed"):
                raise
            raise DestinationError(
                f"{self.place} has been written by someone else meanwhile; this build is not in its place",
                hint="see what is there; --overwrite builds again",
                path=str(self.place),
            ) from error
        try:
            tidy(self.place, begun)
        except OctreeError as error:
            raise WriteError(
                f"{self.place} is finished and in its place, but what the build kept there is left: {error.message}",
                hint="--resume tidies it away",
                path=str(self.place),
            ) from error
        return finished
