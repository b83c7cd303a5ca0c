"""What may be shown: exclusions, a limit per category, and ties that always fall the same way."""

# B customers · V items · k places
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from habitue.recommendations.candidates import (
    Past,
    batches,
    bought_again,
    pairs_of,
    popularity,
)
from habitue.sequences.build import Sequences

NOTHING = -1                               # the item in a place for which none is left


class Recommender(Protocol):
    """Anything that ranks items for customers."""

    def recommend(self, customers: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(B, k) int32 items, best first, NOTHING where none is left; (B, k) float32 scores."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a shop, or one request, leaves out of a list."""

    skip_bought: bool = False              # what the customer ever ordered
    skip_spent: bool = False               # what she ordered once, and hardly anybody again
    sold_within_days: int | None = None    # what nobody ordered in so many days
    per_category: int | None = None        # more than so many items of one category


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Rules applied to a shop as of an instant."""

    rules: Rules
    past: Past
    on_sale: np.ndarray                    # (V,) bool


def shown(sequences: Sequences, past: Past, rules: Rules) -> Shown:
    """The rules as they bind at `past.at`.

    A shop that sold nothing at all in `sold_within_days` would have no answer for anybody, so
    there that rule is void.
    """
    on_sale = np.ones(past.shape[1], dtype=bool)
    if rules.sold_within_days is not None:
        sold = popularity(sequences, past.at, rules.sold_within_days) > 0
        on_sale = sold if sold.any() else on_sale
    return Shown(rules=rules, past=past, on_sale=on_sale)


@dataclass(frozen=True, slots=True)
class ByScore:
    """Ranks by a score, within the rules."""

    score: Callable[[np.ndarray], np.ndarray]      # (B,) customers -> (B, V), not written to again
    shown: Shown

    def recommend(self, customers: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(B, k) items and scores, as `Recommender` says."""
        items = np.full((len(customers), k), NOTHING, dtype=np.int32)
        scores = np.full((len(customers), k), -np.inf, dtype=np.float32)
        low = 0
        for batch in batches(customers, self.shown.past.shape[1]):
            place = slice(low, low + len(batch))
            items[place], scores[place] = choose(self.score(batch), batch, self.shown, k)
            low += len(batch)
        return items, scores


def choose(
    scores: np.ndarray, customers: np.ndarray, shown: Shown, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of (B, V) scores that the rules let through."""
    allowed = np.where(shown.on_sale, scores, -np.inf).astype(np.float32)
    if shown.rules.skip_bought:
        allowed[shown.past.counts[customers].nonzero()] = -np.inf
    elif shown.rules.skip_spent:
        pairs = pairs_of(shown.past, customers)
        spent = (shown.past.counts.data[pairs.entry] == 1) & ~bought_again(shown.past)[pairs.item]
        allowed[pairs.row[spent], pairs.item[spent]] = -np.inf
    if shown.rules.per_category is not None:
        allowed[_crowded(allowed, shown.past.category, shown.rules.per_category)] = -np.inf
    return top_k(allowed, k)


def top_k(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, k) places and values of the highest finite scores; of equal ones the first comes first.

    >>> top_k(np.array([[0.5, 2.0, 2.0, -np.inf]]), 4)[0]
    array([[ 1,  2,  0, -1]], dtype=int32)
    """
    rows, count = scores.shape
    items = np.full((rows, k), NOTHING, dtype=np.int32)
    values = np.full((rows, k), -np.inf, dtype=np.float32)
    if 0 < k < count:
        least = np.partition(scores, count - k, axis=1)[:, count - k, None]
    else:
        least = np.full((rows, 1), -np.inf)
    row, item = np.nonzero((scores >= least) & (scores > -np.inf))
    value = scores[row, item]
    order = np.lexsort((item, -value, row))
    row, item, value = row[order], item[order], value[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    fits = rank < k
    items[row[fits], rank[fits]] = item[fits]
    values[row[fits], rank[fits]] = value[fits]
    return items, values


def _crowded(scores: np.ndarray, category: np.ndarray, limit: int) -> np.ndarray:
    """(B, V) bool: `limit` items of its category stand before it; unknown ones are no category."""
    order = np.argsort(-scores, axis=1, kind="stable")
    by_category = np.argsort(category[order], axis=1, kind="stable")
    item = np.take_along_axis(order, by_category, axis=1)          # by category, best first
    first = np.searchsorted(np.sort(category), category, side="left")
    rank = np.arange(scores.shape[1]) - first[item]
    crowded = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(crowded, item, (rank >= limit) & (category[item] >= 0), axis=1)
    return crowded
