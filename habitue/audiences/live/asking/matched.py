"""Rows that a `where` means, so kept that counts and sums within a window are two look-ups."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Any, TypeAlias

import msgspec

from habitue.audiences.language.nodes import And, Condition, Count, Followed, Not, Or, every
from habitue.audiences.live.facts import NEVER, Event, View
from habitue.audiences.live.orders import Row, rows, rows_of
from habitue.audiences.live.values import number_of
from habitue.events import ORDER_PLACED

Answer: TypeAlias = tuple[bool, int]  # whether it holds, and until when at least
Meets: TypeAlias = Callable[[Row, int], Answer]

PLACES = 9  # of decimals, as `number_of` gives them


class Meaning(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """What is compared of events: views keep the rows of each, as long as somebody asks for it."""

    event: str
    meets: Meets | None  # none: every row does
    lined: bool
    is_still: bool  # whatever the time is
    reads: frozenset[str]  # of which events its rows are made

    def found(self, view: View, time: int) -> tuple["Matched", int]:
        """The rows that are meant, an event once, in time; until when they are the same."""
        if not self.is_still:
            return self._chosen(rows(view, self.event, lined=self.lined), time)
        kept = view.matches.get(self)
        if kept is None:
            behind = view.behind.pop(self, None)
            if behind is None:
                kept, _ = self._chosen(rows(view, self.event, lined=self.lined), time)
            else:
                kept = self._more(view, behind[0], behind[1])
            view.matches[self] = kept
        return kept, NEVER

    def is_extended(self) -> bool:
        """Whether one more event is more rows, and none of others changes."""
        return len(self.reads) == 1

    def _more(self, view: View, before: "Matched", told: Iterable[Event]) -> "Matched":
        mine = [one for one in told if one.name == self.event]
        more, _ = self._chosen(rows_of(view, mine, lined=self.lined), 0)
        return before.extended(more) if more.rows else before

    def _chosen(self, told: Iterable[Row], time: int) -> tuple["Matched", int]:
        until = NEVER
        meets = self.meets
        chosen: dict[object, Row] = {}
        for one in told:
            if meets is not None:
                holds, then = meets(one, time)
                until = min(until, then)
                if not holds:
                    continue
            chosen[one.id] = one
        return matched(chosen.values()), until


@dataclass(frozen=True, slots=True, eq=False)
class Summed:
    """What rows are told with, as a whole number of billionths."""

    held: Callable[[Row], Any]

    def of(self, row: Row) -> int:
        """What one row adds."""
        number = number_of(self.held(row))
        return 0 if number is None else billionths(number)


class Matched(msgspec.Struct, gc=False):  # many are kept, and they hold nothing that holds them
    """Rows in time."""

    rows: tuple[Row, ...]
    times: tuple[int, ...]
    totals: dict[Summed, tuple[int, ...]] | None = None

    def summed(self, what: Summed) -> tuple[int, ...]:
        """Running totals of what is told, from nought on; kept."""
        if self.totals is None:
            self.totals = {}
        found = self.totals.get(what)
        if found is None:
            found = self.totals[what] = tuple(accumulate(map(what.of, self.rows), initial=0))
        return found

    def extended(self, more: "Matched") -> "Matched":
        """These rows and some more, of other events."""
        if self.times and more.times[0] < self.times[-1]:
            return matched((*self.rows, *more.rows))
        told = Matched((*self.rows, *more.rows), self.times + more.times)
        for what, totals in (self.totals or {}).items():
            added = accumulate(map(what.of, more.rows), initial=totals[-1])
            told.totals = {**(told.totals or {}), what: (*totals[:-1], *added)}
        return told


def matched(rows: Iterable[Row]) -> Matched:
    """Rows in any order as rows in time."""
    told = tuple(sorted(rows, key=_time))
    # nothing is shared, not even where it is empty: a module that holds one is never let go
    return Matched(told, tuple([one.time for one in told]))


def _time(row: Row) -> int:
    return row.time


def billionths(number: Decimal) -> int:
    """A number of nine places as a whole one, exactly."""
    return int(number.scaleb(PLACES))


def moments(condition: Condition, compared: Sequence[Meaning]) -> tuple[Meaning, ...] | None:
    """What a condition compares, where that is no more than when events, or orders, happened."""
    nodes = all(isinstance(one, (And, Or, Not, Count, Followed)) for one in every(condition))
    plain = all(
        one.meets is None and (one.is_extended() or one.event == ORDER_PLACED) for one in compared
    )
    return tuple(compared) if nodes and plain else None
