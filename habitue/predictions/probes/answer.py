"""Choose a way to answer on one closed window, judge it on the next, and answer for everyone.

The window that judges is seen by nothing that is judged on it: not by the ways to answer, not by
the calibration, and not by the embeddings, whose model was trained before the window that chose.
"""

# C customers at the cutoff
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np

from habitue.predictions import metrics
from habitue.predictions.metrics import Metric
from habitue.predictions.probes.language import Aggregation, Target
from habitue.predictions.probes.lessons import (
    Embed,
    Lessons,
    Past,
    Windows,
    days_needed,
    days_of_past,
    windows_before,
)
from habitue.predictions.probes.maps import AmountMap, fit_map
from habitue.predictions.probes.methods import METHODS, Tuned, fit, tune
from habitue.predictions.rows import COUNT_METRICS, HIGHER_IS_BETTER, ORDER_METRICS
from habitue.predictions.scores.answers import Interval
from habitue.sequences.build import instant

LEAST_HAPPENED = 30                        # rows to learn from to whom it happened, or did not
LEAST_JUDGED = 10                          # in each of the two windows that decide
REPLICATES = 100
ANSWER = "answer"                          # the chosen way, calibrated
_RATES = ("auc", "brier", "log_loss", "ece")
_AMOUNTS = ("mae", "rmse", "bias", "spearman", "ngini")


class Judged(TypedDict):
    """One metric of one way to answer, on the window before the cutoff."""

    question: str
    cutoff: str                            # of the window, ISO 8601
    horizon_days: float
    method: str
    metric: str
    value: float | None
    low: float | None                      # 5th percentile over customers drawn again
    high: float | None                     # 95th
    verdict: str | None                    # of the answer against this one: win, tie, loss
    customers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is expected of everyone known at the cutoff, and how good that was before."""

    customer: np.ndarray                   # (C,) indices
    interval: Interval                     # (C,) each; NaN where too little is known
    method: str                            # that was chosen, or why there is none
    missing: str                           # what an answer would need; "" where there is one
    judged: tuple[Judged, ...]


def answer(
    past: Past, *, trial: Callable[[int], Embed], embed: Embed, seed: int
) -> Answer:
    """Answer the target of `past`; `trial` gives the embeddings of a model that saw nothing later.

    `embed` are those of the model that answers, which may have seen all up to the cutoff.
    """
    target, sequences = past.target, past.sequences
    customer = past.known(sequences.cutoff)
    windows = windows_before(sequences, target.horizon_days)
    if windows is None:
        needed, held = days_needed(target.horizon_days), days_of_past(sequences)
        return _insufficient(
            customer,
            f"{target.horizon_days:g} days ahead are learnt from {needed:.0f} days of past, and"
            f" there are {held:.0f}; ask for {_longest(held):.0f} days or less",
        )
    rows = past.draw(windows, seed)
    missing = _missing(past, windows, *rows)
    if missing:
        return _insufficient(customer, missing)
    study = _Study(past, windows, past.lessons(*rows, trial(windows.chosen)), seed)
    tuned = _tuned(study)
    best = min(tuned, key=lambda one: one.loss)
    judged, raw = _judge(study, tuned, best)
    interval = _ahead(study, best, embed, raw)
    return Answer(
        customer=customer,
        interval=interval,
        method=best.method.name,
        missing="",
        judged=tuple(judged),
    )


@dataclass(frozen=True, slots=True)
class _Study:
    """Past cutoffs and what was known of everyone at them, by a model that saw no more."""

    past: Past
    windows: Windows
    lessons: Lessons
    seed: int

    @property
    def aggregation(self) -> Aggregation:
        """Of the target."""
        return self.past.target.aggregation


def _tuned(study: _Study) -> list[Tuned]:
    """Every way to answer, tuned on the window that chooses."""
    windows = study.windows
    known = study.past.labelled(study.lessons, windows.judged)
    early, late = known.upto(windows.chosen - windows.horizon), known.of(windows.chosen)
    return [tune(method, study.aggregation, early, late, study.seed) for method in METHODS]


def _judge(
    study: _Study, tuned: list[Tuned], best: Tuned
) -> tuple[list[Judged], np.ndarray]:
    """Rows of every way on the window that judges, and what the best one said before calibration.

    All learn once more, from what was known when that window began.
    """
    past, windows, aggregation, seed = study.past, study.windows, study.aggregation, study.seed
    known = past.labelled(study.lessons, windows.judged)
    early, asked = known.upto(windows.chosen), known.of(windows.judged)
    predicted = {
        one.method.name: fit(one.method, aggregation, early, one.dial, seed)(asked)
        for one in tuned
    }
    raw = predicted[best.method.name]
    mapped = fit_map(aggregation, best.predicted, known.of(windows.chosen).label)
    predicted = {ANSWER: mapped.interval(raw).value, **predicted}
    actual = past.labelled(asked, past.sequences.cutoff).label
    about = _About(past.target, instant(windows.judged).isoformat(), len(actual))
    rows = list(_compared(about, actual, predicted, seed))
    if isinstance(mapped, AmountMap):
        spread = mapped.spread(raw, actual)
        pit = metrics.randomised_pit(spread.below, spread.at, np.random.default_rng(seed))
        rows.append(about.row(ANSWER, "coverage_90", metrics.central_coverage(pit)))
    return rows, raw


def _ahead(study: _Study, best: Tuned, embed: Embed, raw: np.ndarray) -> Interval:
    """The best way, having learnt from every closed window, asked as of the cutoff.

    `raw` is what it said at the start of the latest window.
    """
    past, cutoff = study.past, study.past.sequences.cutoff
    everything = past.labelled(study.lessons, cutoff)
    customer = past.known(cutoff)
    looks = embed if best.method.embedding else _nothing
    if best.method.embedding:
        everything = replace(everything, embedding=embed(everything.customer, everything.at))
    asked = past.lessons(customer, np.full(len(customer), cutoff), looks)
    predicted = fit(best.method, study.aggregation, everything, best.dial, study.seed)(asked)
    latest = everything.of(study.windows.judged).label
    interval = fit_map(study.aggregation, raw, latest).interval(predicted)
    if past.sign > 0:
        return interval
    # adding 0 turns -0 into 0
    return Interval(
        value=0.0 - interval.value, low=0.0 - interval.high, high=0.0 - interval.low
    )


def _missing(past: Past, windows: Windows, customer: np.ndarray, at: np.ndarray) -> str:
    """What the target lacks to be learnt; "" where nothing."""
    blank = np.zeros((len(customer), 0), np.float32)
    rows = Lessons(
        customer=customer, at=at, aggregates=blank, recent=blank, embedding=blank,
        label=np.zeros(len(customer)),
    )  # fmt: skip
    rows = past.labelled(rows, past.sequences.cutoff)
    parts = (
        (rows.upto(windows.chosen - windows.horizon), LEAST_HAPPENED, "before the two latest"),
        (rows.of(windows.chosen), LEAST_JUDGED, "in the window before the latest"),
        (rows.of(windows.judged), LEAST_JUDGED, "in the latest window"),
    )
    for part, least, when in parts:
        happened = int((part.label > 0).sum())
        if happened < least:
            return f"it happened to {happened} customers {when}, and {least} are needed"
        others = len(part.label) - happened
        if past.target.aggregation == "exists" and others < least:
            return f"it happened to all but {others} customers {when}, and {least} are needed"
    return ""


@dataclass(frozen=True, slots=True)
class _About:
    """What all rows have in common."""

    target: Target
    cutoff: str
    customers: int

    def row(
        self,
        method: str,
        metric: str,
        value: float,
        interval: tuple[float, float] = (float("nan"), float("nan")),
        verdict: str | None = None,
    ) -> Judged:
        """One metric of one method."""
        return Judged(
            question=str(self.target),
            cutoff=self.cutoff,
            horizon_days=self.target.horizon_days,
            method=method,
            metric=metric,
            value=_known(value),
            low=_known(interval[0]),
            high=_known(interval[1]),
            verdict=verdict,
            customers=self.customers,
        )


def _compared(
    about: _About, actual: np.ndarray, predicted: Mapping[str, np.ndarray], seed: int
) -> Iterator[Judged]:
    """Each metric of each way, with its interval and the answer's verdict against it."""
    is_rate = about.target.aggregation == "exists"
    told: Mapping[str, Metric] = ORDER_METRICS if is_rate else COUNT_METRICS
    for name in _RATES if is_rate else _AMOUNTS:
        drawn = _drawn(told[name], actual, predicted, np.random.default_rng(seed))
        for method, values in predicted.items():
            verdict = None
            if method != ANSWER and name != "bias":
                low, high = _percentiles(drawn[ANSWER] - drawn[method])
                verdict = metrics.verdict(low, high, higher_is_better=name in HIGHER_IS_BETTER)
            interval = _percentiles(drawn[method])
            yield about.row(method, name, told[name](actual, values), interval, verdict)
    if is_rate:
        rng = np.random.default_rng(seed)
        mean, p95 = metrics.perfect_calibration_error(predicted[ANSWER], rng)
        yield about.row(ANSWER, "ece_perfect_mean", mean)
        yield about.row(ANSWER, "ece_perfect_p95", p95)


def _drawn(
    metric: Metric,
    actual: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """(REPLICATES,) the metric of every way, over the same customers drawn again."""
    draws = [rng.integers(0, len(actual), len(actual)) for _ in range(REPLICATES)]
    return {
        method: np.array([metric(actual[rows], values[rows]) for rows in draws])
        for method, values in predicted.items()
    }


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    """5th and 95th percentile of those that are defined."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [5, 95])
    return float(low), float(high)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _insufficient(customer: np.ndarray, missing: str) -> Answer:
    unknown = np.full(len(customer), np.nan)
    return Answer(
        customer=customer,
        interval=Interval(value=unknown, low=unknown, high=unknown),
        method="",
        missing=missing,
        judged=(),
    )


def _longest(held_days: float) -> float:
    """The longest horizon that so many days of past can teach."""
    return max(np.floor(held_days / 4), np.floor((held_days - 60) / 3), 0.0)


def _nothing(customer: np.ndarray, at: np.ndarray) -> np.ndarray:
    """No embedding, for a way that does not look at it."""
    return np.zeros((len(customer), 0), np.float32)
