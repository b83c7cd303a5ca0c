"""Lists for every customer: the shop's own mixture of sources, within its rules, with reasons."""

# C customers · B of them in a batch · V items · k places · N cells of a list
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pyarrow as pa

from habitue.recommendations.candidates import ModelScores, Past, batches, cells, past_of
from habitue.recommendations.narrow import (
    NARROW_FROM,
    TOGETHER,
    Wide,
    narrowed,
    wide_of,
    worth_scoring,
)
from habitue.recommendations.newcomers import with_newcomers
from habitue.recommendations.ranking import (
    Mixture,
    Parts,
    learn,
    parts_of,
    personal_features,
    score,
    shop_scores,
)
from habitue.recommendations.rules import ByScore, Rules, Shown, choose, shown
from habitue.sequences.build import Sequences

# one row per customer and place of the list
RECOMMENDATIONS = pa.schema(
    [
        pa.field("customer", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),             # from 1
        pa.field("item", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),           # "" where unknown
        pa.field("score", pa.float32(), nullable=False),          # comparable within a list only
        pa.field("reason", pa.string(), nullable=False),          # a Reason
        pa.field("evidence", pa.string(), nullable=False),        # the reason in words
    ]
)


class Reason(StrEnum):
    """Why an item stands in a list: what weighed most."""

    BOUGHT_OFTEN = "bought_often"
    BOUGHT_ONCE = "bought_once"
    BOUGHT_TOGETHER = "bought_together"
    FAVOURITE_CATEGORY = "favourite_category"
    LIKELY_NEXT = "likely_next"            # the model's opinion of what she does next
    READS_LIKE = "reads_like"              # nobody has ordered it; others read like it
    POPULAR = "popular"


# in the order in which they are told of an item for which several speak alike
_NEW_REASONS = (
    Reason.BOUGHT_TOGETHER, Reason.FAVOURITE_CATEGORY, Reason.LIKELY_NEXT, Reason.POPULAR,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedRecommender:
    """A shop's mixture at a cutoff, ready to answer for any customer known then."""

    mixture: Mixture
    past: Past
    model: ModelScores | None
    shown: Shown

    def recommend(self, customers: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(B, k) items and scores, as `Recommender` says."""
        return ByScore(self.scores, self.shown).recommend(customers, k)

    def scores(self, customers: np.ndarray) -> np.ndarray:
        """(B, V) float32: how likely each item is next, in logarithms up to a constant."""
        personal = personal_features(self.past, customers, self.model)
        return score(self.past, self.mixture.weights, customers, personal)


def fit_recommender(
    sequences: Sequences,
    *,
    cutoff: int,
    horizon_days: float = 28.0,
    model_scores: ModelScores | None = None,
    fit_window_scores: Mapping[int, ModelScores] | None = None,
    rules: Rules | None = None,
) -> FittedRecommender:
    """Learn the shop's mixture on horizons closed by `cutoff` (µs), and stand at the cutoff.

    `model_scores` are the model's at the cutoff. `fit_window_scores` are needed to learn how far
    to trust it: for the starts that `ranking.horizon_starts` names, the scores as of that start
    of a model that saw nothing after the earliest of them. With a model but none of these the
    weights are the defaults.
    """
    assert cutoff <= sequences.cutoff, "the sequences end before the cutoff"
    models = None if model_scores is None else dict(fit_window_scores or {})
    past = with_newcomers(past_of(sequences, cutoff), sequences)
    return FittedRecommender(
        mixture=learn(sequences, cutoff=cutoff, horizon_days=horizon_days, models=models),
        past=past,
        model=model_scores,
        shown=shown(sequences, past, rules or Rules()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The lists of some customers, one after another, each with the best first; (N,) each."""

    sequences: Sequences                   # whose customers and items are meant
    customer: np.ndarray                   # indices
    place: np.ndarray                      # from 0
    item: np.ndarray                       # indices
    score: np.ndarray                      # float32, comparable within a list only
    reasons: list[tuple[Reason, str]]

    def table(self) -> pa.Table:
        """The same in the RECOMMENDATIONS schema."""
        names = self.sequences
        return pa.table(
            {
                "customer": names.customers[self.customer],
                "rank": (self.place + 1).astype(np.int32),
                "item": names.items[self.item],
                "title": names.titles[self.item],
                "score": self.score,
                "reason": [reason.value for reason, _ in self.reasons],
                "evidence": [words for _, words in self.reasons],
            },
            schema=RECOMMENDATIONS,
        )


def recommend(
    fitted: FittedRecommender,
    sequences: Sequences,
    *,
    k: int = 10,
    customers: np.ndarray | None = None,
) -> pa.Table:
    """The lists of some customers (all that are known, by default), in the RECOMMENDATIONS schema.

    A list is shorter than `k` only where the catalogue or the rules leave fewer items.
    """
    chosen = np.flatnonzero(fitted.past.known) if customers is None else customers
    lists = recommend_by_batch(fitted, sequences, k=k, customers=chosen)
    return pa.concat_tables([RECOMMENDATIONS.empty_table(), *(some.table() for some in lists)])


def recommend_by_batch(
    fitted: FittedRecommender, sequences: Sequences, *, k: int, customers: np.ndarray
) -> Iterator[Lists]:
    """What `recommend` gives, some customers at a time, in memory that does not grow with them."""
    if fitted.past.shape[1] <= NARROW_FROM:
        for batch in batches(customers, fitted.past.shape[1]):
            yield _lists(fitted, sequences, k, batch)
        return
    standing = shop_scores(fitted.past, fitted.mixture.weights)
    wide = wide_of(fitted.past, standing, fitted.shown.on_sale)
    for low in range(0, len(customers), TOGETHER):
        batch = customers[low : low + TOGETHER]
        small, few, among = _narrow(fitted, sequences, wide, batch)
        yield _lists(small, few, k, np.arange(len(batch)), among)


def _lists(
    fitted: FittedRecommender,
    sequences: Sequences,
    k: int,
    batch: np.ndarray,
    among: np.ndarray | None = None,
) -> Lists:
    """The lists of one batch of customers, of the items (B, V) that are theirs."""
    personal = personal_features(fitted.past, batch, fitted.model)
    scores = score(fitted.past, fitted.mixture.weights, batch, personal)
    if among is not None:
        scores[~among] = -np.inf
    items, values = choose(scores, batch, fitted.shown, k)
    row, place = np.nonzero(items >= 0)
    item = items[row, place]
    parts = parts_of(fitted.past, fitted.mixture.weights, batch, personal, (row, item))
    return Lists(
        sequences=sequences, customer=batch[row], place=place, item=item,
        score=values[row, place],
        reasons=_reasons(fitted.past, sequences, parts, (batch, row, item)),
    )  # fmt: skip


def _narrow(
    fitted: FittedRecommender, sequences: Sequences, wide: Wide, batch: np.ndarray
) -> tuple[FittedRecommender, Sequences, np.ndarray]:
    """The recommender and names of some customers alone, over what could stand in their lists.

    (B, U) says in whose list each of these items could.
    """
    said = None if fitted.model is None else fitted.model(batch)      # (B, V)
    beside, category = fitted.mixture.weights.new[-3:-1]
    items, among = worth_scoring(fitted.past, wide, batch, (beside, category), said)
    past = narrowed(fitted.past, wide, batch, items)
    shown = Shown(rules=fitted.shown.rules, past=past, on_sale=fitted.shown.on_sale[items])
    few = None if said is None else said[:, items]                    # (B, U)
    model = None if few is None else lambda rows: few[rows]
    names = replace(
        sequences, customers=sequences.customers[batch], items=sequences.items[items],
        titles=sequences.titles[items], categories=sequences.categories[items],
    )  # fmt: skip
    return replace(fitted, past=past, model=model, shown=shown), names, among


def _reasons(
    past: Past,
    sequences: Sequences,
    parts: Parts,
    places: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> list[tuple[Reason, str]]:
    """(N,) what weighed most for each cell of the lists: customers of the batch, rows, items."""
    customers, row, item = places
    again = parts.entry >= 0
    of_again = iter(_repeat_reasons(past, parts.entry[again]))
    cells = (customers, row[~again], item[~again])
    of_new = iter(_new_reasons(past, sequences, parts.take(~again), cells))
    return [next(of_again if one else of_new) for one in again.tolist()]


def _repeat_reasons(past: Past, entry: np.ndarray) -> list[tuple[Reason, str]]:
    """Of items that the customer has, by their entries of the past."""
    counts = past.counts.data[entry].astype(np.int64).tolist()
    last = np.rint(past.last_days[entry]).astype(np.int64).tolist()
    gaps = np.rint(np.nan_to_num(past.gap_days[entry])).astype(np.int64).tolist()
    return [
        (Reason.BOUGHT_ONCE, f"bought {_counted(ago, 'day')} ago")
        if count == 1
        else (
            Reason.BOUGHT_OFTEN,
            f"bought {count} times, usually every {_counted(gap, 'day')}, "
            f"last {_counted(ago, 'day')} ago",
        )
        for count, gap, ago in zip(counts, gaps, last, strict=True)
    ]


def _new_reasons(
    past: Past,
    sequences: Sequences,
    parts: Parts,
    places: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> list[tuple[Reason, str]]:
    """Of items that are new to the customer."""
    customers, row, item = places
    # what is left if nothing speaks
    said = np.stack([parts.category, parts.model, np.maximum(parts.popular, 1e-6)])
    # looked for only where it could be what is told
    beside = (parts.together > 0) & (parts.together >= said.max(axis=0))
    companion = np.full(len(row), -1, dtype=np.int64)
    companion[beside] = _companions(past, customers, row[beside], item[beside])
    together = np.where(companion >= 0, parts.together, 0.0)
    most = np.stack([together, *said]).argmax(axis=0)      # of equal ones the first
    reasons = [_NEW_REASONS[one] for one in most.tolist()]
    lender = lenders_of(past)[item]
    sold = past.popularity[1][item].astype(np.int64)
    return [
        (reason, _words(sequences, reason, facts))
        if facts[3] < 0
        else (Reason.READS_LIKE, f"new, and reads like {name_of(sequences, facts[3])}")
        for reason, *facts in zip(
            reasons, *(one.tolist() for one in (item, companion, sold, lender)), strict=True
        )
    ]


def _words(sequences: Sequences, reason: Reason, facts: Sequence[int]) -> str:
    """A reason in words; the facts are the item, what it goes with, and how often it sold."""
    item, companion, sold, _ = facts
    match reason:
        case Reason.BOUGHT_TOGETHER:
            return f"often bought with {name_of(sequences, companion)}"
        case Reason.FAVOURITE_CATEGORY:
            return f"buys much of {sequences.categories[item]}"
        case Reason.LIKELY_NEXT:
            return "fits what this customer does"
        case _:
            return f"in {_counted(sold, 'order')} in 28 days"


def name_of(sequences: Sequences, item: int) -> str:
    """What an item is called: its title, or its code."""
    return str(sequences.titles[item] or sequences.items[item])


def lenders_of(past: Past) -> np.ndarray:
    """(V,) the item that each new one borrows most from, -1 for all others."""
    found = np.full(past.shape[1], -1, dtype=np.int64)
    if past.lenders is not None:
        new = np.flatnonzero(np.diff(past.lenders.indptr))
        found[new] = past.lenders[new].argmax(axis=1).A1
    return found


def lender_of(past: Past, item: int) -> int:
    """The item that a new one borrows most from, -1 where it is not new."""
    if past.lenders is None or past.lenders.indptr[item] == past.lenders.indptr[item + 1]:
        return -1
    return int(past.lenders[item].argmax())


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _companions(
    past: Past, customers: np.ndarray, row: np.ndarray, item: np.ndarray
) -> np.ndarray:
    """(N,) the bought item that speaks most for each cell's item, -1 where none does."""
    low = past.recent.indptr[customers[row]]
    sizes = past.recent.indptr[customers[row] + 1] - low
    cell = np.repeat(np.arange(len(row)), sizes)
    entry = np.arange(len(cell)) + np.repeat(low - (np.cumsum(sizes) - sizes), sizes)
    bought = past.recent.indices[entry]
    voice = cells(past.neighbours, bought, item[cell]) * past.recent.data[entry]
    order = np.lexsort((bought, -voice, cell))
    first = order[np.flatnonzero(np.diff(cell[order], prepend=-1))]
    companion = np.full(len(row), -1, dtype=np.int64)
    companion[cell[first]] = np.where(voice[first] > 0, bought[first], -1)
    return companion
