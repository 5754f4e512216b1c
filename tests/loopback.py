"""A web server on loopback in this process, for tests: serves a dict of values with ranges, takes what it is told to go
wrong, counts requests and open connections."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request: method, decoded path without the leading slash, query, headers with lower-case names."""

    method: str
    path: str
    query: str
    headers: dict[str, str]

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


DATE = "Sun, 22 Nov 2026 00:00:00 GMT"
Rule = Callable[[Asked], "str | None"]
"""What goes wrong with a request: a word of ``Loopback.fault``, or None."""


@dataclass
class Loopback:
    """``values`` by path. ``rule`` says what goes wrong. ``asked`` is every request so far, ``open_connections`` how many
    there are now."""

    values: MutableMapping[str, bytes]
    rule: Rule = lambda asked: None
    asked: list[Asked] = field(default_factory=list)
    open_connections: int = 0
    port: int = 0
    redirect_to: str = ""
    together: Callable[[Asked], int] = lambda asked: 0
    """How many such requests there must be before any of them is answered: who asks one by one waits for ever."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def methods(self) -> Counter[str]:
        return Counter(one.method for one in self.asked)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split()
                headers = {}
                while (one := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = one.decode().partition(":")
                    headers[name.lower()] = value.strip()
                parts = urlsplit(target)
                asked = Asked(method, unquote(parts.path).lstrip("/"), parts.query, headers)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.asked.append(asked)
                # a client that goes away is seen while a fault keeps it waiting
                answer = asyncio.ensure_future(self.answer(asked, body, writer))
                gone = asyncio.ensure_future(self._gone(reader))
                try:
                    await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
                    if not answer.done() or not answer.result():
                        return
                finally:
                    answer.cancel()
                    gone.cancel()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()

    async def _gone(self, reader: asyncio.StreamReader) -> None:
        while not reader.at_eof():
            await asyncio.sleep(0.02)

    async def answer(self, asked: Asked, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Returns whether the connection goes on."""
        count = self.together(asked)
        while sum(self.together(one) == count for one in self.asked) < count:
            await asyncio.sleep(0.005)
        fault = self.rule(asked) or ""
        if fault.isdecimal():
            words = (
                b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>" if fault == "403" else b"x"
            )
            return await self.send(writer, asked, int(fault), words)
        if fault == "redirect":
            location = f"Location: {self.redirect_to}/{asked.path}\r\n"
            return await self.send(writer, asked, 307, b"", location)
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "html":
            return await self.send(writer, asked, 200, b"<html>log in</html>", "Content-Type: text/html\r\n")
        if asked.method == "PUT":
            if asked.headers.get("if-none-match") == "*" and asked.path in self.values:
                return await self.send(writer, asked, 412, b"")
            self.values[asked.path] = body
            return await self.send(writer, asked, 200, b"", f'ETag: "{hash(body):x}"\r\n')
        if asked.method == "DELETE":
            self.values.pop(asked.path, None)
            return await self.send(writer, asked, 204, b"")
        value = self.values.get(asked.path)
        if value is None:
            return await self.send(writer, asked, 404, b"not here")
        extra = f'ETag: "{len(value)}"\r\nAccept-Ranges: bytes\r\nLast-Modified: {DATE}\r\n'
        status, start, stop = 200, 0, len(value)
        if asked.range and fault != "range ignored":
            first, _, last = asked.range.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, len(value) - int(last))
            stop = min(int(last) + 1, len(value)) if first and last else len(value)
            if start >= len(value):
                return await self.send(writer, asked, 416, b"", f"Content-Range: bytes */{len(value)}\r\n")
            extra += f"Content-Range: bytes {start}-{stop - 1}/{len(value)}\r\n"
            status = 206
        data = value[start:stop]
        if fault in ("truncated", "hang in body", "drip"):
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{extra}\r\n".encode()
            half = len(data) // 2
            writer.write(head + data[:half])
            await writer.drain()
            if fault == "truncated":
                return False
            if fault == "hang in body":
                await asyncio.sleep(3600)
            for at in range(half, len(data)):
                writer.write(data[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0.05)
            return True
        return await self.send(writer, asked, status, data, extra)

    async def send(
        self, writer: asyncio.StreamWriter, asked: Asked, status: int, body: bytes, extra: str = ""
    ) -> bool:
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode()
        writer.write(head + (b"" if asked.method == "HEAD" else body))
        await writer.drain()
        return True


@contextmanager
def serving(values: MutableMapping[str, bytes] | Path) -> Iterator[Loopback]:
    """A server of ``values``, or of the files below a folder as they are now, while the block runs."""
    if isinstance(values, Path):
        folder = values
        values = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    server = Loopback(values)
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        listener.close()
        if busy := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in busy:
                task.cancel()
            await asyncio.wait(busy)
        await asyncio.sleep(0)  # transports close themselves in the next step

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
