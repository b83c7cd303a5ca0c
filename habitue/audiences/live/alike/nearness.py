"""Who is similar to one audience, and from which instant to which: as its members come and go."""

# N customers
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from habitue.audiences.language.nodes import Similar
from habitue.audiences.live.alike.places import Space
from habitue.audiences.live.facts import NEVER
from habitue.audiences.lookalike import are_similar


class Seed(NamedTuple):
    """Somebody who entered or left the audience that others are similar to."""

    at: int
    name: str
    entered: bool
    cause: str


class Move(NamedTuple):
    """Somebody who is similar from an instant on, or no more."""

    at: int
    name: str
    cause: str


_AT = attrgetter("at")


class Near:
    """Who is similar to an audience, from an instant on."""

    def __init__(
        self, condition: Similar, space: Space, since: int, members: Collection[str]
    ) -> None:
        """`members`: of the audience, at `since`."""
        self.condition, self.since = condition, since
        self.sequence = 0                  # of the last change of the audience that was read
        self.ahead: list[Seed] = []        # changes of the audience, not looked at yet
        self._members = set(members)
        self._moves: list[Move] = []       # that nobody was told of
        self._last = since
        self._told: dict[str, list[tuple[int, bool, str]]] = {}
        self._place(space)
        self._is_near = self._found()
        for row in np.flatnonzero(self._is_near).tolist():
            self._told[space.names[row]] = [(-NEVER, True, "")]

    @property
    def size(self) -> int:
        """How many are similar."""
        return int(self._is_near.sum())

    def of(self, name: str, time: int) -> tuple[bool, int]:
        """Whether a customer is similar at an instant, and until when."""
        told = self._told.get(name)
        if told is None:
            return False, NEVER
        place = bisect_right(told, time, key=_instant)
        until = told[place][0] if place < len(told) else NEVER
        return (told[place - 1][1] if place else not told[0][1]), until

    def causes(self, name: str, after: int, until: int) -> dict[int, str]:
        """The instants in (after, until] at which it is another answer, and why."""
        told = self._told.get(name, ())
        return {at: cause for at, _, cause in told if after < at <= until}

    def tell(self, seeds: Iterable[Seed]) -> None:
        """These came to or went from the audience."""
        self.ahead = sorted([*self.ahead, *seeds], key=_AT)

    def miss(self, members: Collection[str], at: int) -> None:
        """The audience has these members at an instant, after all that was told of it."""
        known = set(self._members)
        for one in self.ahead:
            (known.add if one.entered else known.discard)(one.name)
        self.tell(Seed(at, name, entered=False, cause="event") for name in known - set(members))
        self.tell(Seed(at, name, entered=True, cause="event") for name in set(members) - known)

    def advance(self, until: int) -> list[Move]:
        """Look at the audience's changes up to an instant; who came to be similar, and who not."""
        place = bisect_right(self.ahead, until, key=_AT)
        due, self.ahead = self.ahead[:place], self.ahead[place:]
        moves, self._moves = self._moves, []
        for at, told in groupby(due, key=_AT):
            seeds = list(told)
            if self._seed(seeds):
                moves += self._moved(max(at, self._last), seeds[0].cause)
        return moves

    def replace(self, space: Space, at: int) -> None:
        """From an instant on customers are elsewhere, joined or parted."""
        former = {self._space.names[row] for row in np.flatnonzero(self._is_near).tolist()}
        self._place(space)
        self._is_near = self._rows(former)
        gone = former - space.rows.keys()
        self._moves += self._moved(max(at, self._last), "event", gone)

    def prune(self, before: int) -> None:
        """Forget what was before an instant."""
        for name, told in list(self._told.items()):
            place = bisect_right(told, before, key=_instant)
            if place > 1:
                del told[: place - 1]
            if len(told) == 1 and not told[0][1] and told[0][0] <= before:
                del self._told[name]
        self.since = max(self.since, before)

    def __len__(self) -> int:
        return len(self._told)

    def _place(self, space: Space) -> None:
        self._space = space
        self._is_seed = self._rows(self._members)

    def _rows(self, names: Iterable[str]) -> np.ndarray:
        """(N,) whether each is among some."""
        found = np.zeros(len(self._space.names), bool)
        rows = self._space.rows
        found[[rows[name] for name in names if name in rows]] = True
        return found

    def _seed(self, told: Sequence[Seed]) -> bool:
        """Take changes of the audience; whether one of them is of somebody with an embedding."""
        is_other = False
        for one in told:
            (self._members.add if one.entered else self._members.discard)(one.name)
            row = self._space.rows.get(one.name)
            if row is not None and bool(self._is_seed[row]) is not one.entered:
                self._is_seed[row] = one.entered
                is_other = True
        return is_other

    def _found(self) -> np.ndarray:
        return are_similar(self.condition, self._is_seed, self._space.vectors)

    def _moved(self, at: int, cause: str, gone: Collection[str] = ()) -> list[Move]:
        """Find who is similar from an instant on, and note who was not, or is no more."""
        now = self._found()
        rows = np.flatnonzero(now != self._is_near).tolist()
        changed = [(self._space.names[row], bool(now[row])) for row in rows]
        changed += [(name, False) for name in gone]
        self._is_near, self._last = now, at
        for name, is_near in changed:
            told = self._told.setdefault(name, [])
            if not told or told[-1][0] != at:
                told.append((at, is_near, cause))
                continue
            told.pop()                     # there and back in one instant is no change
            if not told:
                del self._told[name]
        return [Move(at, name, cause) for name, _ in changed]


def _instant(told: tuple[int, bool, str]) -> int:
    return told[0]
