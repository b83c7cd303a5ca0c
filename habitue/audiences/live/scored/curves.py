"""Curves that were taken over from the scorer, each with the instant from which on it counts.

They are kept beside the memberships, in the same transactions, so that what a membership rests on
is known after a crash, too. The last curve of a customer is kept, and those before it as long as
an earlier instant may be looked at; after that they are past, for whoever asks in batch.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

TABLES = """
-- one row per scoring of a whole shop that some curves rest on; since: from then on every customer
-- has a curve of this one or of one before it; none: not each was taken yet
CREATE TABLE IF NOT EXISTS wholes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, shop TEXT NOT NULL, told BLOB NOT NULL, since INTEGER);

-- one row per customer, by the key that named them, and instant from which on a curve counts;
-- no curve: from then on they have none
CREATE TABLE IF NOT EXISTS curves (
    shop TEXT NOT NULL, customer TEXT NOT NULL, visible INTEGER NOT NULL, whole INTEGER,
    anchor INTEGER, curve BLOB, PRIMARY KEY (shop, customer, visible)) WITHOUT ROWID;

-- one row per curve that counts no more, and at what instant another one began to
CREATE TABLE IF NOT EXISTS past_curves (
    shop TEXT NOT NULL, customer TEXT NOT NULL, visible INTEGER NOT NULL, until INTEGER NOT NULL,
    whole INTEGER, anchor INTEGER, curve BLOB, PRIMARY KEY (shop, customer, visible))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS past_curves_by_until ON past_curves (until);

-- one row: the instant from which on every curve that counted is there
CREATE TABLE IF NOT EXISTS curves_since (time INTEGER NOT NULL);
INSERT INTO curves_since SELECT coalesce((SELECT max(visible) FROM curves), 0)
WHERE NOT EXISTS (SELECT 1 FROM curves_since)
"""
KEPT = 2 * 86_400_000_000                  # µs for which a past curve is kept
KEPT_WHOLES = 100                          # of a shop: more than are made in that time

_OF = """
-- one row per curve of some customers, in the order in which they count
SELECT customer, visible, whole, anchor, curve FROM curves
WHERE shop = ? AND customer IN (SELECT value FROM json_each(?)) ORDER BY visible
"""

_LATEST = """
-- one row per customer of some: the curve that counts now
SELECT customer, max(visible), whole, anchor, curve FROM curves
WHERE shop = ? AND customer IN (SELECT value FROM json_each(?)) GROUP BY customer
"""

_PRUNE = """
-- the same is not among those that are looked at any more
DELETE FROM curves WHERE shop = ?1 AND customer = ?2 AND visible < (
    SELECT max(visible) FROM curves WHERE shop = ?1 AND customer = ?2 AND visible <= ?3)
"""

_PASS = """
-- what no instant before the second one is looked at with goes to the past
INSERT OR REPLACE INTO past_curves
SELECT shop, customer, visible, until, whole, anchor, curve FROM (
    SELECT *, lead(visible) OVER (ORDER BY visible) AS until FROM curves
    WHERE shop = ?1 AND customer = ?2
) WHERE until <= ?3
"""

_MISSED = "UPDATE curves_since SET time = max(time, ?)"

_KEYS = """
-- one row per key of some that is known, and the one that names its customer
SELECT key, id, customer FROM keys
WHERE shop = ? AND key IN (SELECT value FROM json_each(?))
"""


class Reading(Protocol):
    """What the curves of one scoring of a whole shop say; the function that answers, too."""

    def answers(self, question: str, horizon_days: float) -> bool:
        """Whether a question can be asked at a horizon."""
        ...

    def values(
        self,
        asked: tuple[str, float],
        anchors: np.ndarray,
        rows: Sequence[bytes],
        times: np.ndarray,
    ) -> np.ndarray:
        """(C,) each curve's value at an instant of its own; NaN: none is told."""
        ...

    def turns(
        self, asked: tuple[str, float], anchors: np.ndarray, rows: Sequence[bytes]
    ) -> np.ndarray:
        """(C, K) instants, in order, between which a value only rises or falls."""
        ...


@dataclass(slots=True, eq=False)
class Curve:
    """One customer's curve, and what was found out about it."""

    visible: int                           # µs: it counts from then on
    whole: int | None                      # the scoring of the whole shop that it rests on
    anchor: int | None                     # µs
    row: bytes | None                      # none: there is none any more
    found: dict[Any, tuple[int, int, bool]] = field(default_factory=dict)  # from, until, holds


class Scoring(NamedTuple):
    """How a shop's customers are scored as they go on, and since when all of them are."""

    reading: Reading
    since: int                             # µs


class Rescored(NamedTuple):
    """What is told of one customer; without a row: there is none any more."""

    customer: str
    whole: int | None                      # as `put_whole` calls it
    anchor: int | None
    row: bytes | None


def of_customers(
    connection: sqlite3.Connection, shop: str, customers: Collection[str]
) -> dict[str, list[Curve]]:
    """The curves of some customers that are kept, each customer's in their order."""
    found: dict[str, list[Curve]] = {}
    for customer, *told in connection.execute(_OF, [shop, _json(customers)]):
        found.setdefault(customer, []).append(Curve(*told))
    return found


def put_whole(connection: sqlite3.Connection, shop: str, told: bytes) -> int:
    """Keep what curves rest on; returns what it is called from now on."""
    sql = "SELECT id FROM wholes WHERE shop = ? AND told = ?"
    row = connection.execute(sql, [shop, told]).fetchone()
    if row is None:
        sql = "INSERT INTO wholes (shop, told) VALUES (?, ?) RETURNING id"
        row = connection.execute(sql, [shop, told]).fetchone()
    return int(row[0])


def complete(connection: sqlite3.Connection, now: int) -> None:
    """All that was told so far was taken."""
    sql = "SELECT shop, min(coalesce(since, ?)) FROM wholes GROUP BY shop"
    for shop, since in connection.execute(sql, [now]).fetchall():
        connection.execute(
            "UPDATE wholes SET since = ? WHERE shop = ? AND since IS NULL", [since, shop]
        )
        connection.execute(
            "DELETE FROM wholes WHERE shop = ?1 AND id NOT IN"
            " (SELECT id FROM wholes WHERE shop = ?1 ORDER BY id DESC LIMIT ?2)",
            [shop, KEPT_WHOLES],
        )


def wholes(connection: sqlite3.Connection) -> list[tuple[str, int, bytes, int | None]]:
    """What curves rest on: shop, id, what was told, and since when each customer has one."""
    return connection.execute("SELECT shop, id, told, since FROM wholes ORDER BY id").fetchall()


def put(
    connection: sqlite3.Connection,
    shop: str,
    told: Mapping[str, Rescored],
    span: tuple[int, int],
) -> tuple[list[int], set[str]]:
    """Let curves of some customers count from an instant on.

    `span`: the earliest instant that may be looked at again, and the one from which on they count.
    Returns the ids of the customers whose curve is another one, and the names that are no key yet:
    of these nothing is kept.
    """
    earliest, visible = span
    asked = _json(told)
    keys = {key: (id, of) for key, id, of in connection.execute(_KEYS, [shop, asked])}
    held = {row[0]: tuple(row[2:]) for row in connection.execute(_LATEST, [shop, asked])}
    moved = [
        one for name, one in told.items()
        if name in keys and one[1:] != held.get(name, (None, None, None))
    ]  # fmt: skip
    connection.executemany(
        "INSERT OR REPLACE INTO curves VALUES (?, ?, ?, ?, ?, ?)",
        [(shop, one.customer, visible, *one[1:]) for one in moved],
    )
    over = [(shop, one.customer, earliest) for one in moved]
    connection.executemany(_PASS, over)
    connection.executemany(_PRUNE, over)
    before = min(earliest, visible - KEPT)
    if connection.execute("DELETE FROM past_curves WHERE until <= ?", [before]).rowcount:
        connection.execute(_MISSED, [before])
    named = [keys[one.customer] for one in moved]
    return [id for id, of in named if id == of], set(told) - keys.keys()


def forget(connection: sqlite3.Connection, shop: str, customers: Iterable[str]) -> None:
    """Remove the curves of some customers."""
    whose = [(shop, one) for one in customers]
    for table in ("curves", "past_curves"):
        connection.executemany(f"DELETE FROM {table} WHERE shop = ? AND customer = ?", whose)


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
