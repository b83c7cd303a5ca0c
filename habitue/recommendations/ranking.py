"""How a shop mixes the sources into one score: weights learnt on its own closed horizons.

The score of an item for a customer is linear in logarithms of what the sources say, with one set
of slopes for what she bought before and another for what would be new to her. Weights maximise
the likelihood of the items that were ordered in closed horizons before the cutoff, each customer
counting once (a multinomial logit over her candidates), and are drawn towards `DEFAULTS`, which
also serve alone where a shop has no closed horizon yet.
"""

# B customers · V items · P bought pairs of the batch · N candidates · F features
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize

from habitue.recommendations.candidates import (
    ModelScores,
    Pairs,
    Past,
    batches,
    category_taste,
    cells,
    co_purchases,
    ordered_within,
    pairs_of,
    past_of,
    typical_of,
)
from habitue.recommendations.metrics import recall
from habitue.recommendations.rules import top_k
from habitue.sequences.build import DAY, Sequences

NEW_FEATURES = (
    "popular_7d", "popular_28d", "popular_90d", "popular_365d", "unsold_28d",
    "co_purchase", "category", "model",
)
REPEAT_FEATURES = (
    "bought", "orders", "fading", "last_days", "due", "single", "repeat_rate", "spend",
    "orders_popular", *NEW_FEATURES,
)


@dataclass(frozen=True, slots=True)
class Weights:
    """Slopes of the score, in the order of REPEAT_FEATURES and NEW_FEATURES."""

    repeat: np.ndarray
    new: np.ndarray


# rounded from fits on the horizons of Online Retail II that closed before 2011-03-09, then moved
# so that more popular is better over any span; those of category and model are set by hand
_REPEAT = {
    "bought": 4.5, "orders": 1.05, "fading": 0.0, "last_days": -0.17, "due": -0.1, "single": -0.2,
    "repeat_rate": 0.4, "spend": 0.2, "orders_popular": -0.2, "popular_7d": 0.3,
    "popular_28d": 0.4, "popular_90d": 0.1, "popular_365d": -0.3, "unsold_28d": -0.4,
    "co_purchase": 0.1, "category": 0.0, "model": 0.3,
}
_NEW = {
    "popular_7d": 0.4, "popular_28d": 0.4, "popular_90d": 0.1, "popular_365d": -0.3,
    "unsold_28d": -1.0, "co_purchase": 0.4, "category": 0.5, "model": 0.5,
}
DEFAULTS = Weights(
    np.array([_REPEAT[name] for name in REPEAT_FEATURES]),
    np.array([_NEW[name] for name in NEW_FEATURES]),
)
_CANDIDATES = 100                          # items new to the customer that a fit compares
_SPREAD = 50                               # besides those likeliest, from all over the catalogue
_MOST_CUSTOMERS = 2000                     # of one horizon that a fit looks at
_LEAST_CUSTOMERS = 10                      # below which a horizon teaches nothing
_PULL = 10.0                               # strength of the pull towards DEFAULTS, in customers
_HORIZONS = 2                              # closed ones that a fit looks at
_STOP = {"maxiter": 60, "ftol": 1e-6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A shop's weights, and what they were worth where the answer was known."""

    weights: Weights
    horizons: tuple[int, ...]              # starts (µs) of those learnt from; none: DEFAULTS
    recall: float | None                   # @10 on the latest, of weights learnt before it
    default_recall: float | None           # @10 there, of DEFAULTS


def horizon_starts(cutoff: int, horizon_days: float) -> tuple[int, ...]:
    """The instants (µs) before the cutoff whose horizons are closed and learnt from, in order."""
    length = round(horizon_days * DAY)
    return tuple(cutoff - length * back for back in range(_HORIZONS, 0, -1))


def learn(
    sequences: Sequences,
    *,
    cutoff: int,
    horizon_days: float,
    models: Mapping[int, ModelScores] | None,
) -> Mixture:
    """Weights from the closed horizons before the cutoff.

    Those of the earlier horizons are tried on the latest, where DEFAULTS take over if they recall
    clearly more (by two standard errors of the paired difference).

    `models` maps starts of horizons to the scores, as of that start, of a model that saw nothing
    later than the earliest of them; horizons without one are not learnt from. None: no model.
    """
    length = round(horizon_days * DAY)
    lessons: list[tuple[Past, sp.csr_matrix, ModelScores | None]] = []
    for start in horizon_starts(cutoff, horizon_days):
        if models is not None and start not in models:
            continue
        past = past_of(sequences, start)
        relevant = ordered_within(sequences, start, start + length)
        if np.count_nonzero(past.known & (np.diff(relevant.indptr) > 0)) >= _LEAST_CUSTOMERS:
            lessons.append((past, relevant, models[start] if models else None))
    starts = tuple(past.at for past, _, _ in lessons)
    if not lessons:
        return Mixture(weights=DEFAULTS, horizons=(), recall=None, default_recall=None)
    designs = [design(*lesson) for lesson in lessons]
    if len(lessons) == 1:
        return Mixture(weights=fit(designs), horizons=starts, recall=None, default_recall=None)
    learnt, usual = _recall_at_10((fit(designs[:-1]), DEFAULTS), *lessons[-1])
    # a fit is drawn towards DEFAULTS already, so it takes evidence to throw it away
    gain, noise = (learnt - usual).mean(), (learnt - usual).std() / np.sqrt(len(usual))
    is_kept = bool(gain >= -2 * noise)
    return Mixture(
        weights=fit(designs) if is_kept else DEFAULTS,
        horizons=starts if is_kept else (),
        recall=float(learnt.mean()),
        default_recall=float(usual.mean()),
    )


def _recall_at_10(
    rivals: Sequence[Weights], past: Past, relevant: sp.csr_matrix, model: ModelScores | None
) -> list[np.ndarray]:
    """For each of the rivals (B,), of the customers who were known and ordered in the horizon."""
    customers = np.flatnonzero(past.known & (np.diff(relevant.indptr) > 0))
    shown: list[list[np.ndarray]] = [[] for _ in rivals]
    for batch in batches(customers, past.shape[1]):
        personal = personal_features(past, batch, model)
        for lists, weights in zip(shown, rivals, strict=True):
            lists.append(top_k(score(past, weights, batch, personal), 10)[0])
    ordered = relevant[customers]
    return [recall(np.concatenate(lists), ordered, np.diff(ordered.indptr)) for lists in shown]


def score(
    past: Past, weights: Weights, customers: np.ndarray, personal: np.ndarray
) -> np.ndarray:
    """(B, V) float32: how likely each item is next, in logarithms up to a constant.

    `personal` are the customers' `personal_features`.
    """
    total = _new_scores(past, weights, personal)
    pairs = pairs_of(past, customers)
    total[pairs.row, pairs.item] = _repeat_features(past, pairs, personal) @ weights.repeat
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The candidates of some customers in one closed horizon: features, and which were ordered."""

    features: np.ndarray                   # (N, F) float32, repeat slopes first, then new
    ordered: np.ndarray                    # (N,) bool
    customer: np.ndarray                   # (N,) ascending


def design(past: Past, relevant: sp.csr_matrix, model: ModelScores | None) -> Design:
    """What a fit compares: everything a customer bought, and the likeliest of what is new to her.

    `relevant` (C, V) holds what was ordered in the horizon after `past.at`; only customers who
    were known before it and ordered in it take part.
    """
    customers = np.flatnonzero(past.known & (np.diff(relevant.indptr) > 0))
    if len(customers) > _MOST_CUSTOMERS:
        customers = customers[np.linspace(0, len(customers) - 1, _MOST_CUSTOMERS).astype(int)]
    parts = [_compared(past, relevant, batch, model) for batch in batches(customers, past.shape[1])]
    return _joined(parts)


def fit(designs: Sequence[Design]) -> Weights:
    """The likeliest weights, drawn towards DEFAULTS: a multinomial logit, each customer once."""
    every = _joined(designs)
    spread = every.features.std(axis=0) + np.float32(1e-3)
    scaled = every.features / spread
    opens = np.diff(every.customer, prepend=-1) > 0
    starts, group = np.flatnonzero(opens), np.cumsum(opens) - 1
    aim = every.ordered.astype(float)
    total = np.add.reduceat(aim, starts)
    weight = (total > 0).astype(float)
    aim = aim / np.maximum(total, 1)[group]
    prior = np.concatenate([DEFAULTS.repeat, DEFAULTS.new]) * spread

    def loss(slopes: np.ndarray) -> tuple[float, np.ndarray]:
        value = (scaled @ slopes.astype(np.float32)).astype(float)
        value -= np.maximum.reduceat(value, starts)[group]
        likely = np.exp(value)
        mass = np.add.reduceat(likely, starts)
        missed = -(aim @ value) + weight @ np.log(mass)
        gradient = (likely * (weight / mass)[group] - aim).astype(np.float32) @ scaled
        away = slopes - prior
        return missed + _PULL / 2 * away @ away, gradient + _PULL * away

    found = minimize(loss, prior, jac=True, method="L-BFGS-B", options=_STOP)
    slopes = found.x / spread
    return Weights(slopes[: len(REPEAT_FEATURES)], slopes[len(REPEAT_FEATURES) :])


def _joined(designs: Sequence[Design]) -> Design:
    """One design with everybody's customers apart."""
    sizes = [int(each.customer[-1]) + 1 for each in designs]
    first = np.cumsum([0, *sizes[:-1]])
    return Design(
        features=np.concatenate([each.features for each in designs]),
        ordered=np.concatenate([each.ordered for each in designs]),
        customer=np.concatenate(
            [each.customer + low for each, low in zip(designs, first, strict=True)]
        ),
    )


def _compared(
    past: Past, relevant: sp.csr_matrix, customers: np.ndarray, model: ModelScores | None
) -> Design:
    personal = personal_features(past, customers, model)
    pairs = pairs_of(past, customers)
    likely = _new_scores(past, DEFAULTS, personal)
    likely[pairs.row, pairs.item] = -np.inf
    row, item = np.nonzero(_new_candidates(past, customers, likely))
    repeat, new = len(REPEAT_FEATURES), len(NEW_FEATURES)
    features = np.zeros((len(pairs.row) + len(row), repeat + new), dtype=np.float32)
    features[: len(pairs.row), :repeat] = _repeat_features(past, pairs, personal)
    features[len(pairs.row) :, repeat:] = np.column_stack(
        [_shop_features(past)[item], personal[:, row, item].T]
    )
    row, item = np.concatenate([pairs.row, row]), np.concatenate([pairs.item, item])
    order = np.argsort(row, kind="stable")
    ordered = cells(relevant[customers], row, item) > 0
    return Design(features=features[order], ordered=ordered[order], customer=row[order])


def _new_candidates(past: Past, customers: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """(B, V) bool: the likeliest items, and some from all over what is on sale.

    Without the latter a fit would never see what an unpopular item looks like. Items nobody
    bought within a year are no candidates, for among them are those yet to be launched.
    """
    on_sale = np.flatnonzero(past.popularity[-1] > 0)
    likely = np.where(past.popularity[-1] > 0, likely, -np.inf)
    many = min(_CANDIDATES, likely.shape[1])
    chosen = np.zeros(likely.shape, dtype=bool)
    best = np.argpartition(-likely, many - 1, axis=1)[:, :many]
    np.put_along_axis(chosen, best, values=True, axis=1)
    if len(on_sale):
        # evenly spread, from a place that differs between customers
        step = np.arange(_SPREAD) * len(on_sale) // _SPREAD
        scattered = on_sale[(customers[:, None] * 7919 + step) % len(on_sale)]
        np.put_along_axis(chosen, scattered, values=True, axis=1)
    return chosen & np.isfinite(likely)


def personal_features(
    past: Past, customers: np.ndarray, model: ModelScores | None
) -> np.ndarray:
    """(3, B, V) float32 logarithms: co-purchases, category, and the model's opinion, 0 if none."""
    features = np.zeros((3, len(customers), past.shape[1]), dtype=np.float32)
    features[0] = np.log1p(100 * co_purchases(past, customers))
    features[1] = category_taste(past, customers)
    if model is not None:
        # beside the even chance of an item that is on sale, so that shops of any size compare
        on_sale = max(typical_of(past).on_sale, 1)
        features[2] = np.clip(model(customers) + np.log(on_sale), -8, None)
    return features


def shop_scores(past: Past, weights: Weights) -> np.ndarray:
    """(V,) of every item, what is alike for all to whom it is new."""
    scores: np.ndarray = _shop_features(past) @ weights.new[:-3]
    return scores


def _new_scores(past: Past, weights: Weights, personal: np.ndarray) -> np.ndarray:
    """(B, V) float32, of every item as if it were new to the customer."""
    total = np.broadcast_to(shop_scores(past, weights), personal.shape[1:])
    total = total.astype(np.float32)
    for slope, feature in zip(weights.new[-3:].astype(np.float32), personal, strict=True):
        total += slope * feature
    return total


def _shop_features(past: Past) -> np.ndarray:
    """(V, 5): how popular an item is beside the others on sale, and whether it still sells."""
    popular, mean = np.log1p(past.popularity), typical_of(past).popular
    return np.column_stack([(popular - mean[:, None]).T, past.popularity[1] == 0])


def _repeat_features(past: Past, pairs: Pairs, personal: np.ndarray) -> np.ndarray:
    """(P, F) of what the batch's customers bought before."""
    entry, item = pairs.entry, pairs.item
    count = past.counts.data[entry]
    last, gap = past.last_days[entry], past.gap_days[entry]
    shop = _shop_features(past)[item]
    due = np.log(np.maximum(last, 1) / np.maximum(gap, 1))
    columns = [
        np.ones(len(entry)),
        np.log(count),
        np.log(past.fading[entry]),
        np.log1p(last),
        np.where(np.isnan(gap), 0, np.clip(due, -2, 2) ** 2),
        count == 1,
        np.log(past.repeat_rate[item]),
        np.log(np.maximum(past.spend[entry], 0.01)),
        np.log(count) * shop[:, 1],
        *shop.T,
        *personal[:, pairs.row, item],
    ]
    return np.column_stack(columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What spoke for some cells of the lists, in units of the score."""

    entry: np.ndarray                      # (N,) of the Past, -1 where the item is new to her
    together: np.ndarray                   # (N,) co-purchases
    category: np.ndarray                   # (N,)
    model: np.ndarray                      # (N,)
    popular: np.ndarray                    # (N,) beside the mean item on sale

    def take(self, cells: np.ndarray) -> "Parts":
        """Those of some of the cells."""
        return Parts(**{one.name: getattr(self, one.name)[cells] for one in fields(Parts)})


def parts_of(
    past: Past,
    weights: Weights,
    customers: np.ndarray,
    personal: np.ndarray,
    places: tuple[np.ndarray, np.ndarray],
) -> Parts:
    """Taken apart, the scores at some places: rows of the batch, and items."""
    row, item = places
    said = weights.new[-3:, None] * personal[:, row, item]
    pairs = pairs_of(past, customers)
    entry = np.full((len(customers), past.shape[1]), -1, dtype=np.int64)
    entry[pairs.row, pairs.item] = pairs.entry
    return Parts(
        entry=entry[row, item],
        together=said[0],
        category=said[1],
        model=said[2],
        popular=shop_scores(past, weights)[item],
    )
