"""The catalogue as it is known at this moment: what an item is, and whether it can be sold.

Of each column the last that was told stands. What cannot be sold is asked for each list that is
shown, so it costs two looks at an index per item, however often its stock has changed.
"""

import sqlite3
from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

_LAST = """(
    SELECT {column} FROM items WHERE shop = ?1 AND item = asked.value AND {column} IS NOT NULL
        AND visible <= ?3 ORDER BY time DESC, received DESC, digest DESC LIMIT 1)"""

_UNAVAILABLE = f"""
-- one row per item of some that is out of stock, or not published
SELECT asked.value FROM json_each(?2) AS asked
WHERE {_LAST.format(column="stock")} <= 0 OR {_LAST.format(column="published")} = 0
"""

_CHANGES = """
-- one row per change of some items, each item's in their order
SELECT item, time, title, category, brand, price_minor, currency, stock, image, published
FROM items WHERE shop = ? AND item IN (SELECT value FROM json_each(?)) AND visible <= ?
ORDER BY item, time, received, digest
"""

_PAGE = """
-- one row per item of a shop, after one
SELECT DISTINCT item FROM items WHERE shop = ? AND item > ? ORDER BY item LIMIT ?
"""

_CATEGORIES = """
-- one row per category that an item of a shop is in, and when one was last put there
SELECT category, max(time) FROM items AS told
WHERE shop = ?1 AND category IS NOT NULL AND visible <= ?2
    AND NOT EXISTS (
        SELECT 1 FROM items WHERE shop = ?1 AND item = told.item AND category IS NOT NULL
            AND visible <= ?2 AND (time, received, digest) > (told.time, told.received, told.digest)
    )
GROUP BY category ORDER BY category
"""


class LiveItem(NamedTuple):
    """What is known of an item; None: it was never told."""

    item: str
    created: int                           # µs, when something was told of it first
    updated: int                           # µs
    title: str | None = None
    category: str | None = None
    brand: str | None = None
    price_minor: int | None = None
    currency: str | None = None
    stock: int | None = None
    image: str | None = None
    published: bool | None = None


def unavailable(
    connection: sqlite3.Connection, shop: str, items: Collection[str], now: int
) -> set[str]:
    """Those of some items that cannot be sold now (µs): no stock is left, or it is unpublished.

    An item whose stock nobody ever told of can be sold.
    """
    rows = connection.execute(_UNAVAILABLE, [shop, _json(items), now])
    return {item for (item,) in rows}


def items_of(
    connection: sqlite3.Connection, shop: str, items: Collection[str], now: int
) -> dict[str, LiveItem]:
    """What is known now (µs) of those of some items that something was told of."""
    found: dict[str, LiveItem] = {}
    for item, time, *told in connection.execute(_CHANGES, [shop, _json(items), now]):
        held = found.get(item) or LiveItem(item, created=time, updated=time)
        news = {
            name: value
            for name, value in zip(LiveItem._fields[3:], told, strict=True)
            if value is not None
        }
        if "published" in news:
            news["published"] = bool(news["published"])
        found[item] = held._replace(updated=time, **news)
    return found


def page(connection: sqlite3.Connection, shop: str, after: str, most: int) -> list[str]:
    """The codes of a shop's items in order, those that follow `after`."""
    return [item for (item,) in connection.execute(_PAGE, [shop, after, most])]


def categories(connection: sqlite3.Connection, shop: str, now: int) -> list[tuple[str, int]]:
    """The categories that items of a shop are in now (µs), and when one was last put there."""
    return connection.execute(_CATEGORIES, [shop, now]).fetchall()


def _json(values: Iterable[str]) -> str:
    return msgspec.json.encode(list(values)).decode()
