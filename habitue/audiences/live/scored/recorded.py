"""What scores said of a shop's customers at an instant, for whoever asks of all of them in batch.

The same curves, read by the same function, as live audiences rest on. One counts from the instant
at which it was taken over, which is when it became known.
"""

# C customers
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from habitue.audiences.live.facts import NEVER
from habitue.audiences.live.scored import curves
from habitue.audiences.live.scored.curves import Reading
from habitue.audiences.live.scored.drift import date_of
from habitue.lake.live.told import microseconds

Asked: TypeAlias = tuple[str, int]         # a question and its horizon in days
Opens: TypeAlias = Callable[[bytes], Reading]
Row: TypeAlias = tuple[str, int, int, bytes]     # customer, whole, anchor, curve

AT_ONCE = 20_000                           # customers

VALUES = pa.schema(
    [("customer", pa.string()), ("value", pa.float64()), ("date", pa.timestamp("us", "UTC"))]
)

_SINCE = """
-- one row: from when on every customer of a shop has a curve, and from when on all are kept
SELECT min(since), (SELECT max(time) FROM curves_since) FROM wholes WHERE shop = ?
"""

# one row per curve, of what had happened and was known by then, each customer's in their order
_AS_OF = """
SELECT customer, visible, whole, anchor, curve FROM {table}
WHERE shop = :shop AND visible <= :known_at AND CASE WHEN whole IS NULL THEN visible <= :cutoff
    ELSE anchor <= :cutoff AND whole IN (SELECT value FROM json_each(:wholes)) END {more}
ORDER BY shop, customer, visible
"""
_HELD = _AS_OF.format(table="curves", more="")
_PAST = _AS_OF.format(table="past_curves", more="AND until > :by")


class _Told(msgspec.Struct):
    """What is looked up of a scoring of a whole shop."""

    version: str
    cutoff: int                            # µs


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What was predicted of all customers of a shop, as of an instant."""

    version: str                           # of the last scoring of the whole shop
    tables: dict[Asked, pa.Table]          # VALUES, each of those who have one


@dataclass(frozen=True, slots=True)
class Recorded:
    """The scores that the live state keeps, of all shops."""

    path: Path                             # of the live state
    opens: Opens

    def as_of(
        self, shop: str, asked: Collection[Asked], cutoff: datetime, known_at: datetime | None
    ) -> Scored | None:
        """What was predicted at a cutoff, by the scores that were known by an instant.

        None where scores did not answer then, or those that did are no longer kept; of the
        questions those are left out that scores do not answer.
        """
        if not asked or not self.path.exists():
            return None
        address = f"{self.path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=30)) as connection:
            held = "SELECT 1 FROM sqlite_master WHERE name = 'past_curves'"
            if connection.execute(held).fetchone() is None:
                return None
            connection.execute("BEGIN")    # one state of it, whatever is written meanwhile
            time = microseconds(cutoff)
            known = time if known_at is None else microseconds(known_at)
            since, kept = connection.execute(_SINCE, [shop]).fetchone()
            if since is None or min(time, known) < max(since, kept):
                return None
            return self._read(connection, shop, asked, (time, None if known_at is None else known))

    def _read(
        self,
        connection: sqlite3.Connection,
        shop: str,
        asked: Collection[Asked],
        by: tuple[int, int | None],
    ) -> Scored | None:
        """The values by a cutoff, of what was known by then (none: whenever)."""
        time, known = by
        told = {id: text for of, id, text, _ in curves.wholes(connection) if of == shop}
        wholes = {id: msgspec.json.decode(text, type=_Told) for id, text in told.items()}
        wholes = {id: one for id, one in wholes.items() if one.cutoff <= time}
        if not wholes:
            return None
        readings = {id: self.opens(told[id]) for id in wholes}
        last = max(wholes)
        answered = [one for one in asked if readings[last].answers(*one)]
        parts: dict[Asked, list[pa.Table]] = {one: [VALUES.empty_table()] for one in answered}
        values = {
            "shop": shop, "cutoff": time, "known_at": NEVER if known is None else known,
            "wholes": msgspec.json.encode(list(wholes)).decode(),
        }  # fmt: skip
        past = values | {"by": time if known is None else min(time, known)}
        found = merge(
            connection.execute(_HELD, values), connection.execute(_PAST, past), key=itemgetter(0, 1)
        )
        for rows in _pieces(found):
            for whole in {row[1] for row in rows}:
                mine = [row for row in rows if row[1] == whole]
                for one in answered:
                    parts[one].append(_values(readings[whole], one, mine, time))
        tables = {one: pa.concat_tables(each) for one, each in parts.items()}
        return Scored(version=wholes[last].version, tables=tables)


def _pieces(found: Iterable[tuple[Any, ...]]) -> Iterator[list[Row]]:
    """The last curve of each customer who has one, some at a time."""
    last = (list(each)[-1] for _, each in groupby(found, key=itemgetter(0)))
    rows = ((name, whole, anchor, row) for name, _, whole, anchor, row in last if row is not None)
    while piece := list(islice(rows, AT_ONCE)):
        yield piece


def _values(reading: Reading, asked: Asked, rows: list[Row], time: int) -> pa.Table:
    """What some curves of one scoring say at an instant, where they say anything."""
    anchors = np.array([row[2] for row in rows], np.int64)                 # (C,)
    times = np.full(len(rows), time)
    held = reading.values(asked, anchors, [row[3] for row in rows], times)
    is_told = ~np.isnan(held)
    names = [row[0] for row, told in zip(rows, is_told.tolist(), strict=True) if told]
    days = held[is_told].tolist()
    is_date = asked[0] == "next_order"
    dates = [date_of(one, time) for one in days] if is_date else [None] * len(days)
    return pa.table([names, days, pa.array(dates, VALUES.field("date").type)], schema=VALUES)
