"""Classical purchase models: what they expect of a customer from three numbers.

A customer is `repeats` orders after the first (x in the papers), the `last` of them that many days
after the first (t_x; 0 where there is none), seen for `age` days since the first (T). All arguments
broadcast against each other and against `horizon_days`. How the parameters are found is in
`classical_fit.py`; nothing here loops over customers.

Orders after the first without any time passing (T = 0) cannot be, yet are answered: as the formulas
say, the customer then orders at a rate of about x / alpha. Every answer is finite, never falls as
the horizon grows, and expected orders are never below the chance of an order.

BG/NBD: Fader, Hardie & Lee (2005). MBG/NBD: Batislam, Denizel & Filiztekin (2007). Pareto/NBD:
Schmittlein, Morrison & Colombo (1987). Gamma-Gamma: Fader & Hardie (2013).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, exprel, hyp2f1

Floats = NDArray[np.float64]

_NEGLIGIBLE = 36.0                         # e to minus that is below rounding
_GAUSS = [                                 # places in (0, 1) and their weights
    ((1 + place) / 2, weight / 2) for place, weight in zip(*leggauss(28), strict=True)
]
_TRAPEZOIDS = 192                          # at steps of 0.4 at most, for eleven digits
_FLAT = 23.0                               # log odds beyond which 1 - p is 1 to ten digits
_HALVINGS = 40                             # of an interval of log days: to ten digits


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
        """Log odds of having left between the last order and now.

        The chance to leave first and by now, seen from the last order, over that of doing neither.
        """
        shape = self.r + x
        left = _chance_to_be_first(self.s, self.beta + t_x, shape, self.alpha + t_x, T - t_x)
        neither = _log_waited(shape, self.alpha + t_x, T - t_x)
        neither += _log_waited(self.s, self.beta + t_x, T - t_x)
        with np.errstate(divide="ignore"):               # -inf: there was no time to leave
            return np.asarray(np.log(left) - neither)

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
        """P(at least one order within the horizon): the order comes before leaving and before H."""
        x, _, T = _floats(repeats, last, age)
        H = _floats(horizon_days)[0]
        alive = self.probability_alive(repeats, last, age)
        return alive * _chance_to_be_first(self.r + x, self.alpha + T, self.s, self.beta + T, H)

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


def _log_waited(shape: ArrayLike, scale: Floats, time: Floats) -> Floats:
    """Log P(an exponential time is longer than `time`) when its rate is gamma(shape, scale)."""
    return np.asarray(-np.asarray(shape) * np.log1p(time / scale))


def _gamma_exponential(shape: Floats, scale: Floats, horizon: Floats) -> Floats:
    """P(an exponential time is within the horizon) when its rate is gamma(shape, scale)."""
    return -np.expm1(_log_waited(shape, scale, horizon))


def _gamma_exponential_days(
    shape: Floats, scale: Floats, probability: ArrayLike, alive: Floats
) -> Floats:
    """Inverse of `alive * _gamma_exponential`."""
    wanted = _floats(probability)[0]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        days = scale * np.expm1(-np.log1p(-np.minimum(wanted / alive, 1.0)) / shape)
    return np.where(wanted > 0, days, 0.0)


def times_of_first(
    shape: ArrayLike, scale: Floats, other: ArrayLike, other_scale: Floats, within: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """Of two exponential times the first is over before the other, and `within`: when, how likely.

    Some instants with shares of that chance; the shares add up to it. Rates are gamma(shape,
    scale) and gamma(other, other_scale). Integrated is the hazard of the one times the survival of
    both, over y = log(1 + t / the smaller scale): no terms cancel, and the log survival is concave
    in y, so that Gauss's rule is exact to twelve digits. The closed form is a difference of two
    2F1, of which none is left where the scales are far apart or the time is short.
    """
    near, far = np.minimum(scale, other_scale), np.maximum(scale, other_scale)
    is_near = scale <= other_scale
    steady, late = np.where(is_near, shape, other), np.where(is_near, other, shape)
    end = np.minimum(np.log1p(within / near), _NEGLIGIBLE / (steady + late * near / far))
    for _ in range(2):                     # Newton's steps to where survival is negligible
        time = near * np.expm1(end)
        waited = steady * end + late * np.log1p(time / far)
        slope = steady + late * (near + time) / (far + time)
        end = np.minimum(end, end - (waited - _NEGLIGIBLE) / slope)
    for place, weight in _GAUSS:
        time = near * np.expm1(place * end)
        survive = np.exp(-place * end * steady - late * np.log1p(time / far))
        hazard = np.asarray(shape) * (near + time) / (scale + time)
        yield time, weight * end * hazard * survive


def _chance_to_be_first(
    shape: ArrayLike, scale: Floats, other: ArrayLike, other_scale: Floats, within: Floats
) -> Floats:
    """P(of two exponential times the first is over before the other, and `within`)."""
    shares = (share for _, share in times_of_first(shape, scale, other, other_scale, within))
    # rounding may cross what holds exactly
    return np.asarray(np.minimum(sum(shares), 1.0))


def _orders_until_leaving(shape: Floats, a: float, b: Floats, wait: Floats) -> Floats:
    """Expected orders of a living customer: rate gamma(shape), chance to leave beta(a, b).

    `wait` is the horizon over the scale of the rate. With c = a + b - 1, Euler's transformation of
    Fader, Hardie & Lee (2005) equation 10 gives

        c / (a - 1) * (1 - (1 - z)^(a - 1) * 2F1(c - shape, a - 1; c; z)),  z = wait / (1 + wait)

    We take it where it keeps ten digits and integrate elsewhere: for many orders, or z near 1,
    scipy's 2F1 is NaN or wrong without a word, and for short waits or a near 1 the terms cancel.
    """
    shape, b, wait = np.broadcast_arrays(shape, b, wait)
    c, z = a + b - 1, wait / (1 + wait)
    at_least = _gamma_exponential(shape, np.ones_like(wait), wait)
    with np.errstate(all="ignore"):
        most = c / (a - 1)
        stays = np.exp(-(a - 1) * np.log1p(wait)) * hyp2f1(c - shape, a - 1, c, z)
        orders = np.asarray(most * (1 - stays))
        cancels = np.abs(most) * (1 + np.abs(stays)) / at_least
    # the power series of 2F1 is short, of few alternating terms, and no gamma of it overflows
    sure = (z < 0.9) & (c - shape > -5) & (c < 100) & (cancels < 1e5)
    if not sure.all():
        rest = ~sure
        orders[rest] = _integrated_orders(shape[rest], a, b[rest], wait[rest])
    # rounding may cross the bound that holds exactly: orders are at least the chance of one
    return np.maximum(orders, at_least)


def _integrated_orders(shape: Floats, a: float, b: Floats, wait: Floats) -> Floats:
    """The same as the mean of (1 - (1 + p wait)^-shape) / p over the chance p to leave.

    By the trapezoid rule over log(p / (1 - p)), where the beta density is smooth and falls
    exponentially. Beyond the ends only the density still changes, and the rest of the rule is a
    geometric series. Weights are positive and add up to one, so bounds hold whatever the step.
    """
    mode, width = np.log(a / b), np.sqrt(1 / a + 1 / b)
    flat = _FLAT + np.log(1 + a + b)
    low = np.maximum(mode - 9 * width - _NEGLIGIBLE / a, -flat - np.log1p(shape * wait))
    high = np.minimum(mode + 9 * width + _NEGLIGIBLE / b, flat)
    step = (high - low) / (_TRAPEZOIDS - 1)
    beyond = {0: -1 / np.expm1(-a * step), _TRAPEZOIDS - 1: -1 / np.expm1(-b * step)}
    orders, whole = np.zeros_like(wait), np.zeros_like(wait)
    for place in range(_TRAPEZOIDS):
        logit = low + place * step
        log_density = a * (logit - mode) - (a + b) * (np.logaddexp(0, logit) - np.log1p(a / b))
        weight = np.exp(log_density) * beyond.get(place, 1.0)
        p = expit(logit)
        orders += weight * _gamma_exponential(shape, np.ones_like(p), p * wait) / p
        whole += weight
    return orders / whole
