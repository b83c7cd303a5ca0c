"""Random histories of a small shop, whose instants are those at which windows end."""

import itertools
import json
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import pyarrow as pa

from habitue.events import Consent, Event, Item, Link, Money, ProfileChange
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake
from tests.audiences.conditions import NAMES, TICK, WORDS
from tests.lake.people import change, consent, item, link, rows_of
from tests.lake.small import day, event, line

ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia")
CUSTOMERS = tuple(f"c{number}" for number in range(12))
VALUES = (
    *WORDS, 5, 2.5, 0.1, -1, 1e-10, 12345678901, True, False, None, ["x", "y"], ["red", 1, None],
    [], {"color": "red", "size": 5}, "2025-03-04", "2025-03-05T10:00:00Z",
    "2025-03-05 10:00:00.000001+02:00", "2025-02-30", "2025", "1e3", "2019-03-05", "2024-02-29",
    "1990-03-06T03:30:00Z", "2024-03-10",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Predicted:
    """One row of the table predictions."""

    customer: str
    question: str
    horizon_days: float
    value: float | None
    version: str
    cutoff: datetime
    received: datetime


@dataclass(frozen=True, slots=True)
class Embedded:
    """One row of the table customer_embeddings."""

    customer: str
    version: str
    anchor: datetime
    vector: tuple[float, ...]
    received: datetime


@dataclass(frozen=True, slots=True)
class History:
    """What was told of a shop."""

    events: tuple[Event, ...]
    items: tuple[Item, ...]
    changes: tuple[ProfileChange, ...]
    consents: tuple[Consent, ...]
    predictions: tuple[Predicted, ...]
    embeddings: tuple[Embedded, ...] = ()
    zone: str = "UTC"


def history(seed: int, *, rows: int = 150, customers: Sequence[str] = CUSTOMERS) -> History:
    """A history of so many events, and of other rows in proportion."""
    draw = random.Random(seed)
    events = tuple(_event(draw, number, customers) for number in range(rows))
    return History(
        events=events,
        items=tuple(
            item(code, draw.randint(0, 3), **_told(draw, "title", "category", "brand"))
            for code in ("mug", "cups", "x", "mug")
        ),
        changes=tuple(
            change(draw.choice(customers), 0, json.dumps(_properties(draw)), **_times(draw))
            for _ in range(rows // 5)
        ),
        consents=tuple(
            consent(
                draw.choice(customers), 0, draw.choice(["subscribed", "unsubscribed"]),
                channel=draw.choice(["email", "sms"]), **_times(draw),
            )
            for _ in range(2 * rows // 15)
        ),
        predictions=tuple(_predictions(draw, events)),
        embeddings=tuple(_embeddings(draw, customers)),
        zone=ZONES[seed % len(ZONES)],
    )  # fmt: skip


def stored(lake: Lake, told: History) -> Lake:
    """The lake after all of it was told, of a shop whose currency is GBP."""
    schema = pa.schema([one for one in TABLES["shops"].schema if one.name != "bucket"])
    settings = {"shop": "acme", "received": day(0), "timezone": told.zone, "currency": "GBP"}
    rows = rows_of([*told.events, *told.items, *told.changes, *told.consents])
    names = [one for one in TABLES["predictions"].schema if one.name != "bucket"]
    predictions = [
        {name.name: getattr(one, name.name, None) for name in names}
        | {"shop": "acme", "anchor": one.cutoff, "status": "full"}
        for one in told.predictions
    ]
    lake.append(
        {
            "shops": pa.Table.from_pylist([settings], schema=schema),
            **rows,
            "predictions": pa.Table.from_pylist(predictions, schema=pa.schema(names)),
            "customer_embeddings": _embedded(told),
        }
    )
    return lake


def _embedded(told: History) -> pa.Table:
    names = [one for one in TABLES["customer_embeddings"].schema if one.name != "bucket"]
    rows = [
        {
            "shop": "acme", "customer": one.customer, "version": one.version,
            "anchor": one.anchor, "width": len(one.vector), "received": one.received,
            "embedding": struct.pack(f"<{len(one.vector)}e", *one.vector),
        }
        for one in told.embeddings
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(names))


def _times(draw: random.Random) -> dict[str, object]:
    """An instant near a multiple of two hours, and when it was told."""
    time = day(draw.randint(0, 60) / 12) + draw.choice([-1, 0, 0, 1]) * TICK
    late = draw.choice([timedelta(0), timedelta(0), timedelta(hours=draw.randint(1, 40))])
    return {"time": time, "received": time + late, "backfilled": draw.random() < 0.2}


def item_changes(draw: random.Random, number: int) -> tuple[Item, ...]:
    """What is told of items while the history goes on."""
    return tuple(
        item(draw.choice(["mug", "cups", "x"]), 0, **_told(draw, "title", "category", "brand"),
             **_times(draw))
        for _ in range(number)
    )  # fmt: skip


def links(draw: random.Random, keys: Sequence[str], number: int) -> tuple[Link, ...]:
    """What joins some keys to one customer, and parts them again."""
    found = []
    for _ in range(number):
        key, other = draw.sample(keys, 2)
        how = {"undo": True, "cause": "person"} if draw.random() < 0.25 else {}
        found.append(link(key, other, 0, **how, **(_times(draw) | {"backfilled": False})))
    return tuple(found)


def _told(draw: random.Random, *fields: str) -> dict[str, str]:
    return {one: draw.choice(WORDS) for one in fields if draw.random() < 0.7}


def _properties(draw: random.Random) -> dict[str, object]:
    held: dict[str, object] = {one: draw.choice(VALUES) for one in NAMES if draw.random() < 0.6}
    for name in ("timezone", "location.timezone"):
        if draw.random() < 0.4:
            held[name] = draw.choice((*ZONES, "Pacific/Auckland", "Mars/Olympus", "utc", 5, None))
    return held


def _event(draw: random.Random, number: int, customers: Sequence[str]) -> Event:
    name = draw.choice(
        ["order_placed"] * 4 + ["cart_added"] * 3 + ["Odd Thing", "order_cancelled"]
        + ["order_refunded"]
    )  # fmt: skip
    lines = [line(draw.choice(["mug", "cups", "x", "gone"]), draw.choice([0, 100, 250]))
             for _ in range(draw.choice([0, 1, 1, 2, 3]))]  # fmt: skip
    properties = _properties(draw)
    if draw.random() < 0.3:
        properties["item"] = draw.choice(["mug", "x", 5])
    changes: dict[str, object] = {
        "customer": draw.choice([*customers, None]) if draw.random() < 0.9 else None,
        "name": name,
        "source": draw.choice(["till", "web"]),
        "value": draw.choice(
            [None, Money(0, "GBP"), Money(250, "GBP"), Money(100, "EUR"), Money(725, "GBP")]
        ),
        "lines": tuple(lines) if name in ("order_placed", "cart_added") else (),
        "order": f"o{number}" if name == "order_placed" else None,
        "properties": msgspec.Raw(json.dumps(properties).encode()),
        **_times(draw),
    }
    if name == "order_cancelled":
        changes["order"] = f"o{draw.randrange(max(number, 1))}"
        changes["customer"] = None
        changes["value"] = None
    if name == "order_refunded" and number % 3:
        changes["order"] = f"o{number * 7 % max(number, 1)}" if number % 2 else f"o{number // 2}"
    return event(f"e{number}", 0, **changes)


def _predictions(draw: random.Random, events: tuple[Event, ...]):
    """What three versions say of most customers who were known to have done something."""
    questions = (("churn", 90.0), ("revenue", 90.0), ("next_order", 730.0))
    for version, cutoff in (("v1", day(1)), ("v2", day(3)), ("v3", day(3))):
        received = cutoff + timedelta(hours=draw.randint(0, 30))
        known = {
            one.customer for one in events
            if one.time <= cutoff and (one.time if one.backfilled else one.received) <= received
        }  # fmt: skip
        for (question, days), customer in itertools.product(questions, sorted(known - {None})):
            if draw.random() < 0.7:
                value = draw.choice([None, 0.25, 0.5, 0.7, 1.5, 5.0, 1 / 3])
                yield Predicted(customer, question, days, value, version, cutoff, received)


def _embeddings(draw: random.Random, customers: Sequence[str]):
    """What two versions know of most customers, of some of them at two anchors."""
    for version, received in (("v1", day(1)), ("v2", day(3))):
        for customer, anchor in itertools.product(customers, (day(0), received)):
            if draw.random() < 0.6:
                vector = tuple(draw.randint(-8, 8) / 4 for _ in range(4))
                yield Embedded(customer, version, anchor, vector, received)
