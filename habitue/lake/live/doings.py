"""What one customer did with items, as lists want to know it: bought, looked at, was shown."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from habitue.events import (
    CART_ADDED,
    CHECKOUT_STARTED,
    ITEM_ORDERED,
    ITEM_VIEWED,
    ORDER_CANCELLED,
    ORDER_PLACED,
    ORDER_UPDATED,
    RECOMMENDATIONS_SHOWN,
)

_BUYING = (ORDER_PLACED, ORDER_UPDATED, ITEM_ORDERED)
_LOOKING = (ITEM_VIEWED, CART_ADDED, CHECKOUT_STARTED)
ABOUT_ITEMS = (*_BUYING, *_LOOKING, RECOMMENDATIONS_SHOWN)
_NAMES = (*ABOUT_ITEMS, ORDER_CANCELLED)

_EVENTS = """
-- one row per event of a customer that is about items, in time; of what did not buy, the late ones
SELECT events.name, events.time, events."order", events.lines, events.properties
FROM keys JOIN events ON events.key = keys.id
WHERE keys.shop = ?1 AND keys.customer = (SELECT customer FROM keys WHERE shop = ?1 AND key = ?2)
    AND events.visible <= ?3 AND events.name IN (SELECT value FROM json_each(?4))
    AND (events.time > ?5 OR events.name IN (SELECT value FROM json_each(?6)))
ORDER BY events.time
"""
_CANCELLED = """
-- one row per order of some that somebody cancelled without naming the customer
SELECT "order" FROM cancellations
WHERE shop = ? AND visible <= ? AND "order" IN (SELECT value FROM json_each(?))
"""


class Doings(NamedTuple):
    """What one customer did with items; times in µs, in their order."""

    bought: Mapping[str, int]              # item -> orders that stand
    touched: Sequence[tuple[str, int]]     # items viewed, carted or ordered of late
    shown: Sequence[tuple[str, int]]       # items of lists of late that were shown
    last: tuple[tuple[str, ...], int]      # items of their last event about any, and when


class _Line(msgspec.Struct, array_like=True, gc=False):
    """Of a line as it is kept, what it is of."""

    item: str


_told_lines = msgspec.json.Decoder(list[list[_Line]])
NOTHING = Doings({}, (), (), ((), 0))


def doings(
    connection: sqlite3.Connection, shop: str, customer: str, *, now: int, since: int
) -> Doings:
    """What a customer, by the key that names them, did until now; of late is after `since` (µs)."""
    whenever = msgspec.json.encode([*_BUYING, ORDER_CANCELLED]).decode()
    rows = connection.execute(
        _EVENTS, [shop, customer, now, msgspec.json.encode(_NAMES).decode(), since, whenever]
    ).fetchall()
    gone = _cancelled(connection, shop, rows, now)
    # all at once: most events have few lines
    told = _told_lines.decode(f"[{','.join(row[3] for row in rows)}]")
    orders: dict[str, set[object]] = {}
    touched: list[tuple[str, int]] = []
    shown: list[tuple[str, int]] = []
    last: tuple[tuple[str, ...], int] = ((), 0)
    for place, (name, time, order, _, properties) in enumerate(rows):
        if name == ORDER_CANCELLED or (order is not None and order in gone):
            continue
        of_lines = tuple(dict.fromkeys([line.item for line in told[place]]))
        items = of_lines or _items_named(name, properties)
        if name == RECOMMENDATIONS_SHOWN:
            shown += [(item, time) for item in items]
            continue
        if name in _BUYING:
            for item in items:
                orders.setdefault(item, set()).add(place if order is None else order)
        if time > since:
            touched += [(item, time) for item in items]
        last = (items, time) if items else last
    return Doings({item: len(told) for item, told in orders.items()}, touched, shown, last)


def _cancelled(
    connection: sqlite3.Connection, shop: str, rows: list[tuple[Any, ...]], now: int
) -> set[str]:
    own = {order for name, _, order, *_ in rows if name == ORDER_CANCELLED and order is not None}
    placed = sorted({order for name, _, order, *_ in rows if name in _BUYING and order})
    asked = msgspec.json.encode(placed).decode()
    return own | {order for (order,) in connection.execute(_CANCELLED, [shop, now, asked])}


def items_told(name: str, lines: Sequence[str], properties: str) -> tuple[str, ...]:
    """The items that an event is about: of its lines, or as its properties name them."""
    if lines:
        return tuple(dict.fromkeys(one for one in lines if isinstance(one, str)))
    return _items_named(name, properties)


def _items_named(name: str, properties: str) -> tuple[str, ...]:
    held = msgspec.json.decode(properties)
    held = held if isinstance(held, dict) else {}
    told: Any = held.get("items") if name == RECOMMENDATIONS_SHOWN else [held.get("item")]
    if not isinstance(told, list):
        return ()
    return tuple(dict.fromkeys(one for one in told if isinstance(one, str)))
