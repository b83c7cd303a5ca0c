"""Staged rows that are events or items already: orders without lines, events, catalogues."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from habitue.events import bucket_of, identity
from habitue.ingest.files import Staged
from habitue.ingest.gate import Portion
from habitue.ingest.orders import with_item_digests
from habitue.lake.query import read
from habitue.lake.schema import LINE
from habitue.lake.tables import Lake

_NAME = {
    "orders": "CASE WHEN cancels THEN CASE WHEN cancelled_order IS NULL THEN 'order_refunded' "
    "ELSE 'order_cancelled' END ELSE 'order_placed' END",
    "events": "event",
}

RECORDS = """
-- one row per row taken: the event it is, by an id that equal rows tell apart by occurrence
CREATE TABLE records AS
WITH named AS (
    SELECT *, {name} AS name,
        md5(concat_ws(chr(31), coalesce(event, chr(30)), epoch_us("time"),
            coalesce("order", chr(30)), coalesce(item, chr(30)),
            coalesce(quantity::VARCHAR, chr(30)), coalesce(amount_minor::VARCHAR, chr(30)),
            coalesce(value_minor::VARCHAR, chr(30)), coalesce(currency, chr(30)),
            coalesce(properties, chr(30)))) AS content
    FROM staged
)
SELECT position, customer, name, "time", currency, item, quantity, unit_price, amount_minor,
    CASE WHEN cancels THEN -abs(value_minor) ELSE value_minor END AS value_minor,
    CASE WHEN cancels THEN cancelled_order ELSE "order" END AS "order",
    coalesce(properties, '{{}}') AS properties,
    coalesce(id, {order}, content || '-' || row_number() OVER (
        PARTITION BY customer, content ORDER BY position)) AS id
FROM named
"""

IDENTITIES = """
-- one row per record, by position
SELECT position, customer, id FROM records ORDER BY position
"""

BUCKET = """
-- one row per record of a bucket, by position
SELECT * EXCLUDE (position) FROM records JOIN identities USING (position)
WHERE bucket = ? ORDER BY position
"""

ITEM_ROWS = """
-- one row per row taken of a catalogue
SELECT item, "time", title, category, brand, amount_minor AS price_minor,
    CASE WHEN amount_minor IS NOT NULL THEN currency END AS currency
FROM staged ORDER BY position
"""


def record_portions(staged: Staged, lake: Lake, *, shop: str, source: str) -> Iterator[Portion]:
    """The events that the rows of a file are, bucket by bucket."""
    kind = staged.mapping.kind
    # an order is named by its number; what other events say of an order does not name them
    order = '"order"' if kind == "orders" else "NULL"
    staged.connection.execute(RECORDS.format(name=_NAME[kind], order=order))
    buckets = _identify(staged, lake, shop, source)
    for bucket in buckets:
        rows = staged.connection.sql(BUCKET, params=[bucket]).to_arrow_table()
        yield Portion(events=_with_lines(rows), rows=np.ones(len(rows), dtype=np.int64))


def item_rows(staged: Staged, lake: Lake, *, shop: str, source: str) -> pa.Table:
    """The rows of a catalogue, as rows of the ITEMS schema.

    Without dates a row that says what the lake knows already keeps its old identity, so that it
    is a duplicate, and any other is in force from now on.
    """
    rows = staged.connection.sql(ITEM_ROWS).to_arrow_table()
    if staged.mapping.fields.time is None and shop in lake.shops():
        told = ["title", "category", "brand", "price_minor", "currency"]
        known = read(lake, "SELECT * EXCLUDE (is_item) FROM items", shop=shop)
        since = {
            tuple(row[name] for name in ("item", *told)): row["time"] for row in known.to_pylist()
        }
        times = [
            since.get(tuple(row[name] for name in ("item", *told)), row["time"])
            for row in rows.to_pylist()
        ]
        place = rows.schema.get_field_index("time")
        rows = rows.set_column(place, "time", pa.array(times, rows.schema.field("time").type))
    return with_item_digests(rows, shop=shop, source=source)


def _identify(staged: Staged, lake: Lake, shop: str, source: str) -> list[int]:
    """Give every record its digest and bucket; the buckets there are."""
    rows = staged.connection.sql(IDENTITIES).to_arrow_table()
    buckets = lake.buckets
    digests, places = [], []
    for customer, name in zip(rows["customer"].to_pylist(), rows["id"].to_pylist(), strict=True):
        digest = identity(shop, source, customer, name)
        digests.append(digest)
        places.append(bucket_of(shop, customer, digest, buckets))
    table = pa.table(
        {
            "position": rows["position"],
            "digest": pa.array(digests, pa.binary()),
            "bucket": pa.array(places, pa.int32()),
        }
    )
    staged.connection.register("chunk", table)
    staged.connection.execute("CREATE TABLE identities AS SELECT * FROM chunk")
    staged.connection.unregister("chunk")
    return sorted(set(places))


def _with_lines(rows: pa.Table) -> pa.Table:
    """Fold the item columns into a list of one line, or of none where no item is told."""
    has_item = rows["item"].is_valid().to_numpy(zero_copy_only=False)
    told = rows.filter(pa.array(has_item))
    columns = {
        "item": told["item"],
        "quantity": told["quantity"].fill_null(1),
        "unit_price": told["unit_price"].fill_null(0),
        "amount_minor": told["amount_minor"].fill_null(0),
        "row": pa.repeat(pa.scalar(0, pa.int64()), len(told)),
    }
    lines = pa.StructArray.from_arrays(
        [
            array.combine_chunks().cast(one.type) if isinstance(array, pa.ChunkedArray) else array
            for one, array in ((one, columns[one.name]) for one in LINE)
        ],
        fields=list(LINE),
    )
    offsets = np.concatenate([[0], np.cumsum(has_item)]).astype(np.int32)
    return (
        rows.drop_columns(["item", "quantity", "unit_price", "amount_minor"])
        .append_column("lines", pa.ListArray.from_arrays(pa.array(offsets), lines))
        .append_column("backfilled", pa.repeat(True, len(rows)))
    )
