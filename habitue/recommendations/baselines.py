"""The honest alternatives: what is popular, what she bought most, what goes with it."""

from collections.abc import Callable

import numpy as np

from habitue.recommendations.candidates import POPULARITY_DAYS, Past, frequency, similar_items
from habitue.recommendations.rules import ByScore, Recommender, Shown


def popular_90d(shown: Shown) -> Recommender:
    """The same list for everybody: the items in most orders of the last 90 days."""
    popular = _popular(shown.past).astype(np.float32)
    return ByScore(lambda customers: np.tile(popular, (len(customers), 1)), shown)


def top_frequency(shown: Shown) -> Recommender:
    """What the customer ordered most often, ties and the rest by 90-day popularity."""
    padding = _below_one(_popular(shown.past))
    return ByScore(lambda customers: frequency(shown.past, customers) + padding, shown)


def item_neighbours(shown: Shown) -> Recommender:
    """The sum of plain cosine similarities to all orders' items, the items themselves with 1.

    Counting an item once per order, and not shrinking, does best of the usual variants. Where
    nothing is similar the rest is by 90-day popularity.
    """
    padding = 1e-3 * _below_one(_popular(shown.past))
    counts = shown.past.counts
    neighbours = similar_items(counts.sign(), shrink=0)

    def score(customers: np.ndarray) -> np.ndarray:
        bought = counts[customers]
        return (bought @ neighbours + bought).toarray() + padding

    return ByScore(score, shown)


BASELINES: dict[str, Callable[[Shown], Recommender]] = {
    "popular_90d": popular_90d,
    "top_frequency": top_frequency,
    "item_neighbours": item_neighbours,
}


def _popular(past: Past) -> np.ndarray:
    return past.popularity[POPULARITY_DAYS.index(90)]


def _below_one(popular: np.ndarray) -> np.ndarray:
    """(V,) float32 in [0, 1), in the order of popularity."""
    return (popular / (popular.max(initial=0) + 1)).astype(np.float32)
