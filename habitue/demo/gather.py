"""From a backtest and a final model to the figures that the report shows."""

# C customers · W weeks
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
from scipy.stats import binom

from habitue import publishing
from habitue.config import TrainConfig
from habitue.demo import figures as shown
from habitue.demo.words import silence
from habitue.evaluation import Backtest, Verdict
from habitue.events import Receipt
from habitue.predictions.curves import FAR_DAYS
from habitue.predictions.learn import Learnt
from habitue.predictions.scores.answers import Interval, Scores
from habitue.recommendations.recommend import FittedRecommender
from habitue.recommendations.recommend import recommend as recommend_items
from habitue.sequences.aggregates import AGGREGATE_NAMES, aggregates
from habitue.sequences.build import DAY, Sequences, instant
from habitue.workspace import Shop

Outcome = Literal["orderers", "revenue"]
WEEK_DAYS = 7
WEEKS_BEFORE = 78                          # drawn before the cutoff
RELIABILITY_BINS = 10
LIFT_STEPS = 20
SLIPPING_SHOWN = 30
SLIPPING_ORDERS = 3                        # days with one; a customer of fewer has no habit
SLIPPING_GAPS = 1.5                        # of the usual gap without an order
TIMELINE_EVENTS = 60
RECOMMENDED = 5
MONTH_DAYS = 30.0                          # a second horizon, for ready audiences
_Z = 1.645                                 # of the 5th and 95th percentile
ATTRIBUTION = (
    "Data: Online Retail II by Daqing Chen (2012), UCI Machine Learning Repository,"
    " doi 10.24432/C5CG6D, CC BY 4.0; the two sheets merged without their overlap."
)
# one row: what a shop's events come to
_TOTALS = """
SELECT count(*) FILTER (name = 'order_placed') AS orders,
       count(*) FILTER (name IN ('order_refunded', 'order_cancelled')) AS refunds,
       count(DISTINCT customer) AS customers,
       count(*) FILTER (name = 'order_placed' AND customer IS NULL) AS anonymous,
       min("time") AS first, max("time") AS last, count(*) AS events
FROM events
"""
_ITEMS = "SELECT count(*) AS items FROM items WHERE is_item"


def at(microseconds: int) -> datetime:
    """An aware datetime of an instant in µs."""
    found = instant(int(microseconds))
    assert found is not None, "an instant is known"
    return found


def ingest(shop: Shop, receipt: Receipt) -> shown.Ingest:
    """What came in, by the receipt of this run and the events the lake now holds."""
    totals = shop.query(_TOTALS).to_pylist()[0]
    return shown.Ingest(
        rows=receipt.rows,
        appended=receipt.appended,
        duplicate=receipt.duplicate,
        rejected=receipt.rejected,
        reasons=receipt.reasons,
        events=totals["events"],
        orders=totals["orders"],
        refunds=totals["refunds"],
        customers=totals["customers"],
        items=shop.query(_ITEMS)["items"][0].as_py(),
        anonymous_share=totals["anonymous"] / max(totals["orders"], 1),
        first=totals["first"],
        last=totals["last"],
    )


def holdout(test: Backtest) -> shown.Holdout:
    """Totals of the horizon after the cutoff, over customers known at it."""
    days, scores, actual = test.horizon_days, test.scores, test.actual
    return shown.Holdout(
        cutoff=at(test.known.cutoff),
        horizon_days=days,
        customers=len(scores.names),
        orderers=_total(scores, scores.order(days)),
        orderers_actual=float(actual.observed.sum()),
        orders=_total(scores, scores.orders(days)),
        orders_actual=float(actual.orders.sum()),
        revenue=_total(scores, scores.revenue(days)),
        revenue_actual=float(actual.revenue.sum()),
    )


def weekly_orders(test: Backtest, everything: Sequences) -> tuple[shown.Week, ...]:
    """Orders week by week around the cutoff: what was, and what the model expected of the known."""
    cutoff, week = test.known.cutoff, WEEK_DAYS * DAY
    count = int(test.horizon_days // WEEK_DAYS)
    ordered = everything.is_order
    time, owner = everything.time[ordered], everything.customer_of_event[ordered]
    known = np.isin(everything.customers, test.scores.names)[owner]
    horizons = tuple(float(WEEK_DAYS * (i + 1)) for i in range(count))
    scores = test.learnt.scores(horizons)
    totals = np.array([0.0, *(scores.orders(days).value.sum() for days in horizons)])
    expected = np.diff(np.maximum.accumulate(totals))
    weeks = []
    for i in range(-WEEKS_BEFORE, count):
        inside = (time > cutoff + i * week) & (time <= cutoff + (i + 1) * week)
        if i < 0 and cutoff + i * week < int(everything.time.min()):
            continue
        weeks.append(
            shown.Week(
                start=at(cutoff + i * week),
                actual=float((inside & known).sum() if i >= 0 else inside.sum()),
                predicted=None if i < 0 else _weekly(scores, float(expected[i])),
                with_newcomers=None if i < 0 else float(inside.sum()),
            )
        )
    return tuple(weeks)


def reliability(test: Backtest) -> tuple[shown.Reliability, ...]:
    """Predicted and observed shares by tenths of each method's forecast."""
    happened = test.actual.observed
    found = []
    for method, forecast in test.forecasts.items():
        order = np.argsort(forecast.probability, kind="stable")
        bins = [
            _bin(forecast.probability[part], happened[part])
            for part in np.array_split(order, RELIABILITY_BINS)
            if len(part)
        ]
        measured = {
            row["metric"]: row["value"]
            for row in test.rows
            if row["question"] == "order" and row["method"] == method
        }
        found.append(
            shown.Reliability(
                method=method,
                bins=tuple(bins),
                ece=measured.get("ece"),
                perfect_mean=measured.get("ece_perfect_mean"),
                perfect_p95=measured.get("ece_perfect_p95"),
            )
        )
    return tuple(found)


def lift(test: Backtest) -> tuple[shown.Lift, ...]:
    """What share of orderers and of revenue is reached, best scores first."""
    found = []
    for method, forecast in test.forecasts.items():
        happened = test.actual.observed.astype(float)
        found.append(_lift(method, "orderers", forecast.probability, happened))
        name = test.revenue_names[method]
        found.append(_lift(name, "revenue", forecast.revenue, test.actual.revenue))
    return tuple(found)


def comparison(test: Backtest) -> tuple[shown.Comparison, ...]:
    """The evaluate rows, as the report wants them."""
    return msgspec.convert(test.rows, tuple[shown.Comparison, ...])


def verdict_figures(judged: list[Verdict]) -> tuple[shown.Verdict, ...]:
    """Verdicts as the report wants them."""
    return msgspec.convert(judged, tuple[shown.Verdict, ...], from_attributes=True)


def protocol(test: Backtest, config: TrainConfig) -> tuple[str, ...]:
    """How it was done, one sentence each."""
    calibration = test.learnt.calibration
    return (
        f"Everything shown for the holdout was learnt from events up to"
        f" {at(test.known.cutoff):%d %B %Y}; the {test.horizon_days:g} days after it were used for"
        " nothing but this comparison.",
        f"The model: {config.width} wide, {config.layers} layers, {config.epochs} passes, seed"
        f" {config.seed}.",
        f"Calibrated on the {calibration.window_days:g} days before the cutoff, forecast by a model"
        " trained without them; the level of the months ahead follows last year's where there was"
        " one.",
        "Baselines: BG/NBD, MBG/NBD and Pareto/NBD with Gamma-Gamma values, and LightGBM on"
        " recency, frequency, value and windowed counts, all fitted on the same past.",
        "Items: those ordered in the 28 days after the cutoff, out of all items on sale by then,"
        " nothing filtered, ties by item code; postage, fees and vouchers are no items.",
        "Intervals are the 5th and 95th percentile over customers drawn again with replacement; a"
        " win or a loss means that the interval of the paired difference leaves out zero.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalOutlook:
    """What the final version says of everyone, as figures and as rows to keep."""

    figures: shown.Outlook
    answers: pa.Table


def outlook(
    learnt: Learnt, recommender: FittedRecommender, *, horizon_days: float, version: str
) -> FinalOutlook:
    """Everyone's predictions as of the end, and who is slipping away."""
    sequences = learnt.trained.corpus.sequences
    scores = learnt.scores((MONTH_DAYS, horizon_days))
    order, revenue = scores.order(horizon_days), scores.revenue(horizon_days)
    habits = _Habits(sequences, scores)
    at_risk = habits.yearly * horizon_days / 365 * (1 - order.value)
    slips = (
        (habits.order_days >= SLIPPING_ORDERS)
        & (habits.quiet_days > SLIPPING_GAPS * habits.usual_gap_days)
        & (at_risk > 0)
    )
    first = np.argsort(-np.where(slips, at_risk, -1.0), kind="stable")[:SLIPPING_SHOWN]
    chosen = first[slips[first]]
    lists = _lists(recommender, sequences, scores.customer[chosen])
    dates = scores.next_order()
    slipping = tuple(
        msgspec.structs.replace(
            _slipping(row, scores, habits, (order, revenue), dates[row]),
            value_at_risk=float(at_risk[row]),
            recommendations=tuple(lists.get(str(scores.names[row]), ())),
        )
        for row in chosen
    )
    figures = shown.Outlook(
        as_of=at(sequences.cutoff),
        horizon_days=horizon_days,
        customers=len(scores.names),
        orderers=_total(scores, order),
        orders=_total(scores, scores.orders(horizon_days)),
        revenue=_total(scores, revenue),
        deciles=_deciles(order.value, scores.orders(horizon_days).value, revenue.value),
        slipping=slipping,
        slipping_customers=int(slips.sum()),
        value_at_risk=float(at_risk[slips].sum()),
        slipping_rule=(
            f"Customers who ordered on at least {SLIPPING_ORDERS} days and have been silent for"
            f" more than {SLIPPING_GAPS:g} times their usual gap. At risk is what they spent in the"
            f" last 365 days, scaled to {horizon_days:g} days, times the chance that they order"
            " nothing."
        ),
    )
    answers = publishing.answers(scores, sequences, version)
    return FinalOutlook(figures=figures, answers=answers)


class _Habits:
    """What each scored customer used to do, (C,) each."""

    def __init__(self, sequences: Sequences, scores: Scores) -> None:
        whole = aggregates(
            sequences, scores.customer, np.full(len(scores.customer), sequences.cutoff)
        )
        columns = dict(zip(AGGREGATE_NAMES, whole.T.astype(np.float64), strict=True))
        self.sequences = sequences
        self.orders = columns["orders"]
        self.order_days = columns["order_days"]
        self.quiet_days = columns["days_since_order"]
        self.usual_gap_days = columns["mean_gap_days"]
        self.value = columns["value"] - columns["refunded_value"]
        kept = np.clip(self.value / np.maximum(columns["value"], 1e-9), 0.0, 1.0)
        self.yearly = columns["value_365d"] * kept       # what was not sent back


def _slipping(
    row: int,
    scores: Scores,
    habits: _Habits,
    told: tuple[Interval, Interval],
    next_order: np.ndarray,
) -> shown.Slipping:
    """One customer's figures; what is at risk and what to offer is filled in by the caller."""
    order, revenue = told
    sequences = habits.sequences
    gap = float(habits.usual_gap_days[row]) or None
    quiet = float(habits.quiet_days[row])
    dates = [
        None if days >= FAR_DAYS / 4 else at(sequences.cutoff + int(days * DAY))
        for days in next_order
    ]
    return shown.Slipping(
        customer=str(scores.names[row]),
        past_value=float(habits.value[row]),
        orders=int(habits.orders[row]),
        last_order=at(sequences.cutoff) - timedelta(days=quiet),
        usual_gap_days=gap,
        expected_value=_estimate(revenue, row),
        probability=_estimate(order, row),
        churn=float(1 - order.value[row]),
        next_order=shown.NextOrder(p10=dates[0], p50=dates[1], p90=dates[2]),
        value_at_risk=0.0,
        why=silence(quiet, gap),
        timeline=_timeline(sequences, int(scores.customer[row])),
    )


def _timeline(sequences: Sequences, customer: int) -> tuple[shown.Mark, ...]:
    begin, end = sequences.offsets[customer], sequences.offsets[customer + 1]
    return tuple(
        shown.Mark(
            time=at(sequences.time[event]),
            name=sequences.kinds[sequences.kind[event]],
            value=float(sequences.value[event]),
        )
        for event in range(max(begin, end - TIMELINE_EVENTS), end)
    )


def _lists(
    recommender: FittedRecommender, sequences: Sequences, customers: np.ndarray
) -> dict[str, list[shown.Recommended]]:
    if not len(customers) or not len(sequences.items):
        return {}
    found: dict[str, list[shown.Recommended]] = {}
    table = recommend_items(recommender, sequences, k=RECOMMENDED, customers=customers)
    for row in table.to_pylist():
        found.setdefault(row["customer"], []).append(
            shown.Recommended(
                item=row["item"],
                title=row["title"] or None,
                reason=row["evidence"],
                score=row["score"],
            )
        )
    return found


def _deciles(
    probability: np.ndarray, orders: np.ndarray, revenue: np.ndarray
) -> tuple[shown.Decile, ...]:
    by_chance = np.argsort(-probability, kind="stable")
    return tuple(
        shown.Decile(
            customers=len(part),
            low=float(probability[part].min()),
            high=float(probability[part].max()),
            probability=float(probability[part].mean()),
            orders=float(orders[part].sum()),
            revenue=float(revenue[part].sum()),
        )
        for part in np.array_split(by_chance, 10)
        if len(part)
    )


def _total(scores: Scores, interval: Interval) -> shown.Estimate:
    """A sum over customers; its level is what is uncertain, their luck evens out."""
    total = float(interval.value.sum())
    spread = np.exp(_Z * scores.calibration.drift)
    return shown.Estimate(total, total / spread, min(total * spread, _most(interval)))


def _most(interval: Interval) -> float:
    """A sum of probabilities cannot exceed the number of customers."""
    whole = len(interval.value)
    return float(whole) if (interval.high <= 1).all() and whole else float("inf")


def _weekly(scores: Scores, expected: float) -> shown.Estimate:
    """A week's orders: level and the week's own luck, which is about twice a Poisson's."""
    deviation = np.sqrt((scores.calibration.drift * expected) ** 2 + 4 * expected)
    low, high = max(expected - _Z * deviation, 0.0), expected + _Z * deviation
    return shown.Estimate(expected, float(low), float(high))


def _estimate(interval: Interval, row: int) -> shown.Estimate:
    return shown.Estimate(
        float(interval.value[row]), float(interval.low[row]), float(interval.high[row])
    )


def _bin(probability: np.ndarray, happened: np.ndarray) -> shown.Bin:
    count, mean = len(probability), float(probability.mean())
    return shown.Bin(
        predicted=mean,
        observed=float(happened.mean()),
        customers=count,
        low=float(binom.ppf(0.05, count, mean) / count),
        high=float(binom.ppf(0.95, count, mean) / count),
    )


def _lift(
    method: str, outcome: Outcome, score: np.ndarray, actual: np.ndarray
) -> shown.Lift:
    ranked = np.concatenate([[0.0], np.cumsum(actual[np.argsort(-score, kind="stable")])])
    reached = ranked / max(ranked[-1], 1e-12)
    stops = np.linspace(0, len(score), LIFT_STEPS + 1).astype(int)
    points = tuple(
        shown.LiftPoint(float(stop / max(len(score), 1)), float(reached[stop])) for stop in stops
    )
    return shown.Lift(method=method, outcome=outcome, points=points)
