"""What is followed: the audiences that are saved in the lake, and what they rest on.

Read again and again while live. A condition that is new or another, settings of the shop that
changed, or a new set of predictions that it compares, is noted with the instant from which on it
counts; the keeper then applies it to everybody, some customers at a time.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from habitue.audiences.compile import asked, reads_amounts, reads_clock
from habitue.audiences.language.nodes import Condition, Member, Similar, every
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.writing import written
from habitue.audiences.live.alike import places
from habitue.audiences.live.alike.places import Places
from habitue.audiences.live.asking.followed import Followed
from habitue.audiences.live.asking.looking import DONE, Audience
from habitue.audiences.live.asking.matched import Meaning
from habitue.audiences.live.evaluate import Compares, Ready, prepared
from habitue.audiences.live.facts import NEVER, Predictions, Shop
from habitue.audiences.live.loading import currency
from habitue.audiences.live.scored.curves import Scoring
from habitue.audiences.members import Named, expanded, saved_in
from habitue.audiences.rows import PREDICTED
from habitue.errors import HabitueError
from habitue.lake.live.told import microseconds
from habitue.lake.query import read
from habitue.lake.tables import Lake

FRESH = 60_000_000  # µs: what was saved longer ago counts from now on

# one row per customer of one set of predictions
_VALUES = """
SELECT customer, value FROM predictions
WHERE version = ? AND cutoff = ? AND question = ? AND horizon_days = ? AND value IS NOT NULL
"""

# one row: the settings in force
_SETTINGS = """
SELECT currency, timezone, order_sources, not_item_codes, not_item_patterns, received
FROM shop_settings
"""


Asks: TypeAlias = tuple[Condition | None, Ready | None, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept from one reading of the lake to the next, by shop."""

    settings: dict[str, tuple[Shop, int]] = field(default_factory=dict)    # and since when (µs)
    # what audiences compare of events, by the zone, too: what was found of it is found again
    meanings: dict[tuple[str, str], dict[Compares, Meaning]] = field(default_factory=dict)
    # conditions as functions, by the zone, too
    ready: dict[tuple[str, str], dict[Condition, Ready]] = field(default_factory=dict)
    # where customers are in the space of embeddings, and the version of the table that says so
    places: dict[str, tuple[int, Places | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defined:
    """What the lake says of one shop."""

    shop: str
    sentences: Mapping[str, str] = field(default_factory=dict)
    since: Mapping[str, int] = field(default_factory=dict)  # of each name
    settings: Shop = field(default_factory=Shop)
    settings_since: int = 0
    scored_since: int = 0
    versions: Mapping[tuple[str, int], str] = field(default_factory=dict)    # of predictions
    meanings: dict[Compares, Meaning] = field(default_factory=dict)  # that its audiences share
    prepared: dict[Condition, Ready] = field(default_factory=dict)   # so far
    ready: dict[str, Asks] = field(default_factory=dict)       # see `_ready`, by name


def defined(
    lake: Lake,
    now: datetime,
    scored: Mapping[str, Scoring] | None = None,
    kept: Kept | None = None,
) -> list[Defined]:
    """What the lake says of every shop that ever saved an audience.

    `scored`: the shops whose customers are scored as they go on. `kept`: what is so still of what
    was read before; what is read is added.
    """
    held, known = Kept() if kept is None else kept, scored or {}
    return [
        _defined(lake, (shop, saved), (now, known.get(shop)), held)
        for shop, saved in sorted(saved_in(lake).items())
    ]


def _defined(
    lake: Lake, told: tuple[str, Named], asked_at: tuple[datetime, Scoring | None], kept: Kept
) -> Defined:
    (shop, saved), (now, scoring) = told, asked_at
    if not saved:
        return Defined(shop=shop)
    if shop not in kept.settings:
        kept.settings[shop] = settings_of(lake, shop)
    settings, since = replace(kept.settings[shop][0]), kept.settings[shop][1]
    sentences = {name: condition for name, (condition, _) in saved.items()}
    wanted = _asked(sentences)
    if scoring is not None:
        settings.scored = frozenset(one for one in wanted if scoring.reading.answers(*one))
    settings.predictions, versions = _predicted(lake, shop, wanted - settings.scored, now)
    if any(map(_asks_similar, sentences.values())):
        settings.places = _places(lake, shop, now, kept)
    return Defined(
        shop=shop,
        versions=versions,
        sentences=sentences,
        since={name: since for name, (_, since) in saved.items()},
        settings=settings,
        settings_since=since,
        scored_since=0 if scoring is None else scoring.since,
        meanings=kept.meanings.setdefault((shop, settings.zone), {}),
        prepared=kept.ready.setdefault((shop, settings.zone), {}),
    )


def settings_of(lake: Lake, shop: str) -> tuple[Shop, int]:
    """The settings that a shop has in force, and since when (µs)."""
    rows = read(lake, _SETTINGS, shop=shop).to_pylist()
    settings, since = Shop(), 0
    if rows:
        told = rows[0]
        since = microseconds(told["received"])
        settings = Shop(
            currency=told["currency"],
            zone=told["timezone"],
            order_sources=tuple(told["order_sources"] or ()),
            not_items=frozenset(told["not_item_codes"] or ()),
            not_item_patterns=tuple(told["not_item_patterns"] or ()),
        )
    return settings, since


def _asked(sentences: Mapping[str, str]) -> set[tuple[str, int]]:
    """The predictions that some audiences compare."""
    found = set()
    for sentence in sentences.values():
        with suppress(HabitueError):       # told where it is followed
            found |= asked(parse(sentence))
    return found


def _asks_similar(sentence: str) -> bool:
    with suppress(HabitueError):           # told where it is followed
        return any(isinstance(one, Similar) for one in every(parse(sentence)))
    return False


def _places(lake: Lake, shop: str, now: datetime, kept: Kept) -> Places | None:
    """Where a shop's customers are; the same as before where nothing is new."""
    version = lake.version("customer_embeddings")
    held, before = kept.places.setdefault(shop, (-1, None))
    if held != version:
        found = places.read_places(lake, shop, now)
        is_same = found is not None and before is not None and found.named == before.named
        kept.places[shop] = (version, before if is_same else found)
    return kept.places[shop][1]


def _predicted(
    lake: Lake, shop: str, wanted: set[tuple[str, int]], now: datetime
) -> tuple[dict[tuple[str, int], Predictions], dict[tuple[str, int], str]]:
    """The set of each question that is in force, and the version that it is of."""
    if not wanted:
        return {}, {}
    latest: dict[tuple[str, int], tuple[datetime, datetime, str]] = {}
    for row in read(lake, PREDICTED, shop=shop, cutoff=now, known_at=now).to_pylist():
        key = (row["question"], int(row["horizon_days"]))
        if key in wanted and row["horizon_days"] == key[1]:
            told = (row["cutoff"], row["received"], row["version"])
            latest[key] = max(told, latest.get(key, told))
    found = {}
    for (question, days), (cutoff, received, version) in latest.items():
        asks = [version, cutoff, question, float(days)]
        rows = read(lake, _VALUES, asks, shop=shop, known_at=now).to_pydict()
        found[question, days] = Predictions(
            cutoff=microseconds(cutoff),
            visible=microseconds(max(cutoff, received)),
            values=dict(zip(rows["customer"], rows["value"], strict=True)),
        )
    return found, {key: version for key, (_, _, version) in latest.items()}


def taken(connection: sqlite3.Connection, told: list[Defined], now: int) -> list[Followed]:
    """Note what is new, from when on; what is to be followed from now on."""
    by_shop = {one.shop: one for one in told}
    held = connection.execute("SELECT DISTINCT shop FROM followed").fetchall()
    for (shop,) in held:
        by_shop.setdefault(shop, Defined(shop=shop))
    return [_taken(connection, one, now) for one in by_shop.values()]


def too_early(connection: sqlite3.Connection, told: list[Defined]) -> bool:
    """Whether an audience that is still applied to some customers is to become another one.

    Whoever was not reached yet would never be told of what it was in between.
    """
    sql = "SELECT name, condition, basis FROM followed WHERE shop = ? AND reached <> ?"
    for one in told:
        for name, *held in connection.execute(sql, [one.shop, DONE]).fetchall():
            if tuple(held) != _meaning(one, name):
                return True
    return False


def _taken(connection: sqlite3.Connection, told: Defined, now: int) -> Followed:
    settings = told.settings
    if settings.currency is None:
        settings.currency = currency(connection, told.shop)
    held = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT name, condition, basis FROM followed WHERE shop = ?", [told.shop]
        )
    }
    for name in sorted({*held, *told.sentences}):
        _note(connection, told, name, held.get(name), now)
    rows = connection.execute(
        "SELECT id, name, condition, since, cause, reached FROM followed WHERE shop = ?",
        [told.shop],
    ).fetchall()
    audiences = []
    for id, name, condition, since, cause, reached in rows:
        if condition is None and reached == DONE:
            connection.execute("DELETE FROM standing WHERE audience = ?", [id])
            connection.execute("DELETE FROM followed WHERE id = ?", [id])
            continue
        ready = None if condition is None else _ready(told, name)[1]
        audiences.append(
            Audience(id=id, name=name, ready=ready, since=since, cause=cause, reached=reached)
        )
    return Followed(name=told.shop, shop=settings, audiences=audiences)


def _note(
    connection: sqlite3.Connection,
    told: Defined,
    name: str,
    held: tuple[str | None, str] | None,
    now: int,
) -> None:
    """Write down what a name means, where that is something else than before."""
    condition, ready, problem = _ready(told, name)
    text, basis = _meaning(told, name)
    if held == (text, basis) or (held is None and name not in told.sentences):
        return
    # a removal is only known to be some time before now
    since, cause = now if text is None else _since(told, name), "definition"
    if condition is not None and ready is not None:
        sets = _sets_since(told, condition)
        if held is not None and held[0] == text and _is_scored(held[1], basis):
            since, cause = max(sets), "score"
        since = max([since, *sets])
    since = since if 0 <= now - since < FRESH else now
    connection.execute(
        """INSERT INTO followed (shop, name, condition, basis, since, cause, reached, problem)
        VALUES (?, ?, ?, ?, ?, ?, 0, ?)
        ON CONFLICT (shop, name) DO UPDATE SET condition = excluded.condition,
            basis = excluded.basis, since = excluded.since, cause = excluded.cause, reached = 0,
            problem = excluded.problem""",
        [told.shop, name, text, basis, since, cause, problem],
    )
    connection.execute(                    # they are of the condition that was
        "UPDATE standing SET until = ? WHERE audience ="
        " (SELECT id FROM followed WHERE shop = ? AND name = ?)",
        [NEVER, told.shop, name],
    )


def _sets_since(told: Defined, condition: Condition) -> list[int]:
    """From when on each set that a condition rests on counts."""
    published, rested = told.settings.predictions, _rested(told, condition)
    wanted = set().union(*map(asked, (condition, *rested.values())))
    found = [
        told.scored_since if one in told.settings.scored else published[one].visible
        for one in wanted
    ]
    return [*found, told.settings.places.visible] if rested else found


def _rested(told: Defined, condition: Condition) -> dict[str, Condition]:
    """The audiences to which a condition asks who is similar, each in full, and so on."""
    found: dict[str, Condition] = {}
    waiting = [condition]
    while waiting:
        for one in every(waiting.pop()):
            if isinstance(one, Similar) and one.audience not in found:
                found[one.audience] = expanded(Member(one.audience), told.sentences)
                waiting.append(found[one.audience])
    return found


def _meaning(told: Defined, name: str) -> tuple[str | None, str]:
    """A name's condition in words, where it can be asked, and what else than events it rests on."""
    condition, ready, _ = _ready(told, name)
    text = None if condition is None or ready is None else written(condition)
    return text, _basis(told, condition)


def _since(told: Defined, name: str) -> int:
    """From when on a name means what it does: it, each audience that it names, and the settings."""
    waiting, found = [name], {name}
    while waiting:
        for one in every(parse(told.sentences[waiting.pop()])):
            if isinstance(one, (Member, Similar)) and one.audience not in found:
                found.add(one.audience)
                waiting.append(one.audience)
    return max(told.settings_since, *(told.since[one] for one in found))


def _ready(told: Defined, name: str) -> Asks:
    """A name's condition as a function; or what is wrong with it. Kept: it is asked for often."""
    if name not in told.ready:
        told.ready[name] = _made_ready(told, name)
    return told.ready[name]


def _made_ready(told: Defined, name: str) -> Asks:
    if name not in told.sentences:
        return None, None, ""
    try:
        condition = expanded(Member(name), told.sentences)
        rested = _rested(told, condition)
        if problem := _lacks(told, condition, rested):
            return condition, None, problem
        if condition not in told.prepared:
            ready = prepared(condition, told.settings.zone, told.meanings)
            told.prepared[condition] = ready
        return condition, told.prepared[condition], ""
    except HabitueError as error:
        return None, None, str(error)


def _lacks(told: Defined, condition: Condition, rested: Mapping[str, Condition]) -> str:
    """Why a condition cannot be asked yet; an empty text: it can."""
    answered = told.settings.predictions.keys() | told.settings.scored
    wanted = set().union(*map(asked, (condition, *rested.values())))
    for question, days in sorted(wanted - answered):
        problem = f"nothing was predicted yet about {question} in {days} days"
        return f"{problem}\nhint: `habitue predict`"
    for name in rested:
        if problem := _ready(told, name)[2]:
            return problem
    held = told.settings.places
    return places.refused(0 if held is None else len(held.keys)) if rested else ""


def _is_scored(before: str, after: str) -> bool:
    """Whether nothing but a set of predictions is another one."""
    if not before or not after:
        return False
    *old, _ = json.loads(before)
    *new, sets = json.loads(after)
    return old == new and bool(sets)


def _basis(told: Defined, condition: Condition | None) -> str:
    """What else than events a condition rests on."""
    if condition is None:
        return ""
    one, rested = told.settings, _rested(told, condition)
    whole = (condition, *rested.values())
    settings = (one.order_sources, sorted(one.not_items), one.not_item_patterns)
    money = one.currency if any(map(reads_amounts, whole)) else None
    zone = one.zone if any(map(reads_clock, whole)) else None
    wanted = set().union(*map(asked, whole))
    sets: list[list[object]] = [
        [question, days, told.versions.get((question, days)), held.cutoff]
        for question, days in sorted(wanted)
        if (held := told.settings.predictions.get((question, days))) is not None
    ]
    sets += [[*key, "scores"] for key in sorted(wanted & told.settings.scored)]
    if not rested:
        return json.dumps([settings, money, zone, sets])
    sets += [] if one.places is None else [one.places.named]
    seeds = [[name, written(rested[name])] for name in sorted(rested)]
    return json.dumps([settings, money, zone, seeds, sets])
