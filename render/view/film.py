"""Where a run stands among its shots, and which come next. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from octree.render.view.camera import Camera
from octree.render.view.shots import Shot
from octree.render.view.state import ViewState


class Film:
    """The shots of a run in order, and how far it has come. One owner: the scene that shows them.

    ``steps``  they show more than one plane, or place on any axis that is not displayed.
    ``waits``  streamed frames, too, come when their tiles do.
    """

    def __init__(self, shots: Sequence[Shot], *, waits: bool = False) -> None:
        self._shots, self._waits, self._at = tuple(shots), waits, -1
        self.steps = len({shot.state.slicing for shot in shots}) > 1

    def go_on(self, state: ViewState) -> None:
        """This is shown now: the same as before, or what comes next. What is not among the shots is no part of it."""
        for at in range(max(0, self._at), len(self._shots)):
            if self._shots[at].state is state:
                self._at = at
                return
        self._at = len(self._shots)

    @property
    def _now(self) -> Shot | None:
        return self._shots[self._at] if 0 <= self._at < len(self._shots) else None

    @property
    def plane_ms(self) -> float:
        """How long a plane is shown; 0: until the next one is there."""
        now = self._now
        if now is None or now.settle or self._waits:
            return 0.0
        return next((due_ms for _, due_ms in self.coming()), 0.0)

    @property
    def left_ms(self) -> float:
        """How long the plane that is shown now will be."""
        now = self._now
        if now is None or now.settle or self._waits:
            return math.inf
        slicing = now.state.slicing
        return next((due_ms for shot, due_ms in self.coming() if shot.state.slicing != slicing), math.inf)

    def later(self, ms: float) -> Camera | None:
        """Where the camera of what is streamed will be so long from now, or at the film's end; None where nothing comes."""
        now, found = self._now, None
        if now is None or now.settle:
            return None
        for shot in self._shots[self._at + 1 :]:
            if shot.starts_path:
                break
            found = shot.camera
            if shot.t_ms - now.t_ms >= ms:
                break
        return found

    def coming(self) -> Iterator[tuple[Shot, float]]:
        """Each shot to come that shows something else than the one before it, and when it is due (ms from now; 0: as soon as
        can be): of a run that stays in one plane none, and of what is streamed those of the same film."""
        now = self._now
        if now is None or not self.steps:
            return
        before = now.state
        for at in range(
            self._at + 1, len(self._shots)
        ):  # a part of them would be a copy, of a million perhaps
            shot = self._shots[at]
            if not now.settle and shot.starts_path:
                return
            if shot.state.slicing != before.slicing or shot.state.camera != before.camera:
                yield shot, 0.0 if now.settle else shot.t_ms - now.t_ms
            before = shot.state
