"""What happened, key by key, as audiences look at it: events, cancellations of nobody's, items.

Rows are kept as they came, under the key that they came with; whose they are is looked up when they
are read. Of an order every telling is kept; what is believed is worked out by who reads.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from habitue.events import NO_CURRENCY, ORDER_CANCELLED, ORDER_PLACED, ORDER_UPDATED
from habitue.lake.live.told import Row, visible

TABLES = """
-- one row per event of a key; an order that has no number is named by its event
CREATE TABLE IF NOT EXISTS events (
    key INTEGER NOT NULL, time INTEGER NOT NULL, digest BLOB NOT NULL, received INTEGER NOT NULL,
    visible INTEGER NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, "order" TEXT,
    value_minor INTEGER, currency TEXT, lines TEXT NOT NULL, properties TEXT NOT NULL,
    PRIMARY KEY (key, time, digest)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_order ON events ("order") WHERE name = 'order_placed';
CREATE INDEX IF NOT EXISTS events_by_time ON events (time);

-- one row per cancellation that names an order and no customer
CREATE TABLE IF NOT EXISTS cancellations (
    shop TEXT NOT NULL, "order" TEXT NOT NULL, digest BLOB NOT NULL, time INTEGER NOT NULL,
    visible INTEGER NOT NULL, PRIMARY KEY (shop, "order", digest)) WITHOUT ROWID;

-- one row per change of what is known of an item
CREATE TABLE IF NOT EXISTS items (
    shop TEXT NOT NULL, item TEXT NOT NULL, time INTEGER NOT NULL, received INTEGER NOT NULL,
    digest BLOB NOT NULL, visible INTEGER NOT NULL, title TEXT, category TEXT, brand TEXT,
    stock INTEGER, image TEXT, published INTEGER, price_minor INTEGER, currency TEXT,
    PRIMARY KEY (shop, item, time, received, digest)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_stock
    ON items (shop, item, time, received, digest, visible, stock) WHERE stock IS NOT NULL;
CREATE INDEX IF NOT EXISTS items_by_published
    ON items (shop, item, time, received, digest, visible, published) WHERE published IS NOT NULL;

-- one row per shop and currency of amounts
CREATE TABLE IF NOT EXISTS currencies (
    shop TEXT, currency TEXT, events INTEGER NOT NULL, PRIMARY KEY (shop, currency)) WITHOUT ROWID;
"""

NAMES_OF_TABLES = ("events", "cancellations", "items", "currencies")

_PUT_EVENT = """
INSERT OR IGNORE INTO events (key, time, received, digest, visible, name, source, "order",
    value_minor, currency, lines, properties) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_ORDERING = """
-- one row per key that placed one of some orders
SELECT DISTINCT events.key FROM events JOIN keys ON keys.id = events.key
WHERE keys.shop = ? AND events.name = 'order_placed'
    AND events."order" IN (SELECT value FROM json_each(?))
"""


@dataclass(slots=True)
class Touched:
    """What was told for the first time: which keys it is about, and from when on it counts."""

    # by the key's id: the kind of row (the name of an event) and from when on it counts
    rows: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    # by the key's id: events as they are kept
    events: dict[int, list[Row]] = field(default_factory=dict)
    items: dict[str, list[tuple[str, int]]] = field(default_factory=dict)   # by shop: item, from
    # keys whose customer is another now: the one it was (none: the key is new), from when on
    moved: dict[int, tuple[int | None, int]] = field(default_factory=dict)

    def add(self, key: int, what: str, since: int) -> None:
        """Note a row about a key."""
        self.rows.setdefault(key, []).append((what, since))


def keep(
    connection: sqlite3.Connection,
    new: Mapping[str, Sequence[Row]],
    ids: Sequence[int | None],
    touched: Touched,
) -> None:
    """Keep new events, whose keys have these ids (none: nobody's), and new items."""
    events = new.get("events", ())
    rows = [_event(row, key) for row, key in zip(events, ids, strict=True) if key is not None]
    connection.executemany(_PUT_EVENT, rows)
    for one in rows:
        touched.events.setdefault(one[0], []).append(one)
    _count_currencies(connection, events)
    _cancel(connection, [row for row, key in zip(events, ids, strict=True) if key is None], touched)
    items = [(row, visible(row)) for row in new.get("items", ())]
    connection.executemany(
        f"INSERT OR IGNORE INTO items VALUES ({', '.join('?' * 14)})",
        [
            (shop, item, time, received, digest, since, *told)
            for (digest, shop, _, time, received, _, item, *told), since in items
        ],
    )
    for row, since in items:
        touched.items.setdefault(row[1], []).append((row[6], since))


def forget(connection: sqlite3.Connection, ids: Collection[int]) -> None:
    """Remove the events of some keys."""
    gone = msgspec.json.encode(list(ids)).decode()
    among = "IN (SELECT value FROM json_each(?))"
    connection.execute(f"DELETE FROM events WHERE key {among}", [gone])


def _event(row: Row, key: int) -> Row:
    digest, _, _, time, received, _, name, own, source, order, minor, currency, lines, told = row
    if order is None and name in (ORDER_PLACED, ORDER_UPDATED):
        order = own
    return (
        key, time, received, digest, visible(row), name, source, order, minor, currency, lines,
        told or "{}",
    )  # fmt: skip


def _count_currencies(connection: sqlite3.Connection, events: Iterable[Row]) -> None:
    counts: dict[tuple[str, str], int] = {}
    for row in events:
        shop, currency = row[1], row[11]
        if currency is not None and currency != NO_CURRENCY:
            counts[shop, currency] = counts.get((shop, currency), 0) + 1
    connection.executemany(
        "INSERT INTO currencies VALUES (?, ?, ?) ON CONFLICT (shop, currency)"
        " DO UPDATE SET events = events + excluded.events",
        [(*place, count) for place, count in counts.items()],
    )


def _cancel(connection: sqlite3.Connection, events: Iterable[Row], touched: Touched) -> None:
    """Keep cancellations that name nobody, and note whose orders they name."""
    told = [
        (row[1], row[9], row[0], row[3], visible(row))
        for row in events
        if row[6] == ORDER_CANCELLED and row[9] is not None
    ]
    connection.executemany("INSERT OR IGNORE INTO cancellations VALUES (?, ?, ?, ?, ?)", told)
    for shop, order, _, _, since in told:
        asked = msgspec.json.encode([order]).decode()
        for (key,) in connection.execute(_ORDERING, [shop, asked]).fetchall():
            touched.add(key, ORDER_CANCELLED, since)


