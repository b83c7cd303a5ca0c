"""Rows that a `where` means, so kept that counts and sums within a window are two look-ups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate
from typing import Any

from habitue.audiences.language.nodes import Condition
from habitue.audiences.live.orders import Row
from habitue.audiences.live.values import number_of

PLACES = 9  # of decimals, as `number_of` gives them


@dataclass(frozen=True, slots=True, eq=False)
class Meaning:
    """What is compared of events: views keep the rows of each, as long as somebody asks for it."""

    event: str
    where: Condition | None


@dataclass(frozen=True, slots=True, eq=False)
class Summed:
    """What rows are told with, as a whole number of billionths."""

    held: Callable[[Row], Any]

    def of(self, row: Row) -> int:
        """What one row adds."""
        number = number_of(self.held(row))
        return 0 if number is None else billionths(number)


@dataclass(slots=True)
class Matched:
    """Rows in time."""

    rows: Sequence[Row]
    times: list[int] = field(default_factory=list)
    totals: dict[Summed, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.times = [one.time for one in self.rows]

    def summed(self, what: Summed) -> list[int]:
        """Running totals of what is told, from nought on; kept."""
        found = self.totals.get(what)
        if found is None:
            found = self.totals[what] = list(accumulate(map(what.of, self.rows), initial=0))
        return found


def billionths(number: Decimal) -> int:
    """A number of nine places as a whole one, exactly."""
    return int(number.scaleb(PLACES))
