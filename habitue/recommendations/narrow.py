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

from habitue.recommendations.candidates import Past, Typical, tastes, typical_of

NARROW_FROM = 20_000                       # items from which on it pays
TOGETHER = 16                              # customers whose candidates are scored together
_POPULAR = 300                             # candidates that stand highest for anybody
_BESIDE = 200                              # … that are bought beside what a customer bought
_LIKELY = 100                              # … that the model puts first
_CATEGORIES, _OF_CATEGORY = 5, 60          # … of so many categories of theirs, so many of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """What is found once in a whole catalogue, for narrowing it to anybody."""

    typical: Typical
    standing: np.ndarray                   # (V,) of items for anybody
    popular: np.ndarray                    # (n,) items that stand highest for anybody
    of_category: np.ndarray                # (K, n) … of each category, -1: no more


def wide_of(past: Past, standing: np.ndarray, on_sale: np.ndarray) -> Wide:
    """Prepare a catalogue, of which some items (V,) bool may be shown.

    `standing` (V,) is the part of their scores that is alike for all to whom they are new.
    """
    allowed = np.where(on_sale, standing, -np.inf)
    many = min(_POPULAR, len(allowed))
    best = np.argpartition(-allowed, many - 1)[:many]
    return Wide(
        typical=typical_of(past), standing=allowed, popular=best,
        of_category=_best_of_each(past, allowed),
    )  # fmt: skip


def worth_scoring(
    past: Past,
    wide: Wide,
    customers: np.ndarray,
    slopes: tuple[float, float],
    said: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """(U,) the items that could stand in the lists of some customers, ascending; (B, U) in whose.

    The slopes are of co-purchase and category; `said` (B, V) is what the model says of them. Who
    is asked with whom changes nobody's own.
    """
    own = past.counts[customers]
    taste = tastes(past, customers)                                    # (B, K)
    favourite = np.argsort(-taste, axis=1, kind="stable")[:, :_CATEGORIES]
    near = _beside(past, wide, past.recent[customers] @ past.neighbours, (slopes, taste))
    likely = np.zeros((len(customers), 0), dtype=np.int64)
    if said is not None:
        many = min(_LIKELY, said.shape[1])
        likely = np.argpartition(-said, many - 1, axis=1)[:, :many]
    each = []                              # of every customer, the items of theirs
    for row in range(len(customers)):
        mine = wide.of_category[favourite[row]].ravel()
        bought = own.indices[own.indptr[row] : own.indptr[row + 1]]
        each.append(np.unique(np.concatenate([near[row], bought, mine[mine >= 0], likely[row]])))
    items = np.unique(np.concatenate([wide.popular, *each]))
    if past.lenders is not None:           # of whom a new item borrows is told as the reason for it
        items = np.union1d(items, past.lenders[items].indices)
    among = np.zeros((len(customers), len(items)), dtype=bool)
    among[:, np.searchsorted(items, wide.popular)] = True
    for row, mine in enumerate(each):
        among[row, np.searchsorted(items, mine)] = True
    return items, among


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


def _best_of_each(past: Past, standing: np.ndarray) -> np.ndarray:
    """(K, n) of each category the items that stand highest, -1 where there are no more."""
    kinds = int(past.category.max(initial=-1)) + 1
    found = np.full((kinds, _OF_CATEGORY), -1, dtype=np.int64)
    order = np.lexsort((-standing, past.category))
    order = order[past.category[order] >= 0]
    category = past.category[order]
    place = np.arange(len(order)) - np.searchsorted(category, category)
    kept = place < _OF_CATEGORY
    found[category[kept], place[kept]] = order[kept]
    return found


def _beside(
    past: Past,
    wide: Wide,
    near: sp.csr_matrix,
    told: tuple[tuple[float, float], np.ndarray],
) -> list[np.ndarray]:
    """Of what is bought beside (B, V) what customers bought, what stands highest for each."""
    (slope, of_taste), taste = told
    row = np.repeat(np.arange(near.shape[0]), np.diff(near.indptr))
    category = past.category[near.indices]
    value = slope * np.log1p(100 * near.data) + wide.standing[near.indices]
    if taste.shape[1]:
        value = value + np.where(category >= 0, of_taste * taste[row, category], 0.0)
    found = []
    for low, high in zip(near.indptr[:-1], near.indptr[1:], strict=True):
        columns, values = near.indices[low:high], value[low:high]
        if len(values) > _BESIDE:
            columns = columns[np.argpartition(-values, _BESIDE - 1)[:_BESIDE]]
        found.append(columns)
    return found
