"""Who is in an audience now, since when, and who came and went, out of the live state's file.

Whoever reads waits for nobody, and sees what was committed.
"""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from habitue.errors import HabitueError
from habitue.lake.live.paging import Window, bounds
from habitue.lake.schema import TIME

MOST = 100_000  # changes of one answer

CHANGES = pa.schema(
    [
        ("sequence", pa.int64()), ("audience", pa.string()), ("customer", pa.string()),
        ("change", pa.string()), ("at", TIME), ("detected_at", TIME), ("cause", pa.string()),
    ]
)  # fmt: skip

MEMBERS = pa.schema([("customer", pa.string()), ("joined_at", TIME)])

FOLLOWED = pa.schema(
    [
        ("name", pa.string()), ("members", pa.int64()), ("since", TIME), ("applied", pa.bool_()),
        ("problem", pa.string()),
    ]
)  # fmt: skip

_CHANGES = """
-- one row per change of a shop's audiences (or of one) after a sequence number
SELECT sequence, audience, customer, change, at, detected_at, cause FROM changes
WHERE shop = ? AND sequence > ? AND (? IS NULL OR audience = ?) ORDER BY sequence LIMIT ?
"""

_MEMBERS = """
-- one row per customer who is in an audience
SELECT keys.key, standing.joined FROM followed
JOIN standing ON standing.audience = followed.id JOIN keys ON keys.id = standing.customer
WHERE followed.shop = ? AND followed.name = ? AND standing.joined IS NOT NULL ORDER BY keys.key
"""

_FOLLOWED = """
-- one row per audience that is followed
SELECT name,
    (SELECT count(*) FROM standing WHERE audience = followed.id AND joined IS NOT NULL),
    since, reached = ?, problem
FROM followed WHERE shop = ? ORDER BY name
"""

_MEMBERSHIPS = """
-- one row per audience that a customer is in
SELECT followed.name, standing.joined FROM keys
JOIN standing ON standing.customer = keys.customer JOIN followed ON followed.id = standing.audience
WHERE keys.shop = ? AND keys.key = ? AND followed.shop = keys.shop AND standing.joined IS NOT NULL
ORDER BY followed.name
"""

_PROBLEM = "SELECT problem FROM followed WHERE shop = ? AND name = ?"
_STATES = """
-- one row per audience that is followed: whether it was applied to everybody
SELECT name, reached = ?, since, problem FROM followed WHERE shop = ?
"""

_COUNT = """
-- one row: how many are in an audience
SELECT count(standing.joined) FROM followed JOIN standing ON standing.audience = followed.id
WHERE followed.shop = ? AND followed.name = ?
"""

# one row per customer who is in an audience, in the order in which they came in
_PAGE = """
SELECT standing.customer, standing.joined FROM followed
JOIN standing ON standing.audience = followed.id JOIN keys ON keys.id = standing.customer
WHERE followed.shop = ? AND followed.name = ? AND standing.joined IS NOT NULL {within}
ORDER BY standing.joined {direction}, standing.customer {direction} LIMIT ?
"""

_DONE = 1 << 62


class NotFollowed(HabitueError, LookupError):
    """No audience of that name is followed live."""

    def __init__(self, name: str = "", problem: str = "") -> None:
        told = f"the audience {name!r} is not followed live" if name else "nothing is followed live"
        if problem:
            super().__init__(f"{told}: {problem}")
            return
        super().__init__(
            f"{told}\nhint: save one (`habitue audience CONDITION --save NAME`), and let"
            " `habitue serve` or `habitue follow` run"
        )


def changes(
    path: Path, shop: str, *, after: int = 0, audience: str | None = None, most: int = MOST
) -> pa.Table:
    """Who entered or left which audience, in the order in which it was found.

    Raises:
        NotFollowed: there is no live state yet.
    """
    with _opened(path) as connection:
        rows = connection.execute(_CHANGES, [shop, after, audience, audience, most]).fetchall()
    return _table(rows, CHANGES)


def members(path: Path, shop: str, name: str) -> pa.Table:
    """Who is in an audience, and since when.

    Raises:
        NotFollowed: it is not followed, or cannot be.
    """
    with _opened(path) as connection:
        found = connection.execute(_PROBLEM, [shop, name]).fetchone()
        if found is None or found[0]:
            raise NotFollowed(name, found[0] if found else "")
        return _table(connection.execute(_MEMBERS, [shop, name]).fetchall(), MEMBERS)


def memberships(
    connection: sqlite3.Connection, shop: str, customer: str
) -> list[tuple[str, int]]:
    """The audiences that a customer, by any key, is in, and since when (µs)."""
    if not _is_made(connection):
        return []
    return connection.execute(_MEMBERSHIPS, [shop, customer]).fetchall()


class State(NamedTuple):
    """How an audience is followed."""

    applied: bool                          # to everybody
    since: int                             # µs, from when on it counts as it does
    problem: str


def states(connection: sqlite3.Connection, shop: str) -> dict[str, State]:
    """How the audiences of a shop are followed, by name."""
    if not _is_made(connection):
        return {}
    rows = connection.execute(_STATES, [_DONE, shop]).fetchall()
    return {name: State(bool(applied), since, problem) for name, applied, since, problem in rows}


def count(connection: sqlite3.Connection, shop: str, name: str) -> int:
    """How many are in an audience."""
    if not _is_made(connection):
        return 0
    return int(connection.execute(_COUNT, [shop, name]).fetchone()[0])


def page(
    connection: sqlite3.Connection,
    shop: str,
    name: str,
    window: Window,
    among: Collection[int] | None = None,
) -> list[tuple[int, int]]:
    """Who is in an audience, by the ids of their keys, and since when (µs): a page of them.

    A place is the instant (µs) and the id; `among` are the only ones that are looked for.
    """
    if not _is_made(connection):
        return []
    within, values = bounds(window, ("standing.joined",))
    if among is not None:
        within += " AND standing.customer IN (SELECT value FROM json_each(?))"
        values.append(msgspec.json.encode(list(among)).decode())
    if window.after is not None:
        sign = "<" if window.descending else ">"
        within += f" AND (standing.joined, standing.customer) {sign} (?, ?)"
        values += window.after
    sql = _PAGE.format(within=within, direction="DESC" if window.descending else "ASC")
    return connection.execute(sql, [shop, name, *values, window.most]).fetchall()


def followed(path: Path, shop: str) -> pa.Table:
    """The audiences that are followed: how many are in each, and what is wrong, if anything.

    Raises:
        NotFollowed: there is no live state yet.
    """
    with _opened(path) as connection:
        return _table(connection.execute(_FOLLOWED, [_DONE, shop]).fetchall(), FOLLOWED)


def _is_made(connection: sqlite3.Connection) -> bool:
    """Whether anything was ever followed."""
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'followed'"
    return connection.execute(sql).fetchone() is not None


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise NotFollowed
    address = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=30)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone():
            raise NotFollowed
        yield connection


def _table(rows: list[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [
        pa.array(column, field.type if field.type != pa.bool_() else pa.int64()).cast(field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
