"""Staged order lines become orders: placed, updated, refunded or cancelled, and a catalogue.

A line's identity is its content and its occurrence number: real files hold exact repeats that are
meant. So what is new in a file is a difference of multisets, per bucket, against the lines that
the lake stores; lines of a known order become an update of it and never vanish.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from habitue.events import (
    ORDER_CANCELLED,
    ORDER_PLACED,
    ORDER_REFUNDED,
    ORDER_UPDATED,
    bucket_of,
    identity,
)
from habitue.ingest.files import Staged
from habitue.ingest.gate import Portion
from habitue.lake.query import read
from habitue.lake.schema import LINE, TIME
from habitue.lake.tables import Lake

DOCUMENTS = """
-- one row per order number and customer of the file; lines of one that takes an order back are
-- counted as negative, whichever sign the source gave them
CREATE TABLE documents AS
SELECT row_number() OVER (ORDER BY min(position)) - 1 AS number, "order" AS document, customer,
    bool_or(cancels) AS cancels, min(cancelled_order) AS cancelled_order,
    CASE WHEN bool_or(cancels) AND sum(amount_minor) > 0 THEN -1 ELSE 1 END AS sign
FROM staged GROUP BY "order", customer
"""

DOCUMENT_LIST = """
-- one row per document, by number
SELECT document, customer, cancels, cancelled_order FROM documents ORDER BY number
"""

ARRANGED = """
-- one row per line taken, near the others of its bucket and document; `row` is its content's hash,
-- which must stay the same for ever
CREATE TABLE arranged AS
SELECT placed.bucket, d.number, s.position, s."time", s.item, s.quantity * d.sign AS quantity,
    s.unit_price, s.amount_minor * d.sign AS amount_minor, s.currency, s.title, s.category,
    s.brand, d.customer IS NOT NULL AND NOT d.cancels AND s.amount_minor > 0 AS sells,
    (md5_number_lower(concat_ws(chr(31), d.document, coalesce(d.customer, chr(30)),
        epoch_us(s."time"), s.item, s.quantity, s.unit_price, s.currency)) >> 1)::BIGINT AS row
FROM staged s
JOIN documents d ON s."order" = d.document AND s.customer IS NOT DISTINCT FROM d.customer
JOIN placed USING (number)
ORDER BY placed.bucket, d.number, s.position
"""

STORED_LINES = """
-- one row per line content that the lake holds in a bucket: how often
SELECT line.row AS row, count(*) AS held
FROM (SELECT unnest(lines) AS line FROM events WHERE bucket = ? AND source = ?)
GROUP BY ALL
"""

KNOWN_DOCUMENTS = """
-- one row per event of a bucket
SELECT digest FROM events WHERE bucket = ? AND source = ?
"""

FRESH = """
-- one row per line that the lake does not hold yet, in the order of documents
SELECT number, epoch_us("time") AS "time", currency, item, quantity::DECIMAL(18, 6) AS quantity,
    unit_price, amount_minor, row, occurrence
FROM (
    SELECT *, row_number() OVER (PARTITION BY row ORDER BY position) AS occurrence
    FROM arranged WHERE bucket = ?
) LEFT JOIN stored USING (row)
WHERE occurrence > coalesce(held, 0)
ORDER BY number, currency, position
"""

CATALOGUE = """
-- one row per change of an item's title, category or brand on what customers bought
WITH told AS (
    SELECT item, "time", max(title) AS title, max(category) AS category, max(brand) AS brand
    FROM arranged
    WHERE sells AND coalesce(title, category, brand) IS NOT NULL
    GROUP BY item, "time"
)
SELECT item, "time", title, category, brand FROM told
QUALIFY row(title, category, brand) IS DISTINCT FROM
    lag(row(title, category, brand)) OVER (PARTITION BY item ORDER BY "time")
ORDER BY item, "time"
"""


@dataclass(frozen=True, slots=True)
class Documents:
    """The orders of a file, each by its number."""

    document: list[str]
    customer: list[str | None]
    cancels: list[bool]
    cancelled_order: list[str | None]
    digest: list[bytes]                    # of the event that first told of it
    bucket: np.ndarray                     # (documents,) int32


def arrange(staged: Staged, lake: Lake, *, shop: str, source: str) -> Documents:
    """Name the documents of a file of order lines, and put its lines near those they belong to."""
    staged.connection.execute(DOCUMENTS)
    columns = staged.connection.sql(DOCUMENT_LIST).to_arrow_table().to_pydict()
    keys = list(zip(columns["customer"], columns["document"], strict=True))
    buckets = lake.buckets
    digest = [identity(shop, source, customer, document) for customer, document in keys]
    bucket = [
        bucket_of(shop, customer, named, buckets)
        for (customer, _), named in zip(keys, digest, strict=True)
    ]
    placed = pa.table({"number": range(len(keys)), "bucket": pa.array(bucket, pa.int32())})
    staged.connection.register("placed", placed)
    staged.connection.execute(ARRANGED)
    staged.connection.execute("DROP TABLE staged")       # every line of it is arranged now
    staged.connection.unregister("placed")
    return Documents(**columns, digest=digest, bucket=np.array(bucket, dtype=np.int32))


def order_portions(
    staged: Staged, documents: Documents, lake: Lake, *, shop: str, source: str
) -> Iterator[Portion]:
    """The events that the arranged lines add to the lake, bucket by bucket.

    The caller holds the lease, so that nothing comes between looking and appending.
    """
    is_known = shop in lake.shops()
    for bucket in np.unique(documents.bucket).tolist():
        held: set[bytes] = set()
        stored = pa.table({"row": pa.array([], pa.int64()), "held": pa.array([], pa.int64())})
        if is_known:
            bound = [bucket, source]
            stored = read(lake, STORED_LINES, bound, shop=shop)
            held.update(read(lake, KNOWN_DOCUMENTS, bound, shop=shop)["digest"].to_pylist())
        staged.connection.register("stored", stored)
        fresh = staged.connection.sql(FRESH, params=[bucket]).to_arrow_table()
        staged.connection.unregister("stored")
        counted = "SELECT count(*) FROM arranged WHERE bucket = ?"
        ((came,),) = staged.connection.execute(counted, [bucket]).fetchall()
        yield _portion(fresh, documents, held, (shop, source), came)


def catalogue(staged: Staged, *, shop: str, source: str) -> pa.Table:
    """What the lines tell of items, as rows of the ITEMS schema."""
    changes = staged.connection.sql(CATALOGUE).to_arrow_table()
    return with_item_digests(changes, shop=shop, source=source)


def with_item_digests(rows: pa.Table, *, shop: str, source: str) -> pa.Table:
    """Catalogue rows with their identity: the item, since when, and what is told of it."""
    digests = [
        identity(shop, source, row["item"], "\x1f".join(str(value) for value in row.values()))
        for row in rows.to_pylist()
    ]
    return rows.append_column("digest", pa.array(digests, pa.binary())).append_column(
        "backfilled", pa.repeat(True, len(rows))
    )


def _portion(
    fresh: pa.Table,
    documents: Documents,
    held: set[bytes],
    origin: tuple[str, str],
    came: int,
) -> Portion:
    """One event per document and currency of the fresh lines."""
    number = fresh["number"].to_numpy()
    currency = fresh["currency"].to_numpy(zero_copy_only=False).astype(str)
    is_first = np.ones(len(fresh), dtype=bool)
    is_first[1:] = (number[1:] != number[:-1]) | (currency[1:] != currency[:-1])
    starts = np.flatnonzero(is_first)
    ends = np.append(starts, len(fresh))[1:]
    heads = [
        _event(documents, int(number[start]), fresh, (start, end), held, origin)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    # reduceat needs a start; without lines there is no event either
    times = np.minimum.reduceat(fresh["time"].to_numpy(), starts) if heads else number
    values = np.add.reduceat(fresh["amount_minor"].to_numpy(), starts) if heads else number
    lines = pa.StructArray.from_arrays(
        [fresh[one.name].combine_chunks() for one in LINE], fields=list(LINE)
    )
    offsets = pa.array(np.append(starts, len(fresh)), pa.int32())
    table = (
        pa.Table.from_pylist(heads, schema=_HEADS)
        .append_column("time", pa.array(times, pa.int64()).cast(TIME))
        .append_column("value_minor", pa.array(values, pa.int64()))
        .append_column("currency", pa.array(currency[starts], pa.string()))
        .append_column("lines", pa.ListArray.from_arrays(offsets, lines))
    )
    return Portion(events=table, rows=ends - starts, repeated=came - len(fresh))


_HEADS = pa.schema(
    [
        pa.field("bucket", pa.int32()),
        pa.field("digest", pa.binary()),
        pa.field("id", pa.string()),
        pa.field("customer", pa.string()),
        pa.field("name", pa.string()),
        pa.field("backfilled", pa.bool_()),
        pa.field("order", pa.string()),
        pa.field("properties", pa.string()),
    ]
)


def _event(
    documents: Documents,
    number: int,
    fresh: pa.Table,
    span: tuple[int, int],
    held: set[bytes],
    origin: tuple[str, str],
) -> dict[str, object]:
    """Name one event: as the document where it is the first of it, else after its lines."""
    document, customer = documents.document[number], documents.customer[number]
    name_of, digest = document, documents.digest[number]
    is_known = digest in held
    if is_known:
        name_of = f"{document}+{_lines_hash(fresh, *span)}"
        digest = identity(*origin, customer, name_of)
    held.add(digest)
    name = ORDER_UPDATED if is_known else ORDER_PLACED
    order: str | None = document
    if documents.cancels[number]:
        order = documents.cancelled_order[number]
        name = ORDER_REFUNDED if order is None else ORDER_CANCELLED
    return {
        "bucket": int(documents.bucket[number]),
        "digest": digest,
        "id": name_of,
        "customer": customer,
        "name": name,
        "backfilled": True,
        "order": order,
        "properties": "{}",
    }


def _lines_hash(fresh: pa.Table, start: int, end: int) -> str:
    """A name for a set of lines: equal for equal contents and occurrences, in any order."""
    part = fresh.slice(start, end - start)
    pairs = sorted(zip(part["row"].to_pylist(), part["occurrence"].to_pylist(), strict=True))
    return hashlib.blake2b(repr(pairs).encode(), digest_size=8).hexdigest()
