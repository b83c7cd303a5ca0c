"""Who is in an audience as of an instant, and who came and went between two.

A condition meets the shop here: other audiences that it names are put in their place, the events
and predictions that it names must be there, and its statement runs over the views of the lake.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from habitue.audiences import lookalike, rows
from habitue.audiences.comparisons import pointer
from habitue.audiences.compile import (
    Known,
    Told,
    asked,
    reads_amounts,
    reads_clock,
    statement,
)
from habitue.audiences.language.calendar import THEIR_ZONE, is_zone
from habitue.audiences.language.klaviyo import from_json, from_klaviyo
from habitue.audiences.language.nodes import (
    And,
    Anniversary,
    Compared,
    Condition,
    Count,
    Dated,
    First,
    Followed,
    Member,
    Not,
    Or,
    Prediction,
    Similar,
    Sum,
    Theirs,
    check,
    every,
)
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.reading import near
from habitue.audiences.language.writing import written
from habitue.audiences.live.scored.recorded import Recorded, Scored
from habitue.errors import BadAudience, NoSuchAudience, pointed
from habitue.events import CANONICAL_NAMES
from habitue.ingest.doors.names import TABLES
from habitue.lake.live.told import microseconds
from habitue.lake.query import opened, read
from habitue.lake.tables import Lake
from habitue.lake.views.orders import USUAL_CURRENCY

Said: TypeAlias = str | Mapping[str, Any] | Condition    # a sentence, Klaviyo's JSON, or nodes

# what is read in the place of predictions that were published: recomputed ones, or scores
Instead: TypeAlias = pa.Table | Recorded | None

Named: TypeAlias = dict[str, tuple[str, int]]    # by name: a sentence, since when (µs)

_SAYINGS = ["shop", "name", "condition", "received"]     # of the table audiences
MOST_NAMED = 10                            # audiences inside each other
# what Klaviyo and Segment call an event, in lower case -> what it is called here
_ELSEWHERE = {
    sent.lower(): name for table in TABLES.values() for sent, name in table.items()
}
MOST_EXPANDED = 1_000                      # conditions, those of named audiences included


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who met a condition as of an instant."""

    shop: str
    condition: Condition
    cutoff: datetime
    known_at: datetime | None
    predicted: Mapping[tuple[str, int], Told]    # the predictions that were compared
    members: pa.Table                      # customer, in order

    @property
    def as_of(self) -> "AsOf":
        """Until when was looked, and what was known by when."""
        return AsOf(self.cutoff, self.known_at)

    @property
    def size(self) -> int:
        """How many they are."""
        return int(self.members.num_rows)

    @property
    def sentence(self) -> str:
        """The condition in words."""
        return written(self.condition)


@dataclass(frozen=True, slots=True)
class AsOf:
    """Until when is looked, and what was known by when."""

    cutoff: datetime
    known_at: datetime | None = None


def find(
    lake: Lake,
    shop: str,
    said: Said,
    as_of: AsOf,
    named: Mapping[str, str] | None = None,
    instead: Instead = None,
) -> Audience:
    """The customers of a shop who meet a condition; `named` are the audiences it may name.

    Predictions are those that were published, or in their place recomputed ones; or the scores
    that were recorded, wherever scores answered.

    Raises:
        BadAudience: the condition cannot be read, or names what the shop does not have.
        NoSuchAudience: it names an audience that is not there.
        NoSuchShop: there is no such shop.
    """
    return find_all(lake, shop, [said], as_of, named, instead)[0]


def find_all(
    lake: Lake,
    shop: str,
    said: Sequence[Said],
    as_of: AsOf,
    named: Mapping[str, str] | None = None,
    instead: Instead = None,
) -> list[Audience]:
    """The same of several conditions, for which the lake is opened once."""
    asked_for = [_Asked.of(one, named or {}) for one in said]
    similar = _similar(lake, shop, asked_for, as_of, (named or {}, instead))
    views: set[str] = set()
    for one in asked_for:
        _refuse_unknown_events(lake, shop, one.whole, one.text)
        views |= statement(one.whole, _unknown(one.whole, as_of)).views
        is_told = reads_amounts(one.whole) or reads_clock(one.whole)
        views |= {"shop_settings"} if is_told else set()
    with opened(
        lake, views, shop=shop, cutoff=as_of.cutoff, known_at=as_of.known_at
    ) as (connection, _):
        scored: dict[tuple[str, int], Told] = {}
        if isinstance(instead, Recorded):
            wanted = set().union(*(asked(one.whole) for one in asked_for))
            found = instead.as_of(shop, wanted, as_of.cutoff, as_of.known_at)
            scored = {} if found is None else _registered(connection, found, as_of)
        elif instead is not None:
            put_in_place(connection, instead)
        return [
            _found(connection, shop, one, as_of, (similar, scored)) for one in asked_for
        ]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A condition, with the audiences that it names in their place, and as it was written."""

    condition: Condition
    whole: Condition
    text: str

    @classmethod
    def of(cls, said: Said, named: Mapping[str, str]) -> "_Asked":
        condition = understood(said)
        text = said if isinstance(said, str) else written(condition)
        try:
            return cls(condition, expanded(condition, named), text)
        except NoSuchAudience as error:
            raise NoSuchAudience(error.name, error.known, text) from None


def _found(
    connection: duckdb.DuckDBPyConnection,
    shop: str,
    asks: _Asked,
    as_of: AsOf,
    told: tuple[Mapping[Similar, Sequence[str]], Mapping[tuple[str, int], Told]],
) -> Audience:
    """Who meets a condition; `told`: who is similar to whom, and what scores say."""
    similar, scored = told
    known = Known(
        at=as_of.cutoff,
        currency=currency_of(connection) if reads_amounts(asks.whole) else None,
        predicted=_predicted(connection, asks.whole, asks.text, scored),
        zone=_zone(connection) if reads_clock(asks.whole) else "UTC",
        zones=_zones(connection, asks.whole),
        similar=similar,
        is_linked=bool(connection.execute(rows.IS_LINKED).fetchall()[0][0]),
    )
    sql = statement(asks.whole, known)
    return Audience(
        shop=shop,
        condition=asks.condition,
        cutoff=as_of.cutoff,
        known_at=as_of.known_at,
        predicted=known.predicted,
        members=connection.sql(sql.sql, params=sql.values).to_arrow_table(),
    )


def understood(said: Said) -> Condition:
    """The condition of a sentence, of a segment definition of Klaviyo, or the one that is told.

    Raises:
        BadAudience: it cannot be read, or makes no sense.
    """
    if isinstance(said, str):
        return from_json(said) if said.lstrip().startswith("{") else parse(said)
    return from_klaviyo(said) if isinstance(said, Mapping) else check(said)


def difference(before: Audience, after: Audience) -> pa.Table:
    """One row per customer who is in one of two and not in the other: entered or left."""
    import pyarrow.compute as pc

    old, now = before.members["customer"], after.members["customer"]
    entered = now.filter(pc.invert(pc.is_in(now, old)))
    left = old.filter(pc.invert(pc.is_in(old, now)))
    changes = ["entered"] * len(entered) + ["left"] * len(left)
    customers = pa.chunked_array([*entered.chunks, *left.chunks], pa.string())
    table = pa.table({"customer": customers, "change": pa.array(changes, pa.string())})
    return table.sort_by([("change", "ascending"), ("customer", "ascending")])


def saved_in(lake: Lake) -> dict[str, Named]:
    """The audiences of every shop that ever saved one, as its view `audiences` says them.

    The view is not asked: a connection for each shop takes longer than all the rest.
    """
    rows = []
    for file in lake.files("audiences"):
        with pq.ParquetFile(lake.source(file)) as source:
            rows += source.read(columns=_SAYINGS).to_pylist()
    found: dict[str, Named] = {}
    for row in sorted(rows, key=itemgetter("received")):
        of_shop = found.setdefault(row["shop"], {})
        of_shop.pop(row["name"], None)
        if row["condition"] is not None:
            of_shop[row["name"]] = (row["condition"], microseconds(row["received"]))
    return found


def expanded(
    condition: Condition, named: Mapping[str, str], inside: tuple[str, ...] = ()
) -> Condition:
    """The condition with every audience that it names in the place of the name.

    Raises:
        NoSuchAudience, BadAudience: there is none of the name, or it names itself.
    """
    match condition:
        case Similar(name):
            _named(name, named, inside)    # found by itself, before the condition is compiled
            return condition
        case Member(name):
            found = _named(name, named, inside)
        case And(parts) | Or(parts):
            found = replace(
                condition, parts=tuple(expanded(one, named, inside) for one in parts)
            )
        case Not(inner) | Theirs(inner):
            found = replace(condition, inner=expanded(inner, named, inside))
        case _:
            return condition
    groups = (And, Or, Not, Theirs)
    number = sum(1 for one in every(found) if not isinstance(one, groups))
    if number > MOST_EXPANDED:
        raise BadAudience(
            f"{number:,} conditions with those of the audiences it names:"
            f" wanted at most {MOST_EXPANDED:,}"
        )
    return found


def _named(name: str, named: Mapping[str, str], inside: tuple[str, ...]) -> Condition:
    """What a name means, inside the audiences that led to it."""
    if name not in named:
        raise NoSuchAudience(name, named)
    chain = " in ".join(f'"{one}"' for one in (name, *reversed(inside)))
    if name in inside:
        raise BadAudience(f"an audience cannot name itself: {chain}")
    if len(inside) == MOST_NAMED:
        raise BadAudience(f"audiences inside each other more than {MOST_NAMED} deep")
    return expanded(parse(named[name]), named, (*inside, name))


def _unknown(condition: Condition, as_of: AsOf) -> Known:
    """What stands for the shop while only the views of a statement are wanted."""
    predicted = dict.fromkeys(asked(condition), Told("", as_of.cutoff))
    similar = {one: () for one in every(condition) if isinstance(one, Similar)}
    return Known(at=as_of.cutoff, currency=None, predicted=predicted, similar=similar)


def _similar(
    lake: Lake,
    shop: str,
    asks: Sequence[_Asked],
    as_of: AsOf,
    by: tuple[Mapping[str, str], Instead],
) -> dict[Similar, list[str]]:
    """Who is similar to each audience of which some conditions ask that."""
    found = {one for asked_for in asks for one in every(asked_for.whole)}
    wanted = {one for one in found if isinstance(one, Similar)}
    if not wanted:
        return {}
    space = lookalike.space(lake, shop, cutoff=as_of.cutoff, known_at=as_of.known_at)
    if space is None:
        raise BadAudience(lookalike.NOTHING_KEPT)
    names = sorted({one.audience for one in wanted})
    told = find_all(lake, shop, [Member(name) for name in names], as_of, *by)
    seeds = {
        name: one.members["customer"].to_pylist() for name, one in zip(names, told, strict=True)
    }
    return {one: lookalike.similar(one, seeds[one.audience], space) for one in wanted}


def _zone(connection: duckdb.DuckDBPyConnection) -> str:
    """The shop's time zone; of a shop that never said one, UTC."""
    told = connection.execute(rows.ZONE).fetchall()
    return str(told[0][0]) if told else "UTC"


def _zones(connection: duckdb.DuckDBPyConnection, condition: Condition) -> tuple[str, ...]:
    """The time zones that customers have of their own, where a condition looks at them."""
    if not any(isinstance(one, Theirs) for one in every(condition)):
        return ()
    told = connection.execute(rows.TOLD_ZONES, [list(map(pointer, THEIR_ZONE))]).fetchall()
    return tuple(sorted(name for (name,) in told if is_zone(name)))


def put_in_place(connection: duckdb.DuckDBPyConnection, recomputed: pa.Table) -> None:
    """Read predictions that were made now where recorded ones would be."""
    connection.register("recomputed", recomputed)
    connection.execute("CREATE OR REPLACE VIEW predictions AS SELECT * FROM recomputed")


def currency_of(connection: duckdb.DuckDBPyConnection) -> str | None:
    """The shop's currency as it says, or else as most of its events do."""
    told = connection.execute(rows.CURRENCY).fetchall()
    if not told or told[0][0] is None:
        told = connection.execute(USUAL_CURRENCY).fetchall()
    return told[0][0] if told else None


def _registered(
    connection: duckdb.DuckDBPyConnection, found: Scored, as_of: AsOf
) -> dict[tuple[str, int], Told]:
    """What scores say as relations that a statement can read."""
    told = {}
    for (question, days), table in found.tables.items():
        relation = f"scored_{question}_{days}"
        connection.register(relation, table)
        told[question, days] = Told(found.version, as_of.cutoff, relation)
    return told


def _predicted(
    connection: duckdb.DuckDBPyConnection,
    condition: Condition,
    text: str,
    scored: Mapping[tuple[str, int], Told],
) -> dict[tuple[str, int], Told]:
    """Of each question that a condition compares what scores say, else the latest set."""
    known = {one: scored[one] for one in asked(condition) if one in scored}
    wanted = asked(condition) - known.keys()
    if not wanted:
        return known
    found: dict[tuple[str, int], tuple[datetime, datetime, str, bool]] = {}
    for row in connection.sql(rows.PREDICTED).to_arrow_table().to_pylist():
        key = (row["question"], row["horizon_days"])
        if key in wanted:
            latest = (row["cutoff"], row["received"], row["version"], row["is_one"])
            found[key] = max(latest, found.get(key, latest))
    for question, days in sorted(wanted):
        if (question, days) not in found:
            raise _unpredicted(question, days, found, text)
    return known | {
        key: Told(version, cutoff, is_one=is_one)
        for key, (cutoff, _, version, is_one) in found.items()
    }


def _unpredicted(
    question: str, days: int, found: Mapping[tuple[str, int], object], text: str
) -> BadAudience:
    horizon = "" if question == "next_order" else f" --horizon-days {days}"
    told = f"{question} in {days} days" if horizon else "the date of the next order"
    return BadAudience(
        pointed(
            text,
            _place(text, question, days),
            f"by this cutoff nothing was predicted about {told}",
            f"`habitue predict --question {question}{horizon} --cutoff TIME` first; of a shop that"
            " `habitue serve` scores, --cutoff now; --then takes --recompute",
        )
    )


def _place(text: str, question: str, days: int) -> int:
    """Where a text names a prediction, as far as that can be told."""
    name = "next_order_date" if question == "next_order" else Prediction(question, days).name
    found = re.search(rf"\b(?:{name}|{question}_{days}d|{question})\b", text, re.IGNORECASE)
    return 0 if found is None else found.start()


def _refuse_unknown_events(lake: Lake, shop: str, condition: Condition, text: str) -> None:
    """Raise where a condition names an event that the shop has never had, and that is not ours."""
    wanted = {name: None for one in every(condition) for name in events_of(one)}
    strange = [name for name in wanted if name not in CANONICAL_NAMES]
    if not strange:
        return
    known = set(read(lake, rows.NAMES, shop=shop)["name"].to_pylist())
    for name in strange:
        if name not in known:
            place = max(text.find(name), 0)
            hint = _meant(name, known)
            raise BadAudience(pointed(text, place, f"the shop has no event {name}", hint))


def _meant(name: str, known: set[str]) -> str:
    """A hint of which event may have been meant by a name that is none of the shop's."""
    if name.lower() in _ELSEWHERE:
        return f"what others call so is {_ELSEWHERE[name.lower()]} here"
    held = ", ".join(sorted(known)[:20]) or "none"
    return near(name, known | set(CANONICAL_NAMES)) or f"its events are: {held}"


def events_of(condition: Condition) -> tuple[str, ...]:
    """The events that a condition names itself, not in those inside it."""
    match condition:
        case Compared(First(event)) | Dated(First(event)) | Anniversary(First(event)):
            return (event,)
        case Count(event=event) | Sum(event=event):
            return (event,)
        case Followed(event=event, steps=steps):
            return (event, *(step.event for step in steps))
    return ()
