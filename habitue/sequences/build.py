"""`Sequences`: every customer's events up to a cutoff, as flat arrays, in time order."""

# C customers · E events · L order lines · V items · S rows of daily item sales
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.events import NO_CURRENCY, currency_exponent
from habitue.lake import query
from habitue.lake.tables import Lake
from habitue.lake.views.orders import USUAL_CURRENCY
from habitue.sequences.flatten import (
    COLUMNS,
    NO_SALES,
    Flat,
    Read,
    Rows,
    Terms,
    cancelled_orders,
    flatten,
    orders_told_again,
    rows_among,
    rows_of,
)
from habitue.sequences.flatten import NEVER as NEVER
from habitue.sequences.ragged import members

DAY = 86_400_000_000                       # microseconds
EVENTS_AT_ONCE = 250_000                   # read from the lake
Over = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]    # shaped like `map`


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


# one row per item: the latest known title and category
_CATALOGUE_SQL = """
SELECT item, coalesce(arg_max(title, (time, title)) FILTER (title IS NOT NULL), '') AS title,
       coalesce(arg_max(category, (time, category)) FILTER (category IS NOT NULL), '') AS category
FROM catalogue WHERE epoch_us(time) <= $cutoff GROUP BY item ORDER BY item
"""

# one row per bucket in which the shop has customers: all keys of a customer count to one
_BUCKETS_SQL = (
    "SELECT customer_bucket AS bucket, count(*) AS events FROM events GROUP BY 1 ORDER BY 1"
)
# one row per event of some buckets, or of a share of a large one's customers
_RUN_SQL = f"""
SELECT {COLUMNS} FROM events
WHERE customer_bucket BETWEEN ? AND ? AND hash(coalesce(customer, hex(digest))) % ? = ?
"""


def sequences_from_events(
    events: pa.Table,
    catalogue: pa.Table | None = None,
    *,
    shop: str,
    cutoff: int,
    rules: ShopRules | None = None,
    connection: duckdb.DuckDBPyConnection | None = None,
) -> Sequences:
    """`Sequences` of one shop from rows in the EVENTS and ITEMS schemas (habitue.lake.schema).

    Rows later than `cutoff` (µs) are ignored, so the result depends on nothing after it. Who asks
    often lends a connection, which takes longer to open than a few customers do.
    """
    if connection is None:
        with duckdb.connect() as opened:
            return sequences_from_events(
                events, catalogue, shop=shop, cutoff=cutoff, rules=rules, connection=opened
            )
    rules = rules or ShopRules()
    known = _upto(events, cutoff)
    titles = _titles(catalogue, cutoff)
    connection.register("events", known)
    terms = _terms(partial(_asked, connection), titles, rules, shares=1)
    rows = rows_of(known, terms, connection)
    for name in ("events", "cancelled", "told"):
        connection.unregister(name)
    flat = flatten([rows], terms)
    return _sequences(
        flat, titles, shop=shop, cutoff=cutoff, currency=terms.currency, timezone=rules.timezone
    )


def build_sequences(
    lake: Lake, shop: str, *, cutoff: int, known_at: int | None = None, over: Over = map
) -> Sequences:
    """`Sequences` of `shop` from the lake, as of `cutoff` and `known_at` (both µs, UTC).

    Read a few buckets at a time, or a large one share by share, so that about EVENTS_AT_ONCE rows
    are held beside the arrays. `over` may do so elsewhere, as long as results keep their order.
    """
    ask = partial(
        query.read,
        lake,
        shop=shop,
        cutoff=instant(cutoff),
        known_at=None if known_at is None else instant(known_at),
    )
    rules = rules_of(lake, shop)
    runs = _runs(tuple(row.values()) for row in ask(_BUCKETS_SQL).to_pylist())
    titles = _titles(ask("SELECT item, time, title, category FROM items"), cutoff)
    terms = _terms(ask, titles, rules, shares=len(runs))
    flat = flatten(over(partial(_rows_of_run, ask, terms), runs), terms)
    return _sequences(
        flat, titles, shop=shop, cutoff=cutoff, currency=terms.currency, timezone=rules.timezone
    )


def rules_of(lake: Lake, shop: str) -> ShopRules:
    """What a shop declares about itself, as it stands now."""
    settings = query.read(lake, "SELECT * FROM shop_settings", shop=shop).to_pylist()
    held = settings[-1] if settings else {}
    return ShopRules(
        currency=held.get("currency"),
        timezone=held.get("timezone") or "UTC",
        not_item_codes=tuple(held.get("not_item_codes") or ()),
        not_item_patterns=tuple(held.get("not_item_patterns") or ()),
    )


def sequences_among(
    events: pa.Table,
    shop: Sequences,
    rules: ShopRules,
    *,
    cutoff: int,
    connection: duckdb.DuckDBPyConnection | None = None,
) -> Sequences:
    """Some customers' events up to `cutoff` (µs), told with the items and sales of a built shop.

    `events` are all rows of theirs, as `sequences_from_events` takes them. Lines of items that the
    shop did not have when it was built are left out; the order and its value count.
    """
    rules = replace(rules, currency=shop.currency)
    rows = rows_among(_upto(events, cutoff), shop.currency)
    if rows is None:
        held = sequences_from_events(
            events, shop=shop.shop, cutoff=cutoff, rules=rules, connection=connection
        )
    else:
        held = _among(rows, shop, rules, cutoff)
    item = _places(shop.items, held.items)[held.line_item]
    known = item >= 0
    before = np.concatenate([[0], np.cumsum(known)])
    return replace(
        held,
        line_offsets=before[held.line_offsets],
        line_item=item[known],
        line_quantity=held.line_quantity[known],
        line_amount=held.line_amount[known],
        items=shop.items,
        titles=shop.titles,
        categories=shop.categories,
        sales_day=shop.sales_day,
        sales_item=shop.sales_item,
        sales_orders=shop.sales_orders,
    )


def _upto(events: pa.Table, cutoff: int) -> pa.Table:
    """The rows up to an instant (µs)."""
    return events.filter(pc.less_equal(events["time"].cast(pa.int64()), cutoff))


def _among(rows: pa.Table, shop: Sequences, rules: ShopRules, cutoff: int) -> Sequences:
    """What `rows_among` found as `Sequences`, without sales, which are the shop's anyway."""
    titles, nothing = _titles(None, cutoff), pa.table({})
    terms = Terms(
        currency=shop.currency,
        scale=10.0 ** currency_exponent(shop.currency),
        is_item=partial(_recommendable, rules=rules),
        listed=titles["item"].combine_chunks(),
        cancelled=nothing,                 # as what was told twice: the rows know it already
        told=nothing,
    )
    flat = flatten([(rows, NO_SALES)], terms)
    return _sequences(
        flat, titles, shop=shop.shop, cutoff=cutoff, currency=shop.currency,
        timezone=rules.timezone,
    )  # fmt: skip


def _asked(
    connection: duckdb.DuckDBPyConnection, sql: str, values: list[object]
) -> pa.Table:
    return connection.sql(sql, params=values).to_arrow_table()


def _rows_of_run(read: Read, terms: Terms, run: tuple[int, int, int, int]) -> Rows:
    return rows_of(read(_RUN_SQL, list(run)), terms)


def instant(microseconds: int) -> datetime:
    """An aware datetime from µs since the epoch."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))


def microseconds(time: datetime) -> int:
    """µs since the epoch of an aware datetime, exactly."""
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _runs(buckets: Iterable[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """(first bucket, last, shares, share) of readings of EVENTS_AT_ONCE events at most, about.

    `buckets` are numbers with how many events each holds.

    >>> _runs([(0, 100_000), (1, 100_000), (2, 600_000)])
    [(0, 1, 1, 0), (2, 2, 3, 0), (2, 2, 3, 1), (2, 2, 3, 2)]
    """
    runs: list[tuple[int, int, int]] = []              # first, last, events
    for bucket, events in buckets:
        if runs and runs[-1][2] + events <= EVENTS_AT_ONCE:
            first, _, held = runs.pop()
            runs.append((first, bucket, held + events))
        else:
            runs.append((bucket, bucket, events))
    return [
        (first, last, shares, share)
        for first, last, events in runs or [(0, 0, 1)]
        for shares in [-(-events // EVENTS_AT_ONCE)]
        for share in range(shares)
    ]


def _terms(read: Read, titles: pa.Table, rules: ShopRules, *, shares: int) -> Terms:
    """What holds of the whole shop."""
    currency = rules.currency or read(USUAL_CURRENCY, []).to_pylist()[0]["currency"] or NO_CURRENCY
    return Terms(
        currency=currency,
        scale=10.0 ** currency_exponent(currency),
        is_item=partial(_recommendable, rules=rules),
        listed=titles["item"].combine_chunks(),
        cancelled=cancelled_orders(read),
        told=orders_told_again(read, shares=shares),
    )


def _sequences(
    flat: Flat, titles: pa.Table, *, shop: str, cutoff: int, currency: str, timezone: str
) -> Sequences:
    arrays = {field.name: getattr(flat, field.name) for field in fields(flat)}
    return Sequences(
        shop=shop,
        currency=currency,
        timezone=timezone,
        cutoff=cutoff,
        titles=_column(titles, "title", flat.items),
        categories=_column(titles, "category", flat.items),
        **arrays,
    )


def _titles(catalogue: pa.Table | None, cutoff: int) -> pa.Table:
    """The answer to _CATALOGUE_SQL; nothing without a catalogue."""
    if catalogue is None:
        return pa.table({name: pa.array([], pa.string()) for name in ("item", "title", "category")})
    with duckdb.connect() as connection:
        connection.register("catalogue", catalogue)
        return connection.sql(_CATALOGUE_SQL, params={"cutoff": cutoff}).to_arrow_table()


def _recommendable(items: pa.Array, rules: ShopRules) -> pa.Array:
    """Bool of each item: the shop does not say that it is none."""
    keep = pc.invert(pc.is_in(items, pa.array(rules.not_item_codes, pa.string())))
    for pattern in rules.not_item_patterns:
        keep = pc.and_(keep, pc.invert(pc.match_substring_regex(items, pattern)))
    return pc.fill_null(keep, False)


def _positions(items: np.ndarray, values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Where each value stands in `items`, -1 where it does not."""
    found = pc.index_in(values, pa.array(items, pa.string()))
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False)


def _places(items: np.ndarray, some: np.ndarray) -> np.ndarray:
    """(N,) int32 where each of some texts stands in sorted ones, -1 where it does not.

    For a few of many, since it looks at no more than it must.
    """
    place = np.searchsorted(items, some)
    is_known = place < len(items)
    is_known[is_known] = items[place[is_known]] == some[is_known]
    return np.where(is_known, place, -1).astype(np.int32)


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
