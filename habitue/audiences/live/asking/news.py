"""What was told, by customer: which kinds of rows, and from which instants on they count."""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from habitue.audiences.live.asking.steering import NEW_ORDER, ORDERS
from habitue.audiences.live.facts import Facts
from habitue.events import ORDER_PLACED, ORDER_REFUNDED
from habitue.lake.live.happened import Touched

RACE = 10_000_000  # µs by which a row may come later than others beside it

_WHOSE = """
-- one row per key of those asked for
SELECT id, shop, customer FROM keys WHERE id IN (SELECT value FROM json_each(?))
"""


@dataclass(slots=True)
class Work:
    """What is to be looked at of one customer: which audiences, and from which instants on."""

    kinds: dict[str, list[int]] = field(default_factory=dict)  # what was told -> since when
    everything: list[int] = field(default_factory=list)  # since when they are another
    orders: list[str] = field(default_factory=list)  # that were placed

    def name_orders(self, facts: Facts) -> None:
        """Call orders new, where all of them are: then no row takes the place of another one."""
        if self.orders and facts.is_first_of(self.orders):
            self.kinds = {
                NEW_ORDER if kind == ORDER_PLACED else kind: since
                for kind, since in self.kinds.items()
            }


def whose_of(connection: sqlite3.Connection, touched: Touched) -> dict[int, tuple[str, int]]:
    """The shop and customer of each key of which something was told."""
    asked = _json({*touched.rows, *touched.moved})
    return {id: (shop, customer) for id, shop, customer in connection.execute(_WHOSE, [asked])}


def by_customer(
    touched: Touched, whose: Mapping[int, tuple[str, int]]
) -> dict[str, dict[int, Work]]:
    """What was told, by shop and customer as they are now."""
    found: defaultdict[str, dict[int, Work]] = defaultdict(dict)
    for key, rows in touched.rows.items():
        shop, customer = whose[key]
        work = found[shop].setdefault(customer, Work())
        for kind, since in rows:
            work.kinds.setdefault(kind, []).append(since)
    for key, events in touched.events.items():
        shop, customer = whose[key]
        found[shop][customer].orders += [row[7] for row in events if row[5] == ORDER_PLACED]
    for key, (former, since) in touched.moved.items():
        shop, customer = whose[key]
        first = min(one for _, one in touched.rows.get(key, [("", since)]))
        work = found[shop].setdefault(customer, Work())
        work.everything.append(first if former is None else since)
        if former is not None and former != customer:
            # who stays behind has fewer keys
            found[shop].setdefault(former, Work()).everything.append(since)
    return found


def relinked(
    touched: Touched, whose: Mapping[int, tuple[str, int]]
) -> dict[str, dict[int, int]]:
    """By shop: keys that are another's now, or a new one's that is not their own; since when."""
    found: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for key, (former, since) in touched.moved.items():
        shop, customer = whose[key]
        if former is not None or customer != key:
            found[shop][key] = since
    return found


def ordering(work: Mapping[int, Work]) -> list[int]:
    """The customers of whose orders something was told, or who are another now."""
    return [
        customer for customer, told in work.items()
        if told.everything or told.kinds.keys() & {*ORDERS, ORDER_REFUNDED}
    ]  # fmt: skip


def clamped(instants: Collection[int], start: int, horizon: int) -> list[int]:
    """The instants to look at: not those that are long over, and one at least."""
    if start > 0:
        instants = {one if one > start - RACE else start for one in instants}
    return sorted(one for one in instants if one <= horizon) or [horizon]


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
