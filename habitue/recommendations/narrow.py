"""A large catalogue, a few customers at a time: only what could stand in their lists is scored.

Scoring every item for everybody grows with the catalogue. Nearly all of it is never shown: what is
comes from what the customer bought, what is bought beside that, what sells, in their categories
above all, and what the model puts first. The scores of what is left are those of the whole: what
items are measured against is taken from the whole catalogue.
"""

# C customers · B of them in a batch · V items · U of them that are scored · K categories
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from habitue.recommendations.candidates import Past, Typical, typical_of

NARROW_FROM = 20_000                       # items from which on it pays
TOGETHER = 16                              # customers whose candidates are scored together
_POPULAR = 300                             # candidates of each span of popularity
_BESIDE = 200                              # … that are bought beside what a customer bought
_LIKELY = 100                              # … that the model puts first
_CATEGORIES, _OF_CATEGORY = 5, 60          # … of so many categories of theirs, so many of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """What is found once in a whole catalogue, for narrowing it to anybody."""

    typical: Typical
    popular: np.ndarray                    # (n,) items of which most is sold in some span
    of_category: np.ndarray                # (K, n) items that sell most in each, -1: no more


def wide_of(past: Past, on_sale: np.ndarray) -> Wide:
    """Prepare a catalogue, of which some items (V,) bool may be shown."""
    allowed = np.where(on_sale, past.popularity, -1.0)                 # (4, V)
    many = min(_POPULAR, allowed.shape[1])
    best = np.argpartition(-allowed, many - 1, axis=1)[:, :many]
    return Wide(
        typical=typical_of(past), popular=np.unique(best), of_category=_sellers(past, allowed[2])
    )


def worth_scoring(
    past: Past, wide: Wide, customers: np.ndarray, said: np.ndarray | None
) -> np.ndarray:
    """(U,) the items that could stand in the lists of some customers, ascending.

    `said` (B, V) is what the model says of them.
    """
    own = past.counts[customers]
    found = [wide.popular, np.unique(own.indices)]
    found.append(_largest(past.recent[customers] @ past.neighbours, _BESIDE))
    found.append(_of_their_categories(past, wide, own))
    if said is not None:
        many = min(_LIKELY, said.shape[1])
        found.append(np.argpartition(-said, many - 1, axis=1)[:, :many].ravel())
    items = np.unique(np.concatenate(found))
    if past.lenders is None:
        return items
    # of whom a new item borrows is told as the reason for it
    return np.union1d(items, past.lenders[items].indices)


def narrowed(past: Past, wide: Wide, customers: np.ndarray, items: np.ndarray) -> Past:
    """The past of some customers (B,), over some items (U,) that hold all that they bought."""
    own = past.counts[customers]
    low = past.counts.indptr[customers]
    sizes = np.diff(own.indptr)
    entry = np.arange(len(own.data)) + np.repeat(low - (np.cumsum(sizes) - sizes), sizes)

    def among(table: sp.csr_matrix, data: np.ndarray) -> sp.csr_matrix:
        column = np.searchsorted(items, table.indices)
        return sp.csr_matrix((data, column, table.indptr), shape=(len(customers), len(items)))

    return replace(
        past,
        known=past.known[customers],
        counts=among(own, own.data),
        last_days=past.last_days[entry],
        gap_days=past.gap_days[entry],
        fading=past.fading[entry],
        spend=past.spend[entry],
        recent=among(own, past.recent.data[entry]),
        popularity=past.popularity[:, items],
        repeat_rate=past.repeat_rate[items],
        neighbours=past.neighbours[items][:, items],
        category=past.category[items],
        sold=past.sold[items],
        lenders=None if past.lenders is None else past.lenders[items][:, items],
        typical=wide.typical,
    )


def _sellers(past: Past, sold: np.ndarray) -> np.ndarray:
    """(K, n) of each category the items that sell most, -1 where there are no more."""
    kinds = int(past.category.max(initial=-1)) + 1
    found = np.full((kinds, _OF_CATEGORY), -1, dtype=np.int64)
    order = np.lexsort((-sold, past.category))
    order = order[past.category[order] >= 0]
    category = past.category[order]
    place = np.arange(len(order)) - np.searchsorted(category, category)
    kept = place < _OF_CATEGORY
    found[category[kept], place[kept]] = order[kept]
    return found


def _largest(table: sp.csr_matrix, most: int) -> np.ndarray:
    """The columns of the largest entries of each row, at most so many of one."""
    found = []
    for low, high in zip(table.indptr[:-1], table.indptr[1:], strict=True):
        columns, data = table.indices[low:high], table.data[low:high]
        if len(data) > most:
            columns = columns[np.argpartition(-data, most - 1)[:most]]
        found.append(columns)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _of_their_categories(past: Past, wide: Wide, own: sp.csr_matrix) -> np.ndarray:
    """What sells most in the categories that each customer buys most of."""
    found = []
    for low, high in zip(own.indptr[:-1], own.indptr[1:], strict=True):
        category = past.category[own.indices[low:high]]
        kinds, count = np.unique(category[category >= 0], return_counts=True)
        best = kinds[np.argsort(-count, kind="stable")[:_CATEGORIES]]
        found.append(wide.of_category[best].ravel())
    together = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    return together[together >= 0]
