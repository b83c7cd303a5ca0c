"""`Sequences`: every customer's events up to a cutoff, as flat arrays, in time order."""

# C customers · E events · L order lines · V items · S rows of daily item sales
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.events import currency_exponent
from habitue.lake import query
from habitue.lake.tables import Lake

DAY = 86_400_000_000                       # microseconds
NEVER = np.iinfo(np.int64).max
NO_CURRENCY = "XXX"                        # ISO 4217: no currency involved


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """One shop's past, and nothing else: no row is later than `cutoff`.

    Customer c's events are rows `offsets[c]:offsets[c + 1]`, ordered by (time, received, digest);
    event e's order lines are rows `line_offsets[e]:line_offsets[e + 1]`. Only recommendable items
    have lines; what is no item (postage, fees) counts in `value` alone. Orders without positive
    value are left out.
    """

    shop: str
    currency: str
    timezone: str
    cutoff: int                            # µs since the epoch, UTC
    customers: np.ndarray                  # (C,) str objects, sorted
    offsets: np.ndarray                    # (C + 1,) int64
    time: np.ndarray                       # (E,) int64 µs
    kind: np.ndarray                       # (E,) int16, index into `kinds`
    kinds: tuple[str, ...]                 # event names; kinds[0] is always "order_placed"
    value: np.ndarray                      # (E,) float64, major units; negative where taken back
    cancelled_at: np.ndarray               # (E,) int64 µs at which an order was cancelled, or NEVER
    line_offsets: np.ndarray               # (E + 1,) int64
    line_item: np.ndarray                  # (L,) int32, index into `items`
    line_quantity: np.ndarray              # (L,) float32
    line_amount: np.ndarray                # (L,) float64, major units
    items: np.ndarray                      # (V,) str objects, sorted
    titles: np.ndarray                     # (V,) str objects, "" where unknown, as of the cutoff
    categories: np.ndarray                 # (V,) str objects, "" where unknown
    sales_day: np.ndarray                  # (S,) int32 days since the epoch, ascending
    sales_item: np.ndarray                 # (S,) int32
    sales_orders: np.ndarray               # (S,) int32 orders that day, anonymous ones included

    @property
    def is_order(self) -> np.ndarray:
        """(E,) bool: the event is an order of positive value."""
        return self.kind == 0

    @property
    def customer_of_event(self) -> np.ndarray:
        """(E,) int32: the customer each event belongs to."""
        sizes = np.diff(self.offsets)
        return np.repeat(np.arange(len(self.customers), dtype=np.int32), sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopRules:
    """What a shop declares about itself: its clock, its currency, and what is no item."""

    currency: str | None = None            # None: the most frequent one
    timezone: str = "UTC"
    not_item_codes: tuple[str, ...] = ()
    not_item_patterns: tuple[str, ...] = ()    # RE2, matched anywhere in the code


# one row per event that belongs to a customer, in reading order; an order told by two sources
# counts once, an order without positive value not at all
_EVENTS_SQL = """
WITH cancelled AS (
    SELECT "order", min(time) AS at FROM events
    WHERE name = 'order_cancelled' AND "order" IS NOT NULL AND epoch_us(time) <= $cutoff
    GROUP BY 1
), told AS (
    SELECT "order", min(source) AS source FROM events
    WHERE name = 'order_placed' AND "order" IS NOT NULL AND epoch_us(time) <= $cutoff
    GROUP BY 1
)
SELECT e.customer, epoch_us(e.time) AS time, e.name, e.lines,
       coalesce(CASE WHEN e.currency IS NULL OR e.currency = $currency THEN e.value_minor END, 0)
           AS value_minor,
       CASE WHEN e.name = 'order_placed' THEN coalesce(epoch_us(c.at), $never) ELSE $never END
           AS cancelled_at
FROM events e LEFT JOIN cancelled c USING ("order") LEFT JOIN told t USING ("order")
WHERE epoch_us(e.time) <= $cutoff AND e.customer IS NOT NULL
  AND (e.name <> 'order_placed'
       OR (e.value_minor > 0 AND (e."order" IS NULL OR e.source = t.source)))
ORDER BY e.customer, e.time, e.received, e.digest
"""

# one row per item and day on which an order of positive value held it, anonymous orders included
_SALES_SQL = """
WITH sold AS (
    SELECT DISTINCT coalesce("order", hex(digest)) AS told,
           epoch_us(time) // 86400000000 AS day, unnest(lines).item AS item
    FROM events
    WHERE name = 'order_placed' AND value_minor > 0 AND epoch_us(time) <= $cutoff
)
SELECT day::INTEGER AS day, item, count(*)::INTEGER AS orders
FROM sold GROUP BY ALL ORDER BY day, item
"""

# one row per item: the latest known title and category
_CATALOGUE_SQL = """
SELECT item, coalesce(arg_max(title, time) FILTER (title IS NOT NULL), '') AS title,
       coalesce(arg_max(category, time) FILTER (category IS NOT NULL), '') AS category
FROM catalogue WHERE epoch_us(time) <= $cutoff GROUP BY item ORDER BY item
"""


def sequences_from_events(
    events: pa.Table,
    catalogue: pa.Table | None = None,
    *,
    shop: str,
    cutoff: int,
    rules: ShopRules | None = None,
) -> Sequences:
    """`Sequences` of one shop from rows in the EVENTS and ITEMS schemas (habitue.lake.schema).

    Rows later than `cutoff` (µs) are ignored, so the result depends on nothing after it.
    """
    rules = rules or ShopRules()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", events)
        currency = rules.currency or _currency(connection, cutoff)
        scale = 10.0 ** currency_exponent(currency)
        bound = {"cutoff": cutoff, "never": NEVER, "currency": currency}
        rows = connection.sql(_EVENTS_SQL, params=bound).to_arrow_table()
        sales = connection.sql(_SALES_SQL, params={"cutoff": cutoff}).to_arrow_table()
        titles = _titles(connection, catalogue, cutoff)
    lines = _Lines.of(rows["lines"].combine_chunks())
    items = _recommendable(lines.item, sales["item"], titles["item"], rules)
    lines = lines.only(items)
    names = rows["name"].to_numpy(zero_copy_only=False).astype(object)
    kinds = ("order_placed", *sorted(set(names) - {"order_placed"}))
    customers, first = np.unique(
        rows["customer"].to_numpy(zero_copy_only=False).astype(str), return_index=True
    )
    sold = _positions(items, sales["item"])
    return Sequences(
        shop=shop,
        currency=currency,
        timezone=rules.timezone,
        cutoff=cutoff,
        customers=customers.astype(object),
        offsets=np.append(first, len(rows)).astype(np.int64),
        time=rows["time"].to_numpy(),
        kind=_codes(names, kinds),
        kinds=kinds,
        value=rows["value_minor"].to_numpy() / scale,
        cancelled_at=rows["cancelled_at"].to_numpy(),
        line_offsets=lines.offsets,
        line_item=_positions(items, pa.array(lines.item, pa.string())).astype(np.int32),
        line_quantity=lines.quantity,
        line_amount=lines.amount_minor / scale,
        items=items,
        titles=_column(titles, "title", items),
        categories=_column(titles, "category", items),
        sales_day=sales["day"].to_numpy()[sold >= 0],
        sales_item=sold[sold >= 0].astype(np.int32),
        sales_orders=sales["orders"].to_numpy()[sold >= 0],
    )


def build_sequences(
    lake: Lake, shop: str, *, cutoff: int, known_at: int | None = None
) -> Sequences:
    """`Sequences` of `shop` from the lake, as of `cutoff` and `known_at` (both µs, UTC)."""
    read = partial(
        query.read,
        lake,
        shop=shop,
        cutoff=instant(cutoff),
        known_at=None if known_at is None else instant(known_at),
    )
    settings = query.read(lake, "SELECT * FROM shop_settings", shop=shop).to_pylist()
    held = settings[-1] if settings else {}
    events = read(
        'SELECT source, digest, customer, name, time, received, value_minor, currency, "order", '
        "lines FROM events"
    )
    catalogue = read("SELECT item, time, title, category FROM items")
    rules = ShopRules(
        currency=held.get("currency"),
        timezone=held.get("timezone") or "UTC",
        not_item_codes=tuple(held.get("not_item_codes") or ()),
        not_item_patterns=tuple(held.get("not_item_patterns") or ()),
    )
    return sequences_from_events(events, catalogue, shop=shop, cutoff=cutoff, rules=rules)


def instant(microseconds: int) -> datetime:
    """An aware datetime from µs since the epoch."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))


def microseconds(time: datetime) -> int:
    """µs since the epoch of an aware datetime, exactly."""
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of every event, flat. (E + 1,) offsets and (L,) columns."""

    offsets: np.ndarray
    item: np.ndarray
    quantity: np.ndarray
    amount_minor: np.ndarray

    @classmethod
    def of(cls, lists: pa.ListArray) -> "_Lines":
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(lists)
        return cls(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            flat.field("item").to_numpy(zero_copy_only=False),
            flat.field("quantity").cast(pa.float64()).to_numpy().astype(np.float32),
            flat.field("amount_minor").to_numpy().astype(np.float64),
        )

    def only(self, items: np.ndarray) -> "_Lines":
        keep = _positions(items, pa.array(self.item, pa.string())) >= 0
        before = np.concatenate([[0], np.cumsum(keep)])
        return _Lines(
            before[self.offsets], self.item[keep], self.quantity[keep], self.amount_minor[keep]
        )


def _currency(connection: duckdb.DuckDBPyConnection, cutoff: int) -> str:
    rows = connection.execute(
        "SELECT mode(currency) FROM events WHERE epoch_us(time) <= ?", [cutoff]
    ).fetchall()                           # fetchone would leave the result open
    return rows[0][0] or NO_CURRENCY


def _titles(
    connection: duckdb.DuckDBPyConnection, catalogue: pa.Table | None, cutoff: int
) -> pa.Table:
    if catalogue is None:
        return pa.table({name: pa.array([], pa.string()) for name in ("item", "title", "category")})
    connection.register("catalogue", catalogue)
    return connection.sql(_CATALOGUE_SQL, params={"cutoff": cutoff}).to_arrow_table()


def _recommendable(
    lines: np.ndarray, sold: pa.ChunkedArray, listed: pa.ChunkedArray, rules: ShopRules
) -> np.ndarray:
    """(V,) every item seen or listed, sorted, without what the shop says is none."""
    parts = [pa.array(lines, pa.string()), sold.combine_chunks(), listed.combine_chunks()]
    items = pc.unique(pa.concat_arrays([part.cast(pa.string()) for part in parts]))
    keep = pc.invert(pc.is_in(items, pa.array(rules.not_item_codes, pa.string())))
    for pattern in rules.not_item_patterns:
        keep = pc.and_(keep, pc.invert(pc.match_substring_regex(items, pattern)))
    kept = items.filter(pc.and_(pc.fill_null(keep, False), pc.is_valid(items)))
    return np.sort(kept.to_numpy(zero_copy_only=False).astype(object))


def _positions(items: np.ndarray, values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Where each value stands in `items`, -1 where it does not."""
    found = pc.index_in(values, pa.array(items, pa.string()))
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False)


def _codes(names: np.ndarray, kinds: tuple[str, ...]) -> np.ndarray:
    found = pc.index_in(pa.array(names, pa.string()), pa.array(kinds, pa.string()))
    return found.to_numpy(zero_copy_only=False).astype(np.int16)


def _column(catalogue: pa.Table, name: str, items: np.ndarray) -> np.ndarray:
    texts = np.full(len(items), "", dtype=object)
    at = _positions(items, catalogue["item"])
    values = catalogue[name].to_numpy(zero_copy_only=False)
    texts[at[at >= 0]] = values[at >= 0]
    return texts


def part(sequences: Sequences, customers: np.ndarray) -> Sequences:
    """Some customers (indices, each once) as a shop of their own, in the given order.

    Items, kinds, sales and cutoff stay those of the whole shop.
    """
    events, offsets = members(sequences.offsets, customers)
    lines, line_offsets = members(sequences.line_offsets, events)
    return replace(
        sequences,
        customers=sequences.customers[customers],
        offsets=offsets,
        time=sequences.time[events],
        kind=sequences.kind[events],
        value=sequences.value[events],
        cancelled_at=sequences.cancelled_at[events],
        line_offsets=line_offsets,
        line_item=sequences.line_item[lines],
        line_quantity=sequences.line_quantity[lines],
        line_amount=sequences.line_amount[lines],
    )


def members(offsets: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that some owners hold, owner by owner, and the offsets of the owners among them.

    Owner i holds rows offsets[i]:offsets[i + 1].

    >>> members(np.array([0, 2, 2, 5]), np.array([2, 0]))
    (array([2, 3, 4, 0, 1]), array([0, 3, 5]))
    """
    start = offsets[owners]
    sizes = offsets[owners + 1] - start
    held = np.concatenate([[0], np.cumsum(sizes)])
    return np.arange(held[-1]) + np.repeat(start - held[:-1], sizes), held


def upto(sequences: Sequences, cutoff: int) -> Sequences:
    """The same shop as of an earlier cutoff (µs): its events, customers and items by then.

    Titles stay as they were known at the later cutoff; all else is what `build_sequences` gives.
    """
    kept = sequences.time <= cutoff
    sold = sequences.sales_day < cutoff // DAY
    lines = np.repeat(kept, np.diff(sequences.line_offsets))
    used = np.zeros(len(sequences.items), dtype=bool)
    used[sequences.line_item[lines]] = True
    used[sequences.sales_item[sold]] = True
    place = np.cumsum(used) - 1
    owner = sequences.customer_of_event[kept]
    known = np.bincount(owner, minlength=len(sequences.customers)) > 0
    sizes = np.bincount(owner, minlength=len(sequences.customers))[known]
    line_sizes = np.diff(sequences.line_offsets)[kept]
    return Sequences(
        shop=sequences.shop,
        currency=sequences.currency,
        timezone=sequences.timezone,
        cutoff=cutoff,
        customers=sequences.customers[known],
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        time=sequences.time[kept],
        kind=sequences.kind[kept],
        kinds=sequences.kinds,
        value=sequences.value[kept],
        cancelled_at=np.where(
            sequences.cancelled_at[kept] <= cutoff, sequences.cancelled_at[kept], NEVER
        ),
        line_offsets=np.concatenate([[0], np.cumsum(line_sizes)]).astype(np.int64),
        line_item=place[sequences.line_item[lines]].astype(np.int32),
        line_quantity=sequences.line_quantity[lines],
        line_amount=sequences.line_amount[lines],
        items=sequences.items[used],
        titles=sequences.titles[used],
        categories=sequences.categories[used],
        sales_day=sequences.sales_day[sold],
        sales_item=place[sequences.sales_item[sold]].astype(np.int32),
        sales_orders=sequences.sales_orders[sold],
    )
