"""What the live state keeps of each noun: a tuple of plain values, from a noun or from the lake.

The first five are always digest, shop, key, time and received; times are µs since the epoch, UTC.
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
    "events": ("digest", "shop", "customer", "time", "received", "name"),
    "links": ("digest", "shop", "key", "time", "received", "other", "source", "cause", "undo",
              "public"),
    "profiles": ("digest", "shop", "customer", "time", "received", "put", "clear", "append",
                 "unappend"),
    "consents": ("digest", "shop", "customer", "time", "received", "channel", "status", "method"),
    "identifiers": ("digest", "shop", "key", "time", "received", "kind", "value"),
}  # fmt: skip

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(time: datetime) -> int:
    """µs since the epoch."""
    return (time - _EPOCH) // _MICROSECOND


def instant(time: int) -> datetime:
    """An aware datetime from µs since the epoch."""
    return _EPOCH + timedelta(microseconds=time)


def told_by(nouns: Iterable[Noun]) -> Told:
    """The rows of some nouns; what has no place in the live state, such as items, is left out."""
    kept = [noun for noun in nouns if TABLE_OF[type(noun)] in COLUMNS]
    found: dict[str, list[Row]] = {}
    for noun, digest in zip(kept, digests_of(kept), strict=True):
        name = TABLE_OF[type(noun)]
        row = (_plain(getattr(noun, column)) for column in COLUMNS[name][1:])
        found.setdefault(name, []).append((digest, *row))
    return found


def held_in(
    file: Any, name: str, *, is_known: Callable[[list[bytes]], set[bytes]], most_rows: int
) -> Iterator[Told]:
    """The rows of one of the lake's files that are not known yet, some at a time."""
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(batch_size=most_rows, columns=list(COLUMNS[name])):
            digests = batch.column("digest")
            known = is_known(digests.to_pylist())
            if len(known) == len(digests):
                continue
            columns = [_listed(batch.column(column)) for column in COLUMNS[name]]
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
    if pa.types.is_list(column.type):
        return [msgspec.json.encode(one).decode() for one in column.to_pylist()]
    return column.to_pylist()
