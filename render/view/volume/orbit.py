"""Where a camera around a volume stands: the point it looks at, angles in degrees, and rotations between them. Pure.

*World*: level-0 voxels of the first source, y and z stretched by voxel size: units of one level-0 voxel of x. x points
to the right, y down, and z away from the viewer of azimuth 0 and elevation 0. Vectors are (x, y, z).

A positive *azimuth* takes the camera to the right around the vertical axis, y: what is in front moves to the left, and the
right side comes into view. A positive *elevation* lifts the camera: the top tilts towards the viewer. A positive *roll*
turns the picture clockwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

Vec: TypeAlias = tuple[float, float, float]
"""(x, y, z)."""
_Quaternion: TypeAlias = tuple[float, float, float, float]
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Orbit:
    """What a camera around a volume has beside x, y and zoom: ``z`` of the point at the middle of the frame (camera
    coordinates), angles in degrees. ``fov``: the angle of the frame's height; 0: orthographic."""

    z: float
    azimuth: float = 0.0
    elevation: float = 0.0
    roll: float = 0.0
    fov: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "z": self.z,
            "azimuth": self.azimuth,
            "elevation": self.elevation,
            "roll": self.roll,
            "fov": self.fov,
        }


class Basis(NamedTuple):
    """The directions of a frame in the world: unit vectors."""

    right: Vec
    down: Vec
    forward: Vec


def basis_of(orbit: Orbit) -> Basis:
    (sin_a, cos_a), (sin_e, cos_e), (sin_r, cos_r) = (
        _sine_and_cosine(angle) for angle in (orbit.azimuth, orbit.elevation, orbit.roll)
    )
    right = (cos_a, 0.0, sin_a)
    forward = (-sin_a * cos_e, sin_e, cos_a * cos_e)
    down = (sin_a * sin_e, cos_e, -cos_a * sin_e)  # forward x right
    rolled = [(cos_r * r - sin_r * d, sin_r * r + cos_r * d) for r, d in zip(right, down, strict=True)]
    right, down = _vec([r for r, _ in rolled]), _vec([d for _, d in rolled])
    return Basis(right, down, forward)


def _sine_and_cosine(degrees: float) -> tuple[float, float]:
    """Exact at quarter turns, and next to them: there rays run along the axes."""
    quarters, rest = divmod(degrees, 90.0)
    if min(rest, 90.0 - rest) < _SAME:
        quarters, rest = quarters + round(rest / 90.0), 0.0
    turn = math.radians(rest)
    sine, cosine = math.sin(turn), math.cos(turn)
    return ((sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine))[int(quarters) % 4]


def _vec(numbers: Sequence[float]) -> Vec:
    x, y, z = numbers
    return x, y, z


@dataclass(frozen=True, slots=True)
class Turn:
    """The way from one orientation to another: the shortest on the sphere, after the whole turns of azimuth that lie
    between them (0 to 360 is one turn, 350 to 10 a few degrees)."""

    first: Orbit
    last: Orbit

    @property
    def degrees(self) -> float:
        """How far it is."""
        near = sum(map(_times, _quaternion(self.first), _quaternion(self.last)))
        return 360.0 * abs(self._whole) + math.degrees(2 * math.acos(min(1.0, abs(near))))

    @property
    def _whole(self) -> int:
        return int((self.last.azimuth - self.first.azimuth) / 360.0)

    def at(self, share: float) -> Orbit:
        """After this share of the way; z and fov are those of ``first``."""
        if share <= 0.0:
            return self.first
        if share >= 1.0:
            return replace(self.last, z=self.first.z, fov=self.first.fov)
        whole = 360.0 * self._whole
        rest = self.last.azimuth - self.first.azimuth - whole
        if abs(rest) > 180.0:
            rest -= math.copysign(360.0, rest)
        # of the angles that mean the same those nearest to what people wrote
        about = self.first.azimuth + share * rest
        turned = _between(_quaternion(self.first), _quaternion(self.last), share)
        azimuth, elevation, roll = _angles(turned, about)
        azimuth += 360.0 * round((about - azimuth) / 360.0) + share * whole
        return replace(self.first, azimuth=azimuth, elevation=elevation, roll=roll)


def _times(a: float, b: float) -> float:
    return a * b


def _quaternion(orbit: Orbit) -> _Quaternion:
    """(w, x, y, z) of the rotation from the frame's axes to the world's: about y by -azimuth, x by -elevation, z by
    -roll."""
    half = math.pi / 360.0
    sa, ca = math.sin(-orbit.azimuth * half), math.cos(orbit.azimuth * half)
    se, ce = math.sin(-orbit.elevation * half), math.cos(orbit.elevation * half)
    sr, cr = math.sin(-orbit.roll * half), math.cos(orbit.roll * half)
    w, x, y, z = ca * ce, ca * se, sa * ce, -sa * se
    return w * cr - z * sr, x * cr + y * sr, y * cr - x * sr, w * sr + z * cr


def _between(a: _Quaternion, b: _Quaternion, share: float) -> _Quaternion:
    near = sum(map(_times, a, b))
    sign = 1.0
    if near < -_SAME:  # the other way would be longer; half a turn goes as it is written
        near, sign = -near, -1.0
    angle = math.acos(min(1.0, max(0.0, near)))
    if angle < _SAME:
        return a
    first, last = math.sin((1 - share) * angle), sign * math.sin(share * angle)
    w, x, y, z = ((first * m + last * n) / math.sin(angle) for m, n in zip(a, b, strict=True))
    return w, x, y, z


def _angles(q: _Quaternion, azimuth: float) -> Vec:
    """Azimuth, elevation and roll in degrees; ``azimuth`` where only its sum with the roll is determined."""
    w, x, y, z = q
    right = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    forward = (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y))
    level = math.hypot(forward[0], forward[2])
    if level > 1e-7:
        azimuth = math.degrees(math.atan2(-forward[0], forward[2]))
    elevation = math.degrees(math.atan2(forward[1], level))
    plain = basis_of(Orbit(0.0, azimuth, elevation))
    sine, cosine = -sum(map(_times, right, plain.down)), sum(map(_times, right, plain.right))
    return azimuth, elevation, math.degrees(math.atan2(sine, cosine))
