"""Who wishes which tiles: a plan as wishes, and pure book-keeping of them, one owner (the loader's thread)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from octree.pyramid.model import TileKey
from octree.render.loading.values import LoadKey, LoadRequest, Owner, Tier, TileSource
from octree.render.view.plan import ViewPlan

Rank = tuple[int, int]
"""(tier, place in the plan): lower is more urgent."""
UNWISHED: Rank = (int(Tier.PREFETCH) + 1, 0)


class _Wish(NamedTuple):
    tier: int
    place: int
    request: LoadRequest


@dataclass(frozen=True, slots=True)
class Change:
    """What a new plan means. ``begin``: may be read now and might not before. ``drop``: nobody wishes it any
    more. ``hold``: wished, but nobody asks to begin a read."""

    begin: tuple[LoadRequest, ...] = ()
    drop: tuple[LoadKey, ...] = ()
    hold: tuple[LoadKey, ...] = ()


def load_requests(plan: ViewPlan, source: TileSource) -> tuple[LoadRequest, ...]:
    """A plan as requests for the loader, most urgent first. No load is begun for tiles that are leaving."""
    token, version, level, leaving = source.token, source.version, plan.level, plan.leaving
    tiers: Iterable[tuple[Tier, tuple[TileKey, ...]]] = (
        (Tier.STAND_IN, plan.stand_ins),
        (Tier.IDEAL, plan.wanted),
        (Tier.PREFETCH, plan.prefetch),
    )
    return tuple(
        [
            LoadRequest(
                LoadKey(token, version, key),
                tier,
                # a wanted tile is ideal where it is wanted, whatever its level
                0 if tier is Tier.IDEAL else max(0, key.level - level),
                key not in leaving,
            )
            for tier, keys in tiers
            for key in keys
        ]
    )


class Wishes:
    """The wishes of all owners. ``wanted`` counts the owners of each key; others may look at it, not change it."""

    def __init__(self) -> None:
        self.wanted: dict[LoadKey, int] = {}
        self._plans: dict[Owner, Sequence[LoadRequest]] = {}
        self._wishes: dict[Owner, dict[LoadKey, _Wish]] = {}

    def replace(self, owner: Owner, requests: Sequence[LoadRequest]) -> Change | None:
        """The owner's wishes from now on; None when they are what they were."""
        before = self._plans.get(owner)
        if before is not None and (requests is before or requests == before):
            return None
        self._plans[owner] = requests
        old = self._wishes.get(owner, {})
        new: dict[LoadKey, _Wish] = {}
        for place, request in enumerate(requests):
            new.setdefault(request.key, _Wish(int(request.tier), place, request))
        self._wishes[owner] = new
        for key in new.keys() - old.keys():
            self.wanted[key] = self.wanted.get(key, 0) + 1
        return Change(
            begin=tuple(
                [r for r in requests if r.load and ((was := old.get(r.key)) is None or not was.request.load)]
            ),
            drop=tuple([key for key in old if key not in new and self._release(key)]),
            hold=tuple([r.key for r in requests if not r.load and self._nobody_loads(r.key)]),
        )

    def _release(self, key: LoadKey) -> bool:
        """One owner less; True when that was the last."""
        left = self.wanted[key] - 1
        if left:
            self.wanted[key] = left
        else:
            del self.wanted[key]
        return not left

    def _nobody_loads(self, key: LoadKey) -> bool:
        return not any(key in wishes and wishes[key].request.load for wishes in self._wishes.values())

    def forget_source(self, token: str) -> list[LoadKey]:
        """Drop the wishes for a source's tiles, whoever has them; the keys."""
        gone: dict[LoadKey, None] = {}
        for owner, wishes in self._wishes.items():
            for key in [key for key in wishes if key.source == token]:
                self._plans.pop(owner, None)
                del wishes[key]
                self._release(key)
                gone[key] = None
        return list(gone)

    def forget_owner(self, owner: Owner) -> None:
        """An owner that wishes nothing any more."""
        self._plans.pop(owner, None)
        self._wishes.pop(owner, None)

    def request_of(self, key: LoadKey) -> tuple[Owner, LoadRequest] | None:
        """An owner that asks for ``key`` to be read, and its request."""
        for owner, wishes in self._wishes.items():
            if key in wishes and wishes[key].request.load:
                return owner, wishes[key].request
        return None

    def rank(self, key: LoadKey) -> Rank:
        """The most urgent of the owners' ranks."""
        ranks = [wishes[key][:2] for wishes in self._wishes.values() if key in wishes]
        return min(ranks, default=UNWISHED)

    def any_of(self, owner: Owner | None, keys: Iterable[LoadKey], *, prefetch: bool) -> bool:
        """Does the owner (None: any) wish one of ``keys``? Prefetch counts only if asked for."""
        books = self._wishes.values() if owner is None else [self._wishes.get(owner, {})]
        return any(
            prefetch or wishes[key].tier != Tier.PREFETCH for wishes in books for key in keys if key in wishes
        )

    def clear(self) -> None:
        self.wanted.clear()
        self._plans.clear()
        self._wishes.clear()
