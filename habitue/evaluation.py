"""The model beside its baselines on what followed a cutoff that none of them could see past."""

# C customers known at the cutoff
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import numpy as np

from habitue.config import TrainConfig
from habitue.errors import NotEnoughHistory
from habitue.lake import query
from habitue.lake.tables import Lake
from habitue.model.train import Step
from habitue.predictions import metrics
from habitue.predictions.baselines import BuyTillYouDie, Forecast, Predictor
from habitue.predictions.learn import Learnt, learn
from habitue.predictions.rows import (
    COUNT_METRICS,
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    NEXT_ORDER_METRICS,
    ORDER_METRICS,
    Asked,
    Row,
    rows_for_counts,
    rows_for_next_order,
    rows_for_order,
)
from habitue.predictions.scores.answers import Scores
from habitue.predictions.targets import Outcomes, outcomes
from habitue.predictions.trees import BoostedTrees
from habitue.recommendations import baselines as list_baselines
from habitue.recommendations import metrics as list_metrics
from habitue.recommendations.ranking import horizon_starts
from habitue.recommendations.recommend import FittedRecommender, fit_recommender
from habitue.sequences.build import DAY, Sequences, build_sequences, instant, microseconds

log = logging.getLogger(__name__)

OURS = "habitue"
ITEM_DAYS = 28.0                           # of the question `items`
PLACES = 10
Lists = dict[str, tuple[np.ndarray, np.ndarray]]      # by method: customers (B,), items (B, k)
Progress = Callable[[str, int, int | None], None]    # what is being done, steps done, of how many
# one row: the shop's first and last event
_SPAN = 'SELECT min("time") AS first, max("time") AS last FROM events'


@dataclass(frozen=True, slots=True)
class Learner:
    """How a shop is learnt: a configuration, and what makes a model of it."""

    config: TrainConfig
    learn: Callable[..., Learnt] = learn   # of sequences, the configuration and progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """One cutoff, judged: what everyone forecast, what happened, and the rows that compare them."""

    known: Sequences                       # up to the cutoff
    horizon_days: float
    learnt: Learnt
    scores: Scores
    recommender: FittedRecommender
    forecasts: dict[str, Forecast]         # by method, of the same customers in the same order
    revenue_names: dict[str, str]          # of methods, in the question `revenue`
    actual: Outcomes                       # of them
    lists: Lists                           # of the customers who ordered within ITEM_DAYS
    answers: list_metrics.Answers | None   # None where ITEM_DAYS have not passed
    rows: list[Row]


def evaluate(
    lake: Lake,
    shop: str,
    *,
    cutoffs: Sequence[datetime],
    horizon_days: float,
    learner: Learner,
    progress: Progress | None = None,
) -> list[Row]:
    """Flat rows of every cutoff: shop, cutoff, horizon, question, method, metric, value, interval.

    Raises:
        NotEnoughHistory: a horizon has not passed yet, or too little happened before a cutoff.
    """
    distinct = list(dict.fromkeys(cutoffs))
    for cutoff in distinct:
        _refuse_open(lake, shop, cutoff, horizon_days)     # before hours of training, not after
    rows: list[Row] = []
    for cutoff in distinct:
        known, future = known_and_future(lake, shop, cutoff, horizon_days)
        learnt = learner.learn(known, learner.config, progress=step_progress(progress))
        _tell(progress, "judging", 0)
        seed = learner.config.seed
        test = backtest(known, future, horizon_days=horizon_days, learnt=learnt, seed=seed)
        _tell(progress, "judging", 1, 1)
        rows += test.rows
    return rows


def known_and_future(
    lake: Lake, shop: str, cutoff: datetime, horizon_days: float
) -> tuple[Sequences, Sequences]:
    """A shop up to a cutoff, and up to the end of the horizon after it.

    Where ITEM_DAYS have passed too, the future holds them.
    """
    last = _refuse_open(lake, shop, cutoff, horizon_days)
    passed = last >= microseconds(cutoff) + round((ITEM_DAYS - 1) * DAY)
    days = max(horizon_days, ITEM_DAYS) if passed else horizon_days
    start = microseconds(cutoff)
    end = start + round(days * DAY)
    return build_sequences(lake, shop, cutoff=start), build_sequences(lake, shop, cutoff=end)


def _refuse_open(lake: Lake, shop: str, cutoff: datetime, horizon_days: float) -> int:
    """When the shop's last event was (µs), which is past the horizon's last day.

    Raises:
        NotEnoughHistory: the horizon has not passed.
    """
    (span,) = query.read(lake, _SPAN, shop=shop).to_pylist()
    first, last = span["first"], span["last"]
    if last is None:
        raise NotEnoughHistory(f"shop {shop!r} has no events yet\nhint: import its orders first")
    # the last day may be a day without orders, or one that is not over
    if microseconds(last) < microseconds(cutoff) + round((horizon_days - 1) * DAY):
        latest = microseconds(last) - round(horizon_days * DAY)
        hint = "a shorter horizon"
        if latest > microseconds(first):
            hint = f"a cutoff up to {instant(latest):%Y-%m-%d}, or {hint}"
        raise NotEnoughHistory(
            f"{horizon_days:g} days after {cutoff:%Y-%m-%d} have not passed at the shop's last"
            f" event, {last:%Y-%m-%d %H:%M} UTC\nhint: choose {hint}"
        )
    return microseconds(last)


def backtest(
    known: Sequences,
    future: Sequences,
    *,
    horizon_days: float,
    learnt: Learnt,
    seed: int,
    baselines: Sequence[Predictor] | None = None,
) -> Backtest:
    """What was learnt from `known` alone, judged by `future`, which goes on past it."""
    scores = learnt.scores((horizon_days,))
    forecasts = {OURS: scores.predict(horizon_days)}
    revenue_names = {OURS: OURS}
    for predictor in default_baselines(seed) if baselines is None else baselines:
        forecasts[predictor.name] = predictor.fit(known, known.cutoff).predict(horizon_days)
        revenue_names[predictor.name] = predictor.revenue_name
    whom = np.searchsorted(future.customers, scores.names)
    actual = outcomes(future, whom, known.cutoff, horizon_days)
    rows = [
        row
        for method, forecast in forecasts.items()
        for row in _forecast_rows(
            _asked(known, horizon_days, method),
            revenue_names[method],
            forecast,
            actual,
            scores if method == OURS else None,
            np.random.default_rng(seed),
        )
    ]
    recommender = learn_recommender(learnt, known)
    lists, answers, item_rows = _judged_lists(known, future, recommender, seed)
    return Backtest(
        known=known,
        horizon_days=horizon_days,
        learnt=learnt,
        scores=scores,
        recommender=recommender,
        forecasts=forecasts,
        revenue_names=revenue_names,
        actual=actual,
        lists=lists,
        answers=answers,
        rows=rows + item_rows,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Ours against the best baseline of one metric, over the same customers drawn again."""

    question: str
    metric: str
    verdict: str                           # win, tie or loss
    best_baseline: str
    difference: float                      # ours - best baseline, in the metric's own unit
    low: float                             # 5th percentile
    high: float                            # 95th


def verdicts(test: Backtest, rng: np.random.Generator) -> list[Verdict]:
    """One verdict per question and metric that has a better and a worse."""
    found = []
    for question, metric, measure, actual, columns in _judged_columns(test):
        higher = metric in HIGHER_IS_BETTER or "@" in metric
        values = {name: measure(*actual, column) for name, column in columns.items()}
        known = {name: v for name, v in values.items() if name != OURS and np.isfinite(v)}
        if not known or not np.isfinite(values[OURS]):
            continue
        best = (max if higher else min)(known, key=lambda name: known[name])
        difference, low, high = metrics.paired_difference(
            measure, actual, columns[OURS], columns[best], rng
        )
        found.append(
            Verdict(
                question=question,
                metric=metric,
                verdict=metrics.verdict(low, high, higher_is_better=higher),
                best_baseline=best,
                difference=difference,
                low=low,
                high=high,
            )
        )
    return found


Judged = tuple[str, str, Callable[..., float], tuple[np.ndarray, ...], dict[str, np.ndarray]]


def _judged_columns(test: Backtest) -> Iterator[Judged]:
    """Question, metric, its function, what happened, and each method's forecasts of it."""
    actual, forecasts = test.actual, test.forecasts
    happened = actual.observed.astype(np.float64)
    chances = {name: forecast.probability for name, forecast in forecasts.items()}
    for metric, measure in _two_sided(ORDER_METRICS):
        yield "order", metric, measure, (happened,), chances
    for metric, measure in _two_sided(COUNT_METRICS):
        orders = {name: forecast.orders for name, forecast in forecasts.items()}
        yield "orders", metric, measure, (actual.orders,), orders
    for metric, measure in _two_sided(COUNT_METRICS):
        spend = {test.revenue_names[name]: f.revenue for name, f in forecasts.items()}
        yield "revenue", metric, measure, (actual.revenue,), spend
    when = (actual.days, actual.observed)
    later = {name: -chance for name, chance in chances.items()}
    yield "next_order", "c_index", NEXT_ORDER_METRICS["c_index"], when, later
    days = {name: forecast.next_order_days[:, 1] for name, forecast in forecasts.items()}
    yield "next_order", "mae_weeks", NEXT_ORDER_METRICS["mae_weeks"], when, days
    if test.answers is None or not test.lists:
        return
    judged = {
        name: list_metrics.per_customer(lists, test.answers) for name, lists in test.lists.items()
    }
    for metric in judged[OURS]:
        columns = {name: values[metric] for name, values in judged.items()}
        yield "items", metric, _mean_known, (np.zeros(len(columns[OURS])),), columns


def _two_sided(table: Mapping[str, Callable[..., float]]) -> list[tuple[str, Callable[..., float]]]:
    ordered = HIGHER_IS_BETTER | LOWER_IS_BETTER
    return [(name, measure) for name, measure in table.items() if name in ordered]


def _mean_known(_: np.ndarray, values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def default_baselines(seed: int) -> list[Predictor]:
    """What every evaluation prints beside the model."""
    classical = [BuyTillYouDie(name) for name in ("bg_nbd", "mbg_nbd", "pareto_nbd")]
    return [*classical, BoostedTrees(seed=seed)]


def learn_recommender(learnt: Learnt, sequences: Sequences) -> FittedRecommender:
    """The shop's mixture; the model's say is learnt from what the earlier one scored unseen."""
    cutoff = sequences.cutoff
    starts = horizon_starts(cutoff, ITEM_DAYS)
    windows = {}
    if learnt.earlier is not None and learnt.earlier.cutoff <= starts[0]:
        windows = {at: learnt.earlier.item_scores(sequences, at) for at in starts}
    return fit_recommender(
        sequences,
        cutoff=cutoff,
        horizon_days=ITEM_DAYS,
        model_scores=learnt.trained.item_scores(sequences, cutoff),
        fit_window_scores=windows or None,
    )


def step_progress(
    progress: Progress | None, prefix: str = ""
) -> Callable[[str, Step], None] | None:
    """Training steps as progress, with loss, events per second and time left in the label."""
    if progress is None:
        return None

    def tell(label: str, step: Step) -> None:
        speed = step.tokens / max(step.seconds, 1e-9)
        note = f"{prefix or label}: loss {step.loss:.3f}, {speed:,.0f} tokens/s"
        progress(note, step.step, step.steps)

    return tell


def _tell(progress: Progress | None, label: str, done: int, total: int | None = None) -> None:
    if progress:
        progress(label, done, total)


def _asked(known: Sequences, horizon_days: float, method: str) -> Asked:
    cutoff = instant(known.cutoff)
    assert cutoff is not None, "sequences have a cutoff"
    return Asked(known.shop, cutoff.isoformat(), horizon_days, method)


def _forecast_rows(
    asked: Asked,
    revenue_name: str,
    forecast: Forecast,
    actual: Outcomes,
    scores: Scores | None,
    rng: np.random.Generator,
) -> list[Row]:
    """The questions order, orders, revenue and next_order of one method."""
    days = asked.horizon_days
    orders = None if scores is None else scores.order_spread(days, actual.orders)
    spend = None if scores is None else scores.revenue_spread(days, actual.revenue)
    of_revenue = Asked(asked.shop, asked.cutoff, days, revenue_name)
    dates = {"c_index": -forecast.probability, "mae_weeks": forecast.next_order_days[:, 1]}
    return [
        *rows_for_order(asked, actual.observed, forecast.probability, rng),
        *rows_for_counts(asked, "orders", actual.orders, forecast.orders, rng, orders),
        *rows_for_counts(of_revenue, "revenue", actual.revenue, forecast.revenue, rng, spend),
        *rows_for_next_order(asked, actual.days, actual.observed, dates, rng),
    ]


def _judged_lists(
    known: Sequences, future: Sequences, recommender: FittedRecommender, seed: int
) -> tuple[Lists, list_metrics.Answers | None, list[Row]]:
    """Lists of every recommender for the customers who ordered, and their rows."""
    if not len(known.items) or future.cutoff < known.cutoff + round(ITEM_DAYS * DAY):
        return {}, None, []
    answers = list_metrics.answers(known, future, ITEM_DAYS)
    customers = np.flatnonzero(answers.total > 0)
    if not len(customers):
        return {}, answers, []
    methods = {
        OURS: recommender,
        "popular_90d": list_baselines.popular_90d(recommender.shown),
        "top_frequency": list_baselines.top_frequency(recommender.shown),
        "item_neighbours": list_baselines.item_neighbours(recommender.shown),
    }
    lists: Lists = {
        name: (customers, method.recommend(customers, PLACES)[0])
        for name, method in methods.items()
    }
    rows = [
        cast(Row, row)
        for name, judged in lists.items()
        for row in list_metrics.rows_for_items(known, name, judged, answers, seed=seed)
    ]
    return lists, answers, rows
