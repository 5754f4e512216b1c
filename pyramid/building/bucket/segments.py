"""Done-records of a build in object storage: numbered objects below ``DEST/.octree/journal/BUILD/``, each made once.

The first one says what is being built. The building process alone writes them, every ``RECORDS`` tasks or ``SECONDS``; a
segment that was never written means that its tasks are done again. Values of a store do not vanish once they are
written, so a record is believed: its tasks' shards were there before it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from octree.pyramid.building.bucket.lease import FOLDER
from octree.pyramid.building.journal import Done, Header, header_of, record_of, result_of
from octree.pyramid.building.task import TaskResult
from octree.pyramid.errors import DestinationError, OctreeError, WriteError
from octree.pyramid.store.remote.client import RemoteClient, waited
from octree.pyramid.store.remote.faults import RemoteError

RECORDS, SECONDS = 64, 2.0
_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Begun:
    """What the first segment says: ``replaces`` are the folders of the pyramid whose place the build takes, ``root`` is the ETag of
    that pyramid's metadata; None: there was none."""

    header: Header
    replaces: tuple[str, ...] = ()
    root: str | None = None


class Segments:
    """The journal of a build that runs. ``key`` of DEST. Owner: the building thread."""

    def __init__(self, client: RemoteClient, key: str, header: Header, number: int) -> None:
        self._client, self._folder, self.header = client, f"{key}/{FOLDER}/journal/{header.build}", header
        self._number = number
        self._records: list[Any] = []
        self._written_s = time.monotonic()

    @classmethod
    def create(cls, client: RemoteClient, key: str, begun: Begun) -> Segments:
        """Raises WriteError."""
        journal = cls(client, key, begun.header, 0)
        journal._put({**begun.header.to_json(), "replaces": list(begun.replaces), "root": begun.root})
        return journal

    @classmethod
    def load(
        cls, client: RemoteClient, key: str, header: Header, is_possible: Callable[[TaskResult], bool]
    ) -> tuple[Segments, Done]:
        """Go on with the journal of an earlier run. Segments that are not of this plan are no records."""
        journal, done = cls(client, key, header, 1), Done()
        for name in waited(client.names(journal._folder)) or ():
            if not name.isdigit() or int(name) == 0:
                continue
            journal._number = max(journal._number, int(name) + 1)
            got = waited(client.get(f"{journal._folder}/{name}"))
            for result in _results(b"" if got is None else bytes(got.data)):
                if is_possible(result):
                    done.add(result)
        return journal, done

    def append(self, result: TaskResult) -> None:
        """Record a finished task; it is written with others. Raises WriteError."""
        self._records.append(record_of(result))
        if len(self._records) >= RECORDS or time.monotonic() - self._written_s > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet. Raises WriteError; DestinationError when another build has gone on here."""
        if self._records:
            self._put({"records": self._records})
            self._records = []

    def _put(self, document: dict[str, Any]) -> None:
        key = f"{self._folder}/{self._number:0{_DIGITS}}"
        try:
            waited(self._client.put_once(key, json.dumps(document, separators=(",", ":")).encode()))
        except RemoteError as error:
            if error.fault == "exists":
                raise DestinationError(
                    f"another build has gone on at {self._client.url(key)}",
                    hint="see which of the two is wanted; --resume goes on when the other has ended",
                ) from error
            raise WriteError(error.message, hint=error.hint) from error
        self._number += 1
        self._written_s = time.monotonic()


def found_builds(client: RemoteClient, key: str, dest: str) -> list[Begun]:
    """Builds of DEST that have begun and are not tidied away. Raises DestinationError for what no version of octree wrote."""
    folder = f"{key}/{FOLDER}/journal"
    found = []
    for name in waited(client.names(folder)) or ():
        first = f"{folder}/{name.rstrip('/')}/{0:0{_DIGITS}}"
        got = waited(client.get(first))
        if got is not None:
            found.append(_begun(bytes(got.data), client.url(first), dest))
    return found


def remove_segments(client: RemoteClient, key: str, build: str) -> None:
    """The first segment goes last: without it the others mean nothing. Raises OctreeError."""
    names = waited(client.keys(f"{key}/{FOLDER}/journal/{build}"))
    waited(client.delete([name for name in names if not name.endswith(f"/{0:0{_DIGITS}}")]))
    waited(client.delete(names[:1]))


def _begun(data: bytes, url: str, dest: str) -> Begun:
    header = header_of(data, url, dest)
    document = json.loads(data)
    replaces, root = document.get("replaces", []), document.get("root")
    if not isinstance(replaces, list) or not all(isinstance(name, str) for name in replaces):
        raise DestinationError(f"{url} is no journal that this version of octree can read", path=url)
    return Begun(header, tuple(replaces), root if isinstance(root, str) else None)


def _results(data: bytes) -> list[TaskResult]:
    try:
        records = json.loads(data)["records"]
        return [result for record in records if (result := result_of(record)) is not None]
    except (ValueError, KeyError, TypeError, RecursionError, OctreeError):
        return []
