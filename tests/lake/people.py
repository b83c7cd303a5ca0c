"""What is told of customers, as rows of the lake, and strategies that tell it in any order."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import pyarrow as pa

from habitue.events import Consent, Event, Identifier, Item, Link, Noun, ProfileChange
from habitue.ingest.gate import events_table
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake
from tests.lake.small import day

TABLE_OF = {
    Item: "items", Identifier: "identifiers", Link: "links", ProfileChange: "profiles",
    Consent: "consents",
}  # fmt: skip
A, B, ADA, BOB, TEL, WEB, APP = (
    "c_1", "c_2", "email:ada", "email:bob", "phone:1", "anonymous:web", "anonymous:app",
)  # fmt: skip


def link(key: str, other: str, at: float, **changes: object) -> Link:
    """A link of shop acme, told by the web source when it happened, unless told otherwise."""
    told = {"shop": "acme", "source": "web", "time": day(at), "received": day(at), "cause": "event"}
    return Link(key=key, other=other, **(told | changes))


def change(customer: str, at: float, put: str = "{}", **changes: object) -> ProfileChange:
    """A change of properties of shop acme, told when it happened, unless told otherwise."""
    texts = {"put": put, **{name: changes.pop(name, "{}") for name in ("append", "unappend")}}
    raws = {name: msgspec.Raw(text.encode()) for name, text in texts.items()}
    told = {"shop": "acme", "source": "web", "time": day(at), "received": day(at)}
    return ProfileChange(customer=customer, **(told | raws | changes))


def consent(customer: str, at: float, status: str, **changes: object) -> Consent:
    """Consent to email of a customer of shop acme, told when it was given."""
    told = {"shop": "acme", "source": "web", "time": day(at), "received": day(at)}
    return Consent(customer=customer, status=status, **(told | {"channel": "email"} | changes))


def identifier(key: str, value: str, at: float, **changes: object) -> Identifier:
    """The raw email behind a key of shop acme."""
    told = {"shop": "acme", "kind": "email", "time": day(at), "received": day(at)}
    return Identifier(key=key, value=value, **(told | changes))


def item(code: str, at: float, **changes: object) -> Item:
    """What is known of an item of shop acme from then on."""
    told = {"shop": "acme", "source": "web", "time": day(at), "received": day(at)}
    return Item(item=code, **(told | changes))


def rows_of(nouns: Sequence[Noun]) -> dict[str, pa.Table]:
    """Nouns as rows of their tables, without buckets."""
    found = {}
    for kind, name in TABLE_OF.items():
        schema = pa.schema([one for one in TABLES[name].schema if one.name != "bucket"])
        told = [_row(noun, schema) for noun in nouns if isinstance(noun, kind)]
        if told:
            found[name] = pa.Table.from_pylist(told, schema=schema)
    events = [noun for noun in nouns if isinstance(noun, Event)]
    if events:
        rows = events_table(events)
        found["events"] = rows.append_column("receipt", pa.nulls(len(rows), pa.string()))
    return found


def _row(noun: Noun, schema: pa.Schema) -> dict[str, object]:
    row = {name: getattr(noun, name, None) for name in schema.names} | {"digest": noun.digest}
    for name, value in row.items():
        if type(value).__name__ == "Raw":
            row[name] = bytes(value).decode()
    if isinstance(noun, Item) and noun.price:
        row |= {"price_minor": noun.price.minor, "currency": noun.price.currency}
    return row


def told(lake: Lake, *nouns: Noun, at: datetime | None = None) -> Lake:
    """The lake after these nouns were appended; their shops exist from then on."""
    shops = sorted({noun.shop for noun in nouns} - set(lake.shops()))
    settings = [{"shop": shop, "received": at or day(0), "timezone": "UTC"} for shop in shops]
    schema = pa.schema([one for one in TABLES["shops"].schema if one.name != "bucket"])
    begun = {"shops": pa.Table.from_pylist(settings, schema=schema)} if settings else {}
    lake.append({**begun, **rows_of(nouns)})
    return lake
