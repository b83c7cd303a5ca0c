"""Calibration of answers on the latest closed window, and how wide an interval has to be."""

# C customers · G groups · N rows of a closed window
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from habitue.predictions.calibrate import DRIFT, LEAST_CUSTOMERS, ONE_WINDOW_SAYS, UNKNOWN_DRIFT
from habitue.predictions.metrics import calibration_line
from habitue.predictions.probes.language import Aggregation
from habitue.predictions.rows import Spread
from habitue.predictions.scores.answers import Interval

GROUPS = 20                                # of customers with like expected amounts, at most
LEAST_GROUP = 100
_SURE = 1e-6
_LEAST = 1e-12                              # of an expected amount that is divided by
_Z = 1.6448536269514722                    # of the 5th and 95th percentile


@dataclass(frozen=True, slots=True)
class RateMap:
    """logit p' = level + centre + slope * (logit p - centre), and how far the level may be off."""

    slope: float = 1.0
    level: float = 0.0
    centre: float = 0.0
    drift: float = UNKNOWN_DRIFT           # standard deviation of the level ahead, on the logit

    def interval(self, predicted: np.ndarray) -> Interval:
        """The calibrated rate of each customer, with the interval of the rate."""
        x = logit(np.clip(predicted, _SURE, 1 - _SURE))
        x = self.level + self.centre + self.slope * (x - self.centre)
        return Interval(
            value=expit(x), low=expit(x - _Z * self.drift), high=expit(x + _Z * self.drift)
        )


@dataclass(frozen=True, slots=True)
class AmountMap:
    """Expected amounts times `level`; what came of like amounts is how they scatter."""

    level: float
    edges: np.ndarray                      # (G - 1,) of the expected amount, mapped
    ratios: tuple[np.ndarray, ...]         # (G,) of actual over expected, each ascending
    whole: bool                            # counts are whole numbers

    def interval(self, predicted: np.ndarray) -> Interval:
        """The mapped expected amount of each customer, with its predictive interval."""
        value = np.maximum(predicted * self.level, _LEAST)
        low, high = np.zeros(len(value)), np.zeros(len(value))
        for group, rows in self._groups(value):
            few, many = np.quantile(self.ratios[group], [0.05, 0.95])
            low[rows], high[rows] = few * value[rows], many * value[rows]
        if self.whole:
            low, high = np.floor(low + 0.5), np.floor(high + 0.5)
        return Interval(value=value, low=low, high=high)

    def spread(self, predicted: np.ndarray, actual: np.ndarray) -> Spread:
        """What the predictive distribution says of what came."""
        value = np.maximum(predicted * self.level, _LEAST)
        below, at = np.zeros(len(value)), np.zeros(len(value))
        for group, rows in self._groups(value):
            ratios = self.ratios[group]
            found = actual[rows] / value[rows]
            below[rows] = np.searchsorted(ratios, found, side="left") / len(ratios)
            at[rows] = np.searchsorted(ratios, found, side="right") / len(ratios)
        interval = self.interval(predicted)
        return Spread(below=below, at=at, low=interval.low, high=interval.high)

    def _groups(self, value: np.ndarray) -> list[tuple[int, np.ndarray]]:
        group = np.searchsorted(self.edges, value, side="right")
        return [(one, np.flatnonzero(group == one)) for one in range(len(self.ratios))]


Map = RateMap | AmountMap


def fit_map(aggregation: Aggregation, predicted: np.ndarray, actual: np.ndarray) -> Map:
    """What a closed window says of the forecasts (N,) that were made for it; half believed."""
    if aggregation == "exists":
        return _rate_map(predicted, actual)
    level = 1.0
    if len(actual) >= LEAST_CUSTOMERS and actual.sum() > 0 and predicted.sum() > 0:
        level = float((actual.sum() / predicted.sum()) ** ONE_WINDOW_SAYS)
    value = np.maximum(predicted * level, _LEAST)
    count = int(np.clip(len(value) // LEAST_GROUP, 1, GROUPS))
    edges = np.unique(np.quantile(value, np.arange(1, count) / count))
    group = np.searchsorted(edges, value, side="right")
    ratios = []
    for one in range(len(edges) + 1):
        rows = group == one
        # equal forecasts may leave a group empty: then everyone's scatter stands for it
        ratios.append(np.sort((actual / value)[rows if rows.any() else slice(None)]))
    return AmountMap(level, edges, tuple(ratios), whole=aggregation == "count")


def _rate_map(predicted: np.ndarray, actual: np.ndarray) -> RateMap:
    slope, intercept = calibration_line(actual, predicted)
    if len(actual) < LEAST_CUSTOMERS or not np.isfinite(slope):
        rate = np.clip(actual.mean(), _SURE, 1 - _SURE)
        found = float(logit(rate) - logit(np.clip(predicted.mean(), _SURE, 1 - _SURE)))
        slope, centre = 1.0, 0.0
    else:
        centre = float(logit(np.clip(predicted.mean(), _SURE, 1 - _SURE)))
        found = intercept + slope * centre - centre
    return RateMap(
        slope=float(np.clip(1 + ONE_WINDOW_SAYS * (slope - 1), 0.4, 2.5)),
        level=ONE_WINDOW_SAYS * found,
        centre=centre,
        drift=float(np.hypot(DRIFT, (1 - ONE_WINDOW_SAYS) * found)),
    )
