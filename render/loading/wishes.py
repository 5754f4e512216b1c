"""Who wishes which tiles: a plan as wishes, and pure book-keeping of them, one owner (the loader's thread)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeAlias, cast

from octree.pyramid.model import TileKey
from octree.render.loading.values import LoadKey, LoadRequest, LoadRun, Owner, Tier, Wish
from octree.render.view.plan import ViewPlan

Rank = tuple[int, int]
"""(tier, place in the plan): lower is more urgent."""
UNWISHED: Rank = (int(Tier.PREFETCH) + 1, 0)


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
    wanted: Sequence[LoadRun] | None = None,
    prefetch: Sequence[LoadRun] | None = None,
) -> list[Wish]:
    """A plan as wishes for the loader, most urgent first; ``at_hand`` are stand-ins after those of the plan. No load
    is begun for tiles that are leaving, and nothing is asked for that is in ``but``. ``wanted`` and ``prefetch``: these tiles of the
    plan, if somebody has them as runs."""
    level, leaving = plan.level, plan.leaving

    def asked(tiles: Iterable[TileKey], tier: Tier, load: Callable[[TileKey], bool]) -> Iterator[LoadRequest]:
        for tile in tiles:
            above = 0 if tier is Tier.IDEAL else max(0, tile.level - level)
            for key in keys(tile):
                if key not in but:
                    yield LoadRequest(key, tier, above, load(tile))

    def stays(tile: TileKey) -> bool:
        return tile not in leaving

    known = set(plan.stand_ins)
    return [
        *asked(plan.stand_ins, Tier.STAND_IN, stays),
        # ideal where they are wanted, whatever their level
        *(asked(plan.wanted, Tier.IDEAL, stays) if wanted is None else wanted),
        *(asked(plan.prefetch, Tier.PREFETCH, lambda tile: True) if prefetch is None else prefetch),
        *asked([tile for tile in at_hand if tile not in known], Tier.STAND_IN, lambda tile: False),
    ]


class _Book:
    """The wishes of one owner, numbered in their order; of a key that is wished twice the first counts. Never changes: any
    thread may ask.

    ``keys``  all of them; ``held``: those of which no read is to begin.
    """

    __slots__ = ("_alone", "_runs", "held", "keys")

    def __init__(self, wishes: Iterable[Wish] = ()) -> None:
        # there may be thousands, sixty times a second: sets and dicts know the hashes of what they hold, and no step of Python
        # is made for a key of a run
        self.keys: set[LoadKey] = set()
        self.held: set[LoadKey] = set()
        self._alone: dict[LoadKey, tuple[int, LoadRequest]] = {}
        self._runs: list[tuple[int, LoadRun, bool]] = []
        number = 0
        for wish in wishes:
            if isinstance(wish, LoadRun):
                keys = wish.keys if self.keys.isdisjoint(wish.keys) else wish.keys - self.keys
                self._runs.append((number, wish._replace(keys=keys), len(keys) == len(wish.places)))
                self.keys |= keys
                if not wish.load:
                    self.held |= keys
                number += len(wish.places)
            elif (key := wish[0]) not in self.keys:
                self._alone[key] = number, wish
                self.keys.add(key)
                if not wish[3]:
                    self.held.add(key)
                number += 1

    def _place(self, key: LoadKey) -> tuple[int, Wish] | None:
        """Its number, and the wish that it is part of."""
        for first, run, whole in self._runs:
            place = run.places.get(key)
            if place is not None and (whole or key in run.keys):
                return first + place, run
        return self._alone.get(key)

    def find(self, key: LoadKey) -> tuple[Rank, LoadRequest] | None:
        """How urgent it is, and what is asked for."""
        found = self._place(key)
        if found is None:
            return None
        number, wish = found
        return (wish.tier, number), wish.request(key) if isinstance(wish, LoadRun) else wish

    def rank(self, key: LoadKey) -> Rank | None:
        found = self._place(key)
        return None if found is None else (found[1].tier, found[0])

    def in_order(self, keys: Set[LoadKey]) -> list[LoadKey]:
        """Some of the keys, as they were wished: the order of a set is another each time."""
        return sorted(keys, key=lambda key: cast(Rank, self.rank(key))[1])

    def of_source(self, token: str) -> list[LoadKey]:
        return self.in_order({key for key in self.keys if key.source == token})

    def without(self, keys: Set[LoadKey]) -> _Book:
        left: list[tuple[int, Wish]] = [wish for key, wish in self._alone.items() if key not in keys]
        left += [(number, run._replace(keys=run.keys - keys)) for number, run, _ in self._runs]
        return _Book([wish for _, wish in sorted(left, key=itemgetter(0))])


_NOTHING = _Book()


class Wishes:
    """The wishes of all owners. ``wanted`` counts the owners of each key; others may look at it, not change it."""

    def __init__(self) -> None:
        self.wanted: dict[LoadKey, int] = {}
        self._plans: dict[Owner, Sequence[Wish]] = {}
        self._books: dict[Owner, _Book] = {}

    def replace(self, owner: Owner, wishes: Sequence[Wish]) -> Change | None:
        """The owner's wishes from now on; None when they are what they were."""
        before = self._plans.get(owner)
        if before is not None and (wishes is before or wishes == before):
            return None
        self._plans[owner] = wishes
        old, new = self._books.get(owner, _NOTHING), _Book(wishes)
        self._books[owner] = new
        fresh, gone = new.keys - old.keys, old.keys - new.keys
        for key in fresh:
            self.wanted[key] = self.wanted.get(key, 0) + 1
        begin = (fresh | (old.held - gone)) - new.held
        return Change(
            begin=tuple([found[1] for key in new.in_order(begin) if (found := new.find(key)) is not None]),
            drop=tuple([key for key in old.in_order(gone) if self._release(key)]),
            hold=tuple([key for key in new.in_order(new.held) if self._nobody_loads(key)]),
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
        return not any(key in book.keys and key not in book.held for book in self._books.values())

    def forget_source(self, token: str) -> list[LoadKey]:
        """Drop the wishes for a source's tiles, whoever has them; the keys."""
        gone: dict[LoadKey, None] = {}
        for owner, book in self._books.items():
            keys = book.of_source(token)
            if keys:
                self._plans.pop(owner, None)
                self._books[owner] = book.without(set(keys))
                for key in keys:
                    self._release(key)
                gone.update(dict.fromkeys(keys))
        return list(gone)

    def forget_owner(self, owner: Owner) -> None:
        """An owner that wishes nothing any more."""
        self._plans.pop(owner, None)
        self._books.pop(owner, None)

    def request_of(self, key: LoadKey) -> tuple[Owner, LoadRequest] | None:
        """An owner that asks for ``key`` to be read, and its request."""
        for owner, book in self._books.items():
            found = book.find(key)
            if found is not None and found[1].load:
                return owner, found[1]
        return None

    def rank(self, key: LoadKey) -> Rank:
        """The most urgent of the owners' ranks."""
        return self.ranks()(key)

    def ranks(self) -> Callable[[LoadKey], Rank]:
        """``rank``, for many keys as things stand now, whenever and from whatever thread it is asked."""
        books = tuple(self._books.values())

        def rank(key: LoadKey) -> Rank:
            return min([rank for book in books if (rank := book.rank(key)) is not None], default=UNWISHED)

        return rank

    def any_of(self, owner: Owner | None, keys: Iterable[LoadKey], *, prefetch: bool) -> bool:
        """Does the owner (None: any) wish one of ``keys``? Prefetch counts only if asked for."""
        books = self._books.values() if owner is None else [self._books.get(owner, _NOTHING)]
        ranks = (book.rank(key) for book in books for key in keys)
        return any(prefetch or rank[0] != Tier.PREFETCH for rank in ranks if rank is not None)

    def clear(self) -> None:
        self.wanted.clear()
        self._plans.clear()
        self._books.clear()
