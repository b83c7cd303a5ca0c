"""Whose answers are out of date: keys of which something was told that no score knows yet.

A key stands here once however much is told of it, so what waits never outgrows the customers.
"""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

import msgspec
import pyarrow as pa

from habitue.events import RECOMMENDATIONS_SHOWN
from habitue.lake.live.happened import Touched

TABLES = """
-- one row per key of which something happened that no score knows yet
CREATE TABLE IF NOT EXISTS fresh (
    key INTEGER PRIMARY KEY, shop TEXT NOT NULL, number INTEGER NOT NULL, received INTEGER,
    ordered INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS fresh_in_turn ON fresh (shop, ordered DESC, number);
CREATE INDEX IF NOT EXISTS fresh_by_number ON fresh (number);
"""
NAMES_OF_TABLES = ("fresh",)

# what moves no score: that a list was shown is told of a customer, and done by nobody
_NO_EVENTS = {"links", "profiles", "consents", "identifiers", RECOMMENDATIONS_SHOWN}
_ORDERS = {"order_placed", "order_cancelled", "order_refunded", "order_updated", "item_ordered"}

# of what is told twice before it is scored the first instant stands: since then it is out of date
_PUT = """
INSERT INTO fresh SELECT id, shop, ?, ?, ? FROM keys WHERE id = ?
ON CONFLICT (key) DO UPDATE SET number = excluded.number,
    received = min(coalesce(received, excluded.received), coalesce(excluded.received, received)),
    ordered = max(ordered, excluded.ordered)
"""

_NEXT = """
-- one row per key of a shop that waits, who ordered before who looked, and whose key it is now
SELECT fresh.key, fresh.number, fresh.received, keys.customer, name.key
FROM fresh LEFT JOIN keys ON keys.id = fresh.key LEFT JOIN keys AS name ON name.id = keys.customer
WHERE fresh.shop = ? ORDER BY fresh.ordered DESC, fresh.number LIMIT ?
"""

_BEHIND = """
-- one row per shop of whose keys some wait: how many, and since when the first of them does
SELECT shop, count(*), min(received) FROM fresh GROUP BY shop
"""

_WAITS = """
-- one row: the first of some keys that wait
SELECT min(fresh.received) FROM fresh JOIN keys ON keys.id = fresh.key
WHERE keys.shop = ? AND keys.key IN (SELECT value FROM json_each(?))
"""

_EVENTS = """
-- one row per event of some customers, whichever of their keys it came with
SELECT events.source, events.digest, name.key, events.name, events.time, events.received,
    events.value_minor, events.currency, events."order", events.lines
FROM keys JOIN events ON events.key = keys.id JOIN keys AS name ON name.id = keys.customer
WHERE keys.customer IN (SELECT value FROM json_each(?))
"""

_CANCELLED = """
-- one row per cancellation of one of some orders that names nobody
SELECT "order", digest, time FROM cancellations
WHERE shop = ? AND "order" IN (SELECT value FROM json_each(?))
"""

_INSTANT = pa.timestamp("us", tz="UTC")
_LINES = pa.list_(
    pa.struct(
        [("item", pa.string()), ("quantity", pa.float64()), ("amount_minor", pa.int64())]
    )
)
_EVENT_COLUMNS = pa.schema(
    [
        ("source", pa.string()), ("digest", pa.binary()), ("customer", pa.string()),
        ("name", pa.string()), ("time", _INSTANT), ("received", _INSTANT),
        ("value_minor", pa.int64()), ("currency", pa.string()), ("order", pa.string()),
        ("lines", _LINES),
    ]
)  # fmt: skip


class Waiting(NamedTuple):
    """One key that waits, and whose it is now; none: it was forgotten."""

    key: int
    number: int                            # a later one: something was told of it again
    received: int | None                   # µs, of the first that no score knows; none: imported
    customer: int | None                   # the id of the key that names its customer
    name: str | None                       # that key


class _Line(msgspec.Struct, array_like=True, gc=False):
    """A line as it is kept; there are many, and the collector need not look at them."""

    item: str
    quantity: str
    amount_minor: int | None


_told_lines = msgspec.json.Decoder(list[list[_Line]])


def note(connection: sqlite3.Connection, touched: Touched, received: int | None) -> None:
    """Note of whom something happened, or who are another customer now."""
    ordered = {
        key: any(kind in _ORDERS for kind, _ in rows)
        for key, rows in touched.rows.items()
        if any(kind not in _NO_EVENTS for kind, _ in rows)
    }
    for key, (former, _) in touched.moved.items():
        if former is not None:             # whom it leaves has fewer events now
            ordered.setdefault(former, False)
            ordered.setdefault(key, False)
    number = last_number(connection) + 1
    connection.executemany(
        _PUT, [(number, received, is_order, key) for key, is_order in ordered.items()]
    )


def waiting(connection: sqlite3.Connection, shop: str, most: int) -> list[Waiting]:
    """Who waits in a shop, the most urgent first."""
    return [Waiting(*row) for row in connection.execute(_NEXT, [shop, most])]


def behind(connection: sqlite3.Connection) -> dict[str, tuple[int, int | None]]:
    """By shop: how many wait, and when the first of what no score knows was received (µs)."""
    return {shop: (count, since) for shop, count, since in connection.execute(_BEHIND)}


def waits(connection: sqlite3.Connection, shop: str, keys: Collection[str]) -> int | None:
    """When the first of what no score knows of some keys was received (µs); none: all is known."""
    row = connection.execute(_WAITS, [shop, _json(keys)]).fetchone()
    return None if row is None else row[0]


def last_number(connection: sqlite3.Connection) -> int:
    """The number of the latest that waits; 0 where nobody does."""
    return int(connection.execute("SELECT coalesce(max(number), 0) FROM fresh").fetchone()[0])


def settle(connection: sqlite3.Connection, done: Iterable[Waiting]) -> None:
    """These are scored; of whom something was told meanwhile waits on."""
    connection.executemany(
        "DELETE FROM fresh WHERE key = ? AND number = ?", [(one.key, one.number) for one in done]
    )


def settle_shop(connection: sqlite3.Connection, shop: str, number: int) -> None:
    """All of a shop are scored who waited when `number` was the last."""
    connection.execute("DELETE FROM fresh WHERE shop = ? AND number <= ?", [shop, number])


def customer_of(connection: sqlite3.Connection, shop: str, key: str) -> list[int]:
    """The id of the customer whose key this is; empty: nobody's."""
    sql = "SELECT customer FROM keys WHERE shop = ? AND key = ?"
    return [row[0] for row in connection.execute(sql, [shop, key])]


def events_of(
    connection: sqlite3.Connection, shop: str, customers: Collection[int]
) -> pa.Table:
    """All events of some customers, as `sequences_from_events` takes them."""
    rows = connection.execute(_EVENTS, [_json(customers)]).fetchall()
    orders = {row[8] for row in rows if row[8] is not None}
    rows += [
        ("", digest, None, "order_cancelled", time, time, None, None, order, "[]")
        for order, digest, time in connection.execute(_CANCELLED, [shop, _json(orders)])
    ]
    *columns, lines = zip(*rows, strict=True) if rows else [()] * len(_EVENT_COLUMNS)
    told = [
        pa.array(column, field.type)
        for column, field in zip(columns, list(_EVENT_COLUMNS)[:-1], strict=True)
    ]
    return pa.table([*told, _lines(lines)], schema=_EVENT_COLUMNS)


def _lines(told: Sequence[str]) -> pa.Array:
    """Lines as they are kept, of one event after another."""
    held = _told_lines.decode(f"[{','.join(told)}]")       # all at once: most events have few
    flat = list(chain(*held))
    columns = (
        [one.item for one in flat], [float(one.quantity) for one in flat],
        [one.amount_minor for one in flat],
    )  # fmt: skip
    fields = list(_LINES.value_type)
    return pa.ListArray.from_arrays(
        pa.array(accumulate(map(len, held), initial=0), pa.int32()),
        pa.StructArray.from_arrays(
            [
                pa.array(column, field.type)
                for column, field in zip(columns, fields, strict=True)
            ],
            fields=fields,
        ),
    )


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
