"""The flat rows of `habitue evaluate`: one metric of one method on one question, with interval."""

# C customers
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from habitue.predictions import metrics
from habitue.predictions.metrics import Floats, Metric

ORDER_METRICS: Mapping[str, Metric] = {
    "auc": metrics.auc,
    "brier": metrics.brier,
    "brier_skill": metrics.brier_skill,
    "log_loss": metrics.log_loss,
    "ece": metrics.calibration_error,
    "slope": metrics.calibration_slope,
    "intercept": metrics.calibration_intercept,
}
COUNT_METRICS: Mapping[str, Metric] = {
    "mae": metrics.mae,
    "rmse": metrics.rmse,
    "bias": metrics.bias,
    "spearman": metrics.spearman,
    "ngini": metrics.normalised_gini,
    "decile_mape": metrics.decile_mape,
    "top_capture": metrics.top_capture,
}
NEXT_ORDER_METRICS: Mapping[str, Metric] = {
    "c_index": metrics.c_index,
    "mae_weeks": metrics.mae_weeks,
}
HIGHER_IS_BETTER = frozenset({"auc", "brier_skill", "spearman", "ngini", "top_capture", "c_index"})
LOWER_IS_BETTER = frozenset(
    {"brier", "log_loss", "ece", "mae", "rmse", "decile_mape", "mae_weeks", "pit_ks"}
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of whom; the same for all rows of one table."""

    shop: str
    cutoff: str                            # ISO 8601
    horizon_days: float
    method: str


@dataclass(frozen=True, slots=True)
class Spread:
    """What a predictive distribution says of the actual values and around its own centre."""

    below: Floats                          # (C,) P(Y < actual)
    at: Floats                             # (C,) P(Y <= actual)
    low: Floats                            # (C,) 5th percentile of Y
    high: Floats                           # (C,) 95th


class Row(TypedDict):
    """One row, in the order of its columns."""

    shop: str
    cutoff: str
    horizon_days: float
    question: str
    method: str
    metric: str
    value: float | None                    # None where the metric is not defined
    low: float | None                      # 5th percentile over customers drawn again
    high: float | None                     # 95th
    customers: int


def rows_for_order(
    asked: Asked,
    happened: NDArray[np.bool_],
    probability: Floats,
    rng: np.random.Generator,
    replicates: int = 200,
) -> list[Row]:
    """The question `order`: was there one within the horizon."""
    outcome = happened.astype(np.float64)
    tell = partial(_row, asked, "order", len(outcome))
    rows = []
    for name, metric in ORDER_METRICS.items():
        interval = metrics.bootstrap(metric, outcome, probability, rng=rng, replicates=replicates)
        rows.append(tell(name, metric(outcome, probability), interval))
        if name == "ece":
            mean, p95 = metrics.perfect_calibration_error(probability, rng)
            rows += [tell("ece_perfect_mean", mean), tell("ece_perfect_p95", p95)]
    return rows


def rows_for_counts(
    asked: Asked,
    question: str,                         # "orders" or "revenue"
    actual: Floats,
    predicted: Floats,
    rng: np.random.Generator,
    spread: Spread | None = None,
) -> list[Row]:
    """How many orders or how much revenue there was within the horizon."""
    tell = partial(_row, asked, question, len(actual))
    rows = [
        tell(name, metric(actual, predicted), metrics.bootstrap(metric, actual, predicted, rng=rng))
        for name, metric in COUNT_METRICS.items()
    ]
    if spread is None:
        return rows
    pit = metrics.randomised_pit(spread.below, spread.at, rng)
    width = metrics.interval_width
    return [
        *rows,
        tell(
            "coverage_90",
            metrics.central_coverage(pit),
            metrics.bootstrap(metrics.central_coverage, pit, rng=rng),
        ),
        tell("pit_ks", metrics.pit_distance(pit)),
        tell(
            "interval_width",
            width(spread.low, spread.high),
            metrics.bootstrap(width, spread.low, spread.high, rng=rng),
        ),
    ]


def rows_for_next_order(
    asked: Asked,
    days: Floats,                          # to the next order, or the horizon where none came
    observed: NDArray[np.bool_],           # an order came within the horizon
    predicted: Mapping[str, Floats],       # "c_index": any score of lateness; "mae_weeks": days
    rng: np.random.Generator,
) -> list[Row]:
    """When the next order comes: all customers are ranked, those who ordered are measured."""
    tell = partial(_row, asked, "next_order", len(days))
    return [
        tell(
            name,
            metric(days, observed, predicted[name]),
            metrics.bootstrap(metric, days, observed, predicted[name], rng=rng),
        )
        for name, metric in NEXT_ORDER_METRICS.items()
    ]


def _row(
    asked: Asked,
    question: str,
    customers: int,
    metric: str,
    value: float,
    interval: tuple[float, float] | None = None,
) -> Row:
    low, high = interval or (None, None)
    return Row(
        shop=asked.shop,
        cutoff=asked.cutoff,
        horizon_days=asked.horizon_days,
        question=question,
        method=asked.method,
        metric=metric,
        value=_known(value),
        low=_known(low),
        high=_known(high),
        customers=customers,
    )


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
