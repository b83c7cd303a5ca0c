"""The next basket of those who buy again: their own habits, people like them, what goes with it.

For baskets that know order alone. Every source is a distribution over items for each customer; a
linear mixture of them is chosen on the baskets that were held out.
"""

# N customers · B of them in a batch · V items · L lines
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from habitue.recommendations.rules import top_k

FADES = (0.7, 0.85, 0.95)                  # what a basket back counts, to choose from
LIKE_HER = 300                             # customers whose habits are averaged
SHARES = (0.0, 0.03, 0.1, 0.3, 0.6, 1.2)   # of a source beside her own habits
ROUNDS = 2                                 # of choosing each share in turn
MOST_JUDGED = 1_500                        # customers that a choice is made on
SOURCES = ("own", "like_her", "beside", "popular")


@dataclass(frozen=True, slots=True)
class Baskets:
    """Lines of customers' baskets; `back` counts the baskets of the customer after the line's."""

    customer: np.ndarray                   # (L,) int64, ascending
    item: np.ndarray                       # (L,) int64
    back: np.ndarray                       # (L,) int64, 0 in the latest
    customers: int                         # N
    items: int                             # V

    def without_last(self, count: int) -> "Baskets":
        """The past before each customer's last `count` baskets."""
        kept = self.back >= count
        return replace(
            self,
            customer=self.customer[kept],
            item=self.item[kept],
            back=self.back[kept] - count,
        )

    def basket(self, back: int) -> sp.csr_matrix:
        """(N, V) ones, what each customer's basket so far back holds."""
        held = self.back == back
        ones = np.ones(int(held.sum()), np.float32)
        return sp.csr_matrix(
            (ones, (self.customer[held], self.item[held])), shape=(self.customers, self.items)
        ).sign()

    def habits(self, fade: float) -> sp.csr_matrix:
        """(N, V) share of each item in the customer's past, a basket back counting `fade`."""
        weight = np.float32(fade) ** self.back.astype(np.float32)
        table = sp.csr_matrix(
            (weight, (self.customer, self.item)), shape=(self.customers, self.items)
        )
        return shares(table)


@dataclass(frozen=True, slots=True, kw_only=True)
class BasketMixture:
    """The fading, and what each of SOURCES counts."""

    fade: float
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What is read from a past, for any of its customers."""

    habits: sp.csr_matrix                  # (N, V)
    unit: sp.csr_matrix                    # (N, V) rows of length one
    beside: sp.csr_matrix                  # (V, V) shares of what the next basket holds
    popular: np.ndarray                    # (V,)

    def of(self, row: np.ndarray) -> list[np.ndarray]:
        """(B, V) float32 of each of SOURCES, for customers (B,)."""
        own = self.habits[row]
        like = (self.unit[row] @ self.unit.T).toarray()
        like[np.arange(len(row)), row] = 0.0
        most = min(LIKE_HER, like.shape[1])
        least = np.partition(like, -most, axis=1)[:, -most, None]
        near = sp.csr_matrix(np.where((like >= least) & (like > 0), 1.0, 0.0).astype(np.float32))
        crowd = shares(near) @ self.habits
        beside = shares(own @ self.beside)
        popular = np.tile(self.popular, (len(row), 1))
        return [own.toarray(), crowd.toarray(), beside.toarray(), popular]


def read_sources(past: Baskets, fade: float) -> Sources:
    """All that a past says, each basket back counting `fade`."""
    habits = past.habits(fade)
    length = np.sqrt(np.asarray(habits.multiply(habits).sum(axis=1))[:, 0])
    unit = sp.diags((1 / np.maximum(length, 1e-9)).astype(np.float32)) @ habits
    popular = np.bincount(past.item, minlength=past.items).astype(np.float32)
    return Sources(
        habits=habits,
        unit=unit.tocsr(),
        beside=shares(_next_baskets(past)),
        popular=popular / max(float(popular.sum()), 1.0),
    )


def choose(past: Baskets, followed: sp.csr_matrix) -> BasketMixture:
    """The fading and the weights that recall most of the baskets that `followed` (N, V)."""
    judged = np.flatnonzero(np.diff(followed.indptr) > 0)
    if len(judged) > MOST_JUDGED:
        judged = judged[np.linspace(0, len(judged) - 1, MOST_JUDGED).astype(int)]
    aims = followed[judged]
    best, most = BasketMixture(fade=FADES[0], weights=(1.0, 0.0, 0.0, 0.0)), -1.0
    for fade in FADES:
        told = read_sources(past, fade).of(judged)
        weights, gain = _ascend(told, aims)
        if gain > most:
            best, most = BasketMixture(fade=fade, weights=weights), gain
    return best


def mixed(told: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """(B, V) the weighted sum of the sources."""
    total = np.zeros_like(told[0])
    for source, weight in zip(told, weights, strict=True):
        if weight:
            total += np.float32(weight) * source
    return total


def recall(lists: np.ndarray, aims: sp.csr_matrix) -> np.ndarray:
    """(B,) share of each basket (B, V) that its list (B, k) holds."""
    row = np.repeat(np.arange(len(lists)), lists.shape[1])
    hit = np.asarray(aims[row, np.maximum(lists, 0).ravel()])[0].reshape(lists.shape)
    return (hit * (lists >= 0)).sum(axis=1) / np.maximum(np.diff(aims.indptr), 1)


def shares(table: sp.csr_matrix) -> sp.csr_matrix:
    """Rows that sum to one; empty ones stay empty."""
    total = np.asarray(table.sum(axis=1))[:, 0]
    return (sp.diags((1 / np.maximum(total, 1e-9)).astype(np.float32)) @ table).tocsr()


def _ascend(
    told: list[np.ndarray], aims: sp.csr_matrix
) -> tuple[tuple[float, ...], float]:
    """Each share in turn the best beside the others."""
    weights, most = [1.0, 0.0, 0.0, 0.0], -1.0
    for _ in range(ROUNDS):
        for place in range(1, len(weights)):
            tried = [[*weights[:place], share, *weights[place + 1 :]] for share in SHARES]
            gains = [float(recall(top_k(mixed(told, w), 10)[0], aims).mean()) for w in tried]
            if max(gains) > most:
                most, weights = max(gains), tried[int(np.argmax(gains))]
    return tuple(weights), most


def _next_baskets(past: Baskets) -> sp.csr_matrix:
    """(V, V) how often a column's item stood in the basket after a row's, or in the same."""
    counts = sp.csr_matrix((past.items, past.items), dtype=np.float32)
    key = past.customer * (int(past.back.max(initial=0)) + 2)
    basket = np.unique(np.concatenate([key + past.back, key + past.back + 1]))
    rows = len(basket)

    def held(shift: int) -> sp.csr_matrix:
        at = np.searchsorted(basket, key + past.back + shift)
        ones = np.ones(len(at), np.float32)
        return shares(sp.csr_matrix((ones, (at, past.item)), shape=(rows, past.items)).sign())

    now, after = held(0), held(1)
    # `held(1)` puts a basket's items where the basket before it stands
    counts = counts + now.T @ after + now.T @ now
    counts.setdiag(0.0)
    counts.eliminate_zeros()
    return counts.tocsr()
