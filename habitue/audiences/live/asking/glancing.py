"""Many customers looked at together, where a condition asks no more than when events happened.

An audience that is saved is applied to everybody. Of most of them nothing has been told since it
was saved, so one instant is looked at; and counts and sequences without a `where` need of each
event its time. These are read row by row without making what is known of a customer out of them,
and the condition is asked as ever. Whoever is not as simple is left to be looked at one by one.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from habitue.audiences.live import tables
from habitue.audiences.live.asking.looking import Audience, Looking
from habitue.audiences.live.asking.matched import Matched, Meaning
from habitue.audiences.live.asking.steering import ORDERS
from habitue.audiences.live.evaluate import Ready
from habitue.audiences.live.facts import NEVER, Facts, View
from habitue.audiences.live.tables import NOWHERE, Changed, Stands
from habitue.events import ORDER_PLACED

_WHO = """
-- one row per customer of those asked for: the name, and from when on they exist
SELECT customer, max(CASE WHEN id = customer THEN key END), min(visible) FROM keys
WHERE customer IN (SELECT value FROM json_each(?)) GROUP BY customer
"""

_WHEN = """
-- one row per event of some names of some customers
SELECT keys.customer, events.name, events.time, events.visible, events."order", events.value_minor
FROM keys JOIN events ON events.key = keys.id
WHERE keys.customer IN (SELECT value FROM json_each(?))
    AND events.name IN (SELECT value FROM json_each(?))
ORDER BY keys.customer
"""

_CANCELLED = """
-- one row per order that was cancelled without a name
SELECT DISTINCT "order" FROM cancellations WHERE shop = ?
"""


_ORDERS = frozenset(ORDERS)


@dataclass(slots=True)
class Glimpse:
    """When events of one customer happened."""

    customer: int
    name: str
    known: int                             # from then on no more is known
    times: dict[str, list[int]] = field(default_factory=dict)      # by event, in order
    orders: list[str | None] = field(default_factory=list)
    is_plain: bool = True                  # each order is told of once, and stands


def glanced(
    connection: sqlite3.Connection,
    looking: Looking,
    audiences: Sequence[Audience],
    customers: Collection[int],
) -> dict[int, list[Audience]]:
    """Apply audiences to customers from when on they are so; who is left, and for which of them."""
    simple = [(one, one.ready) for one in audiences if one.ready is not None and one.ready.moments]
    hard = [one for one in audiences if one.ready is None or not one.ready.moments]
    left = {customer: list(hard) for customer in customers}
    if not simple:
        return left
    names = frozenset().union(*(ready.reads for _, ready in simple))
    found = _glimpses(connection, looking.name, customers, names)
    standing = tables.standing_to(connection, found, [one.id for one, _ in simple])
    view = View(_nobody(), looking.shop, 0, NEVER)     # of each it knows only what is compared
    asked = [_Asked(looking, audience, ready, view) for audience, ready in simple]
    compared = {told for _, ready in simple for told in ready.moments or ()}
    for customer, one in found.items():
        stands = standing.get(customer, {})
        view.matches = {told: _matched(told, one.times) for told in compared}
        left[customer] += [
            told.audience for told in asked
            if not told.of(customer, one, stands.get(told.audience.id, NOWHERE))
        ]
    return left


@dataclass(frozen=True, slots=True)
class _Asked:
    """One audience that is asked of many."""

    looking: Looking
    audience: Audience
    ready: Ready
    view: View

    def of(self, customer: int, one: Glimpse, before: Stands) -> bool:
        """Whether one look tells how a customer stands; it is noted then."""
        joined, until = before
        looking, audience, since = self.looking, self.audience, self.audience.since
        recent = looking.recent.get((customer, audience.id), 0)
        if one.known > since or until < since or recent > since:
            return False
        if not one.is_plain and not _ORDERS.isdisjoint(self.ready.reads):
            return False
        holds, until = self.ready.holds(self.view, since)
        if until <= looking.horizon:
            return False
        if holds is (joined is None):
            looking.changes.append(
                Changed(shop=looking.name, audience=audience.name, customer=one.name,
                        entered=holds, at=since, cause=audience.cause)
            )  # fmt: skip
            looking.recent.put((customer, audience.id), since)
            joined = since if holds else None
        if (joined, until) != before:
            looking.kept[customer, audience.id] = (before, (joined, until))
        return True


def _matched(meaning: Meaning, times: Mapping[str, Sequence[int]]) -> Matched:
    return Matched((), tuple(times.get(meaning.event, ())))


def _glimpses(
    connection: sqlite3.Connection, shop: str, customers: Collection[int], names: Collection[str]
) -> dict[int, Glimpse]:
    """When events of some names happened, by customer."""
    asked = _json(customers)
    found = {
        customer: Glimpse(customer, name, since)
        for customer, name, since in connection.execute(_WHO, [asked])
    }
    are_orders, one = not _ORDERS.isdisjoint(names), None
    for customer, name, time, visible, order, minor in connection.execute(
        _WHEN, [asked, _json(names)]
    ):
        if one is None or one.customer != customer:
            one = found[customer]
        if visible > one.known:
            one.known = visible
        if name in one.times:
            one.times[name].append(time)
        else:
            one.times[name] = [time]
        if are_orders and name in _ORDERS:
            one.orders.append(order)
            one.is_plain &= name == ORDER_PLACED and minor is not None and minor > 0
    cancelled = _cancelled(connection, shop) if are_orders else ()
    for one in found.values():
        for times in one.times.values():
            times.sort()                   # where somebody has more keys than one
        told_once = len(set(one.orders)) == len(one.orders)
        one.is_plain &= told_once and not any(order in cancelled for order in one.orders)
    return found


def _cancelled(connection: sqlite3.Connection, shop: str) -> set[str]:
    return {order for (order,) in connection.execute(_CANCELLED, [shop])}


def _nobody() -> Facts:
    """Of whom nothing but what is compared is asked."""
    return Facts(customer=0, name="", keys=(), visible=-NEVER)


def _json(values: Collection[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
