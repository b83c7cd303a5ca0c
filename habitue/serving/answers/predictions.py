"""Predictions of one customer at any instant since their anchor, as plain values."""

from collections.abc import Sequence

import numpy as np

from habitue.lake.live.scored import ScoredCustomer
from habitue.lake.live.told import instant
from habitue.predictions.scores.answers import Interval, Scores, none_of
from habitue.predictions.scores.kept import scores_of_rows
from habitue.scoring.told import WholeShop
from habitue.sequences.build import DAY
from habitue.serving.answers.told import Prediction

OF_ANY_HORIZON = ("order", "churn")        # the others at the horizons that were read
DEFAULT_HORIZONS_DAYS = (30.0, 90.0)
MAX_HORIZON_DAYS = 730.0


def predictions_of(
    shop: WholeShop,
    scored: ScoredCustomer,
    *,
    at: int,
    questions: Sequence[str],
    horizons_days: Sequence[float],
) -> list[Prediction]:
    """The answers to some questions as of `at` (µs, not before the anchor)."""
    scores = scores_at(shop, [scored], at)
    of_order: dict[float, Interval] = {}   # asked once for those who order and those who do not

    def told_of(question: str, days: float) -> Interval:
        if question not in OF_ANY_HORIZON:
            return scores.orders(days)
        if days not in of_order:
            of_order[days] = scores.order(days)
        return of_order[days] if question == "order" else none_of(of_order[days])

    found = []
    for question in questions:
        if question == "next_order":
            found.append(_next_order(scores, at))
            continue
        told = (
            scores.revenues(horizons_days) if question == "revenue"
            else [told_of(question, days) for days in horizons_days]
        )  # fmt: skip
        for days, interval in zip(horizons_days, told, strict=True):
            value, low, high = (float(one[0]) for one in _columns(interval))
            found.append(
                Prediction(question=question, value=value, low=low, high=high, horizon_days=days)
            )
    return found


def scores_at(shop: WholeShop, scored: Sequence[ScoredCustomer], at: int) -> Scores:
    """The scores of some customers as of `at` (µs)."""
    anchor = np.array([one.anchor for one in scored], dtype=np.int64)
    names, rows = [one.customer for one in scored], [one.curve for one in scored]
    return scores_of_rows(shop.whole, names, anchor, rows, time=at)


def is_answered(shop: WholeShop, question: str, horizon_days: float) -> bool:
    """Whether a question can be asked at a horizon."""
    if question in OF_ANY_HORIZON:
        return 0 < horizon_days <= MAX_HORIZON_DAYS
    return any(abs(horizon_days - one) < 1e-6 for one in shop.whole.horizons_days)


def _next_order(scores: Scores, at: int) -> Prediction:
    low, middle, high = (float(days) for days in scores.next_order()[0])
    return Prediction(
        question="next_order", value=_known(middle), low=_known(low), high=_known(high),
        date=None if middle > MAX_HORIZON_DAYS else instant(at + round(middle * DAY)),
    )  # fmt: skip


def _known(days: float) -> float | None:
    """Days, as `predict` tells them too; none beyond where hazards end."""
    return None if days > MAX_HORIZON_DAYS else days


def _columns(interval: Interval) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return interval.value, interval.low, interval.high
