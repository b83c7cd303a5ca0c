"""What the live state keeps of each noun: a tuple of plain values, from a noun or from the lake.

The first six are always digest, shop, key, time, received and backfilled; times are µs since the
epoch, UTC. Lines are JSON: [item, quantity, minor units] of each.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from habitue.events import Noun
from habitue.lake.eventlog.rows import TABLE_OF, digests_of

Row: TypeAlias = tuple[Any, ...]
Told: TypeAlias = Mapping[str, list[Row]]  # table -> its rows

COLUMNS = {
    "events": ("digest", "shop", "customer", "time", "received", "backfilled", "name", "id",
               "source", "order", "value_minor", "currency", "lines", "properties"),
    "links": ("digest", "shop", "key", "time", "received", "backfilled", "other", "source",
              "cause", "undo", "public"),
    "profiles": ("digest", "shop", "customer", "time", "received", "backfilled", "put", "clear",
                 "append", "unappend"),
    "consents": ("digest", "shop", "customer", "time", "received", "backfilled", "channel",
                 "status", "method"),
    "identifiers": ("digest", "shop", "key", "time", "received", "backfilled", "kind", "value"),
    "items": ("digest", "shop", "key", "time", "received", "backfilled", "item", "title",
              "category", "brand", "stock", "image", "published", "price_minor", "currency"),
}  # fmt: skip
# what a table has not: whoever is told of an item is nobody, and what has no mark was told in time
_ABSENT = {("items", "key"): None, ("identifiers", "backfilled"): False}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(time: datetime) -> int:
    """µs since the epoch."""
    return (time - _EPOCH) // _MICROSECOND


def instant(time: int) -> datetime:
    """An aware datetime from µs since the epoch."""
    return _EPOCH + timedelta(microseconds=time)


def told_by(nouns: Iterable[Noun]) -> Told:
    """The rows of some nouns."""
    kept = list(nouns)
    found: dict[str, list[Row]] = {}
    for noun, digest in zip(kept, digests_of(kept), strict=True):
        name = TABLE_OF[type(noun)]
        row = _SPECIAL.get(name, lambda noun, name=name: _row(name, noun))(noun)
        found.setdefault(name, []).append((digest, *row))
    return found


def visible(row: Row) -> int:
    """From when on a row counts: it has happened, and (unless it was told afterwards) is known."""
    _, _, _, time, received, backfilled, *_ = row
    return int(time if backfilled else max(time, received))


def _row(name: str, noun: Noun) -> Row:
    return tuple(
        _ABSENT[name, column] if (name, column) in _ABSENT else _plain(getattr(noun, column))
        for column in COLUMNS[name][1:]
    )


def _event(noun: Any) -> Row:
    value = noun.value
    return (
        noun.shop, noun.customer, microseconds(noun.time), microseconds(noun.received),
        noun.backfilled, noun.name, noun.id, noun.source, noun.order,
        value and value.minor, value and value.currency,
        _lines([(one.item, str(one.quantity), one.amount.minor) for one in noun.lines]),
        str(noun.properties, "utf-8"),
    )  # fmt: skip


def _item(noun: Any) -> Row:
    price = noun.price
    return (
        noun.shop, None, microseconds(noun.time), microseconds(noun.received), noun.backfilled,
        noun.item, noun.title, noun.category, noun.brand, noun.stock, noun.image, noun.published,
        price and price.minor, price and price.currency,
    )  # fmt: skip


_SPECIAL: dict[str, Callable[[Any], Row]] = {"events": _event, "items": _item}


def _lines(told: list[tuple[str, str, int]]) -> str:
    return msgspec.json.encode(told).decode() if told else "[]"


def held_in(
    file: Any, name: str, *, is_known: Callable[[list[bytes]], set[bytes]], most_rows: int
) -> Iterator[Told]:
    """The rows of one of the lake's files that are not known yet, some at a time."""
    with pq.ParquetFile(file) as source:
        held = [column for column in COLUMNS[name] if (name, column) not in _ABSENT]
        for batch in source.iter_batches(batch_size=most_rows, columns=held):
            digests = batch.column("digest")
            known = is_known(digests.to_pylist())
            if len(known) == len(digests):
                continue
            columns = [
                _listed(batch.column(column))
                if column in held
                else [_ABSENT[name, column]] * len(digests)
                for column in COLUMNS[name]
            ]
            yield {name: list(zip(*columns, strict=True))}


def _plain(value: object) -> Any:
    match value:
        case datetime():
            return microseconds(value)
        case msgspec.Raw():
            return bytes(value).decode()
        case tuple():
            return msgspec.json.encode(value).decode()
    return value


def _listed(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_pylist()
    if pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type):
        return [
            _lines([(one["item"], str(one["quantity"]), one["amount_minor"]) for one in told or ()])
            for told in column.to_pylist()
        ]
    if pa.types.is_list(column.type):
        return [msgspec.json.encode(one).decode() for one in column.to_pylist()]
    return column.to_pylist()
