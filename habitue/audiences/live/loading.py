"""Facts of some customers out of the live state's tables."""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from habitue.audiences.live.facts import TELLING, Change, Event, Facts, ItemChange, in_order
from habitue.audiences.live.scored import curves
from habitue.events import ITEM_ORDERED, ORDER_CANCELLED, ORDER_PLACED

_OWN = """
-- one row per key of some customers
SELECT customer, id, key, visible FROM keys
WHERE customer IN (SELECT value FROM json_each(?))
"""

_EVENTS = """
-- one row per event of some keys, each key's in their time
SELECT key, time, received, digest, visible, name, source, "order", value_minor, currency, lines,
    properties
FROM events WHERE key IN (SELECT value FROM json_each(?))
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
    found, by_key = _people(connection, asked)
    _load_events(connection, by_key, reads)
    if "profiles" in reads:
        for row in connection.execute(_CHANGES, [asked]):
            found[row[0]].changes = (*found[row[0]].changes, _change(row))
    if "consents" in reads:
        for row in connection.execute(_CONSENTS, [asked]):
            found[row[0]].consents = (*found[row[0]].consents, _change(row))
    if ORDER_CANCELLED in reads:
        cancel(connection, shop, found)
    if "predictions" in reads:
        scored = curves.of_customers(connection, shop, [one.name for one in found.values()])
        for facts in found.values():
            facts.curves = scored.get(facts.name, ())
    return found


def _load_events(
    connection: sqlite3.Connection, by_key: Mapping[int, Facts], reads: Collection[str]
) -> None:
    for row in connection.execute(_EVENTS, [_json(by_key)]):
        if row[5] in reads:
            by_key[row[0]].events.append(Event(*row[1:]))
    for held in by_key.values():
        held.events.sort(key=in_order)


def _people(
    connection: sqlite3.Connection, asked: str
) -> tuple[dict[int, Facts], dict[int, Facts]]:
    """Customers of whom only the keys are known yet, by their own id and by those of all keys."""
    found: dict[int, Facts] = {}
    by_key: dict[int, Facts] = {}
    for customer, id, key, visible in connection.execute(_OWN, [asked]):
        held = found.get(customer)
        if held is None:
            held = found[customer] = Facts(customer=customer, name="", keys=(), visible=visible)
        held.keys, held.visible = (*held.keys, key), min(held.visible, visible)
        held.name = key if id == customer else held.name
        by_key[id] = held
    return found, by_key


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


def cancel(connection: sqlite3.Connection, shop: str, found: Mapping[int, Facts]) -> None:
    """Let customers know which of their orders were cancelled without their name."""
    placed = {
        one.order for facts in found.values() for one in facts.events if one.name in TELLING
    }
    rows = connection.execute(_CANCELLATIONS, [shop, _json(placed)]).fetchall() if placed else []
    gone = {order for order, _, _ in rows}
    for facts in found.values():
        mine = {one.order for one in facts.events if one.name in TELLING} & gone if gone else ()
        told = tuple(row for row in rows if row[0] in mine)
        if told != facts.cancellations:
            facts.reset()
            facts.cancellations = told


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
