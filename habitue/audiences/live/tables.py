"""The tables of memberships and changes, in the file of the live state beside what it was told.

They are no copy of the lake: a change that was told once is never rewritten, and what is derived
from the lake anew (see `Profiles.rebuild`) leaves them as they are.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from habitue.audiences.live.facts import NEVER
from habitue.audiences.live.scored import curves

TABLES = f"""
-- one row per audience that is followed; to customers beyond `reached` it was not applied yet
CREATE TABLE IF NOT EXISTS followed (
    id INTEGER PRIMARY KEY, shop TEXT NOT NULL, name TEXT NOT NULL, condition TEXT,
    basis TEXT NOT NULL, since INTEGER NOT NULL, cause TEXT NOT NULL, reached INTEGER NOT NULL,
    problem TEXT NOT NULL, UNIQUE (shop, name));

-- one row per audience and customer who is in it, or may be when `until` comes
CREATE TABLE IF NOT EXISTS standing (
    customer INTEGER NOT NULL, audience INTEGER NOT NULL, joined INTEGER, until INTEGER NOT NULL,
    PRIMARY KEY (customer, audience)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS standing_by_until ON standing (until) WHERE until < {NEVER};
DROP INDEX IF EXISTS standing_by_audience;
CREATE INDEX IF NOT EXISTS standing_inside ON standing (audience, joined) WHERE joined IS NOT NULL;

-- one row per change of a membership, in the order in which they were found
CREATE TABLE IF NOT EXISTS changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, shop TEXT NOT NULL, audience TEXT NOT NULL,
    customer TEXT NOT NULL, change TEXT NOT NULL, at INTEGER NOT NULL,
    detected_at INTEGER NOT NULL, cause TEXT NOT NULL);
DROP INDEX IF EXISTS changes_by_customer;
CREATE INDEX IF NOT EXISTS changes_of_customer ON changes (shop, customer, audience, at);

-- one row per name: the instant up to which everything was looked at, and the like
CREATE TABLE IF NOT EXISTS progress (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

_PUT_CHANGE = """
INSERT INTO changes (shop, audience, customer, change, at, detected_at, cause)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_STANDING = """
-- one row per audience that some customers are in, or may come to be in
SELECT customer, audience, joined, until FROM standing
WHERE customer IN (SELECT value FROM json_each(?))
"""

_STANDING_TO = """
-- one row per customer of some who are in some audiences, or may come to be in one
SELECT standing.customer, audience, joined, until
FROM json_each(?) AS asked CROSS JOIN json_each(?) AS named
CROSS JOIN standing ON standing.customer = asked.value AND audience = named.value
"""

_PUT_STANDING = """
INSERT INTO standing VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET joined = excluded.joined, until = excluded.until
"""

_FOLDED = """
-- one row per audience and customer who entered last and did not leave since
INSERT INTO standing
SELECT keys.id, followed.id, last.at, ? FROM (
    SELECT shop, audience, customer, change, at, max(sequence) FROM changes
    GROUP BY shop, audience, customer
) AS last
JOIN followed ON followed.shop = last.shop AND followed.name = last.audience
JOIN keys ON keys.shop = last.shop AND keys.key = last.customer
WHERE last.change = 'entered'
"""


Stands: TypeAlias = tuple[int | None, int]  # since when in it, and when to look again
NOWHERE: Stands = (None, NEVER)            # of who is out, and will stay out


class Changed(NamedTuple):
    """One change of a membership, on its way into the table."""

    shop: str
    audience: str
    customer: str
    entered: bool
    at: int
    cause: str  # event, time, score, definition


def make(connection: sqlite3.Connection) -> None:
    """Make the tables where they are missing."""
    for statement in (*TABLES.split(";\n"), *curves.TABLES.split(";\n")):
        connection.execute(statement)


def put_changes(connection: sqlite3.Connection, changes: list[Changed], detected_at: int) -> None:
    """Add changes, in their order."""
    connection.executemany(
        _PUT_CHANGE,
        [
            (
                one.shop, one.audience, one.customer, "entered" if one.entered else "left", one.at,
                detected_at, one.cause,
            )
            for one in changes
        ],
    )  # fmt: skip


def standing(
    connection: sqlite3.Connection, customers: Iterable[int]
) -> dict[int, dict[int, Stands]]:
    """How customers stand to audiences: of who is out and will stay out there is nothing."""
    found: dict[int, dict[int, Stands]] = {}
    asked = msgspec.json.encode(list(customers)).decode()
    for customer, audience, joined, until in connection.execute(_STANDING, [asked]):
        found.setdefault(customer, {})[audience] = (joined, until)
    return found


def standing_to(
    connection: sqlite3.Connection, customers: Iterable[int], audiences: Iterable[int]
) -> dict[int, dict[int, Stands]]:
    """The same of some audiences only, which costs no more than they are."""
    found: dict[int, dict[int, Stands]] = {}
    asked = [msgspec.json.encode(list(one)).decode() for one in (customers, audiences)]
    for customer, audience, joined, until in connection.execute(_STANDING_TO, asked):
        found.setdefault(customer, {})[audience] = (joined, until)
    return found


def has_members(connection: sqlite3.Connection, audience: int) -> bool:
    """Whether anybody is in an audience."""
    sql = "SELECT 1 FROM standing WHERE audience = ? AND joined IS NOT NULL LIMIT 1"
    return connection.execute(sql, [audience]).fetchone() is not None


def put_standing(
    connection: sqlite3.Connection, rows: Mapping[tuple[int, int], tuple[Stands, Stands]]
) -> None:
    """Keep how customers stood and stand; of those who are out and will stay out nothing is kept.

    By customer and audience. An index costs as much as a row, so each is touched only where it
    has to be.
    """
    put, moved, gone = [], [], []
    for (customer, audience), (before, now) in rows.items():
        if now == NOWHERE:
            gone.append((customer, audience))
        elif before != NOWHERE and before[0] == now[0]:
            moved.append((now[1], customer, audience))
        else:
            put.append((customer, audience, *now))
    connection.executemany(_PUT_STANDING, put)
    connection.executemany(
        "UPDATE standing SET until = ? WHERE customer = ? AND audience = ?", moved
    )
    connection.executemany("DELETE FROM standing WHERE customer = ? AND audience = ?", gone)


def frontier(connection: sqlite3.Connection) -> int:
    """The instant up to which everything was looked at."""
    return noted(connection, "frontier") or 0


def set_frontier(connection: sqlite3.Connection, time: int) -> None:
    """Everything up to an instant was looked at."""
    note(connection, "frontier", time)


def noted(connection: sqlite3.Connection, name: str) -> int | None:
    """What was noted of how far something is; none: nothing was."""
    row = connection.execute("SELECT value FROM progress WHERE name = ?", [name]).fetchone()
    return int(row[0]) if row else None


def note(connection: sqlite3.Connection, name: str, value: int | None) -> None:
    """Note how far something is; none: no longer."""
    if value is None:
        connection.execute("DELETE FROM progress WHERE name = ?", [name])
        return
    connection.execute("INSERT OR REPLACE INTO progress VALUES (?, ?)", [name, value])


def refold(connection: sqlite3.Connection) -> None:
    """Make the memberships anew from the changes, after customers got other ids."""
    connection.execute("DELETE FROM standing")
    connection.execute(_FOLDED, [NEVER])


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
    curves.forget(connection, shop, keys)
