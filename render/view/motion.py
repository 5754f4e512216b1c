"""How fast a view moves where nobody says it: measured from where it has been. Pure."""

from __future__ import annotations

from collections import deque

from octree.pyramid.grid import Region

SPAN_MS = 50.0
"""Motion is measured over at least so long: what a hand does comes in jerks."""


class Motion:
    """The motion of one view; its owner says where it is, again and again."""

    def __init__(self) -> None:
        self._places: deque[tuple[float, Region]] = deque()

    def measure(self, now_ms: float, view: Region) -> tuple[float, float]:
        """How fast the middle of the view moves, base pixels per ms (y, x). A view that shares nothing with where it
        was has jumped there, and stands still."""
        places = self._places
        if places and view.intersect(places[-1][1]).is_empty:
            places.clear()
        while len(places) > 1 and places[1][0] <= now_ms - SPAN_MS:
            places.popleft()
        places.append((now_ms, view))
        then_ms, then = places[0]
        if now_ms <= then_ms:
            return 0.0, 0.0
        (y, x), (y0, x0), span_ms = view.centre, then.centre, now_ms - then_ms
        return (y - y0) / span_ms, (x - x0) / span_ms
