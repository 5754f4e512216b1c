"""Motion that is measured: a table of what a camera does."""

from __future__ import annotations

import pytest

from octree.pyramid.grid import Region
from octree.render.view.motion import Motion


def at(y: float, x: float) -> Region:
    return Region((y, x), (y + 300, x + 400))


def measured(places: list[tuple[float, float, float]]) -> tuple[float, float]:
    """The motion after (ms, y, x) one after the other."""
    motion = Motion()
    return [motion.measure(now_ms, at(y, x)) for now_ms, y, x in places][-1]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(0, 5, 5)], (0.0, 0.0)),
        ([(0, 0, 0), (0, 0, 50)], (0.0, 0.0)),  # no time has passed
        ([(0, 0, 0), (16, 0, 32)], (0.0, 2.0)),
        ([(16 * n, -8 * n, 32 * n) for n in range(20)], (-0.5, 2.0)),
        # jerks of a hand: two steps, then none
        ([(0, 0, 0), (16, 0, 60), (32, 0, 120), (48, 0, 120)], (0.0, 2.5)),
        # it stands: after a moment it has no motion at all
        ([(0, 0, 0), (16, 0, 60), *((32 + 16 * n, 0, 60) for n in range(5))], (0.0, 0.0)),
        # a jump is no motion, before or after
        ([(0, 0, 0), (16, 0, 60), (32, 5000, 0)], (0.0, 0.0)),
        ([(0, 0, 0), (16, 0, 60), (32, 5000, 0), (48, 5000, 16)], (0.0, 1.0)),
        # seldom asked: from the last time on
        ([(0, 0, 0), (1000, 0, 100), (2000, 0, 300)], (0.0, 0.2)),
    ],
)
def test_motion_is_that_of_the_last_moment(
    places: list[tuple[float, float, float]], expected: tuple[float, float]
) -> None:
    assert measured(places) == pytest.approx(expected)


def test_a_view_that_only_grows_stands_still() -> None:
    motion = Motion()
    motion.measure(0, at(0, 0))
    assert motion.measure(16, Region((-30, -40), (330, 440))) == (0.0, 0.0)
