"""Who may write a DEST in object storage: one build at a time, without locks and without a clock in common.

``DEST/.octree/lease`` is made only where there is none, and changed only while it is still as it was last seen. It names its
owner and says until when it holds; the owner renews it in a thread of its own. One that has run out, or whose process was of
this machine and is gone, is taken over; then the renewal of the old owner fails, and its build ends.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from octree.pyramid.building.lock import may_live, me
from octree.pyramid.errors import DestinationError, OctreeError
from octree.pyramid.store.remote.client import RemoteClient, waited
from octree.pyramid.store.remote.faults import RemoteError

HOLDS_S = 60.0
RENEW_S = 20.0
FOLDER = ".octree"
"""Below DEST: what a build keeps there while it runs."""
PROBE = "probe-"


_held: set[str] = set()
"""Owners in this process, whose number alone does not say whether they are at work."""


class Lease:
    """Held by the thread that builds, from ``__enter__`` to ``__exit__``. ``key`` of DEST. Raises DestinationError when it is taken,
    or where the store does not keep conditions. ``lost`` once another build has it; any thread may ask."""

    def __init__(self, client: RemoteClient, key: str, now: Callable[[], float] = time.time) -> None:
        self._client, self._dest, self._now = client, client.url(key), now
        self._folder = f"{key}/{FOLDER}"
        self._key = f"{self._folder}/lease"
        self._owner, self._count, self._etag = uuid.uuid4().hex, 0, ""
        self._until_s = 0.0
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="octree-lease", daemon=True)
        self.lost = False

    def __enter__(self) -> Self:
        self._probe()
        _held.add(self._owner)
        try:
            while not self._take():
                pass
        except BaseException:
            _held.discard(self._owner)
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        _held.discard(self._owner)
        if not self.lost:
            with suppress(OctreeError):  # it runs out by itself
                waited(self._client.delete([self._key]))

    def check(self) -> None:
        """Raises DestinationError unless the lease is held now. Asks the store."""
        self._renew()
        if self.lost:
            raise DestinationError(
                f"another build has taken over {self._dest}: this one did not renew its lease in time",
                hint="see which of the two is wanted; --resume goes on when the other has ended",
                path=self._dest,
            )

    def _body(self) -> bytes:
        self._count += 1
        self._until_s = self._now() + HOLDS_S
        document = {
            "octree_lease": 1,
            "owner": self._owner,
            "count": self._count,
            "until_s": self._until_s,
            "process": me(),
        }
        return json.dumps(document).encode()

    def _probe(self) -> None:
        """Does the store keep conditions? Without them two builds could write at once unnoticed. Raises DestinationError."""
        # twice: a build that ends may tidy away what is being tried
        if not (self._keeps_conditions() or self._keeps_conditions()):
            raise DestinationError(
                f"{self._dest} cannot be built: its store writes where a condition forbids it (If-None-Match, If-Match), so that "
                "two builds could not know of each other",
                hint="use a store with conditional writes, as S3, GCS, Azure, MinIO and SeaweedFS have; or build here and copy it there",
                path=self._dest,
            )

    def _keeps_conditions(self) -> bool:
        key = f"{self._folder}/{PROBE}{uuid.uuid4().hex}"
        waited(self._client.put_once(key, b"1"))
        try:
            return self._refuses(key, create=True) and self._refuses(key, match='"no-such"')
        finally:
            waited(self._client.delete([key]))

    def _refuses(self, key: str, **condition: Any) -> bool:
        try:
            waited(self._client.put(key, b"2", **condition))
        except RemoteError as error:
            if error.fault in ("exists", "changed"):
                return True
            raise
        return False

    def _take(self) -> bool:
        """Whether it is held now; False: look again. Raises DestinationError."""
        try:
            self._etag = waited(self._client.put_once(self._key, self._body()))
            return True
        except RemoteError as error:
            if error.fault != "exists":
                raise
        got = waited(self._client.get(self._key))
        if got is None or got.etag is None:
            return False
        owner, process, left_s = _said(bytes(got.data), self._now())
        if left_s > 0 and (owner in _held or may_live(process)):
            raise DestinationError(
                f"another build is writing {self._dest} ({process}); its lease holds for {left_s:.0f} s",
                hint="wait until it has ended: a build that was killed elsewhere is taken over when its lease has run out",
                path=self._dest,
            )
        try:
            self._etag = waited(self._client.put_once(self._key, self._body(), match=got.etag))
            return True
        except RemoteError as error:
            if error.fault not in ("changed", "exists"):
                raise
            return False

    def _keep(self) -> None:
        while not self._end.wait(RENEW_S):
            with suppress(OctreeError):  # the store is away: tried again, as long as the lease holds
                self._renew()
            if self.lost:
                return

    def _renew(self) -> None:
        with self._lock:
            if self.lost:
                return
            held_until_s = self._until_s
            try:
                self._etag = waited(self._client.put_once(self._key, self._body(), match=self._etag))
            except RemoteError as error:
                self._until_s = held_until_s
                gone = error.fault in ("changed", "exists") or error.details.get("status") == "404"
                self.lost = gone or self._now() > held_until_s
                if not self.lost:
                    raise


def _said(data: bytes, now_s: float) -> tuple[str, str, float]:
    """Owner, its process, and for how long a lease still holds; one that says nothing that is known holds no longer."""
    try:
        document = json.loads(data)
        left_s = min(float(document["until_s"]) - now_s, HOLDS_S)
        return str(document["owner"]), str(document["process"]), left_s
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", "unknown process", 0.0
