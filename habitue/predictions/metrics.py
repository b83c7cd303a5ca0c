"""How good a forecast was: pure functions of what happened and what was foretold.

Customers of equal forecasts share what they did equally, so that no metric depends on the order of
the rows. A metric that is not defined (one class only, nobody ordered) is nan.
"""

# C customers · B bins · R replicates
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Metric = Callable[..., float]

BINS = 10                                  # of equal mass, in calibration errors and deciles
_SURE = 1e-6                               # log loss and logits stop here
_NEWTON_STEPS = 25


def mae(actual: Floats, predicted: Floats) -> float:
    """Mean absolute error.

    >>> mae(np.array([0.0, 3.0]), np.array([1.0, 1.0]))
    1.5
    """
    return float(np.abs(predicted - actual).mean())


def rmse(actual: Floats, predicted: Floats) -> float:
    """Root of the mean squared error.

    >>> rmse(np.array([0.0, 3.0]), np.array([1.0, -4.0]))
    5.0
    """
    return float(np.sqrt(np.square(predicted - actual).mean()))


def bias(actual: Floats, predicted: Floats) -> float:
    """sum(predicted) / sum(actual) - 1: by what share the whole is overestimated.

    >>> bias(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
    -0.25
    """
    total = actual.sum()
    return float(predicted.sum() / total - 1) if total > 0 else float("nan")


def absolute_bias(actual: Floats, predicted: Floats) -> float:
    """|bias|, by which forecasts can be compared.

    >>> absolute_bias(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
    0.25
    """
    return abs(bias(actual, predicted))


def spearman(actual: Floats, predicted: Floats) -> float:
    """Correlation of the ranks, ties averaged.

    >>> spearman(np.array([0.0, 1.0, 5.0]), np.array([0.1, 0.2, 0.3]))
    1.0
    """
    a, p = rankdata(actual), rankdata(predicted)
    a, p = a - a.mean(), p - p.mean()
    spread = np.sqrt((a @ a) * (p @ p))
    return float(a @ p / spread) if spread > 0 else float("nan")


def normalised_gini(actual: Floats, predicted: Floats) -> float:
    """Gini of what happened in the order of the forecast, over the Gini in its own order.

    Gini in an order is sum(actual * (rank - mean rank)) up to a factor; 1 is a perfect order, 0 a
    random one.

    >>> normalised_gini(np.array([0.0, 1.0, 5.0]), np.array([0.1, 0.2, 0.3]))
    1.0
    >>> normalised_gini(np.array([0.0, 1.0, 5.0]), np.ones(3))
    0.0
    """
    middle = (len(actual) + 1) / 2
    perfect = actual @ (rankdata(actual) - middle)
    found = actual @ (rankdata(predicted) - middle)
    return float(found / perfect) if perfect > 0 else float("nan")


def decile_mape(actual: Floats, predicted: Floats) -> float:
    """Mean over deciles of the forecast of |predicted - actual| / actual.

    A decile in which nothing happened counts as wholly wrong (1).

    >>> decile_mape(np.arange(1.0, 11.0), np.arange(1.0, 11.0) * 1.5)
    0.5
    """
    shares = _Bins(predicted)
    happened, foretold = shares.sums(actual), shares.sums(predicted)
    error = np.abs(foretold - happened)
    return float(np.where(happened > 0, error / np.where(happened > 0, happened, 1), 1.0).mean())


def top_capture(actual: Floats, predicted: Floats) -> float:
    """Share of all that happened among the tenth of customers with the highest forecasts.

    >>> top_capture(np.arange(10.0), np.arange(10.0)) == 9 / 45
    True
    """
    total = actual.sum()
    return float(_Bins(predicted).sums(actual)[-1] / total) if total > 0 else float("nan")


def auc(happened: Floats, probability: Floats) -> float:
    """P(one to whom it happened had the higher forecast), ties counted half (Mann-Whitney).

    >>> auc(np.array([0.0, 0.0, 1.0]), np.array([0.1, 0.5, 0.5]))
    0.75
    """
    positives = happened.sum()
    pairs = positives * (len(happened) - positives)
    above = rankdata(probability) @ happened - positives * (positives + 1) / 2
    return float(above / pairs) if pairs > 0 else float("nan")


def brier(happened: Floats, probability: Floats) -> float:
    """mean((probability - happened)^2).

    >>> brier(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    0.25
    """
    return float(np.square(probability - happened).mean())


def brier_skill(happened: Floats, probability: Floats) -> float:
    """1 - brier / (brier of the base rate for everyone).

    >>> brier_skill(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    0.0
    """
    base = happened.mean() * (1 - happened.mean())
    return 1 - brier(happened, probability) / float(base) if base > 0 else float("nan")


def log_loss(happened: Floats, probability: Floats) -> float:
    """-mean(log of the probability given to what happened), of probabilities kept off 0 and 1.

    >>> round(log_loss(np.array([0.0, 1.0]), np.array([0.5, 0.5])), 4)
    0.6931
    """
    p = np.clip(probability, _SURE, 1 - _SURE)
    return -float((happened * np.log(p) + (1 - happened) * np.log1p(-p)).mean())


def calibration_error(happened: Floats, probability: Floats) -> float:
    """ECE: mean over ten bins of equal mass of |mean probability - share to whom it happened|.

    >>> calibration_error(np.array([0.0, 1.0, 1.0, 1.0]), np.full(4, 0.5))
    0.25
    """
    return float(np.abs(_Bins(probability).sums(probability - happened)).sum() / len(happened))


def perfect_calibration_error(
    probability: Floats, rng: np.random.Generator, replicates: int = 500
) -> tuple[float, float]:
    """Mean and 95th percentile of the ECE that a perfectly calibrated forecast would show.

    Outcomes are drawn from the probabilities themselves.
    """
    shares = _Bins(probability)
    errors = []
    for _ in range(replicates):
        happened = rng.random(len(probability)) < probability
        errors.append(np.abs(shares.sums(probability - happened)).sum() / len(probability))
    return float(np.mean(errors)), float(np.percentile(errors, 95))


def calibration_line(happened: Floats, probability: Floats) -> tuple[float, float]:
    """Slope and intercept of logit P(happened) = intercept + slope * logit(probability).

    Maximum likelihood by Newton's method (Cox, 1958). (1, 0) is calibrated; a slope below 1 is
    overconfident.
    """
    nothing = (float("nan"), float("nan"))
    x = logit(np.clip(probability, _SURE, 1 - _SURE))
    if not 0 < happened.mean() < 1 or np.ptp(x) == 0:
        return nothing
    design = np.stack([np.ones_like(x), x])                              # (2, C)
    line = np.array([0.0, 1.0])
    for _ in range(_NEWTON_STEPS):
        p = expit(line @ design)
        information = (design * (p * (1 - p))) @ design.T
        if np.linalg.cond(information) > 1e12:
            return nothing
        step = np.linalg.solve(information, design @ (happened - p))
        line = line + step
        if np.abs(step).max() < 1e-9:
            return float(line[1]), float(line[0])
    return nothing                                       # separable: the likelihood has no maximum


def calibration_slope(happened: Floats, probability: Floats) -> float:
    """The slope of `calibration_line`."""
    return calibration_line(happened, probability)[0]


def calibration_intercept(happened: Floats, probability: Floats) -> float:
    """The intercept of `calibration_line`."""
    return calibration_line(happened, probability)[1]


def c_index(days: Floats, observed: NDArray[np.bool_], predicted: Floats) -> float:
    """Harrell's C: of the pairs whose earlier order is known, the share foretold in that order.

    `days` are to the next order or, where not `observed`, to the end of the horizon; `predicted`
    is anything that grows with the foretold date. Ties of the forecast count half; O(C log C).

    >>> c_index(np.array([1.0, 2.0, 9.0]), np.array([True, True, False]), np.array([2.0, 2.0, 5.0]))
    0.8333333333333334
    """
    level = np.unique(predicted, return_inverse=True)[1]
    # later ends first; at equal times the censored are later; equal orders do not see each other
    order = np.lexsort((-level, observed, -days))
    t, seen, p = days[order], observed[order], level[order]
    group = np.cumsum(np.r_[True, (np.diff(t) != 0) | (np.diff(seen) != 0)]) - 1
    first = np.flatnonzero(np.r_[True, np.diff(group) != 0])[group]
    lower, equal = _earlier_below(p)
    # sorted by falling forecast within the group, its own members are never lower, only equal
    run = np.r_[True, (np.diff(group) != 0) | (np.diff(p) != 0)]
    equal = equal - (np.arange(len(p)) - np.flatnonzero(run)[np.cumsum(run) - 1])
    pairs = first[seen].sum()
    wrong = lower[seen].sum() + equal[seen].sum() / 2
    return float(1 - wrong / pairs) if pairs > 0 else float("nan")


def mae_weeks(days: Floats, observed: NDArray[np.bool_], predicted: Floats) -> float:
    """Mean absolute error of the next order's date in weeks, among those who ordered.

    >>> mae_weeks(np.array([7.0, 90.0]), np.array([True, False]), np.array([21.0, 0.0]))
    2.0
    """
    if not observed.any():
        return float("nan")
    return float(np.abs(predicted - days)[observed].mean() / 7)


def randomised_pit(below: Floats, at: Floats, rng: np.random.Generator) -> Floats:
    """Uniform where the predictive distribution is right: P(< actual) + u * P(= actual).

    `below` is P(Y < actual), `at` is P(Y <= actual) (Czado, Gneiting & Held, 2009).
    """
    return below + rng.random(len(below)) * (at - below)


def central_coverage(pit: Floats) -> float:
    """Share of customers whose actual value lies in the central 90% of its distribution.

    >>> central_coverage(np.array([0.01, 0.5, 0.9, 0.94]))
    0.75
    """
    return float(((pit >= 0.05) & (pit <= 0.95)).mean())


def pit_distance(pit: Floats) -> float:
    """Kolmogorov-Smirnov distance of the PIT values from uniform.

    >>> round(pit_distance((np.arange(10) + 0.5) / 10), 3)
    0.05
    """
    ordered, n = np.sort(pit), len(pit)
    above, under = np.arange(1, n + 1) / n - ordered, ordered - np.arange(n) / n
    return float(max(above.max(), under.max()))


def interval_width(low: Floats, high: Floats) -> float:
    """Mean width of the intervals.

    >>> interval_width(np.array([0.0, 1.0]), np.array([1.0, 4.0]))
    2.0
    """
    return float((high - low).mean())


def bootstrap(
    metric: Metric, *arrays: NDArray, rng: np.random.Generator, replicates: int = 200
) -> tuple[float, float]:
    """5th and 95th percentile of the metric over customers drawn with replacement."""
    size = len(arrays[0])
    values = []
    for _ in range(replicates):
        drawn = rng.integers(0, size, size)
        values.append(metric(*(array[drawn] for array in arrays)))
    return _percentiles(values)


def paired_difference(
    metric: Metric,
    actual: NDArray | tuple[NDArray, ...],
    ours: NDArray,
    theirs: NDArray,
    rng: np.random.Generator,
    replicates: int = 200,
) -> tuple[float, float, float]:
    """metric(ours) - metric(theirs), and its 5th and 95th percentile over the same drawn customers.

    `actual` is a tuple where the metric takes more than one array before the forecast.
    """
    known = actual if isinstance(actual, tuple) else (actual,)

    def difference(*columns: NDArray) -> float:
        return metric(*columns[:-2], columns[-2]) - metric(*columns[:-2], columns[-1])

    columns = (*known, ours, theirs)
    low, high = bootstrap(difference, *columns, rng=rng, replicates=replicates)
    return difference(*columns), low, high


def verdict(low: float, high: float, *, higher_is_better: bool) -> Literal["win", "tie", "loss"]:
    """What an interval of (ours - theirs) says; inside the noise is a tie.

    >>> verdict(0.01, 0.03, higher_is_better=True), verdict(0.01, 0.03, higher_is_better=False)
    ('win', 'loss')
    >>> verdict(-0.01, 0.03, higher_is_better=True)
    'tie'
    """
    if not (low > 0 or high < 0):
        return "tie"
    return "win" if (low > 0) == higher_is_better else "loss"


class _Bins:
    """Ten bins of equal mass by rising forecast; ties are spread over the bins they straddle."""

    def __init__(self, predicted: Floats) -> None:
        self._order = np.argsort(predicted)
        ordered = predicted[self._order]
        self._last = np.flatnonzero(np.r_[np.diff(ordered) != 0, True])   # of each run of ties
        self._edges = np.linspace(0, len(ordered), BINS + 1)

    def sums(self, values: Floats) -> Floats:
        """(B,) sum of `values` in each bin, lowest forecasts first."""
        running = np.cumsum(values[self._order], dtype=np.float64)[self._last]
        upto = np.interp(self._edges, np.r_[0, self._last + 1], np.r_[0.0, running])
        return np.diff(upto)


def _earlier_below(level: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each element, how many before it are lower, and how many are equal.

    A wavelet tree, one bit of the level after another: of those that share the higher bits, an
    element with this bit set is above all the earlier ones without.
    """
    if level.max() < 1 << 16:
        level = level.astype(np.uint16)                  # whose stable sort is a radix sort
    lower = np.zeros(len(level), dtype=np.int64)
    place = np.arange(len(level))
    for bit in reversed(range(int(level.max()).bit_length())):
        upper = ((level[place] >> bit) & 1).astype(np.int64)
        unset_before = np.cumsum(1 - upper) - (1 - upper)
        unset_before -= unset_before[_group_starts(level[place] >> (bit + 1))]
        lower[place] += upper * unset_before
        place = place[np.argsort(level[place] >> bit, kind="stable")]
    equal = np.zeros(len(level), dtype=np.int64)
    equal[place] = np.arange(len(level)) - _group_starts(level[place])
    return lower, equal


def _group_starts(sorted_keys: NDArray) -> NDArray[np.int64]:
    """For each element of a sorted array, where its run of equals starts."""
    fresh = np.r_[True, np.diff(sorted_keys) != 0]
    return np.flatnonzero(fresh)[np.cumsum(fresh) - 1]


def _percentiles(values: list[float]) -> tuple[float, float]:
    known = np.array(values)[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [5, 95])
    return float(low), float(high)
