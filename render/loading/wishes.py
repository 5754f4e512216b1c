"""Who wishes which tiles: a plan as wishes, and pure book-keeping of them, one owner (the loader's thread)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from octree.pyramid.model import TileKey
from octree.render.loading.values import LoadKey, LoadRequest, Owner, Tier
from octree.render.view.plan import ViewPlan

Rank = tuple[int, int]
"""(tier, place in the plan): lower is more urgent."""
UNWISHED: Rank = (int(Tier.PREFETCH) + 1, 0)


_Wish: TypeAlias = tuple[Rank, LoadRequest]


@dataclass(frozen=True, slots=True)
class Change:
    """What a new plan means. ``begin``: may be read now and might not before. ``drop``: nobody wishes it any
    more. ``hold``: wished, but nobody asks to begin a read."""

    begin: tuple[LoadRequest, ...] = ()
    drop: tuple[LoadKey, ...] = ()
    hold: tuple[LoadKey, ...] = ()


Keys: TypeAlias = Callable[[TileKey], Iterable[LoadKey]]
"""The keys of one tile: one for each channel."""


def load_requests(
    plan: ViewPlan, keys: Keys, at_hand: Sequence[TileKey] = (), *, but: Container[LoadKey] = ()
) -> list[LoadRequest]:
    """A plan as requests for the loader, most urgent first; ``at_hand`` are stand-ins after those of the plan. No load
    is begun for tiles that are leaving, and nothing is asked for that is in ``but``."""
    level, leaving, new = plan.level, plan.leaving, tuple.__new__
    requests = [
        LoadRequest(key, Tier.STAND_IN, max(0, tile.level - level), tile not in leaving)
        for tile in plan.stand_ins
        for key in keys(tile)
        if key not in but
    ]
    # a wanted tile is ideal where it is wanted, whatever its level. There may be thousands: no constructor
    requests += [
        new(LoadRequest, (key, Tier.IDEAL, 0, tile not in leaving))
        for tile in plan.wanted
        for key in keys(tile)
        if key not in but
    ]
    asked = set(plan.stand_ins)
    later = [(Tier.PREFETCH, tile) for tile in plan.prefetch]
    later += [(Tier.STAND_IN, tile) for tile in at_hand if tile not in asked]
    requests += [
        LoadRequest(key, tier, max(0, tile.level - level), tier is Tier.PREFETCH)
        for tier, tile in later
        for key in keys(tile)
        if key not in but
    ]
    return requests


class Wishes:
    """The wishes of all owners. ``wanted`` counts the owners of each key; others may look at it, not change it."""

    def __init__(self) -> None:
        self.wanted: dict[LoadKey, int] = {}
        self._plans: dict[Owner, Sequence[LoadRequest]] = {}
        self._wishes: dict[Owner, dict[LoadKey, _Wish]] = {}
        self._held: dict[Owner, set[LoadKey]] = {}  # of these, those of which no read is to begin

    def replace(self, owner: Owner, requests: Sequence[LoadRequest]) -> Change | None:
        """The owner's wishes from now on; None when they are what they were."""
        before = self._plans.get(owner)
        if before is not None and (requests is before or requests == before):
            return None
        self._plans[owner] = requests
        old, old_held = self._wishes.get(owner, {}), self._held.get(owner, set())
        keys, tiers = zip(*[request[:2] for request in requests], strict=True) if requests else ((), ())
        # there may be thousands, sixty times a second: no step of Python for each where one of C will do
        ranked = zip(zip(tiers, range(len(keys)), strict=True), requests, strict=True)
        new: dict[LoadKey, _Wish] = {}
        if len(set(keys)) == len(keys):
            new.update(zip(keys, ranked, strict=True))
        else:
            for key, wish in zip(keys, ranked, strict=True):
                new.setdefault(key, wish)  # the first is the most urgent
        held = {request[0] for request in requests if not request[3]}
        self._wishes[owner], self._held[owner] = new, held
        fresh = [key for key in new if key not in old]
        gone = [key for key in old if key not in new]
        for key in fresh:
            self.wanted[key] = self.wanted.get(key, 0) + 1
        begin = {*fresh, *old_held.difference(gone)} - held
        return Change(
            begin=tuple([r for r in requests if r[0] in begin]) if begin else (),
            drop=tuple([key for key in gone if self._release(key)]),
            hold=tuple([r[0] for r in requests if not r[3] and self._nobody_loads(r[0])]) if held else (),
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
        return not any(key in wishes and wishes[key][1].load for wishes in self._wishes.values())

    def forget_source(self, token: str) -> list[LoadKey]:
        """Drop the wishes for a source's tiles, whoever has them; the keys."""
        gone: dict[LoadKey, None] = {}
        for owner, wishes in self._wishes.items():
            for key in [key for key in wishes if key.source == token]:
                self._plans.pop(owner, None)
                self._held.get(owner, set()).discard(key)
                del wishes[key]
                self._release(key)
                gone[key] = None
        return list(gone)

    def forget_owner(self, owner: Owner) -> None:
        """An owner that wishes nothing any more."""
        self._plans.pop(owner, None)
        self._wishes.pop(owner, None)
        self._held.pop(owner, None)

    def request_of(self, key: LoadKey) -> tuple[Owner, LoadRequest] | None:
        """An owner that asks for ``key`` to be read, and its request."""
        for owner, wishes in self._wishes.items():
            if key in wishes and wishes[key][1].load:
                return owner, wishes[key][1]
        return None

    def rank(self, key: LoadKey) -> Rank:
        """The most urgent of the owners' ranks."""
        return min([wishes[key][0] for wishes in self._wishes.values() if key in wishes], default=UNWISHED)

    def ranks(self) -> Callable[[LoadKey], Rank]:
        """``rank``, for many keys as things stand now."""
        if len(self._wishes) != 1:
            return self.rank
        (wishes,) = self._wishes.values()
        return lambda key: wishes[key][0] if key in wishes else UNWISHED

    def any_of(self, owner: Owner | None, keys: Iterable[LoadKey], *, prefetch: bool) -> bool:
        """Does the owner (None: any) wish one of ``keys``? Prefetch counts only if asked for."""
        books = self._wishes.values() if owner is None else [self._wishes.get(owner, {})]
        return any(
            prefetch or wishes[key][0][0] != Tier.PREFETCH
            for wishes in books
            for key in keys
            if key in wishes
        )

    def clear(self) -> None:
        self.wanted.clear()
        self._plans.clear()
        self._wishes.clear()
        self._held.clear()
