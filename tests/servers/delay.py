"""A TCP proxy on loopback that hands on what clients send, and takes their connections, so many milliseconds later: a
round trip takes as much longer, however many are under way. As a program: delay.py PORT TARGET-PORT MILLISECONDS"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

_BYTES = 1 << 18


class Delay:
    """``connections``: those that are open now."""

    def __init__(self, target: int, delay_s: float) -> None:
        self._target, self._delay_s = target, delay_s
        self.connections = 0

    async def serve(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", port, limit=1 << 20, backlog=512)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await asyncio.sleep(self._delay_s)  # the handshake's round trip
            back, forth = await asyncio.open_connection("127.0.0.1", self._target, limit=1 << 20)
            await asyncio.gather(
                self._hand_on(reader, forth, self._delay_s),
                self._hand_on(back, writer, 0.0),
                return_exceptions=True,
            )
        finally:
            self.connections -= 1
            writer.close()

    async def _hand_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
    ) -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def send() -> None:
            while True:
                due_s, data = await waiting.get()
                if (wait_s := due_s - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            writer.close()

        sender = asyncio.ensure_future(send())
        with suppress(OSError):
            while data := await reader.read(_BYTES):
                await waiting.put((loop.time() + delay_s, data))
        await waiting.put((loop.time() + delay_s, b""))
        with suppress(OSError):
            await sender


async def main(port: int, target: int, delay_ms: float) -> None:
    server = await Delay(target, delay_ms / 1000).serve(port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
