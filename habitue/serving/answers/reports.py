"""Sums over time: events of a name, and members of audiences."""

import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate

import msgspec
import numpy as np
import pyarrow.compute as pc

from habitue.audiences.changes.reading import count
from habitue.events import NO_CURRENCY, currency_exponent
from habitue.lake.live.told import microseconds
from habitue.lake.query import read
from habitue.lake.tables import Lake
from habitue.serving.answers.book import Book

# one row per event of a name in a span
_EVENTS = """
SELECT epoch_us("time") AS at, customer,
    CASE WHEN currency IS NULL OR currency = ? THEN value_minor END AS minor
FROM events WHERE name = ? AND epoch_us("time") >= ? AND epoch_us("time") < ?
"""

_CHANGES = """
-- one row per change of an audience from an instant on
SELECT at, change FROM changes WHERE shop = ? AND audience = ? AND at >= ?
"""


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one audience in each part of a span."""

    total_members: list[int]               # at the end of the part
    members_added: list[int]
    members_removed: list[int]

    @property
    def net_members_changed(self) -> list[int]:
        """Added less removed."""
        pairs = zip(self.members_added, self.members_removed, strict=True)
        return [added - removed for added, removed in pairs]


def counted(
    lake: Lake, shop: str, name: str, edges: Sequence[datetime], begin: datetime,
    currency: str | None,
) -> dict[str, list[float]]:  # fmt: skip
    """Events of a name from `begin` on between each two edges: how many, worth, of how many.

    Worth is in major units of the shop's currency; amounts in others are left out.
    """
    parts = len(edges) - 1
    if shop not in lake.shops():           # its first event is not in the lake yet
        return {one: [0.0] * parts for one in ("count", "sum_value", "unique")}
    ends = np.array([microseconds(one) for one in edges])
    span = [max(microseconds(begin), int(ends[0])), int(ends[-1])]
    rows = read(lake, _EVENTS, [currency or NO_CURRENCY, name, *span], shop=shop)
    part = np.searchsorted(ends, rows["at"].to_numpy(), side="right") - 1
    minor = pc.fill_null(rows["minor"], 0).to_numpy().astype(float)
    code = pc.fill_null(rows["customer"], "").combine_chunks().dictionary_encode()
    pairs = np.stack([part, code.indices.to_numpy(zero_copy_only=False)])
    told = pc.is_valid(rows["customer"]).to_numpy()
    unique = np.unique(pairs[:, told], axis=1)[0] if told.any() else np.zeros(0, dtype=int)
    scale = 10 ** currency_exponent(currency or NO_CURRENCY)
    return {
        "count": np.bincount(part, minlength=parts).astype(float).tolist(),
        "sum_value": (np.bincount(part, minor, minlength=parts) / scale).tolist(),
        "unique": np.bincount(unique, minlength=parts).astype(float).tolist(),
    }


def members_over(
    book: Book, shop: str, audiences: Mapping[str, str], begin: datetime, edges: Sequence[datetime]
) -> dict[str, Members]:
    """By the id of each audience, what happened from `begin` on between each two edges."""
    ends = [microseconds(one) for one in edges]
    first = microseconds(begin)

    def look(connection: sqlite3.Connection) -> dict[str, Members]:
        found = {}
        for id, name in audiences.items():
            now = count(connection, shop, name)
            try:
                rows = connection.execute(_CHANGES, [shop, name, first]).fetchall()
            except sqlite3.OperationalError:   # nothing was ever followed here
                rows = []
            found[id] = _members(now, rows, ends)
        return found

    return book.profiles.look(look)


def _members(now: int, rows: Sequence[tuple[int, str]], ends: Sequence[int]) -> Members:
    parts = len(ends) - 1
    added, removed, after = [0] * parts, [0] * parts, 0
    for at, change in rows:
        step = 1 if change == "entered" else -1
        place = bisect_right(ends, at) - 1
        if place >= parts:
            after += step                  # since the span ended
        elif step > 0:
            added[place] += 1
        else:
            removed[place] += 1
    net = [one - other for one, other in zip(added, removed, strict=True)]
    start = now - after - sum(net)
    totals = [start + so_far for so_far in accumulate(net)]
    return Members(total_members=totals, members_added=added, members_removed=removed)
