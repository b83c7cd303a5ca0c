"""Removing a customer from memberships, changes and what is still to be told of them."""

import sqlite3
from collections.abc import Collection

import msgspec


def forget(connection: sqlite3.Connection, shop: str, keys: Collection[str]) -> None:
    """Remove all that is known of some keys as customers; before the keys themselves are."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone():
        return
    asked = msgspec.json.encode(list(keys)).decode()
    among = "IN (SELECT value FROM json_each(?))"
    connection.execute(
        "DELETE FROM standing WHERE customer IN"
        f" (SELECT id FROM keys WHERE shop = ? AND key {among})",
        [shop, asked],
    )
    connection.execute(f"DELETE FROM changes WHERE shop = ? AND customer {among}", [shop, asked])
