"""What a frame showed and what it cost: the values behind the JSON report (docs/contract.md)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Coverage:
    """Fractions of the visible image (sum 1), by what each screen pixel shows.

    ``ideal`` the wanted level · ``finer``, ``coarser`` stand-ins · ``failed`` the tile could not be read ·
    ``missing`` nothing yet. ``by_level`` maps a level to the fraction drawn from it.
    When nothing of the image is visible all of it is ideal.
    """

    ideal: float = 1.0
    finer: float = 0.0
    coarser: float = 0.0
    failed: float = 0.0
    missing: float = 0.0
    by_level: dict[int, float] = field(default_factory=dict)
