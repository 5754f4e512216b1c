"""An HTTP server of a folder that does, when told to, what servers and networks do on bad days. It counts requests and
connections, so that tests need no clock."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

Kind = Literal[
    "401",
    "403",
    "404",
    "429",
    "500",
    "503",
    "reset",
    "truncated",
    "hanging",
    "hanging-body",
    "dripping",
    "range-ignored",
    "garbage",
    "html",
    "redirect",
]
_STATUS: Mapping[str, tuple[int, str, bytes, str]] = {
    "401": (401, "Unauthorized", b"who are you", 'WWW-Authenticate: Basic realm="x"\r\n'),
    "403": (403, "Forbidden", b"<Error><Code>AccessDenied</Code></Error>", ""),
    "404": (404, "Not Found", b"<Error><Code>NoSuchKey</Code></Error>", ""),
    "429": (429, "Too Many Requests", b"too many", "Retry-After: 0\r\n"),
    "500": (500, "Internal Server Error", b"oops", ""),
    "503": (503, "Service Unavailable", b"<Error><Code>SlowDown</Code></Error>", "Retry-After: 0\r\n"),
}


class Request(NamedTuple):
    """One that came: as it was asked, and the fault that it met, "" for none."""

    method: str
    path: str
    range: str
    headers: Mapping[str, str]
    fault: str


@dataclass(slots=True)
class Fault:
    """``where``: part of the path of requests that it concerns. ``left``: how many more, None for all."""

    kind: Kind
    where: str = ""
    left: int | None = None
    to: str = ""

    def meets(self, method: str, path: str) -> bool:
        if self.where not in path or self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        return True


@dataclass(slots=True)
class _Seen:
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    unanswered: int = 0


class FaultServer:
    """Serves the files below ``root`` from a thread of its own, with what ``faults`` say (the first that meets a request).
    Any thread may read and set; ``changed`` is notified of every request that comes and connection that goes."""

    def __init__(self, root: Path, drip_s: float = 0.02) -> None:
        self.root, self.faults = root, list[Fault]()
        self.changed = threading.Condition()
        self._seen, self._drip_s = _Seen(), drip_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-server", daemon=True)
        self._started = threading.Event()
        self.port = 0
        self._thread.start()
        self._started.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fault(self, kind: Kind, where: str = "", times: int | None = None, to: str = "") -> None:
        """From now on; ``to``: where a redirect leads."""
        self.faults.append(Fault(kind, where, times, to))

    def reset(self) -> None:
        """No faults, nothing counted."""
        with self.changed:
            self.faults.clear()
            self._seen.requests.clear()
            self._seen.connections = self._seen.open

    @property
    def requests(self) -> list[Request]:
        with self.changed:
            return list(self._seen.requests)

    @property
    def open_connections(self) -> int:
        """Those that the other side has not closed."""
        with self.changed:
            return self._seen.open

    @property
    def unanswered(self) -> int:
        """Requests whose connection is there and whose answer is not complete."""
        with self.changed:
            return self._seen.unanswered

    def wait_for(self, true: Callable[[FaultServer], bool], limit_s: float = 20.0) -> None:
        """Until ``true`` of what has been counted. Raises TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(lambda: true(self), limit_s):
                raise TimeoutError(f"{self._seen}")

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        listen = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        server = self._loop.run_until_complete(listen)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in (left := asyncio.all_tasks(self._loop)):
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.run_until_complete(asyncio.sleep(0))  # connections that are being closed
        self._loop.close()

    @contextmanager
    def _counted(self, name: Literal["open", "unanswered"]) -> Iterator[None]:
        with self.changed:
            setattr(self._seen, name, getattr(self._seen, name) + 1)
            self._seen.connections += name == "open"
            self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                setattr(self._seen, name, getattr(self._seen, name) - 1)
                self.changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            self._counted("open"),
            suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError),
        ):
            ahead = b""
            try:
                while request := await _request(reader, ahead):
                    with self._counted("unanswered"):
                        # who has hung up is seen while an answer is waited for, too
                        answer = asyncio.ensure_future(self._answer(*request, writer))
                        more = asyncio.ensure_future(reader.read(1))
                        await asyncio.wait({answer, more}, return_when=asyncio.FIRST_COMPLETED)
                        if not answer.done():
                            answer.cancel()
                            return
                        more.cancel()
                        await asyncio.wait({more})
                        ahead = b"" if more.cancelled() else more.result()
                        if not answer.result():
                            return
            finally:
                writer.close()

    async def _answer(
        self, method: str, path: str, headers: Mapping[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        """False: the connection is to be closed."""
        asked = headers.get("range", "")
        with self.changed:
            found = next((fault for fault in self.faults if fault.meets(method, path)), None)
            kind = found.kind if found else ""
            self._seen.requests.append(Request(method, path, asked, headers, kind))
            self.changed.notify_all()
        if kind in _STATUS:
            return await _send(writer, method, *_STATUS[kind])
        if kind == "redirect":
            assert found is not None
            return await _send(writer, method, 302, "Found", b"", f"Location: {found.to}{path}\r\n")
        if kind == "reset":
            writer.transport.abort()
            return False
        if kind == "hanging":
            await asyncio.Event().wait()
        if kind == "html":
            return await _send(writer, method, 200, "OK", b"<html>please log in</html>", "")
        file = self.root / unquote(urlsplit(path).path).lstrip("/")
        if not file.is_file():
            return await _send(writer, method, *_STATUS["404"])
        status, words, body, head = _part(file, "" if kind == "range-ignored" else asked)
        if kind == "garbage" and body:
            body = os.urandom(len(body))
        if kind in ("truncated", "hanging-body", "dripping"):
            return await self._badly(kind, writer, status, words, body, head)
        return await _send(writer, method, status, words, body, head)

    async def _badly(
        self, kind: str, writer: asyncio.StreamWriter, status: int, words: str, body: bytes, head: str
    ) -> bool:
        half = len(body) // 2
        writer.write(_head(status, words, len(body), head) + body[:half])
        await writer.drain()
        if kind == "hanging-body":
            await asyncio.Event().wait()
        if kind == "dripping":
            for start in range(half, len(body), max(1, (len(body) - half) // 20)):
                writer.write(body[start : start + max(1, (len(body) - half) // 20)])
                await writer.drain()
                await asyncio.sleep(self._drip_s)
            return True
        return False


async def _request(reader: asyncio.StreamReader, ahead: bytes) -> tuple[str, str, dict[str, str]] | None:
    line = ahead + await reader.readline()
    if not line.strip():
        return None
    method, path, _ = line.decode().split()
    headers = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    if count := int(headers.get("content-length", 0)):
        await reader.readexactly(count)
    return method, path, headers


def _part(file: Path, asked: str) -> tuple[int, str, bytes, str]:
    """Status, its words, body, and more lines of the head."""
    data = file.read_bytes()
    size = len(data)
    changed = formatdate(file.stat().st_mtime, usegmt=True)
    more = f'ETag: "{file.stat().st_mtime_ns:x}-{size:x}"\r\nAccept-Ranges: bytes\r\nLast-Modified: {changed}\r\n'
    if not asked.startswith("bytes="):
        return 200, "OK", data, more
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, size - int(last))
    stop = min(int(last) + 1, size) if first and last else size
    if start >= size or stop <= start:
        return 416, "Range Not Satisfiable", b"", f"Content-Range: bytes */{size}\r\n"
    return (
        206,
        "Partial Content",
        data[start:stop],
        f"{more}Content-Range: bytes {start}-{stop - 1}/{size}\r\n",
    )


def _head(status: int, words: str, count: int, more: str) -> bytes:
    return f"HTTP/1.1 {status} {words}\r\nContent-Length: {count}\r\n{more}\r\n".encode()


async def _send(
    writer: asyncio.StreamWriter, method: str, status: int, words: str, body: bytes, more: str
) -> bool:
    writer.write(_head(status, words, len(body), more) + (b"" if method == "HEAD" else body))
    await writer.drain()
    return True
