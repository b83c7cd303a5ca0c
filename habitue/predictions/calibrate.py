"""Calibration: maps fitted on a window that closed before the cutoff, with how far to trust them.

A model trained on everything up to an earlier instant forecasts the days since; what then happened
says how its hazards, counts and values should be bent. The maps act on the cumulative hazard and
are strictly increasing, one for all horizons, so probabilities stay monotone in the horizon.
"""

# C customers · B hazard bins · G horizons · M spend components
import msgspec
import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln

from habitue.sequences.tokens import BIN_EDGES

ONE_WINDOW_SAYS = 0.5                      # share of what one window asks for that is believed
DRIFT = 0.10                               # log, of a shop's level from one window to the next
UNKNOWN_DRIFT = 0.30                       # without a closed window
LEAST_CUSTOMERS = 50                       # of a closed window


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Maps of one model of one shop; the default changes nothing and trusts little.

    log L' = log_level + centre + power * (log L - centre) for a cumulative hazard L, and alike for
    expected orders; spend is multiplied by exp(spend_level).
    """

    window_days: float = 0.0               # that had closed; 0: none had
    customers: int = 0
    centre: float = 0.0
    log_level: float = 0.0
    power: float = 1.0
    order_centre: float = 0.0
    order_level: float = 0.0
    order_power: float = 1.0
    log_dispersion: float = 0.0            # added to that of the negative binomial
    spend_level: float = 0.0
    drift: float = UNKNOWN_DRIFT           # log standard deviation of the level ahead


def calibrated_rates(log_rate: np.ndarray, calibration: Calibration) -> np.ndarray:
    """(Q, B) float32 log hazards whose cumulative hazard at every bin edge is the mapped one."""
    width = np.diff(BIN_EDGES, prepend=0.0)
    hazard = np.cumsum(np.exp(log_rate.astype(np.float64)) * width, axis=1)
    mapped = np.exp(
        calibration.log_level
        + calibration.centre
        + calibration.power * (np.log(hazard) - calibration.centre)
    )
    steps = np.diff(mapped, axis=1, prepend=0.0)
    return np.log(np.maximum(steps / width, 1e-12)).astype(np.float32)


def calibrated_orders(log_orders: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Log of expected orders, mapped; any shape."""
    centred = log_orders - calibration.order_centre
    return (
        calibration.order_level + calibration.order_centre + calibration.order_power * centred
    )


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What was forecast for a closed window, before calibration, and what happened. (C,) each."""

    window_days: float
    hazard: np.ndarray                     # cumulative, over the window
    log_orders: np.ndarray
    log_dispersion: np.ndarray
    spend: np.ndarray                      # expected given an order, major units
    orders: np.ndarray                     # that came
    revenue: np.ndarray                    # that came, major units


def fit_calibration(window: Window) -> Calibration:
    """The maps that a closed window asks for, shrunk towards none."""
    if len(window.orders) < LEAST_CUSTOMERS or not window.orders.any():
        return Calibration()
    log_hazard = np.log(np.maximum(window.hazard, 1e-9))
    centre = float(np.log(np.mean(window.hazard)))
    level, power = _fit_hazard(log_hazard - centre, window.orders > 0, centre)
    order_centre = float(np.log(np.mean(np.exp(window.log_orders))))
    order_level, order_power, dispersion = _fit_orders(window, order_centre)
    return Calibration(
        window_days=window.window_days,
        customers=len(window.orders),
        centre=centre,
        log_level=ONE_WINDOW_SAYS * level,
        power=1 + ONE_WINDOW_SAYS * (power - 1),
        order_centre=order_centre,
        order_level=ONE_WINDOW_SAYS * order_level,
        order_power=1 + ONE_WINDOW_SAYS * (order_power - 1),
        log_dispersion=dispersion,
        spend_level=ONE_WINDOW_SAYS * _fit_spend(window),
        drift=float(np.hypot(DRIFT, (1 - ONE_WINDOW_SAYS) * level)),
    )


def _fit_hazard(log_hazard: np.ndarray, ordered: np.ndarray, centre: float) -> tuple[float, float]:
    """Level and power of the likeliest map of 1 - exp(-L), the power near one."""

    def loss(parameters: np.ndarray) -> float:
        level, power = parameters
        hazard = np.exp(np.clip(level + centre + power * log_hazard, -30, 5))
        log_no = -hazard
        log_yes = np.log(-np.expm1(-np.maximum(hazard, 1e-12)))
        return -np.where(ordered, log_yes, log_no).sum() + _pull(level, 1.0) + _pull(power - 1, 0.2)

    level, power = minimize(loss, [0.0, 1.0], method="Nelder-Mead").x
    return float(level), float(np.clip(power, 0.4, 2.5))


def _fit_orders(window: Window, centre: float) -> tuple[float, float, float]:
    """Level, power and added log dispersion of the likeliest negative binomial."""
    centred, count = window.log_orders - centre, window.orders.astype(np.float64)

    def loss(parameters: np.ndarray) -> float:
        level, power, dispersion = parameters
        log_mean = np.clip(level + centre + power * centred, -20, 8)
        log_r = np.clip(window.log_dispersion + dispersion, -6, 8)
        likelihood = -negative_binomial_nll(count, log_mean, log_r)
        pull = _pull(level, 1.0) + _pull(power - 1, 0.2) + _pull(dispersion, 1.0)
        return -likelihood.sum() + pull

    _, power, dispersion = minimize(loss, [0.0, 1.0, 0.0], method="Nelder-Mead").x
    # the level that makes the totals meet, rather than the likeliest: bias is what people see
    met = np.log(count.sum() / np.exp(centre + power * centred).sum())
    return float(met), float(np.clip(power, 0.4, 2.5)), float(np.clip(dispersion, -2, 2))


def _fit_spend(window: Window) -> float:
    """Level of spend given an order."""
    bought = window.revenue > 0
    if bought.sum() < LEAST_CUSTOMERS:
        return 0.0
    expected, actual = window.spend[bought], window.revenue[bought]
    # one wholesaler must not move everyone: what exceeds the 99th percentile counts as it
    cap = np.quantile(actual, 0.99)
    level = np.log(np.minimum(actual, cap).mean() / np.minimum(expected, cap).mean())
    return float(np.clip(level, -0.5, 0.5))


def negative_binomial_nll(
    count: np.ndarray, log_mean: np.ndarray, log_dispersion: np.ndarray
) -> np.ndarray:
    """Of mean exp(log_mean) and size r = exp(log_dispersion)."""
    r = np.exp(log_dispersion)
    log_total = np.logaddexp(log_dispersion, log_mean)
    return (
        gammaln(r) + gammaln(count + 1) - gammaln(count + r)
        - r * (log_dispersion - log_total) - count * (log_mean - log_total)
    )  # fmt: skip


def _pull(distance: float, spread: float) -> float:
    """A normal belief's part of the loss."""
    return 0.5 * (distance / spread) ** 2


