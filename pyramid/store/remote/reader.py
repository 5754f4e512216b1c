"""Arrays in remote stores, read by ranges of bytes: one request for each tile, and one for each shard's index.

Requests run in the event loop of ``client.py``, as many at a time as the client lets; chunks are decoded in the thread that
asks for the result. Reads that are begun together are planned together, so that neighbours come in one request.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from typing import Any, NamedTuple

from numpy.typing import NDArray

from octree.pyramid.errors import SourceError
from octree.pyramid.model import Box
from octree.pyramid.store.chunk_files import ChunkPlace
from octree.pyramid.store.reading import WAIT_S, CancelledError, Started, begin_held, hold
from octree.pyramid.store.remote.assembling import Assembler
from octree.pyramid.store.remote.client import Bytes, Got, event_loop
from octree.pyramid.store.remote.faults import RemoteError
from octree.pyramid.store.remote.indices import INDICES, IndexCache, ShardIndex, parsed
from octree.pyramid.store.remote.ranges import Joined, joined
from octree.pyramid.store.shards import index_bytes
from octree.pyramid.store.zarr_meta import ArrayMeta

_MISSES = 16
"""Values in a row that are not there: then it is asked whether the array still is, and again after twice as many."""
_numbers = itertools.count()


class Fetched(Started):
    """A read whose bytes come by themselves. Owner of what has come: the event loop, until all has."""

    def __init__(self, reader: RangeReader, box: Box) -> None:
        self._reader, self._box = reader, box
        self.places = reader.assembler.places(box)
        self.encoded: list[Any] = [None] * len(self.places)
        self.left = len(self.places)
        self.jobs: set[_Job] = set()
        self.ended: Future[None] = Future()
        if not self.places:
            self.ended.set_result(None)

    def result(self) -> NDArray[Any]:
        try:
            # in short waits: what another thread raises in this one (Ctrl-C, a limit of time) is heard between them
            while not self.wait(WAIT_S):
                pass
        except BaseException:
            self.cancel()
            raise
        self.ended.result()
        return self._reader.assembler.voxels(self._box, self.places, self.encoded)

    def wait(self, timeout_s: float) -> bool:
        if self.ended.done():
            return True
        begin_held()
        try:
            self.ended.exception(timeout=timeout_s)
        except WaitTimeout:
            return self.ended.done()
        except CancelledError:
            return True
        return True

    def cancel(self) -> None:
        if self.ended.cancel():
            _inbox_of().put([self])

    # in the loop

    def take(self, number: int, data: Any) -> None:
        self.encoded[number] = data
        self.left -= 1
        if not self.left and not self.ended.done():
            _set(self.ended, None)

    def fail(self, error: BaseException) -> None:
        if not self.ended.done():
            _set(self.ended, error)
        self.give_up()

    def give_up(self) -> None:
        """End what nobody waits for any more."""
        for job in list(self.jobs):
            job.leave(self)


def _set(future: Future[None], error: BaseException | None) -> None:
    """Whoever cancels at the same moment has it so."""
    if future.set_running_or_notify_cancel():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


class _Want(NamedTuple):
    """A chunk that a read waits for: its number in the read, and where it is stored. ``again``: what was known of its shard was
    out of date."""

    fetched: Fetched
    number: int
    again: bool = False

    @property
    def place(self) -> ChunkPlace:
        return self.fetched.places[self.number]


_under_way: set[asyncio.Task[None]] = set()
"""The loop itself holds no task, nor does a read that nobody holds."""


class _Job:
    """A request under way, and the reads that wait for it: without any it ends, and its connection is closed."""

    def __init__(self, wants: Iterable[_Want]) -> None:
        self.wants: list[_Want] = []
        self._waiting: set[Fetched] = set()
        self._task: asyncio.Task[None] | None = None
        self.is_ending = False
        self.join(wants)

    def join(self, wants: Iterable[_Want]) -> None:
        for want in wants:
            self.wants.append(want)
            self._waiting.add(want.fetched)
            want.fetched.jobs.add(self)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.ensure_future(work)
        _under_way.add(self._task)
        self._task.add_done_callback(_under_way.discard)

    def leave(self, fetched: Fetched) -> None:
        self._waiting.discard(fetched)
        fetched.jobs.discard(self)
        if not self._waiting and self._task is not None:
            self.is_ending = True
            self._task.cancel()

    def over(self) -> list[_Want]:
        """What is still wanted of it."""
        for fetched in self._waiting:
            fetched.jobs.discard(self)
        self._waiting.clear()
        return [want for want in self.wants if not want.fetched.ended.done()]


class RangeReader:
    """Reads one array of which the values begin with ``key`` in ``values``. ``start`` is for any thread; everything else is
    the event loop's. ``where`` is what users call the array. Raises UnknownCodec."""

    def __init__(
        self,
        values: Bytes,
        key: str,
        meta: ArrayMeta,
        what: str,
        where: str,
        indices: IndexCache = INDICES,
    ) -> None:
        self.assembler = Assembler(meta, what, where)
        self._values, self._head, self._where = values, f"{key}/" if key else "", where
        self._meta, self._what, self._indices = meta, what, indices
        self._number = next(_numbers)  # a reader that is opened later looks anew
        self._looked_up: dict[str, _Job] = {}
        self._misses, self._look_at = 0, _MISSES

    def start(self, box: Box, explain: Callable[[BaseException], Exception]) -> Fetched:
        """Begin to read ``box``. Errors are told by the reading."""
        fetched = Fetched(self, box)
        if fetched.places:
            inbox = _inbox_of()
            if not hold(inbox.put, fetched):
                inbox.put([fetched])
        return fetched

    # in the loop

    def begin(self, reads: Sequence[Fetched]) -> None:
        """Ask for what all of them want."""
        by_unit: dict[str, list[_Want]] = {}
        for fetched in reads:
            for number, place in enumerate(fetched.places):
                by_unit.setdefault(place.key, []).append(_Want(fetched, number))
        for key, wants in by_unit.items():
            self._want(key, wants)

    def _want(self, key: str, wants: list[_Want]) -> None:
        if not self._meta.shards:
            self._run(wants, functools.partial(self._fetch_whole, key))
            return
        index = self._indices.get((self._number, key))
        if index is not None:
            self._ask(key, index, wants)
        elif (pending := self._looked_up.get(key)) is not None and not pending.is_ending:
            pending.join(wants)
        else:
            self._looked_up[key] = self._run(wants, functools.partial(self._look_up, key))

    def _run(self, wants: list[_Want], work: Callable[[_Job], Coroutine[Any, Any, None]]) -> _Job:
        job = _Job(wants)
        job.begin(self._guarded(job, work(job)))
        return job

    async def _guarded(self, job: _Job, work: Coroutine[Any, Any, None]) -> None:
        """Whatever goes wrong is an error of the reads that wait for it."""
        try:
            await work
        except asyncio.CancelledError:
            for want in job.over():
                want.fetched.fail(CancelledError())
            raise
        except Exception as error:
            for want in job.over():
                want.fetched.fail(self._told(want, error))

    def _told(self, want: _Want, error: Exception) -> Exception:
        """The error of a request, as one of the chunk for which it was made."""
        assembler, place = self.assembler, want.place
        if isinstance(error, RemoteError):
            details = {**error.details, **assembler.details(place)}
            details.pop("fault", None)
            said = f"{assembler.name_of(place)} cannot be read: {error.message}"
            return RemoteError(said, fault=error.fault, hint=error.hint, **details)
        if isinstance(error, ValueError):
            return assembler.damaged(place, str(error))
        return error

    async def _look_up(self, key: str, job: _Job) -> None:
        """The index of a shard, for all that have wanted it until it comes."""
        try:
            index = await self._index(key)
        finally:
            if self._looked_up.get(key) is job:
                del self._looked_up[key]
        if index is None:
            await self._absent(key, job)
            return
        self._misses, self._look_at = 0, _MISSES
        self._indices.put((self._number, key), index)
        self._ask(key, index, job.over())

    async def _index(self, key: str) -> ShardIndex | None:
        assert self._meta.shards is not None
        count = index_bytes(self._meta.shards, self._meta.chunks)
        if self._meta.index_location == "start":
            got = await self._values.get(self._head + key, 0, count)
        else:
            got = await self._values.tail(self._head + key, count)
        return None if got is None else parsed(bytes(got.data), self._meta, got.size, got.etag)

    def _ask(self, key: str, index: ShardIndex, wants: list[_Want]) -> None:
        """For the chunks of one shard, neighbours together."""
        stored, spans = [], []
        for want in wants:
            span = index.span(want.place.number)
            if span is None:
                want.fetched.take(want.number, None)
                continue
            try:
                self.assembler.check_length(span[1] - span[0])
            except ValueError as error:
                want.fetched.fail(self._told(want, error))
                continue
            stored.append(want)
            spans.append(span)
        for request in joined(spans):
            members = [(stored[number], spans[number]) for number in request.members]
            fetch = functools.partial(self._fetch_range, key, index, request, members)
            self._run([want for want, _ in members], fetch)

    async def _fetch_range(
        self,
        key: str,
        index: ShardIndex,
        request: Joined,
        members: list[tuple[_Want, tuple[int, int]]],
        job: _Job,
    ) -> None:
        got = await self._values.get(self._head + key, request.start, request.stop)
        if not _is_same(got, index) or got is None:
            self._again(key, job)
            return
        data = memoryview(got.data)
        if len(data) < request.stop - request.start:
            raise ValueError(f"{len(data)} of {request.stop - request.start} bytes came")
        job.over()
        for want, (start, stop) in members:
            want.fetched.take(want.number, data[start - request.start : stop - request.start])

    def _again(self, key: str, job: _Job) -> None:
        """The shard is another one than its index was read from: look once more, and not for ever."""
        self._indices.drop((self._number, key))
        wants = job.over()
        for want in wants:
            if want.again:
                told = self._told(want, ValueError("it is changed again and again while it is read"))
                want.fetched.fail(told)
        if fresh := [want._replace(again=True) for want in wants if not want.again]:
            self._want(key, fresh)

    async def _fetch_whole(self, key: str, job: _Job) -> None:
        """A chunk that is a value of its own. More than it could take is not asked for."""
        most = self.assembler.most_encoded_bytes
        got = await self._values.get(self._head + key, 0, most + 1)
        if got is None:
            await self._absent(key, job)
            return
        self._misses, self._look_at = 0, _MISSES
        self.assembler.check_length(got.size)
        data = memoryview(got.data)
        for want in job.over():
            want.fetched.take(want.number, data)

    async def _absent(self, key: str, job: _Job) -> None:
        """There is no such value: fill. When many in a row are not there, the array itself may be gone."""
        self._misses += 1
        if self._misses >= self._look_at:
            self._look_at = 2 * self._misses
            await self._check_array()
        wants = job.over()
        note = getattr(self._values, "note_fill", None)
        if note is not None:
            note(len(wants))
        for want in wants:
            want.fetched.take(want.number, None)

    async def _check_array(self) -> None:
        name = "zarr.json" if self._meta.zarr_format == 3 else ".zarray"
        if await self._values.get(f"{self._head}{name}", 0, 1) is None:
            raise SourceError(
                f"{self._what} at {self._where} is no longer there, nor are its chunks",
                hint="it has been removed or moved since it was opened",
                path=self._where,
            )


def _is_same(got: Got | None, index: ShardIndex) -> bool:
    """Do the bytes come from the value that the index was read from?"""
    return got is not None and got.size == index.size and index.etag in (None, got.etag)


class _Inbox:
    """Reads that are begun, and given up, on their way to the event loop: those that come together are planned together.
    Owner: whoever holds the lock; the loop takes them out."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._reads: deque[Fetched] = deque()
        self._awake = False
        self._seen = 0

    def put(self, reads: list[Fetched]) -> None:
        with self._lock:
            self._reads.extend(reads)
            awake, self._awake = self._awake, True
        if not awake:
            self.loop.call_soon_threadsafe(self._gather)

    def _gather(self) -> None:
        """A turn of the loop later again, as long as each turn brings more."""
        if len(self._reads) > self._seen:
            self._seen = len(self._reads)
            self.loop.call_soon(self._gather)
            return
        with self._lock:
            reads, self._reads = self._reads, deque()
            self._awake, self._seen = False, 0
        by_reader: dict[int, list[Fetched]] = {}
        for fetched in reads:
            if fetched.ended.cancelled():
                fetched.give_up()
            else:
                by_reader.setdefault(id(fetched._reader), []).append(fetched)
        for group in by_reader.values():
            group[0]._reader.begin(group)


_inboxes: dict[int, _Inbox] = {}


def _inbox_of() -> _Inbox:
    """Of the process's loop: one, but a forked child has a loop of its own."""
    loop = event_loop()
    found = _inboxes.get(id(loop))
    if found is None or found.loop is not loop:
        found = _inboxes[id(loop)] = _Inbox(loop)
    return found
