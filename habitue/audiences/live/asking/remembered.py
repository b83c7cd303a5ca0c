"""Customers who were looked at lately: what is known of them and how they stand, in memory.

What is told of them is added, where it is events; everything else makes that they are read again.
As many are kept as have so many rows together; whoever was not looked at for longest goes first.
Rows that another process put in or took away (an erasure) make that all are read again.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from habitue.audiences.live import tables
from habitue.audiences.live.asking.looking import Audience
from habitue.audiences.live.facts import Event, Facts
from habitue.audiences.live.loading import cancel, load
from habitue.audiences.live.tables import Stands
from habitue.events import ORDER_CANCELLED
from habitue.lake.live.happened import Touched

MOST_ROWS = 200_000  # events and standings of the customers who are kept

_ASIDE = """
-- one row: how often rows came or went without a word here; nothing is kept across it
SELECT coalesce(max(value), 0) FROM about WHERE name = 'aside'
"""


@dataclass(slots=True)
class Held:
    """One customer: what is known, and how they stand to each audience."""

    shop: str
    facts: Facts
    standing: dict[int, Stands]
    size: int = 0


class Remembered:
    """The customers who are kept, the one who was looked at last at the end."""

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        """At most so many rows of customers are kept."""
        self._most_rows = most_rows
        self._held: OrderedDict[int, Held] = OrderedDict()
        self._followed: dict[str, set[int]] = {}       # audiences, by shop
        self._rows = 0
        self._aside = -1

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()
        self._rows = 0

    def drop(self, customers: Iterable[int]) -> None:
        """Forget some."""
        for one in customers:
            if (held := self._held.pop(one, None)) is not None:
                self._rows -= held.size

    def begin(self, connection: sqlite3.Connection) -> None:
        """Forget all where rows came or went and nothing was told."""
        (aside,) = connection.execute(_ASIDE).fetchone()
        if self._aside != aside:
            self.clear()
        self._aside = aside

    def keep(
        self,
        connection: sqlite3.Connection,
        audiences: Mapping[str, Sequence[Audience]],
        going_on: Collection[str],
    ) -> None:
        """These audiences are followed from now on, by shop; of some shops customers are kept.

        How they stand to an audience that is still to be applied to everybody is read again.
        """
        self.drop([one for one, held in self._held.items() if held.shop not in going_on])
        for shop in going_on:
            mine = {one: held for one, held in self._held.items() if held.shop == shop}
            anew = [
                one.id for one in audiences[shop]
                if one.reached == 0 and tables.has_members(connection, one.id)
            ]  # fmt: skip
            gone = self._followed[shop] - {one.id for one in audiences[shop] if one.reached != 0}
            standing = tables.standing_to(connection, mine, anew)
            for customer, held in mine.items():
                for id in gone:
                    held.standing.pop(id, None)
                held.standing.update(standing.get(customer, {}))
        self._followed = {shop: {one.id for one in told} for shop, told in audiences.items()}

    def tell(
        self,
        connection: sqlite3.Connection,
        touched: Touched,
        whose: Mapping[int, tuple[str, int]],
        reads: Mapping[str, Collection[str]],
    ) -> None:
        """Add events that were told of some keys, or forget whom else it was told of."""
        self.drop(former for former, _ in touched.moved.values() if former is not None)
        self.drop(whose[key][1] for key in touched.moved)
        ordered: dict[str, dict[int, Facts]] = {}
        for key, rows in touched.rows.items():
            shop, customer = whose[key]
            if (held := self._held.get(customer)) is None:
                continue
            told = touched.events.get(key, ())
            if len(told) != len(rows):     # something else than events, or of another's order
                self.drop([customer])
                continue
            events = [Event(*row[1:]) for row in told if row[5] in reads[shop]]
            held.facts.add(events)
            if any(one.order is not None for one in events):
                ordered.setdefault(shop, {})[customer] = held.facts
        for shop, facts in ordered.items():
            if ORDER_CANCELLED in reads[shop]:
                cancel(connection, shop, facts)

    def of(
        self,
        connection: sqlite3.Connection,
        shop: tuple[str, Collection[str]],
        customers: Collection[int],
    ) -> dict[int, Held]:
        """Some customers of a shop, whose events of some names are read; read, and kept."""
        name, reads = shop
        missing = [one for one in customers if one not in self._held]
        if missing:
            facts = load(connection, name, missing, reads)
            standing = tables.standing(connection, facts)
            for customer, one in facts.items():
                self._held[customer] = Held(name, one, standing.get(customer, {}))
        found = {}
        for customer in customers:
            if (held := self._held.get(customer)) is not None:
                self._held.move_to_end(customer)
                found[customer] = held
        return found

    def only(
        self,
        connection: sqlite3.Connection,
        shop: tuple[str, Collection[str]],
        customers: Collection[int],
        audiences: Collection[int],
    ) -> dict[int, Held]:
        """The same as far as some audiences go; whoever is not kept is read for this once."""
        name, reads = shop
        missing = [one for one in customers if one not in self._held]
        facts = load(connection, name, missing, reads)
        standing = tables.standing_to(connection, facts, audiences)
        return {
            customer: self._held[customer] if customer in self._held
            else Held(name, facts[customer], standing.get(customer, {}))
            for customer in customers
            if customer in self._held or customer in facts
        }  # fmt: skip

    def stand(self, rows: Mapping[tuple[int, int], tuple[Stands, Stands]]) -> None:
        """How customers stood and stand now was written."""
        for (customer, audience), (_, now) in rows.items():
            held = self._held.get(customer)
            if held is None:
                continue
            if now == tables.NOWHERE:
                held.standing.pop(audience, None)
            else:
                held.standing[audience] = now

    def settle(self, looked_at: Iterable[Held]) -> None:
        """These were looked at: keep what is needed next, and of all of them not too many."""
        for held in looked_at:
            if self._held.get(held.facts.customer) is not held:
                held.facts.reset()         # it was read for once
                continue
            held.facts.prune()
            size = len(held.facts.events) + len(held.standing) + 1
            self._rows += size - held.size
            held.size = size
        while self._rows > self._most_rows and self._held:
            _, held = self._held.popitem(last=False)
            self._rows -= held.size
            held.facts.reset()             # facts and views hold each other
