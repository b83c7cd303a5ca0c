"""The groups by recency, frequency and value, which rest on all customers of a shop at once.

What one customer adds (last order, orders, value less refunds) is kept in memory, and worked out
anew when something is told of their orders; then all are ranked again, which takes time in
proportion to the customers with an order. The twin of `habitue.audiences.rows.RFM`.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from habitue.audiences.live.asking.steering import ORDERS
from habitue.audiences.live.facts import NEVER, Facts, Shop
from habitue.audiences.live.loading import load, wanted
from habitue.audiences.live.orders import orders
from habitue.events import ORDER_REFUNDED

READS = wanted({*ORDERS, ORDER_REFUNDED})
_AT_ONCE = 1_000                           # customers whose facts are loaded together


@dataclass(slots=True)
class Ranking:
    """What each customer of one shop adds, and when more of what is told of them counts."""

    added: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    pending: dict[int, int] = field(default_factory=dict)      # customer -> when more counts
    groups: Mapping[int, str] = field(default_factory=dict)

    def look(
        self, connection: sqlite3.Connection, shop: tuple[str, Shop], customers: Iterable[int],
        time: int,
    ) -> set[int]:  # fmt: skip
        """Work out anew what some customers add; whose group is another one since."""
        is_other = False
        name, shared = shop
        for some in _batches(customers):
            facts = load(connection, name, some, READS)
            for customer in some:
                one = facts.get(customer)
                told, until = (None, NEVER) if one is None else _added(one, shared, time)
                self.pending.pop(customer, None)
                if until < NEVER:
                    self.pending[customer] = until
                is_other |= self._put(customer, told)
        if not is_other:
            return set()
        before, self.groups = self.groups, ranked(self.added)
        return {
            customer for customer in {*before, *self.groups}
            if before.get(customer) != self.groups.get(customer)
        }  # fmt: skip

    def due(self) -> int:
        """The next instant at which more counts."""
        return min(self.pending.values(), default=NEVER)

    def _put(self, customer: int, told: tuple[int, int, int] | None) -> bool:
        """Keep what a customer adds; whether it is something else than before."""
        if self.added.get(customer) == told:
            return False
        if told is None:
            del self.added[customer]
        else:
            self.added[customer] = told
        return True


def ranked(added: Mapping[int, tuple[int, int, int]]) -> dict[int, str]:
    """The group of each customer, by thirds of each number; ties have one rank."""
    if not added:
        return {}
    numbers = np.array(list(added.values()), np.int64)             # (N, 3)
    thirds = []
    for column in numbers.T:
        below = np.searchsorted(np.sort(column), column, side="left")
        thirds.append(1 + 3 * below // len(column))                # (N,)
    recency, often, worth = thirds
    named = np.select(
        [
            (recency == 3) & (often == 3) & (worth >= 2),
            (recency == 3) & (often == 1),
            (recency == 2) & (often == 1),
            (recency == 1) & ((often >= 2) | (worth >= 2)),
            recency == 1,
        ],
        ["champions", "recent", "needs attention", "at risk", "inactive"],
        "loyal",
    )
    return dict(zip(added, named.tolist(), strict=True))


def _added(facts: Facts, shop: Shop, time: int) -> tuple[tuple[int, int, int] | None, int]:
    """Last order, orders and worth in minor units, and until when that stands."""
    view = facts.at(shop, time)
    placed = orders(view)
    if not placed:
        return None, view.until
    ours = (None, shop.currency)
    worth = sum(one.minor or 0 for one in placed if one.currency in ours)
    back = sum(
        abs(one.minor or 0) for one in view.events.get(ORDER_REFUNDED, ()) if one.currency in ours
    )
    return (max(one.time for one in placed), len(placed), worth - back), view.until


def _batches(customers: Iterable[int]) -> Iterator[list[int]]:
    waiting = list(customers)
    for start in range(0, len(waiting), _AT_ONCE):
        yield waiting[start : start + _AT_ONCE]
