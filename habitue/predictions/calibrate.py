"""Calibration: maps fitted on windows that closed before the cutoff, with how far to trust them.

A model trained on everything up to an earlier instant forecasts the days since; what then happened
says how much of it to mix with the purchase models (see `blend.py`), how widely counts scatter and
how dear orders are. What purchase models alone would have said of earlier windows shows how far a
level may be off. The maps act on the cumulative hazard and are strictly increasing, one for all
horizons, so probabilities stay monotone in the horizon.
"""

# C customers · B hazard bins · G horizons · M spend components
import msgspec
import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln

from habitue.predictions.blend import Classical, Levels
from habitue.predictions.curves import gathered_by_edge, log_rates

ONE_WINDOW_SAYS = 0.5                      # share of what one window asks of spend that is believed
DRIFT = 0.10                               # log, of a shop's level from one window to the next
UNKNOWN_DRIFT = 0.30                       # without a closed window
LEAST_CUSTOMERS = 50                       # of a closed window
USUAL_SHARE = 0.5                          # of the model, where much is known
USUAL_SPEND_SHARE = 0.6
SHARE_SPREAD = 0.15                        # how far shops differ in it
HALF_TRUST_ORDERS = 200.0                  # in the closed window, for half of the usual share


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Maps of one model of one shop; the default changes nothing and trusts little.

    First the model's hazards, orders and spend are mixed with the purchase models', if there are
    any; then log L' = log_level + centre + power * (log L - centre) for a cumulative hazard L, and
    alike for expected orders; spend is multiplied by exp(spend_level).
    """

    window_days: float = 0.0               # that had closed; 0: none had
    customers: int = 0
    classical: Classical | None = None     # None: the model alone, as versions once were
    share: float = 1.0                     # of the model in hazards; 0 is classical
    order_share: float = 1.0               # in expected orders
    spend_share: float = 1.0               # in spend given an order
    held_days: float | None = None         # as far ahead as shares are believed; None: the window
    centre: float = 0.0
    log_level: float = 0.0
    power: float = 1.0
    order_centre: float = 0.0
    order_level: float = 0.0
    order_power: float = 1.0
    log_dispersion: float = 0.0            # added to that of the negative binomial
    spend_level: float = 0.0
    drift: float = UNKNOWN_DRIFT           # log standard deviation of the level ahead
    rate_drift: float | None = None        # that of hazards; None: the same


def calibrated_rates(log_rate: np.ndarray, calibration: Calibration) -> np.ndarray:
    """(Q, B) float32 log hazards whose cumulative hazard at every bin edge is the mapped one."""
    hazard = gathered_by_edge(log_rate)
    return log_rates(
        np.exp(
            calibration.log_level
            + calibration.centre
            + calibration.power * (np.log(hazard) - calibration.centre)
        )
    )


def calibrated_orders(log_orders: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Log of expected orders, mapped; any shape."""
    centred = log_orders - calibration.order_centre
    return (
        calibration.order_level + calibration.order_centre + calibration.order_power * centred
    )


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What was forecast for a closed window, before calibration, and what happened. (C,) each."""

    window_days: float
    log_hazard: np.ndarray                 # cumulative, over the window, of the model
    classical_hazard: np.ndarray           # the same of the purchase models, a log
    log_orders: np.ndarray                 # of the model
    classical_orders: np.ndarray           # of the purchase models, a log
    log_dispersion: np.ndarray
    orders: np.ndarray                     # that came


def without_window(classical: Classical | None) -> Calibration:
    """Where no window has closed: the purchase models, since nothing speaks for more."""
    if classical is None:
        return Calibration()
    return Calibration(classical=classical, share=0.0, order_share=0.0, spend_share=0.0)


def fit_calibration(window: Window, classical: Classical | None, levels: Levels) -> Calibration:
    """What closed windows ask for, shrunk towards what holds for most shops.

    Spend is mixed but not yet levelled: see `spend_level`.
    """
    came = float(window.orders.sum())
    if classical is None or len(window.orders) < LEAST_CUSTOMERS or not came:
        return without_window(classical)
    trust = came / (came + HALF_TRUST_ORDERS)
    order_share, dispersion = _fit_orders(window, trust * USUAL_SHARE)
    order_level, drift, log_level, rate_drift = levels.ahead()
    return Calibration(
        window_days=window.window_days,
        customers=len(window.orders),
        classical=classical,
        share=_fit_share(window, trust * USUAL_SHARE),
        order_share=order_share,
        spend_share=trust * USUAL_SPEND_SHARE,
        log_level=log_level,
        order_level=order_level,
        log_dispersion=dispersion,
        drift=drift,
        rate_drift=rate_drift,
    )


def _fit_share(window: Window, usual: float) -> float:
    """The model's share in hazards that made what came likeliest, whatever the level."""
    apart, ordered = window.log_hazard - window.classical_hazard, window.orders > 0

    def loss(parameters: np.ndarray) -> float:
        level, share = parameters
        hazard = np.exp(np.clip(level + window.classical_hazard + share * apart, -30, 5))
        log_yes = np.log(-np.expm1(-np.maximum(hazard, 1e-12)))
        missed = -np.where(ordered, log_yes, -hazard).sum()
        return missed + _pull(level, 1.0) + _pull(share - usual, SHARE_SPREAD)

    found = minimize(loss, [0.0, usual], method="Nelder-Mead").x
    return float(np.clip(found[1], 0.0, 1.0))


def _fit_orders(window: Window, usual: float) -> tuple[float, float]:
    """The share and the added log dispersion of the likeliest negative binomial, at any level."""
    apart = window.log_orders - window.classical_orders
    count = window.orders.astype(np.float64)

    def loss(parameters: np.ndarray) -> float:
        level, share, dispersion = parameters
        log_mean = np.clip(level + window.classical_orders + share * apart, -20, 8)
        log_r = np.clip(window.log_dispersion + dispersion, -6, 8)
        missed = negative_binomial_nll(count, log_mean, log_r).sum()
        pull = _pull(level, 1.0) + _pull(share - usual, SHARE_SPREAD) + _pull(dispersion, 1.0)
        return float(missed + pull)

    _, share, dispersion = minimize(loss, [0.0, usual, 0.0], method="Nelder-Mead").x
    return float(np.clip(share, 0.0, 1.0)), float(np.clip(dispersion, -2, 2))


def spend_level(expected: np.ndarray, actual: np.ndarray) -> float:
    """Log level of what those who bought spent (C,), beside what was expected of them (C,)."""
    if len(actual) < LEAST_CUSTOMERS:
        return 0.0
    # one wholesaler must not move everyone: what exceeds the 99th percentile counts as it
    cap = np.quantile(actual, 0.99)
    level = np.log(np.minimum(actual, cap).mean() / np.minimum(expected, cap).mean())
    return ONE_WINDOW_SAYS * float(np.clip(level, -0.5, 0.5))


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
