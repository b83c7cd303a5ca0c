"""`Scores`: what is predicted of some customers, at any horizon, as of an instant.

All that a score holds is numbers of one model's reading, bent as its shop asks. So it can be kept
and asked again later, after more silence, by whoever has no model at hand.
"""

# C customers · B hazard bins · N horizons of orders · M spend components
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betainc, nbdtrik, ndtr
from scipy.stats import nbinom, norm

from habitue.model.readings import Readings, place_of
from habitue.predictions.baselines import Forecast
from habitue.predictions.blend import Factors
from habitue.predictions.calendar import PERIOD_EDGES, Level
from habitue.predictions.calibrate import Calibration
from habitue.predictions.curves import FAR_DAYS, cumulative_hazard, days_until, probability_of_order
from habitue.predictions.rows import Spread

BLOCK = 50_000                             # customers answered at once; fewer are padded more
MOST_REMEMBERED = 100                      # horizons whose factors are
_Z = float(norm.ppf(0.95))                 # of the 5th and 95th percentile
_ENDS = (0.05, 0.95)                       # of an interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Predictions of one question, (C,) each; low and high are the 5th and 95th percentile."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Bent:
    """Readings mixed with the purchase models' expectation and calibrated; no season yet."""

    log_rate: np.ndarray                   # (C, B) float32
    log_orders: np.ndarray                 # (C, N) float32, of the readings' horizons of orders
    log_value: np.ndarray | None           # (C,) of an order, by Gamma-Gamma; None: the model's
    factors: Factors | None                # of the whole shop

    def take(self, rows: slice) -> "Bent":
        """Those of some customers; what is of the whole shop stays."""
        value = None if self.log_value is None else self.log_value[rows]
        return replace(
            self,
            log_rate=self.log_rate[rows],
            log_orders=self.log_orders[rows],
            log_value=value,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All that is predicted of the customers known at a cutoff."""

    names: np.ndarray                      # (C,) str objects
    customer: np.ndarray                   # (C,) indices
    anchor: np.ndarray                     # (C,) µs
    silent_days: np.ndarray                # (C,) from the anchor to the cutoff
    log_rate: np.ndarray                   # (C, B) float32, calibrated: the stored curve
    horizons_days: tuple[float, ...]       # that can be asked
    readings: Readings
    bent: Bent
    expected_orders: np.ndarray            # (N,) of everyone together, without the season
    calibration: Calibration
    level: Level
    spend_shift: tuple[float, ...] = ()    # log, by horizon: makes the whole shop's spend meet
    # the level's factors by horizon, remembered for all that share level and expected orders
    factors: dict[float, tuple[float, float]] | None = None

    def blocks(self, size: int | None = None) -> "Iterator[Scores]":
        """The same scores, `size` or BLOCK customers at a time: each is answered for itself."""
        for rows in blocks(len(self.names), size):
            yield self.take(rows)

    def take(self, rows: slice) -> "Scores":
        """Those of some customers; what is of the whole shop stays."""
        return replace(
            self,
            names=self.names[rows],
            customer=self.customer[rows],
            anchor=self.anchor[rows],
            silent_days=self.silent_days[rows],
            log_rate=self.log_rate[rows],
            readings=self.readings.take(rows),
            bent=self.bent.take(rows),
        )

    def order(self, horizon_days: float) -> Interval:
        """P(at least one order in the horizon); the interval is of the calibrated rate."""
        drift, rate_drift = self.calibration.drift, self.calibration.rate_drift
        spread = _Z * (drift if rate_drift is None else rate_drift)
        value = self._chance_of_order(horizon_days)
        hazard = -np.log1p(-np.minimum(value, 1 - 1e-12))
        return Interval(
            value=value,
            low=-np.expm1(-hazard * np.exp(-spread)),
            high=-np.expm1(-hazard * np.exp(spread)),
        )

    def churn(self, horizon_days: float) -> Interval:
        """P(no order in the horizon)."""
        return none_of(self.order(horizon_days))

    def value(self, question: str, horizon_days: float) -> np.ndarray:
        """(C,) float64, the value of one question alone; of `next_order` the days to its median."""
        match question:
            case "order":
                return self._chance_of_order(horizon_days)
            case "churn":
                return 1 - self._chance_of_order(horizon_days)
            case "orders":
                return self.counts(horizon_days)[0]
            case "revenue":
                return self.mean_revenue(horizon_days)
        assert question == "next_order", f"{question} is no question"
        return days_until(self.log_rate, self.silent_days, np.full(len(self.names), 0.5))

    def orders(self, horizon_days: float) -> Interval:
        """Expected orders; the interval is predictive."""
        mean, size = self.counts(horizon_days)
        low, high = (count_quantile(share, size, size / (size + mean)) for share in _ENDS)
        return Interval(value=mean, low=low, high=high)

    def revenue(self, horizon_days: float) -> Interval:
        """Expected spend in major units; the interval is predictive."""
        return self.revenues((horizon_days,))[0]

    def revenues(self, horizons_days: Sequence[float]) -> list[Interval]:
        """The same at several horizons.

        The ends of all intervals are looked for together: of one customer alone that is most of
        the work, however few numbers it is about.
        """
        chances = [self._chance_of_order(days) for days in horizons_days]
        spends = [
            self._spend(days, chance) for days, chance in zip(horizons_days, chances, strict=True)
        ]
        ends, shape = len(_ENDS), (len(horizons_days), len(self.names))
        share = np.repeat(_ENDS, shape[0] * shape[1])
        probability = np.concatenate(chances * ends)
        mixture = [np.concatenate(part * ends) for part in map(list, zip(*spends, strict=True))]
        found = _spend_quantile(share, probability, *mixture)
        found = found.reshape(ends, *shape)                                # (2, H, C)
        return [
            Interval(value=_mean_spend(chance, *spend), low=low, high=high)
            for chance, spend, low, high in zip(chances, spends, *found, strict=True)
        ]

    def mean_revenue(self, horizon_days: float) -> np.ndarray:
        """(C,) expected spend in major units."""
        probability = self._chance_of_order(horizon_days)
        return _mean_spend(probability, *self._spend(horizon_days, probability))

    def next_order(self) -> np.ndarray:
        """(C, 3) days from the cutoff to the next order: p10, p50, p90; at most FAR_DAYS."""
        count = len(self.silent_days)
        return np.stack(
            [
                days_until(self.log_rate, self.silent_days, np.full(count, share))
                for share in (0.1, 0.5, 0.9)
            ],
            axis=1,
        )

    def predict(self, horizon_days: float) -> Forecast:
        """What evaluation compares: means, and dates given that an order comes in time."""
        probability = self.order(horizon_days).value
        dates = [
            days_until(self.log_rate, self.silent_days, share * probability)
            for share in (0.1, 0.5, 0.9)
        ]
        return Forecast(
            customers=self.names,
            probability=probability,
            orders=self.orders(horizon_days).value,
            revenue=self.revenue(horizon_days).value,
            next_order_days=np.stack(dates, axis=1),
            extrapolated=horizon_days > self.calibration.window_days + 0.5,
        )

    def order_spread(self, horizon_days: float, actual: np.ndarray) -> Spread:
        """What the predictive distribution of orders says of the actual ones (C,)."""
        mean, size = self.counts(horizon_days)
        chance = size / (size + mean)
        interval = self.orders(horizon_days)
        return Spread(
            below=nbinom.cdf(actual - 1, size, chance),
            at=nbinom.cdf(actual, size, chance),
            low=interval.low,
            high=interval.high,
        )

    def revenue_spread(self, horizon_days: float, actual: np.ndarray) -> Spread:
        """What the predictive distribution of spend says of the actual one (C,)."""
        probability = self._chance_of_order(horizon_days)
        at = _spend_cdf(actual, probability, *self._spend(horizon_days, probability))
        interval = self.revenue(horizon_days)
        below = np.where(actual > 0, at, 0.0)
        return Spread(below=below, at=at, low=interval.low, high=interval.high)

    def counts(self, horizon_days: float) -> tuple[np.ndarray, np.ndarray]:
        """(C,) mean and size of the negative binomial number of orders in the horizon."""
        readings = self.readings
        at = place_of(horizon_days, readings.horizons_days)
        asked = place_of(horizon_days, readings.order_horizons_days)
        mean = np.exp(self.bent.log_orders[:, asked]) * self._factors(horizon_days)[0]
        log_size = readings.log_dispersion[:, at] + self.calibration.log_dispersion
        # a level that is itself uncertain adds its variance
        size = 1 / (np.exp(-log_size) + np.expm1(self.calibration.drift**2))
        return mean.astype(np.float64), size.astype(np.float64)

    def _chance_of_order(self, horizon_days: float) -> np.ndarray:
        """(C,) P(at least one order in the horizon)."""
        return probability_of_order(self.log_rate, self.silent_days, horizon_days)

    def _spend(
        self, horizon_days: float, probability: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(C, M) weights, locations, scales of positive spend, at the chance (C,) of an order."""
        readings = self.readings
        at = place_of(horizon_days, readings.horizons_days)
        days = np.full(len(self.customer), horizon_days)
        mean, _ = self.counts(horizon_days)
        before = np.exp(readings.orders_within(horizon_days)) / _chance(readings.log_rate, days)
        after = mean / np.maximum(probability, 1e-4)
        # spend given an order follows the orders given an order
        shift = np.log(np.clip(after, 1.0, 200.0) / np.clip(before, 1.0, 200.0))
        shift = shift + self.calibration.spend_level + np.log(self.value_factor(horizon_days))
        weight = np.exp(readings.spend_log_weight[:, at].astype(np.float64))
        narrow = readings.spend_scale[:, at].astype(np.float64)
        # a level that is itself uncertain widens; the mean stays
        scale = np.hypot(narrow, self.calibration.drift)
        location = readings.spend_location[:, at] + (narrow**2 - scale**2) / 2
        if self.bent.log_value is not None:
            own = np.log((weight * np.exp(location + scale**2 / 2)).sum(axis=1))
            own = own - np.log(np.clip(before, 1.0, 200.0))
            shift = shift + (1 - self.calibration.spend_share) * (self.bent.log_value - own)
            shift = shift + (self.spend_shift[at] if self.spend_shift else 0.0)
        return weight, location + shift[:, None], scale

    def value_factor(self, horizon_days: float) -> float:
        """The level's factor on order values within the horizon."""
        return self._factors(horizon_days)[1]

    def _factors(self, horizon_days: float) -> tuple[float, float]:
        """The level's factors on orders and on order values within the horizon."""
        if self.factors is not None and horizon_days in self.factors:
            return self.factors[horizon_days]
        inside, expected = self._period_parts(horizon_days)
        orders, value = (
            float((factor * expected * inside).sum() / (expected * inside).sum())
            for factor in (self.level.orders, self.level.value)
        )
        if self.factors is not None and len(self.factors) < MOST_REMEMBERED:
            self.factors[horizon_days] = orders, value
        return orders, value

    def _period_parts(self, horizon_days: float) -> tuple[np.ndarray, np.ndarray]:
        """(P,) share of each period within the horizon, and orders expected in it."""
        edges = np.array(PERIOD_EDGES)
        inside = np.clip((horizon_days - edges[:-1]) / np.diff(edges), 0.0, 1.0)
        if horizon_days > edges[-1]:
            inside[:] = 1.0
        asked = list(self.readings.order_horizons_days)
        by_edge = np.array([0.0, *(self.expected_orders[asked.index(edge)] for edge in edges[1:])])
        return inside, np.maximum(np.diff(np.maximum.accumulate(by_edge)), 1e-9)


def none_of(order: Interval) -> Interval:
    """Of the chance of an order the chance of none."""
    return Interval(value=1 - order.value, low=1 - order.high, high=1 - order.low)


def blocks(count: int, size: int | None = None) -> list[slice]:
    """Rows in blocks of `size` or BLOCK, at least one."""
    step = size or BLOCK
    return [slice(begin, begin + step) for begin in range(0, max(count, 1), step)]


def count_quantile(share: float, size: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """(C,) `nbinom.ppf(share, size, chance)`, without the time that it takes to check these."""
    above = np.maximum(np.ceil(nbdtrik(share, size, chance)), 0.0)
    below = np.maximum(above - 1, 0.0)
    return np.where(betainc(size, below + 1, chance) >= share, below, above)


def _mean_spend(
    probability: np.ndarray, weight: np.ndarray, location: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """(C,) expected spend within the horizon."""
    given = (weight * np.exp(location + scale**2 / 2)).sum(axis=1)
    return np.asarray(probability * given)


def _chance(log_rate: np.ndarray, days: np.ndarray) -> np.ndarray:
    return np.maximum(-np.expm1(-cumulative_hazard(log_rate, days)), 1e-4)


def _spend_cdf(
    spend: np.ndarray,
    probability: np.ndarray,
    weight: np.ndarray,
    location: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """(C,) P(spend within the horizon <= `spend`): a mass at zero and a lognormal mixture."""
    z = (np.log(np.maximum(spend, 1e-9))[:, None] - location) / scale
    given = (weight * ndtr(z)).sum(axis=1)
    return (1 - probability) + probability * np.where(spend > 0, given, 0.0)


def _spend_quantile(
    share: np.ndarray,
    probability: np.ndarray,
    weight: np.ndarray,
    location: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """(C,) the quantile of spend at each share (C,), by halving on its logarithm."""
    found = np.zeros(len(share))
    some = ~(1 - probability >= share)     # of the others nothing is spent that often
    if not some.any():
        return found
    share, probability = share[some], probability[some]
    weight, location, scale = weight[some], location[some], scale[some]
    low = (location - 6 * scale).min(axis=1)
    high = (location + 6 * scale).max(axis=1)
    wanted = share - (1 - probability)
    for _ in range(40):
        middle = (low + high) / 2
        given = np.add.reduce(weight * ndtr((middle[:, None] - location) / scale), axis=1)
        below = probability * given < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    found[some] = np.exp(high)
    return found


def capped_dates(days: np.ndarray) -> np.ndarray:
    """Days with NaN where none is expected in a lifetime."""
    return np.where(days >= FAR_DAYS, np.nan, days)
