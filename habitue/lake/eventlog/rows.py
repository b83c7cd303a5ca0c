"""Nouns as rows: one Arrow table per kind, column by column, in the schema without the bucket.

A list per column and no dictionary per row: this is what a stream of events passes through.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa

from habitue.events import (
    Consent,
    Event,
    Identifier,
    Item,
    Line,
    Link,
    Money,
    Noun,
    ProfileChange,
    Rejection,
)
from habitue.lake.schema import LINE, TABLES


class Refused(NamedTuple):
    """An input that was not taken, on its way into a table."""

    rejection: Rejection
    shop: str
    source: str
    receipt: str
    received: object                       # Instant
    origin: str


TABLE_OF: dict[type[Noun], str] = {
    Event: "events",
    Item: "items",
    Identifier: "identifiers",
    Link: "links",
    ProfileChange: "profiles",
    Consent: "consents",
}


def rows_of(
    name: str, nouns: Sequence[Noun], digests: Sequence[bytes], receipts: Sequence[str]
) -> pa.Table:
    """Rows of the table of that name, which must be that of every noun's kind.

    Raises:
        ArrowInvalid, OverflowError: a number is too large for its column.
    """
    columns: dict[str, object] = {"digest": digests, "receipt": receipts}
    special = _SPECIAL.get(name, {})
    schema = unplaced(name)
    for field in schema:
        if field.name in columns:
            continue
        make = special.get(field.name)
        columns[field.name] = (
            list(map(attrgetter(field.name), nouns)) if make is None else make(nouns)
        )
    arrays = [_array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def rejected_rows(refused: Sequence[Refused]) -> pa.Table:
    """Rows of the table `rejected`."""
    schema = unplaced("rejected")
    arrays = []
    for field in schema:
        if field.name in Refused._fields:
            values = [getattr(one, field.name) for one in refused]
        else:
            values = [getattr(one.rejection, field.name) for one in refused]
        arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def unplaced(name: str) -> pa.Schema:
    """A table's schema without the bucket, which the lake fills in."""
    return pa.schema([field for field in TABLES[name].schema if field.name != "bucket"])


def digests_of(nouns: Iterable[Noun]) -> list[bytes]:
    """Each noun's digest; of events twice as fast as asking them one by one.

    What `habitue.events.identity` hashes in parts is put together first, its head only once.
    """
    heads: dict[tuple[str, str], bytes] = {}
    found = []
    for noun in nouns:
        if not isinstance(noun, Event):
            found.append(noun.digest)
            continue
        head = heads.get((noun.shop, noun.source))
        if head is None:
            head = _prefixed(noun.shop) + _prefixed(noun.source)
            heads[noun.shop, noun.source] = head
        customer = b"\xff" if noun.customer is None else noun.customer.encode()
        own = noun.id.encode()
        told = b"%b%b%b%b%b" % (head, _length(customer), customer, _length(own), own)
        found.append(hashlib.blake2b(told, digest_size=16).digest())
    return found


def _prefixed(part: str) -> bytes:
    encoded = part.encode()
    return _length(encoded) + encoded


def _length(encoded: bytes) -> bytes:
    return len(encoded).to_bytes(4, "big")


def _array(values: object, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _lines(events: Sequence[Any]) -> pa.Array:
    """The lines of each event as a list of structs."""
    ends: list[int] = [0]
    lines: list[Line] = []
    for event in events:
        if event.lines:
            lines.extend(event.lines)
        ends.append(len(lines))
    columns = [
        [line.item for line in lines],
        [line.quantity for line in lines],
        [line.unit_price for line in lines],
        [line.amount.minor for line in lines],
        [0] * len(lines),
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, LINE, strict=True)]
    structs = pa.StructArray.from_arrays(arrays, fields=list(LINE))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs)


def _minor(name: str) -> Callable[[Sequence[Noun]], list[int | None]]:
    def column(nouns: Sequence[Noun]) -> list[int | None]:
        amounts: Iterable[Money | None] = map(attrgetter(name), nouns)
        return [None if money is None else money.minor for money in amounts]

    return column


def _currency(name: str) -> Callable[[Sequence[Noun]], list[str | None]]:
    def column(nouns: Sequence[Noun]) -> list[str | None]:
        amounts: Iterable[Money | None] = map(attrgetter(name), nouns)
        return [None if money is None else money.currency for money in amounts]

    return column


def _text(name: str) -> Callable[[Sequence[Noun]], list[str]]:
    def column(nouns: Sequence[Noun]) -> list[str]:
        return [str(raw, "utf-8") for raw in map(attrgetter(name), nouns)]

    return column


# columns that are not an attribute of the same name
_SPECIAL: dict[str, dict[str, Callable[[Sequence[Noun]], object]]] = {
    "events": {
        "value_minor": _minor("value"),
        "currency": _currency("value"),
        "lines": _lines,
        "properties": _text("properties"),
    },
    "items": {"price_minor": _minor("price"), "currency": _currency("price")},
    "profiles": {"put": _text("put"), "append": _text("append"), "unappend": _text("unappend")},
}
