"""Many customers looked at together, where a condition asks no more than when events happened.

An audience that is saved is applied to everybody. Of most of them nothing has been told since it
was saved, so one instant is looked at; and counts and sequences without a `where` need of each
event its time. These are read row by row without making what is known of a customer out of them,
and the condition is asked as ever. Whoever is not as simple is left to be looked at one by one.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from habitue.audiences.live import tables
from habitue.audiences.live.asking.looking import Audience, Looking
from habitue.audiences.live.asking.matched import Matched
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
-- one row per event of some names of some customers, after an instant
SELECT keys.customer, events.name, events.time, events.visible
FROM keys JOIN events ON events.key = keys.id
WHERE keys.customer IN (SELECT value FROM json_each(?))
    AND events.name IN (SELECT value FROM json_each(?)) AND events.time > ?
ORDER BY keys.customer
"""

_ORDERED = """
-- one row per event that tells of an order of some customers
SELECT keys.customer, events.name, events."order", events.value_minor
FROM keys JOIN events ON events.key = keys.id
WHERE keys.customer IN (SELECT value FROM json_each(?))
    AND events.name IN (SELECT value FROM json_each(?))
"""

_CANCELLED = """
-- one row per order that was cancelled without a name
SELECT DISTINCT "order" FROM cancellations WHERE shop = ?
"""


_ORDERS = frozenset(ORDERS)
_NOTHING: Mapping[int, Stands] = MappingProxyType({})


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
    found = _glimpses(connection, looking.name, customers, (names, _earliest(simple)))
    standing = tables.standing_to(connection, found, [one.id for one, _ in simple])
    view = View(_nobody(), looking.shop, 0, NEVER)     # of each it knows only what is compared
    asked = [_Asked(looking, audience, ready, view) for audience, ready in simple]
    compared = list({told: None for _, ready in simple for told in ready.moments or ()})
    for customer, one in found.items():
        stands = standing.get(customer, _NOTHING)
        times = one.times
        view.matches = {told: Matched((), tuple(times.get(told.event, ()))) for told in compared}
        for told in asked:
            if not told.of(customer, one, stands.get(told.audience.id, NOWHERE)):
                left[customer].append(told.audience)
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


def _earliest(simple: Sequence[tuple[Audience, Ready]]) -> int:
    """After which instant all is that some audiences look at; of orders, all is looked at."""
    found = NEVER
    for audience, ready in simple:
        if ready.reach is None or not _ORDERS.isdisjoint(ready.reads):
            return -NEVER
        found = min(found, audience.since - ready.reach)
    return found


def _glimpses(
    connection: sqlite3.Connection,
    shop: str,
    customers: Collection[int],
    events: tuple[Collection[str], int],
) -> dict[int, Glimpse]:
    """When events of some names happened, after an instant, by customer."""
    asked, (names, after) = _json(customers), events
    found = {
        customer: Glimpse(customer, name, since)
        for customer, name, since in connection.execute(_WHO, [asked])
    }
    one, last = None, -1
    for customer, name, time, visible in connection.execute(_WHEN, [asked, _json(names), after]):
        if customer != last or one is None:
            one, last = found[customer], customer
        if visible > one.known:
            one.known = visible
        if name in one.times:
            one.times[name].append(time)
        else:
            one.times[name] = [time]
    for one in found.values():
        for times in one.times.values():
            times.sort()                   # where somebody has more keys than one
    if not _ORDERS.isdisjoint(names):
        _note_orders(connection, shop, found, _json(_ORDERS.intersection(names)))
    return found


def _note_orders(
    connection: sqlite3.Connection, shop: str, found: Mapping[int, Glimpse], names: str
) -> None:
    """Note of whom each order is told of once, and stands."""
    for customer, name, order, minor in connection.execute(_ORDERED, [_json(found), names]):
        one = found[customer]
        one.orders.append(order)
        one.is_plain &= name == ORDER_PLACED and minor is not None and minor > 0
    cancelled = _cancelled(connection, shop)
    for one in found.values():
        told_once = len(set(one.orders)) == len(one.orders)
        one.is_plain &= told_once and not any(order in cancelled for order in one.orders)


def _cancelled(connection: sqlite3.Connection, shop: str) -> set[str]:
    return {order for (order,) in connection.execute(_CANCELLED, [shop])}


def _nobody() -> Facts:
    """Of whom nothing but what is compared is asked."""
    return Facts(customer=0, name="", keys=(), visible=-NEVER)


def _json(values: Collection[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
