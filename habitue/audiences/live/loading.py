"""Facts of some customers out of the live state's tables."""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from habitue.audiences.live.facts import TELLING, Change, Event, Facts, ItemChange
from habitue.events import ITEM_ORDERED, ORDER_CANCELLED, ORDER_PLACED

_OWN = """
-- one row per key of some customers
SELECT customer, key, visible, id = customer FROM keys
WHERE customer IN (SELECT value FROM json_each(?))
"""

_EVENTS = """
-- one row per event of some names, each customer's in their order
SELECT keys.customer, told.time, told.received, told.digest, told.visible, told.name, told.source,
    told."order", told.value_minor, told.currency, told.lines, told.properties
FROM keys JOIN events AS told ON told.key = keys.id
WHERE keys.customer IN (SELECT value FROM json_each(?))
    AND told.name IN (SELECT value FROM json_each(?))
ORDER BY keys.customer, told.time, told.received, told.digest
"""

_CHANGES = """
-- one row per change of some customers' properties, each customer's in their order
SELECT keys.customer, told.time, told.received, told.digest, told.visible,
    told.put, told.clear, told.append, told.unappend
FROM keys JOIN profiles AS told ON told.key = keys.id
WHERE keys.customer IN (SELECT value FROM json_each(?))
ORDER BY keys.customer, told.time, told.received, told.digest
"""

_CONSENTS = """
-- one row per change of some customers' consents, each customer's in their order
SELECT keys.customer, told.time, told.received, told.digest, told.visible,
    told.channel, told.status
FROM keys JOIN consents AS told ON told.key = keys.id
WHERE keys.customer IN (SELECT value FROM json_each(?))
ORDER BY keys.customer, told.time, told.received, told.digest
"""

_CANCELLATIONS = """
-- one row per cancellation, told of nobody, of some orders
SELECT "order", time, visible FROM cancellations
WHERE shop = ? AND "order" IN (SELECT value FROM json_each(?))
"""

_ITEMS = """
-- one row per change of an item, in their order
SELECT item, time, received, digest, visible, title, category, brand FROM items
WHERE shop = ? ORDER BY item, time, received, digest
"""


def wanted(reads: Collection[str]) -> frozenset[str]:
    """The names of the events that are looked at where these are read."""
    orders = {ORDER_PLACED, ITEM_ORDERED}
    is_asked = orders & set(reads)
    more = {*TELLING, ITEM_ORDERED, ORDER_CANCELLED} if is_asked else set()
    return frozenset({*reads, *more})


def load(
    connection: sqlite3.Connection, shop: str, customers: Iterable[int], reads: Collection[str]
) -> dict[int, Facts]:
    """What is known of each customer that there is, as far as it is read."""
    asked = _json(customers)
    found: dict[int, Facts] = {}
    for customer, key, visible, is_name in connection.execute(_OWN, [asked]):
        held = found.get(customer) or Facts(customer=customer, name="", keys=(), visible=visible)
        held.keys, held.visible = (*held.keys, key), min(held.visible, visible)
        held.name = key if is_name else held.name
        found[customer] = held
    for row in connection.execute(_EVENTS, [asked, _json(reads)]):
        found[row[0]].events.append(Event(*row[1:]))
    if "profiles" in reads:
        for row in connection.execute(_CHANGES, [asked]):
            found[row[0]].changes.append(_change(row))
    if "consents" in reads:
        for row in connection.execute(_CONSENTS, [asked]):
            found[row[0]].consents.append(_change(row))
    if ORDER_CANCELLED in reads:
        _cancel(connection, shop, found)
    return found


def _change(row: tuple[Any, ...]) -> Change:
    _, time, received, digest, visible, *told = row
    return Change(time, received, digest, visible, tuple(told))


def items(connection: sqlite3.Connection, shop: str) -> dict[str, list[ItemChange]]:
    """What is known of each item of a shop."""
    found: defaultdict[str, list[ItemChange]] = defaultdict(list)
    for item, time, received, digest, visible, *told in connection.execute(_ITEMS, [shop]):
        found[item].append(ItemChange(time, received, digest, visible, tuple(told)))
    return dict(found)


def currency(connection: sqlite3.Connection, shop: str) -> str | None:
    """The currency of most of a shop's events."""
    sql = "SELECT currency FROM currencies WHERE shop = ? ORDER BY events DESC, currency LIMIT 1"
    row = connection.execute(sql, [shop]).fetchone()
    return row[0] if row else None


def _cancel(connection: sqlite3.Connection, shop: str, found: dict[int, Facts]) -> None:
    placed = {
        one.order: facts for facts in found.values() for one in facts.events if one.name in TELLING
    }
    if not placed:
        return
    rows = connection.execute(_CANCELLATIONS, [shop, _json(placed)]).fetchall()
    gone = {order for order, _, _ in rows}
    for facts in found.values():
        mine = {one.order for one in facts.events if one.name in TELLING} & gone
        if mine:
            facts.cancellations = [row for row in rows if row[0] in mine]


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
