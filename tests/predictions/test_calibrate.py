"""Maps fitted on outcomes that were drawn from a known distortion of the forecast."""

import numpy as np
import pytest
from scipy.stats import nbinom

from habitue.predictions.calibrate import (
    LEAST_CUSTOMERS,
    ONE_WINDOW_SAYS,
    UNKNOWN_DRIFT,
    Calibration,
    Window,
    calibrated_orders,
    calibrated_rates,
    fit_calibration,
    negative_binomial_nll,
)
from habitue.predictions.curves import cumulative_hazard, probability_of_order
from habitue.sequences.tokens import BIN_EDGES


def closed(
    customers: int = 8_000,
    *,
    level: float = 0.0,
    power: float = 1.0,
    dispersion: float = 0.0,
    spend: float = 0.0,
    seed: int = 0,
) -> Window:
    """A window in which what came was the forecast bent by a level and a power."""
    rng = np.random.default_rng(seed)
    log_mean = rng.normal(-0.7, 0.9, customers)
    centre = np.log(np.mean(np.exp(log_mean)))
    bent = np.exp(level + centre + power * (log_mean - centre))
    size = np.exp(1.0 + dispersion)
    orders = nbinom.rvs(size, size / (size + bent), random_state=rng)
    # the hazard of the first order that such a count has
    forecast_size = np.exp(1.0)
    hazard = forecast_size * np.log1p(np.exp(log_mean) / forecast_size)
    expected = np.full(customers, 50.0)
    revenue = np.where(orders > 0, expected * np.exp(spend + rng.normal(-0.02, 0.2, customers)), 0)
    return Window(
        window_days=90.0,
        hazard=hazard,
        log_orders=log_mean,
        log_dispersion=np.full(customers, 1.0),
        spend=expected,
        orders=orders.astype(float),
        revenue=revenue,
    )


def test_the_default_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    log_rate = rng.normal(-4, 1, (5, len(BIN_EDGES))).astype(np.float32)
    assert calibrated_rates(log_rate, Calibration()) == pytest.approx(log_rate, abs=1e-5)
    assert np.array_equal(calibrated_orders(log_rate, Calibration()), log_rate)


@pytest.mark.parametrize("level", [-0.5, 0.4])
def test_a_wrong_level_is_found_and_half_believed(level: float) -> None:
    # five standard errors of 8,000 customers are 0.08
    found = fit_calibration(closed(level=level))
    assert found.order_level == pytest.approx(ONE_WINDOW_SAYS * level, abs=0.05)
    assert found.log_level == pytest.approx(ONE_WINDOW_SAYS * level, abs=0.12)
    assert found.order_power == pytest.approx(1.0, abs=0.05)
    assert found.drift > fit_calibration(closed()).drift + 0.05


@pytest.mark.parametrize("power", [0.7, 1.3])
def test_a_wrong_spread_is_found_and_half_believed(power: float) -> None:
    found = fit_calibration(closed(power=power))
    expected = 1 + ONE_WINDOW_SAYS * (power - 1)
    assert found.order_power == pytest.approx(expected, abs=0.05)
    assert found.power == pytest.approx(expected, abs=0.1)


def test_a_forecast_that_was_right_is_left_alone() -> None:
    found = fit_calibration(closed())
    assert found.order_level == pytest.approx(0.0, abs=0.04)
    assert found.log_level == pytest.approx(0.0, abs=0.04)
    assert found.order_power == pytest.approx(1.0, abs=0.04)
    assert found.power == pytest.approx(1.0, abs=0.04)
    assert found.log_dispersion == pytest.approx(0.0, abs=0.2)
    assert found.spend_level == pytest.approx(0.0, abs=0.02)
    assert (found.window_days, found.customers) == (90.0, 8_000)


def test_counts_that_spread_more_than_forecast_are_given_more_dispersion() -> None:
    assert fit_calibration(closed(dispersion=-1.0)).log_dispersion == pytest.approx(-1.0, abs=0.25)


def test_dearer_orders_than_forecast_raise_the_spend() -> None:
    found = fit_calibration(closed(spend=0.3)).spend_level
    assert found == pytest.approx(ONE_WINDOW_SAYS * 0.3, abs=0.03)


def test_too_few_customers_or_no_order_say_nothing() -> None:
    few = closed(LEAST_CUSTOMERS - 1)
    none = closed(level=-60.0)
    assert not none.orders.any()
    for window in (few, none):
        assert fit_calibration(window) == Calibration()
    assert Calibration().drift == UNKNOWN_DRIFT


@pytest.mark.parametrize("seed", range(5))
def test_a_calibrated_curve_is_mapped_at_every_edge_and_never_falls(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_rate = rng.normal(-4, 1, (6, len(BIN_EDGES))).astype(np.float32)
    calibration = Calibration(centre=-1.0, log_level=0.3, power=float(rng.uniform(0.7, 1.4)))
    found = calibrated_rates(log_rate, calibration)
    for edge in BIN_EDGES:
        before, after = (
            cumulative_hazard(rate, np.full(6, edge)) for rate in (log_rate, found)
        )
        expected = 0.3 - 1.0 + calibration.power * (np.log(before) + 1.0)
        assert np.log(after) == pytest.approx(expected, abs=1e-4)
    days = np.linspace(1, 900, 50)
    grid = [probability_of_order(found, np.zeros(6), horizon) for horizon in days]
    assert np.all(np.diff(grid, axis=0) >= 0)


def test_counts_have_scipy_s_negative_binomial() -> None:
    rng = np.random.default_rng(2)
    count, log_mean, log_size = rng.integers(0, 20, 40), rng.normal(size=40), rng.normal(size=40)
    size = np.exp(log_size)
    expected = -nbinom.logpmf(count, size, size / (size + np.exp(log_mean)))
    assert negative_binomial_nll(count.astype(float), log_mean, log_size) == pytest.approx(expected)
