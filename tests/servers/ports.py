"""Free ports of loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

MOST_S = 60.0
"""A server that does not answer by then is broken."""


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens at now. Another process may be faster: servers are begun anew then."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def until_ready(answers: Callable[[], bool], has_ended: Callable[[], bool]) -> bool:
    """Wait until the server answers; False when it has ended. Raises TimeoutError."""
    until = time.monotonic() + MOST_S
    while not answers():
        if has_ended():
            return False
        if time.monotonic() > until:
            raise TimeoutError("the server does not answer")
        time.sleep(0.02)
    return True


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
