"""Rows of events become flat arrays, some customers at a time.

A shop's events are read part by part. A part holds all that its customers did, so each can be
sorted and cut alone; what crosses parts (orders that were cancelled, or told twice) is known before
the first one. What stays of a part is numbers: texts become codes as they come. In the end each
part's rows are put where the sorted customers want them.
"""

# C customers · E events · L order lines · V items · S rows of daily item sales
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.sequences.ragged import members, offsets_of

NEVER = np.iinfo(np.int64).max
ORDER = "order_placed"
# what is read of a part
COLUMNS = (
    'source, digest, customer, name, "time", received, value_minor, currency, "order", lines'
)
Read = Callable[[str, list[object]], pa.Table]         # the answer to SQL over the view `events`
Rows = tuple[pa.Table, pa.Table]           # the answers to _EVENTS_SQL and _SALES_SQL over a part
NO_SALES = pa.schema(
    [("again", pa.string()), ("day", pa.int32()), ("item", pa.string()), ("orders", pa.int64())]
).empty_table()

# one row per order that was cancelled: when, at first, whoever told of it
_CANCELLED_SQL = """
SELECT "order", epoch_us(min("time")) AS at FROM events
WHERE name = 'order_cancelled' AND "order" IS NOT NULL GROUP BY 1
"""

# one row per order that was told more than once, and the source that counts; of one share of all
# orders, since finding them holds every order of the share
_TOLD_SQL = """
SELECT "order", min(source) AS source FROM events
WHERE name = 'order_placed' AND "order" IS NOT NULL AND hash("order") % ? = ?
GROUP BY 1 HAVING count(*) > 1
"""

# one row per event of the part that belongs to a customer, in reading order; an order told by two
# sources counts once, an order without positive value not at all. Lines that were told apart from
# their order join it where it has none of its own, and if they were told by then: a token knows
# nothing later than its time
_EVENTS_SQL = """
WITH apart AS (
    SELECT o.digest, flatten(list(i.lines)) AS lines
    FROM events o JOIN events i
        ON i."order" = o."order" AND i.source = o.source AND i.customer = o.customer
        AND i.name = 'item_ordered' AND i.time <= o.time
    WHERE o.name = 'order_placed' AND coalesce(len(o.lines), 0) = 0
    GROUP BY o.digest
)
SELECT e.customer, epoch_us(e.time) AS time, e.name, coalesce(a.lines, e.lines) AS lines,
       coalesce(CASE WHEN e.currency IS NULL OR e.currency = $currency THEN e.value_minor END, 0)
           AS value_minor,
       CASE WHEN e.name = 'order_placed' THEN coalesce(c.at, $never) ELSE $never END
           AS cancelled_at
FROM events e LEFT JOIN cancelled c USING ("order") LEFT JOIN told t USING ("order")
    LEFT JOIN apart a ON a.digest = e.digest
WHERE e.customer IS NOT NULL AND e.name NOT IN ('item_ordered', 'recommendations_shown')
  AND (e.name <> 'order_placed'
       OR (e.value_minor > 0 AND (t.source IS NULL OR e.source = t.source)))
ORDER BY e.customer, e.time, e.received, e.digest
"""

# one row per item and day on which an order of positive value held it, anonymous orders included;
# orders told more than once stand apart, since another part may tell of them too
_SALES_SQL = """
WITH sold AS (
    SELECT DISTINCT coalesce(e."order", hex(e.digest)) AS told, t.source IS NOT NULL AS again,
           epoch_us(e.time) // 86400000000 AS day, unnest(e.lines).item AS item
    FROM events e LEFT JOIN told t USING ("order")
    WHERE e.name = 'order_placed' AND e.value_minor > 0
)
SELECT CASE WHEN again THEN told END AS again, day::INTEGER AS day, item, count(*) AS orders
FROM sold GROUP BY ALL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds of a whole shop while its events are read part by part."""

    currency: str                          # values of others count as nothing
    scale: float                           # minor units in one of it
    is_item: Callable[[pa.Array], pa.Array]    # of texts: whether the shop would recommend it
    listed: pa.Array                       # items of the catalogue
    cancelled: pa.Table                    # _CANCELLED_SQL
    told: pa.Table                         # _TOLD_SQL


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """All parts together, customers sorted; fields as in `Sequences`."""

    customers: np.ndarray                  # (C,) str objects
    offsets: np.ndarray                    # (C + 1,) int64
    time: np.ndarray                       # (E,) int64
    kind: np.ndarray                       # (E,) int16
    kinds: tuple[str, ...]
    value: np.ndarray                      # (E,) float64
    cancelled_at: np.ndarray               # (E,) int64
    line_offsets: np.ndarray               # (E + 1,) int64
    line_item: np.ndarray                  # (L,) int32
    line_quantity: np.ndarray              # (L,) float32
    line_amount: np.ndarray                # (L,) float64
    items: np.ndarray                      # (V,) str objects, sorted
    sales_day: np.ndarray                  # (S,) int32
    sales_item: np.ndarray                 # (S,) int32
    sales_orders: np.ndarray               # (S,) int32


def cancelled_orders(read: Read) -> pa.Table:
    """Order and the instant (µs) `at` which it was first cancelled."""
    return read(_CANCELLED_SQL, [])


def orders_told_again(read: Read, *, shares: int) -> pa.Table:
    """Order and the source that counts; looked through in so many shares, to bound the memory."""
    return pa.concat_tables(read(_TOLD_SQL, [shares, share]) for share in range(shares))


def flatten(parts: Iterable[Rows], terms: Terms) -> Flat:
    """The arrays of a shop from the rows of its parts; no customer is in two of them."""
    items, kinds = _Codes(terms.is_item), _Codes()
    kinds.of(pa.array([ORDER]))
    items.of(terms.listed)
    held, sales = [], _Sales(items)
    for rows, sold in parts:
        held.append(_columns_of(rows, items, kinds, terms.scale))
        sales.add(sold)
        del rows, sold
        pa.default_memory_pool().release_unused()      # else Arrow keeps the room of every part
    places, customers = _sorted_apart([part.pop("customers") for part in held])
    sizes = _put_together([part.pop("sizes") for part in held], places)
    offsets = offsets_of(sizes)
    events = [members(offsets, place)[0] for place in places]
    line_sizes = _put_together([part.pop("line_sizes") for part in held], events)
    line_offsets = offsets_of(line_sizes)

    def together(name: str) -> np.ndarray:
        # of lines the places are found anew for each column: kept, they would outweigh it
        if name.startswith("line_"):
            where = (members(line_offsets, rows)[0] for rows in events)
            return _put_together([part.pop(name) for part in held], where)
        return _put_together([part.pop(name) for part in held], events)

    kind_names, kind_places = kinds.in_order(first=ORDER)
    item_names, item_places = items.in_order()
    day, code, orders = sales.columns()
    item = item_places[code]
    by_day = np.lexsort((item, day))
    return Flat(
        customers=customers,
        offsets=offsets,
        kinds=tuple(kind_names),
        items=item_names,
        time=together("time"),
        kind=kind_places.astype(np.int16)[together("kind")],
        value=together("value"),
        cancelled_at=together("cancelled_at"),
        line_offsets=line_offsets,
        line_item=item_places[together("line_item")],
        line_quantity=together("line_quantity"),
        line_amount=together("line_amount"),
        sales_day=day[by_day],
        sales_item=item[by_day],
        sales_orders=orders[by_day],
    )


class _Codes:
    """Numbers of texts, given as they come: the same text has the same number."""

    def __init__(self, wanted: Callable[[pa.Array], pa.Array] | None = None) -> None:
        self._wanted = wanted
        self._of: dict[str, int] = {}

    def of(self, texts: pa.Array) -> np.ndarray:
        """(N,) int32, -1 where there is no text or one that is not wanted."""
        encoded = texts.dictionary_encode()
        distinct = encoded.dictionary
        wanted = [True] * len(distinct)
        if self._wanted is not None:
            wanted = self._wanted(distinct).to_pylist()
        numbers = [
            self._of.setdefault(text, len(self._of)) if kept else -1
            for text, kept in zip(distinct.to_pylist(), wanted, strict=True)
        ]
        places = pc.fill_null(encoded.indices, len(numbers)).to_numpy(zero_copy_only=False)
        return np.array([*numbers, -1], dtype=np.int32)[places]

    def in_order(self, first: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The texts (V,) str objects sorted, `first` before them, and the place (V,) of each."""
        texts = np.array([*self._of, None], dtype=object)[:-1]
        texts = np.sort(texts[texts != first])
        if first is not None:
            texts = np.array([first, *texts], dtype=object)
        places = np.empty(len(texts), dtype=np.int32)
        places[[self._of[text] for text in texts]] = np.arange(len(texts))
        return texts, places


def _columns_of(
    rows: pa.Table, items: _Codes, kinds: _Codes, scale: float
) -> dict[str, np.ndarray]:
    """The answer to _EVENTS_SQL as columns of `Flat`, with sizes for offsets and codes for texts.

    customers and sizes (C,), line_sizes (E,); lines that are no item are left out.
    """
    owners = rows["customer"].combine_chunks().dictionary_encode()
    lists = rows["lines"].combine_chunks()
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    lines = pc.list_flatten(lists)
    item = items.of(lines.field("item"))
    kept = item >= 0
    before = offsets_of(kept)[offsets_of(counts)]
    quantity = lines.field("quantity").cast(pa.float64()).to_numpy()
    return {
        "customers": np.array([*owners.dictionary.to_pylist(), None], dtype=object)[:-1],
        "sizes": np.bincount(owners.indices.to_numpy(), minlength=len(owners.dictionary)),
        "time": rows["time"].to_numpy(),
        "kind": kinds.of(rows["name"].combine_chunks()).astype(np.int16),
        "value": rows["value_minor"].to_numpy() / scale,
        "cancelled_at": rows["cancelled_at"].to_numpy(),
        "line_sizes": np.diff(before).astype(np.int32),
        "line_item": item[kept],
        "line_quantity": quantity[kept].astype(np.float32),
        "line_amount": lines.field("amount_minor").to_numpy()[kept] / scale,
    }


def _sorted_apart(names: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """The place of each part's customers among all, and all of them (C,), sorted."""
    everyone = np.concatenate([np.empty(0, object), *names])
    order = np.argsort(everyone, kind="stable")
    everyone = everyone[order]
    assert not np.any(everyone[1:] == everyone[:-1]), "a part holds all of its customers' events"
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    ends = np.cumsum([len(part) for part in names])
    return np.split(place, ends[:-1]), everyone


def _put_together(columns: list[np.ndarray], places: Iterable[np.ndarray]) -> np.ndarray:
    """One column from those of the parts, which are let go, given the place of every row."""
    whole = np.empty(sum(len(column) for column in columns), dtype=columns[0].dtype)
    columns.reverse()
    for place in places:
        whole[place] = columns.pop()
    return whole


def rows_of(
    part: pa.Table, terms: Terms, connection: duckdb.DuckDBPyConnection | None = None
) -> Rows:
    """What `flatten` wants of a part, a table of COLUMNS that holds all that its customers did.

    To open a connection takes longer than a few customers do: who has one may lend it.
    """
    if connection is None:
        with duckdb.connect() as opened:
            return rows_of(part, terms, opened)
    connection.execute("SET TimeZone = 'UTC'")
    for name, table in (("events", part), ("cancelled", terms.cancelled), ("told", terms.told)):
        connection.register(name, table)
    bound = {"never": NEVER, "currency": terms.currency}
    rows = connection.sql(_EVENTS_SQL, params=bound).to_arrow_table()
    return rows, connection.sql(_SALES_SQL).to_arrow_table()


def rows_among(part: pa.Table, currency: str) -> pa.Table | None:
    """The answer to _EVENTS_SQL over the events of a few customers, in less time than to ask it.

    None where lines were told apart from their orders, which only the database joins.
    """
    name = part["name"].combine_chunks()
    if pc.any(pc.equal(name, "item_ordered")).as_py():
        return None
    placed = _flags(pc.equal(name, ORDER))
    order = pc.fill_null(part["order"].combine_chunks().dictionary_encode().indices, -1).to_numpy()
    minor = pc.fill_null(part["value_minor"], 0).to_numpy()
    is_own = _flags(pc.fill_null(pc.equal(part["currency"], currency), True))
    time = part["time"].cast(pa.int64())
    at = np.full(len(part) + 1, NEVER)     # by order; the last, of those without a number, stays
    gone = _flags(pc.equal(name, "order_cancelled")) & (order >= 0)
    np.minimum.at(at, order[gone], time.to_numpy()[gone])
    kept = _flags(pc.is_valid(part["customer"])) & ~_flags(pc.equal(name, "recommendations_shown"))
    kept &= ~placed | ((minor > 0) & _counts(part, order, placed))
    found = pa.table(
        {
            "customer": part["customer"],
            "time": time,
            "name": name,
            "lines": part["lines"],
            "value_minor": np.where(is_own, minor, 0),
            "cancelled_at": np.where(placed, at[order], NEVER),
            "received": part["received"],
            "digest": part["digest"],
        }
    )
    by = [(key, "ascending") for key in ("customer", "time", "received", "digest")]
    return found.filter(kept).sort_by(by).drop_columns(["received", "digest"])


def _counts(part: pa.Table, order: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """(E,) bool: of an order that several sources placed, the first one's telling of it."""
    numbered = placed & (order >= 0)
    again = np.bincount(order[numbered], minlength=len(part) + 1)[order] > 1
    counts = np.ones(len(part), dtype=bool)
    source = part["source"].to_pylist()
    rows = np.flatnonzero(numbered & again)
    for one in np.unique(order[rows]):
        told = rows[order[rows] == one]
        first = min(source[row] for row in told)
        counts[told] = [source[row] == first for row in told]
    return counts


def _flags(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False)


class _Sales:
    """Orders that held an item on a day, gathered part by part; one told in two counts once."""

    def __init__(self, items: _Codes) -> None:
        self._items = items
        self._pairs = np.empty(0, np.int64)            # (S,) day * 2**32 + code, ascending
        self._orders = np.empty(0, np.int64)           # (S,)
        self._again: list[pa.Table] = []

    def add(self, sold: pa.Table) -> None:
        """The answer to _SALES_SQL over one part."""
        if not len(sold):
            return
        codes = self._items.of(sold["item"].combine_chunks())
        sold = sold.drop_columns("item").append_column("code", pa.array(codes))
        sold = sold.filter(pc.field("code") >= 0)
        again = pc.is_valid(sold["again"])
        self._again.append(sold.filter(again))
        self._count(sold.filter(pc.invert(again)))

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(S,) int32 day, code and orders."""
        if self._again:
            told = pa.concat_tables(self._again).group_by(["again", "day", "code"]).aggregate([])
            self._count(told.append_column("orders", pa.repeat(1, len(told))))
        day, code = self._pairs >> 32, self._pairs & 0xFFFFFFFF
        return day.astype(np.int32), code.astype(np.int32), self._orders.astype(np.int32)

    def _count(self, sold: pa.Table) -> None:
        pairs = (sold["day"].to_numpy().astype(np.int64) << 32) + sold["code"].to_numpy()
        orders = np.concatenate([self._orders, sold["orders"].to_numpy()])
        self._pairs, place = np.unique(np.concatenate([self._pairs, pairs]), return_inverse=True)
        counted = np.bincount(place, weights=orders, minlength=len(self._pairs))
        self._orders = counted.astype(np.int64)
