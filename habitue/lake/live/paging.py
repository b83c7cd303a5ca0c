"""Pages of what a shop has, in an order: its customers, its events.

A page begins after a place, which is the last row's value and what tells it from others of that
value. So whatever comes meanwhile shifts no page.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

FEW = 20_000                               # events that are all read and put in order

By: TypeAlias = Literal["id", "email", "created", "updated"]

# the last that was told of a customer's emails; who has none comes first
_EMAIL = """coalesce((SELECT told.value FROM keys JOIN identifiers AS told ON told.key = keys.id
    WHERE keys.customer = customers.id AND told.kind = 'email'
    ORDER BY told.time DESC, told.value DESC LIMIT 1), '')"""
_ORDERS: Mapping[str, str] = {
    "id": "profile", "created": "created", "updated": "updated", "email": _EMAIL,
}  # fmt: skip

# one row per customer of a shop, in an order, after a place in it
_CUSTOMERS = """
SELECT id FROM customers WHERE shop = ? {within} {beyond}
ORDER BY {column} {direction}, profile {direction} LIMIT ?
"""

_EVENT = """told.time, told.key, told.digest, told.name, told.value_minor, told.currency,
    told.lines, told.properties, name.profile"""

# one row per event of a shop, in the order of their times, after a place in it
_EVENTS = f"""
SELECT {_EVENT}
FROM events AS told {{index}} JOIN keys ON keys.id = told.key
JOIN keys AS name ON name.id = keys.customer
WHERE keys.shop = ? {{within}}
ORDER BY told.time {{direction}}, told.key {{direction}}, told.digest {{direction}} LIMIT ?
"""

_ONE = f"""
-- at most one row: the event of an identity
SELECT {_EVENT}
FROM seen JOIN events AS told ON told.key = seen.key AND told.digest = seen.digest
JOIN keys ON keys.id = told.key JOIN keys AS name ON name.id = keys.customer
WHERE seen.digest = ? AND keys.shop = ?
"""

_KEYS_OF = """
(SELECT own.id FROM keys AS shown JOIN keys AS own ON own.customer = shown.customer
WHERE shown.profile = ? AND shown.shop = ?)"""

_KEYS_THAT = """
(SELECT own.id FROM keys AS own JOIN counts ON counts.key = own.id
WHERE own.shop = ? AND counts.name = ?)"""

_KEYS_ALL = "(SELECT own.id FROM keys AS own WHERE own.shop = ?)"


class Event(NamedTuple):
    """One event, and the id by which its customer's profile is shown."""

    time: int                              # µs
    key: int
    digest: bytes
    name: str
    minor: int | None
    currency: str | None
    lines: str                             # JSON: [item, quantity, minor units] of each
    properties: str                        # JSON
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which part of a list is wanted."""

    by: str
    descending: bool = False
    after: Sequence[Any] | None = None     # the place; none: from the start
    most: int = 20
    # of columns of instants (µs): the earliest and the latest that is wanted, none: any
    within: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)


def customers(connection: sqlite3.Connection, shop: str, window: Window) -> list[int]:
    """The ids of the keys that name a shop's customers, a page of them."""
    column = _ORDERS[window.by]
    within, values = bounds(window, ("created", "updated"))
    beyond = ""
    if window.after is not None:
        beyond = f"AND ({column}, profile) {'<' if window.descending else '>'} (?, ?)"
        values += window.after
    sql = _CUSTOMERS.format(
        column=column, within=within, beyond=beyond,
        direction="DESC" if window.descending else "ASC",
    )  # fmt: skip
    return [id for (id,) in connection.execute(sql, [shop, *values, window.most])]


def events(
    connection: sqlite3.Connection,
    shop: str,
    window: Window,
    *,
    profile: str | None = None,
    name: str | None = None,
) -> list[Event]:
    """A page of a shop's events, of one customer or of all, of one name or of all.

    A place is the time (µs), the id of the key and the digest in hexadecimal.
    """
    within, values = bounds(window, ("told.time",))
    is_few = _count(connection, shop, name) <= FEW
    if name is not None:
        within, values = f"{within} AND told.name = ?", [*values, name]
    if profile is not None:
        within, values = f"{within} AND told.key IN {_KEYS_OF}", [*values, profile, shop]
    elif is_few and name is not None:
        within, values = f"{within} AND told.key IN {_KEYS_THAT}", [*values, shop, name]
    elif is_few:
        within, values = f"{within} AND told.key IN {_KEYS_ALL}", [*values, shop]
    if window.after is not None:
        time, key, digest = window.after
        sign = "<" if window.descending else ">"
        within += f" AND (told.time, told.key, told.digest) {sign} (?, ?, ?)"
        values += [time, key, bytes.fromhex(digest)]
    # of many only as many are read as are shown, and those between that are of other shops
    index = "" if is_few or profile is not None else "INDEXED BY events_by_time CROSS"
    sql = _EVENTS.format(
        index=index, within=within, direction="DESC" if window.descending else "ASC"
    )
    return [Event(*row) for row in connection.execute(sql, [shop, *values, window.most])]


def _count(connection: sqlite3.Connection, shop: str, name: str | None) -> int:
    """How many events of a name, or of any, a shop has."""
    sql = "SELECT coalesce(sum(events), 0) FROM names WHERE shop = ? AND (? IS NULL OR name = ?)"
    return int(connection.execute(sql, [shop, name, name]).fetchone()[0])


def event(connection: sqlite3.Connection, shop: str, digest: bytes) -> Event | None:
    """The event of an identity; none: it is not known, or of nobody, or of another shop."""
    row = connection.execute(_ONE, [digest, shop]).fetchone()
    return None if row is None else Event(*row)


def bounds(window: Window, columns: Sequence[str]) -> tuple[str, list[Any]]:
    """The conditions of a window on some columns, and the values that they compare with."""
    text, values = "", list[Any]()
    for column in columns:
        earliest, latest = window.within.get(column, (None, None))
        for sign, value in ((">=", earliest), ("<=", latest)):
            if value is not None:
                text += f" AND {column} {sign} ?"
                values.append(value)
    return text, values
