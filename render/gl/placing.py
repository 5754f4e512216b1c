"""vispy's transforms, begun near the view: float32 cannot tell pixels apart beyond 2^24."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vispy.visuals.transforms.base_transform import BaseTransform


class Placing:
    """What a shader is given instead of a visual's transform, when positions are sent relative to an origin.

    ``current`` is that transform; the same object as long as the kind of transform is the same, so that the shader
    stays as it is. Owned by one visual; main thread only.
    """

    def __init__(self) -> None:
        from vispy.visuals.transforms import MatrixTransform, STTransform

        self._matrix, self._shift = MatrixTransform(), STTransform()
        self._curved: BaseTransform | None = None
        self.current: BaseTransform = self._matrix

    def begin(self, transform: BaseTransform, origin: tuple[float, ...]) -> BaseTransform:
        """``transform`` for positions relative to ``origin`` (y, x): worked out in float64 where it is a matrix,
        perspective included. Where it bends space, float32 must do."""
        from vispy.visuals.transforms import ChainTransform

        y, x = origin
        if transform.Linear:
            rows = np.asarray(transform.map(np.eye(4)), np.float64)
            rows[3] += x * rows[0] + y * rows[1]
            self._matrix.matrix, self.current, self._curved = rows, self._matrix, None
        elif transform is not self._curved:  # a new chain is a new shader
            self._curved, self.current = transform, ChainTransform([transform, self._shift])
        self._shift.translate = (x, y)
        return self.current
