"""How good lists of items are: full ranking, every customer once, repeats and new items apart.

Relevant are the distinct items a customer orders in (cutoff, cutoff + horizon]. Judged are the
customers known at the cutoff who order at least one item then. recall@k is hits over relevant
items, recall_capped@k hits over the most that k places can hold. No sampled metrics.
"""

# B judged customers · C customers · V items · k places · R resamples
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from habitue.recommendations.candidates import BATCH_CELLS, cells, ordered_within
from habitue.sequences.build import DAY, Sequences, instant

_RESAMPLES = 500
Row = dict[str, str | float | int | None]  # the flat row that `habitue evaluate --json` prints


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the customers of a sequence ordered in a horizon, in that sequence's own indices."""

    relevant: sp.csr_matrix                # (C, V) ones, of items known at the cutoff
    total: np.ndarray                      # (C,) distinct items ordered, unknown ones included
    bought: sp.csr_matrix                  # (C, V) ones, of items ordered before
    horizon_days: float


def answers(known: Sequences, future: Sequences, horizon_days: float) -> Answers:
    """What followed `known.cutoff`, read from the same shop's longer `future`."""
    end = known.cutoff + round(horizon_days * DAY)
    assert future.cutoff >= end, "the horizon is not over at the future's cutoff"
    ordered = ordered_within(future, known.cutoff, end)
    customer, has_customer = _places(known.customers, future.customers)
    item, has_item = _places(known.items, future.items)
    mine = ordered[customer]
    mine = sp.diags(has_customer.astype(np.float32)) @ mine
    return Answers(
        relevant=(mine[:, item] @ sp.diags(has_item.astype(np.float32))).tocsr().sign(),
        total=np.asarray(mine.sum(axis=1)).ravel().astype(np.int64),
        bought=ordered_within(known, np.iinfo(np.int64).min, known.cutoff),
        horizon_days=horizon_days,
    )


def protocol(answer: Answers, *, seen_filter: bool) -> str:
    """What a ranking result must state beside its figures."""
    return (
        f"split by time at the cutoff; relevant: distinct items ordered in the next "
        f"{answer.horizon_days:g} days; customers known at the cutoff with at least one; "
        f"recall@k = hits / relevant; full ranking of {answer.relevant.shape[1]} items; "
        f"seen-filter {'on' if seen_filter else 'off'}; ties by item code; non-items left out; "
        f"query time is the cutoff"
    )


def hits(items: np.ndarray, relevant: sp.csr_matrix) -> np.ndarray:
    """(B, k) bool: the item in this place is relevant; row b of both is the same customer."""
    rows = np.repeat(np.arange(len(items)), items.shape[1])
    found = cells(relevant, rows, np.maximum(items, 0).ravel()) > 0
    return found.reshape(items.shape) & (items >= 0)


def recall(items: np.ndarray, relevant: sp.csr_matrix, total: np.ndarray) -> np.ndarray:
    """(B,) hits over relevant items; nan for customers without any."""
    return _ratio(hits(items, relevant).sum(axis=1), total)


def recall_capped(items: np.ndarray, relevant: sp.csr_matrix, total: np.ndarray) -> np.ndarray:
    """(B,) hits over the most that the places can hold."""
    return _ratio(hits(items, relevant).sum(axis=1), np.minimum(total, items.shape[1]))


def ndcg(items: np.ndarray, relevant: sp.csr_matrix, total: np.ndarray) -> np.ndarray:
    """(B,) discounted gain of the hits over that of a list with every relevant item on top."""
    places = items.shape[1]
    discount = 1 / np.log2(np.arange(places) + 2)
    best = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(total, places)]
    return _ratio(hits(items, relevant) @ discount, best)


def coverage(items: np.ndarray, catalogue: int) -> float:
    """The share of the catalogue that stands in at least one list."""
    return len(np.unique(items[items >= 0])) / max(catalogue, 1)


def judged(answer: Answers) -> np.ndarray:
    """(B,) the customers who have a relevant item."""
    return np.flatnonzero(answer.total > 0)


def per_customer(lists: tuple[np.ndarray, np.ndarray], answer: Answers) -> dict[str, np.ndarray]:
    """(B,) of each metric, for customers (B,) and their items (B, k); nan where undefined."""
    customers, items = lists
    places = items.shape[1]
    relevant, total = answer.relevant[customers], answer.total[customers]
    again = relevant.multiply(answer.bought[customers]).tocsr()
    new = (relevant - again).tocsr()
    new.eliminate_zeros()
    repeats = np.diff(again.indptr)
    return {
        f"recall@{places}": recall(items, relevant, total),
        f"recall_capped@{places}": recall_capped(items, relevant, total),
        f"ndcg@{places}": ndcg(items, relevant, total),
        f"repeat_recall@{places}": recall(items, again, repeats),
        f"new_recall@{places}": recall(items, new, total - repeats),
    }


def rows_for_items(
    sequences: Sequences,
    method: str,
    lists: tuple[np.ndarray, np.ndarray],
    answer: Answers,
    *,
    seed: int = 0,
) -> list[Row]:
    """Flat evaluate rows of one method, from the judged customers (B,) and their items (B, k).

    low and high are the 5th and 95th percentile over resampled customers; coverage has none.
    """
    customers, items = lists
    places = items.shape[1]
    values = per_customer(lists, answer)
    rng = np.random.default_rng(seed)
    rows = []
    for metric, column in values.items():
        known = column[np.isfinite(column)]
        mean, low, high = _resampled(known, rng)
        rows.append(_row(sequences, method, answer, (metric, mean, low, high, len(known))))
    share = (f"coverage@{places}", coverage(items, len(sequences.items)), None, None)
    return [*rows, _row(sequences, method, answer, (*share, len(customers)))]


def _row(
    sequences: Sequences,
    method: str,
    answer: Answers,
    result: tuple[str, float | None, float | None, float | None, int],
) -> Row:
    metric, value, low, high, customers = result
    cutoff = instant(sequences.cutoff)
    assert cutoff is not None
    return {
        "shop": sequences.shop,
        "cutoff": cutoff.isoformat(),
        "horizon_days": answer.horizon_days,
        "question": "items",
        "method": method,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "customers": customers,
    }


def _resampled(
    values: np.ndarray, rng: np.random.Generator
) -> tuple[float | None, float | None, float | None]:
    """The mean with its 5th and 95th percentile over resampled customers; none without any."""
    if not len(values):
        return None, None, None
    means: list[float] = []
    at_once = max(1, BATCH_CELLS // len(values))
    while len(means) < _RESAMPLES:
        drawn = rng.integers(0, len(values), (min(at_once, _RESAMPLES - len(means)), len(values)))
        means.extend(values[drawn].mean(axis=1))
    low, high = np.quantile(means, [0.05, 0.95])
    return float(values.mean()), float(low), float(high)


def _places(keys: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each key stands in the sorted `among` (0 where it does not), and whether it does."""
    if not len(among):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    place = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    found = among[place] == keys
    return np.where(found, place, 0), found


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=np.asarray(whole) > 0)
