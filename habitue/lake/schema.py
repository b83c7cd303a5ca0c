"""Every table's columns, once. One row's meaning (the grain) stands above each.

Times are UTC microseconds; money is integer minor units; `bucket` is the partition column,
hash(shop, customer key as sent) mod the N that the table records, and of the shop alone in tables
that have no customer.
"""

from dataclasses import dataclass

import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")
PRICE = pa.decimal128(18, 6)
DEFAULT_BUCKETS = 16

LINE = pa.struct(
    [
        pa.field("item", pa.string()),
        pa.field("quantity", PRICE),
        pa.field("unit_price", PRICE),             # major units
        pa.field("amount_minor", pa.int64()),
        pa.field("row", pa.int64()),               # hash of the source row's mapped content
    ]
)

# one row per event, kept as it came; the digest is its identity
EVENTS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("digest", pa.binary(), nullable=False),          # 16 bytes
        pa.field("id", pa.string(), nullable=False),
        pa.field("customer", pa.string()),                        # key as sent; null: anonymous
        pa.field("name", pa.string(), nullable=False),
        pa.field("time", TIME, nullable=False),
        pa.field("received", TIME, nullable=False),
        pa.field("backfilled", pa.bool_(), nullable=False),
        pa.field("value_minor", pa.int64()),
        pa.field("currency", pa.string()),
        pa.field("order", pa.string()),
        pa.field("lines", pa.list_(LINE)),
        pa.field("properties", pa.string()),                      # JSON
        pa.field("receipt", pa.string()),                         # the batch it came in
    ]
)

# one row per change of what is known of an item, in force from `time`
ITEMS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("digest", pa.binary(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("time", TIME, nullable=False),
        pa.field("received", TIME, nullable=False),
        pa.field("backfilled", pa.bool_(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("category", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("price_minor", pa.int64()),
        pa.field("currency", pa.string()),
        pa.field("receipt", pa.string()),
        pa.field("stock", pa.int64()),
        pa.field("image", pa.string()),                           # its address
        pa.field("published", pa.bool_()),
    ]
)

# one row per raw email or phone; its surrogate key is what every other table holds
IDENTIFIERS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("digest", pa.binary(), nullable=False),
        pa.field("key", pa.string(), nullable=False),             # "email:…" or "phone:…"
        pa.field("kind", pa.string(), nullable=False),            # email, phone
        pa.field("value", pa.string(), nullable=False),           # normalised
        pa.field("time", TIME, nullable=False),
        pa.field("received", TIME, nullable=False),
        pa.field("receipt", pa.string()),
    ]
)

# one row per saying that two keys are one customer from `time` on, or (undo) no longer are
LINKS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("digest", pa.binary(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("other", pa.string(), nullable=False),
        pa.field("time", TIME, nullable=False),
        pa.field("received", TIME, nullable=False),
        pa.field("backfilled", pa.bool_(), nullable=False),
        pa.field("cause", pa.string(), nullable=False),           # event, identify, alias, person
        pa.field("undo", pa.bool_(), nullable=False),
        pa.field("public", pa.bool_(), nullable=False),           # said with a public key
        pa.field("receipt", pa.string()),
    ]
)

# one row per change of a customer's properties, in force from `time`
PROFILES = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("digest", pa.binary(), nullable=False),
        pa.field("customer", pa.string(), nullable=False),        # key as sent
        pa.field("time", TIME, nullable=False),
        pa.field("received", TIME, nullable=False),
        pa.field("backfilled", pa.bool_(), nullable=False),
        pa.field("put", pa.string(), nullable=False),             # JSON object
        pa.field("clear", pa.list_(pa.string()), nullable=False),
        pa.field("append", pa.string(), nullable=False),          # JSON object
        pa.field("unappend", pa.string(), nullable=False),        # JSON object
        pa.field("receipt", pa.string()),
    ]
)

# one row per change of a customer's consent to a channel, in force from `time`
CONSENTS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("digest", pa.binary(), nullable=False),
        pa.field("customer", pa.string(), nullable=False),        # key as sent
        pa.field("channel", pa.string(), nullable=False),         # email, sms, push, whatsapp
        pa.field("status", pa.string(), nullable=False),          # subscribed, unsubscribed, …
        pa.field("time", TIME, nullable=False),
        pa.field("received", TIME, nullable=False),
        pa.field("backfilled", pa.bool_(), nullable=False),
        pa.field("method", pa.string()),
        pa.field("receipt", pa.string()),
    ]
)

# one row per input that was not taken
REJECTED = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("receipt", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("pointer", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("payload", pa.string(), nullable=False),         # as it came, cut at 64 KiB
        pa.field("received", TIME, nullable=False),
        pa.field("origin", pa.string()),                          # file name, or the door's path
    ]
)

# one row per rejected input that was taken when it was tried again
REPLAYED = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("receipt", pa.string(), nullable=False),         # of the batch that was rejected
        pa.field("position", pa.int64(), nullable=False),
        pa.field("taken", pa.string(), nullable=False),           # the receipt it has now
        pa.field("received", TIME, nullable=False),               # when it was tried again
    ]
)

# one row per batch, or a shard's part of one, that was settled
RECEIPTS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),          # file name, or the door's path
        pa.field("received", TIME, nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("appended", pa.int64(), nullable=False),
        pa.field("duplicate", pa.int64(), nullable=False),
        pa.field("rejected", pa.int64(), nullable=False),
    ]
)

# one row per change of a shop's settings; the latest received is in force
SHOPS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("received", TIME, nullable=False),
        pa.field("timezone", pa.string(), nullable=False),
        pa.field("currency", pa.string()),
        pa.field("not_item_codes", pa.list_(pa.string())),
        pa.field("not_item_patterns", pa.list_(pa.string())),     # RE2 regular expressions
        pa.field("order_sources", pa.list_(pa.string())),         # the first of them is believed
    ]
)

# one row per saying of what an audience is; the latest received is in force
AUDIENCES = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("condition", pa.string()),                       # null: it is no more
        pa.field("received", TIME, nullable=False),
    ]
)

# one row per customer, version, anchor, question and horizon: what was predicted, with interval
PREDICTIONS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("customer", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("cutoff", TIME, nullable=False),
        pa.field("anchor", TIME, nullable=False),
        pa.field("question", pa.string(), nullable=False),        # churn, orders, revenue, …
        pa.field("horizon_days", pa.float64(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),                            # 5th percentile
        pa.field("high", pa.float64()),                           # 95th percentile
        pa.field("status", pa.string(), nullable=False),          # full, transfer, insufficient
        pa.field("received", TIME, nullable=False),
    ]
)

# one row per customer, version, anchor and width: what that model knew of them then
CUSTOMER_EMBEDDINGS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("customer", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("anchor", TIME, nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("embedding", pa.binary(), nullable=False),       # float16, little-endian
        pa.field("received", TIME, nullable=False),
    ]
)

# one row per item, version, anchor and width: what that model knew of it then
ITEM_EMBEDDINGS = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("shop", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("anchor", TIME, nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("embedding", pa.binary(), nullable=False),       # float16, little-endian
        pa.field("received", TIME, nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name, columns, and the order of its rows within a file."""

    name: str
    schema: pa.Schema
    sort: tuple[str, ...]


TABLES = {
    table.name: table
    for table in (
        Table("events", EVENTS, ("shop", "customer", "time", "received", "digest")),
        Table("items", ITEMS, ("shop", "item", "time")),
        Table("identifiers", IDENTIFIERS, ("shop", "key")),
        Table("links", LINKS, ("shop", "key", "time")),
        Table("profiles", PROFILES, ("shop", "customer", "time")),
        Table("consents", CONSENTS, ("shop", "customer", "time")),
        Table("rejected", REJECTED, ("shop", "receipt", "position")),
        Table("replayed", REPLAYED, ("shop", "receipt", "position")),
        Table("receipts", RECEIPTS, ("shop", "id")),
        Table("shops", SHOPS, ("shop", "received")),
        Table("audiences", AUDIENCES, ("shop", "name", "received")),
        Table("predictions", PREDICTIONS, ("shop", "version", "customer", "question")),
        Table(
            "customer_embeddings", CUSTOMER_EMBEDDINGS, ("shop", "version", "customer", "anchor")
        ),
        Table("item_embeddings", ITEM_EMBEDDINGS, ("shop", "version", "item", "anchor")),
    )
}
