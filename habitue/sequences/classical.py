"""Classical purchase models: what they expect of a customer from three numbers.

A customer is `repeats` orders after the first (x in the papers), the `last` of them that many days
after the first (t_x; 0 where there is none), seen for `age` days since the first (T). All arguments
broadcast against each other and against `horizon_days`. How the parameters are found is in
`classical_fit.py`; nothing here loops over customers.

BG/NBD: Fader, Hardie & Lee (2005). MBG/NBD: Batislam, Denizel & Filiztekin (2007). Pareto/NBD:
Schmittlein, Morrison & Colombo (1987). Gamma-Gamma: Fader & Hardie (2013).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, exprel, hyp2f1

Floats = NDArray[np.float64]

_NEAR_ONE = 1e-4                           # where (a - 1) would cancel, we interpolate across it
_FRACTIONS = 400                           # levels of Gauss's continued fraction
_HALVINGS = 60                             # of an interval of log days: below one microsecond


@dataclass(frozen=True, slots=True)
class BgNbd:
    """Orders at a gamma-distributed rate; after each repeat order one may leave, beta-distributed.

    >>> model = BgNbd(r=0.243, alpha=30.9, a=0.793, b=2.426)
    >>> float(model.expected_orders(2, 212.9, 272.0, 273.0).round(3))
    1.226
    """

    r: float                               # shape of the rates
    alpha: float                           # their scale, days
    a: float                               # beta parameters of the chance to leave
    b: float

    def probability_alive(self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike) -> Floats:
        """P(not left by now); 1 for customers without repeat orders, so never a churn score."""
        x, t_x, T = _floats(repeats, last, age)
        odds = np.log(self.a) - np.log(np.maximum(self.b + x - 1, self.b))
        odds = odds + (self.r + x) * np.log((self.alpha + T) / (self.alpha + t_x))
        return np.where(x > 0, expit(-odds), 1.0)

    def expected_orders(
        self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, horizon_days: ArrayLike
    ) -> Floats:
        """Expected orders within the horizon."""
        x, _, T = _floats(repeats, last, age)
        wait = _floats(horizon_days)[0] / (self.alpha + T)
        alive = self.probability_alive(repeats, last, age)
        return alive * _orders_until_leaving(self.r + x, self.a, self.b + x, wait)

    def probability_of_order(
        self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, horizon_days: ArrayLike
    ) -> Floats:
        """P(at least one order within the horizon)."""
        x, _, T = _floats(repeats, last, age)
        alive = self.probability_alive(repeats, last, age)
        return alive * _gamma_exponential(self.r + x, self.alpha + T, _floats(horizon_days)[0])

    def days_until(
        self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, probability: ArrayLike
    ) -> Floats:
        """The horizon at which P(order) reaches `probability`; infinite where it never does.

        For quantile q of the date among those who order within H, ask for q * P(order within H).
        """
        x, _, T = _floats(repeats, last, age)
        alive = self.probability_alive(repeats, last, age)
        return _gamma_exponential_days(self.r + x, self.alpha + T, probability, alive)


@dataclass(frozen=True, slots=True)
class MbgNbd:
    """BG/NBD in which one may also leave after the first order.

    >>> model = MbgNbd(r=0.525, alpha=43.2, a=0.891, b=1.614)
    >>> bool(model.probability_alive(0, 0.0, 272.0) < 1)
    True
    """

    r: float
    alpha: float                           # days
    a: float
    b: float

    def probability_alive(self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike) -> Floats:
        """P(not left by now)."""
        x, t_x, T = _floats(repeats, last, age)
        odds = np.log(self.a) - np.log(self.b + x)
        odds = odds + (self.r + x) * np.log((self.alpha + T) / (self.alpha + t_x))
        return np.asarray(expit(-odds))

    def expected_orders(
        self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, horizon_days: ArrayLike
    ) -> Floats:
        """Expected orders within the horizon."""
        x, _, T = _floats(repeats, last, age)
        wait = _floats(horizon_days)[0] / (self.alpha + T)
        alive = self.probability_alive(repeats, last, age)
        return alive * _orders_until_leaving(self.r + x, self.a, self.b + x + 1, wait)

    def probability_of_order(
        self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, horizon_days: ArrayLike
    ) -> Floats:
        """P(at least one order within the horizon)."""
        x, _, T = _floats(repeats, last, age)
        alive = self.probability_alive(repeats, last, age)
        return alive * _gamma_exponential(self.r + x, self.alpha + T, _floats(horizon_days)[0])

    def days_until(
        self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, probability: ArrayLike
    ) -> Floats:
        """The horizon at which P(order) reaches `probability`; infinite where it never does."""
        x, _, T = _floats(repeats, last, age)
        alive = self.probability_alive(repeats, last, age)
        return _gamma_exponential_days(self.r + x, self.alpha + T, probability, alive)


@dataclass(frozen=True, slots=True)
class ParetoNbd:
    """Orders at a gamma-distributed rate until leaving, at another gamma-distributed rate.

    >>> model = ParetoNbd(r=0.553, alpha=74.05, s=0.606, beta=81.68)
    >>> float(model.expected_orders(2, 212.9, 272.0, 273.0).round(2))
    1.45
    """

    r: float
    alpha: float                           # days
    s: float                               # shape of the rates of leaving
    beta: float                            # their scale, days

    def probability_alive(self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike) -> Floats:
        """P(not left by now)."""
        x, t_x, T = _floats(repeats, last, age)
        return np.asarray(expit(-self.log_odds_left(x, t_x, T)))

    def log_odds_left(self, x: Floats, t_x: Floats, T: Floats) -> Floats:
        """Log odds of having left between the last order and now."""
        shape = self.r + x
        since_last, since_now = self._log_tail(shape, t_x), self._log_tail(shape, T)
        # equal tails (t_x = T) mean that there was no time to leave: log odds of -inf
        gap = np.minimum(since_now - since_last, 0.0)
        with np.errstate(divide="ignore"):
            left = since_last + np.log(-np.expm1(gap)) + np.log(self.s / (shape + self.s))
        return left + shape * np.log(self.alpha + T) + self.s * np.log(self.beta + T)

    def _log_tail(self, shape: Floats, start: Floats) -> Floats:
        """Log of the integral of the density of leaving from `start` to infinity.

        Fader & Hardie's F1(n, s + 1; n + 1; z) / (alpha + t)^n under Euler's transformation, which
        leaves a series with positive terms that no number of orders can overflow.
        """
        scale = -shape * np.log(self.alpha + start) - self.s * np.log(self.beta + start)
        whole = shape + self.s
        if self.alpha >= self.beta:
            z = (self.alpha - self.beta) / (self.alpha + start)
            return np.asarray(scale + np.log(_series(shape, whole + 1, z)))
        z = (self.beta - self.alpha) / (self.beta + start)
        return np.asarray(scale + np.log(1 - z) + np.log(_series(self.s + 1, whole + 1, z)))

    def expected_orders(
        self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, horizon_days: ArrayLike
    ) -> Floats:
        """Expected orders within the horizon."""
        x, _, T = _floats(repeats, last, age)
        alive = self.probability_alive(repeats, last, age)
        stretch = np.log1p(_floats(horizon_days)[0] / (self.beta + T))
        # (1 - e^{-(s-1) stretch}) / (s - 1), whose limit at s = 1 is `stretch`
        exposure = stretch * exprel(-(self.s - 1) * stretch)
        return alive * (self.r + x) * (self.beta + T) / (self.alpha + T) * exposure

    def probability_of_order(
        self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, horizon_days: ArrayLike
    ) -> Floats:
        """P(at least one order within the horizon): the order comes before leaving and before H.

        Given both rates, that is rate / (rate + leaving) * (1 - e^{-(rate + leaving) H}).
        """
        x, _, T = _floats(repeats, last, age)
        H = _floats(horizon_days)[0]
        alive = self.probability_alive(repeats, last, age)
        shape = self.r + x
        first = _share_of_rate(shape, self.s, self.alpha + T, self.beta + T)
        later = _share_of_rate(shape, self.s, self.alpha + T + H, self.beta + T + H)
        waited = shape * np.log1p(H / (self.alpha + T)) + self.s * np.log1p(H / (self.beta + T))
        # first == later up to rounding where H is tiny
        return alive * np.clip(first - later * np.exp(-waited), 0.0, 1.0)

    def days_until(
        self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, probability: ArrayLike
    ) -> Floats:
        """The horizon at which P(order) reaches `probability`; infinite where it never does.

        By bisection: the probability has no inverse in closed form.
        """
        x, t_x, T, wanted = np.broadcast_arrays(*_floats(repeats, last, age, probability))
        low, high = np.full(x.shape, -12.0), np.full(x.shape, 24.0)      # log days
        reachable = self.probability_of_order(x, t_x, T, np.exp(high)) > wanted
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = self.probability_of_order(x, t_x, T, np.exp(middle)) < wanted
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.where(wanted <= 0, 0.0, np.where(reachable, np.exp(high), np.inf))


@dataclass(frozen=True, slots=True)
class GammaGamma:
    """Order values: gamma around a customer's own mean, which is inverse gamma over customers.

    >>> model = GammaGamma(p=6.25, q=3.744, v=15.443)
    >>> float(model.expected_value(0, 0.0).round(2))
    35.17
    """

    p: float
    q: float
    v: float                               # major units of money

    def expected_value(self, orders: ArrayLike, mean_value: ArrayLike) -> Floats:
        """Expected mean value of a customer's orders, given the mean of those seen.

        Shrinks towards the shop's mean, which is the answer where no order was seen.
        """
        x, mean = _floats(orders, mean_value)
        # q <= 1 has no mean; fits are bounded above that, hand-made parameters may not be
        weight = np.maximum(self.p * x + self.q - 1, 1e-2)
        return self.p * (self.v + x * mean) / weight


Purchases = BgNbd | MbgNbd | ParetoNbd


def _floats(*values: ArrayLike) -> tuple[Floats, ...]:
    return tuple(np.asarray(value, dtype=np.float64) for value in values)


def _gamma_exponential(shape: Floats, scale: Floats, horizon: Floats) -> Floats:
    """P(an exponential time is within the horizon) when its rate is gamma(shape, scale)."""
    return -np.expm1(-shape * np.log1p(horizon / scale))


def _gamma_exponential_days(
    shape: Floats, scale: Floats, probability: ArrayLike, alive: Floats
) -> Floats:
    """Inverse of `alive * _gamma_exponential`."""
    wanted = _floats(probability)[0]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        days = scale * np.expm1(-np.log1p(-np.minimum(wanted / alive, 1.0)) / shape)
    return np.where(wanted > 0, days, 0.0)


def _orders_until_leaving(shape: Floats, a: float, b: Floats, wait: Floats) -> Floats:
    """Expected orders of a living customer: rate gamma(shape), chance to leave beta(a, b).

    `wait` is the horizon over the scale of the rate. With c = a + b - 1, Euler's transformation of
    Fader, Hardie & Lee (2005) equation 10 gives

        c / (a - 1) * (1 - (1 - z)^(a - 1) * 2F1(c - shape, a - 1; c; z)),  z = wait / (1 + wait)

    where c - shape no longer grows with the orders seen: exact to nine digits at hundreds of them.
    """
    if abs(a - 1) < 0.99 * _NEAR_ONE:                        # 0.99: the ends must not ask again
        below = _orders_until_leaving(shape, 1 - _NEAR_ONE, b, wait)
        above = _orders_until_leaving(shape, 1 + _NEAR_ONE, b, wait)
        share = (a - 1 + _NEAR_ONE) / (2 * _NEAR_ONE)
        return below + share * (above - below)
    c = a + b - 1
    z = wait / (1 + wait)
    log_stays = -(a - 1) * np.log1p(wait)                    # log (1 - z)^(a - 1)
    orders = c / (a - 1) * (1 - np.exp(log_stays) * hyp2f1(c - shape, a - 1, c, z))
    # rounding may cross the bounds that hold exactly: nothing is lost below zero orders
    return np.asarray(np.maximum(orders, _gamma_exponential(shape, np.ones_like(wait), wait)))


def _share_of_rate(shape: Floats, leaving: float, scale: Floats, other: Floats) -> Floats:
    """Mean of rate / (rate + leaving), rate gamma(shape, scale) and leaving gamma(leaving, other).

    A ratio of gammas is beta distributed, and its mean a 2F1 of an argument in [0, 1).
    """
    whole = shape + leaving
    if np.all(scale <= other):
        series = _series(leaving, whole + 1, 1 - scale / other)
        return np.asarray(shape / whole * series)
    series = _series(shape + 1, whole + 1, 1 - other / scale)
    return np.asarray(shape / whole * other / scale * series)


def _series(b: ArrayLike, c: ArrayLike, z: ArrayLike) -> Floats:
    """2F1(1, b; c; z) for 0 <= z < 1 and 0 < b < c.

    Where scipy overflows (a parameter above 170 and z near 1), Gauss's continued fraction with the
    tail that all its levels tend to.
    """
    with np.errstate(all="ignore"):
        value = np.asarray(hyp2f1(1.0, b, c, z))
    broken = ~np.isfinite(value)
    if broken.any():
        parts = [np.broadcast_to(part, value.shape)[broken] for part in _floats(b, c, z)]
        value = value.copy()
        value[broken] = _continued_fraction(*parts)
    return value


def _continued_fraction(b: Floats, c: Floats, z: Floats) -> Floats:
    """2F1(1, b; c; z) = 1 / (1 - k_1 z / (1 - k_2 z / ...)), from the innermost level out."""
    level = (1 + np.sqrt(1 - z)) / 2
    for m in range(_FRACTIONS, 0, -1):
        even = m * (c - b + m - 1) / ((c + 2 * m - 2) * (c + 2 * m - 1))
        odd = (b + m - 1) * (c + m - 2) / ((c + 2 * m - 3) * (c + 2 * m - 2)) if m > 1 else b / c
        level = 1 - odd * z / (1 - even * z / level)
    return 1 / level
