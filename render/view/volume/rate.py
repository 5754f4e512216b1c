"""How much coarser a volume is drawn while its camera moves, so that a frame rate holds. Pure.

A ray's samples lie as far apart as the wanted voxels are large: one halving less is half the samples, and half the time.
"""

from __future__ import annotations

import math

SLACK = 0.7
"""Finer again only where that would take no more than this share of a frame's time: else levels would go to and fro."""
MOST = 6
"""Halvings: an eighth of the samples looks like the volume still, a sixty-fourth tells at least where it is."""


class Pacer:
    """Remembers what frames took, and says by how many halvings the next one should be coarser. One for each node."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._fine_ms = 0.0  # what a frame takes that is as fine as wanted, as far as is known
        self._coarser = 0

    def note(self, ms: float, coarser: int) -> None:
        """A frame that was drawn by so many halvings coarser took so long."""
        self._fine_ms = ms * 2**coarser

    def coarser(self, *, moving: bool) -> int:
        """For the next frame; 0 when the camera stands."""
        if not moving:
            self._coarser = 0
            return 0
        frames = self._fine_ms * self.fps / 1000  # how many frames long a fine one is
        if frames * 0.5**self._coarser > 1:
            self._coarser = min(math.ceil(math.log2(frames)), MOST)
        elif self._coarser:
            self._coarser = min(self._coarser, max(0, math.ceil(math.log2(max(frames / SLACK, 1e-9)))))
        return self._coarser
