"""Nouns as rows: one Arrow table per kind, column by column, in the schema without the bucket.

A list per column and no dictionary per row: this is what a stream of events passes through.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
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
            [getattr(noun, field.name) for noun in nouns] if make is None else make(nouns)
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
    """Each noun's digest; of events many times as fast as asking them one by one.

    What the digests of one customer's events have in common is hashed once.
    """
    begun: dict[tuple[str, str, str | None], hashlib.blake2b] = {}
    found = []
    for noun in nouns:
        if not isinstance(noun, Event):
            found.append(noun.digest)
            continue
        common = (noun.shop, noun.source, noun.customer)
        start = begun.get(common)
        if start is None:
            start = begun[common] = hashlib.blake2b(
                b"".join(_prefixed(part) for part in common), digest_size=16
            )
        digest = start.copy()
        digest.update(_prefixed(noun.id))
        found.append(digest.digest())
    return found


def _prefixed(part: str | None) -> bytes:
    encoded = b"\xff" if part is None else part.encode()
    return len(encoded).to_bytes(4, "big") + encoded


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
        return [None if (money := getattr(one, name)) is None else money.minor for one in nouns]

    return column


def _currency(name: str) -> Callable[[Sequence[Noun]], list[str | None]]:
    def column(nouns: Sequence[Noun]) -> list[str | None]:
        amounts: list[Money | None] = [getattr(one, name) for one in nouns]
        return [None if money is None else money.currency for money in amounts]

    return column


def _text(name: str) -> Callable[[Sequence[Noun]], list[str]]:
    def column(nouns: Sequence[Noun]) -> list[str]:
        return [str(getattr(one, name), "utf-8") for one in nouns]

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
