"""Maximum likelihood (or, with a prior, maximum posterior) of the models in `classical.py`.

Customers enter as a `PurchaseSummary`; equal ones are counted once. Searches run in log parameters
and in a time unit of the mean age, from several starts on a coarsened copy, and finish on the rows
themselves. A fit always returns finite parameters; what was doubtful about it is in `warnings`.
"""

# N distinct customers · P parameters
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, gammaln, psi

from habitue.sequences.classical import (
    BgNbd,
    Floats,
    GammaGamma,
    MbgNbd,
    ParetoNbd,
    times_of_first,
)

Model = TypeVar("Model", BgNbd, MbgNbd, ParetoNbd, GammaGamma)
# log parameters -> mean negative log-likelihood per customer, and its gradient
Objective = Callable[[Floats], tuple[float, Floats]]

COARSE_ROWS = 1_000                        # the starts are compared on at most so many
PARETO_ROWS = 50_000                       # an integral for each row: bounds the cost
VALUE_ROWS = 20_000                        # more order values than that are put into cells of 1%
_FARTHEST = float(np.log(1e3))             # log parameters stay within, in units of the mean age


@dataclass(frozen=True, slots=True)
class PurchaseSummary:
    """What the order models know of customers; times in days since the first order."""

    repeats: Floats                        # (N,) orders after the first
    last: Floats                           # (N,) time of the last order, 0 without repeats
    age: Floats                            # (N,) time of the cutoff
    weights: Floats                        # (N,) customers like this


@dataclass(frozen=True, slots=True)
class Prior:
    """Independent log-normal beliefs about a model's parameters, in days and major units."""

    medians: tuple[float, ...]             # in the order of the model's fields
    spread: float = 1.5                    # standard deviation of the log


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted(Generic[Model]):
    """A model, and what to know before trusting it."""

    model: Model
    log_likelihood: float                  # in days, without the prior
    customers: float
    converged: bool
    warnings: tuple[str, ...] = ()


# Weak: a customer orders about every 100 days and a third leave at each order. Ten customers move
# these; a thousand forget them.
BG_NBD_PRIOR = Prior((0.6, 60.0, 0.8, 2.0))
MBG_NBD_PRIOR = Prior((0.6, 60.0, 0.8, 2.0))
PARETO_NBD_PRIOR = Prior((0.6, 60.0, 0.6, 90.0))


def gamma_gamma_prior(mean_value: float) -> Prior:
    """A prior in the shop's own currency: its medians give an expected value of `mean_value`."""
    return Prior((3.0, 3.5, max(mean_value, 1e-6) * 2.5 / 3.0), spread=1.0)


def summarise(
    repeats: ArrayLike, last: ArrayLike, age: ArrayLike, weights: ArrayLike | None = None
) -> PurchaseSummary:
    """Distinct (repeats, last, age) with the number of customers that share them.

    >>> summarise([0, 2, 0], [0, 30, 0], [90, 90, 90]).weights
    array([2., 1.])
    """
    x, t_x, T = (np.asarray(column, dtype=np.float64) for column in (repeats, last, age))
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(x) == 0:
        return PurchaseSummary(x, t_x, T, w)
    assert np.all(t_x <= T) and np.all(x >= 0), "the last order is no later than the cutoff"
    order, starts = _groups(x, t_x, T)
    first = order[starts]
    return PurchaseSummary(x[first], t_x[first], T[first], np.add.reduceat(w[order], starts))


def coarsened(summary: PurchaseSummary, rows: int) -> PurchaseSummary:
    """The summary itself, or one of at most `rows` rows in which near customers became one.

    Cells are of equal repeats and of times within an ever wider step; a cell keeps the means of its
    times, so that what is lost is of second order in its width.
    """
    width_days = 1.0
    while len(summary.repeats) > rows and width_days < 1e5:
        width_days *= 2
        x, w = summary.repeats, summary.weights
        steps = (np.floor(summary.last / width_days), np.floor(summary.age / width_days))
        order, starts = _groups(x, *steps)
        total = np.add.reduceat(w[order], starts)
        last = np.add.reduceat((w * summary.last)[order], starts) / total
        age = np.add.reduceat((w * summary.age)[order], starts) / total
        summary = PurchaseSummary(x[order[starts]], np.minimum(last, age), age, total)
    return summary


def fit_bg_nbd(
    repeats: ArrayLike,
    last: ArrayLike,
    age: ArrayLike,
    weights: ArrayLike | None = None,
    prior: Prior | None = None,
) -> Fitted[BgNbd]:
    """The likeliest BG/NBD; times in days."""
    summary = summarise(repeats, last, age, weights)
    return _fit_orders(BgNbd, summary, prior, partial(_beta_geometric_loss, shift=0))


def fit_mbg_nbd(
    repeats: ArrayLike,
    last: ArrayLike,
    age: ArrayLike,
    weights: ArrayLike | None = None,
    prior: Prior | None = None,
) -> Fitted[MbgNbd]:
    """The likeliest MBG/NBD; times in days."""
    summary = summarise(repeats, last, age, weights)
    return _fit_orders(MbgNbd, summary, prior, partial(_beta_geometric_loss, shift=1))


def fit_pareto_nbd(
    repeats: ArrayLike,
    last: ArrayLike,
    age: ArrayLike,
    weights: ArrayLike | None = None,
    prior: Prior | None = None,
) -> Fitted[ParetoNbd]:
    """The likeliest Pareto/NBD; times in days. Above `PARETO_ROWS` distinct rows, of coarsened."""
    summary = coarsened(summarise(repeats, last, age, weights), PARETO_ROWS)
    return _fit_orders(ParetoNbd, summary, prior, _pareto_loss)


def fit_gamma_gamma(
    orders: ArrayLike,
    mean_value: ArrayLike,
    weights: ArrayLike | None = None,
    prior: Prior | None = None,
) -> Fitted[GammaGamma]:
    """The likeliest Gamma-Gamma, over customers with orders of positive mean value."""
    x, mean = np.asarray(orders, dtype=np.float64), np.asarray(mean_value, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    kept = (x > 0) & (mean > 0)
    x, mean, w = _value_cells(x[kept], mean[kept], w[kept])
    unit = float(np.average(mean, weights=w)) if len(x) else 1.0
    units = np.array([1.0, 1.0, unit])
    loss = partial(_gamma_gamma_loss, x=x, mean=mean / unit, weights=w)
    # q <= 1 has no mean value to expect, however likely it is
    least = np.array([-_FARTHEST, np.log(1.02), -_FARTHEST])
    starts = _starts(((2.0, 3.0, 1.0), (6.0, 4.0, 0.5)), prior, units)
    theta, converged = _search(loss, starts, _belief(prior, units, w.sum()), least)
    return Fitted(
        model=GammaGamma(*(float(value) for value in np.exp(theta) * units)),
        log_likelihood=-float(w.sum() * (loss(theta)[0] + np.log(unit))),
        customers=float(w.sum()),
        converged=converged,
        warnings=_doubts(GammaGamma, theta, least, converged, float(w.sum())),
    )


def _fit_orders(
    kind: type[Model],
    summary: PurchaseSummary,
    prior: Prior | None,
    loss_of: Callable[..., tuple[float, Floats]],        # of log parameters and a summary
) -> Fitted[Model]:
    """Choose among the starts on a coarsened copy, then finish on every row."""
    customers = float(summary.weights.sum())
    unit = float(np.average(summary.age, weights=summary.weights)) if customers else 1.0
    unit = max(unit, 1.0)
    units = np.array([1.0, unit, 1.0, unit if kind is ParetoNbd else 1.0])
    belief = _belief(prior, units, customers)
    least = np.full(4, -_FARTHEST)
    starts = _starts(((0.5, 0.2, 0.7, 1.5), (2.0, 1.0, 0.2, 3.0)), prior, units)
    rough = coarsened(summary, COARSE_ROWS)
    if rough is not summary:
        rough_loss = partial(loss_of, summary=_in_units(rough, unit))
        starts = [_search(rough_loss, starts, belief, least)[0]]
    loss = partial(loss_of, summary=_in_units(summary, unit))
    theta, converged = _search(loss, starts, belief, least)
    change_of_units = (summary.weights @ summary.repeats) * np.log(unit)
    return Fitted(
        model=kind(*(float(value) for value in np.exp(theta) * units)),
        log_likelihood=-float(customers * loss(theta)[0] + change_of_units),
        customers=customers,
        converged=converged,
        warnings=_doubts(kind, theta, least, converged, customers),
    )


def _search(
    loss: Objective, starts: Sequence[Floats], belief: Objective, least: Floats
) -> tuple[Floats, bool]:
    """The best end of L-BFGS-B from every start, and whether it stood still there."""

    def total(theta: Floats) -> tuple[float, Floats]:
        fit, fit_gradient = loss(theta)
        prior, prior_gradient = belief(theta)
        return fit + prior, fit_gradient + prior_gradient

    bounds = [(low, _FARTHEST) for low in least]
    ends = [
        minimize(
            total, start, jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 300, "ftol": 1e-13, "gtol": 1e-7},
        )
        for start in starts
    ]  # fmt: skip
    best = min(ends, key=lambda end: end.fun)
    theta = np.asarray(best.x)
    # rounding can end a line search at the optimum, so the slope decides rather than the message
    inside = (theta > least) & (theta < _FARTHEST)
    return theta, bool(np.all(np.abs(best.jac[inside]) < 1e-4))


def _starts(
    relative: tuple[tuple[float, ...], ...], prior: Prior | None, units: Floats
) -> list[Floats]:
    starts = [np.log(np.array(start)) for start in relative]
    return starts if prior is None else [*starts, np.log(np.array(prior.medians) / units)]


def _belief(prior: Prior | None, units: Floats, customers: float) -> Objective:
    """Negative log density of the prior, shared among the customers."""
    if prior is None:
        return lambda theta: (0.0, np.zeros_like(theta))
    centre = np.log(np.array(prior.medians) / units)
    precision = 1 / (prior.spread**2 * max(customers, 1.0))

    def penalty(theta: Floats) -> tuple[float, Floats]:
        away = theta - centre
        return float(precision * (away @ away) / 2), precision * away

    return penalty


def _doubts(
    kind: type[Model], theta: Floats, least: Floats, converged: bool, customers: float
) -> tuple[str, ...]:
    """What a reader should know before trusting the parameters."""
    doubts = [] if converged else ["the search stopped before it stood still"]
    if customers < 50:
        doubts.append(f"only {customers:g} customers")
    ends = zip(fields(kind), theta, least, strict=True)
    for field, value, low in ends:
        if not low + 1e-6 < value < _FARTHEST - 1e-6:
            doubts.append(f"{field.name} lies at the bound of the search")
    return tuple(doubts)


def _beta_geometric_loss(
    theta: Floats, summary: PurchaseSummary, shift: int
) -> tuple[float, Floats]:
    """BG/NBD (shift 0; Fader, Hardie & Lee 2005, equation 6) or MBG/NBD (shift 1)."""
    r, alpha, a, b = np.exp(theta)
    x, t_x, T, w = summary.repeats, summary.last, summary.age, summary.weights
    if not len(x):
        return 0.0, np.zeros(4)
    levels, level = np.unique(x, return_inverse=True)    # special functions of few values only
    stays = levels + shift
    const = gammaln(r + levels) - gammaln(r) + gammaln(a + b) - gammaln(b)
    const += gammaln(b + stays) - gammaln(a + b + stays) + r * np.log(alpha)
    log_T, log_t = np.log(alpha + T), np.log(alpha + t_x)
    with np.errstate(divide="ignore"):
        odds_of_leaving = np.where(stays > 0, a / np.maximum(b + stays - 1, b), 0.0)
        left = np.log(odds_of_leaving)[level] + (r + x) * (log_T - log_t)
    log_density = const[level] - (r + x) * log_T + np.logaddexp(0.0, left)

    share = expit(left)                                  # (N,) P(left)
    total = psi(a + b) - psi(a + b + stays)
    by_level = np.array(
        [
            psi(r + levels) - psi(r) + np.log(alpha),
            total,
            total + psi(b + stays) - psi(b),
        ]
    )                                                    # (3, levels)
    d_r = by_level[0][level] - log_T + share * (log_T - log_t)
    d_alpha = r / alpha - (r + x) * ((1 - share) / (alpha + T) + share / (alpha + t_x))
    d_a = by_level[1][level] + share / a
    d_b = by_level[2][level] - share / np.maximum(b + x + shift - 1, b)
    gradient = np.array([w @ d_r * r, w @ d_alpha * alpha, w @ d_a * a, w @ d_b * b])
    return -float(w @ log_density) / w.sum(), -gradient / w.sum()


def _pareto_loss(theta: Floats, summary: PurchaseSummary) -> tuple[float, Floats]:
    """Pareto/NBD (Fader & Hardie 2005, "A note on deriving the Pareto/NBD model").

    The odds of having left are an integral over the time of leaving. Their gradient is the mean of
    the gradient of the integrand's logarithm.
    """
    r, alpha, s, beta = np.exp(theta)
    x, t_x, T, w = summary.repeats, summary.last, summary.age, summary.weights
    if not len(x):
        return 0.0, np.zeros(4)
    levels, level = np.unique(x, return_inverse=True)
    log_alpha, log_beta = np.log(alpha + T), np.log(beta + T)
    leaving = times_of_first(s, beta + t_x, r + x, alpha + t_x, T - t_x)
    chance, slopes = np.zeros_like(x), np.zeros((4, len(x)))
    for days, share in leaving:                          # since the last order
        orders, leaves = alpha + t_x + days, beta + t_x + days
        chance += share
        slopes[0] += share * (log_alpha - np.log(orders))
        slopes[1] += share / orders
        slopes[2] += share * (log_beta - np.log(leaves))
        slopes[3] += share / leaves
    slopes = np.divide(slopes, chance, out=slopes, where=chance > 0)     # now means
    with np.errstate(divide="ignore"):                   # -inf: there was no time to leave
        left = np.log(chance) + (r + x) * (log_alpha - np.log(alpha + t_x))
    left += s * (log_beta - np.log(beta + t_x))

    const = gammaln(r + levels) - gammaln(r) + r * np.log(alpha) + s * np.log(beta)
    log_density = const[level] - (r + x) * log_alpha - s * log_beta + np.logaddexp(0.0, left)
    gone = expit(left)                                   # (N,) P(left)
    d_r = (psi(r + levels) - psi(r) + np.log(alpha))[level] - log_alpha + gone * slopes[0]
    d_alpha = r / alpha - (r + x) * ((1 - gone) / (alpha + T) + gone * slopes[1])
    d_s = np.log(beta) - log_beta + gone * (1 / s + slopes[2])
    d_beta = s / beta - (1 - gone) * s / (beta + T) - gone * (s + 1) * slopes[3]
    gradient = np.array([w @ d_r * r, w @ d_alpha * alpha, w @ d_s * s, w @ d_beta * beta])
    return -float(w @ log_density) / w.sum(), -gradient / w.sum()


def _gamma_gamma_loss(
    theta: Floats, x: Floats, mean: Floats, weights: Floats
) -> tuple[float, Floats]:
    """Fader & Hardie (2013), "The Gamma-Gamma model of monetary value", equation 1a."""
    p, q, v = np.exp(theta)
    if not len(x):
        return 0.0, np.zeros(3)
    levels, level = np.unique(x, return_inverse=True)
    shape = p * levels
    const = gammaln(shape + q) - gammaln(shape) - gammaln(q) + q * np.log(v)
    total, log_total = x * mean, np.log(x * mean)
    log_rate = np.log(v + total)
    log_density = const[level] + p * x * (log_total - log_rate) - np.log(mean) - q * log_rate
    d_p = (levels * (psi(shape + q) - psi(shape)))[level] + x * (log_total - log_rate)
    d_q = (psi(shape + q) - psi(q) + np.log(v))[level] - log_rate
    d_v = q / v - (p * x + q) / (v + total)
    gradient = np.array([weights @ d_p * p, weights @ d_q * q, weights @ d_v * v])
    return -float(weights @ log_density) / weights.sum(), -gradient / weights.sum()


def _in_units(summary: PurchaseSummary, unit: float) -> PurchaseSummary:
    return replace(summary, last=summary.last / unit, age=summary.age / unit)


def _groups(*columns: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order that brings equal rows together, and where each group of them starts in it."""
    order = np.lexsort(columns[::-1])
    fresh = np.zeros(len(order), dtype=bool)
    fresh[:1] = True
    for column in columns:
        fresh[1:] |= np.diff(column[order]) != 0
    return order, np.flatnonzero(fresh)


def _value_cells(x: Floats, mean: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """The rows themselves, or if there are many, cells of equal orders and means within 1%."""
    if len(x) <= VALUE_ROWS:
        return x, mean, weights
    order, starts = _groups(x, np.floor(np.log(mean) * 100))
    total = np.add.reduceat(weights[order], starts)
    means = np.add.reduceat((weights * mean)[order], starts) / total
    return x[order[starts]], means, total
