"""Who wishes which tiles: a plan as wishes, and pure book-keeping of them, one owner (the loader's thread)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from operator import itemgetter, not_
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
    plan: ViewPlan,
    keys: Keys,
    at_hand: Sequence[TileKey] = (),
    *,
    but: Container[LoadKey] = (),
    wanted: Mapping[LoadKey, TileKey] | None = None,
) -> list[LoadRequest]:
    """A plan as requests for the loader, most urgent first; ``at_hand`` are stand-ins after those of the plan. No load
    is begun for tiles that are leaving, and nothing is asked for that is in ``but``. ``wanted``: those of the plan by key, if
    somebody has them already, without what is in ``but``."""
    level, leaving, new = plan.level, plan.leaving, tuple.__new__
    requests = [
        LoadRequest(key, Tier.STAND_IN, max(0, tile.level - level), tile not in leaving)
        for tile in plan.stand_ins
        for key in keys(tile)
        if key not in but
    ]
    if wanted is None:
        wanted = {key: tile for tile in plan.wanted for key in keys(tile) if key not in but}
    # a wanted tile is ideal where it is wanted, whatever its level. There may be thousands: no constructor, no step of Python
    load = map(not_, map(leaving.__contains__, wanted.values())) if leaving else repeat(True)
    requests += map(partial(new, LoadRequest), zip(wanted, repeat(Tier.IDEAL), repeat(0), load, strict=False))
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


def _in_order(keys: set[LoadKey], wishes: dict[LoadKey, _Wish]) -> Iterable[LoadKey]:
    """Some of the keys of wishes, in the order in which these were made: that of a set is another each time."""
    if len(keys) == len(wishes):
        return wishes
    return sorted(keys, key=lambda key: wishes[key][0][1])


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
        # there may be thousands, sixty times a second: no step of Python for each where one of C will do, and no key is
        # hashed but once: sets and dicts know the hashes of what they hold
        ranked = zip(map(itemgetter(1), requests), range(len(requests)), strict=True)
        wishes = zip(ranked, requests, strict=True)
        new: dict[LoadKey, _Wish] = dict(zip(map(itemgetter(0), requests), wishes, strict=True))
        if len(new) < len(requests):
            for number, request in reversed(list(enumerate(requests))):
                new[request.key] = (request.tier, number), request  # the first is the most urgent
        kept = [request[0] for request in requests if not request[3]]
        held = set(kept)
        self._wishes[owner], self._held[owner] = new, held
        fresh, gone = set(new).difference(old), set(old).difference(new)
        for key in _in_order(fresh, new):
            self.wanted[key] = self.wanted.get(key, 0) + 1
        begin = (fresh | (old_held - gone)) - held
        return Change(
            begin=tuple([new[key][1] for key in _in_order(begin, new)]),
            drop=tuple([key for key in _in_order(gone, old) if self._release(key)]),
            hold=tuple([key for key in kept if self._nobody_loads(key)]),
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
        """``rank``, for many keys as things stand now, whenever and from whatever thread it is asked."""
        books = tuple(self._wishes.values())
        if len(books) != 1:
            return lambda key: min(
                [wish[0] for book in books if (wish := book.get(key)) is not None], default=UNWISHED
            )
        get = books[0].get

        def rank(key: LoadKey) -> Rank:
            wish = get(key)
            return UNWISHED if wish is None else wish[0]

        return rank

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
