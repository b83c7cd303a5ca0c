"""What is read of the live state to know who is similar, and when."""

import sqlite3
from collections.abc import Collection, Iterable
from typing import TypeAlias

import msgspec

from habitue.audiences.live.alike.nearness import Near, Seed
from habitue.audiences.live.asking.looking import Audience
from habitue.audiences.live.facts import NEVER

Due: TypeAlias = tuple[int, int, int]      # customer, audience, until

_STEP = 10_000                             # changes by which is gone back

_DUE = f"""
-- one row per customer and audience of some whose time is over, the earliest first
SELECT customer, audience, until FROM standing
WHERE until <= ? AND until < {NEVER} AND audience IN (SELECT value FROM json_each(?))
ORDER BY until LIMIT ?
"""

_MEMBERS = """
-- one row per customer who is in an audience
SELECT keys.key FROM standing JOIN keys ON keys.id = standing.customer
WHERE standing.audience = ? AND standing.joined IS NOT NULL
"""

_CHANGES = """
-- one row per change of one audience after another one, in the order in which they were found
SELECT at, customer, change = 'entered', cause, sequence FROM changes
WHERE sequence > ? AND shop = ? AND audience = ? ORDER BY sequence
"""

_LAST = "SELECT coalesce(max(sequence), 0) FROM changes"

_FOUND = """
-- at most one row: when a change, or the last one before it, was found
SELECT detected_at FROM changes WHERE sequence <= ? ORDER BY sequence DESC LIMIT 1
"""

_NAMES = """
-- one row per key of a shop that does not name its customer: the key, and the one that does
SELECT keys.key, name.key FROM keys JOIN keys AS name ON name.id = keys.customer
WHERE keys.shop = ? AND keys.customer <> keys.id
"""

_NAMES_OF = """
-- one row per key of some, and the one that names its customer
SELECT keys.key, name.key FROM keys JOIN keys AS name ON name.id = keys.customer
WHERE keys.id IN (SELECT value FROM json_each(?))
"""

_IDS = """
-- one row per customer of some names
SELECT key, id FROM keys
WHERE shop = ? AND key IN (SELECT value FROM json_each(?)) AND customer = id
"""

_ASIDE = "SELECT coalesce(max(value), 0) FROM about WHERE name = 'aside'"


def read_on(connection: sqlite3.Connection, shop: str, near: Near) -> None:
    """Let it know what came of the changes of its audience since it was told of them last."""
    last = last_change(connection)
    if last > near.sequence:
        rows = connection.execute(_CHANGES, [near.sequence, shop, near.condition.audience])
        near.tell(Seed(at, name, bool(entered), why) for at, name, entered, why, _ in rows)
        near.sequence = last


def members_at(
    connection: sqlite3.Connection, shop: str, audience: Audience, span: tuple[int, int]
) -> tuple[set[str], list[Seed], list[Seed]]:
    """Who was in an audience, and its changes since.

    `span`: an instant, and the number of the last change that was looked at. Of the changes after
    the instant those come first that were looked at; whichever was not is among the others.
    """
    since, read = span
    first = last_change(connection)
    while first > 0:
        (found,) = connection.execute(_FOUND, [first]).fetchone() or (-NEVER,)
        if found <= since:                 # what is found before an instant is no later than it
            break
        first = max(first - _STEP, 0)
    before: list[Seed] = []
    fresh: list[Seed] = []
    rows = connection.execute(_CHANGES, [min(first, read), shop, audience.name])
    for at, name, entered, why, sequence in rows:
        if at > since or sequence > read:
            (before if sequence <= read else fresh).append(Seed(at, name, bool(entered), why))
    members = members_now(connection, audience)
    for one in reversed([*before, *fresh]):
        (members.discard if one.entered else members.add)(one.name)
    return members, before, fresh


def members_now(connection: sqlite3.Connection, audience: Audience) -> set[str]:
    """Who is in an audience, as far as it was looked at."""
    return {name for (name,) in connection.execute(_MEMBERS, [audience.id])}


def due(
    connection: sqlite3.Connection, audiences: Collection[int], until: int, most: int = -1
) -> list[Due]:
    """Customers and audiences whose time is over by an instant, the earliest first."""
    return connection.execute(_DUE, [until, _json(audiences), most]).fetchall()


def names_of(connection: sqlite3.Connection, shop: str) -> dict[str, str]:
    """Of each key that does not name its customer: who does."""
    return dict(connection.execute(_NAMES, [shop]).fetchall())


def names_of_keys(connection: sqlite3.Connection, keys: Collection[int]) -> dict[str, str]:
    """Of some keys, by their ids: the key itself, and who names its customer."""
    return dict(connection.execute(_NAMES_OF, [_json(keys)]).fetchall())


def ids_of(connection: sqlite3.Connection, shop: str, names: Iterable[str]) -> dict[str, int]:
    """The ids of customers who are known, by name."""
    return dict(connection.execute(_IDS, [shop, _json(names)]).fetchall())


def aside(connection: sqlite3.Connection) -> int:
    """How often rows came or went and nobody was told."""
    return int(connection.execute(_ASIDE).fetchone()[0])


def last_change(connection: sqlite3.Connection) -> int:
    """The number of the last change of all."""
    return int(connection.execute(_LAST).fetchone()[0])


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
