"""Requests to stores: the only file that asks obstore.

All requests run in one event loop, in a thread of its own; one client serves all that lies at one root. obstore itself tries
nothing again: retries are made, and counted, here and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from octree.pyramid.errors import UsageError
from octree.pyramid.store.place import Stamp
from octree.pyramid.store.remote.counts import Counts, register
from octree.pyramid.store.remote.credentials import az_settings, gs_settings, s3_settings
from octree.pyramid.store.remote.faults import Fault, RemoteError, error_of, fault_of
from octree.pyramid.store.remote.options import DEFAULT_REMOTE, RemoteOptions
from octree.pyramid.store.remote.url import parse_url, said

T = TypeVar("T")
_WHOLE_BYTES = 16 * 2**20
"""What is taken whole from a server that gives no ranges."""
_SLOWEST_BYTES = 16 * 2**10
"""What must come in each read time-out: less is a connection that drips."""
_BACKOFF_S, _LONGEST_S = 0.1, 5.0


class Got(NamedTuple):
    """Bytes of a value, from ``start`` on; ``size`` is the whole value's. ``data`` is a buffer."""

    data: Any
    start: int
    size: int
    etag: str | None


class Bytes(Protocol):
    """Values of a store, in the event loop of this file. Coroutines are cancelled by cancelling their task: the connection
    closes."""

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> Got | None:
        """None: there is no such value. Less than asked for where the value ends."""

    async def tail(self, key: str, count: int) -> Got | None:
        """The last ``count`` bytes, or all, in one request."""


# the loop


class _Loop:
    """The event loop of the process, begun when it is first wanted. A forked child begins its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._process != os.getpid():
                self._loop, self._process = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, name="remote-requests", daemon=True).start()
            return self._loop


_loop = _Loop()


def event_loop() -> asyncio.AbstractEventLoop:
    """The loop in which requests run."""
    return _loop.get()


def in_loop(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Begin it in the loop, from any other thread. Cancelling the future cancels the task."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop.get())


def waited(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns. Whatever interrupts the thread meanwhile (Ctrl-C, a limit of time) cancels it."""
    future = in_loop(coroutine)
    try:
        while True:
            try:
                # in short waits: what another thread raises in this one is heard between them
                return future.result(timeout=0.2)
            except TimeoutError:
                if future.done():
                    return future.result()
    except BaseException:
        future.cancel()
        raise


# clients


class RemoteClient:
    """Values below ``root`` (``https://host``, ``s3://bucket``). Coroutines are for the loop of ``in_loop``; counts may be
    read by any thread. Owner of the connections, and of the counts: the loop."""

    def __init__(self, root: str, options: RemoteOptions, settings: dict[str, Any]) -> None:
        self.root, self.options = root, options
        self._web = root.startswith(("http://", "https://"))
        self._store = _open_store(root, options, settings)
        self._busy = asyncio.Semaphore(options.in_flight)
        self._requests = self._bytes = self._retries = self._fill_tiles = 0
        self._noting = threading.Lock()
        self._no_ranges = False
        register(self.counts)

    def __repr__(self) -> str:
        return f"<RemoteClient {self.root}>"

    def __reduce__(self) -> Any:
        return client_of, (self.root, self.options)

    def counts(self) -> Counts:
        return Counts(self._requests, self._bytes, self._retries, self._fill_tiles)

    def note_fill(self, count: int = 1) -> None:
        """So many chunks were asked for that are not stored. Any thread."""
        with self._noting:
            self._fill_tiles += count

    def url(self, key: str) -> str:
        return said(self.root, key)

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> Got | None:
        """The value's bytes from ``start`` to ``stop``, fewer where it ends; None where there is no such value. Raises
        RemoteError."""
        if stop is not None and stop <= start:
            raise ValueError(f"no bytes from {start} to {stop}")
        wanted = None if start == 0 and stop is None else {"offset": start} if stop is None else (start, stop)
        return await self._tried(key, lambda: self._get(key, wanted, start, stop))

    async def tail(self, key: str, count: int) -> Got | None:
        """The last ``count`` bytes of the value, or all of fewer. Raises RemoteError."""
        return await self._tried(key, lambda: self._get(key, {"suffix": count}, -count, None))

    async def head(self, key: str) -> Stamp | None:
        """Raises RemoteError."""
        import obstore

        async def ask() -> Stamp | None:
            meta = await obstore.head_async(self._store, key)
            return Stamp(int(meta["size"]), _changed(meta))

        return await self._tried(key, lambda: self._timed(ask()))

    async def names(self, prefix: str) -> list[str] | None:
        """Names directly below ``prefix``, sorted, those of folders with ``/`` at the end; None of web servers, which
        cannot list. Raises RemoteError."""
        if self._web:
            return None
        import obstore

        async def ask() -> list[str]:
            found = await obstore.list_with_delimiter_async(self._store, prefix or None)
            folders = [f"{name.rstrip('/').rpartition('/')[2]}/" for name in found["common_prefixes"]]
            values = [each["path"].rpartition("/")[2] for each in found["objects"]]
            return sorted(folders + values)

        return await self._tried(prefix, lambda: self._timed(ask()), "list") or []

    async def keys(self, prefix: str) -> list[str]:
        """Every key that begins with ``prefix/``, sorted. Not of web servers, which cannot list. Raises RemoteError."""
        import obstore

        async def ask() -> list[str]:
            return sorted([each["path"] async for some in obstore.list(self._store, prefix) for each in some])

        return await self._tried(prefix, lambda: self._timed(ask(), 2**30), "list") or []

    async def put_once(self, key: str, data: bytes, *, match: str | None = None) -> str:
        """As ``put`` with ``create``, or ``match``. Where the answer to an earlier try was lost, what lies there is these very bytes:
        that is no other's."""
        try:
            return await self.put(key, data, create=match is None, match=match)
        except RemoteError as error:
            if error.fault not in ("exists", "changed"):
                raise
            got = await self.get(key)
            if got is None or bytes(got.data) != data or got.etag is None:
                raise
            return got.etag

    async def any_below(self, prefix: str) -> bool:
        """Does any key begin with ``prefix/``? True of web servers, which cannot say. Raises RemoteError."""
        if self._web:
            return True
        import obstore

        async def ask() -> bool:
            async for some in obstore.list(self._store, prefix or None, chunk_size=1):
                return len(some) > 0
            return False

        return bool(await self._tried(prefix, lambda: self._timed(ask()), "list"))

    async def put(self, key: str, data: Any, *, create: bool = False, match: str | None = None) -> str:
        """Set the value in one step; its new ETag. ``create``: only where there is none yet; ``match``: only where it still
        has that ETag. Raises RemoteError, of fault "exists" or "changed" for these."""
        import obstore

        mode: Any = "create" if create else {"e_tag": match} if match is not None else "overwrite"

        async def ask() -> str:
            done = await obstore.put_async(self._store, key, data, mode=mode, use_multipart=False)
            return str(done["e_tag"] or "")

        etag = await self._tried(key, lambda: self._timed(ask(), len(data)), "write")
        if etag is None:
            raise error_of(self.url(key), Fault("request", "404"), doing="write")
        return etag

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove the values there are. Raises RemoteError."""
        import obstore

        names = list(keys)
        if names:
            await self._tried(
                names[0], lambda: self._timed(obstore.delete_async(self._store, names)), "remove"
            )

    # one request

    async def _tried(self, key: str, attempt: Callable[[], Awaitable[T]], doing: str = "read") -> T | None:
        """``attempt`` until it goes well or is not worth another try. None: 404."""
        async with self._busy:
            for number in range(1, self.options.retries + 1):
                self._requests += 1
                self._retries += number > 1
                try:
                    return await attempt()
                except RemoteError:
                    raise
                except TimeoutError:
                    fault = Fault("stalled")
                except (OSError, ValueError, NotImplementedError) as error:
                    found = fault_of(type(error).__name__, str(error))
                    if found is None:
                        return None
                    fault = found
                except Exception as error:
                    if type(error).__module__.partition(".")[0] not in ("obstore", "pyo3_runtime"):
                        raise
                    found = fault_of(type(error).__name__, str(error))
                    if found is None:
                        return None
                    fault = found
                if fault.word == "forbidden" and self.options.missing_403 and doing == "read":
                    return None
                if not fault.again or number == self.options.retries:
                    raise error_of(self.url(key), fault, number, doing) from None
                longest_s = min(_LONGEST_S, _BACKOFF_S * 2 ** (number - 1))
                await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    async def _timed(self, request: Awaitable[T], count: int = 0) -> T:
        async with asyncio.timeout(self._longest_s(count)):
            return await request

    def _longest_s(self, count: int) -> float:
        """How long a request of so many bytes may take: it may neither hang nor drip."""
        return self.options.connect_timeout_s + self.options.read_timeout_s * (1 + count // _SLOWEST_BYTES)

    async def _get(self, key: str, wanted: Any, start: int, stop: int | None) -> Got | None:
        import obstore

        if self._no_ranges and wanted is not None:
            return await self._from_whole(key, start, stop)
        options: Any = {} if wanted is None else {"range": wanted}
        async with asyncio.timeout(self._longest_s(0)) as limit:
            try:
                result = await obstore.get_async(self._store, key, options=options)
            except Exception as error:
                fault = fault_of(type(error).__name__, str(error))
                if fault and fault.word == "ranges":
                    self._no_ranges = True
                elif not (fault and fault.code.startswith("416")):
                    raise
                limit.reschedule(None)
                if self._no_ranges:
                    self._requests += 1
                    return await self._from_whole(key, start, stop)
                return await self._beyond(key, start)
            meta, (first, last) = result.meta, result.range
            limit.reschedule(asyncio.get_running_loop().time() + self._longest_s(last - first))
            data = await result.bytes_async()
        self._check_data(key, data, last - first, result.attributes)
        return Got(data, first, int(meta["size"]), meta["e_tag"])

    async def _beyond(self, key: str, start: int) -> Got | None:
        """The empty range at the end of a value (416): of an empty one, or behind its last byte."""
        import obstore

        self._requests += 1
        meta = await self._timed(obstore.head_async(self._store, key))
        size = int(meta["size"])
        return Got(b"", max(0, size + start) if start < 0 else start, size, meta["e_tag"])

    async def _from_whole(self, key: str, start: int, stop: int | None) -> Got | None:
        """A part of a value from a server that gives whole ones only. Raises RemoteError when it is large."""
        import obstore

        async with asyncio.timeout(self._longest_s(0)) as limit:
            result = await obstore.get_async(self._store, key)
            meta = result.meta
            size = int(meta["size"])
            if size > _WHOLE_BYTES:
                raise error_of(self.url(key), Fault("ranges"))
            limit.reschedule(asyncio.get_running_loop().time() + self._longest_s(size))
            data = await result.bytes_async()
        self._check_data(key, data, size, result.attributes)
        first = max(0, size + start) if start < 0 else min(start, size)
        return Got(memoryview(data)[first:stop], first, size, meta["e_tag"])

    def _check_data(self, key: str, data: Any, length: int, attributes: Any) -> None:
        self._bytes += len(data)
        if len(data) != length:
            raise TimeoutError if not len(data) else ConnectionResetError("IncompleteBody")
        if (
            self._web
            and bytes(memoryview(data)[:1]) == b"<"
            and str(attributes.get("Content-Type", "")).startswith("text/html")
        ):
            raise error_of(self.url(key), Fault("page"))


def _changed(meta: Any) -> str:
    return str(meta["e_tag"] or meta["last_modified"].isoformat())


def _open_store(root: str, options: RemoteOptions, settings: dict[str, Any]) -> Any:
    from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

    scheme, _, name = root.partition("://")
    settings = dict(settings)
    keys = settings.pop("keys", None)
    endpoint = root if scheme in ("http", "https") else _endpoint_of(settings) or ""
    client: dict[str, Any] = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=options.connect_timeout_s),
        "read_timeout": timedelta(seconds=options.read_timeout_s),
        "timeout": timedelta(days=7),  # what hangs is seen by other limits
        "user_agent": "octree",
    }
    never: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
    more: dict[str, Any] = {"client_options": client, "retry_config": never, **settings}
    if scheme in ("http", "https"):
        return HTTPStore(root, **more)
    if keys is not None:
        # a provider, so that the library adds nothing of the environment to them
        made = {
            "access_key_id": keys[0],
            "secret_access_key": keys[1],
            "token": keys[2] or None,
            "expires_at": None,
        }
        more["credential_provider"] = lambda: made
        if keys[2] and not _has_proxy():
            own = urlsplit(endpoint).hostname or f"s3.{settings['region']}.amazonaws.com"
            client |= {"proxy_url": f"http://{_NOWHERE}", "proxy_excludes": own}
    kinds: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    try:
        return kinds[scheme](name, **more)
    except Exception as error:  # its words are not shown: they may quote a credential
        raise UsageError(
            f"{root} cannot be reached with the credentials or options that there are ({type(error).__name__})",
            hint="check the variables of its provider (GOOGLE_APPLICATION_CREDENTIALS names a JSON file, "
            "AZURE_STORAGE_ACCOUNT_NAME an account), --endpoint and --region; or give --anonymous",
        ) from None


_NOWHERE = "127.0.0.1:1"
"""A proxy that is none, for all hosts but the store's own: requests carry a session token, which the library would send
along when the store leads them to another host. (What else is a credential, it leaves out there.)"""


def _has_proxy() -> bool:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return any(os.environ.get(name) or os.environ.get(name.lower()) for name in names)


def _endpoint_of(settings: Mapping[str, Any]) -> str | None:
    return settings.get("endpoint") or settings.get("base_url")


_clients: dict[tuple[str, RemoteOptions, str], RemoteClient] = {}
_clients_lock = threading.Lock()


def client_of(root: str, options: RemoteOptions = DEFAULT_REMOTE) -> RemoteClient:
    """The process's client for ``root``, with the credentials that the environment has now. Raises UsageError."""
    by_scheme = {"s3": s3_settings, "gs": gs_settings, "az": az_settings}
    make = by_scheme.get(root.partition("://")[0])
    settings = make(options, os.environ) if make else {}
    _check_endpoint(_endpoint_of(settings), options)
    known = repr((sorted(settings.items()), os.getpid())).encode()
    key = (root, options, hashlib.sha256(known).hexdigest())
    with _clients_lock:
        if key not in _clients:
            _clients[key] = RemoteClient(root, options, settings)
        return _clients[key]


def _check_endpoint(endpoint: str | None, options: RemoteOptions) -> None:
    if endpoint is not None:
        parse_url(endpoint, allow_http=options.allow_http)
