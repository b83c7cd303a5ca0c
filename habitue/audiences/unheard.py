"""Names in a condition that nobody in a shop was ever told of: why it may have found nobody.

The name of an event must be there before a condition is answered; properties and channels need not,
since they may come. So these are remarks, and no errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from habitue.audiences.comparisons import pointer
from habitue.audiences.language.nodes import (
    FIELDS,
    Compared,
    Condition,
    Consent,
    ConsentSince,
    Count,
    Dated,
    Followed,
    Profile,
    Property,
    Sum,
    every,
)
from habitue.audiences.language.reading import near, path
from habitue.audiences.members import AsOf
from habitue.lake.query import opened
from habitue.lake.tables import Lake

MOST = 3                                   # remarks on one condition

# one row: whether anybody's profile, an event of a name, or somebody's consent tells of something
_IN_PROFILES = """
SELECT EXISTS (SELECT 1 FROM profiles WHERE json_type(properties, $at) IS NOT NULL)
"""
_IN_EVENTS = """
SELECT EXISTS (
    SELECT 1 FROM events WHERE name = $event AND json_type(properties, $at) IS NOT NULL)
"""
_IN_CONSENTS = "SELECT EXISTS (SELECT 1 FROM consents WHERE channel = $channel)"

# one row per name of a property
_NAMES_OF_PROFILES = """
SELECT DISTINCT unnest(json_keys(properties)) FROM (SELECT properties FROM profiles LIMIT 200000)
"""
_NAMES_OF_EVENTS = """
SELECT DISTINCT unnest(json_keys(properties)) FROM (
    SELECT properties FROM events WHERE name = $event AND properties IS NOT NULL LIMIT 200000)
"""


@dataclass(frozen=True, slots=True)
class _Told:
    """A property of an event."""

    event: str
    path: tuple[str, ...]


def unheard(lake: Lake, shop: str, condition: Condition, as_of: AsOf) -> list[str]:
    """A remark for each property and channel of which nothing was told by then, the first few.

    Audiences stand in the place of their names.
    """
    wanted = list(dict.fromkeys(_named(condition)))
    if not wanted:
        return []
    views = {"profiles", "events", "consents"}
    with opened(
        lake, views, shop=shop, cutoff=as_of.cutoff, known_at=as_of.known_at
    ) as (connection, _):
        told = (_remark(connection, one) for one in wanted)
        return [one for one in told if one][:MOST]


def _named(condition: Condition) -> Iterator[Profile | str | _Told]:
    """The properties and the channels that a condition names."""
    for one in every(condition):
        match getattr(one, "operand", None):
            case Profile() as profile:
                yield profile
            case Consent(channel) | ConsentSince(channel):
                yield channel
        for event, where in _happened(one):
            yield from _of_event(event, where)
        if isinstance(one, Sum) and isinstance(one.of, Property):
            yield _Told(one.event, one.of.path)


def _happened(condition: Condition) -> list[tuple[str, Condition | None]]:
    """The events that a condition looks at, and what it compares of each."""
    match condition:
        case Count(event=event, where=where) | Sum(event=event, where=where):
            return [(event, where)]
        case Followed(event=event, where=where, steps=steps):
            return [(event, where), *((step.event, step.where) for step in steps)]
    return []


def _of_event(event: str, where: Condition | None) -> Iterator[_Told]:
    for one in [] if where is None else every(where):
        if isinstance(one, (Compared, Dated)) and isinstance(one.operand, Property):
            yield _Told(event, one.operand.path)


def _remark(connection: duckdb.DuckDBPyConnection, named: Profile | str | _Told) -> str:
    """That nothing was told of something; an empty text: something was."""
    match named:
        case Profile(parts):
            if _is_there(connection, _IN_PROFILES, at=pointer(*parts)):
                return ""
            close = near(parts[0], _names(connection, _NAMES_OF_PROFILES))
            return f"nobody has profile.{path(parts)}{_meant(close)}"
        case str():
            is_told = _is_there(connection, _IN_CONSENTS, channel=named)
            return "" if is_told else f"nobody has said anything of {named}"
        case _Told(event, parts):
            if _is_there(connection, _IN_EVENTS, event=event, at=pointer(*parts)):
                return ""
            names = _names(connection, _NAMES_OF_EVENTS, event=event) | set(FIELDS)
            return f"no {event} was told with {path(parts)}{_meant(near(parts[0], names))}"


def _is_there(connection: duckdb.DuckDBPyConnection, sql: str, **values: str) -> bool:
    return bool(connection.execute(sql, values).fetchall()[0][0])


def _names(connection: duckdb.DuckDBPyConnection, sql: str, **values: str) -> set[str]:
    return {name for (name,) in connection.execute(sql, values).fetchall()}


def _meant(close: str) -> str:
    return f"; {close}" if close else ""
