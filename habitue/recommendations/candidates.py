"""What each source says of every item at an instant: personal, co-purchased, popular.

A `Past` is everything the recommenders know as of an instant; nothing later enters it, whatever
the sequences hold beyond.
"""

# C customers · B of them in a batch · V items · P (customer, item) pairs that were bought
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from habitue.sequences.build import DAY, Sequences

# (B,) customers -> (B, V) float32 log-probabilities that a model gives to their next items
ModelScores = Callable[[np.ndarray], np.ndarray]

POPULARITY_DAYS = (7, 28, 90, 365)
AGAIN = 0.05                               # share of buyers who buy an item again, if it is used up
BATCH_CELLS = 1 << 22                      # of a dense (B, V) block: 16 MiB of float32
_FADING = 0.7                              # what an order counts beside the one after it
_MEMORY_DAYS = 120.0                       # for co-purchases: weight 1/e after so long
_NEIGHBOURS = 100                          # kept per item
_ROWS = 1 << 12                            # items whose neighbours are looked for together
_TASTE_PRIOR = 5.0                         # items' worth of the shop's shares of categories
_SHRINK = 10.0                             # joint buyers it takes to believe half a similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A shop's orders as of an instant, by customer and item.

    The (P,) columns run along the entries of `counts`, row by row.
    """

    at: int                                # µs
    known: np.ndarray                      # (C,) bool: has an event at or before `at`
    counts: sp.csr_matrix                  # (C, V) orders of the customer that held the item
    last_days: np.ndarray                  # (P,) since the latest of them
    gap_days: np.ndarray                   # (P,) mean between them, nan for a single one
    fading: np.ndarray                     # (P,) their number, each weighing .7 of the next
    spend: np.ndarray                      # (P,) over the mean of the customer's pairs
    recent: sp.csr_matrix                  # (C, V) weights of past items, rows sum to one
    popularity: np.ndarray                 # (4, V) orders within POPULARITY_DAYS, of anyone
    repeat_rate: np.ndarray                # (V,) share of buyers who bought it again, shrunk
    neighbours: sp.csr_matrix              # (V, V) similarity to the items bought beside it
    category: np.ndarray                   # (V,) int64, -1 where unknown
    sold: np.ndarray                       # (V,) over all customers of the shop, `counts` summed
    lenders: sp.csr_matrix | None = None   # (V, V) shares that new items borrow from others
    typical: "Typical | None" = None       # of the whole catalogue; none: of these items

    @property
    def shape(self) -> tuple[int, int]:
        """Customers and items."""
        return self.counts.shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """What items are measured against, over a whole catalogue."""

    popular: np.ndarray                    # (4,) mean logarithm of `popularity` of what is on sale
    on_sale: int                           # items that were sold within a year
    category_sold: np.ndarray              # (K,) `sold` by category


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Some customers' bought items: which row of the batch, which item, which entry of P."""

    row: np.ndarray
    item: np.ndarray
    entry: np.ndarray


def past_of(sequences: Sequences, at: int, shop: Past | None = None) -> Past:
    """The orders at or before `at` (µs) that are not cancelled by then.

    Of some customers alone, what is of the whole shop is that of `shop`, over the same items.
    """
    customers, items = len(sequences.customers), len(sequences.items)
    told = sequences.time <= at
    counted = told & sequences.is_order & (sequences.cancelled_at > at)
    of_event = sequences.customer_of_event
    event, item, amount = _held(sequences, counted)
    age = (at - sequences.time[event]) / DAY
    back = _orders_back(of_event, counted, customers)[event]

    key = of_event[event].astype(np.int64) * items + item
    order = np.argsort(key, kind="stable")             # within a pair, by time
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    count = np.diff(starts, append=len(order))
    last = age[order][starts + count - 1]
    span = age[order][starts] - last
    pair_customer, pair_item = np.divmod(key[order][starts], max(items, 1))

    def table(values: np.ndarray) -> sp.csr_matrix:
        matrix = sp.csr_matrix((customers, items), dtype=np.float32)
        matrix.indptr = np.searchsorted(pair_customer, np.arange(customers + 1))
        matrix.indices, matrix.data = pair_item.astype(np.int32), values.astype(np.float32)
        return matrix

    spend = _summed(amount[order], starts)
    memory = _summed(np.exp(-age / _MEMORY_DAYS)[order], starts)
    counts = table(count)
    own: dict[str, Any] = {
        "at": at,
        "known": np.bincount(of_event[told], minlength=customers) > 0,
        "counts": counts,
        "last_days": last,
        "gap_days": np.where(count > 1, span / np.maximum(count - 1, 1), np.nan),
        "fading": _summed((_FADING**back)[order], starts),
        "spend": _per_mean(spend, pair_customer, customers),
        "recent": table(_per_sum(memory, pair_customer, customers)),
    }
    if shop is not None:
        return replace(shop, **own)
    return Past(
        **own,
        popularity=np.stack([popularity(sequences, at, days) for days in POPULARITY_DAYS]),
        repeat_rate=_repeat_rate(count, pair_item, items),
        neighbours=similar_items(table(np.ones(len(starts)))),
        category=_category(sequences),
        sold=np.asarray(counts.sum(axis=0)).ravel(),
    )


def typical_of(past: Past) -> Typical:
    """What the items of a past are measured against."""
    if past.typical is not None:
        return past.typical
    on_sale, known = past.popularity[-1] > 0, past.category >= 0
    popular = np.log1p(past.popularity)[:, on_sale]
    kinds = int(past.category.max(initial=-1)) + 1
    return Typical(
        popular=popular.mean(axis=1) if on_sale.any() else np.zeros(len(popular)),
        on_sale=int(on_sale.sum()),
        category_sold=np.bincount(past.category[known], past.sold[known], minlength=kinds),
    )


def popularity(sequences: Sequences, at: int, days: int) -> np.ndarray:
    """(V,) orders that held each item in the last `days` whole days (UTC) before `at`.

    Anonymous orders count; the day `at` falls in is not over and does not.
    """
    today = at // DAY
    within = (sequences.sales_day < today) & (sequences.sales_day >= today - days)
    orders = sequences.sales_orders[within]
    return np.bincount(sequences.sales_item[within], orders, len(sequences.items))


def pairs_of(past: Past, customers: np.ndarray) -> Pairs:
    """What the customers of a batch have bought."""
    low, high = past.counts.indptr[customers], past.counts.indptr[customers + 1]
    sizes = high - low
    row = np.repeat(np.arange(len(customers)), sizes)
    entry = np.arange(len(row)) + np.repeat(low - (np.cumsum(sizes) - sizes), sizes)
    return Pairs(row=row, item=past.counts.indices[entry], entry=entry)


def ordered_within(sequences: Sequences, start: int, end: int) -> sp.csr_matrix:
    """(C, V) ones where the customer ordered the item in (start, end] (µs)."""
    within = (sequences.time > start) & (sequences.time <= end) & sequences.is_order
    event, item, _ = _held(sequences, within)
    shape = (len(sequences.customers), len(sequences.items))
    customer = sequences.customer_of_event[event]
    return sp.csr_matrix((np.ones(len(item), np.float32), (customer, item)), shape).sign()


def frequency(past: Past, customers: np.ndarray) -> np.ndarray:
    """(B, V) float32: how many orders of the customer held the item."""
    return past.counts[customers].toarray()


def co_purchases(past: Past, customers: np.ndarray) -> np.ndarray:
    """(B, V) float32: mean similarity of the item to what the customer bought, lately above all."""
    return (past.recent[customers] @ past.neighbours).toarray()


def category_taste(past: Past, customers: np.ndarray) -> np.ndarray:
    """(B, V) float32: the customer's taste for the item's category; 0 where nothing is known."""
    known = past.category >= 0
    taste = np.zeros((len(customers), len(known)), dtype=np.float32)
    taste[:, known] = tastes(past, customers)[:, past.category[known]]
    return taste


def tastes(past: Past, customers: np.ndarray) -> np.ndarray:
    """(B, K): log of the customer's share of a category over the shop's share.

    Shares are of orders' items, the customer's shrunk to the shop's.
    """
    known, shop = past.category >= 0, typical_of(past).category_sold
    of_category = sp.csr_matrix(
        (np.ones(known.sum(), np.float32), (np.flatnonzero(known), past.category[known])),
        (len(known), len(shop)),
    )
    shop = shop / max(shop.sum(), 1)
    mine = (past.counts[customers] @ of_category).toarray()            # (B, K)
    prior = _TASTE_PRIOR * shop
    expected = (mine.sum(axis=1, keepdims=True) + _TASTE_PRIOR) * shop
    ratio = np.divide(mine + prior, expected, out=np.ones_like(mine), where=expected > 0)
    found: np.ndarray = np.log(ratio)
    return found


def similar_items(
    bought: sp.csr_matrix, *, keep: int = _NEIGHBOURS, shrink: float = _SHRINK
) -> sp.csr_matrix:
    """(V, V) cosine of items over who bought both, shrunk, without themselves, `keep` per row.

    Memory is bounded by blocks of rows; the cost is the sum of squared basket sizes, and grows
    with the items only as far as that does.
    """
    count = bought.shape[1]
    norm = np.sqrt(np.asarray(bought.sum(axis=0)).ravel())
    by_item = bought.T.tocsr()
    blocks = [sp.csr_matrix((0, count), dtype=np.float32)]
    for low in range(0, count, _ROWS):
        together = (by_item[low : low + _ROWS] @ bought).tocsr()        # (block, V)
        row = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
        size = norm[low + row] * norm[together.indices] + shrink
        together.data /= np.maximum(size, 1e-9).astype(together.dtype)
        together.data[together.indices == low + row] = 0
        if keep < count:
            together.data[together.data < _least(together, keep)[row]] = 0
        together.eliminate_zeros()
        together.sort_indices()
        blocks.append(together)
    return sp.vstack(blocks, format="csr")


def _least(matrix: sp.csr_matrix, keep: int) -> np.ndarray:
    """(rows,) the least of the `keep` largest entries of each row; 0 where there are fewer."""
    found = np.zeros(matrix.shape[0], dtype=matrix.dtype)
    for row in np.flatnonzero(np.diff(matrix.indptr) > keep):
        entries = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
        found[row] = np.partition(entries, len(entries) - keep)[len(entries) - keep]
    return found


def bought_again(past: Past) -> np.ndarray:
    """(V,) bool: items that are used up, so that who bought one may be shown it again."""
    again: np.ndarray = past.repeat_rate >= AGAIN
    return again


def cells(matrix: sp.csr_matrix, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(N,) the entries of a sparse matrix at some places."""
    if not len(row):
        return np.zeros(0, dtype=matrix.dtype)      # scipy would answer with a matrix
    return np.asarray(matrix[row, column]).ravel()


def batches(customers: np.ndarray, items: int) -> list[np.ndarray]:
    """The customers in batches whose dense blocks stay within BATCH_CELLS."""
    size = max(1, BATCH_CELLS // max(items, 1))
    return [customers[low : low + size] for low in range(0, len(customers), size)]


def _held(
    sequences: Sequences, counted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Event, item and amount of every distinct (order, item), by event."""
    items = max(len(sequences.items), 1)
    line_event = np.repeat(np.arange(len(counted)), np.diff(sequences.line_offsets))
    kept = counted[line_event]
    key = line_event[kept] * items + sequences.line_item[kept]
    distinct, place = np.unique(key, return_inverse=True)
    amount = np.bincount(place, sequences.line_amount[kept], len(distinct))
    return distinct // items, distinct % items, amount


def _category(sequences: Sequences) -> np.ndarray:
    names, code = np.unique(sequences.categories.astype(str), return_inverse=True)
    return np.where(sequences.categories == "", -1, code) if len(names) else code


def _orders_back(of_event: np.ndarray, counted: np.ndarray, customers: int) -> np.ndarray:
    """(E,) how many counted orders of the customer follow each event."""
    placed = np.cumsum(counted)
    total = np.bincount(of_event, counted, customers)
    return np.cumsum(total)[of_event] - placed


def _summed(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values, starts) if len(starts) else np.zeros(0)


def _per_mean(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    sizes = np.bincount(group, minlength=groups)
    return _per_sum(values, group, groups) * sizes[group]


def _per_sum(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    total = np.bincount(group, values, groups)[group]
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def _repeat_rate(count: np.ndarray, item: np.ndarray, items: int) -> np.ndarray:
    """(V,) shrunk towards the shop's own rate by five buyers' worth."""
    buyers = np.bincount(item, minlength=items)
    again = np.bincount(item, count > 1, items)
    shop = (again.sum() + 1) / (buyers.sum() + 10)
    return (again + 5 * shop) / (buyers + 5)
