"""Pages of what a shop has, in an order: its customers, its events.

A page begins after a place, which is the last row's value and what tells it from others of that
value. So whatever comes meanwhile shifts no page.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

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
