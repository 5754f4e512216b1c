"""Which bytes to ask a store for, so that many pieces of values come in few requests. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP_BYTES = 64 * 2**10
"""What lies between two pieces is read with them: at 50 ms and 100 MB/s a request of its own costs as much as 5 MB."""
MOST_BYTES = 8 * 2**20
"""Of one request: what a view wants first does not wait for more."""


class Joined(NamedTuple):
    """One request, and which of the spans, by number, it brings."""

    start: int
    stop: int
    members: tuple[int, ...]


def joined(
    spans: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES, most_bytes: int = MOST_BYTES
) -> list[Joined]:
    """Requests for all ``spans`` of one value, by their start. Each span lies whole in just one of them; those that are no
    further apart than ``gap_bytes`` come together, as long as that is at most ``most_bytes``."""
    found: list[Joined] = []
    members: list[int] = []
    start = stop = 0
    for number in sorted(range(len(spans)), key=spans.__getitem__):
        first, last = spans[number]
        if members and first - stop <= gap_bytes and max(stop, last) - start <= most_bytes:
            members.append(number)
            stop = max(stop, last)
            continue
        if members:
            found.append(Joined(start, stop, tuple(members)))
        members, start, stop = [number], first, last
    if members:
        found.append(Joined(start, stop, tuple(members)))
    return found
